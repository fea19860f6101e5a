//! Tokens of the caller's that stand outside of `authorization`: other filters, proxies and browsers put copies of them into
//! fields and cookies of their own. None of them goes on to an upstream, which could use it as that user.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::config::Config;
use crate::idp::Recognition;
use crate::json;

/// The shortest signature that tells a token from every other: 32 bytes in base64url.
const SHORTEST_SIGNATURE: usize = 43;

/// A JWT of a provider's is not shorter: a header, an issuer and a signature by an elliptic curve.
const SHORTEST_JWT: usize = 160;

/// So many texts with the look of a JWT are read of one field; one with more goes nowhere.
const MOST_JWTS: usize = 8;

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
    NAMES.contains(&name) || name.starts_with(b"x-amzn-oidc-") || name.starts_with(b"x-ms-token-")
}

/// The tokens that are looked for in a request.
#[derive(Clone, Copy)]
pub(super) struct TokenCopies<'a> {
    config: &'a Config,
    /// The signature of the token in `authorization`, as it is written. Nobody else's token has it.
    signature: Option<&'a [u8]>,
}

impl<'a> TokenCopies<'a> {
    /// Copies of the token in this value of `authorization`, and any JWT of a configured provider.
    pub(super) fn of(authorization: Option<&'a [u8]>, config: &'a Config) -> Self {
        let signature = authorization.and_then(|value| value.rsplit(|byte| *byte == b'.').next());
        let is_signature =
            |text: &&[u8]| text.len() >= SHORTEST_SIGNATURE && text.iter().all(|byte| is_base64url(*byte));
        Self { config, signature: signature.filter(is_signature) }
    }

    /// No shorter value can have one in it.
    pub(super) fn shortest(&self) -> usize {
        self.signature.map_or(SHORTEST_JWT, |signature| signature.len().min(SHORTEST_JWT))
    }

    /// Whether a value has the token of `authorization` in it, or the part of it that nobody can do without.
    pub(super) fn has_signature(&self, value: &[u8]) -> bool {
        self.signature.is_some_and(|signature| {
            value.len() >= signature.len() && value.split(|byte| !is_base64url(*byte)).any(|run| run == signature)
        })
    }

    /// Whether a value has a token in it that must not go on.
    pub(super) fn is_in(&self, value: &[u8]) -> bool {
        self.has_signature(value) || self.has_jwt_of_a_provider(value)
    }

    fn has_jwt_of_a_provider(&self, value: &[u8]) -> bool {
        if value.len() < SHORTEST_JWT {
            return false;
        }
        let mut seen = 0_usize;
        for word in value.split(|byte| !is_base64url(*byte) && *byte != b'.') {
            let mut segments = word.split(|byte| *byte == b'.').peekable();
            while let Some(segment) = segments.next() {
                // The beginning of a JSON object in base64url.
                if let Some(payload) = segments.peek().filter(|_| segment.starts_with(b"eyJ")) {
                    seen = seen.saturating_add(1);
                    if seen > MOST_JWTS || self.is_of_a_provider(payload) {
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
        let Some(claims) = json::object(&payload) else {
            return false;
        };
        let issuer = claims.string("iss").unwrap_or_default();
        self.config
            .providers
            .iter()
            .any(|provider| !matches!(provider.profile.recognise(provider, issuer, &claims), Recognition::Foreign))
    }
}

const fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}
