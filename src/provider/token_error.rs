//! Token endpoint error: the cause of a failed token request, its class, and the facts for the log.
//!
//! Decisions depend on status, `error` and `suberror` only. Numbers and descriptions are for humans and change; they
//! select a sentence of the [catalogue](crate::provider::KnownError) only. Of the provider's texts, the log has the error
//! code and the trace id, reduced to harmless characters; the caller gets a claims challenge, and a URL for the user if
//! it is at the provider.

use std::fmt;
use std::time::Duration;

use crate::http::{CalloutFailure, Response};
use crate::json::{self, Object, Value};
use crate::provider::remedies::{self, ErrorDetails};
use crate::provider::unusable_token::UnusableResponse;
use crate::provider::{ErrorClass, KnownError, Provider, Responsible, TokenRequest};
use crate::telemetry::{Detail, Fact};
use crate::time::UnixTime;
use crate::url::Url;

/// Maximum pause that a throttling provider can impose, in seconds.
const MAX_RETRY_AFTER: u64 = 120;

/// Maximum length of a claims challenge for the caller, in bytes.
const MAX_CLAIMS_BYTES: usize = 4096;

/// Maximum length of a URL for the user, in bytes.
const MAX_URL_BYTES: usize = 2048;

/// Maximum number of `error_codes` that are read.
const MAX_NUMBERS: usize = 4;

/// Failed token request.
#[derive(Clone, Debug)]
pub struct TokenEndpointError {
    /// Class, by which the refusal is selected.
    pub class: ErrorClass,
    /// Pause that the provider requests before the next request.
    pub retry_after: Option<Duration>,
    /// Claims challenge for the caller: JSON text (OpenID Connect Core section 5.5).
    pub claims: Option<String>,
    /// URL at the provider where the user can act, for the caller; scheme `https`.
    pub interaction_uri: Option<Box<str>>,
    /// Status of the response. `None`: no usable response arrived.
    status: Option<u16>,
    error: Box<str>,
    codes: Box<str>,
    /// Id of the request in the logs of the provider, and audience of the token, if that is wrong.
    facts: Detail,
    known: Option<&'static KnownError>,
    /// The error is of the resource authorization server, not of the provider.
    is_of_resource_server: bool,
}

impl TokenEndpointError {
    /// Returns the error as one of the resource authorization server. It refuses an ID-JAG that the provider has just
    /// issued, so the caller cannot correct this with another token. A server on another host must not send users to
    /// sign in: they would return with the same ID-JAG, without end.
    pub(super) fn of_resource_server(mut self, is_other_host: bool) -> Self {
        if self.class == ErrorClass::Token || (is_other_host && self.class == ErrorClass::UserMustAct) {
            self.class = ErrorClass::Operator;
            // A remedy for the caller's token does not apply here.
            self.known = self.known.filter(|known| known.responsible == Responsible::Operator);
            self.claims = None;
            self.interaction_uri = None;
        }
        self.is_of_resource_server = true;
        self
    }

    /// Returns `true` if the provider limits the rate of all requests of the client (RFC 6585 section 4).
    pub fn is_rate_limit(&self) -> bool {
        self.status == Some(429)
    }

    /// Returns `true` if client authentication failed (RFC 6749 section 5.2).
    pub fn is_invalid_client(&self) -> bool {
        &*self.error == "invalid_client"
    }

    /// Returns `true` if the provider requires its nonce in the DPoP proof (RFC 9449 section 8).
    pub fn is_nonce_wanted(&self) -> bool {
        matches!(self.status, Some(400 | 401)) && &*self.error == "use_dpop_nonce"
    }

    /// Describes a failed callout.
    pub fn no_response(failure: CalloutFailure) -> Self {
        let class = ErrorClass::of_failure(failure);
        Self::without_error(class, None, failure.text(), remedies::of_failure(failure))
    }

    /// Adds the words with which Envoy answered in place of the provider.
    #[must_use]
    pub(super) fn with_words(mut self, words: &str) -> Self {
        self.facts.add(Fact::EnvoyReply, words.to_owned());
        self
    }

    /// Describes a response with status 200 that is unusable.
    pub(super) fn unusable_response(
        unusable: UnusableResponse,
        secrets: KnownSecrets<'_>,
        response: &Response,
    ) -> Self {
        let UnusableResponse { problem, audience } = unusable;
        let facts = Detail::new()
            .with(Fact::ProviderTraceId, trace(secrets, response, None).into_string())
            .with(Fact::Audience, audience.unwrap_or_default());
        let known = remedies::of_unusable_token(problem);
        let error = Self::without_error(ErrorClass::InvalidResponse, Some(response.status), problem.text(), known);
        Self { facts, ..error }
    }

    /// Facts for the log line: error code, status, the provider's own codes, its trace id, a wrong audience, who must act and
    /// what to do.
    #[inline(never)]
    pub fn detail(&self) -> Detail {
        let mut detail = Detail::new();
        if self.is_of_resource_server {
            detail.add(Fact::Leg, "2");
        }
        detail.add(Fact::Error, self.error.to_string());
        detail.add(Fact::Status, self.status.map_or_else(String::new, |status| status.to_string()));
        detail.add(Fact::ErrorCodes, self.codes.to_string());
        detail = detail.and(&self.facts);
        if let Some(known) = self.known {
            detail.add(Fact::Responsible, known.responsible.text());
            detail.add(Fact::Remedy, known.remedy);
        }
        detail
    }

