//! JWS in compact serialisation (RFC 7515), from callers and providers.

use std::rc::Rc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::jose::TokenError;
use crate::json::{self, Object};

/// Maximum length of a token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Returns `true` if `text` has the form of a signed JWT: three segments in base64url, none of them empty (RFC 7515 section
/// 3.1). Nothing is decoded: another party reads the token.
pub fn is_compact(text: &[u8]) -> bool {
    let is_segment = |segment: &[u8]| {
        !segment.is_empty() && segment.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.len() <= MAX_TOKEN_BYTES
        && text.split(|byte| *byte == b'.').count() == 3
        && text.split(|byte| *byte == b'.').all(is_segment)
}

/// A JWS in compact serialisation (RFC 7515 section 3.1), decoded and not yet verified.
#[derive(Debug)]
pub struct CompactJws<'a> {
    /// The protected header.
    pub header: Rc<Header>,
    /// The first segment, undecoded.
    pub header_segment: &'a str,
    /// The payload, decoded.
    pub payload: Vec<u8>,
    /// Signing input: the first two segments with the dot between.
    pub signing_input: &'a str,
    /// The third segment, decoded.
    pub signature: Vec<u8>,
}

/// Members of a protected header that are read. `jku`, `jwk`, `x5u` and `x5c` are not read: a token must not choose its own key
/// (RFC 8725 section 3.10).
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    /// `alg`, as written.
    pub algorithm: String,
    /// `kid`.
    pub key_id: Option<String>,
    /// `typ` in lower case, without the prefix `application/` (RFC 7515 section 4.1.9).
    pub media_type: Option<String>,
    /// `true` if the header has a `nonce`. No standard defines it; some providers put it into tokens for their own APIs.
    pub has_nonce: bool,
}

impl<'a> CompactJws<'a> {
    /// Splits and decodes `token`. Unknown header members are ignored. `crit` is refused, because no extension is supported (RFC
    /// 7515 section 4.1.11).
    ///
    /// `known` returns the header of a first segment that was read before: an issuer writes the same header into every token
    /// that it signs with the same key.
    pub fn parse(token: &'a str, known: impl FnOnce(&str) -> Option<Rc<Header>>) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed("it is too long"));
        }
        let segments = Segments::of(token)?;
        let header = match known(segments.header) {
            Some(header) => header,
            None => Rc::new(Header::read(&header_members(&segments.header()?)?)?),
        };
        Ok(Self {
            header,
            header_segment: segments.header,
            payload: segments.payload()?,
            signing_input: segments.signing_input,
            signature: segments.signature()?,
        })
    }

    /// Reads the payload as a JSON object.
    pub fn claims(&self) -> Result<Object<'_>, TokenError> {
        payload_members(&self.payload)
    }
}

/// Reads a decoded header as a JSON object.
pub(crate) fn header_members(header: &[u8]) -> Result<Object<'_>, TokenError> {
    json::object(header).ok_or(TokenError::Malformed("its header is not a JSON object with distinct names"))
}

/// Reads a decoded payload as a JSON object.
pub(crate) fn payload_members(payload: &[u8]) -> Result<Object<'_>, TokenError> {
    json::object(payload).ok_or(TokenError::Malformed("its payload is not a JSON object with distinct names"))
}

/// Segments of a compact serialisation, undecoded.
pub(crate) struct Segments<'a> {
    header: &'a str,
    payload: &'a str,
    /// Signing input (RFC 7515 section 2).
    pub(crate) signing_input: &'a str,
    signature: &'a str,
}

impl<'a> Segments<'a> {
    pub(crate) fn of(token: &'a str) -> Result<Self, TokenError> {
        let (signing_input, signature) = token.rsplit_once('.').ok_or(TokenError::Opaque)?;
        let not_a_jwt = TokenError::Malformed("it does not have the three segments of a signed JWT");
        let Some((header, payload)) = signing_input.split_once('.') else {
            return Err(not_a_jwt);
        };
        if payload.contains('.') {
            let is_jwe = payload.matches('.').count() == 2;
            return Err(if is_jwe { TokenError::Encrypted } else { not_a_jwt });
        }
        Ok(Self { header, payload, signing_input, signature })
    }

    pub(crate) fn header(&self) -> Result<Vec<u8>, TokenError> {
        decode(self.header)
    }

    pub(crate) fn payload(&self) -> Result<Vec<u8>, TokenError> {
        decode(self.payload)
    }

    pub(crate) fn signature(&self) -> Result<Vec<u8>, TokenError> {
        decode(self.signature)
    }
}

impl Header {
    pub(crate) fn read(members: &Object<'_>) -> Result<Self, TokenError> {
        if members.has("crit") {
            return Err(TokenError::Malformed("it has critical extensions"));
        }
        if members.has("b64") {
            return Err(TokenError::Malformed("its payload is encoded in a way that is not supported"));
        }
        // RFC 7516 section 9: `enc` marks a JWE.
        if members.has("enc") {
            return Err(TokenError::Malformed("its header is that of a JWE"));
        }
        let text = |name: &str| match members.get(name) {
            None => Ok(None),
            Some(value) => value
                .as_str()
                .map(|text| Some(text.to_owned()))
                .ok_or(TokenError::Malformed("a member of its header is not a string")),
        };
        let algorithm = text("alg")?.ok_or(TokenError::Algorithm)?;
        // A JWS has no compression, so that `zip` means nothing (RFC 7515 section 4). A reader that inflates `DEF` could read
        // other claims.
        if text("zip")?.is_some_and(|zip| zip.eq_ignore_ascii_case("DEF")) {
            return Err(TokenError::Malformed("its payload is encoded in a way that is not supported"));
        }
        if text("cty")?.is_some_and(|content| content.to_ascii_lowercase().contains("jwt")) {
            return Err(TokenError::Malformed("it holds another JWT"));
        }
        let media_type = text("typ")?.as_deref().map(media_type);
        Ok(Self { algorithm, key_id: text("kid")?, media_type, has_nonce: members.has("nonce") })
    }
}

