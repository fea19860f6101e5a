//! Token endpoint error: the cause of a failed token request, its class, and the facts for the log.
//!
//! The [rules](crate::provider::error_rules) decide from [`ErrorSigns`] only. Numbers and descriptions are for humans and
//! change; they select a sentence of the [catalogue](crate::provider::KnownError), and a description can clear the subject
//! token of a suspicion (docs/adr/0028). Of the provider's texts, the log has
//! error codes, a trace id, and the description if the operator wants it; the caller gets a claims challenge, and a URL for
//! the user if it is at the provider.

use std::fmt;
use std::time::Duration;

use crate::http::{CalloutFailure, Response};
use crate::json::{self, Object, Value};
use crate::provider::known_secrets::KnownSecrets;
use crate::provider::remedies::{self, ErrorDetails};
use crate::provider::unusable_token::UnusableResponse;
use crate::provider::{ErrorClass, ErrorSigns, KnownError, Provider, Responsible, error_class};
use crate::secret::is_plain;
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

/// Maximum length of an error code in the log, in characters.
const MAX_CODE: usize = 64;

/// Maximum length of `error_description` in the log, in characters.
const MAX_DESCRIPTION: usize = 256;

/// Header fields with the end of the window of a rate limit.
const RESET_FIELDS: [&str; 3] = [UNIX_TIME_FIELD, "ratelimit-reset", "x-ratelimit-reset"];

/// The one of these fields that always has a Unix time.
const UNIX_TIME_FIELD: &str = "x-rate-limit-reset";

/// Minimum number in the other fields that is a Unix time, in seconds: no window is 30 years long.
const FIRST_UNIX_TIME: u64 = 1_000_000_000;

/// Members with the code of an error that is no OAuth error response, or that has status 2xx.
const ODD_CODES: [&str; 5] = ["error", "errorCode", "error_code", "errorcode", "code"];

/// Members that have a code only in an object within the response.
const INNER_CODES: [&str; 3] = ["status", "type", "reason"];

/// Members with objects and lists in which codes stand, as of GitHub, Google, SAP, Microsoft Graph and GraphQL.
const WITH_CODES: [&str; 9] =
    ["error", "errors", "fault", "detail", "details", "innerError", "innererror", "errordetails", "extensions"];

/// Maximum number of objects and lists around a code.
const MAX_DEPTH: usize = 6;

/// Maximum number of codes of an odd error in the log, and of items of a list that are read.
const MAX_CODES: usize = 6;

