//! What an upstream's answer does to the token that it was sent, and what the client sees of it.

use onbehalf::engine::{Response, Sent, Step};
use onbehalf::http::{Answer, LocalAnswer};
use serde_json::{Value, json};

use onbehalf_test_support::*;

const CLAIMS: &str = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;

fn challenge(claims: &str) -> String {
    use base64::Engine as _;
    let claims = base64::prelude::BASE64_STANDARD.encode(claims);
    format!(r#"Bearer realm="", error="insufficient_claims", claims="{claims}""#)
}

fn answer(status: u16, challenges: &[&str]) -> Answer {
    let headers = challenges.iter().map(|value| ("www-authenticate".to_owned(), value.as_bytes().to_vec())).collect();
    Answer { status, headers, body: Vec::new() }
}

/// A token and what a request went on with.
fn sent(step: Step) -> (String, Sent) {
    let edits = forwarded(step);
    (edits.authorization.unwrap().reveal().to_owned(), edits.sent.expect("what it was sent with"))
}

/// Each request has a moment of its own, as at a clock.
fn later(engine: &mut TestEngine) {
    engine.now = engine.now.plus(std::time::Duration::from_millis(1));
}

fn exchange(engine: &mut TestEngine, token: &str, upstream: &str) -> Sent {
    later(engine);
    let (authorization, sent) = sent(engine.exchange(bearer("/github", token), &issued(upstream)));
    assert_eq!(authorization, format!("Bearer {upstream}"));
    sent
}

fn warm(engine: &mut TestEngine, token: &str) -> (String, Sent) {
    later(engine);
    sent(engine.decide(bearer("/github", token)))
}

fn instead(engine: &mut TestEngine, sent: &Sent, answer: &Answer) -> LocalAnswer {
    later(engine);
    match engine.inner.upstream_answered(sent, answer, engine.now) {
        Response::Instead(step) => answered(step),
        Response::PassOn { .. } => panic!("it went on"),
    }
}

fn reason(answer: &LocalAnswer) -> (u16, String) {
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    (answer.status, body["reason"].as_str().unwrap().to_owned())
}

fn rejected(engine: &mut TestEngine, sent: &Sent) -> (u16, String) {
    reason(&instead(engine, sent, &answer(401, &["Bearer error=\"invalid_token\""])))
}

/// Whether the next request exchanges, with which `claims`; the provider does not answer.
fn asks_anew(engine: &mut TestEngine, token: &str) -> Option<Option<String>> {
    later(engine);
    match engine.send(bearer("/github", token)) {
        (_, Step::Wait) => Some(form(&engine.expect_call().1).get("claims").cloned()),
        (_, Step::Forward(_)) => None,
        (_, Step::Answer(answer)) => panic!("{answer:?}"),
    }
}

const AGAIN: (u16, &str) = (503, "upstream_rejected_token");
const NO_USE: (u16, &str) = (502, "upstream_rejects_tokens");

fn is((status, reason): (u16, String), expected: (u16, &str)) {
    assert_eq!((status, reason.as_str()), expected);
}

#[test]
fn a_token_that_the_upstream_rejects_is_not_used_again() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let first = exchange(&mut engine, &token, "first");
    let answer =
        instead(&mut engine, &first, &answer(401, &["Bearer resource_metadata=\"https://elsewhere.example\""]));
    is(reason(&answer), AGAIN);
    assert_eq!(header(&answer, "retry-after"), Some("1"));
    assert_eq!(header(&answer, "www-authenticate"), None, "the client cannot mend it by signing in");
    exchange(&mut engine, &token, "second");
    assert_eq!(warm(&mut engine, &token).0, "Bearer second");
}

