//! Exchange target: the token that a resource's upstream gets for the callers of one provider, as `exchange` of the
//! resource configures it.

use std::rc::Rc;

use crate::provider::{Client, ProfileError, oauth};
use crate::secret::{Secret, shown};
use crate::url::Url;

/// Token that the upstream gets for a caller's token.
#[derive(Debug)]
pub enum ExchangeTarget {
    /// A token that the provider issues in exchange.
    Exchange(Rc<TokenExchangeTarget>),
    /// No token of a provider: callers' tokens are validated only.
    ValidateOnly {
        /// The upstream gets the caller's own token. `false`: the upstream gets no token.
        forward: bool,
    },
}

impl ExchangeTarget {
    /// Returns the target of the exchange, if tokens are exchanged.
    pub fn exchange(&self) -> Option<&TokenExchangeTarget> {
        match self {
            Self::Exchange(target) => Some(target),
            Self::ValidateOnly { .. } => None,
        }
    }
}

/// Token to request from a provider for a resource.
///
/// Every field shapes the token that is issued, so the cache key of exchanged tokens covers every field; it destructures
/// this struct without `..`. Order of the fields: client, then the parameters of the request in the order of RFC 8693
/// section 2.1, then the use of the token.
#[derive(Debug)]
pub struct TokenExchangeTarget {
    /// Client of the provider that sends the request.
    pub client: Rc<Client>,
    /// Grant, with the parameters that only this grant has.
    pub grant: Grant,
    /// `audience` parameters (RFC 8693 section 2.1).
    pub audiences: Vec<String>,
    /// `resource` parameters: absolute URIs (RFC 8707 section 2).
    pub resources: Vec<String>,
    /// `scope` parameter: scopes separated by spaces. `None`: not sent.
    pub scope: Option<String>,
    /// Further parameters of the operator, sent to the provider only.
    pub parameters: Vec<(String, Secret)>,
    /// Type by which the token is presented to the upstream.
    pub token_type: TokenType,
}

impl TokenExchangeTarget {
    /// Returns the client that the upstream's token is issued to.
    pub fn issued_to(&self) -> &Client {
        match &self.grant {
            Grant::IdJag(server) => &server.client,
            Grant::TokenExchange { .. } | Grant::JwtBearer { .. } => &self.client,
        }
    }

    /// Returns `true` if one client sends every request of the exchange.
    pub fn has_one_client(&self) -> bool {
        std::ptr::eq(self.issued_to(), &*self.client)
    }

    /// Returns the resource authorization server of an ID-JAG, which issues the upstream's token.
    pub const fn authorization_server(&self) -> Option<&AuthorizationServer> {
        match &self.grant {
            Grant::IdJag(server) => Some(server),
            Grant::TokenExchange { .. } | Grant::JwtBearer { .. } => None,
        }
    }

    /// Returns the actor whose token is sent, if one is.
    pub const fn actor_token(&self) -> Option<&ActorToken> {
        match &self.grant {
            Grant::TokenExchange { actor_token, .. } => actor_token.as_ref(),
            Grant::JwtBearer { .. } | Grant::IdJag(_) => None,
        }
    }
}

/// Grant by which the provider issues a token for the caller's.
#[derive(Debug)]
pub enum Grant {
    /// Token exchange (RFC 8693): the caller's token is the `subject_token`.
    TokenExchange {
        /// `requested_token_type` parameter. `None`: not sent.
        requested_token_type: Option<RequestedTokenType>,
        /// `actor_token` parameter. `None`: not sent.
        actor_token: Option<ActorToken>,
    },
    /// JWT authorization grant (RFC 7523 section 2.1): the caller's token is the `assertion`.
    JwtBearer {
        /// `claims` parameter (OpenID Connect Core section 5.5): JSON text. `None`: not sent.
        claims: Option<String>,
    },
    /// Identity Assertion JWT Authorization Grant: token exchange at the provider for an ID-JAG, which this server takes
    /// as a JWT authorization grant.
    IdJag(AuthorizationServer),
}

/// `requested_token_type` that an operator may set (RFC 8693 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestedTokenType {
    /// An access token.
    AccessToken,
    /// A JWT.
    Jwt,
}

impl RequestedTokenType {
    /// Reads the URN.
    pub(super) fn parse(urn: &str) -> Result<Self, ProfileError> {
        match urn {
            oauth::ACCESS_TOKEN => Ok(Self::AccessToken),
            oauth::JWT => Ok(Self::Jwt),
            _ => {
                let expected = "urn:ietf:params:oauth:token-type:access_token or urn:ietf:params:oauth:token-type:jwt: the upstream gets an access token";
                Err(ProfileError::new("requested_token_type", "another type", expected))
            }
        }
    }

