//! A JSON object of the operator's, read field by field with the path at hand.
//!
//! Derived deserialisation with path tracking would say less about a mistake and cost a tenth of the module's
//! size (docs/adr/0003).

use crate::config::{ConfigError, struct_pb};
use crate::json::{self, Object, Value};

/// The fields of one object.
pub(super) struct Fields<'a> {
    path: String,
    members: &'a Object<'a>,
}

impl<'a> Fields<'a> {
    /// The whole configuration. A name of a field that is none of `known` is refused.
    pub(super) fn root(members: &'a Object<'a>, known: &[&str]) -> Result<Self, ConfigError> {
        Self { path: String::new(), members }.knowing(known)
    }

    fn knowing(self, known: &[&str]) -> Result<Self, ConfigError> {
        match self.members.members().map(|(name, _)| name).find(|name| !known.contains(name)) {
            Some(name) => {
                let expected = format!("only {}", known.join(", "));
                // Somebody may have written the secret itself where its field should be.
                let is_shown =
                    !known.contains(&"inline") && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_'));
                let path = if is_shown { self.at(name) } else { self.path.clone() };
                let near = known.iter().filter(|_| is_shown).filter_map(|known| Some((apart(name, known)?, known)));
                let near = near.min().map_or(String::new(), |(_, known)| format!(" (did you mean {known}?)"));
                Err(ConfigError::new(path, format!("a field that does not exist{near}"), expected))
            }
            None => Ok(self),
        }
    }

    /// The path of a field.
    pub(super) fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The path of this object.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Whether there is such a field. JSON's `null` is no field.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn get(&self, name: &str) -> Option<&'a Value<'a>> {
        self.members.get(name).filter(|value| !matches!(value, Value::Null))
    }

    fn wrong(&self, name: &str, found: &Value<'_>, expected: &str) -> ConfigError {
        ConfigError::new(self.at(name), kind(found), expected)
    }

    fn missing(&self, name: &str, expected: &str) -> ConfigError {
        ConfigError::new(self.at(name), "nothing", expected)
    }

    /// A string that is not empty.
    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, ConfigError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.as_ref())),
            Some(found) => Err(self.wrong(name, found, "a string that is not empty")),
        }
    }

    /// The same where there must be one.
    pub(super) fn required_text(&self, name: &str, expected: &str) -> Result<&'a str, ConfigError> {
        self.text(name)?.ok_or_else(|| self.missing(name, expected))
    }

    /// A whole number between `least` and `most`; `unit` is for the error. Protocol buffers write 60 as `60` or `60.0`.
    pub(super) fn number(&self, name: &str, least: u32, most: u32, unit: &str) -> Result<Option<u32>, ConfigError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let whole = value
            .as_f64()
            .filter(|number| number.fract() == 0.0 && (f64::from(least)..=f64::from(most)).contains(number));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, and in the range of u32")]
        whole.map(|number| Some(number as u32)).ok_or_else(|| {
            let found = match value {
                Value::Number(number) => number.to_string(),
                other => kind(other).to_owned(),
            };
            ConfigError::new(self.at(name), found, format!("a whole number of {unit} from {least} to {most}"))
        })
    }

    /// A list of strings that are not empty; no list is an empty one.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, ConfigError> {
        let Some(value) = self.get(name) else {
            return Ok(Vec::new());
        };
        let items = value.as_array().ok_or_else(|| self.wrong(name, value, "a list of strings"))?;
        let text = |(index, item): (usize, &Value<'_>)| match item {
            Value::String(text) if !text.is_empty() => Ok(text.as_ref().to_owned()),
            found => Err(self.wrong(&format!("{name}[{index}]"), found, "a string that is not empty")),
        };
        items.iter().enumerate().map(text).collect()
    }

    /// A string, or a list of strings; none of them empty.
    pub(super) fn one_or_more(&self, name: &str) -> Result<Vec<String>, ConfigError> {
        match self.get(name) {
            Some(Value::Array(_)) => self.texts(name),
            _ => Ok(self.text(name)?.map(str::to_owned).into_iter().collect()),
        }
    }

    /// Strings by names of the operator's, in order of the names; no object is none.
    pub(super) fn named_texts(&self, name: &str) -> Result<Vec<(String, String)>, ConfigError> {
        let Some(members) = self.any_object(name)? else {
            return Ok(Vec::new());
        };
        let own = Self { path: self.at(name), members };
        let mut keys: Vec<&str> = members.members().map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys.into_iter().map(|key| Ok((key.to_owned(), own.required_text(key, "a string")?.to_owned()))).collect()
    }

    /// An object with no other fields than `known`.
    pub(super) fn object(&self, name: &str, known: &[&str]) -> Result<Option<Self>, ConfigError> {
        let child = |value| self.child(name, value, &format!("an object of {}", known.join(", ")))?.knowing(known);
        self.get(name).map(child).transpose()
    }

    /// An object whose members are not ours to name.
    pub(super) fn any_object(&self, name: &str) -> Result<Option<&'a Object<'a>>, ConfigError> {
        self.get(name).map(|value| value.as_object().ok_or_else(|| self.wrong(name, value, "an object"))).transpose()
    }

    /// `true` or `false`; nothing is `false`.
    pub(super) fn truth(&self, name: &str) -> Result<bool, ConfigError> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(truth)) => Ok(*truth),
            Some(found) => Err(self.wrong(name, found, "true or false")),
        }
    }

    /// The same where there must be one.
    pub(super) fn required_object(&self, name: &str, known: &[&str]) -> Result<Self, ConfigError> {
        self.object(name, known)?.ok_or_else(|| self.missing(name, &format!("an object of {}", known.join(", "))))
    }

    /// A list of objects, at least one.
    pub(super) fn objects(&self, name: &str, known: &[&str]) -> Result<Vec<Self>, ConfigError> {
        let expected = "a list of at least one object";
        let value = self.get(name).ok_or_else(|| self.missing(name, expected))?;
        let items =
            value.as_array().filter(|items| !items.is_empty()).ok_or_else(|| self.wrong(name, value, expected))?;
        items
            .iter()
            .enumerate()
            .map(|(index, item)| self.child(&format!("{name}[{index}]"), item, "an object")?.knowing(known))
            .collect()
    }

    /// Objects by names of the operator's, at least one.
    pub(super) fn named_objects(&self, name: &str, known: &[&str]) -> Result<Vec<(&'a str, Self)>, ConfigError> {
        let expected = "an object with at least one name in it";
        let value = self.get(name).ok_or_else(|| self.missing(name, expected))?;
        let members =
            value.as_object().filter(|members| !members.is_empty()).ok_or_else(|| self.wrong(name, value, expected))?;
        // A `Struct` has them in any order.
        let mut keys: Vec<&str> = members.members().map(|(key, _)| key).collect();
        keys.sort_unstable();
        let named = keys.into_iter().filter_map(|key| Some((key, members.get(key)?)));
        named
            .map(|(key, value)| Ok((key, self.child(&format!("{name}.{key}"), value, "an object")?.knowing(known)?)))
            .collect()
    }

    fn child(&self, name: &str, value: &'a Value<'a>, expected: &str) -> Result<Self, ConfigError> {
        let members = value.as_object().ok_or_else(|| self.wrong(name, value, expected))?;
        Ok(Self { path: self.at(name), members })
    }
}

