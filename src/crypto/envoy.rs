//! Signatures computed by Envoy.

use std::fmt;

use crate::crypto::wire::{Content, Fields, message_of};
use crate::crypto::{Algorithm, Crypto, PublicKey, SigningKey, Software, known_answer};

/// Envoy's BoringSSL through the foreign functions `verify_signature` and, from Envoy 1.37, `sign`. [`Software`] serves hosts
/// without them, and other algorithms.
///
/// `F` calls a foreign function with its name and arguments. It returns `None` if the function does not exist or fails.
pub struct EnvoyCrypto<F> {
    call: F,
    verifies: bool,
    software: Software,
}

impl<F: Fn(&str, &[u8]) -> Option<Vec<u8>>> EnvoyCrypto<F> {
    /// Runs the known-answer test on the host. A host that fails is not used again.
    pub fn probe(call: F) -> Self {
        let mut crypto = Self { call, verifies: true, software: Software };
        crypto.verifies = known_answer::holds(&crypto);
        crypto
    }
}

impl<F: Fn(&str, &[u8]) -> Option<Vec<u8>>> Crypto for EnvoyCrypto<F> {
    fn verify(&self, algorithm: Algorithm, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        let hash = hash_of(algorithm);
        let Some(hash) = hash.filter(|_| self.verifies) else {
            return self.software.verify(algorithm, key, message, signature);
        };
        let Some(signature) = key.foreign_signature(signature).filter(|_| key.suits(algorithm)) else {
            return false;
        };
        // envoy: source/extensions/common/wasm/ext/verify_signature.proto
        let arguments = message_of(&[(1, hash.as_bytes()), (2, key.spki()), (3, &signature), (4, message)]);
        // Field 1 is true, and there is no other field. Every other result is a refusal.
        (self.call)("verify_signature", &arguments).as_deref() == Some(&[0x08, 0x01])
    }

    fn sign(&self, key: &SigningKey, message: &[u8]) -> Option<Vec<u8>> {
        let by_host = hash_of(key.algorithm()).and_then(|hash| {
            // envoy: source/extensions/common/wasm/ext/sign.proto
            let arguments =
                zeroize::Zeroizing::new(message_of(&[(1, hash.as_bytes()), (2, key.pkcs8()), (3, message)]));
            let result = (self.call)("sign", &arguments)?;
            key.jws_signature(signature_of(&result)?.to_vec())
        });
        by_host.or_else(|| self.software.sign(key, message))
    }

    fn random(&self) -> Option<[u8; 16]> {
        self.software.random()
    }
}

impl<F> fmt::Debug for EnvoyCrypto<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "signatures are verified {}", if self.verifies { "by the host" } else { "in the module" })
    }
}

/// Name of the hash, for algorithms that the host supports.
const fn hash_of(algorithm: Algorithm) -> Option<&'static str> {
    match algorithm {
        Algorithm::Rs256 | Algorithm::Es256 => Some("sha256"),
        Algorithm::Rs384 | Algorithm::Es384 => Some("sha384"),
        Algorithm::Rs512 => Some("sha512"),
        Algorithm::Ps256 | Algorithm::Ps384 | Algorithm::Ps512 | Algorithm::EdDsa => None,
    }
}

/// Signature of a `SignResult` that has field 1, `true`, then field 2, the signature, and nothing else.
fn signature_of(result: &[u8]) -> Option<&[u8]> {
    let mut fields = Fields(result);
    match (fields.next()??, fields.next()??, fields.next()) {
        ((1, Content::Varint(1)), (2, Content::Bytes(signature)), None) => Some(signature),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn good() -> (PublicKey, Vec<u8>, Vec<u8>) {
        use jwt_simple::algorithms::ECDSAP256KeyPairLike as _;
        use jwt_simple::algorithms::ES256KeyPair;
        let pair = ES256KeyPair::generate();
        let key = SigningKey::parse(Algorithm::Es256, &pair.key_pair().to_pem().unwrap()).unwrap();
        let point = pair.key_pair().public_key().to_bytes_uncompressed();
        let (x, y) = point[1..].split_at(32);
        let message = b"message".to_vec();
        let signature = Software.sign(&key, &message).unwrap();
        (PublicKey::p256(x, y).unwrap(), message, signature)
    }

    #[test]
    fn host_that_fails_the_known_answer_is_replaced_by_the_software() {
        let (key, message, signature) = good();
        // No such function; one that says yes to all; one that says no to all.
        for answer in [None, Some(vec![0x08, 0x01]), Some(vec![0x12, 0x00])] {
            let calls = Cell::new(0);
            let host = EnvoyCrypto::probe(|name, _| {
                assert_eq!(name, "verify_signature");
                calls.set(calls.get() + 1);
                answer.clone()
            });
            let probed = calls.get();
            assert!(probed > 0);
            assert!(host.verify(Algorithm::Es256, &key, &message, &signature));
            assert!(!host.verify(Algorithm::Es256, &key, b"another", &signature));
            assert_eq!(calls.get(), probed);
            assert_eq!(format!("{host:?}"), "signatures are verified in the module");
        }
    }

    #[test]
    fn only_the_two_bytes_make_a_signature_good() {
        let (key, message, signature) = good();
        let answer = std::cell::RefCell::new(None);
        let asked = Cell::new(0);
        let host = EnvoyCrypto::probe(|_, _| {
            asked.set(asked.get() + 1);
            // The probe asks for a good one, then for a bad one.
            if asked.get() == 1 { Some(vec![0x08, 0x01]) } else { answer.borrow().clone() }
        });
        assert_eq!(asked.get(), 2);
        let verify = |result: Option<&[u8]>| {
            answer.replace(result.map(<[u8]>::to_vec));
            host.verify(Algorithm::Es256, &key, &message, &signature)
        };
        assert!(verify(Some(&[0x08, 0x01])));
        let no: [&[u8]; 8] =
            [&[], &[8], &[8, 0], &[8, 2], &[8, 1, 0x12, 0], &[0x12, 2, 8, 1], &[8, 1, 8, 0], &[8, 0x81, 0]];
        for result in no.map(Some).into_iter().chain([None]) {
            assert!(!verify(result), "{result:?}");
        }
    }

    #[test]
    fn an_answer_that_is_no_signature_is_made_good_by_the_software() {
        use jwt_simple::algorithms::ECDSAP256KeyPairLike as _;
        use jwt_simple::algorithms::ES256KeyPair;
        let pem = ES256KeyPair::generate().key_pair().to_pem().unwrap();
        let key = SigningKey::parse(Algorithm::Es256, &pem).unwrap();
        let no: [&[u8]; 6] =
            [&[], &[8, 1], &[8, 1, 0x12], &[8, 1, 0x12, 2, 0x30], &[8, 1, 0x12, 1, 0x30], &[0x1a, 1, b'x']];
        for result in no.map(Some).into_iter().chain([None]) {
            let host = EnvoyCrypto::probe(|name, _| if name == "sign" { result.map(<[u8]>::to_vec) } else { None });
            assert_eq!(host.sign(&key, b"message").unwrap().len(), 64, "{result:?}");
        }
    }
}
