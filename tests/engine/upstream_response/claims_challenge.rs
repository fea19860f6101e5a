//! Claims challenges of the upstream (`insufficient_claims`).

use onbehalf::http::LocalReply;
use onbehalf_test_support::{
    ENTRA_KEY, SharedMap, TestEngine, alice, alice_day_token, alice_token, answer_with, answered, bearer, bob_token,
    configuration, entra_user, form, header, issued, reason, refused, with,
};
use serde_json::{Value, json};

use super::{
    AGAIN, CLAIMS, NO_USE, answer, asks_anew, challenge, deliver, exchange, instead, is, later, rejected, sent, warm,
    workers,
};

#[test]
fn claims_challenge_is_sent_to_the_provider_from_then_on() {
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
    let (waited, step) = engine.callout_result(flight, &reply).remove(0);
    assert_eq!((waited, sent(step).0.as_str()), (id, "Bearer better"));

    // The renewal asks for the same claims.
    engine.advance(969);
    assert_eq!(warm(&mut engine, &token).0, "Bearer better");
    assert_eq!(form(&engine.expect_call().1)["claims"], CLAIMS);
    // Requests of other users send no claims.
    assert_eq!(asks_anew(&mut engine, &entra_user("carol")), Some(None));
}

/// The local reply when the provider requires interaction, with more members in its response.
fn provider_wants_the_user(token: &str, more: Value) -> LocalReply {
    let mut engine = TestEngine::ready();
    let first = exchange(&mut engine, token, "first");
    is(reason(&instead(&mut engine, &first, &answer(401, &[&challenge(CLAIMS)]))), AGAIN);
    let refusal = answer_with(400, &[], &with(json!({"error": "interaction_required"}), more));
    answered(engine.exchange(bearer("/github", token), &refusal))
}

#[test]
fn user_interaction_is_relayed_to_clients_that_understand_claims() {
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
fn claims_refused_by_the_provider_are_not_sent_again() {
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
fn provider_without_claims_parameter_gets_none() {
    let mut engine = TestEngine::ready();
    let token = bob_token();
    let first = exchange(&mut engine, &token, "first");
    is(reason(&instead(&mut engine, &first, &answer(401, &[&challenge(CLAIMS)]))), AGAIN);
    assert_eq!(asks_anew(&mut engine, &token), Some(None));
}

const OTHER_CLAIMS: &str = r#"{"access_token":{"acrs":{"essential":true,"value":"c2"}}}"#;

#[test]
fn second_claims_challenge_soon_after_is_sent_once() {
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
    // An upstream that demands other claims each time counts as one that rejects every token, but its claims are kept.
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
fn renewal_in_flight_is_followed_by_an_exchange_with_claims() {
    let mut engine = TestEngine::ready();
    let token = alice_day_token();
    exchange(&mut engine, &token, "first");
    engine.advance(3300);
    let (_, first) = warm(&mut engine, &token);
    let (renewal, call) = engine.expect_call();
    assert!(!form(&call).contains_key("claims"));
    is(reason(&instead(&mut engine, &first, &answer(401, &[&challenge(CLAIMS)]))), AGAIN);
    later(&mut engine);
    engine.callout_result(renewal, &issued("without"));
    later(&mut engine);
    let (authorization, without) = warm(&mut engine, &token);
    assert_eq!(authorization, "Bearer without");
    is(reason(&instead(&mut engine, &without, &answer(401, &[&challenge(CLAIMS)]))), AGAIN);
    assert_eq!(asks_anew(&mut engine, &token), Some(Some(CLAIMS.to_owned())));
}

#[test]
fn claims_of_one_upstream_are_kept_when_another_sends_its_own() {
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
fn claims_reach_a_listener_that_has_its_resources_in_another_order() {
    for change in
        [<[Value]>::reverse, |resources: &mut [Value]| resources[1]["url"] = json!("https://other.example/mcp")]
    {
        let shared = SharedMap::default();
        let mut others = configuration();
        change(others["resources"].as_array_mut().unwrap());
        let mut listeners =
            [configuration(), others].map(|configuration| TestEngine::sharing(&configuration, &shared).with_keys());
        let token = alice_token();
        let first = exchange(&mut listeners[0], &token, "first");
        is(reason(&instead(&mut listeners[0], &first, &answer(401, &[&challenge(CLAIMS)]))), AGAIN);
        deliver(&mut listeners);
        assert_eq!(asks_anew(&mut listeners[1], &token), Some(Some(CLAIMS.to_owned())));
    }
}

#[test]
fn claims_learned_by_one_worker_are_sent_by_every_worker() {
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
    // One more exchange happens within the minute, and then none at any worker.
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
    // A worker that has seen no challenge knows the claims.
    assert_eq!(asks_anew(&mut workers[3], &token), Some(Some(CLAIMS.to_owned())));
    // Exchanges for other users and other resources send no claims.
    assert_eq!(asks_anew(&mut workers[1], &entra_user("carol")), Some(None));
}
