//! Issued tokens, as far as they can be read: one may be of no use to its upstream, or of too much.
//!
//! A token that is good for this proxy itself must not go on: whoever gets it could come back with it as that user, to
//! any resource. A provider that ignores what it is asked for issues such tokens with 200. So a token that is a JWS in compact
//! serialisation is looked at. Its signature is not verified, because nothing of what it says gives anybody anything.
//! Tokens that are encrypted or opaque are not looked at, nor one whose JSON is not read here: as a caller's it would not
//! be accepted either.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::NO_PAD;

use crate::jose;
use crate::json::{self, Object, Value};
use crate::provider::{ExchangeTarget, IssuerMatch, Provider, TokenRequest};
use crate::time::UnixTime;

/// Problems of a token that have an entry each in the catalogue.
pub(crate) const HANDED_BACK: &str = "the token that was handed in came back";
pub(crate) const FOR_THIS_PROXY: &str = "the token is for this proxy itself, and so for all that it guards";
pub(crate) const FOR_THE_SAME: &str = "the token has the issuer and the audience of the one that was handed in";
pub(crate) const EXPIRED: &str = "the token has expired before it came";
pub(crate) const ID_TOKEN: &str = "the token is an ID token";
pub(crate) const NO_ACCESS_TOKEN: &str = "the token is of another kind, such as a refresh token or a logout token";
pub(crate) const OF_ANOTHER: &str = "the token is of another user";

/// A provider, and what `aud` of a token of its may be to come in here, at whichever resource.
#[derive(Debug)]
pub struct Accepted<'a> {
    /// The provider of the tokens.
    pub provider: &'a Provider,
    /// The values of `aud`.
    pub audiences: Vec<&'a str>,
}

/// A problem of an answer.
pub(crate) struct Problem {
    /// The text by which the catalogue knows it.
    pub(crate) text: &'static str,
    /// The audience that is wrong: one of ours, or of the token that was handed in.
    pub(crate) audience: String,
}

impl From<&'static str> for Problem {
    fn from(text: &'static str) -> Self {
        Self { text, audience: String::new() }
    }
}

/// Readers differ in how strict they are, so this one takes what any of them may.
const LENIENT: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

/// Header and payload of a JWS in compact serialisation (RFC 7515 section 3.1), decoded.
fn decoded(token: &str) -> Option<[Vec<u8>; 2]> {
    let mut segments = token.split('.');
    let [header, payload, _signature] = [segments.next()?, segments.next()?, segments.next()?];
    if segments.next().is_some() {
        return None;
    }
    let decode = |segment: &str| LENIENT.decode(segment.trim_end_matches('=')).ok();
    Some([decode(header)?, decode(payload)?])
}

/// The signing input of a JWS: header and payload with the dot between (RFC 7515 section 2).
fn signing_input(token: &str) -> Option<&str> {
    token.rsplit_once('.').map(|(input, _)| input).filter(|input| input.contains('.'))
}

