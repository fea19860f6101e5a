//! Several workers of one process: what one of them has fetched or seen counts for all.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use onbehalf::engine::{Decision, FetchId};
use onbehalf::http::{Callout, CalloutResult};
use serde_json::json;

use crate::support::{configuration as usual, *};

/// One in which each worker exchanges for itself: here it is about what comes before.
fn configuration() -> serde_json::Value {
    let mut configuration = usual();
    configuration["cache"] = json!({"shared_tokens": 0});
    configuration
}

fn workers<const N: usize>(shared: &SharedMap) -> [Bench; N] {
    std::array::from_fn(|_| Bench::beside(&configuration(), shared))
}

/// The same with one provider.
fn workers_of_entra<const N: usize>(shared: &SharedMap) -> [Bench; N] {
    std::array::from_fn(|_| Bench::beside(&entra_alone(), shared))
}

fn encode(part: &serde_json::Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(part.to_string())
}

/// Lets every call of a worker be answered; gives the URLs.
fn serve_with(bench: &mut Bench, answer: impl Fn(&Callout) -> CalloutResult) -> Vec<String> {
    let mut urls = Vec::new();
    while let Some((flight, call)) = bench.engine.next_callout() {
        urls.push(call.url.as_str().to_owned());
        bench.reply(flight, &answer(&call));
    }
    urls
}

/// The same as the providers do.
fn serve(bench: &mut Bench) -> Vec<String> {
    serve_with(bench, provider_document)
}

/// The same as they do when the one has another key.
fn with_another_key(call: &Callout) -> CalloutResult {
    let is_keys = call.url.as_str().ends_with("discovery/v2.0/keys");
    if is_keys { answer(200, &key_set(&[&OTHER_KEY])) } else { provider_document(call) }
}

/// A worker that has fetched all keys.
fn served(shared: &SharedMap) -> Bench {
    let mut bench = Bench::beside(&configuration(), shared);
    bench.tick();
    serve(&mut bench);
    bench
}

/// Whether a token of Alice's gets as far as its exchange.
fn is_admitted(bench: &mut Bench, token: &str) -> bool {
    let step = bench.ask(bearer("/github", token));
    let is_posted = bench.engine.next_callout().is_some_and(|(_, call)| call.method == "POST");
    matches!(step, Decision::Pause) && is_posted
}

#[test]
fn one_worker_fetches_the_keys_of_an_issuer_and_all_have_them() {
    let shared = SharedMap::default();
    let mut workers: [Bench; 4] = workers(&shared);
    let mut urls = Vec::new();
    for bench in &mut workers {
        bench.tick();
    }
    for bench in &mut workers {
        urls.extend(serve(bench));
    }
    assert_eq!(urls.len(), 4, "metadata and keys of two issuers, once each: {urls:?}");
    for bench in &mut workers {
        bench.tick();
        bench.no_call();
        assert!(is_admitted(bench, &alice_token()));
    }
    let mut late = Bench::beside(&configuration(), &shared);
    late.tick();
    late.no_call();
    assert!(is_admitted(&mut late, &alice_token()), "a worker that comes later asks nobody");
}

#[test]
fn who_waits_for_what_another_worker_fetches_is_served_when_it_is_there() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [Bench; 2] = workers(&shared);
    first.wait(bearer("/github", &alice_token()));
    second.wait(bearer("/github", &alice_token()));
    second.no_call();
    assert!(second.engine.needs_fast_tick() && !first.engine.needs_fast_tick());
    assert!(second.tick().is_empty(), "nothing is there yet");
    first.serve_keys_until_post();
    second.tick();
    second.serve_keys_until_post();
    assert_eq!(second.call().1.method, "POST", "it has keys, and asks for its token");
    assert!(!second.engine.needs_fast_tick());
}

#[test]
fn a_worker_that_dies_while_it_fetches_is_replaced_by_the_next() {
    let shared = SharedMap::default();
    let [mut dead, mut other]: [Bench; 2] = workers(&shared);
    dead.wait(bearer("/github", &alice_token()));
    drop(dead);
    other.wait(bearer("/github", &alice_token()));
    other.no_call();
    // A call of ten seconds, and some grace.
    other.advance(14);
    other.tick();
    let is_entra = |(_, call): &(FetchId, Callout)| call.url.as_str().contains("entra");
    assert!(!calls(&mut other).iter().any(is_entra));
    other.advance(2);
    other.tick();
    assert!(calls(&mut other).iter().any(is_entra));
}

