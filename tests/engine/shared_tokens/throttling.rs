//! A provider that throttles: it may limit each user, or the client and thus all users.

use onbehalf::http::CalloutResult;
use onbehalf_test_support::{
    SharedMap, TIMED_OUT, TestEngine, alice, alice_day_token, answer, answer_with, authorization, bearer, issued,
    refused,
};
use serde_json::json;

use super::{fresh, github, open_circuit, told_to_wait, workers};

fn throttled(seconds: u64) -> CalloutResult {
    answer_with(429, &[("retry-after", &seconds.to_string())], &json!({}))
}

fn advance_all(workers: &mut [TestEngine], seconds: u64) {
    for engine in workers {
        engine.advance(seconds);
        engine.tick();
    }
}

/// Asserts that a new token of the user gets 503 at each worker, for `seconds`, and causes no call.
fn assert_waits(user: &str, workers: &mut [TestEngine], seconds: u64) {
    for engine in workers {
        for path in ["/github", "/github/admin"] {
            let token = fresh(user, engine);
            let (_, reason) = refused(engine.decide(bearer(path, &token)));
            assert_eq!(reason, "provider_throttled", "{user}");
            assert_eq!(told_to_wait(engine.decide(bearer(path, &token))), seconds, "{user}");
            engine.expect_no_call();
        }
    }
}

fn assert_served(user: &str, engine: &mut TestEngine) {
    let token = fresh(user, engine);
    assert_eq!(authorization(engine.exchange(github(&token), &issued(user))), format!("Bearer {user}"));
}

#[test]
fn user_who_is_throttled_again_and_again_delays_no_other_user() {
    let shared = SharedMap::default();
    let mut workers: [TestEngine; 4] = workers(&shared);
    for round in 0..20 {
        let mallory = fresh("mallory", &workers[round % 4]);
        assert_eq!(told_to_wait(workers[round % 4].exchange(github(&mallory), &throttled(5))), 5);
        assert_waits("mallory", &mut workers, 5);
        for (number, engine) in workers.iter_mut().enumerate() {
            assert_served(&format!("user-{round}-{number}"), engine);
        }
        advance_all(&mut workers, 4);
        // Responses to other users do not end the pause.
        assert_waits("mallory", &mut workers, 1);
        advance_all(&mut workers, 1);
    }
    assert_served("mallory", &mut workers[0]);
}

#[test]
fn user_who_is_alone_is_served_after_retry_after() {
    let shared = SharedMap::default();
    let mut workers: [TestEngine; 4] = workers(&shared);
    let alone = fresh("alone", &workers[0]);
    assert_eq!(told_to_wait(workers[0].exchange(github(&alone), &throttled(20))), 20);
    advance_all(&mut workers, 19);
    assert_waits("alone", &mut workers, 1);
    advance_all(&mut workers, 1);
    assert_eq!(authorization(workers[0].exchange(github(&alone), &issued("up"))), "Bearer up");
    assert_served("alone", &mut workers[3]);
}

#[test]
fn second_throttled_user_pauses_all_users_within_the_pause() {
    for (passed, others_wait) in [(19, Some(10)), (20, None)] {
        let shared = SharedMap::default();
        let mut workers: [TestEngine; 4] = workers(&shared);
        let first = fresh("first", &workers[0]);
        told_to_wait(workers[0].exchange(github(&first), &throttled(20)));
        advance_all(&mut workers, passed);
        let second = fresh("second", &workers[1]);
        told_to_wait(workers[1].exchange(github(&second), &throttled(10)));
        assert_waits("second", &mut workers, 10);
        match others_wait {
            Some(seconds) => assert_waits("third", &mut workers, seconds),
            None => assert_served("third", &mut workers[2]),
        }
        advance_all(&mut workers, 10);
        for user in ["first", "second", "fourth"] {
            assert_served(user, &mut workers[3]);
        }
    }
}

#[test]
fn pause_of_all_users_is_at_most_a_minute() {
    let shared = SharedMap::default();
    let mut workers: [TestEngine; 2] = workers(&shared);
    for user in ["first", "second"] {
        let token = fresh(user, &workers[0]);
        told_to_wait(workers[0].exchange(github(&token), &throttled(100)));
    }
    assert_waits("third", &mut workers, 60);
    advance_all(&mut workers, 60);
    assert_served("third", &mut workers[1]);
}

