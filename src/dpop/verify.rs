//! DPoP proofs (RFC 9449): that whoever presents a token has the key that it is bound to.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::crypto::{Algorithm, Crypto};
use crate::jose::{Header, Segments, TokenError, header_members, jwks, numeric_date, payload_members};
use crate::json::{self, Object, Value};
use crate::path;
use crate::time::UnixTime;
use crate::url::Url;

/// The algorithms of a proof, as metadata and challenges list them. The first is what a client should take.
pub const ALGORITHMS: [&str; 9] = ["ES256", "ES384", "EdDSA", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];

/// The longest proof that is read, in bytes. One with an RSA key of 4096 bits has about 2,000.
const MOST_PROOF_BYTES: usize = 4096;

/// The longest `jti`, in bytes.
const MOST_ID_BYTES: usize = 512;

/// What a proof must be for.
#[derive(Clone, Copy)]
pub struct ProofRules<'a> {
    /// The request's method.
    pub method: &'a [u8],
    /// What the client calls the resource: scheme and authority of the request's URL.
    pub url: &'a Url,
    /// The path of the request in normal form.
    pub path: &'a str,
    /// The token that comes with it.
    pub access_token: &'a str,
    /// The thumbprint of the key that the token is bound to.
    pub key_thumbprint: &'a str,
    /// How far `iat` may be from now, either way.
    pub max_age: Duration,
}

/// A proof that holds, as long as nobody has used it before.
#[derive(Debug)]
pub struct Proof {
    /// `jti`.
    pub id: String,
    /// `nonce`.
    pub nonce: Option<String>,
    /// `iat`.
    pub issued_at: UnixTime,
}

/// Reads and verifies a proof as RFC 9449 section 4.3 lists it; `nonce` and replay are the caller's to check. The error
/// says what is wrong.
pub fn verify(
    proof: &[u8],
    expected: ProofRules<'_>,
    crypto: &dyn Crypto,
    now: UnixTime,
) -> Result<Proof, &'static str> {
    if proof.len() > MOST_PROOF_BYTES {
        return Err("it is longer than 4 KiB");
    }
    let proof = std::str::from_utf8(proof).map_err(|_| "it is not ASCII")?;
    let malformed = |error: TokenError| match error {
        TokenError::Malformed(why) => why,
        _ => "it is not a signed JWT",
    };
    let segments = Segments::of(proof).map_err(malformed)?;
    let header = segments.header().map_err(malformed)?;
    let members = header_members(&header).map_err(malformed)?;
    let header = Header::read(&members).map_err(malformed)?;
    if header.media_type.as_deref() != Some("dpop+jwt") {
        return Err("typ is not dpop+jwt");
    }
    let algorithm =
        Algorithm::from_name(&header.algorithm).ok_or("its alg is not an asymmetric one of those listed")?;
    let jwk = members.get("jwk").and_then(Value::as_object).ok_or("there is no jwk in its header")?;
    // Section 6.1: the key is the token's. Before the key is read: nobody can have us compute with another.
    if thumbprint(jwk).as_deref() != Some(expected.key_thumbprint) {
        return Err("its key is not the one that the token is bound to");
    }
    let key = jwks::read_key(jwk)?;
    if !key.public.suits(algorithm) || (jwk.has("alg") && key.algorithm != algorithm) {
        return Err("its alg is not one of its key");
    }
    let payload = segments.payload().map_err(malformed)?;
    let claims = payload_members(&payload).map_err(malformed)?;
    let text = |name: &str| claims.string(name);
    let id =
        text("jti").filter(|id| !id.is_empty() && id.len() <= MOST_ID_BYTES).ok_or("jti is missing, or too long")?;
    if text("htm").map(str::as_bytes) != Some(expected.method) {
        return Err("htm is not the method of the request");
    }
    if !text("htu").is_some_and(|htu| is_url(htu, expected)) {
        return Err("htu is not the URL of the request");
    }
    let issued_at = numeric_date(&claims, "iat").ok().flatten().ok_or("iat is missing or not a time")?;
    if now.since(issued_at) > expected.max_age || issued_at.since(now) > expected.max_age {
        return Err("iat is too far from now: the proof is old, or clocks differ");
    }
    let nonce = match claims.get("nonce") {
        None => None,
        Some(Value::String(nonce)) => Some(nonce.as_ref().to_owned()),
        Some(_) => return Err("nonce is not a string"),
    };
    let signature = segments.signature().map_err(malformed)?;
    if !crypto.verify(algorithm, &key.public, segments.signing_input.as_bytes(), &signature) {
        return Err("its signature is not by the key in it");
    }
    if text("ath") != Some(&*hash(expected.access_token.as_bytes())) {
        return Err("ath is not the hash of the token");
    }
    Ok(Proof { id: id.to_owned(), nonce, issued_at })
}

