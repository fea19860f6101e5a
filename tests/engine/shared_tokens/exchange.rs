//! One exchange for all workers: leases, waiting requests, restarts.

use onbehalf::engine::{Decision, FetchId, RequestId};
use onbehalf::http::{Callout, CalloutFailure, CalloutResult};
use onbehalf::telemetry::{CacheOutcome, Sample};
use onbehalf_test_support::{
    ENTRA_KEY, NOW, OKTA_KEY, OTHER_KEY, Random, SharedMap, TIMED_OUT, TestEngine, alice, alice_token, answer,
    answer_with, authorization, bob, bob_token, configuration, entra_user, form, issued, key_set, refused, with,
};
use serde_json::{Value, json};
use std::collections::HashMap;

use super::{github, open_circuit, workers};

#[test]
fn first_requests_at_all_workers_share_one_exchange() {
    let shared = SharedMap::default();
    let mut workers: [TestEngine; 8] = workers(&shared);
    let token = alice_token();
    for engine in &mut workers {
        for _ in 0..10 {
            engine.send_waiting(github(&token));
        }
    }
    let [first, others @ ..] = &mut workers;
    let (flight, _) = first.expect_call();
    assert_eq!(first.callout_result(flight, &issued("up")).len(), 10);
    for engine in others {
        engine.expect_no_call();
        assert!(engine.inner.needs_fast_tick());
        let steps = engine.tick();
        assert_eq!(steps.len(), 10);
        for (_, step) in steps {
            assert_eq!(authorization(step), "Bearer up");
        }
        assert!(!engine.inner.needs_fast_tick());
        engine.expect_no_call();
    }
}

#[test]
fn later_request_at_another_worker_finds_the_shared_token() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [TestEngine; 2] = workers(&shared);
    let token = alice_token();
    authorization(first.exchange(github(&token), &issued("up")));
    assert_eq!(authorization(second.decide(github(&token))), "Bearer up");
    assert!(second.inner.counters().take().contains(&(Sample::TokenCache(CacheOutcome::Shared), 1)));
    // The second worker keeps the token.
    shared.overwrite(|_, value| value.clear());
    assert_eq!(authorization(second.decide(github(&token))), "Bearer up");
}

#[test]
fn worker_without_shared_tokens_exchanges_for_itself() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["cache"] = json!({"shared_tokens": 0});
    let workers: [TestEngine; 2] = TestEngine::workers(&configuration, &shared);
    for mut engine in workers {
        authorization(engine.exchange(github(&alice_token()), &issued("up")));
    }
    assert!(!shared.names().iter().any(|name| name.contains("token")));
}

#[test]
fn worker_that_dies_during_an_exchange_is_replaced() {
    let shared = SharedMap::default();
    let [mut dead, mut other]: [TestEngine; 2] = workers(&shared);
    let token = alice_token();
    dead.send_waiting(github(&token));
    let id = other.send_waiting(github(&token));
    drop(dead);
    other.advance(14);
    assert!(other.tick().is_empty());
    other.expect_no_call();
    other.inner.request_closed(id);
    let late = other.send_waiting(github(&token));
    other.advance(2);
    other.tick();
    let (flight, _) = other.expect_call();
    let steps = other.callout_result(flight, &issued("up"));
    assert_eq!(steps.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [late]);
}

#[test]
fn requests_that_wait_for_other_workers_are_checked_in_turn() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [TestEngine; 2] = workers(&shared);
    let users: Vec<String> = (0..150).map(|user| entra_user(&format!("user-{user}"))).collect();
    for token in &users {
        first.send_waiting(github(token));
        second.send_waiting(github(token));
    }
    let mut calls = Vec::new();
    while let Some(call) = first.inner.next_callout() {
        calls.push(call);
    }
    // The latest requests are served first.
    for (flight, _) in calls.drain(100..) {
        first.callout_result(flight, &issued("up"));
    }
    let served: usize = (0..3).map(|_| second.tick().len()).sum();
    assert_eq!(served, 50);
    for (flight, _) in calls {
        first.callout_result(flight, &issued("up"));
    }
    let served: usize = (0..2).map(|_| second.tick().len()).sum();
    assert_eq!(served, 100);
    assert!(!second.inner.needs_fast_tick());
}

