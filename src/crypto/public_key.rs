//! Public keys, valid by construction.

use std::ops::RangeInclusive;

use jwt_simple::algorithms::{Edwards25519PublicKey, P256PublicKey, P384PublicKey};
use rsa::BoxedUint;

use crate::crypto::{Algorithm, der};

/// Valid public key: RSA of 2048 to 4096 bits with exponent 65537, a point on P-256 or P-384, or an Ed25519 point that is not
/// weak.
#[derive(Clone, Debug)]
pub struct PublicKey {
    pub(super) inner: Inner,
    spki: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(super) enum Inner {
    Rsa { key: Box<rsa::PublicKey>, modulus_bytes: usize },
    P256(Box<P256PublicKey>),
    P384(Box<P384PublicKey>),
    Ed25519(Box<Edwards25519PublicKey>),
}

/// Minimum and maximum length of an RSA modulus, in bits. A shorter one can be factored (NIST SP 800-131A); a longer one takes too
/// long to verify with.
const RSA_BITS: RangeInclusive<usize> = 2048..=4096;

/// Accepted RSA exponent: 65537, which all providers use.
const RSA_EXPONENT: [u8; 3] = [1, 0, 1];

impl PublicKey {
    /// An RSA key from its big-endian modulus and exponent (RFC 7518 section 6.3.1).
    pub fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        // RFC 7518 section 6.3.1.1: no leading zero octets.
        if modulus.first() == Some(&0) || exponent != RSA_EXPONENT {
            return None;
        }
        let number = BoxedUint::from_be_slice_vartime;
        let key = rsa::PublicKey::new_with_size_limits(number(modulus), number(exponent), RSA_BITS).ok()?;
        let spki = der::rsa_spki(modulus, exponent);
        let inner = Inner::Rsa { key: Box::new(key), modulus_bytes: modulus.len() };
        Some(Self { inner, spki })
    }

    /// A point on P-256 from its coordinates, 32 octets each (RFC 7518 section 6.2.1).
    pub fn p256(x: &[u8], y: &[u8]) -> Option<Self> {
        let point = uncompressed(x, y, 32)?;
        let key = P256PublicKey::from_bytes(&point).ok()?;
        let spki = der::spki(der::P256, &point);
        Some(Self { inner: Inner::P256(Box::new(key)), spki })
    }

    /// A point on P-384 from its coordinates, 48 octets each (RFC 7518 section 6.2.1).
    pub fn p384(x: &[u8], y: &[u8]) -> Option<Self> {
        let point = uncompressed(x, y, 48)?;
        let key = P384PublicKey::from_bytes(&point).ok()?;
        let spki = der::spki(der::P384, &point);
        Some(Self { inner: Inner::P384(Box::new(key)), spki })
    }

    /// An Ed25519 key, 32 octets (RFC 8037 section 2).
    pub fn ed25519(x: &[u8]) -> Option<Self> {
        let key = Edwards25519PublicKey::from_bytes(x).ok()?;
        let spki = der::spki(der::ED25519, x);
        Some(Self { inner: Inner::Ed25519(Box::new(key)), spki })
    }

    /// The key as a DER `SubjectPublicKeyInfo` (RFC 5280 section 4.1.2.7).
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Returns `true` if `algorithm` works with this kind of key.
    pub fn suits(&self, algorithm: Algorithm) -> bool {
        match self.inner {
            Inner::Rsa { .. } => algorithm.is_rsa(),
            Inner::P256(_) => algorithm == Algorithm::Es256,
            Inner::P384(_) => algorithm == Algorithm::Es384,
            Inner::Ed25519(_) => algorithm == Algorithm::EdDsa,
        }
    }

    /// Signature in the form of crypto libraries outside JOSE: an RSA signature unchanged, an ECDSA signature as DER
    /// `Ecdsa-Sig-Value` (RFC 3279 section 2.2.3).
    ///
    /// `None`: the key cannot have made it, because its length is wrong, or r or s is zero or not below the order. Every
    /// implementation calls this first, so that all refuse the same signatures.
    pub fn foreign_signature(&self, signature: &[u8]) -> Option<Vec<u8>> {
        match &self.inner {
            Inner::Rsa { modulus_bytes, .. } => (signature.len() == *modulus_bytes).then(|| signature.to_vec()),
            Inner::P256(_) => {
                p256::ecdsa::Signature::from_slice(signature).is_ok().then(|| der::ecdsa_signature(signature))
            }
            Inner::P384(_) => {
                p384::ecdsa::Signature::from_slice(signature).is_ok().then(|| der::ecdsa_signature(signature))
            }
            Inner::Ed25519(_) => (signature.len() == 64).then(|| signature.to_vec()),
        }
    }
}

fn uncompressed(x: &[u8], y: &[u8], width: usize) -> Option<Vec<u8>> {
    (x.len() == width && y.len() == width).then(|| [&[4], x, y].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_and_costly_rsa_keys_are_refused() {
        let mut modulus = vec![0xff; 256];
        assert!(PublicKey::rsa(&modulus, &[1, 0, 1]).is_some());
        assert!(PublicKey::rsa(&modulus[..128], &[1, 0, 1]).is_none(), "1024 bits");
        assert!(PublicKey::rsa(&[0xff; 1024], &[1, 0, 1]).is_none(), "8192 bits");
        assert!(PublicKey::rsa(&modulus, &[3]).is_none(), "e = 3");
        assert!(PublicKey::rsa(&modulus, &[0, 1, 0, 1]).is_none(), "an exponent with a zero in front");
        assert!(PublicKey::rsa(&modulus, &[2]).is_none(), "e = 2");
        assert!(PublicKey::rsa(&modulus, &[]).is_none(), "no exponent");
        assert!(PublicKey::rsa(&[], &[1, 0, 1]).is_none(), "no modulus");
        assert!(PublicKey::rsa(&[&[0], &modulus[..]].concat(), &[1, 0, 1]).is_none(), "leading zero");
        modulus[255] = 0xfe;
        assert!(PublicKey::rsa(&modulus, &[1, 0, 1]).is_none(), "even modulus");
    }

    #[test]
    fn points_off_the_curve_or_of_a_wrong_width_are_refused() {
        assert!(PublicKey::p256(&[1; 32], &[1; 32]).is_none());
        assert!(PublicKey::p256(&[0; 32], &[0; 32]).is_none());
        assert!(PublicKey::p256(&[1; 31], &[1; 33]).is_none());
        assert!(PublicKey::p384(&[1; 48], &[1; 48]).is_none());
        assert!(PublicKey::ed25519(&[0; 32]).is_none());
        assert!(PublicKey::ed25519(&[0; 31]).is_none());
    }
}
