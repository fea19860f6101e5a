//! The form of refusals, and requests that are refused before any token is read.

use onbehalf::http::Request;
use serde_json::Value;

use onbehalf_test_support::{
    TestEngine, alice_token, answered, authorization, bearer, bob_token, header, issued, refused, request,
};

fn reason_of(request: Request) -> String {
    refused(TestEngine::ready().decide(request)).1
}

#[test]
fn challenge_without_a_token_has_the_metadata_url_and_no_error() {
    let answer = answered(TestEngine::ready().decide(request("POST", "/github", &[])));
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
fn invalid_token_gets_a_challenge_with_error_and_description() {
    let answer = answered(TestEngine::ready().decide(bearer("/github", "opaque")));
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
        assert_eq!(reason_of(request("POST", "/github", &[("authorization", value)])), "no_credentials", "{value}");
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
            reason_of(request("POST", "/github", &[("authorization", value)])),
            "malformed_credentials",
            "{value:?}"
        );
    }
    let hostile = Request::new(&[
        (":authority", b"mcp.acme.example"),
        (":path", b"/github"),
        ("authorization", b"Bearer \xff\xfe"),
    ]);
    assert_eq!(reason_of(hostile), "malformed_credentials");
    for scheme in ["bearer", "BEARER", "Bearer  "] {
        let value = format!("{} opaque", scheme.trim_end());
        assert_eq!(reason_of(request("POST", "/github", &[("authorization", &value)])), "opaque_token");
    }
}

#[test]
fn second_credential_is_refused() {
    let good = format!("Bearer {}", alice_token());
    assert_eq!(
        reason_of(request("POST", "/github", &[("authorization", &good), ("authorization", &good)])),
        "multiple_credentials"
    );
    assert_eq!(
        reason_of(request("POST", "/github", &[("authorization", &format!("{good},{good}"))])),
        "multiple_credentials"
    );
    assert_eq!(
        reason_of(request("POST", "/github", &[("authorization", &format!("{good}, {good}"))])),
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
        "ACCESS_TOKEN=x",
        "Access%5fToken=x",
    ] {
        assert_eq!(
            reason_of(request("POST", &format!("/github?{query}"), &[("authorization", &good)])),
            "multiple_credentials",
            "{query}"
        );
        assert_eq!(reason_of(request("POST", &format!("/github?{query}"), &[])), "multiple_credentials", "{query}");
    }
}

#[test]
fn token_of_more_than_16_kib_is_not_parsed() {
    assert_eq!(reason_of(bearer("/github", &"a".repeat(16 * 1024 + 1))), "token_too_large");
    assert_eq!(reason_of(bearer("/github", &"a".repeat(16 * 1024))), "opaque_token");
}

#[test]
fn request_outside_every_resource_is_refused() {
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
            refused(TestEngine::ready().decide(bearer(path, &alice_token()))),
            (404, "unknown_resource".to_owned()),
            "{path}"
        );
    }
    let elsewhere = Request::new(&[
        (":authority", b"other.acme.example"),
        (":path", b"/github"),
        ("authorization", format!("Bearer {}", alice_token()).as_bytes()),
    ]);
    assert_eq!(reason_of(elsewhere), "unknown_resource");
    assert_eq!(reason_of(Request::new(&[])), "ambiguous_path");
}

#[test]
fn path_with_two_readings_selects_no_resource() {
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
        // A server that removes `;parameters` reads another resource, or an unauthenticated path.
        "/github/admin;x",
        "/healthz;x",
        "/github;x",
    ] {
        assert_eq!(
            refused(TestEngine::ready().decide(bearer(path, &alice_token()))),
            (400, "ambiguous_path".to_owned()),
            "{path}"
        );
    }
    // All servers read the same resource here.
    assert_eq!(
        authorization(TestEngine::ready().exchange(bearer("/github/x;v=1", &alice_token()), &issued("up"))),
        "Bearer up"
    );
}

#[test]
fn longest_resource_is_selected_and_no_escape_hides_its_path() {
    for path in ["/github/admin", "/github/admin/x", "/github/admin/%61%7e?x=/github"] {
        assert_eq!(reason_of(bearer(path, &alice_token())), "insufficient_scope", "{path}");
    }
    // Envoy without normalize_path routes them as they are written: to another cluster than the resource's.
    for path in ["/github/%61dmin", "/%67ithub/admin/?x=/github", "/%67ithub/x", "/github/%61dmin/%61"] {
        assert_eq!(reason_of(bearer(path, &alice_token())), "ambiguous_path", "{path}");
    }
}

#[test]
fn trace_never_brings_the_token_for_the_upstream_back() {
    let mut engine = TestEngine::ready();
    let authorization = format!("Bearer {}", alice_token());
    for method in ["TRACE", "trace", "TRACK"] {
        let answer = answered(engine.decide(request(method, "/github", &[("authorization", &authorization)])));
        assert_eq!(onbehalf_test_support::reason(&answer), (405, "method_not_allowed".to_owned()), "{method}");
        assert_eq!(header(&answer, "allow"), Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        assert_eq!(header(&answer, "www-authenticate"), None);
    }
}

#[test]
fn refusals_contain_no_token() {
    let token = bob_token();
    for request in
        [bearer("/github/admin", &token), bearer("/nowhere", &token), bearer("/github", &format!("{token}x"))]
    {
        let answer = answered(TestEngine::ready().decide(request));
        assert!(!format!("{answer:?}").contains(&token[..40]));
    }
}

#[test]
fn second_pass_of_a_request_gets_502_and_no_challenge() {
    let second = |token: Option<&str>| {
        let mut request = token.map_or_else(|| request("POST", "/github", &[]), |token| bearer("/github", token));
        request.has_passed = || true;
        request
    };
    for token in [None, Some("opaque"), Some("a.b.c")] {
        let answer = answered(TestEngine::ready().decide(second(token)));
        assert_eq!(onbehalf_test_support::reason(&answer), (502, "second_pass".to_owned()));
        assert_eq!(header(&answer, "www-authenticate"), None);
    }
    // A valid token is decided as in a first pass, and so is a path without a resource.
    let mut engine = TestEngine::ready();
    let id = engine.send_waiting(second(Some(&alice_token())));
    let (flight, _) = engine.expect_call();
    assert_eq!(engine.callout_result(flight, &issued("up")).remove(0).0, id);
    let mut elsewhere = request("GET", "/nothing", &[]);
    elsewhere.has_passed = || true;
    assert_eq!(reason_of(elsewhere), "unknown_resource");
}

#[test]
fn second_pass_that_waited_is_recognised_without_the_host() {
    use onbehalf_test_support::{ENTRA_KEY, alice, configuration};
    use std::sync::atomic::{AtomicBool, Ordering};
    static IN_CALLBACK: AtomicBool = AtomicBool::new(true);
    let mut engine = TestEngine::new(&configuration());
    let token = ENTRA_KEY.token(&alice());
    let (head, _) = token.rsplit_once('.').unwrap();
    let mut second = bearer("/github", &format!("{head}.{}", "A".repeat(86)));
    second.has_passed = || IN_CALLBACK.load(Ordering::Relaxed);
    let id = engine.send_waiting(second);
    IN_CALLBACK.store(false, Ordering::Relaxed);
    let mut answers = engine.serve_keys();
    answers.retain(|(waited, _)| *waited == id);
    assert_eq!(refused(answers.remove(0).1), (502, "second_pass".to_owned()));
}
