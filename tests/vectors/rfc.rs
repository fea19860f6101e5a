//! The signed examples of RFC 7515 appendix A, RFC 7520 section 4 and RFC 8037 appendix A.4, as whole tokens.

use onbehalf::crypto::{Algorithm, Crypto, Software};
use onbehalf::jose::{CompactJws, KeySet, Selection, TokenError};
use onbehalf_test_support::{base64url_decode, jws_part};
use serde_json::{Value, json};

/// The outcome of an example.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// A JWT with a good signature.
    Good,
    /// The signature is good, but the payload is text and no set of claims.
    GoodOverText,
    /// A JWT whose algorithm is not supported. The second value is the reason for which its key is skipped, if it has
    /// one.
    NoAlgorithm(Option<&'static str>),
    /// A JWS over text whose algorithm is not supported.
    NoAlgorithmOverText(Option<&'static str>),
}

const SECRET: Option<&str> = Some("a private or symmetric key");
const P521: Option<&str> = Some("a curve that is not supported");

const EXAMPLES: [(&str, Outcome); 10] = [
    ("RFC 7515 A.1", Outcome::NoAlgorithm(SECRET)),
    ("RFC 7515 A.2", Outcome::Good),
    ("RFC 7515 A.3", Outcome::Good),
    ("RFC 7515 A.4", Outcome::NoAlgorithmOverText(P521)),
    ("RFC 7515 A.5", Outcome::NoAlgorithm(None)),
    ("RFC 7520 4.1", Outcome::GoodOverText),
    ("RFC 7520 4.2", Outcome::GoodOverText),
    ("RFC 7520 4.3", Outcome::NoAlgorithmOverText(P521)),
    ("RFC 7520 4.4", Outcome::NoAlgorithmOverText(SECRET)),
    ("RFC 8037 A.4", Outcome::GoodOverText),
];

#[test]
fn rfc_examples_have_the_verdicts_of_the_rfcs() {
    check(&Software);
}

pub fn check(crypto: &dyn Crypto) {
    let examples: Vec<Value> = serde_json::from_str(include_str!("rfc.json")).unwrap();
    assert_eq!(examples.len(), EXAMPLES.len());
    for (example, (name, expected)) in examples.iter().zip(EXAMPLES) {
        assert_eq!(example["name"], name);
        assert_eq!(outcome(crypto, &example["jwk"], example["token"].as_str().unwrap()), expected, "{name}");
    }
}

fn outcome(crypto: &dyn Crypto, jwk: &Value, token: &str) -> Outcome {
    let compact = CompactJws::parse(token, |_| None).unwrap();
    assert_eq!((compact.header.algorithm.as_str(), compact.signing_input), (alg(token).as_str(), signed(token).0));
    assert_eq!(compact.signature, signed(token).1);
    let no_object = TokenError::Malformed("its payload is not a JSON object with distinct names");
    let is_text = compact.claims().inspect_err(|error| assert_eq!(*error, no_object)).is_err();
    let Some(algorithm) = Algorithm::from_name(&alg(token)) else {
        let skipped = KeySet::read(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap().1;
        let why = skipped.first().copied().filter(|_| !jwk.is_null());
        return if is_text { Outcome::NoAlgorithmOverText(why) } else { Outcome::NoAlgorithm(why) };
    };
    // RFC 7520 has one RSA key for RS256 and PS384. Here a key names its algorithm unless that is the usual one.
    let mut jwk = jwk.clone();
    jwk["alg"] = alg(token).into();
    let (keys, _) = KeySet::read(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
    let Selection::Found(key) = keys.select(None, algorithm) else {
        panic!("no key");
    };
    let (signing_input, signature) = signed(token);
    assert!(crypto.verify(algorithm, &key.public, signing_input.as_bytes(), &signature));
    assert!(!crypto.verify(algorithm, &key.public, format!("{signing_input}A").as_bytes(), &signature));
    if is_text { Outcome::GoodOverText } else { Outcome::Good }
}

/// The signing input, and the signature decoded.
fn signed(token: &str) -> (&str, Vec<u8>) {
    let (signing_input, signature) = token.rsplit_once('.').unwrap();
    (signing_input, base64url_decode(signature))
}

fn alg(token: &str) -> String {
    jws_part(token, 0)["alg"].as_str().unwrap().to_owned()
}
