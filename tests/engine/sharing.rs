//! Workers of one process that exchange for each other: one call for all of them, and nobody else reads what it brought.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use onbehalf::crypto::Software;
use onbehalf::engine::{Decision, Engine, FetchId, RequestId};
use onbehalf::http::{Callout, CalloutFailure, CalloutResult, LocalReply};
use onbehalf::shared::{CasVersion, SharedData};
use onbehalf::telemetry::Record;
use onbehalf::telemetry::Sample;
use serde_json::{Value, json};

use crate::support::*;

/// Workers that have their keys.
fn workers<const N: usize>(shared: &SharedMap) -> [Bench; N] {
    with(&configuration(), shared)
}

fn with<const N: usize>(configuration: &Value, shared: &SharedMap) -> [Bench; N] {
    std::array::from_fn(|_| {
        let mut bench = Bench::beside(configuration, shared);
        bench.tick();
        bench.serve_keys();
        bench
    })
}

fn github(token: &str) -> onbehalf::http::Request {
    bearer("/github", token)
}

/// Whether the worker has a call to make, which is an exchange.
fn exchanges(bench: &mut Bench) -> bool {
    bench.engine.next_callout().is_some_and(|(_, call)| call.method == "POST")
}

fn day() -> String {
    ENTRA_KEY.token(&crate::support::with(alice(), json!({"exp": NOW.secs() + 86_400})))
}

#[test]
fn first_requests_at_all_workers_are_one_exchange() {
    let shared = SharedMap::default();
    let mut workers: [Bench; 8] = workers(&shared);
    let token = alice_token();
    for bench in &mut workers {
        for _ in 0..10 {
            bench.wait(github(&token));
        }
    }
    let [first, others @ ..] = &mut workers;
    let (flight, _) = first.call();
    assert_eq!(first.reply(flight, &issued("up")).len(), 10);
    for bench in others {
        bench.no_call();
        assert!(bench.engine.needs_fast_tick());
        let steps = bench.tick();
        assert_eq!(steps.len(), 10);
        for (_, step) in steps {
            assert_eq!(authorization(step), "Bearer up");
        }
        assert!(!bench.engine.needs_fast_tick());
        bench.no_call();
    }
}

#[test]
fn whoever_comes_later_to_another_worker_finds_the_token_there() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [Bench; 2] = workers(&shared);
    let token = alice_token();
    authorization(first.exchange(github(&token), &issued("up")));
    assert_eq!(authorization(second.ask(github(&token))), "Bearer up");
    assert!(second.engine.counters().take().contains(&(Sample::TokenCache("shared"), 1)));
    // And has it from then on.
    shared.overwrite(|_, value| value.clear());
    assert_eq!(authorization(second.ask(github(&token))), "Bearer up");
}

#[test]
fn without_room_each_worker_exchanges_for_itself_and_shares_no_token() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["cache"] = json!({"shared_tokens": 0});
    let workers: [Bench; 2] = with(&configuration, &shared);
    for mut bench in workers {
        authorization(bench.exchange(github(&alice_token()), &issued("up")));
    }
    assert!(!shared.names().iter().any(|name| name.contains("token")));
}

#[test]
fn a_worker_that_dies_while_it_exchanges_is_replaced_and_the_clients_that_left_change_nothing() {
    let shared = SharedMap::default();
    let [mut dead, mut other]: [Bench; 2] = workers(&shared);
    let token = alice_token();
    dead.wait(github(&token));
    let id = other.wait(github(&token));
    drop(dead);
    other.advance(14);
    assert!(other.tick().is_empty());
    other.no_call();
    other.engine.gone(id);
    let late = other.wait(github(&token));
    other.advance(2);
    other.tick();
    let (flight, _) = other.call();
    let steps = other.reply(flight, &issued("up"));
    assert_eq!(steps.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [late]);
}

#[test]
fn a_refusal_is_for_all_workers_and_for_as_long() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [Bench; 2] = workers(&shared);
    let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    let reply = answer_with(400, &[], &json!({"error": "interaction_required", "claims": claims}));
    let token = ENTRA_KEY.token(&crate::support::with(alice(), json!({"xms_cc": "cp1"})));
    // Each tells of its own request.
    let answered = |step| LocalReply { audit: Record::default(), ..answered(step) };
    let at_first = answered(first.exchange(github(&token), &reply));
    assert_eq!(answered(second.ask(github(&token))), at_first, "with its challenge");
    let uri = "https://acme.okta.example/consent";
    let sent_there = answer_with(400, &[], &json!({"error": "interaction_required", "interaction_uri": uri}));
    let of_bob = answered(first.exchange(github(&bob_token()), &sent_there));
    assert!(of_bob.body.contains(uri));
    assert_eq!(answered(second.ask(github(&bob_token()))), of_bob, "and with where the user can act");
    second.advance(119);
    assert_eq!(answered(second.ask(github(&token))), at_first);
    second.advance(1);
    second.wait(github(&token));
    assert!(exchanges(&mut second));
    // The time to wait is what is left of it.
    let reply = answer_with(429, &[("retry-after", "20")], &json!({}));
    let carol = OKTA_KEY.token(&crate::support::with(bob(), json!({"uid": "00ucarol"})));
    answered(first.exchange(github(&carol), &reply));
    second.now = first.now.plus(Duration::from_secs(5));
    let answer = answered(second.ask(github(&carol)));
    assert_eq!(header(&answer, "retry-after"), Some("15"));
}

#[test]
fn one_worker_renews_and_the_others_take_the_next_token_over() {
    let shared = SharedMap::default();
    let [mut first, mut second, mut third]: [Bench; 3] = workers(&shared);
    let token = day();
    authorization(first.exchange(github(&token), &issued("one")));
    for bench in [&mut second, &mut third] {
        assert_eq!(authorization(bench.ask(github(&token))), "Bearer one");
    }
    for bench in [&mut first, &mut second, &mut third] {
        bench.advance(3300);
        assert_eq!(authorization(bench.ask(github(&token))), "Bearer one", "nobody waits");
    }
    let (flight, _) = first.call();
    second.no_call();
    third.no_call();
    assert!(first.reply(flight, &issued("two")).is_empty());
    for bench in [&mut first, &mut second, &mut third] {
        bench.advance(3);
        forwarded(bench.ask(github(&token)));
        assert_eq!(authorization(bench.ask(github(&token))), "Bearer two");
        bench.no_call();
    }
}

