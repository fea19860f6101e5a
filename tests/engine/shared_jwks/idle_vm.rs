//! A VM without requests, such as the one on the main thread, which may fetch but delays no worker.

use onbehalf_test_support::{
    ENTRA_KEY, NOW, OKTA_KEY, OTHER_KEY, SharedMap, TIMED_OUT, TestEngine, alice, bearer, key_set, only_entra,
    provider_document, refused, with, without_shared_tokens,
};
use serde_json::json;
use std::time::Duration;

use super::{alice_request, with_another_key, workers_of_entra};

/// Entra alone with configured keys, so that only its endpoints are fetched.
fn with_keys_inline() -> serde_json::Value {
    let mut configuration = only_entra(without_shared_tokens());
    let keys: serde_json::Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY])).unwrap();
    configuration["identity_providers"]["entra-us"]["jwks"] = keys;
    configuration
}

#[test]
fn failure_of_an_idle_vm_delays_no_request() {
    for configuration in [only_entra(without_shared_tokens()), with_keys_inline()] {
        let shared = SharedMap::default();
        let [mut main, mut worker, mut other]: [TestEngine; 3] =
            std::array::from_fn(|_| TestEngine::sharing(&configuration, &shared));
        // The fetches of the main thread fail, with a back-off between attempts.
        for _ in 0..40 {
            main.tick();
            main.serve_calls(|_| TIMED_OUT);
            main.advance(1);
        }
        for engine in [&mut worker, &mut other] {
            engine.now = main.now;
            engine.tick();
            engine.expect_no_call();
        }
        worker.send_waiting(alice_request());
        worker.serve_keys_and_hold_token_requests();
        assert_eq!(worker.expect_call().1.method, "POST");
        // All VMs use the keys, also the one whose fetches had failed.
        for engine in [&mut other, &mut main] {
            engine.tick();
            engine.expect_no_call();
        }
        other.send_waiting(alice_request());
        assert_eq!(other.expect_call().1.method, "POST");
    }
}

#[test]
fn request_that_waits_for_an_idle_vm_fetches_when_that_fails() {
    let shared = SharedMap::default();
    let [mut main, mut worker] = workers_of_entra(&shared);
    main.tick();
    let (flight, _) = main.expect_call();
    worker.send_waiting(alice_request());
    worker.expect_no_call();
    assert!(worker.tick().is_empty());
    worker.expect_no_call();
    main.callout_result(flight, &TIMED_OUT);
    assert!(worker.tick().is_empty());
    worker.serve_keys_and_hold_token_requests();
    assert_eq!(worker.expect_call().1.method, "POST");
}

#[test]
fn new_key_is_fetched_although_an_idle_vm_hangs() {
    let shared = SharedMap::default();
    let [mut main, mut worker] = workers_of_entra(&shared);
    main.tick();
    main.serve_calls(provider_document);
    for engine in [&mut main, &mut worker] {
        engine.advance(3600);
    }
    main.tick();
    main.expect_call();
    let token = OTHER_KEY.token(&with(alice(), json!({"exp": worker.now.secs() + 600})));
    worker.send_waiting(bearer("/github", &token));
    worker.expect_no_call();
    worker.advance(2);
    assert!(worker.tick().is_empty());
    worker.serve_calls(|call| if call.method == "GET" { with_another_key(call) } else { TIMED_OUT });
    let token = OTHER_KEY.token(&with(alice(), json!({"exp": worker.now.secs() + 601})));
    worker.send_waiting(bearer("/github", &token));
    assert_eq!(worker.expect_call().1.method, "POST");
    // Without an answer, the caller gets a refusal.
    let unknown =
        OKTA_KEY.sign(&json!({"alg": "ES256", "kid": "nobodys"}), &with(alice(), json!({"exp": NOW.secs() + 9000})));
    assert_eq!(refused(worker.decide(bearer("/github", &unknown))).1, "unknown_key");
}

