//! Single flight: one call for all requests that need the same keys or token, also if clients disconnect.

use onbehalf::engine::{Decision, RequestId};
use onbehalf::telemetry::{CacheOutcome, Sample};

use onbehalf_test_support::{
    SharedMap, TIMED_OUT, TestEngine, alice_token, answered, authorization, bearer, bob_token, configuration,
    entra_user, header, issued, parse, refused, request,
};

#[test]
fn fifty_first_requests_share_one_exchange() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let ids: Vec<RequestId> = (0..50).map(|_| engine.send_waiting(bearer("/github", &token))).collect();
    let (flight, _) = engine.expect_call();
    engine.expect_no_call();
    let steps = engine.callout_result(flight, &issued("up"));
    assert_eq!(steps.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids);
    for (_, step) in steps {
        assert_eq!(authorization(step), "Bearer up");
    }
    let counted = engine.inner.counters().take();
    assert!(
        counted.contains(&(Sample::TokenCache(CacheOutcome::Miss), 1))
            && counted.contains(&(Sample::TokenCache(CacheOutcome::Coalesced), 49))
    );
    assert!(
        counted.contains(&(Sample::Decisions("forwarded"), 50))
            && counted.contains(&(Sample::Exchanges("entra-us".into(), "ok"), 1))
    );
}

#[test]
fn call_survives_the_request_that_started_it() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let first = engine.send_waiting(bearer("/github", &token));
    let second = engine.send_waiting(bearer("/github", &token));
    engine.inner.request_closed(first);
    let (flight, _) = engine.expect_call();
    let steps = engine.callout_result(flight, &issued("up"));
    assert_eq!(steps.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [second]);
}

#[test]
fn token_without_waiting_requests_is_cached() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let id = engine.send_waiting(bearer("/github", &token));
    engine.inner.request_closed(id);
    let (flight, _) = engine.expect_call();
    assert!(engine.callout_result(flight, &issued("up")).is_empty());
    assert_eq!(authorization(engine.decide(bearer("/github", &token))), "Bearer up");
}

#[test]
fn waiting_requests_share_the_refusal_of_one_call() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    for _ in 0..50 {
        engine.send_waiting(bearer("/github", &token));
    }
    let (flight, _) = engine.expect_call();
    let steps = engine.callout_result(flight, &TIMED_OUT);
    assert_eq!(steps.len(), 50);
    for (_, step) in steps {
        assert_eq!(refused(step).1, "provider_unavailable");
    }
    engine.expect_no_call();
}

#[test]
fn waiting_requests_resume_one_at_a_time_in_order_of_arrival() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let ids: Vec<RequestId> = (0..50).map(|_| engine.send_waiting(bearer("/github", &token))).collect();
    let (flight, _) = engine.expect_call();
    engine.inner.callout_result(flight, &issued("up"), engine.now);
    for (number, id) in ids.iter().enumerate() {
        assert!(engine.inner.has_work());
        assert_eq!(engine.inner.waiting(), ids.len() - number, "who has no step yet takes a place");
        let (next, step) = engine.inner.next_decision(engine.now).expect("a step");
        assert_eq!((next, authorization(step).as_str()), (*id, "Bearer up"));
    }
    assert!(!engine.inner.has_work() && engine.inner.next_decision(engine.now).is_none());
}

#[test]
fn disconnected_request_is_skipped() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let [first, second, third] = [(); 3].map(|()| engine.send_waiting(bearer("/github", &token)));
    let (flight, _) = engine.expect_call();
    engine.inner.callout_result(flight, &issued("up"), engine.now);
    engine.inner.request_closed(first);
    engine.inner.request_closed(third);
    let steps = engine.steps();
    assert_eq!(steps.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [second]);
    assert_eq!(engine.inner.waiting(), 0);
}

#[test]
fn request_with_a_reply_is_not_refused_for_its_waiting_time() {
    let mut engine = TestEngine::ready();
    let id = engine.send_waiting(bearer("/github", &alice_token()));
    let (flight, _) = engine.expect_call();
    engine.inner.callout_result(flight, &issued("up"), engine.now);
    engine.advance(31);
    let mut steps = engine.tick();
    assert_eq!(steps.len(), 1);
    let (next, step) = steps.remove(0);
    assert_eq!((next, authorization(step).as_str()), (id, "Bearer up"));
}

#[test]
fn calls_of_disconnected_clients_are_limited() {
    let mut engine = TestEngine::ready();
    let leave =
        |engine: &mut TestEngine, user: usize| match engine.send(bearer("/github", &entra_user(&format!("u{user}")))) {
            (id, Decision::Pause) => {
                engine.inner.request_closed(id);
                None
            }
            (_, step) => Some(refused(step).1),
        };
    let refusal = (0..2000).find_map(|user| leave(&mut engine, user).map(|reason| (user, reason)));
    assert_eq!(refusal, Some((1088, "overloaded".to_owned())));
    let (flight, _) = engine.expect_call();
    engine.callout_result(flight, &issued("up"));
    assert_eq!(leave(&mut engine, 3000), None, "one place is free again");
}

