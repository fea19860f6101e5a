//! Attacks 1 to 5: algorithms and signatures.

use hmac_sha256::HMAC;
use jwt_simple::algorithms::{ECDSAP256KeyPairLike, ECDSAP384KeyPairLike, RSAKeyPairLike};
use jwt_simple::algorithms::{ES256KeyPair, ES384KeyPair};
use onbehalf::jose::{Rejection, TokenError};
use onbehalf_test_support::{ENTRA_KEY, TestEngine, alice, alice_token, base64url, base64url_decode, key_set, with};
use p256::ecdsa::signature::Signer as _;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::sha2::Sha256;
use serde_json::{Value, json};
use std::sync::LazyLock;

use super::{RSA, header, outcome_of, reason_of_401, signed, with_keys};

static RSA_PRIVATE: LazyLock<rsa::PrivateKey> =
    LazyLock::new(|| rsa::PrivateKey::from_pkcs8_der(&RSA.to_der().unwrap()).unwrap());

fn rsa_jwk(more: Value) -> Value {
    let parts = RSA.key_pair().public_key().to_components();
    with(json!({"kty": "RSA", "n": base64url(parts.n), "e": base64url(parts.e)}), more)
}

// 1 to 11: algorithms and keys.

#[test]
fn alg_none_in_any_spelling_is_refused() {
    let good = alice_token();
    for alg in ["none", "None", "NONE", "nOnE", "none ", "none\0", "nonee", ""] {
        let token = ENTRA_KEY.sign(&header(json!({"alg": alg})), &alice());
        let (input, signature) = token.rsplit_once('.').unwrap();
        for third in ["", signature, good.rsplit_once('.').unwrap().1, "AA"] {
            let mut engine = TestEngine::ready();
            assert_eq!(
                reason_of_401(&mut engine, &format!("{input}.{third}")),
                "unsupported_algorithm",
                "{alg:?} {third:.4}"
            );
        }
    }
    for alg in [json!(256), json!(true), json!(["ES256"]), json!({"alg": "ES256"})] {
        let token = ENTRA_KEY.sign(&header(json!({"alg": alg})), &alice());
        assert_eq!(reason_of_401(&mut TestEngine::ready(), &token), "malformed_token", "{alg}");
    }
    let null = ENTRA_KEY.sign_bytes(r#"{"alg":null,"kid":"entra-1"}"#, alice().to_string());
    assert_eq!(reason_of_401(&mut TestEngine::ready(), &null), "malformed_token");
}

#[test]
fn token_without_three_segments_is_refused_and_a_jwe_is_named() {
    let good = alice_token();
    let (input, signature) = good.rsplit_once('.').unwrap();
    for (token, expected) in [
        (input.to_owned(), "malformed_token"),
        (format!("{good}.{signature}"), "malformed_token"),
        (format!("{good}..."), "malformed_token"),
        (format!("{good}.AAAA.AAAA"), "encrypted_token"),
        (format!("{good}.."), "encrypted_token"),
    ] {
        assert_eq!(reason_of_401(&mut TestEngine::ready(), &token), expected, "{}", token.matches('.').count());
    }
    let diagnosis = Rejection::from(TokenError::Encrypted).diagnosis;
    assert!(diagnosis.contains("JWE") && diagnosis.contains("switch token encryption off"), "{diagnosis}");
}

#[test]
fn public_key_in_any_form_is_no_hmac_secret() {
    let set: Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY])).unwrap();
    let ec = set["keys"][0].clone();
    let point =
        [&[4][..], &base64url_decode(ec["x"].as_str().unwrap()), &base64url_decode(ec["y"].as_str().unwrap())].concat();
    let public = jwt_simple::algorithms::ES256PublicKey::from_bytes(&point).unwrap();
    let (ec_pem, ec_der) = (public.to_pem().unwrap(), public.to_der().unwrap());
    let rsa = RSA.key_pair().public_key();
    let (rsa_pem, rsa_der) = (rsa.to_pem().unwrap(), rsa.to_der().unwrap());
    let rsa_jwk = rsa_jwk(json!({"kid": "rsa-1", "alg": "RS256"}));
    let mut engine = with_keys(&json!({"keys": [ec, rsa_jwk]}));
    let ec_secrets: [Vec<u8>; 6] = [
        ec_pem.clone().into_bytes(),
        ec_pem.trim().as_bytes().to_vec(),
        ec_der,
        ec.to_string().into_bytes(),
        base64url_decode(ec["x"].as_str().unwrap()),
        point,
    ];
    let rsa_secrets: [Vec<u8>; 5] = [
        rsa_pem.clone().into_bytes(),
        rsa_pem.trim().as_bytes().to_vec(),
        rsa_der,
        rsa_jwk.to_string().into_bytes(),
        rsa.to_components().n,
    ];
    for (kid, secrets) in [("entra-1", &ec_secrets[..]), ("rsa-1", &rsa_secrets)] {
        for secret in secrets {
            let head = header(json!({"alg": "HS256", "kid": kid}));
            let token = signed(&head, &alice(), |input| HMAC::mac(input, secret).to_vec());
            assert_eq!(reason_of_401(&mut engine, &token), "unsupported_algorithm", "{kid}");
            // The JWK claims the algorithm of the token.
            let head = header(json!({"alg": if kid == "rsa-1" { "RS256" } else { "ES256" }, "kid": kid}));
            let token = signed(&head, &alice(), |input| HMAC::mac(input, secret).to_vec());
            assert_eq!(reason_of_401(&mut engine, &token), "bad_signature", "{kid}");
        }
    }
}

