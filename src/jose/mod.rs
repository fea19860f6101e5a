//! Tokens from strangers: attacker bytes end in [`jws`], claims in [`claims`], keys in [`jwks`].
//!
//! The order of checks is one and stands in [`validate`]. Past it there is only a [`Claims`] that a configured
//! issuer signed for one of our audiences and that is in force now.

mod claims;
pub(crate) mod jwks;
mod jws;
mod validate;

use std::borrow::Cow;

pub(crate) use claims::numeric_date;
pub use claims::{ActorClaim, Claims, Confirmation};
pub use jwks::{Key, KeySet, Selection};
pub use jws::{CompactJws, Header, MAX_TOKEN_BYTES, is_compact};
pub(crate) use jws::{Segments, header_members, payload_members};
pub use validate::{Signed, TokenRules, check, verify};

/// Why a token is not accepted: always the caller's to mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// Not a JWT at all: nothing but its issuer can read it.
    Opaque,
    /// Not a compact JWS of acceptable form (RFC 7515 section 3.1); what is wrong with it.
    Malformed(&'static str),
    /// A compact JWE, five segments (RFC 7516 section 3.1).
    Encrypted,
    /// `none`, HMAC, unknown, or not the algorithm of the key.
    Algorithm,
    /// `typ` says that it is another kind of JWT (RFC 8725 section 3.12).
    Type,
    /// No configured provider has this `iss`.
    Issuer,
    /// A configured provider's, but of a tenant that is not allowed.
    Tenant,
    /// No usable key has this `kid`.
    Key,
    /// The signature is not the key's.
    Signature,
    /// `exp` is over, leeway counted.
    Expired,
    /// `nbf` or `iat` is ahead, leeway counted.
    NotYetValid,
    /// `aud` names none of our audiences.
    Audience,
    /// A claim is missing or of a wrong type; which and how.
    Claims(&'static str),
    /// An ID token where an access token is needed.
    IdToken,
    /// An access token where an ID token is needed.
    AccessToken,
    /// Issued to an application for itself: no user stands behind it.
    NotAUser,
}

/// A token that is not accepted, and for the log what is wrong and how to mend it: fixed words and numbers, and nothing
/// that the token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// What the caller is told.
    pub error: TokenError,
    /// What the operator is told.
    pub diagnosis: Cow<'static, str>,
}

impl TokenError {
    /// The same with a diagnosis.
    pub fn because(self, diagnosis: impl Into<Cow<'static, str>>) -> Rejection {
        Rejection { error: self, diagnosis: diagnosis.into() }
    }
}

impl From<TokenError> for Rejection {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Malformed(why) | TokenError::Claims(why) => error.because(why),
            TokenError::Opaque => error.because(
                "no JWT: the client has an opaque token, such as one for the provider's own API; it must ask for one for this resource",
            ),
            TokenError::Encrypted => error.because(
                "five segments, a JWE: switch token encryption off for this audience at the provider",
            ),
            _ => error.because(""),
        }
    }
}
