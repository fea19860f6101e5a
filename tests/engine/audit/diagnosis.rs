//! Log lines by which an operator finds the cause of a refusal, and what the client does not learn of them.

use onbehalf::http::Request;
use onbehalf_test_support::{ENTRA_KEY, OKTA_KEY, TestEngine, alice, answered, bearer, bob, configuration, with};
use serde_json::{Value, json};

use super::{listen, record};

fn refused_path(engine: &mut TestEngine, authority: &str, path: &[u8]) -> std::collections::HashMap<String, String> {
    listen();
    let fields: Vec<(&str, &[u8])> = vec![(":method", b"GET"), (":authority", authority.as_bytes()), (":path", path)];
    let answer = answered(engine.decide(Request::new(&fields)));
    let (_, facts) = record();
    assert_eq!((answer.status, &*facts["reason"]), (400, "ambiguous_path"), "{facts:?}");
    assert!(!answer.body.contains("the path has"), "{}", answer.body);
    facts
}

#[test]
fn ambiguous_path_is_logged_with_its_host_and_its_fault() {
    let mut configuration = configuration();
    configuration["resources"][1]["url"] = json!("https://mcp.acme.example/github/@admin");
    configuration["resources"][1]["encoded_slashes"] = json!(true);
    let mut engine = TestEngine::new(&configuration);
    for (path, shown, cause) in [
        ("/a//b?secret", "/a//b", "an empty segment (//)"),
        ("/a/;v/b", "/a/;v/b", "an empty segment (//)"),
        ("/a/../b", "/a/../b", "a dot segment"),
        ("/a/..;v=1", "/a/..;v=1", "a dot segment"),
        ("/a%2F..%2Fb", "/a%2F..%2Fb", "a dot segment"),
        ("/a%2e%2e/b", "/a%2e%2e/b", "an escaped dot, semicolon, backslash or control"),
        ("/a%5Cb", "/a%5Cb", "an escaped dot, semicolon, backslash or control"),
        ("/a%zz", "/a%zz", "a percent sign without"),
        ("/a%2", "/a%2", "a percent sign without"),
        ("/a\\b", "/a\\b", "a backslash"),
        ("/a#secret", "/a", "a fragment"),
        ("/a b", "/a b", "a character that must be percent-encoded"),
        ("/\u{e9}\n", "/\u{e9}\n", "a character that must be percent-encoded"),
        ("a", "a", "no slash at its beginning"),
        ("/github/a%2fb", "/github/a%2fb", "an escaped slash (%2F), and the resource has no encoded_slashes: true"),
        ("/other/a%2fb", "/other/a%2fb", "an escaped slash (%2F) outside of resources with encoded_slashes"),
        ("/github/%40admin", "/github/%40admin", "an escaped character, such as %40"),
        ("/github;v/@admin", "/github;v/@admin", "parameters (;), without which it leads elsewhere"),
        ("/github/@admin%2F", "/github/@admin%2F", "an escaped slash (%2F), and the resource has"),
        ("/github/eyJhbGciOi%2eeyJ/..", "/github/...", "an escaped dot"),
    ] {
        let facts = refused_path(&mut engine, "mcp.acme.example", path.as_bytes());
        assert_eq!((&*facts["host"], &*facts["path"]), ("mcp.acme.example", shown), "{path}");
        assert!(facts["cause"].starts_with(&format!("the path has {cause}")), "{path}: {facts:?}");
        let nearest = facts.get("nearest").map(String::as_str);
        let expected = cause.contains("the resource").then_some("https://mcp.acme.example/github");
        assert_eq!(nearest, expected, "{path}");
        assert!(!format!("{facts:?}").contains("secret"), "{facts:?}");
    }
    let facts = refused_path(&mut engine, &"h".repeat(1000), format!("//{}", "a".repeat(1000)).as_bytes());
    assert_eq!(facts["host"], format!("{}...", "h".repeat(128)));
    assert_eq!(facts["path"], format!("//{}...", "a".repeat(126)));
    assert_eq!(refused_path(&mut engine, "h", b"/\xff//")["path"], "/\u{fffd}//");
}

#[test]
fn decoded_slash_that_leads_to_another_resource_is_the_cause() {
    let mut configuration = configuration();
    configuration["resources"][0]["encoded_slashes"] = json!(true);
    let facts = refused_path(&mut TestEngine::new(&configuration), "mcp.acme.example", b"/github/%2Fadmin");
    assert_eq!(facts["cause"], "the path has an escaped slash (%2F) that leads elsewhere once it is decoded");
}

/// Facts of a token that is refused for its audience. The client learns none of them.
fn wrong_audience(configuration: &Value, token: &str) -> std::collections::HashMap<String, String> {
    let mut engine = TestEngine::new(configuration).with_keys();
    listen();
    let answer = answered(engine.decide(bearer("/github", token)));
    let (_, facts) = record();
    assert_eq!((answer.status, &*facts["reason"]), (401, "wrong_audience"), "{facts:?}");
    assert!(!format!("{}{:?}", answer.body, answer.headers).contains("XYZZY"), "{}", answer.body);
    facts
}

#[test]
fn wrong_audience_is_logged_with_the_audiences_of_the_token() {
    let of = |aud: Value| wrong_audience(&configuration(), &ENTRA_KEY.token(&with(alice(), json!({"aud": aud}))));
    let facts = of(json!("api://XYZZY"));
    assert_eq!(facts["aud_unverified"], "api://XYZZY");
    assert!(facts["cause"].starts_with("aud has no accepted audience: "), "{facts:?}");
    assert!(!facts.contains_key("subject"), "{facts:?}");
    assert_eq!(of(json!(["XYZZY-1", "b\" event=x\n"]))["aud_unverified"], "XYZZY-1 b\" event=x\n");
    assert_eq!(of(json!(["1", "2", "3", "4", "5"]))["aud_unverified"], "1 2 3 4 ...");
    assert_eq!(of(json!("a".repeat(9999)))["aud_unverified"], "a".repeat(128));
    assert_eq!(of(json!(["a", "eyJhbGciOiJub25lIn0.e30."]))["aud_unverified"], "a");
    assert!(!of(json!([])).contains_key("aud_unverified"));
    // The cause of a token for another API is found before its audience is compared.
    assert_eq!(of(json!("https://graph.microsoft.com"))["aud_unverified"], "https://graph.microsoft.com");
}

#[test]
fn wrong_audience_names_the_claim_that_stands_for_aud() {
    let mut configuration = configuration();
    let okta = &mut configuration["identity_providers"]["okta-eu"];
    okta["profile"] = json!("rfc8693");
    okta["audience_claim"] = json!("client_id");
    for (claims, claim, value) in [
        (json!({"client_id": "XYZZY", "aud": null}), "client_id", "XYZZY"),
        (json!({"client_id": "XYZZY", "aud": "api://default"}), "client_id", "XYZZY"),
        (json!({"client_id": "api://default", "aud": "XYZZY"}), "aud", "XYZZY"),
        (json!({"client_id": "XYZZY-1", "aud": "XYZZY-2"}), "client_id", "XYZZY-1"),
    ] {
        let facts = wrong_audience(&configuration, &OKTA_KEY.token(&with(bob(), claims.clone())));
        assert_eq!(facts["aud_unverified"], value, "{claims}");
        assert!(facts["cause"].starts_with(&format!("{claim} has no accepted audience: ")), "{claims}: {facts:?}");
    }
}