#[test]
fn key_verifies_only_by_its_own_algorithm() {
    let p256 = ES256KeyPair::generate();
    let p384 = ES384KeyPair::generate();
    let edwards = ed25519_compact::KeyPair::generate();
    let point = |bytes: Vec<u8>, crv: &str, kid: &str| {
        let (x, y) = bytes[1..].split_at(bytes.len() / 2);
        json!({"kty": "EC", "crv": crv, "x": base64url(x), "y": base64url(y), "kid": kid})
    };
    let mut engine = with_keys(&json!({"keys": [
        rsa_jwk(json!({"kid": "for RS256", "alg": "RS256"})),
        rsa_jwk(json!({"kid": "for PS256", "alg": "PS256"})),
        rsa_jwk(json!({"kid": "bare RSA"})),
        point(p256.key_pair().public_key().to_bytes_uncompressed(), "P-256", "P-256"),
        point(p384.key_pair().public_key().to_bytes_uncompressed(), "P-384", "P-384"),
        {"kty": "OKP", "crv": "Ed25519", "x": base64url(*edwards.pk), "kid": "Ed25519"},
        {"kty": "OKP", "crv": "X25519", "x": base64url(*edwards.pk), "kid": "X25519"},
    ]}));
    let sign = |alg: &str, input: &[u8]| match alg {
        "RS256" => RSA_PRIVATE.pkcs1v15_sign::<Sha256>(input).unwrap(),
        "PS256" => RSA_PRIVATE.pss_sign_with_rng::<Sha256, _>(&mut getrandom::SysRng, input).unwrap(),
        "ES256" => {
            let signature: p256::ecdsa::Signature = p256.key_pair().as_ref().sign(input);
            signature.to_bytes().to_vec()
        }
        "ES384" => {
            let signature: p384::ecdsa::Signature = p384.key_pair().as_ref().sign(input);
            signature.to_bytes().to_vec()
        }
        _ => edwards.sk.sign(input, None).to_vec(),
    };
    let algorithms = ["RS256", "PS256", "ES256", "ES384", "EdDSA"];
    for (kid, own) in [
        ("for RS256", "RS256"),
        ("for PS256", "PS256"),
        ("bare RSA", "RS256"),
        ("P-256", "ES256"),
        ("P-384", "ES384"),
        ("Ed25519", "EdDSA"),
        ("X25519", ""),
    ] {
        for said in algorithms {
            for by in algorithms {
                let token = signed(&header(json!({"alg": said, "kid": kid})), &alice(), |input| sign(by, input));
                let expected = match (kid, said == own, by == own) {
                    ("X25519", ..) => "unknown_key",
                    (_, false, _) => "unsupported_algorithm",
                    (_, true, false) => "bad_signature",
                    (_, true, true) => "exchanged",
                };
                assert_eq!(outcome_of(&mut engine, &token), expected, "{kid}: says {said}, signed as {by}");
            }
        }
    }
}