#[test]
fn an_upstream_that_rejects_every_token_costs_one_exchange_in_a_minute() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let first = exchange(&mut engine, &token, "0");
    is(rejected(&mut engine, &first), AGAIN);
    let mut exchanges = 0;
    for second in 0..600 {
        engine.now = NOW.plus(std::time::Duration::from_secs(second));
        let (id, step) = engine.send(bearer("/github", &token));
        let step = match step {
            Step::Wait => {
                exchanges += 1;
                let (flight, _) = engine.expect_call();
                later(&mut engine);
                let (waited, step) = engine.reply(flight, &issued("next")).remove(0);
                assert_eq!(waited, id);
                step
            }
            step => step,
        };
        let (_, sent) = sent(step);
        let (status, _) = rejected(&mut engine, &sent);
        assert!(matches!(status, 502 | 503));
    }
    assert_eq!(exchanges, 10);
}

#[test]
fn a_token_that_is_no_better_stays_in_use_for_the_minute() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let first = exchange(&mut engine, &token, "first");
    is(rejected(&mut engine, &first), AGAIN);
    let second = exchange(&mut engine, &token, "second");
    let answer = instead(&mut engine, &second, &answer(401, &[]));
    is(reason(&answer), NO_USE);
    assert_eq!((header(&answer, "retry-after"), header(&answer, "www-authenticate")), (None, None));
    engine.advance(50);
    let (authorization, sent) = warm(&mut engine, &token);
    assert_eq!(authorization, "Bearer second");
    is(rejected(&mut engine, &sent), NO_USE);
    engine.advance(10);
    let (authorization, sent) = warm(&mut engine, &token);
    assert_eq!(authorization, "Bearer second");
    is(rejected(&mut engine, &sent), AGAIN);
    assert_eq!(asks_anew(&mut engine, &token), Some(None));
}

#[test]
fn answers_that_were_under_way_when_a_token_was_dropped_do_not_drop_the_next() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let first = exchange(&mut engine, &token, "first");
    let late: Vec<Sent> = (0..3).map(|_| warm(&mut engine, &token).1).collect();
    is(rejected(&mut engine, &first), AGAIN);
    is(rejected(&mut engine, &late[0]), AGAIN);
    exchange(&mut engine, &token, "second");
    is(rejected(&mut engine, &late[1]), AGAIN);
    engine.advance(120);
    is(rejected(&mut engine, &late[2]), AGAIN);
    assert_eq!(warm(&mut engine, &token).0, "Bearer second");
}

#[test]
fn one_users_token_is_dropped_at_one_resource() {
    let mut engine = TestEngine::ready();
    let token = ENTRA_KEY.token(&with(alice(), json!({"scp": "mcp.read mcp.admin"})));
    let carol = entra_user("carol");
    let github = exchange(&mut engine, &token, "github");
    exchange(&mut engine, &carol, "carols");
    let admin = engine.exchange(bearer("/github/admin", &token), &issued("admin"));
    assert_eq!(sent(admin).0, "Bearer admin");
    is(rejected(&mut engine, &github), AGAIN);
    assert_eq!(warm(&mut engine, &carol).0, "Bearer carols");
    assert_eq!(sent(engine.decide(bearer("/github/admin", &token))).0, "Bearer admin");
    assert_eq!(asks_anew(&mut engine, &token), Some(None));
}

#[test]
fn other_answers_go_on_without_what_the_upstream_wants_of_us() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let sent = exchange(&mut engine, &token, "up");
    for status in [0, 101, 200, 204, 302, 400, 402, 403, 404, 407, 500, 502, 503, 599, u16::MAX] {
        match engine.inner.upstream_answered(&sent, &answer(status, &[&challenge(CLAIMS)]), engine.now) {
            Response::PassOn { remove } => assert_eq!(remove, ["www-authenticate"]),
            Response::Instead(_) => panic!("{status}"),
        }
    }
    assert_eq!(warm(&mut engine, &token).0, "Bearer up");
}

#[test]
fn a_request_on_an_open_path_is_of_no_interest_when_it_is_answered() {
    let mut engine = TestEngine::ready();
    assert!(forwarded(engine.decide(request("GET", "/healthz", &[]))).sent.is_none());
}

