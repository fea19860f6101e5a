//! Cache of verified tokens, bounded by number and by bytes.

use std::cell::RefCell;
use std::hash::BuildHasher as _;
use std::num::NonZeroUsize;
use std::rc::Rc;

use rustc_hash::{FxBuildHasher, FxHashSet};

use crate::cache::exchanged_tokens::TokenKey;
use crate::cache::lru::{Lru, cache};
use crate::jose::{ActorClaim, Claims, Confirmation};
use crate::provider::{Caller, Provider};
use crate::resource::ResourceId;
use crate::resource::admission::Admission;
use crate::telemetry::CallerFacts;
use crate::time::UnixTime;

/// Approximate memory of an entry without its token, in bytes: claims, facts for the log, keys of its exchanged tokens.
const ENTRY_BYTES: usize = 600;

/// Token whose signature and claims were verified. It may have expired since.
pub(crate) struct VerifiedToken {
    /// Provider that issued it.
    pub(crate) provider: Rc<Provider>,
    /// `iss`, if the provider has several issuers.
    pub(crate) issuer: Option<Rc<str>>,
    /// User, tenant and client.
    pub(crate) identity: Caller,
    /// Hash of the user, the same for all tokens of that user.
    pub(crate) user: UserFingerprint,
    /// Resources that the token is for. The caller of [`new`](Self::new) sets it; until then there is none.
    pub(crate) admission: Admission,
    /// Scopes of the token that some resource requires. A token may have thousands of others.
    pub(crate) scopes: Vec<Rc<str>>,
    /// `cnf`: key or certificate that the token is bound to (RFC 7800).
    pub(crate) confirmation: Option<Confirmation>,
    /// `may_act`: party that may act for the user (RFC 8693 section 4.4).
    pub(crate) may_act: Option<Box<ActorClaim>>,
    /// Required claim that the token lacks. The caller of [`new`](Self::new) sets it.
    pub(crate) missing_claim: Option<Rc<str>>,
    /// `exp`.
    pub(crate) expires: UnixTime,
    /// `exp` and the clock skew that the provider is configured with.
    pub(crate) accepted_until: UnixTime,
    /// Resources that were requested with it.
    uses: RefCell<Vec<Use>>,
}

/// Hash of a provider and its user. Two users with the same hash count as one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserFingerprint(u64);

/// Resource that was requested with a token, and facts that hold for all of these requests.
#[derive(Default)]
struct Use {
    resource: ResourceId,
    /// Cache key of the exchanged token.
    key: Option<TokenKey>,
    /// Facts for the log and for filter state.
    facts: Option<CallerFacts>,
    /// A request was forwarded without an exchange.
    is_forwarded: bool,
}

/// Verified tokens of one worker and one role, bounded by number and by bytes. The least recently used one is evicted.
pub(crate) struct VerifiedTokenCache {
    /// `None`: the maximum number is 0.
    tokens: Option<Lru<Tail, Entry>>,
    bytes: usize,
    max_bytes: usize,
}

/// Whole token and the result of its verification.
type Entry = (Box<str>, Rc<VerifiedToken>);

impl VerifiedTokenCache {
    /// Empty cache for at most `max` tokens, and at most `max_bytes` of memory.
    pub(crate) fn new(max: usize, max_bytes: usize) -> Self {
        Self { tokens: NonZeroUsize::new(max).map(cache), bytes: 0, max_bytes }
    }

    /// Looks up a token. The result may have expired.
    pub(crate) fn get(&mut self, token: &str) -> Option<Rc<VerifiedToken>> {
        let (known, verified) = self.tokens.as_mut()?.get(&tail(token))?;
        is_same(known, token).then(|| verified.clone())
    }

    /// Stores a token. One that alone is larger than `max_bytes` is not kept.
    pub(crate) fn put(&mut self, token: &str, verified: &Rc<VerifiedToken>) {
        let Some(tokens) = &mut self.tokens else {
            return;
        };
        self.bytes = self.bytes.saturating_add(size(token));
        let replaced_or_evicted = tokens.push(tail(token), (token.into(), verified.clone()));
        self.bytes = self.bytes.saturating_sub(replaced_or_evicted.map_or(0, |(_, (token, _))| size(&token)));
        while self.bytes > self.max_bytes {
            let Some((_, (token, _))) = tokens.pop_lru() else {
                return;
            };
            self.bytes = self.bytes.saturating_sub(size(&token));
        }
    }

    /// Removes a token.
    pub(crate) fn remove(&mut self, token: &str) {
        let removed = self.tokens.as_mut().and_then(|tokens| tokens.pop(&tail(token)));
        self.bytes = self.bytes.saturating_sub(removed.map_or(0, |(token, _)| size(&token)));
    }

    /// Removes all tokens.
    pub(crate) fn clear(&mut self) {
        self.tokens.iter_mut().for_each(Lru::clear);
        self.bytes = 0;
    }
}

const fn size(token: &str) -> usize {
    token.len().saturating_add(ENTRY_BYTES)
}

