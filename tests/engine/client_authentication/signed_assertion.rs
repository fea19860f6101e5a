//! `private_key_jwt`: assertions that the filter signs.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jwt_simple::algorithms::{
    ECDSAP256KeyPairLike as _, ECDSAP384KeyPairLike as _, ES256KeyPair, ES384KeyPair, Ed25519KeyPair,
};
use onbehalf::crypto::PublicKey;
use onbehalf_test_support::{NOW, base64url, with};
use serde_json::{Value, json};
use std::sync::LazyLock;

use super::{Pair, RSA, assertion, authentication_error, certificate};

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
    // The library appends the public key.
    let pem = pair.to_pem().split_inclusive("-----END PRIVATE KEY-----").next().unwrap().to_owned();
    Pair { pem, public: PublicKey::ed25519(&bytes).unwrap(), bytes }
});

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

#[test]
fn client_assertion_is_signed_with_every_algorithm() {
    for (algorithm, pair) in ALGORITHMS {
        let authentication = json!({"method": "private_key_jwt", "algorithm": algorithm, "key": {"inline": pair.pem}});
        let (header, claims) = assertion(authentication, algorithm, &pair.public);
        assert_eq!(header, json!({"alg": algorithm, "typ": "JWT"}));
        let seconds = |name: &str| claims[name].as_u64().unwrap();
        assert_eq!((seconds("iat"), seconds("nbf"), seconds("exp")), (NOW.secs(), NOW.secs() - 60, NOW.secs() + 300));
        assert_eq!((claims["iss"].as_str(), claims["sub"].as_str()), (Some("gateway-id"), Some("gateway-id")));
    }
}

#[test]
fn client_key_must_fit_the_configured_algorithm() {
    for (algorithm, pair) in ALGORITHMS {
        for (other, other_pair) in ALGORITHMS {
            if pair.bytes != other_pair.bytes {
                let error = authentication_error(
                    &json!({"method": "private_key_jwt", "algorithm": algorithm, "key": {"inline": other_pair.pem}}),
                );
                assert!(error.contains("client.authentication.key"), "{algorithm} with a key for {other}: {error}");
            }
        }
    }
    let error =
        authentication_error(&json!({"method": "private_key_jwt", "algorithm": "HS256", "key": {"inline": RSA.pem}}));
    assert!(error.contains("client.authentication.algorithm") && error.contains("PS256"), "{error}");
}

#[test]
fn client_assertion_names_the_certificate_by_thumbprint() {
    use rsa::sha2::{Digest as _, Sha256};
    let ((leaf, leaf_pem), (root, root_pem)) = (certificate(&RSA, 1), certificate(&P256, 2));
    let chain = format!("{leaf_pem}{root_pem}");
    let mut authentication = json!({"method": "private_key_jwt", "algorithm": "PS256", "key": {"inline": RSA.pem},
        "certificate": {"inline": chain}});
    let sha256 = base64url(Sha256::digest(&leaf));
    let (header, _) = assertion(authentication.clone(), "PS256", &RSA.public);
    assert_eq!(header, json!({"alg": "PS256", "typ": "JWT", "x5t#S256": sha256}));
    authentication["certificate_header"] = json!(["x5t", "x5c", "x5t#S256"]);
    authentication["key_id"] = json!("k");
    let (header, _) = assertion(authentication, "PS256", &RSA.public);
    let sha1 = base64url(sha1::Sha1::digest(&leaf));
    let chain = [leaf, root].map(|der| BASE64_STANDARD.encode(der));
    let expected = json!({"alg": "PS256", "typ": "JWT", "kid": "k", "x5t": sha1, "x5t#S256": sha256, "x5c": chain});
    assert_eq!(header, expected);
}

#[test]
fn certificate_must_belong_to_the_client_key() {
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
        let error = authentication_error(
            &json!({"method": "private_key_jwt", "algorithm": "PS256", "key": {"inline": RSA.pem},
            "certificate": {"inline": certificate}}),
        );
        assert!(error.contains("authentication.certificate: ") && error.contains(what), "{error}");
        assert!(!error.contains("PRIVATE"), "{error}");
    }
    let (_, own) = certificate(&RSA, 1);
    let error = |more: Value| {
        let base = json!({"method": "private_key_jwt", "algorithm": "PS256", "key": {"inline": RSA.pem}});
        authentication_error(&with(base, more))
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
