//! How the client proves who it is at the token endpoint: assertions of every algorithm, and certificates.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jwt_simple::algorithms::{
    ECDSAP256KeyPairLike as _, ECDSAP384KeyPairLike as _, ES256KeyPair, ES384KeyPair, Ed25519KeyPair,
};
use onbehalf::config::Config;
use onbehalf::crypto::{Algorithm, Crypto as _, PublicKey, Software};
use onbehalf::engine::Sample;
use onbehalf::http::{Call, Reply};
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};

use crate::support::*;

/// A private key in PEM, the public one, and its bytes as a certificate has them.
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

static P256: LazyLock<Pair> = LazyLock::new(|| {
    let pair = ES256KeyPair::generate();
    let bytes = pair.key_pair().public_key().to_bytes_uncompressed();
    let public = PublicKey::p256(&bytes[1..33], &bytes[33..]).unwrap();
    Pair { pem: pair.key_pair().to_pem().unwrap(), public, bytes }
});

static P384: LazyLock<Pair> = LazyLock::new(|| {
    let pair = ES384KeyPair::generate();
    let bytes = pair.key_pair().public_key().to_bytes_uncompressed();
    let public = PublicKey::p384(&bytes[1..49], &bytes[49..]).unwrap();
    Pair { pem: pair.key_pair().to_pem().unwrap(), public, bytes }
});

static ED25519: LazyLock<Pair> = LazyLock::new(|| {
    let pair = Ed25519KeyPair::generate();
    let bytes = pair.public_key().to_bytes();
    // It writes the public key behind it.
    let pem = pair.to_pem().split_inclusive("-----END PRIVATE KEY-----").next().unwrap().to_owned();
    Pair { pem, public: PublicKey::ed25519(&bytes).unwrap(), bytes }
});

fn rand() -> impl rsa::rand_core::CryptoRng {
    rsa::rand_core::UnwrapErr(getrandom::SysRng)
}

const ALGORITHMS: [(&str, &LazyLock<Pair>); 9] = [
    ("RS256", &RSA),
    ("RS384", &RSA),
    ("RS512", &RSA),
    ("PS256", &RSA),
    ("PS384", &RSA),
    ("PS512", &RSA),
    ("ES256", &P256),
    ("ES384", &P384),
    ("EdDSA", &ED25519),
];

fn with_client(authentication: Value) -> Value {
    let mut configuration = configuration();
    configuration["identity_providers"]["entra-us"]["client"]["authentication"] = authentication;
    configuration
}

/// The header and the claims of the assertion by which a client proves itself, and whether the key signed it.
fn assertion(authentication: Value, algorithm: &str, public: &PublicKey) -> (Value, Value) {
    let mut bench = Bench::new(&with_client(authentication)).with_keys();
    bench.wait(bearer("/github", &alice_token()));
    let form = form(&bench.call().1);
    assert!(!form.contains_key("client_secret"));
    let token = &form["client_assertion"];
    let (input, signature) = token.rsplit_once('.').unwrap();
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    let verify =
        |input: &str| Software.verify(Algorithm::from_name(algorithm).unwrap(), public, input.as_bytes(), &signature);
    assert!(verify(input), "{algorithm}");
    assert!(!verify(&format!("{input}A")), "{algorithm}");
    let part = |text: &str| serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap();
    let (header, claims) = input.split_once('.').unwrap();
    (part(header), part(claims))
}

#[test]
fn an_assertion_is_signed_with_every_algorithm() {
    for (algorithm, pair) in ALGORITHMS {
        let authentication = json!({"method": "private_key_jwt", "algorithm": algorithm, "key": {"inline": pair.pem}});
        let (header, claims) = assertion(authentication, algorithm, &pair.public);
        assert_eq!(header, json!({"alg": algorithm, "typ": "JWT"}));
        let seconds = |name: &str| claims[name].as_u64().unwrap();
        assert_eq!((seconds("iat"), seconds("nbf"), seconds("exp")), (NOW.secs(), NOW.secs(), NOW.secs() + 300));
        assert_eq!((claims["iss"].as_str(), claims["sub"].as_str()), (Some("gateway-id"), Some("gateway-id")));
    }
}