impl VerifiedToken {
    /// Token with these verified `claims`. Of its scopes, those among `scopes` are kept: the scopes that resources require.
    pub(crate) fn new(
        provider: &Rc<Provider>,
        identity: Caller,
        claims: Claims<'_>,
        scopes: &FxHashSet<Rc<str>>,
    ) -> Self {
        let granted = claims.scopes;
        // A scope may stand in the token any number of times.
        let known: FxHashSet<&Rc<str>> = granted.iter().filter_map(|scope| scopes.get(*scope)).collect();
        Self {
            provider: provider.clone(),
            issuer: None,
            user: UserFingerprint(FxBuildHasher.hash_one((provider.id, &identity.user))),
            identity,
            admission: Admission::default(),
            scopes: known.into_iter().cloned().collect(),
            confirmation: claims.confirmation,
            may_act: claims.may_act.map(Box::new),
            missing_claim: None,
            expires: claims.expires,
            accepted_until: claims.expires.plus(provider.leeway),
            uses: RefCell::default(),
        }
    }

    /// Cache key of its exchanged token for a resource; `make` is called the first time.
    pub(crate) fn key_for(&self, resource: ResourceId, make: impl FnOnce() -> TokenKey) -> TokenKey {
        self.with_use(resource, |at| *at.key.get_or_insert_with(make))
    }

    /// Facts about its requests to a resource; `make` is called the first time.
    pub(crate) fn facts_at(&self, resource: ResourceId, make: impl FnOnce() -> CallerFacts) -> CallerFacts {
        self.with_use(resource, |at| at.facts.get_or_insert_with(make).clone())
    }

    /// Marks a request that is forwarded to a resource without an exchange. Returns `true` the first time.
    pub(crate) fn is_first_at(&self, resource: ResourceId) -> bool {
        self.with_use(resource, |at| !std::mem::replace(&mut at.is_forwarded, true))
    }

    fn with_use<T>(&self, resource: ResourceId, act: impl FnOnce(&mut Use) -> T) -> T {
        let mut uses = self.uses.borrow_mut();
        if let Some(at) = uses.iter_mut().find(|at| at.resource == resource) {
            return act(at);
        }
        let mut at = Use { resource, ..Use::default() };
        let found = act(&mut at);
        uses.push(at);
        found
    }
}

/// Last 32 bytes of a token: the end of its signature, which differs between any two verified tokens. Only tokens that an issuer
/// has signed are in the map, so that a caller cannot choose keys that collide. If two tokens collided, one of them would be
/// verified again: a look-up compares every byte.
type Tail = [u8; 32];

fn tail(token: &str) -> Tail {
    let mut tail = [0; 32];
    for (to, from) in tail.iter_mut().zip(token.as_bytes().iter().rev()) {
        *to = *from;
    }
    tail
}

/// Returns `true` if two tokens are equal. It compares eight bytes at a time: in wasm, the comparison of `str` takes a step for
/// each byte, and a token has a thousand. It need not take constant time: only a token with the same end of a signature gets here.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
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

    fn verified_with(claims: &str, scopes: &[Rc<str>]) -> Rc<VerifiedToken> {
        let configuration =
            br#"{"shared_data_secret": {"inline": "0123456789abcdef0123456789abcdef"}, "identity_providers": {"p":
            {"profile": "validate_only", "issuer": "https://i.example", "cluster": "c", "audiences": ["a"]}},
            "resources": [{"url": "https://r.example", "exchange": {"p": {}}}]}"#;
        let config = crate::config::Config::parse(configuration, &|_| None).unwrap();
        let claims = crate::json::object(claims.as_bytes()).unwrap();
        let caller = Caller { user: "u".to_owned(), tenant: None, client: None, takes_claims_challenge: false };
        Rc::new(VerifiedToken::new(
            &config.providers[0],
            caller,
            Claims::read(&claims).unwrap(),
            &scopes.iter().cloned().collect(),
        ))
    }

    fn verified() -> Rc<VerifiedToken> {
        verified_with(r#"{"iss":"i","aud":"a","exp":1}"#, &[])
    }

    #[test]
    fn of_thousands_of_scopes_those_are_kept_that_resources_ask_for() {
        let text = format!(r#"{{"iss":"i","aud":"a","exp":1,"scp":"{} mcp.read"}}"#, "a mcp.read ".repeat(1000));
        let asked: [Rc<str>; 2] = ["mcp.read".into(), "mcp.write".into()];
        let verified = verified_with(&text, &asked);
        assert_eq!(verified.scopes, ["mcp.read".into()]);
    }

    fn token(number: usize) -> String {
        format!("{number:04}.{}.{number:040}", "t".repeat(55))
    }

    #[test]
    fn a_token_with_anothers_tail_is_not_that_one() {
        let mut known = VerifiedTokenCache::new(4, 1_000_000);
        let signature = "s".repeat(40);
        known.put(&format!("one.{signature}"), &verified());
        assert!(known.get(&format!("one.{signature}")).is_some());
        assert!(known.get(&format!("two.{signature}")).is_none());
    }

    #[test]
    fn the_token_that_was_not_used_for_longest_goes_first() {
        let mut known = VerifiedTokenCache::new(3, 1_000_000);
        (0..3).for_each(|number| known.put(&token(number), &verified()));
        assert!(known.get(&token(0)).is_some());
        known.put(&token(3), &verified());
        let kept: Vec<bool> = (0..4).map(|number| known.get(&token(number)).is_some()).collect();
        assert_eq!(kept, [true, false, true, true]);
    }

    #[test]
    fn tokens_take_no_more_bytes_than_they_may() {
        let each = size(&token(0));
        let mut known = VerifiedTokenCache::new(1000, 5 * each);
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
        let mut known = VerifiedTokenCache::new(0, 1_000_000);
        known.put(&token(0), &verified());
        assert!(known.get(&token(0)).is_none());
        assert_eq!(known.bytes, 0);
    }
}
