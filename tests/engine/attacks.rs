//! The attacks of docs/attacks.md that no other test shows: each on the whole engine, so that a token counts as refused
//! only when nothing was asked of its provider but the keys that it publishes.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use hmac_sha256::HMAC;
use jwt_simple::algorithms::{ECDSAP256KeyPairLike, ECDSAP384KeyPairLike, RSAKeyPairLike};
use jwt_simple::algorithms::{ES256KeyPair, ES384KeyPair, RS256KeyPair};
use onbehalf::engine::Decision;
use onbehalf::http::{CalloutFailure, CalloutResult};
use onbehalf::jose::{KeySet, Rejection, TokenError};
use p256::ecdsa::signature::Signer as _;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::sha2::Sha256;
use serde_json::{Value, json};

use crate::support::*;

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(text: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// The reason for which a token is refused with 401. Nothing is asked of anybody but for the documents of the two
/// providers, at their own addresses.
fn reason(bench: &mut Bench, token: &str) -> String {
    let step = match bench.ask(bearer("/github", token)) {
        Decision::Pause => bench.serve_keys().pop().expect("an answer").1,
        step => step,
    };
    bench.no_call();
    let (status, reason) = refused(step);
    assert_eq!(status, 401, "{reason}");
    reason
}

/// What becomes of a token: `exchanged`, or why it is refused.
fn verdict(bench: &mut Bench, token: &str) -> String {
    match bench.ask(bearer("/github", token)) {
        Decision::Forward(_) => "exchanged".to_owned(),
        Decision::Respond(answer) => refused(Decision::Respond(answer)).1,
        Decision::Pause => {
            let (flight, call) = bench.call();
            if call.method == "POST" {
                bench.reply(flight, &issued("up"));
                return "exchanged".to_owned();
            }
            // A key that is looked for is not found, and those that are there stay.
            refused(bench.reply(flight, &answer(404, b"")).remove(0).1).1
        }
    }
}

fn header(more: Value) -> Value {
    with(json!({"alg": "ES256", "kid": "entra-1", "typ": "JWT"}), more)
}

/// An engine whose first provider publishes these keys.
fn with_keys(set: &Value) -> Bench {
    let mut bench = Bench::new(&configuration());
    bench.tick();
    while let Some((flight, call)) = bench.engine.next_callout() {
        let reply = match call.url.as_str().ends_with("discovery/v2.0/keys") {
            true => answer(200, set.to_string().as_bytes()),
            false => provider_document(&call),
        };
        bench.reply(flight, &reply);
    }
    bench
}

/// How many keys of a set are used, and why the others are not.
fn read(keys: &[Value]) -> (usize, Vec<&'static str>) {
    let (set, skipped) = KeySet::read(json!({"keys": keys}).to_string().as_bytes()).unwrap();
    (set.len(), skipped)
}

static RSA: LazyLock<RS256KeyPair> = LazyLock::new(|| RS256KeyPair::generate(2048).unwrap());
static RSA_PRIVATE: LazyLock<rsa::PrivateKey> =
    LazyLock::new(|| rsa::PrivateKey::from_pkcs8_der(&RSA.to_der().unwrap()).unwrap());

fn rsa_jwk(more: Value) -> Value {
    let parts = RSA.key_pair().public_key().to_components();
    with(json!({"kty": "RSA", "n": encode(parts.n), "e": encode(parts.e)}), more)
}

/// `{header}.{claims}` and what `sign` makes of it.
fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let input = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let signature = sign(input.as_bytes());
    format!("{input}.{}", encode(signature))
}

// 1 to 11: algorithms and keys.

#[test]
fn no_spelling_of_none_makes_a_token_good_without_a_signature() {
    let good = alice_token();
    for alg in ["none", "None", "NONE", "nOnE", "none ", "none\0", "nonee", ""] {
        let token = ENTRA_KEY.sign(&header(json!({"alg": alg})), &alice());
        let (input, signature) = token.rsplit_once('.').unwrap();
        for third in ["", signature, good.rsplit_once('.').unwrap().1, "AA"] {
            let mut bench = Bench::ready();
            assert_eq!(reason(&mut bench, &format!("{input}.{third}")), "unsupported_algorithm", "{alg:?} {third:.4}");
        }
    }
    for alg in [json!(256), json!(true), json!(["ES256"]), json!({"alg": "ES256"})] {
        let token = ENTRA_KEY.sign(&header(json!({"alg": alg})), &alice());
        assert_eq!(reason(&mut Bench::ready(), &token), "malformed_token", "{alg}");
    }
    let null = ENTRA_KEY.sign_bytes(r#"{"alg":null,"kid":"entra-1"}"#, alice().to_string());
    assert_eq!(reason(&mut Bench::ready(), &null), "malformed_token");
}

#[test]
fn a_token_of_another_number_of_segments_is_none_and_an_encrypted_one_is_called_so() {
    let good = alice_token();
    let (input, signature) = good.rsplit_once('.').unwrap();
    for (token, expected) in [
        (input.to_owned(), "malformed_token"),
        (format!("{good}.{signature}"), "malformed_token"),
        (format!("{good}..."), "malformed_token"),
        (format!("{good}.AAAA.AAAA"), "encrypted_token"),
        (format!("{good}.."), "encrypted_token"),
    ] {
        assert_eq!(reason(&mut Bench::ready(), &token), expected, "{}", token.matches('.').count());
    }
    let diagnosis = Rejection::from(TokenError::Encrypted).diagnosis;
    assert!(diagnosis.contains("JWE") && diagnosis.contains("switch token encryption off"), "{diagnosis}");
}

#[test]
fn no_form_of_a_public_key_is_a_secret_to_sign_with() {
    let set: Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY])).unwrap();
    let ec = set["keys"][0].clone();
    let point = [&[4][..], &decode(ec["x"].as_str().unwrap()), &decode(ec["y"].as_str().unwrap())].concat();
    let public = jwt_simple::algorithms::ES256PublicKey::from_bytes(&point).unwrap();
    let (ec_pem, ec_der) = (public.to_pem().unwrap(), public.to_der().unwrap());
    let rsa = RSA.key_pair().public_key();
    let (rsa_pem, rsa_der) = (rsa.to_pem().unwrap(), rsa.to_der().unwrap());
    let rsa_jwk = rsa_jwk(json!({"kid": "rsa-1", "alg": "RS256"}));
    let mut bench = with_keys(&json!({"keys": [ec, rsa_jwk]}));
    let ec_secrets: [Vec<u8>; 6] = [
        ec_pem.clone().into_bytes(),
        ec_pem.trim().as_bytes().to_vec(),
        ec_der,
        ec.to_string().into_bytes(),
        decode(ec["x"].as_str().unwrap()),
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
            assert_eq!(reason(&mut bench, &token), "unsupported_algorithm", "{kid}");
            // As if it were what the key is for.
            let head = header(json!({"alg": if kid == "rsa-1" { "RS256" } else { "ES256" }, "kid": kid}));
            let token = signed(&head, &alice(), |input| HMAC::mac(input, secret).to_vec());
            assert_eq!(reason(&mut bench, &token), "bad_signature", "{kid}");
        }
    }
}

