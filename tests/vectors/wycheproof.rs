//! Project Wycheproof's vectors as published: all signatures by RSA, ECDSA, EdDSA or HMAC in any form and with any
//! hash, also those that JWS does not allow.

use onbehalf_test_support::base64url;
use serde_json::Value;
use wycheproof::{ecdsa, eddsa, mac, rsa_pkcs1_verify, rsa_pss_verify};

/// Vectors that share a key and parameters.
pub struct Group {
    pub name: String,
    pub key: Key,
    /// The name of these parameters in RFC 7518 section 3.1 or RFC 8037, or the reason for which they have none or are
    /// not supported.
    pub algorithm: Result<&'static str, &'static str>,
    pub vectors: Vec<Vector>,
}

/// The key of the group.
pub enum Key {
    /// The JWK that Wycheproof published, or the JWK of a secret (RFC 7518 section 6.4).
    Jwk(Value),
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// An uncompressed point on a curve.
    Point {
        curve: String,
        bytes: Vec<u8>,
    },
}

pub struct Vector {
    pub id: u64,
    pub message: Vec<u8>,
    pub signature: Vec<u8>,
    /// Wycheproof's verdict, or the flag for which it leaves the verdict to the implementation.
    pub is_valid: Result<bool, String>,
    /// The JWS algorithm of the signature, if the comment names another than the group's.
    pub made_as: Option<&'static str>,
}

pub const LARGE_RSA: &str = "an RSA key of more than 4096 bits";
pub const ODD_EXPONENT: &str = "an RSA exponent other than 65537";
pub const RSA_HASH: &str = "RSASSA-PKCS1-v1_5 with a hash that no JWS algorithm has";
pub const PSS_HASH: &str = "RSASSA-PSS with a hash that no JWS algorithm has";
pub const PSS_MASK: &str = "RSASSA-PSS with another hash in the mask (RFC 7518 section 3.5)";
pub const PSS_SALT: &str = "RSASSA-PSS with a salt not as long as the hash (RFC 7518 section 3.5)";
pub const DER: &str = "an ECDSA signature in DER (RFC 7518 section 3.4)";
pub const CURVE_HASH: &str = "a curve with another hash than JWS pairs it with (RFC 7518 section 3.4)";
pub const OTHER_CURVE: &str = "a curve that no JWS algorithm has";
pub const ES256K: &str = "ES256K is not offered";
pub const ES512: &str = "ES512 is not offered";
pub const ED448: &str = "EdDSA with Ed448 is not offered";
pub const HMAC: &str = "HS256, HS384 and HS512 are not offered: who verifies could also sign";

pub fn groups() -> Vec<Group> {
    let mut sets: Vec<(String, &str)> = Vec::new();
    sets.extend(rsa_pkcs1_verify::TestName::all().iter().map(|set| (format!("{set:?}"), set.json_data())));
    sets.extend(rsa_pss_verify::TestName::all().iter().map(|set| (format!("{set:?}"), set.json_data())));
    sets.extend(ecdsa::TestName::all().iter().map(|set| (format!("{set:?}"), set.json_data())));
    sets.extend(eddsa::TestName::all().iter().map(|set| (format!("{set:?}"), set.json_data())));
    let hmac = [mac::TestName::HmacSha256, mac::TestName::HmacSha384, mac::TestName::HmacSha512];
    sets.extend(hmac.iter().map(|set| (format!("{set:?}"), set.json_data())));
    sets.iter().flat_map(|(name, text)| read(name, &serde_json::from_str(text).unwrap())).collect()
}

fn read(name: &str, set: &Value) -> Vec<Group> {
    let groups: Vec<Group> =
        set["testGroups"].as_array().unwrap().iter().flat_map(|group| split(name, group)).collect();
    let listed: usize = groups.iter().map(|group| group.vectors.len()).sum();
    assert_eq!(set["numberOfTests"].as_u64().unwrap(), listed as u64, "{name}");
    groups
}