/// Members of a response that are read from an error, and of a success that is none.
pub(super) const MEMBERS: [&str; 6] =
    ["error", "error_description", "suberror", "error_codes", "claims", "interaction_uri"];

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
    /// Status of the response. `None`: no response arrived.
    status: Option<u16>,
    error: Box<str>,
    codes: Box<str>,
    /// Id of the request in the logs of the provider, and audience of the token, if that is wrong.
    facts: Detail,
    known: Option<&'static KnownError>,
    /// Party that must act, if no entry of the catalogue fits.
    responsible: Responsible,
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
            self.responsible = Responsible::Operator;
            // A remedy for the caller's token does not apply here.
            self.known = self.known.filter(|known| known.responsible == Responsible::Operator);
            self.claims = None;
            self.interaction_uri = None;
        }
        self.is_of_resource_server = true;
        self
    }

    /// Returns `true` if the provider limits the rate of requests (RFC 6585 section 4): those of one user, or all of the client.
    pub fn is_rate_limit(&self) -> bool {
        self.status == Some(429)
    }

    /// Returns `true` if client authentication failed (RFC 6749 section 5.2).
    pub fn is_invalid_client(&self) -> bool {
        self.class == ErrorClass::ClientAuthentication
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

    /// Describes a response with status 2xx that is unusable.
    pub(super) fn unusable_response(
        unusable: UnusableResponse,
        secrets: KnownSecrets<'_>,
        response: &Response,
    ) -> Self {
        let UnusableResponse { problem, audience } = unusable;
        // Some servers send their errors with status 200.
        let facts = facts(secrets, response, None).with(Fact::Audience, audience.unwrap_or_default());
        let codes = codes(secrets, Some(response));
        let known = remedies::of_unusable_token(problem);
        let error = Self::without_error(ErrorClass::InvalidResponse, Some(response.status), problem.text(), known);
        Self { facts, codes, ..error }
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
        detail.add(Fact::Responsible, self.known.map_or(self.responsible, |known| known.responsible).text());
        detail.add(Fact::Remedy, self.known.map_or("", |known| known.remedy));
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
            responsible: class.responsible(),
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
    let description = member("error_description").unwrap_or_default();
    let claims =
        member("claims").filter(|text| text.len() <= MAX_CLAIMS_BYTES && json::object(text.as_bytes()).is_some());
    let signs = ErrorSigns {
        status,
        error,
        suberror: member("suberror").filter(|text| !text.is_empty()),
        has_claims: claims.is_some(),
        has_worked: secrets.request.has_worked
            && secrets.request.can_blame_subject_token()
            && !remedies::excuses_subject_token(profile, error, description),
    };
    let rule = error_class::rule(profile, &signs);
    let class = rule.class;
    let numbers = numbers(body);
    let details = ErrorDetails { class, signs, numbers: &numbers, description };
    let interaction_uri = member("interaction_uri").filter(|text| is_at_provider(text, provider));
    TokenEndpointError {
        class,
        retry_after: retry_after(response, class, now),
        claims: claims.map(str::to_owned),
        interaction_uri: interaction_uri.map(Into::into),
        status: Some(status),
        error: match error {
            "" => "not an OAuth error response".into(),
            error => secrets.shown(error, MAX_CODE).into(),
        },
        codes: codes(secrets, error.is_empty().then_some(response)),
        facts: facts(secrets, response, body),
        known: remedies::find(profile, &details),
        responsible: rule.responsible,
        is_of_resource_server: false,
    }
}

/// Facts for the log about a response: trace id, content coding and description. `body`: part of the response in which a
/// trace id is looked for.
fn facts(secrets: KnownSecrets<'_>, response: &Response, body: Option<&Object<'_>>) -> Detail {
    let description = secrets.body.and_then(|body| body.string("error_description"));
    let description = description.filter(|_| secrets.request.shows_descriptions);
    Detail::new()
        .with(Fact::ProviderTraceId, trace(secrets, response, body).into_string())
        .with(
            Fact::ContentEncoding,
            response.content_coding().map_or_else(String::new, |coding| secrets.printable(coding)),
        )
        .with(Fact::ErrorDescription, description.map_or_else(String::new, |text| secrets.shown(text, MAX_DESCRIPTION)))
}

/// Returns the further codes of a response: numbers, `suberror`, and those of `odd`, a response that is no OAuth error response.
fn codes(secrets: KnownSecrets<'_>, odd: Option<&Response>) -> Box<str> {
    let body = secrets.body;
    let mut codes: Vec<String> = numbers(body).iter().map(u32::to_string).collect();
    codes.extend(body.and_then(|body| body.string("suberror")).map(|text| secrets.shown(text, MAX_CODE)));
    // The tokens of a success that cannot be read are not known, so nothing can be compared with them.
    if let Some(odd) = odd.filter(|odd| body.is_some() || !(200..=299).contains(&odd.status)) {
        let mut found = Vec::new();
        odd_codes(&String::from_utf8_lossy(&odd.body), false, MAX_DEPTH, &mut found);
        codes.extend(found.iter().map(|text| secrets.shown(text, MAX_CODE)));
    }
    codes.retain(|code| !code.is_empty());
    codes.join(",").into()
}

/// Adds the codes of an object or list to `found`. Parts that cannot be read hide no others: nothing rests on a code.
fn odd_codes(text: &str, is_inner: bool, depth: usize, found: &mut Vec<String>) {
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    for item in json::raw_items(text).unwrap_or_default().into_iter().take(MAX_CODES) {
        odd_codes(item, is_inner, depth, found);
    }
    for (name, value) in json::raw_members(text).unwrap_or_default() {
        if found.len() >= MAX_CODES {
            return;
        }
        let is = |names: &[&str]| names.contains(&&*name);
        if is(&ODD_CODES) || (is_inner && is(&INNER_CODES)) {
            match json::scalar(value) {
                // Some servers write a sentence here.
                Some(Value::String(text)) if name == "reason" && (!is_plain(&text) || text.contains(' ')) => {}
                Some(Value::String(text)) => found.push(text.into_owned()),
                Some(Value::Number(number)) => found.push(number.to_string()),
                _ => {}
            }
        }
        if is(&WITH_CODES) {
            odd_codes(value, true, depth, found);
        }
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
    url.scheme() == "https"
        && (provider.issuer.url().is_some_and(is_of) || provider.token_endpoint.as_ref().is_some_and(is_of))
}

/// Reads `retry-after` (RFC 9110 section 10.2.3), in seconds or as a date. A throttling provider may send the end of the
/// window instead; others send that with every response, where it means nothing.
fn retry_after(response: &Response, class: ErrorClass, now: UnixTime) -> Option<Duration> {
    let text = |name: &str| response.header(name).map(str::trim);
    let until = |second: u64| second.saturating_sub(now.secs());
    let date = |text: &str| {
        let since = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(until(since.as_secs()))
    };
    // Okta sends a Unix time in the first field. In the others, Auth0 and GitLab send a Unix time, and
    // draft-ietf-httpapi-ratelimit-headers, Envoy and Kong send seconds.
    let reset = |name: &&str| {
        let number: u64 = text(name)?.split('.').next()?.parse().ok()?;
        let is_time = *name == UNIX_TIME_FIELD || number >= FIRST_UNIX_TIME;
        Some(if is_time { until(number) } else { number })
    };
    let seconds = text("retry-after").and_then(|text| text.parse().ok().or_else(|| date(text)));
    let resets = RESET_FIELDS.iter().filter(|_| class == ErrorClass::Throttled);
    let seconds = seconds.or_else(|| resets.into_iter().find_map(reset))?;
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
