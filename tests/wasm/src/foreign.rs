//! Envoy's foreign functions `verify_signature` and `sign`, with their wire format.
//!
//! Keys are SubjectPublicKeyInfo, never a bare PKCS#1 key; ECDSA signatures are DER; RSA is PKCS#1 v1.5 only. The
//! function restricts neither algorithm nor curve nor key size: the filter does.

use p256::ecdsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, DecodePublicKey};
use rsa::sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use rsa::{Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey};

use crate::abi::Status;

type Foreign = Result<Vec<u8>, Status>;

/// Arguments: 1 hash, 2 key (DER), 3 signature, 4 text, 5 key (PEM). Result: `08 01`, or an error in field 2.
pub fn verify_signature(arguments: &[u8]) -> Foreign {
    let fields = Fields::parse(arguments).ok_or(Status::BadArgument)?;
    let (hash, signature, text) = (fields.text(1)?, fields.bytes(3), fields.bytes(4));
    let key = match (fields.bytes(2), fields.text(5)?) {
        (der, "") if !der.is_empty() => PublicKey::from_der(der),
        ([], pem) if !pem.is_empty() => PublicKey::from_pem(pem),
        _ => return Err(Status::BadArgument),
    };
    let outcome = match (hashed(hash, text), key) {
        (None, _) => Err(format!("{hash} is not supported.")),
        (_, None) => Err("Failed to initialize digest verify.".to_owned()),
        (Some(digest), Some(key)) if key.verify(&digest, signature) => Ok(()),
        _ => Err("Failed to verify digest. Error code: 0".to_owned()),
    };
    Ok(match outcome {
        Ok(()) => vec![0x08, 0x01],
        Err(error) => field(2, error.as_bytes()),
    })
}

/// Arguments: 1 hash, 2 key (DER), 3 text, 4 key (PEM). Result: 1 done, 2 signature, 3 error.
pub fn sign(arguments: &[u8]) -> Foreign {
    let fields = Fields::parse(arguments).ok_or(Status::BadArgument)?;
    let (hash, text) = (fields.text(1)?, fields.bytes(3));
    let key = match (fields.bytes(2), fields.text(4)?) {
        (der, "") if !der.is_empty() => PrivateKey::from_der(der),
        ([], pem) if !pem.is_empty() => PrivateKey::from_pem(pem),
        _ => return Err(Status::BadArgument),
    };
    let signature = match (hashed(hash, text), key) {
        (None, _) => Err(format!("{hash} is not supported.")),
        (_, None) => Err("Invalid key type: private key required".to_owned()),
        (Some(digest), Some(key)) => key.sign(&digest).ok_or_else(|| "Failed to sign.".to_owned()),
    };
    Ok(match signature {
        Ok(signature) => [vec![0x08, 0x01], field(2, &signature)].concat(),
        Err(error) => field(3, error.as_bytes()),
    })
}

enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

struct Digested {
    hash: Hash,
    bytes: Vec<u8>,
}

fn hashed(name: &str, text: &[u8]) -> Option<Digested> {
    let (hash, bytes) = match name.to_ascii_lowercase().as_str() {
        "sha224" => (Hash::Sha224, Sha224::digest(text).to_vec()),
        "sha256" => (Hash::Sha256, Sha256::digest(text).to_vec()),
        "sha384" => (Hash::Sha384, Sha384::digest(text).to_vec()),
        "sha512" => (Hash::Sha512, Sha512::digest(text).to_vec()),
        _ => return None,
    };
    Some(Digested { hash, bytes })
}

impl Digested {
    fn scheme(&self) -> Pkcs1v15Sign {
        match self.hash {
            Hash::Sha224 => Pkcs1v15Sign::new::<Sha224>(),
            Hash::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
            Hash::Sha384 => Pkcs1v15Sign::new::<Sha384>(),
            Hash::Sha512 => Pkcs1v15Sign::new::<Sha512>(),
        }
    }
}

enum PublicKey {
    Rsa(RsaPublicKey),
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
}

