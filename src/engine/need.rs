//! Needs: what a request lacks and must wait for.

use std::rc::Rc;

use crate::cache::circuit_breaker::BreakerKey;
use crate::cache::exchanged_tokens::{SubjectExpiry, TokenKey};
use crate::cache::verified_tokens::VerifiedToken;
use crate::engine::audit::AuditContext;
use crate::provider::{Provider, ProviderId, TokenExchangeTarget};
use crate::resource::{Resource, ResourceExchange};
use crate::secret::Secret;
use crate::telemetry::CacheOutcome;

/// Fact that a request lacks.
pub(super) enum Need {
    /// Keys of a provider.
    Jwks {
        /// Provider whose token the request brought.
        provider: Rc<Provider>,
        /// `true` if there are keys, but none that verifies the token.
        is_refetch: bool,
    },
    /// Exchanged token.
    Token(Rc<TokenNeed>),
}

/// Exchanged token that a request lacks.
pub(super) struct TokenNeed {
    /// Key of the token in the caches.
    pub(super) key: TokenKey,
    pub(super) resource: Rc<Resource>,
    pub(super) exchange: Rc<ResourceExchange>,
    /// Target of `exchange`.
    pub(super) target: Rc<TokenExchangeTarget>,
    /// Token in `authorization`.
    pub(super) caller: Rc<VerifiedToken>,
    /// `true` if a token is in use, which this one follows before it ends.
    pub(super) is_renewal: bool,
    /// `subject_token` of the token exchange.
    pub(super) subject_token: Secret,
    /// `true` if the subject token is an ID token.
    pub(super) is_id_token: bool,
    /// Client assertion, where requests bring it.
    pub(super) assertion: Option<Secret>,
    /// Claims that the upstream demands in the token: JSON text, see [`SubjectInput::claims`](crate::provider::SubjectInput).
    pub(super) claims: Option<Box<str>>,
    pub(super) subject_ends: SubjectExpiry,
    /// Actor token, where requests bring it.
    pub(super) actor_token: Option<Secret>,
}

/// Identity of a fetch. Two needs with the same key are served by one fetch.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum FetchKey {
    /// Keys of a provider.
    Jwks(ProviderId),
    /// Exchanged token.
    Token(TokenKey),
}

impl Need {
    /// Key of the fetch that serves the need.
    pub(super) fn fetch_key(&self) -> FetchKey {
        match self {
            Self::Jwks { provider, .. } => FetchKey::Jwks(provider.id),
            Self::Token(need) => FetchKey::Token(need.key),
        }
    }
}

impl TokenNeed {
    /// Provider that exchanges the token.
    pub(super) fn provider(&self) -> &Rc<Provider> {
        &self.exchange.provider
    }

    /// Tenant of the user, where the provider has several.
    pub(super) fn tenant(&self) -> Option<&str> {
        self.caller.identity.tenant.as_deref()
    }

    /// Key of the circuit breaker that guards the token endpoint.
    pub(super) fn breaker_key(&self) -> BreakerKey {
        BreakerKey::new(self.provider().id, self.tenant(), &self.target)
    }

    /// Audit context of the exchange.
    pub(super) fn audit(&self) -> AuditContext {
        let cache = if self.is_renewal { CacheOutcome::Renewed } else { CacheOutcome::Miss };
        let (resource, caller) = (Some(self.resource.clone()), Some(self.caller.clone()));
        AuditContext { resource, caller, cache: Some(cache), ..AuditContext::default() }
    }
}