/// Looks at a token that `request` has brought, and gives its `exp`, if it can be read. The error: it must not go on.
pub(crate) fn look(
    request: &TokenRequest<'_>,
    token: &str,
    accepted: &[Accepted<'_>],
    now: UnixTime,
) -> Result<Option<UnixTime>, Problem> {
    let handed_in = || [Some(request.subject.token), request.assertion_of_first()].into_iter().flatten();
    // The token that was handed in may come back with another signature, or as a part of a longer text.
    if handed_in().filter_map(signing_input).any(|input| token.contains(input)) {
        return Err(HANDED_BACK.into());
    }
    let Some([header, payload]) = decoded(token) else {
        return Ok(None);
    };
    let (Some(header), Some(claims)) = (json::object(&header), json::object(&payload)) else {
        return Ok(None);
    };
    let subject = decoded(request.subject.token);
    let subject = subject.as_ref().and_then(|[_, payload]| json::object(payload));
    if subject.as_ref() == Some(&claims) {
        return Err(HANDED_BACK.into());
    }
    if request.provider.profile.is_id_token(&claims) {
        return Err(ID_TOKEN.into());
    }
    if let Some(problem) = other_kind(&header, &claims, request.is_first_of_two()) {
        return Err(problem.into());
    }
    let expires = jose::numeric_date(&claims, "exp").ok().flatten();
    if expires.is_some_and(|expires| expires <= now) {
        return Err(EXPIRED.into());
    }
    check_audience(request, &claims, subject.as_ref(), accepted)?;
    if subject.is_some_and(|subject| request.provider.profile.is_of_another_user(&claims, &subject)) {
        return Err(OF_ANOTHER.into());
    }
    Ok(expires)
}

/// A token for this proxy is refused, unless it was asked for by one of this proxy's names.
fn check_audience(
    request: &TokenRequest<'_>,
    claims: &Object<'_>,
    subject: Option<&Object<'_>>,
    accepted: &[Accepted<'_>],
) -> Result<(), Problem> {
    let TokenRequest { provider, target, .. } = *request;
    let issuer = claims.string("iss").unwrap_or_default();
    let audiences = audiences(claims);
    // One of this proxy's names stands for all of them.
    let is_asked = |ours: &[&str]| ours.iter().any(|name| asks_for(provider, target, name));
    let mut is_wanted = false;
    for Accepted { provider: of, audiences: ours } in accepted {
        // The authorization server of a resource has names of its own for what it issues tokens for.
        let is_own = std::ptr::eq(*of, provider) && !request.is_second();
        if (is_own || matches!(of.profile.match_issuer(of, issuer, claims), IssuerMatch::Match { .. }))
            && let Some(audience) = audiences.iter().find(|audience| ours.contains(audience))
        {
            if !is_asked(ours) {
                return Err(Problem { text: FOR_THIS_PROXY, audience: (*audience).to_owned() });
            }
            is_wanted = true;
        }
    }
    if let (false, Some(subject), Some(audience)) = (is_wanted, subject, audiences.first())
        && subject.has("iss")
        && subject.get("iss") == claims.get("iss")
        && !is_asked(&audiences)
        && is_same_set(audiences.clone(), self::audiences(subject))
    {
        return Err(Problem { text: FOR_THE_SAME, audience: (*audience).to_owned() });
    }
    Ok(())
}

/// A target asks for `audience` if it names it, or scopes below it.
fn asks_for(provider: &Provider, target: &ExchangeTarget, audience: &str) -> bool {
    let is_it = |name: &str| provider.profile.is_same_audience(name, audience);
    let of_scope = |scope: &str| scope.rsplit_once('/').is_some_and(|(resource, _)| is_it(resource));
    target.audiences.iter().chain(&target.resources).any(|name| is_it(name))
        || target.scope.as_deref().unwrap_or_default().split(' ').any(of_scope)
        || target.parameters.iter().any(|(_, value)| is_it(value.reveal()))
}

/// `aud`: one or several.
fn audiences<'a>(claims: &'a Object<'_>) -> Vec<&'a str> {
    match claims.get("aud") {
        Some(Value::String(audience)) => vec![audience.as_ref()],
        Some(Value::Array(audiences)) => audiences.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_same_set<'a>(mut one: Vec<&'a str>, mut other: Vec<&'a str>) -> bool {
    for audiences in [&mut one, &mut other] {
        audiences.sort_unstable();
        audiences.dedup();
    }
    one == other
}

/// Claims tell that a token is no access token. An ID token is told by its claims (OpenID Connect Core sections 2 and
/// 3.3.2.11), but a `nonce` alone stands in access tokens, too, which say that they are some. An assertion (ID-JAG) is right where it
/// is what the first of two requests brings.
fn other_kind(header: &Object<'_>, claims: &Object<'_>, wants_assertion: bool) -> Option<&'static str> {
    let lower = |object: &Object<'_>, name: &str| object.string(name).unwrap_or_default().to_ascii_lowercase();
    let (media_type, kind, usage) = (lower(header, "typ"), lower(claims, "typ"), lower(claims, "token_use"));
    let media_type = media_type.strip_prefix("application/").unwrap_or(&media_type);
    let is_access_token = media_type == "at+jwt" || kind == "bearer" || usage == "access";
    if kind == "id"
        || usage == "id"
        || claims.has("at_hash")
        || claims.has("c_hash")
        || (claims.has("nonce") && !is_access_token)
    {
        return Some(ID_TOKEN);
    }
    let is_of_another_kind = match media_type {
        "logout+jwt" | "secevent+jwt" | "dpop+jwt" | "oauth-authz-req+jwt" | "token-introspection+jwt" => true,
        "oauth-id-jag+jwt" => !wants_assertion,
        _ => claims.has("events"),
    };
    let is_for_the_client = matches!(&*kind, "refresh" | "offline" | "logout") || usage == "refresh";
    (is_of_another_kind || is_for_the_client).then_some(NO_ACCESS_TOKEN)
}
