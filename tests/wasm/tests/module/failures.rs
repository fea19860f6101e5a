//! Failures of a provider, and the refusals of the caller.

use onbehalf_wasm_tests::{Cluster, Module, Outcome, Reply};
use serde_json::json;

use crate::support::provider::{self, entra, issued, okta};
use crate::support::{keys, ready, reason, send, send_waiting, settle, setup, token, verdict};

/// The outcome of a request whose token request gets this reply.
fn exchange_answered(reply: Reply) -> Outcome {
    answered_each_time(reply, 1)
}

/// The outcome of a request whose calls, `times` of them, all get this reply.
fn answered_each_time(reply: Reply, times: usize) -> Outcome {
    let mut host = ready();
    let token = token::entra("alice", host.world().now()).sign();
    let request = send_waiting(&mut host, &token);
    let mut answered = 0;
    while let Some(call) = host.calls().pop() {
        answered += 1;
        host.answer(call.id, reply.clone());
    }
    assert_eq!(answered, times, "calls");
    host.outcome(request)
}

#[test]
fn broken_connection_is_retried_once() {
    for reply in [Reply::refused(), Reply::reset(), Reply::protocol_error()] {
        let answer = answered_each_time(reply, 2).answer();
        assert_eq!((reason(&answer).as_str(), answer.status), ("provider_unavailable", 503));
        assert!(answer.headers.get("retry-after").is_some());
    }
}

