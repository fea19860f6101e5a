//! Claims of a token (RFC 7519), typed.

use crate::jose::TokenError;
use crate::json::{Object, Value};
use crate::time::UnixTime;

/// Claims of a token, with their types checked (RFC 7519 section 4.1). `validate` checks their values.
#[derive(Debug)]
pub struct Claims<'a> {
    /// `iss`, as written.
    pub issuer: &'a str,
    /// `sub`, if present.
    pub subject: Option<&'a str>,
    /// `aud`: one or several.
    pub audiences: Vec<&'a str>,
    /// `exp`.
    pub expires: UnixTime,
    /// `nbf`.
    pub not_before: Option<UnixTime>,
    /// `iat`.
    pub issued_at: Option<UnixTime>,
    /// `scp` or `scope`: an array, or a string with spaces between (RFC 8693 section 4.2). Providers differ.
    pub scopes: Option<Vec<&'a str>>,
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
    /// Reads the claims and checks their types, not their values. `iss`, `aud` and `exp` are required (RFC 9068 section 2.2).
    pub fn read(members: &'a Object<'a>) -> Result<Self, TokenError> {
        let issuer = match members.get("iss") {
            Some(Value::String(issuer)) => issuer.as_ref(),
            _ => return Err(TokenError::Claims("iss is missing or not a string")),
        };
        let subject = match members.get("sub") {
            None => None,
            Some(Value::String(subject)) => Some(subject.as_ref()),
            Some(_) => return Err(TokenError::Claims("sub is not a string")),
        };
        let audiences = match members.get("aud") {
            Some(Value::String(audience)) => vec![audience.as_ref()],
            Some(Value::Array(audiences)) => {
                strings(audiences).ok_or(TokenError::Claims("aud has a member that is not a string"))?
            }
            _ => return Err(TokenError::Claims("aud is missing or of a wrong type")),
        };
        let expires = numeric_date(members, "exp")
            .map_err(|()| TokenError::Claims("exp is not a time"))?
            .ok_or(TokenError::Claims("exp is missing"))?;
        let not_before = numeric_date(members, "nbf").map_err(|()| TokenError::Claims("nbf is not a time"))?;
        let issued_at = numeric_date(members, "iat").map_err(|()| TokenError::Claims("iat is not a time"))?;
        let scopes = scopes(members)?;
        let confirmation = confirmation(members)?;
        let may_act = may_act(members)?;
        Ok(Self { issuer, subject, audiences, expires, not_before, issued_at, scopes, confirmation, may_act, members })
    }

    /// Value of the member `name`, if it is a string.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.members.string(name)
    }

    /// Returns `true` if there is a member `name`.
    pub fn has(&self, name: &str) -> bool {
        self.members.has(name)
    }
}

/// Reads a `NumericDate` (RFC 7519 section 2), which may have a fraction. `Err`: it is negative, or larger than a double can count
/// exactly.
pub(crate) fn numeric_date(members: &Object<'_>, name: &str) -> Result<Option<UnixTime>, ()> {
    const LATEST: f64 = 9_007_199_254_740_992.0;
    let Some(value) = members.get(name) else {
        return Ok(None);
    };
    let seconds = value.as_f64().ok_or(())?;
    if !(0.0..=LATEST).contains(&seconds) {
        return Err(());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range; the cast saturates")]
    let millis = (seconds * 1000.0) as u64;
    Ok(Some(UnixTime::from_millis(millis)))
}

fn scopes<'a>(members: &'a Object<'a>) -> Result<Option<Vec<&'a str>>, TokenError> {
    let wrong = TokenError::Claims("scp or scope is of a wrong type");
    match members.get("scp").or_else(|| members.get("scope")) {
        None => Ok(None),
        Some(Value::String(scopes)) => Ok(Some(scopes.split(' ').filter(|scope| !scope.is_empty()).collect())),
        Some(Value::Array(scopes)) => strings(scopes).map(Some).ok_or(wrong),
        Some(_) => Err(wrong),
    }
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
    let object = match members.get(name) {
        None => return Ok(None),
        Some(Value::Object(object)) => object,
        Some(_) => return Err(wrong),
    };
    if names.iter().any(|name| object.get(name).is_some_and(|value| value.as_str().is_none())) {
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
                assert_eq!(claims.unwrap().scopes.unwrap(), ["a", "b"], "{scopes}");
            });
        }
        read(r#"{"iss":"i","aud":"a","exp":1}"#, |claims| assert_eq!(claims.unwrap().scopes, None));
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
    fn times_may_have_fractions_and_exponents() {
        for (text, millis) in
            [("1.5", 1500), ("1.9e3", 1_900_000), ("0", 0), ("-0", 0), ("9007199254740992", 9_007_199_254_740_992_000)]
        {
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
            r#"{"iss":"i","aud":"a","exp":-1}"#,
            r#"{"iss":"i","aud":"a","exp":1e300}"#,
            r#"{"iss":"i","aud":"a","exp":18446744073709551615}"#,
            r#"{"iss":"i","aud":"a","exp":1,"nbf":"x"}"#,
            r#"{"iss":"i","aud":"a","exp":1,"iat":[]}"#,
            r#"{"iss":"i","aud":"a","exp":1,"sub":5}"#,
            r#"{"iss":"i","aud":"a","exp":1,"scp":{}}"#,
            r#"{"iss":"i","aud":"a","exp":1,"scp":["a",1]}"#,
            r#"{"iss":"i","aud":"a","exp":1,"cnf":"jkt"}"#,
            r#"{"iss":"i","aud":"a","exp":1,"cnf":{"jkt":1}}"#,
            r#"{"iss":"i","aud":"a","exp":1,"cnf":{"x5t#S256":null}}"#,
            r#"{"iss":"i","aud":"a","exp":1,"may_act":"gateway"}"#,
            r#"{"iss":"i","aud":"a","exp":1,"may_act":null}"#,
            r#"{"iss":"i","aud":"a","exp":1,"may_act":{"sub":["gateway"]}}"#,
            r#"{"iss":"i","aud":"a","exp":1,"may_act":{"sub":"gateway","iss":null}}"#,
        ] {
            read(claims, |read| assert!(matches!(read, Err(TokenError::Claims(_))), "{claims}"));
        }
    }
}