#[test]
fn a_claims_challenge_is_asked_of_the_provider_from_then_on() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let first = exchange(&mut engine, &token, "first");
    let answer = instead(&mut engine, &first, &answer(401, &["Basic", &challenge(CLAIMS)]));
    is(reason(&answer), AGAIN);
    assert_eq!(header(&answer, "www-authenticate"), None);

    later(&mut engine);
    let id = engine.send_waiting(bearer("/github", &token));
    let (flight, call) = engine.expect_call();
    assert_eq!(form(&call)["claims"], CLAIMS);
    let reply = answer_with(200, &[], &json!({"access_token": "better", "token_type": "Bearer", "expires_in": 1000}));
    let (waited, step) = engine.reply(flight, &reply).remove(0);
    assert_eq!((waited, sent(step).0.as_str()), (id, "Bearer better"));

    // The one that follows it must be as good.
    engine.advance(969);
    assert_eq!(warm(&mut engine, &token).0, "Bearer better");
    assert_eq!(form(&engine.expect_call().1)["claims"], CLAIMS);
    // Nobody else's does.
    assert_eq!(asks_anew(&mut engine, &entra_user("carol")), Some(None));
}

/// What the client gets when the provider wants the user to act, `more` in its answer.
fn provider_wants_the_user(token: &str, more: Value) -> LocalAnswer {
    let mut engine = TestEngine::ready();
    let first = exchange(&mut engine, token, "first");
    is(reason(&instead(&mut engine, &first, &answer(401, &[&challenge(CLAIMS)]))), AGAIN);
    let refusal = answer_with(400, &[], &with(json!({"error": "interaction_required"}), more));
    answered(engine.exchange(bearer("/github", token), &refusal))
}