#[test]
fn a_key_verifies_by_its_own_algorithm_and_by_no_other_that_it_could() {
    let p256 = ES256KeyPair::generate();
    let p384 = ES384KeyPair::generate();
    let edwards = ed25519_compact::KeyPair::generate();
    let point = |bytes: Vec<u8>, crv: &str, kid: &str| {
        let (x, y) = bytes[1..].split_at(bytes.len() / 2);
        json!({"kty": "EC", "crv": crv, "x": encode(x), "y": encode(y), "kid": kid})
    };
    let mut bench = with_keys(&json!({"keys": [
        rsa_jwk(json!({"kid": "for RS256", "alg": "RS256"})),
        rsa_jwk(json!({"kid": "for PS256", "alg": "PS256"})),
        rsa_jwk(json!({"kid": "bare RSA"})),
        point(p256.key_pair().public_key().to_bytes_uncompressed(), "P-256", "P-256"),
        point(p384.key_pair().public_key().to_bytes_uncompressed(), "P-384", "P-384"),
        {"kty": "OKP", "crv": "Ed25519", "x": encode(*edwards.pk), "kid": "Ed25519"},
        {"kty": "OKP", "crv": "X25519", "x": encode(*edwards.pk), "kid": "X25519"},
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
                assert_eq!(verdict(&mut bench, &token), expected, "{kid}: says {said}, signed as {by}");
            }
        }
    }
}

#[test]
fn an_es256_signature_is_two_numbers_of_32_octets_in_range_and_s_may_be_high() {
    const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&ORDER[2 * at..2 * at + 2], 16).unwrap()).collect();
    let good = alice_token();
    let (input, signature) = good.rsplit_once('.').unwrap();
    let bytes = decode(signature);
    let (r, s) = bytes.split_at(32);
    let mut other_s = vec![0; 32];
    let mut borrow = 0;
    for at in (0..32).rev() {
        let difference = i16::from(order[at]) - i16::from(s[at]) - borrow;
        borrow = i16::from(difference < 0);
        other_s[at] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    // One of the two is above half of the order. RFC 7518 section 3.4 takes both.
    for s in [s, &other_s] {
        let token = format!("{input}.{}", encode([r, s].concat()));
        assert_eq!(verdict(&mut Bench::ready(), &token), "exchanged");
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
        let token = format!("{input}.{}", encode(signature));
        assert_eq!(reason(&mut Bench::ready(), &token), "bad_signature", "{what}");
    }
}

#[test]
fn an_rsa_signature_is_as_long_as_its_modulus() {
    let modulus = RSA.key_pair().public_key().to_components().n;
    let head = header(json!({"alg": "RS256", "kid": "rsa-1"}));
    let mut bench = with_keys(&json!({"keys": [rsa_jwk(json!({"kid": "rsa-1", "alg": "RS256"}))]}));
    // One whose first octet is zero: it is the same number without.
    let signature = |input: &[u8]| RSA_PRIVATE.pkcs1v15_sign::<Sha256>(input).unwrap();
    let (claims, bytes) = (0..10_000)
        .find_map(|serial| {
            let claims = with(alice(), json!({"serial": serial}));
            let token = signed(&head, &claims, signature);
            let bytes = decode(token.rsplit('.').next().unwrap());
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
        assert_eq!(reason(&mut bench, &token), "bad_signature", "{what}");
    }
    assert_eq!(verdict(&mut bench, &signed(&head, &claims, |_| bytes)), "exchanged");
}

#[test]
fn rsa_keys_that_are_weak_or_cost_too_much_are_not_used() {
    let modulus = |bits: usize| {
        let mut octets = vec![0xff; bits.div_ceil(8)];
        octets[0] >>= octets.len() * 8 - bits;
        encode(octets)
    };
    let even = {
        let mut octets = vec![0xff; 256];
        octets[255] = 0xfe;
        encode(octets)
    };
    let key = |n: String, e: &[u8]| json!({"kty": "RSA", "n": n, "e": encode(e)});
    const USUAL: &[u8] = &[1, 0, 1];
    for good in [2048, 2056, 3072, 4096] {
        assert_eq!(read(&[key(modulus(good), USUAL)]).0, 1, "{good} bits");
    }
    for bits in [1, 8, 512, 1024, 2040, 2047, 4097, 8192, 8200, 16_384, 1 << 20] {
        assert_eq!(read(&[key(modulus(bits), USUAL)]).0, 0, "{bits} bits");
    }
    assert_eq!(read(&[key(even, USUAL)]).0, 0, "even modulus");
    let zero_in_front = encode([&[0][..], &[0xff; 256]].concat());
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
fn a_point_that_is_not_on_its_curve_or_not_written_in_full_is_no_key() {
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    for (crv, width, other_crv, point) in [
        ("P-256", 32, "P-384", ES256KeyPair::generate().key_pair().public_key().to_bytes_uncompressed()),
        ("P-384", 48, "P-256", ES384KeyPair::generate().key_pair().public_key().to_bytes_uncompressed()),
    ] {
        let (x, y) = point[1..].split_at(width);
        let key = |crv: &str, x: &[u8], y: &[u8]| json!({"kty": "EC", "crv": crv, "x": encode(x), "y": encode(y)});
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
            ("padded", with(key(crv, x, y), json!({"x": format!("{}=", encode(x))}))),
        ] {
            assert_eq!(read(&[key]).0, 0, "{crv}: {what}");
        }
    }
    let edwards = |x: &[u8]| json!({"kty": "OKP", "crv": "Ed25519", "x": encode(x)});
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
fn a_key_id_is_a_name_among_the_issuers_own_keys_and_nothing_else() {
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
        // Even the right key does not make it good under another name.
        for signer in [&*ENTRA_KEY, &*OKTA_KEY, &*OTHER_KEY] {
            let token = signer.sign(&header(json!({"kid": kid})), &alice());
            assert_eq!(reason(&mut Bench::ready(), &token), "unknown_key", "{kid:.40}");
        }
    }
    for kid in [json!(1), json!(["entra-1"]), json!({"entra-1": 1}), json!(true)] {
        let token = ENTRA_KEY.sign(&header(json!({"kid": kid})), &alice());
        assert_eq!(reason(&mut Bench::ready(), &token), "malformed_token", "{kid}");
    }
    let null = ENTRA_KEY.sign_bytes(r#"{"alg":"ES256","kid":null}"#, alice().to_string());
    assert_eq!(reason(&mut Bench::ready(), &null), "malformed_token");
}

#[test]
fn a_token_without_a_key_id_is_good_only_where_one_key_could_be_meant() {
    let without = |signer: &Signer| signer.sign(&header(json!({"kid": null})), &alice());
    assert_eq!(verdict(&mut Bench::ready(), &without(&ENTRA_KEY)), "exchanged");
    assert_eq!(reason(&mut Bench::ready(), &without(&OKTA_KEY)), "bad_signature");
    let two: Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY, &OTHER_KEY])).unwrap();
    let mut bench = with_keys(&two);
    for signer in [&*ENTRA_KEY, &*OTHER_KEY, &*OKTA_KEY] {
        assert_eq!(reason(&mut bench, &without(signer)), "unknown_key");
    }
    assert_eq!(verdict(&mut bench, &alice_token()), "exchanged");
}

