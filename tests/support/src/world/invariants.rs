//! Invariants of local replies and log lines.

use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use base64::{Engine as _, alphabet};
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
/// in a [`Scene`](super::Scene) begin with `user-`. A name that the input brought itself may stand in any fact, because
/// host, path, `kid` and the unverified issuer are the client's own text.
pub fn check_log_line(line: &str, secrets: &Secrets, input: &[u8]) {
    assert!(!line.contains(char::is_control), "a control character in the log: {line:?}");
    assert!(!secrets.are_in(line), "a secret in the log");
    let (subjects, others): (Vec<&str>, Vec<&str>) =
        facts(line).into_iter().partition(|fact| fact.starts_with("subject="));
    assert!(subjects.len() <= 1, "two users in a line: {line}");
    for named in others.iter().flat_map(|fact| fact.match_indices(USER).map(|(at, _)| &fact[at..])) {
        let length = named[USER.len()..].bytes().take_while(u8::is_ascii_alphanumeric).count();
        assert!(has_brought(input, &named[..USER.len() + length]), "a user in the log: {line}");
    }
}

/// Beginning of the name of each user in a [`Scene`](super::Scene).
const USER: &str = "user-";

/// Facts of a log line. A space inside of quotes, which are as in JSON, separates none.
fn facts(line: &str) -> Vec<&str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    line.split(|character| {
        is_quoted ^= character == '"' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        character == ' ' && !is_quoted
    })
    .collect()
}

/// Returns `true` if an input has a text itself: as it stands, percent-encoded as in a path, in base64url as in a token, or
/// in JSON with escapes.
fn has_brought(input: &[u8], text: &str) -> bool {
    let has = |bytes: &[u8]| {
        let plain = serde_json::from_slice::<Value>(bytes).map(|json| json.to_string());
        [String::from_utf8_lossy(bytes).into_owned(), plain.unwrap_or_default()].iter().any(|read| read.contains(text))
    };
    let segments = input.split(|byte| !matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_'));
    has(input)
        || has(&percent_decoded(input))
        || segments.filter_map(|segment| LENIENT.decode(segment).ok()).any(|decoded| has(&decoded))
}

/// Base64url of any bytes: bits behind the last byte are not looked at.
const LENIENT: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

fn percent_decoded(input: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = input;
    while let [first, others @ ..] = rest {
        let digits = others.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%');
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &others[2..] } else { others };
    }
    bytes
}