#[test]
fn each_kind_of_bad_response_has_its_refusal() {
    let error = |status, code: &str| Reply::new(status, "application/json", json!({"error": code}).to_string());
    let token = |body: serde_json::Value| Reply::json(body.to_string());
    let huge = format!(r#"{{"access_token":"{}","token_type":"Bearer"}}"#, "a".repeat(2 << 20));
    let cases = [
        (Reply::timeout(), "provider_unavailable", 503),
        (Reply::new(500, "text/html", "<html>oops</html>"), "provider_unavailable", 503),
        (error(503, "temporarily_unavailable"), "provider_unavailable", 503),
        (Reply::new(302, "text/html", "").header("location", "https://evil.example/"), "provider_unavailable", 503),
        (Reply::new(429, "text/plain", "slow down").header("retry-after", "17"), "provider_throttled", 503),
        (error(400, "invalid_grant"), "exchange_rejected", 401),
        (error(400, "interaction_required"), "interaction_required", 403),
        (error(400, "access_denied"), "exchange_denied", 403),
        (error(401, "invalid_client"), "exchange_misconfigured", 502),
        (error(400, "invalid_scope"), "exchange_misconfigured", 502),
        (Reply::new(400, "text/html", "<html>"), "exchange_misconfigured", 502),
        (Reply::new(200, "text/html", "<html>welcome</html>"), "provider_answer_invalid", 502),
        (Reply::json(r#"{"access_token":"abc","token_ty"#), "provider_answer_invalid", 502),
        (Reply::json(""), "provider_answer_invalid", 502),
        (Reply::json(b"\xff\xfe\x00"), "provider_answer_invalid", 502),
        (Reply::json(huge), "provider_answer_invalid", 502),
        (Reply::json("[".repeat(200_000)), "provider_answer_invalid", 502),
        (token(json!({"access_token": "abc", "token_type": "mac"})), "provider_answer_invalid", 502),
        (token(json!({"access_token": "a b", "token_type": "Bearer"})), "provider_answer_invalid", 502),
        (token(json!({"access_token": "a\r\nx: y", "token_type": "Bearer"})), "provider_answer_invalid", 502),
        (token(json!({"access_token": 7, "token_type": "Bearer"})), "provider_answer_invalid", 502),
        (token(json!({"token_type": "Bearer"})), "provider_answer_invalid", 502),
    ];
    for (number, (reply, label, status)) in cases.into_iter().enumerate() {
        let shown = format!("case {number}: {reply:?}");
        let answer = exchange_answered(reply).answer();
        assert_eq!((reason(&answer).as_str(), answer.status), (label, status), "{shown}");
        if status == 503 {
            assert!(answer.headers.get("retry-after").is_some(), "{shown}");
        }
        assert!(!answer.text().contains("oops") && !answer.text().contains("evil"), "{shown}");
    }
}

#[test]
fn provider_headers_that_are_not_utf8_cause_no_trap() {
    let mut reply = Reply::json(issued("x").to_string()).header("x-odd", b"\xff\xfe").header("set-cookie", b"\x80");
    for _ in 0..50 {
        reply = reply.header("x-ms-request-id", b"\xc3\x28");
    }
    assert_eq!(verdict(&exchange_answered(reply)), "forwarded");
    let reply = Reply::new(400, "\u{fffd}", r#"{"error":"invalid_grant"}"#).header("x-ms-request-id", b"\xc3\x28");
    assert_eq!(verdict(&exchange_answered(reply)), "exchange_rejected");
}

#[test]
fn refused_dispatch_is_a_refusal_and_the_next_request_works() {
    for state in [Cluster::Unknown, Cluster::Failing] {
        let mut host = ready();
        let token = token::entra("alice", host.world().now()).sign();
        host.set_cluster("entra", state);
        let request = send_waiting(&mut host, &token);
        let answer = host.outcome(request).answer();
        assert_eq!(answer.status / 100, 5, "{answer:?}");
        assert_ne!(reason(&answer), "overloaded");
        host.set_cluster("entra", Cluster::Known);
        host.advance(130);
        assert_eq!(verdict(&send(&mut host, &token)), "forwarded", "{}", host.log_text());
    }
}

#[test]
fn request_without_keys_is_refused_with_retry_after_until_they_come() {
    let failures = [Reply::timeout(), Reply::refused(), Reply::reset(), Reply::json("<html>"), Reply::json("{}")];
    for failure in failures {
        let mut host = setup(Module::filter(), &provider::configuration()).start();
        let token = token::entra("alice", host.world().now()).sign();
        host.tick();
        let request = send_waiting(&mut host, &token);
        for _ in 0..10 {
            host.run_queue();
            for call in host.calls() {
                host.answer(call.id, failure.clone());
            }
        }
        let answer = host.outcome(request).answer();
        assert_eq!((reason(&answer).as_str(), answer.status), ("jwks_unavailable", 503), "{failure:?}");
        assert!(answer.headers.get("retry-after").is_some());

        for _ in 0..40 {
            host.advance(30);
            settle(&mut host, &mut [&mut entra(), &mut okta()]);
        }
        let token = token::entra("alice", host.world().now()).sign();
        assert_eq!(verdict(&send(&mut host, &token)), "forwarded", "{}", host.log_text());
    }
}

#[test]
fn failed_refresh_keeps_the_fetched_keys() {
    let mut host = ready();
    for _ in 0..200 {
        host.advance(30);
        host.run_queue();
        for call in host.calls() {
            assert!(call.path() != entra().token_path());
            host.answer(call.id, Reply::timeout());
        }
    }
    let token = token::entra("alice", host.world().now()).sign();
    let request = send_waiting(&mut host, &token);
    let calls = host.calls();
    let exchange = calls.iter().find(|call| call.path() == entra().token_path()).expect("the token was verified");
    host.answer(exchange.id, Reply::json(issued(&token).to_string()));
    assert_eq!(verdict(&host.outcome(request)), "forwarded");
}

#[test]
fn failed_exchange_affects_no_other_user_or_provider() {
    let mut host = ready();
    let now = host.world().now();
    let alice = send_waiting(&mut host, &token::entra("alice", now).sign());
    let call = host.calls().remove(0);
    host.answer(call.id, Reply::new(400, "application/json", r#"{"error":"invalid_grant"}"#));
    assert_eq!(verdict(&host.outcome(alice)), "exchange_rejected");
    assert_eq!(verdict(&send(&mut host, &token::entra("ben", now).sign())), "forwarded");
    assert_eq!(verdict(&send(&mut host, &token::okta("bob", now).sign())), "forwarded");
}

#[test]
fn unknown_kids_cause_one_fetch_and_not_one_for_each_request() {
    let mut host = ready();
    let now = host.world().now();
    host.advance(60);
    let (mut entra, mut okta) = (entra(), okta());
    for number in 0..20 {
        let token = token::entra("alice", now).header("kid", format!("nobody-{number}")).sign();
        let request = send_waiting(&mut host, &token);
        settle(&mut host, &mut [&mut entra, &mut okta]);
        assert_eq!(verdict(&host.outcome(request)), "unknown_key");
    }
    assert_eq!(entra.called.get(entra.keys_path()), Some(&1), "{:?}", entra.called);
}

#[test]
fn malformed_numbers_of_a_provider_cause_no_trap() {
    let odd = [
        "0",
        "-1",
        "1e99",
        "18446744073709551615",
        "99999999999999999999999",
        "",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "\u{fffd}",
    ];
    for value in odd {
        for name in ["retry-after", "x-rate-limit-reset", "date", "content-length"] {
            let reply = Reply::new(429, "text/plain", "").header(name, value);
            let answer = exchange_answered(reply).answer();
            assert_eq!(reason(&answer), "provider_throttled", "{name}: {value}");
            let pause: u64 = answer.headers.text("retry-after").expect("a pause").parse().expect("seconds");
            assert!((1..=120).contains(&pause), "{name}: {value}: {pause}");
        }
    }
    let odd = [
        json!(0),
        json!(-1),
        json!(1e99),
        json!(u64::MAX),
        json!("3600"),
        json!("x"),
        json!(null),
        json!([]),
        json!(0.5),
    ];
    for value in odd {
        let body = json!({"access_token": "abc", "token_type": "bearer", "expires_in": value});
        let found = verdict(&exchange_answered(Reply::json(body.to_string())));
        assert!(found == "forwarded" || found == "provider_answer_invalid", "{value}: {found}");
    }
}

#[test]
fn jwks_with_unusable_keys_keeps_the_usable_ones() {
    let huge = "A".repeat(100_000);
    let odd = [
        json!(null),
        json!(7),
        json!([]),
        json!({}),
        json!({"kty": "RSA"}),
        json!({"kty": "RSA", "n": "AQ", "e": "AQ"}),
        json!({"kty": "RSA", "n": "", "e": ""}),
        json!({"kty": "RSA", "n": huge, "e": "AQAB"}),
        json!({"kty": "RSA", "n": "AQAB", "e": huge}),
        json!({"kty": "EC", "crv": "P-256", "x": "", "y": ""}),
        json!({"kty": "EC", "crv": "P-256", "x": huge, "y": huge}),
        json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": ""}),
        json!({"kty": "oct", "k": "AAAA", "alg": "HS256"}),
        json!({"kty": "RSA", "n": "====", "e": "!!"}),
        json!({"kty": {"a": 1}, "kid": []}),
    ];
    let mut keys = keys::jwks();
    let good = keys["keys"].as_array().expect("keys").clone();
    keys["keys"] = odd.into_iter().chain(good).collect();
    let mut host = setup(Module::filter(), &provider::configuration()).start();
    host.tick();
    for _ in 0..4 {
        for call in host.calls() {
            let mut idp = if call.cluster == "entra" { entra() } else { okta() };
            let reply = if call.path() == idp.keys_path() { Reply::json(keys.to_string()) } else { idp.reply(&call) };
            host.answer(call.id, reply);
        }
    }
    let token = token::entra("alice", host.world().now()).sign();
    assert_eq!(verdict(&send(&mut host, &token)), "forwarded", "{}", host.log_text());
}