#[test]
fn es256_signature_has_two_32_octet_numbers_in_range() {
    const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&ORDER[2 * at..2 * at + 2], 16).unwrap()).collect();
    let good = alice_token();
    let (input, signature) = good.rsplit_once('.').unwrap();
    let bytes = base64url_decode(signature);
    let (r, s) = bytes.split_at(32);
    let mut other_s = vec![0; 32];
    let mut borrow = 0;
    for at in (0..32).rev() {
        let difference = i16::from(order[at]) - i16::from(s[at]) - borrow;
        borrow = i16::from(difference < 0);
        other_s[at] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    // One of the two signatures has an `s` above half of the order. RFC 7518 section 3.4 accepts both.
    for s in [s, &other_s] {
        let token = format!("{input}.{}", base64url([r, s].concat()));
        assert_eq!(outcome_of(&mut TestEngine::ready(), &token), "exchanged");
    }
    let zero = [0; 32];
    let one = [&zero[..31], &[1]].concat();
    let der = p256::ecdsa::Signature::from_slice(&bytes).unwrap().to_der();
    for (what, signature) in [
        ("r = 0", [&zero, s].concat()),
        ("s = 0", [r, &zero].concat()),
        ("r = s = 0", [zero, zero].concat()),
        ("r = n", [&order, s].concat()),
        ("s = n", [r, &order].concat()),
        ("r beyond n", [&[0xff; 32], s].concat()),
        ("s beyond n", [r, &[0xff; 32]].concat()),
        ("r = s = 1", [&one[..], &one].concat()),
        ("r and s exchanged", [s, r].concat()),
        ("DER", der.as_bytes().to_vec()),
        ("DER cut to 64 octets", der.as_bytes()[..64].to_vec()),
        ("63 octets", bytes[..63].to_vec()),
        ("the first octet missing", bytes[1..].to_vec()),
        ("65 octets", [&bytes[..], &[0]].concat()),
        ("65 octets, a zero first", [&[0], &bytes[..]].concat()),
        ("66 octets", [&[0], r, &[0], s].concat()),
        ("66 octets, two more", [&bytes[..], &[0, 0]].concat()),
        ("of the width of P-384", [&[0; 16], r, &[0; 16], s].concat()),
        ("twice", [&bytes[..], &bytes].concat()),
        ("nothing", Vec::new()),
    ] {
        let token = format!("{input}.{}", base64url(signature));
        assert_eq!(reason_of_401(&mut TestEngine::ready(), &token), "bad_signature", "{what}");
    }
}

#[test]
fn rsa_signature_has_the_length_of_the_modulus() {
    let modulus = RSA.key_pair().public_key().to_components().n;
    let head = header(json!({"alg": "RS256", "kid": "rsa-1"}));
    let mut engine = with_keys(&json!({"keys": [rsa_jwk(json!({"kid": "rsa-1", "alg": "RS256"}))]}));
    // A signature whose first octet is zero is the same number without that octet.
    let signature = |input: &[u8]| RSA_PRIVATE.pkcs1v15_sign::<Sha256>(input).unwrap();
    let (claims, bytes) = (0..10_000)
        .find_map(|serial| {
            let claims = with(alice(), json!({"serial": serial}));
            let token = signed(&head, &claims, signature);
            let bytes = base64url_decode(token.rsplit('.').next().unwrap());
            (bytes[0] == 0).then_some((claims, bytes))
        })
        .expect("one in 256 is like that");
    let plus_modulus = {
        let mut sum = vec![0; bytes.len()];
        let mut carry = 0;
        for at in (0..bytes.len()).rev() {
            let digit = u16::from(bytes[at]) + u16::from(modulus[at]) + carry;
            sum[at] = u8::try_from(digit & 0xff).unwrap();
            carry = digit >> 8;
        }
        [if carry == 0 { vec![] } else { vec![1] }, sum].concat()
    };
    let mut one = vec![0; bytes.len()];
    *one.last_mut().unwrap() = 1;
    for (what, signature) in [
        ("without the zero", bytes[1..].to_vec()),
        ("one octet less", bytes[..255].to_vec()),
        ("one octet more", [&bytes[..], &[0]].concat()),
        ("one zero more in front", [&[0], &bytes[..]].concat()),
        ("and the modulus", plus_modulus),
        ("the modulus", modulus),
        ("zero", vec![0; bytes.len()]),
        ("one", one),
        ("twice", [&bytes[..], &bytes].concat()),
        ("one octet", vec![1]),
        ("nothing", Vec::new()),
    ] {
        let token = signed(&head, &claims, |_| signature);
        assert_eq!(reason_of_401(&mut engine, &token), "bad_signature", "{what}");
    }
    assert_eq!(outcome_of(&mut engine, &signed(&head, &claims, |_| bytes)), "exchanged");
}
