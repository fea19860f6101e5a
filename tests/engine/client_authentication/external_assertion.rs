//! Assertions of another issuer, such as a workload identity, from a header or the environment.

use onbehalf::config::Config;
use onbehalf::crypto::Software;
use onbehalf::http::Request;
use onbehalf_test_support::{
    ENTRA_KEY, NOW, SharedMap, TestEngine, alice, alice_token, answered, authorization, bob_token, entra_user,
    environment, forwarded, issued, request, warnings, with,
};
use serde_json::{Value, json};

use super::{ASSERTION, asserted, authentication_error, field, proof, with_client};

const NEXT_ASSERTION: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ3b3JrbG9hZCJ9.bmV4dA";

const HEADER: &str = "x-workload-assertion";

/// A request of a user with client assertions in the header.
fn with_assertions(token: &str, assertions: &[&str]) -> Request {
    let authorization = format!("Bearer {token}");
    let mut fields = vec![("authorization", authorization.as_str())];
    fields.extend(assertions.iter().map(|assertion| (HEADER, *assertion)));
    request("POST", "/github", &fields)
}

fn assertion_fields(assertion: &str) -> Vec<(String, String)> {
    vec![
        field("client_assertion", assertion),
        field("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        field("client_id", "gateway-id"),
    ]
}

#[test]
fn client_assertion_from_a_header_is_sent_unchanged_and_removed() {
    let mut engine = TestEngine::new(&asserted()).with_keys();
    engine.send_waiting(with_assertions(&alice_token(), &[ASSERTION]));
    let (flight, call) = engine.expect_call();
    assert_eq!(proof(&call), (assertion_fields(ASSERTION), false));
    assert!(!format!("{call:?}").contains("c2lnbmF0dXJl"));
    let edits = forwarded(engine.only_step(flight, &issued("up")));
    assert_eq!(edits.remove, [HEADER]);

    // The header is removed on other paths too: for a user of the other provider, and on an unauthenticated path.
    engine.send_waiting(with_assertions(&bob_token(), &[ASSERTION]));
    let (flight, call) = engine.expect_call();
    assert!(!call.body.reveal().contains(ASSERTION));
    let edits = forwarded(engine.only_step(flight, &issued("up")));
    assert_eq!(edits.remove, [HEADER]);
    let edits = forwarded(engine.decide(request("GET", "/healthz", &[(HEADER, ASSERTION), (HEADER, "x")])));
    assert!(edits.remove.contains(&HEADER.to_owned()));
}

#[test]
fn client_assertion_from_the_environment_is_read_once() {
    let configuration = with_client(json!({"method": "client_assertion", "assertion": {"env": "ASSERTION"}}));
    let read = |value: &'static str| {
        let environment =
            move |name: &str| if name == "ASSERTION" { Some(value.to_owned()) } else { environment(name) };
        Config::parse(configuration.to_string().as_bytes(), &environment)
    };
    let config = read("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ3b3JrbG9hZCJ9.c2lnbmF0dXJl\n").unwrap();
    assert_eq!(warnings(&config).len(), 1);
    assert!(warnings(&config)[0].contains("client.authentication.assertion.env: it is read once, when Envoy starts"));
    assert!(!format!("{config:?}").contains("c2lnbmF0dXJl"));
    let engine = onbehalf::engine::Engine::new(config, Box::new(Software), Box::new(SharedMap::default()));
    let mut engine = TestEngine::from_engine(engine).with_keys();
    engine.send_waiting(with_assertions(&alice_token(), &[NEXT_ASSERTION]));
    assert_eq!(proof(&engine.expect_call().1), (assertion_fields(ASSERTION), false));
    for bad in ["", " ", "hunter2hunter2", "a.b", "a.b.c.d", "a.b.", "a.b.c d", "a.b.c\nd", "a.b.c="] {
        let error = read(bad).unwrap_err();
        assert_eq!(error.path, "identity_providers.entra-us.client.authentication.assertion.env", "{bad}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn missing_or_malformed_client_assertion_stops_the_exchange() {
    let long = format!("a.b.{}", "c".repeat(16 * 1024));
    let bad: [&[&str]; 9] = [
        &[],
        &[""],
        &["hunter2"],
        &["a.b"],
        &["a..c"],
        &["a.b.c,a.b.c"],
        &["a.b.c&client_id=x"],
        &[ASSERTION, NEXT_ASSERTION],
        &[&long],
    ];
    let mut engine = TestEngine::new(&asserted()).with_keys();
    for assertions in bad {
        let answer = answered(engine.decide(with_assertions(&alice_token(), assertions)));
        assert_eq!(answer.status, 502, "{assertions:?}");
        assert!(answer.body.contains("exchange_misconfigured") && !answer.body.contains("hunter2"), "{answer:?}");
        engine.expect_no_call();
    }
    // The failure belongs to those requests and not to the user.
    engine.send_waiting(with_assertions(&alice_token(), &[ASSERTION]));
    assert_eq!(proof(&engine.expect_call().1).0, assertion_fields(ASSERTION));
}

#[test]
fn new_client_assertion_is_used_for_the_next_exchange_only() {
    let mut engine = TestEngine::new(&asserted()).with_keys();
    let first = engine.send_waiting(with_assertions(&alice_token(), &[ASSERTION]));
    let second = engine.send_waiting(with_assertions(&alice_token(), &[NEXT_ASSERTION]));
    let (flight, call) = engine.expect_call();
    assert_eq!(proof(&call).0, assertion_fields(ASSERTION));
    engine.expect_no_call();
    let steps = engine.callout_result(flight, &issued("up"));
    assert_eq!(steps.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [first, second]);
    for assertions in [&[NEXT_ASSERTION][..], &[ASSERTION], &[], &["no JWT"]] {
        let step = engine.decide(with_assertions(&alice_token(), assertions));
        assert_eq!(authorization(step), "Bearer up", "{assertions:?}");
    }
    engine.expect_no_call();
    engine.send_waiting(with_assertions(&entra_user("other"), &[NEXT_ASSERTION]));
    assert_eq!(proof(&engine.expect_call().1).0, assertion_fields(NEXT_ASSERTION));
}

#[test]
fn token_in_use_survives_a_rejected_client_assertion() {
    let mut engine = TestEngine::new(&asserted()).with_keys();
    let token = ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() + 7200})));
    let step = engine.exchange(with_assertions(&token, &[ASSERTION]), &issued("up"));
    assert_eq!(authorization(step), "Bearer up");
    engine.advance(3500);
    for assertions in [&["no JWT"][..], &[NEXT_ASSERTION]] {
        // The second request comes too soon after the failure.
        assert_eq!(authorization(engine.decide(with_assertions(&token, assertions))), "Bearer up");
        engine.expect_no_call();
    }
    engine.advance(11);
    assert_eq!(authorization(engine.decide(with_assertions(&token, &[NEXT_ASSERTION]))), "Bearer up");
    let (flight, call) = engine.expect_call();
    assert_eq!(proof(&call).0, assertion_fields(NEXT_ASSERTION));
    engine.callout_result(flight, &issued("next"));
    assert_eq!(authorization(engine.decide(with_assertions(&token, &[]))), "Bearer next");
}