/// Every call that a worker has to make now.
fn calls(bench: &mut Bench) -> Vec<(FetchId, Callout)> {
    std::iter::from_fn(|| bench.engine.next_callout()).collect()
}

/// A configuration with one provider.
fn entra_alone() -> serde_json::Value {
    let mut configuration = configuration();
    configuration["identity_providers"].as_object_mut().unwrap().remove("okta-eu");
    for resource in configuration["resources"].as_array_mut().unwrap() {
        resource["exchange"].as_object_mut().unwrap().remove("okta-eu");
    }
    configuration
}

/// The same, its keys written down, so that only its endpoints are fetched.
fn with_keys_inline() -> serde_json::Value {
    let mut configuration = entra_alone();
    let keys: serde_json::Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY])).unwrap();
    configuration["identity_providers"]["entra-us"]["jwks"] = keys;
    configuration
}

fn github() -> onbehalf::http::Request {
    bearer("/github", &alice_token())
}

#[test]
fn a_failure_of_an_idle_vm_keeps_nobody_waiting() {
    for configuration in [entra_alone(), with_keys_inline()] {
        let shared = SharedMap::default();
        let [mut main, mut worker, mut other]: [Bench; 3] =
            std::array::from_fn(|_| Bench::beside(&configuration, &shared));
        // The main thread reaches nothing, and takes its time between attempts.
        for _ in 0..40 {
            main.tick();
            serve_with(&mut main, |_| TIMED_OUT);
            main.advance(1);
        }
        for bench in [&mut worker, &mut other] {
            bench.now = main.now;
            bench.tick();
            bench.no_call();
        }
        worker.wait(github());
        worker.serve_keys_until_post();
        assert_eq!(worker.call().1.method, "POST");
        // The keys are for all, also for those that had failed.
        for bench in [&mut other, &mut main] {
            bench.tick();
            bench.no_call();
        }
        other.wait(github());
        assert_eq!(other.call().1.method, "POST");
    }
}

#[test]
fn who_waits_for_an_idle_vm_tries_when_that_fails() {
    let shared = SharedMap::default();
    let [mut main, mut worker] = workers_of_entra(&shared);
    main.tick();
    let (flight, _) = main.call();
    worker.wait(github());
    worker.no_call();
    assert!(worker.tick().is_empty());
    worker.no_call();
    main.reply(flight, &TIMED_OUT);
    assert!(worker.tick().is_empty());
    worker.serve_keys_until_post();
    assert_eq!(worker.call().1.method, "POST");
}

#[test]
fn a_new_key_is_looked_for_although_an_idle_vm_hangs() {
    let shared = SharedMap::default();
    let [mut main, mut worker] = workers_of_entra(&shared);
    main.tick();
    serve(&mut main);
    for bench in [&mut main, &mut worker] {
        bench.advance(3600);
    }
    main.tick();
    main.call();
    let token = OTHER_KEY.token(&with(alice(), json!({"exp": worker.now.secs() + 600})));
    worker.wait(bearer("/github", &token));
    worker.no_call();
    worker.advance(2);
    assert!(worker.tick().is_empty());
    serve_with(&mut worker, |call| if call.method == "GET" { with_another_key(call) } else { TIMED_OUT });
    let token = OTHER_KEY.token(&with(alice(), json!({"exp": worker.now.secs() + 601})));
    worker.wait(bearer("/github", &token));
    assert_eq!(worker.call().1.method, "POST");
    // And where there is none, the caller is told so.
    let unknown =
        OKTA_KEY.sign(&json!({"alg": "ES256", "kid": "nobodys"}), &with(alice(), json!({"exp": NOW.secs() + 9000})));
    assert_eq!(refused(worker.ask(bearer("/github", &unknown))).1, "unknown_key");
}

