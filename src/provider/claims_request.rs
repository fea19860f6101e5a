//! Claims request: the parameter `claims`, which requests claims in a token (OpenID Connect Core section 5.5).

use std::borrow::Cow;

use crate::json::{self, Object, Value};

/// Merges the claims request of the operator with that of an upstream's claims challenge. Both are JSON objects of
/// objects (`access_token`, and its claims). If both name a claim, the upstream's request wins, because the upstream
/// refused the token.
pub(super) fn merge<'a>(operator: Option<&'a str>, upstream: Option<&'a str>) -> Option<Cow<'a, str>> {
    let upstream = upstream.and_then(|text| Some((text, json::object(text.as_bytes())?)));
    match (operator, upstream) {
        (None, None) => None,
        (Some(text), None) | (None, Some((text, _))) => Some(text.into()),
        (Some(operator), Some((_, upstream))) => {
            let operator = json::object(operator.as_bytes()).unwrap_or_default();
            Some(
                json::text(overlay(&operator, &upstream, &|one, other| match (one, other) {
                    (Value::Object(one), Value::Object(other)) => {
                        let members = overlay(one, other, &|_, other| other.clone());
                        let members = members.into_iter().map(|(name, value)| (name.into(), value)).collect();
                        // `overlay` returns each name once.
                        Value::Object(Object::from_members(members).unwrap_or_default())
                    }
                    (_, other) => other.clone(),
                }))
                .into(),
            )
        }
    }
}

/// Returns the members of both objects. `both` merges the values of a name that both have.
fn overlay<'a>(
    one: &'a Object<'a>,
    other: &'a Object<'a>,
    both: &dyn Fn(&'a Value<'a>, &'a Value<'a>) -> Value<'a>,
) -> Vec<(&'a str, Value<'a>)> {
    let first = one.members().map(|(name, value)| match other.get(name) {
        Some(other) => (name, both(value, other)),
        None => (name, value.clone()),
    });
    let rest = other.members().filter(|(name, _)| !one.has(name)).map(|(name, value)| (name, value.clone()));
    first.chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstreams_claims_request_is_merged_two_levels_deep() {
        let operator = Some(r#"{"access_token":{"xms_cc":{"values":["cp1"]},"nbf":{"value":"1"}}}"#);
        let cases = [
            (None, None, None),
            (operator, None, operator),
            (None, operator, operator),
            (operator, Some("no JSON"), operator),
            (operator, Some(r#"["a list"]"#), operator),
            (None, Some("no JSON"), None),
            (
                operator,
                Some(r#"{"access_token":{"nbf":{"essential":true},"acrs":null},"id_token":{}}"#),
                Some(
                    r#"{"access_token":{"xms_cc":{"values":["cp1"]},"nbf":{"essential":true},"acrs":null},"id_token":{}}"#,
                ),
            ),
            (operator, Some(r#"{"access_token":null}"#), Some(r#"{"access_token":null}"#)),
        ];
        for (operator, upstream, expected) in cases {
            assert_eq!(merge(operator, upstream).as_deref(), expected, "{operator:?} {upstream:?}");
        }
    }
}
