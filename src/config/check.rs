//! Check of a document against the option table: names, types, ranges, required options. It collects every mistake, and
//! looks into no value whose type is wrong.

use crate::config::defaults;
use crate::config::error::Code;
use crate::config::findings::Context;
use crate::config::options::{Condition, Group, Kind, METHODS, OptionSpec, Presence, RENAMED, Range, SECRET, names};
use crate::json::{Object, Value};
use crate::provider::{self, ClaimValue, Profile};
use crate::secret::{is_plain, shown};

/// Found value of a name that is no option.
const NO_FIELD: &str = "a field that does not exist";

/// Expected value of a required claim.
const CLAIM: &str = "a string, a whole number below 2^53, true or false, or a list of these";

/// Check that adds its findings to a context.
pub(super) struct Checker<'a> {
    context: &'a Context<'a>,
    /// Options that resources need not have.
    defaults: Option<&'a Object<'a>>,
}

impl<'a> Checker<'a> {
    /// Check of a whole configuration.
    pub(super) fn new(context: &'a Context<'a>, root: &'a Object<'a>) -> Self {
        Self { context, defaults: root.present(defaults::NAME).and_then(Value::as_object) }
    }

    /// Checks the options of an object.
    pub(super) fn group(&self, path: &str, members: &Object<'_>, group: &'static Group) {
        // Options that a misspelled name stands for are not missing.
        let mut meant = Vec::new();
        let mut is_unknown = false;
        for (name, value) in members.members() {
            match group.option(name) {
                Some(_) if matches!(value, Value::Null) => {}
                Some(option) => self.value(&join(path, name), value, &option.kind),
                None => {
                    is_unknown = true;
                    meant.extend(self.unknown(path, name, group.options));
                }
            }
        }
        for option in group.options {
            if !meant.contains(&option.name) {
                self.presence(path, members, option);
            }
        }
        if let Some((names, expected)) = group.exactly_one {
            let [first, second] = names.map(|name| members.present(name).is_some());
            if first == second && (first || !is_unknown) {
                self.refuse(Code::ExactlyOne, path, &either(first, names), expected);
            }
        }
    }

