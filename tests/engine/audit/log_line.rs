//! Log lines.

use log::Level;
use onbehalf::http::{CalloutFailure, CalloutResult, Response};
use onbehalf_test_support::{
    ENTRA, ENTRA_KEY, NOW, OKTA, OKTA_KEY, SharedMap, TIMED_OUT, TestEngine, alice, alice_token, answer, answer_with,
    answered, authorization, bearer, bob, bob_token, configuration, forwarded, issued, refused, request, with,
};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;

use super::{ALICE, GITHUB, audited, facts, listen, of_alice, record, records};

#[test]
fn exchange_line_has_user_target_duration_and_provider_request_id() {
    listen();
    let mut engine = TestEngine::ready();
    let id = engine.send_waiting(bearer("/github", &alice_token()));
    let joined = engine.send_waiting(bearer("/github", &alice_token()));
    engine.now = engine.now.plus(Duration::from_millis(120));
    let (flight, _) = engine.expect_call();
    assert!(records().is_empty());
    let body = json!({"access_token": "issued", "token_type": "Bearer", "expires_in": 3600});
    let steps = engine.callout_result(flight, &answer_with(200, &[("x-ms-request-id", "trace-1")], &body));
    let expected = [
        ("event", "exchanged"),
        ("outcome", "ok"),
        ("cache", "miss"),
        ("latency_ms", "120"),
        ("waiters", "2"),
        ("lifetime_s", "3600"),
        ("provider_trace_id", "trace-1"),
    ];
    assert_eq!(record(), (Level::Info, of_alice(&expected)));
    let told: HashMap<_, _> = steps.into_iter().map(|(id, step)| (id, audited(step))).collect();
    let forwarded = |cache| of_alice(&[("event", "forwarded"), ("cache", cache), ("latency_ms", "120")]);
    assert_eq!(told[&id], forwarded("miss"));
    assert_eq!(told[&joined], forwarded("coalesced"));
}

#[test]
fn failed_exchange_and_each_refusal_after_it_have_a_log_line() {
    listen();
    let mut engine = TestEngine::ready();
    engine.send_waiting(bearer("/github", &alice_token()));
    engine.send_waiting(bearer("/github", &alice_token()));
    engine.now = engine.now.plus(Duration::from_millis(70));
    let (flight, _) = engine.expect_call();
    let body = json!({"error": "invalid_client", "error_codes": [7_000_215], "trace_id": "t-2", "error_description": "secret words"});
    let steps = engine.callout_result(flight, &answer_with(401, &[], &body));
    let [exchange, first, second] = records().try_into().unwrap();
    for (level, facts) in [&exchange, &first, &second] {
        assert_eq!(*level, Level::Warn);
        let has = |name: &str, value: &str| assert_eq!(facts[name], value, "{facts:?}");
        has("subject", ALICE);
        has("issuer", ENTRA);
        has("resource", GITHUB);
        has("provider", "entra-us");
        has("error", "invalid_client");
        has("status", "401");
        has("error_codes", "7000215");
        has("provider_trace_id", "t-2");
        has("latency_ms", "70");
        assert!(!format!("{facts:?}").contains("words"));
    }
    assert_eq!((&*exchange.1["event"], &*exchange.1["outcome"]), ("exchanged", "exchange_misconfigured"));
    assert_eq!((&*exchange.1["cache"], &*exchange.1["waiters"]), ("miss", "2"));
    for (refusal, cache) in [(&first.1, "miss"), (&second.1, "coalesced")] {
        assert_eq!((&*refusal["event"], &*refusal["reason"]), ("refused", "exchange_misconfigured"));
        assert_eq!(refusal["cache"], cache);
    }
    for (_, step) in steps {
        let told = audited(step);
        assert_eq!((&*told["reason"], &*told["subject"]), ("exchange_misconfigured", ALICE));
        assert!(told["detail"].contains("provider_trace_id=t-2"), "{told:?}");
    }
    refused(engine.decide(bearer("/github", &alice_token())));
    let (_, later) = record();
    assert_eq!((&*later["cache"], &*later["latency_ms"], &*later["provider_trace_id"]), ("negative_hit", "0", "t-2"));
}

