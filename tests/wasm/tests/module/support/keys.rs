//! Keys that each run generates: there is no private key in the repository.

use std::sync::OnceLock;

use onbehalf_test_support::base64url;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use p256::pkcs8::EncodePrivateKey as _;
use rsa::rand_core::{OsRng, RngCore as _};
use rsa::sha2::{Digest as _, Sha256, Sha384, Sha512};
use rsa::traits::PublicKeyParts as _;
use rsa::{Pkcs1v15Sign, Pss, RsaPrivateKey};
use serde_json::{Value, json};

use super::token::Token;

/// A JWS algorithm (RFC 7518, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alg {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Alg {
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The `kid` under which the providers publish the key for this algorithm.
    pub fn kid(self) -> String {
        format!("key-{}", self.name())
    }
}

struct Keys {
    rsa: RsaPrivateKey,
    p256: p256::SecretKey,
    p384: p384::SecretKey,
    ed25519: ed25519_compact::KeyPair,
    client: p256::SecretKey,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| Keys {
        rsa: RsaPrivateKey::new(&mut OsRng, 2048).expect("an RSA key"),
        p256: p256::SecretKey::from_slice(&scalar::<32>()).expect("a P-256 key"),
        p384: p384::SecretKey::from_slice(&scalar::<48>()).expect("a P-384 key"),
        ed25519: ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::new(scalar())),
        client: p256::SecretKey::from_slice(&scalar::<32>()).expect("a P-256 key"),
    })
}

/// Random octets below the order of the curve.
fn scalar<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    OsRng.fill_bytes(&mut bytes);
    bytes[0] &= 0x7f;
    bytes
}

/// The private key with which the filter authenticates at a provider: PKCS#8 PEM.
pub fn pem() -> &'static str {
    static PEM: OnceLock<String> = OnceLock::new();
    PEM.get_or_init(|| keys().client.to_pkcs8_pem(p256::pkcs8::LineEnding::LF).expect("PEM").to_string())
}

/// Whether `signature` (r and s in JOSE form) is the filter's own over `message`.
pub fn signed_by_client(message: &[u8], signature: &[u8]) -> bool {
    use p256::ecdsa::signature::Verifier as _;
    let key = p256::ecdsa::VerifyingKey::from(keys().client.public_key());
    p256::ecdsa::Signature::from_slice(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
}

/// The signature over `message`, in the form that `algorithm` has in a JWS.
pub fn sign(algorithm: Alg, message: &[u8]) -> Vec<u8> {
    use p256::ecdsa::signature::Signer as _;
    let keys = keys();
    let pkcs1 = |scheme: Pkcs1v15Sign, digest: &[u8]| keys.rsa.sign(scheme, digest).expect("a signature");
    let pss = |scheme: Pss, digest: &[u8]| keys.rsa.sign_with_rng(&mut OsRng, scheme, digest).expect("a signature");
    match algorithm {
        Alg::Rs256 => pkcs1(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(message)),
        Alg::Rs384 => pkcs1(Pkcs1v15Sign::new::<Sha384>(), &Sha384::digest(message)),
        Alg::Rs512 => pkcs1(Pkcs1v15Sign::new::<Sha512>(), &Sha512::digest(message)),
        Alg::Ps256 => pss(Pss::new::<Sha256>(), &Sha256::digest(message)),
        Alg::Ps384 => pss(Pss::new::<Sha384>(), &Sha384::digest(message)),
        Alg::Ps512 => pss(Pss::new::<Sha512>(), &Sha512::digest(message)),
        Alg::Es256 => {
            let signature: p256::ecdsa::Signature = p256::ecdsa::SigningKey::from(&keys.p256).sign(message);
            signature.to_bytes().to_vec()
        }
        Alg::Es384 => {
            let signature: p384::ecdsa::Signature = p384::ecdsa::SigningKey::from(&keys.p384).sign(message);
            signature.to_bytes().to_vec()
        }
        Alg::EdDsa => keys.ed25519.sk.sign(message, None).to_vec(),
    }
}

/// The JWK Set with the public half of every key, RSA once for each of its algorithms.
pub fn jwks() -> Value {
    json!({"keys": Alg::ALL.map(jwk)})
}

fn jwk(algorithm: Alg) -> Value {
    let keys = keys();
    let mut jwk = match algorithm {
        Alg::Es256 => {
            let point = keys.p256.public_key().to_sec1_point(false);
            json!({"kty": "EC", "crv": "P-256", "x": base64url(point.x().expect("x")), "y": base64url(point.y().expect("y"))})
        }
        Alg::Es384 => {
            let point = keys.p384.public_key().to_sec1_point(false);
            json!({"kty": "EC", "crv": "P-384", "x": base64url(point.x().expect("x")), "y": base64url(point.y().expect("y"))})
        }
        Alg::EdDsa => json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(keys.ed25519.pk.as_ref())}),
        _ => {
            json!({"kty": "RSA", "n": base64url(keys.rsa.n().to_bytes_be()), "e": base64url(keys.rsa.e().to_bytes_be())})
        }
    };
    jwk["kid"] = algorithm.kid().into();
    jwk["alg"] = algorithm.name().into();
    jwk["use"] = "sig".into();
    jwk
}

