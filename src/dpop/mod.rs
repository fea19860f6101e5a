//! DPoP (RFC 9449): verification of callers' proofs, and proofs of this proxy for token endpoints and upstreams.

pub(crate) mod nonce_cache;
pub mod proof;
pub(crate) mod replay;
pub(crate) mod server_nonce;
pub mod verify;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

pub(crate) use nonce_cache::{NonceCache, NonceIssuer};
pub use proof::{DpopKey, ProofTarget};

/// SHA-256 in base64url without padding: the form of `ath` (RFC 9449 section 4.2) and of `jkt` (section 6.1).
pub(crate) fn sha256_base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(hmac_sha256::Hash::hash(bytes))
}
