//! Attacks 5 to 8 and 11: weak keys, `kid`, keys inside a token, JWK Sets.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jwt_simple::algorithms::{ECDSAP256KeyPairLike, ECDSAP384KeyPairLike, RSAKeyPairLike};
use jwt_simple::algorithms::{ES256KeyPair, ES384KeyPair};
use onbehalf::http::{CalloutFailure, CalloutResult};
use onbehalf_test_support::{
    ENTRA_KEY, OKTA_KEY, OTHER_KEY, Signer, TestEngine, alice, alice_token, answer, answer_with, base64url, bearer,
    configuration, key_set, provider_document, refused, with,
};
use serde_json::{Value, json};

use super::{RSA, header, outcome_of, read, reason_of_401, with_keys};

#[test]
fn weak_or_costly_rsa_keys_are_not_used() {
    let modulus = |bits: usize| {
        let mut octets = vec![0xff; bits.div_ceil(8)];
        octets[0] >>= octets.len() * 8 - bits;
        base64url(octets)
    };
    let even = {
        let mut octets = vec![0xff; 256];
        octets[255] = 0xfe;
        base64url(octets)
    };
    let key = |n: String, e: &[u8]| json!({"kty": "RSA", "n": n, "e": base64url(e)});
    const USUAL: &[u8] = &[1, 0, 1];
    for good in [2048, 2056, 3072, 4096] {
        assert_eq!(read(&[key(modulus(good), USUAL)]).0, 1, "{good} bits");
    }
    for bits in [1, 8, 512, 1024, 2040, 2047, 4097, 8192, 8200, 16_384, 1 << 20] {
        assert_eq!(read(&[key(modulus(bits), USUAL)]).0, 0, "{bits} bits");
    }
    assert_eq!(read(&[key(even, USUAL)]).0, 0, "even modulus");
    let zero_in_front = base64url([&[0][..], &[0xff; 256]].concat());
    assert_eq!(read(&[key(zero_in_front, USUAL)]).0, 0, "a zero in front of the modulus");
    for (what, exponent) in [
        ("none", &[][..]),
        ("0", &[0]),
        ("1", &[1]),
        ("2", &[2]),
        ("3", &[3]),
        ("17", &[17]),
        ("65536", &[1, 0, 0]),
        ("65537 with a zero in front", &[0, 1, 0, 1]),
        ("2^32 + 1", &[1, 0, 0, 0, 1]),
        ("2^33 + 1", &[2, 0, 0, 0, 1]),
        ("as long as the modulus", &[0xff; 256]),
        ("of 64 KiB", &[0xff; 65_536]),
    ] {
        assert_eq!(read(&[key(modulus(2048), exponent)]).0, 0, "exponent {what}");
    }
}