#[test]
fn a_fetch_of_an_idle_vm_that_hangs_is_left_after_two_seconds() {
    let shared = SharedMap::default();
    let [mut main, mut worker, mut other] = workers_of_entra(&shared);
    main.tick();
    let (hanging, _) = main.call();
    for bench in [&mut worker, &mut other] {
        bench.wait(github());
        bench.now = NOW.plus(Duration::from_millis(1999));
        assert!(bench.tick().is_empty());
        bench.no_call();
        bench.now = NOW.plus(Duration::from_millis(2000));
    }
    assert!(worker.tick().is_empty());
    let (flight, call) = worker.call();
    assert_eq!(call.method, "GET");
    // One of those who wait, and no more.
    assert!(other.tick().is_empty());
    other.no_call();
    // Another one may still come to serve: it waits for the worker.
    other.advance(1);
    other.wait(github());
    other.no_call();
    // The end of the first one changes nothing.
    main.advance(12);
    main.reply(hanging, &TIMED_OUT);
    assert!(worker.reply(flight, &provider_document(&call)).is_empty());
    worker.serve_keys_until_post();
    assert!(other.tick().is_empty());
    assert_eq!(other.call().1.method, "POST");
}

#[test]
fn a_fetch_of_an_idle_vm_that_goes_on_is_waited_for() {
    let shared = SharedMap::default();
    let [mut main, mut worker] = workers_of_entra(&shared);
    main.tick();
    let (flight, call) = main.call();
    worker.wait(github());
    for bench in [&mut main, &mut worker] {
        bench.now = NOW.plus(Duration::from_millis(1900));
    }
    main.reply(flight, &provider_document(&call));
    for bench in [&mut main, &mut worker] {
        bench.now = NOW.plus(Duration::from_millis(3800));
        bench.tick();
    }
    worker.no_call();
    let (flight, call) = main.call();
    main.reply(flight, &provider_document(&call));
    worker.tick();
    assert_eq!(worker.call().1.method, "POST", "one fetch for both");
}

#[test]
fn an_unknown_key_waits_for_no_idle_vm_that_hangs() {
    let shared = SharedMap::default();
    let [mut main, mut worker] = workers_of_entra(&shared);
    main.tick();
    serve(&mut main);
    let unknown = || OKTA_KEY.sign(&json!({"alg": "ES256", "kid": "nobodys"}), &alice());
    worker.wait(bearer("/github", &unknown()));
    let (flight, _) = worker.call();
    assert_eq!(refused(worker.reply(flight, &TIMED_OUT).remove(0).1).1, "unknown_key");
    // The main thread looks some seconds after those that serve, which do not look here.
    main.advance(7);
    main.tick();
    main.call();
    worker.advance(7);
    worker.tick();
    worker.no_call();
    worker.advance(3);
    assert_eq!(refused(worker.ask(bearer("/github", &unknown()))).1, "unknown_key");
}

#[test]
fn the_pause_of_an_idle_vm_ends_with_a_fetch_and_with_its_clock() {
    let shared = SharedMap::default();
    let mut main = Bench::beside(&entra_alone(), &shared);
    let fail_often = |main: &mut Bench| {
        for _ in 0..300 {
            main.tick();
            serve_with(main, |_| TIMED_OUT);
            main.advance(1);
        }
    };
    fail_often(&mut main);
    main.advance(60);
    main.tick();
    assert_eq!(serve(&mut main).len(), 2);
    main.advance(3600);
    main.tick();
    assert_eq!(serve_with(&mut main, |_| TIMED_OUT).len(), 1);
    main.advance(1);
    main.tick();
    assert_eq!(serve_with(&mut main, |_| TIMED_OUT).len(), 1, "the first pause is the shortest again");
    fail_often(&mut main);
    main.tick();
    main.no_call();
    shared.overwrite(|_, value| value.clear());
    main.now = NOW.minus(Duration::from_secs(86_400));
    main.tick();
    assert_eq!(main.call().1.method, "GET");
}