#[test]
fn client_assertion_has_exactly_one_source() {
    let at = |assertion: Value| authentication_error(&json!({"method": "client_assertion", "assertion": assertion}));
    for (assertion, path, found) in [
        (json!({}), "assertion", "neither env nor header"),
        (json!({"env": "A", "header": "x-a"}), "assertion", "both env and header"),
        (json!({"inline": ASSERTION}), "assertion.inline", "a field that does not exist"),
        (json!({"header": "authorization"}), "assertion.header", "\"authorization\""),
        (json!({"header": "x a"}), "assertion.header", "\"x a\""),
        (json!({"header": "x-a\n"}), "assertion.header", "another value"),
        (json!({"env": "NOT_SET"}), "assertion.env", "NOT_SET, which is not set"),
        (json!("x-a"), "assertion", "a string"),
    ] {
        let error = at(assertion);
        let expected = format!("client.authentication.{path}: found {found}");
        assert!(error.contains(&expected), "{error}");
        assert!(!error.contains(ASSERTION), "{error}");
    }
    assert!(
        authentication_error(&json!({"method": "client_assertion"}))
            .contains("client.authentication.assertion: found nothing")
    );

    let mut configuration = asserted();
    configuration["identity_providers"]["okta-eu"]["subject_token"] =
        json!({"type": "id_token", "header": "X-WORKLOAD-ASSERTION", "audiences": ["login-client"]});
    let error = Config::parse(configuration.to_string().as_bytes(), &environment).unwrap_err();
    assert_eq!(error.path, "identity_providers.entra-us.client.authentication.assertion.header");
}