#[test]
fn a_name_that_two_keys_have_names_neither() {
    let mut twins: Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY, &OTHER_KEY])).unwrap();
    twins["keys"][1]["kid"] = json!("entra-1");
    let mut bench = with_keys(&twins);
    for signer in [&*ENTRA_KEY, &*OTHER_KEY] {
        assert_eq!(verdict(&mut bench, &signer.sign(&header(json!({})), &alice())), "unknown_key");
    }
}

#[test]
fn a_token_does_not_say_where_its_key_is_and_nobody_goes_there() {
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
        // The helper fails if any other address than the provider's own is called.
        for kid in [json!("entra-1"), json!(null)] {
            let mut bench = Bench::ready();
            let step = bench.ask(bearer("/github", &forged(kid)));
            assert_eq!(refused(step), (401, "bad_signature".to_owned()), "{more:.60}");
            bench.no_call();
        }
        for kid in [json!("other-1"), json!("https://evil.example/keys")] {
            assert_eq!(reason(&mut Bench::ready(), &forged(kid)), "unknown_key", "{more:.60}");
        }
        // Beside the right key they are nothing.
        let good = ENTRA_KEY.sign(&header(more.clone()), &alice());
        assert_eq!(verdict(&mut Bench::ready(), &good), "exchanged", "{more:.60}");
    }
}

#[test]
fn critical_extensions_and_other_encodings_are_refused_whatever_they_are() {
    let claims = alice().to_string();
    for more in [
        r#""crit":["urn:x"],"urn:x":1"#,
        r#""crit":["urn:x"]"#,
        r#""crit":["exp"],"exp":1"#,
        r#""crit":["alg"]"#,
        r#""crit":[]"#,
        r#""crit":[1]"#,
        r#""crit":"urn:x""#,
        r#""crit":{}"#,
        r#""crit":null"#,
        r#""crit":["b64"],"b64":false"#,
        r#""crit":["b64"],"b64":true"#,
        r#""b64":false"#,
        r#""b64":true"#,
        r#""b64":null"#,
        r#""zip":"DEF""#,
        r#""zip":null"#,
    ] {
        let token = ENTRA_KEY.sign_bytes(format!(r#"{{"alg":"ES256","kid":"entra-1",{more}}}"#), &claims);
        assert_eq!(reason(&mut Bench::ready(), &token), "malformed_token", "{more}");
    }
    // RFC 7797 section 5.2: the payload as it is.
    let input = format!("{}.{claims}", encode(r#"{"alg":"ES256","kid":"entra-1","b64":false,"crit":["b64"]}"#));
    let step = Bench::ready().ask(bearer("/github", &format!("{input}.AAAA")));
    assert_eq!(refused(step).0, 400);
}

#[test]
fn another_kind_of_token_is_no_access_token_when_its_type_says_so() {
    for kind in [
        "logout+jwt",
        "secevent+jwt",
        "dpop+jwt",
        "oauth-id-jag+jwt",
        "global-token-revocation+jwt",
        "client-authentication+jwt",
        "token-introspection+jwt",
        "oauth-authz-req+jwt",
        "entity-statement+jwt",
        "id_token+jwt",
        "JOSE",
        "JWT ",
        "text/jwt",
        "",
    ] {
        for typ in [kind.to_owned(), kind.to_uppercase(), format!("application/{kind}")] {
            for (signer, claims) in [(&*ENTRA_KEY, alice()), (&*OKTA_KEY, bob())] {
                let token = signer.sign(&json!({"alg": "ES256", "kid": signer.kid, "typ": typ}), &claims);
                assert_eq!(reason(&mut Bench::ready(), &token), "unsupported_token_type", "{typ:?}");
            }
        }
    }
    for cty in ["JWT", "jwt", "application/jwt", "at+jwt"] {
        let token = ENTRA_KEY.sign(&header(json!({"cty": cty})), &alice());
        assert_eq!(reason(&mut Bench::ready(), &token), "malformed_token", "{cty}");
    }
    let nested = ENTRA_KEY.sign_bytes(header(json!({})).to_string(), alice_token());
    assert_eq!(reason(&mut Bench::ready(), &nested), "malformed_token");
}

#[test]
fn another_kind_of_token_is_no_access_token_when_its_type_says_nothing() {
    let events = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    let of_entra = |more: Value| with(with(alice(), json!({"scp": null, "azp": null})), more);
    let of_okta = |more: Value| with(with(bob(), json!({"scp": null, "cid": null})), more);
    let cases = [
        ("an ID token", json!({"nonce": "n", "at_hash": "h"}), "id_token_as_access_token"),
        ("a logout token", json!({"events": events, "sid": "s"}), "id_token_as_access_token"),
        (
            "a security event",
            json!({"events": events, "sub_id": {"format": "opaque", "id": "x"}}),
            "id_token_as_access_token",
        ),
    ];
    for (what, more, expected) in cases {
        for typ in [json!("JWT"), json!(null)] {
            for (signer, claims) in [(&*ENTRA_KEY, of_entra(more.clone())), (&*OKTA_KEY, of_okta(more.clone()))] {
                let head = with(json!({"alg": "ES256", "kid": signer.kid}), json!({"typ": typ}));
                assert_eq!(reason(&mut Bench::ready(), &signer.sign(&head, &claims)), expected, "{what}");
            }
        }
    }
    // A provider of whose tokens nothing else is known.
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"]["profile"] = json!("rfc8693");
    configuration["resources"][0]["scopes"] = json!([]);
    for uri in ["http://schemas.openid.net/event/backchannel-logout", "urn:another"] {
        let token = OKTA_KEY.token(&with(bob(), json!({"scp": null, "cid": null, "events": {uri: {}}})));
        let mut bench = Bench::new(&configuration).with_keys();
        assert_eq!(reason(&mut bench, &token), "unsupported_token_type");
    }
    // A client's assertion has the client's signature, whoever it names as its issuer.
    let client = onbehalf::crypto::SigningKey::parse(
        onbehalf::crypto::Algorithm::Es256,
        &environment("OKTA_PRIVATE_KEY").unwrap(),
    )
    .unwrap();
    for (kid, expected) in [("k1", "unknown_key"), ("okta-1", "bad_signature")] {
        let head = json!({"alg": "ES256", "kid": kid, "typ": "JWT"});
        let claims = with(bob(), json!({"sub": "0oa1"}));
        let token = signed(&head, &claims, |input| {
            onbehalf::crypto::Crypto::sign(&onbehalf::crypto::Software, &client, input).unwrap()
        });
        assert_eq!(reason(&mut Bench::ready(), &token), expected);
    }
}

#[test]
fn what_is_no_set_of_keys_is_not_taken_for_one() {
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
        ("a byte order mark", answer(200, format!("\u{feff}{good}").as_bytes())),
    ] {
        let mut bench = Bench::new(&configuration());
        bench.wait(bearer("/github", &alice_token()));
        let mut steps = Vec::new();
        while let Some((flight, call)) = bench.engine.next_callout() {
            let of_keys = call.url.as_str().ends_with("discovery/v2.0/keys");
            let document = (!of_keys).then(|| provider_document(&call));
            steps.extend(bench.reply(flight, document.as_ref().unwrap_or(&reply)));
        }
        assert_eq!(refused(steps.remove(0).1), (503, "keys_unavailable".to_owned()), "{what}");
    }
}

#[test]
fn keys_that_are_not_for_verifying_verify_nothing() {
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
        // Among good ones, so that it is the key that is refused and not the set.
        let mut bench = with_keys(&json!({"keys": [with(key.clone(), change.clone()), other["keys"][0], null, 7, []]}));
        assert_eq!(verdict(&mut bench, &alice_token()), "unknown_key", "{change}");
        assert_eq!(verdict(&mut bench, &OTHER_KEY.token(&alice())), "exchanged", "{change}");
    }
}

#[test]
fn of_thousands_of_keys_the_first_256_are_read() {
    let set: Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY, &OTHER_KEY])).unwrap();
    let odd = |number: usize| json!({"kty": "oct", "kid": format!("k{number}")});
    let mut keys: Vec<Value> = (0..5000).map(odd).collect();
    keys[255] = set["keys"][0].clone();
    keys[256] = set["keys"][1].clone();
    let mut bench = with_keys(&json!({"keys": keys}));
    assert_eq!(verdict(&mut bench, &alice_token()), "exchanged");
    assert_eq!(verdict(&mut bench, &OTHER_KEY.token(&alice())), "unknown_key");
}