#[test]
fn renewal_has_a_log_line_with_or_without_a_token() {
    for (reply, outcome, level) in
        [(issued("second"), "ok", Level::Info), (TIMED_OUT, "provider_unavailable", Level::Warn)]
    {
        listen();
        let mut engine = TestEngine::ready();
        let token = ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() + 86400})));
        authorization(engine.exchange(bearer("/github", &token), &issued("first")));
        engine.advance(3500);
        records();
        authorization(engine.decide(bearer("/github", &token)));
        assert!(records().is_empty());
        let (flight, _) = engine.expect_call();
        assert!(engine.callout_result(flight, &reply).is_empty());
        let (loud, facts) = record();
        assert_eq!(loud, level);
        assert_eq!((&*facts["event"], &*facts["outcome"], &*facts["cache"]), ("renewed", outcome, "renewed"));
        assert_eq!((&*facts["subject"], &*facts["waiters"]), (ALICE, "0"));
    }
}

#[test]
fn trace_id_that_repeats_a_token_is_not_logged() {
    let token = alice_token();
    for (trace, is_logged) in [
        ("trace-1", true),
        ("opaque-issued-token", false),
        ("opaque-refresh-token", false),
        (&*format!("id={token}"), false),
    ] {
        listen();
        let body =
            json!({"access_token": "opaque-issued-token", "refresh_token": "opaque-refresh-token", "expires_in": 3600});
        for (token_type, outcome) in [("Bearer", "ok"), ("unknown", "provider_answer_invalid")] {
            let body = with(body.clone(), json!({"token_type": token_type}));
            let mut engine = TestEngine::ready();
            records();
            let _ = engine.exchange(bearer("/github", &token), &answer_with(200, &[("x-ms-request-id", trace)], &body));
            let facts = records().remove(0).1;
            assert_eq!(facts["outcome"], outcome);
            assert_eq!(facts.get("provider_trace_id").map(String::as_str), is_logged.then_some(trace), "{trace}");
        }
    }
}

#[test]
fn renewal_that_lacks_a_client_assertion_has_a_log_line() {
    listen();
    let mut configuration = configuration();
    configuration["identity_providers"]["entra-us"]["client"]["authentication"] =
        json!({"method": "client_assertion", "assertion": {"header": "x-workload-assertion"}});
    let mut engine = TestEngine::new(&configuration).with_keys();
    let token = ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() + 86400})));
    let fields = [("authorization", &*format!("Bearer {token}")), ("x-workload-assertion", "eyJh.eyJi.c2ln")];
    authorization(engine.exchange(request("POST", "/github", &fields), &issued("first")));
    engine.advance(3500);
    records();
    authorization(engine.decide(bearer("/github", &token)));
    engine.expect_no_call();
    let (loud, facts) = record();
    assert_eq!((loud, &*facts["event"], &*facts["outcome"]), (Level::Warn, "renewed", "exchange_misconfigured"));
    assert_eq!((&*facts["subject"], &*facts["header"]), (ALICE, "x-workload-assertion"));
}

#[test]
fn refusal_of_a_verified_token_names_the_user() {
    listen();
    let mut engine = TestEngine::ready();
    let poor = ENTRA_KEY.token(&with(alice(), json!({"scp": "other"})));
    for (path, token, reason) in
        [("/github", &poor, "insufficient_scope"), ("/github/admin", &bob_token(), "no_exchange")]
    {
        assert_eq!(refused(engine.decide(bearer(path, token))).1, reason);
        let (_, facts) = record();
        assert_eq!(facts["reason"], reason);
        let (issuer, subject) = if reason == "no_exchange" { (OKTA, "00ubob") } else { (ENTRA, ALICE) };
        assert_eq!((&*facts["issuer"], &*facts["subject"], &*facts["client"]), (issuer, subject, "client"));
    }
    // The token was verified before and has expired since.
    authorization(engine.exchange(bearer("/github", &alice_token()), &issued("one")));
    records();
    engine.advance(4000);
    refused(engine.decide(bearer("/github", &alice_token())));
    let (_, facts) = record();
    assert_eq!((&*facts["reason"], &*facts["subject"]), ("expired", ALICE));
}

