//! DPoP proofs that this proxy makes (RFC 9449 section 4.2): it holds the key that an issued token is bound to.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::crypto::{Algorithm, Crypto, SigningKey};
use crate::dpop::sha256_base64url;
use crate::json::{self, Object, Value};
use crate::secret::Secret;
use crate::time::UnixTime;

/// Private key of an OAuth client that makes DPoP proofs.
#[derive(Debug)]
pub struct DpopKey {
    key: SigningKey,
    /// First segment of every proof: `typ`, `alg` and the public key as `jwk`, in base64url.
    header: String,
    thumbprint: String,
}

/// Request that a proof is made for.
#[derive(Clone, Copy)]
pub struct ProofTarget<'a> {
    /// `htm`: method of the request.
    pub method: &'a str,
    /// `htu`: URL of the request without query and fragment.
    pub url: &'a str,
    /// Access token in the request, for `ath`. `None` at a token endpoint.
    pub access_token: Option<&'a str>,
    /// `nonce`: latest nonce that the server has sent, if it has sent one.
    pub nonce: Option<&'a str>,
}

impl DpopKey {
    /// Prepares the header of the proofs that `key` signs.
    pub fn new(key: SigningKey) -> Self {
        let members = || key.public_jwk().into_iter().map(|(name, value)| (name, value.into()));
        // RFC 7638 section 3: in lexicographic order of the names, which is the order of `public_jwk`.
        let thumbprint = sha256_base64url(json::text(members()).as_bytes());
        let jwk = Object::from_members(members().map(|(name, value)| (name.into(), value)).collect());
        let mut header = vec![("typ", "dpop+jwt".into()), ("alg", key.algorithm().name().into())];
        header.extend(jwk.map(|jwk| ("jwk", Value::Object(jwk))));
        Self { header: BASE64_URL_SAFE_NO_PAD.encode(json::text(header)), thumbprint, key }
    }

    /// JWK thumbprint of the key (RFC 7638): `cnf.jkt` of the tokens that are bound to it.
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// Algorithm of its signatures.
    pub const fn algorithm(&self) -> Algorithm {
        self.key.algorithm()
    }

    /// Makes a proof for one request. `None`: the host has no randomness for `jti`, or the key does not sign.
    pub fn prove(&self, target: ProofTarget<'_>, crypto: &dyn Crypto, now: UnixTime) -> Option<Secret> {
        let ProofTarget { method, url, access_token, nonce } = target;
        let mut claims = vec![
            ("jti", BASE64_URL_SAFE_NO_PAD.encode(crypto.random()?).into()),
            ("htm", method.into()),
            ("htu", url.into()),
            ("iat", now.secs().into()),
        ];
        claims.extend(access_token.map(|token| ("ath", sha256_base64url(token.as_bytes()).into())));
        claims.extend(nonce.map(|nonce| ("nonce", nonce.into())));
        let mut proof = format!("{}.{}", self.header, BASE64_URL_SAFE_NO_PAD.encode(json::text(claims)));
        let signature = crypto.sign(&self.key, proof.as_bytes())?;
        proof.push('.');
        proof.push_str(&BASE64_URL_SAFE_NO_PAD.encode(signature));
        Some(Secret::new(proof))
    }
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

    fn dpop_key(algorithm: Algorithm, pem: &str) -> DpopKey {
        DpopKey::new(SigningKey::parse(algorithm, pem).unwrap())
    }

    #[test]
    fn the_thumbprint_of_a_private_key_is_that_of_its_public_key() {
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
            assert_eq!(dpop_key(algorithm, pem).thumbprint(), expected);
        }
    }

    #[test]
    fn the_header_has_the_public_key_and_nothing_of_the_private_key() {
        // RFC 7517 appendix A.2.
        let ec = P256KeyPair::from_bytes(&decode("870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE")).unwrap();
        let header = dpop_key(Algorithm::Es256, &ec.to_pem().unwrap()).header;
        assert_eq!(
            std::str::from_utf8(&decode(&header)).unwrap(),
            r#"{"typ":"dpop+jwt","alg":"ES256","jwk":{"crv":"P-256","kty":"EC","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}}"#
        );
    }
}
