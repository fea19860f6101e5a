//! Key of shared memory: authentication codes, sealed records, encrypted entries.

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::crypto::Crypto;

/// Secret that all workers with the same configuration derive, and that no other plugin has.
pub struct SharedKey(Zeroizing<[u8; 32]>);

/// Number of bytes of an authentication code.
const MAC_BYTES: usize = 32;

/// Number of bytes of a nonce of XChaCha20-Poly1305. Random nonces of this length do not repeat.
const NONCE_BYTES: usize = 24;

impl SharedKey {
    /// Derives the key from all secrets of a configuration.
    pub(crate) fn from_secrets<'a>(secrets: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut hash = hmac_sha256::Hash::new();
        hash.update(b"onbehalf shared memory 1");
        for secret in secrets {
            hash.update(secret.len().to_le_bytes());
            hash.update(secret);
        }
        Self(Zeroizing::new(hash.finalize()))
    }

    /// HMAC-SHA-256 over `parts`, each with its length in front: no two lists of parts have the same input.
    pub(crate) fn mac(&self, parts: &[&[u8]]) -> [u8; MAC_BYTES] {
        let mut mac = hmac_sha256::HMAC::new(*self.0);
        for part in parts {
            mac.update(part.len().to_le_bytes());
            mac.update(part);
        }
        mac.finalize()
    }

    /// First `N` bytes of [`mac`](Self::mac) in lower-case hexadecimal, for the name of a record: it tells other plugins
    /// nothing about `parts`.
    pub(crate) fn mac_hex<const N: usize>(&self, parts: &[&[u8]]) -> String {
        self.mac(parts).iter().take(N).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Record for `name` with an authentication code in front of `content`.
    pub(crate) fn seal(&self, name: &str, content: &[u8]) -> Vec<u8> {
        [&self.mac(&[name.as_bytes(), content])[..], content].concat()
    }

    /// Content of a record that was sealed with this key for this `name`. `None`: it was not.
    pub(crate) fn open<'a>(&self, name: &str, record: &'a [u8]) -> Option<&'a [u8]> {
        let (code, content) = record.split_first_chunk::<MAC_BYTES>()?;
        bool::from(code.ct_eq(&self.mac(&[name.as_bytes(), content]))).then_some(content)
    }

    /// Encrypts `content` with XChaCha20-Poly1305; `context` is authenticated with it. `None`: the host has no randomness for
    /// the nonce.
    pub(crate) fn encrypt(&self, context: &[u8], content: &[u8], crypto: &dyn Crypto) -> Option<Vec<u8>> {
        let random = [crypto.random()?, crypto.random()?];
        let nonce = random.as_flattened().first_chunk::<NONCE_BYTES>()?;
        let encrypted = self.cipher().encrypt(&XNonce::from(*nonce), Payload { msg: content, aad: context }).ok()?;
        Some([&nonce[..], &encrypted].concat())
    }

    /// Decrypts what was encrypted with this key and the same `context`. `None`: it was not, or was changed.
    pub(crate) fn decrypt(&self, context: &[u8], record: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, encrypted) = record.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: encrypted, aad: context };
        self.cipher().decrypt(&XNonce::from(*nonce), payload).ok().map(Zeroizing::new)
    }

    /// Cipher under a derived key: each key has one purpose.
    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.mac(&[b"encryption"]).into())
    }
}

impl std::fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Software;

    fn key(secret: &[u8]) -> SharedKey {
        SharedKey::from_secrets([secret].into_iter())
    }

    #[test]
    fn a_record_opens_under_its_name_with_its_key_and_whole() {
        let record = key(b"s").seal("name", b"content");
        assert_eq!(key(b"s").open("name", &record), Some(&b"content"[..]));
        assert_eq!(key(b"t").open("name", &record), None);
        assert_eq!(key(b"s").open("other", &record), None);
        assert_eq!(key(b"s").open("name", &record[..31]), None);
        for position in 0..record.len() {
            let mut bent = record.clone();
            bent[position] ^= 1;
            assert_eq!(key(b"s").open("name", &bent), None, "{position}");
        }
    }

    #[test]
    fn an_encrypted_entry_is_read_with_its_key_in_its_context_and_whole() {
        let record = key(b"s").encrypt(b"context", b"content", &Software).unwrap();
        let read = |secret: &[u8], context: &[u8], record: &[u8]| {
            key(secret).decrypt(context, record).map(|content| content.to_vec())
        };
        assert_eq!(read(b"s", b"context", &record).as_deref(), Some(&b"content"[..]));
        assert_eq!(read(b"t", b"context", &record), None);
        assert_eq!(read(b"s", b"other", &record), None);
        assert!(!record.windows(7).any(|window| window == b"content"));
        for position in 0..record.len() {
            let mut bent = record.clone();
            bent[position] ^= 1;
            assert_eq!(read(b"s", b"context", &bent), None, "{position}");
            assert_eq!(read(b"s", b"context", &record[..position]), None, "{position}");
        }
    }

    #[test]
    fn codes_of_parts_that_are_split_differently_differ() {
        let key = key(b"s");
        assert_ne!(key.mac(&[b"ab", b"c"]), key.mac(&[b"a", b"bc"]));
        assert_ne!(
            SharedKey::from_secrets([&b"ab"[..]].into_iter()).mac(&[]),
            SharedKey::from_secrets([&b"a"[..], b"b"].into_iter()).mac(&[])
        );
    }

    #[test]
    fn debug_output_shows_nothing_of_the_key() {
        assert_eq!(format!("{:?}", key(b"s")), "SharedKey(…)");
    }
}
