//! Reader of JSON of which parts are left as text: a part that is not read cannot make the rest unreadable.
//!
//! Only documents of a provider are read so. Members that a reader does not know are ignored (RFC 6749 section 5.1, RFC 7517
//! section 5), whatever they are.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::{self, Object, Value};

/// Reads the members of one JSON object for which `is_read` is true, of an object that only a provider writes. Other members
/// cannot make it unreadable: they may stand twice, and their names and values may be such that [`object`] refuses them (RFC
/// 6749 section 5.1: a client ignores members that it does not know). A member that is `null` counts as absent. `None`: not JSON,
/// not an object, or a name that is read stands twice.
pub fn members<'a>(text: &'a str, is_read: &dyn Fn(&str) -> bool) -> Option<Object<'a>> {
    let mut members = Vec::new();
    for (name, value) in raw_members(text)? {
        if is_read(&name) {
            members.push((name, json::value(value)?));
        }
    }
    let mut object = Object::from_members(members)?;
    object.members.retain(|(_, value)| !matches!(value, Value::Null));
    Some(object)
}

/// Reads the names of the members of one JSON object, and leaves their values as text. A name that is no text, because of half a
/// surrogate pair (RFC 8259 section 8.2), is left out. `None`: not JSON, or not an object.
pub fn raw_members(text: &str) -> Option<Vec<(Cow<'_, str>, &str)>> {
    let Parts::Members(members) = parts(text)? else {
        return None;
    };
    let mut named = Vec::with_capacity(members.len());
    for (name, value) in members {
        if let Some(Value::String(name)) = json::value(name.get()) {
            named.push((name, value.get()));
        }
    }
    Some(named)
}

/// Reads the value of the member `name` of one JSON object as text. `Some(None)`: there is no such member. `None`: not JSON, not an
/// object, or the name stands twice.
pub fn raw_member<'a>(text: &'a str, name: &str) -> Option<Option<&'a str>> {
    let mut values = raw_members(text)?.into_iter().filter(|(member, _)| member == name).map(|(_, value)| value);
    let value = values.next();
    values.next().is_none().then_some(value)
}

/// Reads one JSON value that is no object and no array. `None`: it is one, or not JSON.
pub fn scalar(text: &str) -> Option<Value<'_>> {
    if text.starts_with(['{', '[']) { None } else { json::value(text) }
}

/// Reads the items of one JSON array as text. `None`: not JSON, or not an array.
pub fn raw_items(text: &str) -> Option<Vec<&str>> {
    match parts(text)? {
        Parts::Items(items) => Some(items.into_iter().map(RawValue::get).collect()),
        Parts::Members(_) | Parts::None => None,
    }
}

#[inline(never)]
fn parts(text: &str) -> Option<Parts<'_>> {
    // RFC 8259 section 8.1 lets a reader ignore a byte order mark.
    serde_json::from_str(text.strip_prefix('\u{feff}').unwrap_or(text)).ok()
}

/// Parts of one JSON value, as text.
enum Parts<'a> {
    /// Names and values of an object.
    Members(Vec<(&'a RawValue, &'a RawValue)>),
    /// Items of an array.
    Items(Vec<&'a RawValue>),
    /// The value is no object and no array.
    None,
}

impl<'de: 'a, 'a> Deserialize<'de> for Parts<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PartsReader)
    }
}

struct PartsReader;

/// Takes every type of value: serde's message about an unexpected type would add the formatting of floating-point numbers to
/// the module.
impl<'de> Visitor<'de> for PartsReader {
    type Value = Parts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Parts<'de>, E> {
        Ok(Parts::None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Parts<'de>, E> {
        Ok(Parts::None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Parts<'de>, E> {
        Ok(Parts::None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Parts<'de>, E> {
        Ok(Parts::None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Parts<'de>, E> {
        Ok(Parts::None)
    }

    fn visit_unit<E>(self) -> Result<Parts<'de>, E> {
        Ok(Parts::None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Parts<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Parts::Items(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Parts<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = access.next_key()? {
            members.push((name, access.next_value()?));
        }
        Ok(Parts::Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_are_not_read_cannot_make_an_object_unreadable() {
        let bomb = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let odd = [
            "\"x\":1e400",
            "\"x\":\"\\ud800\"",
            "\"\\ud800\":1",
            "\"x\":1,\"x\":2",
            "\"x\":{\"y\":1,\"y\":2}",
            "\"x\":[{\"token\":1,\"token\":2}]",
            &format!("\"x\":{bomb}"),
            "\"\\u0074oke\":1",
        ];
        let is_read = |name: &str| name == "token";
        for odd in odd {
            for text in [format!("{{{odd},\"token\":\"t\"}}"), format!("\u{feff}{{\"\\u0074oken\":\"t\",{odd}}} ")] {
                let read = members(&text, &is_read).unwrap_or_else(|| panic!("{odd:.40}"));
                assert_eq!((read.string("token"), read.members.len()), (Some("t"), 1), "{odd:.40}");
            }
        }
    }

    #[test]
    fn a_member_that_is_null_counts_as_absent() {
        assert!(members(r#"{"token":null}"#, &|_| true).unwrap().is_empty());
    }

    #[test]
    fn members_that_are_read_stay_as_strict_as_before() {
        let hostile = [
            r#"{"token":"t","token":"u"}"#,
            r#"{"token":"t","\u0074oken":"u"}"#,
            r#"{"token":"t","x":1,"token":"t"}"#,
            r#"{"token":null,"token":"t"}"#,
            r#"{"token":1e400}"#,
            r#"{"token":"\ud800"}"#,
            r#"{"token":{"a":1,"a":2}}"#,
            r#"{"token":"t"} x"#,
            r#"{"token":"t"}{}"#,
            r#"{"token":"t",}"#,
            r#"{"x":nul,"token":"t"}"#,
            r#"["token"]"#,
            "",
        ];
        for text in hostile {
            assert!(members(text, &|name| name == "token").is_none(), "{text}");
        }
    }

    #[test]
    fn one_member_is_its_text_and_two_of_its_name_are_none() {
        assert_eq!(raw_member(r#"{"b":1e400,"\u0061": {"c":1,"c":2} ,"b":2}"#, "a"), Some(Some(r#"{"c":1,"c":2}"#)));
        assert_eq!(raw_member(r#"{"b":1,"b":2}"#, "a"), Some(None));
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"{"a":1"#, r#"["a"]"#, "null", ""] {
            assert_eq!(raw_member(text, "a"), None, "{text}");
        }
    }

    #[test]
    fn a_scalar_is_read_and_an_object_is_none() {
        assert!(scalar("\"a\\u0062\"") == Some("ab".into()) && scalar("7") == Some(7.into()));
        for text in ["{}", "[1]", "1e400", "\"\\ud800\"", "a", ""] {
            assert!(scalar(text).is_none(), "{text}");
        }
    }

    #[test]
    fn items_of_an_array_are_its_texts() {
        assert_eq!(
            raw_items(r#" [1e400, {"a":1,"a":2} ,"\ud800"]"#).unwrap(),
            ["1e400", r#"{"a":1,"a":2}"#, r#""\ud800""#]
        );
        for text in ["{}", "null", "1", "1.5", "-1", "true", "\"a\"", "[1,]", "[1] 2", "1e400", ""] {
            assert!(raw_items(text).is_none() && (text == "{}" || raw_members(text).is_none()), "{text}");
        }
    }
}
