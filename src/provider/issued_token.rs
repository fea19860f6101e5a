//! Inspection of issued tokens: a token may be useless for the upstream, or dangerous.
//!
//! A token that this proxy itself accepts must not reach an upstream, which could present it here as the user, for any
//! resource. A provider that ignores the requested audience issues such tokens with status 200. So the claims of a
//! compact JWS are inspected. The signature is not verified, because the claims grant nothing. Encrypted and opaque
//! tokens are not inspected, nor tokens whose JSON is not read here: this proxy does not accept them from callers either.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::NO_PAD;

#[cfg(doc)]
use crate::jose::Claims;
use crate::jose::{self, AUDIENCE};
use crate::json::{self, Object};
use crate::provider::token_kind::{TokenKind, kind_of};
use crate::provider::unusable_token::UnusableResponse;
use crate::provider::{IssuerMatch, Provider, TokenExchangeTarget, TokenRequest, UnusableToken};
use crate::time::UnixTime;

/// Tokens that this proxy accepts from callers of one provider, at any resource.
#[derive(Debug)]
pub struct Accepted<'a> {
    /// Provider of the tokens.
    pub provider: &'a Provider,
    /// Values of `aud`.
    pub audiences: Vec<&'a str>,
}

/// Lenient base64url: readers differ in strictness, and this one decodes what any of them decodes.
const LENIENT: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

/// Returns the decoded header and payload of a compact JWS (RFC 7515 section 3.1).
pub(super) fn decode(token: &str) -> Option<[Vec<u8>; 2]> {
    let mut segments = token.split('.');
    let [header, payload, _signature] = [segments.next()?, segments.next()?, segments.next()?];
    if segments.next().is_some() {
        return None;
    }
    let decode = |segment: &str| LENIENT.decode(segment.trim_end_matches('=')).ok();
    Some([decode(header)?, decode(payload)?])
}

/// Returns the signing input of a compact JWS: header and payload, separated by a dot (RFC 7515 section 2).
fn signing_input(token: &str) -> Option<&str> {
    token.rsplit_once('.').map(|(input, _)| input).filter(|input| input.contains('.'))
}

