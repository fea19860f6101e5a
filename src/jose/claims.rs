//! Claims of a token (RFC 7519), typed.

use crate::jose::TokenError;
use crate::json::{Object, Value};
use crate::time::UnixTime;

/// Names of claims in which providers differ.
#[derive(Clone, Copy, Debug)]
pub struct ClaimNames<'n> {
    /// Claim that stands for `aud`.
    pub audience: &'n str,
    /// Claims that scopes are read from, all of them. Empty: [`SCOPES`].
    pub scopes: &'n [String],
}

/// Standard names.
impl Default for ClaimNames<'_> {
    fn default() -> Self {
        Self { audience: AUDIENCE, scopes: &[] }
    }
}

/// Claim with the audiences (RFC 7519 section 4.1.3).
pub const AUDIENCE: &str = "aud";

/// Maximum number of audiences for which comparing each with each is the fastest search.
const FEW: usize = 8;

/// Usual claims with scopes: `scope` (RFC 8693 section 4.2), and `scp` of several providers.
const SCOPES: [&str; 2] = ["scope", "scp"];

/// Claims of a token, with their types checked (RFC 7519 section 4.1). `validate` checks their values.
#[derive(Debug)]
pub struct Claims<'a> {
    /// `iss`, as written.
    pub issuer: &'a str,
    /// `sub`, if present.
    pub subject: Option<&'a str>,
    /// `aud`, or the claim that stands for it: one or several.
    pub audiences: Vec<&'a str>,
    /// `aud` of a token in which another claim stands for it.
    pub further_audiences: Option<Vec<&'a str>>,
    /// `exp`.
    pub expires: UnixTime,
    /// `nbf`.
    pub not_before: Option<UnixTime>,
    /// `iat`.
    pub issued_at: Option<UnixTime>,
    /// Scopes of all claims for scopes: each an array, or a string with spaces between. A claim of another type grants
    /// nothing.
    pub scopes: Vec<&'a str>,
    /// `cnf` (RFC 7800 section 3.1): key or certificate that the sender of the token must prove to hold.
    pub confirmation: Option<Confirmation>,
    /// `may_act` (RFC 8693 section 4.4): the party that may act for the subject, if present.
    pub may_act: Option<ActorClaim>,
    /// All members, for claims of one provider only.
    pub members: &'a Object<'a>,
}

/// Confirmation of a sender-constrained token. If it has no known method, no sender can prove to hold the token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confirmation {
    /// `jkt`: the SHA-256 thumbprint of the key that signs the holder's proofs, in base64url (RFC 9449 section 6.1).
    pub key_thumbprint: Option<String>,
    /// `x5t#S256`: the SHA-256 of the certificate by which the holder proves itself in TLS, in base64url (RFC 8705 section
    /// 3.1).
    pub certificate_thumbprint: Option<String>,
}

/// Party of `act` or `may_act` (RFC 8693 sections 4.1 and 4.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActorClaim {
    /// `sub`.
    pub subject: Option<String>,
    /// `client_id`.
    pub client_id: Option<String>,
    /// `iss`, the issuer of the other two identifiers.
    pub issuer: Option<String>,
}

impl<'a> Claims<'a> {
    /// Reads the claims by their standard names.
    pub fn read(members: &'a Object<'a>) -> Result<Self, TokenError> {
        Self::read_named(members, ClaimNames::default())
    }

    /// Reads the claims and checks their types, not their values. `iss`, `aud` and `exp` are required (RFC 9068 section 2.2).
    /// A claim that is `null` counts as absent (docs/adr/0026).
    pub fn read_named(members: &'a Object<'a>, names: ClaimNames<'_>) -> Result<Self, TokenError> {
        let issuer = match members.get("iss") {
            Some(Value::String(issuer)) => issuer.as_ref(),
            _ => return Err(TokenError::Claims("iss is missing or not a string")),
        };
        let subject = match members.present("sub") {
            None => None,
            Some(Value::String(subject)) => Some(subject.as_ref()),
            Some(_) => return Err(TokenError::Claims("sub is not a string")),
        };
        let aud = one_or_several(members, AUDIENCE, "aud is of a wrong type")?;
        let (audiences, further_audiences) = if names.audience == AUDIENCE {
            (aud.ok_or(TokenError::Claims("aud is missing"))?, None)
        } else {
            let audiences = one_or_several(members, names.audience, "the claim of audience_claim is of a wrong type")?;
            (audiences.ok_or(TokenError::Claims("the claim of audience_claim is missing"))?, aud)
        };
        let expires = numeric_date(members, "exp")
            .map_err(|()| TokenError::Claims("exp is not a time"))?
            .ok_or(TokenError::Claims("exp is missing"))?;
        let not_before = numeric_date(members, "nbf").map_err(|()| TokenError::Claims("nbf is not a time"))?;
        let issued_at = numeric_date(members, "iat").map_err(|()| TokenError::Claims("iat is not a time"))?;
        let scopes = scopes(members, names.scopes);
        let confirmation = confirmation(members)?;
        let may_act = may_act(members)?;
        Ok(Self {
            issuer,
            subject,
            audiences,
            further_audiences,
            expires,
            not_before,
            issued_at,
            scopes,
            confirmation,
            may_act,
            members,
        })
    }

