//! What an upstream's 401 means: the exchanged token is not good there, whatever its end says (docs/adr/0013).

use std::num::NonZeroUsize;
use std::time::Duration;

use super::audit::About;
use super::exchanged::TokenKey;
use super::known::{Cache, cache};
use super::nonces;
use super::{Engine, Progress, Step};
use crate::http::Answer;
use crate::mcp::challenge;
use crate::refusal::{Reason, Refusal};
use crate::time::UnixTime;

/// A token that its upstream rejects is exchanged anew once in so long, for each user token and target.
const PERIOD: Duration = Duration::from_secs(60);

/// When it is worth trying again after that: the next request exchanges.
const AGAIN: Duration = Duration::from_secs(1);

/// How many claims challenges are remembered, of [`challenge::LONGEST_CLAIMS`] bytes each at most.
const MOST_CLAIMS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// With what a request went on to its upstream.
#[derive(Clone, Copy)]
pub struct Sent {
    pub(super) key: TokenKey,
    pub(super) provider: usize,
    pub(super) resource: usize,
    pub(super) at: UnixTime,
    /// Whether a proof went with it.
    pub(super) is_proved: bool,
}

impl Sent {
    /// When it did.
    pub const fn at(&self) -> UnixTime {
        self.at
    }

    /// Whether a proof went with it, so that a nonce may be in the answer.
    pub const fn is_proved(&self) -> bool {
        self.is_proved
    }
}

/// What to do with an upstream's answer.
#[must_use]
pub enum Response {
    /// It goes on to the client, without these fields.
    PassOn {
        /// Their names.
        remove: &'static [&'static str],
    },
    /// The client gets this instead.
    Instead(Step),
}

/// What upstreams said of tokens. Both run out with their caches.
pub(super) struct Rejections {
    /// When a token was dropped for it.
    dropped: Cache<TokenKey, UnixTime>,
    /// What the upstream wants the next token to have in it: JSON text.
    claims: Cache<TokenKey, Box<str>>,
}

/// What is to become of a token that was rejected.
enum Fate {
    /// It is not used again: the next request exchanges anew.
    Dropped,
    /// It is not the one in use any more: what was sent with it was under way when it was dropped.
    Gone,
    /// It is as good as before: only the proof was not.
    Kept,
    /// It stays in use: another was asked for not long ago, and was no better.
    Stays,
}

impl Rejections {
    /// Room for so many.
    pub(super) fn new(most: usize) -> Self {
        Self { dropped: cache(NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN)), claims: cache(MOST_CLAIMS) }
    }

    pub(super) fn clock_went_back(&mut self) {
        self.dropped.clear();
    }

    /// What the upstream wants the next token of that key to have in it.
    pub(super) fn claims(&self, key: &TokenKey) -> Option<Box<str>> {
        self.claims.peek(key).cloned()
    }

    /// It cannot be asked for.
    pub(super) fn forget_claims(&mut self, key: &TokenKey) {
        self.claims.pop(key);
    }

    fn fate(&mut self, sent: &Sent, now: UnixTime) -> Fate {
        match self.dropped.get(&sent.key) {
            Some(dropped) if sent.at <= *dropped => Fate::Gone,
            Some(dropped) if now < dropped.plus(PERIOD) => Fate::Stays,
            _ => Fate::Dropped,
        }
    }

    /// A token of that key is dropped now, and the next one should have `claims` in it. What was wanted before, still is.
    pub(super) fn put(&mut self, key: TokenKey, claims: Option<String>, now: UnixTime) {
        self.dropped.put(key, now);
        if let Some(claims) = claims {
            self.claims.put(key, claims.into());
        }
    }
}

impl Engine {
    /// The upstream has answered a request that went on so.
    ///
    /// What it says in `WWW-Authenticate` is meant for us: a client that followed it would sign in for the upstream, and
    /// come back with a token that is not for this resource.
    pub fn upstream_answered(&mut self, sent: &Sent, answer: &Answer, now: UnixTime) -> Response {
        let has_nonce = sent.is_proved && self.upstream_nonce(sent.resource, nonces::fields(answer));
        if answer.status != 401 {
            let remove: &[_] = if sent.is_proved { &["www-authenticate", "dpop-nonce"] } else { &["www-authenticate"] };
            return Response::PassOn { remove };
        }
        self.observe(now);
        let provider = self.config.providers.get(sent.provider);
        let takes_claims = provider.is_some_and(|provider| provider.profile.takes_claims());
        let claims = challenge::wanted_claims(answer).filter(|_| takes_claims);
        let is_for_nonce = has_nonce && challenge::wants_nonce(answer);
        let wants = match (is_for_nonce, &claims) {
            (true, _) => " wants=nonce",
            (false, Some(_)) => " wants=claims",
            (false, None) => "",
        };
        let detail = format!("provider={}{wants}", provider.map_or("-", |provider| &provider.name));
        let fate = if is_for_nonce { Fate::Kept } else { self.known.rejections.fate(sent, now) };
        if matches!(fate, Fate::Dropped)
            && let Some(authorization) = self.known.drop_issued(sent.key, claims, now)
        {
            self.pool().withdraw(&sent.key, &authorization, now);
        }
        let refusal = match fate {
            Fate::Dropped | Fate::Gone | Fate::Kept => {
                Refusal::because(Reason::UpstreamRejectedToken, detail).retry_after(AGAIN)
            }
            Fate::Stays => Refusal::because(Reason::UpstreamRejectsTokens, detail),
        };
        let about = About { resource: Some(sent.resource), ..About::default() };
        let progress = Progress { decisions: 0, since: sent.at, cache: None };
        Response::Instead(self.refuse(&refusal, &about, progress, now))
    }
}
