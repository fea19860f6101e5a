//! Key of shared data: sealing, encryption and authentication codes.

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

/// What workers with the same configuration have in common and nobody else has.
pub struct SharedKey(Zeroizing<[u8; 32]>);

/// The length of a record's authentication code, in bytes.
const CODE: usize = 32;

/// Random bytes for each encryption: so many that none comes twice.
pub type Nonce = [u8; 24];

impl SharedKey {
    /// From all secrets of a configuration.
    pub fn of<'a>(secrets: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut hash = hmac_sha256::Hash::new();
        hash.update(b"onbehalf shared memory 1");
        for secret in secrets {
            hash.update(secret.len().to_le_bytes());
            hash.update(secret);
        }
        Self(Zeroizing::new(hash.finalize()))
    }

    /// HMAC-SHA-256 over `parts`, no two lists of which give the same input.
    pub fn code(&self, parts: &[&[u8]]) -> [u8; CODE] {
        let mut code = hmac_sha256::HMAC::new(*self.0);
        for part in parts {
            code.update(part.len().to_le_bytes());
            code.update(part);
        }
        code.finalize()
    }

    /// `content` with the code that [`open`](Self::open) asks for, for this `name` only.
    pub fn seal(&self, name: &str, content: &[u8]) -> Vec<u8> {
        [&self.code(&[name.as_bytes(), content])[..], content].concat()
    }

    /// The content of a record that somebody with this key has sealed under `name`.
    pub fn open<'a>(&self, name: &str, record: &'a [u8]) -> Option<&'a [u8]> {
        let (code, content) = record.split_first_chunk::<CODE>()?;
        is_same_code(code, &self.code(&[name.as_bytes(), content])).then_some(content)
    }

    /// `content` for nobody but [`decrypt`](Self::decrypt) with the same `context` (XChaCha20-Poly1305). `None`: it is too
    /// long, by gigabytes.
    pub fn encrypt(&self, context: &[u8], content: &[u8], nonce: Nonce) -> Option<Vec<u8>> {
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), Payload { msg: content, aad: context }).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    /// What was encrypted with this key in that `context`.
    pub fn decrypt(&self, context: &[u8], record: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = record.split_first_chunk::<24>()?;
        let payload = Payload { msg: sealed, aad: context };
        self.cipher().decrypt(&XNonce::from(*nonce), payload).ok().map(Zeroizing::new)
    }

    /// With a key of its own: one key is for one purpose.
    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.code(&[b"encryption"]).into())
    }
}

impl std::fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedKey(…)")
    }
}

/// Equality in a time that does not depend on where two codes differ.
pub fn is_same_code(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |all, (one, other)| all | (one ^ other)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &[u8]) -> SharedKey {
        SharedKey::of([secret].into_iter())
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
    fn what_is_encrypted_is_read_with_its_key_in_its_context_and_whole() {
        let record = key(b"s").encrypt(b"context", b"content", [7; 24]).unwrap();
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
    fn the_parts_of_a_code_are_told_apart() {
        let key = key(b"s");
        assert_ne!(key.code(&[b"ab", b"c"]), key.code(&[b"a", b"bc"]));
        assert_ne!(
            SharedKey::of([&b"ab"[..]].into_iter()).code(&[]),
            SharedKey::of([&b"a"[..], b"b"].into_iter()).code(&[])
        );
    }

    #[test]
    fn debug_shows_nothing_of_the_key() {
        assert_eq!(format!("{:?}", key(b"s")), "SharedKey(…)");
    }
}
