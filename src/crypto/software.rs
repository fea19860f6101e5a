use ed25519_compact::Signature as Ed25519Signature;
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use superboring::hash::MessageDigest;
use superboring::pkey::PKey;
use superboring::rsa::Padding;
use superboring::sign::{Signer, Verifier};

use super::public_key::Inner;
use super::{Algorithm, Crypto, PublicKey, SigningKey, signing_key};

/// The libraries that jwt-simple stands on, compiled into the module: for hosts without `verify_signature`
/// and for the algorithms that it lacks (RSASSA-PSS, EdDSA).
///
/// jwt-simple's own `verify_token` is not used: it reads the claims and a clock of its own, and there is one
/// place for that here (`token::verify`).
#[derive(Debug, Default)]
pub struct Software;

impl Crypto for Software {
    fn verify(&self, algorithm: Algorithm, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        if !key.suits(algorithm) || key.foreign_signature(signature).is_none() {
            return false;
        }
        match &key.inner {
            Inner::Rsa { key, .. } => verify_rsa(algorithm, key, message, signature).unwrap_or(false),
            Inner::P256(key) => p256::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| (**key).as_ref().verify(message, &signature).is_ok()),
            Inner::P384(key) => p384::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| (**key).as_ref().verify(message, &signature).is_ok()),
            Inner::Ed25519(key) => Ed25519Signature::from_slice(signature)
                .is_ok_and(|signature| (**key).as_ref().verify(message, &signature).is_ok()),
        }
    }

    fn sign(&self, key: &SigningKey, message: &[u8]) -> Option<Vec<u8>> {
        match &key.inner {
            signing_key::Inner::Rs256(pair) => {
                let key = PKey::from_rsa((**pair).as_ref().clone()).ok()?;
                let mut signer = Signer::new(MessageDigest::sha256(), &key).ok()?;
                signer.set_rsa_padding(Padding::PKCS1).ok()?;
                signer.update(message).ok()?;
                signer.sign_to_vec().ok()
            }
            signing_key::Inner::Es256(pair) => {
                let signature: p256::ecdsa::Signature = (**pair).as_ref().try_sign(message).ok()?;
                Some(signature.to_bytes().to_vec())
            }
        }
    }

    fn random(&self) -> Option<[u8; 16]> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).ok().map(|()| bytes)
    }
}

fn verify_rsa(
    algorithm: Algorithm,
    key: &jwt_simple::algorithms::RSAPublicKey,
    message: &[u8],
    signature: &[u8],
) -> Option<bool> {
    let (digest, padding) = match algorithm {
        Algorithm::Rs256 => (MessageDigest::sha256(), Padding::PKCS1),
        Algorithm::Rs384 => (MessageDigest::sha384(), Padding::PKCS1),
        Algorithm::Rs512 => (MessageDigest::sha512(), Padding::PKCS1),
        Algorithm::Ps256 => (MessageDigest::sha256(), Padding::PKCS1_PSS),
        Algorithm::Ps384 => (MessageDigest::sha384(), Padding::PKCS1_PSS),
        Algorithm::Ps512 => (MessageDigest::sha512(), Padding::PKCS1_PSS),
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => return None,
    };
    let key = PKey::from_rsa(key.as_ref().clone()).ok()?;
    let mut verifier = Verifier::new(digest, &key).ok()?;
    verifier.set_rsa_padding(padding).ok()?;
    verifier.update(message).ok()?;
    verifier.verify(signature).ok()
}