#[test]
fn a_renewal_that_fails_is_not_tried_by_the_next_worker_at_once() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [Bench; 2] = workers(&shared);
    let token = day();
    authorization(first.exchange(github(&token), &issued("one")));
    authorization(second.ask(github(&token)));
    for bench in [&mut first, &mut second] {
        bench.advance(3300);
    }
    authorization(first.ask(github(&token)));
    let (flight, _) = first.call();
    first.reply(flight, &answer_with(400, &[], &json!({"error": "temporarily_unavailable"})));
    assert_eq!(authorization(second.ask(github(&token))), "Bearer one");
    second.no_call();
    second.advance(11);
    assert_eq!(authorization(second.ask(github(&token))), "Bearer one");
    assert!(exchanges(&mut second));
}

#[test]
fn a_next_token_that_ends_sooner_is_taken_over_too_and_not_looked_for_again() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [Bench; 2] = workers(&shared);
    let token = day();
    let good_for = |token: &str, seconds: u64| {
        answer_with(200, &[], &json!({"access_token": token, "token_type": "Bearer", "expires_in": seconds}))
    };
    authorization(first.exchange(github(&token), &good_for("long", 3600)));
    // The other worker lacks it, and shared memory as well, as when its records were full.
    shared.overwrite(|name, value| {
        if name.contains("tokens") {
            value.clear();
        }
    });
    for bench in [&mut first, &mut second] {
        bench.advance(3300);
    }
    authorization(second.exchange(github(&token), &good_for("short", 200)));
    assert_eq!(authorization(first.ask(github(&token))), "Bearer long");
    let counted = first.engine.counters().take();
    assert!(counted.contains(&(Sample::TokenCache("shared"), 1)), "{counted:?}");
    assert_eq!(authorization(first.ask(github(&token))), "Bearer short");
    assert!(!first.engine.counters().take().contains(&(Sample::TokenCache("shared"), 1)));
    first.no_call();
}

#[test]
fn a_renewal_that_the_provider_denies_ends_the_token_at_all_workers_that_look() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [Bench; 2] = workers(&shared);
    let token = day();
    authorization(first.exchange(github(&token), &issued("one")));
    authorization(second.ask(github(&token)));
    for bench in [&mut first, &mut second] {
        bench.advance(3300);
    }
    authorization(first.ask(github(&token)));
    let (flight, _) = first.call();
    first.reply(flight, &answer_with(400, &[], &json!({"error": "invalid_grant"})));
    assert_eq!(refused(first.ask(github(&token))).1, "exchange_rejected");
    // It was due here as well, and the one request that finds that out is the last.
    authorization(second.ask(github(&token)));
    assert_eq!(refused(second.ask(github(&token))).1, "exchange_rejected");
    second.no_call();
}

#[test]
fn what_comes_late_does_not_undo_what_another_has_brought() {
    let shared = SharedMap::default();
    let [mut slow, mut quick, mut third]: [Bench; 3] = workers(&shared);
    let token = alice_token();
    slow.wait(github(&token));
    let (flight, _) = slow.call();
    for bench in [&mut slow, &mut quick, &mut third] {
        bench.advance(16);
    }
    authorization(quick.exchange(github(&token), &issued("up")));
    slow.reply(flight, &answer_with(400, &[], &json!({"error": "invalid_grant"})));
    assert_eq!(authorization(third.ask(github(&token))), "Bearer up");
}

#[test]
fn shared_memory_shows_no_token_and_no_user_and_has_an_end() {
    let shared = SharedMap::default();
    let [mut bench]: [Bench; 1] = workers(&shared);
    let before = shared.names().len();
    for user in 0..1500 {
        let token = entra_user(&format!("user-{user}"));
        authorization(bench.exchange(github(&token), &issued(&format!("issued-for-{user}"))));
    }
    let records = shared.copy();
    assert!(records.len() - before <= 625, "{}", records.len());
    for (name, value) in records {
        assert!(name.starts_with("onbehalf."), "{name}");
        let shows = |text: &[u8]| value.windows(text.len()).any(|window| window == text);
        assert!(name.contains("keys") || !(shows(b"issued-for") || shows(b"Bearer") || shows(b"user-")), "{name}");
    }
}

#[test]
fn the_token_that_ends_first_makes_room() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["cache"] = json!({"shared_tokens": 1});
    let [mut first, mut second]: [Bench; 2] = with(&configuration, &shared);
    let tokens: Vec<String> = (0..17).map(|user| entra_user(&format!("user-{user}"))).collect();
    for (user, token) in tokens.iter().enumerate() {
        let lifetime = if user == 7 { 600 } else { 1200 + user };
        let reply = json!({"access_token": format!("up-{user}"), "token_type": "Bearer", "expires_in": lifetime});
        authorization(first.exchange(github(token), &answer_with(200, &[], &reply)));
    }
    for (user, token) in tokens.iter().enumerate().filter(|(user, _)| *user != 7) {
        assert_eq!(authorization(second.ask(github(token))), format!("Bearer up-{user}"));
    }
    second.wait(github(&tokens[7]));
    assert!(exchanges(&mut second));
    assert_eq!(shared.names().iter().filter(|name| name.contains("tokens")).count(), 1);
}

#[test]
fn records_that_others_have_written_give_nobody_a_token() {
    let token = alice_token();
    type Change = fn(&mut Vec<u8>);
    let changes: [Change; 6] = [
        Vec::clear,
        |value| value.truncate(value.len() / 2),
        |value| value[0] ^= 1,
        |value| value[20] ^= 1,
        |value| *value.last_mut().unwrap() ^= 1,
        |value| value.splice(0..0, [0xff; 64]).for_each(drop),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let shared = SharedMap::default();
        let [mut first, mut second]: [Bench; 2] = workers(&shared);
        authorization(first.exchange(github(&token), &issued("up")));
        shared.overwrite(|name, value| {
            if name.contains("tokens") {
                change(value);
            }
        });
        assert_eq!(authorization(second.exchange(github(&token), &issued("again"))), "Bearer again", "{number}");
    }
}

