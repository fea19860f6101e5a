//! What a worker remembers: issuers, verified tokens, exchanged tokens and failed exchanges. All of it is bounded and
//! runs out.

use std::cell::RefCell;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use lru::LruCache;
use rustc_hash::FxBuildHasher;

use super::issuer::{Change, IssuerState};
use crate::config::Config;
use crate::idp::{Caller, Issued};
use crate::refusal::Refusal;
use crate::secret::Secret;
use crate::time::UnixTime;
use crate::token::{Claims, Confirmation, Header};

/// How many headers are remembered, and of what length: each is compared with that of every token.
const MOST_HEADERS: usize = 8;
const MOST_HEADER_BYTES: usize = 512;

/// How long before its end an exchanged token is not used any more.
const MARGIN: Duration = Duration::from_secs(30);

/// A provider is left in peace for all users for so long at most: one of them may have been the cause.
const LONGEST_THROTTLE: Duration = Duration::from_secs(60);

/// How much later than the token its subject must end for a next one to be worth a call.
const WORTH_RENEWING: Duration = Duration::from_secs(60);

/// For how long at least a token is not asked for again that is not needed yet.
const RENEWAL_PAUSE: Duration = Duration::from_secs(10);

pub(super) struct Known {
    issuers: Vec<IssuerState>,
    bearer_tokens: VerifiedTokens,
    id_tokens: VerifiedTokens,
    exchanges: Cache<TokenKey, Exchange>,
    /// By provider and tenant, until when it wants no exchange at all: there is a row for each that has said so.
    throttled: Vec<(usize, Option<String>, UnixTime)>,
    /// Headers of tokens that were verified, by their segment. There is one for each key that an issuer signs with.
    headers: Vec<(Box<str>, Rc<Header>)>,
}

/// A token that was found good.
pub(super) struct Verified {
    pub(super) provider: usize,
    pub(super) caller: Caller,
    /// Of its scopes, those that some resource asks for: a token may have thousands.
    pub(super) scopes: Vec<Rc<str>>,
    /// What whoever presents it must prove to have.
    pub(super) confirmation: Option<Confirmation>,
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
    Issued {
        authorization: Secret,
        until: UnixTime,
        /// When to ask for the next one, if that may be good for longer.
        renew_from: Option<UnixTime>,
    },
    Failed {
        refusal: Refusal,
        until: UnixTime,
    },
}

/// What a look-up for an exchanged token gives.
pub(super) enum Exchanged {
    Issued {
        /// The value for `authorization`.
        authorization: Secret,
        /// Whether it is time to ask for the next one.
        is_due: bool,
    },
    Failed(Refusal),
    Unknown,
}

/// Which of the two roles a verified token has. One token is never taken for the other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The one in `authorization`.
    Bearer,
    /// An ID token that comes beside it.
    Beside,
}

