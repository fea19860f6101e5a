//! `WWW-Authenticate` (RFC 6750 section 3, RFC 9449 section 7.1, RFC 9728 section 5.1). Every value is a quoted string.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};

use crate::dpop::verify;
use crate::http::{Response, Scheme};
use crate::json;
use crate::resource::{Requirement, Resource, SlashForm, metadata};

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

/// Challenge for each scheme that the resource accepts, with its metadata and with the problem, if there is one. The client uses
/// that form of its URL.
pub fn challenges(resource: &Resource, form: SlashForm, problem: Option<&Problem<'_>>) -> Vec<String> {
    let schemes: &[Scheme] = match resource.dpop.mode {
        Requirement::Off => &[Scheme::Bearer],
        Requirement::Optional => &[Scheme::Bearer, Scheme::Dpop],
        Requirement::Required => &[Scheme::Dpop],
    };
    let blamed =
        |scheme: Scheme| problem.filter(|problem| problem.scheme == scheme || !schemes.contains(&problem.scheme));
    schemes.iter().map(|scheme| challenge(resource, form, *scheme, blamed(*scheme))).collect()
}

fn challenge(resource: &Resource, form: SlashForm, scheme: Scheme, problem: Option<&Problem<'_>>) -> String {
    let mut parameters = Vec::new();
    if let Some(problem) = problem {
        parameters.push(("error", problem.error.to_owned()));
        parameters.push(("error_description", problem.description.to_owned()));
    }
    if scheme == Scheme::Dpop {
        parameters.push(("algs", verify::ALGORITHMS.join(" ")));
    }
    parameters.push(("resource_metadata", metadata::url(resource, form)));
    if !resource.scopes_supported.is_empty() {
        parameters.push(("scope", resource.scopes_supported.join(" ")));
    }
    if let Some(claims) = problem.and_then(|problem| problem.claims) {
        parameters.push(("claims", BASE64_STANDARD.encode(claims)));
    }
    let parameters: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    format!("{} {}", scheme.name(), parameters.join(", "))
}

/// Claims that an upstream demands with the error `insufficient_claims`: the JSON text of an object (OpenID Connect Core section
/// 5.5).
pub fn wanted_claims(response: &Response) -> Option<String> {
    let mut fields = fields(response);
    fields.find_map(|field| {
        let challenges = received(field);
        let demand = challenges.iter().find(|challenge| {
            challenge.takes_tokens && challenge.error == Some("insufficient_claims") && challenge.claims.is_some()
        });
        demand.and_then(|challenge| decoded(challenge.claims?))
    })
}

/// Returns `true` if an upstream demands that the DPoP proof has the nonce of the `DPoP-Nonce` field (RFC 9449 section 9).
pub fn wants_nonce(response: &Response) -> bool {
    let mut challenges = fields(response).flat_map(received);
    challenges.any(|challenge| challenge.takes_tokens && challenge.error == Some("use_dpop_nonce"))
}

/// Error code of an upstream: `error` of its first challenge for tokens that has one.
pub fn error_code(response: &Response) -> Option<String> {
    let mut challenges = fields(response).flat_map(received).filter(|challenge| challenge.takes_tokens);
    challenges.find_map(|challenge| challenge.error.map(str::to_owned))
}

/// `WWW-Authenticate` fields that are UTF-8.
fn fields(response: &Response) -> impl Iterator<Item = &str> {
    let fields = response.headers.iter().filter(|(name, _)| name == "www-authenticate");
    fields.filter_map(|(_, value)| std::str::from_utf8(value).ok())
}

/// Challenge of an upstream, with the parameters that are read.
#[derive(Default)]
struct Received<'a> {
    /// `true` if the scheme is Bearer or DPoP.
    takes_tokens: bool,
    error: Option<&'a str>,
    claims: Option<&'a str>,
}

/// Challenges of a field. Challenges and their parameters are items of one list (RFC 9110 section 11.6.1).
fn received(field: &str) -> Vec<Received<'_>> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let items = field.split(|c: char| {
        let escaped = std::mem::take(&mut is_escaped);
        match c {
            '"' if !escaped => is_quoted = !is_quoted,
            '\\' if is_quoted && !escaped => is_escaped = true,
            _ => {}
        }
        c == ',' && !is_quoted
    });
    let mut challenges = Vec::new();
    let mut challenge = Received::default();
    for item in items {
        let (before, value) = item.split_once('=').unwrap_or((item, ""));
        let before = before.trim();
        let name = match before.rsplit_once([' ', '\t']) {
            None if item.contains('=') => before,
            // The item begins a challenge.
            begin => {
                let (scheme, name) = begin.unwrap_or((before, ""));
                let is = |other: &str| scheme.trim().eq_ignore_ascii_case(other);
                let next = Received { takes_tokens: is("Bearer") || is("DPoP"), ..Received::default() };
                challenges.push(std::mem::replace(&mut challenge, next));
                name
            }
        };
        let value = value.trim().trim_matches('"');
        if name.eq_ignore_ascii_case("error") {
            challenge.error = Some(value);
        } else if name.eq_ignore_ascii_case("claims") {
            challenge.claims = Some(value);
        }
    }
    challenges.push(challenge);
    challenges
}

/// Decodes base64 of either alphabet, padded or not.
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

    #[test]
    fn a_demand_for_a_nonce_is_the_error_of_a_challenge() {
        let wants = |field: &str| {
            let headers = vec![("www-authenticate".to_owned(), field.as_bytes().to_vec())];
            wants_nonce(&Response { status: 401, headers, body: Vec::new() })
        };
        assert!(wants(r#"DPoP error="use_dpop_nonce", algs="ES256""#));
        assert!(wants(r#"Basic realm="a,b", dpop algs="ES256", error=use_dpop_nonce"#));
        assert!(!wants(r#"DPoP error="invalid_token", error_description="use_dpop_nonce""#));
        assert!(!wants(r#"Basic error="use_dpop_nonce""#) && !wants("DPoP") && !wants(""));
    }

    fn wanted(fields: &[&str]) -> Option<String> {
        let headers = fields.iter().map(|value| ("www-authenticate".to_owned(), value.as_bytes().to_vec())).collect();
        wanted_claims(&Response { status: 401, headers, body: Vec::new() })
    }

    #[test]
    fn claims_of_an_upstream_are_read_from_any_list_of_challenges() {
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
