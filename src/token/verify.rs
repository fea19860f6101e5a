use std::time::Duration;

use super::{Claims, Compact, Key, TokenError};
use crate::crypto::{Algorithm, Crypto};
use crate::time::UnixTime;

/// What a token must say to be ours.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// `iss`, exactly.
    pub issuer: &'a str,
    /// One of these must be in `aud`.
    pub audiences: &'a [String],
    /// Values of `typ` that are accepted beside none at all, lower case.
    pub types: &'a [&'a str],
    /// How far clocks may differ.
    pub leeway: Duration,
}

/// Verifies a token with the key that its `kid` selected. In this order: kind, algorithm, issuer, the key's own
/// issuer, signature, times, what `examine` makes of the claims, audience. Nothing that the token says is acted upon
/// before its signature holds, except to choose the key.
///
/// `examine` says whose the token is, and refuses one of another kind. It comes before the audience because a token of
/// another kind mostly has another audience too, and its kind is what a person has to hear of.
pub fn verify<T>(
    compact: Compact<'_>,
    key: &Key,
    expected: Expected<'_>,
    crypto: &dyn Crypto,
    examine: impl FnOnce(&Claims) -> Result<T, TokenError>,
    now: UnixTime,
) -> Result<(Claims, T), TokenError> {
    if compact.header.media_type.as_deref().is_some_and(|typ| !expected.types.contains(&typ)) {
        return Err(TokenError::Type);
    }
    if Algorithm::from_name(&compact.header.algorithm) != Some(key.algorithm) {
        return Err(TokenError::Algorithm);
    }
    let claims = Claims::read(compact.claims)?;
    if claims.issuer != expected.issuer {
        return Err(TokenError::Issuer);
    }
    if !key.serves(&claims.issuer, claims.text("tid")) {
        return Err(TokenError::Key);
    }
    if !crypto.verify(key.algorithm, &key.public, compact.signing_input.as_bytes(), &compact.signature) {
        return Err(TokenError::Signature);
    }
    // RFC 7519 section 4.1.4: expired at the instant itself.
    if now >= claims.expires.plus(expected.leeway) {
        return Err(TokenError::Expired);
    }
    let ahead = |time: Option<UnixTime>| time.is_some_and(|time| now < time.minus(expected.leeway));
    if ahead(claims.not_before) || ahead(claims.issued_at) {
        return Err(TokenError::NotYetValid);
    }
    let examined = examine(&claims)?;
    if !claims.audiences.iter().any(|audience| expected.audiences.contains(audience)) {
        return Err(TokenError::Audience);
    }
    Ok((claims, examined))
}