#[test]
fn wait_for_another_worker_is_limited() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["max_wait_seconds"] = json!(12);
    let [mut first, mut second]: [TestEngine; 2] = TestEngine::workers(&configuration, &shared);
    let token = alice_token();
    first.send_waiting(github(&token));
    let early = second.send_waiting(github(&token));
    second.advance(6);
    let late = second.send_waiting(github(&token));
    second.advance(6);
    let steps = second.tick();
    assert_eq!(steps.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [early]);
    assert_eq!(refused(steps.into_iter().next().unwrap().1), (503, "provider_unavailable".to_owned()));
    let (flight, _) = first.expect_call();
    first.callout_result(flight, &issued("up"));
    let steps = second.tick();
    assert_eq!(steps.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [late]);
}

/// Many workers, users and failures in random order. The provider never sees two calls for the same token at once, and
/// none for a token that is still valid. Users get their own token, or a refusal.
#[test]
fn random_events_at_four_workers_share_each_exchange() {
    for seed in 0..40 {
        let mut random = Random::from_seed(seed);
        let mut next = |bound: usize| random.below(bound);
        let shared = SharedMap::default();
        let mut workers: [TestEngine; 4] = workers(&shared);
        let users: Vec<String> = (0..6)
            .map(|user| {
                ENTRA_KEY.token(&with(alice(), json!({"oid": format!("u{user}"), "exp": NOW.secs() + 1_000_000})))
            })
            .collect();
        let mut out: Vec<(usize, FetchId, Callout)> = Vec::new();
        let mut waiting: HashMap<(usize, RequestId), usize> = HashMap::new();
        let mut given: HashMap<String, u64> = HashMap::new();
        let (mut calls, mut forwarded) = (0, 0);
        for _ in 0..600 {
            let worker = next(4);
            let mut steps: Vec<(RequestId, Decision)> = Vec::new();
            match next(10) {
                0..=3 => {
                    let user = next(6);
                    let (id, step) = workers[worker].send(github(&users[user]));
                    waiting.insert((worker, id), user);
                    steps.push((id, step));
                }
                4..=6 if !out.is_empty() => {
                    let (worker, flight, call) = out.swap_remove(next(out.len()));
                    let subject = form(&call).remove("assertion").unwrap();
                    let reply = match next(10) {
                        0 => answer(503, b""),
                        1 => CalloutResult::Failed(CalloutFailure::NoConnection),
                        2 => answer_with(400, &[], &json!({"error": "interaction_required"})),
                        _ => {
                            calls += 1;
                            given.insert(subject.clone(), workers[worker].now.secs() + 600);
                            let token =
                                format!("for-{}-{calls}", users.iter().position(|user| *user == subject).unwrap());
                            answer_with(
                                200,
                                &[],
                                &json!({"access_token": token, "token_type": "Bearer", "expires_in": 600}),
                            )
                        }
                    };
                    for (id, step) in workers[worker].callout_result(flight, &reply) {
                        check(step, waiting.remove(&(worker, id)), &mut forwarded);
                    }
                }
                7 => {
                    let seconds = next(3) as u64;
                    workers.iter_mut().for_each(|engine| engine.advance(seconds));
                }
                8 => {
                    let gone: Vec<_> = waiting.keys().filter(|(at, _)| *at == worker).take(1).copied().collect();
                    for key in gone {
                        waiting.remove(&key);
                        workers[worker].inner.request_closed(key.1);
                    }
                }
                _ => steps.extend(workers[worker].tick()),
            }
            for (id, step) in steps {
                if !matches!(step, Decision::Pause) {
                    check(step, waiting.remove(&(worker, id)), &mut forwarded);
                }
            }
            for (worker, engine) in workers.iter_mut().enumerate() {
                while let Some((flight, call)) = engine.inner.next_callout() {
                    let subject = form(&call).remove("assertion").unwrap();
                    let now = engine.now.secs();
                    // Renewals happen in the last fifth of 570 seconds and a little before.
                    assert!(
                        given.get(&subject).is_none_or(|until| until - now.min(*until) <= 150),
                        "{seed}: asked for again"
                    );
                    assert!(
                        out.iter().all(|(_, _, other)| form(other)["assertion"] != subject),
                        "{seed}: asked for twice at once"
                    );
                    out.push((worker, flight, call));
                }
            }
        }
        assert!(forwarded > 50, "{seed}: {forwarded}");
    }

    fn check(step: Decision, user: Option<usize>, forwarded: &mut usize) {
        if let (Decision::Forward(edits), Some(user)) = (&step, user) {
            let authorization = edits.authorization.as_ref().unwrap().reveal();
            assert!(authorization.starts_with(&format!("Bearer for-{user}-")), "{authorization} for {user}");
            *forwarded += 1;
        }
    }
}