    /// Returns `true` if the token is for one of these audiences. `aud` counts also where another claim stands for it (RFC
    /// 7519 section 4.1.3).
    pub fn is_for(&self, accepted: &[String]) -> bool {
        let has = |audiences: &Vec<&str>| has_one(audiences, accepted);
        has(&self.audiences) && self.further_audiences.as_ref().is_none_or(has)
    }

    /// Audiences for which the token [is not for](Self::is_for) the accepted ones. `true`: those of `aud`, although another claim
    /// stands for it.
    pub fn refused_audiences(&self, accepted: &[String]) -> (&[&'a str], bool) {
        match &self.further_audiences {
            Some(further) if has_one(&self.audiences, accepted) => (further, true),
            _ => (&self.audiences, false),
        }
    }

    /// Value of the member `name`, if it is a string.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.members.string(name)
    }

    /// Returns `true` if there is a member `name` with a value. `null` counts as absent.
    pub fn has(&self, name: &str) -> bool {
        self.members.present(name).is_some()
    }
}

/// Returns `true` if one of these audiences is accepted.
#[inline(never)]
pub(crate) fn has_one<T: AsRef<str>>(audiences: &[&str], accepted: &[T]) -> bool {
    match audiences.len() {
        0..=FEW => accepted.iter().any(|audience| audiences.contains(&audience.as_ref())),
        // A stranger chooses these texts, and an operator many others: comparing each with each would be work for both.
        _ => {
            let mut sorted = audiences.to_vec();
            sorted.sort_unstable();
            accepted.iter().any(|audience| sorted.binary_search(&audience.as_ref()).is_ok())
        }
    }
}

/// Reads a `NumericDate` (RFC 7519 section 2), which may have a fraction. A time before 1970 becomes the start of 1970. `Err`:
/// it is no number, or larger than a double can count exactly.
pub(crate) fn numeric_date(members: &Object<'_>, name: &str) -> Result<Option<UnixTime>, ()> {
    const LATEST: f64 = 9_007_199_254_740_992.0;
    let Some(value) = members.present(name) else {
        return Ok(None);
    };
    let seconds = value.as_f64().ok_or(())?;
    if seconds > LATEST {
        return Err(());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
    let millis = (seconds * 1000.0) as u64;
    Ok(Some(UnixTime::from_millis(millis)))
}

/// Reads a claim that is a string, or an array of strings. `None`: it is absent.
fn one_or_several<'a>(
    members: &'a Object<'a>,
    name: &str,
    wrong: &'static str,
) -> Result<Option<Vec<&'a str>>, TokenError> {
    match members.present(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(vec![text.as_ref()])),
        Some(Value::Array(values)) => strings(values).map(Some).ok_or(TokenError::Claims(wrong)),
        Some(_) => Err(TokenError::Claims(wrong)),
    }
}

/// Reads the scopes of all claims of these names.
fn scopes<'a>(members: &'a Object<'a>, names: &[String]) -> Vec<&'a str> {
    let mut scopes = Vec::new();
    let mut read = |name: &str| match members.get(name) {
        Some(Value::String(text)) => scopes.extend(text.split(' ').filter(|scope| !scope.is_empty())),
        Some(Value::Array(values)) => scopes.extend(strings(values).unwrap_or_default()),
        _ => {}
    };
    if names.is_empty() {
        SCOPES.iter().for_each(|name| read(name));
    } else {
        names.iter().for_each(|name| read(name));
    }
    scopes
}

fn confirmation(members: &Object<'_>) -> Result<Option<Confirmation>, TokenError> {
    let wrong = TokenError::Claims("cnf is of a wrong type");
    texts(members, "cnf", ["jkt", "x5t#S256"], wrong).map(|found| {
        found.map(|[key_thumbprint, certificate_thumbprint]| Confirmation { key_thumbprint, certificate_thumbprint })
    })
}

fn may_act(members: &Object<'_>) -> Result<Option<ActorClaim>, TokenError> {
    let wrong = TokenError::Claims("may_act is of a wrong type");
    texts(members, "may_act", ["sub", "client_id", "iss"], wrong)
        .map(|found| found.map(|[subject, client_id, issuer]| ActorClaim { subject, client_id, issuer }))
}