#[test]
fn request_without_a_token_is_logged_at_debug_level() {
    listen();
    let mut engine = TestEngine::ready();
    let told = audited(engine.decide(request("GET", "/github", &[])));
    let expected = [("event", "refused"), ("reason", "no_credentials"), ("resource", GITHUB), ("latency_ms", "0")];
    assert_eq!(told, facts(&expected));
    assert_eq!(record(), (Level::Debug, facts(&expected)));
    // Any client may request OAuth paths, and the text of the path is its own.
    let path = "/.well-known/openid-configuration/github/word-of-a-stranger";
    drop(answered(engine.decide(request("GET", path, &[("x-word", "word-of-a-stranger")]))));
    let expected =
        [("event", "refused"), ("reason", "not_an_authorization_server"), ("resource", GITHUB), ("latency_ms", "0")];
    assert_eq!(record(), (Level::Debug, facts(&expected)));
}

#[test]
fn unexchanged_token_is_logged_once_for_each_resource_and_worker() {
    listen();
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"] =
        json!({"profile": "validate_only", "issuer": OKTA, "cluster": "okta", "audiences": ["api://default"]});
    let resource = |path: &str, exchange: Value| json!({"url": format!("https://mcp.acme.example/{path}"), "exchange": {"okta-eu": exchange}});
    let forwarded = || json!({"forward": true});
    configuration["resources"] = json!([
        {"url": GITHUB, "scopes": ["no-such"], "exchange": {"okta-eu": {}}},
        resource("one", forwarded()), resource("two", forwarded()), resource("three", json!({})),
    ]);
    let shared = SharedMap::default();
    let mut workers = [(); 2].map(|()| TestEngine::sharing(&configuration, &shared).with_keys());
    records();
    let token = bob_token();
    for engine in &mut workers {
        // The token is verified for the first time, and the request is refused.
        assert_eq!(refused(engine.decide(bearer("/github", &token))).1, "insufficient_scope");
        assert_eq!(record().1["event"], "refused");
        for path in ["/one", "/two", "/three"] {
            let told = audited(engine.decide(bearer(path, &token)));
            let (level, line) = record();
            assert_eq!((level, &line), (Level::Info, &told));
            assert_eq!(
                (&*told["event"], &*told["subject"], &*told["provider"]),
                ("forwarded", "bob@acme.example", "okta-eu")
            );
            assert_eq!(told["resource"], format!("https://mcp.acme.example{path}"));
            let again = audited(engine.decide(bearer(path, &token)));
            assert_eq!((&again["subject"], &again["resource"]), (&told["subject"], &told["resource"]));
            assert!(records().is_empty());
        }
    }
    let another = OKTA_KEY.token(&with(bob(), json!({"sub": "carol@acme.example"})));
    let _ = workers[0].decide(bearer("/one", &another));
    assert_eq!(record().1["subject"], "carol@acme.example");
}

#[test]
fn token_evicted_from_the_cache_is_logged_again() {
    listen();
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"] =
        json!({"profile": "validate_only", "issuer": OKTA, "cluster": "okta", "audiences": ["api://default"]});
    configuration["resources"] = json!([{"url": GITHUB, "exchange": {"okta-eu": {}}}]);
    configuration["cache"] = json!({"verified_tokens": 1});
    let mut engine = TestEngine::new(&configuration).with_keys();
    records();
    let [bob, carol] =
        ["bob", "carol"].map(|name| OKTA_KEY.token(&with(bob(), json!({"sub": format!("{name}@acme.example")}))));
    for token in [&bob, &carol, &bob] {
        let told = audited(engine.decide(bearer("/github", token)));
        assert_eq!(record(), (Level::Info, told));
        let _ = engine.decide(bearer("/github", token));
        assert!(records().is_empty());
    }
}

