//! Verification of callers' DPoP proofs (RFC 9449 section 4.3): the caller holds the key that its token is bound to.

use std::time::Duration;

use crate::crypto::{Algorithm, Crypto, PublicKey};
use crate::dpop::sha256_base64url;
use crate::jose::{Header, Segments, TokenError, header_members, jwks, numeric_date, payload_members};
use crate::json::{self, Object, Value};
use crate::path;
use crate::time::UnixTime;
use crate::url::Url;

/// Accepted algorithms of proofs, in the order of metadata and challenges: a client should use the first.
pub const ALGORITHMS: [&str; 9] = ["ES256", "ES384", "EdDSA", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];

/// Maximum length of a proof, in bytes. A proof with an RSA key of 4096 bits has some 2,000.
const MAX_PROOF_BYTES: usize = 4096;

/// Maximum length of `jti`, in bytes.
const MAX_JTI_BYTES: usize = 512;

/// Request that a proof must be made for, and the rules of its resource.
#[derive(Clone, Copy)]
pub struct ProofRules<'a> {
    /// Method of the request, for `htm`.
    pub method: &'a [u8],
    /// URL of the resource: `htu` must have its scheme and authority.
    pub url: &'a Url,
    /// Path of the request in normal form: `htu` must have it.
    pub path: &'a str,
    /// Access token of the request, for `ath`.
    pub access_token: &'a str,
    /// Thumbprint of the key that the access token is bound to (`cnf.jkt`, RFC 9449 section 6.1).
    pub key_thumbprint: &'a str,
    /// Maximum distance of `iat` from now, in the past and in the future.
    pub max_age: Duration,
}

/// Verified proof. Its `nonce` is not checked yet, and neither is its replay.
#[derive(Debug)]
pub struct Proof {
    /// `jti`.
    pub id: String,
    /// `nonce`.
    pub nonce: Option<String>,
    /// `iat`.
    pub issued_at: UnixTime,
}

/// Verifies a proof by the checks of RFC 9449 section 4.3, except for `nonce` (number 10) and replay (section 11.1), which the
/// caller checks. The error names the failed check.
pub fn verify(proof: &[u8], rules: ProofRules<'_>, crypto: &dyn Crypto, now: UnixTime) -> Result<Proof, &'static str> {
    if proof.len() > MAX_PROOF_BYTES {
        return Err("the proof is longer than 4 KiB");
    }
    let proof = std::str::from_utf8(proof).map_err(|_| "the proof is not ASCII")?;
    let malformed = |error: TokenError| match error {
        TokenError::Malformed(why) => why,
        _ => "the proof is not a signed JWT",
    };
    let segments = Segments::of(proof).map_err(malformed)?;
    let header = segments.header().map_err(malformed)?;
    let members = header_members(&header).map_err(malformed)?;
    let header = Header::read(&members).map_err(malformed)?;
    let (algorithm, key) = key(&header, &members, rules)?;
    let payload = segments.payload().map_err(malformed)?;
    let claims = payload_members(&payload).map_err(malformed)?;
    let proof = read_claims(&claims, rules, now)?;
    let signature = segments.signature().map_err(malformed)?;
    if !crypto.verify(algorithm, &key, segments.signing_input.as_bytes(), &signature) {
        return Err("the signature is not by the key in jwk");
    }
    if claims.string("ath") != Some(&*sha256_base64url(rules.access_token.as_bytes())) {
        return Err("ath is not the hash of the token");
    }
    Ok(proof)
}

/// Algorithm and key of a proof (RFC 9449 section 4.3, numbers 4, 5 and 7; number 12 for the binding of the token).
fn key(header: &Header, members: &Object<'_>, rules: ProofRules<'_>) -> Result<(Algorithm, PublicKey), &'static str> {
    if header.media_type.as_deref() != Some("dpop+jwt") {
        return Err("typ is not dpop+jwt");
    }
    let algorithm = Algorithm::from_name(&header.algorithm).ok_or("alg is not a supported asymmetric algorithm")?;
    let jwk = members.get("jwk").and_then(Value::as_object).ok_or("the header has no jwk")?;
    // Before the key is parsed: a caller cannot make the proxy compute with a key of the caller's choice.
    if thumbprint(jwk).as_deref() != Some(rules.key_thumbprint) {
        return Err("jwk is not the key that the token is bound to");
    }
    let key = jwks::read_key(jwk)?;
    if !key.public.suits(algorithm) || (jwk.has("alg") && key.algorithm != algorithm) {
        return Err("alg is not an algorithm of the key in jwk");
    }
    Ok((algorithm, key.public))
}

