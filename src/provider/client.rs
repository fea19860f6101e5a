//! OAuth client that exchanges tokens, and how it authenticates (RFC 6749 section 2.3).

use crate::crypto::SigningKey;
use crate::dpop::DpopKey;
use crate::secret::Secret;

/// The OAuth client that exchanges.
#[derive(Debug)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// How it proves that.
    pub authentication: ClientAuthentication,
    /// The key that the tokens are bound to that it gets, if they are (RFC 9449).
    pub dpop: Option<DpopKey>,
}

/// RFC 6749 section 2.3.1, OpenID Connect Core section 9, RFC 8705 section 2, RFC 7521 section 4.2.
#[derive(Debug)]
pub enum ClientAuthentication {
    /// `client_secret_basic`.
    SecretBasic(ClientSecret),
    /// `client_secret_post`.
    SecretPost(ClientSecret),
    /// `private_key_jwt`.
    PrivateKeyJwt {
        /// What the assertion is signed with.
        key: SigningKey,
        /// `kid` of the assertion.
        key_id: Option<String>,
        /// `aud` of the assertion, if not the token endpoint.
        audience: Option<String>,
        /// What the assertion says of the key's certificate.
        certificate: CertificateHeader,
    },
    /// `tls_client_auth` or `self_signed_tls_client_auth`: Envoy's cluster presents the client's certificate.
    MutualTls,
    /// An assertion that somebody else has made.
    Assertion(AssertionSource),
    /// Envoy's cluster adds what proves it.
    Upstream,
}

/// Where an assertion comes from that somebody else has made.
#[derive(Debug)]
pub enum AssertionSource {
    /// The environment: it was read once.
    Environment(Secret),
    /// A header field that Envoy puts into each request, name in lower case.
    Header(String),
}

/// A client's secret, and while it is being replaced also the one from before.
#[derive(Debug)]
pub struct ClientSecret {
    /// The one to use.
    pub current: Secret,
    /// The one to use where the provider does not know that yet.
    pub previous: Option<Secret>,
}

/// By what a client assertion names the certificate of its key: header members of RFC 7515 sections 4.1.6 to 4.1.8.
#[derive(Debug, Default)]
pub struct CertificateHeader {
    /// `x5t#S256` and `x5t`, as far as they are wanted: SHA-256 and SHA-1 of the certificate, in base64url.
    pub thumbprints: Vec<(&'static str, String)>,
    /// `x5c`: the certificate and those that it rests on, in base64. Empty: not wanted.
    pub chain: Vec<String>,
}

impl ClientAuthentication {
    /// Whether there is another secret to try where the first is not known.
    pub const fn has_previous_secret(&self) -> bool {
        matches!(self, Self::SecretBasic(secret) | Self::SecretPost(secret) if secret.previous.is_some())
    }

    /// What it rests on: nobody else has these bytes. `None`: nothing that is here, or that lasts.
    pub fn secret(&self) -> Option<&[u8]> {
        match self {
            Self::SecretBasic(secret) | Self::SecretPost(secret) => Some(secret.current.reveal().as_bytes()),
            Self::PrivateKeyJwt { key, .. } => Some(key.pkcs8()),
            Self::MutualTls | Self::Assertion(_) | Self::Upstream => None,
        }
    }

    /// The header field that brings the assertion, if one does.
    pub fn header(&self) -> Option<&str> {
        match self {
            Self::Assertion(AssertionSource::Header(name)) => Some(name),
            _ => None,
        }
    }
}