#[test]
fn a_record_in_anothers_place_gives_nobody_a_token() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["cache"] = json!({"shared_tokens": 4096});
    let [mut first, mut second]: [Bench; 2] = with(&configuration, &shared);
    let users = ["a", "b", "c", "d"].map(entra_user);
    for (number, token) in users.iter().enumerate() {
        authorization(first.exchange(github(token), &issued(&format!("up-{number}"))));
    }
    // Everybody's record holds what everybody's records held.
    let all: Vec<u8> =
        shared.copy().into_iter().filter(|(name, _)| name.contains("tokens")).flat_map(|(_, value)| value).collect();
    shared.overwrite(|name, value| {
        if name.contains("tokens") {
            value.clone_from(&all);
        }
    });
    for (number, token) in users.iter().enumerate() {
        assert_eq!(authorization(second.ask(github(token))), format!("Bearer up-{number}"));
    }
    // And the heads of the entries say that each is another's.
    let tags: Vec<Vec<u8>> = entries(&all).iter().map(|entry| entry[..16].to_vec()).collect();
    let moved: Vec<u8> = entries(&all)
        .into_iter()
        .enumerate()
        .flat_map(|(number, entry)| [&tags[(number + 1) % tags.len()], &entry[16..]].concat())
        .collect();
    shared.overwrite(|name, value| {
        if name.contains("tokens") {
            value.clone_from(&moved);
        }
    });
    let [mut third]: [Bench; 1] = with(&configuration, &shared);
    for token in &users {
        assert_eq!(authorization(third.exchange(github(token), &issued("again"))), "Bearer again");
    }
}

#[test]
fn entries_of_one_record_that_change_their_heads_give_nobody_a_token() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["cache"] = json!({"shared_tokens": 1});
    let [mut first, mut second]: [Bench; 2] = with(&configuration, &shared);
    let users = ["a", "b"].map(entra_user);
    for (number, token) in users.iter().enumerate() {
        authorization(first.exchange(github(token), &issued(&format!("up-{number}"))));
    }
    shared.overwrite(|name, value| {
        if name.contains("tokens") {
            let [one, other] = <[Vec<u8>; 2]>::try_from(entries(value)).unwrap();
            *value = [&other[..16], &one[16..], &one[..16], &other[16..]].concat();
        }
    });
    for token in &users {
        assert_eq!(authorization(second.exchange(github(token), &issued("again"))), "Bearer again");
    }
}

/// The entries of a record: a tag of 16 bytes, four bytes of time, four of length, and so much.
fn entries(mut record: &[u8]) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    while !record.is_empty() {
        let length = u32::from_le_bytes(record[20..24].try_into().unwrap()) as usize;
        entries.push(record[..24 + length].to_vec());
        record = &record[24 + length..];
    }
    entries
}

#[test]
fn workers_with_another_secret_or_another_configuration_have_other_tokens() {
    let shared = SharedMap::default();
    let [mut first]: [Bench; 1] = workers(&shared);
    let token = alice_token();
    authorization(first.exchange(github(&token), &issued("up")));
    let mut secret = configuration();
    secret["identity_providers"]["entra-us"]["client"]["authentication"]["secret"] = json!({"inline": "another"});
    let mut target = configuration();
    target["resources"][0]["exchange"]["entra-us"]["resource"] = json!("api://another");
    for other in [secret, target] {
        let [mut second]: [Bench; 1] = with(&other, &shared);
        second.wait(github(&token));
        assert!(exchanges(&mut second));
    }
    let [mut same]: [Bench; 1] = workers(&shared);
    assert_eq!(authorization(same.ask(github(&token))), "Bearer up");
}

#[test]
fn what_a_clock_that_was_ahead_has_written_is_not_there() {
    let shared = SharedMap::default();
    let [mut ahead, mut right]: [Bench; 2] = workers(&shared);
    let token = day();
    ahead.advance(3600);
    authorization(ahead.exchange(github(&token), &issued("up")));
    right.wait(github(&token));
    assert!(exchanges(&mut right));
}

#[test]
fn a_provider_that_throttles_is_left_in_peace_by_all_workers() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [Bench; 2] = workers(&shared);
    let reply = answer_with(429, &[("retry-after", "20")], &json!({}));
    refused(first.exchange(github(&entra_user("a")), &reply));
    let answer = answered(second.ask(github(&entra_user("b"))));
    assert_eq!((answer.status, header(&answer, "retry-after")), (503, Some("20")));
    second.no_call();
    // The other provider is another.
    second.wait(github(&bob_token()));
    assert!(exchanges(&mut second));
    second.advance(20);
    second.wait(github(&entra_user("b")));
    assert!(exchanges(&mut second));
}

#[test]
fn outages_of_several_users_close_an_endpoint_for_all_and_one_exchange_tries_whether_it_is_back() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [Bench; 2] = workers(&shared);
    for user in ["a", "b", "c"] {
        refused(first.exchange(github(&entra_user(user)), &answer(503, b"")));
    }
    let answer_to = |bench: &mut Bench, user: &str| {
        let answer = answered(bench.ask(github(&entra_user(user))));
        let seconds: u64 = header(&answer, "retry-after").unwrap().parse().unwrap();
        (answer.status, seconds)
    };
    assert_eq!(answer_to(&mut second, "d"), (503, 4), "after 1 and 2");
    second.no_call();
    for bench in [&mut first, &mut second] {
        bench.advance(4);
    }
    second.wait(github(&entra_user("d")));
    let (flight, _) = second.call();
    assert_eq!(answer_to(&mut first, "e").0, 503);
    assert_eq!(answer_to(&mut second, "f").0, 503);
    first.no_call();
    // It is not.
    second.reply(flight, &TIMED_OUT);
    assert!(first.tick().is_empty());
    assert_eq!(answer_to(&mut first, "e"), (503, 8));
    for bench in [&mut first, &mut second] {
        bench.advance(8);
    }
    // It is.
    assert_eq!(authorization(first.exchange(github(&entra_user("e")), &issued("up"))), "Bearer up");
    for bench in [&mut first, &mut second] {
        bench.wait(github(&entra_user(&format!("g-{}", bench.now.millis()))));
    }
    assert!(exchanges(&mut first));
    authorization(second.exchange(github(&entra_user("h")), &issued("up")));
}

#[test]
fn a_token_that_is_never_served_waits_longer_and_longer_and_keeps_nobody_else_out() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [Bench; 2] = workers(&shared);
    let token = day();
    let mut pauses: Vec<u64> = Vec::new();
    for _ in 0..7 {
        let answer = answered(first.exchange(github(&token), &answer(500, b"")));
        let pause = header(&answer, "retry-after").unwrap().parse().unwrap();
        first.advance(pause);
        pauses.push(pause);
    }
    // A tenth of it is by chance.
    let most = [1, 2, 4, 8, 16, 30, 30];
    assert!(pauses.iter().zip(most).all(|(pause, most)| (most - most / 10..=most).contains(pause)), "{pauses:?}");
    second.now = first.now;
    assert_eq!(authorization(second.exchange(github(&entra_user("other")), &issued("up"))), "Bearer up");
    // That one got service says that there is some.
    let answer = answered(first.exchange(github(&token), &answer(500, b"")));
    assert_eq!(header(&answer, "retry-after"), Some("1"));
}

