//! DPoP proofs that the filter makes (RFC 9449): for the token endpoint, and for the upstream.

mod configuration;
mod token_endpoint;
mod upstream;

use jwt_simple::algorithms::{ECDSAP256KeyPairLike as _, ES256KeyPair};
use onbehalf::crypto::Software;
use onbehalf::dpop::verify;
use onbehalf::engine::HeaderMutations;
use onbehalf::http::{Callout, CalloutResult};
use onbehalf::url::Url;
use onbehalf_test_support::{
    NOW, OKTA_KEY, answer_with, base64url, bob, configuration, jws_part, sha256_base64url, with,
};
use serde_json::{Value, json};
use std::sync::LazyLock;
use std::time::Duration;

const TOKEN_ENDPOINT: &str = "https://acme.okta.example/oauth2/default/v1/token";

/// The DPoP key of the filter.
static DPOP_KEY: LazyLock<ES256KeyPair> = LazyLock::new(ES256KeyPair::generate);

fn pem() -> String {
    DPOP_KEY.key_pair().to_pem().unwrap()
}

/// The JWK thumbprint of the DPoP key (RFC 7638 section 3).
fn thumbprint() -> String {
    let point = DPOP_KEY.key_pair().public_key().to_bytes_uncompressed();
    let [x, y] = [&point[1..33], &point[33..]].map(base64url);
    sha256_base64url(format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#).as_bytes())
}

/// The configuration with a DPoP key and more options in the exchange.
fn with_key(pem: &str, algorithm: &str, more: Value) -> Value {
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"]["client"]["dpop"] =
        json!({"key": {"inline": pem}, "algorithm": algorithm});
    let exchange = &mut configuration["resources"][0]["exchange"]["okta-eu"];
    *exchange = with(exchange.clone(), more);
    configuration
}

fn as_dpop() -> Value {
    with_key(&pem(), "ES256", json!({"token_type": "dpop"}))
}

/// The token of an Okta user with this name.
fn user(name: &str) -> String {
    OKTA_KEY.token(&with(bob(), json!({"uid": name, "jti": format!("AT.{name}")})))
}

fn proof_of(call: &Callout) -> String {
    let mut proofs = call.headers.iter().filter(|(name, _)| *name == "dpop");
    let proof = proofs.next().expect("a proof").1.reveal().to_owned();
    assert!(proofs.next().is_none());
    proof
}

fn claims(proof: &str) -> Value {
    jws_part(proof, 1)
}

fn nonce_of(call: &Callout) -> Value {
    claims(&proof_of(call))["nonce"].clone()
}

/// Verifies a proof for a method, URL and token with the filter's own verifier.
fn verify_proof(proof: &str, method: &str, url: &str, token: &str) -> Result<(), &'static str> {
    let url = Url::parse(url).unwrap();
    let key_thumbprint = &thumbprint();
    let expected = verify::ProofRules {
        method: method.as_bytes(),
        url: &url,
        path: url.path(),
        access_token: token,
        key_thumbprint,
        max_age: Duration::from_secs(60),
    };
    verify::verify(proof.as_bytes(), expected, &Software, NOW).map(|_| ())
}

fn bound(token: &str, headers: &[(&str, &str)]) -> CalloutResult {
    answer_with(200, headers, &json!({"access_token": token, "token_type": "DPoP", "expires_in": 3600}))
}

fn proof(edits: &HeaderMutations) -> String {
    edits.proof.as_ref().expect("a proof").reveal().to_owned()
}
