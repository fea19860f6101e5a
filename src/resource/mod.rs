//! Protected resources (RFC 9728): the upstreams that this proxy guards, their metadata and challenges.

pub(crate) mod admission;
pub mod authorization_server;
pub mod challenge;
pub mod metadata;

use std::time::Duration;

use crate::provider::{ExchangeTarget, Provider, TokenType};
use crate::url::Url;

/// Protected resource behind Envoy, such as an MCP server or an API (RFC 9728 section 1.2).
#[derive(Debug)]
pub struct Resource {
    /// Resource identifier. Requests with its host, at or below its path, are for the resource.
    pub url: Url,
    /// Scopes that a caller's token must have, all of them.
    pub scopes: Vec<String>,
    /// Scopes for clients to ask for, in metadata and challenges. Some providers expect a longer form there than their tokens have.
    pub scopes_supported: Vec<String>,
    /// Policy for DPoP-bound tokens (RFC 9449).
    pub dpop: DpopPolicy,
    /// Policy for tokens that are bound to the TLS certificate of the client (RFC 8705 section 3).
    pub certificates: Requirement,
    /// Exchange target of each provider, by its index. `None`: users of the provider have no access.
    pub targets: Vec<Option<ExchangeTarget>>,
    /// Accepted audiences of callers' tokens, by the index of the provider. `None`: the provider's audiences.
    pub audiences: AudienceLists,
    /// Indices of the providers in the metadata, in the order of the configuration.
    pub authorization_servers: Vec<usize>,
}

impl Resource {
    /// Accepted audiences of tokens of that provider. If its users have no access, every audience of the provider is accepted, so
    /// that the refusal is `no_exchange` and not `wrong_audience`.
    pub fn audiences_for<'a>(&'a self, index: usize, provider: &'a Provider) -> &'a [String] {
        match (self.audiences.get(index), self.targets.get(index)) {
            (Some(Some(own)), _) => own,
            (_, Some(Some(_))) => &provider.audiences,
            _ => &provider.every_audience,
        }
    }

    /// Issuers in the metadata.
    pub fn issuers<'a>(&'a self, providers: &'a [Provider]) -> impl Iterator<Item = String> + 'a {
        self.authorization_servers.iter().filter_map(|index| providers.get(*index)).flat_map(Provider::issuers)
    }

    /// Returns `true` if a token is sent to the upstream with a DPoP proof.
    pub fn takes_proofs(&self) -> bool {
        let is_proved = |target: &ExchangeTarget| matches!(target.presentation, TokenType::Dpop { .. });
        self.targets.iter().flatten().any(is_proved)
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

/// Accepted audiences of callers' tokens at a resource, by the index of the provider. `None`: the provider's audiences.
pub(crate) type AudienceLists = Vec<Option<Vec<String>>>;
