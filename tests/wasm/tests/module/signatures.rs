//! The host's `verify_signature` and the libraries in the module give the same verdict, on good and on hostile tokens.

use onbehalf_test_support::base64url;
use onbehalf_wasm_tests::{Host, Module};
use serde_json::json;

use crate::support::keys::{self, Alg};
use crate::support::token::{self, Token};
use crate::support::{fetch_keys, head, provider, send, setup, verdict};

fn host_with(offered: bool) -> Host {
    let mut setup = setup(Module::filter(), &provider::configuration());
    if !offered {
        setup = setup.without_foreign_function("verify_signature").without_foreign_function("sign");
    }
    let mut host = setup.start();
    fetch_keys(&mut host);
    host
}

/// Name, token, and `true` if the token is valid.
type Case = (String, String, bool);

fn cases(now: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    for algorithm in Alg::ALL {
        let token = token::okta(&format!("user-{algorithm:?}"), now).with_algorithm(algorithm);
        let good = token.signature();
        let mut case =
            |what: &str, token: String, is_good: bool| cases.push((format!("{algorithm:?}: {what}"), token, is_good));
        case("good", token.sign(), true);
        for (what, signature) in bent(&good) {
            case(what, token.signed_with(&signature), false);
        }
        let other = token.clone().claim("uid", "admin");
        case("claims changed", other.signed_with(&good), false);
        case("header changed", token.clone().header("x", 1).signed_with(&good), false);
        case("padding of base64", format!("{}=", token.sign()), false);
        case("no signature", format!("{}.", token.signing_input()), false);
        for wrong in Alg::ALL.into_iter().filter(|wrong| *wrong != algorithm) {
            let lie = token.clone().header("alg", wrong.name());
            let signature = keys::sign(algorithm, lie.signing_input().as_bytes());
            case(&format!("says alg {wrong:?}"), lie.signed_with(&signature), false);
            let lie = token.clone().header("kid", wrong.kid());
            case(
                &format!("says kid of {wrong:?}"),
                lie.signed_with(&keys::sign(algorithm, lie.signing_input().as_bytes())),
                false,
            );
            let other = keys::sign(wrong, token.signing_input().as_bytes());
            case(&format!("signed as {wrong:?}"), token.signed_with(&other), false);
        }
    }
    cases.extend(ecdsa(now));
    cases.extend(rsa(now));
    cases.extend(forms(now));
    cases
}

/// Signatures with small changes, or of a wrong length.
fn bent(good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let flipped = |at: usize, bit: u8| {
        let mut bent = good.to_vec();
        bent[at] ^= bit;
        bent
    };
    vec![
        ("first bit", flipped(0, 0x80)),
        ("last bit", flipped(good.len() - 1, 1)),
        ("a bit in the middle", flipped(good.len() / 2, 4)),
        ("one byte short", good[..good.len() - 1].to_vec()),
        ("first byte missing", good[1..].to_vec()),
        ("one zero more", [good, &[0]].concat()),
        ("one zero before", [&[0], good].concat()),
        ("twice", [good, good].concat()),
        ("one byte", vec![1]),
        ("zeros", vec![0; good.len()]),
        ("ones", vec![0xff; good.len()]),
        ("reversed", good.iter().rev().copied().collect()),
    ]
}

fn ecdsa(now: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    for (algorithm, order) in [(Alg::Es256, keys::order_p256()), (Alg::Es384, keys::order_p384())] {
        let token = token::okta("ecdsa", now).with_algorithm(algorithm);
        let good = token.signature();
        let (r, s) = good.split_at(good.len() / 2);
        let width = r.len();
        let (zero, ones) = (vec![0; width], vec![0xff; width]);
        let high = minus(&order, s);
        let mut case = |what: &str, signature: Vec<u8>, is_good: bool| {
            cases.push((format!("{algorithm:?}: {what}"), token.signed_with(&signature), is_good));
        };
        // RFC 7518 section 3.4 says nothing of low s: both halves are signatures.
        case("the other s", [r, &high].concat(), true);
        case("r = 0", [&zero, s].concat(), false);
        case("s = 0", [r, &zero].concat(), false);
        case("r = s = 0", [&zero[..], &zero].concat(), false);
        case("r = n", [&order, s].concat(), false);
        case("s = n", [r, &order].concat(), false);
        case("r beyond n", [&ones, s].concat(), false);
        case("s beyond n", [r, &ones].concat(), false);
        case("r and s swapped", [s, r].concat(), false);
        case("r = s", [r, r].concat(), false);
        case("DER", keys::der(r, s), false);
        case("DER with the other s", keys::der(r, &high), false);
        case("DER padded to the right length", padded(keys::der(r, s), good.len()), false);
        case("r and s of the other curve's width", [&[0; 16][..], r, &[0; 16], s].concat(), false);
    }
    cases
}