#[test]
fn one_user_with_two_tokens_or_targets_closes_nothing_for_others() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [Bench; 2] = workers(&shared);
    let scopes = json!({"scp": "mcp.read mcp.admin"});
    for (path, number) in [("/github", 1), ("/github/admin", 1), ("/github", 2), ("/github/admin", 2)] {
        let claims = crate::support::with(crate::support::with(alice(), scopes.clone()), json!({"uti": number}));
        let token = ENTRA_KEY.token(&claims);
        assert_eq!(refused(first.exchange(bearer(path, &token), &answer(500, b""))).1, "provider_unavailable");
    }
    assert_eq!(authorization(second.exchange(github(&entra_user("other")), &issued("up"))), "Bearer up");
}

/// A token of a user's that was not seen before.
fn fresh(user: &str, at: &Bench) -> String {
    let claims = json!({"oid": user, "scp": "mcp.read mcp.admin", "uti": at.now.millis(), "exp": at.now.secs() + 600});
    ENTRA_KEY.token(&crate::support::with(alice(), claims))
}

/// The pause that a refusal tells of, in seconds.
fn told_to_wait(step: Decision) -> u64 {
    let answer = answered(step);
    assert_eq!(answer.status, 503, "{answer:?}");
    header(&answer, "retry-after").unwrap().parse().unwrap()
}

/// A tenth of a pause is by chance, and it is told in whole seconds.
fn is_about(seconds: u64, pause: u64) -> bool {
    (pause - pause.div_ceil(10)..=pause).contains(&seconds)
}

/// Three failures: an endpoint that is closed for all.
fn close(bench: &mut Bench, users: [&str; 3]) {
    for (number, user) in users.into_iter().enumerate() {
        let claims = json!({"oid": user, "uti": format!("closes-{number}"), "exp": bench.now.secs() + 600});
        let token = ENTRA_KEY.token(&crate::support::with(alice(), claims));
        refused(bench.exchange(github(&token), &answer(503, b"")));
    }
    let other = fresh("other", bench);
    assert!(is_about(told_to_wait(bench.ask(github(&other))), 4));
    bench.no_call();
}

#[test]
fn the_user_who_failed_last_may_find_out_that_a_provider_is_back() {
    let shared = SharedMap::default();
    let mut workers: [Bench; 4] = workers(&shared);
    close(&mut workers[0], ["a", "b", "a"]);
    for bench in &mut workers {
        bench.advance(4);
    }
    let token = fresh("a", &workers[1]);
    workers[1].wait(github(&token));
    let (flight, _) = workers[1].call();
    for bench in &mut workers {
        let other = fresh("c", bench);
        assert!(told_to_wait(bench.ask(github(&other))) > 0, "one exchange tries");
        bench.no_call();
    }
    let steps = workers[1].reply(flight, &issued("up"));
    assert_eq!(authorization(steps.into_iter().next().unwrap().1), "Bearer up");
    // Everything is as it was before, in all of them.
    for (number, bench) in workers.iter_mut().enumerate() {
        bench.advance(1);
        bench.tick();
        for user in ["a", "b"] {
            let token = fresh(&format!("{user}-{number}"), bench);
            authorization(bench.exchange(github(&token), &issued("up")));
        }
    }
    let token = fresh("a", &workers[2]);
    assert_eq!(told_to_wait(workers[2].exchange(github(&token), &answer(503, b""))), 1);
}

#[test]
fn one_user_alone_waits_as_long_as_all_would() {
    let shared = SharedMap::default();
    let mut workers: [Bench; 4] = workers(&shared);
    close(&mut workers[0], ["a", "b", "a"]);
    let began = workers[0].now;
    let mut tried = vec![began];
    // The user comes with one token or with a new one each time, to all workers and resources.
    for quarter in 1..500 {
        let now = began.plus(Duration::from_millis(quarter * 250));
        let number = quarter as usize % 4;
        let bench = &mut workers[number];
        bench.now = now;
        bench.tick();
        let token = if number == 0 { entra_user("a") } else { fresh("a", bench) };
        let path = if number == 1 { "/github/admin" } else { "/github" };
        let (_, step) = bench.send(bearer(path, &token));
        match step {
            Decision::Pause => {
                let (flight, _) = bench.call();
                bench.reply(flight, &answer(503, b""));
                tried.push(now);
            }
            step => assert!(told_to_wait(step) > 0),
        }
    }
    let pauses: Vec<u64> = tried.windows(2).map(|pair| pair[1].since(pair[0]).as_millis() as u64).collect();
    let most = [4000, 8000, 16_000, 30_000, 30_000];
    let fits = |(pause, most): (&u64, u64)| (most - most / 10..=most + 250).contains(pause);
    assert!(pauses.len() >= 5 && pauses.iter().zip(most).all(fits), "{pauses:?}");
    // It is back.
    let bench = &mut workers[3];
    bench.advance(31);
    let token = fresh("a", bench);
    authorization(bench.exchange(github(&token), &issued("up")));
}

