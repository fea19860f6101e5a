//! What a refusal looks like, and what of a request's form is refused before any token is looked at.

use onbehalf::http::Request;
use serde_json::Value;

use crate::support::*;

fn reason(request: Request) -> String {
    refused(Bench::ready().ask(request)).1
}

#[test]
fn without_a_token_the_challenge_says_where_to_get_one_and_names_no_error() {
    let answer = answered(Bench::ready().ask(request("POST", "/github", &[])));
    assert_eq!(answer.status, 401);
    assert_eq!(
        header(&answer, "www-authenticate"),
        Some(
            "Bearer resource_metadata=\"https://mcp.acme.example/.well-known/oauth-protected-resource/github\", scope=\"https://mcp.acme.example/github/mcp.read\""
        )
    );
    assert_eq!(header(&answer, "cache-control"), Some("no-store"));
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["reason"], "no_credentials");
}

#[test]
fn a_bad_token_is_challenged_with_error_and_description() {
    let answer = answered(Bench::ready().ask(bearer("/github", "opaque")));
    let challenge = header(&answer, "www-authenticate").unwrap();
    assert!(challenge.starts_with("Bearer error=\"invalid_token\", error_description=\""), "{challenge}");
    assert!(
        challenge
            .contains("resource_metadata=\"https://mcp.acme.example/.well-known/oauth-protected-resource/github\"")
    );
}

#[test]
fn other_schemes_are_no_credentials() {
    for value in ["Basic YTpi", "DPoP abc", "", "Digest x", "Bearerx abc"] {
        assert_eq!(reason(request("POST", "/github", &[("authorization", value)])), "no_credentials", "{value}");
    }
}

#[test]
fn bearer_credentials_have_one_form() {
    for value in [
        "Bearer",
        "Bearer ",
        "Bearer\tabc",
        "Bearer a b",
        "Bearer \"abc\"",
        "Bearer =",
        "Bearer a=b",
        "Bearer abc\u{e9}",
        "Bearer a\u{0}",
    ] {
        assert_eq!(
            reason(request("POST", "/github", &[("authorization", value)])),
            "malformed_credentials",
            "{value:?}"
        );
    }
    let hostile = Request::new(&[
        (":authority", b"mcp.acme.example"),
        (":path", b"/github"),
        ("authorization", b"Bearer \xff\xfe"),
    ]);
    assert_eq!(reason(hostile), "malformed_credentials");
    for scheme in ["bearer", "BEARER", "Bearer  "] {
        let value = format!("{} opaque", scheme.trim_end());
        assert_eq!(reason(request("POST", "/github", &[("authorization", &value)])), "opaque_token");
    }
}

#[test]
fn one_token_once() {
    let good = format!("Bearer {}", alice_token());
    assert_eq!(
        reason(request("POST", "/github", &[("authorization", &good), ("authorization", &good)])),
        "multiple_credentials"
    );
    assert_eq!(
        reason(request("POST", "/github", &[("authorization", &format!("{good},{good}"))])),
        "multiple_credentials"
    );
    assert_eq!(
        reason(request("POST", "/github", &[("authorization", &format!("{good}, {good}"))])),
        "multiple_credentials"
    );
    for query in [
        "access_token=x",
        "a=b&access_token=",
        "%61ccess_token=x",
        "a;access_token=x",
        "a=b%3b;access%5ftoken=x",
        "access.token=x",
        "+access+token=x",
        "%20access_token=x",
        "access_token[]=x",
    ] {
        assert_eq!(
            reason(request("POST", &format!("/github?{query}"), &[("authorization", &good)])),
            "multiple_credentials",
            "{query}"
        );
        assert_eq!(reason(request("POST", &format!("/github?{query}"), &[])), "multiple_credentials", "{query}");
    }
}

#[test]
fn a_token_of_more_than_16_kib_is_not_looked_at() {
    assert_eq!(reason(bearer("/github", &"a".repeat(16 * 1024 + 1))), "token_too_large");
    assert_eq!(reason(bearer("/github", &"a".repeat(16 * 1024))), "opaque_token");
}

#[test]
fn what_belongs_to_no_resource_is_refused() {
    for path in [
        "/",
        "/other",
        "/githubx",
        "/GITHUB",
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/other",
        "/healthz/x",
    ] {
        assert_eq!(
            refused(Bench::ready().ask(bearer(path, &alice_token()))),
            (404, "unknown_resource".to_owned()),
            "{path}"
        );
    }
    let elsewhere = Request::new(&[
        (":authority", b"other.acme.example"),
        (":path", b"/github"),
        ("authorization", format!("Bearer {}", alice_token()).as_bytes()),
    ]);
    assert_eq!(reason(elsewhere), "unknown_resource");
    assert_eq!(reason(Request::new(&[])), "ambiguous_path");
}

#[test]
fn a_path_with_two_readings_picks_no_resource() {
    for path in [
        "//github",
        "/github/..;/admin",
        "/github/../admin",
        "/github/%2e%2e/admin",
        "/github%2fadmin",
        "/github/./admin",
        "/github\\admin",
        "/github/;/admin",
        "/githu%62%2f",
        "/github//admin",
        "/healthz/..;/github",
        // A server that takes parameters off reads another resource, or an open path.
        "/github/admin;x",
        "/healthz;x",
        "/github;x",
    ] {
        assert_eq!(
            refused(Bench::ready().ask(bearer(path, &alice_token()))),
            (400, "ambiguous_path".to_owned()),
            "{path}"
        );
    }
    // Both kinds of server read the same resource here.
    assert_eq!(
        authorization(Bench::ready().exchange(bearer("/github/x;v=1", &alice_token()), &issued("up"))),
        "Bearer up"
    );
}

#[test]
fn the_longest_resource_counts_however_its_path_is_escaped() {
    for path in ["/github/admin", "/github/admin/x", "/github/%61dmin", "/%67ithub/admin/?x=/github"] {
        assert_eq!(reason(bearer(path, &alice_token())), "insufficient_scope", "{path}");
    }
}

#[test]
fn no_answer_shows_a_token() {
    let token = bob_token();
    for request in
        [bearer("/github/admin", &token), bearer("/nowhere", &token), bearer("/github", &format!("{token}x"))]
    {
        let answer = answered(Bench::ready().ask(request));
        assert!(!format!("{answer:?}").contains(&token[..40]));
    }
}
