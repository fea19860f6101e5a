//! DPoP proofs of our own (RFC 9449 section 4.2): that we hold the key that our tokens are bound to.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::crypto::{Algorithm, Crypto, SigningKey};
use crate::dpop::verify::hash;
use crate::json::{self, Object, Value};
use crate::secret::Secret;
use crate::time::UnixTime;

/// The longest nonce that is sent back, in bytes: a proof stands in a header, with a token in another.
const MOST_NONCE_BYTES: usize = 1024;

/// A key that makes proofs.
#[derive(Debug)]
pub struct DpopKey {
    key: SigningKey,
    /// The first segment of every proof, which has the public key in it.
    header: String,
    thumbprint: String,
}

/// What a proof is for.
#[derive(Clone, Copy)]
pub struct ProofTarget<'a> {
    /// The method of the request that it goes with.
    pub method: &'a str,
    /// The URL of that request, without query and fragment.
    pub url: &'a str,
    /// The token that goes with it, if one does.
    pub access_token: Option<&'a str>,
    /// The nonce that whoever gets it has given last.
    pub nonce: Option<&'a str>,
}

impl DpopKey {
    /// Makes proofs with `key`.
    pub fn new(key: SigningKey) -> Self {
        let members = || key.public_jwk().into_iter().map(|(name, value)| (name, value.into()));
        // RFC 7638 section 3: in the order of their names, which is theirs.
        let thumbprint = hash(json::text(members()).as_bytes());
        let jwk = Object::from_members(members().map(|(name, value)| (name.into(), value)).collect());
        let mut header = vec![("typ", "dpop+jwt".into()), ("alg", key.algorithm().name().into())];
        header.extend(jwk.map(|jwk| ("jwk", Value::Object(jwk))));
        Self { header: BASE64_URL_SAFE_NO_PAD.encode(json::text(header)), thumbprint, key }
    }

    /// The key's thumbprint (RFC 7638), which is `jkt` of the tokens that are bound to it.
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// What it signs with.
    pub const fn algorithm(&self) -> Algorithm {
        self.key.algorithm()
    }

    /// A proof, good for one request. `None` when the host has no randomness or the key does not sign.
    pub fn prove(&self, purpose: ProofTarget<'_>, crypto: &dyn Crypto, now: UnixTime) -> Option<Secret> {
        let ProofTarget { method, url, access_token, nonce } = purpose;
        let mut claims = vec![
            ("jti", BASE64_URL_SAFE_NO_PAD.encode(crypto.random()?).into()),
            ("htm", method.into()),
            ("htu", url.into()),
            ("iat", now.secs().into()),
        ];
        claims.extend(access_token.map(|token| ("ath", hash(token.as_bytes()).into())));
        claims.extend(nonce.map(|nonce| ("nonce", nonce.into())));
        let mut proof = format!("{}.{}", self.header, BASE64_URL_SAFE_NO_PAD.encode(json::text(claims)));
        let signature = crypto.sign(&self.key, proof.as_bytes())?;
        proof.push('.');
        proof.push_str(&BASE64_URL_SAFE_NO_PAD.encode(signature));
        Some(Secret::new(proof))
    }
}

/// The nonce of an answer, from its `DPoP-Nonce` fields (RFC 9449 section 8.1). `None`: there is none, there are several,
/// or it is one that nobody needs.
pub fn nonce<'a>(mut fields: impl Iterator<Item = &'a [u8]>) -> Option<&'a str> {
    let only = fields.next().filter(|_| fields.next().is_none())?;
    let is_nonce_character = |byte: &u8| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
    let fits = (1..=MOST_NONCE_BYTES).contains(&only.len()) && only.iter().all(is_nonce_character);
    std::str::from_utf8(only).ok().filter(|_| fits)
}

#[cfg(test)]
mod tests {
    use jwt_simple::algorithms::P256KeyPair;
    use rsa::pkcs8::EncodePrivateKey as _;
    use rsa::pkcs8::LineEnding;

    use super::*;
    use crate::crypto::Algorithm;

    fn decode(text: &str) -> Vec<u8> {
        BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    fn prover(algorithm: Algorithm, pem: &str) -> DpopKey {
        DpopKey::new(SigningKey::parse(algorithm, pem).unwrap())
    }

    #[test]
    fn the_thumbprint_of_a_private_key_is_that_of_its_public_key_in_the_rfcs() {
        // RFC 7517 appendix A.2; RFC 7638 section 3.1 has the thumbprint.
        let [p, q] = [
            "83i-7IvMGXoMXCskv73TKr8637FiO7Z27zv8oj6pbWUQyLPQBQxtPVnwD20R-60eTDmD2ujnMt5PoqMrm8RfmNhVWDtjjMmCMjOpSXicFHj7XOuVIYQyqVWlWEh6dN36GVZYk93N8Bc9vY41xy8B9RzzOGVQzXvNEvn7O0nVbfs",
            "3dfOR9cuYq-0S-mkFLzgItgMEfFzB2q3hWehMuG0oCuqnb3vobLyumqjVZQO1dIrdwgTnCdpYzBcOfW5r370AFXjiWft_NGEiovonizhKpo9VVS78TzFgxkIdrecRezsZ-1kYd_s1qDbxtkDEgfAITAG9LUnADun4vIcb6yelxk",
        ]
        .map(|prime| rsa::BoxedUint::from_be_slice_vartime(&decode(prime)));
        let rsa = rsa::PrivateKey::from_p_q(p, q, rsa::BoxedUint::from(65537_u64)).unwrap();
        let rsa = rsa.to_pkcs8_pem(LineEnding::LF).unwrap().to_string();
        // RFC 8037 appendices A.1 and A.3, in the form of RFC 8410 section 7.
        let start = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        let okp = [&start[..], &decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")].concat();
        let okp = base64::prelude::BASE64_STANDARD.encode(okp);
        let okp = format!("-----BEGIN PRIVATE KEY-----\n{okp}\n-----END PRIVATE KEY-----\n");
        for (algorithm, pem, expected) in [
            (Algorithm::Rs256, &rsa, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"),
            (Algorithm::Ps384, &rsa, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"),
            (Algorithm::EdDsa, &okp, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"),
        ] {
            assert_eq!(prover(algorithm, pem).thumbprint(), expected);
        }
    }

    #[test]
    fn a_public_key_is_written_as_the_rfcs_have_it_and_nothing_of_the_private_one_is() {
        // RFC 7517 appendix A.2.
        let ec = P256KeyPair::from_bytes(&decode("870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE")).unwrap();
        let header = prover(Algorithm::Es256, &ec.to_pem().unwrap()).header;
        assert_eq!(
            std::str::from_utf8(&decode(&header)).unwrap(),
            r#"{"typ":"dpop+jwt","alg":"ES256","jwk":{"crv":"P-256","kty":"EC","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}}"#
        );
    }

    #[test]
    fn a_nonce_is_one_field_of_what_nonces_are_made_of() {
        let of = |fields: &[&str]| nonce(fields.iter().map(|field| field.as_bytes())).map(str::to_owned);
        let longest = "n".repeat(MOST_NONCE_BYTES);
        for good in ["a", "eyJ7S_zG.eyJH0-Z.HX4w-7v", "!#[]~,", &longest] {
            assert_eq!(of(&[good]).as_deref(), Some(good));
        }
        for bad in ["", " ", "a b", "a\"b", "a\\b", "a\tb", "a\r\nb", "\u{7f}", "é", &format!("{longest}n")] {
            assert_eq!(of(&[bad]), None, "{bad:?}");
        }
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["a", "a"]), None);
    }
}
