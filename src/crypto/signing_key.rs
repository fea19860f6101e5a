use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jwt_simple::algorithms::P256KeyPair;
use rsa::BoxedUint;
use rsa::pkcs1::{RsaPrivateKeyRef, UintRef};
use rsa::pkcs8::PrivateKeyInfoRef;
use rsa::traits::{PrivateKeyParts as _, PublicKeyParts as _};
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
        let inner = match algorithm {
            SigningAlgorithm::Rs256 => Inner::Rs256(Box::new(rsa_key(&pkcs8)?)),
            SigningAlgorithm::Es256 => Inner::Es256(Box::new(P256KeyPair::from_der(&pkcs8).ok()?)),
        };
        Some(Self { inner, pkcs8 })
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
    let info = PrivateKeyInfoRef::try_from(pkcs8).ok()?;
    let written = RsaPrivateKeyRef::try_from(info.private_key).ok()?;
    let key = rsa::PrivateKey::try_from(info).ok()?;
    // Which checks the size and the exponent.
    PublicKey::rsa(&key.n_bytes(), &key.e_bytes())?;
    // What the key was made of is checked; what can be computed from that was, here, but the host takes it as it stands.
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
        write!(f, "SigningKey({})", self.algorithm().name())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
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
            SigningKey::parse(SigningAlgorithm::Rs256, &text)
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
