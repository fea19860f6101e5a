//! Identity providers. Everything that differs between providers is in this folder; no other folder names one.
//!
//! A kind of provider is a [`Profile`]: one file with an `impl`, and one line in `PROFILES`. The other files are common
//! to all profiles: the provider and its client, discovery, the target of an exchange, token requests and responses, and
//! the catalogue of known errors.

mod caller;
mod claims_request;
mod client;
mod client_auth;
mod common_errors;
mod discovery;
mod entra;
mod entra_errors;
mod error_class;
mod exchange_target;
mod grant;
mod id_jag;
mod issued_token;
mod issuer;
mod jwt_bearer;
mod keycloak_errors;
mod known_secrets;
pub(crate) mod oauth;
mod okta;
mod okta_errors;
mod okta_servers;
mod okta_xaa;
mod profile;
mod remedies;
mod required_claim;
mod rfc8693;
pub(crate) mod sent_token;
mod token_error;
mod token_kind;
mod token_request;
mod token_response;
mod unusable_token;
mod validate_only;

pub use caller::Caller;
pub use client::{AssertionSource, CertificateHeader, Client, ClientAuthentication, ClientSecret};
pub use client_auth::{Assertion, SecretVersion};
pub use common_errors::COMMON_ERRORS;
pub use discovery::{DiscoveryError, Document, Endpoints};
pub use error_class::{ErrorClass, ErrorCondition, ErrorRule, ErrorSigns, error_rules};
pub use exchange_target::{
    ActorToken, ActorTokenSource, AuthorizationServer, AuthorizationServerOptions, ExchangeOptions, ExchangeTarget,
    Grant, RequestedTokenType, TokenExchangeTarget, TokenType,
};
pub use grant::Parameters;
pub use issued_token::Accepted;
pub use issuer::Issuer;
pub use profile::{IssuerMatch, Profile, ProfileError, ProviderOptions, profile, profile_names};
#[cfg(not(target_arch = "wasm32"))]
pub use remedies::SignInError;
pub use remedies::{ErrorPattern, KnownError, Responsible, Symptom, known_errors};
pub use required_claim::{ClaimValue, RequiredClaim};
pub use token_error::TokenEndpointError;
pub use token_request::{Hop, SubjectInput, TokenRequest};
pub use token_response::Issued;
pub use unusable_token::UnusableToken;

use std::rc::Rc;
use std::time::Duration;

use crate::crypto::Algorithm;
use crate::jose::{AUDIENCE, ClaimNames, KeySet};
use crate::url::Url;

/// Profiles that a configuration can name.
static PROFILES: &[&dyn Profile] = &[
    &entra::EntraObo,
    &okta::Okta::OnBehalfOf,
    &okta::Okta::CrossAppAccess,
    &id_jag::IdJag,
    &rfc8693::Rfc8693,
    &jwt_bearer::JwtBearer,
    &validate_only::ValidateOnly,
];

/// Time beyond its timeout after which a callout counts as lost.
const CALLOUT_GRACE: Duration = Duration::from_secs(5);

/// Placeholder of the tenant in `issuer` of a provider with several tenants.
pub(crate) const TENANT: &str = "{tenantid}";

/// Identity of a provider: its position in the order of the providers' names. It is a key of maps, and never an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderId(pub u32);

