//! Token response: reading of a successful response (RFC 6749 section 5.1, RFC 8693 section 2.2.1).

use std::time::Duration;

use crate::http::{Response, Scheme, is_b64token};
use crate::json::{Object, Value};
use crate::provider::known_secrets::KnownSecrets;
use crate::provider::unusable_token::UnusableResponse;
use crate::provider::{Accepted, Grant, Hop, TokenRequest, TokenType, UnusableToken, issued_token, oauth, token_error};
use crate::secret::Secret;
use crate::time::UnixTime;

/// Lifetime of a token without `expires_in`, which RFC 6749 section 5.1 only recommends.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);

/// Maximum lifetime of a token in seconds; a longer one is shortened.
const MAX_LIFETIME: f64 = 7.0 * 24.0 * 3600.0;

/// Maximum length of a token in bytes. Servers accept header sections of 8 to 60 KiB.
const MAX_TOKEN_BYTES: usize = 32 * 1024;

/// Maximum length of the granted scopes in the log, in characters.
const MAX_SCOPE: usize = 512;

/// Members of a response that are read from a success.
pub(super) const MEMBERS: [&str; 8] = [
    "access_token",
    "token_type",
    "issued_token_type",
    "expires_in",
    "refresh_in",
    "scope",
    // Only compared with what would be logged.
    "refresh_token",
    "id_token",
];

/// Issued token.
#[derive(Debug)]
pub struct Issued {
    /// Token, safe in a header field.
    pub access_token: Secret,
    /// Authentication scheme of the token.
    pub scheme: Scheme,
    /// Lifetime from the response on.
    pub lifetime: Duration,
    /// `exp` of a token that is a readable JWT.
    pub expires: Option<UnixTime>,
    /// Time after which the provider recommends a renewal (`refresh_in`).
    pub refresh_in: Option<Duration>,
    /// Id of the request in the provider's log, safe in this proxy's log; empty if the response has none.
    pub trace_id: Box<str>,
    /// Scopes that the response names, separated by spaces, for the log. Empty: it names none, so those of the request are
    /// granted (RFC 6749 section 5.1).
    pub granted_scopes: Box<str>,
    /// Requested scopes that are not among them.
    pub missing_scopes: Box<str>,
}

impl Issued {
    /// Returns the end of a token whose lifetime began at `start`: the earlier of `exp` and the end of `lifetime`.
    pub fn end(&self, start: UnixTime) -> UnixTime {
        let end = start.plus(self.lifetime);
        self.expires.map_or(end, |expires| expires.min(end))
    }
}

