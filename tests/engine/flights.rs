//! One call for everyone who lacks the same thing, whoever leaves meanwhile.

use onbehalf::engine::{Decision, RequestId};
use onbehalf::telemetry::{CacheOutcome, Sample};

use crate::support::*;

#[test]
fn fifty_first_requests_are_one_exchange() {
    let mut bench = Bench::ready();
    let token = alice_token();
    let ids: Vec<RequestId> = (0..50).map(|_| bench.wait(bearer("/github", &token))).collect();
    let (flight, _) = bench.call();
    bench.no_call();
    let steps = bench.reply(flight, &issued("up"));
    assert_eq!(steps.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids);
    for (_, step) in steps {
        assert_eq!(authorization(step), "Bearer up");
    }
    let counted = bench.engine.counters().take();
    assert!(
        counted.contains(&(Sample::TokenCache(CacheOutcome::Miss), 1))
            && counted.contains(&(Sample::TokenCache(CacheOutcome::Coalesced), 49))
    );
    assert!(
        counted.contains(&(Sample::Decisions("forwarded"), 50)) && counted.contains(&(Sample::Exchanges(0, "ok"), 1))
    );
}

#[test]
fn the_call_survives_the_request_that_started_it() {
    let mut bench = Bench::ready();
    let token = alice_token();
    let first = bench.wait(bearer("/github", &token));
    let second = bench.wait(bearer("/github", &token));
    bench.engine.gone(first);
    let (flight, _) = bench.call();
    let steps = bench.reply(flight, &issued("up"));
    assert_eq!(steps.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [second]);
}

#[test]
fn a_token_that_nobody_waits_for_any_more_is_kept() {
    let mut bench = Bench::ready();
    let token = alice_token();
    let id = bench.wait(bearer("/github", &token));
    bench.engine.gone(id);
    let (flight, _) = bench.call();
    assert!(bench.reply(flight, &issued("up")).is_empty());
    assert_eq!(authorization(bench.ask(bearer("/github", &token))), "Bearer up");
}

#[test]
fn all_who_wait_get_the_refusal_of_the_one_call() {
    let mut bench = Bench::ready();
    let token = alice_token();
    for _ in 0..50 {
        bench.wait(bearer("/github", &token));
    }
    let (flight, _) = bench.call();
    let steps = bench.reply(flight, &TIMED_OUT);
    assert_eq!(steps.len(), 50);
    for (_, step) in steps {
        assert_eq!(refused(step).1, "provider_unavailable");
    }
    bench.no_call();
}

#[test]
fn waiting_requests_go_one_at_a_time_in_the_order_of_their_coming() {
    let mut bench = Bench::ready();
    let token = alice_token();
    let ids: Vec<RequestId> = (0..50).map(|_| bench.wait(bearer("/github", &token))).collect();
    let (flight, _) = bench.call();
    bench.engine.reply(flight, &issued("up"), bench.now);
    for (number, id) in ids.iter().enumerate() {
        assert!(bench.engine.has_work());
        assert_eq!(bench.engine.waiting(), ids.len() - number, "who has no step yet takes a place");
        let (next, step) = bench.engine.next_decision(bench.now).expect("a step");
        assert_eq!((next, authorization(step).as_str()), (*id, "Bearer up"));
    }
    assert!(!bench.engine.has_work() && bench.engine.next_decision(bench.now).is_none());
}

#[test]
fn a_request_that_leaves_before_its_step_is_passed_over() {
    let mut bench = Bench::ready();
    let token = alice_token();
    let [first, second, third] = [(); 3].map(|()| bench.wait(bearer("/github", &token)));
    let (flight, _) = bench.call();
    bench.engine.reply(flight, &issued("up"), bench.now);
    bench.engine.gone(first);
    bench.engine.gone(third);
    let steps = bench.steps();
    assert_eq!(steps.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [second]);
    assert_eq!(bench.engine.waiting(), 0);
}

#[test]
fn a_request_whose_step_is_due_is_not_refused_for_its_wait() {
    let mut bench = Bench::ready();
    let id = bench.wait(bearer("/github", &alice_token()));
    let (flight, _) = bench.call();
    bench.engine.reply(flight, &issued("up"), bench.now);
    bench.advance(31);
    let mut steps = bench.tick();
    assert_eq!(steps.len(), 1);
    let (next, step) = steps.remove(0);
    assert_eq!((next, authorization(step).as_str()), (id, "Bearer up"));
}