#[test]
fn token_from_another_worker_is_logged_by_the_worker_it_serves() {
    for (reply, event) in [(issued("one"), "forwarded"), (answer(401, br#"{"error":"invalid_client"}"#), "refused")] {
        listen();
        let shared = SharedMap::default();
        let mut workers = [(); 2].map(|()| TestEngine::sharing(&configuration(), &shared).with_keys());
        let _ = workers[0].exchange(bearer("/github", &alice_token()), &reply);
        records();
        let told = audited(workers[1].decide(bearer("/github", &alice_token())));
        assert_eq!((&*told["event"], &*told["cache"], &*told["subject"]), (event, "shared", ALICE));
        let lines = records();
        assert_eq!(
            lines.len(),
            usize::from(event == "refused"),
            "the exchange has its line at the other worker: {lines:?}"
        );
    }
}

#[test]
fn request_that_waited_too_long_is_logged_with_its_verified_user() {
    listen();
    let mut configuration = configuration();
    configuration["max_wait_seconds"] = json!(5);
    configuration["identity_providers"]["entra-us"]["timeout_seconds"] = json!(20);
    let mut engine = TestEngine::new(&configuration).with_keys();
    engine.send_waiting(bearer("/github", &alice_token()));
    engine.advance(6);
    let told = audited(engine.tick().remove(0).1);
    let (level, line) = record();
    assert_eq!(level, Level::Warn);
    for facts in [&told, &line] {
        assert_eq!((&*facts["reason"], &*facts["subject"]), ("provider_unavailable", ALICE));
        assert_eq!((&*facts["cache"], &*facts["latency_ms"]), ("miss", "6000"));
    }
}

/// The record of the rejection of `token`, which Alice's request carried, with that challenge.
fn rejection(token: &str, challenge: &str) -> (Level, HashMap<String, String>) {
    let mut engine = TestEngine::ready();
    let sent = forwarded(engine.exchange(bearer("/github", &alice_token()), &issued(token))).sent.unwrap();
    listen();
    let headers = vec![("www-authenticate".to_owned(), challenge.as_bytes().to_vec())];
    let response = Response { status: 401, headers, body: Vec::new() };
    let _ = engine.inner.on_upstream_response(&sent, &response, engine.now);
    record()
}

#[test]
fn rejected_token_line_has_user_remedy_and_what_was_sent() {
    let claims = json!({"iss": "https://idp.example", "aud": ["api://up"], "scp": "a b", "ver": "2.0", "sub": "XYZZY"});
    let token = ENTRA_KEY.token(&claims);
    let (level, facts) = rejection(&token, r#"Bearer error="invalid_token", error_description="XYZZY""#);
    assert_eq!(level, Level::Info);
    let expected = of_alice(&[
        ("event", "refused"),
        ("reason", "upstream_rejected_token"),
        ("latency_ms", "0"),
        ("upstream_error", "invalid_token"),
        ("sent_iss", "https://idp.example"),
        ("sent_aud", "api://up"),
        ("sent_scope", "a b"),
        ("sent_ver", "2.0"),
        ("remedy", &facts["remedy"]),
    ]);
    assert_eq!(facts, expected);
    assert!(!facts["remedy"].is_empty() && !format!("{facts:?}").contains("XYZZY"));
    let (_, facts) = rejection("opaque", "Basic error=\"basic\"");
    assert!(!facts.keys().any(|name| name.starts_with("sent_")) && !facts.contains_key("upstream_error"), "{facts:?}");
}

#[test]
fn rejected_token_line_is_escaped_and_has_no_token() {
    let (_, facts) = rejection("opaque-token", r#"Bearer error="it is opaque-token""#);
    assert!(!format!("{facts:?}").contains("opaque-token"), "{facts:?}");
    let long = format!("Bearer error=\"event=x {}\"", "a".repeat(9999));
    assert_eq!(rejection("opaque-token", &long).1["upstream_error"].len(), 64);
}

#[test]
fn words_of_envoy_are_in_the_log_and_not_in_the_reply() {
    let words = "upstream connect error, transport failure reason: \"TLS_error\"\n event=x";
    let failed = || CalloutResult::by_envoy(CalloutFailure::NoConnection, words.as_bytes());
    listen();
    let mut engine = TestEngine::ready();
    engine.send_waiting(bearer("/github", &alice_token()));
    let (flight, _) = engine.expect_call();
    engine.callout_result(flight, &failed());
    let (again, _) = engine.expect_call();
    let answer = answered(engine.only_step(again, &failed()));
    assert!(!answer.body.contains("TLS_error"));
    for (level, facts) in records() {
        assert_eq!((level, facts["envoy_reply"].as_str()), (Level::Warn, words), "{facts:?}");
        assert_eq!(facts["error"], "no connection, or it broke");
    }
    let long = CalloutResult::by_envoy(CalloutFailure::NoConnection, "\u{e9}".repeat(9999).as_bytes());
    assert_eq!(long.words().chars().count(), CalloutResult::MAX_WORDS / 2);

    listen();
    let mut engine = TestEngine::new(&configuration());
    engine.tick();
    while let Some((flight, _)) = engine.inner.next_callout() {
        engine.callout_result(flight, &failed());
    }
    let lines = records();
    assert!(!lines.is_empty() && lines.iter().all(|(_, facts)| facts["envoy_reply"] == words), "{lines:?}");
}
