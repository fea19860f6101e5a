//! What a worker knows: keys, verified tokens, exchanged tokens and failed exchanges. All of it is bounded and
//! runs out.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use lru::LruCache;

use crate::idp::{Caller, Endpoints, Issued};
use crate::refusal::Refusal;
use crate::secret::Secret;
use crate::time::UnixTime;
use crate::token::{Header, KeySet};

/// How often keys are fetched when all goes well.
const REFRESH: Duration = Duration::from_secs(15 * 60);

/// For how long keys are trusted that could not be fetched again.
const OLDEST_KEYS: Duration = Duration::from_secs(24 * 3600);

/// The longest pause after failed fetches.
const LONGEST_BACKOFF: u64 = 60;

/// How often a `kid` that is not in the set may cause a fetch.
const REFETCH: Duration = Duration::from_secs(30);

/// How many headers are remembered, and of what length: each is compared with that of every token.
const MOST_HEADERS: usize = 8;
const MOST_HEADER_BYTES: usize = 512;

/// How long before its end an exchanged token is not used any more.
const MARGIN: Duration = Duration::from_secs(30);

pub(super) struct Known {
    issuers: Vec<IssuerState>,
    access_tokens: Option<VerifiedTokens>,
    id_tokens: Option<VerifiedTokens>,
    exchanges: LruCache<TokenKey, Exchange>,
    /// Headers of tokens that were verified, by their segment. There is one for each key that an issuer signs with.
    headers: Vec<(Box<str>, Rc<Header>)>,
}

type VerifiedTokens = LruCache<Tail, (Box<str>, Rc<Verified>)>;

/// What is known of an issuer.
#[derive(Default)]
pub(super) struct IssuerState {
    pub(super) endpoints: Option<Endpoints>,
    pub(super) keys: Option<KeySet>,
    /// When the keys were fetched.
    fetched: UnixTime,
    /// When to fetch keys, for the first time or again.
    due: UnixTime,
    failures: u32,
    /// From when on an unknown `kid` may cause a fetch.
    refetch_from: UnixTime,
    /// Whether a fetch is under way.
    pub(super) fetching: bool,
    /// For each resource, the digest of what shapes its tokens beside the subject token. Rests on the endpoints.
    shapes: Vec<(usize, Shape)>,
}

/// A token that was found good.
pub(super) struct Verified {
    pub(super) provider: usize,
    pub(super) caller: Caller,
    pub(super) scopes: Vec<String>,
    /// `exp`.
    pub(super) expires: UnixTime,
    /// `exp` and the leeway.
    pub(super) accepted_until: UnixTime,
    /// For each resource that was asked for with it, where its exchanged token is.
    keys: RefCell<Vec<(usize, TokenKey)>>,
}

/// A digest of everything that shapes an exchanged token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenKey([u8; 32]);

enum Exchange {
    Issued { authorization: Secret, until: UnixTime },
    Failed { refusal: Refusal, until: UnixTime },
}

/// What a look-up for an exchanged token gives.
pub(super) enum Exchanged {
    /// The value for `authorization`.
    Issued(Secret),
    Failed(Refusal),
    Unknown,
}

/// Which of the two roles a verified token has. One token is never taken for the other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Access,
    Id,
}

impl Known {
    pub(super) fn new(providers: usize, verified_tokens: usize, exchanged_tokens: usize) -> Self {
        let cache = || NonZeroUsize::new(verified_tokens).map(LruCache::new);
        Self {
            issuers: (0..providers).map(|_| IssuerState::default()).collect(),
            access_tokens: cache(),
            id_tokens: cache(),
            headers: Vec::new(),
            exchanges: LruCache::new(NonZeroUsize::new(exchanged_tokens).unwrap_or(NonZeroUsize::MIN)),
        }
    }

    pub(super) fn issuer(&self, provider: usize) -> Option<&IssuerState> {
        self.issuers.get(provider)
    }

    pub(super) fn issuer_mut(&mut self, provider: usize) -> Option<&mut IssuerState> {
        self.issuers.get_mut(provider)
    }

    /// The providers whose keys are to be fetched.
    pub(super) fn due(&self, now: UnixTime) -> Vec<usize> {
        self.issuers.iter().enumerate().filter(|(_, issuer)| now >= issuer.due).map(|(index, _)| index).collect()
    }

    /// Every span that was measured by the old clock ends.
    pub(super) fn clock_went_back(&mut self) {
        for issuer in &mut self.issuers {
            issuer.due = UnixTime::default();
            issuer.refetch_from = UnixTime::default();
        }
        self.exchanges.clear();
    }

    /// The header that a first segment stands for, if a token with it was verified not long ago.
    pub(super) fn header(&self, segment: &str) -> Option<Rc<Header>> {
        self.headers.iter().find(|(known, _)| is_same(known, segment)).map(|(_, header)| header.clone())
    }

