//! Token response: reading of a successful response (RFC 6749 section 5.1, RFC 8693 section 2.2.1).

use std::time::Duration;

use crate::http::{Response, Scheme, is_b64token};
use crate::json::{Object, Value};
use crate::provider::token_error::{self, KnownSecrets};
use crate::provider::unusable_token::UnusableResponse;
use crate::provider::{Accepted, Grant, Hop, TokenRequest, TokenType, UnusableToken, issued_token, oauth};
use crate::secret::Secret;
use crate::time::UnixTime;

/// Lifetime of a token without `expires_in`, which RFC 6749 section 5.1 only recommends.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);

/// Maximum lifetime of a token in seconds; a longer one is shortened.
const MAX_LIFETIME: u64 = 7 * 24 * 3600;

/// Maximum length of a token in bytes. Servers accept header sections of 8 to 60 KiB.
const MAX_TOKEN_BYTES: usize = 32 * 1024;

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
}

impl Issued {
    /// Returns the end of a token whose lifetime began at `start`: the earlier of `exp` and the end of `lifetime`.
    pub fn end(&self, start: UnixTime) -> UnixTime {
        let end = start.plus(self.lifetime);
        self.expires.map_or(end, |expires| expires.min(end))
    }
}

/// Reads a response with status 200 to the request of `secrets`, which have its body.
pub(super) fn read(
    secrets: KnownSecrets<'_>,
    response: &Response,
    accepted: &[Accepted<'_>],
    now: UnixTime,
) -> Result<Issued, UnusableResponse> {
    let request = secrets.request;
    let body = secrets.body.ok_or(UnusableToken::NotJson)?;
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
        Some(value) => seconds(value).ok_or(UnusableToken::Lifetime)?,
    };
    let refresh_in = body.get("refresh_in").and_then(seconds);
    let trace_id = token_error::trace(secrets, response, None);
    Ok(Issued { access_token: Secret::new(access_token.to_owned()), scheme, lifetime, expires, refresh_in, trace_id })
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

/// Reads a positive number of whole seconds; some servers send a string.
fn seconds(value: &Value<'_>) -> Option<Duration> {
    let seconds = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    (seconds > 0).then(|| Duration::from_secs(seconds.min(MAX_LIFETIME)))
}
