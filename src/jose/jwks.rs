//! JWK Sets (RFC 7517): the keys of an issuer, each with its algorithm.

use std::borrow::Cow;
use std::rc::Rc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::crypto::{Algorithm, PublicKey};
use crate::json::{self, Object, Value};

/// Maximum number of keys of a set that are read. Providers publish about ten.
const MAX_KEYS: usize = 256;

/// Key that may verify tokens, and its algorithm (RFC 8725 section 3.1).
#[derive(Clone, Debug)]
pub struct Key {
    /// `kid`.
    pub id: Option<String>,
    /// `alg`. If the provider omits it (RFC 7517 section 4.4), the usual algorithm of such a key:
    /// RS256, ES256, ES384 or EdDSA.
    pub algorithm: Algorithm,
    /// `true` if the provider states `alg`.
    pub states_algorithm: bool,
    /// The key itself.
    pub public: PublicKey,
    /// Member `issuer`, which some multi-tenant providers add: an issuer, or a template with `{tenantid}`. The key may verify only
    /// tokens of that issuer.
    pub issuer: Option<String>,
}

impl Key {
    /// Returns `true` if the key may verify by `algorithm`. A key without `alg` may also verify by `listed` algorithms of its
    /// kind, because the operator lists them by name.
    pub fn allows(&self, algorithm: Algorithm, listed: &[Algorithm]) -> bool {
        let is_listed = || !self.states_algorithm && listed.contains(&algorithm) && self.public.suits(algorithm);
        self.algorithm == algorithm || is_listed()
    }

    /// Returns `true` if both are one key of the same issuer. Some providers list one key twice, once with `alg` and once without, or
    /// under two `kid`s.
    fn is_same_key(&self, other: &Self) -> bool {
        self.public.spki() == other.public.spki() && self.issuer == other.issuer
    }

    /// Returns `true` if the key has no `issuer`, or if that is `issuer` once `tenant` is filled in.
    pub fn serves(&self, issuer: &str, tenant: Option<&str>) -> bool {
        let Some(template) = &self.issuer else {
            return true;
        };
        let lower = template.to_ascii_lowercase();
        match (lower.find("{tenantid}"), tenant) {
            (None, _) => template == issuer,
            (Some(_), None) => false,
            (Some(at), Some(tenant)) => {
                let (before, rest) = (template.get(..at), template.get(at.saturating_add("{tenantid}".len())..));
                matches!((before, rest), (Some(before), Some(rest))
                    if issuer.strip_prefix(before).and_then(|issuer| issuer.strip_suffix(rest)) == Some(tenant))
            }
        }
    }
}

/// The usable keys of an issuer's JWK Set (RFC 7517 section 5).
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Rc<Key>>,
}

/// Result of the search for the key of a token.
#[derive(Debug)]
pub enum Selection<'a> {
    /// Key that must verify the token.
    Found(&'a Rc<Key>),
    /// The key of that `kid` has another algorithm.
    OtherAlgorithm,
    /// Several different keys with equal `kid` and algorithm.
    Ambiguous,
    /// No key.
    Missing,
}

impl KeySet {
    /// Reads a JWK Set. Unusable keys are skipped (RFC 7517 section 5), and so are keys that the JSON reader refuses: each key is
    /// parsed alone. The second value has the reason of each. Members beside `keys` are ignored, whatever they are. `None`: not a
    /// JWK Set.
    pub fn read(bytes: &[u8]) -> Option<(Self, Vec<&'static str>)> {
        let text = String::from_utf8_lossy(bytes);
        let has_replacements = matches!(text, Cow::Owned(_));
        let keys = json::raw_items(json::raw_member(&text, "keys")??)?;
        let read = |key: &&str| {
            const UNREADABLE: &str = "not an object that all JSON readers read alike";
            // Bytes that are not UTF-8 stand in this key, or may stand in it.
            if has_replacements && key.contains(char::REPLACEMENT_CHARACTER) {
                return Err(UNREADABLE);
            }
            json::object(key.as_bytes()).ok_or(UNREADABLE).and_then(|jwk| read_key(&jwk))
        };
        Some(Self::collect(keys.iter().take(MAX_KEYS).map(read), keys.len()))
    }

