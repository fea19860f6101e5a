//! Client authentication at a token endpoint (RFC 6749 section 2.3.1, RFC 7523 section 2.2, RFC 8705 section 2).

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

use crate::crypto::{Crypto, SigningKey};
use crate::json;
use crate::provider::{AssertionSource, CertificateHeader, Client, ClientAuthentication, ClientSecret, oauth};
use crate::secret::Secret;
use crate::time::UnixTime;
use crate::url::Url;

/// Lifetime of a client assertion. Providers allow one hour at most.
const ASSERTION_LIFETIME: Duration = Duration::from_secs(300);

/// Time by which `nbf` of a client assertion precedes the current time, because the clock of the provider may be slow.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(60);

/// Version of a client secret during its rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretVersion {
    /// Current secret.
    Current,
    /// Previous secret, while the provider may not know the current one.
    Previous,
}

/// Credentials of the client in a token request.
pub(super) struct ClientCredentials {
    /// Value of the header field `authorization`.
    pub(super) authorization: Option<Secret>,
    /// Form parameters.
    pub(super) fields: Vec<(&'static str, Secret)>,
}

/// Authenticates `client` at `token_endpoint`, anew for every request: a provider accepts a client assertion once.
/// `assertion` is the client assertion of another issuer that came with the user's request. `None`: the assertion could
/// not be signed or is missing, or the client has no secret of that version.
pub(super) fn authenticate(
    client: &Client,
    version: SecretVersion,
    assertion: Option<&Secret>,
    token_endpoint: &Url,
    crypto: &dyn Crypto,
    now: UnixTime,
) -> Option<ClientCredentials> {
    let of = |secret: &ClientSecret| match version {
        SecretVersion::Current => Some(secret.current.clone()),
        SecretVersion::Previous => secret.previous.clone(),
    };
    let id = || ("client_id", Secret::new(client.id.clone()));
    let asserted = |assertion| ClientCredentials {
        authorization: None,
        fields: vec![
            id(),
            ("client_assertion_type", Secret::new(oauth::CLIENT_ASSERTION_JWT.to_owned())),
            ("client_assertion", assertion),
        ],
    };
    Some(match &client.authentication {
        ClientAuthentication::SecretBasic(secret) => {
            let pair = basic(&client.id, of(secret)?.reveal().as_bytes());
            ClientCredentials { authorization: Some(Secret::new(format!("Basic {pair}"))), fields: Vec::new() }
        }
        ClientAuthentication::SecretPost(secret) => {
            ClientCredentials { authorization: None, fields: vec![id(), ("client_secret", of(secret)?)] }
        }
        ClientAuthentication::PrivateKeyJwt { key, key_id, audience, certificate } => {
            let assertion = Assertion {
                client_id: &client.id,
                audience: audience.as_deref().unwrap_or(token_endpoint.as_str()),
                key,
                key_id: key_id.as_deref(),
                certificate,
            };
            asserted(assertion.sign(crypto, now)?)
        }
        ClientAuthentication::Assertion(source) => asserted(match source {
            AssertionSource::Environment(assertion) => assertion.clone(),
            AssertionSource::Header(_) => assertion?.clone(),
        }),
        ClientAuthentication::MutualTls | ClientAuthentication::Public => {
            ClientCredentials { authorization: None, fields: vec![id()] }
        }
        ClientAuthentication::Upstream => ClientCredentials { authorization: None, fields: Vec::new() },
    })
}

/// Encodes a text for a form (RFC 6749 appendix B).
pub(super) fn form_encoded(bytes: &[u8]) -> String {
    form_urlencoded::byte_serialize(bytes).collect()
}

/// Returns the credentials of `client_secret_basic`. Both parts are form-encoded before they are joined (RFC 6749 section
/// 2.3.1).
pub(super) fn basic(client_id: &str, secret: &[u8]) -> String {
    BASE64_STANDARD.encode(format!("{}:{}", form_encoded(client_id.as_bytes()), form_encoded(secret)))
}

/// Unsigned client assertion (RFC 7523 section 3).
pub struct Assertion<'a> {
    /// `iss` and `sub`.
    pub client_id: &'a str,
    /// `aud`, sent as a string.
    pub audience: &'a str,
    /// Signing key.
    pub key: &'a SigningKey,
    /// `kid`.
    pub key_id: Option<&'a str>,
    /// Header members that name the certificate of the key.
    pub certificate: &'a CertificateHeader,
}

impl Assertion<'_> {
    /// Returns a signed assertion with a new `jti`, valid for five minutes from `now`. `None`: the host has no random
    /// bytes, or the key does not sign.
    pub fn sign(&self, crypto: &dyn Crypto, now: UnixTime) -> Option<Secret> {
        let mut header = vec![("alg", self.key.algorithm().name().into()), ("typ", "JWT".into())];
        header.extend(self.key_id.map(|key_id| ("kid", key_id.into())));
        let CertificateHeader { thumbprints, chain } = self.certificate;
        header.extend(thumbprints.iter().map(|(name, thumbprint)| (*name, thumbprint.as_str().into())));
        if !chain.is_empty() {
            header.push(("x5c", chain.iter().map(String::as_str).collect()));
        }
        let claims = vec![
            ("iss", self.client_id.into()),
            ("sub", self.client_id.into()),
            ("aud", self.audience.into()),
            ("jti", BASE64_URL_SAFE_NO_PAD.encode(crypto.random()?).into()),
            ("iat", now.secs().into()),
            ("nbf", now.minus(MAX_CLOCK_SKEW).secs().into()),
            ("exp", now.plus(ASSERTION_LIFETIME).secs().into()),
        ];
        let mut token = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(json::text(part))).join(".");
        let signature = crypto.sign(self.key, token.as_bytes())?;
        token.push('.');
        token.push_str(&BASE64_URL_SAFE_NO_PAD.encode(signature));
        Some(Secret::new(token))
    }
}
