//! Why there is no token: whose fault it is, and what the log may say.
//!
//! Decisions rest on status, `error` and `suberror` only; numbers and descriptions are for humans and change, and choose
//! a sentence of the [`catalogue`] at most. No text of the provider's goes further than here, except its error code and
//! its trace id, cut to harmless characters, a claims challenge, and where the user can act, if that is at the provider.

use std::fmt;
use std::time::Duration;

use crate::http::{CalloutFailure, CalloutResult, Response};
use crate::json::{self, Object, Value};
use crate::provider::issued_token::Problem;
use crate::provider::remedies::{self, ErrorDetails};
use crate::provider::{Client, ExchangeTarget, KnownError, Profile, Provider, Responsible};
use crate::telemetry::{Detail, Fact};
use crate::time::UnixTime;
use crate::url::Url;

/// The most that a throttling provider can make us wait.
const LONGEST_PAUSE: u64 = 120;

/// The longest claims challenge that is passed on, in bytes.
const LONGEST_CLAIMS: usize = 4096;

/// The longest URL that a user is sent to, in bytes.
const LONGEST_URL: usize = 2048;

/// Who has to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
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

impl ErrorClass {
    /// Whether the same request may succeed later, and nobody has done anything.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Throttled | Self::Unavailable)
    }
}

/// Whose fault an error response is.
pub(crate) fn blame(profile: &dyn Profile, status: u16, error: &str, suberror: Option<&str>) -> ErrorClass {
    match (status, error) {
        (429, _) | (_, "slow_down") => ErrorClass::Throttled,
        (300..=399 | 500.., _) => ErrorClass::Unavailable,
        _ => profile.blame(status, error, suberror).unwrap_or(match error {
            "invalid_grant" => ErrorClass::Token,
            "interaction_required" | "consent_required" | "login_required" => ErrorClass::UserMustAct,
            "access_denied" => ErrorClass::NotAllowed,
            "temporarily_unavailable" | "server_error" => ErrorClass::Unavailable,
            _ => ErrorClass::Operator,
        }),
    }
}

/// An exchange that failed.
#[derive(Clone, Debug)]
pub struct TokenEndpointError {
    /// Who has to act.
    pub blame: ErrorClass,
    /// How long to leave the provider in peace, if it said so.
    pub retry_after: Option<Duration>,
    /// A claims challenge for the caller: JSON text (OpenID Connect Core section 5.5).
    pub claims: Option<String>,
    /// Where the user can act, for the caller: an `https` URL at the provider.
    pub interaction_uri: Option<Box<str>>,
    status: Option<u16>,
    error: Box<str>,
    codes: Box<str>,
    /// The provider's id of the request in its own logs, and the audience of an issued token, if that is wrong.
    facts: Detail,
    known: Option<&'static KnownError>,
    /// Whether it is at the authorization server of the resource, and not at the provider.
    is_at_second: bool,
}

impl TokenEndpointError {
    /// The same at the second of two requests. What was handed in there is of the provider's making, minutes
    /// old at most: that it is not taken is nothing that the caller could mend with another token. Nor does another
    /// host than the provider's send users anywhere: they would come back with the same, as often as it likes.
    pub(crate) fn of_second_leg(mut self, is_elsewhere: bool) -> Self {
        if self.blame == ErrorClass::Token || (is_elsewhere && self.blame == ErrorClass::UserMustAct) {
            self.blame = ErrorClass::Operator;
            // What to do about a caller's token is no remedy here.
            self.known = self.known.filter(|entry| entry.act == Responsible::Operator);
            self.claims = None;
            self.interaction_uri = None;
        }
        self.is_at_second = true;
        self
    }

    /// Whether the provider wants fewer requests, whoever they are for (RFC 6585 section 4).
    pub fn is_rate_limit(&self) -> bool {
        self.status == Some(429)
    }

