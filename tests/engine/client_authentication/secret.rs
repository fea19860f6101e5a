//! Client secrets, their rotation, and the fields of each method.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use onbehalf::http::{Callout, CalloutResult};
use onbehalf::telemetry::Sample;
use onbehalf_test_support::{
    SECRET, TIMED_OUT, TestEngine, alice_token, answer, answer_with, answered, authorization, bearer, entra_user, form,
    issued, parse, refused, warnings,
};
use serde_json::json;

use super::{RSA, authentication_error, with_client};

fn with_two_secrets(method: &str) -> TestEngine {
    TestEngine::new(&with_client(
        json!({"method": method, "secret": {"inline": "new"}, "previous_secret": {"inline": "old"}}),
    ))
    .with_keys()
}

/// The client secret in a token request.
fn secret_of(call: &Callout) -> String {
    let basic = call.headers.iter().find(|(name, _)| *name == "authorization");
    match basic {
        Some((_, value)) => {
            let pair = BASE64_STANDARD.decode(value.reveal().strip_prefix("Basic ").unwrap()).unwrap();
            String::from_utf8(pair).unwrap().split_once(':').unwrap().1.to_owned()
        }
        None => form(call)["client_secret"].clone(),
    }
}

fn invalid_client() -> CalloutResult {
    answer_with(401, &[], &json!({"error": "invalid_client", "error_codes": [7_000_215]}))
}

#[test]
fn previous_secret_is_used_until_the_provider_knows_the_new_one() {
    for method in ["client_secret_post", "client_secret_basic"] {
        let mut engine = with_two_secrets(method);
        let id = engine.send_waiting(bearer("/github", &alice_token()));
        let (flight, call) = engine.expect_call();
        assert_eq!(secret_of(&call), "new");
        assert!(engine.callout_result(flight, &invalid_client()).is_empty(), "it waits on");
        // A request that arrives meanwhile waits for the same call.
        let other = engine.send_waiting(bearer("/github", &alice_token()));
        let (flight, call) = engine.expect_call();
        assert_eq!(secret_of(&call), "old");
        engine.expect_no_call();
        let steps = engine.callout_result(flight, &issued("up"));
        let served: Vec<_> = steps.into_iter().map(|(id, step)| (id, authorization(step))).collect();
        assert_eq!(served, [(id, "Bearer up".to_owned()), (other, "Bearer up".to_owned())]);
        let counted = engine.inner.counters().take();
        assert!(counted.contains(&(Sample::Exchanges("entra-us".into(), "ok_with_previous_secret"), 1)), "{counted:?}");
        // The new secret is always tried first.
        engine.send_waiting(bearer("/github", &entra_user("next")));
        assert_eq!(secret_of(&engine.expect_call().1), "new");
    }
}

#[test]
fn previous_secret_is_tried_only_after_failed_client_authentication() {
    let mut engine = with_two_secrets("client_secret_post");
    engine.send_waiting(bearer("/github", &alice_token()));
    let (flight, _) = engine.expect_call();
    assert!(engine.callout_result(flight, &invalid_client()).is_empty());
    let (flight, _) = engine.expect_call();
    let mut steps = engine.callout_result(flight, &invalid_client());
    assert_eq!(refused(steps.remove(0).1).1, "exchange_misconfigured");
    engine.expect_no_call();

    for reply in [answer_with(400, &[], &json!({"error": "invalid_grant"})), TIMED_OUT, answer(403, b"<html>")] {
        let mut engine = with_two_secrets("client_secret_post");
        engine.send_waiting(bearer("/github", &alice_token()));
        let (flight, _) = engine.expect_call();
        assert_eq!(engine.callout_result(flight, &reply).len(), 1);
        engine.expect_no_call();
    }
}

#[test]
fn provider_that_repeats_a_secret_does_not_bring_it_into_the_log() {
    let token = alice_token();
    for secret in ["new-secret", "old-secret", &token] {
        let mut engine = TestEngine::new(&with_client(json!({"method": "client_secret_post",
            "secret": {"inline": "new-secret"}, "previous_secret": {"inline": "old-secret"}})))
        .with_keys();
        engine.send_waiting(bearer("/github", &token));
        let (flight, _) = engine.expect_call();
        let body = json!({"error": format!("unknown {secret}"), "suberror": secret, "trace_id": secret});
        let mut steps = engine.callout_result(flight, &answer_with(400, &[], &body));
        let reply = answered(steps.remove(0).1);
        let line = format!("{} {}", reply.record, reply.body);
        let part = &secret[..secret.len().min(20)];
        assert!(line.contains("exchange_misconfigured") && !line.contains(part), "{line}");
    }
}

#[test]
fn previous_secret_needs_a_method_with_a_secret() {
    let error =
        authentication_error(&json!({"method": "private_key_jwt", "algorithm": "RS256", "key": {"inline": RSA.pem},
        "previous_secret": {"inline": "old"}}));
    assert!(error.contains("authentication.previous_secret: "), "{error}");
}

#[test]
fn previous_secret_equal_to_the_current_one_causes_a_warning() {
    let warned = |old: &str| {
        let authentication = json!({"method": "client_secret_post", "secret": {"env": "ENTRA_CLIENT_SECRET"},
            "previous_secret": {"inline": old}});
        warnings(&parse(&with_client(authentication)))
    };
    assert_eq!(warned("old").len(), 1, "that it is inline");
    let warnings = warned(SECRET);
    assert!(warnings[1].contains("client.authentication.previous_secret: it is the same"), "{warnings:?}");
    assert!(!warnings[1].contains(SECRET));
}

#[test]
fn field_that_the_method_does_not_use_is_refused() {
    let values = json!({"secret": {"inline": "s"}, "previous_secret": {"inline": "s"}, "key": {"inline": RSA.pem},
        "key_id": "k", "algorithm": "RS256", "audience": "a", "certificate": {"inline": "c"},
        "certificate_header": ["x5c"], "assertion": {"header": "x-a"}});
    let used: [(&str, &[&str]); 7] = [
        ("client_secret_basic", &["secret", "previous_secret"]),
        ("client_secret_post", &["secret", "previous_secret"]),
        ("private_key_jwt", &["key", "key_id", "algorithm", "audience", "certificate", "certificate_header"]),
        ("tls_client_auth", &[]),
        ("self_signed_tls_client_auth", &[]),
        ("client_assertion", &["assertion"]),
        ("envoy_injected", &[]),
    ];
    for (method, used) in used {
        for (name, value) in values.as_object().unwrap() {
            if !used.contains(&name.as_str()) {
                let error = authentication_error(&json!({"method": method, name: value}));
                assert!(error.contains(&format!("authentication.{name}: found a value")), "{method} {name}: {error}");
            }
        }
    }
}
