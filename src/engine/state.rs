//! State of a worker: JWKS caches, verified and exchanged tokens, circuit breakers, nonces. Every part is bounded and expires.

use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::cache::circuit_breaker::CircuitBreakers;
use crate::cache::exchanged_tokens::ExchangedTokenCache;
use crate::cache::jwks::{JwksCache, JwksChange};
use crate::cache::rejected_tokens::RejectedTokens;
use crate::cache::verified_tokens::{VerifiedToken, VerifiedTokenCache, is_same};
use crate::config::Config;
use crate::dpop::NonceCache;
use crate::engine::need::TokenNeed;
use crate::jose::Header;
use crate::provider::{Provider, ProviderId};
use crate::resource::ResourceId;
use crate::shared::SharedKey;

/// Maximum number of JOSE headers in the cache. Each is compared with that of every token.
const MAX_HEADERS: usize = 8;

/// Maximum length of a JOSE header in the cache, in bytes.
const MAX_HEADER_BYTES: usize = 512;

/// State of a worker.
pub(super) struct WorkerState {
    shared_key: Rc<SharedKey>,
    jwks: FxHashMap<ProviderId, JwksCache>,
    credentials: VerifiedTokenCache,
    subject_tokens: VerifiedTokenCache,
    pub(super) exchanged_tokens: ExchangedTokenCache,
    pub(super) circuit_breakers: CircuitBreakers,
    pub(super) nonces: NonceCache,
    pub(super) rejected_tokens: RejectedTokens,
    /// Exchanges that have succeeded for somebody. There are no more than the configuration has.
    worked: FxHashSet<(ResourceId, ProviderId)>,
    /// Headers of verified tokens, by their segment. There is one for each key that an issuer signs with.
    headers: Vec<(Box<str>, Rc<Header>)>,
    /// `true` once this VM has had a request. The VM of Envoy's main thread never has one.
    serves: bool,
}

/// Role of a verified token. A token that was verified in one role is not accepted in the other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenRole {
    /// Token in `authorization`.
    Credential,
    /// ID token in a header field or cookie, which is exchanged in place of the credential.
    SubjectToken,
}

impl WorkerState {
    /// Empty state, with a JWKS cache for each provider.
    pub(super) fn new(config: &Config) -> Self {
        let jwks = |provider: &Rc<Provider>| (provider.id, JwksCache::new(provider, &config.shared_key));
        Self {
            shared_key: config.shared_key.clone(),
            jwks: config.providers.iter().map(jwks).collect(),
            credentials: VerifiedTokenCache::new(config.verified_tokens, config.verified_bytes),
            subject_tokens: VerifiedTokenCache::new(config.verified_tokens, config.verified_bytes),
            exchanged_tokens: ExchangedTokenCache::new(config.exchanged_tokens, config.exchanged_bytes),
            circuit_breakers: CircuitBreakers::default(),
            nonces: NonceCache::default(),
            rejected_tokens: RejectedTokens::new(config.exchanged_tokens),
            worked: FxHashSet::default(),
            headers: Vec::new(),
            serves: false,
        }
    }

    /// Remembers that the exchange has succeeded, in this worker or in one that shares its token.
    pub(super) fn remember_success(&mut self, need: &TokenNeed) {
        self.worked.insert((need.resource.id, need.provider().id));
    }

    /// Returns `true` if the same exchange has succeeded for somebody since the configuration was loaded. A restart and a new
    /// configuration begin anew.
    pub(super) fn has_worked(&self, need: &TokenNeed) -> bool {
        self.worked.contains(&(need.resource.id, need.provider().id))
    }

    /// JWKS cache of a provider.
    pub(super) fn jwks(&mut self, provider: &Provider) -> &mut JwksCache {
        let Self { jwks, shared_key, serves, .. } = self;
        jwks.entry(provider.id).or_insert_with(|| {
            let mut cache = JwksCache::new(provider, shared_key);
            cache.serves = *serves;
            cache
        })
    }

    /// Marks this VM as one that has requests.
    pub(super) fn serve(&mut self) {
        if !self.serves {
            self.serves = true;
            self.jwks.values_mut().for_each(|jwks| jwks.serves = true);
        }
    }

    /// Ends every span that was measured by the old clock.
    pub(super) fn clock_went_back(&mut self) {
        self.jwks.values_mut().for_each(JwksCache::clock_went_back);
        self.exchanged_tokens.clock_went_back();
        self.circuit_breakers.clock_went_back();
        self.rejected_tokens.clock_went_back();
    }

    /// Header that the first segment of a token stands for, if a token with that segment was verified before.
    pub(super) fn header(&self, segment: &str) -> Option<Rc<Header>> {
        self.headers.iter().find(|(known, _)| is_same(known, segment)).map(|(_, header)| header.clone())
    }

    /// Caches the header of a verified token.
    pub(super) fn remember_header(&mut self, segment: &str, header: &Rc<Header>) {
        if segment.len() <= MAX_HEADER_BYTES && self.header(segment).is_none() {
            if self.headers.len() >= MAX_HEADERS {
                self.headers.remove(0);
            }
            self.headers.push((segment.into(), header.clone()));
        }
    }

    /// Verified token in that role, expired or not.
    pub(super) fn verified(&mut self, role: TokenRole, token: &str) -> Option<Rc<VerifiedToken>> {
        self.verified_tokens(role).get(token)
    }

    /// Caches a verified token.
    pub(super) fn remember(&mut self, role: TokenRole, token: &str, verified: &Rc<VerifiedToken>) {
        self.verified_tokens(role).put(token, verified);
    }

    /// Removes a verified token.
    pub(super) fn forget(&mut self, role: TokenRole, token: &str) {
        self.verified_tokens(role).remove(token);
    }

    /// Removes what rests on a key that was withdrawn. A token that was verified with it must not stay in the cache.
    pub(super) fn apply_change(&mut self, change: JwksChange) {
        if change.invalidates_tokens {
            self.forget_verified();
        }
    }

    /// Removes all verified tokens: each is verified again.
    pub(super) fn forget_verified(&mut self) {
        self.credentials.clear();
        self.subject_tokens.clear();
    }

    const fn verified_tokens(&mut self, role: TokenRole) -> &mut VerifiedTokenCache {
        match role {
            TokenRole::Credential => &mut self.credentials,
            TokenRole::SubjectToken => &mut self.subject_tokens,
        }
    }
}
