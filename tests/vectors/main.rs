//! Signatures against published vectors: Project Wycheproof, and the examples of RFC 7515, RFC 7520 and RFC 8037. Each
//! vector runs through the JWK reader and both implementations of [`onbehalf::crypto::Crypto`].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::string_slice, clippy::arithmetic_side_effects, clippy::unreachable, reason = "tests")]
#![allow(unreachable_pub, missing_docs, reason = "a test binary has no public surface")]

mod foreign;
mod rfc;
mod verdicts;
mod wycheproof;

use onbehalf::crypto::{Algorithm, Crypto as _, EnvoyCrypto, PublicKey, SigningKey, Software};

#[test]
fn software_gives_every_vector_its_verdict() {
    let verdicts = verdicts::check(&Software);
    println!("{verdicts}");
    verdicts.assert_complete();
}

#[test]
#[ignore = "asks an Envoy with tests/envoy/foreign-filter: make test-envoy starts one and comes here"]
fn boringssl_gives_every_vector_its_verdict() {
    let envoy = foreign::Envoy::from_environment();
    let host = EnvoyCrypto::probe(|name, arguments| envoy.call(name, arguments));
    assert_eq!(format!("{host:?}"), "signatures are verified by the host");
    let asked_by_the_probe = envoy.calls();

    let verdicts = verdicts::check(&host);
    println!("{verdicts}");
    verdicts.assert_complete();
    // The host decided every signature that it can decide.
    let asked = envoy.calls() - asked_by_the_probe;
    println!("verify_signature was called {asked} times");
    assert_eq!(asked, verdicts.for_the_host);
    rfc::check(&host);
}

#[test]
#[ignore = "asks an Envoy with tests/envoy/foreign-filter: make test-envoy starts one and comes here"]
fn software_accepts_signatures_of_boringssl() {
    let envoy = foreign::Envoy::from_environment();
    let host = EnvoyCrypto::probe(|name, arguments| envoy.call(name, arguments));
    let (rsa, p256, p384) = (foreign::rsa_key(), foreign::p256_key(), foreign::p384_key());
    for (algorithm, (pem, public)) in [
        (Algorithm::Rs256, &rsa),
        (Algorithm::Rs384, &rsa),
        (Algorithm::Rs512, &rsa),
        (Algorithm::Es256, &p256),
        (Algorithm::Es384, &p384),
    ] {
        let key = SigningKey::parse(algorithm, pem).unwrap();
        // The lengths cross the sizes at which a protobuf length takes another octet. ECDSA runs often enough for an
        // `r` or `s` that is shorter or has its top bit set.
        for length in (0..40).chain([127, 128, 16_383, 16_384]) {
            let message = vec![b'x'; length];
            let before = envoy.calls();
            let signature = host.sign(&key, &message).unwrap();
            assert_eq!(envoy.calls(), before + 1);
            assert!(envoy.last_answer_has(&[0x08, 0x01, 0x12]), "{}: not by the host", algorithm.name());
            let verify = |public: &PublicKey, message: &[u8]| Software.verify(algorithm, public, message, &signature);
            assert!(verify(public, &message), "{}, {length} bytes", algorithm.name());
            assert!(!verify(public, &[&message[..], b"x"].concat()));
        }
    }
}