    fn without_error(
        class: ErrorClass,
        status: Option<u16>,
        problem: &'static str,
        known: Option<&'static KnownError>,
    ) -> Self {
        Self {
            class,
            retry_after: None,
            claims: None,
            interaction_uri: None,
            status,
            error: problem.into(),
            codes: Box::default(),
            facts: Detail::new(),
            known,
            is_of_resource_server: false,
        }
    }
}

/// Part of a log line: the detail.
impl fmt::Display for TokenEndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.detail().fmt(f)
    }
}

/// Reads an error response (RFC 6749 section 5.2, RFC 8693 section 2.2.2).
pub(super) fn read(secrets: KnownSecrets<'_>, response: &Response, now: UnixTime) -> TokenEndpointError {
    let provider = secrets.request.provider;
    let profile = provider.profile;
    let status = response.status;
    let body = secrets.body;
    let member = |name: &str| body.and_then(|body| body.string(name));
    let error = member("error").unwrap_or_default();
    let suberror = member("suberror").filter(|text| !text.is_empty());
    let class = ErrorClass::of_response(profile, status, error, suberror);
    let numbers = numbers(body);
    let description = member("error_description").unwrap_or_default();
    let details = ErrorDetails { class, status, error, suberror, numbers: &numbers, description };
    let claims =
        member("claims").filter(|text| text.len() <= MAX_CLAIMS_BYTES && json::object(text.as_bytes()).is_some());
    let interaction_uri = member("interaction_uri").filter(|text| is_at_provider(text, provider));
    let mut codes: Vec<String> = numbers.iter().map(u32::to_string).collect();
    codes.extend(suberror.map(|suberror| secrets.printable(suberror)));
    TokenEndpointError {
        class,
        retry_after: retry_after(response, now),
        claims: claims.map(str::to_owned),
        interaction_uri: interaction_uri.map(Into::into),
        status: Some(status),
        error: match error {
            "" => "not an OAuth error response".into(),
            error => secrets.printable(error).into(),
        },
        codes: codes.join(",").into(),
        facts: Detail::new().with(Fact::ProviderTraceId, trace(secrets, response, body).into_string()),
        known: remedies::find(profile, &details),
        is_of_resource_server: false,
    }
}

/// Returns `true` if a user may be sent to this URL: scheme `https`, on the host of the issuer or of the token endpoint,
/// or below it. A sibling host may belong to anyone, because providers give each customer a name in one domain.
fn is_at_provider(text: &str, provider: &Provider) -> bool {
    let is_plain = |byte: u8| matches!(byte, b'!'..=b'~') && !b"\"'<>\\^`{|}".contains(&byte);
    if text.len() > MAX_URL_BYTES || !text.bytes().all(is_plain) {
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

/// Reads `retry-after` (RFC 9110 section 10.2.3), in seconds or as a date, or `x-rate-limit-reset`, the Unix time at
/// which the window of a rate limit ends.
fn retry_after(response: &Response, now: UnixTime) -> Option<Duration> {
    let text = |name: &str| response.header(name).map(str::trim);
    let until = |second: u64| second.saturating_sub(now.secs());
    let date = |text: &str| {
        let since = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(until(since.as_secs()))
    };
    let seconds = text("retry-after").and_then(|text| text.parse().ok().or_else(|| date(text)));
    let seconds = seconds.or_else(|| text("x-rate-limit-reset")?.parse().ok().map(until))?;
    Some(Duration::from_secs(seconds.clamp(1, MAX_RETRY_AFTER)))
}

/// Returns the first numbers of `error_codes`.
fn numbers(body: Option<&Object<'_>>) -> Vec<u32> {
    let listed = body.and_then(|body| body.get("error_codes")).and_then(Value::as_array);
    listed.into_iter().flatten().take(MAX_NUMBERS).filter_map(|number| u32::try_from(number.as_u64()?).ok()).collect()
}

/// Returns the trace id of a response, which identifies the request in the provider's log: a member of `body` or a header
/// field. Empty: none.
pub(super) fn trace(secrets: KnownSecrets<'_>, response: &Response, body: Option<&Object<'_>>) -> Box<str> {
    let in_body = |name: &str| body.and_then(|body| body.string(name));
    let mut fields = secrets.request.provider.profile.trace_fields().iter();
    let found = fields.find_map(|name| in_body(name).or_else(|| response.header(name)));
    found.map(|text| secrets.printable(text)).unwrap_or_default().into()
}

/// Secrets that a response of a token endpoint could repeat, and that must not reach the log: those of the clients, and the
/// tokens of request and response.
#[derive(Clone, Copy)]
pub(super) struct KnownSecrets<'a> {
    pub(super) request: &'a TokenRequest<'a>,
    /// Body of the response.
    pub(super) body: Option<&'a Object<'a>>,
}

impl KnownSecrets<'_> {
    /// Returns at most 64 characters of error codes and ids. A text that repeats a secret becomes empty.
    fn printable(self, text: &str) -> String {
        let Self { request, body } = self;
        let clients = std::iter::once(request.client()).chain(request.provider.client.as_deref());
        let of_clients = clients.map(|client| &client.authentication).flat_map(|authentication| {
            let previous = authentication.previous_secret().map(|secret| secret.reveal().as_bytes());
            authentication.secret().into_iter().chain(previous)
        });
        let issued = ["access_token", "refresh_token", "id_token"].into_iter();
        let issued = issued.filter_map(|name| body?.string(name)).filter(|token| !token.is_empty());
        let tokens = request.secrets_sent().chain(issued).map(str::as_bytes);
        if of_clients.chain(tokens).any(|secret| remedies::contains(text, secret)) {
            return String::new();
        }
        text.chars().filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c)).take(64).collect()
    }
}
