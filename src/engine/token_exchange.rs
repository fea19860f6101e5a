//! One exchange: its calls in a row, until there is a token or it is clear why there is none.

use std::time::Duration;

use crate::config::Config;
use crate::crypto::Crypto;
use crate::dpop::{NonceCache, NonceIssuer, nonce_cache, proof};
use crate::engine::decide::TokenNeed;
use crate::engine::state::WorkerState;
use crate::http::{Callout, CalloutFailure, CalloutResult};
use crate::provider::{Accepted, Hop, Issued, Provider, SecretVersion, SubjectInput, TokenEndpointError, TokenRequest};
use crate::secret::Secret;
use crate::time::UnixTime;
use crate::url::Url;

/// An exchange at one of its calls.
pub(super) struct TokenExchange {
    pub(super) need: Box<TokenNeed>,
    token_endpoint: Url,
    /// What the first of two requests has brought for the second. It is good for one use: a call that has to be made
    /// again after that starts with the first.
    brought: Option<Secret>,
    /// By which of its secrets the client is proved, at the provider and at the authorization server of the resource.
    which: SecretVersion,
    which_at_second: SecretVersion,
    /// Whether the call may be made once more where nobody answers it.
    may_retry: bool,
    /// Whether the call before brought nothing but a nonce for this one.
    is_for_nonce: bool,
    is_for_nonce_at_second: bool,
    /// When its first call was made: all of them together have the provider's time.
    began: UnixTime,
}

/// What follows a reply.
pub(super) enum Next {
    /// Another call.
    Callout(TokenExchange, Callout),
    /// A token; the outcome is for the metric.
    Issued { issued: Issued, outcome: &'static str },
    /// None.
    Failed(TokenEndpointError),
}

impl TokenExchange {
    /// `None`: the endpoint that it takes is not known (any more).
    pub(super) fn new(need: Box<TokenNeed>, config: &Config, known: &WorkerState, now: UnixTime) -> Option<Self> {
        let endpoints = known.issuer(need.provider)?.endpoints.as_ref()?;
        let provider = config.providers.get(need.provider)?;
        let tenant = need.tenant.as_deref();
        let token_endpoint = provider.profile.token_endpoint(provider, endpoints.token_endpoint.as_ref()?, tenant)?;
        Some(Self {
            need,
            token_endpoint,
            brought: None,
            which: SecretVersion::Current,
            which_at_second: SecretVersion::Current,
            may_retry: provider.retries,
            is_for_nonce: false,
            is_for_nonce_at_second: false,
            began: now,
        })
    }

    /// How long it has taken.
    pub(super) fn took(&self, now: UnixTime) -> Duration {
        now.since(self.began)
    }

    /// The call of this step. `None`: it could not be made, or there is no time left for it.
    pub(super) fn call(
        &self,
        config: &Config,
        nonces: &NonceCache,
        crypto: &dyn Crypto,
        now: UnixTime,
    ) -> Option<Callout> {
        let request = self.request(config, nonces)?;
        let left = request.provider.timeout.checked_sub(self.took(now)).filter(|left| !left.is_zero())?;
        request.call(left, crypto, now)
    }

    /// Takes a reply in.
    pub(super) fn land(
        self,
        reply: &CalloutResult,
        config: &Config,
        nonces: &mut NonceCache,
        crypto: &dyn Crypto,
        now: UnixTime,
    ) -> Next {
        if let CalloutResult::Response(answer) = reply
            && let Some(endpoint) =
                self.request(config, nonces).filter(TokenRequest::has_proof).map(|it| it.endpoint().clone())
        {
            nonces.learn(NonceIssuer::TokenEndpoint(&endpoint), nonce_cache::fields(answer));
        }
        let Some(request) = self.request(config, nonces) else {
            return Next::Failed(TokenEndpointError::no_response(CalloutFailure::NotSent));
        };
        let fault = match request.read(reply, &accepted(config), now) {
            Ok(issued) if request.is_for_id_jag() => {
                let second = Self { brought: Some(issued.access_token), ..self };
                return match second.call(config, nonces, crypto, now) {
                    Some(call) => Next::Callout(second, call),
                    None => Next::Failed(second.not_made(config, nonces, now)),
                };
            }
            Ok(issued) => {
                let is_known = [self.which, self.which_at_second].iter().all(|which| *which == SecretVersion::Current);
                return Next::Issued { issued, outcome: if is_known { "ok" } else { "ok_with_previous_secret" } };
            }
            Err(fault) => fault,
        };
        let again = self.again(&request, reply, &fault);
        match again.and_then(|again| again.call(config, nonces, crypto, now).map(|call| (again, call))) {
            Some((again, call)) => Next::Callout(again, call),
            None => Next::Failed(fault),
        }
    }

