//! Reader of the configuration's objects: hands the fields of each object to the builders.
//!
//! `check` has compared the whole document with the option table before. Derived deserialisation with path tracking
//! would say less about a mistake and cost a tenth of the module's size (docs/adr/0003).

use std::fmt::Arguments;

use crate::config::check::{self, Checker, item};
use crate::config::defaults;
use crate::config::error::{Code, ConfigError};
use crate::config::findings::{Context, Reported, not_an_object};
use crate::config::options::{self, Group, Kind};
use crate::config::struct_pb;
use crate::json::{self, Object, Value};

/// The fields of one object. A getter returns [`Reported`] for a value that `check` has refused.
pub(super) struct Fields<'a> {
    /// Environment, findings and warnings of the configuration.
    pub(super) context: &'a Context<'a>,
    path: String,
    members: &'a Object<'a>,
    /// Options that hold where the object does not set them.
    defaults: Option<&'a Object<'a>>,
    group: &'static Group,
}

impl<'a> Fields<'a> {
    /// The whole configuration, checked against the option table.
    pub(super) fn root(members: &'a Object<'a>, context: &'a Context<'a>) -> Self {
        let group = &options::ROOT;
        Checker::new(context, members).group("", members, group);
        Self { context, path: String::new(), members, defaults: None, group }
    }

    /// Path of a field, which may be that of a default. The empty name is the object itself.
    pub(super) fn at(&self, name: &str) -> String {
        let first = name.split(['.', '[']).next().unwrap_or(name);
        let is_default = || self.default(first).is_some() && self.members.present(first).is_none();
        check::join(if is_default() { defaults::NAME } else { &self.path }, name)
    }

    fn default(&self, name: &str) -> Option<&'a Value<'a>> {
        self.defaults?.present(name)
    }

    /// Path of this object.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Adds a finding about a field.
    #[inline(never)]
    pub(super) fn refuse(&self, code: Code, name: &str, found: &str, expected: &str) -> Reported {
        self.context.refuse(code, self.at(name), found, expected)
    }

    /// Adds a warning about a field.
    #[inline(never)]
    pub(super) fn warn(&self, name: &str, text: Arguments<'_>) {
        self.context.warn(&self.at(name), text);
    }

    /// Returns `true` if the field is there. JSON's `null` is no field.
    #[inline(never)]
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn get(&self, name: &str) -> Option<&'a Value<'a>> {
        self.members.present(name).or_else(|| self.default(name))
    }

    fn kind(&self, name: &str) -> Option<&'static Kind> {
        self.group.option(name).map(|option| &option.kind)
    }

    /// A string that is not empty.
    #[inline(never)]
    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, Reported> {
        self.get(name).map(|value| check::text(value).ok_or(Reported(()))).transpose()
    }

    /// A string that must be there.
    pub(super) fn required_text(&self, name: &str) -> Result<&'a str, Reported> {
        self.text(name)?.ok_or(Reported(()))
    }

    /// A whole number, or its default.
    pub(super) fn number(&self, name: &str) -> Result<u32, Reported> {
        match (self.kind(name), self.get(name)) {
            (Some(Kind::Integer(range)), Some(value)) => check::number(value, range).ok_or(Reported(())),
            _ => default(self.group, name),
        }
    }

    /// Strings of a list, or the one string in its place; none of them empty. No list is an empty one.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, Reported> {
        let texts: Option<Vec<&str>> = match self.get(name) {
            None => Some(Vec::new()),
            Some(Value::Array(items)) => items.iter().map(check::text).collect(),
            Some(value) if matches!(self.kind(name), Some(Kind::OneOrMore)) => {
                check::text(value).map(|text| vec![text])
            }
            Some(_) => None,
        };
        Ok(texts.ok_or(Reported(()))?.into_iter().map(str::to_owned).collect())
    }

    /// `true` or `false`; nothing is `false`.
    #[inline(never)]
    pub(super) fn truth(&self, name: &str) -> Result<bool, Reported> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(truth)) => Ok(*truth),
            Some(_) => Err(Reported(())),
        }
    }

    /// An object whose members are not in the option table.
    pub(super) fn any_object(&self, name: &str) -> Result<Option<&'a Object<'a>>, Reported> {
        self.get(name).map(|value| value.as_object().ok_or(Reported(()))).transpose()
    }

    /// An object.
    pub(super) fn object(&self, name: &str) -> Result<Option<Self>, Reported> {
        self.get(name).map(|value| self.child(name, name, value)).transpose()
    }

    /// An object that must be there.
    pub(super) fn required_object(&self, name: &str) -> Result<Self, Reported> {
        self.object(name)?.ok_or(Reported(()))
    }

    /// Objects of a list.
    pub(super) fn objects(&self, name: &str) -> Vec<Result<Self, Reported>> {
        let items = self.get(name).and_then(Value::as_array).into_iter().flatten().enumerate();
        items.map(|(index, value)| self.child(name, &item(name, index), value)).collect()
    }

    /// Resources, each with its defaults.
    pub(super) fn resources(&self) -> Vec<Result<Self, Reported>> {
        let resources = self.objects("resources").into_iter().enumerate();
        let with_defaults = |(index, fields): (usize, Result<Self, Reported>)| {
            Ok(Self { defaults: self.context.defaults(index), ..fields? })
        };
        resources.map(with_defaults).collect()
    }

    /// Objects by name, in order of the names. An object whose name is invalid is not read.
    pub(super) fn named_objects(&self, name: &str) -> Vec<(&'a str, Result<Self, Reported>)> {
        let members = self.get(name).and_then(Value::as_object).map(by_name).unwrap_or_default();
        let object = |key: &str, value| match self.kind(name) {
            Some(kind) if kind.admits(key) => self.child(name, &format!("{name}.{key}"), value),
            _ => Err(Reported(())),
        };
        members.into_iter().map(|(key, value)| (key, object(key, value))).collect()
    }

    fn child(&self, name: &str, step: &str, value: &'a Value<'a>) -> Result<Self, Reported> {
        match (value, self.kind(name).and_then(Kind::group)) {
            (Value::Object(members), Some(group)) => {
                Ok(Self { context: self.context, path: self.at(step), members, defaults: None, group })
            }
            _ => Err(Reported(())),
        }
    }
}

/// Returns the members in order of their names: a `Struct` has them in any order.
pub(super) fn by_name<'a>(object: &'a Object<'a>) -> Vec<(&'a str, &'a Value<'a>)> {
    let mut members: Vec<_> = object.members().collect();
    members.sort_unstable_by_key(|(name, _)| *name);
    members
}

/// Returns the default of a whole number.
pub(super) fn default(group: &'static Group, name: &str) -> Result<u32, Reported> {
    match group.option(name).map(|option| &option.kind) {
        Some(Kind::Integer(range)) => Ok(range.default),
        _ => Err(Reported(())),
    }
}

/// Reads the outermost object: JSON text, or a serialised `Struct`.
pub(super) fn read(bytes: &[u8]) -> Result<Object<'_>, ConfigError> {
    json::object(bytes).or_else(|| struct_pb::read_struct(bytes).filter(|members| !members.is_empty())).ok_or_else(
        || match std::str::from_utf8(bytes).map(serde_json::from_str::<serde::de::IgnoredAny>) {
            Err(_) => not_an_object("no UTF-8"),
            Ok(Err(error)) => not_an_object(&format!("no JSON: line {}, column {}", error.line(), error.column())),
            Ok(Ok(_)) => not_an_object("no object, or a name twice in one"),
        },
    )
}