#[test]
fn a_user_who_is_never_served_keeps_an_endpoint_closed_for_nobody() {
    let shared = SharedMap::default();
    let mut workers: [Bench; 4] = workers(&shared);
    close(&mut workers[0], ["ill", "b", "ill"]);
    for bench in &mut workers {
        bench.advance(4);
        bench.tick();
    }
    let ill = fresh("ill", &workers[1]);
    assert!(is_about(told_to_wait(workers[1].exchange(github(&ill), &answer(503, b""))), 8));
    // That user waits, at all resources and workers; others do not.
    for bench in &mut workers {
        bench.advance(1);
        bench.tick();
        for path in ["/github", "/github/admin"] {
            let token = fresh("ill", bench);
            assert!(is_about(told_to_wait(bench.ask(bearer(path, &token))), 7));
            bench.no_call();
        }
    }
    // It tries again at its time, and hangs: nobody waits for that.
    for bench in &mut workers {
        bench.advance(8);
    }
    let ill = fresh("ill", &workers[1]);
    workers[1].wait(github(&ill));
    let (hanging, _) = workers[1].call();
    let again = fresh("ill", &workers[0]);
    assert!(told_to_wait(workers[0].ask(bearer("/github/admin", &again))) > 0, "it tries once");
    let well = fresh("well", &workers[2]);
    workers[2].wait(github(&well));
    let (flight, _) = workers[2].call();
    let late = fresh("late", &workers[3]);
    assert!(told_to_wait(workers[3].ask(github(&late))) > 0, "of the others, one tries");
    workers[1].reply(hanging, &TIMED_OUT);
    workers[3].tick();
    let later = fresh("later", &workers[3]);
    assert!(told_to_wait(workers[3].ask(github(&later))) > 0, "still one");
    let steps = workers[2].reply(flight, &issued("up"));
    assert_eq!(authorization(steps.into_iter().next().unwrap().1), "Bearer up");
    for (number, bench) in workers.iter_mut().enumerate() {
        bench.advance(1);
        bench.tick();
        let token = fresh(&format!("well-{number}"), bench);
        authorization(bench.exchange(github(&token), &issued("up")));
    }
}

#[test]
fn a_provider_that_is_down_is_asked_by_one_of_several_users_at_a_time() {
    let shared = SharedMap::default();
    let mut workers: [Bench; 4] = workers(&shared);
    close(&mut workers[0], ["a", "b", "a"]);
    let began = workers[0].now;
    let mut tried: Vec<(u64, usize)> = Vec::new();
    for quarter in 1..400 {
        for number in 0..4 {
            let bench = &mut workers[number];
            bench.now = began.plus(Duration::from_millis(quarter * 250));
            bench.tick();
            // Two users, each at two workers.
            let user = ["a", "b"][number / 2];
            let token = fresh(user, bench);
            let (_, step) = bench.send(github(&token));
            match step {
                Decision::Pause => {
                    let (flight, _) = bench.call();
                    bench.reply(flight, &answer(503, b""));
                    tried.push((quarter * 250, number / 2));
                }
                step => assert!(told_to_wait(step) > 0),
            }
        }
    }
    // After 4, 8, 16 and 30 seconds; where the first to try is whom it did not serve last, another one does at once.
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
fn exchanges_that_were_under_way_make_no_pause_longer() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [Bench; 2] = workers(&shared);
    let mut flights = Vec::new();
    for user in 0..20 {
        first.wait(github(&entra_user(&format!("u{user}"))));
        flights.push(first.call().0);
    }
    first.advance(10);
    for (number, flight) in flights.into_iter().enumerate() {
        let mut steps = first.reply(flight, &TIMED_OUT);
        let pause = told_to_wait(steps.remove(0).1);
        assert!(pause <= 4, "{number}: {pause}");
    }
    second.advance(10);
    let late = fresh("late", &second);
    assert!(is_about(told_to_wait(second.ask(github(&late))), 4));
    second.advance(4);
    authorization(second.exchange(github(&late), &issued("up")));
}

#[test]
fn failures_of_one_user_make_no_pause_of_others_longer() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [Bench; 2] = workers(&shared);
    for number in 0..9 {
        let claims = json!({"oid": "ill", "uti": number});
        let token = ENTRA_KEY.token(&crate::support::with(alice(), claims));
        let pause = told_to_wait(first.exchange(github(&token), &answer(503, b"")));
        assert!(is_about(pause, (1 << number).min(30)), "{number}: {pause}");
    }
    let token = fresh("b", &second);
    assert!(is_about(told_to_wait(second.exchange(github(&token), &answer(503, b""))), 4));
    let token = fresh("c", &second);
    assert!(is_about(told_to_wait(second.ask(github(&token))), 4));
    second.advance(4);
    authorization(second.exchange(github(&token), &issued("up")));
}

#[test]
fn a_timeout_does_not_end_the_pause_that_a_provider_asked_for() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [Bench; 2] = workers(&shared);
    let mut flights = Vec::new();
    for user in ["a", "b", "c", "d"] {
        first.wait(github(&entra_user(user)));
        flights.push(first.call().0);
    }
    first.reply(flights.remove(0), &answer_with(429, &[("retry-after", "40")], &json!({})));
    for flight in flights {
        first.reply(flight, &TIMED_OUT);
    }
    for bench in [&mut first, &mut second] {
        let token = fresh("e", bench);
        let answer = answered(bench.ask(github(&token)));
        assert_eq!(header(&answer, "retry-after"), Some("40"));
        assert!(answer.body.contains("provider_throttled"));
    }
}

#[test]
fn any_answer_opens_an_endpoint_for_all() {
    let errors = [
        answer_with(400, &[], &json!({"error": "invalid_grant"})),
        answer_with(400, &[], &json!({"error": "slow_down"})),
        answer_with(401, &[], &json!({"error": "invalid_client"})),
        answer(200, b"{}"),
    ];
    for reply in errors {
        let shared = SharedMap::default();
        let [mut first, mut second]: [Bench; 2] = workers(&shared);
        close(&mut first, ["a", "b", "c"]);
        for bench in [&mut first, &mut second] {
            bench.advance(4);
        }
        let token = fresh("d", &first);
        answered(first.exchange(github(&token), &reply));
        let token = fresh("e", &second);
        authorization(second.exchange(github(&token), &issued("up")));
    }
}

#[test]
fn a_renewal_that_may_not_be_made_now_is_not_claimed_at_each_request() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [Bench; 2] = workers(&shared);
    let token = day();
    authorization(first.exchange(github(&token), &issued("one")));
    assert_eq!(authorization(second.ask(github(&token))), "Bearer one");
    for bench in [&mut first, &mut second] {
        bench.advance(3300);
    }
    close(&mut first, ["a", "b", "c"]);
    // The other worker finds out when it claims the renewal.
    assert_eq!(authorization(second.ask(github(&token))), "Bearer one");
    let records = shared.versions();
    assert_eq!(authorization(second.ask(github(&token))), "Bearer one");
    assert_eq!(shared.versions(), records, "nothing was claimed again");
    second.no_call();
}