/// A group. For HMAC, where each vector has its own key, one group for each vector.
fn split(name: &str, group: &Value) -> Vec<Group> {
    let tests = group["tests"].as_array().unwrap();
    let made = |key: Key, tests: &[Value]| Group {
        name: name.to_owned(),
        key,
        algorithm: algorithm(group),
        vectors: tests.iter().map(|test| vector(group, test)).collect(),
    };
    if text(group, "type") == "MacTest" {
        let key = |test: &Value| Key::Jwk(serde_json::json!({"kty": "oct", "k": base64url(hex(test, "key"))}));
        return tests.iter().map(|test| made(key(test), std::slice::from_ref(test))).collect();
    }
    let jwk = group.get("publicKeyJwk").or_else(|| group.get("keyJwk"));
    let public = &group["publicKey"];
    let key = match (jwk, text(group, "type")) {
        (Some(jwk), _) => Key::Jwk(jwk.clone()),
        (None, kind) if kind.starts_with("Rsassa") => {
            // Wycheproof has a signed number with a leading zero; a JWK has unsigned octets.
            let unsigned = |name: &str| {
                let octets = hex(public, name);
                octets.strip_prefix(&[0]).unwrap_or(&octets).to_vec()
            };
            Key::Rsa { modulus: unsigned("modulus"), exponent: unsigned("publicExponent") }
        }
        (None, _) => Key::Point { curve: text(public, "curve").to_owned(), bytes: hex(public, "uncompressed") },
    };
    vec![made(key, tests)]
}

fn algorithm(group: &Value) -> Result<&'static str, &'static str> {
    let public = &group["publicKey"];
    let hash = group["sha"].as_str().unwrap_or_default();
    let rsa = |names: [&'static str; 3], other: &'static str| match hash {
        _ if group["keySize"].as_u64().unwrap() > 4096 => Err(LARGE_RSA),
        _ if hex(public, "publicExponent") != [1, 0, 1] => Err(ODD_EXPONENT),
        "SHA-256" => Ok(names[0]),
        "SHA-384" => Ok(names[1]),
        "SHA-512" => Ok(names[2]),
        _ => Err(other),
    };
    match text(group, "type") {
        "RsassaPkcs1Verify" => rsa(["RS256", "RS384", "RS512"], RSA_HASH),
        "RsassaPssVerify" | "RsassaPssWithParametersVerify" => {
            let name = rsa(["PS256", "PS384", "PS512"], PSS_HASH)?;
            let hash_bytes = name[2..].parse::<u64>().unwrap() / 8;
            match (text(group, "mgfSha") == hash, group["sLen"].as_u64().unwrap() == hash_bytes) {
                (true, true) => Ok(name),
                (true, false) => Err(PSS_SALT),
                (false, _) => Err(PSS_MASK),
            }
        }
        "EcdsaVerify" | "EcdsaBitcoinVerify" => Err(DER),
        "EcdsaP1363Verify" => match (text(public, "curve"), hash) {
            ("secp256r1", "SHA-256") => Ok("ES256"),
            ("secp384r1", "SHA-384") => Ok("ES384"),
            ("secp521r1", "SHA-512") => Err(ES512),
            ("secp256k1", "SHA-256") => Err(ES256K),
            ("secp256r1" | "secp384r1" | "secp521r1" | "secp256k1", _) => Err(CURVE_HASH),
            _ => Err(OTHER_CURVE),
        },
        "EddsaVerify" if text(public, "curve") == "edwards25519" => Ok("EdDSA"),
        "EddsaVerify" => Err(ED448),
        "MacTest" => Err(HMAC),
        other => panic!("{other}"),
    }
}

fn vector(group: &Value, test: &Value) -> Vector {
    let signature = if test.get("tag").is_some() { "tag" } else { "sig" };
    Vector {
        id: test["tcId"].as_u64().unwrap(),
        message: hex(test, "msg"),
        signature: hex(test, signature),
        is_valid: match text(test, "result") {
            "valid" => Ok(true),
            "invalid" => Ok(false),
            "acceptable" => Err(test["flags"][0].as_str().unwrap().to_owned()),
            other => panic!("{other}"),
        },
        made_as: made_as(group, text(test, "comment")),
    }
}

fn made_as(group: &Value, comment: &str) -> Option<&'static str> {
    let wrong_hash = comment.strip_prefix("The message is hashed with ").and_then(|rest| rest.split(" instead").next());
    if let Some(hash) = wrong_hash.or_else(|| comment.strip_prefix("PKCS #1 v1.5 signature with ")) {
        return match hash {
            "SHA-256" => Some("RS256"),
            "SHA-384" => Some("RS384"),
            "SHA-512" => Some("RS512"),
            _ => None,
        };
    }
    let salt_length: u64 = comment.strip_prefix("s_len changed to ")?.parse().ok()?;
    let mut group = group.clone();
    group["sLen"] = salt_length.into();
    algorithm(&group).ok()
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object[name].as_str().unwrap_or_else(|| panic!("no {name}"))
}

fn hex(object: &Value, name: &str) -> Vec<u8> {
    let digits = text(object, name);
    assert!(digits.len().is_multiple_of(2));
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}
