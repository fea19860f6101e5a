//! The verdict of each vector, and the number of vectors of each sort.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use onbehalf::crypto::{Algorithm, Crypto, PublicKey};
use onbehalf::jose::{KeySet, Selection};
use serde_json::json;

use crate::wycheproof::{self, Group, Key};
use crate::wycheproof::{CURVE_HASH, DER, ED448, ES256K, ES512, HMAC, LARGE_RSA, ODD_EXPONENT, OTHER_CURVE};
use crate::wycheproof::{PSS_HASH, PSS_MASK, PSS_SALT, RSA_HASH};

/// Vectors with parameters that this filter does not support: the reason, the check that refuses them (a reason of the
/// JWK reader, or else a bad signature), the number of vectors, and the number of those whose comment names another
/// algorithm. That algorithm, and only that one, must accept them.
const REFUSED: [(&str, &str, usize, usize); 18] = [
    (LARGE_RSA, "not an RSA key of 2048 to 4096 bits with exponent 65537", 776, 0),
    (ODD_EXPONENT, "not an RSA key of 2048 to 4096 bits with exponent 65537", 5, 0),
    (RSA_HASH, SIGNATURE, 3096, 36),
    (PSS_HASH, SIGNATURE, 1291, 9),
    (PSS_MASK, SIGNATURE, 430, 3),
    (PSS_SALT, SIGNATURE, 590, 8),
    (DER, SIGNATURE, 5644, 0),
    (DER, NO_CONSTRUCTOR, 16_711, 0),
    (CURVE_HASH, SIGNATURE, 1222, 0),
    (CURVE_HASH, "a curve that is not supported", 1192, 0),
    (CURVE_HASH, NO_CONSTRUCTOR, 10, 0),
    (OTHER_CURVE, NO_CONSTRUCTOR, 4012, 0),
    (ES256K, "a curve that is not supported", 242, 0),
    (ES256K, NO_CONSTRUCTOR, 10, 0),
    (ES512, "a curve that is not supported", 308, 0),
    (ES512, NO_CONSTRUCTOR, 10, 0),
    (ED448, "a kind of key that is not supported", 87, 0),
    (HMAC, "a private or symmetric key", 522, 0),
];

const SIGNATURE: &str = "the signature";
const NO_CONSTRUCTOR: &str = "no constructor for the curve";

/// Vectors whose verdict Wycheproof leaves open. RFC 7518 section 3.3 requires RFC 8017 section 8.2.2, which encodes
/// the expected digest with NULL (appendix A.2.4) and compares.
const MISSING_NULL: &str = "MissingNull";

/// Algorithm, and the numbers of its vectors that are valid, invalid, and left open by Wycheproof (refused here).
const JUDGED: [(&str, usize, usize, usize); 9] = [
    ("RS256", 21, 749, 3),
    ("RS384", 21, 752, 3),
    ("RS512", 21, 752, 3),
    ("PS256", 317, 225, 0),
    ("PS384", 192, 92, 0),
    ("PS512", 266, 94, 0),
    ("ES256", 173, 89, 0),
    ("ES384", 193, 87, 0),
    ("EdDSA", 88, 63, 0),
];

const ALL: [&str; 9] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

#[derive(Default)]
pub struct Verdicts {
    refused: BTreeMap<(&'static str, &'static str), (usize, usize)>,
    judged: BTreeMap<&'static str, (usize, usize, usize)>,
    wrong: Vec<String>,
    /// Number of signatures that the host's `verify_signature` can decide.
    pub for_the_host: usize,
}

/// Runs every vector through `crypto`.
pub fn check(crypto: &dyn Crypto) -> Verdicts {
    let mut verdicts = Verdicts::default();
    for group in wycheproof::groups() {
        let key = public_key(&group);
        match (group.algorithm, &key) {
            (Ok(name), Ok(key)) => verdicts.judge(crypto, &group, name, key),
            (Ok(_), Err(reason)) => verdicts.wrong.push(format!("{}: its key is refused: {reason}", group.name)),
            (Err(reason), key) => verdicts.refuse(crypto, &group, reason, key.as_ref().map_err(|stopped| *stopped)),
        }
    }
    verdicts
}