#[test]
fn junk_in_a_record_makes_room_first() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["cache"] = json!({"shared_tokens": 1});
    let [mut first, mut second]: [Bench; 2] = with(&configuration, &shared);
    authorization(first.exchange(github(&entra_user("a")), &issued("up-a")));
    let far = u32::try_from(NOW.secs() + 7 * 86_400).unwrap().to_le_bytes();
    shared.overwrite(|name, value| {
        for number in 0..15_u8 {
            if name.contains("tokens") {
                value.extend([&[number; 16][..], &far, &40_u32.to_le_bytes(), &[7; 40]].concat());
            }
        }
    });
    for user in ["b", "c", "d"] {
        authorization(first.exchange(github(&entra_user(user)), &issued(&format!("up-{user}"))));
    }
    for user in ["a", "b", "c", "d"] {
        assert_eq!(authorization(second.ask(github(&entra_user(user)))), format!("Bearer up-{user}"));
    }
}

#[test]
fn those_who_wait_for_other_workers_are_looked_after_in_turn() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [Bench; 2] = workers(&shared);
    let users: Vec<String> = (0..150).map(|user| entra_user(&format!("user-{user}"))).collect();
    for token in &users {
        first.wait(github(token));
        second.wait(github(token));
    }
    let mut calls = Vec::new();
    while let Some(call) = first.engine.next_callout() {
        calls.push(call);
    }
    // Those that came last are served first.
    for (flight, _) in calls.drain(100..) {
        first.reply(flight, &issued("up"));
    }
    let served: usize = (0..3).map(|_| second.tick().len()).sum();
    assert_eq!(served, 50);
    for (flight, _) in calls {
        first.reply(flight, &issued("up"));
    }
    let served: usize = (0..2).map(|_| second.tick().len()).sum();
    assert_eq!(served, 100);
    assert!(!second.engine.needs_fast_tick());
}

#[test]
fn nobody_waits_longer_than_the_longest_wait() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["max_wait_seconds"] = json!(12);
    let [mut first, mut second]: [Bench; 2] = with(&configuration, &shared);
    let token = alice_token();
    first.wait(github(&token));
    let early = second.wait(github(&token));
    second.advance(6);
    let late = second.wait(github(&token));
    second.advance(6);
    let steps = second.tick();
    assert_eq!(steps.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [early]);
    assert_eq!(refused(steps.into_iter().next().unwrap().1), (503, "provider_unavailable".to_owned()));
    let (flight, _) = first.call();
    first.reply(flight, &issued("up"));
    let steps = second.tick();
    assert_eq!(steps.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [late]);
}

#[test]
fn what_is_shared_serves_no_caller_whose_token_is_over() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [Bench; 2] = workers(&shared);
    // The provider's lasts for an hour more.
    let token = ENTRA_KEY.token(&crate::support::with(alice(), json!({"exp": NOW.secs() + 600})));
    authorization(first.exchange(github(&token), &issued("up")));
    // Clocks may differ by a minute.
    second.advance(659);
    assert_eq!(authorization(second.ask(github(&token))), "Bearer up");
    // Also a worker that has seen nothing of it does not serve it, with the record of then.
    let [mut third]: [Bench; 1] = workers(&shared);
    for bench in [&mut first, &mut second, &mut third] {
        bench.now = NOW.plus(Duration::from_secs(660));
        assert_eq!(refused(bench.ask(github(&token))), (401, "expired".to_owned()));
        bench.no_call();
    }
}

#[test]
fn who_lost_a_scope_does_not_get_it_back_from_another_worker() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [Bench; 2] = workers(&shared);
    let with_scopes =
        |scopes: &str, more: &str| ENTRA_KEY.token(&crate::support::with(alice(), json!({"scp": scopes, "uti": more})));
    authorization(first.exchange(github(&with_scopes("mcp.read", "1")), &issued("up")));
    assert_eq!(refused(second.ask(github(&with_scopes("mcp.write", "2")))), (403, "insufficient_scope".to_owned()));
    second.no_call();
    // With another token the same user is somebody new.
    second.wait(github(&with_scopes("mcp.read", "3")));
    assert!(exchanges(&mut second));
    // And what is shared for one resource opens no other.
    assert_eq!(refused(second.ask(bearer("/github/admin", &with_scopes("mcp.read", "1")))).1, "insufficient_scope");
}

#[test]
fn a_refusal_that_is_shared_is_one_tokens_and_one_resources() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [Bench; 2] = workers(&shared);
    let alices =
        |more: &str| ENTRA_KEY.token(&crate::support::with(alice(), json!({"scp": "mcp.read mcp.admin", "uti": more})));
    let denied = answer_with(400, &[], &json!({"error": "access_denied"}));
    assert_eq!(refused(first.exchange(github(&alices("1")), &denied)).1, "exchange_denied");
    assert_eq!(refused(second.ask(github(&alices("1")))).1, "exchange_denied");
    let admin = bearer("/github/admin", &alices("1"));
    assert_eq!(authorization(second.exchange(admin, &issued("admin"))), "Bearer admin");
    for (token, issue) in [(alices("2"), "hers"), (entra_user("mallory"), "mallorys"), (bob_token(), "bobs")] {
        assert_eq!(authorization(second.exchange(github(&token), &issued(issue))), format!("Bearer {issue}"));
    }
    assert_eq!(refused(second.ask(github(&alices("1")))).1, "exchange_denied");
}

#[test]
fn users_in_the_same_place_of_the_same_record_have_their_own_tokens() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["cache"] = json!({"shared_tokens": 1});
    let [mut first, mut second, mut third]: [Bench; 3] = with(&configuration, &shared);
    let users: Vec<String> = (0..16).map(|user| entra_user(&format!("user-{user}"))).collect();
    // There is one record, and all are in it, half of them with a refusal.
    for (user, token) in users.iter().enumerate() {
        let denied = answer_with(400, &[], &json!({"error": "access_denied"}));
        drop(first.exchange(github(token), &if user % 2 == 0 { issued(&format!("up-{user}")) } else { denied }));
    }
    assert_eq!(shared.names().iter().filter(|name| name.contains("tokens")).count(), 1);
    let found = |bench: &mut Bench, user: usize| match user % 2 {
        0 => assert_eq!(authorization(bench.ask(github(&users[user]))), format!("Bearer up-{user}")),
        _ => assert_eq!(refused(bench.ask(github(&users[user]))).1, "exchange_denied"),
    };
    (0..16).for_each(|user| found(&mut second, user));
    // Should another's tag be the same as well, what is under it is nobody's: it is bound to its place, and the key to its token.
    shared.overwrite(|name, value| {
        if name.contains("tokens") {
            let all = entries(value);
            let swap = |number: usize| [&all[number ^ 2][..16], &all[number][16..]].concat();
            *value = (0..all.len()).flat_map(swap).collect();
        }
    });
    for token in &users {
        third.wait(github(token));
        assert!(exchanges(&mut third));
    }
}

