//! Fetches: leases, retries, late responses.

use onbehalf::engine::FetchId;
use onbehalf::http::{Callout, CalloutResult};
use onbehalf_test_support::{
    NOW, SharedMap, TIMED_OUT, TestEngine, alice, alice_token, answered, authorization, base64url, bearer, header,
    issued, provider_document, refused, with, without_shared_tokens,
};
use serde_json::json;
use std::time::Duration;

use super::{alice_request, is_admitted, with_fetched_keys, workers, workers_of_entra};

#[test]
fn one_worker_fetches_the_keys_for_all() {
    let shared = SharedMap::default();
    let mut workers: [TestEngine; 4] = workers(&shared);
    let mut urls = Vec::new();
    for engine in &mut workers {
        engine.tick();
    }
    for engine in &mut workers {
        urls.extend(engine.serve_calls(provider_document));
    }
    assert_eq!(urls.len(), 4, "metadata and keys of two issuers, once each: {urls:?}");
    for engine in &mut workers {
        engine.tick();
        engine.expect_no_call();
        assert!(is_admitted(engine, &alice_token()));
    }
    let mut late = TestEngine::sharing(&without_shared_tokens(), &shared);
    late.tick();
    late.expect_no_call();
    assert!(is_admitted(&mut late, &alice_token()), "a worker that comes later asks nobody");
}

#[test]
fn request_that_waits_for_another_workers_fetch_is_served() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [TestEngine; 2] = workers(&shared);
    first.send_waiting(bearer("/github", &alice_token()));
    second.send_waiting(bearer("/github", &alice_token()));
    second.expect_no_call();
    assert!(second.inner.needs_fast_tick() && !first.inner.needs_fast_tick());
    assert!(second.tick().is_empty(), "nothing is there yet");
    first.serve_keys_and_hold_token_requests();
    second.tick();
    second.serve_keys_and_hold_token_requests();
    assert_eq!(second.expect_call().1.method, "POST", "it has keys, and asks for its token");
    assert!(!second.inner.needs_fast_tick());
}

#[test]
fn worker_that_dies_during_a_fetch_is_replaced() {
    let shared = SharedMap::default();
    let [mut dead, mut other]: [TestEngine; 2] = workers(&shared);
    dead.send_waiting(bearer("/github", &alice_token()));
    drop(dead);
    other.send_waiting(bearer("/github", &alice_token()));
    other.expect_no_call();
    // A call may take ten seconds and some grace.
    other.advance(14);
    other.tick();
    let is_entra = |(_, call): &(FetchId, Callout)| call.url.as_str().contains("entra");
    assert!(!calls(&mut other).iter().any(is_entra));
    other.advance(2);
    other.tick();
    assert!(calls(&mut other).iter().any(is_entra));
}

/// All calls that a worker makes now.
fn calls(engine: &mut TestEngine) -> Vec<(FetchId, Callout)> {
    std::iter::from_fn(|| engine.inner.next_callout()).collect()
}

#[test]
fn keys_are_refreshed_by_workers_with_requests() {
    let shared = SharedMap::default();
    let [mut main, mut worker, mut other] = workers_of_entra(&shared);
    main.tick();
    main.serve_calls(|_| TIMED_OUT);
    for engine in [&mut worker, &mut other] {
        engine.send_waiting(alice_request());
        engine.serve_keys_and_hold_token_requests();
    }
    let mut fetches = 0;
    for _ in 0..3 * 3600 {
        for engine in [&mut main, &mut other, &mut worker] {
            engine.advance(1);
            engine.tick();
        }
        main.expect_no_call();
        // Both workers check the record in the same second.
        fetches += other.serve_calls(provider_document).len() + worker.serve_calls(provider_document).len();
    }
    assert!((6..=8).contains(&fetches), "{fetches}");
    let age = other.inner.jwks_ages(other.now)[0].1;
    assert!(age <= Duration::from_secs(3600), "{age:?}");
    // An idle VM refreshes the keys itself when no worker is left.
    drop((worker, other));
    let mut waited = 0;
    let call = loop {
        main.advance(1);
        main.tick();
        if let Some(call) = main.inner.next_callout() {
            break call;
        }
        waited += 1;
        assert!(waited < 3700, "nobody fetches");
    };
    assert_eq!(call.1.method, "GET");
}

#[test]
fn fetch_keeps_its_lease_while_its_calls_are_answered() {
    let shared = SharedMap::default();
    let [mut slow, mut other]: [TestEngine; 2] = workers(&shared);
    slow.tick();
    let (flight, call) = slow.expect_call();
    assert!(call.url.as_str().contains(".well-known"));
    for engine in [&mut slow, &mut other] {
        engine.advance(9);
    }
    slow.callout_result(flight, &provider_document(&call));
    other.advance(9);
    other.tick();
    while let Some((_, other_call)) = other.inner.next_callout() {
        assert_ne!(other_call.url.authority(), call.url.authority(), "the first worker is still at it");
    }
}

#[test]
fn clock_that_goes_back_does_not_postpone_the_next_fetch() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [TestEngine; 2] = workers(&shared);
    for _ in 0..8 {
        first.tick();
        first.serve_calls(|_| TIMED_OUT);
        first.advance(60);
    }
    second.now = NOW.minus(Duration::from_secs(3600));
    second.tick();
    assert_eq!(second.expect_call().1.method, "GET", "a pause of a minute has not begun an hour ahead");
}