// 12 to 17: what a token is made of, and what it says.

#[test]
fn a_token_has_one_spelling() {
    let good = alice_token();
    assert_eq!(verdict(&mut Bench::ready(), &good), "exchanged");
    let segments: Vec<&str> = good.split('.').collect();
    let respelled = |index: usize, segment: &str| {
        let mut segments = segments.clone();
        segments[index] = segment;
        segments.join(".")
    };
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (index, &segment) in segments.iter().enumerate() {
        let middle = segment.len() / 2;
        let (before, after) = segment.split_at(middle);
        let within = |what: &str| respelled(index, &format!("{before}{what}{after}"));
        let mut spellings = vec![
            respelled(index, ""),
            respelled(index, &format!("{segment}=")),
            respelled(index, &format!("{segment}==")),
            respelled(index, &format!("={segment}")),
            respelled(index, &format!("{segment}A")),
            respelled(index, &format!("{segment}AA")),
            respelled(index, &segment[..segment.len() - 1]),
            respelled(index, &format!("{segment}{segment}")),
            respelled(index, &format!("\"{segment}\"")),
            respelled(index, &format!("{segment} ")),
            respelled(index, &BASE64_STANDARD.encode(decode(segment))),
        ];
        spellings.extend(
            [
                "+", "/", "=", "\r", "\n", "\r\n", "\r\n ", " ", "\t", "\0", "\u{b}", "\u{7f}", "%41", "%", "!", "~",
                "\u{e9}", "\u{2028}",
            ]
            .map(within),
        );
        if index > 0 {
            // In front of the first it is one more behind the scheme.
            spellings.push(respelled(index, &format!(" {segment}")));
        }
        // The bits of the last character that nobody needs.
        let last = ALPHABET.find(segment.chars().last().unwrap()).unwrap();
        let spare = [0, 0, 4, 2][segment.len() % 4];
        for bits in 1..1 << spare {
            let other = &ALPHABET[last | bits..=last | bits];
            spellings.push(respelled(index, &format!("{}{other}", &segment[..segment.len() - 1])));
        }
        for spelling in spellings.into_iter().filter(|spelling| *spelling != good) {
            let mut bench = Bench::ready();
            let step = bench.ask(bearer("/github", &spelling));
            let (status, reason) = refused(step);
            bench.no_call();
            assert!(matches!(status, 400 | 401), "segment {index}: {status} {reason}");
        }
    }
    for spelling in [
        format!("{good}."),
        format!(".{good}"),
        good.replacen('.', "..", 1),
        format!("{good}="),
        format!("{good};"),
        format!("{good}\n"),
        format!("{good}\0"),
        good.replace('.', "%2e"),
        good.replace('.', "\u{2024}"),
        format!("Bearer {good}"),
        json!({"payload": segments[1], "protected": segments[0], "signature": segments[2]}).to_string(),
    ] {
        let mut bench = Bench::ready();
        let (status, _) = refused(bench.ask(bearer("/github", &spelling)));
        bench.no_call();
        assert!(matches!(status, 400 | 401));
    }
}