/// Shared memory in which another writer is quicker than ours, so many times.
#[derive(Clone)]
struct Contested {
    map: SharedMap,
    lost: Rc<Cell<u32>>,
    meanwhile: Rc<Meanwhile>,
}

/// What the other writer does to the record of that name.
type Meanwhile = dyn Fn(&SharedMap, &str);

impl Contested {
    fn new(map: &SharedMap, meanwhile: impl Fn(&SharedMap, &str) + 'static) -> Self {
        Self { map: map.clone(), lost: Rc::default(), meanwhile: Rc::new(meanwhile) }
    }

    fn worker(&self, configuration: &Value) -> Bench {
        Bench::of(Engine::new(parse(configuration), Box::new(Software), Box::new(self.clone()))).with_keys()
    }
}

impl SharedData for Contested {
    fn get(&self, name: &str) -> (Option<Vec<u8>>, CasVersion) {
        self.map.get(name)
    }

    fn put(&self, name: &str, value: &[u8], version: CasVersion) -> bool {
        if name.contains("tokens") && self.lost.get() > 0 {
            self.lost.set(self.lost.get() - 1);
            (self.meanwhile)(&self.map, name);
            assert!(!self.map.put(name, value, version), "somebody was quicker");
            return false;
        }
        self.map.put(name, value, version)
    }

    fn enqueue(&self, queue: u32, message: &[u8]) -> bool {
        self.map.enqueue(queue, message)
    }
}

/// Writes what is there once more, or an empty record.
fn touch(map: &SharedMap, name: &str) {
    let (value, version) = map.get(name);
    assert!(map.put(name, &value.unwrap_or_default(), version));
}

#[test]
fn a_conflict_in_any_attempt_costs_nobody_a_token() {
    let token = alice_token();
    for lost in [1, 2, 31, 32, 33, u32::MAX] {
        let shared = SharedMap::default();
        let contested = Contested::new(&shared, touch);
        let mut bench = contested.worker(&configuration());
        contested.lost.set(lost);
        bench.wait(github(&token));
        let (flight, _) = bench.call();
        contested.lost.set(lost);
        let steps = bench.reply(flight, &issued("up"));
        assert_eq!(authorization(steps.into_iter().next().unwrap().1), "Bearer up", "{lost}");
        assert_eq!(authorization(bench.ask(github(&token))), "Bearer up", "{lost}");
        bench.no_call();
        // With the last of its attempts it has shared it; after that each has its own.
        let [mut other]: [Bench; 1] = workers(&shared);
        match lost {
            ..32 => assert_eq!(authorization(other.ask(github(&token))), "Bearer up", "{lost}"),
            _ => assert_eq!(authorization(other.exchange(github(&token), &issued("again"))), "Bearer again", "{lost}"),
        }
    }
}

#[test]
fn a_conflict_with_other_users_loses_none_of_their_tokens() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["cache"] = json!({"shared_tokens": 1});
    let [other]: [Bench; 1] = with(&configuration, &shared);
    let other = Rc::new(RefCell::new((other, 0)));
    let meanwhile = {
        let other = Rc::clone(&other);
        move |_: &SharedMap, _: &str| {
            let (bench, user) = &mut *other.borrow_mut();
            *user += 1;
            authorization(bench.exchange(github(&entra_user(&format!("u{user}"))), &issued(&format!("up-{user}"))));
        }
    };
    let contested = Contested::new(&shared, meanwhile);
    let mut bench = contested.worker(&configuration);
    let token = alice_token();
    contested.lost.set(3);
    bench.wait(github(&token));
    let (flight, _) = bench.call();
    contested.lost.set(3);
    bench.reply(flight, &issued("up"));
    let [mut third]: [Bench; 1] = with(&configuration, &shared);
    assert_eq!(authorization(third.ask(github(&token))), "Bearer up");
    assert_eq!(other.borrow().1, 6);
    for user in 1..=6 {
        assert_eq!(authorization(third.ask(github(&entra_user(&format!("u{user}"))))), format!("Bearer up-{user}"));
    }
}

#[test]
fn who_loses_the_race_for_a_lease_does_not_exchange_and_takes_over_what_is_brought() {
    let shared = SharedMap::default();
    let [other]: [Bench; 1] = workers(&shared);
    let other = Rc::new(RefCell::new(other));
    let token = alice_token();
    let meanwhile = {
        let (other, token) = (Rc::clone(&other), token.clone());
        move |_: &SharedMap, _: &str| {
            other.borrow_mut().wait(github(&token));
        }
    };
    let contested = Contested::new(&shared, meanwhile);
    let mut bench = contested.worker(&configuration());
    contested.lost.set(1);
    let id = bench.wait(github(&token));
    bench.no_call();
    let (flight, _) = other.borrow_mut().call();
    other.borrow_mut().reply(flight, &issued("up"));
    let mut steps = bench.tick();
    assert_eq!(steps.len(), 1);
    let (answered, step) = steps.remove(0);
    assert_eq!((answered, authorization(step)), (id, "Bearer up".to_owned()));
    bench.no_call();
}

#[test]
fn records_that_vanish_or_come_back_at_any_moment_give_nobody_anothers_token() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["cache"] = json!({"shared_tokens": 1});
    let [mut first, mut second, mut third, mut fourth]: [Bench; 4] = with(&configuration, &shared);
    let token = alice_token();
    let erase = || {
        shared.overwrite(|name, value| {
            if name.contains("tokens") {
                value.clear();
            }
        });
    };
    // The lease: both exchange, and each request has what its worker brought.
    first.wait(github(&token));
    erase();
    second.wait(github(&token));
    let replies = [(&mut first, "one"), (&mut second, "two")].map(|(bench, issue)| {
        let (flight, _) = bench.call();
        bench.reply(flight, &issued(issue)).into_iter().map(|(_, step)| authorization(step)).collect::<Vec<_>>()
    });
    assert_eq!(replies, [["Bearer one"], ["Bearer two"]]);
    // The token: who has it keeps it.
    erase();
    assert_eq!(authorization(first.ask(github(&token))), "Bearer one");
    // What a record of before holds is in force to its own end at most, and for its own user.
    let of_before = shared.copy();
    let short = answer_with(200, &[], &json!({"access_token": "short", "token_type": "Bearer", "expires_in": 600}));
    authorization(first.exchange(github(&entra_user("carol")), &short));
    let with_carol = shared.copy();
    shared.put_back(&of_before);
    second.wait(github(&entra_user("carol")));
    assert!(exchanges(&mut second));
    shared.put_back(&with_carol);
    assert_eq!(authorization(third.ask(github(&entra_user("carol")))), "Bearer short");
    fourth.advance(570);
    fourth.wait(github(&entra_user("carol")));
    assert!(exchanges(&mut fourth));
}

