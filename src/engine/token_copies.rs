//! Tokens of the caller's that stand outside of `authorization`: other filters, proxies and browsers put copies of them into
//! fields and cookies of their own. None of them goes on to an upstream, which could use it as that user.

use std::cell::Cell;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::config::Config;
use crate::json;
use crate::provider::IssuerMatch;

/// The shortest signature that tells a token from every other: 32 bytes in base64url.
const SHORTEST_SIGNATURE: usize = 43;

/// A JWT of a provider's is not shorter: a header, an issuer and a signature by an elliptic curve.
const SHORTEST_JWT: usize = 160;

/// So many texts with the look of a JWT are read of one request; a field in which there are more goes nowhere. A JWT has two: its
/// payload looks like a header.
const MOST_JWTS: usize = 16;

/// The member by which a token says whose it is. One that is written with an escape is no token that an issuer makes.
const ISSUER: &[u8] = b"\"iss\"";

/// So often may a value be percent-encoded (RFC 3986 section 2.1), one time over the other; one with more goes nowhere.
const MOST_ENCODINGS: usize = 4;

/// Fields in which well-known proxies hand on tokens: oauth2-proxy, Application Load Balancer of AWS, App Service of Azure;
/// and the credentials for a proxy (RFC 9110 section 11.7.2).
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

/// Two names are one to a server that does not tell `_` from `-`, such as one of CGI (RFC 3875 section 4.1.18).
pub(super) fn is_field(name: &[u8], known: &[u8]) -> bool {
    name.len() == known.len() && is_field_of(name, known)
}

/// The same of the beginning of a name.
pub(super) fn is_field_of(name: &[u8], known: &[u8]) -> bool {
    let is_like = |(byte, known): (&u8, &u8)| byte == known || (*byte == b'_' && *known == b'-');
    name.len() >= known.len() && name.iter().zip(known).all(is_like)
}

/// The tokens that are looked for in a request.
pub(super) struct TokenCopies<'a> {
    config: &'a Config,
    /// The number of texts with the look of a JWT that were read.
    read: Cell<usize>,
    /// The last run of base64url in `authorization`: a JWT's signature, which no other token has, or an opaque token.
    signature: Option<&'a [u8]>,
}

impl<'a> TokenCopies<'a> {
    /// Copies of the token in this value of `authorization`, and any JWT of a configured provider.
    pub(super) fn of(authorization: Option<&'a [u8]>, config: &'a Config) -> Self {
        let mut runs = authorization.unwrap_or_default().rsplit(|byte| !is_base64url(*byte));
        let signature = runs.find(|run| !run.is_empty());
        Self { config, read: Cell::new(0), signature: signature.filter(|run| run.len() >= SHORTEST_SIGNATURE) }
    }

    /// No shorter value can have one in it.
    pub(super) fn shortest(&self) -> usize {
        self.signature.map_or(SHORTEST_JWT, |signature| signature.len().min(SHORTEST_JWT))
    }

    /// A token that must not go on is in a value.
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
                // The beginning of a JSON object in base64url, whatever stands before it.
                let begins = |_: &&&[u8]| segment.windows(3).any(|text| text == b"eyJ");
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
        // Nearly all that are not tokens end here: to read them as JSON would cost as much as a stranger wants it to.
        if !payload.windows(ISSUER.len()).any(|text| text == ISSUER) {
            return false;
        }
        let Some(claims) = json::object(&payload) else {
            return false;
        };
        let issuer = claims.string("iss").unwrap_or_default();
        self.config
            .providers
            .iter()
            .any(|provider| !matches!(provider.profile.match_issuer(provider, issuer, &claims), IssuerMatch::NoMatch))
    }
}

/// A signature stands in a value, whatever stands around it: it is so long that nothing else is like it.
fn has(value: &[u8], signature: &[u8]) -> bool {
    let mut runs = value.split(|byte| !is_base64url(*byte)).filter(|run| run.len() >= signature.len());
    runs.any(|run| run.windows(signature.len()).any(|part| part == signature))
}

/// It holds of a value as it is written, or percent-decoded as often as that changes it.
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

/// None where nothing is encoded.
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
