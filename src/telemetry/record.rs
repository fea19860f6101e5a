//! Records: the facts of a request or an exchange, with the same names and values in the log line and in Envoy's filter state,
//! which the access log and other filters read.

use std::fmt;
use std::rc::Rc;

use crate::telemetry::fact::{Detail, Fact, MAX_VALUE, escaped};

/// Display of the user of a verified token, as the operator configures it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubjectDisplay {
    /// The identifier itself.
    #[default]
    Plain,
    /// A keyed digest of the identifier, equal for equal users.
    Hashed,
    /// Nothing.
    None,
}

/// Facts about the caller of a resource, with escaped values. They are made once for each token and resource.
pub type CallerFacts = Rc<[(Fact, Rc<str>)]>;

/// Filter state of a request that is forwarded.
#[derive(Default)]
pub enum FilterState {
    /// No fact: the path is unauthenticated.
    #[default]
    Unauthenticated,
    /// The caller of a request whose exchanged token was in the cache.
    Caller(CallerFacts),
    /// All facts of a request whose exchanged token was not in the cache.
    Record(Record),
}

impl FilterState {
    /// Passes the key and the value of each fact to `set`, which returns `false` if it fails. Returns `true` if every call
    /// succeeds, and stops at the first that does not.
    pub fn write(&self, mut set: impl FnMut(&'static str, &str) -> bool) -> bool {
        match self {
            Self::Unauthenticated => true,
            Self::Caller(facts) => facts.iter().all(|(fact, value)| set(fact.key(), value)),
            Self::Record(record) => record.write(set),
        }
    }
}

/// Maximum length of the fact `detail`, in characters: it has several values with their names.
const MAX_DETAIL: usize = 4096;

/// Facts in the order of the log line. Values are printable ASCII without a bare quote or backslash, whatever the client sends:
/// other characters are escaped as in JSON (RFC 8259 section 7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    facts: Vec<(Fact, String)>,
    /// Line of the [`Detail`]s that were added.
    detail: String,
}

impl Record {
    /// Adds a fact. An empty value adds nothing.
    pub fn add(&mut self, fact: Fact, value: &str) {
        if !value.is_empty() {
            self.facts.push((fact, escaped(value, MAX_VALUE)));
        }
    }

    /// Adds a detail. The log line ends with its facts; in filter state they are one fact, `detail`.
    pub fn add_detail(&mut self, detail: &Detail) {
        let space = if self.detail.is_empty() || detail.is_empty() { "" } else { " " };
        self.detail = [&self.detail, space, &detail.to_string()].concat();
    }

    /// Passes the key and the value of each fact to `set`, as [`FilterState::write`] does. The quotes in `detail` are escaped,
    /// because the access log puts quotes around it.
    pub fn write(&self, mut set: impl FnMut(&'static str, &str) -> bool) -> bool {
        self.facts.iter().all(|(fact, value)| set(fact.key(), value))
            && (self.detail.is_empty() || set(Fact::Detail.key(), &escaped(&self.detail, MAX_DETAIL)))
    }
}

/// Log line, in logfmt.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (fact, value)) in self.facts.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { " " })?;
            fact.write(f, value)?;
        }
        if !self.detail.is_empty() {
            write!(f, " {}", self.detail)?;
        }
        Ok(())
    }
}

/// Escapes a text that a client or a provider wrote, as the value of a fact.
pub fn value(text: &str) -> Rc<str> {
    escaped(text, MAX_VALUE).into()
}

/// Escapes a text as [`value`] does. Returns `text` itself, without a copy, if no character of it is escaped.
pub fn shared_value(text: Rc<str>) -> Rc<str> {
    let value = value(&text);
    if value == text { text } else { value }
}

/// Returns `true` if [`value`] does not cut `text`.
pub fn is_whole(text: &str) -> bool {
    text.chars().nth(MAX_VALUE).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(record: &Record) -> Vec<(&'static str, String)> {
        let mut facts = Vec::new();
        assert!(record.write(|key, value| {
            facts.push((key, value.to_owned()));
            true
        }));
        facts
    }

    #[test]
    fn a_value_cannot_forge_a_line() {
        let mut record = Record::default();
        record.add(Fact::Subject, "a\" event=exchanged\r\n\u{2028}\\\u{1f600}\0\u{7f}");
        record.add(Fact::Resource, "https://mcp.acme.example/github");
        record.add(Fact::Client, "");
        record.add(Fact::Tenant, "a b");
        record.add_detail(&Detail::new().with(Fact::Status, "400"));
        record.add_detail(&Detail::new().with(Fact::KeyId, "x\" event=y"));
        let subject = r#"a\" event=exchanged\u000d\u000a\u2028\\\ud83d\ude00\u0000\u007f"#;
        let expected = format!(
            "subject=\"{subject}\" resource=https://mcp.acme.example/github tenant=\"a b\" status=400 kid=\"x\\\" event=y\""
        );
        assert_eq!(record.to_string(), expected);
        let facts = facts(&record);
        assert_eq!(facts[0], ("onbehalf.subject", subject.into()));
        assert_eq!(facts.last(), Some(&("onbehalf.detail", r#"status=400 kid=\"x\\\" event=y\""#.into())));
        let text = format!("\"{}\"", value("a\"\r\n\u{1f600}"));
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), "a\"\r\n\u{1f600}");
    }

    #[test]
    fn a_long_detail_is_cut() {
        let mut record = Record::default();
        (0..20).for_each(|_| record.add_detail(&Detail::new().with(Fact::Cause, "a".repeat(500))));
        let (_, detail) = facts(&record).pop().unwrap();
        // Each quote of the detail is two characters of the fact.
        assert!(detail.ends_with("...") && detail.len() < MAX_DETAIL + 40, "{}", detail.len());
    }

    #[test]
    fn a_fact_that_cannot_be_set_ends_the_writing() {
        let mut record = Record::default();
        record.add(Fact::Event, "refused");
        record.add(Fact::Reason, "expired");
        let mut calls = 0;
        assert!(!FilterState::Record(record).write(|_, _| {
            calls += 1;
            false
        }));
        assert_eq!(calls, 1);
    }
}
