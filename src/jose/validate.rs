//! Validation of a token: claims first, then key and signature.

use std::time::Duration;

use crate::crypto::{Algorithm, Crypto};
use crate::jose::{Claims, Header, Key, Rejection, TokenError};
use crate::time::UnixTime;

/// Values that the claims of a token must have.
#[derive(Clone, Copy, Debug)]
pub struct TokenRules<'a> {
    /// Accepted audiences: `aud` must have one of them.
    pub audiences: &'a [String],
    /// Accepted values of `typ`, in lower case. A token without `typ` is accepted, too.
    pub types: &'a [&'a str],
    /// Maximum difference between the clocks of the issuer and of this proxy.
    pub leeway: Duration,
}

/// Checks the claims of a token, in this order: `typ`, `examine`, audience, times. The signature is verified later, so that a
/// token that can never be accepted costs no key and no signature, and the refusal names its real fault. Claims of an unverified
/// token are used only to refuse it.
///
/// `examine` identifies the caller and refuses tokens of another kind. It precedes the audience, because a token of another kind
/// mostly has another audience, too, and the kind is the fault that a person must know.
pub fn check<T>(
    header: &Header,
    claims: &Claims<'_>,
    expected: TokenRules<'_>,
    examine: impl FnOnce() -> Result<T, Rejection>,
    now: UnixTime,
) -> Result<T, Rejection> {
    if header.media_type.as_deref().is_some_and(|typ| !expected.types.contains(&typ)) {
        return Err(TokenError::Type.because("typ names another kind of JWT"));
    }
    let examined = examine()?;
    if !claims.is_for(expected.audiences) {
        return Err(TokenError::Audience.into());
    }
    // RFC 7519 section 4.1.4: a token is expired at the second of `exp`.
    let leeway = expected.leeway;
    if now >= claims.expires.plus(leeway) {
        let ago = now.since(claims.expires).as_secs();
        return Err(
            TokenError::Expired.because(format!("exp was {ago} s ago; clock_skew_seconds is {}", leeway.as_secs()))
        );
    }
    for (name, time) in [("nbf", claims.not_before), ("iat", claims.issued_at)] {
        if let Some(time) = time.filter(|time| now < time.minus(leeway)) {
            let ahead = time.since(now).as_secs();
            let diagnosis = format!(
                "{name} is {ahead} s ahead; clock_skew_seconds is {}: the provider's clock and this proxy's differ",
                leeway.as_secs()
            );
            return Err(TokenError::NotYetValid.because(diagnosis));
        }
    }
    Ok(examined)
}

/// Signing input and signature of a token.
#[derive(Clone, Copy)]
pub struct Signed<'a> {
    /// `alg`.
    pub algorithm: Algorithm,
    /// The first two segments with the dot between.
    pub input: &'a str,
    /// The third segment, decoded.
    pub signature: &'a [u8],
}

/// Checks that `key`, which the token's `kid` selected, made the signature. `listed` are the algorithms that the configuration
/// allows, see [`Key::allows`]. A key with a member `issuer` verifies only tokens of that issuer: `issuer` is that of the
/// token's `tenant`.
pub fn verify(
    signed: Signed<'_>,
    key: &Key,
    listed: &[Algorithm],
    issuer: &str,
    tenant: Option<&str>,
    crypto: &dyn Crypto,
) -> Result<(), TokenError> {
    if !key.allows(signed.algorithm, listed) {
        return Err(TokenError::Algorithm);
    }
    if !key.serves(issuer, tenant) {
        return Err(TokenError::Key);
    }
    if !crypto.verify(signed.algorithm, &key.public, signed.input.as_bytes(), signed.signature) {
        return Err(TokenError::Signature);
    }
    Ok(())
}
