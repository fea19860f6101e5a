//! Tokens from strangers: attacker bytes end in [`compact`], claims in [`claims`], keys in [`jwk`].
//!
//! The order of checks is one and stands in [`verify`]. Past it there is only a [`Claims`] that a configured
//! issuer signed for one of our audiences and that is in force now.

mod claims;
mod compact;
mod jwk;
mod verify;

pub use claims::Claims;
pub use compact::{Compact, Header, MAX_TOKEN_BYTES};
pub use jwk::{Key, KeySet, Selection};
pub use verify::{Expected, verify};

/// Why a token is not accepted: always the caller's to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenError {
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
    /// Issued to an application for itself: no user stands behind it.
    NotAUser,
}
