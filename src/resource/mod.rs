//! Protected resources (RFC 9728): what stands behind Envoy, and what clients are told of it.

pub(crate) mod admission;
pub mod authorization_server;
pub mod challenge;
pub mod metadata;

use std::time::Duration;

use crate::provider::{ExchangeTarget, Provider, TokenExchangeTarget, TokenType};
use crate::url::Url;

/// Something behind Envoy that has tokens of its own: an MCP server, an API (RFC 9728 section 1.2).
#[derive(Debug)]
pub struct Resource {
    /// Its resource identifier, and with host and path also what requests are its.
    pub url: Url,
    /// Scopes that a caller's token must have, every one.
    pub scopes: Vec<String>,
    /// Scopes as clients must ask for them: in metadata and challenges. Some providers want a longer form
    /// there than what their tokens carry.
    pub scopes_supported: Vec<String>,
    /// Whether tokens must be bound to a key that their holder proves to have (RFC 9449).
    pub dpop: DpopPolicy,
    /// Whether tokens must be bound to the certificate of the connection (RFC 8705 section 3).
    pub certificates: Requirement,
    /// What to ask each provider for, by its index; `None` where users of the provider have no business.
    pub targets: Vec<Option<ExchangeTarget>>,
    /// What `aud` of a caller's token may be here, by the index of its provider; `None` where the provider says so.
    pub audiences: AudienceLists,
    /// The providers that clients are told of, by their index, in the order of the operator's preference.
    pub authorization_servers: Vec<usize>,
}

impl Resource {
    /// What `aud` of a token of that provider may be here. Where its users have no business, they hear that and not that
    /// their token is for something else.
    pub fn audiences_for<'a>(&'a self, index: usize, provider: &'a Provider) -> &'a [String] {
        match (self.audiences.get(index), self.targets.get(index)) {
            (Some(Some(own)), _) => own,
            (_, Some(Some(_))) => &provider.audiences,
            _ => &provider.every_audience,
        }
    }

    /// The issuers that clients are told of.
    pub fn issuers<'a>(&'a self, providers: &'a [Provider]) -> impl Iterator<Item = String> + 'a {
        self.authorization_servers.iter().filter_map(|index| providers.get(*index)).flat_map(Provider::issuers)
    }

    /// Whether any token goes to it with a proof.
    pub fn takes_proofs(&self) -> bool {
        let is_proved = |target: &TokenExchangeTarget| matches!(target.token_type, TokenType::Dpop { .. });
        self.targets.iter().flatten().filter_map(ExchangeTarget::exchange).any(is_proved)
    }
}

/// Whether the tokens of a resource's callers are bound to something that a thief does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Requirement {
    /// Bound ones are refused: nobody looks for the proof.
    #[default]
    Off,
    /// Bound ones are proved, others are taken as they are.
    Optional,
    /// Others are refused.
    Required,
}

/// What a resource wants of proofs.
#[derive(Clone, Debug)]
pub struct DpopPolicy {
    /// Whether it wants any.
    pub mode: Requirement,
    /// Whether proofs must have a nonce of ours in them (RFC 9449 section 9).
    pub nonce: bool,
    /// How far the time of a proof may be from now.
    pub max_age: Duration,
}

/// What `aud` of callers' tokens may be at a resource that says so itself, by the index of the provider; `None`: at this
/// resource, what the provider says.
pub(crate) type AudienceLists = Vec<Option<Vec<String>>>;
