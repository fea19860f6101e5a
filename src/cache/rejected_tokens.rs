//! Exchanged tokens that upstreams rejected (docs/adr/0013).

use std::num::NonZeroUsize;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::cache::exchanged_tokens::{Fingerprint, TokenKey};
use crate::cache::lru::{Lru, cache};
use crate::cache::verified_tokens::UserFingerprint;
use crate::resource::ResourceId;
use crate::time::UnixTime;

/// A token that its upstream rejects is exchanged anew once in so long, for each user token and target.
const PERIOD: Duration = Duration::from_secs(60);

/// For how long a token that is rejected tells against the upstream, where it came in the place of a rejected one.
const MEMORY: Duration = Duration::from_secs(600);

/// Of how many users an upstream may reject one token after the other before none is dropped for it for a while.
const MOST_REJECTED_AGAIN: usize = 3;

/// How many tokens are dropped for one resource in a second: what becomes of the first ones tells whether it is of any use.
const MOST_DROPPED_AT_ONCE: u8 = 16;

/// How many claims challenges are remembered of each resource, of [`challenge::LONGEST_CLAIMS`] bytes each at most.
const MOST_CLAIMS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// The exchanged token that went with a request.
#[derive(Clone, Copy)]
pub(crate) struct SentToken {
    pub(crate) key: TokenKey,
    pub(crate) mark: Fingerprint,
    pub(crate) user: UserFingerprint,
}

/// What upstreams said of tokens.
pub(crate) struct RejectedTokens {
    /// What was dropped last for each user token and target. It runs out with its cache.
    dropped: Lru<TokenKey, Dropped>,
    /// By the index of the resource.
    resources: FxHashMap<ResourceId, ResourceRejections>,
}

/// A token that was dropped.
#[derive(Clone, Copy)]
struct Dropped {
    at: UnixTime,
    mark: Fingerprint,
    /// Whether that was soon after another, because claims were wanted.
    is_for_claims: bool,
}

/// What the upstream of one resource does to all users' tokens.
struct ResourceRejections {
    /// What it wants the next token to have in it: JSON text.
    claims: Lru<TokenKey, Box<str>>,
    /// How many tokens were dropped in which second.
    second: u64,
    drops: u8,
    /// Whose next token it has rejected as well, since when; not more than [`MOST_REJECTED_AGAIN`].
    rejected_again: Vec<UserFingerprint>,
    since: UnixTime,
}

/// What is to become of a token that was rejected.
pub(crate) enum RejectionOutcome {
    /// It is not used again: the next request exchanges anew.
    Dropped,
    /// It is not the one in use any more: what was sent with it was under way when that changed.
    Superseded,
    /// It is as good as before: only the proof was not. Or its turn has not come: others of the resource are dropped first.
    Kept,
    /// It stays in use: others were asked for not long ago, and were no better.
    StaysInUse,
}

impl ResourceRejections {
    fn new() -> Self {
        Self { claims: cache(MOST_CLAIMS), second: 0, drops: 0, rejected_again: Vec::new(), since: UnixTime::default() }
    }

    fn clock_went_back(&mut self) {
        (self.second, self.drops, self.since) = (0, 0, UnixTime::default());
    }

    /// A token was rejected that came in the place of a rejected one.
    fn rejected_again(&mut self, user: UserFingerprint, now: UnixTime) {
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

impl RejectedTokens {
    /// Room for so many tokens, at so many resources.
    pub(crate) fn new(most: usize) -> Self {
        Self { dropped: cache(NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN)), resources: FxHashMap::default() }
    }

    /// What was rejected stays so; what is said of when does not.
    pub(crate) fn clock_went_back(&mut self) {
        self.dropped.iter_mut().for_each(|(_, dropped)| dropped.at = UnixTime::default());
        self.resources.values_mut().for_each(ResourceRejections::clock_went_back);
    }

    /// Another worker has dropped a token. A message that comes late changes nothing.
    pub(crate) fn learn(&mut self, rejected: &TokenRejected, now: UnixTime) {
        let at = rejected.at.min(now);
        if self.dropped.peek(&rejected.key).is_none_or(|dropped| dropped.at <= at) {
            let dropped = Dropped { at, mark: rejected.mark, is_for_claims: rejected.is_for_claims };
            self.dropped.put(rejected.key, dropped);
            if let Some(claims) = &rejected.claims {
                let resource = self.resources.entry(rejected.resource).or_insert_with(ResourceRejections::new);
                resource.claims.put(rejected.key, claims.clone());
            }
        }
    }

    /// What other workers have to know of a token that was dropped.
    pub(crate) fn dropped(&self, resource: ResourceId, key: &TokenKey) -> Option<TokenRejected> {
        let Dropped { at, mark, is_for_claims } = *self.dropped.peek(key)?;
        let claims = self.claims(resource, key);
        Some(TokenRejected { key: *key, mark, at, is_for_claims, resource, claims })
    }

    /// Whether that token was the last to be dropped.
    pub(crate) fn has(&self, key: &TokenKey, mark: Fingerprint) -> bool {
        self.dropped.peek(key).is_some_and(|dropped| dropped.mark == mark)
    }

    /// What the upstream of a resource wants the next token of that key to have in it.
    pub(crate) fn claims(&self, resource: ResourceId, key: &TokenKey) -> Option<Box<str>> {
        self.resources.get(&resource)?.claims.peek(key).cloned()
    }

    /// It cannot be asked for.
    pub(crate) fn forget_claims(&mut self, resource: ResourceId, key: &TokenKey) {
        if let Some(resource) = self.resources.get_mut(&resource) {
            resource.claims.pop(key);
        }
    }

    /// A token was rejected that went on `at` some time, and the next one should have `claims` in it; what was wanted before,
    /// still is. `in_use`: the one that goes on now.
    pub(crate) fn judge(
        &mut self,
        SentToken { key, mark, user }: SentToken,
        (resource, at): (ResourceId, UnixTime),
        in_use: Option<Fingerprint>,
        claims: Option<String>,
        now: UnixTime,
    ) -> RejectionOutcome {
        let before = self.dropped.get(&key).copied();
        let tally = self.resources.entry(resource).or_insert_with(ResourceRejections::new);
        if before.is_some_and(|before| at <= before.at) || in_use.is_some_and(|in_use| in_use != mark) {
            return RejectionOutcome::Superseded;
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
            return RejectionOutcome::StaysInUse;
        }
        if !tally.drops_one(now) {
            return RejectionOutcome::Kept;
        }
        self.dropped.put(key, Dropped { at: now, mark, is_for_claims });
        RejectionOutcome::Dropped
    }
}

/// An upstream has rejected an exchanged token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenRejected {
    pub(crate) key: TokenKey,
    pub(crate) mark: Fingerprint,
    /// When it was dropped.
    pub(crate) at: UnixTime,
    /// Whether another was dropped not long before, and this one because claims were wanted.
    pub(crate) is_for_claims: bool,
    /// The index of the resource. Workers whose configuration differs may have another one there, but not with this key.
    pub(crate) resource: ResourceId,
    /// The claims that the next token must have in it, if the upstream has said: whichever worker asks for it.
    pub(crate) claims: Option<Box<str>>,
}