fn error(authentication: &Value) -> String {
    let configuration = with_client(authentication.clone()).to_string();
    Config::parse(configuration.as_bytes(), &environment).unwrap_err().to_string()
}

#[test]
fn a_key_is_for_the_algorithm_that_is_named() {
    for (algorithm, pair) in ALGORITHMS {
        for (other, other_pair) in ALGORITHMS {
            if pair.bytes != other_pair.bytes {
                let error = error(
                    &json!({"method": "private_key_jwt", "algorithm": algorithm, "key": {"inline": other_pair.pem}}),
                );
                assert!(error.contains("client.authentication.key"), "{algorithm} with a key for {other}: {error}");
            }
        }
    }
    let error = error(&json!({"method": "private_key_jwt", "algorithm": "HS256", "key": {"inline": RSA.pem}}));
    assert!(error.contains("client.authentication.algorithm") && error.contains("PS256"), "{error}");
}

/// Something that has a public key in it, as a certificate has, in PEM.
fn certificate(pair: &Pair, serial: u8) -> (Vec<u8>, String) {
    let content = [&[2, 1, serial][..], pair.public.spki(), &b"the rest".repeat(40)].concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let der = [&[0x30, 0x82][..], &length, &content].concat();
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64_STANDARD.encode(&der));
    (der, pem)
}

#[test]
fn an_assertion_names_the_certificate_that_its_provider_knows_the_key_by() {
    use rsa::sha2::{Digest as _, Sha256};
    let ((leaf, leaf_pem), (root, root_pem)) = (certificate(&RSA, 1), certificate(&P256, 2));
    let chain = format!("{leaf_pem}{root_pem}");
    let mut authentication = json!({"method": "private_key_jwt", "algorithm": "PS256", "key": {"inline": RSA.pem},
        "certificate": {"inline": chain}});
    let sha256 = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&leaf));
    let (header, _) = assertion(authentication.clone(), "PS256", &RSA.public);
    assert_eq!(header, json!({"alg": "PS256", "typ": "JWT", "x5t#S256": sha256}));
    authentication["certificate_header"] = json!(["x5t", "x5c", "x5t#S256"]);
    authentication["key_id"] = json!("k");
    let (header, _) = assertion(authentication, "PS256", &RSA.public);
    let sha1 = BASE64_URL_SAFE_NO_PAD.encode(sha1::Sha1::digest(&leaf));
    let chain = [leaf, root].map(|der| BASE64_STANDARD.encode(der));
    let expected = json!({"alg": "PS256", "typ": "JWT", "kid": "k", "x5t": sha1, "x5t#S256": sha256, "x5c": chain});
    assert_eq!(header, expected);
}

#[test]
fn a_certificate_must_be_the_keys_own() {
    let (_, other) = certificate(&P256, 1);
    let private = RSA.pem.replace("PRIVATE KEY", "CERTIFICATE");
    let empty = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----";
    let (_, own) = certificate(&RSA, 1);
    for (certificate, what) in [
        (other.as_str(), "another key"),
        (&private, "another key"),
        ("no certificate", "no PEM"),
        (&RSA.pem, "no PEM"),
        (&format!("{own}{empty}"), "no PEM"),
    ] {
        let error = error(&json!({"method": "private_key_jwt", "algorithm": "PS256", "key": {"inline": RSA.pem},
            "certificate": {"inline": certificate}}));
        assert!(error.contains("authentication.certificate: ") && error.contains(what), "{error}");
        assert!(!error.contains("PRIVATE"), "{error}");
    }
    let (_, own) = certificate(&RSA, 1);
    let error = |more: Value| {
        let base = json!({"method": "private_key_jwt", "algorithm": "PS256", "key": {"inline": RSA.pem}});
        error(&with(base, more))
    };
    assert!(
        error(json!({"certificate": {"inline": own}, "certificate_header": ["x5u"]})).contains("certificate_header")
    );
    let twice = error(json!({"certificate": {"inline": own}, "certificate_header": ["x5t", "x5t"]}));
    assert!(twice.contains("certificate_header: found \"x5t\" twice"), "{twice}");
    assert!(error(json!({"certificate_header": ["x5c"]})).contains("authentication.certificate: found nothing"));
    let none = error(json!({"certificate": {"inline": own}, "certificate_header": []}));
    assert!(none.contains("authentication.certificate_header: found an empty list"), "{none}");
}

