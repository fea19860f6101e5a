//! Copies of the caller's tokens outside of `authorization`: other filters, proxies and browsers put them into fields and
//! cookies of their own. No copy may reach an upstream, which could use it as that user (docs/adr/0020).

use std::cell::Cell;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::config::Config;
use crate::engine::authenticate::MAX_DIAGNOSED;
use crate::jose::JWT_START;
use crate::json;
use crate::provider::IssuerMatch;

/// Minimum length of a signature that identifies a token: 32 bytes in base64url.
const SHORTEST_SIGNATURE: usize = 43;

/// Minimum length of a provider's JWT: a header, an issuer and a signature by an elliptic curve.
const SHORTEST_JWT: usize = 160;

/// Maximum number of texts with the form of a JWT that are read in one request. A field with more is removed. One JWT counts
/// twice, because its payload has the form of a header, too.
const MOST_JWTS: usize = 16;

/// Member that names the issuer. No issuer writes it with an escape.
const ISSUER: &[u8] = b"\"iss\"";

/// Maximum depth of percent-encoding (RFC 3986 section 2.1) that is decoded. A value with more is removed.
const MOST_ENCODINGS: usize = 4;

/// Returns `true` for fields in which well-known proxies pass tokens on (oauth2-proxy, AWS Application Load Balancer, Azure App
/// Service), and for credentials of a proxy (RFC 9110 section 11.7.2).
pub(super) fn is_token_field(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 5] = [
        b"proxy-authorization",
        b"x-forwarded-access-token",
        b"x-forwarded-id-token",
        b"x-auth-request-access-token",
        b"x-auth-request-id-token",
    ];
    NAMES.iter().any(|known| is_field(name, known))
        || is_field_of(name, b"x-amzn-oidc-")
        || is_field_of(name, b"x-ms-token-")
}

/// Returns `true` if two names are the same to a server that treats `_` and `-` alike, as CGI does (RFC 3875 section 4.1.18).
pub(super) fn is_field(name: &[u8], known: &[u8]) -> bool {
    name.len() == known.len() && is_field_of(name, known)
}

/// Returns `true` if a name begins with `known`, under the rule of [`is_field`].
pub(super) fn is_field_of(name: &[u8], known: &[u8]) -> bool {
    let is_like = |(byte, known): (&u8, &u8)| byte == known || (*byte == b'_' && *known == b'-');
    name.len() >= known.len() && name.iter().zip(known).all(is_like)
}

/// Tokens that must not stand outside of `authorization`, and the budget for reading them.
pub(super) struct TokenCopies<'a> {
    config: &'a Config,
    /// Number of texts with the form of a JWT that were read.
    read: Cell<usize>,
    /// Last run of base64url in `authorization`: the signature of a JWT, which no other token has, or an opaque token.
    signature: Option<&'a [u8]>,
}

impl<'a> TokenCopies<'a> {
    /// Copies of the token in this value of `authorization`, and all JWTs of configured providers.
    pub(super) fn of(authorization: Option<&'a [u8]>, config: &'a Config) -> Self {
        let mut runs = authorization.unwrap_or_default().rsplit(|byte| !is_base64url(*byte));
        let signature = runs.find(|run| !run.is_empty());
        Self { config, read: Cell::new(0), signature: signature.filter(|run| run.len() >= SHORTEST_SIGNATURE) }
    }

    /// Minimum length of a value that can hold one.
    pub(super) fn shortest(&self) -> usize {
        self.signature.map_or(SHORTEST_JWT, |signature| signature.len().min(SHORTEST_JWT))
    }

    /// Returns `true` if a value holds a token.
    pub(super) fn is_in(&self, value: &[u8]) -> bool {
        let is_here = |value: &[u8]| {
            self.signature.is_some_and(|signature| has(value, signature)) || self.has_jwt_of_a_provider(value)
        };
        value.len() >= self.shortest() && decodings(value, is_here)
    }

    fn has_jwt_of_a_provider(&self, value: &[u8]) -> bool {
        if value.len() < SHORTEST_JWT {
            return false;
        }
        for word in value.split(|byte| !is_base64url(*byte) && *byte != b'.') {
            let mut segments = word.split(|byte| *byte == b'.').peekable();
            while let Some(segment) = segments.next() {
                let begins = |_: &&&[u8]| segment.windows(JWT_START.len()).any(|text| text == JWT_START.as_bytes());
                if let Some(payload) = segments.peek().filter(begins) {
                    self.read.set(self.read.get().saturating_add(1));
                    if self.read.get() > MOST_JWTS || self.is_of_a_provider(payload) {
                        return true;
                    }
                }
            }
        }
        false
    }

    fn is_of_a_provider(&self, payload: &[u8]) -> bool {
        let Ok(payload) = BASE64_URL_SAFE_NO_PAD.decode(payload) else {
            return false;
        };
        // Most texts that are no token end here. A stranger decides how much it would cost to read them as JSON.
        if !payload.windows(ISSUER.len()).any(|text| text == ISSUER) {
            return false;
        }
        let Some(claims) = json::object(&payload) else {
            return false;
        };
        let issuer = claims.string("iss").unwrap_or_default();
        self.config.issuers.contains_key(issuer)
            || self.config.providers.iter().take(MAX_DIAGNOSED).any(|provider| {
                !matches!(provider.profile.match_issuer(provider, issuer, &claims), IssuerMatch::NoMatch)
            })
    }
}

/// Returns `true` if a value holds the end of the signature, which is as unique as the whole. A stranger chooses both texts, so the
/// work for each byte of the value is bounded.
fn has(value: &[u8], signature: &[u8]) -> bool {
    let end = signature.get(signature.len().saturating_sub(SHORTEST_SIGNATURE)..).unwrap_or(signature);
    let mut runs = value.split(|byte| !is_base64url(*byte)).filter(|run| run.len() >= end.len());
    runs.any(|run| run.windows(end.len()).any(|part| part == end))
}

/// Returns `true` if `holds` is true of a value as it is written, or after any number of percent-decodings.
fn decodings(value: &[u8], holds: impl Fn(&[u8]) -> bool) -> bool {
    if holds(value) {
        return true;
    }
    let mut decoded = percent_decoded(value);
    for _ in 0..MOST_ENCODINGS {
        match decoded {
            None => return false,
            Some(value) if holds(&value) => return true,
            Some(value) => decoded = percent_decoded(&value),
        }
    }
    decoded.is_some()
}

/// Percent-decoded value. `None`: nothing is encoded.
fn percent_decoded(value: &[u8]) -> Option<Vec<u8>> {
    if !value.contains(&b'%') {
        return None;
    }
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [byte, behind @ ..] = rest {
        let encoded = match rest {
            [b'%', high, low, ..] => digit(high).zip(digit(low)),
            _ => None,
        };
        let octet = encoded.and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
        decoded.push(octet.unwrap_or(*byte));
        rest = if octet.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    (decoded.len() < value.len()).then_some(decoded)
}

const fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}
