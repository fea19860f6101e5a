//! Rejected tokens among workers: messages, and tokens in shared memory.

use onbehalf_test_support::{
    SharedMap, TestEngine, alice_day_token, alice_token, answer_with, bob_token, configuration, entra_user,
};
use serde_json::json;

use super::{AGAIN, NO_USE, asks_anew, deliver, exchange, is, later, rejected, warm, workers};

#[test]
fn rejected_token_does_not_return_from_another_worker() {
    let [mut one, mut other] = workers();
    let token = alice_token();
    let first = exchange(&mut one, &token, "first");
    let (authorization, others_first) = warm(&mut other, &token);
    assert_eq!(authorization, "Bearer first", "workers share it");

    is(rejected(&mut one, &first), AGAIN);
    exchange(&mut one, &token, "second");
    other.now = one.now;
    // A worker without the message still has the old token, learns of its rejection, and finds the next token.
    let (authorization, _) = warm(&mut other, &token);
    assert_eq!(authorization, "Bearer first");
    is(rejected(&mut other, &others_first), AGAIN);
    assert_eq!(warm(&mut other, &token).0, "Bearer second");
    other.expect_no_call();
}

#[test]
fn rejected_token_is_dropped_by_all_workers() {
    let [mut one, mut two, mut three, mut four] = workers();
    let token = alice_token();
    let first = exchange(&mut one, &token, "first");
    let others_first = warm(&mut two, &token).1;
    for other in [&mut three, &mut four] {
        assert_eq!(warm(other, &token).0, "Bearer first");
    }
    is(rejected(&mut one, &first), AGAIN);
    for other in [&mut two, &mut three, &mut four] {
        assert_eq!(other.deliver_messages(), 1);
        other.now = one.now;
    }
    assert_eq!(one.deliver_messages(), 0, "it knows by itself");
    // The first worker exchanges, and the others use its token.
    exchange(&mut three, &token, "second");
    for other in [&mut one, &mut two, &mut four] {
        other.now = three.now;
        assert_eq!(warm(other, &token).0, "Bearer second");
        other.expect_no_call();
    }
    // Responses to requests in flight do not concern the next token.
    is(rejected(&mut two, &others_first), AGAIN);
    assert_eq!(warm(&mut two, &token).0, "Bearer second");
}

#[test]
fn rejected_token_causes_one_exchange_a_minute_in_all_workers() {
    let [mut one, mut two] = workers();
    let token = alice_token();
    let first = exchange(&mut one, &token, "first");
    is(rejected(&mut one, &first), AGAIN);
    let _ = two.deliver_messages();
    two.now = one.now;
    let second = exchange(&mut two, &token, "second");
    is(rejected(&mut two, &second), NO_USE);
    assert_eq!(warm(&mut two, &token).0, "Bearer second");
    assert_eq!(one.deliver_messages(), 0, "nothing was dropped");
}

/// Two workers that had the same token, and the message of one about its rejection.
fn workers_and_message(token: &str) -> ([TestEngine; 2], Vec<u8>) {
    let [mut one, mut two] = workers();
    let first = exchange(&mut one, token, "first");
    warm(&mut two, token);
    is(rejected(&mut one, &first), AGAIN);
    let (shared, queue) = (two.shared_memory(), two.queue());
    let message = shared.dequeue(queue).remove(0);
    ([one, two], message)
}

#[test]
fn forged_message_drops_no_token() {
    let token = alice_token();
    let ([_one, mut two], message) = workers_and_message(&token);
    for length in 0..message.len() {
        two.inner.message(&message[..length], two.now);
    }
    for at in 0..message.len() {
        let mut forged = message.clone();
        forged[at] ^= 1;
        two.inner.message(&forged, two.now);
    }
    two.inner.message(&vec![0; 100_000], two.now);
    assert_eq!(warm(&mut two, &token).0, "Bearer first");
    two.inner.message(&message, two.now);
    assert_eq!(asks_anew(&mut two, &token), Some(None));
}

#[test]
fn late_message_drops_no_newer_token() {
    let token = alice_token();
    let ([mut one, mut two], message) = workers_and_message(&token);
    two.inner.message(&message, two.now);
    one.now = one.now.plus(std::time::Duration::from_secs(61));
    let second = exchange(&mut one, &token, "second");
    two.now = one.now;
    assert_eq!(warm(&mut two, &token).0, "Bearer second");
    two.inner.message(&message, two.now);
    assert_eq!(warm(&mut two, &token).0, "Bearer second");
    // The late message does not count as a rejection, so the next rejection is the first within a minute.
    is(rejected(&mut one, &second), AGAIN);
}