#[test]
fn keys_are_fetched_again_by_those_that_serve() {
    let shared = SharedMap::default();
    let [mut main, mut worker, mut other] = workers_of_entra(&shared);
    main.tick();
    serve_with(&mut main, |_| TIMED_OUT);
    for bench in [&mut worker, &mut other] {
        bench.wait(github());
        bench.serve_keys_until_post();
    }
    let mut fetches = 0;
    for _ in 0..3 * 3600 {
        for bench in [&mut main, &mut other, &mut worker] {
            bench.advance(1);
            bench.tick();
        }
        main.no_call();
        // Its own looks come in the same second.
        fetches += serve(&mut other).len() + serve(&mut worker).len();
    }
    assert!((6..=8).contains(&fetches), "{fetches}");
    let age = other.engine.key_ages(other.now)[0].1;
    assert!(age <= Duration::from_secs(3600), "{age:?}");
    // An idle VM does so itself if none of them is left.
    drop((worker, other));
    let mut waited = 0;
    let call = loop {
        main.advance(1);
        main.tick();
        if let Some(call) = main.engine.next_callout() {
            break call;
        }
        waited += 1;
        assert!(waited < 3700, "nobody fetches");
    };
    assert_eq!(call.1.method, "GET");
}

#[test]
fn a_refresh_that_fails_in_an_idle_vm_is_made_by_a_worker_at_once() {
    let shared = SharedMap::default();
    let [mut main, mut worker] = workers_of_entra(&shared);
    main.tick();
    serve(&mut main);
    // Nobody has needed a fetch in the worker yet, so the main thread looks as early as it does.
    worker.wait(github());
    assert_eq!(worker.call().1.method, "POST");
    for bench in [&mut main, &mut worker] {
        bench.advance(3600);
    }
    main.tick();
    serve_with(&mut main, |_| TIMED_OUT);
    worker.tick();
    assert_eq!(serve(&mut worker).len(), 2, "metadata and keys");
    main.advance(1);
    main.tick();
    main.no_call();
}

#[test]
fn a_fetch_keeps_its_lease_for_as_long_as_its_calls_are_answered() {
    let shared = SharedMap::default();
    let [mut slow, mut other]: [Bench; 2] = workers(&shared);
    slow.tick();
    let (flight, call) = slow.call();
    assert!(call.url.as_str().contains(".well-known"));
    for bench in [&mut slow, &mut other] {
        bench.advance(9);
    }
    slow.reply(flight, &provider_document(&call));
    other.advance(9);
    other.tick();
    while let Some((_, other_call)) = other.engine.next_callout() {
        assert_ne!(other_call.url.authority(), call.url.authority(), "the first worker is still at it");
    }
}

#[test]
fn a_clock_that_goes_back_while_fetches_fail_does_not_put_the_next_one_off() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [Bench; 2] = workers(&shared);
    for _ in 0..8 {
        first.tick();
        serve_with(&mut first, |_| TIMED_OUT);
        first.advance(60);
    }
    second.now = NOW.minus(Duration::from_secs(3600));
    second.tick();
    assert_eq!(second.call().1.method, "GET", "a pause of a minute has not begun an hour ahead");
}

#[test]
fn a_failed_fetch_is_repeated_by_one_worker_and_not_by_each() {
    let shared = SharedMap::default();
    let mut workers: [Bench; 3] = workers(&shared);
    let mut calls = 0;
    for _ in 0..64 {
        for bench in &mut workers {
            bench.tick();
            calls += serve_with(bench, |_| TIMED_OUT).iter().filter(|url| url.contains("entra")).count();
            bench.advance(1);
        }
    }
    // At 0, 1, 3, 7, 15, 31 and 63 seconds, by a jitter of a tenth sooner.
    assert!((7..=8).contains(&calls), "{calls}");
    // None of them has had a request: somebody who waits is reason enough for one more.
    workers[2].wait(bearer("/github", &alice_token()));
    let (flight, _) = workers[2].call();
    let mut steps = workers[2].reply(flight, &TIMED_OUT);
    assert_eq!(refused(steps.remove(0).1), (503, "keys_unavailable".to_owned()));
    for bench in &mut workers {
        let answer = answered(bench.ask(bearer("/github", &alice_token())));
        assert_eq!((answer.status, header(&answer, "retry-after")), (503, Some("1")));
        bench.no_call();
    }
}

