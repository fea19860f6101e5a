//! `google.protobuf.Struct` in its binary form, in which Envoy hands it to a plugin.
//!
//! Envoy's documentation says that a `Struct` arrives as JSON; 1.40.0 hands over its serialisation (measured). The
//! few messages of `google/protobuf/struct.proto` are read here; a library for all of Protocol Buffers would cost
//! more of the module than the rest of the configuration's reading.

use serde_json::Number;

use crate::crypto::wire::{Content, Fields};
use crate::json::{Object, Value};

/// Maximum depth of nested values.
const MAX_DEPTH: u8 = 32;

/// Reads a serialised `Struct`. `None`: it is none, or has a name twice.
pub(super) fn read_struct(bytes: &[u8]) -> Option<Object<'_>> {
    object(bytes, MAX_DEPTH)
}

/// `Struct { map<string, Value> fields = 1; }`
fn object(bytes: &[u8], depth: u8) -> Option<Object<'_>> {
    let mut members = Vec::new();
    for field in Fields(bytes) {
        let (1, Content::Bytes(entry)) = field? else {
            return None;
        };
        let (mut name, mut value) = ("", Value::Null);
        for field in Fields(entry) {
            match field? {
                (1, Content::Bytes(text)) => name = std::str::from_utf8(text).ok()?,
                (2, Content::Bytes(bytes)) => value = read_value(bytes, depth.checked_sub(1)?)?,
                _ => return None,
            }
        }
        members.push((name.into(), value));
    }
    Object::from_members(members)
}

/// `Value { oneof kind { null_value = 1; number_value = 2; string_value = 3; bool_value = 4; struct_value = 5;
/// list_value = 6; } }`
fn read_value(bytes: &[u8], depth: u8) -> Option<Value<'_>> {
    let mut value = Value::Null;
    for field in Fields(bytes) {
        value = match field? {
            (1, Content::Varint(_)) => Value::Null,
            (2, Content::Double(number)) => Value::Number(Number::from_f64(number)?),
            (3, Content::Bytes(text)) => Value::String(std::str::from_utf8(text).ok()?.into()),
            (4, Content::Varint(truth)) => Value::Bool(truth != 0),
            (5, Content::Bytes(bytes)) => Value::Object(object(bytes, depth)?),
            (6, Content::Bytes(bytes)) => Value::Array(list(bytes, depth)?),
            _ => return None,
        };
    }
    Some(value)
}

/// `ListValue { repeated Value values = 1; }`
fn list(bytes: &[u8], depth: u8) -> Option<Vec<Value<'_>>> {
    let mut items = Vec::new();
    for field in Fields(bytes) {
        let (1, Content::Bytes(item)) = field? else {
            return None;
        };
        items.push(read_value(item, depth.checked_sub(1)?)?);
    }
    Some(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
    }

    fn entry(name: &str, value: &[u8]) -> Vec<u8> {
        field(1, &[field(1, name.as_bytes()), field(2, value)].concat())
    }

    #[test]
    fn reads_every_kind_of_value() {
        let number = [&[0x11][..], &60_f64.to_le_bytes()].concat();
        let list = field(6, &[field(1, &field(3, b"a")), field(1, &[0x20, 1])].concat());
        let bytes = [
            entry("text", &field(3, b"x")),
            entry("number", &number),
            entry("list", &list),
            entry("null", &[0x08, 0]),
            entry("object", &field(5, &entry("inner", &[0x20, 0]))),
            entry("empty", b""),
        ]
        .concat();
        let expected =
            br#"{"text":"x","number":60.0,"list":["a",true],"null":null,"object":{"inner":false},"empty":null}"#;
        assert_eq!(read_struct(&bytes).unwrap(), json::object(expected).unwrap());
    }

    #[test]
    fn what_envoy_1_40_hands_over_is_read() {
        let bytes = b"\n\x0e\n\x01a\x12\t\x11\0\0\0\0\0\0\xf0?";
        assert_eq!(read_struct(bytes).unwrap(), json::object(br#"{"a":1.0}"#).unwrap());
    }

    #[test]
    fn anything_else_is_refused_and_nothing_panics() {
        let good =
            [entry("a", &field(3, b"x")), entry("b", &field(5, &entry("c", &[0x11, 0, 0, 0, 0, 0, 0, 0, 0])))].concat();
        assert!(read_struct(&good).is_some());
        for end in 1..good.len() {
            // A cut at the end of a field leaves a shorter Struct; every other cut is an error. Neither may panic.
            let _ = read_struct(&good[..end]);
        }
        for position in 0..good.len() {
            for byte in [0, 0x0b, 0x7f, 0x80, 0xff] {
                let mut changed = good.clone();
                changed[position] = byte;
                let _ = read_struct(&changed);
            }
        }
        assert!(read_struct(&[entry("a", b""), entry("a", b"")].concat()).is_none(), "a name twice");
        assert!(read_struct(&entry("a", &[&[0x11][..], &f64::NAN.to_le_bytes()].concat())).is_none(), "not a number");
        assert!(read_struct(&field(2, b"")).is_none(), "an unknown field");
        assert!(read_struct(&[0xff; 11]).is_none(), "an endless varint");
        let mut deep = field(3, b"x");
        for _ in 0..40 {
            deep = [&[0x0a, 0x80, 0x01][..], &deep].concat();
        }
        assert!(read_struct(&deep).is_none());
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |levels: usize| {
            let mut value = vec![0x20, 1];
            for _ in 0..levels {
                let inner = [&[0x0a][..], &length(value.len()), &value].concat();
                value = [&[0x32][..], &length(inner.len()), &inner].concat();
            }
            let entry = [&field(1, b"a")[..], &[0x12], &length(value.len()), &value].concat();
            [&[0x0a][..], &length(entry.len()), &entry].concat()
        };
        assert!(read_struct(&nested(20)).is_some());
        assert!(read_struct(&nested(40)).is_none());
    }

    fn length(length: usize) -> Vec<u8> {
        let low = u8::try_from(length & 0x7f).unwrap();
        if length < 0x80 { vec![low] } else { vec![low | 0x80, u8::try_from(length >> 7).unwrap()] }
    }
}
