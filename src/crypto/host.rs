use std::fmt;

use super::{Algorithm, Crypto, PublicKey, SigningAlgorithm, SigningKey, Software, known_answer};

/// The host's BoringSSL where it has what is needed (Envoy's foreign functions `verify_signature`, and `sign` from
/// 1.37 on), else the libraries in the module.
///
/// `F` calls a foreign function: its name and its arguments, and what it returned, `None` when there is no such
/// function or it failed.
pub struct Host<F> {
    call: F,
    verifies: bool,
    software: Software,
}

impl<F: Fn(&str, &[u8]) -> Option<Vec<u8>>> Host<F> {
    /// Asks the host for a known answer. One that gives a wrong one is not asked again.
    pub fn probe(call: F) -> Self {
        let mut crypto = Self { call, verifies: true, software: Software };
        crypto.verifies = known_answer::holds(&crypto);
        crypto
    }
}

impl<F: Fn(&str, &[u8]) -> Option<Vec<u8>>> Crypto for Host<F> {
    fn verify(&self, algorithm: Algorithm, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        let hash = match algorithm {
            Algorithm::Rs256 | Algorithm::Es256 => "sha256",
            Algorithm::Rs384 | Algorithm::Es384 => "sha384",
            Algorithm::Rs512 => "sha512",
            Algorithm::Ps256 | Algorithm::Ps384 | Algorithm::Ps512 | Algorithm::EdDsa => "",
        };
        if !self.verifies || hash.is_empty() {
            return self.software.verify(algorithm, key, message, signature);
        }
        let Some(signature) = key.foreign_signature(signature).filter(|_| key.suits(algorithm)) else {
            return false;
        };
        // envoy: source/extensions/common/wasm/ext/verify_signature.proto
        let arguments = message_of(&[(1, hash.as_bytes()), (2, key.spki()), (3, &signature), (4, message)]);
        // Field 1, true, and nothing else. Everything else is no.
        (self.call)("verify_signature", &arguments).as_deref() == Some(&[0x08, 0x01])
    }

    fn sign(&self, key: &SigningKey, message: &[u8]) -> Option<Vec<u8>> {
        let (SigningAlgorithm::Rs256 | SigningAlgorithm::Es256) = key.algorithm();
        // envoy: source/extensions/common/wasm/ext/sign.proto
        let arguments = zeroize::Zeroizing::new(message_of(&[(1, b"sha256"), (2, key.pkcs8()), (3, message)]));
        let by_host =
            (self.call)("sign", &arguments).and_then(|result| key.jws_signature(signature_of(&result)?.to_vec()));
        by_host.or_else(|| self.software.sign(key, message))
    }

    fn random(&self) -> Option<[u8; 16]> {
        self.software.random()
    }
}

impl<F> fmt::Debug for Host<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "signatures are verified {}", if self.verifies { "by the host" } else { "in the module" })
    }
}

/// A protocol buffer of length-delimited fields: each its tag, its length and its bytes.
fn message_of(fields: &[(u8, &[u8])]) -> Vec<u8> {
    let mut message = Vec::with_capacity(fields.iter().map(|(_, bytes)| bytes.len().saturating_add(6)).sum());
    for (number, bytes) in fields {
        message.push(number << 3 | 2);
        let mut length = bytes.len();
        while length >= 0x80 {
            message.push(low_byte(length) | 0x80);
            length >>= 7;
        }
        message.push(low_byte(length));
        message.extend_from_slice(bytes);
    }
    message
}

fn low_byte(number: usize) -> u8 {
    number.to_le_bytes().first().map_or(0, |byte| byte & 0x7f)
}

/// The signature of a `SignResult` that says that it is one: `08 01 12`, a length below 2^14, and that many bytes.
fn signature_of(result: &[u8]) -> Option<&[u8]> {
    let rest = result.strip_prefix(&[0x08, 0x01, 0x12])?;
    let (length, rest) = match rest {
        [low @ 0..=0x7f, rest @ ..] => (usize::from(*low), rest),
        [low, high @ 0..=0x7f, rest @ ..] => (usize::from(low & 0x7f) | usize::from(*high) << 7, rest),
        _ => return None,
    };
    (rest.len() == length).then_some(rest)
}