    /// Whether the provider does not know the client by what it was proved with (RFC 6749 section 5.2).
    pub fn is_invalid_client(&self) -> bool {
        &*self.error == "invalid_client"
    }

    /// Whether the provider wants a nonce of its own in the proof, and nothing else (RFC 9449 section 8).
    pub fn is_nonce_wanted(&self) -> bool {
        matches!(self.status, Some(400 | 401)) && &*self.error == "use_dpop_nonce"
    }

    /// Facts for the log line: error code, status, the provider's own codes, its trace id, a wrong audience, who must act and
    /// what to do.
    #[inline(never)]
    pub fn detail(&self) -> Detail {
        let mut detail = Detail::new();
        if self.is_at_second {
            detail.add(Fact::Leg, "2");
        }
        detail.add(Fact::Error, self.error.to_string());
        detail.add(Fact::Status, self.status.map_or_else(String::new, |status| status.to_string()));
        detail.add(Fact::ErrorCodes, self.codes.to_string());
        detail = detail.and(&self.facts);
        if let Some(entry) = self.known {
            detail.add(Fact::Responsible, entry.act.text());
            detail.add(Fact::Remedy, entry.remedy);
        }
        detail
    }

    /// Nobody answered, or too much.
    pub fn no_answer(failure: CalloutFailure) -> Self {
        let (blame, status) = match failure {
            CalloutFailure::TooLarge => (ErrorClass::Nonsense, 200),
            CalloutFailure::NotSent | CalloutFailure::TimedOut | CalloutFailure::NoConnection => {
                (ErrorClass::Unavailable, 0)
            }
        };
        Self { status: None, ..Self::without_error(blame, status, failure.text()) }
    }

    /// The answer was 200, and is of no use.
    pub(crate) fn unusable_answer(problem: Problem, asked: Asked<'_>, answer: &Response) -> Self {
        let facts = Detail::new()
            .with(Fact::ProviderTraceId, trace(asked, answer, None).into_string())
            .with(Fact::Audience, problem.audience);
        Self { facts, ..Self::without_error(ErrorClass::Nonsense, answer.status, problem.text) }
    }

    fn without_error(blame: ErrorClass, status: u16, problem: &'static str) -> Self {
        Self {
            blame,
            retry_after: None,
            claims: None,
            interaction_uri: None,
            status: Some(status),
            error: problem.into(),
            codes: Box::default(),
            facts: Detail::new(),
            known: remedies::without_error(status, problem),
            is_at_second: false,
        }
    }
}

/// Part of a log line: the detail.
impl fmt::Display for TokenEndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.detail().fmt(f)
    }
}

/// Reads an answer other than 200 (RFC 6749 section 5.2, RFC 8693 section 2.2.2).
pub(crate) fn read(asked: Asked<'_>, answer: &Response, now: UnixTime) -> TokenEndpointError {
    let provider = asked.provider;
    let profile = provider.profile;
    let body = json::object(&answer.body);
    let member = |name: &str| body.as_ref().and_then(|body| body.string(name));
    let error = member("error").unwrap_or_default();
    let suberror = member("suberror").filter(|text| !text.is_empty());
    let blame = blame(profile, answer.status, error, suberror);
    let numbers = numbers(body.as_ref());
    let description = member("error_description").unwrap_or_default();
    let symptoms = ErrorDetails { blame, status: answer.status, error, suberror, numbers: &numbers, description };
    let claims =
        member("claims").filter(|text| text.len() <= LONGEST_CLAIMS && json::object(text.as_bytes()).is_some());
    let interaction_uri = member("interaction_uri").filter(|text| is_at_provider(text, provider));
    let mut codes: Vec<String> = numbers.iter().map(u32::to_string).collect();
    codes.extend(suberror.map(|suberror| asked.printable(suberror)));
    TokenEndpointError {
        blame,
        retry_after: retry_after(answer, now),
        claims: claims.map(str::to_owned),
        interaction_uri: interaction_uri.map(Into::into),
        status: Some(answer.status),
        error: if error.is_empty() { "not an OAuth error response".into() } else { asked.printable(error).into() },
        codes: codes.join(",").into(),
        facts: Detail::new().with(Fact::ProviderTraceId, trace(asked, answer, body.as_ref()).into_string()),
        known: remedies::find(profile, &symptoms),
        is_at_second: false,
    }
}