/// Reads string members of the object in `name`.
fn texts<const N: usize>(
    members: &Object<'_>,
    name: &str,
    names: [&str; N],
    wrong: TokenError,
) -> Result<Option<[Option<String>; N]>, TokenError> {
    let object = match members.present(name) {
        None => return Ok(None),
        Some(Value::Object(object)) => object,
        Some(_) => return Err(wrong),
    };
    if names.iter().any(|name| object.present(name).is_some_and(|value| value.as_str().is_none())) {
        return Err(wrong);
    }
    Ok(Some(names.map(|name| object.string(name).map(str::to_owned))))
}

fn strings<'a>(values: &'a [Value<'a>]) -> Option<Vec<&'a str>> {
    values.iter().map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    fn read<T>(text: &str, then: impl FnOnce(Result<Claims<'_>, TokenError>) -> T) -> T {
        then(Claims::read(&json::object(text.as_bytes()).unwrap()))
    }

    #[test]
    fn both_spellings_of_scopes_give_the_same() {
        for scopes in [r#""scp":"a b""#, r#""scp":["a","b"]"#, r#""scope":"a  b ""#, r#""scope":["a","b"]"#] {
            read(&format!(r#"{{"iss":"i","aud":"a","exp":1,{scopes}}}"#), |claims| {
                assert_eq!(claims.unwrap().scopes, ["a", "b"], "{scopes}");
            });
        }
    }

    #[test]
    fn each_of_few_and_of_many_audiences_is_found() {
        for count in [1, FEW, FEW + 1, 500] {
            let names: Vec<String> = (0..count).map(|number| format!("a{}", number * 7919 % 1000)).collect();
            let text = serde_json::json!({"iss": "i", "exp": 1, "aud": names}).to_string();
            read(&text, |claims| {
                let claims = claims.unwrap();
                assert!(names.iter().all(|name| claims.is_for(&["x".to_owned(), name.clone()])), "{count}");
                assert!(!claims.is_for(&["x".to_owned(), "a1000".to_owned(), "a".to_owned()]), "{count}");
            });
        }
    }

    #[test]
    fn scopes_of_all_claims_count_and_an_unreadable_claim_grants_nothing() {
        for (scopes, expected) in [
            (r#""scp":[],"scope":"a""#, &["a"][..]),
            (r#""scp":null,"scope":"a""#, &["a"]),
            (r#""scp":"b","scope":["a"]"#, &["a", "b"]),
            (r#""scp":"b","scope":{"a":true}"#, &["b"]),
            (r#""scp":["b",1],"scope":"a""#, &["a"]),
            (r#""scp":7"#, &[]),
            (r#""permissions":["a"]"#, &[]),
        ] {
            read(&format!(r#"{{"iss":"i","aud":"a","exp":1,{scopes}}}"#), |claims| {
                assert_eq!(claims.unwrap().scopes, expected, "{scopes}");
            });
        }
        let claims =
            json::object(br#"{"iss":"i","aud":"a","exp":1,"scope":"a","permissions":["b"],"p":"c d"}"#).unwrap();
        let names = ["permissions", "p"].map(str::to_owned);
        let names = ClaimNames { scopes: &names, ..ClaimNames::default() };
        assert_eq!(Claims::read_named(&claims, names).unwrap().scopes, ["b", "c", "d"]);
    }

    #[test]
    fn aud_counts_also_where_another_claim_stands_for_it() {
        let accepted = ["a", "b"].map(str::to_owned);
        let names = ClaimNames { audience: "client_id", ..ClaimNames::default() };
        for (text, expected) in [
            (r#""client_id":"a""#, Some(true)),
            (r#""client_id":["x","b"],"aud":null"#, Some(true)),
            (r#""client_id":"a","aud":["x","b"]"#, Some(true)),
            (r#""client_id":"x""#, Some(false)),
            (r#""client_id":"a","aud":"x""#, Some(false)),
            (r#""client_id":"a","aud":[]"#, Some(false)),
            (r#""client_id":"x","aud":"a""#, Some(false)),
            (r#""aud":"a""#, None),
            (r#""client_id":null,"aud":"a""#, None),
            (r#""client_id":7"#, None),
            (r#""client_id":"a","aud":7"#, None),
        ] {
            let claims = format!(r#"{{"iss":"i","exp":1,{text}}}"#);
            let claims = json::object(claims.as_bytes()).unwrap();
            let read = Claims::read_named(&claims, names).ok();
            assert_eq!(read.map(|claims| claims.is_for(&accepted)), expected, "{text}");
        }
    }

    #[test]
    fn confirmation_is_read_also_if_its_kind_is_unknown() {
        let read = |cnf: &str| {
            let text = format!(r#"{{"iss":"i","aud":"a","exp":1,"cnf":{cnf}}}"#);
            read(&text, |claims| claims.unwrap().confirmation)
        };
        let known = read(r#"{"jkt":"k","x5t#S256":"c"}"#).unwrap();
        assert_eq!(known.key_thumbprint.as_deref(), Some("k"));
        assert_eq!(known.certificate_thumbprint.as_deref(), Some("c"));
        assert_eq!(read("{}"), Some(Confirmation::default()));
        assert_eq!(read(r#"{"kid":"x"}"#), Some(Confirmation::default()));
    }

    #[test]
    fn a_claim_that_is_null_counts_as_absent() {
        let text =
            r#"{"iss":"i","aud":"a","exp":1,"sub":null,"nbf":null,"iat":null,"cnf":null,"may_act":null,"cid":null}"#;
        read(text, |claims| {
            let claims = claims.unwrap();
            assert_eq!((claims.subject, claims.not_before, claims.issued_at), (None, None, None));
            assert_eq!((&claims.confirmation, &claims.may_act), (&None, &None));
            assert!(!claims.has("cid"));
        });
        let inner =
            r#"{"iss":"i","aud":"a","exp":1,"cnf":{"jkt":"k","x5t#S256":null},"may_act":{"sub":"s","iss":null}}"#;
        read(inner, |claims| {
            let claims = claims.unwrap();
            let confirmation = Confirmation { key_thumbprint: Some("k".to_owned()), ..Confirmation::default() };
            assert_eq!(claims.confirmation, Some(confirmation));
            assert_eq!(claims.may_act, Some(ActorClaim { subject: Some("s".to_owned()), ..ActorClaim::default() }));
        });
        // A constraint that names no method is one that no sender meets, and nobody may act.
        read(r#"{"iss":"i","aud":"a","exp":1,"cnf":{"jkt":null},"may_act":{"sub":null}}"#, |claims| {
            let claims = claims.unwrap();
            assert_eq!(claims.confirmation, Some(Confirmation::default()));
            assert_eq!(claims.may_act, Some(ActorClaim::default()));
        });
    }

    #[test]
    fn times_may_have_fractions_and_exponents() {
        for (text, millis) in [
            ("1.5", 1500),
            ("1.9e3", 1_900_000),
            ("0", 0),
            ("-0", 0),
            ("-1", 0),
            ("-1e300", 0),
            ("9007199254740992", 9_007_199_254_740_992_000),
        ] {
            read(&format!(r#"{{"iss":"i","aud":"a","exp":{text}}}"#), |claims| {
                assert_eq!(claims.unwrap().expires.millis(), millis, "{text}");
            });
        }
    }

    #[test]
    fn wrong_types_are_refused() {
        for claims in [
            r#"{"aud":"a","exp":1}"#,
            r#"{"iss":1,"aud":"a","exp":1}"#,
            r#"{"iss":"i","exp":1}"#,
            r#"{"iss":"i","aud":1,"exp":1}"#,
            r#"{"iss":"i","aud":["a",1],"exp":1}"#,
            r#"{"iss":"i","aud":"a"}"#,
            r#"{"iss":"i","aud":"a","exp":"1"}"#,
            r#"{"iss":"i","aud":"a","exp":null}"#,
            r#"{"iss":"i","aud":"a","exp":1e300}"#,
            r#"{"iss":"i","aud":"a","exp":18446744073709551615}"#,
            r#"{"iss":"i","aud":"a","exp":1,"nbf":"x"}"#,
            r#"{"iss":"i","aud":"a","exp":1,"iat":[]}"#,
            r#"{"iss":"i","aud":"a","exp":1,"sub":5}"#,
            r#"{"iss":"i","aud":"a","exp":1,"cnf":"jkt"}"#,
            r#"{"iss":"i","aud":"a","exp":1,"cnf":{"jkt":1}}"#,
            r#"{"iss":"i","aud":"a","exp":1,"may_act":"gateway"}"#,
            r#"{"iss":"i","aud":"a","exp":1,"may_act":{"sub":["gateway"]}}"#,
            r#"{"iss":"i","aud":"a","exp":1,"may_act":{"sub":"gateway","iss":1}}"#,
            r#"{"iss":"i","aud":null,"exp":1}"#,
            r#"{"iss":null,"aud":"a","exp":1}"#,
        ] {
            read(claims, |read| assert!(matches!(read, Err(TokenError::Claims(_))), "{claims}"));
        }
    }
}