#[test]
fn what_only_the_user_can_satisfy_is_relayed_to_clients_that_understand_it() {
    let able = ENTRA_KEY.token(&with(alice(), json!({"xms_cc": ["cp1"]})));
    let theirs = r#"{"access_token":{"other":{"essential":true}}}"#;
    for (more, relayed) in [(json!({"claims": theirs}), theirs), (json!({}), CLAIMS)] {
        let answer = provider_wants_the_user(&able, more.clone());
        assert_eq!(answer.status, 401);
        let challenge = header(&answer, "www-authenticate").unwrap();
        use base64::Engine as _;
        let claims = base64::prelude::BASE64_STANDARD.encode(relayed);
        assert!(challenge.contains(r#"error="insufficient_claims""#), "{challenge}");
        assert!(challenge.ends_with(&format!(r#"claims="{claims}""#)), "{challenge}");
        assert!(challenge.contains("https://mcp.acme.example/.well-known/"), "{challenge}");

        let answer = provider_wants_the_user(&alice_token(), more);
        is(reason(&answer), (403, "interaction_required"));
        assert_eq!(header(&answer, "www-authenticate"), None);
    }
}

#[test]
fn claims_that_the_provider_takes_for_a_mistake_are_not_asked_for_again() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let first = exchange(&mut engine, &token, "first");
    instead(&mut engine, &first, &answer(401, &[&challenge(CLAIMS)]));
    let mistake = answer_with(400, &[], &json!({"error": "invalid_request"}));
    is(refused(engine.exchange(bearer("/github", &token), &mistake)), (502, "exchange_misconfigured"));
    engine.advance(30);
    assert_eq!(asks_anew(&mut engine, &token), Some(None));
}

#[test]
fn a_provider_that_knows_no_claims_is_asked_for_none() {
    let mut engine = TestEngine::ready();
    let token = bob_token();
    let first = exchange(&mut engine, &token, "first");
    is(reason(&instead(&mut engine, &first, &answer(401, &[&challenge(CLAIMS)]))), AGAIN);
    assert_eq!(asks_anew(&mut engine, &token), Some(None));
}

#[test]
fn a_challenge_that_is_nonsense_is_a_rejection_like_others() {
    for value in [&b"Bearer error=\"insufficient_claims\", claims=\"%%%\""[..], b"\xff\xfe", b"", b"\",=\\"] {
        let mut engine = TestEngine::ready();
        let token = alice_token();
        let first = exchange(&mut engine, &token, "first");
        let headers = vec![("www-authenticate".to_owned(), value.to_vec()); 3];
        is(reason(&instead(&mut engine, &first, &Answer { status: 401, headers, body: Vec::new() })), AGAIN);
        assert_eq!(asks_anew(&mut engine, &token), Some(None));
    }
}

#[test]
fn a_clock_that_went_back_does_not_keep_a_rejected_token() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    engine.advance(3000);
    let first = exchange(&mut engine, &token, "first");
    is(rejected(&mut engine, &first), AGAIN);
    engine.now = NOW;
    let second = exchange(&mut engine, &token, "second");
    is(rejected(&mut engine, &second), AGAIN);
}

#[test]
fn no_text_of_the_upstreams_reaches_the_client() {
    let mut engine = TestEngine::ready();
    let first = exchange(&mut engine, &alice_token(), "first");
    let answer = instead(&mut engine, &first, &answer(401, &["Bearer realm=\"XYZZY\", error=\"XYZZY\""]));
    assert!(!format!("{answer:?}").contains("XYZZY"));
}

/// Workers of one process.
fn workers<const N: usize>() -> [TestEngine; N] {
    let shared = SharedMap::default();
    let mut workers = [(); N].map(|()| TestEngine::sharing(&configuration(), &shared));
    workers[0].tick();
    workers[0].serve_keys();
    workers.iter_mut().for_each(|worker| drop(worker.tick()));
    workers
}

#[test]
fn a_dropped_token_is_not_handed_back_by_another_worker() {
    let [mut one, mut other] = workers();
    let token = alice_token();
    let first = exchange(&mut one, &token, "first");
    let (authorization, others_first) = warm(&mut other, &token);
    assert_eq!(authorization, "Bearer first", "workers share it");

    is(rejected(&mut one, &first), AGAIN);
    exchange(&mut one, &token, "second");
    other.now = one.now;
    // Where the message has not come yet, it has the old one still, learns that it is no good, and finds the next.
    let (authorization, _) = warm(&mut other, &token);
    assert_eq!(authorization, "Bearer first");
    is(rejected(&mut other, &others_first), AGAIN);
    assert_eq!(warm(&mut other, &token).0, "Bearer second");
    other.expect_no_call();
}

#[test]
fn a_rejected_token_is_dropped_by_all_workers() {
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
    // The first that is asked exchanges, and the others have what it brings.
    exchange(&mut three, &token, "second");
    for other in [&mut one, &mut two, &mut four] {
        other.now = three.now;
        assert_eq!(warm(other, &token).0, "Bearer second");
        other.expect_no_call();
    }
    // What was under way meanwhile says nothing of the next one.
    is(rejected(&mut two, &others_first), AGAIN);
    assert_eq!(warm(&mut two, &token).0, "Bearer second");
}

#[test]
fn a_token_is_exchanged_anew_once_in_a_minute_by_all_workers_together() {
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

/// Two workers that had the same token, and what the one has told the other of its end.
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
fn a_message_that_no_worker_has_sent_drops_nothing() {
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
fn a_late_message_drops_no_newer_token() {
    let token = alice_token();
    let ([mut one, mut two], message) = workers_and_message(&token);
    two.inner.message(&message, two.now);
    one.now = one.now.plus(std::time::Duration::from_secs(61));
    let second = exchange(&mut one, &token, "second");
    two.now = one.now;
    assert_eq!(warm(&mut two, &token).0, "Bearer second");
    two.inner.message(&message, two.now);
    assert_eq!(warm(&mut two, &token).0, "Bearer second");
    // Nor does it make the next rejection a second one within a minute.
    is(rejected(&mut one, &second), AGAIN);
}

#[test]
fn a_worker_that_has_ended_is_told_nothing() {
    let [mut one, mut two] = workers();
    let token = alice_token();
    one.advance(91);
    one.tick();
    let first = exchange(&mut one, &token, "first");
    is(rejected(&mut one, &first), AGAIN);
    assert_eq!(two.deliver_messages(), 0);
    // One that comes back to life is in the list again.
    two.now = one.now;
    two.tick();
    let bob = bob_token();
    let first = exchange(&mut one, &bob, "first");
    is(rejected(&mut one, &first), AGAIN);
    assert_eq!(two.deliver_messages(), 1);
}

fn users(count: usize) -> Vec<String> {
    (0..count).map(|user| entra_user(&format!("user-{user}"))).collect()
}

/// A request with that token, and the exchange that it may need, which brings `upstream`. Whether it was needed.
fn served(engine: &mut TestEngine, token: &str, upstream: &str) -> (Sent, bool) {
    later(engine);
    let (_, step) = engine.send(bearer("/github", token));
    if !matches!(step, Step::Wait) {
        return (sent(step).1, false);
    }
    let (flight, _) = engine.expect_call();
    (sent(engine.only_step(flight, &issued(upstream))).1, true)
}

#[test]
fn an_upstream_that_rejects_everybodys_tokens_does_not_drain_the_provider() {
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
    // Another resource has another upstream.
    let token = ENTRA_KEY.token(&with(alice(), json!({"scp": "mcp.read mcp.admin"})));
    let admin = sent(engine.exchange(bearer("/github/admin", &token), &issued("admin"))).1;
    is(rejected(&mut engine, &admin), AGAIN);
}

#[test]
fn an_upstream_that_rejects_tokens_of_users_who_seldom_come_does_not_drain_the_provider_either() {
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
    // Their first, one after it was dropped, and a few to see that it is no better.
    assert!((200..220).contains(&exchanges), "{exchanges}");
}

#[test]
fn everybody_gets_another_token_where_that_is_better() {
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
                (_, Step::Wait) => {
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
fn an_upstream_that_rejects_everything_is_tried_again_after_the_minute() {
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
fn one_users_rejected_tokens_keep_nobody_else_from_another() {
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

const OTHER_CLAIMS: &str = r#"{"access_token":{"acrs":{"essential":true,"value":"c2"}}}"#;

#[test]
fn other_claims_that_are_wanted_soon_are_asked_for_once() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let first = exchange(&mut engine, &token, "first");
    is(rejected(&mut engine, &first), AGAIN);
    let second = exchange(&mut engine, &token, "second");
    is(reason(&instead(&mut engine, &second, &answer(401, &[&challenge(CLAIMS)]))), AGAIN);
    later(&mut engine);
    engine.send_waiting(bearer("/github", &token));
    let (flight, call) = engine.expect_call();
    assert_eq!(form(&call)["claims"], CLAIMS);
    let third = sent(engine.only_step(flight, &issued("third"))).1;
    // One that always wants something else is an upstream that rejects everything, but what it wants is not forgotten.
    later(&mut engine);
    let (_, third_again) = warm(&mut engine, &token);
    assert!(third_again.at() > third.at());
    is(reason(&instead(&mut engine, &third_again, &answer(401, &[&challenge(OTHER_CLAIMS)]))), NO_USE);
    engine.advance(60);
    let (_, late) = warm(&mut engine, &token);
    is(rejected(&mut engine, &late), AGAIN);
    assert_eq!(asks_anew(&mut engine, &token), Some(Some(OTHER_CLAIMS.to_owned())));
}

#[test]
fn a_renewal_that_was_under_way_when_claims_were_wanted_is_followed_by_an_exchange_with_them() {
    let mut engine = TestEngine::ready();
    let token = ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() + 86_400})));
    exchange(&mut engine, &token, "first");
    engine.advance(3300);
    let (_, first) = warm(&mut engine, &token);
    let (renewal, call) = engine.expect_call();
    assert!(!form(&call).contains_key("claims"));
    is(reason(&instead(&mut engine, &first, &answer(401, &[&challenge(CLAIMS)]))), AGAIN);
    later(&mut engine);
    engine.reply(renewal, &issued("without"));
    later(&mut engine);
    let (authorization, without) = warm(&mut engine, &token);
    assert_eq!(authorization, "Bearer without");
    is(reason(&instead(&mut engine, &without, &answer(401, &[&challenge(CLAIMS)]))), AGAIN);
    assert_eq!(asks_anew(&mut engine, &token), Some(Some(CLAIMS.to_owned())));
}

#[test]
fn a_token_that_was_renewed_meanwhile_is_not_dropped_for_the_one_before() {
    let mut configuration = configuration();
    configuration["cache"] = json!({"shared_tokens": 0});
    let mut engine = TestEngine::new(&configuration).with_keys();
    let token = ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() + 86_400})));
    exchange(&mut engine, &token, "first");
    engine.advance(3300);
    let (_, first) = warm(&mut engine, &token);
    let (renewal, _) = engine.expect_call();
    engine.reply(renewal, &issued("second"));
    is(rejected(&mut engine, &first), AGAIN);
    assert_eq!(warm(&mut engine, &token).0, "Bearer second");
}