#[test]
fn point_off_its_curve_or_compressed_is_no_key() {
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    for (crv, width, other_crv, point) in [
        ("P-256", 32, "P-384", ES256KeyPair::generate().key_pair().public_key().to_bytes_uncompressed()),
        ("P-384", 48, "P-256", ES384KeyPair::generate().key_pair().public_key().to_bytes_uncompressed()),
    ] {
        let (x, y) = point[1..].split_at(width);
        let key =
            |crv: &str, x: &[u8], y: &[u8]| json!({"kty": "EC", "crv": crv, "x": base64url(x), "y": base64url(y)});
        assert_eq!(read(&[key(crv, x, y)]).0, 1);
        let beside = {
            let mut y = y.to_vec();
            *y.last_mut().unwrap() ^= 1;
            y
        };
        let (zero, ones) = (vec![0; width], vec![0xff; width]);
        let compressed = [&[2 + (y[width - 1] & 1)], x].concat();
        for (what, key) in [
            ("off the curve", key(crv, x, &beside)),
            ("coordinates exchanged", key(crv, y, x)),
            ("the point at infinity as zeros", key(crv, &zero, &zero)),
            ("the point at infinity as one octet", key(crv, &[0], &[])),
            ("nothing", key(crv, &[], &[])),
            ("beyond the field", key(crv, &ones, y)),
            ("y beyond the field", key(crv, x, &ones)),
            ("a short x", key(crv, &x[1..], y)),
            ("a long x", key(crv, &[&[0], x].concat(), y)),
            ("a long y", key(crv, x, &[&[0], y].concat())),
            ("an octet moved", key(crv, &point[1..width], &point[width..])),
            ("compressed in x", key(crv, &compressed, &[])),
            ("compressed in x beside y", key(crv, &compressed, y)),
            ("compressed without y", with(key(crv, &compressed, y), json!({"y": null}))),
            ("uncompressed in x", key(crv, &point, &[])),
            ("hybrid", key(crv, &[&[6 + (y[width - 1] & 1)], &point[1..]].concat(), &[])),
            ("x without y", with(key(crv, x, y), json!({"y": null}))),
            ("y is a sign", with(key(crv, x, y), json!({"y": true}))),
            ("another curve", key(other_crv, x, y)),
            ("a curve of no JWS algorithm", key("secp256k1", x, y)),
            ("a curve in lower case", key(&crv.to_lowercase(), x, y)),
            ("padded", with(key(crv, x, y), json!({"x": format!("{}=", base64url(x))}))),
        ] {
            assert_eq!(read(&[key]).0, 0, "{crv}: {what}");
        }
    }
    let edwards = |x: &[u8]| json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(x)});
    let good = ed25519_compact::KeyPair::generate().pk;
    assert_eq!(read(&[edwards(&*good)]).0, 1);
    for (what, octets) in [
        ("31 octets", good[..31].to_vec()),
        ("33 octets", [&good[..], &[0]].concat()),
        ("of order 1", [&[1][..], &[0; 31]].concat()),
        ("of order 2", hex(&format!("ec{}7f", "ff".repeat(30)))),
        ("of order 4", vec![0; 32]),
        ("of order 8", hex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")),
        ("of order 8, the other", hex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")),
        ("y = 2, off the curve", [&[2][..], &[0; 31]].concat()),
    ] {
        assert_eq!(read(&[edwards(&octets)]).0, 0, "Ed25519: {what}");
    }
}

#[test]
fn kid_selects_only_among_the_keys_of_the_issuer() {
    for kid in [
        json!(""),
        json!("k".repeat(10_000)),
        json!("../../../../dev/null"),
        json!("/proc/self/environ"),
        json!("x' UNION SELECT 'k'; --"),
        json!("entra-1\0"),
        json!("entra-1 "),
        json!("ENTRA-1"),
        json!("\u{435}ntra-1"),
        json!("entra\u{2d}\u{200b}1"),
        json!("okta-1"),
        json!("https://evil.example/keys"),
        json!("\r\nx-evil: 1"),
        json!(r#"{"kty":"oct","k":""}"#),
    ] {
        // A signature by the right key is refused under another `kid`.
        for signer in [&*ENTRA_KEY, &*OKTA_KEY, &*OTHER_KEY] {
            let token = signer.sign(&header(json!({"kid": kid})), &alice());
            assert_eq!(reason_of_401(&mut TestEngine::ready(), &token), "unknown_key", "{kid:.40}");
        }
    }
    for kid in [json!(1), json!(["entra-1"]), json!({"entra-1": 1}), json!(true)] {
        let token = ENTRA_KEY.sign(&header(json!({"kid": kid})), &alice());
        assert_eq!(reason_of_401(&mut TestEngine::ready(), &token), "malformed_token", "{kid}");
    }
    let null = ENTRA_KEY.sign_bytes(r#"{"alg":"ES256","kid":null}"#, alice().to_string());
    assert_eq!(reason_of_401(&mut TestEngine::ready(), &null), "malformed_token");
}

#[test]
fn token_without_kid_is_accepted_only_if_one_key_fits() {
    let without = |signer: &Signer| signer.sign(&header(json!({"kid": null})), &alice());
    assert_eq!(outcome_of(&mut TestEngine::ready(), &without(&ENTRA_KEY)), "exchanged");
    assert_eq!(reason_of_401(&mut TestEngine::ready(), &without(&OKTA_KEY)), "bad_signature");
    let two: Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY, &OTHER_KEY])).unwrap();
    let mut engine = with_keys(&two);
    for signer in [&*ENTRA_KEY, &*OTHER_KEY, &*OKTA_KEY] {
        assert_eq!(reason_of_401(&mut engine, &without(signer)), "unknown_key");
    }
    assert_eq!(outcome_of(&mut engine, &alice_token()), "exchanged");
}

#[test]
fn kid_of_two_keys_selects_neither() {
    let mut twins: Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY, &OTHER_KEY])).unwrap();
    twins["keys"][1]["kid"] = json!("entra-1");
    let mut engine = with_keys(&twins);
    for signer in [&*ENTRA_KEY, &*OTHER_KEY] {
        assert_eq!(outcome_of(&mut engine, &signer.sign(&header(json!({})), &alice())), "unknown_key");
    }
}

#[test]
fn key_addresses_and_keys_in_a_token_are_ignored() {
    let set: Value = serde_json::from_slice(&key_set(&[&OTHER_KEY])).unwrap();
    let jwk = set["keys"][0].clone();
    let certificate = BASE64_STANDARD.encode(RSA.key_pair().public_key().to_der().unwrap());
    for more in [
        json!({"jwk": jwk}),
        json!({"jku": "https://evil.example/keys"}),
        json!({"jku": "https://login.entra.example/evil"}),
        json!({"x5u": "https://evil.example/certificate"}),
        json!({"x5c": [certificate]}),
        json!({"x5t": "evil", "x5t#S256": "evil"}),
        json!({"jwk": jwk, "jku": "https://evil.example/keys", "x5u": "https://evil.example/c", "x5c": [certificate]}),
    ] {
        let forged = |kid: Value| OTHER_KEY.sign(&with(header(more.clone()), json!({"kid": kid})), &alice());
        // The helper fails if the engine calls any address but the provider's own.
        for kid in [json!("entra-1"), json!(null)] {
            let mut engine = TestEngine::ready();
            let step = engine.decide(bearer("/github", &forged(kid)));
            assert_eq!(refused(step), (401, "bad_signature".to_owned()), "{more:.60}");
            engine.expect_no_call();
        }
        for kid in [json!("other-1"), json!("https://evil.example/keys")] {
            assert_eq!(reason_of_401(&mut TestEngine::ready(), &forged(kid)), "unknown_key", "{more:.60}");
        }
        // The engine ignores the other keys in the header.
        let good = ENTRA_KEY.sign(&header(more.clone()), &alice());
        assert_eq!(outcome_of(&mut TestEngine::ready(), &good), "exchanged", "{more:.60}");
    }
}