#[test]
fn ended_worker_gets_no_message() {
    let [mut one, mut two] = workers();
    let token = alice_token();
    one.advance(91);
    one.tick();
    let first = exchange(&mut one, &token, "first");
    is(rejected(&mut one, &first), AGAIN);
    assert_eq!(two.deliver_messages(), 0);
    // A worker that starts again is in the list again.
    two.now = one.now;
    two.tick();
    let bob = bob_token();
    let first = exchange(&mut one, &bob, "first");
    is(rejected(&mut one, &first), AGAIN);
    assert_eq!(two.deliver_messages(), 1);
}

#[test]
fn evicted_token_is_withdrawn_when_rejected() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["cache"] = json!({"exchanged_tokens": 1});
    let mut engine = TestEngine::sharing(&configuration, &shared).with_keys();
    let token = alice_token();
    let first = exchange(&mut engine, &token, "first");
    exchange(&mut engine, &entra_user("carol"), "carols");
    is(rejected(&mut engine, &first), AGAIN);
    // Another worker without a rejection does not find the token either.
    let mut other = TestEngine::sharing(&configuration, &shared);
    other.now = engine.now;
    other.tick();
    assert_eq!(asks_anew(&mut other, &token), Some(None));
}

#[test]
fn failed_renewal_does_not_restore_a_rejected_token() {
    let shared = SharedMap::default();
    let [mut one, mut other] = [0, 1].map(|_| TestEngine::sharing(&configuration(), &shared));
    one.tick();
    one.serve_keys();
    other.tick();
    let token = alice_day_token();
    exchange(&mut one, &token, "first");
    warm(&mut other, &token);
    for engine in [&mut one, &mut other] {
        engine.advance(3300);
    }
    assert_eq!(warm(&mut other, &token).0, "Bearer first");
    let (renewal, _) = other.expect_call();
    let (_, first) = warm(&mut one, &token);
    is(rejected(&mut one, &first), AGAIN);
    later(&mut other);
    other.callout_result(renewal, &unavailable());
    assert_eq!(warm(&mut other, &token).0, "Bearer first", "it does not know better yet");
    // Neither the worker that rejected the token nor a new worker finds it.
    let mut third = TestEngine::sharing(&configuration(), &shared);
    third.now = other.now.plus(std::time::Duration::from_secs(1));
    third.tick();
    assert_eq!(asks_anew(&mut third, &token), Some(None));
}

fn unavailable() -> onbehalf::http::CalloutResult {
    answer_with(503, &[], &json!({}))
}

#[test]
fn rejected_token_put_back_in_shared_memory_is_ignored() {
    let shared = SharedMap::default();
    let mut engine = TestEngine::sharing(&configuration(), &shared).with_keys();
    let token = alice_token();
    let first = exchange(&mut engine, &token, "first");
    let before = shared.copy();
    is(rejected(&mut engine, &first), AGAIN);
    shared.put_back(&before);
    exchange(&mut engine, &token, "second");
    // The newer token replaces it, although it expires no later.
    let mut other = TestEngine::sharing(&configuration(), &shared);
    other.now = engine.now;
    other.tick();
    assert_eq!(warm(&mut other, &token).0, "Bearer second");
}

#[test]
fn worker_drops_its_own_token_when_that_is_rejected_too() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["cache"] = json!({"shared_tokens": 0});
    let mut workers: [TestEngine; 4] =
        std::array::from_fn(|_| TestEngine::sharing(&configuration, &shared).with_keys());
    let token = alice_token();
    let sent = [0, 1, 2, 3].map(|number| exchange(&mut workers[number], &token, &format!("first-{number}")));
    // The upstream rejects every token of the user.
    is(rejected(&mut workers[0], &sent[0]), AGAIN);
    deliver(&mut workers);
    for number in 1..4 {
        let (authorization, sent) = warm(&mut workers[number], &token);
        assert_eq!(authorization, format!("Bearer first-{number}"), "nobody has said anything of it");
        is(rejected(&mut workers[number], &sent), AGAIN);
        deliver(&mut workers);
    }
    for (number, worker) in workers.iter_mut().enumerate() {
        exchange(worker, &token, &format!("second-{number}"));
    }
}