    /// Reads a JWK Set that is parsed as JSON already, as [`read`](Self::read) does.
    pub fn from_members(set: &Object<'_>) -> Option<(Self, Vec<&'static str>)> {
        let listed = set.get("keys")?.as_array()?;
        let keys = listed.iter().take(MAX_KEYS).map(|jwk| jwk.as_object().ok_or("not an object").and_then(read_key));
        Some(Self::collect(keys, listed.len()))
    }

    fn collect(read: impl Iterator<Item = Result<Key, &'static str>>, count: usize) -> (Self, Vec<&'static str>) {
        let mut keys = Vec::new();
        let mut skipped = Vec::new();
        for key in read {
            match key {
                Ok(key) => keys.push(Rc::new(key)),
                Err(reason) => skipped.push(reason),
            }
        }
        if count > MAX_KEYS {
            skipped.push("beyond the 256th");
        }
        (Self { keys }, skipped)
    }

    /// Returns `true` if there is no usable key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Number of usable keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Finds the key for a token with `key_id` and `algorithm`, where the configuration lists no algorithms.
    pub fn select(&self, key_id: Option<&str>, algorithm: Algorithm) -> Selection<'_> {
        self.select_listed(key_id, algorithm, &[])
    }

    /// Finds the key for a token with `key_id` and `algorithm`. Without `kid`, exactly one key must allow the algorithm.
    pub fn select_listed(&self, key_id: Option<&str>, algorithm: Algorithm, listed: &[Algorithm]) -> Selection<'_> {
        let named = || self.keys.iter().filter(|key| key_id.is_none() || key.id.as_deref() == key_id);
        let mut fitting = named().filter(|key| key.allows(algorithm, listed));
        match fitting.next() {
            Some(key) if fitting.all(|other| key.is_same_key(other)) => Selection::Found(key),
            Some(_) => Selection::Ambiguous,
            None if named().next().is_some() => Selection::OtherAlgorithm,
            None => Selection::Missing,
        }
    }

    /// Returns a key whose `kid` and algorithm a different key has as well. Neither verifies a token that names the `kid`.
    pub fn ambiguous(&self) -> Option<&Key> {
        let is_ambiguous =
            |key: &&Rc<Key>| matches!(self.select(key.id.as_deref(), key.algorithm), Selection::Ambiguous);
        self.keys.iter().filter(|key| key.id.is_some()).find(is_ambiguous).map(Rc::as_ref)
    }

    /// Returns `true` if every key of `self` is also in `other`.
    pub fn is_contained_in(&self, other: &Self) -> bool {
        let is_in_other = |key: &Rc<Key>| {
            other.keys.iter().any(|candidate| {
                candidate.id == key.id
                    && candidate.algorithm == key.algorithm
                    && candidate.states_algorithm == key.states_algorithm
                    && candidate.is_same_key(key)
            })
        };
        self.keys.iter().all(is_in_other)
    }
}

/// Reads one public JWK. `Err`: the reason for which it cannot verify signatures.
pub(crate) fn read_key(jwk: &Object<'_>) -> Result<Key, &'static str> {
    // RFC 7518 sections 6.2.2, 6.3.2 and 6.4: members of private and symmetric keys, published by mistake.
    if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|name| jwk.present(name).is_some()) {
        return Err("a private or symmetric key");
    }
    if jwk.present("use").is_some_and(|usage| usage.as_str() != Some("sig")) {
        return Err("not for signatures");
    }
    if let Some(operations) = jwk.present("key_ops") {
        let verifies = operations
            .as_array()
            .is_some_and(|operations| operations.iter().any(|operation| operation.as_str() == Some("verify")));
        if !verifies {
            return Err("not for verifying");
        }
    }
    let (public, usual) = match jwk.string("kty") {
        Some("RSA") => {
            let key = PublicKey::rsa(&octets(jwk, "n")?, &octets(jwk, "e")?);
            (key.ok_or("not an RSA key of 2048 to 4096 bits with exponent 65537")?, Algorithm::Rs256)
        }
        Some("EC") => match jwk.string("crv") {
            Some("P-256") => {
                let key = PublicKey::p256(&octets(jwk, "x")?, &octets(jwk, "y")?);
                (key.ok_or("not a point on P-256")?, Algorithm::Es256)
            }
            Some("P-384") => {
                let key = PublicKey::p384(&octets(jwk, "x")?, &octets(jwk, "y")?);
                (key.ok_or("not a point on P-384")?, Algorithm::Es384)
            }
            _ => return Err("a curve that is not supported"),
        },
        Some("OKP") if jwk.string("crv") == Some("Ed25519") => {
            (PublicKey::ed25519(&octets(jwk, "x")?).ok_or("not an Ed25519 key")?, Algorithm::EdDsa)
        }
        _ => return Err("a kind of key that is not supported"),
    };
    let algorithm = match jwk.present("alg") {
        None => usual,
        Some(name) => name.as_str().and_then(Algorithm::from_name).ok_or("an algorithm that is not supported")?,
    };
    if !public.suits(algorithm) {
        return Err("an algorithm that does not suit the key");
    }
    let text = |name: &str| match jwk.present(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_ref().to_owned())),
        Some(_) => Err("kid or issuer is not a string"),
    };
    let states_algorithm = jwk.string("alg").is_some();
    Ok(Key { id: text("kid")?, algorithm, states_algorithm, public, issuer: text("issuer")? })
}

