//! DPoP (RFC 9449): proofs of callers are verified, proofs of this proxy are made.

pub(crate) mod nonce_cache;
pub mod proof;
pub(crate) mod replay;
pub(crate) mod server_nonce;
pub mod verify;

pub(crate) use nonce_cache::{NonceCache, NonceIssuer};
pub use proof::{DpopKey, ProofTarget};
