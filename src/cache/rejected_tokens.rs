//! Exchanged tokens that upstreams have rejected with 401, and the decision whether to exchange anew (docs/adr/0013).

use std::num::NonZeroUsize;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::cache::exchanged_tokens::{Fingerprint, TokenKey};
use crate::cache::lru::{Lru, cache};
use crate::cache::verified_tokens::UserFingerprint;
use crate::resource::ResourceId;
use crate::time::UnixTime;

/// Minimum time between two exchanges that follow a rejection, for each [`TokenKey`]. Also the time for which a resource that
/// rejects replacements keeps its tokens.
const MIN_INTERVAL: Duration = Duration::from_secs(60);

/// Time after an invalidation within which the rejection of the replacement counts against the upstream.
const REPLACEMENT_WINDOW: Duration = Duration::from_secs(600);

/// Number of users whose replacements an upstream rejects before no token is invalidated for it any more.
const MAX_USERS_REJECTED_AGAIN: usize = 3;

/// Maximum number of tokens that are invalidated for one resource in a second. The replacements of the first ones show whether it
/// helps.
const MAX_INVALIDATIONS_PER_SECOND: u8 = 16;

/// Maximum number of claims challenges that are remembered for each resource, each of at most 4 KiB.
const MAX_CLAIMS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Exchanged token that went to an upstream with a request.
#[derive(Clone, Copy)]
pub(crate) struct SentToken {
    /// Cache key of the token.
    pub(crate) key: TokenKey,
    /// Digest of the token.
    pub(crate) fingerprint: Fingerprint,
    /// User of the request.
    pub(crate) user: UserFingerprint,
}

/// Rejections of one worker.
pub(crate) struct RejectedTokens {
    /// Last invalidation for each key, of as many keys as the cache of exchanged tokens holds.
    invalidations: Lru<TokenKey, Invalidation>,
    resources: FxHashMap<ResourceId, ResourceRejections>,
}

/// Invalidation of a token.
#[derive(Clone, Copy)]
struct Invalidation {
    at: UnixTime,
    fingerprint: Fingerprint,
    /// It followed another one within [`MIN_INTERVAL`], because the upstream demanded claims.
    is_for_claims: bool,
}

/// Rejections by the upstream of one resource, for all users.
struct ResourceRejections {
    /// Claims that the upstream demands in the next token of a key: JSON text.
    claims: Lru<TokenKey, Box<str>>,
    /// Second that `invalidations` counts.
    second: u64,
    /// Number of tokens that were invalidated in that second.
    invalidations: u8,
    /// Users whose replacements were rejected since `since`, at most [`MAX_USERS_REJECTED_AGAIN`].
    rejected_again: Vec<UserFingerprint>,
    since: UnixTime,
}

/// Consequence of a rejection.
pub(crate) enum RejectionOutcome {
    /// The token is not used again: the next request exchanges anew.
    Invalidated,
    /// The token was no longer in use: a request that was in flight had it.
    Superseded,
    /// The token stays in use, and may be invalidated by a later rejection. Only the DPoP proof was rejected, or the limit
    /// [`MAX_INVALIDATIONS_PER_SECOND`] was reached.
    Kept,
    /// The token stays in use: the upstream has rejected replacements as well.
    RejectsReplacements,
    /// The token stays in use: the request named a session, and a replacement was rejected in it. That says nothing of the token.
    SessionGone,
}

impl ResourceRejections {
    fn new() -> Self {
        Self {
            claims: cache(MAX_CLAIMS),
            second: 0,
            invalidations: 0,
            rejected_again: Vec::new(),
            since: UnixTime::default(),
        }
    }

    fn clock_went_back(&mut self) {
        (self.second, self.invalidations, self.since) = (0, 0, UnixTime::default());
    }

    /// Records the rejection of a replacement.
    fn record_rejected_again(&mut self, user: UserFingerprint, now: UnixTime) {
        if now >= self.since.plus(MIN_INTERVAL) {
            self.rejected_again.clear();
            self.since = now;
        }
        if self.rejected_again.len() < MAX_USERS_REJECTED_AGAIN && !self.rejected_again.contains(&user) {
            self.rejected_again.push(user);
        }
    }

    /// Returns `true` if the upstream rejects the replacements of several users.
    fn rejects_replacements(&self, now: UnixTime) -> bool {
        self.rejected_again.len() >= MAX_USERS_REJECTED_AGAIN && now < self.since.plus(MIN_INTERVAL)
    }

    /// Counts one more invalidation. Returns `false` if the limit of this second is reached.
    fn count_invalidation(&mut self, now: UnixTime) -> bool {
        if self.second != now.secs() {
            (self.second, self.invalidations) = (now.secs(), 0);
        }
        let is_allowed = self.invalidations < MAX_INVALIDATIONS_PER_SECOND;
        self.invalidations = self.invalidations.saturating_add(u8::from(is_allowed));
        is_allowed
    }
}