impl Known {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            issuers: config.providers.iter().map(|provider| IssuerState::new(provider, &config.shared_key)).collect(),
            bearer_tokens: VerifiedTokens::new(config.verified_tokens, config.verified_bytes),
            id_tokens: VerifiedTokens::new(config.verified_tokens, config.verified_bytes),
            headers: Vec::new(),
            throttled: Vec::new(),
            exchanges: cache(NonZeroUsize::new(config.exchanged_tokens).unwrap_or(NonZeroUsize::MIN)),
        }
    }

    pub(super) fn issuer(&self, provider: usize) -> Option<&IssuerState> {
        self.issuers.get(provider)
    }

    pub(super) fn issuer_mut(&mut self, provider: usize) -> Option<&mut IssuerState> {
        self.issuers.get_mut(provider)
    }

    /// Every issuer, in the order of the providers.
    pub(super) fn issuers(&self) -> &[IssuerState] {
        &self.issuers
    }

    /// Every span that was measured by the old clock ends.
    pub(super) fn clock_went_back(&mut self) {
        self.issuers.iter_mut().for_each(IssuerState::clock_went_back);
        self.throttled.clear();
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
        self.verified_tokens(role).get(token)
    }

    pub(super) fn remember(&mut self, role: Role, token: &str, verified: &Rc<Verified>) {
        self.verified_tokens(role).put(token, verified);
    }

    pub(super) fn forget(&mut self, role: Role, token: &str) {
        self.verified_tokens(role).remove(token);
    }

    /// A token that was verified with a key that is gone must not live on in the cache; and where tokens are exchanged is
    /// part of the key under which an exchanged one is kept.
    pub(super) fn take_in(&mut self, change: Change) {
        if change.lost {
            self.forget_verified();
        }
    }

    /// Every token must be verified again.
    pub(super) fn forget_verified(&mut self) {
        self.bearer_tokens.clear();
        self.id_tokens.clear();
    }

    const fn verified_tokens(&mut self, role: Role) -> &mut VerifiedTokens {
        match role {
            Role::Bearer => &mut self.bearer_tokens,
            Role::Beside => &mut self.id_tokens,
        }
    }

    pub(super) fn exchanged(&mut self, key: &TokenKey, now: UnixTime) -> Exchanged {
        match self.exchanges.get(key) {
            Some(Exchange::Issued { authorization, until, renew_from }) if now < *until => Exchanged::Issued {
                authorization: authorization.clone(),
                is_due: renew_from.is_some_and(|from| from <= now),
            },
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
        // One that ends with its subject would be followed by one that does, too.
        let is_worth_it = end.plus(WORTH_RENEWING) < subject_expires;
        let fifth = until.since(now).checked_div(5).unwrap_or_default();
        // Users who came at the same moment are not renewed at the same moment.
        let latest = until.minus(fifth).plus(key.share_of(fifth.checked_div(2).unwrap_or_default()));
        let wanted = issued.refresh_in.map_or(latest, |refresh_in| now.plus(refresh_in).min(latest));
        let renew_from = Some(wanted.max(now.plus(RENEWAL_PAUSE))).filter(|from| is_worth_it && *from < until);
        if let Some(Exchange::Issued { until: better, renew_from, .. }) = self.exchanges.peek_mut(&key)
            && now < *better
            && until < *better
        {
            // Some providers hand out less than they did.
            *renew_from = Some(now.plus(RENEWAL_PAUSE));
            return;
        }
        self.exchanges.put(key, Exchange::Issued { authorization, until, renew_from });
    }

    /// For how long a provider wants no exchange of a tenant's, for whomever.
    pub(super) fn throttled(&self, provider: usize, tenant: Option<&str>, now: UnixTime) -> Option<Duration> {
        let is = |row: &&(usize, Option<String>, UnixTime)| row.0 == provider && row.1.as_deref() == tenant;
        let (_, _, until) = self.throttled.iter().find(is)?;
        (now < *until).then(|| until.since(now))
    }

    /// A provider wants no exchange of a tenant's for `pause`.
    pub(super) fn throttle(&mut self, provider: usize, tenant: Option<&str>, pause: Duration, now: UnixTime) {
        let is_over = |until: UnixTime| until.plus(RENEWAL_PAUSE) < now;
        self.throttled.retain(|row| !is_over(row.2));
        let until = now.plus(pause.min(LONGEST_THROTTLE));
        let is_same = |row: &&mut (usize, Option<String>, UnixTime)| row.0 == provider && row.1.as_deref() == tenant;
        match self.throttled.iter_mut().find(is_same) {
            // Of two answers that were under way at once, the one that asks for more.
            Some(row) => row.2 = row.2.max(until),
            None => self.throttled.push((provider, tenant.map(str::to_owned), until)),
        }
    }

    /// Whether a token may be renewed now: some time after a provider has throttled, those who have none come first.
    pub(super) fn may_renew(&self, provider: usize, tenant: Option<&str>, key: &TokenKey, now: UnixTime) -> bool {
        let before = now.minus(key.share_of(RENEWAL_PAUSE));
        self.throttled(provider, tenant, before).is_none()
    }

    /// Remembers that there is no token, for `pause`. Where that says nothing of the token that is there and still good, it
    /// stays: there is only no next one yet.
    pub(super) fn put_failed(&mut self, key: TokenKey, refusal: Refusal, keeps: bool, pause: Duration, now: UnixTime) {
        if let Some(Exchange::Issued { until, renew_from, .. }) = self.exchanges.peek_mut(&key)
            && now < *until
            && keeps
        {
            *renew_from = Some(now.plus(pause.max(RENEWAL_PAUSE)));
            return;
        }
        self.exchanges.put(key, Exchange::Failed { refusal, until: now.plus(pause) });
    }
}

