//! Protected resources (RFC 9728): the upstreams that this proxy guards, their metadata and challenges.

pub(crate) mod admission;
pub mod authorization_server;
pub mod challenge;
pub mod metadata;
mod route_table;

pub use admission::AudienceIndex;
pub use route_table::{Host, Mount, RouteTable};

use std::rc::Rc;
use std::time::Duration;

use crate::provider::{ExchangeTarget, Provider, TokenType};
use crate::url::Url;

/// Identity of a resource: its position in the configuration. It is a key of maps and never an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId(pub u32);

/// Protected resource behind Envoy, such as an MCP server or an API (RFC 9728 section 1.2).
#[derive(Debug)]
pub struct Resource {
    /// Identity, for caches and messages.
    pub id: ResourceId,
    /// Resource identifier. Requests with its host, at or below its path, are for the resource.
    pub url: Url,
    /// Other hosts and paths at which Envoy sees the requests of the resource.
    pub aliases: Vec<Url>,
    /// `true` if `%2F` may stand in the part of a path that is below the resource's own.
    pub encoded_slashes: bool,
    /// Scopes that a caller's token must have, all of them.
    pub scopes: Vec<String>,
    /// Scopes for clients to ask for, in metadata and challenges. Some providers expect a longer form there than their tokens have.
    pub scopes_supported: Vec<String>,
    /// Policy for DPoP-bound tokens (RFC 9449).
    pub dpop: DpopPolicy,
    /// Policy for tokens that are bound to the TLS certificate of the client (RFC 8705 section 3).
    pub certificates: Requirement,
    /// Exchange for the users of each provider, in order of the providers' names. Users of other providers are refused.
    pub exchanges: Vec<Rc<ResourceExchange>>,
    /// Providers that metadata names as authorization servers, in the operator's order.
    pub authorization_servers: Vec<Rc<Provider>>,
}

/// Exchange of one provider's tokens at one resource: `exchange.<provider>` of the resource.
#[derive(Debug)]
pub struct ResourceExchange {
    /// Provider whose users it is for.
    pub provider: Rc<Provider>,
    /// Token that the resource wants.
    pub target: ExchangeTarget,
    /// Accepted values of `aud` of a caller's token at this resource. `None`: those of the provider.
    pub audiences: Option<Vec<String>>,
}

/// Form of a resource's URL that a client uses. Clients compare it with `resource` of the metadata (RFC 9728 section 3.3), some
/// of them to the last slash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlashForm {
    /// The URL as it is configured: the request does not show which form the client has.
    #[default]
    Configured,
    /// Without a slash at the end.
    Bare,
    /// With a slash at the end.
    Slash,
}

/// Two resources of one configuration are the same if their identity is.
impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Resource {}

impl Resource {
    /// Exchange for the users of a provider. `None`: the resource does not serve them.
    pub fn exchange(&self, provider: &Provider) -> Option<&Rc<ResourceExchange>> {
        let at = self.exchanges.binary_search_by_key(&provider.id, |exchange| exchange.provider.id).ok()?;
        self.exchanges.get(at)
    }

    /// Accepted values of `aud` of a caller's token of that provider. A user whom the resource does not serve is refused for
    /// that reason and not for the audience of the token.
    pub fn audiences_for<'a>(&'a self, provider: &'a Provider) -> &'a [String] {
        match self.exchange(provider) {
            Some(exchange) => exchange.audiences.as_deref().unwrap_or(&provider.audiences),
            None => &provider.every_audience,
        }
    }

    /// Issuers that metadata names. It names URLs only (RFC 9728 section 2): clients find the metadata of a server by its issuer.
    pub fn issuers(&self) -> impl Iterator<Item = String> + '_ {
        let servers = self.authorization_servers.iter().filter(|provider| provider.issuer.url().is_some());
        servers.flat_map(|provider| provider.issuers())
    }

    /// Returns `true` if a token of any provider goes to the upstream with a DPoP proof.
    pub fn takes_proofs(&self) -> bool {
        let mut targets = self.exchanges.iter().filter_map(|exchange| exchange.target.exchange());
        targets.any(|target| matches!(target.token_type, TokenType::Dpop { .. }))
    }
}

/// Policy for sender-constrained tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Requirement {
    /// Sender-constrained tokens are refused: their proof is not checked.
    #[default]
    Off,
    /// Sender-constrained tokens need their proof; others are accepted without one.
    Optional,
    /// Only sender-constrained tokens with their proof are accepted.
    Required,
}

/// Policy of a resource for DPoP proofs.
#[derive(Clone, Debug)]
pub struct DpopPolicy {
    /// Policy for tokens.
    pub mode: Requirement,
    /// `true` if proofs must have a nonce of this proxy (RFC 9449 section 9).
    pub nonce: bool,
    /// Maximum difference between `iat` of a proof and now.
    pub max_age: Duration,
}
