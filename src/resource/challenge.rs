//! `WWW-Authenticate` (RFC 6750 section 3, RFC 9449 section 7.1, RFC 9728 section 5.1). Every value is a quoted string.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};

use crate::dpop::verify;
use crate::http::{Response, Scheme};
use crate::json;
use crate::resource::{Requirement, Resource, metadata};

/// Maximum length of `claims` in an upstream's challenge, in base64 characters.
const LONGEST_CLAIMS: usize = 4096;

/// Problem with the token of a request.
pub struct Problem<'a> {
    /// Value of `error`.
    pub error: &'a str,
    /// Value of `error_description`.
    pub description: &'a str,
    /// Claims that the token must have: JSON text (OpenID Connect Core section 5.5), sent in standard base64.
    pub claims: Option<&'a str>,
    /// Scheme of the token. The challenge of that scheme has the error.
    pub scheme: Scheme,
}

/// Challenge for each scheme that the resource accepts, with its metadata and with the problem, if there is one.
pub fn challenges(resource: &Resource, problem: Option<&Problem<'_>>) -> Vec<String> {
    let schemes: &[Scheme] = match resource.dpop.mode {
        Requirement::Off => &[Scheme::Bearer],
        Requirement::Optional => &[Scheme::Bearer, Scheme::Dpop],
        Requirement::Required => &[Scheme::Dpop],
    };
    let blamed =
        |scheme: Scheme| problem.filter(|problem| problem.scheme == scheme || !schemes.contains(&problem.scheme));
    schemes.iter().map(|scheme| challenge(resource, *scheme, blamed(*scheme))).collect()
}

fn challenge(resource: &Resource, scheme: Scheme, problem: Option<&Problem<'_>>) -> String {
    let mut parameters = Vec::new();
    if let Some(problem) = problem {
        parameters.push(("error", problem.error.to_owned()));
        parameters.push(("error_description", problem.description.to_owned()));
    }
    if scheme == Scheme::Dpop {
        parameters.push(("algs", verify::ALGORITHMS.join(" ")));
    }
    parameters.push(("resource_metadata", metadata::url(resource)));
    if !resource.scopes_supported.is_empty() {
        parameters.push(("scope", resource.scopes_supported.join(" ")));
    }
    if let Some(claims) = problem.and_then(|problem| problem.claims) {
        parameters.push(("claims", BASE64_STANDARD.encode(claims)));
    }
    let parameters: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    format!("{} {}", scheme.name(), parameters.join(", "))
}

/// What an upstream wants a token to have in it beside what it does, where its challenges have the error
/// `insufficient_claims`: JSON text (OpenID Connect Core section 5.5), an object.
pub fn wanted_claims(answer: &Response) -> Option<String> {
    let fields = answer.headers.iter().filter(|(name, _)| name == "www-authenticate");
    fields.filter_map(|(_, value)| std::str::from_utf8(value).ok()).find_map(claims_of)
}

/// Whether an upstream has nothing against a token but that its proof lacks the nonce of the `DPoP-Nonce` field (RFC 9449
/// section 9).
pub fn wants_nonce(answer: &Response) -> bool {
    const ERROR: &[u8] = b"use_dpop_nonce";
    let mut fields = answer.headers.iter().filter(|(name, _)| name == "www-authenticate");
    fields.any(|(_, value)| value.windows(ERROR.len()).any(|window| window == ERROR))
}

/// RFC 9110 section 11.6.1: challenges and their parameters are parts of one list.
fn claims_of(field: &str) -> Option<String> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = field.split(|c: char| {
        let escaped = std::mem::take(&mut is_escaped);
        match c {
            '"' if !escaped => is_quoted = !is_quoted,
            '\\' if is_quoted && !escaped => is_escaped = true,
            _ => {}
        }
        c == ',' && !is_quoted
    });
    let (mut takes_tokens, mut error, mut claims) = (false, None, None);
    for part in parts {
        let (before, value) = part.split_once('=').unwrap_or((part, ""));
        let before = before.trim();
        let name = match before.rsplit_once([' ', '\t']) {
            None if part.contains('=') => before,
            // A challenge begins.
            begins => {
                let (scheme, name) = begins.unwrap_or((before, ""));
                let is = |other: &str| scheme.trim().eq_ignore_ascii_case(other);
                (takes_tokens, error, claims) = (is("Bearer") || is("DPoP"), None, None);
                name
            }
        };
        let value = value.trim().trim_matches('"');
        if name.eq_ignore_ascii_case("error") {
            error = Some(value);
        } else if name.eq_ignore_ascii_case("claims") {
            claims = Some(value);
        }
        if let (true, Some("insufficient_claims"), Some(claims)) = (takes_tokens, error, claims) {
            return decoded(claims);
        }
    }
    None
}

/// Base64 of either alphabet, padded or not.
fn decoded(claims: &str) -> Option<String> {
    if claims.len() > LONGEST_CLAIMS {
        return None;
    }
    let claims = claims.trim_end_matches('=').replace('-', "+").replace('_', "/");
    let claims = String::from_utf8(BASE64_STANDARD_NO_PAD.decode(claims).ok()?).ok()?;
    json::object(claims.as_bytes()).is_some().then_some(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(fields: &[&str]) -> Option<String> {
        let headers = fields.iter().map(|value| ("www-authenticate".to_owned(), value.as_bytes().to_vec())).collect();
        wanted_claims(&Response { status: 401, headers, body: Vec::new() })
    }

    #[test]
    fn the_claims_that_an_upstream_wants_are_read_out_of_any_list_of_challenges() {
        const CLAIMS: &str = r#"{"access_token":{"acrs":{"essential":true,"value":"c1>?"}}}"#;
        let base64 = BASE64_STANDARD.encode(CLAIMS);
        let url = base64.trim_end_matches('=').replace('+', "-").replace('/', "_");
        assert!(base64.contains(['+', '/']) && base64 != url, "the two alphabets do not differ in it");
        for field in [
            format!(r#"Bearer realm="", error="insufficient_claims", claims="{base64}""#),
            format!(r#"bearer claims="{url}",error="insufficient_claims""#),
            format!(r#"Basic realm="a\", Bearer claims=x", DPoP error="insufficient_claims" , Claims = {url}"#),
            format!(r#"Negotiate, Negotiate abc==, Bearer error="insufficient_claims", claims="{base64}", x="y""#),
        ] {
            assert_eq!(wanted(&["Basic", &field]).as_deref(), Some(CLAIMS), "{field}");
        }
        let long = BASE64_STANDARD.encode(format!(r#"{{"a":"{}"}}"#, "x".repeat(LONGEST_CLAIMS)));
        for field in [
            String::new(),
            ",=,\",".to_owned(),
            "Bearer".to_owned(),
            format!(r#"Bearer claims="{base64}""#),
            format!(r#"Bearer error="invalid_token", claims="{base64}""#),
            format!(r#"Basic error="insufficient_claims", claims="{base64}""#),
            format!(r#"Bearer error="insufficient_claims", Basic claims="{base64}""#),
            format!(r#"Bearer realm="error=\"insufficient_claims\", claims={base64}""#),
            format!(r#"Bearer error="insufficient_claims", claims="{long}""#),
            r#"Bearer error="insufficient_claims", claims="bm8""#.to_owned(),
            r#"Bearer error="insufficient_claims", claims="_!""#.to_owned(),
            r#"Bearer error="insufficient_claims", claims="/w""#.to_owned(),
        ] {
            assert_eq!(wanted(&[&field]), None, "{field}");
        }
    }
}