    /// Returns the URN.
    pub const fn urn(self) -> &'static str {
        match self {
            Self::AccessToken => oauth::ACCESS_TOKEN,
            Self::Jwt => oauth::JWT,
        }
    }
}

/// Actor that acts for users, and its token (RFC 8693 section 2.1).
#[derive(Debug)]
pub struct ActorToken {
    /// Source of the token.
    pub source: ActorTokenSource,
    /// `actor_token_type`.
    pub token_type: String,
    /// `sub` of the token, which `may_act` of a caller's token must name (RFC 8693 section 4.4). `None`: not configured.
    pub subject: Option<String>,
    /// `iss` of the token. `None`: the provider's issuer.
    pub issuer: Option<String>,
}

/// Source of an actor token.
#[derive(Debug)]
pub enum ActorTokenSource {
    /// Environment of the filter, read when the configuration is loaded.
    Fixed(Secret),
    /// Header field of each request, name in lower case; an earlier filter sets it.
    Header(String),
}

impl ActorToken {
    /// Returns the header field that carries the token, if one does.
    pub fn header(&self) -> Option<&str> {
        match &self.source {
            ActorTokenSource::Fixed(_) => None,
            ActorTokenSource::Header(name) => Some(name),
        }
    }

    /// Returns the texts that identify the actor, independent of its current token.
    pub fn identity(&self) -> [&str; 4] {
        [
            "actor",
            self.header().unwrap_or_default(),
            self.subject.as_deref().unwrap_or_default(),
            self.issuer.as_deref().unwrap_or_default(),
        ]
    }
}

/// Resource authorization server of the ID-JAG draft: it issues the upstream's token for an ID-JAG.
#[derive(Debug)]
pub struct AuthorizationServer {
    /// Token endpoint.
    pub token_endpoint: Url,
    /// Envoy cluster for callouts to the endpoint.
    pub cluster: Rc<str>,
    /// Client at this server: its own, or the provider's.
    pub client: Rc<Client>,
}

/// Type by which an exchanged token is presented to the upstream.
#[derive(Debug)]
pub enum TokenType {
    /// Bearer token (RFC 6750 section 2.1).
    Bearer,
    /// DPoP-bound token, with a proof for each request (RFC 9449 section 7.1).
    Dpop {
        /// URL of the upstream in proofs (`htu`). `None`: the URL of the resource.
        url: Option<Url>,
    },
}

/// Options of `exchange` as the operator wrote them. [`Profile::exchange_fields`](crate::provider::Profile::exchange_fields)
/// names those that a profile takes; the others are empty.
#[derive(Debug)]
pub struct ExchangeOptions {
    /// Client of the provider.
    pub client: Rc<Client>,
    /// `audience`.
    pub audiences: Vec<String>,
    /// `resource`.
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
    /// `parameters`: none that a profile sets.
    pub parameters: Vec<(String, Secret)>,
}

/// Options of `authorization_server` as the operator wrote them.
#[derive(Debug, Default)]
pub struct AuthorizationServerOptions {
    /// `token_endpoint`.
    pub token_endpoint: Option<Url>,
    /// `cluster`.
    pub cluster: Option<Rc<str>>,
    /// `client`.
    pub client: Option<Client>,
}

impl ExchangeOptions {
    /// Returns `audience`, of which there must be one. `expected`: its expected value.
    pub(super) fn one_audience(&self, expected: &'static str) -> Result<&str, ProfileError> {
        match self.audiences.as_slice() {
            [audience] => Ok(audience),
            [] => Err(ProfileError::new("audience", "nothing", expected)),
            _ => Err(ProfileError::new("audience", "several", expected)),
        }
    }

    /// Builds the target with `grant`, for a bearer token. Fails if a `resource` is no absolute URI (RFC 8707 section 2).
    pub(super) fn into_target(self, grant: Grant) -> Result<TokenExchangeTarget, ProfileError> {
        if let Some(resource) = self.resources.iter().find(|resource| !is_absolute_uri(resource)) {
            let expected = "an absolute URI without a fragment (RFC 8707 section 2)";
            return Err(ProfileError::new("resource", shown(resource), expected));
        }
        Ok(TokenExchangeTarget {
            client: self.client,
            grant,
            audiences: self.audiences,
            resources: self.resources,
            scope: (!self.scopes.is_empty()).then(|| self.scopes.join(" ")),
            parameters: self.parameters,
            token_type: TokenType::Bearer,
        })
    }
}

/// Returns `true` if a text has the form of an absolute URI (RFC 3986 section 4.3): a scheme, and characters of URIs.
fn is_absolute_uri(text: &str) -> bool {
    let is_in_schemes = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let is_in_uris = |byte: u8| matches!(byte, b'!'..=b'~') && !b"\"#<>\\^`{|}".contains(&byte);
    text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(is_in_schemes)
            && !rest.is_empty()
            && rest.bytes().all(is_in_uris)
    })
}
