//! The circuit breaker of a token endpoint, which workers share: open on throttling or on outages of several users.

use onbehalf::engine::Decision;
use onbehalf_test_support::{
    ENTRA_KEY, SharedMap, TIMED_OUT, TestEngine, alice, alice_day_token, answer, answer_with, answered, authorization,
    bearer, bob_token, entra_user, header, issued, refused, with,
};
use serde_json::json;
use std::time::Duration;

use super::{exchanges, fresh, github, is_about, open_circuit, told_to_wait, workers};

#[test]
fn throttling_provider_is_not_called_by_any_worker() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [TestEngine; 2] = workers(&shared);
    let reply = answer_with(429, &[("retry-after", "20")], &json!({}));
    refused(first.exchange(github(&entra_user("a")), &reply));
    refused(second.exchange(github(&entra_user("c")), &reply));
    let answer = answered(second.decide(github(&entra_user("b"))));
    assert_eq!((answer.status, header(&answer, "retry-after")), (503, Some("20")));
    second.expect_no_call();
    // The circuit of the other provider stays closed.
    second.send_waiting(github(&bob_token()));
    assert!(exchanges(&mut second));
    second.advance(20);
    second.send_waiting(github(&entra_user("b")));
    assert!(exchanges(&mut second));
}

#[test]
fn outages_of_several_users_open_the_circuit_with_one_probe() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [TestEngine; 2] = workers(&shared);
    for user in ["a", "b", "c"] {
        refused(first.exchange(github(&entra_user(user)), &answer(503, b"")));
    }
    let answer_to = |engine: &mut TestEngine, user: &str| {
        let answer = answered(engine.decide(github(&entra_user(user))));
        let seconds: u64 = header(&answer, "retry-after").unwrap().parse().unwrap();
        (answer.status, seconds)
    };
    assert_eq!(answer_to(&mut second, "d"), (503, 4), "after 1 and 2");
    second.expect_no_call();
    for engine in [&mut first, &mut second] {
        engine.advance(4);
    }
    second.send_waiting(github(&entra_user("d")));
    let (flight, _) = second.expect_call();
    assert_eq!(answer_to(&mut first, "e").0, 503);
    assert_eq!(answer_to(&mut second, "f").0, 503);
    first.expect_no_call();
    // The provider has not recovered.
    second.callout_result(flight, &TIMED_OUT);
    assert!(first.tick().is_empty());
    assert_eq!(answer_to(&mut first, "e"), (503, 8));
    for engine in [&mut first, &mut second] {
        engine.advance(8);
    }
    // The provider has recovered.
    assert_eq!(authorization(first.exchange(github(&entra_user("e")), &issued("up"))), "Bearer up");
    for engine in [&mut first, &mut second] {
        engine.send_waiting(github(&entra_user(&format!("g-{}", engine.now.millis()))));
    }
    assert!(exchanges(&mut first));
    authorization(second.exchange(github(&entra_user("h")), &issued("up")));
}

#[test]
fn failing_user_backs_off_and_opens_no_circuit_for_others() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [TestEngine; 2] = workers(&shared);
    let token = alice_day_token();
    let mut pauses: Vec<u64> = Vec::new();
    for _ in 0..7 {
        let answer = answered(first.exchange(github(&token), &answer(500, b"")));
        let pause = header(&answer, "retry-after").unwrap().parse().unwrap();
        first.advance(pause);
        pauses.push(pause);
    }
    // Jitter shortens a pause by up to a tenth.
    let most = [1, 2, 4, 8, 16, 30, 30];
    assert!(pauses.iter().zip(most).all(|(pause, most)| (most - most / 10..=most).contains(pause)), "{pauses:?}");
    second.now = first.now;
    assert_eq!(authorization(second.exchange(github(&entra_user("other")), &issued("up"))), "Bearer up");
    // A success resets the back-off.
    let answer = answered(first.exchange(github(&token), &answer(500, b"")));
    assert_eq!(header(&answer, "retry-after"), Some("1"));
}

#[test]
fn one_user_with_two_tokens_or_targets_opens_no_circuit() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [TestEngine; 2] = workers(&shared);
    let scopes = json!({"scp": "mcp.read mcp.admin"});
    for (path, number) in [("/github", 1), ("/github/admin", 1), ("/github", 2), ("/github/admin", 2)] {
        let claims = with(with(alice(), scopes.clone()), json!({"uti": number}));
        let token = ENTRA_KEY.token(&claims);
        assert_eq!(refused(first.exchange(bearer(path, &token), &answer(500, b""))).1, "provider_unavailable");
    }
    assert_eq!(authorization(second.exchange(github(&entra_user("other")), &issued("up"))), "Bearer up");
}