fn rsa(now: u64) -> Vec<Case> {
    let token = token::okta("rsa", now);
    let modulus = keys::modulus();
    let good = token.signature();
    let plus = keys::add(&good, &modulus);
    let mut one = vec![0; modulus.len()];
    one[modulus.len() - 1] = 1;
    let last_minus_one = keys::subtract_one(&modulus);
    vec![
        ("RS256: signature = modulus".to_owned(), token.signed_with(&modulus), false),
        ("RS256: signature + modulus".to_owned(), token.signed_with(&plus), false),
        ("RS256: signature 1".to_owned(), token.signed_with(&one), false),
        ("RS256: signature modulus - 1".to_owned(), token.signed_with(&last_minus_one), false),
        ("RS256: bare digest".to_owned(), token.signed_with(&keys::raw_rsa(&keys::unpadded_digest(&token))), false),
        ("RS256: short padding".to_owned(), token.signed_with(&keys::raw_rsa(&keys::short_padding(&token))), false),
        (
            "RS256: no NULL in the digest's frame".to_owned(),
            token.signed_with(&keys::raw_rsa(&keys::no_null(&token))),
            false,
        ),
    ]
}

/// Tokens with a wrong header.
fn forms(now: u64) -> Vec<Case> {
    let token = token::okta("form", now);
    let hmac_key = provider::configuration().to_string();
    let with_alg = |alg: &str| token.clone().header("alg", alg);
    let mut cases: Vec<Case> =
        ["none", "None", "NONE", "nOnE", "HS256", "HS512", "RS1", "ES512", "ES256K", "RSA-OAEP", "", "rs256"]
            .into_iter()
            .flat_map(|alg| {
                let token = with_alg(alg);
                [
                    (format!("alg {alg:?} without signature"), format!("{}.", token.signing_input()), false),
                    (format!("alg {alg:?} with the good signature"), token.signed_with(&token.signature()), false),
                    (
                        format!("alg {alg:?} with the configuration as signature"),
                        token.signed_with(hmac_key.as_bytes()),
                        false,
                    ),
                ]
            })
            .collect();
    let embedded = json!({"keys": []});
    cases.push((
        "jwk in the header".to_owned(),
        token.clone().header("jwk", embedded).header("kid", "mine").sign(),
        false,
    ));
    cases.push(("crit".to_owned(), token.clone().header("crit", json!(["exp"])).sign(), false));
    cases.push(("b64 false".to_owned(), token.clone().header("b64", false).sign(), false));
    let (message, signature) = (token.signing_input(), base64url(token.signature()));
    cases.push(("claims twice".to_owned(), format!("{message}.{}.{signature}", base64url("{}")), false));
    cases.push(("four segments".to_owned(), format!("{message}.{signature}."), false));
    cases.push(("five segments".to_owned(), format!("{message}.{signature}.a.b"), false));
    cases
}

fn padded(mut bytes: Vec<u8>, length: usize) -> Vec<u8> {
    bytes.resize(length, 0);
    bytes
}

/// `order` - `number`, big endian.
fn minus(order: &[u8], number: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let mut out = vec![0; order.len()];
    for at in (0..order.len()).rev() {
        let difference = i16::from(order[at]) - i16::from(number[at]) - borrow;
        borrow = i16::from(difference < 0);
        out[at] = u8::try_from(difference + 256 * borrow).expect("a byte");
    }
    out
}

#[test]
fn envoys_function_and_software_give_the_same_verdicts() {
    let (mut with, mut without) = (host_with(true), host_with(false));
    let asked_before = |host: &Host| *host.hostcalls().get("proxy_call_foreign_function").unwrap_or(&0);
    let (before_with, before_without) = (asked_before(&with), asked_before(&without));
    let cases = cases(with.world().now());
    assert!(cases.len() > 300, "{}", cases.len());
    for (name, token, is_good) in &cases {
        let by_host = verdict(&send(&mut with, token));
        let by_module = verdict(&send(&mut without, token));
        assert_eq!(by_host, by_module, "{name}");
        assert_eq!(by_host == "forwarded", *is_good, "{name}: {by_host}");
    }
    // Both verifiers were used. A host without `sign` is called for each client assertion, of which each valid token
    // needs one; `verify_signature` is called once.
    let (asked, asked_in_vain) = (asked_before(&with) - before_with, asked_before(&without) - before_without);
    let good = cases.iter().filter(|(_, _, is_good)| *is_good).count() as u64;
    println!(
        "{} tokens, {good} good; foreign functions called {asked} times, and {asked_in_vain} in vain",
        cases.len()
    );
    assert!(asked > good + 50, "the host's verify_signature was hardly used: {asked}");
    assert!(asked_in_vain <= good, "verify_signature is asked for again and again although there is none");
}

#[test]
fn bad_signature_and_wrong_algorithm_have_their_own_reasons() {
    for offered in [true, false] {
        let mut host = host_with(offered);
        let now = host.world().now();
        for algorithm in Alg::ALL {
            let token = token::okta("x", now).with_algorithm(algorithm);
            let mut signature = token.signature();
            signature[10] ^= 1;
            assert_eq!(verdict(&send(&mut host, &token.signed_with(&signature))), "bad_signature", "{algorithm:?}");
        }
        let none: Token = token::okta("x", now).header("alg", "none");
        assert_eq!(verdict(&send(&mut host, &format!("{}.", none.signing_input()))), "unsupported_algorithm");
    }
}

#[test]
fn refused_token_is_refused_again() {
    let mut host = host_with(true);
    let token = token::okta("x", host.world().now()).signed_with(&[7; 256]);
    let authorization = format!("Bearer {token}");
    for _ in 0..3 {
        let request = host.request(&head(&authorization));
        assert_eq!(verdict(&host.outcome(request)), "bad_signature");
    }
}
