//! What a worker remembers: issuers, verified tokens, exchanged tokens and failed exchanges. All of it is bounded and
//! runs out.

use std::rc::Rc;

use crate::cache::circuit_breaker::CircuitBreakers;
use crate::cache::exchanged_tokens::ExchangedTokenCache;
use crate::cache::jwks::{JwksCache, JwksChange};
use crate::cache::rejected_tokens::RejectedTokens;
use crate::cache::verified_tokens::{VerifiedToken, VerifiedTokenCache, is_same};
use crate::config::Config;
use crate::dpop::NonceCache;
use crate::jose::Header;

/// How many headers are remembered, and of what length: each is compared with that of every token.
const MOST_HEADERS: usize = 8;
const MOST_HEADER_BYTES: usize = 512;

pub(super) struct WorkerState {
    issuers: Vec<JwksCache>,
    bearer_tokens: VerifiedTokenCache,
    id_tokens: VerifiedTokenCache,
    pub(super) exchanges: ExchangedTokenCache,
    pub(super) circuits: CircuitBreakers,
    pub(super) nonces: NonceCache,
    pub(super) rejections: RejectedTokens,
    /// Headers of tokens that were verified, by their segment. There is one for each key that an issuer signs with.
    headers: Vec<(Box<str>, Rc<Header>)>,
    /// This VM has had a request. That of Envoy's main thread never has.
    serves: bool,
}

/// Which of the two roles a verified token has. One token is never taken for the other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenRole {
    /// The one in `authorization`.
    Bearer,
    /// An ID token that comes beside it.
    Beside,
}

impl WorkerState {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            issuers: config.providers.iter().map(|provider| JwksCache::new(provider, &config.shared_key)).collect(),
            bearer_tokens: VerifiedTokenCache::new(config.verified_tokens, config.verified_bytes),
            id_tokens: VerifiedTokenCache::new(config.verified_tokens, config.verified_bytes),
            headers: Vec::new(),
            serves: false,
            exchanges: ExchangedTokenCache::new(config.exchanged_tokens, config.exchanged_bytes),
            circuits: CircuitBreakers::default(),
            nonces: NonceCache::default(),
            rejections: RejectedTokens::new(config.exchanged_tokens, config.resources.len()),
        }
    }

    pub(super) fn issuer(&self, provider: usize) -> Option<&JwksCache> {
        self.issuers.get(provider)
    }

    pub(super) fn issuer_mut(&mut self, provider: usize) -> Option<&mut JwksCache> {
        self.issuers.get_mut(provider)
    }

    /// Every issuer, in the order of the providers.
    pub(super) fn issuers(&self) -> &[JwksCache] {
        &self.issuers
    }

    /// A request has come to this VM.
    pub(super) fn serve(&mut self) {
        if !self.serves {
            self.serves = true;
            self.issuers.iter_mut().for_each(|issuer| issuer.serves = true);
        }
    }

    /// Every span that was measured by the old clock ends.
    pub(super) fn clock_went_back(&mut self) {
        self.issuers.iter_mut().for_each(JwksCache::clock_went_back);
        self.exchanges.clock_went_back();
        self.circuits.clock_went_back();
        self.rejections.clock_went_back();
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
    pub(super) fn verified(&mut self, role: TokenRole, token: &str) -> Option<Rc<VerifiedToken>> {
        self.verified_tokens(role).get(token)
    }

    pub(super) fn remember(&mut self, role: TokenRole, token: &str, verified: &Rc<VerifiedToken>) {
        self.verified_tokens(role).put(token, verified);
    }

    pub(super) fn forget(&mut self, role: TokenRole, token: &str) {
        self.verified_tokens(role).remove(token);
    }

    /// A token that was verified with a key that is gone must not live on in the cache; and where tokens are exchanged is
    /// part of the key under which an exchanged one is kept.
    pub(super) fn apply_change(&mut self, change: JwksChange) {
        if change.lost {
            self.forget_verified();
        }
    }

    /// Every token must be verified again.
    pub(super) fn forget_verified(&mut self) {
        self.bearer_tokens.clear();
        self.id_tokens.clear();
    }

    const fn verified_tokens(&mut self, role: TokenRole) -> &mut VerifiedTokenCache {
        match role {
            TokenRole::Bearer => &mut self.bearer_tokens,
            TokenRole::Beside => &mut self.id_tokens,
        }
    }
}