/// The key as the reader of a provider's JWKS reads it, or the reason for which there is none.
fn public_key(group: &Group) -> Result<PublicKey, &'static str> {
    let jwk = match &group.key {
        Key::Jwk(jwk) => jwk,
        Key::Rsa { modulus, exponent } => return PublicKey::rsa(modulus, exponent).ok_or("PublicKey::rsa"),
        Key::Point { curve, bytes } => {
            let (x, y) = bytes[1..].split_at((bytes.len() - 1) / 2);
            return match curve.as_str() {
                "secp256r1" => PublicKey::p256(x, y).ok_or("PublicKey::p256"),
                "secp384r1" => PublicKey::p384(x, y).ok_or("PublicKey::p384"),
                _ => Err(NO_CONSTRUCTOR),
            };
        }
    };
    let (keys, skipped) = KeySet::read(json!({"keys": [jwk]}).to_string().as_bytes()).expect("a JWK Set");
    let select = |name: &&str| match keys.select(None, Algorithm::from_name(name).unwrap()) {
        Selection::Found(key) => Some(key.public.clone()),
        Selection::OtherAlgorithm | Selection::Ambiguous | Selection::Missing => None,
    };
    ALL.iter().find_map(select).ok_or_else(|| skipped[0])
}

impl Verdicts {
    /// A supported algorithm must give Wycheproof's verdict.
    fn judge(&mut self, crypto: &dyn Crypto, group: &Group, name: &'static str, key: &PublicKey) {
        let algorithm = Algorithm::from_name(name).unwrap();
        let (valid, invalid, open) = self.judged.entry(name).or_default();
        for vector in &group.vectors {
            let expected = match &vector.is_valid {
                Ok(true) => {
                    *valid += 1;
                    true
                }
                Ok(false) => {
                    *invalid += 1;
                    false
                }
                Err(why) => {
                    assert_eq!(why, MISSING_NULL);
                    *open += 1;
                    false
                }
            };
            self.for_the_host += usize::from(is_for_the_host(algorithm, key, &vector.signature));
            if crypto.verify(algorithm, key, &vector.message, &vector.signature) != expected {
                self.wrong.push(format!("{} {} ({name}) is to be {expected}", group.name, vector.id));
            }
        }
    }

    /// No supported algorithm may accept the signature, whichever takes the key.
    fn refuse(
        &mut self,
        crypto: &dyn Crypto,
        group: &Group,
        reason: &'static str,
        key: Result<&PublicKey, &'static str>,
    ) {
        let (all, made_otherwise) = self.refused.entry((reason, key.err().unwrap_or(SIGNATURE))).or_default();
        *all += group.vectors.len();
        let Ok(key) = key else {
            return;
        };
        *made_otherwise += group.vectors.iter().filter(|vector| vector.made_as.is_some()).count();
        for name in ALL {
            let algorithm = Algorithm::from_name(name).unwrap();
            for vector in group.vectors.iter().filter(|_| key.suits(algorithm)) {
                self.for_the_host += usize::from(is_for_the_host(algorithm, key, &vector.signature));
                let expected = vector.made_as == Some(name);
                if crypto.verify(algorithm, key, &vector.message, &vector.signature) != expected {
                    self.wrong.push(format!("{} {} ({reason}) as {name} is to be {expected}", group.name, vector.id));
                }
            }
        }
    }

    pub fn assert_complete(&self) {
        let (count, first) = (self.wrong.len(), self.wrong.get(..60).unwrap_or(&self.wrong));
        assert!(count == 0, "{count} wrong verdicts, first of all {first:#?}");
        let refused: BTreeSet<_> =
            self.refused.iter().map(|((reason, by), (all, otherwise))| (*reason, *by, *all, *otherwise)).collect();
        assert_eq!(refused, BTreeSet::from(REFUSED));
        let judged: BTreeSet<_> =
            self.judged.iter().map(|(name, (valid, invalid, open))| (*name, *valid, *invalid, *open)).collect();
        assert_eq!(judged, BTreeSet::from(JUDGED));
    }
}

fn is_for_the_host(algorithm: Algorithm, key: &PublicKey, signature: &[u8]) -> bool {
    use Algorithm::{Es256, Es384, Rs256, Rs384, Rs512};
    matches!(algorithm, Rs256 | Rs384 | Rs512 | Es256 | Es384) && key.foreign_signature(signature).is_some()
}

impl fmt::Display for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, (valid, invalid, open)) in &self.judged {
            writeln!(f, "{name}: {valid} valid, {invalid} invalid, {open} left open")?;
        }
        for ((reason, by), (all, made_otherwise)) in &self.refused {
            writeln!(f, "refused: {all}: {reason} [{by}]; {made_otherwise} of them good as something else")?;
        }
        let judged: usize = self.judged.values().map(|(valid, invalid, open)| valid + invalid + open).sum();
        write!(f, "{} vectors", judged + self.refused.values().map(|(all, _)| all).sum::<usize>())
    }
}