#[test]
fn json_with_two_readings_is_refused_in_header_and_claims() {
    let head = header(json!({})).to_string();
    let claims = alice().to_string();
    let inserted = |text: &str, more: &[u8]| [b"{", more, b",", &text.as_bytes()[1..]].concat();
    let appended = |text: &str, more: &[u8]| [&text.as_bytes()[..text.len() - 1], b",", more, b"}"].concat();
    let nested = |open: &str, close: &str, depth: usize| {
        format!(r#""x":{}1{}"#, open.repeat(depth), close.repeat(depth)).into_bytes()
    };
    let mut members: Vec<Vec<u8>> = [
        &br#""alg":"none","aud":"evil","x":1"#[..],
        br#""\u0061lg":"none","a\u0075d":"evil","x":1"#,
        br#""x":1,"x":2"#,
        br#""x":{"y":1,"y":1}"#,
        br#""x":[{"y":1,"\u0079":2}]"#,
        br#""x":"\ud800""#,
        br#""x":"\udc00""#,
        br#""x":"\ud800\u0041""#,
        br#""x\ud800":1"#,
        br#""x":"\x41""#,
        br#""x":1e400"#,
        br#""x":-1e400"#,
        br#""x":NaN"#,
        br#""x":-Infinity"#,
        br#""x":01"#,
        br#""x":+1"#,
        br#""x":.5"#,
        br#""x":1."#,
        br#""x":0x10"#,
        br#""x":True"#,
        br#""x":'y'"#,
        br#"x:1"#,
        br#""x":/* 1 */2"#,
        b"\"x\":1 // 2\n",
        br#""x":"#,
        br#""x""#,
        b"\"x\":\"a\0b\"",
        b"\"x\":\"a\tb\"",
        b"\"x\":\"a\nb\"",
        b"\"x\":\"\xff\"",
        b"\"x\":\"\xe2\x82\"",
        b"\"x\":\"\xc0\xa2\"",
        b"\"x\":\"\xed\xa0\x80\"",
        b"\"x\":\"\xf4\x90\x80\x80\"",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    members.extend([nested("[", "]", 200), nested("[", "]", 4000), nested("{\"a\":", "}", 200), nested("[", "", 4000)]);
    let texts = |text: &str| -> Vec<Vec<u8>> {
        let mut texts: Vec<Vec<u8>> = [
            format!("\u{feff}{text}"),
            format!("{text}x"),
            format!("{text},"),
            format!("{text}}}"),
            format!("{text}\0"),
            format!("{text}{text}"),
            format!("{text} {{}}"),
            format!("{text}// x"),
            format!("/**/{text}"),
            format!(")]}}'\n{text}"),
            format!("\u{a0}{text}"),
            format!("\u{c}{text}"),
            format!("[{text}]"),
            Value::String(text.to_owned()).to_string(),
            format!("{},}}", &text[..text.len() - 1]),
            format!("{{,{}", &text[1..]),
            text[..text.len() - 1].to_owned(),
            "1".to_owned(),
            "null".to_owned(),
            "\"\"".to_owned(),
            String::new(),
        ]
        .map(String::into_bytes)
        .to_vec();
        texts.push(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
        for more in &members {
            texts.extend([inserted(text, more), appended(text, more)]);
        }
        texts
    };
    for (heads, bodies) in
        [(texts(&head), vec![claims.clone().into_bytes()]), (vec![head.clone().into_bytes()], texts(&claims))]
    {
        for head in &heads {
            for body in &bodies {
                let token = ENTRA_KEY.sign_bytes(head, body);
                let shown = || format!("{:.60} {:.60}", String::from_utf8_lossy(head), String::from_utf8_lossy(body));
                assert_eq!(reason(&mut Bench::ready(), &token), "malformed_token", "{}", shown());
            }
        }
    }
}

#[test]
fn json_that_is_only_unusual_is_read_for_what_it_is() {
    let claims = alice().to_string();
    let exchanged = |head: &str, claims: &str| {
        assert_eq!(
            verdict(&mut Bench::ready(), &ENTRA_KEY.sign_bytes(head, claims)),
            "exchanged",
            "{head} {claims:.60}"
        );
    };
    let head = header(json!({})).to_string();
    exchanged(&format!(" \r\n\t{head}\n"), &format!("\n{claims} "));
    exchanged(r#"{"\u0061lg":"\u0045S256","kid":"entra\u002d1"}"#, &claims.replacen("\"aud\"", "\"a\\u0075d\"", 1));
    for more in [
        // Names differ by case: these are members that nobody knows.
        r#""AUD":"evil","Exp":1,"ISS":"evil""#,
        r#""aud\u0000":"evil""#,
        r#""__proto__":{"aud":"evil"}"#,
        r#""":1"#,
        r#""x":"a\u0000b\ud83d\ude00\/""#,
        r#""x":-0"#,
        r#""x":1e-400"#,
    ] {
        exchanged(&head, &claims.replacen('{', &format!("{{{more},"), 1));
    }
    let long_number = format!("{{\"x\":{},", "9".repeat(300));
    exchanged(&head, &claims.replacen('{', &long_number, 1));
    // And they stand in for nothing.
    for (name, other) in [("aud", "AUD"), ("exp", "EXP"), ("oid", "OID")] {
        let renamed = claims.replacen(&format!("\"{name}\""), &format!("\"{other}\""), 1);
        assert_eq!(reason(&mut Bench::ready(), &ENTRA_KEY.sign_bytes(&head, renamed)), "invalid_claims", "{other}");
    }
    let renamed = claims.replacen("\"iss\"", "\"ISS\"", 1);
    assert_eq!(reason(&mut Bench::ready(), &ENTRA_KEY.sign_bytes(&head, renamed)), "unknown_issuer");
    let renamed = head.replacen("\"alg\"", "\"ALG\"", 1);
    assert_eq!(reason(&mut Bench::ready(), &ENTRA_KEY.sign_bytes(renamed, &claims)), "unsupported_algorithm");
}

#[test]
fn a_number_of_more_digits_than_anyone_counts_is_refused() {
    let claims = alice().to_string();
    for digits in [400, 10_000] {
        let more = format!("{{\"x\":{},", "9".repeat(digits));
        let token = ENTRA_KEY.sign_bytes(header(json!({})).to_string(), claims.replacen('{', &more, 1));
        assert_eq!(reason(&mut Bench::ready(), &token), "malformed_token", "{digits}");
    }
    // Those of a megabyte are not looked at.
    let more = format!("{{\"x\":{},", "9".repeat(1 << 20));
    let token = ENTRA_KEY.sign_bytes(header(json!({})).to_string(), claims.replacen('{', &more, 1));
    assert_eq!(refused(Bench::ready().ask(bearer("/github", &token))), (400, "token_too_large".to_owned()));
}

/// A token whose claim `name` is written so.
fn with_number(name: &str, text: &str) -> String {
    let claims = with(alice(), json!({"iat": null, "nbf": null, name: "HERE"})).to_string();
    ENTRA_KEY.sign_bytes(header(json!({})).to_string(), claims.replace("\"HERE\"", text))
}

#[test]
fn a_time_is_a_number_that_can_be_counted_however_it_is_written() {
    let now = NOW.secs();
    for name in ["exp", "nbf", "iat"] {
        for text in [
            "null",
            "true",
            "\"\"",
            &format!("\"{}\"", now),
            "\"1e10\"",
            "[]",
            "{}",
            &format!("[{now}]"),
            "-1",
            "-0.5",
            "-1e300",
            "9007199254740994",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "1e300",
        ] {
            assert_eq!(reason(&mut Bench::ready(), &with_number(name, text)), "invalid_claims", "{name} {text}");
        }
        for text in ["1e400", "NaN", "+1", "01", "0x10"] {
            assert_eq!(reason(&mut Bench::ready(), &with_number(name, text)), "malformed_token", "{name} {text}");
        }
    }
    for text in ["1e10", "1.0E+10", "10000000000.0", "10000000000.75", "9007199254740992", "100000e5", "1801000000.5"] {
        assert_eq!(verdict(&mut Bench::ready(), &with_number("exp", text)), "exchanged", "{text}");
    }
    for text in ["0", "-0", "0e999", "1e-300", "1.9e3", "1"] {
        assert_eq!(reason(&mut Bench::ready(), &with_number("exp", text)), "expired", "{text}");
        assert_eq!(verdict(&mut Bench::ready(), &with_number("nbf", text)), "exchanged", "{text}");
    }
    for text in ["1e10", "9007199254740992"] {
        assert_eq!(reason(&mut Bench::ready(), &with_number("nbf", text)), "not_yet_valid", "{text}");
        assert_eq!(reason(&mut Bench::ready(), &with_number("iat", text)), "not_yet_valid", "{text}");
    }
}

#[test]
fn a_token_is_over_at_the_instant_of_its_end() {
    for leeway in [0, 1, 60, 300] {
        let mut configuration = configuration();
        configuration["identity_providers"]["entra-us"]["clock_skew_seconds"] = json!(leeway);
        let at = |offset: i64| NOW.secs().checked_add_signed(offset).unwrap();
        let of = |name: &str, offset: i64| {
            let claims = with(alice(), json!({"iat": null, "nbf": null}));
            let mut bench = Bench::new(&configuration).with_keys();
            verdict(&mut bench, &ENTRA_KEY.token(&with(claims, json!({name: at(offset)}))))
        };
        assert_eq!(of("exp", -leeway - 1), "expired", "{leeway}");
        assert_eq!(of("exp", -leeway), "expired", "{leeway}");
        assert_eq!(of("exp", -leeway + 1), "exchanged", "{leeway}");
        for name in ["nbf", "iat"] {
            assert_eq!(of(name, leeway - 1), "exchanged", "{name} {leeway}");
            assert_eq!(of(name, leeway), "exchanged", "{name} {leeway}");
            assert_eq!(of(name, leeway + 1), "not_yet_valid", "{name} {leeway}");
        }
    }
}

#[test]
fn a_token_that_is_over_stays_so_when_the_clock_goes_back_before_its_beginning() {
    let mut bench = Bench::ready();
    let token = alice_token();
    assert_eq!(verdict(&mut bench, &token), "exchanged");
    bench.now = NOW.minus(std::time::Duration::from_secs(3600));
    bench.tick();
    bench.serve_keys();
    // What was verified once is not asked for its beginning again; what was not, is.
    assert_eq!(verdict(&mut bench, &entra_user("carol")), "not_yet_valid");
    bench.now = NOW.plus(std::time::Duration::from_secs(3660));
    bench.tick();
    bench.serve_keys();
    assert_eq!(verdict(&mut bench, &token), "expired");
    assert_eq!(verdict(&mut bench, &token), "expired");
}

#[test]
fn an_audience_matches_whole_or_not_at_all() {
    for audience in [
        json!(""),
        json!("api://gatewa"),
        json!("pi://gateway"),
        json!("api://gateway.evil"),
        json!("api://gateway/"),
        json!("api://gateway/mcp"),
        json!("api://gateway?"),
        json!("api://gateway#"),
        json!("api://gateway "),
        json!(" api://gateway"),
        json!("api://gateway\0"),
        json!("api://Gateway"),
        json!("API://GATEWAY"),
        json!("api:/gateway"),
        json!("gateway"),
        json!("api://%67ateway"),
        json!("api://gateway gateway-id"),
        json!("api://gateway,gateway-id"),
        json!("https://api://gateway@evil.example"),
        json!("api://g\u{430}teway"),
        json!("*"),
        json!([]),
        json!([""]),
        json!(["other", "api://gateway/"]),
        json!("https://graph.microsoft.com"),
        json!(["https://graph.microsoft.com", "api://gateway"]),
        json!("00000003-0000-0000-c000-000000000000"),
        // That of another provider of ours.
        json!("api://default"),
    ] {
        let token = ENTRA_KEY.token(&with(alice(), json!({"aud": audience})));
        assert_eq!(reason(&mut Bench::ready(), &token), "wrong_audience", "{audience}");
    }
    for audience in [
        json!(1),
        json!(true),
        json!({"aud": "api://gateway"}),
        json!(["api://gateway", 1]),
        json!([1, "api://gateway"]),
        json!(["api://gateway", null]),
        json!([["api://gateway"]]),
        json!([{}]),
    ] {
        let token = ENTRA_KEY.token(&with(alice(), json!({"aud": audience})));
        assert_eq!(reason(&mut Bench::ready(), &token), "invalid_claims", "{audience}");
    }
    for audience in [json!("gateway-id"), json!(["api://gateway"]), json!(["other", "api://gateway", "third"])] {
        let token = ENTRA_KEY.token(&with(alice(), json!({"aud": audience})));
        assert_eq!(verdict(&mut Bench::ready(), &token), "exchanged", "{audience}");
    }
}

#[test]
fn an_issuer_is_no_url_that_leads_to_ours() {
    const LOGIN: &str = "https://login.microsoftonline.com";
    const STS: &str = "https://sts.windows.net";
    const HOME: &str = "5f0c7a4e-9a0f-4c3e-8f5d-2b7f6f1f0c11";
    /// The tenant of personal accounts.
    const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
    let set: Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY])).unwrap();
    let provider = |issuer: String, more: Value| {
        let mut configuration = configuration();
        let entra =
            json!({"issuer": issuer, "jwks": set, "token_endpoint": format!("{LOGIN}/{HOME}/oauth2/v2.0/token")});
        let own = configuration["identity_providers"]["entra-us"].clone();
        configuration["identity_providers"]["entra-us"] = with(with(own, entra), more);
        Bench::new(&configuration)
    };
    let of = |issuer: &str, tid: &str| ENTRA_KEY.token(&with(alice(), json!({"iss": issuer, "tid": tid, "ver": null})));
    for several in [false, true] {
        let mut bench = match several {
            false => provider(format!("{LOGIN}/{HOME}/v2.0"), json!({})),
            true => provider(format!("{LOGIN}/{{tenantid}}/v2.0"), json!({"tenants": [HOME]})),
        };
        let mut given = |issuer: &str, tid: &str| verdict(&mut bench, &of(issuer, tid));
        assert_eq!(given(&format!("{LOGIN}/{HOME}/v2.0"), HOME), "exchanged");
        assert_eq!(given(&format!("{STS}/{HOME}/"), HOME), "exchanged");
        assert_eq!(given(&format!("{LOGIN}/{CONSUMERS}/v2.0"), CONSUMERS), "wrong_tenant");
        assert_eq!(given(&format!("{STS}/{CONSUMERS}/"), CONSUMERS), "wrong_tenant");
        assert_eq!(given(&format!("{LOGIN}/{CONSUMERS}/v2.0"), HOME), "invalid_claims");
        assert_eq!(given(&format!("{LOGIN}/{HOME}/v2.0"), CONSUMERS), "invalid_claims");
        for tenant in ["consumers", "organizations", "common", "{tenantid}", "{tenantId}", "contoso.com", "%35f0c7a4e"]
        {
            assert_eq!(given(&format!("{LOGIN}/{tenant}/v2.0"), tenant), "unknown_issuer", "{tenant}");
            assert_eq!(given(&format!("{STS}/{tenant}/"), tenant), "unknown_issuer", "{tenant}");
        }
        for issuer in [
            format!("{LOGIN}/{HOME}/v2.0/"),
            format!("{LOGIN}/{HOME}/v2.0?"),
            format!("{LOGIN}/{HOME}/v2.0#"),
            format!("{LOGIN}/{HOME}/v1.0"),
            format!("{LOGIN}/{HOME}/V2.0"),
            format!("{LOGIN}/{HOME}/"),
            format!("{LOGIN}/{HOME}"),
            format!("{LOGIN}/{HOME}/v2.0\0"),
            format!(" {LOGIN}/{HOME}/v2.0"),
            format!("{LOGIN}//{HOME}/v2.0"),
            format!("{LOGIN}/x/../{HOME}/v2.0"),
            format!("{LOGIN}/{HOME}%2Fv2.0"),
            format!("{LOGIN}:443/{HOME}/v2.0"),
            format!("{}/{HOME}/v2.0", LOGIN.to_uppercase()),
            format!("{}/{HOME}/v2.0", LOGIN.replace("https", "http")),
            format!("{LOGIN}/{}/v2.0", HOME.to_uppercase()),
            format!("https://login.microsoftonline.com@evil.example/{HOME}/v2.0"),
            format!("https://evil.example/{LOGIN}/{HOME}/v2.0"),
            format!("https://evil.example#{LOGIN}/{HOME}/v2.0"),
            format!("{LOGIN}.evil.example/{HOME}/v2.0"),
            format!("https://login%2Emicrosoftonline.com/{HOME}/v2.0"),
            format!("https://login.microsoftonline.us/{HOME}/v2.0"),
            format!("{STS}/{HOME}"),
            format!("{STS}/{HOME}/v2.0"),
            format!("{STS}@evil.example/{HOME}/"),
            format!("http://sts.windows.net/{HOME}/"),
        ] {
            assert_eq!(given(&issuer, HOME), "unknown_issuer", "{issuer}");
        }
    }
}

#[test]
fn claims_of_odd_types_grant_nothing() {
    let with_claims = |changes: Value| ENTRA_KEY.token(&with(alice(), changes));
    for scopes in [
        json!("mcp.read\tmcp.write"),
        json!("x\nmcp.read"),
        json!("mcp.read,mcp.write"),
        json!("mcp.read\u{a0}x"),
        json!("\tmcp.read"),
        json!("MCP.READ"),
        json!("mcp.rea"),
        json!("mcp.read.all"),
        json!("*"),
        json!(""),
        json!(" "),
        json!([]),
        json!(["mcp.read mcp.write"]),
        json!(["", "mcp.write"]),
    ] {
        let step = Bench::ready().ask(bearer("/github", &with_claims(json!({"scp": scopes}))));
        assert_eq!(refused(step), (403, "insufficient_scope".to_owned()), "{scopes}");
    }
    for scopes in [json!("mcp.read  mcp.write"), json!("  mcp.read "), json!(["mcp.read", "x"])] {
        assert_eq!(verdict(&mut Bench::ready(), &with_claims(json!({"scp": scopes}))), "exchanged", "{scopes}");
    }
    for scopes in [json!(1), json!(true), json!({"mcp.read": true}), json!(["mcp.read", 1]), json!([["mcp.read"]])] {
        assert_eq!(reason(&mut Bench::ready(), &with_claims(json!({"scp": scopes}))), "invalid_claims", "{scopes}");
    }
    // The one does not add to the other.
    let both = with_claims(json!({"scp": "mcp.write", "scope": "mcp.read"}));
    assert_eq!(refused(Bench::ready().ask(bearer("/github", &both))).1, "insufficient_scope");
    // Roles and groups are no scopes, whatever their type; that groups are left out for their number harms nobody.
    for more in [
        json!({"roles": "mcp.read"}),
        json!({"roles": ["mcp.read"]}),
        json!({"groups": ["mcp.read"]}),
        json!({"wids": "mcp.read"}),
        json!({"hasgroups": true}),
        json!({"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://evil.example/g"}}}),
    ] {
        let without = with_claims(with(more.clone(), json!({"scp": "mcp.write"})));
        assert_eq!(refused(Bench::ready().ask(bearer("/github", &without))).1, "insufficient_scope", "{more}");
        assert_eq!(verdict(&mut Bench::ready(), &with_claims(more.clone())), "exchanged", "{more}");
    }
    for cnf in [json!({}), json!({"jkt": "k"}), json!({"x5t#S256": "c"}), json!({"kid": "k"}), json!({"jwk": {}})] {
        assert_eq!(reason(&mut Bench::ready(), &with_claims(json!({"cnf": cnf}))), "bound_token", "{cnf}");
    }
    for cnf in [json!("jkt"), json!([]), json!({"jkt": 1}), json!(1), json!(true)] {
        assert_eq!(reason(&mut Bench::ready(), &with_claims(json!({"cnf": cnf}))), "invalid_claims", "{cnf}");
    }
}