#[test]
fn calls_of_clients_that_leave_are_bounded() {
    let mut bench = Bench::ready();
    let leave = |bench: &mut Bench, user: usize| match bench.send(bearer("/github", &entra_user(&format!("u{user}")))) {
        (id, Decision::Pause) => {
            bench.engine.gone(id);
            None
        }
        (_, step) => Some(refused(step).1),
    };
    let refusal = (0..2000).find_map(|user| leave(&mut bench, user).map(|reason| (user, reason)));
    assert_eq!(refusal, Some((1088, "overloaded".to_owned())));
    let (flight, _) = bench.call();
    bench.reply(flight, &issued("up"));
    assert_eq!(leave(&mut bench, 3000), None, "one place is free again");
}

#[test]
fn waiting_requests_have_no_more_than_64_mib_of_headers() {
    let mut bench = Bench::new(&configuration());
    let large = "x".repeat(8 * 1024 * 1024);
    let of =
        |token: &str| request("POST", "/github", &[("authorization", &format!("Bearer {token}")), ("x-large", &large)]);
    let token = alice_token();
    let ids: Vec<RequestId> = (0..7).map(|_| bench.wait(of(&token))).collect();
    assert_eq!(refused(bench.ask(of(&token))), (503, "overloaded".to_owned()));
    bench.wait(bearer("/github", &token));
    bench.engine.gone(ids[0]);
    bench.wait(of(&token));
    bench.tick();
    bench.serve_keys_until_post();
    let (flight, _) = bench.call();
    assert_eq!(bench.reply(flight, &issued("up")).len(), 8);
    // They are counted no more.
    let token = entra_user("carol");
    for _ in 0..7 {
        bench.wait(of(&token));
    }
}

#[test]
fn a_reply_counts_once() {
    let mut bench = Bench::ready();
    bench.wait(bearer("/github", &alice_token()));
    let (flight, _) = bench.call();
    assert_eq!(bench.reply(flight, &issued("up")).len(), 1);
    assert!(bench.reply(flight, &issued("other")).is_empty());
}

#[test]
fn a_request_that_comes_before_the_keys_waits_for_keys_and_token() {
    let mut bench = Bench::new(&configuration());
    let token = alice_token();
    bench.wait(bearer("/github", &token));
    bench.tick();
    assert!(bench.serve_keys_until_post().is_empty(), "nobody is answered before the token is there");
    let (flight, call) = bench.call();
    assert_eq!(call.method, "POST");
    let mut steps = bench.reply(flight, &issued("up"));
    assert_eq!(authorization(steps.remove(0).1), "Bearer up");
}

#[test]
fn a_call_that_the_host_forgets_is_given_up() {
    let mut bench = Bench::ready();
    bench.wait(bearer("/github", &alice_token()));
    bench.call();
    bench.advance(15);
    assert!(bench.tick().is_empty());
    bench.advance(1);
    let mut steps = bench.tick();
    assert_eq!(refused(steps.remove(0).1).1, "provider_unavailable");
    assert_eq!(bench.engine.waiting(), 0);
}

#[test]
fn only_so_many_may_wait() {
    let mut bench = Bench::ready();
    for user in 0..4 {
        let token = entra_user(&format!("u{user}"));
        for _ in 0..256 {
            bench.wait(bearer("/github", &token));
        }
        let answer = answered(bench.ask(bearer("/github", &token)));
        assert_eq!((answer.status, header(&answer, "retry-after")), (503, Some("1")), "so many for one token");
    }
    assert_eq!(refused(bench.ask(bearer("/github", &alice_token()))), (503, "overloaded".to_owned()));
    bench.engine.gone(RequestId(1));
    bench.wait(bearer("/github", &alice_token()));
}

#[test]
fn a_client_that_cannot_prove_itself_is_the_operators_concern() {
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
    let mut bench = Bench::ready();
    bench.engine =
        onbehalf::engine::Engine::new(parse(&configuration()), Box::new(NoRandomness), Box::new(SharedMap::default()));
    let mut bench = bench.with_keys();
    assert_eq!(refused(bench.ask(bearer("/github", &bob_token()))), (502, "exchange_misconfigured".to_owned()));
    assert_eq!(bench.engine.waiting(), 0);
    bench.no_call();
    assert_eq!(authorization(bench.exchange(bearer("/github", &alice_token()), &issued("up"))), "Bearer up");
    bench.no_call();
}
