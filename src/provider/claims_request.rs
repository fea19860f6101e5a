//! What a token should have in it: the parameter `claims` (OpenID Connect Core section 5.5).

use std::borrow::Cow;

use crate::json::{self, Object, Value};

/// What the operator wants and what the upstream does, as one. Both are JSON objects of objects (`access_token`, and a
/// claim in it); where both name a claim, the upstream has the word: it knows what it refuses.
pub(crate) fn merged<'a>(operator: Option<&'a str>, upstream: Option<&'a str>) -> Option<Cow<'a, str>> {
    let upstream = upstream.and_then(|text| Some((text, json::object(text.as_bytes())?)));
    match (operator, upstream) {
        (None, None) => None,
        (Some(text), None) | (None, Some((text, _))) => Some(text.into()),
        (Some(operator), Some((_, upstream))) => {
            let operator = json::object(operator.as_bytes()).unwrap_or_default();
            Some(
                json::text(over(&operator, &upstream, &|one, other| match (one, other) {
                    (Value::Object(one), Value::Object(other)) => {
                        let members = over(one, other, &|_, other| other.clone());
                        let members = members.into_iter().map(|(name, value)| (name.into(), value)).collect();
                        // The names of `over` differ.
                        Value::Object(Object::from_members(members).unwrap_or_default())
                    }
                    (_, other) => other.clone(),
                }))
                .into(),
            )
        }
    }
}

/// The members of both; of those that both have, what `both` makes of them.
fn over<'a>(
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
    fn what_the_upstream_wants_is_added_to_what_the_operator_wants_two_levels_deep() {
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
            assert_eq!(merged(operator, upstream).as_deref(), expected, "{operator:?} {upstream:?}");
        }
    }
}