#[test]
fn user_who_failed_last_may_probe_the_provider() {
    let shared = SharedMap::default();
    let mut workers: [TestEngine; 4] = workers(&shared);
    open_circuit(&mut workers[0], ["a", "b", "a"]);
    for engine in &mut workers {
        engine.advance(4);
    }
    let token = fresh("a", &workers[1]);
    workers[1].send_waiting(github(&token));
    let (flight, _) = workers[1].expect_call();
    for engine in &mut workers {
        let other = fresh("c", engine);
        assert!(told_to_wait(engine.decide(github(&other))) > 0, "one exchange tries");
        engine.expect_no_call();
    }
    let steps = workers[1].callout_result(flight, &issued("up"));
    assert_eq!(authorization(steps.into_iter().next().unwrap().1), "Bearer up");
    // The circuit is closed in all workers.
    for (number, engine) in workers.iter_mut().enumerate() {
        engine.advance(1);
        engine.tick();
        for user in ["a", "b"] {
            let token = fresh(&format!("{user}-{number}"), engine);
            authorization(engine.exchange(github(&token), &issued("up")));
        }
    }
    let token = fresh("a", &workers[2]);
    assert_eq!(told_to_wait(workers[2].exchange(github(&token), &answer(503, b""))), 1);
}

#[test]
fn back_off_of_one_user_equals_the_back_off_of_all() {
    let shared = SharedMap::default();
    let mut workers: [TestEngine; 4] = workers(&shared);
    open_circuit(&mut workers[0], ["a", "b", "a"]);
    let began = workers[0].now;
    let mut tried = vec![began];
    // The user has one token or a new one each time, at all workers and resources.
    for quarter in 1..500 {
        let now = began.plus(Duration::from_millis(quarter * 250));
        let number = quarter as usize % 4;
        let engine = &mut workers[number];
        engine.now = now;
        engine.tick();
        let token = if number == 0 { entra_user("a") } else { fresh("a", engine) };
        let path = if number == 1 { "/github/admin" } else { "/github" };
        let (_, step) = engine.send(bearer(path, &token));
        match step {
            Decision::Pause => {
                let (flight, _) = engine.expect_call();
                engine.callout_result(flight, &answer(503, b""));
                tried.push(now);
            }
            step => assert!(told_to_wait(step) > 0),
        }
    }
    let pauses: Vec<u64> = tried.windows(2).map(|pair| pair[1].since(pair[0]).as_millis() as u64).collect();
    let most = [4000, 8000, 16_000, 30_000, 30_000];
    let fits = |(pause, most): (&u64, u64)| (most - most / 10..=most + 250).contains(pause);
    assert!(pauses.len() >= 5 && pauses.iter().zip(most).all(fits), "{pauses:?}");
    // The provider has recovered.
    let engine = &mut workers[3];
    engine.advance(31);
    let token = fresh("a", engine);
    authorization(engine.exchange(github(&token), &issued("up")));
}

#[test]
fn user_who_always_fails_keeps_no_circuit_open_for_others() {
    let shared = SharedMap::default();
    let mut workers: [TestEngine; 4] = workers(&shared);
    open_circuit(&mut workers[0], ["ill", "b", "ill"]);
    for engine in &mut workers {
        engine.advance(4);
        engine.tick();
    }
    let ill = fresh("ill", &workers[1]);
    assert!(is_about(told_to_wait(workers[1].exchange(github(&ill), &answer(503, b""))), 8));
    // The user waits at all resources and workers. Other users do not.
    for engine in &mut workers {
        engine.advance(1);
        engine.tick();
        for path in ["/github", "/github/admin"] {
            let token = fresh("ill", engine);
            assert!(is_about(told_to_wait(engine.decide(bearer(path, &token))), 7));
            engine.expect_no_call();
        }
    }
    // The probe hangs, and no other request waits for it.
    for engine in &mut workers {
        engine.advance(8);
    }
    let ill = fresh("ill", &workers[1]);
    workers[1].send_waiting(github(&ill));
    let (hanging, _) = workers[1].expect_call();
    let again = fresh("ill", &workers[0]);
    assert!(told_to_wait(workers[0].decide(bearer("/github/admin", &again))) > 0, "it tries once");
    let well = fresh("well", &workers[2]);
    workers[2].send_waiting(github(&well));
    let (flight, _) = workers[2].expect_call();
    let late = fresh("late", &workers[3]);
    assert!(told_to_wait(workers[3].decide(github(&late))) > 0, "of the others, one tries");
    workers[1].callout_result(hanging, &TIMED_OUT);
    workers[3].tick();
    let later = fresh("later", &workers[3]);
    assert!(told_to_wait(workers[3].decide(github(&later))) > 0, "still one");
    let steps = workers[2].callout_result(flight, &issued("up"));
    assert_eq!(authorization(steps.into_iter().next().unwrap().1), "Bearer up");
    for (number, engine) in workers.iter_mut().enumerate() {
        engine.advance(1);
        engine.tick();
        let token = fresh(&format!("well-{number}"), engine);
        authorization(engine.exchange(github(&token), &issued("up")));
    }
}