    /// Why there is no call.
    fn not_made(&self, config: &Config, nonces: &NonceCache, now: UnixTime) -> TokenEndpointError {
        let request = self.request(config, nonces);
        let is_late = request.as_ref().is_some_and(|request| request.provider.timeout <= self.took(now));
        let fault =
            TokenEndpointError::no_response(if is_late { CalloutFailure::TimedOut } else { CalloutFailure::NotSent });
        match request {
            Some(request) => request.at_hop(fault),
            None => fault,
        }
    }

    /// The call that may bring what this one did not.
    fn again(&self, request: &TokenRequest<'_>, reply: &CalloutResult, fault: &TokenEndpointError) -> Option<Self> {
        let name = &request.provider.name;
        if fault.is_invalid_client()
            && request.secret_version == SecretVersion::Current
            && request.client().authentication.has_previous_secret()
        {
            log::warn!("provider={name} does not know the secret, previous_secret is tried: {fault}");
            let is_one_client = request.target.has_one_client();
            let (which, which_at_second) = match request.hop {
                Hop::IdentityProvider if is_one_client => (SecretVersion::Previous, SecretVersion::Previous),
                Hop::IdentityProvider => (SecretVersion::Previous, self.which_at_second),
                Hop::ResourceServer { .. } => (self.which, SecretVersion::Previous),
            };
            return Some(Self { which, which_at_second, ..self.restarted() });
        }
        // It is known by now, and in the next proof.
        let has_nonce =
            matches!(reply, CalloutResult::Response(answer) if proof::nonce(nonce_cache::fields(answer)).is_some());
        let is_second = matches!(request.hop, Hop::ResourceServer { .. });
        let was_for_nonce = if is_second { self.is_for_nonce_at_second } else { self.is_for_nonce };
        if fault.is_nonce_wanted() && has_nonce && !was_for_nonce && request.has_proof() {
            log::debug!("provider={name} is asked once more, with its nonce");
            return Some(match is_second {
                true => Self { is_for_nonce_at_second: true, ..self.restarted() },
                false => Self { is_for_nonce: true, ..self.restarted() },
            });
        }
        // Nobody has answered, and there is time: a connection that was kept open too long, mostly.
        if self.may_retry && matches!(reply, CalloutResult::Failed(CalloutFailure::NoConnection)) {
            log::debug!("provider={name} is asked once more: {fault}");
            return Some(Self { may_retry: false, ..self.restarted() });
        }
        None
    }

    /// The same at its first call.
    fn restarted(&self) -> Self {
        Self {
            need: self.need.clone(),
            token_endpoint: self.token_endpoint.clone(),
            brought: None,
            is_for_nonce: false,
            ..*self
        }
    }

    fn request<'a>(&'a self, config: &'a Config, nonces: &'a NonceCache) -> Option<TokenRequest<'a>> {
        let target = config.resources.get(self.need.resource)?.targets.get(self.need.provider)?.as_ref()?.exchange()?;
        let request = TokenRequest {
            provider: config.providers.get(self.need.provider)?,
            target,
            token_endpoint: &self.token_endpoint,
            subject: SubjectInput {
                token: self.need.subject.reveal(),
                is_id_token: self.need.is_id_token,
                claims: self.need.claims.as_deref(),
                actor: self.need.actor.as_ref().map(Secret::reveal),
            },
            secret_version: if self.brought.is_some() { self.which_at_second } else { self.which },
            assertion: self.need.assertion.as_ref(),
            nonce: None,
            hop: match &self.brought {
                None => Hop::IdentityProvider,
                Some(brought) => Hop::ResourceServer { id_jag: brought.reveal() },
            },
        };
        let nonce = nonces.of(NonceIssuer::TokenEndpoint(request.endpoint())).map(|nonce| &**nonce);
        Some(TokenRequest { nonce, ..request })
    }
}

/// The tokens with which one can come in here: each provider's, for whichever resource.
fn accepted<'a>(config: &'a Config) -> Vec<Accepted<'a>> {
    let of = |provider: &'a Provider| {
        let audiences = provider.every_audience.iter().map(String::as_str).collect();
        Accepted { provider, audiences }
    };
    config.providers.iter().map(of).collect()
}
