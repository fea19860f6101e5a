//! Private keys for client assertions and DPoP proofs.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jwt_simple::algorithms::{Edwards25519KeyPair, P256KeyPair, P384KeyPair};
use rsa::BoxedUint;
use rsa::pkcs1::{RsaPrivateKeyRef, UintRef};
use rsa::pkcs8::PrivateKeyInfoRef;
use rsa::traits::{PrivateKeyParts as _, PublicKeyParts as _};
use zeroize::Zeroizing;

use crate::crypto::{Algorithm, PublicKey, pem};

/// Private key with its one algorithm. `Debug` shows only the algorithm.
pub struct SigningKey {
    algorithm: Algorithm,
    pub(super) inner: Inner,
    pkcs8: Zeroizing<Vec<u8>>,
}

pub(super) enum Inner {
    Rsa(Box<rsa::PrivateKey>),
    P256(Box<P256KeyPair>),
    P384(Box<P384KeyPair>),
    Ed25519(Box<Edwards25519KeyPair>),
}

impl SigningKey {
    /// Reads a key in PEM (RFC 7468 section 10: `PRIVATE KEY`, which is PKCS#8). `None`: the text is not a key of that
    /// algorithm.
    pub fn parse(algorithm: Algorithm, text: &str) -> Option<Self> {
        let mut blocks = pem::blocks(text, "PRIVATE KEY")?;
        let pkcs8 = blocks.pop().filter(|_| blocks.is_empty())?;
        let inner = match algorithm {
            Algorithm::Es256 => Inner::P256(Box::new(P256KeyPair::from_der(&pkcs8).ok()?)),
            Algorithm::Es384 => Inner::P384(Box::new(P384KeyPair::from_der(&pkcs8).ok()?)),
            Algorithm::EdDsa => Inner::Ed25519(Box::new(Edwards25519KeyPair::from_der(&pkcs8).ok()?)),
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => Inner::Rsa(Box::new(rsa_key(&pkcs8)?)),
        };
        Some(Self { algorithm, inner, pkcs8 })
    }

    /// Algorithm of its signatures.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key as DER PKCS#8 (RFC 5958), for Envoy's foreign function `sign`.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// Returns `true` if a certificate in DER has the public key of this key, as a `SubjectPublicKeyInfo` (RFC 5280 section 4.1.2.7).
    /// A private key in place of the certificate does not contain that form.
    pub fn is_in(&self, certificate: &[u8]) -> bool {
        let (first, second) = self.public_parts();
        let public = match &self.inner {
            Inner::Rsa(_) => PublicKey::rsa(&first, &second),
            Inner::P256(_) => PublicKey::p256(&first, &second),
            Inner::P384(_) => PublicKey::p384(&first, &second),
            Inner::Ed25519(_) => PublicKey::ed25519(&first),
        };
        public.is_some_and(|public| certificate.windows(public.spki().len()).any(|window| window == public.spki()))
    }

    /// The required members of the public key as a JWK (RFC 7518 section 6, RFC 8037 section 2), in the order of their
    /// names, which is that of a thumbprint (RFC 7638 section 3).
    pub fn public_jwk(&self) -> Vec<(&'static str, String)> {
        let (first, second) = self.public_parts();
        let [first, second] = [first, second].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        let curve = |name: &str| vec![("crv", name.to_owned()), ("kty", "EC".to_owned())];
        match &self.inner {
            Inner::Rsa(_) => vec![("e", second), ("kty", "RSA".to_owned()), ("n", first)],
            Inner::P256(_) => [curve("P-256"), vec![("x", first), ("y", second)]].concat(),
            Inner::P384(_) => [curve("P-384"), vec![("x", first), ("y", second)]].concat(),
            Inner::Ed25519(_) => vec![("crv", "Ed25519".to_owned()), ("kty", "OKP".to_owned()), ("x", first)],
        }
    }

    /// Modulus and exponent, or the two coordinates, or the Ed25519 key and an empty string.
    fn public_parts(&self) -> (Vec<u8>, Vec<u8>) {
        // The first byte of an uncompressed point is its format (SEC 1 section 2.3.3).
        let halves = |point: &[u8]| {
            let coordinates = point.get(1..).unwrap_or_default();
            let (x, y) = coordinates.split_at_checked(coordinates.len() / 2).unwrap_or_default();
            (x.to_vec(), y.to_vec())
        };
        match &self.inner {
            Inner::Rsa(key) => (key.n_bytes().to_vec(), key.e_bytes().to_vec()),
            Inner::P256(pair) => halves((**pair).as_ref().verifying_key().to_sec1_point(false).as_bytes()),
            Inner::P384(pair) => halves((**pair).as_ref().verifying_key().to_sec1_point(false).as_bytes()),
            Inner::Ed25519(pair) => ((**pair).as_ref().pk.to_vec(), Vec::new()),
        }
    }

    /// Converts a signature of another library to JWS form: DER of ECDSA becomes r‖s (RFC 7518 section 3.4).
    pub fn jws_signature(&self, foreign: Vec<u8>) -> Option<Vec<u8>> {
        match self.inner {
            Inner::Rsa(_) | Inner::Ed25519(_) => Some(foreign),
            Inner::P256(_) => {
                p256::ecdsa::Signature::from_der(&foreign).ok().map(|signature| signature.to_bytes().to_vec())
            }
            Inner::P384(_) => {
                p384::ecdsa::Signature::from_der(&foreign).ok().map(|signature| signature.to_bytes().to_vec())
            }
        }
    }
}

fn rsa_key(pkcs8: &[u8]) -> Option<rsa::PrivateKey> {
    let info = PrivateKeyInfoRef::try_from(pkcs8).ok()?;
    let written = RsaPrivateKeyRef::try_from(info.private_key).ok()?;
    let key = rsa::PrivateKey::try_from(info).ok()?;
    // The public key has the checks of size and exponent.
    PublicKey::rsa(&key.n_bytes(), &key.e_bytes())?;
    // `rsa` checks the primes and computes the other numbers itself. BoringSSL uses the written ones, so they must be equal.
    let is = |written: UintRef<'_>, number: Option<&BoxedUint>| {
        number.is_some_and(|number| *number.to_be_bytes_trimmed_vartime() == *written.as_bytes())
    };
    let holds = is(written.exponent1, key.dp())
        && is(written.exponent2, key.dq())
        && is(written.coefficient, key.crt_coefficient().as_ref());
    holds.then_some(key)
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm.name())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use jwt_simple::algorithms::RS256KeyPair;

    use super::*;

    #[test]
    fn an_rsa_key_whose_numbers_do_not_fit_is_refused() {
        let pem = RS256KeyPair::generate(2048).unwrap().to_pem().unwrap();
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let good = BASE64_STANDARD.decode(body).unwrap();
        let parse = |der: &[u8]| {
            let body = BASE64_STANDARD.encode(der);
            let text = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----");
            SigningKey::parse(Algorithm::Rs256, &text)
        };
        assert!(parse(&good).is_some());
        // The coefficient is the last of its numbers; the two exponents and the primes stand before.
        for from_the_end in [1, 140, 280, 410, 540, 700] {
            let mut bad = good.clone();
            let at = bad.len() - from_the_end;
            bad[at] ^= 2;
            assert!(parse(&bad).is_none(), "{from_the_end} from the end");
        }
    }
}
