use std::time::Duration;

use crate::crypto::{Algorithm, Crypto};
use crate::jose::{Claims, Header, Key, Rejection, TokenError};
use crate::time::UnixTime;

/// What a token must say to be ours.
#[derive(Clone, Copy, Debug)]
pub struct TokenRules<'a> {
    /// One of these must be in `aud`.
    pub audiences: &'a [String],
    /// Values of `typ` that are accepted beside none at all, lower case.
    pub types: &'a [&'a str],
    /// How far clocks may differ.
    pub leeway: Duration,
}

/// What a token says, in this order: its kind by `typ`, what `examine` makes of its claims, audience, times. It comes
/// before the search for a key and before the signature: a token that can never be accepted costs neither, and its
/// owner hears what is really wrong. Nothing is done with what an unverified token says but to refuse it.
///
/// `examine` says whose the token is, and refuses one of another kind. It comes before the audience because a token of
/// another kind mostly has another audience too, and its kind is what a person has to hear of.
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
    if !expected.audiences.iter().any(|audience| claims.audiences.contains(&audience.as_str())) {
        return Err(TokenError::Audience.into());
    }
    // RFC 7519 section 4.1.4: expired at the instant itself.
    let leeway = expected.leeway;
    if now >= claims.expires.plus(leeway) {
        let ago = now.since(claims.expires).as_secs();
        return Err(TokenError::Expired.because(format!("exp was {ago} s ago; leeway is {} s", leeway.as_secs())));
    }
    for (name, time) in [("nbf", claims.not_before), ("iat", claims.issued_at)] {
        if let Some(time) = time.filter(|time| now < time.minus(leeway)) {
            let ahead = time.since(now).as_secs();
            let diagnosis = format!(
                "{name} is {ahead} s ahead; leeway is {} s: the provider's clock and this proxy's differ",
                leeway.as_secs()
            );
            return Err(TokenError::NotYetValid.because(diagnosis));
        }
    }
    Ok(examined)
}

/// What the signature of a token is over, and the signature.
#[derive(Clone, Copy)]
pub struct Signed<'a> {
    /// `alg`.
    pub algorithm: Algorithm,
    /// The first two segments with the dot between.
    pub input: &'a str,
    /// The third segment, decoded.
    pub signature: &'a [u8],
}

/// Whether `key`, which the token's `kid` selected, signed it. `issuer` is the provider's own for `tenant`, the token's:
/// what a key's `issuer` must be, where it has one.
pub fn verify(
    signed: Signed<'_>,
    key: &Key,
    issuer: &str,
    tenant: Option<&str>,
    crypto: &dyn Crypto,
) -> Result<(), TokenError> {
    if signed.algorithm != key.algorithm {
        return Err(TokenError::Algorithm);
    }
    if !key.serves(issuer, tenant) {
        return Err(TokenError::Key);
    }
    if !crypto.verify(key.algorithm, &key.public, signed.input.as_bytes(), signed.signature) {
        return Err(TokenError::Signature);
    }
    Ok(())
}
