//! Rejected tokens in one worker.

use onbehalf::engine::{Decision, ForwardedRequest, UpstreamAction};
use onbehalf::http::Response;
use onbehalf_test_support::{
    ENTRA_KEY, NOW, SharedMap, TestEngine, alice, alice_day_token, alice_token, bearer, configuration, entra_user,
    forwarded, header, issued, reason, request, with,
};
use serde_json::json;

use super::{AGAIN, CLAIMS, NO_USE, answer, asks_anew, challenge, exchange, instead, is, later, rejected, sent, warm};

#[test]
fn token_rejected_by_the_upstream_is_not_used_again() {
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
fn upstream_that_rejects_every_token_costs_one_exchange_a_minute() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let first = exchange(&mut engine, &token, "0");
    is(rejected(&mut engine, &first), AGAIN);
    let mut exchanges = 0;
    for second in 0..600 {
        engine.now = NOW.plus(std::time::Duration::from_secs(second));
        let (id, step) = engine.send(bearer("/github", &token));
        let step = match step {
            Decision::Pause => {
                exchanges += 1;
                let (flight, _) = engine.expect_call();
                later(&mut engine);
                let (waited, step) = engine.callout_result(flight, &issued("next")).remove(0);
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
fn second_rejected_token_stays_in_use_for_a_minute() {
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
fn responses_in_flight_do_not_drop_the_next_token() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let first = exchange(&mut engine, &token, "first");
    let late: Vec<ForwardedRequest> = (0..3).map(|_| warm(&mut engine, &token).1).collect();
    is(rejected(&mut engine, &first), AGAIN);
    is(rejected(&mut engine, &late[0]), AGAIN);
    exchange(&mut engine, &token, "second");
    is(rejected(&mut engine, &late[1]), AGAIN);
    engine.advance(120);
    is(rejected(&mut engine, &late[2]), AGAIN);
    assert_eq!(warm(&mut engine, &token).0, "Bearer second");
}

#[test]
fn token_is_dropped_for_one_user_and_one_resource() {
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
fn other_responses_pass_without_www_authenticate() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let sent = exchange(&mut engine, &token, "up");
    for status in [0, 101, 200, 204, 302, 400, 402, 403, 404, 407, 500, 502, 503, 599, u16::MAX] {
        match engine.inner.on_upstream_response(&sent, &answer(status, &[&challenge(CLAIMS)]), engine.now) {
            UpstreamAction::PassOn { remove } => assert_eq!(remove, ["www-authenticate"]),
            UpstreamAction::Instead(_) => panic!("{status}"),
        }
    }
    assert_eq!(warm(&mut engine, &token).0, "Bearer up");
}

#[test]
fn response_on_an_unauthenticated_path_is_ignored() {
    let mut engine = TestEngine::ready();
    assert!(forwarded(engine.decide(request("GET", "/healthz", &[]))).sent.is_none());
}

#[test]
fn malformed_challenge_counts_as_a_rejection() {
    for value in [&b"Bearer error=\"insufficient_claims\", claims=\"%%%\""[..], b"\xff\xfe", b"", b"\",=\\"] {
        let mut engine = TestEngine::ready();
        let token = alice_token();
        let first = exchange(&mut engine, &token, "first");
        let headers = vec![("www-authenticate".to_owned(), value.to_vec()); 3];
        is(reason(&instead(&mut engine, &first, &Response { status: 401, headers, body: Vec::new() })), AGAIN);
        assert_eq!(asks_anew(&mut engine, &token), Some(None));
    }
}

#[test]
fn clock_that_went_back_does_not_keep_a_rejected_token() {
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
fn text_of_the_upstream_never_reaches_the_client() {
    let mut engine = TestEngine::ready();
    let first = exchange(&mut engine, &alice_token(), "first");
    let answer = instead(&mut engine, &first, &answer(401, &["Bearer realm=\"XYZZY\", error=\"XYZZY\""]));
    assert!(!format!("{:?} {}", answer.headers, answer.body).contains("XYZZY"));
}

#[test]
fn renewed_token_survives_the_rejection_of_its_predecessor() {
    let mut configuration = configuration();
    configuration["cache"] = json!({"shared_tokens": 0});
    let mut engine = TestEngine::new(&configuration).with_keys();
    let token = alice_day_token();
    exchange(&mut engine, &token, "first");
    engine.advance(3300);
    let (_, first) = warm(&mut engine, &token);
    let (renewal, _) = engine.expect_call();
    engine.callout_result(renewal, &issued("second"));
    is(rejected(&mut engine, &first), AGAIN);
    assert_eq!(warm(&mut engine, &token).0, "Bearer second");
}

#[test]
fn clock_that_went_back_does_not_restore_a_rejected_token() {
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