    /// Remembers the header of a verified token.
    pub(super) fn remember_header(&mut self, segment: &str, header: &Rc<Header>) {
        if segment.len() <= MOST_HEADER_BYTES && self.header(segment).is_none() {
            if self.headers.len() >= MOST_HEADERS {
                self.headers.remove(0);
            }
            self.headers.push((segment.into(), header.clone()));
        }
    }

    /// A verified token in that role, whether or not it is still in force.
    pub(super) fn verified(&mut self, role: Role, token: &str) -> Option<Rc<Verified>> {
        let (known, verified) = self.verified_tokens(role)?.get(&tail(token))?;
        is_same(known, token).then(|| verified.clone())
    }

    pub(super) fn remember(&mut self, role: Role, token: &str, verified: &Rc<Verified>) {
        if let Some(tokens) = self.verified_tokens(role) {
            tokens.put(tail(token), (token.into(), verified.clone()));
        }
    }

    pub(super) fn forget(&mut self, role: Role, token: &str) {
        if let Some(tokens) = self.verified_tokens(role) {
            tokens.pop(&tail(token));
        }
    }

    /// Every token must be verified again.
    pub(super) fn forget_verified(&mut self) {
        for tokens in [&mut self.access_tokens, &mut self.id_tokens].into_iter().flatten() {
            tokens.clear();
        }
    }

    fn verified_tokens(&mut self, role: Role) -> Option<&mut VerifiedTokens> {
        match role {
            Role::Access => self.access_tokens.as_mut(),
            Role::Id => self.id_tokens.as_mut(),
        }
    }

    pub(super) fn exchanged(&mut self, key: &TokenKey, now: UnixTime) -> Exchanged {
        match self.exchanges.get(key) {
            Some(Exchange::Issued { authorization, until }) if now < *until => Exchanged::Issued(authorization.clone()),
            Some(Exchange::Failed { refusal, until }) if now < *until => {
                let mut refusal = refusal.clone();
                refusal.retry_after = refusal.retry_after.map(|_| until.since(now));
                Exchanged::Failed(refusal)
            }
            Some(_) => {
                self.exchanges.pop(key);
                Exchanged::Unknown
            }
            None => Exchanged::Unknown,
        }
    }

    /// Remembers a token until its own end or its subject's, whichever is earlier, less a margin; but at least so
    /// long that those who wait for it get it.
    pub(super) fn put_issued(&mut self, key: TokenKey, issued: &Issued, subject_expires: UnixTime, now: UnixTime) {
        let end = now.plus(issued.lifetime);
        let margin = MARGIN.min(issued.lifetime.checked_div(4).unwrap_or_default());
        let until = end.min(subject_expires).minus(margin).max(now.plus(Duration::from_secs(1)));
        let authorization = Secret::new(format!("Bearer {}", issued.access_token.reveal()));
        self.exchanges.put(key, Exchange::Issued { authorization, until });
    }

    /// Remembers that there is no token, for `pause`.
    pub(super) fn put_failed(&mut self, key: TokenKey, refusal: Refusal, pause: Duration, now: UnixTime) {
        self.exchanges.put(key, Exchange::Failed { refusal, until: now.plus(pause) });
    }
}

impl IssuerState {
    /// Where the provider is. Whether it was somewhere else before.
    pub(super) fn put_endpoints(&mut self, endpoints: Endpoints) -> bool {
        let moved = self.endpoints.as_ref().is_some_and(|old| *old != endpoints);
        if moved {
            self.shapes.clear();
        }
        self.endpoints = Some(endpoints);
        moved
    }

    /// The shape of the tokens for a resource; `make` is called the first time. `None`: the endpoints are not known.
    pub(super) fn shape(&mut self, resource: usize, make: impl FnOnce(&Endpoints) -> Shape) -> Option<&Shape> {
        let endpoints = self.endpoints.as_ref()?;
        if !self.shapes.iter().any(|(index, _)| *index == resource) {
            self.shapes.push((resource, make(endpoints)));
        }
        self.shapes.iter().find(|(index, _)| *index == resource).map(|(_, shape)| shape)
    }

    /// Keys were fetched. Whether a key that was there before is missing now.
    pub(super) fn put_keys(&mut self, keys: KeySet, now: UnixTime) -> bool {
        let lost = self.keys.as_ref().is_some_and(|old| !old.is_contained_in(&keys));
        self.keys = Some(keys);
        self.failures = 0;
        self.fetched = now;
        self.due = now.plus(REFRESH);
        lost
    }