#[test]
fn open_circuit_of_several_users_admits_one_probe_at_a_time() {
    let shared = SharedMap::default();
    let mut workers: [TestEngine; 4] = workers(&shared);
    open_circuit(&mut workers[0], ["a", "b", "a"]);
    let began = workers[0].now;
    let mut tried: Vec<(u64, usize)> = Vec::new();
    for quarter in 1..400 {
        for number in 0..4 {
            let engine = &mut workers[number];
            engine.now = began.plus(Duration::from_millis(quarter * 250));
            engine.tick();
            // Each of two users has two workers.
            let user = ["a", "b"][number / 2];
            let token = fresh(user, engine);
            let (_, step) = engine.send(github(&token));
            match step {
                Decision::Pause => {
                    let (flight, _) = engine.expect_call();
                    engine.callout_result(flight, &answer(503, b""));
                    tried.push((quarter * 250, number / 2));
                }
                step => assert!(told_to_wait(step) > 0),
            }
        }
    }
    // The rounds are after 4, 8, 16 and 30 seconds. A second user may probe in the same round.
    let mut rounds: Vec<u64> = tried.iter().map(|(at, _)| *at).collect();
    rounds.dedup_by(|next, last| *next - *last <= 250);
    let pauses: Vec<u64> = rounds.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let most = [8000, 16_000, 30_000, 30_000];
    let fits = |(pause, most): (&u64, u64)| (most - most / 10..=most + 500).contains(pause);
    assert!(rounds[0] <= 4000 && pauses.len() >= 3 && pauses.iter().zip(most).all(fits), "{tried:?}");
    assert!(tried.len() <= 2 * rounds.len(), "{tried:?}");
    for pair in tried.windows(2) {
        assert!(pair[1].0 - pair[0].0 > 250 || pair[0].1 != pair[1].1, "one user twice in a round: {tried:?}");
    }
}

#[test]
fn exchanges_in_flight_do_not_prolong_the_back_off() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [TestEngine; 2] = workers(&shared);
    let mut flights = Vec::new();
    for user in 0..20 {
        first.send_waiting(github(&entra_user(&format!("u{user}"))));
        flights.push(first.expect_call().0);
    }
    first.advance(10);
    for (number, flight) in flights.into_iter().enumerate() {
        let mut steps = first.callout_result(flight, &TIMED_OUT);
        let pause = told_to_wait(steps.remove(0).1);
        assert!(pause <= 4, "{number}: {pause}");
    }
    second.advance(10);
    let late = fresh("late", &second);
    assert!(is_about(told_to_wait(second.decide(github(&late))), 4));
    second.advance(4);
    authorization(second.exchange(github(&late), &issued("up")));
}

#[test]
fn failures_of_one_user_do_not_prolong_the_back_off_of_others() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [TestEngine; 2] = workers(&shared);
    for number in 0..9 {
        let claims = json!({"oid": "ill", "uti": number});
        let token = ENTRA_KEY.token(&with(alice(), claims));
        let pause = told_to_wait(first.exchange(github(&token), &answer(503, b"")));
        assert!(is_about(pause, (1 << number).min(30)), "{number}: {pause}");
    }
    let token = fresh("b", &second);
    assert!(is_about(told_to_wait(second.exchange(github(&token), &answer(503, b""))), 4));
    let token = fresh("c", &second);
    assert!(is_about(told_to_wait(second.decide(github(&token))), 4));
    second.advance(4);
    authorization(second.exchange(github(&token), &issued("up")));
}

#[test]
fn timeout_does_not_end_the_pause_of_retry_after() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [TestEngine; 2] = workers(&shared);
    let mut flights = Vec::new();
    for user in ["a", "b", "c", "d", "f"] {
        first.send_waiting(github(&entra_user(user)));
        flights.push(first.expect_call().0);
    }
    for flight in flights.drain(..2) {
        first.callout_result(flight, &answer_with(429, &[("retry-after", "40")], &json!({})));
    }
    for flight in flights {
        first.callout_result(flight, &TIMED_OUT);
    }
    for engine in [&mut first, &mut second] {
        let token = fresh("e", engine);
        let answer = answered(engine.decide(github(&token)));
        assert_eq!(header(&answer, "retry-after"), Some("40"));
        assert!(answer.body.contains("provider_throttled"));
    }
}

#[test]
fn any_response_closes_the_circuit_for_all() {
    let errors = [
        answer_with(400, &[], &json!({"error": "invalid_grant"})),
        answer_with(400, &[], &json!({"error": "slow_down"})),
        answer_with(401, &[], &json!({"error": "invalid_client"})),
        answer(200, b"{}"),
    ];
    for reply in errors {
        let shared = SharedMap::default();
        let [mut first, mut second]: [TestEngine; 2] = workers(&shared);
        open_circuit(&mut first, ["a", "b", "c"]);
        for engine in [&mut first, &mut second] {
            engine.advance(4);
        }
        let token = fresh("d", &first);
        answered(first.exchange(github(&token), &reply));
        let token = fresh("e", &second);
        authorization(second.exchange(github(&token), &issued("up")));
    }
}