impl RejectedTokens {
    /// No rejections, with memory for at most `max` keys.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            invalidations: cache(NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN)),
            resources: FxHashMap::default(),
        }
    }

    /// Removes the times of the clock before it was set back. Rejected tokens stay rejected.
    pub(crate) fn clock_went_back(&mut self) {
        self.invalidations.iter_mut().for_each(|(_, invalidation)| invalidation.at = UnixTime::default());
        self.resources.values_mut().for_each(ResourceRejections::clock_went_back);
    }

    /// Records an invalidation by another worker. A message that is older than the last invalidation of the key is ignored.
    pub(crate) fn record_remote(&mut self, rejected: &TokenRejected, now: UnixTime) {
        let at = rejected.at.min(now);
        if self.invalidations.peek(&rejected.key).is_none_or(|last| last.at <= at) {
            let &TokenRejected { key, fingerprint, is_for_claims, .. } = rejected;
            self.invalidations.put(key, Invalidation { at, fingerprint, is_for_claims });
            if let Some((resource, claims)) = &rejected.claims {
                let resource = self.resources.entry(*resource).or_insert_with(ResourceRejections::new);
                resource.claims.put(key, claims.clone());
            }
        }
    }

    /// Message to other workers about the last invalidation for a key, by the upstream of a resource. `None`: there was none.
    pub(crate) fn message(&self, resource: ResourceId, key: &TokenKey) -> Option<TokenRejected> {
        let Invalidation { at, fingerprint, is_for_claims } = *self.invalidations.peek(key)?;
        let claims = self.claims(resource, key).map(|claims| (resource, claims));
        Some(TokenRejected { key: *key, fingerprint, at, is_for_claims, claims })
    }

    /// Returns `true` if that token was the last to be invalidated for its key.
    pub(crate) fn is_rejected(&self, key: &TokenKey, fingerprint: Fingerprint) -> bool {
        self.invalidations.peek(key).is_some_and(|last| last.fingerprint == fingerprint)
    }

    /// Claims that the upstream of a resource demands in the next token of a key: JSON text.
    pub(crate) fn claims(&self, resource: ResourceId, key: &TokenKey) -> Option<Box<str>> {
        self.resources.get(&resource)?.claims.peek(key).cloned()
    }

    /// Removes demanded claims that the provider does not accept in a request.
    pub(crate) fn remove_claims(&mut self, resource: ResourceId, key: &TokenKey) {
        if let Some(resource) = self.resources.get_mut(&resource) {
            resource.claims.pop(key);
        }
    }

    /// Records the rejection of a token that was sent to a resource `at` some time. `in_use`: token that is in use now. `claims`:
    /// claims that the upstream demands in the next token; without them, those that it demanded before still count. `in_session`:
    /// the request named a session of the upstream, which may be what is rejected.
    pub(crate) fn record_rejection(
        &mut self,
        SentToken { key, fingerprint, user }: SentToken,
        (resource, at): (ResourceId, UnixTime),
        in_use: Option<Fingerprint>,
        claims: Option<String>,
        in_session: bool,
        now: UnixTime,
    ) -> RejectionOutcome {
        let last = self.invalidations.get(&key).copied();
        if last.is_some_and(|last| at <= last.at) || in_use.is_some_and(|in_use| in_use != fingerprint) {
            return RejectionOutcome::Superseded;
        }
        let rejections = self.resources.entry(resource).or_insert_with(ResourceRejections::new);
        let is_within = |span| last.is_some_and(|last| now < last.at.plus(span));
        // The last replacement may have been asked for without these claims: one more exchange is worth it.
        let is_for_claims = is_within(MIN_INTERVAL) && claims.is_some() && last.is_some_and(|last| !last.is_for_claims);
        let demands_more =
            claims.as_deref().is_some_and(|claims| rejections.claims.peek(&key).is_none_or(|known| **known != *claims));
        let is_about_session = in_session && claims.is_none();
        if let Some(claims) = claims {
            rejections.claims.put(key, claims.into());
        }
        let is_too_soon = is_within(MIN_INTERVAL) && !is_for_claims;
        if is_too_soon || (is_within(REPLACEMENT_WINDOW) && !is_for_claims && !demands_more) {
            if is_about_session {
                return RejectionOutcome::SessionGone;
            }
            rejections.record_rejected_again(user, now);
        }
        if is_too_soon || rejections.rejects_replacements(now) {
            return RejectionOutcome::RejectsReplacements;
        }
        if !rejections.count_invalidation(now) {
            return RejectionOutcome::Kept;
        }
        self.invalidations.put(key, Invalidation { at: now, fingerprint, is_for_claims });
        RejectionOutcome::Invalidated
    }
}

/// Message to other workers: an exchanged token is invalid, because its upstream has rejected it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenRejected {
    /// Cache key of the token.
    pub(crate) key: TokenKey,
    /// Digest of the token.
    pub(crate) fingerprint: Fingerprint,
    /// Time of the invalidation.
    pub(crate) at: UnixTime,
    /// It followed another one within [`MIN_INTERVAL`], because the upstream demanded claims.
    pub(crate) is_for_claims: bool,
    /// Claims that the upstream of that resource demands in the next token, whichever worker asks for it: JSON text.
    pub(crate) claims: Option<(ResourceId, Box<str>)>,
}