#[test]
fn claims_that_one_upstream_wants_are_not_forgotten_for_those_of_another() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let first = exchange(&mut engine, &token, "first");
    is(reason(&instead(&mut engine, &first, &answer(401, &[&challenge(CLAIMS)]))), AGAIN);
    for user in 0..300 {
        let token = ENTRA_KEY.token(&with(alice(), json!({"oid": format!("u{user}"), "scp": "mcp.read mcp.admin"})));
        engine.advance(u64::from(user % 10 == 0));
        let admin = sent(engine.exchange(bearer("/github/admin", &token), &issued("admin"))).1;
        is(reason(&instead(&mut engine, &admin, &answer(401, &[&challenge(CLAIMS)]))), AGAIN);
    }
    assert_eq!(asks_anew(&mut engine, &token), Some(Some(CLAIMS.to_owned())));
}

#[test]
fn a_dropped_token_is_withdrawn_that_had_no_place_here_any_more() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["cache"] = json!({"exchanged_tokens": 1});
    let mut engine = TestEngine::sharing(&configuration, &shared).with_keys();
    let token = alice_token();
    let first = exchange(&mut engine, &token, "first");
    exchange(&mut engine, &entra_user("carol"), "carols");
    is(rejected(&mut engine, &first), AGAIN);
    // Another worker, which has rejected nothing, does not find it either.
    let mut other = TestEngine::sharing(&configuration, &shared);
    other.now = engine.now;
    other.tick();
    assert_eq!(asks_anew(&mut other, &token), Some(None));
}

