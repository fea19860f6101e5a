//! Identity providers: everything in which they differ, and nothing outside this folder names one.
//!
//! A provider is a [`Profile`]: one file with an `impl` and one line in `PROFILES`. What they share is beside
//! it: discovery, client authentication, reading a token response, the catalogue of failures.

mod claims_request;
mod client;
mod client_auth;
mod discovery;
mod entra;
mod exchange_target;
mod id_jag;
mod issued_token;
mod jwt_bearer;
mod okta;
mod okta_xaa;
mod profile;
mod remedies;
mod rfc8693;
mod token_error;
mod token_request;
mod validate_only;

pub use client::{AssertionSource, CertificateHeader, Client, ClientAuthentication, ClientSecret};
pub use client_auth::{Assertion, SecretVersion};
pub use discovery::{Document, Endpoints};
pub use exchange_target::{
    ActorToken, ActorTokenSource, AuthorizationServer, AuthorizationServerOptions, ExchangeOptions, ExchangeTarget,
    TokenType, Unexchanged,
};
pub use issued_token::Accepted;
pub use profile::{Caller, IssuerMatch, Parameters, Profile, ProfileError, profile, profile_names};
#[cfg(not(target_arch = "wasm32"))]
pub use remedies::SignInError;
pub use remedies::{COMMON, ErrorPattern, KnownError, Responsible, failures};
pub(crate) use rfc8693::{ID_TOKEN, JWT};
pub use token_error::{ErrorClass, TokenEndpointError, trace_of};
pub use token_request::{Hop, Issued, SubjectInput, TokenRequest};

use std::rc::Rc;
use std::time::Duration;

use crate::jose::KeySet;
use crate::url::Url;

/// Time beyond its timeout for which a callout is waited for.
const CALLOUT_GRACE: Duration = Duration::from_secs(5);

/// Identity of a provider: its position in order of the providers' names. It is a key of maps and never an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderId(pub u32);

/// An identity provider whose users may come in.
#[derive(Debug)]
pub struct Provider {
    /// Identity, for caches and metrics.
    pub id: ProviderId,
    /// The operator's name for it: the label in metrics and logs.
    pub name: Rc<str>,
    /// What it does in its own way.
    pub profile: &'static dyn Profile,
    /// `iss` of its tokens. Of a provider of many tenants, with the word in the place of the tenant that stands for all.
    pub issuer: Url,
    /// The tenants whose users may come in, of a provider of many; else none.
    pub tenants: Vec<String>,
    /// Envoy's cluster for every call to it.
    pub cluster: Rc<str>,
    /// What `aud` of the token in `authorization` may be at resources that do not say so themselves. Empty: each does.
    pub audiences: Vec<String>,
    /// What it may be at any resource.
    pub every_audience: Vec<String>,
    /// Its keys, if the operator wrote them down.
    pub jwks: Option<KeySet>,
    /// Where its keys are, if not discovered.
    pub jwks_uri: Option<Url>,
    /// Where tokens are exchanged, if not discovered.
    pub token_endpoint: Option<Url>,
    /// Who we are to it. `None`: it is asked for no tokens.
    pub client: Option<Client>,
    /// What is exchanged.
    pub subject_token: SubjectTokenSource,
    /// For how long keys are trusted that could not be fetched again.
    pub oldest_keys: Duration,
    /// How far its clock and ours may differ.
    pub leeway: Duration,
    /// How long an exchange may take, with all of its calls; and each call for keys.
    pub timeout: Duration,
    /// Whether a call of an exchange is made once more where the connection broke before an answer.
    pub retries: bool,
}

/// The token that is handed to the provider.
#[derive(Debug)]
pub enum SubjectTokenSource {
    /// The caller comes with an access token, and that is it.
    AccessToken,
    /// The caller comes with an ID token, and that is it.
    IdToken,
    /// The caller comes with an access token, and beside it with an ID token of the same user, which is it.
    IdTokenBeside {
        /// Where it is presented.
        source: TokenLocation,
        /// What its `aud` may be: the client that the user signed in to.
        audiences: Vec<String>,
    },
}

impl SubjectTokenSource {
    /// The header field that callers send it in, if it has one of its own.
    pub fn header(&self) -> Option<&str> {
        match self {
            Self::IdTokenBeside { source: TokenLocation::Header(name), .. } => Some(name),
            _ => None,
        }
    }
}

/// Two providers of one configuration are the same if their identity is.
impl PartialEq for Provider {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Provider {}

impl Provider {
    /// Time after which a callout is given up, from its dispatch: its timeout, and some seconds in case the host forgets it.
    pub const fn callout_limit(&self) -> Duration {
        self.timeout.saturating_add(CALLOUT_GRACE)
    }

    /// Whether its token endpoint is the one that its metadata has for mutual TLS (RFC 8705 section 5), if that has one.
    pub fn wants_mtls_alias(&self) -> bool {
        self.token_endpoint.is_none()
            && self
                .client
                .as_ref()
                .is_some_and(|client| matches!(client.authentication, ClientAuthentication::MutualTls))
    }

    /// Whether a metadata document that names `issuer` is this provider's.
    pub fn is_metadata_issuer(&self, issuer: &str) -> bool {
        match self.profile.tenant_word() {
            Some(word) if !self.tenants.is_empty() => {
                // Spelled in either way, and not replaced by anything.
                let template = issuer.replacen("{tenantId}", "{tenantid}", 1);
                template == self.issuer.as_str().replacen(word, TENANT, 1)
            }
            _ => issuer == self.issuer.as_str(),
        }
    }

    /// The issuers of its tokens, in their usual spelling: what a client may be told of.
    pub fn issuers(&self) -> Vec<String> {
        match self.profile.tenant_word() {
            Some(word) if !self.tenants.is_empty() => {
                self.tenants.iter().map(|tenant| self.issuer.as_str().replacen(word, tenant, 1)).collect()
            }
            _ => vec![self.issuer.as_str().to_owned()],
        }
    }
}

/// What stands for the tenant in the issuer of a provider of many.
pub(crate) const TENANT: &str = "{tenantid}";

/// A place in a request.
#[derive(Debug)]
pub enum TokenLocation {
    /// A header field, name in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
}
