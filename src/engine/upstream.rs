//! What an upstream's 401 means: the exchanged token is not good there, whatever its end says (docs/adr/0013).

use std::num::NonZeroUsize;
use std::time::Duration;

use super::audit::About;
use super::broadcast::{self, TokenRejected};
use super::exchanged::{Mark, TokenKey};
use super::known::{Cache, cache};
use super::nonces;
use super::verified::UserMark;
use super::{Engine, Progress, Step};
use crate::http::Answer;
use crate::mcp::challenge;
use crate::refusal::{Reason, Refusal};
use crate::time::UnixTime;

/// A token that its upstream rejects is exchanged anew once in so long, for each user token and target.
const PERIOD: Duration = Duration::from_secs(60);

/// For how long a token that is rejected tells against the upstream, where it came in the place of a rejected one.
const MEMORY: Duration = Duration::from_secs(600);

/// Of how many users an upstream may reject one token after the other before none is dropped for it for a while.
const MOST_REJECTED_AGAIN: usize = 3;

/// How many tokens are dropped for one resource in a second: what becomes of the first ones tells whether it is of any use.
const MOST_DROPPED_AT_ONCE: u8 = 16;

/// When it is worth trying again after that: the next request exchanges.
const AGAIN: Duration = Duration::from_secs(1);

/// How many claims challenges are remembered of each resource, of [`challenge::LONGEST_CLAIMS`] bytes each at most.
const MOST_CLAIMS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

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

/// The exchanged token that went with a request.
#[derive(Clone, Copy)]
pub(super) struct SentToken {
    pub(super) key: TokenKey,
    pub(super) mark: Mark,
    pub(super) user: UserMark,
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
pub enum Response {
    /// It goes on to the client, without these fields.
    PassOn {
        /// Their names.
        remove: &'static [&'static str],
    },
    /// The client gets this instead.
    Instead(Step),
}

/// What upstreams said of tokens.
pub(super) struct Rejections {
    /// What was dropped last for each user token and target. It runs out with its cache.
    dropped: Cache<TokenKey, Dropped>,
    /// By the index of the resource.
    resources: Vec<Tally>,
}

/// A token that was dropped.
#[derive(Clone, Copy)]
struct Dropped {
    at: UnixTime,
    mark: Mark,
    /// Whether that was soon after another, because claims were wanted.
    is_for_claims: bool,
}

/// What the upstream of one resource does to all users' tokens.
struct Tally {
    /// What it wants the next token to have in it: JSON text.
    claims: Cache<TokenKey, Box<str>>,
    /// How many tokens were dropped in which second.
    second: u64,
    drops: u8,
    /// Whose next token it has rejected as well, since when; not more than [`MOST_REJECTED_AGAIN`].
    rejected_again: Vec<UserMark>,
    since: UnixTime,
}

/// What is to become of a token that was rejected.
enum Fate {
    /// It is not used again: the next request exchanges anew.
    Dropped,
    /// It is not the one in use any more: what was sent with it was under way when that changed.
    Gone,
    /// It is as good as before: only the proof was not. Or its turn has not come: others of the resource are dropped first.
    Kept,
    /// It stays in use: others were asked for not long ago, and were no better.
    Stays,
}

impl Tally {
    fn new() -> Self {
        Self { claims: cache(MOST_CLAIMS), second: 0, drops: 0, rejected_again: Vec::new(), since: UnixTime::default() }
    }

    fn clock_went_back(&mut self) {
        (self.second, self.drops, self.since) = (0, 0, UnixTime::default());
    }

    /// A token was rejected that came in the place of a rejected one.
    fn rejected_again(&mut self, user: UserMark, now: UnixTime) {
        if now >= self.since.plus(PERIOD) {
            self.rejected_again.clear();
            self.since = now;
        }
        if self.rejected_again.len() < MOST_REJECTED_AGAIN && !self.rejected_again.contains(&user) {
            self.rejected_again.push(user);
        }
    }

    /// Whether no other token would be any better.
    fn rejects_all(&self, now: UnixTime) -> bool {
        self.rejected_again.len() >= MOST_REJECTED_AGAIN && now < self.since.plus(PERIOD)
    }

    /// Whether one more may be dropped now, which it is then.
    fn drops_one(&mut self, now: UnixTime) -> bool {
        if self.second != now.secs() {
            (self.second, self.drops) = (now.secs(), 0);
        }
        let may = self.drops < MOST_DROPPED_AT_ONCE;
        self.drops = self.drops.saturating_add(u8::from(may));
        may
    }
}

