//! One token exchange: its callouts in a row, until there is a token or an error.

use std::rc::Rc;
use std::time::Duration;

use crate::config::Config;
use crate::crypto::Crypto;
use crate::dpop::{NonceCache, NonceIssuer, nonce_cache};
use crate::engine::need::TokenNeed;
use crate::http::{Callout, CalloutFailure, CalloutResult};
use crate::provider::{
    Accepted, Endpoints, Hop, Issued, SecretVersion, SubjectInput, TokenEndpointError, TokenRequest,
};
use crate::secret::Secret;
use crate::time::UnixTime;
use crate::url::Url;

/// Token exchange at one of its callouts.
pub(super) struct TokenExchange {
    pub(super) need: Rc<TokenNeed>,
    token_endpoint: Url,
    /// Token from the provider for the authorization server of the resource, where an exchange takes two requests. It may be
    /// used once: a request that is repeated after it starts with the first again.
    intermediate: Option<Secret>,
    at_provider: Attempt,
    at_resource: Attempt,
    /// `true` if a callout may be repeated once after a broken connection.
    may_retry: bool,
    /// Time of the first callout. All callouts together have the timeout of the provider.
    began: UnixTime,
}

/// Repetitions of the request to one authorization server.
#[derive(Clone, Copy)]
struct Attempt {
    /// Version of the client secret that authenticates the client.
    secret: SecretVersion,
    /// `true` if the last response brought nothing but a DPoP nonce for this request.
    after_nonce: bool,
}

/// Continuation of an exchange after a callout result.
pub(super) enum Next {
    /// Another callout.
    Callout(Box<TokenExchange>, Callout),
    /// Issued token; `outcome` is the label for log and metric.
    Issued { issued: Issued, outcome: &'static str },
    /// Error.
    Failed(TokenEndpointError),
}

impl TokenExchange {
    /// Exchange for `need` at an endpoint of the provider. `None`: the endpoint is not known.
    pub(super) fn new(need: Rc<TokenNeed>, endpoints: Option<&Endpoints>, now: UnixTime) -> Option<Self> {
        let provider = need.provider();
        let endpoint = endpoints?.token_endpoint.as_ref()?;
        let token_endpoint = provider.profile.token_endpoint(provider, endpoint, need.tenant())?;
        let first = Attempt { secret: SecretVersion::Current, after_nonce: false };
        Some(Self {
            token_endpoint,
            intermediate: None,
            at_provider: first,
            at_resource: first,
            may_retry: provider.retries,
            began: now,
            need,
        })
    }

    /// Time since the first callout.
    pub(super) fn took(&self, now: UnixTime) -> Duration {
        now.since(self.began)
    }

    /// Callout of this step. `None`: it cannot be made, or no time is left for it.
    pub(super) fn callout(&self, nonces: &NonceCache, crypto: &dyn Crypto, now: UnixTime) -> Option<Callout> {
        let request = self.request(nonces);
        let left = request.provider.timeout.checked_sub(self.took(now)).filter(|left| !left.is_zero())?;
        request.call(left, crypto, now)
    }

    /// Takes a callout result in.
    pub(super) fn on_result(
        self,
        result: &CalloutResult,
        config: &Config,
        has_worked: bool,
        nonces: &mut NonceCache,
        crypto: &dyn Crypto,
        now: UnixTime,
    ) -> Next {
        if let CalloutResult::Response(response) = result {
            let request = self.request(nonces);
            if request.has_proof() {
                let endpoint = request.endpoint().clone();
                nonces.insert(NonceIssuer::TokenEndpoint(&endpoint), nonce_cache::fields(response));
            }
        }
        let shows_descriptions = config.audit.error_descriptions;
        let request = TokenRequest { has_worked, shows_descriptions, ..self.request(nonces) };
        let error = match request.read(result, &accepted(config), now) {
            Ok(issued) if request.is_for_id_jag() => {
                let second = Self { intermediate: Some(issued.access_token), ..self };
                return match second.callout(nonces, crypto, now) {
                    Some(callout) => Next::Callout(Box::new(second), callout),
                    None => Next::Failed(second.not_made(nonces, now)),
                };
            }
            Ok(issued) => {
                let is_current = |attempt: &Attempt| attempt.secret == SecretVersion::Current;
                let is_current = [self.at_provider, self.at_resource].iter().all(is_current);
                return Next::Issued { issued, outcome: if is_current { "ok" } else { "ok_with_previous_secret" } };
            }
            Err(error) => error,
        };
        let repeated = self.repeated(&request, result, &error);
        match repeated.and_then(|again| again.callout(nonces, crypto, now).map(|callout| (again, callout))) {
            Some((again, callout)) => Next::Callout(Box::new(again), callout),
            None => Next::Failed(error),
        }
    }