/// Claims of a proof, checked against the request (RFC 9449 section 4.3, numbers 3, 8, 9 and 11).
fn read_claims(claims: &Object<'_>, rules: ProofRules<'_>, now: UnixTime) -> Result<Proof, &'static str> {
    let id = claims.string("jti").filter(|id| !id.is_empty() && id.len() <= MAX_JTI_BYTES);
    let id = id.ok_or("jti is missing or longer than 512 bytes")?;
    if claims.string("htm").map(str::as_bytes) != Some(rules.method) {
        return Err("htm is not the method of the request");
    }
    if !claims.string("htu").is_some_and(|htu| is_url(htu, rules)) {
        return Err("htu is not the URL of the request");
    }
    let issued_at = numeric_date(claims, "iat").ok().flatten().ok_or("iat is missing or not a NumericDate")?;
    if now.since(issued_at) > rules.max_age || issued_at.since(now) > rules.max_age {
        return Err("iat is too far from now: the proof is old, or the clocks differ");
    }
    let nonce = match claims.get("nonce") {
        None => None,
        Some(Value::String(nonce)) => Some(nonce.as_ref().to_owned()),
        Some(_) => return Err("nonce is not a string"),
    };
    Ok(Proof { id: id.to_owned(), nonce, issued_at })
}

/// Returns `true` if `htu` is the URL of the request without query and fragment, after normalisation (RFC 9449 section 4.3,
/// number 9; RFC 3986 sections 6.2.2 and 6.2.3).
fn is_url(htu: &str, rules: ProofRules<'_>) -> bool {
    let end = htu.find(['?', '#']).unwrap_or(htu.len());
    let Some(Ok(url)) = htu.get(..end).map(Url::parse) else {
        return false;
    };
    let path = if url.path().is_empty() { "/" } else { url.path() };
    url.scheme() == rules.url.scheme()
        && url.authority() == rules.url.authority()
        && path::normal_form_with_slashes(path.as_bytes()).is_some_and(|path| path == rules.path)
}

/// Thumbprint of a JWK (RFC 7638 section 3, RFC 8037 section 2): hash of its required members in lexicographic order of their
/// names. `None`: its `kty` is not supported, or a required member is missing.
fn thumbprint(jwk: &Object<'_>) -> Option<String> {
    let names: &[&str] = match jwk.string("kty")? {
        "RSA" => &["e", "kty", "n"],
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        _ => return None,
    };
    let required: Vec<_> = names.iter().map(|name| Some((*name, jwk.string(name)?.into()))).collect::<Option<_>>()?;
    Some(sha256_base64url(json::text(required).as_bytes()))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

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

    /// Crypto that fails the test when it is called.
    struct Uncalled;

    impl Crypto for Uncalled {
        fn verify(&self, _: Algorithm, _: &PublicKey, _: &[u8], _: &[u8]) -> bool {
            panic!("a signature was verified with a key of the caller's choice");
        }

        fn sign(&self, _: &crate::crypto::SigningKey, _: &[u8]) -> Option<Vec<u8>> {
            None
        }

        fn random(&self) -> Option<[u8; 16]> {
            None
        }
    }

    #[test]
    fn a_key_that_the_token_is_not_bound_to_is_never_computed_with() {
        let url = Url::parse("https://mcp.example.com/api").unwrap();
        let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let n = BASE64_URL_SAFE_NO_PAD.encode([0xff; 512]);
        let header = format!(r#"{{"typ":"dpop+jwt","alg":"PS256","jwk":{{"kty":"RSA","n":"{n}","e":"AQAB"}}}}"#);
        let claims = r#"{"jti":"1","htm":"POST","htu":"https://mcp.example.com/api","iat":1800000000}"#;
        let proof = format!("{}.{}.{}", encode(&header), encode(claims), BASE64_URL_SAFE_NO_PAD.encode([1; 512]));
        let max_age = Duration::from_secs(60);
        let rules = ProofRules {
            method: b"POST",
            url: &url,
            path: "/api",
            access_token: "",
            key_thumbprint: "another",
            max_age,
        };
        let refused = verify(proof.as_bytes(), rules, &Uncalled, UnixTime::from_secs(1_800_000_000));
        assert_eq!(refused.err(), Some("jwk is not the key that the token is bound to"));
    }

    #[test]
    fn htu_matches_the_url_of_the_request_in_each_of_its_spellings() {
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