#[test]
fn waiting_requests_hold_at_most_64_mib_of_headers() {
    let mut engine = TestEngine::new(&configuration());
    let large = "x".repeat(8 * 1024 * 1024);
    let of =
        |token: &str| request("POST", "/github", &[("authorization", &format!("Bearer {token}")), ("x-large", &large)]);
    let token = alice_token();
    let ids: Vec<RequestId> = (0..7).map(|_| engine.send_waiting(of(&token))).collect();
    assert_eq!(refused(engine.decide(of(&token))), (503, "overloaded".to_owned()));
    engine.send_waiting(bearer("/github", &token));
    engine.inner.request_closed(ids[0]);
    engine.send_waiting(of(&token));
    engine.tick();
    engine.serve_keys_and_hold_token_requests();
    let (flight, _) = engine.expect_call();
    assert_eq!(engine.callout_result(flight, &issued("up")).len(), 8);
    // The disconnected requests no longer count.
    let token = entra_user("carol");
    for _ in 0..7 {
        engine.send_waiting(of(&token));
    }
}

#[test]
fn second_reply_to_a_call_is_ignored() {
    let mut engine = TestEngine::ready();
    engine.send_waiting(bearer("/github", &alice_token()));
    let (flight, _) = engine.expect_call();
    assert_eq!(engine.callout_result(flight, &issued("up")).len(), 1);
    assert!(engine.callout_result(flight, &issued("other")).is_empty());
}

#[test]
fn request_before_the_keys_waits_for_keys_and_token() {
    let mut engine = TestEngine::new(&configuration());
    let token = alice_token();
    engine.send_waiting(bearer("/github", &token));
    engine.tick();
    assert!(engine.serve_keys_and_hold_token_requests().is_empty(), "nobody is answered before the token is there");
    let (flight, call) = engine.expect_call();
    assert_eq!(call.method, "POST");
    let mut steps = engine.callout_result(flight, &issued("up"));
    assert_eq!(authorization(steps.remove(0).1), "Bearer up");
}

#[test]
fn call_without_a_reply_is_given_up() {
    let mut engine = TestEngine::ready();
    engine.send_waiting(bearer("/github", &alice_token()));
    engine.expect_call();
    engine.advance(15);
    assert!(engine.tick().is_empty());
    engine.advance(1);
    let mut steps = engine.tick();
    assert_eq!(refused(steps.remove(0).1).1, "provider_unavailable");
    assert_eq!(engine.inner.waiting(), 0);
}

#[test]
fn waiting_requests_are_limited_in_number() {
    let mut engine = TestEngine::ready();
    for user in 0..4 {
        let token = entra_user(&format!("u{user}"));
        for _ in 0..256 {
            engine.send_waiting(bearer("/github", &token));
        }
        let answer = answered(engine.decide(bearer("/github", &token)));
        assert_eq!((answer.status, header(&answer, "retry-after")), (503, Some("1")), "so many for one token");
    }
    assert_eq!(refused(engine.decide(bearer("/github", &alice_token()))), (503, "overloaded".to_owned()));
    engine.inner.request_closed(RequestId(1));
    engine.send_waiting(bearer("/github", &alice_token()));
}

#[test]
fn client_that_cannot_authenticate_is_an_operator_fault() {
    struct NoRandomness;
    impl onbehalf::crypto::Crypto for NoRandomness {
        fn verify(
            &self,
            algorithm: onbehalf::crypto::Algorithm,
            key: &onbehalf::crypto::PublicKey,
            message: &[u8],
            signature: &[u8],
        ) -> bool {
            onbehalf::crypto::Software.verify(algorithm, key, message, signature)
        }
        fn sign(&self, key: &onbehalf::crypto::SigningKey, message: &[u8]) -> Option<Vec<u8>> {
            onbehalf::crypto::Software.sign(key, message)
        }
        fn random(&self) -> Option<[u8; 16]> {
            None
        }
    }
    let mut engine = TestEngine::ready();
    engine.inner =
        onbehalf::engine::Engine::new(parse(&configuration()), Box::new(NoRandomness), Box::new(SharedMap::default()));
    let mut engine = engine.with_keys();
    assert_eq!(refused(engine.decide(bearer("/github", &bob_token()))), (502, "exchange_misconfigured".to_owned()));
    assert_eq!(engine.inner.waiting(), 0);
    engine.expect_no_call();
    assert_eq!(authorization(engine.exchange(bearer("/github", &alice_token()), &issued("up"))), "Bearer up");
    engine.expect_no_call();
}