/// Section 4.3, number 9: without query and fragment, after normalisation (RFC 3986 sections 6.2.2 and 6.2.3).
fn is_url(htu: &str, expected: ProofRules<'_>) -> bool {
    let end = htu.find(['?', '#']).unwrap_or(htu.len());
    let Some(Ok(url)) = htu.get(..end).map(Url::parse) else {
        return false;
    };
    let path = if url.path().is_empty() { "/" } else { url.path() };
    url.scheme() == expected.url.scheme()
        && url.authority() == expected.url.authority()
        && path::normal_form(path.as_bytes()).is_some_and(|path| path == expected.path)
}

/// SHA-256 in base64url, as `ath` and `jkt` are written.
pub(crate) fn hash(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(hmac_sha256::Hash::hash(bytes))
}

/// The thumbprint of a JWK (RFC 7638 section 3, RFC 8037 section 2): its required members in order of
/// their names, without white space.
fn thumbprint(jwk: &Object<'_>) -> Option<String> {
    let names: &[&str] = match jwk.string("kty")? {
        "RSA" => &["e", "kty", "n"],
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        _ => return None,
    };
    let required: Vec<_> = names.iter().map(|name| Some((*name, jwk.string(name)?.into()))).collect::<Option<_>>()?;
    Some(hash(json::text(required).as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbprint_is_that_of_rfc_7638_and_of_rfc_8037() {
        // RFC 7638 section 3.1.
        let rsa = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;
        // RFC 8037 appendix A.3.
        let okp = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        for (jwk, expected) in
            [(rsa, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"), (okp, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")]
        {
            assert_eq!(thumbprint(&json::object(jwk.as_bytes()).unwrap()).as_deref(), Some(expected));
        }
        assert_eq!(thumbprint(&json::object(br#"{"kty":"oct","k":"AA"}"#).unwrap()), None);
    }

    /// Whoever is asked to compute fails the test.
    struct Nobody;

    impl Crypto for Nobody {
        fn verify(&self, _: Algorithm, _: &crate::crypto::PublicKey, _: &[u8], _: &[u8]) -> bool {
            panic!("a signature was computed with a key that a stranger chose");
        }

        fn sign(&self, _: &crate::crypto::SigningKey, _: &[u8]) -> Option<Vec<u8>> {
            None
        }

        fn random(&self) -> Option<[u8; 16]> {
            None
        }
    }

    #[test]
    fn nothing_is_computed_with_another_key_than_the_one_that_the_token_is_bound_to() {
        let url = Url::parse("https://mcp.example.com/api").unwrap();
        let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let n = BASE64_URL_SAFE_NO_PAD.encode([0xff; 512]);
        let header = format!(r#"{{"typ":"dpop+jwt","alg":"PS256","jwk":{{"kty":"RSA","n":"{n}","e":"AQAB"}}}}"#);
        let claims = r#"{"jti":"1","htm":"POST","htu":"https://mcp.example.com/api","iat":1800000000}"#;
        let proof = format!("{}.{}.{}", encode(&header), encode(claims), BASE64_URL_SAFE_NO_PAD.encode([1; 512]));
        let max_age = Duration::from_secs(60);
        let expected = ProofRules {
            method: b"POST",
            url: &url,
            path: "/api",
            access_token: "",
            key_thumbprint: "another",
            max_age,
        };
        let refused = verify(proof.as_bytes(), expected, &Nobody, UnixTime::from_secs(1_800_000_000));
        assert_eq!(refused.err(), Some("its key is not the one that the token is bound to"));
    }

    #[test]
    fn the_url_of_a_request_is_recognised_in_each_of_its_spellings_and_no_other_is() {
        let url = Url::parse("https://mcp.example.com/api").unwrap();
        let is = |htu: &str| {
            let (method, max_age) = (b"".as_slice(), Duration::ZERO);
            is_url(htu, ProofRules { method, url: &url, path: "/api/a", access_token: "", key_thumbprint: "", max_age })
        };
        for good in [
            "https://mcp.example.com/api/a",
            "HTTPS://MCP.example.com:443/api/a",
            "https://mcp.example.com/api/a?x=1#f",
            "https://mcp.example.com/%61pi/%61",
        ] {
            assert!(is(good), "{good}");
        }
        for bad in [
            "http://mcp.example.com/api/a",
            "https://mcp.example.com:444/api/a",
            "https://mcp.example.com/api/a/",
            "https://mcp.example.com/api/A",
            "https://mcp.example.com/api/./a",
            "https://mcp.example.com/api//a",
            "https://mcp.example.com/api%2Fa",
            "https://x@mcp.example.com/api/a",
            "https://mcp.example.com.evil.example/api/a",
            "/api/a",
            "",
        ] {
            assert!(!is(bad), "{bad}");
        }
    }
}