// 18: what no HTTP library sends. 22 and 23: the side of the exchange.

#[test]
fn credentials_with_an_odd_separator_are_none() {
    let token = alice_token();
    for (value, expected) in [
        ("Bearer,".to_owned(), (400, "malformed_credentials")),
        (format!("Bearer,{token}"), (400, "malformed_credentials")),
        (format!("Bearer, {token}"), (400, "malformed_credentials")),
        (format!("Bearer:{token}"), (400, "malformed_credentials")),
        (format!("Bearer={token}"), (400, "malformed_credentials")),
        (format!("Bearer\t{token}"), (400, "malformed_credentials")),
        (format!("Bearer\u{b}{token}"), (400, "malformed_credentials")),
        (format!("Bearer \t{token}"), (400, "malformed_credentials")),
        (format!("Bearer {token}\t"), (400, "malformed_credentials")),
        (format!("Bearer {token}\r\n x"), (400, "malformed_credentials")),
        (format!("Bearer {token} x"), (400, "malformed_credentials")),
        (format!("Bearer {token},"), (400, "several_credentials")),
        (format!("Bearer {token}, Basic YTpi"), (400, "several_credentials")),
        (format!("Basic YTpi, Bearer {token}"), (401, "no_credentials")),
        (format!("Bearer\"{token}\""), (400, "malformed_credentials")),
        (token.clone(), (401, "no_credentials")),
        (format!("\"Bearer\" {token}"), (401, "no_credentials")),
    ] {
        let mut bench = Bench::ready();
        let (status, reason) = refused(bench.ask(request("POST", "/github", &[("authorization", &value)])));
        bench.no_call();
        assert_eq!((status, reason.as_str()), expected, "{:?}", value.replace(&token, "TOKEN"));
    }
}