#[test]
fn late_throttling_of_one_user_prolongs_no_pause_of_others() {
    let shared = SharedMap::default();
    let mut workers: [TestEngine; 2] = workers(&shared);
    let mut flights = Vec::new();
    for user in ["first", "second", "second", "third"] {
        let token = fresh(user, &workers[0]);
        workers[0].send_waiting(github(&token));
        flights.push(workers[0].expect_call().0);
        advance_all(&mut workers, 1);
    }
    for (flight, seconds) in flights.into_iter().zip([5, 5, 60]) {
        workers[0].callout_result(flight, &throttled(seconds));
    }
    assert_waits("other", &mut workers, 5);
    advance_all(&mut workers, 5);
    assert_served("other", &mut workers[1]);
    assert_waits("second", &mut workers, 55);
}

#[test]
fn renewals_and_requests_of_one_user_count_as_one_user() {
    let shared = SharedMap::default();
    let mut workers: [TestEngine; 2] = workers(&shared);
    let token = alice_day_token();
    authorization(workers[0].exchange(github(&token), &issued("up")));
    advance_all(&mut workers, 3300);
    assert_eq!(authorization(workers[0].decide(github(&token))), "Bearer up");
    // Keys are due at about the same time.
    workers[0].serve_keys_and_hold_token_requests();
    let (flight, _) = workers[0].expect_call();
    let user = alice()["oid"].as_str().unwrap().to_owned();
    let in_flight = fresh(&user, &workers[1]);
    workers[1].send_waiting(bearer("/github/admin", &in_flight));
    workers[1].serve_keys_and_hold_token_requests();
    let (second_flight, _) = workers[1].expect_call();
    workers[0].callout_result(flight, &throttled(20));
    workers[1].callout_result(second_flight, &throttled(20));
    assert_waits(&user, &mut workers, 20);
    for (number, engine) in workers.iter_mut().enumerate() {
        assert_served(&format!("other-{number}"), engine);
        // The token stays in use, and its renewal waits as well.
        assert_eq!(authorization(engine.decide(github(&token))), "Bearer up");
        engine.expect_no_call();
    }
}

#[test]
fn outages_and_a_probe_do_not_end_the_pause_of_a_throttled_user() {
    let shared = SharedMap::default();
    let mut workers: [TestEngine; 2] = workers(&shared);
    let limited = fresh("limited", &workers[0]);
    told_to_wait(workers[0].exchange(github(&limited), &throttled(60)));
    open_circuit(&mut workers[0], ["a", "b", "a"]);
    advance_all(&mut workers, 4);
    assert_waits("limited", &mut workers, 56);
    let probe = fresh("a", &workers[1]);
    refused(workers[1].exchange(github(&probe), &TIMED_OUT));
    assert_waits("limited", &mut workers, 56);
    assert_served("c", &mut workers[1]);
    assert_waits("limited", &mut workers, 56);
}

#[test]
fn throttled_probe_closes_the_circuit_for_other_users() {
    let shared = SharedMap::default();
    let mut workers: [TestEngine; 2] = workers(&shared);
    open_circuit(&mut workers[0], ["a", "b", "a"]);
    advance_all(&mut workers, 4);
    let probe = fresh("limited", &workers[0]);
    assert_eq!(told_to_wait(workers[0].exchange(github(&probe), &throttled(20))), 20);
    assert_served("c", &mut workers[1]);
    assert_waits("limited", &mut workers, 20);
    let failing = fresh("d", &workers[1]);
    assert_eq!(told_to_wait(workers[1].exchange(github(&failing), &answer(503, b""))), 1, "the first outage");
}

#[test]
fn slow_down_with_another_status_concerns_one_token() {
    for error in ["slow_down", "rate_limit_exceeded", "rate_limited", "too_many_requests"] {
        let shared = SharedMap::default();
        let mut workers: [TestEngine; 2] = workers(&shared);
        let reply = answer_with(400, &[("retry-after", "20")], &json!({"error": error}));
        for user in ["first", "second", "third"] {
            let token = fresh(user, &workers[0]);
            assert_eq!(refused(workers[0].exchange(github(&token), &reply)).1, "provider_throttled");
            assert_eq!(told_to_wait(workers[1].decide(github(&token))), 20, "{error}");
            workers[1].expect_no_call();
        }
        workers[1].advance(1);
        assert_served("first", &mut workers[1]);
        assert_served("fourth", &mut workers[1]);
    }
}
