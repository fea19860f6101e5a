//! Signatures computed in the module.

use ed25519_compact::Signature as Ed25519Signature;
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use rsa::sha2::{Sha256, Sha384, Sha512};

use crate::crypto::public_key::{Inner, PublicKey};
use crate::crypto::signing_key::{self, SigningKey};
use crate::crypto::{Algorithm, Crypto};

/// Libraries in the module: those below jwt-simple, and rsa. They serve hosts without `verify_signature`, and algorithms that the
/// host lacks (RSASSA-PSS, EdDSA).
///
/// jwt-simple's `verify_token` is not used: it validates claims against a clock of its own. `jose::validate` does that.
#[derive(Debug, Default)]
pub struct Software;

impl Crypto for Software {
    fn verify(&self, algorithm: Algorithm, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        if !key.suits(algorithm) || key.foreign_signature(signature).is_none() {
            return false;
        }
        match &key.inner {
            Inner::Rsa { key, .. } => verify_rsa(algorithm, key, message, signature),
            Inner::P256(key) => p256::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| (**key).as_ref().verify(message, &signature).is_ok()),
            Inner::P384(key) => p384::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| (**key).as_ref().verify(message, &signature).is_ok()),
            Inner::Ed25519(key) => Ed25519Signature::from_slice(signature)
                .is_ok_and(|signature| (**key).as_ref().verify(message, &signature).is_ok()),
        }
    }

    fn sign(&self, key: &SigningKey, message: &[u8]) -> Option<Vec<u8>> {
        use signing_key::Inner;
        match &key.inner {
            Inner::Rsa(pair) => sign_rsa(key.algorithm(), pair, message),
            Inner::P256(pair) => {
                let signature: p256::ecdsa::Signature = (**pair).as_ref().try_sign(message).ok()?;
                Some(signature.to_bytes().to_vec())
            }
            Inner::P384(pair) => {
                let signature: p384::ecdsa::Signature = (**pair).as_ref().try_sign(message).ok()?;
                Some(signature.to_bytes().to_vec())
            }
            Inner::Ed25519(pair) => Some((**pair).as_ref().sk.sign(message, None).to_vec()),
        }
    }

    fn random(&self) -> Option<[u8; 16]> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).ok().map(|()| bytes)
    }
}

fn verify_rsa(algorithm: Algorithm, key: &rsa::PublicKey, message: &[u8], signature: &[u8]) -> bool {
    let verified = match algorithm {
        Algorithm::Rs256 => key.pkcs1v15_verify::<Sha256>(message, signature),
        Algorithm::Rs384 => key.pkcs1v15_verify::<Sha384>(message, signature),
        Algorithm::Rs512 => key.pkcs1v15_verify::<Sha512>(message, signature),
        // RFC 7518 section 3.5: the salt is as long as the hash.
        Algorithm::Ps256 => key.pss_verify::<Sha256>(message, signature),
        Algorithm::Ps384 => key.pss_verify::<Sha384>(message, signature),
        Algorithm::Ps512 => key.pss_verify::<Sha512>(message, signature),
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => return false,
    };
    verified.is_ok()
}

/// A random generator blinds the base, so that the time of a signature does not depend on the key.
fn sign_rsa(algorithm: Algorithm, key: &rsa::PrivateKey, message: &[u8]) -> Option<Vec<u8>> {
    let random = &mut getrandom::SysRng;
    match algorithm {
        Algorithm::Rs256 => key.pkcs1v15_sign_with_rng::<Sha256, _>(random, message),
        Algorithm::Rs384 => key.pkcs1v15_sign_with_rng::<Sha384, _>(random, message),
        Algorithm::Rs512 => key.pkcs1v15_sign_with_rng::<Sha512, _>(random, message),
        Algorithm::Ps256 => key.pss_sign_with_rng::<Sha256, _>(random, message),
        Algorithm::Ps384 => key.pss_sign_with_rng::<Sha384, _>(random, message),
        Algorithm::Ps512 => key.pss_sign_with_rng::<Sha512, _>(random, message),
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => return None,
    }
    .ok()
}
