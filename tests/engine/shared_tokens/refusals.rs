//! Refusals that workers share.

use onbehalf::http::LocalReply;
use onbehalf::telemetry::Record;
use onbehalf_test_support::{
    ENTRA_KEY, NOW, OKTA_KEY, SharedMap, TestEngine, alice, answer_with, answered, authorization, bearer, bob,
    bob_token, entra_user, header, issued, refused, with,
};
use serde_json::json;
use std::time::Duration;

use super::{exchanges, github, workers};

#[test]
fn refusal_is_shared_with_all_workers_for_its_lifetime() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [TestEngine; 2] = workers(&shared);
    let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    let reply = answer_with(400, &[], &json!({"error": "interaction_required", "claims": claims}));
    let token = ENTRA_KEY.token(&with(alice(), json!({"xms_cc": "cp1"})));
    // Each refusal has the facts of its own request.
    let answered = |step| LocalReply { record: Record::default(), ..answered(step) };
    let at_first = answered(first.exchange(github(&token), &reply));
    assert_eq!(answered(second.decide(github(&token))), at_first, "with its challenge");
    let uri = "https://acme.okta.example/consent";
    let sent_there = answer_with(400, &[], &json!({"error": "interaction_required", "interaction_uri": uri}));
    let of_bob = answered(first.exchange(github(&bob_token()), &sent_there));
    assert!(of_bob.body.contains(uri));
    assert_eq!(answered(second.decide(github(&bob_token()))), of_bob, "and with where the user can act");
    second.advance(119);
    assert_eq!(answered(second.decide(github(&token))), at_first);
    second.advance(1);
    second.send_waiting(github(&token));
    assert!(exchanges(&mut second));
    // `retry-after` is the rest of the pause.
    let reply = answer_with(429, &[("retry-after", "20")], &json!({}));
    let carol = OKTA_KEY.token(&with(bob(), json!({"uid": "00ucarol"})));
    answered(first.exchange(github(&carol), &reply));
    second.now = first.now.plus(Duration::from_secs(5));
    let answer = answered(second.decide(github(&carol)));
    assert_eq!(header(&answer, "retry-after"), Some("15"));
}

#[test]
fn shared_token_serves_no_expired_subject_token() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [TestEngine; 2] = workers(&shared);
    // The provider's token lasts for another hour.
    let token = ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() + 600})));
    authorization(first.exchange(github(&token), &issued("up")));
    // The leeway for clocks is a minute.
    second.advance(659);
    assert_eq!(authorization(second.decide(github(&token))), "Bearer up");
    // A worker that has not seen the token does not serve it from the old record either.
    let [mut third]: [TestEngine; 1] = workers(&shared);
    for engine in [&mut first, &mut second, &mut third] {
        engine.now = NOW.plus(Duration::from_secs(660));
        assert_eq!(refused(engine.decide(github(&token))), (401, "expired".to_owned()));
        engine.expect_no_call();
    }
}

#[test]
fn shared_refusal_holds_for_one_token_and_one_resource() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [TestEngine; 2] = workers(&shared);
    let alices = |more: &str| ENTRA_KEY.token(&with(alice(), json!({"scp": "mcp.read mcp.admin", "uti": more})));
    let denied = answer_with(400, &[], &json!({"error": "access_denied"}));
    assert_eq!(refused(first.exchange(github(&alices("1")), &denied)).1, "exchange_denied");
    assert_eq!(refused(second.decide(github(&alices("1")))).1, "exchange_denied");
    let admin = bearer("/github/admin", &alices("1"));
    assert_eq!(authorization(second.exchange(admin, &issued("admin"))), "Bearer admin");
    for (token, issue) in [(alices("2"), "hers"), (entra_user("mallory"), "mallorys"), (bob_token(), "bobs")] {
        assert_eq!(authorization(second.exchange(github(&token), &issued(issue))), format!("Bearer {issue}"));
    }
    assert_eq!(refused(second.decide(github(&alices("1")))).1, "exchange_denied");
}