#[test]
fn a_token_endpoints_answer_of_another_kind_is_no_token() {
    let at = |reply: &CalloutResult| refused(Bench::ready().exchange(bearer("/github", &alice_token()), reply));
    let good = json!({"access_token": "up", "token_type": "Bearer", "expires_in": 60});
    for token_type in [json!("mac"), json!("Bearer "), json!("Bearer, N_A"), json!(["Bearer"]), json!(7), json!("")] {
        let reply = answer_with(200, &[], &with(good.clone(), json!({"token_type": token_type})));
        assert_eq!(at(&reply), (502, "provider_answer_invalid".to_owned()), "{token_type}");
    }
    for expires_in in [json!(0.5), json!(1e300), json!("1.5"), json!("-1"), json!(""), json!([]), json!(true)] {
        let reply = answer_with(200, &[], &with(good.clone(), json!({"expires_in": expires_in})));
        assert_eq!(at(&reply), (502, "provider_answer_invalid".to_owned()), "{expires_in}");
    }
    let html = b"<!doctype html><p>Unauthorized</p>";
    for (status, expected) in
        [(401, "exchange_misconfigured"), (403, "exchange_misconfigured"), (200, "provider_answer_invalid")]
    {
        assert_eq!(at(&answer(status, html)), (502, expected.to_owned()), "{status}");
    }
    for status in [201, 202, 204, 206, 301, 302, 303, 307, 308] {
        let reply = answer_with(status, &[("location", "https://evil.example/token")], &good);
        let mut bench = Bench::ready();
        let (status, _) = refused(bench.exchange(bearer("/github", &alice_token()), &reply));
        bench.no_call();
        assert!(matches!(status, 502 | 503), "{status}");
    }
}