/// Reads a response with status 2xx to the request of `secrets`, which have its body.
pub(super) fn read(
    secrets: KnownSecrets<'_>,
    response: &Response,
    accepted: &[Accepted<'_>],
    now: UnixTime,
) -> Result<Issued, UnusableResponse> {
    let request = secrets.request;
    let Some(body) = secrets.body else {
        let is_encoded = response.content_coding().is_some();
        return Err(if is_encoded { UnusableToken::Encoded } else { UnusableToken::NotJson }.into());
    };
    let access_token = body.string("access_token").ok_or(UnusableToken::Missing)?;
    if !is_b64token(access_token.as_bytes()) {
        return Err(UnusableToken::UnsafeInHeader.into());
    }
    if access_token.len() > MAX_TOKEN_BYTES {
        return Err(UnusableToken::TooLong.into());
    }
    if request.tokens_sent().any(|sent| access_token == sent) {
        return Err(UnusableToken::HandedBack.into());
    }
    let scheme = scheme(request, body)?;
    check_issued_token_type(request, body)?;
    let expires = issued_token::inspect(request, access_token, accepted, now)?;
    let lifetime = match body.get("expires_in") {
        None => DEFAULT_LIFETIME,
        Some(value) => seconds(value)?,
    };
    let refresh_in = body.get("refresh_in").and_then(|value| seconds(value).ok());
    let trace_id = token_error::trace(secrets, response, None);
    // Some servers send a list.
    let granted = body.texts("scope").join(" ").trim().to_owned();
    let missing = if granted.is_empty() { String::new() } else { missing_scopes(request, &granted) };
    Ok(Issued {
        access_token: Secret::new(access_token.to_owned()),
        scheme,
        lifetime,
        expires,
        refresh_in,
        trace_id,
        granted_scopes: secrets.shown(&granted, MAX_SCOPE).into(),
        missing_scopes: missing.into(),
    })
}

/// Returns the requested scopes that were not granted, separated by spaces.
fn missing_scopes(request: &TokenRequest<'_>, granted: &str) -> String {
    let profile = request.provider.profile;
    let requested = request.target.scope.as_deref().unwrap_or_default().split_ascii_whitespace();
    let is_missing = |scope: &&str| !granted.split_ascii_whitespace().any(|other| profile.grants_scope(scope, other));
    requested.filter(is_missing).collect::<Vec<_>>().join(" ")
}

/// Returns the scheme of the token (RFC 6749 section 7.1), if it is the scheme of the target.
fn scheme(request: &TokenRequest<'_>, body: &Object<'_>) -> Result<Scheme, UnusableToken> {
    let token_type = body.string("token_type").unwrap_or_default();
    let is = |scheme: Scheme| token_type.eq_ignore_ascii_case(scheme.name());
    if request.is_for_id_jag() {
        // RFC 8693 section 2.2.1: `N_A`, as an ID-JAG is no access token. Some servers send Bearer.
        let is_known = token_type.eq_ignore_ascii_case("N_A") || is(Scheme::Bearer);
        return if is_known { Ok(Scheme::Bearer) } else { Err(UnusableToken::NotIdJag) };
    }
    match &request.target.token_type {
        TokenType::Bearer if is(Scheme::Bearer) => Ok(Scheme::Bearer),
        TokenType::Dpop { .. } if is(Scheme::Dpop) && request.has_proof() => Ok(Scheme::Dpop),
        TokenType::Bearer if is(Scheme::Dpop) => Err(UnusableToken::Bound),
        TokenType::Dpop { .. } if is(Scheme::Bearer) => Err(UnusableToken::Unbound),
        TokenType::Bearer => Err(UnusableToken::NotBearer),
        TokenType::Dpop { .. } => Err(UnusableToken::NotDpop),
    }
}

/// Checks `issued_token_type`. RFC 8693 section 2.2.1 requires it, and RFC 7523 does not have it: if it is present, it
/// must be right. An ID-JAG must have it. A JWT may be issued in place of an access token.
fn check_issued_token_type(request: &TokenRequest<'_>, body: &Object<'_>) -> Result<(), UnusableToken> {
    let issued = body.get("issued_token_type").map(|issued| issued.as_str().unwrap_or_default());
    let is_right = if request.is_for_id_jag() {
        issued == Some(oauth::ID_JAG)
    } else {
        let requested = match (&request.target.grant, request.hop) {
            (Grant::TokenExchange { requested_token_type: Some(requested), .. }, Hop::IdentityProvider) => {
                requested.urn()
            }
            _ => oauth::ACCESS_TOKEN,
        };
        issued.is_none_or(|issued| issued == requested || issued == oauth::JWT)
    };
    if is_right { Ok(()) } else { Err(UnusableToken::WrongType) }
}

/// Reads a positive number of seconds, and drops the fraction. Some servers send a string.
fn seconds(value: &Value<'_>) -> Result<Duration, UnusableToken> {
    let parsed = match value {
        Value::String(text) => serde_json::from_str(text.trim()).ok(),
        _ => None,
    };
    let number = parsed.as_ref().unwrap_or(value).as_f64().ok_or(UnusableToken::Lifetime)?;
    // `Duration` takes no negative number, and the maximum bounds the others.
    let seconds = Duration::from_secs_f64(number.clamp(0.0, MAX_LIFETIME)).as_secs();
    if seconds == 0 { Err(UnusableToken::NoLifetime) } else { Ok(Duration::from_secs(seconds)) }
}
