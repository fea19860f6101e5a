//! Several workers of one process: what one of them has fetched or seen counts for all.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use onbehalf::engine::Step;
use onbehalf::http::{Call, Reply};
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

fn encode(part: &serde_json::Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(part.to_string())
}

/// Lets every call of a worker be answered; gives the URLs.
fn serve_with(bench: &mut Bench, answer: impl Fn(&Call) -> Reply) -> Vec<String> {
    let mut urls = Vec::new();
    while let Some((flight, call)) = bench.engine.next_call() {
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
fn with_another_key(call: &Call) -> Reply {
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
    let is_posted = bench.engine.next_call().is_some_and(|(_, call)| call.method == "POST");
    matches!(step, Step::Wait) && is_posted
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
    assert!(second.engine.is_impatient() && !first.engine.is_impatient());
    assert!(second.tick().is_empty(), "nothing is there yet");
    first.serve_keys_until_post();
    second.tick();
    second.serve_keys_until_post();
    assert_eq!(second.call().1.method, "POST", "it has keys, and asks for its token");
    assert!(!second.engine.is_impatient());
}

#[test]
fn a_worker_that_dies_while_it_fetches_is_replaced_by_the_next() {
    let shared = SharedMap::default();
    let [mut dead, mut other]: [Bench; 2] = workers(&shared);
    dead.tick();
    drop(dead);
    other.wait(bearer("/github", &alice_token()));
    other.no_call();
    // A call of ten seconds, and some grace.
    other.advance(14);
    other.tick();
    other.no_call();
    other.advance(2);
    other.tick();
    assert_eq!(other.call().1.method, "GET");
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
    while let Some((_, other_call)) = other.engine.next_call() {
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
    second.now = NOW.minus(std::time::Duration::from_secs(3600));
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
    let answer = answered(workers[2].ask(bearer("/github", &alice_token())));
    assert_eq!((answer.status, header(&answer, "retry-after").is_some()), (503, true));
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
                bench.now = NOW.plus(std::time::Duration::from_millis(number as u64 * 29_000 / 10_000));
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
    assert!(matches!(second.ask(bearer("/github", &token)), Step::Wait), "the key is looked for once more");
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
    other.now = NOW.minus(std::time::Duration::from_secs(86_400 * 30));
    other.tick();
    assert_eq!(other.call().1.method, "GET", "a lease from the future is none");
}

#[test]
fn an_answer_that_comes_after_anothers_does_not_undo_it() {
    let shared = SharedMap::default();
    let [mut slow, mut quick]: [Bench; 2] = workers(&shared);
    slow.tick();
    let mut held = Vec::new();
    while let Some(call) = slow.engine.next_call() {
        held.push(call);
    }
    quick.advance(36);
    quick.tick();
    assert_eq!(serve(&mut quick).len(), 4, "the lease of the slow one is over");
    for (flight, _) in held {
        slow.now = quick.now;
        slow.reply(flight, &Reply::Failed(onbehalf::http::CallFailure::TimedOut));
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
        Reply::Answer(mut answer) => {
            answer.headers.push(("cache-control".to_owned(), b"max-age=86400".to_vec()));
            Reply::Answer(answer)
        }
        failed => failed,
    });
    let mut strict = configuration();
    for name in ["entra-us", "okta-eu"] {
        strict["identity_providers"][name]["keys_max_age_seconds"] = json!(3600);
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
    second.now = NOW.minus(std::time::Duration::from_secs(86_400));
    let mut steps = second.tick();
    assert_eq!(steps.len(), 1, "it is decided, by the clock that counts now");
    assert_eq!(refused(steps.remove(0).1).1, "not_yet_valid");
}