impl PublicKey {
    fn from_der(der: &[u8]) -> Option<Self> {
        use p256::pkcs8::DecodePublicKey as DecodeEcPublicKey;
        let rsa = || RsaPublicKey::from_public_key_der(der).ok().map(Self::Rsa);
        let p256 = || <p256::ecdsa::VerifyingKey as DecodeEcPublicKey>::from_public_key_der(der).ok().map(Self::P256);
        let p384 = || <p384::ecdsa::VerifyingKey as DecodeEcPublicKey>::from_public_key_der(der).ok().map(Self::P384);
        rsa().or_else(p256).or_else(p384)
    }

    fn from_pem(pem: &str) -> Option<Self> {
        use p256::pkcs8::DecodePublicKey as DecodeEcPublicKey;
        let rsa = || RsaPublicKey::from_public_key_pem(pem).ok().map(Self::Rsa);
        let p256 = || <p256::ecdsa::VerifyingKey as DecodeEcPublicKey>::from_public_key_pem(pem).ok().map(Self::P256);
        let p384 = || <p384::ecdsa::VerifyingKey as DecodeEcPublicKey>::from_public_key_pem(pem).ok().map(Self::P384);
        rsa().or_else(p256).or_else(p384)
    }

    fn verify(&self, digest: &Digested, signature: &[u8]) -> bool {
        match self {
            Self::Rsa(key) => key.verify(digest.scheme(), &digest.bytes, signature).is_ok(),
            Self::P256(key) => p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(&digest.bytes, &signature).is_ok()),
            Self::P384(key) => p384::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(&digest.bytes, &signature).is_ok()),
        }
    }
}

enum PrivateKey {
    Rsa(Box<RsaPrivateKey>),
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
}

impl PrivateKey {
    /// PKCS#8 only, as BoringSSL's `EVP_parse_private_key`.
    fn from_der(der: &[u8]) -> Option<Self> {
        use p256::pkcs8::DecodePrivateKey as DecodeEcPrivateKey;
        let rsa = || RsaPrivateKey::from_pkcs8_der(der).ok().map(|key| Self::Rsa(Box::new(key)));
        let p256 = || <p256::SecretKey as DecodeEcPrivateKey>::from_pkcs8_der(der).ok().map(Self::p256);
        let p384 = || <p384::SecretKey as DecodeEcPrivateKey>::from_pkcs8_der(der).ok().map(Self::p384);
        rsa().or_else(p256).or_else(p384)
    }

    /// PKCS#8, and the older PKCS#1 and SEC1.
    fn from_pem(pem: &str) -> Option<Self> {
        use p256::pkcs8::DecodePrivateKey as DecodeEcPrivateKey;
        let rsa = || RsaPrivateKey::from_pkcs8_pem(pem).or_else(|_| RsaPrivateKey::from_pkcs1_pem(pem).map_err(drop));
        let rsa = || rsa().ok().map(|key| Self::Rsa(Box::new(key)));
        let p256 = || <p256::SecretKey as DecodeEcPrivateKey>::from_pkcs8_pem(pem).ok();
        let p256 = || p256().or_else(|| p256::SecretKey::from_sec1_pem(pem).ok()).map(Self::p256);
        let p384 = || <p384::SecretKey as DecodeEcPrivateKey>::from_pkcs8_pem(pem).ok();
        let p384 = || p384().or_else(|| p384::SecretKey::from_sec1_pem(pem).ok()).map(Self::p384);
        rsa().or_else(p256).or_else(p384)
    }

    fn p256(key: p256::SecretKey) -> Self {
        Self::P256(key.into())
    }

    fn p384(key: p384::SecretKey) -> Self {
        Self::P384(key.into())
    }

    fn sign(&self, digest: &Digested) -> Option<Vec<u8>> {
        match self {
            Self::Rsa(key) => key.sign(digest.scheme(), &digest.bytes).ok(),
            Self::P256(key) => {
                let signature: p256::ecdsa::DerSignature = key.sign_prehash(&digest.bytes).ok()?;
                Some(signature.as_bytes().to_vec())
            }
            Self::P384(key) => {
                let signature: p384::ecdsa::DerSignature = key.sign_prehash(&digest.bytes).ok()?;
                Some(signature.as_bytes().to_vec())
            }
        }
    }
}

