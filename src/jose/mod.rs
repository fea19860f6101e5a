//! JOSE: signed tokens ([`jws`]), their claims ([`claims`]), keys ([`jwks`]) and the order of checks ([`validate`]).
//!
//! Bytes of callers are parsed here and nowhere else. A token that passes is signed by a configured issuer, is for an accepted
//! audience, and has not expired.

mod claims;
pub(crate) mod jwks;
mod jws;
mod validate;

use std::borrow::Cow;

pub use claims::{AUDIENCE, ActorClaim, ClaimNames, Claims, Confirmation};
pub(crate) use claims::{has_one, numeric_date};
pub use jwks::{Key, KeySet, Selection};
pub use jws::{CompactJws, Header, MAX_TOKEN_BYTES, is_compact};
pub(crate) use jws::{JWT_START, Segments, header_members, media_type, payload_members};
pub use validate::{Signed, TokenRules, check, verify};

/// Reason for which a token is not accepted. The caller is to blame for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// Not a JWT: only its issuer can read it.
    Opaque,
    /// Not an acceptable compact JWS (RFC 7515 section 3.1), with the fault.
    Malformed(&'static str),
    /// A compact JWE of five segments (RFC 7516 section 3.1).
    Encrypted,
    /// `alg` is `none`, HMAC, unknown, or not the algorithm of the key.
    Algorithm,
    /// `typ` says that it is another kind of JWT (RFC 8725 section 3.12).
    Type,
    /// No configured provider has this `iss`.
    Issuer,
    /// The issuer is a tenant of a configured provider that the configuration does not list.
    Tenant,
    /// No usable key has this `kid`.
    Key,
    /// The key did not make the signature.
    Signature,
    /// `exp` has passed, with leeway.
    Expired,
    /// `nbf` or `iat` is in the future, with leeway.
    NotYetValid,
    /// `aud` has no accepted audience.
    Audience,
    /// A claim is missing or has a wrong type, with the claim and the fault.
    Claims(&'static str),
    /// An ID token in place of an access token.
    IdToken,
    /// An access token in place of an ID token.
    AccessToken,
    /// A token of the client credentials grant: it has no user.
    NotAUser,
}

/// Rejection of a token, with a diagnosis for the log. The diagnosis has fixed words and numbers, and no text of the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Reason, which decides the response.
    pub error: TokenError,
    /// Cause and remedy for the log; empty if the reason says all.
    pub diagnosis: Cow<'static, str>,
}

impl TokenError {
    /// Rejection with this reason and a diagnosis.
    pub fn because(self, diagnosis: impl Into<Cow<'static, str>>) -> Rejection {
        Rejection { error: self, diagnosis: diagnosis.into() }
    }
}

impl From<TokenError> for Rejection {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Malformed(why) | TokenError::Claims(why) => error.because(why),
            TokenError::Opaque => error.because(
                "no JWT: the token is opaque, such as one for the provider's own API; the client must ask for a token for this resource",
            ),
            TokenError::Encrypted => error.because(
                "five segments, a JWE: switch token encryption off for this audience at the provider",
            ),
            _ => error.because(""),
        }
    }
}