#[test]
fn timed_out_call_refuses_the_waiting_requests_of_all_workers() {
    let shared = SharedMap::default();
    let mut workers: [TestEngine; 4] = workers(&shared);
    let token = alice_token();
    for engine in &mut workers {
        for _ in 0..5 {
            engine.send_waiting(github(&token));
        }
        engine.advance(10);
    }
    let (flight, _) = workers[0].expect_call();
    assert_eq!(workers[0].callout_result(flight, &TIMED_OUT).len(), 5);
    for engine in &mut workers[1..] {
        let steps = engine.tick();
        assert_eq!(steps.len(), 5);
        for (_, step) in steps {
            assert_eq!(refused(step), (503, "provider_unavailable".to_owned()));
        }
        engine.expect_no_call();
    }
}

#[test]
fn failing_provider_does_not_affect_users_of_another() {
    let shared = SharedMap::default();
    let mut workers: [TestEngine; 4] = workers(&shared);
    let throttled = answer_with(429, &[("retry-after", "60")], &json!({}));
    for token in [alice_token(), entra_user("second")] {
        assert_eq!(refused(workers[0].exchange(github(&token), &throttled)).1, "provider_throttled");
    }
    for (number, engine) in workers.iter_mut().enumerate() {
        let bobs = |uid: &str| OKTA_KEY.token(&with(bob(), json!({"uid": uid})));
        authorization(engine.exchange(github(&bobs(&format!("b{number}"))), &issued("up")));
        assert_eq!(refused(engine.decide(github(&entra_user(&format!("a{number}"))))).1, "provider_throttled");
        engine.expect_no_call();
    }
    for engine in &mut workers {
        engine.advance(60);
    }
    open_circuit(&mut workers[0], ["a", "b", "c"]);
    for (number, engine) in workers.iter_mut().enumerate() {
        let token = OKTA_KEY.token(&with(bob(), json!({"uid": format!("c{number}")})));
        authorization(engine.exchange(github(&token), &issued("up")));
    }
}

#[test]
fn restart_costs_one_exchange_for_each_user() {
    let users: Vec<String> = (0..3).map(|user| entra_user(&format!("u{user}"))).chain([bob_token()]).collect();
    for _start in 0..2 {
        let shared = SharedMap::default();
        let mut workers: [TestEngine; 4] = TestEngine::workers(&configuration(), &shared);
        for (user, token) in users.iter().enumerate() {
            authorization(workers[user % 4].exchange(github(token), &issued("up")));
        }
        for engine in &mut workers {
            for token in &users {
                assert_eq!(authorization(engine.decide(github(token))), "Bearer up");
            }
            engine.expect_no_call();
        }
    }
}

#[test]
fn workers_of_a_new_configuration_keep_keys_and_tokens() {
    let shared = SharedMap::default();
    let mut before: [TestEngine; 4] = workers(&shared);
    let users = [entra_user("a"), entra_user("b"), bob_token()];
    for (number, token) in users.iter().enumerate() {
        authorization(before[number].exchange(github(token), &issued(&format!("up-{number}"))));
    }
    // The new configuration has other options, and one more resource and provider in front.
    let mut next = configuration();
    next["audit"] = json!({"hits": true});
    next["max_wait_seconds"] = json!(20);
    next["cache"] = json!({"exchanged_tokens": 500});
    next["identity_providers"]["a-first"] = json!({"profile": "validate_only", "issuer": "https://login.other.example",
        "cluster": "other", "audiences": ["another"], "jwks": serde_json::from_slice::<Value>(&key_set(&[&OTHER_KEY])).unwrap()});
    next["resources"].as_array_mut().unwrap().insert(
        0,
        json!({"url": "https://mcp.acme.example/another",
        "audiences": ["another"], "exchange": {"a-first": {"forward": false}}}),
    );
    for _ in 0..4 {
        let mut engine = TestEngine::sharing(&next, &shared);
        engine.tick();
        engine.expect_no_call();
        for (number, token) in users.iter().enumerate() {
            assert_eq!(authorization(engine.decide(github(token))), format!("Bearer up-{number}"));
            engine.expect_no_call();
        }
    }
}