/// Identity provider whose tokens are accepted.
#[derive(Debug)]
pub struct Provider {
    /// Identity, for caches and metrics.
    pub id: ProviderId,
    /// Name in the configuration, in metrics and in logs.
    pub name: Rc<str>,
    /// Profile.
    pub profile: &'static dyn Profile,
    /// `iss` of the provider's tokens. [`Profile::multitenant_segment`] is in place of the tenant if there are several.
    pub issuer: Issuer,
    /// Tenants whose users are accepted. Empty: the provider has one tenant.
    pub tenants: Vec<String>,
    /// Envoy cluster for callouts to the issuer, for metadata.
    pub cluster: Rc<str>,
    /// Envoy cluster for callouts for keys.
    pub jwks_cluster: Rc<str>,
    /// Envoy cluster for callouts to the token endpoint.
    pub token_cluster: Rc<str>,
    /// Accepted values of `aud` at resources without `audiences`. Empty: every resource has `audiences`.
    pub audiences: Vec<String>,
    /// Accepted values of `aud` at any resource.
    pub every_audience: Vec<String>,
    /// Algorithms that callers' tokens may be signed with. Empty: all that the keys state or are usual for.
    pub algorithms: Vec<Algorithm>,
    /// Claim that stands for `aud` in access tokens. `None`: `aud` itself.
    pub audience_claim: Option<String>,
    /// Claims that scopes are read from. Empty: the usual ones.
    pub scope_claims: Vec<String>,
    /// Claims that the token in `authorization` must have.
    pub required_claims: Vec<RequiredClaim>,
    /// Configured keys. `None`: the keys are fetched.
    pub jwks: Option<KeySet>,
    /// Configured URL of the keys. `None`: discovered.
    pub jwks_uri: Option<Url>,
    /// Configured token endpoint. `None`: discovered.
    pub token_endpoint: Option<Url>,
    /// Client that exchanges tokens. `None`: tokens are validated only.
    pub client: Option<Rc<Client>>,
    /// Token of the caller that is exchanged.
    pub subject_token: SubjectTokenSource,
    /// Type by which that token is sent: a URI (RFC 8693 section 3). `None`: that of an access token or of an ID token.
    pub subject_token_type: Option<Rc<str>>,
    /// Maximum age of keys that could not be fetched again.
    pub oldest_keys: Duration,
    /// Maximum difference between the clocks of the provider and of this host.
    pub leeway: Duration,
    /// Maximum duration of an exchange with all of its callouts, and of each callout for keys.
    pub timeout: Duration,
    /// An exchange repeats a callout once if the connection broke before a response arrived.
    pub retries: bool,
}

/// Token of the caller that is exchanged.
#[derive(Debug)]
pub enum SubjectTokenSource {
    /// The access token that the caller presents.
    AccessToken,
    /// The ID token that the caller presents in place of an access token.
    IdToken,
    /// An ID token of the same user that the caller sends in addition to the access token.
    IdTokenBeside {
        /// Location of the ID token.
        source: TokenLocation,
        /// Accepted values of its `aud`: the client that the user signed in to.
        audiences: Vec<String>,
    },
}

impl SubjectTokenSource {
    /// Returns the header field of the additional ID token, if it comes in one.
    pub fn header(&self) -> Option<&str> {
        match self {
            Self::IdTokenBeside { source: TokenLocation::Header(name), .. } => Some(name),
            _ => None,
        }
    }
}

/// Location of a token in a request.
#[derive(Debug)]
pub enum TokenLocation {
    /// Header field, name in lower case.
    Header(String),
    /// Cookie.
    Cookie(String),
}

/// Two providers of one configuration are equal if their identity is.
impl PartialEq for Provider {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Provider {}

impl Provider {
    /// Returns the names of claims in the provider's access tokens, or in its ID tokens, which always have `aud` (OpenID
    /// Connect Core section 2).
    pub fn claim_names(&self, is_id_token: bool) -> ClaimNames<'_> {
        let audience = if is_id_token { AUDIENCE } else { self.audience_claim.as_deref().unwrap_or(AUDIENCE) };
        ClaimNames { audience, scopes: &self.scope_claims }
    }

    /// Returns the time from its dispatch after which a callout counts as lost: the timeout, and a grace period in case
    /// the host does not report the timeout.
    pub const fn callout_limit(&self) -> Duration {
        self.timeout.saturating_add(CALLOUT_GRACE)
    }

    /// Returns `true` if the client uses the discovered alias of the token endpoint for mutual TLS (RFC 8705 section 5).
    pub fn wants_mtls_alias(&self) -> bool {
        let is_mtls = |client: &Rc<Client>| matches!(client.authentication, ClientAuthentication::MutualTls);
        self.token_endpoint.is_none() && self.client.as_ref().is_some_and(is_mtls)
    }

    /// Returns `true` if a metadata document with this `issuer` is of the provider.
    pub fn is_metadata_issuer(&self, issuer: &str) -> bool {
        match self.profile.multitenant_segment() {
            Some(segment) if !self.tenants.is_empty() => {
                // The document of a multi-tenant endpoint has a placeholder, in either spelling.
                let template = issuer.replacen("{tenantId}", TENANT, 1);
                template == self.issuer.as_str().replacen(segment, TENANT, 1)
            }
            _ => issuer == self.issuer.as_str(),
        }
    }

    /// Returns the issuers of the provider's tokens, in their usual form, for clients.
    pub fn issuers(&self) -> Vec<String> {
        match self.profile.multitenant_segment() {
            Some(segment) if !self.tenants.is_empty() => {
                self.tenants.iter().map(|tenant| self.issuer.as_str().replacen(segment, tenant, 1)).collect()
            }
            _ => vec![self.issuer.as_str().to_owned()],
        }
    }
}