#[test]
fn hanging_fetch_of_an_idle_vm_is_abandoned_after_two_seconds() {
    let shared = SharedMap::default();
    let [mut main, mut worker, mut other] = workers_of_entra(&shared);
    main.tick();
    let (hanging, _) = main.expect_call();
    for engine in [&mut worker, &mut other] {
        engine.send_waiting(alice_request());
        engine.now = NOW.plus(Duration::from_millis(1999));
        assert!(engine.tick().is_empty());
        engine.expect_no_call();
        engine.now = NOW.plus(Duration::from_millis(2000));
    }
    assert!(worker.tick().is_empty());
    let (flight, call) = worker.expect_call();
    assert_eq!(call.method, "GET");
    // One of the waiting workers fetches.
    assert!(other.tick().is_empty());
    other.expect_no_call();
    // A third worker waits for the second.
    other.advance(1);
    other.send_waiting(alice_request());
    other.expect_no_call();
    // The end of the first fetch changes nothing.
    main.advance(12);
    main.callout_result(hanging, &TIMED_OUT);
    assert!(worker.callout_result(flight, &provider_document(&call)).is_empty());
    worker.serve_keys_and_hold_token_requests();
    assert!(other.tick().is_empty());
    assert_eq!(other.expect_call().1.method, "POST");
}

#[test]
fn running_fetch_of_an_idle_vm_is_waited_for() {
    let shared = SharedMap::default();
    let [mut main, mut worker] = workers_of_entra(&shared);
    main.tick();
    let (flight, call) = main.expect_call();
    worker.send_waiting(alice_request());
    for engine in [&mut main, &mut worker] {
        engine.now = NOW.plus(Duration::from_millis(1900));
    }
    main.callout_result(flight, &provider_document(&call));
    for engine in [&mut main, &mut worker] {
        engine.now = NOW.plus(Duration::from_millis(3800));
        engine.tick();
    }
    worker.expect_no_call();
    let (flight, call) = main.expect_call();
    main.callout_result(flight, &provider_document(&call));
    worker.tick();
    assert_eq!(worker.expect_call().1.method, "POST", "one fetch for both");
}

#[test]
fn unknown_kid_does_not_wait_for_a_hanging_idle_vm() {
    let shared = SharedMap::default();
    let [mut main, mut worker] = workers_of_entra(&shared);
    main.tick();
    main.serve_calls(provider_document);
    let unknown = || OKTA_KEY.sign(&json!({"alg": "ES256", "kid": "nobodys"}), &alice());
    worker.send_waiting(bearer("/github", &unknown()));
    let (flight, _) = worker.expect_call();
    assert_eq!(refused(worker.only_step(flight, &TIMED_OUT)).1, "unknown_key");
    // The main thread refreshes some seconds after the workers with requests, which do not refresh here.
    main.advance(7);
    main.tick();
    main.expect_call();
    worker.advance(7);
    worker.tick();
    worker.expect_no_call();
    worker.advance(3);
    assert_eq!(refused(worker.decide(bearer("/github", &unknown()))).1, "unknown_key");
}

#[test]
fn pause_of_an_idle_vm_ends_with_a_fetch_or_a_clock_change() {
    let shared = SharedMap::default();
    let mut main = TestEngine::sharing(&only_entra(without_shared_tokens()), &shared);
    let fail_often = |main: &mut TestEngine| {
        for _ in 0..300 {
            main.tick();
            main.serve_calls(|_| TIMED_OUT);
            main.advance(1);
        }
    };
    fail_often(&mut main);
    main.advance(60);
    main.tick();
    assert_eq!(main.serve_calls(provider_document).len(), 2);
    main.advance(3600);
    main.tick();
    assert_eq!(main.serve_calls(|_| TIMED_OUT).len(), 1);
    main.advance(1);
    main.tick();
    assert_eq!(main.serve_calls(|_| TIMED_OUT).len(), 1, "the first pause is the shortest again");
    fail_often(&mut main);
    main.tick();
    main.expect_no_call();
    shared.overwrite(|_, value| value.clear());
    main.now = NOW.minus(Duration::from_secs(86_400));
    main.tick();
    assert_eq!(main.expect_call().1.method, "GET");
}

#[test]
fn failed_refresh_of_an_idle_vm_is_repeated_by_a_worker_at_once() {
    let shared = SharedMap::default();
    let [mut main, mut worker] = workers_of_entra(&shared);
    main.tick();
    main.serve_calls(provider_document);
    // No request has needed a fetch in the worker yet, so the main thread refreshes as early as it does.
    worker.send_waiting(alice_request());
    assert_eq!(worker.expect_call().1.method, "POST");
    for engine in [&mut main, &mut worker] {
        engine.advance(3600);
    }
    main.tick();
    main.serve_calls(|_| TIMED_OUT);
    worker.tick();
    assert_eq!(worker.serve_calls(provider_document).len(), 2, "metadata and keys");
    main.advance(1);
    main.tick();
    main.expect_no_call();
}