#[test]
fn malformed_jwks_is_not_used() {
    let good = String::from_utf8(key_set(&[&ENTRA_KEY])).unwrap();
    let doubled = good.replacen("\"crv\"", "\"x\":\"AA\",\"crv\"", 1);
    assert_ne!(good, doubled);
    let set: Value = serde_json::from_str(&good).unwrap();
    for (what, reply) in [
        ("HTML", answer(200, b"<!doctype html><title>Sign in</title>")),
        ("404", answer(404, good.as_bytes())),
        ("201", answer(201, good.as_bytes())),
        ("a redirect", answer_with(302, &[("location", "https://evil.example/keys")], &json!({}))),
        ("half of it", answer(200, &good.as_bytes()[..good.len() / 2])),
        ("more than it may have", CalloutResult::Failed(CalloutFailure::TooLarge)),
        ("nothing", answer(200, b"")),
        ("a member twice", answer(200, doubled.as_bytes())),
        ("keys twice", answer(200, br#"{"keys":[],"keys":[]}"#)),
        ("keys null", answer(200, br#"{"keys":null}"#)),
        ("an object", answer(200, br#"{"keys":{}}"#)),
        ("no keys", answer(200, br#"{"keys":[]}"#)),
        ("a single key", answer(200, set["keys"][0].to_string().as_bytes())),
        ("an array", answer(200, set["keys"].to_string().as_bytes())),
    ] {
        let mut engine = TestEngine::new(&configuration());
        engine.send_waiting(bearer("/github", &alice_token()));
        let mut steps = Vec::new();
        while let Some((flight, call)) = engine.inner.next_callout() {
            let of_keys = call.url.as_str().ends_with("discovery/v2.0/keys");
            let document = (!of_keys).then(|| provider_document(&call));
            steps.extend(engine.callout_result(flight, document.as_ref().unwrap_or(&reply)));
        }
        assert_eq!(refused(steps.remove(0).1), (503, "jwks_unavailable".to_owned()), "{what}");
    }
}

#[test]
fn keys_for_other_uses_verify_no_signature() {
    let good: Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY])).unwrap();
    let key = good["keys"][0].clone();
    let other: Value = serde_json::from_slice(&key_set(&[&OTHER_KEY])).unwrap();
    for change in [
        json!({"use": "enc"}),
        json!({"use": 1}),
        json!({"use": "SIG"}),
        json!({"key_ops": ["sign"]}),
        json!({"key_ops": []}),
        json!({"key_ops": "verify"}),
        json!({"d": "AAAA"}),
        json!({"k": "AAAA"}),
        json!({"kty": "oct", "k": "AAAA"}),
        json!({"kty": "ec"}),
        json!({"alg": "HS256"}),
        json!({"alg": "none"}),
        json!({"alg": "ES384"}),
        json!({"alg": "ECDH-ES"}),
        json!({"issuer": "https://login.entra.example/other/v2.0"}),
        json!({"issuer": 1}),
        json!({"kid": 1}),
    ] {
        // The key stands among usable keys, so that the key is refused and not the set.
        let mut engine =
            with_keys(&json!({"keys": [with(key.clone(), change.clone()), other["keys"][0], null, 7, []]}));
        assert_eq!(outcome_of(&mut engine, &alice_token()), "unknown_key", "{change}");
        assert_eq!(outcome_of(&mut engine, &OTHER_KEY.token(&alice())), "exchanged", "{change}");
    }
}

#[test]
fn jwks_with_thousands_of_keys_is_read_up_to_256() {
    let set: Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY, &OTHER_KEY])).unwrap();
    let odd = |number: usize| json!({"kty": "oct", "kid": format!("k{number}")});
    let mut keys: Vec<Value> = (0..5000).map(odd).collect();
    keys[255] = set["keys"][0].clone();
    keys[256] = set["keys"][1].clone();
    let mut engine = with_keys(&json!({"keys": keys}));
    assert_eq!(outcome_of(&mut engine, &alice_token()), "exchanged");
    assert_eq!(outcome_of(&mut engine, &OTHER_KEY.token(&alice())), "unknown_key");
}
