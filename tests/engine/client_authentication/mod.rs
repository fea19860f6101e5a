//! Authentication of the client at the token endpoint (RFC 6749 section 2.3, RFC 7523, RFC 8705).

mod external_assertion;
mod mutual_tls;
mod secret;
mod shared_memory_key;
mod signed_assertion;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use onbehalf::crypto::{Algorithm, Crypto as _, PublicKey, Software};
use onbehalf::http::Callout;
use onbehalf_test_support::{
    TestEngine, alice_token, base64url_decode, bearer, configuration, configuration_error, form,
};
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// A private key in PEM, the public key, and the bytes of the public key in a certificate.
struct Pair {
    pem: String,
    public: PublicKey,
    bytes: Vec<u8>,
}

static RSA: LazyLock<Pair> = LazyLock::new(|| {
    let key = rsa::PrivateKey::new(&mut rand(), 2048).unwrap();
    let public = PublicKey::rsa(&key.n_bytes(), &key.e_bytes()).unwrap();
    Pair { pem: key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string(), public, bytes: key.n_bytes().to_vec() }
});

fn rand() -> impl rsa::rand_core::CryptoRng {
    rsa::rand_core::UnwrapErr(getrandom::SysRng)
}

fn with_client(authentication: Value) -> Value {
    let mut configuration = configuration();
    configuration["identity_providers"]["entra-us"]["client"]["authentication"] = authentication;
    configuration
}

/// Header and claims of a client assertion. Checks its signature.
fn assertion(authentication: Value, algorithm: &str, public: &PublicKey) -> (Value, Value) {
    let mut engine = TestEngine::new(&with_client(authentication)).with_keys();
    engine.send_waiting(bearer("/github", &alice_token()));
    let form = form(&engine.expect_call().1);
    assert!(!form.contains_key("client_secret"));
    let token = &form["client_assertion"];
    let (input, signature) = token.rsplit_once('.').unwrap();
    let signature = base64url_decode(signature);
    let verify =
        |input: &str| Software.verify(Algorithm::from_name(algorithm).unwrap(), public, input.as_bytes(), &signature);
    assert!(verify(input), "{algorithm}");
    assert!(!verify(&format!("{input}A")), "{algorithm}");
    let part = |text: &str| serde_json::from_slice(&base64url_decode(text)).unwrap();
    let (header, claims) = input.split_once('.').unwrap();
    (part(header), part(claims))
}

fn authentication_error(authentication: &Value) -> String {
    configuration_error(&with_client(authentication.clone())).to_string()
}

/// A certificate in PEM, of which only the public key is real.
fn certificate(pair: &Pair, serial: u8) -> (Vec<u8>, String) {
    let content = [&[2, 1, serial][..], pair.public.spki(), &b"the rest".repeat(40)].concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let der = [&[0x30, 0x82][..], &length, &content].concat();
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64_STANDARD.encode(&der));
    (der, pem)
}

/// The client's parameters in a token request, and `true` if there is an `authorization` field.
fn proof(call: &Callout) -> (Vec<(String, String)>, bool) {
    let grant = ["grant_type", "requested_token_use", "assertion", "scope"];
    let mut fields: Vec<_> = form(call).into_iter().filter(|(name, _)| !grant.contains(&name.as_str())).collect();
    fields.sort();
    (fields, call.headers.iter().any(|(name, _)| *name == "authorization"))
}

fn field(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

const ASSERTION: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ3b3JrbG9hZCJ9.c2lnbmF0dXJl";

fn asserted() -> Value {
    with_client(json!({"method": "client_assertion", "assertion": {"header": "X-Workload-Assertion"}}))
}