/// Many workers, users and failures in an order that nobody thought of. What the provider sees: never two calls for the same
/// at once, and none for what it has given before that ends. What users see: their own token, or a refusal.
#[test]
fn whatever_happens_one_worker_asks_for_all_and_nobody_gets_anothers_token() {
    for seed in 0..40 {
        let mut random: u64 = seed * 7919 + 1;
        let mut next = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 20) % bound
        };
        let shared = SharedMap::default();
        let mut workers: [Bench; 4] = workers(&shared);
        let users: Vec<String> = (0..6)
            .map(|user| {
                ENTRA_KEY.token(&crate::support::with(
                    alice(),
                    json!({"oid": format!("u{user}"), "exp": NOW.secs() + 1_000_000}),
                ))
            })
            .collect();
        let mut out: Vec<(usize, FetchId, Callout)> = Vec::new();
        let mut waiting: HashMap<(usize, RequestId), usize> = HashMap::new();
        let mut given: HashMap<String, u64> = HashMap::new();
        let (mut calls, mut forwarded) = (0, 0);
        for _ in 0..600 {
            let worker = next(4) as usize;
            let mut steps: Vec<(RequestId, Decision)> = Vec::new();
            match next(10) {
                0..=3 => {
                    let user = next(6) as usize;
                    let (id, step) = workers[worker].send(github(&users[user]));
                    waiting.insert((worker, id), user);
                    steps.push((id, step));
                }
                4..=6 if !out.is_empty() => {
                    let (worker, flight, call) = out.swap_remove(next(out.len() as u64) as usize);
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
                    for (id, step) in workers[worker].reply(flight, &reply) {
                        check(step, waiting.remove(&(worker, id)), &mut forwarded);
                    }
                }
                7 => {
                    let seconds = next(3);
                    workers.iter_mut().for_each(|bench| bench.advance(seconds));
                }
                8 => {
                    let gone: Vec<_> = waiting.keys().filter(|(at, _)| *at == worker).take(1).copied().collect();
                    for key in gone {
                        waiting.remove(&key);
                        workers[worker].engine.gone(key.1);
                    }
                }
                _ => steps.extend(workers[worker].tick()),
            }
            for (id, step) in steps {
                if !matches!(step, Decision::Pause) {
                    check(step, waiting.remove(&(worker, id)), &mut forwarded);
                }
            }
            for (worker, bench) in workers.iter_mut().enumerate() {
                while let Some((flight, call)) = bench.engine.next_callout() {
                    let subject = form(&call).remove("assertion").unwrap();
                    let now = bench.now.secs();
                    // The last fifth of 570 seconds and a little more is for renewals.
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
fn a_call_that_times_out_is_refused_to_those_who_wait_at_all_workers() {
    let shared = SharedMap::default();
    let mut workers: [Bench; 4] = workers(&shared);
    let token = alice_token();
    for bench in &mut workers {
        for _ in 0..5 {
            bench.wait(github(&token));
        }
        bench.advance(10);
    }
    let (flight, _) = workers[0].call();
    assert_eq!(workers[0].reply(flight, &TIMED_OUT).len(), 5);
    for bench in &mut workers[1..] {
        let steps = bench.tick();
        assert_eq!(steps.len(), 5);
        for (_, step) in steps {
            assert_eq!(refused(step), (503, "provider_unavailable".to_owned()));
        }
        bench.no_call();
    }
}

#[test]
fn a_provider_in_trouble_is_nothing_to_the_users_of_the_other() {
    let shared = SharedMap::default();
    let mut workers: [Bench; 4] = workers(&shared);
    let throttled = answer_with(429, &[("retry-after", "60")], &json!({}));
    assert_eq!(refused(workers[0].exchange(github(&alice_token()), &throttled)).1, "provider_throttled");
    for (number, bench) in workers.iter_mut().enumerate() {
        let bobs = |uid: &str| OKTA_KEY.token(&crate::support::with(bob(), json!({"uid": uid})));
        authorization(bench.exchange(github(&bobs(&format!("b{number}"))), &issued("up")));
        assert_eq!(refused(bench.ask(github(&entra_user(&format!("a{number}"))))).1, "provider_throttled");
        bench.no_call();
    }
    for bench in &mut workers {
        bench.advance(60);
    }
    close(&mut workers[0], ["a", "b", "c"]);
    for (number, bench) in workers.iter_mut().enumerate() {
        let token = OKTA_KEY.token(&crate::support::with(bob(), json!({"uid": format!("c{number}")})));
        authorization(bench.exchange(github(&token), &issued("up")));
    }
}

#[test]
fn each_user_is_exchanged_for_once_more_after_a_restart() {
    let users: Vec<String> = (0..3).map(|user| entra_user(&format!("u{user}"))).chain([bob_token()]).collect();
    for _start in 0..2 {
        let shared = SharedMap::default();
        let mut workers: [Bench; 4] = with(&configuration(), &shared);
        for (user, token) in users.iter().enumerate() {
            authorization(workers[user % 4].exchange(github(token), &issued("up")));
        }
        for bench in &mut workers {
            for token in &users {
                assert_eq!(authorization(bench.ask(github(token))), "Bearer up");
            }
            bench.no_call();
        }
    }
}

#[test]
fn workers_of_a_configuration_that_replaces_one_take_keys_and_tokens_over() {
    let shared = SharedMap::default();
    let mut before: [Bench; 4] = workers(&shared);
    let users = [entra_user("a"), entra_user("b"), bob_token()];
    for (number, token) in users.iter().enumerate() {
        authorization(before[number].exchange(github(token), &issued(&format!("up-{number}"))));
    }
    // Other options, and a resource and a provider more in front of those from before.
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
        let mut bench = Bench::beside(&next, &shared);
        bench.tick();
        bench.no_call();
        for (number, token) in users.iter().enumerate() {
            assert_eq!(authorization(bench.ask(github(token))), format!("Bearer up-{number}"));
            bench.no_call();
        }
    }
}
