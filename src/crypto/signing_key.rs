use std::fmt;

use jwt_simple::algorithms::{ECDSAP256KeyPairLike, ES256KeyPair, RS256KeyPair, RSAKeyPairLike};
use zeroize::Zeroizing;

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
    Rs256(Box<RS256KeyPair>),
    Es256(Box<ES256KeyPair>),
}

impl SigningKey {
    /// Reads a key as an identity provider hands it out: PEM, or a JWK when the text begins with `{`. For
    /// RS256 PKCS#8 or PKCS#1, for ES256 PKCS#8. Environment variables often hold `\n` for a line end: that is
    /// understood too.
    pub fn parse(algorithm: SigningAlgorithm, text: &str) -> Option<Self> {
        let text = Zeroizing::new(text.replace("\\n", "\n"));
        let text = text.trim();
        let jwk = text.starts_with('{');
        match algorithm {
            SigningAlgorithm::Rs256 => {
                let pair = if jwk { RS256KeyPair::from_jwk(text) } else { RS256KeyPair::from_pem(text) }.ok()?;
                let pkcs8 = Zeroizing::new(pair.key_pair().to_der().ok()?);
                Some(Self { inner: Inner::Rs256(Box::new(pair)), pkcs8 })
            }
            SigningAlgorithm::Es256 => {
                let pair = if jwk { ES256KeyPair::from_jwk(text) } else { ES256KeyPair::from_pem(text) }.ok()?;
                let pkcs8 = Zeroizing::new(pair.key_pair().to_der().ok()?);
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

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm().name())
    }
}
