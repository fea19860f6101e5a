use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jwt_simple::algorithms::P256KeyPair;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use rsa::traits::PublicKeyParts;
use zeroize::Zeroizing;

use super::PublicKey;

/// What a client assertion can be signed with (`private_key_jwt`, OpenID Connect Core section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named as RFC 7518 section 3.1 names it")]
pub enum SigningAlgorithm {
    Rs256,
    Es256,
}

impl SigningAlgorithm {
    /// The value of the JWS header member `alg`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

/// A private key. `Debug` shows its algorithm only.
pub struct SigningKey {
    pub(super) inner: Inner,
    pkcs8: Zeroizing<Vec<u8>>,
}

pub(super) enum Inner {
    Rs256(Box<rsa::PrivateKey>),
    Es256(Box<P256KeyPair>),
}

impl SigningKey {
    /// Reads a key in PEM (RFC 7468 section 10: `PRIVATE KEY`, which is PKCS#8). Environment variables often hold
    /// `\n` for a line end: that is understood too.
    pub fn parse(algorithm: SigningAlgorithm, text: &str) -> Option<Self> {
        let text = Zeroizing::new(text.replace("\\n", "\n"));
        let body =
            text.trim().strip_prefix("-----BEGIN PRIVATE KEY-----")?.strip_suffix("-----END PRIVATE KEY-----")?;
        let body: Zeroizing<String> = Zeroizing::new(body.chars().filter(|c| !c.is_ascii_whitespace()).collect());
        let pkcs8 = Zeroizing::new(BASE64_STANDARD.decode(body.as_bytes()).ok()?);
        match algorithm {
            SigningAlgorithm::Rs256 => {
                let key = rsa_key(&pkcs8)?;
                // Anew: some of what stands there may be wrong, and is not looked at here, but by the host.
                let pkcs8 = Zeroizing::new(key.to_pkcs8_der().ok()?.as_bytes().to_vec());
                Some(Self { inner: Inner::Rs256(Box::new(key)), pkcs8 })
            }
            SigningAlgorithm::Es256 => {
                let pair = P256KeyPair::from_der(&pkcs8).ok()?;
                Some(Self { inner: Inner::Es256(Box::new(pair)), pkcs8 })
            }
        }
    }

    /// The algorithm that it signs with.
    pub const fn algorithm(&self) -> SigningAlgorithm {
        match self.inner {
            Inner::Rs256(_) => SigningAlgorithm::Rs256,
            Inner::Es256(_) => SigningAlgorithm::Es256,
        }
    }

    /// The key as DER PKCS#8 (RFC 5958), for the host's signing function.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// A signature by another library as JWS wants it: ECDSA's DER becomes r‖s (RFC 7518 section 3.4).
    pub fn jws_signature(&self, foreign: Vec<u8>) -> Option<Vec<u8>> {
        match self.inner {
            Inner::Rs256(_) => Some(foreign),
            Inner::Es256(_) => {
                p256::ecdsa::Signature::from_der(&foreign).ok().map(|signature| signature.to_bytes().to_vec())
            }
        }
    }
}

fn rsa_key(pkcs8: &[u8]) -> Option<rsa::PrivateKey> {
    let key = rsa::PrivateKey::from_pkcs8_der(pkcs8).ok()?;
    // Which checks the size and the exponent.
    PublicKey::rsa(&key.n_bytes(), &key.e_bytes()).map(|_| key)
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm().name())
    }
}

#[cfg(test)]
mod tests {
    use jwt_simple::algorithms::RS256KeyPair;
    use rsa::pkcs8::DecodePrivateKey as _;

    use super::*;

    #[test]
    fn the_host_gets_a_key_without_the_mistakes_of_the_operators() {
        use base64::Engine as _;
        let pem = RS256KeyPair::generate(2048).unwrap().to_pem().unwrap();
        let body = |pem: &str| -> String { pem.lines().filter(|line| !line.starts_with('-')).collect() };
        let good = BASE64_STANDARD.decode(body(&pem)).unwrap();
        // The last of its numbers is the coefficient, which can be computed from others.
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 2;
        let text = |der: &[u8]| {
            format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----", BASE64_STANDARD.encode(der))
        };
        let [good, bad] = [good, bad].map(|der| SigningKey::parse(SigningAlgorithm::Rs256, &text(&der)).unwrap());
        assert_eq!(good.pkcs8(), bad.pkcs8());
        assert!(rsa::PrivateKey::from_pkcs8_der(bad.pkcs8()).is_ok());
    }
}
