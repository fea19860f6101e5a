//! Invariants of local replies and log lines.

use onbehalf::http::LocalReply;
use serde_json::Value;

use crate::tokens::SECRET;

/// Signatures of tokens and further secrets, none of which may leave the filter.
pub struct Secrets(Vec<String>);

impl Secrets {
    /// The secrets of some tokens.
    pub fn of_tokens<'a>(tokens: impl IntoIterator<Item = &'a str>) -> Self {
        let signature = |token: &str| token.rsplit_once('.').map(|(_, signature)| signature.to_owned());
        Self(tokens.into_iter().filter_map(signature).collect())
    }

    /// Adds one more secret.
    #[must_use]
    pub fn and(mut self, secret: &str) -> Self {
        self.0.push(secret.to_owned());
        self
    }

    /// Returns `true` if the signature of a token or the client secret is in `text`.
    pub fn are_in(&self, text: &str) -> bool {
        text.contains(SECRET) || self.0.iter().any(|signature| text.contains(signature.as_str()))
    }
}

/// Returns `true` if an input contains the client secret by itself. The fuzzer reads the secret in comparisons, and the
/// text of an operator or a provider may be shown elsewhere.
pub fn has_the_client_secret(input: &[u8]) -> bool {
    input.windows(SECRET.len()).any(|window| window.eq_ignore_ascii_case(SECRET.as_bytes()))
}

/// Checks a local reply of the engine.
pub fn check_local_reply(answer: &LocalReply, secrets: &Secrets) {
    let headers = answer.headers.iter().map(|(name, value)| (*name, value.as_str()));
    check_reply_parts(answer.status, headers, &answer.body, secrets);
}

/// Checks a local reply: its status, a body of JSON, header fields in ASCII, a well-formed challenge, and no secret.
pub fn check_reply_parts<'a>(
    status: u16,
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    body: &str,
    secrets: &Secrets,
) {
    assert!(matches!(status, 200 | 204 | 400..=599), "{status}: {body}");
    assert!(!secrets.are_in(body), "a secret is in a local reply");
    if !body.is_empty() {
        let _: Value = serde_json::from_str(body).expect("a local reply whose body is not JSON");
    }
    for (name, value) in headers {
        assert!(value.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{name}: {value:?}");
        assert!(!secrets.are_in(value), "a secret is in a local reply");
        if name == "www-authenticate" {
            check_challenge(value);
        }
    }
}

/// Checks that a challenge is `Bearer name="value", name="value"` (RFC 9110 section 11.6.1) and no name stands twice.
pub fn check_challenge(value: &str) {
    let parameters = value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("DPoP "));
    let mut rest = parameters.expect("a challenge of another scheme");
    let mut names = Vec::new();
    loop {
        let (name, quoted) = rest.split_once("=\"").unwrap_or_else(|| panic!("no quoted string: {value}"));
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name:?} in {value}");
        assert!(!names.contains(&name), "{name} stands twice: {value}");
        names.push(name);
        let (text, after) = quoted.split_once('"').unwrap_or_else(|| panic!("an open string: {value}"));
        assert!(!text.contains('\\'), "{value}");
        if after.is_empty() {
            return;
        }
        rest = after.strip_prefix(", ").unwrap_or_else(|| panic!("text after a quoted string: {value}"));
    }
}

/// Checks a log line: one line, no secret, and no user but as the one `subject` of a verified token. The names of users
/// in a [`Scene`](super::Scene) begin with `user-`. The host is the client's own text.
pub fn check_log_line(line: &str, secrets: &Secrets) {
    assert!(!line.contains(char::is_control), "a control character in the log: {line:?}");
    assert!(!secrets.are_in(line), "a secret in the log");
    let without_host = without_quoted_fact(line, "host");
    let mut rest = without_host.split(' ').filter(|fact| !fact.starts_with("subject="));
    assert!(!rest.any(|fact| fact.contains("user-")), "a user in the log: {line}");
    assert!(without_host.matches(" subject=").count() <= 1, "two users in a line: {line}");
}

/// A log line without one fact, whose value is in quotes as in JSON.
fn without_quoted_fact(line: &str, name: &str) -> String {
    let Some((before, value)) = line.split_once(&format!(" {name}=\"")) else {
        return line.to_owned();
    };
    let mut is_escaped = false;
    let end = value.find(|character| {
        let is_end = character == '"' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        is_end
    });
    format!("{before}{}", end.map_or("", |end| &value[end + 1..]))
}
