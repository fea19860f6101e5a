//! OAuth client that exchanges tokens, and how it authenticates (RFC 6749 section 2.3).

use crate::crypto::SigningKey;
use crate::dpop::DpopKey;
use crate::secret::Secret;

/// OAuth client that exchanges tokens.
#[derive(Debug)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// Client authentication.
    pub authentication: ClientAuthentication,
    /// Key that issued tokens are bound to (RFC 9449). `None`: tokens are not bound.
    pub dpop: Option<DpopKey>,
}

/// Client authentication method (RFC 6749 section 2.3.1, OpenID Connect Core section 9, RFC 8705 section 2, RFC 7521
/// section 4.2).
#[derive(Debug)]
pub enum ClientAuthentication {
    /// `client_secret_basic`.
    SecretBasic(ClientSecret),
    /// `client_secret_post`.
    SecretPost(ClientSecret),
    /// `private_key_jwt`.
    PrivateKeyJwt {
        /// Key that signs the assertion.
        key: SigningKey,
        /// `kid` of the assertion.
        key_id: Option<String>,
        /// `aud` of the assertion. `None`: the token endpoint.
        audience: Option<String>,
        /// Header members that name the certificate of the key.
        certificate: CertificateHeader,
    },
    /// `tls_client_auth` or `self_signed_tls_client_auth`: the TLS context of Envoy's cluster has the client certificate.
    MutualTls,
    /// Client assertion of another issuer.
    Assertion(AssertionSource),
    /// Filters of the Envoy cluster add the credentials.
    Upstream,
    /// `none`: a public client (RFC 6749 section 2.1), which only names itself.
    Public,
}

/// Source of a client assertion of another issuer.
#[derive(Debug)]
pub enum AssertionSource {
    /// Environment of the filter, read when the configuration is loaded.
    Environment(Secret),
    /// Header field that an earlier filter sets in each request, name in lower case.
    Header(String),
}

/// Client secret, and during its rotation the previous one.
#[derive(Debug)]
pub struct ClientSecret {
    /// Secret to use.
    pub current: Secret,
    /// Secret to use while the provider does not know the current one.
    pub previous: Option<Secret>,
}

/// Header members by which a client assertion names the certificate of its key (RFC 7515 sections 4.1.6 to 4.1.8).
#[derive(Debug, Default)]
pub struct CertificateHeader {
    /// `x5t#S256` and `x5t`, if configured: SHA-256 and SHA-1 of the certificate, in base64url.
    pub thumbprints: Vec<(&'static str, String)>,
    /// `x5c`: the certificate and its chain, in base64. Empty: not configured.
    pub chain: Vec<String>,
}

impl ClientAuthentication {
    /// Returns the client secret from before a rotation, if one is configured.
    pub const fn previous_secret(&self) -> Option<&Secret> {
        match self {
            Self::SecretBasic(secret) | Self::SecretPost(secret) => secret.previous.as_ref(),
            _ => None,
        }
    }

    /// Returns the long-lived secret that the filter holds, if any.
    pub fn secret(&self) -> Option<&[u8]> {
        match self {
            Self::SecretBasic(secret) | Self::SecretPost(secret) => Some(secret.current.reveal().as_bytes()),
            Self::PrivateKeyJwt { key, .. } => Some(key.pkcs8()),
            Self::MutualTls | Self::Assertion(_) | Self::Upstream | Self::Public => None,
        }
    }

    /// Returns the header field that carries the client assertion, if one does.
    pub fn header(&self) -> Option<&str> {
        match self {
            Self::Assertion(AssertionSource::Header(name)) => Some(name),
            _ => None,
        }
    }
}