/// A cache that gives up first what was not used for longest. A light hash is enough: what is in it is a digest or a piece of
/// a signature, so nobody can choose what collides there.
type Cache<K, V> = LruCache<K, V, FxBuildHasher>;

/// An empty cache for so many, which takes memory as it fills.
fn cache<K: Eq + Hash, V>(most: NonZeroUsize) -> Cache<K, V> {
    let mut cache = LruCache::unbounded_with_hasher(FxBuildHasher);
    cache.resize(most);
    cache
}

/// Verified tokens, the one that was not used for longest given up first: bounded by number and by bytes.
struct VerifiedTokens {
    tokens: Option<Cache<Tail, Entry>>,
    bytes: usize,
    most_bytes: usize,
}

/// The whole token, and what it was found to be.
type Entry = (Box<str>, Rc<Verified>);

/// What an entry takes beside its token, roughly: itself, its claims, and where its exchanged tokens are.
const ENTRY_BYTES: usize = 400;

impl VerifiedTokens {
    fn new(most: usize, most_bytes: usize) -> Self {
        Self { tokens: NonZeroUsize::new(most).map(cache), bytes: 0, most_bytes }
    }

    fn get(&mut self, token: &str) -> Option<Rc<Verified>> {
        let (known, verified) = self.tokens.as_mut()?.get(&tail(token))?;
        is_same(known, token).then(|| verified.clone())
    }

    fn put(&mut self, token: &str, verified: &Rc<Verified>) {
        let Some(tokens) = &mut self.tokens else {
            return;
        };
        self.bytes = self.bytes.saturating_add(size(token));
        // What had its place, or was pushed out.
        let gone = tokens.push(tail(token), (token.into(), verified.clone()));
        self.bytes = self.bytes.saturating_sub(gone.map_or(0, |(_, (token, _))| size(&token)));
        while self.bytes > self.most_bytes {
            let Some((_, (token, _))) = tokens.pop_lru() else {
                return;
            };
            self.bytes = self.bytes.saturating_sub(size(&token));
        }
    }

    fn remove(&mut self, token: &str) {
        let gone = self.tokens.as_mut().and_then(|tokens| tokens.pop(&tail(token)));
        self.bytes = self.bytes.saturating_sub(gone.map_or(0, |(token, _)| size(&token)));
    }

    fn clear(&mut self) {
        self.tokens.iter_mut().for_each(Cache::clear);
        self.bytes = 0;
    }
}

const fn size(token: &str) -> usize {
    token.len().saturating_add(ENTRY_BYTES)
}

impl Verified {
    /// `scopes`: those that resources ask for.
    pub(super) fn new(
        provider: usize,
        caller: Caller,
        claims: Claims<'_>,
        scopes: &[Rc<str>],
        leeway: Duration,
    ) -> Self {
        let granted = claims.scopes.unwrap_or_default();
        Self {
            provider,
            caller,
            scopes: scopes.iter().filter(|scope| granted.contains(&&***scope)).cloned().collect(),
            confirmation: claims.confirmation,
            expires: claims.expires,
            accepted_until: claims.expires.plus(leeway),
            keys: RefCell::default(),
        }
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
    pub(super) fn of<'a>(parts: impl Iterator<Item = &'a str>) -> Self {
        let mut hash = hmac_sha256::Hash::new();
        for part in parts {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        Self(hash)
    }
}

/// So many characters of base64url are 254 bits of a signature at least.
const SIGNATURE_END: usize = 43;

impl TokenKey {
    /// A part of `span` that is another for each key.
    fn share_of(&self, span: Duration) -> Duration {
        let [first, ..] = self.0;
        span.saturating_mul(first.into()).checked_div(u8::MAX.into()).unwrap_or_default()
    }