#[test]
fn failed_fetch_is_retried_by_one_worker() {
    let shared = SharedMap::default();
    let mut workers: [TestEngine; 3] = workers(&shared);
    let mut calls = 0;
    for _ in 0..64 {
        for engine in &mut workers {
            engine.tick();
            calls += engine.serve_calls(|_| TIMED_OUT).iter().filter(|url| url.contains("entra")).count();
            engine.advance(1);
        }
    }
    // The fetches are at 0, 1, 3, 7, 15, 31 and 63 seconds, up to a tenth earlier by jitter.
    assert!((7..=8).contains(&calls), "{calls}");
    // No worker has had a request so far. A waiting request causes one more fetch.
    workers[2].send_waiting(bearer("/github", &alice_token()));
    let (flight, _) = workers[2].expect_call();
    let mut steps = workers[2].callout_result(flight, &TIMED_OUT);
    assert_eq!(refused(steps.remove(0).1), (503, "jwks_unavailable".to_owned()));
    for engine in &mut workers {
        let answer = answered(engine.decide(bearer("/github", &alice_token())));
        assert_eq!((answer.status, header(&answer, "retry-after")), (503, Some("1")));
        engine.expect_no_call();
    }
}

#[test]
fn unknown_kids_cause_one_fetch_in_30_seconds_in_the_process() {
    flood_causes_one_fetch(|number| json!({"alg": "ES256", "kid": format!("k{number}")}));
}

#[test]
fn forged_signatures_cause_one_fetch_in_30_seconds_in_the_process() {
    flood_causes_one_fetch(|_| json!({"alg": "ES256", "kid": "entra-1"}));
}

/// Four workers get 10,000 tokens with such a header and a signature that is none, in 29 seconds.
fn flood_causes_one_fetch(head: impl Fn(usize) -> serde_json::Value) {
    let shared = SharedMap::default();
    let mut workers: [TestEngine; 4] = workers(&shared);
    workers[0].tick();
    workers[0].serve_calls(provider_document);
    let good = alice_token();
    for engine in &mut workers {
        engine.tick();
        engine.serve_calls(provider_document);
        authorization(engine.exchange(bearer("/github", &good), &issued("up")));
    }
    let mut fetches = 0;
    for number in 0..10_000_usize {
        let engine = &mut workers[number % 4];
        let claims = with(alice(), json!({"jti": number}));
        let head = base64url(head(number).to_string());
        let forged = format!("{head}.{}.{}", base64url(claims.to_string()), "A".repeat(86));
        drop(engine.send(bearer("/github", &forged)));
        assert_eq!(authorization(engine.decide(bearer("/github", &good))), "Bearer up", "honest requests do not wait");
        if number % 100 == 0 {
            for engine in &mut workers {
                fetches += engine.serve_calls(provider_document).len();
                engine.now = NOW.plus(Duration::from_millis(number as u64 * 29_000 / 10_000));
                engine.tick();
            }
        }
    }
    assert_eq!(fetches, 1);
}

#[test]
fn clock_that_goes_back_does_not_prolong_a_lease() {
    let shared = SharedMap::default();
    let [mut dead, mut other]: [TestEngine; 2] = workers(&shared);
    dead.tick();
    drop(dead);
    other.now = NOW.minus(Duration::from_secs(86_400 * 30));
    other.tick();
    assert_eq!(other.expect_call().1.method, "GET", "a lease from the future is none");
}

#[test]
fn late_response_does_not_replace_newer_keys() {
    let shared = SharedMap::default();
    let [mut slow, mut quick]: [TestEngine; 2] = workers(&shared);
    slow.tick();
    let mut held = Vec::new();
    while let Some(call) = slow.inner.next_callout() {
        held.push(call);
    }
    quick.advance(36);
    quick.tick();
    assert_eq!(quick.serve_calls(provider_document).len(), 4, "the lease of the slow one is over");
    for (flight, _) in held {
        slow.now = quick.now;
        slow.callout_result(flight, &CalloutResult::Failed(onbehalf::http::CalloutFailure::TimedOut));
    }
    quick.tick();
    quick.expect_no_call();
    assert!(is_admitted(&mut quick, &alice_token()));
    slow.tick();
    assert!(is_admitted(&mut slow, &alice_token()));
}

#[test]
fn broken_document_and_failed_fetch_are_retried_soon() {
    let shared = SharedMap::default();
    let mut first = with_fetched_keys(&shared);
    shared.overwrite(|name, value| {
        if name.ends_with(".document") {
            value.clear();
        }
    });
    let mut second = TestEngine::sharing(&without_shared_tokens(), &shared);
    second.tick();
    second.serve_calls(|_| TIMED_OUT);
    second.advance(1);
    second.tick();
    assert_eq!(second.serve_calls(provider_document).len(), 4);
    assert!(is_admitted(&mut second, &alice_token()));
    first.advance(2);
    first.tick();
    first.expect_no_call();
}

#[test]
fn wait_for_another_worker_ignores_an_old_clock() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [TestEngine; 2] = workers(&shared);
    first.send_waiting(bearer("/github", &alice_token()));
    second.send_waiting(bearer("/github", &alice_token()));
    // The record of the lease is lost, and the clock goes back by a day.
    shared.overwrite(|_, value| value.truncate(1));
    second.now = NOW.minus(Duration::from_secs(86_400));
    let mut steps = second.tick();
    assert_eq!(steps.len(), 1, "it is decided, by the clock that counts now");
    assert_eq!(refused(steps.remove(0).1).1, "not_yet_valid");
}
