//! Signatures: which algorithms exist, the keys that they need, and who computes them.
//!
//! A key carries its one algorithm (RFC 8725 section 3.1): what a token's header says can only agree or be
//! refused. [`Crypto`] has two implementations that must give the same verdict on every input: [`Software`]
//! here, and the host's BoringSSL behind [`EnvoyCrypto`]. What a signature must look like before either sees it is decided
//! in [`PublicKey`], once for both.

mod algorithm;
mod der;
mod envoy;
pub mod known_answer;
pub mod pem;
mod public_key;
mod signing_key;
mod software;

pub use algorithm::Algorithm;
pub use envoy::EnvoyCrypto;
pub use public_key::PublicKey;
pub use signing_key::SigningKey;
pub use software::Software;

/// What the engine needs from a cryptographic library, and the one source of randomness.
pub trait Crypto {
    /// Whether `signature`, in JWS form, is `key`'s over `message` under `algorithm`.
    fn verify(&self, algorithm: Algorithm, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool;

    /// A signature in JWS form, or `None` when it could not be made.
    fn sign(&self, key: &SigningKey, message: &[u8]) -> Option<Vec<u8>>;

    /// 128 bits that nobody can guess (for `jti`), or `None` when the host has none to give.
    fn random(&self) -> Option<[u8; 16]>;
}
