//! Tokens, valid and invalid.

use onbehalf_test_support::base64url;
use serde_json::{Value, json};

use super::keys::{self, Alg};
use super::provider::{ENTRA_ISSUER, OKTA_ISSUER};

/// A token before it is signed.
#[derive(Clone)]
pub struct Token {
    pub algorithm: Alg,
    pub header: Value,
    pub claims: Value,
}

/// An access token of Entra for `user`, good at the time `now`.
pub fn entra(user: &str, now: u64) -> Token {
    Token::new(json!({
        "iss": ENTRA_ISSUER, "aud": "api://onbehalf", "exp": now + 3600, "nbf": now - 10, "iat": now - 10,
        "oid": user, "sub": format!("pairwise-{user}"), "tid": "8a0b1c2d-0000-4000-8000-000000000001",
        "azp": "a-client", "scp": "mcp:read", "ver": "2.0"
    }))
}

/// An access token of Okta for `user`, good at the time `now`.
pub fn okta(user: &str, now: u64) -> Token {
    Token::new(json!({
        "iss": OKTA_ISSUER, "aud": "api://default", "exp": now + 3600, "iat": now - 10, "jti": format!("AT.{user}"),
        "uid": user, "sub": format!("{user}@acme.example"), "cid": "0oaclient", "scp": ["mcp:read"], "ver": 1
    }))
}

impl Token {
    pub fn new(claims: Value) -> Self {
        Self { algorithm: Alg::Rs256, header: json!({"typ": "JWT"}), claims }.with_algorithm(Alg::Rs256)
    }

    /// The token with another algorithm, and the `kid` of its key.
    pub fn with_algorithm(mut self, algorithm: Alg) -> Self {
        self.algorithm = algorithm;
        self.header["alg"] = algorithm.name().into();
        self.header["kid"] = algorithm.kid().into();
        self
    }

    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims[name] = value.into();
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.claims.as_object_mut().expect("claims are an object").remove(name);
        self
    }

    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header[name] = value.into();
        self
    }

    /// The signing input: header and claims.
    pub fn signing_input(&self) -> String {
        format!("{}.{}", base64url(self.header.to_string()), base64url(self.claims.to_string()))
    }

    /// The correct signature.
    pub fn signature(&self) -> Vec<u8> {
        keys::sign(self.algorithm, self.signing_input().as_bytes())
    }

    /// The token with a given signature.
    pub fn signed_with(&self, signature: &[u8]) -> String {
        format!("{}.{}", self.signing_input(), base64url(signature))
    }

    /// The token with its correct signature.
    pub fn sign(&self) -> String {
        self.signed_with(&self.signature())
    }
}
