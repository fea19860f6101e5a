//! Limits on exchanges after rejections: an upstream that rejects every token does not flood the provider.

use onbehalf::engine::{Decision, ForwardedRequest};
use onbehalf_test_support::{ENTRA_KEY, NOW, TestEngine, alice, bearer, entra_user, issued, with};
use serde_json::json;

use super::{AGAIN, NO_USE, asks_anew, deliver, exchange, is, later, rejected, sent, warm, workers};

fn users(count: usize) -> Vec<String> {
    (0..count).map(|user| entra_user(&format!("user-{user}"))).collect()
}

/// Sends a request, and lets its exchange, if any, bring `upstream`. Returns `true` if there was an exchange.
fn served(engine: &mut TestEngine, token: &str, upstream: &str) -> (ForwardedRequest, bool) {
    later(engine);
    let (_, step) = engine.send(bearer("/github", token));
    if !matches!(step, Decision::Pause) {
        return (sent(step).1, false);
    }
    let (flight, _) = engine.expect_call();
    (sent(engine.only_step(flight, &issued(upstream))).1, true)
}

#[test]
fn upstream_that_rejects_all_users_does_not_flood_the_provider() {
    let mut engine = TestEngine::ready();
    let users = users(100);
    for token in &users {
        exchange(&mut engine, token, "first");
    }
    let mut exchanges = 0;
    let mut answers = Vec::new();
    for second in 1..=59 {
        engine.now = NOW.plus(std::time::Duration::from_secs(second));
        for token in &users {
            let (sent, is_exchanged) = served(&mut engine, token, "next");
            exchanges += u32::from(is_exchanged);
            answers.push(rejected(&mut engine, &sent));
        }
    }
    assert_eq!(exchanges, 16, "what is dropped before anybody comes back");
    is(answers.first().unwrap().clone(), AGAIN);
    assert!(answers.iter().skip(200).all(|answer| *answer == (502, NO_USE.1.to_owned())), "{answers:?}");
    // Each resource has its own budget.
    let token = ENTRA_KEY.token(&with(alice(), json!({"scp": "mcp.read mcp.admin"})));
    let admin = sent(engine.exchange(bearer("/github/admin", &token), &issued("admin"))).1;
    is(rejected(&mut engine, &admin), AGAIN);
}

#[test]
fn upstream_that_rejects_rare_users_does_not_flood_the_provider() {
    let mut engine = TestEngine::ready();
    let users = users(100);
    let mut exchanges = 0;
    for minute in 0..5 {
        for (user, token) in users.iter().enumerate() {
            let second = minute * 90 + user as u64 / 2;
            engine.now = NOW.plus(std::time::Duration::from_millis(second * 1000 + user as u64));
            let (sent, is_exchanged) = served(&mut engine, token, "next");
            exchanges += usize::from(is_exchanged);
            rejected(&mut engine, &sent);
        }
    }
    // Each user makes a first exchange and one after the rejection, and a few users try again.
    assert!((200..220).contains(&exchanges), "{exchanges}");
}

#[test]
fn every_user_gets_a_new_token_where_new_tokens_are_accepted() {
    let mut engine = TestEngine::ready();
    let users = users(40);
    for token in &users {
        exchange(&mut engine, token, "first");
    }
    let mut exchanges = 0;
    for second in 1..=3 {
        engine.now = NOW.plus(std::time::Duration::from_secs(second));
        for token in &users {
            let (authorization, sent) = match engine.send(bearer("/github", token)) {
                (_, Decision::Pause) => {
                    exchanges += 1;
                    let (flight, _) = engine.expect_call();
                    sent(engine.only_step(flight, &issued("better")))
                }
                (_, step) => sent(step),
            };
            if authorization == "Bearer first" {
                is(rejected(&mut engine, &sent), AGAIN);
            }
        }
    }
    for token in &users {
        let (_, is_exchanged) = served(&mut engine, token, "better");
        exchanges += u32::from(is_exchanged);
    }
    assert_eq!(exchanges, 40);
    assert!(users.iter().all(|token| warm(&mut engine, token).0 == "Bearer better"));
}

#[test]
fn upstream_that_rejects_everything_is_tried_again_after_a_minute() {
    let mut engine = TestEngine::ready();
    let users = users(4);
    for token in &users[..3] {
        let first = exchange(&mut engine, token, "first");
        is(rejected(&mut engine, &first), AGAIN);
        let second = exchange(&mut engine, token, "second");
        is(rejected(&mut engine, &second), NO_USE);
    }
    let fourth = exchange(&mut engine, &users[3], "fourth");
    is(rejected(&mut engine, &fourth), NO_USE);
    let (authorization, fourth) = warm(&mut engine, &users[3]);
    assert_eq!(authorization, "Bearer fourth", "it stays in use");
    engine.advance(60);
    is(rejected(&mut engine, &fourth), AGAIN);
    assert_eq!(asks_anew(&mut engine, &users[3]), Some(None));
}

#[test]
fn rejected_tokens_of_one_user_use_up_no_budget_of_others() {
    let mut engine = TestEngine::ready();
    let (one, other) = (entra_user("one"), entra_user("other"));
    let first = exchange(&mut engine, &one, "first");
    is(rejected(&mut engine, &first), AGAIN);
    let second = exchange(&mut engine, &one, "second");
    for _ in 0..100 {
        is(rejected(&mut engine, &second), NO_USE);
    }
    let others = exchange(&mut engine, &other, "others");
    is(rejected(&mut engine, &others), AGAIN);
    exchange(&mut engine, &other, "better");
}

#[test]
fn worker_drops_at_most_16_tokens_of_a_resource_in_a_second() {
    let mut workers: [TestEngine; 4] = workers();
    let users = users(100);
    let mut sent: Vec<Vec<ForwardedRequest>> = vec![Vec::new(); 4];
    for (user, token) in users.iter().enumerate() {
        let worker = &mut workers[user % 4];
        worker.now = NOW;
        sent[user % 4].push(exchange(worker, token, &format!("up-{user}")));
    }
    for (worker, sent) in workers.iter_mut().zip(&sent) {
        worker.now = NOW.plus(std::time::Duration::from_secs(1));
        sent.iter().for_each(|sent| is(rejected(worker, sent), AGAIN));
    }
    deliver(&mut workers);
    let dropped = users.iter().enumerate().filter(|(user, token)| asks_anew(&mut workers[user % 4], token).is_some());
    assert_eq!(dropped.count(), 4 * 16);
}

#[test]
fn one_user_with_many_tokens_uses_up_no_budget_of_others() {
    let mut engine = TestEngine::ready();
    for number in 0..4 {
        let token = ENTRA_KEY.token(&with(alice(), json!({"uti": number})));
        let first = exchange(&mut engine, &token, "first");
        is(rejected(&mut engine, &first), AGAIN);
        let second = exchange(&mut engine, &token, "second");
        is(rejected(&mut engine, &second), NO_USE);
    }
    let others = exchange(&mut engine, &entra_user("other"), "others");
    is(rejected(&mut engine, &others), AGAIN);
    exchange(&mut engine, &entra_user("other"), "better");
}
