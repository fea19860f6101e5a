//! Why there is no token: whose fault it is, and what the log may say.
//!
//! Decisions rest on status, `error` and `suberror` only; descriptions are for humans and change. No text of the
//! provider's goes further than here, except its error code and its trace id, cut to harmless characters.

use std::fmt;
use std::time::Duration;

use super::Profile;
use crate::http::{Answer, CallFailure};
use crate::json::{self, Object, Value};
use crate::time::UnixTime;

/// The most that a throttling provider can make us wait.
const LONGEST_PAUSE: u64 = 120;

/// The longest claims challenge that is passed on, in bytes.
const LONGEST_CLAIMS: usize = 4096;

/// Who has to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The caller's token is not good any more: get another.
    Token,
    /// The user: sign in again, consent, another factor.
    UserMustAct,
    /// Whoever grants users access: this one has none.
    NotAllowed,
    /// Whoever configured the provider or this filter.
    Operator,
    /// The provider: too many requests.
    Throttled,
    /// The provider or the network: no service.
    Unavailable,
    /// The provider: an answer that makes no sense.
    Nonsense,
}

/// An exchange that failed.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Who has to act.
    pub blame: Blame,
    /// How long to leave the provider in peace, if it said so.
    pub retry_after: Option<Duration>,
    /// A claims challenge for the caller: JSON text (OpenID Connect Core section 5.5).
    pub claims: Option<String>,
    status: Option<u16>,
    error: String,
    codes: String,
    trace: String,
}

impl Fault {
    /// Whether the provider wants fewer requests, whoever they are for (RFC 6585 section 4).
    pub fn is_rate_limit(&self) -> bool {
        self.status == Some(429)
    }

    /// Whether the provider does not know the client by what it was proved with (RFC 6749 section 5.2).
    pub fn is_invalid_client(&self) -> bool {
        self.error == "invalid_client"
    }

    /// Nobody answered.
    pub fn no_answer(failure: CallFailure) -> Self {
        let blame = match failure {
            CallFailure::TooLarge => Blame::Nonsense,
            CallFailure::NotSent | CallFailure::TimedOut | CallFailure::NoConnection => Blame::Unavailable,
        };
        Self {
            blame,
            retry_after: None,
            claims: None,
            status: None,
            error: failure.text().to_owned(),
            codes: String::new(),
            trace: String::new(),
        }
    }

    pub(super) fn unusable_answer(problem: &'static str, profile: &dyn Profile, answer: &Answer) -> Self {
        let trace = trace(profile, answer, None);
        let status = Some(answer.status);
        Self {
            blame: Blame::Nonsense,
            retry_after: None,
            claims: None,
            status,
            error: problem.to_owned(),
            codes: String::new(),
            trace,
        }
    }
}

/// For a log line: status, error code, the provider's own codes, its trace id.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error={:?}", self.error)?;
        if let Some(status) = self.status {
            write!(f, " status={status}")?;
        }
        if !self.codes.is_empty() {
            write!(f, " codes={}", self.codes)?;
        }
        if !self.trace.is_empty() {
            write!(f, " trace={}", self.trace)?;
        }
        Ok(())
    }
}

/// Reads an answer other than 200 (RFC 6749 section 5.2, RFC 8693 section 2.2.2).
pub(super) fn read(profile: &dyn Profile, answer: &Answer, now: UnixTime) -> Fault {
    let body = json::object(&answer.body);
    let member = |name: &str| body.as_ref().and_then(|body| body.string(name));
    let error = member("error").unwrap_or_default();
    let suberror = member("suberror").filter(|text| !text.is_empty());
    let blame = match (answer.status, error) {
        (429, _) | (_, "slow_down") => Blame::Throttled,
        (300..=399 | 500.., _) | (_, "temporarily_unavailable" | "server_error") => Blame::Unavailable,
        _ => profile.blame(answer.status, error, suberror).unwrap_or(match error {
            "invalid_grant" => Blame::Token,
            "interaction_required" | "consent_required" | "login_required" => Blame::UserMustAct,
            "access_denied" => Blame::NotAllowed,
            _ => Blame::Operator,
        }),
    };
    let claims =
        member("claims").filter(|text| text.len() <= LONGEST_CLAIMS && json::object(text.as_bytes()).is_some());
    Fault {
        blame,
        retry_after: retry_after(answer, now),
        claims: claims.map(str::to_owned),
        status: Some(answer.status),
        error: if error.is_empty() { "not an OAuth error response".to_owned() } else { printable(error) },
        codes: codes(body.as_ref(), suberror),
        trace: trace(profile, answer, body.as_ref()),
    }
}

/// RFC 9110 section 10.2.3 in seconds, or the UTC second at which a rate limit's window ends.
fn retry_after(answer: &Answer, now: UnixTime) -> Option<Duration> {
    let number = |name: &str| answer.header(name).and_then(|text| text.trim().parse::<u64>().ok());
    let seconds = number("retry-after").or_else(|| Some(number("x-rate-limit-reset")?.saturating_sub(now.secs())))?;
    Some(Duration::from_secs(seconds.clamp(1, LONGEST_PAUSE)))
}

fn codes(body: Option<&Object<'_>>, suberror: Option<&str>) -> String {
    let listed = body.and_then(|body| body.get("error_codes")).and_then(Value::as_array);
    let mut codes: Vec<String> =
        listed.into_iter().flatten().take(4).filter_map(|code| code.as_u64()).map(|code| code.to_string()).collect();
    codes.extend(suberror.map(printable));
    codes.join(",")
}

fn trace(profile: &dyn Profile, answer: &Answer, body: Option<&Object<'_>>) -> String {
    let in_body = |name: &str| body.and_then(|body| body.string(name));
    let found = profile.trace_fields().iter().find_map(|name| in_body(name).or_else(|| answer.header(name)));
    found.map(printable).unwrap_or_default()
}

/// At most 64 characters of which codes and ids are made.
fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c)).take(64).collect()
}