    /// Refuses a name that is no option. Returns the option that it probably stands for.
    fn unknown(&self, path: &str, name: &str, options: &'static [OptionSpec]) -> Option<&'static str> {
        // The name may be a secret that stands where the field for it should.
        let is_shown = !std::ptr::eq(options, SECRET.options) && is_plain(name);
        let expected = || format!("only {}", names(options));
        if !is_shown {
            self.refuse(Code::UnknownField, path, NO_FIELD, &expected());
            return None;
        }
        let path = join(path, name);
        if let Some(new) = renamed(name).filter(|new| options.iter().any(|option| option.name == *new)) {
            let values = if name == "token" { ": true for forwarded, false for removed" } else { "" };
            let found = format!("{NO_FIELD}: {name} is called {new} now{values}");
            self.refuse(Code::Renamed, &path, &found, &expected());
            return Some(new);
        }
        let near = options.iter().filter_map(|option| Some((distance(name, option.name)?, option.name))).min();
        let hint = near.map_or(String::new(), |(_, near)| format!(" (did you mean {near}?)"));
        self.refuse(Code::UnknownField, &path, &format!("{NO_FIELD}{hint}"), &expected());
        near.map(|(_, near)| near)
    }

    /// Checks options that objects of a list have if they do not set them. None of them is required.
    fn defaults(&self, path: &str, members: &Object<'_>, group: &'static Group) {
        let options = group.defaults();
        for (name, value) in members.members() {
            match options.iter().find(|option| option.name == name) {
                Some(_) if matches!(value, Value::Null) => {}
                Some(option) => self.value(&join(path, name), value, &option.kind),
                None => {
                    self.unknown(path, name, options);
                }
            }
        }
    }

    /// Checks that an option is there if it must be, and only where it may be.
    fn presence(&self, path: &str, members: &Object<'_>, option: &OptionSpec) {
        let is_there = members.present(option.name).is_some();
        let (condition, is_required, expected) = match option.presence {
            Presence::Optional => return,
            Presence::Required(expected) => (None, true, *expected),
            Presence::RequiredOrDefault if self.defaults.is_some_and(|all| all.present(option.name).is_some()) => {
                return;
            }
            Presence::RequiredOrDefault => (None, true, ""),
            Presence::RequiredIf(condition) => (Some(condition), true, ""),
            Presence::AllowedIf(condition) => (Some(condition), false, ""),
        };
        let is_allowed = condition.map_or(Some(true), |condition| condition.holds(members));
        match is_allowed {
            Some(true) if is_required && !is_there => {
                let expected = match option.kind.group().and_then(|group| group.options.first()) {
                    _ if !expected.is_empty() => expected.into(),
                    // Its other options depend on the first one.
                    Some(OptionSpec { name: "method", kind, .. }) => {
                        format!("an object with a method, which is {}, and what that needs", kind.expected()).into()
                    }
                    _ => option.kind.expected(),
                };
                self.refuse(Code::Missing, &join(path, option.name), "nothing", &expected);
            }
            Some(false) if is_there => {
                let name = condition.map_or("", Condition::name);
                let value = members.string(name).unwrap_or_default();
                let expected = format!("nothing: {name} {value:?} does not use it");
                self.refuse(Code::NotUsed, &join(path, option.name), "a value", &expected);
            }
            _ => {}
        }
    }

    /// Checks a value, and the values in it.
    fn value(&self, path: &str, value: &Value<'_>, kind: &'static Kind) {
        let wrong = |path: &str, value: &Value<'_>, kind: &Kind| {
            self.expect(Code::WrongType, path, kind_of(value), kind);
        };
        match (kind, value) {
            (Kind::Text, _) if text(value).is_some() => {}
            (Kind::Boolean, Value::Bool(_)) | (Kind::KeySet, Value::Object(_)) => {}
            (Kind::Integer(range), Value::Number(found)) => {
                if number(value, range).is_none() {
                    self.expect(Code::OutOfRange, path, &found.to_string(), kind);
                }
            }
            (Kind::Choice(_) | Kind::Profile, Value::String(text)) => self.choice(path, text, kind),
            (Kind::Texts(expected), Value::Array(items)) if items.is_empty() && !expected.is_empty() => {
                self.refuse(Code::EmptyList, path, kind_of(value), expected);
            }
            (Kind::Texts(_) | Kind::OneOrMore, Value::Array(items)) => {
                for (index, value) in items.iter().enumerate().filter(|(_, value)| text(value).is_none()) {
                    wrong(&item(path, index), value, &Kind::Text);
                }
            }
            (Kind::OneOrMore, Value::String(text)) if !text.is_empty() => {}
            (Kind::OneOrMore, Value::String(_)) => wrong(path, value, &Kind::Text),
            (Kind::Choices(values), Value::Array(items)) => {
                if items.is_empty() {
                    self.expect(Code::EmptyList, path, kind_of(value), kind);
                }
                for (index, value) in items.iter().enumerate() {
                    match text(value) {
                        None => wrong(&item(path, index), value, kind),
                        Some(text) if !values.contains(&text) => {
                            self.expect(Code::UnknownValue, path, &shown(text), kind);
                        }
                        Some(text) if items.iter().take(index).any(|other| other == value) => {
                            self.expect(Code::Duplicate, path, &format!("{text:?} twice"), kind);
                        }
                        Some(_) => {}
                    }
                }
            }
            (Kind::Secret | Kind::Object(_), Value::Object(members)) => {
                kind.group().into_iter().for_each(|group| self.group(path, members, group));
            }
            (Kind::Defaults(group), Value::Object(members)) => self.defaults(path, members, group),
            (Kind::List(group), Value::Array(items)) if !items.is_empty() => {
                for (index, value) in items.iter().enumerate() {
                    self.object(&item(path, index), value, group);
                }
            }
            (Kind::Map(group), Value::Object(members)) if !members.is_empty() => {
                self.named(path, members, kind, &|name, item| self.object(&join(path, name), item, group));
            }
            (Kind::TextMap, Value::Object(members)) => self.named(path, members, kind, &|name, item| {
                if text(item).is_none() {
                    let name = if is_plain(name) { name } else { "<another name>" };
                    wrong(&join(path, name), item, &Kind::Text);
                }
            }),
            (Kind::Claims, Value::Object(members)) if !members.is_empty() => {
                self.named(path, members, kind, &|name, item| {
                    if !is_claim(item) {
                        let name = if is_plain(name) { name } else { "<another name>" };
                        self.refuse(Code::WrongType, &join(path, name), kind_of(item), CLAIM);
                    }
                });
            }
            (Kind::AnyObjects, Value::Object(members)) => {
                if members.is_empty() || members.members().any(|(_, value)| value.as_object().is_none()) {
                    self.expect(Code::WrongType, path, "another form", kind);
                }
            }
            _ => wrong(path, value, kind),
        }
    }