/// Whether a user may be sent there: an `https` URL on the host of the issuer or of the token endpoint, or on one below
/// it. A host beside it may be anybody's: providers give each customer a name in one domain.
fn is_at_provider(text: &str, provider: &Provider) -> bool {
    let is_plain = |byte: u8| matches!(byte, b'!'..=b'~') && !b"\"'<>\\^`{|}".contains(&byte);
    if text.len() > LONGEST_URL || !text.bytes().all(is_plain) {
        return false;
    }
    let until_query = text.split(['?', '#']).next().unwrap_or_default();
    let Ok(url) = Url::parse(until_query) else {
        return false;
    };
    let is_of = |own: &Url| {
        url.authority() == own.authority()
            || url.authority().strip_suffix(own.authority()).is_some_and(|label| label.ends_with('.'))
    };
    url.scheme() == "https" && (is_of(&provider.issuer) || provider.token_endpoint.as_ref().is_some_and(is_of))
}

/// RFC 9110 section 10.2.3, in seconds or as a date; or the UTC second at which a rate limit's window ends.
fn retry_after(answer: &Response, now: UnixTime) -> Option<Duration> {
    let text = |name: &str| answer.header(name).map(str::trim);
    let until = |second: u64| second.saturating_sub(now.secs());
    let date = |text: &str| {
        let since = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(until(since.as_secs()))
    };
    let seconds = text("retry-after").and_then(|text| text.parse().ok().or_else(|| date(text)));
    let seconds = seconds.or_else(|| text("x-rate-limit-reset")?.parse().ok().map(until))?;
    Some(Duration::from_secs(seconds.clamp(1, LONGEST_PAUSE)))
}

/// The first of the provider's own codes.
fn numbers(body: Option<&Object<'_>>) -> Vec<u32> {
    let listed = body.and_then(|body| body.get("error_codes")).and_then(Value::as_array);
    listed.into_iter().flatten().take(4).filter_map(|number| u32::try_from(number.as_u64()?).ok()).collect()
}

/// What names a request in the provider's own logs, from the header of its answer; empty if nothing does.
pub fn trace_of(provider: &Provider, target: Option<&ExchangeTarget>, reply: &CalloutResult) -> Box<str> {
    let client = target.and_then(|target| target.issued_to(provider));
    match reply {
        CalloutResult::Response(answer) => trace(Asked { provider, client }, answer, None),
        CalloutResult::Failed(_) => "".into(),
    }
}

fn trace(asked: Asked<'_>, answer: &Response, body: Option<&Object<'_>>) -> Box<str> {
    let in_body = |name: &str| body.and_then(|body| body.string(name));
    let mut fields = asked.provider.profile.trace_fields().iter();
    let found = fields.find_map(|name| in_body(name).or_else(|| answer.header(name)));
    found.map(|text| asked.printable(text)).unwrap_or_default().into()
}

/// Whom a request was to, and the client that it was made for.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) provider: &'a Provider,
    pub(crate) client: Option<&'a Client>,
}

impl Asked<'_> {
    /// At most 64 characters of which codes and ids are made; none of a text that repeats a client's secret.
    fn printable(self, text: &str) -> String {
        let clients = [self.client, self.provider.client.as_ref()].into_iter().flatten();
        let mut secrets = clients.filter_map(|client| client.authentication.secret());
        if secrets.any(|secret| remedies::has(text, secret)) {
            return String::new();
        }
        text.chars().filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c)).take(64).collect()
    }
}