    /// Error of a callout that cannot be made.
    fn not_made(&self, nonces: &NonceCache, now: UnixTime) -> TokenEndpointError {
        let request = self.request(nonces);
        let is_late = request.provider.timeout <= self.took(now);
        let failure = if is_late { CalloutFailure::TimedOut } else { CalloutFailure::NotSent };
        request.at_hop(TokenEndpointError::no_response(failure))
    }

    /// Exchange whose next callout may succeed where this one failed. `None`: no repetition helps.
    fn repeated(&self, request: &TokenRequest<'_>, result: &CalloutResult, error: &TokenEndpointError) -> Option<Self> {
        let name = &request.provider.name;
        if error.is_invalid_client()
            && request.secret_version == SecretVersion::Current
            && request.client().authentication.previous_secret().is_some()
        {
            log::warn!("provider={name} does not accept the secret, previous_secret is tried: {error}");
            return Some(self.with_previous_secret(request));
        }
        // The nonce of this response is in the cache by now, and in the next proof.
        let has_nonce = matches!(result, CalloutResult::Response(response)
            if nonce_cache::valid_nonce(nonce_cache::fields(response)).is_some());
        let is_second = matches!(request.hop, Hop::ResourceServer { .. });
        let attempt = if is_second { self.at_resource } else { self.at_provider };
        if error.is_nonce_wanted() && has_nonce && !attempt.after_nonce && request.has_proof() {
            log::debug!("provider={name} is asked once more, with its nonce");
            let mut again = self.restarted();
            let attempt = if is_second { &mut again.at_resource } else { &mut again.at_provider };
            attempt.after_nonce = true;
            return Some(again);
        }
        // A connection that was kept open for too long, mostly.
        if self.may_retry && result.failure() == Some(CalloutFailure::NoConnection) {
            log::debug!("provider={name} is asked once more: {error}");
            return Some(Self { may_retry: false, ..self.restarted() });
        }
        None
    }

    fn with_previous_secret(&self, request: &TokenRequest<'_>) -> Self {
        let mut again = self.restarted();
        let is_one_client = request.target.has_one_client();
        let is_first = matches!(request.hop, Hop::IdentityProvider);
        if is_first {
            again.at_provider.secret = SecretVersion::Previous;
        }
        if !is_first || is_one_client {
            again.at_resource.secret = SecretVersion::Previous;
        }
        again
    }

    /// Exchange that starts with the first callout again.
    fn restarted(&self) -> Self {
        Self {
            need: self.need.clone(),
            token_endpoint: self.token_endpoint.clone(),
            intermediate: None,
            at_provider: Attempt { after_nonce: false, ..self.at_provider },
            ..*self
        }
    }

    fn request<'a>(&'a self, nonces: &'a NonceCache) -> TokenRequest<'a> {
        let need = &self.need;
        let attempt = if self.intermediate.is_some() { self.at_resource } else { self.at_provider };
        let request = TokenRequest {
            provider: need.provider(),
            target: &need.target,
            token_endpoint: &self.token_endpoint,
            subject: SubjectInput {
                token: need.subject_token.reveal(),
                is_id_token: need.is_id_token,
                token_type: need.provider().subject_token_type.as_deref(),
                claims: need.claims.as_deref(),
                actor: need.actor_token.as_ref().map(Secret::reveal),
            },
            secret_version: attempt.secret,
            assertion: need.assertion.as_ref(),
            nonce: None,
            has_worked: false,
            shows_descriptions: false,
            hop: match &self.intermediate {
                None => Hop::IdentityProvider,
                Some(id_jag) => Hop::ResourceServer { id_jag: id_jag.reveal() },
            },
        };
        let nonce = nonces.get(NonceIssuer::TokenEndpoint(request.endpoint())).map(|nonce| &**nonce);
        TokenRequest { nonce, ..request }
    }
}

/// Tokens that this proxy accepts from callers: those of each provider, for any resource.
fn accepted(config: &Config) -> Vec<Accepted<'_>> {
    config
        .providers
        .iter()
        .map(|provider| Accepted { provider, audiences: provider.every_audience.iter().map(String::as_str).collect() })
        .collect()
}
