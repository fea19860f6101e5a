//! Exchange target: the token that a resource wants from a provider, as its `exchange` configures it.

use std::fmt::Debug;
use std::rc::Rc;

use crate::provider::{Client, Provider};
use crate::secret::Secret;
use crate::url::Url;

/// What to ask a provider for, as the operator wrote it; which fields make sense is the profile's to say.
#[derive(Debug, Default)]
pub struct ExchangeOptions {
    /// `audience`: none, one, or several.
    pub audiences: Vec<String>,
    /// `resource`: none, one, or several.
    pub resources: Vec<String>,
    /// `scopes`.
    pub scopes: Vec<String>,
    /// `requested_token_type`.
    pub requested_token_type: Option<String>,
    /// `claims`: JSON text.
    pub claims: Option<String>,
    /// `actor_token`.
    pub actor: Option<ActorToken>,
    /// `authorization_server`.
    pub authorization_server: AuthorizationServerOptions,
    /// `forward`: whether the caller's own goes on.
    pub token: Option<Unexchanged>,
    /// Parameters that no profile knows, none of them one that it does.
    pub parameters: Vec<(String, Secret)>,
}

/// The party that acts for users, as its token says (RFC 8693 section 2.1).
#[derive(Debug)]
pub struct ActorToken {
    /// Where the token is.
    pub source: ActorTokenSource,
    /// `actor_token_type`.
    pub token_type: String,
    /// `sub` of the token, if the operator says: who must be allowed to act (section 4.4).
    pub subject: Option<String>,
    /// `iss` of the token, if it is not the provider's.
    pub issuer: Option<String>,
}

/// Where an actor's token comes from.
#[derive(Debug)]
pub enum ActorTokenSource {
    /// From the environment of the filter.
    Fixed(Secret),
    /// From that header field of each request, where Envoy itself has put it.
    Header(String),
}

impl ActorToken {
    /// The header field in which its tokens come, if they do.
    pub fn header(&self) -> Option<&str> {
        match &self.source {
            ActorTokenSource::Fixed(_) => None,
            ActorTokenSource::Header(name) => Some(name),
        }
    }

    /// What tells one actor from another, whatever its token is at the moment.
    pub fn identity(&self) -> [&str; 4] {
        [
            "actor",
            self.header().unwrap_or_default(),
            self.subject.as_deref().unwrap_or_default(),
            self.issuer.as_deref().unwrap_or_default(),
        ]
    }
}

/// The authorization server of the resource, where that is not the provider, as far as the operator wrote it.
#[derive(Debug, Default)]
pub struct AuthorizationServerOptions {
    /// Where it issues tokens.
    pub token_endpoint: Option<Url>,
    /// Envoy's cluster for calls to it.
    pub cluster: Option<Rc<str>>,
    /// Who we are to it.
    pub client: Option<Client>,
}

/// What to ask a provider for on behalf of a resource's callers.
#[derive(Debug, Default)]
pub struct ExchangeTarget {
    /// `audience` (RFC 8693 section 2.1), each by itself.
    pub audiences: Vec<String>,
    /// `resource` (RFC 8707), each by itself.
    pub resources: Vec<String>,
    /// `scope`, space-separated, if it is sent.
    pub scope: Option<String>,
    /// `requested_token_type` (RFC 8693 section 3), if it is sent.
    pub requested_token_type: Option<String>,
    /// `claims` (OpenID Connect Core section 5.5): JSON text, if it is sent.
    pub claims: Option<String>,
    /// Who acts for the user, if that is said by a token (`actor_token`, RFC 8693 section 2.1).
    pub actor: Option<ActorToken>,
    /// Where the token that the provider issues is handed in for the one for the upstream, if it is not that itself.
    pub second: Option<AuthorizationServer>,
    /// What becomes of the caller's token where none is exchanged for it.
    pub unexchanged: Option<Unexchanged>,
    /// Whatever else the operator wants to be sent to the provider.
    pub parameters: Vec<(String, Secret)>,
    /// How the token goes to the resource.
    pub presentation: TokenType,
}

impl ExchangeTarget {
    /// The client that the token for the upstream is issued to, if one is.
    pub fn issued_to<'a>(&'a self, provider: &'a Provider) -> Option<&'a Client> {
        self.second.as_ref().and_then(|server| server.client.as_ref()).or(provider.client.as_ref())
    }
}

/// How an exchanged token goes to its resource.
#[derive(Debug, Default)]
pub enum TokenType {
    /// As it is (RFC 6750 section 2.1).
    #[default]
    Bearer,
    /// With a proof that we hold the key that it is bound to (RFC 9449 section 7.1).
    Dpop {
        /// What the server behind Envoy takes for its URL, if not the resource's.
        url: Option<Url>,
    },
}

/// What becomes of a token for which no other is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unexchanged {
    /// It stays here, and the upstream gets none.
    Removed,
    /// The upstream gets it as it came: only where the operator says so.
    Forwarded,
}

/// The authorization server of a resource, where that is another than the provider.
#[derive(Debug)]
pub struct AuthorizationServer {
    /// Where it issues tokens.
    pub token_endpoint: Url,
    /// Envoy's cluster for calls to it, if not the provider's.
    pub cluster: Option<Rc<str>>,
    /// Who we are to it, if not who we are to the provider.
    pub client: Option<Client>,
}
