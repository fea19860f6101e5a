//! JSON reader and writer. The reader refuses duplicate member names, at every depth and after escapes are resolved.
//!
//! RFC 7515 section 4, RFC 7517 section 4 and RFC 7519 section 4 let a reader refuse duplicate names or take the last. An attacker
//! can exploit two readers that differ. `serde_json` bounds the depth (128).

mod parts;

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Number;

pub use parts::{members, raw_items, raw_member, raw_members, scalar};

/// Maximum number of members for which comparing each with each is the fastest search for a duplicate name.
const FEW: usize = 32;

/// JSON value. Strings without escapes borrow from the text: copies of all claims would take longer than reading them.
#[derive(Clone, PartialEq)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string, its escapes resolved.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Self>),
    /// An object.
    Object(Object<'a>),
}

/// JSON object: members in the order of the text, with distinct names.
#[derive(Clone, Default, PartialEq)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, Value<'a>)>,
}

/// Reads one JSON object without trailing bytes. `None`: not JSON, not an object, or a duplicate name.
pub fn object(bytes: &[u8]) -> Option<Object<'_>> {
    // One UTF-8 check of the whole text is faster than one for each string.
    match value(std::str::from_utf8(bytes).ok()?)? {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// Reads one JSON value without trailing bytes. Not inlined: the reader would stand in the module several times.
#[inline(never)]
fn value(text: &str) -> Option<Value<'_>> {
    serde_json::from_str(text).ok()
}

/// Writes an object of members with distinct names.
pub fn text<'a>(members: impl IntoIterator<Item = (&'a str, Value<'a>)>) -> String {
    let members = members.into_iter().map(|(name, value)| (name.into(), value)).collect();
    // Every value can be written.
    serde_json::to_string(&Object { members }).unwrap_or_default()
}

impl<'a> Object<'a> {
    /// Makes an object of members. `None`: a name is duplicate.
    pub fn from_members(members: Vec<(Cow<'a, str>, Value<'a>)>) -> Option<Self> {
        let is_twice = if members.len() <= FEW {
            let mut rest = members.as_slice();
            std::iter::from_fn(|| rest.split_first().inspect(|(_, others)| rest = others))
                .any(|((name, _), others)| others.iter().any(|(other, _)| is_same(name, other)))
        } else {
            let mut names: Vec<&str> = members.iter().map(|(name, _)| &**name).collect();
            names.sort_unstable();
            !names.is_sorted_by(|one, next| one < next)
        };
        (!is_twice).then_some(Self { members })
    }

    /// Value of the member `name`.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.members.iter().find_map(|(member, value)| is_same(member, name).then_some(value))
    }

    /// Value of the member `name`, if it is a string.
    pub fn string(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// Texts of the member `name`: a string, or the strings of an array. Everything else is left out.
    pub fn texts(&self, name: &str) -> Vec<&str> {
        match self.get(name) {
            Some(Value::String(text)) => vec![text.as_ref()],
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Value of the member `name`. `null` counts as absent: some servers write members without a value so.
    pub fn present(&self, name: &str) -> Option<&Value<'a>> {
        self.get(name).filter(|value| !matches!(value, Value::Null))
    }

    /// Returns `true` if there is a member `name`.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Every member, in order.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Value<'a>)> {
        self.members.iter().map(|(name, value)| (&**name, value))
    }

    /// Object with the same names and other values.
    pub fn map_values(&self, mut value: impl FnMut(&Value<'a>) -> Value<'a>) -> Self {
        Self { members: self.members.iter().map(|(name, old)| (name.clone(), value(old))).collect() }
    }

    /// Returns `true` if there is no member.
    pub const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

impl<'a> Value<'a> {
    /// Text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Items of an array.
    pub const fn as_array(&self) -> Option<&Vec<Self>> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// Object, if the value is one.
    pub const fn as_object(&self) -> Option<&Object<'a>> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Number, if it is an integer from 0 to 2^64 - 1.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Number(number) => number.as_u64(),
            _ => None,
        }
    }

    /// Number, rounded to a double.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Number(number) => number.as_f64(),
            _ => None,
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for Value<'_> {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl<'a> FromIterator<&'a str> for Value<'a> {
    fn from_iter<T: IntoIterator<Item = &'a str>>(texts: T) -> Self {
        Self::Array(texts.into_iter().map(Self::from).collect())
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(truth) => serializer.serialize_bool(*truth),
            Self::Number(number) => number.serialize(serializer),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(items) => serializer.collect_seq(items),
            Self::Object(object) => object.serialize(serializer),
        }
    }
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.members.len()))?;
        for (name, value) in self.members() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Returns `true` if two names are equal. Most names are short and differ in their first byte; `memcmp` is slower for them.
