//! Filter state: the facts of a request, also where the token is cached.

use onbehalf_test_support::{
    OKTA_KEY, TENANT, TestEngine, alice_token, authorization, bearer, bob, configuration, entra_user, issued, request,
    with,
};
use serde_json::json;

use super::{GITHUB, audited, listen, of_alice, records};

#[test]
fn cached_request_has_filter_state_and_no_log_line() {
    listen();
    for hits in [false, true] {
        let mut configuration = configuration();
        configuration["audit"] = json!({"hits": hits});
        let mut engine = TestEngine::new(&configuration).with_keys();
        authorization(engine.exchange(bearer("/github", &alice_token()), &issued("one")));
        records();
        let mut expected = of_alice(if hits { &[("event", "forwarded"), ("cache", "hit")] } else { &[] });
        expected.remove("scopes");
        if !hits {
            expected.remove("issuer");
        }
        for _ in 0..2 {
            assert_eq!(audited(engine.decide(bearer("/github", &alice_token()))), expected);
            assert!(records().is_empty(), "such a request has no line");
        }
    }
}

#[test]
fn cached_requests_of_two_users_to_two_resources_differ() {
    listen();
    let mut configuration = configuration();
    configuration["resources"][1]["scopes"] = json!([]);
    let mut engine = TestEngine::new(&configuration).with_keys();
    let users = ["alice", "carol"].map(|user| (format!("{TENANT}/{user}"), entra_user(user)));
    for path in ["/github", "/github/admin"] {
        for (_, token) in &users {
            authorization(engine.exchange(bearer(path, token), &issued("one")));
        }
    }
    for (path, resource) in [("/github", GITHUB.to_owned()), ("/github/admin", format!("{GITHUB}/admin"))] {
        for (subject, token) in &users {
            let told = audited(engine.decide(bearer(path, token)));
            assert_eq!((&told["subject"], &told["resource"]), (subject, &resource));
        }
    }
    assert!(
        audited(engine.decide(request("GET", "/healthz", &[]))).is_empty(),
        "nobody calls on an unauthenticated path"
    );
}

#[test]
fn facts_have_the_same_values_in_first_and_cached_requests() {
    listen();
    let odd = "a\" event=x\\\r\n\u{e9}\u{1f600}%2C,;=";
    let long = "\u{e9}".repeat(513);
    let mut configuration = configuration();
    let url = format!("https://mcp.acme.example/{}", "r".repeat(600));
    configuration["resources"][0]["url"] = json!(url);
    configuration["audit"] = json!({"hits": true});
    for name in [odd, &*long] {
        let token = OKTA_KEY.token(&with(bob(), json!({"uid": name, "cid": name})));
        let mut engine = TestEngine::new(&configuration).with_keys();
        let path = format!("/{}", "r".repeat(600));
        let first = audited(engine.exchange(bearer(&path, &token), &issued("one")));
        let cached = audited(engine.decide(bearer(&path, &token)));
        for fact in ["subject", "client", "provider", "issuer", "resource"] {
            assert_eq!(first[fact], cached[fact]);
            assert!(cached[fact].bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", cached[fact]);
        }
    }
}

#[test]
fn applications_with_long_names_differ_in_filter_state() {
    listen();
    let of = |client: String| {
        let token = OKTA_KEY.token(&with(bob(), json!({"cid": client})));
        let mut engine = TestEngine::ready();
        authorization(engine.exchange(bearer("/github", &token), &issued("one")));
        audited(engine.decide(bearer("/github", &token)))["client"].clone()
    };
    let common = "x".repeat(512);
    assert_eq!(of(common.clone()), common);
    assert_ne!(of(format!("{common}y")), of(format!("{common}z")));
}

#[test]
fn users_with_long_names_differ_in_filter_state() {
    listen();
    let of = |user: &str| {
        let token = OKTA_KEY.token(&with(bob(), json!({"uid": user})));
        let mut engine = TestEngine::ready();
        let first = audited(engine.exchange(bearer("/github", &token), &issued("one")));
        let cached = audited(engine.decide(bearer("/github", &token)));
        assert_eq!(first["subject"], cached["subject"], "the same before and after");
        first["subject"].clone()
    };
    let common = "x".repeat(512);
    assert_eq!(of(&common), common);
    assert_ne!(of(&format!("{common}y")), of(&format!("{common}z")));
    // A digest stands for one name only.
    let digest = of(&format!("{common}y"));
    assert!(digest.starts_with("digest~"));
    assert_ne!(of(&digest), digest);
    // HTTP does not make two names equal by removing spaces.
    assert_eq!(["a", " a", "a ", " ", "a b"].map(of), ["a", "\\u0020a", "a\\u0020", "\\u0020", "a b"]);
}
