//! Facts for the log line about an exchanged token that the upstream has rejected: what the provider wrote into it.

use crate::jose::{AUDIENCE, JWT_START};
use crate::json::{self, Value};
use crate::provider::issued_token::decode;
use crate::provider::known_secrets::PART;
use crate::provider::remedies;
use crate::telemetry::{Detail, Fact, cut};

/// Maximum length of a claim in the log, in characters.
const MAX_CLAIM: usize = 256;

/// Issuer, audiences, scopes and version of a compact JWS. Empty for an opaque or encrypted token.
///
/// Other claims may be personal. A claim that contains another token is left out.
pub(crate) fn facts(token: &str) -> Detail {
    let mut facts = Detail::new();
    let Some([_, payload]) = decode(token) else {
        return facts;
    };
    let text = String::from_utf8_lossy(&payload);
    let Some(claims) = json::members(&text, &|name| matches!(name, "iss" | AUDIENCE | "scp" | "scope" | "ver")) else {
        return facts;
    };
    // As in callers' tokens, both claims count. No more of them are shown.
    let mut scopes: Vec<&str> = Vec::new();
    let listed = ["scp", "scope"].iter().flat_map(|name| claims.texts(name)).flat_map(str::split_ascii_whitespace);
    for scope in listed.take(MAX_CLAIM) {
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    let version = match claims.get("ver") {
        Some(Value::String(text)) => text.to_string(),
        // Okta writes a number.
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let of_token = [
        (Fact::SentIssuer, claims.string("iss").unwrap_or_default().to_owned()),
        (Fact::SentAudience, claims.texts(AUDIENCE).join(" ")),
        (Fact::SentScope, scopes.join(" ")),
        (Fact::SentVersion, version),
    ];
    for (fact, value) in of_token.into_iter().filter(|(_, value)| !value.contains(JWT_START)) {
        facts.add(fact, cut(&value, MAX_CLAIM));
    }
    facts
}

/// Error code of an upstream as the log shows it: at most 64 characters. Empty if it repeats a token. `token`: the one that was
/// sent, if it is known; else only a short name is shown.
pub(crate) fn shown_error(code: &str, token: Option<&str>) -> String {
    let repeats = match token {
        Some(token) => {
            code.contains(token) || token.as_bytes().chunks_exact(PART).any(|part| remedies::contains(code, part))
        }
        None => !crate::secret::is_plain(code),
    };
    if repeats || code.contains(JWT_START) { String::new() } else { cut(code, 64) }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::*;

    fn line(claims: &str) -> String {
        let [header, payload] = ["{}", claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        facts(&format!("{header}.{payload}.c2ln")).to_string()
    }

    #[test]
    fn the_facts_name_what_an_upstream_checks_and_nothing_personal() {
        let claims = r#"{"iss":"https://idp.example","aud":["a","b c"],"scp":["x","y"],"ver":"2.0","sub":"XYZZY"}"#;
        let expected = r#"sent_iss="https://idp.example" sent_aud="a b c" sent_scope="x y" sent_ver="2.0""#;
        assert_eq!(line(claims), expected);
        assert_eq!(line(r#"{"aud":"a","scope":"x y","ver":1}"#), r#"sent_aud="a" sent_scope="x y" sent_ver="1""#);
        assert_eq!(line(r#"{"ver":1.5}"#), r#"sent_ver="1.5""#);
        for ver in ["null", "{}", "[]", "true"] {
            assert_eq!(line(&format!(r#"{{"aud":"a","ver":{ver}}}"#)), r#"sent_aud="a""#, "{ver}");
        }
        for opaque in ["", "opaque", "a.b.c", "a.b.c.d.e", "e30.W10.x"] {
            assert!(facts(opaque).is_empty(), "{opaque}");
        }
    }

    #[test]
    fn scopes_of_both_claims_are_shown_once() {
        for (claims, shown) in [
            (r#""scp":[],"scope":"a b""#, "a b"),
            (r#""scp":null,"scope":"a b""#, "a b"),
            (r#""scp":"","scope":["a","b"]"#, "a b"),
            (r#""scp":{},"scope":"a""#, "a"),
            (r#""scope":null,"scp":["a","b"]"#, "a b"),
            (r#""scope":[],"scp":"a b""#, "a b"),
            (r#""scp":["a","b"],"scope":"b  c""#, "a b c"),
        ] {
            assert_eq!(line(&format!("{{{claims}}}")), format!("sent_scope=\"{shown}\""), "{claims}");
        }
        assert_eq!(line(r#"{"scp":[],"scope":null}"#), "");
    }

    #[test]
    fn a_claim_that_nobody_can_read_hides_no_other() {
        for odd in [r#""x":1e400"#, r#""x":1,"x":2"#, r#""x":"\ud800""#] {
            assert_eq!(line(&format!(r#"{{{odd},"aud":"a","ver":1}}"#)), r#"sent_aud="a" sent_ver="1""#, "{odd}");
        }
        assert_eq!(line(r#"{"aud":"a","aud":"b"}"#), "", "two readers could read it differently");
    }

    #[test]
    fn a_claim_is_escaped_and_cut_and_never_another_token() {
        assert_eq!(line(r#"{"iss":"a\" event=x\n"}"#), r#"sent_iss="a\" event=x\u000a""#);
        assert_eq!(line(&format!(r#"{{"iss":"{}"}}"#, "a".repeat(9999))).len(), "sent_iss=\"\"".len() + MAX_CLAIM);
        assert_eq!(line(r#"{"iss":"x","scope":"eyJhbGciOiJub25lIn0.e30."}"#), r#"sent_iss="x""#);
    }

    #[test]
    fn an_error_code_is_cut_and_never_a_token() {
        assert_eq!(shown_error("invalid_token", Some("opaque-token")), "invalid_token");
        assert_eq!(shown_error(&"a".repeat(999), Some("opaque-token")), "a".repeat(64));
        assert_eq!(shown_error("bad token opaque-token", Some("opaque-token")), "");
        let token: String = (0..8).map(|number| format!("part-{number}-of-it.")).collect();
        assert_eq!(shown_error(&format!("bad {token:.60}"), Some(&token)), "", "a part of it");
        assert_eq!(shown_error("bad token eyJhbGciOi", None), "");
        assert_eq!(
            (shown_error("invalid_token", None), shown_error(&"a".repeat(40), None)),
            ("invalid_token".into(), String::new())
        );
    }
}