/// The modulus, which is public.
pub fn modulus() -> Vec<u8> {
    keys().rsa.n().to_bytes_be()
}

/// The order of P-256 (SEC 2 section 2.4.2).
pub fn order_p256() -> Vec<u8> {
    hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551")
}

/// The order of P-384 (SEC 2 section 2.5.1).
pub fn order_p384() -> Vec<u8> {
    hex("ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973")
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(digit).collect()
}

/// An `Ecdsa-Sig-Value` (RFC 3279 section 2.2.3).
pub fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len() - 1);
        let sign: &[u8] = if number[start] >= 0x80 { &[0] } else { &[] };
        let value = [sign, &number[start..]].concat();
        [&[2, u8::try_from(value.len()).expect("short")], &value[..]].concat()
    };
    let both = [integer(r), integer(s)].concat();
    [&[0x30, u8::try_from(both.len()).expect("below 128")], &both[..]].concat()
}

/// The sum in big-endian octets, with one more octet if needed.
pub fn add(left: &[u8], right: &[u8]) -> Vec<u8> {
    let mut out = vec![0; left.len()];
    let mut carry = 0;
    for at in (0..left.len()).rev() {
        let sum = u16::from(left[at]) + u16::from(right[at]) + carry;
        out[at] = u8::try_from(sum & 0xff).expect("a byte");
        carry = sum >> 8;
    }
    if carry > 0 { [&[1], &out[..]].concat() } else { out }
}

/// An odd number minus one.
pub fn subtract_one(odd: &[u8]) -> Vec<u8> {
    let mut out = odd.to_vec();
    *out.last_mut().expect("a number") ^= 1;
    out
}

/// The RSA private key operation on a block of the modulus' width, without any padding.
pub fn raw_rsa(block: &[u8]) -> Vec<u8> {
    use rsa::BigUint;
    let number =
        rsa::hazmat::rsa_decrypt(None::<&mut OsRng>, &keys().rsa, &BigUint::from_bytes_be(block)).expect("below n");
    let bytes = number.to_bytes_be();
    [&vec![0; block.len() - bytes.len()][..], &bytes].concat()
}

/// `DigestInfo` of SHA-256 (RFC 8017 section 9.2), with and without the NULL parameters.
const SHA256_INFO: [u8; 19] = [0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];
const SHA256_INFO_WITHOUT_NULL: [u8; 17] =
    [0x30, 0x2f, 0x30, 0x0b, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 4, 0x20];

fn block(padding: usize, info: &[u8], token: &Token, behind: usize) -> Vec<u8> {
    let digest = Sha256::digest(token.signing_input());
    let block = [&[0, 1], &vec![0xff; padding][..], &[0], info, &digest[..], &vec![0; behind][..]].concat();
    assert_eq!(block.len(), 256);
    block
}

/// A padded block whose digest has no `DigestInfo`.
pub fn unpadded_digest(token: &Token) -> Vec<u8> {
    block(256 - 3 - 32, &[], token, 0)
}

/// A block with eight octets of padding and arbitrary octets after the digest (Bleichenbacher 2006).
pub fn short_padding(token: &Token) -> Vec<u8> {
    block(8, &SHA256_INFO, token, 256 - 3 - 8 - 19 - 32)
}

/// A correct block whose `DigestInfo` lacks NULL.
pub fn no_null(token: &Token) -> Vec<u8> {
    block(256 - 3 - 17 - 32, &SHA256_INFO_WITHOUT_NULL, token, 0)
}