#[test]
fn a_flood_of_unknown_keys_causes_one_fetch_an_issuer_in_thirty_seconds_in_the_whole_process() {
    let shared = SharedMap::default();
    let mut workers: [Bench; 4] = workers(&shared);
    workers[0].tick();
    serve(&mut workers[0]);
    let good = alice_token();
    for bench in &mut workers {
        bench.tick();
        serve(bench);
        authorization(bench.exchange(bearer("/github", &good), &issued("up")));
    }
    let mut fetches = 0;
    for number in 0..10_000_usize {
        let bench = &mut workers[number % 4];
        let kid = format!("k{number}");
        let head = encode(&json!({"alg": "ES256", "kid": kid}));
        let forged = format!("{head}.{}.{}", encode(&alice()), "A".repeat(86));
        drop(bench.send(bearer("/github", &forged)));
        assert_eq!(authorization(bench.ask(bearer("/github", &good))), "Bearer up", "honest requests do not wait");
        if number % 100 == 0 {
            for bench in &mut workers {
                fetches += serve(bench).len();
                bench.now = NOW.plus(Duration::from_millis(number as u64 * 29_000 / 10_000));
                bench.tick();
            }
        }
    }
    assert_eq!(fetches, 1);
}

#[test]
fn a_key_that_one_worker_sees_go_is_gone_for_all() {
    let shared = SharedMap::default();
    let (mut first, [mut second]) = (served(&shared), workers(&shared));
    second.tick();
    let token = ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() + 9000})));
    authorization(second.exchange(bearer("/github", &token), &issued("up")));
    for bench in [&mut first, &mut second] {
        bench.advance(3600);
    }
    first.tick();
    serve_with(&mut first, with_another_key);
    second.tick();
    second.no_call();
    assert!(matches!(second.ask(bearer("/github", &token)), Decision::Pause), "the key is looked for once more");
    let (flight, _) = second.call();
    assert_eq!(refused(second.reply(flight, &answer(200, &key_set(&[&OTHER_KEY]))).remove(0).1).1, "unknown_key");
}

#[test]
fn what_another_plugin_writes_is_not_believed() {
    let poison = |name: &str, value: &mut Vec<u8>| {
        if name.ends_with(".document") {
            let text = String::from_utf8_lossy(value).replace("entra-1", "other-1");
            *value = text.into_bytes();
        }
    };
    let wipe = |_: &str, value: &mut Vec<u8>| value.clear();
    let flip = |_: &str, value: &mut Vec<u8>| *value.last_mut().unwrap() ^= 1;
    is_not_believed(&poison);
    is_not_believed(&wipe);
    is_not_believed(&flip);
}

fn is_not_believed(change: &dyn Fn(&str, &mut Vec<u8>)) {
    let shared = SharedMap::default();
    served(&shared);
    shared.overwrite(change);
    let mut second = Bench::beside(&configuration(), &shared);
    second.tick();
    assert_eq!(serve(&mut second).len(), 4, "it fetches for itself");
    assert!(is_admitted(&mut second, &alice_token()));
}

#[test]
fn workers_with_another_secret_do_not_share() {
    let shared = SharedMap::default();
    served(&shared);
    let mut other = configuration();
    other["identity_providers"]["entra-us"]["client"]["authentication"]["secret"] = json!({"inline": "another"});
    let mut second = Bench::beside(&other, &shared);
    second.tick();
    assert_eq!(serve(&mut second).len(), 4);
}

#[test]
fn names_in_shared_memory_are_few_and_say_nothing() {
    let shared = SharedMap::default();
    let mut workers: [Bench; 2] = workers(&shared);
    for bench in &mut workers {
        bench.tick();
        serve(bench);
        for user in 0..50 {
            let token = entra_user(&format!("user-{user}"));
            authorization(bench.exchange(bearer("/github", &token), &issued(&format!("up-{user}"))));
        }
    }
    let names = shared.names();
    assert_eq!(names.len(), 5, "{names:?}");
    let is_ours = |name: &String| ["onbehalf.keys.", "onbehalf.workers."].iter().any(|prefix| name.starts_with(prefix));
    assert!(names.iter().all(|name| is_ours(name) && !name.contains("entra")), "{names:?}");
}

