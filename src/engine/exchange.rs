//! One exchange: its calls in a row, until there is a token or it is clear why there is none.

use std::time::Duration;

use super::decide::TokenNeed;
use super::known::Known;
use super::nonces::{self, Nonces, Server};
use crate::config::{Config, Provider};
use crate::crypto::Crypto;
use crate::http::{Call, CallFailure, Reply, Url};
use crate::idp::{Fault, Issued, Subject, TokenRequest, Which};
use crate::time::UnixTime;
use crate::token::prover;

/// An exchange at one of its calls.
pub(super) struct Exchange {
    pub(super) need: Box<TokenNeed>,
    token_endpoint: Url,
    /// By which of its secrets the client is proved.
    which: Which,
    /// Whether the call may be made once more where nobody answers it.
    may_retry: bool,
    /// Whether the call before brought nothing but a nonce for this one.
    is_for_nonce: bool,
    /// When its first call was made: all of them together have the provider's time.
    began: UnixTime,
}

/// What follows a reply.
pub(super) enum Next {
    /// Another call.
    Call(Exchange, Call),
    /// A token; the outcome is for the metric.
    Issued { issued: Issued, outcome: &'static str },
    /// None.
    Failed(Fault),
}

impl Exchange {
    /// `None`: the endpoint that it takes is not known (any more).
    pub(super) fn new(need: Box<TokenNeed>, config: &Config, known: &Known, now: UnixTime) -> Option<Self> {
        let endpoints = known.issuer(need.provider)?.endpoints.as_ref()?;
        let provider = config.providers.get(need.provider)?;
        let tenant = need.tenant.as_deref();
        let token_endpoint = provider.profile.token_endpoint(provider, &endpoints.token_endpoint, tenant)?;
        let may_retry = provider.retries;
        Some(Self { need, token_endpoint, which: Which::Current, may_retry, is_for_nonce: false, began: now })
    }

    /// How long it has taken.
    pub(super) fn took(&self, now: UnixTime) -> Duration {
        now.since(self.began)
    }

    /// The call of this step. `None`: it could not be made, or there is no time left for it.
    pub(super) fn call(&self, config: &Config, nonces: &Nonces, crypto: &dyn Crypto, now: UnixTime) -> Option<Call> {
        let request = self.request(config, nonces)?;
        let left = request.provider.timeout.checked_sub(self.took(now)).filter(|left| !left.is_zero())?;
        request.call(left, crypto, now)
    }

    /// Takes a reply in.
    pub(super) fn land(
        self,
        reply: &Reply,
        config: &Config,
        nonces: &mut Nonces,
        crypto: &dyn Crypto,
        now: UnixTime,
    ) -> Next {
        let Some(provider) = config.providers.get(self.need.provider) else {
            return Next::Failed(Fault::no_answer(CallFailure::NotSent));
        };
        if let (Some(_), Reply::Answer(answer)) = (&provider.client.dpop, reply) {
            nonces.learn(Server::TokenEndpoint(&self.token_endpoint), nonces::fields(answer));
        }
        let Some(request) = self.request(config, nonces) else {
            return Next::Failed(Fault::no_answer(CallFailure::NotSent));
        };
        let fault = match request.read(reply, now) {
            Ok(issued) => {
                let outcome = match self.which {
                    Which::Current => "ok",
                    Which::Previous => "ok_with_previous_secret",
                };
                return Next::Issued { issued, outcome };
            }
            Err(fault) => fault,
        };
        let again = self.again(provider, reply, &fault);
        match again.and_then(|again| again.call(config, nonces, crypto, now).map(|call| (again, call))) {
            Some((again, call)) => Next::Call(again, call),
            None => Next::Failed(fault),
        }
    }

    /// The call that may bring what this one did not.
    fn again(self, provider: &Provider, reply: &Reply, fault: &Fault) -> Option<Self> {
        if fault.is_invalid_client()
            && self.which == Which::Current
            && provider.client.authentication.has_previous_secret()
        {
            log::warn!("provider={} does not know the secret, previous_secret is tried: {fault}", provider.name);
            return Some(Self { which: Which::Previous, is_for_nonce: false, ..self });
        }
        // It is known by now, and in the next proof.
        let has_nonce = matches!(reply, Reply::Answer(answer) if prover::nonce(nonces::fields(answer)).is_some());
        if fault.is_nonce_wanted() && has_nonce && !self.is_for_nonce && provider.client.dpop.is_some() {
            log::debug!("provider={} is asked once more, with its nonce", provider.name);
            return Some(Self { is_for_nonce: true, ..self });
        }
        // Nobody has answered, and there is time: a connection that was kept open too long, mostly.
        if self.may_retry && matches!(reply, Reply::Failed(CallFailure::NoConnection)) {
            log::debug!("provider={} is asked once more: {fault}", provider.name);
            return Some(Self { may_retry: false, is_for_nonce: false, ..self });
        }
        None
    }

    fn request<'a>(&'a self, config: &'a Config, nonces: &'a Nonces) -> Option<TokenRequest<'a>> {
        let target = config.resources.get(self.need.resource)?.targets.get(self.need.provider)?.as_ref()?;
        Some(TokenRequest {
            provider: config.providers.get(self.need.provider)?,
            target,
            token_endpoint: &self.token_endpoint,
            subject: Subject {
                token: self.need.subject.reveal(),
                is_id_token: self.need.is_id_token,
                claims: self.need.claims.as_deref(),
            },
            which: self.which,
            assertion: self.need.assertion.as_ref(),
            nonce: nonces.of(Server::TokenEndpoint(&self.token_endpoint)).map(|nonce| &**nonce),
        })
    }
}
