//! What an upstream's 401 means: the exchanged token is not good there, whatever its end says (docs/adr/0013).

use std::time::Duration;

use crate::cache::rejected_tokens::{RejectionOutcome, SentToken};
use crate::dpop::nonce_cache;
use crate::engine::audit::AuditContext;
use crate::engine::{Decision, Engine, Progress, broadcast};
use crate::http::Response;
use crate::refusal::{Reason, Refusal};
use crate::resource::challenge;
use crate::telemetry::{Detail, Fact};
use crate::time::UnixTime;

/// When it is worth trying again after that: the next request exchanges.
const AGAIN: Duration = Duration::from_secs(1);

/// With what a request went on to its upstream.
#[derive(Clone, Copy)]
pub struct Sent {
    /// `None`: without any.
    pub(super) token: Option<SentToken>,
    pub(super) provider: usize,
    pub(super) resource: usize,
    pub(super) at: UnixTime,
    /// Whether a proof went with it.
    pub(super) is_proved: bool,
    /// Whether a client could take the upstream's nonce for ours.
    pub(super) hides_nonce: bool,
}

impl Sent {
    /// When it did.
    pub const fn at(&self) -> UnixTime {
        self.at
    }

    /// Whether an exchanged token went with it, so that a 401 is about that.
    pub const fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether a `DPoP-Nonce` in the answer is not for the client: a proof of ours went with it, or the client's proofs are
    /// for us (RFC 9449 section 8.2).
    pub const fn hides_nonce(&self) -> bool {
        self.hides_nonce
    }
}

/// What to do with an upstream's answer.
#[must_use]
pub enum UpstreamAction {
    /// It goes on to the client, without these fields.
    PassOn {
        /// Their names.
        remove: &'static [&'static str],
    },
    /// The client gets this instead.
    Instead(Decision),
}

impl Engine {
    /// Another worker has sent a message. One that no worker with this configuration has sent is nothing.
    pub fn message(&mut self, message: &[u8], now: UnixTime) {
        self.observe(now);
        let Some(rejected) = broadcast::open(&self.config.shared_key, message) else {
            return;
        };
        match self.known.exchanges.mark(&rejected.key) {
            // Where workers have tokens of their own, the upstream has said nothing of this one.
            Some(in_use) if in_use != rejected.mark => {}
            in_use => {
                self.known.rejections.learn(&rejected, now);
                if in_use.is_some() {
                    self.known.exchanges.drop_issued(&rejected.key);
                }
            }
        }
    }

    /// The upstream has answered a request that went on so.
    ///
    /// What it says in `WWW-Authenticate` is meant for us: a client that followed it would sign in for the upstream, and
    /// come back with a token that is not for this resource.
    pub fn on_upstream_response(&mut self, sent: &Sent, answer: &Response, now: UnixTime) -> UpstreamAction {
        let has_nonce = sent.is_proved && self.upstream_nonce(sent.resource, nonce_cache::fields(answer));
        let (401, Some(token)) = (answer.status, sent.token) else {
            let remove: &[_] =
                if sent.hides_nonce { &["www-authenticate", "dpop-nonce"] } else { &["www-authenticate"] };
            return UpstreamAction::PassOn { remove };
        };
        self.observe(now);
        let provider = self.config.providers.get(sent.provider);
        let takes_claims = provider.is_some_and(|provider| provider.profile.takes_claims());
        let claims = challenge::wanted_claims(answer).filter(|_| takes_claims);
        let is_for_nonce = has_nonce && challenge::wants_nonce(answer);
        let wants = match (is_for_nonce, &claims) {
            (true, _) => "nonce",
            (false, Some(_)) => "claims",
            (false, None) => "",
        };
        let name = provider.map_or_else(|| "-".to_owned(), |provider| provider.name.to_string());
        let detail = Detail::new().with(Fact::Provider, name).with(Fact::Wants, wants);
        let in_use = self.known.exchanges.mark(&token.key);
        let fate = if is_for_nonce {
            RejectionOutcome::Kept
        } else {
            self.known.rejections.judge(token, (sent.resource, sent.at), in_use, claims, now)
        };
        if matches!(fate, RejectionOutcome::Dropped) {
            self.known.exchanges.drop_issued(&token.key);
            self.pool().withdraw(&token.key, token.mark, now);
            if let Some(rejected) = self.known.rejections.dropped(sent.resource, &token.key) {
                self.broadcast.send(&rejected, &self.board(), now);
            }
        }
        let refusal = match fate {
            RejectionOutcome::Dropped | RejectionOutcome::Superseded | RejectionOutcome::Kept => {
                Refusal::detailed(Reason::UpstreamRejectedToken, detail).retry_after(AGAIN)
            }
            RejectionOutcome::StaysInUse => Refusal::detailed(Reason::UpstreamRejectsTokens, detail),
        };
        let about = AuditContext { resource: Some(sent.resource), ..AuditContext::default() };
        let progress = Progress { decisions: 0, since: sent.at, cache: None };
        UpstreamAction::Instead(self.refuse(&refusal, &about, progress, now))
    }
}