/// Beginning of every JWT and of each of its JSON segments: `{"` in base64url.
pub(crate) const JWT_START: &str = "eyJ";

/// Media type of `typ`, in lower case and without `application/` (RFC 7515 section 4.1.9).
pub(crate) fn media_type(typ: &str) -> String {
    let typ = typ.to_ascii_lowercase();
    typ.strip_prefix("application/").map(str::to_owned).unwrap_or(typ)
}

/// RFC 7515 section 2: base64url without padding, line breaks or other characters; trailing bits must be zero.
fn decode(segment: &str) -> Result<Vec<u8>, TokenError> {
    BASE64_URL_SAFE_NO_PAD.decode(segment).map_err(|_| TokenError::Malformed("a segment is not base64url"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(token: &str) -> Result<CompactJws<'_>, TokenError> {
        CompactJws::parse(token, |_| None)
    }

    fn encode(text: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(text)
    }

    fn token(header: &str, payload: &str) -> String {
        format!("{}.{}.{}", encode(header), encode(payload), encode("signature"))
    }

    #[test]
    fn splits_a_token() {
        let text = token(r#"{"alg":"RS256","typ":"application/AT+JWT","kid":"k","x":1}"#, r#"{"iss":"i"}"#);
        let compact = parse(&text).unwrap();
        assert_eq!(compact.header.algorithm, "RS256");
        assert_eq!(compact.header.key_id.as_deref(), Some("k"));
        assert_eq!(compact.header.media_type.as_deref(), Some("at+jwt"));
        assert_eq!(compact.signature, b"signature");
        assert_eq!(format!("{}.{}", compact.signing_input, encode("signature")), text);
        // LinkedIn writes `zip` over a payload that is not compressed.
        assert!(parse(&token(r#"{"alg":"RS256","zip":"GZIP"}"#, r#"{"iss":"i"}"#)).unwrap().claims().is_ok());
    }

    #[test]
    fn only_three_segments_are_a_signed_token_and_five_are_an_encrypted_one() {
        for text in ["a.b", "a.b.c.d", "a.b.c.d.e.f", "...", "....."] {
            assert!(matches!(parse(text), Err(TokenError::Malformed(_))), "{text}");
        }
        for text in ["", "a", "opaque-token"] {
            assert_eq!(parse(text).unwrap_err(), TokenError::Opaque, "{text}");
        }
        assert_eq!(parse("a.b.c.d.e").unwrap_err(), TokenError::Encrypted);
        assert_eq!(parse("....").unwrap_err(), TokenError::Encrypted);
    }

    #[test]
    fn segments_are_strict_base64url() {
        let good = token(r#"{"alg":"RS256"}"#, "{}");
        assert!(parse(&good).is_ok());
        for bad in [
            format!("{good}="),
            format!("{good} "),
            format!("{good}\n"),
            format!("{good}."),
            format!(" {good}"),
            good.replace('.', "=."),
            good.replacen('e', "+", 1),
            // "signature" in base64url ends in 'l' with two zero trailing bits... 'm' sets one of none left over.
            format!("{}.{}.{}", encode(r#"{"alg":"RS256"}"#), encode("{}"), "AB"),
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn hostile_headers_are_refused() {
        for header in [
            r#"{"alg":"RS256","crit":["b64"],"b64":false}"#,
            r#"{"alg":"RS256","crit":[]}"#,
            r#"{"alg":"RS256","crit":"exp"}"#,
            r#"{"alg":"RS256","b64":false}"#,
            r#"{"alg":"RS256","zip":"DEF"}"#,
            r#"{"alg":"RS256","zip":"def"}"#,
            r#"{"alg":"RS256","zip":null}"#,
            r#"{"alg":"RS256","enc":"A256GCM"}"#,
            r#"{"alg":"RS256","enc":null}"#,
            r#"{"alg":"RS256","alg":"none"}"#,
            r#"{"alg":"RS256","a\u006cg":"none"}"#,
            r#"{"alg":1}"#,
            r#"{"alg":"RS256","kid":1}"#,
            r#"{"alg":"RS256","kid":["a"]}"#,
            r#"{"alg":"RS256","typ":null}"#,
            r#"{"alg":"RS256","cty":"JWT"}"#,
            r#"["alg"]"#,
            r#"{"alg":"RS256"} "x""#,
            r#"{}"#,
            "",
        ] {
            assert!(parse(&token(header, "{}")).is_err(), "{header}");
        }
    }

    #[test]
    fn a_token_of_16_kib_is_read_and_one_byte_more_is_not() {
        let short = token(r#"{"alg":"RS256"}"#, "{}");
        // A signature of so many characters more that it is still whole base64url quadruples.
        let long =
            short.replace(&encode("signature"), &"A".repeat(MAX_TOKEN_BYTES - short.len() + encode("signature").len()));
        assert_eq!(long.len(), MAX_TOKEN_BYTES);
        let is_whole = (MAX_TOKEN_BYTES - short.len() + encode("signature").len()) % 4 != 1;
        assert_eq!(parse(&long).is_ok(), is_whole);
        assert!(matches!(parse(&(long + "A")), Err(TokenError::Malformed("it is too long"))));
    }
}