#[test]
fn a_signature_that_was_seen_before_makes_nothing_else_good() {
    let mut bench = Bench::ready();
    let good = alice_token();
    assert_eq!(verdict(&mut bench, &good), "exchanged");
    let [head, claims, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let other = ENTRA_KEY.token(&with(alice(), json!({"oid": "mallory"})));
    let other: Vec<&str> = other.split('.').collect();
    // The same in another order and with another space: what it says is no different, and the bytes are.
    let heads = [r#"{"kid":"entra-1","alg":"ES256","typ":"JWT"}"#, r#"{"alg":"ES256","kid":"entra-1","typ":"JWT" }"#]
        .map(encode);
    for forged in [
        format!("{}.{claims}.{signature}", heads[0]),
        format!("{}.{claims}.{signature}", heads[1]),
        format!("{head}.{}.{signature}", other[1]),
        format!("{head}.{claims}.{}", other[2]),
        format!("{head}.{}.{signature}", encode(with(alice(), json!({"scp": "mcp.admin"})).to_string())),
    ] {
        for path in ["/github", "/github/x"] {
            let (status, reason) = refused(bench.ask(bearer(path, &forged)));
            assert_eq!((status, reason.as_str()), (401, "bad_signature"));
        }
        bench.no_call();
    }
    assert_eq!(authorization(bench.ask(bearer("/github", &good))), "Bearer up");
}

#[test]
fn who_lost_a_scope_does_not_get_it_back_from_the_cache() {
    let mut bench = Bench::ready();
    let before = ENTRA_KEY.token(&with(alice(), json!({"scp": "mcp.read"})));
    assert_eq!(verdict(&mut bench, &before), "exchanged");
    let after = ENTRA_KEY.token(&with(alice(), json!({"scp": "mcp.write"})));
    assert_eq!(refused(bench.ask(bearer("/github", &after))), (403, "insufficient_scope".to_owned()));
    // With another token the same user is somebody new.
    let again = ENTRA_KEY.token(&with(alice(), json!({"scp": "mcp.read", "uti": "2"})));
    assert!(matches!(bench.ask(bearer("/github", &again)), Decision::Pause));
}

#[test]
fn a_failure_that_is_remembered_is_one_tokens_and_one_resources() {
    let mut bench = Bench::ready();
    let scopes = json!({"scp": "mcp.read mcp.admin"});
    let token = ENTRA_KEY.token(&with(alice(), scopes.clone()));
    let denied = answer_with(400, &[], &json!({"error": "access_denied"}));
    assert_eq!(refused(bench.exchange(bearer("/github", &token), &denied)).1, "exchange_denied");
    assert_eq!(refused(bench.ask(bearer("/github", &token))).1, "exchange_denied");
    assert_eq!(authorization(bench.exchange(bearer("/github/admin", &token), &issued("admin"))), "Bearer admin");
    let other = ENTRA_KEY.token(&with(alice(), with(scopes, json!({"uti": "2"}))));
    assert_eq!(authorization(bench.exchange(bearer("/github", &other), &issued("up"))), "Bearer up");
    let bob = bob_token();
    assert_eq!(authorization(bench.exchange(bearer("/github", &bob), &issued("bobs"))), "Bearer bobs");
    assert_eq!(refused(bench.ask(bearer("/github", &token))).1, "exchange_denied");
}