/// How many characters of two names are different in between what they begin and end with in common. `None`: too many.
fn apart(name: &str, known: &str) -> Option<usize> {
    let same = |(a, b): &(u8, u8)| a == b;
    let begin = name.bytes().zip(known.bytes()).take_while(same).count();
    let ends = [name, known].map(|text| text.bytes().skip(begin).rev());
    let [end, other] = ends;
    let common = begin.saturating_add(end.zip(other).take_while(same).count());
    let apart = name.len().max(known.len()).saturating_sub(common);
    (apart <= 2 && apart < common).then_some(apart)
}

/// What a value is, without showing it: it may be a secret in a wrong place.
fn kind(value: &Value<'_>) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(text) if text.is_empty() => "an empty string",
        Value::String(_) => "a string",
        Value::Array(items) if items.is_empty() => "an empty list",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Reads the outermost object: JSON text, or a serialised `Struct`.
pub(super) fn read(bytes: &[u8]) -> Result<Object<'_>, ConfigError> {
    json::object(bytes).or_else(|| struct_pb::read_struct(bytes).filter(|members| !members.is_empty())).ok_or_else(
        || {
            let found = match std::str::from_utf8(bytes).map(serde_json::from_str::<serde::de::IgnoredAny>) {
                Err(_) => "no UTF-8".to_owned(),
                Ok(Err(error)) => format!("no JSON: line {}, column {}", error.line(), error.column()),
                Ok(Ok(_)) => "no object, or a name twice in one".to_owned(),
            };
            ConfigError::new("the configuration", found, "a Struct, or a StringValue that holds a JSON object")
        },
    )
}