fn is_same(one: &str, other: &str) -> bool {
    one.len() == other.len() && if one.len() <= 8 { one.bytes().eq(other.bytes()) } else { one == other }
}

/// Number of members only: names and values may be claims or keys.
impl fmt::Debug for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{} members}}", self.members.len())
    }
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate member names")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value<'de>, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value<'de>, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value<'de>, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::String(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value<'de>, E> {
        Ok(Value::String(Cow::Owned(value.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(Name(name)) = access.next_key()? {
            members.push((name, access.next_value()?));
        }
        Object::from_members(members).map(Value::Object).ok_or_else(|| de::Error::custom("a member name stands twice"))
    }
}

/// Member name, borrowed if it has no escapes. serde's own `Cow` always copies.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameReader)
    }
}

struct NameReader;

impl<'de> Visitor<'de> for NameReader {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Borrowed(name)))
    }

    fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Owned(name.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_object() {
        let read = object(br#"{"a":1,"b":[true,null,-2,1.5],"c":{"d":"e"}}"#).unwrap();
        let list =
            [Value::Bool(true), Value::Null, Value::Number((-2).into()), Value::Number(Number::from_f64(1.5).unwrap())];
        assert_eq!(read.get("a").and_then(Value::as_u64), Some(1));
        assert!(read.get("b").and_then(Value::as_array).unwrap() == &list);
        assert_eq!(read.get("c").and_then(Value::as_object).unwrap().string("d"), Some("e"));
        assert_eq!(read.members().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(!read.has("d"));
    }

    #[test]
    fn strings_are_those_of_the_text_unless_they_have_escapes() {
        let read = object(br#"{"a":"b","\u0063":"\n"}"#).unwrap();
        let borrowed = |text: &Cow<str>| matches!(text, Cow::Borrowed(_));
        let found: Vec<_> = read
            .members
            .iter()
            .map(|(name, value)| match value {
                Value::String(text) => (&**name, &**text, borrowed(name), borrowed(text)),
                _ => panic!("not a string"),
            })
            .collect();
        assert_eq!(found, [("a", "b", true, true), ("c", "\n", false, false)]);
    }

    #[test]
    fn a_name_twice_is_found_among_few_and_among_many() {
        for count in [2, FEW - 1, FEW, FEW + 1, 500] {
            let names: Vec<String> = (0..count).map(|number| format!("\"n{}\":0", number * 7919 % 1000)).collect();
            assert!(object(format!("{{{}}}", names.join(",")).as_bytes()).is_some(), "{count}");
            for twice in [0, count / 2, count - 1] {
                for at in [0, count / 2, count] {
                    let mut names = names.clone();
                    names.insert(at, names[twice].clone());
                    assert!(object(format!("{{{}}}", names.join(",")).as_bytes()).is_none(), "{count} {twice} {at}");
                }
            }
        }
    }

    #[test]
    fn what_an_object_holds_is_not_shown() {
        assert_eq!(format!("{:?}", object(br#"{"sub":"alice"}"#).unwrap()), "{1 members}");
    }

    #[test]
    fn refuses_what_two_readers_could_read_differently() {
        let hostile: [&[u8]; 16] = [
            br#"{"aud":"good","aud":"evil"}"#,
            br#"{"aud":"good","a\u0075d":"evil"}"#,
            br#"{"a":{"b":1,"b":2}}"#,
            br#"{"a":[{"b":1,"b":1}]}"#,
            br#"{"a":1} x"#,
            br#"{"a":1}{"a":1}"#,
            br#"[1]"#,
            br#""text""#,
            br#"{"a":1e400}"#,
            br#"{"a":NaN}"#,
            br#"{"a":"\ud800"}"#,
            b"{\"a\":\"\xff\"}",
            b"\xef\xbb\xbf{\"a\":1}",
            br#"{"a":1,}"#,
            br#"{/**/"a":1}"#,
            b"",
        ];
        for bytes in hostile {
            assert!(object(bytes).is_none(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn refuses_a_depth_bomb() {
        let bomb = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(object(bomb.as_bytes()).is_none());
    }
}