fn octets(jwk: &Object<'_>, name: &str) -> Result<Vec<u8>, &'static str> {
    let text = jwk.string(name).ok_or("a member of the key is missing")?;
    BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| "a member of the key is not base64url")
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    const EC: &str = r#""kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM""#;

    fn rsa(more: &str) -> String {
        format!(r#"{{"kty":"RSA","n":"{N}","e":"AQAB"{more}}}"#)
    }

    /// Another key: its modulus differs.
    fn other_rsa(more: &str) -> String {
        rsa(more).replacen("0vx7agoe", "0vx7agof", 1)
    }

    fn set(keys: &[String]) -> (KeySet, Vec<&'static str>) {
        KeySet::read(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes()).unwrap()
    }

    #[test]
    fn a_key_without_alg_gets_the_usual_one() {
        let (keys, skipped) = set(&[rsa(r#","kid":"a","x5t":"a","use":"sig""#), format!(r#"{{{EC},"kid":"b"}}"#)]);
        assert!(skipped.is_empty());
        assert!(matches!(keys.select(Some("a"), Algorithm::Rs256), Selection::Found(_)));
        assert!(matches!(keys.select(Some("a"), Algorithm::Ps256), Selection::OtherAlgorithm));
        assert!(matches!(keys.select(Some("b"), Algorithm::Es256), Selection::Found(_)));
        assert!(matches!(keys.select(Some("b"), Algorithm::Rs256), Selection::OtherAlgorithm));
        assert!(matches!(keys.select(Some("c"), Algorithm::Rs256), Selection::Missing));
    }

    #[test]
    fn a_key_without_alg_allows_listed_algorithms_of_its_kind() {
        let (keys, _) = set(&[
            rsa(r#","kid":"bare""#),
            rsa(r#","kid":"stated","alg":"RS256""#),
            format!(r#"{{{EC},"kid":"point"}}"#),
        ]);
        let listed = [Algorithm::Ps256, Algorithm::Es384];
        let is_found = |kid: &str, algorithm: Algorithm| {
            matches!(keys.select_listed(Some(kid), algorithm, &listed), Selection::Found(_))
        };
        assert!(is_found("bare", Algorithm::Ps256));
        for (kid, algorithm) in [
            ("bare", Algorithm::Ps384),
            ("bare", Algorithm::Es384),
            ("stated", Algorithm::Ps256),
            ("point", Algorithm::Es384),
            ("point", Algorithm::Ps256),
        ] {
            assert!(!is_found(kid, algorithm), "{kid}: {algorithm:?}");
        }
        assert!(
            matches!(keys.select_listed(None, Algorithm::Ps256, &listed), Selection::Found(_)),
            "only one allows it"
        );
    }

    #[test]
    fn an_odd_key_is_skipped_and_the_rest_kept() {
        let odd = [
            rsa(r#","use":"enc""#),
            rsa(r#","key_ops":["sign"]"#),
            rsa(r#","alg":"HS256""#),
            rsa(r#","alg":"ES256""#),
            rsa(r#","alg":7"#),
            rsa(r#","d":"AQAB""#),
            rsa(r#","kid":7"#),
            r#"{"kty":"RSA","x5c":["MII"]}"#.to_owned(),
            r#"{"kty":"oct","k":"AAAA"}"#.to_owned(),
            r#"{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}"#.to_owned(),
            r#"{"kty":"OKP","crv":"X25519","x":"AA"}"#.to_owned(),
            r#"{"kty":"RSA","n":"AQ==","e":"AQAB"}"#.to_owned(),
            "{}".to_owned(),
            "null".to_owned(),
            "[]".to_owned(),
        ];
        let mut all = odd.to_vec();
        all.push(rsa(r#","kid":"good""#));
        let (keys, skipped) = set(&all);
        assert_eq!((keys.len(), skipped.len()), (1, odd.len()));
    }

    #[test]
    fn what_is_no_key_set_is_not_read_as_an_empty_one() {
        for text in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"keys":null}"#,
            r#"{"keys":{}}"#,
            "<html>",
            r#"{"keys":[],"keys":[]}"#,
            r#"{"keys":[],"k\u0065ys":[]}"#,
            r#"{"keys":[]} x"#,
            r#"{"keys":[{]}"#,
            r#"{"keys":[{"kty":"RSA"}"#,
        ] {
            assert!(KeySet::read(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn two_keys_that_cannot_be_told_apart_are_not_used() {
        let (keys, _) = set(&[rsa(r#","kid":"a""#), other_rsa(r#","kid":"a""#), format!(r#"{{{EC},"kid":"a"}}"#)]);
        assert!(matches!(keys.select(Some("a"), Algorithm::Rs256), Selection::Ambiguous));
        assert!(matches!(keys.select(Some("a"), Algorithm::Es256), Selection::Found(_)));
        assert!(matches!(keys.select(None, Algorithm::Rs256), Selection::Ambiguous));
        assert!(matches!(keys.select(None, Algorithm::Es256), Selection::Found(_)));
        assert_eq!(keys.ambiguous().and_then(|key| key.id.as_deref()), Some("a"));
        let issuer = |issuer: &str| rsa(&format!(r#","kid":"a","issuer":"{issuer}""#));
        let (keys, _) = set(&[issuer("https://a.example"), issuer("https://b.example")]);
        assert!(matches!(keys.select(Some("a"), Algorithm::Rs256), Selection::Ambiguous));
    }

    #[test]
    fn a_byte_order_mark_is_ignored() {
        let text = format!("\u{feff}{{\"keys\":[{}]}}", rsa(""));
        assert_eq!(KeySet::read(text.as_bytes()).unwrap().0.len(), 1);
    }

    #[test]
    fn a_key_that_is_listed_twice_is_one_key() {
        let listed = [
            [r#","kid":"a""#, r#","kid":"a""#],
            [r#","kid":"a""#, r#","kid":"a","alg":"RS256","use":"sig""#],
            [r#","kid":"a","alg":null"#, r#","kid":"a","x5t":"b""#],
            [r#","kid":"a""#, r#","kid":"b""#],
            [r#","kid":"a""#, ""],
        ];
        for [one, other] in listed {
            for order in [[one, other], [other, one]] {
                let (keys, skipped) = set(&order.map(rsa));
                assert!(skipped.is_empty() && keys.ambiguous().is_none(), "{order:?}");
                for key_id in [Some("a"), None] {
                    let found = keys.select(key_id, Algorithm::Rs256);
                    assert!(matches!(found, Selection::Found(_)), "{order:?} {key_id:?}");
                }
            }
        }
    }

    #[test]
    fn a_member_that_is_null_counts_as_absent() {
        for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "use", "key_ops", "alg", "issuer", "x5c", "x5t"] {
            let (keys, skipped) = set(&[rsa(&format!(r#","kid":"a","{name}":null"#))]);
            assert!(matches!(keys.select(Some("a"), Algorithm::Rs256), Selection::Found(_)), "{name}: {skipped:?}");
        }
        assert_eq!(set(&[rsa(r#","kid":null"#)]).0.keys[0].id, None);
        for missing in ["kty", "n", "e"] {
            let text = rsa("").replacen(&format!(r#""{missing}":"#), &format!(r#""{missing}":null,"x-{missing}":"#), 1);
            assert_eq!(set(&[text]).1.len(), 1, "{missing}");
        }
    }

    #[test]
    fn a_key_that_cannot_be_read_costs_no_other_key() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for member in [
            r#""x":1e400"#,
            r#""x":-1e999999999999"#,
            r#""x":"\ud800""#,
            r#""\ud800":1"#,
            r#""x":1,"x":1"#,
            r#""x":{"y":1,"\u0079":2}"#,
            r#""kid":"good","kid":"bad""#,
            &format!(r#""x":{deep}"#),
        ] {
            let foreign = rsa(&format!(r#","kid":"foreign",{member}"#));
            for keys in [[foreign.clone(), rsa(r#","kid":"good""#)], [rsa(r#","kid":"good""#), foreign]] {
                let (keys, skipped) = set(&keys);
                assert!(matches!(keys.select(Some("good"), Algorithm::Rs256), Selection::Found(_)), "{member:.40}");
                assert_eq!((keys.len(), skipped.len()), (1, 1), "{member:.40}");
            }
            // The member beside `keys` is of no interest either.
            let beside = format!(r#"{{"more":{{{member}}},"keys":[{}]}}"#, rsa(""));
            assert_eq!(KeySet::read(beside.as_bytes()).unwrap().0.len(), 1, "{member:.40}");
        }
    }

    #[test]
    fn a_key_with_bytes_that_are_not_utf_8_costs_no_other_key() {
        let with_bytes = |text: &str, bytes: &[u8]| {
            let (before, rest) = text.split_once('~').unwrap();
            [before.as_bytes(), bytes, rest.as_bytes()].concat()
        };
        let good = rsa(r#","kid":"good""#);
        for bytes in [&b"\xff"[..], b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xc0\xaf", b"M\xfcller"] {
            for member in [r#""kid":"~""#, r#""kid":"good","x":"~""#, r#""~":1"#] {
                let foreign = rsa(&format!(",{member}"));
                for keys in [format!("{foreign},{good}"), format!("{good},{foreign}")] {
                    let text = with_bytes(&format!(r#"{{"keys":[{keys}]}}"#), bytes);
                    let (keys, skipped) = KeySet::read(&text).expect(member);
                    assert!(matches!(keys.select(Some("good"), Algorithm::Rs256), Selection::Found(_)), "{member}");
                    assert_eq!((keys.len(), skipped.len()), (1, 1), "{member} {bytes:?}");
                }
            }
            for beside in [r#""x":"~""#, r#""~":1"#, r#""x":[{"keys~":1}]"#] {
                let text = with_bytes(&format!(r#"{{{beside},"keys":[{}]}}"#, rsa("")), bytes);
                assert_eq!(KeySet::read(&text).expect(beside).0.len(), 1, "{beside} {bytes:?}");
            }
        }
        // The character by which such bytes are replaced is one like others.
        let named = set(&[rsa(&format!(r#","kid":"{}""#, char::REPLACEMENT_CHARACTER))]).0;
        assert!(matches!(named.select(Some("\u{fffd}"), Algorithm::Rs256), Selection::Found(_)));
        // Outside of texts, such bytes are no JSON.
        for broken in [r#"{~"keys":[]}"#, r#"{"keys":[~]}"#, r#"{"keys":[]}~"#, r#"{"ke~ys":[]}"#] {
            assert!(KeySet::read(&with_bytes(broken, b"\xff")).is_none(), "{broken}");
        }
    }

    #[test]
    fn a_key_serves_only_the_issuer_that_it_names() {
        let key = |issuer: &str| set(&[rsa(&format!(r#","issuer":"{issuer}""#))]).0.keys.remove(0);
        let template = key("https://login.example/{tenantid}/v2.0");
        assert!(template.serves("https://login.example/t1/v2.0", Some("t1")));
        assert!(!template.serves("https://login.example/t2/v2.0", Some("t1")));
        assert!(!template.serves("https://login.example/t1/v2.0", None));
        assert!(!template.serves("https://evil.example/t1/v2.0", Some("t1")));
        assert!(key("https://login.example/{tenantId}/v2.0").serves("https://login.example/t1/v2.0", Some("t1")));
        assert!(key("https://login.example/t1").serves("https://login.example/t1", None));
        assert!(!key("https://login.example/t1").serves("https://login.example/t2", None));
    }
}