#[test]
fn a_renewal_that_fails_does_not_bring_a_dropped_token_back() {
    let shared = SharedMap::default();
    let [mut one, mut other] = [0, 1].map(|_| TestEngine::sharing(&configuration(), &shared));
    one.tick();
    one.serve_keys();
    other.tick();
    let token = ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() + 86_400})));
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
    other.reply(renewal, &unavailable());
    assert_eq!(warm(&mut other, &token).0, "Bearer first", "it does not know better yet");
    // Neither who has rejected it, nor who has never seen it, finds it.
    let mut third = TestEngine::sharing(&configuration(), &shared);
    third.now = other.now.plus(std::time::Duration::from_secs(1));
    third.tick();
    assert_eq!(asks_anew(&mut third, &token), Some(None));
}

fn unavailable() -> onbehalf::http::Reply {
    answer_with(503, &[], &json!({}))
}

#[test]
fn a_dropped_token_that_somebody_puts_back_is_not_taken_over() {
    let shared = SharedMap::default();
    let mut engine = TestEngine::sharing(&configuration(), &shared).with_keys();
    let token = alice_token();
    let first = exchange(&mut engine, &token, "first");
    let before = shared.copy();
    is(rejected(&mut engine, &first), AGAIN);
    shared.put_back(&before);
    exchange(&mut engine, &token, "second");
    // And what has come since then replaces it, though it ends no later.
    let mut other = TestEngine::sharing(&configuration(), &shared);
    other.now = engine.now;
    other.tick();
    assert_eq!(warm(&mut other, &token).0, "Bearer second");
}