fn with_two_secrets(method: &str) -> Bench {
    Bench::new(&with_client(
        json!({"method": method, "secret": {"inline": "new"}, "previous_secret": {"inline": "old"}}),
    ))
    .with_keys()
}

/// The secret by which a call proves its client.
fn secret_of(call: &Call) -> String {
    let basic = call.headers.iter().find(|(name, _)| *name == "authorization");
    match basic {
        Some((_, value)) => {
            let pair = BASE64_STANDARD.decode(value.reveal().strip_prefix("Basic ").unwrap()).unwrap();
            String::from_utf8(pair).unwrap().split_once(':').unwrap().1.to_owned()
        }
        None => form(call)["client_secret"].clone(),
    }
}

fn invalid_client() -> Reply {
    answer_with(401, &[], &json!({"error": "invalid_client", "error_codes": [7_000_215]}))
}

#[test]
fn while_a_secret_is_replaced_the_old_one_serves_where_the_new_is_not_known() {
    for method in ["client_secret_post", "client_secret_basic"] {
        let mut bench = with_two_secrets(method);
        let id = bench.wait(bearer("/github", &alice_token()));
        let (flight, call) = bench.call();
        assert_eq!(secret_of(&call), "new");
        assert!(bench.reply(flight, &invalid_client()).is_empty(), "it waits on");
        // Who comes meanwhile waits for the same.
        let other = bench.wait(bearer("/github", &alice_token()));
        let (flight, call) = bench.call();
        assert_eq!(secret_of(&call), "old");
        bench.no_call();
        let steps = bench.reply(flight, &issued("up"));
        let served: Vec<_> = steps.into_iter().map(|(id, step)| (id, authorization(step))).collect();
        assert_eq!(served, [(id, "Bearer up".to_owned()), (other, "Bearer up".to_owned())]);
        let counted = bench.engine.counters().take();
        assert!(counted.contains(&(Sample::Exchanges(0, "ok_with_previous_secret"), 1)), "{counted:?}");
        // The new one is always tried first.
        bench.wait(bearer("/github", &entra_user("next")));
        assert_eq!(secret_of(&bench.call().1), "new");
    }
}

#[test]
fn a_provider_that_knows_neither_secret_is_asked_twice_and_one_that_says_something_else_once() {
    let mut bench = with_two_secrets("client_secret_post");
    bench.wait(bearer("/github", &alice_token()));
    let (flight, _) = bench.call();
    assert!(bench.reply(flight, &invalid_client()).is_empty());
    let (flight, _) = bench.call();
    let mut steps = bench.reply(flight, &invalid_client());
    assert_eq!(refused(steps.remove(0).1).1, "exchange_misconfigured");
    bench.no_call();

    for reply in [answer_with(400, &[], &json!({"error": "invalid_grant"})), TIMED_OUT, answer(401, b"<html>")] {
        let mut bench = with_two_secrets("client_secret_post");
        bench.wait(bearer("/github", &alice_token()));
        let (flight, _) = bench.call();
        assert_eq!(bench.reply(flight, &reply).len(), 1);
        bench.no_call();
    }
}

#[test]
fn only_a_client_with_a_secret_has_a_previous_one() {
    let error = error(&json!({"method": "private_key_jwt", "algorithm": "RS256", "key": {"inline": RSA.pem},
        "previous_secret": {"inline": "old"}}));
    assert!(error.contains("authentication.previous_secret: "), "{error}");
}

#[test]
fn a_previous_secret_that_is_the_same_is_pointed_out() {
    let warnings = |old: &str| {
        let authentication = json!({"method": "client_secret_post", "secret": {"env": "ENTRA_CLIENT_SECRET"},
            "previous_secret": {"inline": old}});
        parse(&with_client(authentication)).warnings
    };
    assert_eq!(warnings("old").len(), 1, "that it is inline");
    let warnings = warnings(SECRET);
    assert!(warnings[1].contains("client.authentication.previous_secret: it is the same"), "{warnings:?}");
    assert!(!warnings[1].contains(SECRET));
}