#[test]
fn a_clock_that_goes_back_keeps_nobody_waiting_for_a_lease() {
    let shared = SharedMap::default();
    let [mut dead, mut other]: [Bench; 2] = workers(&shared);
    dead.tick();
    drop(dead);
    other.now = NOW.minus(Duration::from_secs(86_400 * 30));
    other.tick();
    assert_eq!(other.call().1.method, "GET", "a lease from the future is none");
}

#[test]
fn an_answer_that_comes_after_anothers_does_not_undo_it() {
    let shared = SharedMap::default();
    let [mut slow, mut quick]: [Bench; 2] = workers(&shared);
    slow.tick();
    let mut held = Vec::new();
    while let Some(call) = slow.engine.next_callout() {
        held.push(call);
    }
    quick.advance(36);
    quick.tick();
    assert_eq!(serve(&mut quick).len(), 4, "the lease of the slow one is over");
    for (flight, _) in held {
        slow.now = quick.now;
        slow.reply(flight, &CalloutResult::Failed(onbehalf::http::CalloutFailure::TimedOut));
    }
    quick.tick();
    quick.no_call();
    assert!(is_admitted(&mut quick, &alice_token()));
    slow.tick();
    assert!(is_admitted(&mut slow, &alice_token()));
}

#[test]
fn a_worker_with_stricter_rules_than_those_before_fetches_for_itself() {
    let shared = SharedMap::default();
    let mut first = Bench::beside(&configuration(), &shared);
    first.tick();
    serve_with(&mut first, |call| match provider_document(call) {
        CalloutResult::Response(mut answer) => {
            answer.headers.push(("cache-control".to_owned(), b"max-age=86400".to_vec()));
            CalloutResult::Response(answer)
        }
        failed => failed,
    });
    let mut strict = configuration();
    for name in ["entra-us", "okta-eu"] {
        strict["identity_providers"][name]["jwks_max_age_seconds"] = json!(3600);
    }
    let mut second = Bench::beside(&strict, &shared);
    second.advance(4000);
    second.tick();
    assert_eq!(serve(&mut second).len(), 4);
    let token = ENTRA_KEY.token(&with(alice(), json!({"exp": second.now.secs() + 600})));
    assert!(is_admitted(&mut second, &token));
}

#[test]
fn a_document_that_was_broken_and_a_fetch_that_fails_are_made_good_in_a_moment() {
    let shared = SharedMap::default();
    let mut first = served(&shared);
    shared.overwrite(|name, value| {
        if name.ends_with(".document") {
            value.clear();
        }
    });
    let mut second = Bench::beside(&configuration(), &shared);
    second.tick();
    serve_with(&mut second, |_| TIMED_OUT);
    second.advance(1);
    second.tick();
    assert_eq!(serve(&mut second).len(), 4);
    assert!(is_admitted(&mut second, &alice_token()));
    first.advance(2);
    first.tick();
    first.no_call();
}

#[test]
fn records_that_are_put_back_bring_no_old_key_back() {
    let shared = SharedMap::default();
    let (mut first, [mut second]) = (served(&shared), workers(&shared));
    let before = shared.copy();
    for bench in [&mut first, &mut second] {
        bench.advance(3600);
    }
    first.tick();
    serve_with(&mut first, with_another_key);
    second.tick();
    shared.put_back(&before);
    let claims = with(alice(), json!({"exp": first.now.secs() + 600}));
    for bench in [&mut first, &mut second] {
        bench.tick();
        bench.no_call();
        assert!(is_admitted(bench, &OTHER_KEY.token(&claims)), "the new key stays");
    }
}

#[test]
fn who_waits_for_another_worker_does_not_wait_for_an_old_clock() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [Bench; 2] = workers(&shared);
    first.wait(bearer("/github", &alice_token()));
    second.wait(bearer("/github", &alice_token()));
    // What would say that the lease is over is lost, and the clock by which it began is set right by a day.
    shared.overwrite(|_, value| value.truncate(1));
    second.now = NOW.minus(Duration::from_secs(86_400));
    let mut steps = second.tick();
    assert_eq!(steps.len(), 1, "it is decided, by the clock that counts now");
    assert_eq!(refused(steps.remove(0).1).1, "not_yet_valid");
}