    /// Checks the names in an object of values by name, and each value that has a valid name. A path below an invalid name
    /// would repeat the name, which may be a secret in the wrong place.
    fn named(&self, path: &str, members: &Object<'_>, kind: &Kind, check: &dyn Fn(&str, &Value<'_>)) {
        for (name, item) in members.members() {
            if kind.admits(name) {
                check(name, item);
            } else {
                let found = if is_plain(name) { format!("the name {name:?}") } else { "another name".to_owned() };
                self.refuse(Code::InvalidName, path, &found, kind.expected_names());
            }
        }
    }

    /// Checks an object in a list or in another object.
    fn object(&self, path: &str, value: &Value<'_>, group: &'static Group) {
        match value {
            Value::Object(members) => self.group(path, members, group),
            _ => self.refuse(Code::WrongType, path, kind_of(value), "an object"),
        }
    }

    fn choice(&self, path: &str, text: &str, kind: &'static Kind) {
        let is_value = |name: &str| match kind {
            Kind::Choice(values) => values.contains(&name),
            _ => provider::profile(name).is_some(),
        };
        if is_value(text) {
            return;
        }
        match renamed(text).filter(|new| is_value(new)) {
            Some(new) => {
                self.expect(Code::Renamed, path, &format!("{text:?}, which is called {new:?} now"), kind);
            }
            None => self.expect(Code::UnknownValue, path, &shown(text), kind),
        }
    }

    #[inline(never)]
    fn expect(&self, code: Code, path: &str, found: &str, kind: &Kind) {
        self.refuse(code, path, found, &kind.expected());
    }

    #[inline(never)]
    fn refuse(&self, code: Code, path: &str, found: &str, expected: &str) {
        self.context.refuse(code, path.to_owned(), found, expected);
    }
}

impl Condition {
    /// Returns `None` if the other option is missing or mistaken, so that nothing follows from it.
    fn holds(&self, members: &Object<'_>) -> Option<bool> {
        let value = members.string(self.name())?;
        match self {
            Self::Method(methods) => METHODS.contains(&value).then(|| methods.contains(&value)),
            Self::Exchanges => provider::profile(value).map(Profile::exchanges),
        }
    }

    /// Name of the other option.
    const fn name(&self) -> &'static str {
        match self {
            Self::Method(_) => "method",
            Self::Exchanges => "profile",
        }
    }
}

/// Returns the path of a field: the name below the path. The empty name is the object itself.
pub(super) fn join(path: &str, name: &str) -> String {
    let dot = if path.is_empty() || name.is_empty() { "" } else { "." };
    format!("{path}{dot}{name}")
}

/// Returns the path of an item of a list.
#[inline(never)]
pub(super) fn item(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// Returns the text of a string that is not empty.
pub(super) fn text<'a>(value: &'a Value<'_>) -> Option<&'a str> {
    value.as_str().filter(|text| !text.is_empty())
}

/// Returns a whole number in the range. Protocol buffers write 60 as `60` or `60.0`.
pub(super) fn number(value: &Value<'_>, range: &Range) -> Option<u32> {
    let number = value.as_f64()?;
    let is_good = number.fract() == 0.0 && (f64::from(range.min)..=f64::from(range.max)).contains(&number);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, and in the range of u32")]
    is_good.then_some(number as u32)
}

/// Returns `true` if a claim has an accepted value, or a list of such values that is not empty.
fn is_claim(value: &Value<'_>) -> bool {
    let is_value = |value: &Value<'_>| *value != Value::String("".into()) && ClaimValue::of(value).is_some();
    match value {
        Value::Array(values) => !values.is_empty() && values.iter().all(is_value),
        value => is_value(value),
    }
}

/// Returns the new name of an option or a value.
fn renamed(name: &str) -> Option<&'static str> {
    RENAMED.iter().find_map(|(old, new)| (*old == name).then_some(*new))
}

/// Returns what an object has of two options.
fn either(has_both: bool, [first, second]: [&str; 2]) -> String {
    let [word, other] = if has_both { ["both", "and"] } else { ["neither", "nor"] };
    format!("{word} {first} {other} {second}")
}

/// Returns the number of characters in which two names differ between a common start and a common end, or `None` if they
/// are too many for a misspelling.
fn distance(name: &str, known: &str) -> Option<usize> {
    let same = |(a, b): &(u8, u8)| a == b;
    let begin = name.bytes().zip(known.bytes()).take_while(same).count();
    let ends = [name, known].map(|text| text.bytes().skip(begin).rev());
    let [end, other] = ends;
    let common = begin.saturating_add(end.zip(other).take_while(same).count());
    let distance = name.len().max(known.len()).saturating_sub(common);
    (distance <= 2 && distance < common).then_some(distance)
}

/// Returns the kind of a value, without its content: it may be a secret in a wrong place.
fn kind_of(value: &Value<'_>) -> &'static str {
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
