//! Signing keys of the providers, and the tokens that they sign.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jwt_simple::algorithms::{ECDSAP256KeyPairLike as _, ES256KeyPair};
use onbehalf::crypto::{Algorithm, Crypto as _, SigningKey, Software};
use onbehalf::time::UnixTime;
use serde_json::{Value, json};

use crate::configuration::with;

/// The time at which each test begins.
pub const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
/// The Entra tenant.
pub const TENANT: &str = "9b1c0000-1111-4222-8333-444455556666";
/// The Entra issuer.
pub const ENTRA: &str = "https://login.entra.example/9b1c0000-1111-4222-8333-444455556666/v2.0";
/// The Okta issuer, a custom authorization server.
pub const OKTA: &str = "https://acme.okta.example/oauth2/default";
/// The client secret at Entra.
pub const SECRET: &str = "s3cr3t~value";

/// Base64url without padding (RFC 7515 section 2).
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The octets of base64url without padding.
pub fn base64url_decode(text: impl AsRef<[u8]>) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text).expect("base64url")
}

/// The SHA-256 in base64url, as `ath`, `jkt` and `x5t#S256` have it.
pub fn sha256_base64url(bytes: impl AsRef<[u8]>) -> String {
    base64url(hmac_sha256::Hash::hash(bytes.as_ref()))
}

/// An ES256 key pair that is the same in each run.
fn key_pair(name: &str) -> ES256KeyPair {
    ES256KeyPair::from_bytes(&hmac_sha256::Hash::hash(name.as_bytes())).expect("a scalar below the order of P-256")
}

/// An ES256 signing key with its JWK.
pub struct Signer {
    /// The `kid` of the JWK.
    pub kid: &'static str,
    /// The public key as a JWK.
    pub jwk: Value,
    key: SigningKey,
}

impl Signer {
    /// The key of a `kid`, the same in each run.
    pub fn new(kid: &'static str) -> Self {
        let pair = key_pair(kid);
        let pem = pair.key_pair().to_pem().expect("PKCS #8");
        let key = SigningKey::parse(Algorithm::Es256, &pem).expect("an ES256 key");
        let point = pair.key_pair().public_key().to_bytes_uncompressed();
        let (x, y) = (base64url(&point[1..33]), base64url(&point[33..]));
        let jwk = json!({"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": x, "y": y});
        Self { kid, jwk, key }
    }

    /// A JWS of a JSON header and JSON claims.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_bytes(header.to_string(), claims.to_string())
    }

    /// A JWS whose header and claims may be anything, JSON or not.
    pub fn sign_bytes(&self, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
        let input = format!("{}.{}", base64url(header), base64url(claims));
        let signature = Software.sign(&self.key, input.as_bytes()).expect("a signature");
        format!("{input}.{}", base64url(signature))
    }

    /// A token with the usual header.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "ES256", "kid": self.kid, "typ": "JWT"}), claims)
    }
}

/// The key that Entra publishes.
pub static ENTRA_KEY: LazyLock<Signer> = LazyLock::new(|| Signer::new("entra-1"));
/// The key that Okta publishes.
pub static OKTA_KEY: LazyLock<Signer> = LazyLock::new(|| Signer::new("okta-1"));
/// A key that no provider publishes at first.
pub static OTHER_KEY: LazyLock<Signer> = LazyLock::new(|| Signer::new("other-1"));

/// The ES256 key for client assertions.
pub static CLIENT_KEY: LazyLock<ES256KeyPair> = LazyLock::new(|| key_pair("client"));

/// The JWK Set of some keys.
pub fn key_set(signers: &[&Signer]) -> Vec<u8> {
    json!({"keys": signers.iter().map(|signer| &signer.jwk).collect::<Vec<_>>()}).to_string().into_bytes()
}

/// The claims of Alice's access token by Entra for the gateway.
pub fn alice() -> Value {
    json!({"iss": ENTRA, "aud": "api://gateway", "oid": "alice", "tid": TENANT, "sub": "pairwise", "azp": "client", "ver": "2.0",
        "scp": "mcp.read mcp.write", "iat": NOW.secs(), "nbf": NOW.secs(), "exp": NOW.secs() + 3600})
}

/// The claims of Bob's access token by Okta for the gateway.
pub fn bob() -> Value {
    json!({"iss": OKTA, "aud": "api://default", "sub": "bob@acme.example", "uid": "00ubob", "cid": "client", "ver": 1,
        "jti": "AT.1", "scp": ["mcp.read", "mcp.write"], "iat": NOW.secs(), "exp": NOW.secs() + 3600})
}

/// The claims of Bob's ID token by Okta for the application that he signed in to.
pub fn bob_id() -> Value {
    json!({"iss": OKTA, "aud": "login-client", "sub": "00ubob", "jti": "ID.1", "nonce": "n", "iat": NOW.secs(), "exp": NOW.secs() + 3600})
}

/// Alice's access token.
pub fn alice_token() -> String {
    ENTRA_KEY.token(&alice())
}

/// Alice's access token that is good for a day, and so outlives the token it is exchanged for.
pub fn alice_day_token() -> String {
    ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() + 86_400})))
}

/// The access token of the Entra user with this `oid`.
pub fn entra_user(name: &str) -> String {
    ENTRA_KEY.token(&with(alice(), json!({"oid": name})))
}

/// Bob's access token.
pub fn bob_token() -> String {
    OKTA_KEY.token(&bob())
}

/// A part of a JWS as JSON: its header (0) or its payload (1).
pub fn jws_part(jws: &str, index: usize) -> Value {
    let part = jws.split('.').nth(index).expect("a part");
    serde_json::from_slice(&base64url_decode(part)).expect("JSON")
}