/// Inspects the token of a response to `request`, and returns its `exp`, if it is readable. Error: the token must not be
/// used.
pub(super) fn inspect(
    request: &TokenRequest<'_>,
    token: &str,
    accepted: &[Accepted<'_>],
    now: UnixTime,
) -> Result<Option<UnixTime>, UnusableResponse> {
    // A token of the request may come back with another signature, or as a part of a longer text.
    if request.tokens_sent().filter_map(signing_input).any(|input| token.contains(input)) {
        return Err(UnusableToken::HandedBack.into());
    }
    let Some([header, payload]) = decode(token) else {
        return Ok(None);
    };
    let (Some(header), Some(claims)) = (json::object(&header), json::object(&payload)) else {
        return Ok(None);
    };
    let subject = decode(request.subject.token);
    let subject = subject.as_ref().and_then(|[_, payload]| json::object(payload));
    if subject.as_ref() == Some(&claims) {
        return Err(UnusableToken::HandedBack.into());
    }
    if request.provider.profile.is_id_token(&claims) {
        return Err(UnusableToken::IdToken.into());
    }
    check_kind(&header, &claims, request.is_for_id_jag())?;
    let expires = jose::numeric_date(&claims, "exp").ok().flatten();
    if expires.is_some_and(|expires| expires <= now) {
        return Err(UnusableToken::Expired.into());
    }
    check_audience(request, &claims, subject.as_ref(), accepted)?;
    if subject.is_some_and(|subject| request.provider.profile.is_of_another_user(&claims, &subject)) {
        return Err(UnusableToken::OfAnotherUser.into());
    }
    Ok(expires)
}

/// Refuses a token for this proxy, unless the target names each of this proxy's audiences in it.
fn check_audience(
    request: &TokenRequest<'_>,
    claims: &Object<'_>,
    subject: Option<&Object<'_>>,
    accepted: &[Accepted<'_>],
) -> Result<(), UnusableResponse> {
    let TokenRequest { provider, target, .. } = *request;
    let issuer = claims.string("iss").unwrap_or_default();
    let audiences = claims.texts(AUDIENCE);
    let is_requested = |audience: &&str| requests(provider, target, audience);
    let mut is_for_this_proxy = false;
    for Accepted { provider: of, audiences: own } in accepted {
        // A resource authorization server issues tokens under an issuer of its own.
        let is_issuer = std::ptr::eq(*of, provider) && request.resource_server().is_none();
        if is_issuer || matches!(of.profile.match_issuer(of, issuer, claims), IssuerMatch::Match { .. }) {
            let acceptable = accepted_audiences(of, claims, own);
            // An audience that was requested stands for itself only: resources may have audiences of their own.
            if let Some(audience) = acceptable.iter().find(|audience| !is_requested(audience)) {
                let audience = Some((*audience).to_owned());
                return Err(UnusableResponse { problem: UnusableToken::ForThisProxy, audience });
            }
            is_for_this_proxy |= !acceptable.is_empty();
        }
    }
    if let (false, Some(subject), Some(audience)) = (is_for_this_proxy, subject, audiences.first())
        && subject.present("iss").is_some()
        && subject.get("iss") == claims.get("iss")
        && !audiences.iter().all(is_requested)
        && is_same_set(audiences.clone(), subject.texts(AUDIENCE))
    {
        let audience = Some((*audience).to_owned());
        return Err(UnusableResponse { problem: UnusableToken::ForSameAudience, audience });
    }
    Ok(())
}

/// Returns `true` if the target names `audience`, or a scope below it.
fn requests(provider: &Provider, target: &TokenExchangeTarget, audience: &str) -> bool {
    let is_it = |name: &str| provider.profile.is_same_audience(name, audience);
    let of_scope = |scope: &str| scope.rsplit_once('/').is_some_and(|(resource, _)| is_it(resource));
    target.audiences.iter().chain(&target.resources).any(|name| is_it(name))
        || target.scope.as_deref().unwrap_or_default().split(' ').any(of_scope)
        || target.parameters.iter().any(|(_, value)| is_it(value.reveal()))
}

/// Returns the audiences by which the provider's callers could present the token here, as [`Claims::is_for`] decides it. `aud`
/// counts if the token has it, because an exchange requests nothing else.
fn accepted_audiences<'a>(provider: &Provider, claims: &Object<'_>, own: &[&'a str]) -> Vec<&'a str> {
    let of = |name: &str| -> Vec<&'a str> {
        // A provider chooses these texts, and an operator the others: comparing each with each would be work for both.
        let mut present = claims.texts(name);
        present.sort_unstable();
        own.iter().copied().filter(|audience| present.binary_search(audience).is_ok()).collect()
    };
    match &provider.audience_claim {
        Some(name) if claims.present(AUDIENCE).is_none() => of(name),
        Some(name) if of(name).is_empty() => Vec::new(),
        _ => of(AUDIENCE),
    }
}

fn is_same_set<'a>(mut one: Vec<&'a str>, mut other: Vec<&'a str>) -> bool {
    for audiences in [&mut one, &mut other] {
        audiences.sort_unstable();
        audiences.dedup();
    }
    one == other
}

/// Refuses a JWT whose header or claims mark another kind of token than an access token. An ID-JAG is right only as the
/// response to the ID-JAG request.
fn check_kind(header: &Object<'_>, claims: &Object<'_>, is_for_id_jag: bool) -> Result<(), UnusableToken> {
    let media_type = jose::media_type(header.string("typ").unwrap_or_default());
    // Its other signs count.
    let media_type = Some(&*media_type).filter(|name| !(is_for_id_jag && *name == "oauth-id-jag+jwt"));
    match kind_of(media_type, claims) {
        Some((TokenKind::Id, _)) => Err(UnusableToken::IdToken),
        Some((TokenKind::Other, _)) => Err(UnusableToken::OtherKind),
        Some((TokenKind::Access, _)) | None => Ok(()),
    }
}
