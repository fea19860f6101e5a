//! Signatures: algorithms, keys and their implementations.
//!
//! A key has one algorithm (RFC 8725 section 3.1); a token whose header names another one is refused. [`Crypto`] has two
//! implementations, which must give the same verdict on every input: [`Software`], and Envoy's BoringSSL in [`EnvoyCrypto`].
//! [`PublicKey`] checks the form of a signature once for both.

mod algorithm;
mod der;
mod envoy;
pub mod known_answer;
pub mod pem;
mod public_key;
mod signing_key;
mod software;
pub(crate) mod wire;

pub use algorithm::Algorithm;
pub use envoy::EnvoyCrypto;
pub use public_key::PublicKey;
pub use signing_key::SigningKey;
pub use software::Software;

/// Signatures and random numbers for the engine.
pub trait Crypto {
    /// Returns `true` if `key` made `signature`, in JWS form, over `message` with `algorithm`.
    fn verify(&self, algorithm: Algorithm, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool;

    /// Signs `message`, in JWS form. `None`: no implementation could sign.
    fn sign(&self, key: &SigningKey, message: &[u8]) -> Option<Vec<u8>>;

    /// 16 unpredictable bytes, for example for a `jti`. `None`: the host has no randomness.
    fn random(&self) -> Option<[u8; 16]>;
}
