//! How the client proves who it is at the token endpoint (RFC 6749 section 2.3.1, RFC 7523 section 2.2,
//! RFC 8705 section 2).

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

use crate::crypto::{Crypto, SigningKey};
use crate::json;
use crate::provider::{AssertionSource, CertificateHeader, Client, ClientAuthentication, ClientSecret};
use crate::secret::Secret;
use crate::time::UnixTime;
use crate::url::Url;

/// RFC 7523 section 2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How long a client assertion is good for. Providers allow an hour at most.
const ASSERTION_LIFETIME: Duration = Duration::from_secs(300);

/// How much earlier than now an assertion says that it is good from: a provider's clock may be behind ours.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

/// Which of a client's two secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretVersion {
    /// The one to use.
    Current,
    /// The one from before, while the provider may not know the new one.
    Previous,
}

/// What a request at the token endpoint needs beside the grant's parameters.
pub(crate) struct ClientProof {
    /// The value of `authorization`.
    pub(crate) authorization: Option<Secret>,
    /// Form fields.
    pub(crate) fields: Vec<(&'static str, Secret)>,
}

/// Proves `client` to `token_endpoint`. Call it anew for every request: an assertion is good for one.
/// `None` when it could not be signed, or `assertion`, which somebody else has made for this one exchange, is missing.
pub(crate) fn prove(
    client: &Client,
    which: SecretVersion,
    assertion: Option<&Secret>,
    token_endpoint: &Url,
    crypto: &dyn Crypto,
    now: UnixTime,
) -> Option<ClientProof> {
    let of = |secret: &ClientSecret| match which {
        SecretVersion::Current => Some(secret.current.clone()),
        SecretVersion::Previous => secret.previous.clone(),
    };
    let id = || ("client_id", Secret::new(client.id.clone()));
    let asserted = |assertion| ClientProof {
        authorization: None,
        fields: vec![
            id(),
            ("client_assertion_type", Secret::new(ASSERTION_TYPE.to_owned())),
            ("client_assertion", assertion),
        ],
    };
    Some(match &client.authentication {
        ClientAuthentication::SecretBasic(secret) => {
            // RFC 6749 section 2.3.1: both parts are form-encoded before they are joined.
            let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", encode(&client.id), encode(of(secret)?.reveal()));
            ClientProof {
                authorization: Some(Secret::new(format!("Basic {}", BASE64_STANDARD.encode(pair)))),
                fields: Vec::new(),
            }
        }
        ClientAuthentication::SecretPost(secret) => {
            ClientProof { authorization: None, fields: vec![id(), ("client_secret", of(secret)?)] }
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
        ClientAuthentication::MutualTls => ClientProof { authorization: None, fields: vec![id()] },
        ClientAuthentication::Upstream => ClientProof { authorization: None, fields: Vec::new() },
    })
}

/// A client assertion to be (RFC 7523 section 3).
pub struct Assertion<'a> {
    /// `iss` and `sub`.
    pub client_id: &'a str,
    /// `aud`, always one string.
    pub audience: &'a str,
    /// What signs it.
    pub key: &'a SigningKey,
    /// `kid`.
    pub key_id: Option<&'a str>,
    /// By what the key's certificate is named.
    pub certificate: &'a CertificateHeader,
}

impl Assertion<'_> {
    /// A fresh assertion, good for five minutes from `now`. `None` when the host has no randomness or the key
    /// does not sign.
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
            ("nbf", now.minus(CLOCKS_DIFFER).secs().into()),
            ("exp", now.plus(ASSERTION_LIFETIME).secs().into()),
        ];
        let mut token = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(json::text(part))).join(".");
        let signature = crypto.sign(self.key, token.as_bytes())?;
        token.push('.');
        token.push_str(&BASE64_URL_SAFE_NO_PAD.encode(signature));
        Some(Secret::new(token))
    }
}
