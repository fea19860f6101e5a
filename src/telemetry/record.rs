//! Facts about a request or an exchange, for a log line and for the host's access log: the same names and values in both.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::rc::Rc;

/// What is shown of the user whom a verified token names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubjectDisplay {
    /// The identifier itself.
    #[default]
    Plain,
    /// A keyed digest of it, the same for the same user.
    Hashed,
    /// Nothing.
    None,
}

/// Who calls what, made once for a token and a resource: each fact by its path in the host's filter state.
pub type CallerFacts = Rc<[(&'static str, Rc<str>)]>;

/// The filter state of a request that goes on.
#[derive(Default)]
pub enum FilterState {
    /// Nobody is known: an open path.
    #[default]
    Empty,
    /// The caller, whose exchanged token was in the cache.
    Caller(CallerFacts),
    /// The caller, and how the request came to go on.
    Record(Record),
}

impl FilterState {
    /// Every fact by its name, without the prefix that it has in the host.
    pub fn facts(&self) -> Vec<(&str, Cow<'_, str>)> {
        match self {
            Self::Empty => Vec::new(),
            Self::Caller(facts) => facts
                .iter()
                .map(|(path, value)| (path.strip_prefix(PREFIX).unwrap_or(path), (&**value).into()))
                .collect(),
            Self::Record(record) => record.facts().collect(),
        }
    }
}

/// The paths of facts begin with it in the host's filter state, behind the host's own `wasm.`.
pub const PREFIX: &str = "onbehalf.";

/// The longest value of a fact, in characters of what was written.
const LONGEST: usize = 512;

/// The longest detail as a fact: several values with their names.
const LONGEST_DETAIL: usize = 4096;

/// Facts by their names, in the order of the line. Values are printable ASCII without a bare quote or backslash, whoever wrote
/// them: what has another form is escaped as in JSON (RFC 8259 section 7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    facts: Vec<(&'static str, String)>,
    detail: String,
}

impl Record {
    /// Adds a fact; one without a value is none.
    pub fn add(&mut self, name: &'static str, value: &str) {
        if !value.is_empty() {
            self.facts.push((name, escaped(value, LONGEST)));
        }
    }

    /// Adds what is already in the form of a line: `name=value`, with spaces between.
    pub fn add_detail(&mut self, detail: &str) {
        let space = if self.detail.is_empty() || detail.is_empty() { "" } else { " " };
        self.detail = [&self.detail, space, detail].concat();
    }

    /// Every fact; what was added as a line is one of the name `detail`, with the quotes in it escaped: it stands between
    /// quotes of the access log's.
    pub fn facts(&self) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
        let detail = Some(&self.detail).filter(|detail| !detail.is_empty());
        let detail = detail.map(|detail| ("detail", Cow::from(escaped(detail, LONGEST_DETAIL))));
        self.facts.iter().map(|(name, value)| (*name, value.into())).chain(detail)
    }
}

/// The line, in logfmt.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.facts.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            let quote = if value.contains([' ', '=', '\\']) { "\"" } else { "" };
            write!(f, "{space}{name}={quote}{value}{quote}")?;
        }
        if !self.detail.is_empty() {
            write!(f, " {}", self.detail)?;
        }
        Ok(())
    }
}

/// A text that a stranger wrote, as the value of a fact.
pub fn value(text: &str) -> Rc<str> {
    escaped(text, LONGEST).into()
}

/// The same of a text that many have in common, which stays one if nothing in it has to be escaped.
pub fn shared_value(text: Rc<str>) -> Rc<str> {
    let value = value(&text);
    if value == text { text } else { value }
}

/// Whether [`value`] keeps the whole of a text.
pub fn is_whole(text: &str) -> bool {
    text.chars().nth(LONGEST).is_none()
}

/// A text that a stranger wrote, as a quoted value in a line.
pub fn quoted(text: &str) -> String {
    ["\"", &escaped(text, LONGEST), "\""].concat()
}

fn escaped(text: &str, longest: usize) -> String {
    let mut escaped = String::with_capacity(text.len().min(longest));
    for (at, character) in text.char_indices().take(longest) {
        let is_outer = at == 0 || at.saturating_add(1) == text.len();
        match character {
            // HTTP takes spaces off both ends of a field (RFC 9110 section 5.5), which would make one name of two.
            ' ' if is_outer => escaped.push_str("\\u0020"),
            '"' | '\\' => escaped.extend(['\\', character]),
            ' '..='~' => escaped.push(character),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    // Writing to a string does not fail.
                    let _ = write!(escaped, "\\u{unit:04x}");
                }
            }
        }
    }
    if text.chars().nth(longest).is_some() {
        escaped.push_str("...");
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_line_could_be_forged_with_is_escaped() {
        let mut record = Record::default();
        record.add("subject", "a\" event=exchanged\r\n\u{2028}\\\u{1f600}\0\u{7f}");
        record.add("resource", "https://mcp.acme.example/github");
        record.add("client", "");
        record.add("user", "a b");
        record.add_detail("trace=t");
        record.add_detail(r#"kid="x\" event=y""#);
        let subject = r#"a\" event=exchanged\u000d\u000a\u2028\\\ud83d\ude00\u0000\u007f"#;
        let expected = format!(
            "subject=\"{subject}\" resource=https://mcp.acme.example/github user=\"a b\" trace=t kid=\"x\\\" event=y\""
        );
        assert_eq!(record.to_string(), expected);
        let facts: Vec<_> = record.facts().collect();
        assert_eq!(facts[0], ("subject", subject.into()));
        assert_eq!(facts.last(), Some(&("detail", r#"trace=t kid=\"x\\\" event=y\""#.into())));
        assert_eq!(serde_json::from_str::<String>(&quoted("a\"\r\n\u{1f600}")).unwrap(), "a\"\r\n\u{1f600}");
    }

    #[test]
    fn a_value_has_an_end() {
        let text = escaped(&"\n".repeat(100_000), LONGEST);
        assert_eq!(text.len(), LONGEST * "\\u000a".len() + "...".len());
        assert_eq!(escaped(&"a".repeat(LONGEST), LONGEST), "a".repeat(LONGEST));
        let mut record = Record::default();
        record.add_detail(&"a".repeat(100_000));
        assert_eq!(record.facts().last().unwrap().1.len(), LONGEST_DETAIL + "...".len());
    }
}