    /// Keys could not be fetched; what is there stays, unless it is too old. Whether it was.
    pub(super) fn put_failure(&mut self, now: UnixTime) -> bool {
        let pause = 1_u64.checked_shl(self.failures).unwrap_or(LONGEST_BACKOFF).min(LONGEST_BACKOFF);
        self.failures = self.failures.saturating_add(1);
        self.due = now.plus(Duration::from_secs(pause));
        let too_old = self.keys.is_some() && now.since(self.fetched) > OLDEST_KEYS;
        if too_old {
            self.keys = None;
        }
        too_old
    }

    /// How long until keys are fetched again, if a fetch has failed just now.
    pub(super) fn pause(&self, now: UnixTime) -> Option<Duration> {
        (self.failures > 0 && now < self.due).then(|| self.due.since(now))
    }

    /// Whether a `kid` that is not in the set may wait for a fetch: for one that is under way, or for one of its own.
    pub(super) fn may_refetch(&self, now: UnixTime) -> bool {
        self.fetching || (now >= self.refetch_from && self.pause(now).is_none())
    }

    /// A fetch has been started because of an unknown `kid`: for a while there is no other for that reason.
    pub(super) fn refetching(&mut self, now: UnixTime) {
        self.refetch_from = now.plus(REFETCH);
    }
}

impl Verified {
    pub(super) fn new(
        provider: usize,
        caller: Caller,
        scopes: Vec<String>,
        expires: UnixTime,
        leeway: Duration,
    ) -> Self {
        Self { provider, caller, scopes, expires, accepted_until: expires.plus(leeway), keys: RefCell::default() }
    }

    /// The key of its exchanged token for a resource; `make` is called the first time.
    pub(super) fn key_for(&self, resource: usize, make: impl FnOnce() -> TokenKey) -> TokenKey {
        let mut keys = self.keys.borrow_mut();
        if let Some((_, key)) = keys.iter().find(|(index, _)| *index == resource) {
            return *key;
        }
        let key = make();
        keys.push((resource, key));
        key
    }
}

/// What a [`TokenKey`] is made of, except for the subject token.
#[derive(Clone)]
pub(super) struct Shape(hmac_sha256::Hash);

impl Shape {
    /// Each part with its length in front, so that no two lists of parts give the same input.
    pub(super) fn of(parts: &[&str]) -> Self {
        let mut hash = hmac_sha256::Hash::new();
        for part in parts {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        Self(hash)
    }
}

impl TokenKey {
    /// SHA-256 over the shape and a verified subject token.
    ///
    /// The token stands there by its signature: under the keys of one issuer no two contents have the same, unless
    /// someone finds two with the same hash, so it commits to every byte that was signed, at a third of the length.
    pub(super) fn of(shape: &Shape, subject: &str) -> Self {
        let mut hash = shape.0;
        hash.update(subject.rsplit('.').next().unwrap_or(subject));
        Self(hash.finalize())
    }
}

/// The last 32 bytes of a token: the end of its signature, which differs between any two tokens that were verified.
/// Only tokens that an issuer signed get into the map, so nobody can choose what collides there; and if two did, each
/// look-up compares every byte, so one would only have to be verified again.
type Tail = [u8; 32];

fn tail(token: &str) -> Tail {
    let mut tail = [0; 32];
    for (to, from) in tail.iter_mut().zip(token.as_bytes().iter().rev()) {
        *to = *from;
    }
    tail
}

/// Equality, eight bytes at a time: in wasm, the usual one looks at each byte by itself, and a token has a thousand.
fn is_same(one: &str, other: &str) -> bool {
    let ((one, rest_of_one), (other, rest_of_other)) =
        (one.as_bytes().as_chunks::<8>(), other.as_bytes().as_chunks::<8>());
    rest_of_one == rest_of_other
        && one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| u64::from_ne_bytes(*one) == u64::from_ne_bytes(*other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_the_same_only_byte_for_byte() {
        let token = "0123456789abcdefghij".repeat(10);
        assert!(is_same(&token, &token.clone()));
        assert!(is_same("", "") && !is_same("", "a") && !is_same("a", ""));
        for position in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[position] = b'-';
            assert!(!is_same(&token, std::str::from_utf8(&other).unwrap()), "{position}");
            assert!(!is_same(&token, token.get(..position).unwrap()), "{position}");
        }
    }

    #[test]
    fn a_token_with_anothers_tail_is_not_that_one() {
        let mut known = Known::new(1, 4, 4);
        let caller = Caller { user: "u".to_owned(), takes_claims_challenge: false };
        let verified = Rc::new(Verified::new(0, caller, Vec::new(), UnixTime::from_secs(1), Duration::ZERO));
        let signature = "s".repeat(40);
        known.remember(Role::Access, &format!("one.{signature}"), &verified);
        assert!(known.verified(Role::Access, &format!("one.{signature}")).is_some());
        assert!(known.verified(Role::Access, &format!("two.{signature}")).is_none());
        assert!(known.verified(Role::Id, &format!("one.{signature}")).is_none());
    }
}
