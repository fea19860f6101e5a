//! Verified tokens: bounded by number and by bytes.

use std::cell::RefCell;
use std::hash::BuildHasher as _;
use std::num::NonZeroUsize;
use std::rc::Rc;

use rustc_hash::FxBuildHasher;

use crate::cache::exchanged_tokens::TokenKey;
use crate::cache::lru::{Lru, cache};
use crate::jose::{ActorClaim, Claims, Confirmation};
use crate::provider::{Caller, Provider};
use crate::resource::ResourceId;
use crate::resource::admission::Admission;
use crate::telemetry::CallerFacts;
use crate::time::UnixTime;

/// A token that was found good.
pub(crate) struct VerifiedToken {
    pub(crate) provider: Rc<Provider>,
    /// `iss` in the provider's own spelling, where it has several issuers.
    pub(crate) issuer: Option<Rc<str>>,
    /// User, tenant and client that the token names.
    pub(crate) identity: Caller,
    /// By what the user is known again, with whichever token.
    pub(crate) user: UserFingerprint,
    /// At which resources it may be used; nowhere, until it is said.
    pub(crate) admission: Admission,
    /// Of its scopes, those that some resource asks for: a token may have thousands.
    pub(crate) scopes: Vec<Rc<str>>,
    /// What whoever presents it must prove to have.
    pub(crate) confirmation: Option<Confirmation>,
    /// Who may act for its user, if it says so.
    pub(crate) may_act: Option<Box<ActorClaim>>,
    /// `exp`.
    pub(crate) expires: UnixTime,
    /// `exp` and the leeway.
    pub(crate) accepted_until: UnixTime,
    /// Each resource that was asked for with it.
    uses: RefCell<Vec<Use>>,
}

/// A user of a provider, by a light hash: where two users have the same, they count as one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserFingerprint(u64);

/// A resource that was asked for with a token, and what was found out once for all requests.
#[derive(Default)]
struct Use {
    resource: ResourceId,
    /// Where its exchanged token is.
    key: Option<TokenKey>,
    /// Who is calling what.
    facts: Option<CallerFacts>,
    /// Whether it went on without an exchange.
    is_forwarded: bool,
}

/// Verified tokens, the one that was not used for longest given up first: bounded by number and by bytes.
pub(crate) struct VerifiedTokenCache {
    tokens: Option<Lru<Tail, Entry>>,
    bytes: usize,
    most_bytes: usize,
}

/// The whole token, and what it was found to be.
type Entry = (Box<str>, Rc<VerifiedToken>);

/// What an entry takes beside its token, roughly: itself, its claims, and where its exchanged tokens are.
const ENTRY_BYTES: usize = 600;

impl VerifiedTokenCache {
    pub(crate) fn new(most: usize, most_bytes: usize) -> Self {
        Self { tokens: NonZeroUsize::new(most).map(cache), bytes: 0, most_bytes }
    }

    pub(crate) fn get(&mut self, token: &str) -> Option<Rc<VerifiedToken>> {
        let (known, verified) = self.tokens.as_mut()?.get(&tail(token))?;
        is_same(known, token).then(|| verified.clone())
    }

    pub(crate) fn put(&mut self, token: &str, verified: &Rc<VerifiedToken>) {
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

    pub(crate) fn remove(&mut self, token: &str) {
        let gone = self.tokens.as_mut().and_then(|tokens| tokens.pop(&tail(token)));
        self.bytes = self.bytes.saturating_sub(gone.map_or(0, |(token, _)| size(&token)));
    }

    pub(crate) fn clear(&mut self) {
        self.tokens.iter_mut().for_each(Lru::clear);
        self.bytes = 0;
    }
}

const fn size(token: &str) -> usize {
    token.len().saturating_add(ENTRY_BYTES)
}

impl VerifiedToken {
    /// `scopes`: those that resources ask for.
    pub(crate) fn new(provider: &Rc<Provider>, identity: Caller, claims: Claims<'_>, scopes: &[Rc<str>]) -> Self {
        let granted = claims.scopes.unwrap_or_default();
        Self {
            provider: provider.clone(),
            issuer: None,
            user: UserFingerprint(FxBuildHasher.hash_one((provider.id, &identity.user))),
            identity,
            admission: Admission::default(),
            scopes: scopes.iter().filter(|scope| granted.contains(&&***scope)).cloned().collect(),
            confirmation: claims.confirmation,
            may_act: claims.may_act.map(Box::new),
            expires: claims.expires,
            accepted_until: claims.expires.plus(provider.leeway),
            uses: RefCell::default(),
        }
    }

    /// The key of its exchanged token for a resource; `make` is called the first time.
    pub(crate) fn key_for(&self, resource: ResourceId, make: impl FnOnce() -> TokenKey) -> TokenKey {
        self.at(resource, |at| *at.key.get_or_insert_with(make))
    }

    /// Who is calling a resource with it; `make` is called the first time.
    pub(crate) fn facts_at(&self, resource: ResourceId, make: impl FnOnce() -> CallerFacts) -> CallerFacts {
        self.at(resource, |at| at.facts.get_or_insert_with(make).clone())
    }

    /// Whether it is the first time that this is asked for a resource: when it goes on to that without an exchange.
    pub(crate) fn is_first_at(&self, resource: ResourceId) -> bool {
        self.at(resource, |at| !std::mem::replace(&mut at.is_forwarded, true))
    }

    fn at<T>(&self, resource: ResourceId, act: impl FnOnce(&mut Use) -> T) -> T {
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
            br#"{"shared_secret": {"inline": "0123456789abcdef0123456789abcdef"}, "identity_providers": {"p":
            {"profile": "none", "issuer": "https://i.example", "cluster": "c", "audiences": ["a"]}},
            "resources": [{"url": "https://r.example", "exchange": {"p": {}}}]}"#;
        let config = crate::config::Config::parse(configuration, &|_| None).unwrap();
        let claims = crate::json::object(claims.as_bytes()).unwrap();
        let caller = Caller { user: "u".to_owned(), tenant: None, client: None, takes_claims_challenge: false };
        Rc::new(VerifiedToken::new(&config.providers[0], caller, Claims::read(&claims).unwrap(), scopes))
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