#[test]
fn a_clock_that_went_back_does_not_make_a_rejected_token_good() {
    let shared = SharedMap::default();
    let mut engine = TestEngine::sharing(&configuration(), &shared).with_keys();
    let token = alice_token();
    let first = exchange(&mut engine, &token, "first");
    let before = shared.copy();
    engine.advance(100);
    is(rejected(&mut engine, &first), AGAIN);
    engine.now = NOW.plus(std::time::Duration::from_secs(10));
    shared.put_back(&before);
    exchange(&mut engine, &token, "second");
}

/// The messages of all come to all.
fn deliver(workers: &mut [TestEngine]) {
    let latest = workers.iter().map(|worker| worker.now).max().unwrap();
    for worker in workers {
        worker.now = latest;
        worker.deliver_messages();
    }
}

#[test]
fn claims_that_one_worker_learns_are_asked_for_by_any_that_exchanges() {
    let mut workers: [TestEngine; 4] = workers();
    let token = alice_token();
    let first = exchange(&mut workers[0], &token, "first");
    is(reason(&instead(&mut workers[0], &first, &answer(401, &[&challenge(CLAIMS)]))), AGAIN);
    deliver(&mut workers);
    later(&mut workers[1]);
    workers[1].send_waiting(bearer("/github", &token));
    let (flight, call) = workers[1].expect_call();
    assert_eq!(form(&call).get("claims").map(String::as_str), Some(CLAIMS));
    let second = sent(workers[1].only_step(flight, &issued("second"))).1;
    // Once more within the minute, and then no other is asked for, at no worker.
    deliver(&mut workers);
    is(reason(&instead(&mut workers[1], &second, &answer(401, &[&challenge(CLAIMS)]))), AGAIN);
    deliver(&mut workers);
    let third = exchange(&mut workers[2], &token, "third");
    deliver(&mut workers);
    is(reason(&instead(&mut workers[2], &third, &answer(401, &[&challenge(CLAIMS)]))), NO_USE);
    deliver(&mut workers);
    workers.iter_mut().for_each(|worker| worker.advance(61));
    let (_, late) = warm(&mut workers[2], &token);
    is(rejected(&mut workers[2], &late), AGAIN);
    deliver(&mut workers);
    // What is wanted is known to a worker that has seen none of it.
    assert_eq!(asks_anew(&mut workers[3], &token), Some(Some(CLAIMS.to_owned())));
    // Nobody else's token is asked for with them, and none for another resource.
    assert_eq!(asks_anew(&mut workers[1], &entra_user("carol")), Some(None));
}

#[test]
fn a_worker_with_a_token_of_its_own_drops_that_when_it_is_rejected_too() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["cache"] = json!({"shared_tokens": 0});
    let mut workers: [TestEngine; 4] =
        std::array::from_fn(|_| TestEngine::sharing(&configuration, &shared).with_keys());
    let token = alice_token();
    let sent = [0, 1, 2, 3].map(|number| exchange(&mut workers[number], &token, &format!("first-{number}")));
    // The user's session is over at the upstream, whichever token comes.
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

#[test]
fn sixteen_tokens_of_a_resource_are_dropped_in_a_second_by_each_worker() {
    let mut workers: [TestEngine; 4] = workers();
    let users = users(100);
    let mut sent: Vec<Vec<Sent>> = vec![Vec::new(); 4];
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
fn one_user_with_many_tokens_keeps_nobody_else_from_another() {
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
