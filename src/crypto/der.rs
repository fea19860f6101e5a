//! DER encoding (X.690) of public keys and ECDSA signatures for Envoy's BoringSSL. The encoders of the key crates would add a
//! thirtieth to the module; tests compare the output with theirs.

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;

/// rsaEncryption with NULL (RFC 8017 appendix A.1).
const RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
/// id-ecPublicKey with prime256v1 (RFC 5480 section 2.1.1).
pub(super) const P256: &[u8] = b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
/// id-ecPublicKey with secp384r1 (RFC 5480 section 2.1.1).
pub(super) const P384: &[u8] = b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22";

/// id-Ed25519 (RFC 8410 section 3).
pub(super) const ED25519: &[u8] = b"\x30\x05\x06\x03\x2b\x65\x70";

/// `SubjectPublicKeyInfo` of an RSA key (RFC 3279 section 2.3.1).
pub(super) fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let key = element(SEQUENCE, &[integer(modulus), integer(exponent)].concat());
    spki(RSA, &key)
}

/// `SubjectPublicKeyInfo` (RFC 5280 section 4.1) of a key in its algorithm's own encoding.
pub(super) fn spki(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let bits = element(BIT_STRING, &[&[0], key].concat());
    element(SEQUENCE, &[algorithm, &bits].concat())
}

/// `Ecdsa-Sig-Value` (RFC 3279 section 2.2.3) of r‖s, halves of equal length.
pub(super) fn ecdsa_signature(r_s: &[u8]) -> Vec<u8> {
    let (r, s) = r_s.split_at_checked(r_s.len() / 2).unwrap_or_default();
    element(SEQUENCE, &[integer(r), integer(s)].concat())
}

/// `INTEGER` of an unsigned big-endian number.
fn integer(number: &[u8]) -> Vec<u8> {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let number = number.get(first..).unwrap_or_default();
    // A set top bit would make the number negative. An empty number is zero.
    let pad: &[u8] = if number.first().is_none_or(|byte| *byte >= 0x80) { &[0] } else { &[] };
    element(INTEGER, &[pad, number].concat())
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length: &[u8] = match content.len() {
        0..0x80 => length.get(length.len().saturating_sub(1)..).unwrap_or_default(),
        0x80..0x100 => &[0x81, length.last().copied().unwrap_or_default()],
        _ => &[&[0x82], length.get(length.len().saturating_sub(2)..).unwrap_or_default()].concat(),
    };
    [&[tag], length, content].concat()
}

#[cfg(test)]
mod tests {
    use jwt_simple::algorithms::ECDSAP256KeyPairLike;
    use jwt_simple::algorithms::ECDSAP384KeyPairLike;
    use jwt_simple::algorithms::ES256KeyPair;
    use jwt_simple::algorithms::ES384KeyPair;
    use jwt_simple::algorithms::RS256KeyPair;
    use jwt_simple::algorithms::RSAKeyPairLike;

    use super::*;

    #[test]
    fn keys_are_encoded_as_the_libraries_encode_them() {
        let rsa = RS256KeyPair::generate(2048).unwrap().key_pair().public_key();
        let parts = rsa.to_components();
        assert_eq!(rsa_spki(&parts.n, &parts.e), rsa.to_der().unwrap());
        let p256 = ES256KeyPair::generate().key_pair().public_key();
        assert_eq!(spki(P256, &p256.to_bytes_uncompressed()), p256.to_der().unwrap());
        let p384 = ES384KeyPair::generate().key_pair().public_key();
        assert_eq!(spki(P384, &p384.to_bytes_uncompressed()), p384.to_der().unwrap());
    }

    #[test]
    fn signatures_are_encoded_as_the_libraries_encode_them() {
        let mut high = [0xff; 64];
        high[0] = 0x7f;
        high[32] = 0x80;
        let mut short = [0; 64];
        short[31] = 1;
        short[62] = 0x80;
        for r_s in [[1; 64], high, short] {
            let library = p256::ecdsa::Signature::from_slice(&r_s).unwrap().to_der();
            assert_eq!(ecdsa_signature(&r_s), library.as_bytes());
        }
        let library = p384::ecdsa::Signature::from_slice(&[0x90; 96]).unwrap().to_der();
        assert_eq!(ecdsa_signature(&[0x90; 96]), library.as_bytes());
    }
}