/// The fields of a protobuf message with string or bytes values only. The last value of a repeated field counts.
struct Fields<'a>(Vec<(u64, &'a [u8])>);

impl<'a> Fields<'a> {
    fn parse(mut bytes: &'a [u8]) -> Option<Self> {
        const LENGTH_DELIMITED: u64 = 2;
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes)?;
            if tag & 7 != LENGTH_DELIMITED {
                return None;
            }
            let length = usize::try_from(varint(&mut bytes)?).ok()?;
            let (value, rest) = bytes.split_at_checked(length)?;
            bytes = rest;
            fields.push((tag >> 3, value));
        }
        Some(Self(fields))
    }

    fn bytes(&self, number: u64) -> &'a [u8] {
        self.0.iter().rev().find(|(found, _)| *found == number).map_or(&[], |(_, value)| value)
    }

    fn text(&self, number: u64) -> Result<&'a str, Status> {
        std::str::from_utf8(self.bytes(number)).map_err(|_| Status::BadArgument)
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = value.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).expect("seven bits"));
    out.extend(value);
    out
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::{DerSignature, Signature, SigningKey};
    use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _};

    use super::*;

    /// The arguments as a module encodes them.
    fn arguments(fields: &[(u8, &[u8])]) -> Vec<u8> {
        fields.iter().flat_map(|(number, value)| field(*number, value)).collect()
    }

    fn key() -> p256::SecretKey {
        p256::SecretKey::from_slice(&[7; 32]).expect("below the order")
    }

    fn spki() -> Vec<u8> {
        key().public_key().to_public_key_der().expect("DER").as_bytes().to_vec()
    }

    #[test]
    fn valid_signature_gives_the_two_bytes_of_envoy() {
        let text = vec![b'x'; 300];
        let pkcs8 = key().to_pkcs8_der().expect("DER");
        let signed = sign(&arguments(&[(1, b"sha256"), (2, pkcs8.as_bytes()), (3, &text)])).expect("a result");
        let signature = signed.strip_prefix(&[8, 1, 0x12]).and_then(|rest| rest.split_first()).expect("a signature").1;
        let verify = |hash: &[u8], text: &[u8]| {
            verify_signature(&arguments(&[(1, hash), (2, &spki()), (3, signature), (4, text)])).expect("a result")
        };
        assert_eq!(verify(b"sha256", &text), [8, 1]);
        assert_eq!(verify(b"SHA256", &text), [8, 1]);
        assert_eq!(verify(b"sha256", b"another text")[0], 0x12);
        assert_eq!(verify(b"sha384", &text)[0], 0x12);
        assert_eq!(&verify(b"ES256", &text)[2..], b"ES256 is not supported.");
    }

    #[test]
    fn ecdsa_signature_in_jose_form_is_refused() {
        let signature: DerSignature = SigningKey::from(key()).sign_prehash(&Sha256::digest(b"text")).expect("signs");
        let jose = Signature::from_der(signature.as_bytes()).expect("DER").to_bytes();
        let result = verify_signature(&arguments(&[(1, b"sha256"), (2, &spki()), (3, &jose), (4, b"text")]));
        assert_eq!(result.expect("a result")[0], 0x12);
    }

    #[test]
    fn missing_or_second_key_is_a_bad_argument_and_a_broken_key_a_verdict() {
        let result = |key: &[(u8, &[u8])]| {
            let fields = [key, &[(1, b"sha256"), (3, b"s"), (4, b"t")]].concat();
            verify_signature(&arguments(&fields))
        };
        assert_eq!(result(&[]), Err(Status::BadArgument));
        assert_eq!(result(&[(2, &spki()), (5, b"PEM")]), Err(Status::BadArgument));
        assert_eq!(&result(&[(2, b"rubbish")]).expect("a result")[2..], b"Failed to initialize digest verify.");
        assert_eq!(verify_signature(b"\x08"), Err(Status::BadArgument));
    }
}
