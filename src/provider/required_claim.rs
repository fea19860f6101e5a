//! Claims that callers' tokens must have, by the configuration.

use std::rc::Rc;

use crate::json::{Object, Value};

/// Claim that a token must have, with one of several values.
#[derive(Debug)]
pub struct RequiredClaim {
    /// Name of the claim.
    pub name: Rc<str>,
    /// Accepted values.
    pub accepted: Vec<ClaimValue>,
}

/// Accepted value of a claim.
#[derive(Debug, PartialEq)]
pub enum ClaimValue {
    /// Text, compared by code points.
    Text(String),
    /// Whole number, see [`exact`].
    Number(f64),
    /// `true` or `false`.
    Boolean(bool),
}

impl RequiredClaim {
    /// Returns `true` if the claim has an accepted value, or is an array that contains one.
    pub fn is_in(&self, claims: &Object<'_>) -> bool {
        let is_accepted = |value: &Value<'_>| ClaimValue::of(value).is_some_and(|value| self.accepted.contains(&value));
        match claims.get(&self.name) {
            Some(Value::Array(values)) => values.iter().any(is_accepted),
            value => value.is_some_and(is_accepted),
        }
    }
}

impl ClaimValue {
    /// Reads a value. `None`: a value of another type, or a number that is not exact.
    pub fn of(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.as_ref().to_owned())),
            Value::Bool(truth) => Some(Self::Boolean(*truth)),
            Value::Number(_) => exact(value).map(Self::Number),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

/// Returns a whole number that a double holds exactly, as no other number is read as the same double: below 2^53 (RFC 8259
/// section 6). A `Struct` of protocol buffers has doubles only.
fn exact(value: &Value<'_>) -> Option<f64> {
    value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn claim_or_one_of_its_values_must_equal_an_accepted_value() {
        let accepted = [r#""a""#, "7", "true"].map(|text| {
            let text = format!(r#"{{"value":{text}}}"#);
            ClaimValue::of(json::object(text.as_bytes()).unwrap().get("value").unwrap()).unwrap()
        });
        let required = RequiredClaim { name: "c".into(), accepted: accepted.into() };
        for (claim, expected) in [
            (r#""a""#, true),
            (r#"["x","a"]"#, true),
            ("7", true),
            ("7.0", true),
            ("[true]", true),
            (r#""A""#, false),
            (r#""a b""#, false),
            (r#""7""#, false),
            (r#""true""#, false),
            ("7.5", false),
            ("false", false),
            ("null", false),
            ("[]", false),
            (r#"[["a"]]"#, false),
            (r#"{"a":true}"#, false),
        ] {
            let claims = format!(r#"{{"c":{claim}}}"#);
            assert_eq!(required.is_in(&json::object(claims.as_bytes()).unwrap()), expected, "{claim}");
        }
        assert!(!required.is_in(&json::object(br#"{"C":"a"}"#).unwrap()));
    }

    #[test]
    fn number_that_a_double_cannot_hold_exactly_has_no_value() {
        for (text, expected) in [
            ("9007199254740991", Some(9_007_199_254_740_991.0)),
            ("9007199254740992", None),
            ("9007199254740993", None),
            ("-9007199254740993", None),
            ("0.5", None),
        ] {
            let claims = format!(r#"{{"c":{text}}}"#);
            let claims = json::object(claims.as_bytes()).unwrap();
            assert_eq!(ClaimValue::of(claims.get("c").unwrap()), expected.map(ClaimValue::Number), "{text}");
        }
    }
}