    /// SHA-256 over the shape and a verified subject token.
    ///
    /// The token stands there by the end of its signature, which is one block to hash instead of a dozen. Whoever cannot sign
    /// cannot choose it, and an issuer would have to sign some 2^127 tokens to give two of them the same.
    pub(super) fn of(shape: &Shape, subject: &str) -> Self {
        let mut hash = shape.0;
        hash.update(subject.as_bytes().last_chunk::<SIGNATURE_END>().map_or(subject.as_bytes(), |end| end));
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

    fn verified() -> Rc<Verified> {
        let claims = crate::json::object(br#"{"iss":"i","aud":"a","exp":1}"#).unwrap();
        let caller = Caller { user: "u".to_owned(), tenant: None, takes_claims_challenge: false };
        Rc::new(Verified::new(0, caller, Claims::read(&claims).unwrap(), &[], Duration::ZERO))
    }

    #[test]
    fn of_thousands_of_scopes_those_are_kept_that_resources_ask_for() {
        let text = format!(r#"{{"iss":"i","aud":"a","exp":1,"scp":"{} mcp.read"}}"#, "a mcp.read ".repeat(1000));
        let claims = crate::json::object(text.as_bytes()).unwrap();
        let caller = Caller { user: "u".to_owned(), tenant: None, takes_claims_challenge: false };
        let asked: [Rc<str>; 2] = ["mcp.read".into(), "mcp.write".into()];
        let verified = Verified::new(0, caller, Claims::read(&claims).unwrap(), &asked, Duration::ZERO);
        assert_eq!(verified.scopes, ["mcp.read".into()]);
    }

    fn token(number: usize) -> String {
        format!("{number:04}.{}.{number:040}", "t".repeat(55))
    }

    #[test]
    fn a_token_with_anothers_tail_is_not_that_one() {
        let mut known = VerifiedTokens::new(4, 1_000_000);
        let signature = "s".repeat(40);
        known.put(&format!("one.{signature}"), &verified());
        assert!(known.get(&format!("one.{signature}")).is_some());
        assert!(known.get(&format!("two.{signature}")).is_none());
    }

    #[test]
    fn the_token_that_was_not_used_for_longest_goes_first() {
        let mut known = VerifiedTokens::new(3, 1_000_000);
        (0..3).for_each(|number| known.put(&token(number), &verified()));
        assert!(known.get(&token(0)).is_some());
        known.put(&token(3), &verified());
        let kept: Vec<bool> = (0..4).map(|number| known.get(&token(number)).is_some()).collect();
        assert_eq!(kept, [true, false, true, true]);
    }

    #[test]
    fn tokens_take_no_more_bytes_than_they_may() {
        let each = size(&token(0));
        let mut known = VerifiedTokens::new(1000, 5 * each);
        for number in 0..100 {
            known.put(&token(number), &verified());
            assert_eq!(known.bytes, (number + 1).min(5) * each);
        }
        let kept: Vec<usize> = (0..100).filter(|number| known.get(&token(*number)).is_some()).collect();
        assert_eq!(kept, [95, 96, 97, 98, 99]);
        // Again in place of itself, then away.
        known.put(&token(99), &verified());
        assert_eq!(known.bytes, 5 * each);
        known.remove(&token(99));
        known.remove(&token(99));
        assert_eq!(known.bytes, 4 * each);
        known.put(&"x".repeat(6 * each), &verified());
        assert_eq!(known.bytes, 0, "what is larger than all may be is not kept, and nothing for it");
        known.clear();
        assert_eq!(known.bytes, 0);
    }

    #[test]
    fn a_cache_of_none_keeps_none() {
        let mut known = VerifiedTokens::new(0, 1_000_000);
        known.put(&token(0), &verified());
        assert!(known.get(&token(0)).is_none());
        assert_eq!(known.bytes, 0);
    }
}