impl Rejections {
    /// Room for so many tokens, at so many resources.
    pub(super) fn new(most: usize, resources: usize) -> Self {
        Self {
            dropped: cache(NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN)),
            resources: std::iter::repeat_with(Tally::new).take(resources).collect(),
        }
    }

    /// What was rejected stays so; what is said of when does not.
    pub(super) fn clock_went_back(&mut self) {
        self.dropped.iter_mut().for_each(|(_, dropped)| dropped.at = UnixTime::default());
        self.resources.iter_mut().for_each(Tally::clock_went_back);
    }

    /// Another worker has dropped a token. A message that comes late changes nothing.
    pub(super) fn learn(&mut self, rejected: &TokenRejected, now: UnixTime) {
        let at = rejected.at.min(now);
        if self.dropped.peek(&rejected.key).is_none_or(|dropped| dropped.at <= at) {
            let dropped = Dropped { at, mark: rejected.mark, is_for_claims: rejected.is_for_claims };
            self.dropped.put(rejected.key, dropped);
            let resource = usize::try_from(rejected.resource).ok().and_then(|index| self.resources.get_mut(index));
            if let (Some(resource), Some(claims)) = (resource, &rejected.claims) {
                resource.claims.put(rejected.key, claims.clone());
            }
        }
    }

    /// What other workers have to know of a token that was dropped.
    fn dropped(&self, resource: usize, key: &TokenKey) -> Option<TokenRejected> {
        let Dropped { at, mark, is_for_claims } = *self.dropped.peek(key)?;
        let (claims, resource) = (self.claims(resource, key), u32::try_from(resource).ok()?);
        Some(TokenRejected { key: *key, mark, at, is_for_claims, resource, claims })
    }

    /// Whether that token was the last to be dropped.
    pub(super) fn has(&self, key: &TokenKey, mark: Mark) -> bool {
        self.dropped.peek(key).is_some_and(|dropped| dropped.mark == mark)
    }

    /// What the upstream of a resource wants the next token of that key to have in it.
    pub(super) fn claims(&self, resource: usize, key: &TokenKey) -> Option<Box<str>> {
        self.resources.get(resource)?.claims.peek(key).cloned()
    }

    /// It cannot be asked for.
    pub(super) fn forget_claims(&mut self, resource: usize, key: &TokenKey) {
        if let Some(resource) = self.resources.get_mut(resource) {
            resource.claims.pop(key);
        }
    }

    /// A token was rejected that went on `at` some time, and the next one should have `claims` in it; what was wanted before,
    /// still is. `in_use`: the one that goes on now.
    fn judge(
        &mut self,
        SentToken { key, mark, user }: SentToken,
        (resource, at): (usize, UnixTime),
        in_use: Option<Mark>,
        claims: Option<String>,
        now: UnixTime,
    ) -> Fate {
        let before = self.dropped.get(&key).copied();
        let Some(tally) = self.resources.get_mut(resource) else {
            return Fate::Stays;
        };
        if before.is_some_and(|before| at <= before.at) || in_use.is_some_and(|in_use| in_use != mark) {
            return Fate::Gone;
        }
        let is_within = |span| before.is_some_and(|before| now < before.at.plus(span));
        // The token that was dropped for others, or for none, may have been followed by one that was asked for without these.
        let is_for_claims = is_within(PERIOD) && claims.is_some() && before.is_some_and(|before| !before.is_for_claims);
        let wants_more =
            claims.as_deref().is_some_and(|claims| tally.claims.peek(&key).is_none_or(|known| **known != *claims));
        if let Some(claims) = claims {
            tally.claims.put(key, claims.into());
        }
        let is_soon = is_within(PERIOD) && !is_for_claims;
        if is_soon || (is_within(MEMORY) && !is_for_claims && !wants_more) {
            tally.rejected_again(user, now);
        }
        if is_soon || tally.rejects_all(now) {
            return Fate::Stays;
        }
        if !tally.drops_one(now) {
            return Fate::Kept;
        }
        self.dropped.put(key, Dropped { at: now, mark, is_for_claims });
        Fate::Dropped
    }
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
    pub fn upstream_answered(&mut self, sent: &Sent, answer: &Answer, now: UnixTime) -> Response {
        let has_nonce = sent.is_proved && self.upstream_nonce(sent.resource, nonces::fields(answer));
        let (401, Some(token)) = (answer.status, sent.token) else {
            let remove: &[_] =
                if sent.hides_nonce { &["www-authenticate", "dpop-nonce"] } else { &["www-authenticate"] };
            return Response::PassOn { remove };
        };
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
        let in_use = self.known.exchanges.mark(&token.key);
        let fate = if is_for_nonce {
            Fate::Kept
        } else {
            self.known.rejections.judge(token, (sent.resource, sent.at), in_use, claims, now)
        };
        if matches!(fate, Fate::Dropped) {
            self.known.exchanges.drop_issued(&token.key);
            self.pool().withdraw(&token.key, token.mark, now);
            if let Some(rejected) = self.known.rejections.dropped(sent.resource, &token.key) {
                self.broadcast.send(&rejected, &self.board(), now);
            }
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
