//! Sessions of MCP: an upstream that has forgotten a session may answer 401 to its id, whatever the token.

use onbehalf::engine::{Decision, ForwardedRequest, UpstreamAction};
use onbehalf_test_support::{TestEngine, alice_token, bearer, entra_user, header, issued, reason, request};

use super::{AGAIN, CLAIMS, NO_USE, answer, asks_anew, challenge, exchange, instead, is, later, rejected, sent, warm};

const GONE: (u16, &str) = (404, "upstream_session_gone");

/// Sends a request with the id of a session, and lets its exchange, if any, bring `upstream`.
fn in_session(engine: &mut TestEngine, token: &str, upstream: &str) -> ForwardedRequest {
    later(engine);
    let authorization = format!("Bearer {token}");
    let fields = [("authorization", authorization.as_str()), ("mcp-session-id", "old")];
    let (_, step) = engine.send(request("POST", "/github", &fields));
    if !matches!(step, Decision::Pause) {
        return sent(step).1;
    }
    let (flight, _) = engine.expect_call();
    sent(engine.only_step(flight, &issued(upstream))).1
}

#[test]
fn session_that_the_upstream_has_forgotten_gets_404() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    // The token may be what is rejected, so it is replaced once.
    let first = in_session(&mut engine, &token, "first");
    is(rejected(&mut engine, &first), AGAIN);
    let second = in_session(&mut engine, &token, "second");
    let gone = instead(&mut engine, &second, &answer(401, &[]));
    is(reason(&gone), GONE);
    assert_eq!((header(&gone, "retry-after"), header(&gone, "www-authenticate")), (None, None));
    // A second session of the user costs no exchange, also later.
    engine.advance(300);
    let third = in_session(&mut engine, &token, "none");
    is(rejected(&mut engine, &third), GONE);
    assert_eq!(warm(&mut engine, &token).0, "Bearer second", "its new session has this token");
}

#[test]
fn forgotten_sessions_of_many_users_do_not_concern_another() {
    let mut engine = TestEngine::ready();
    for user in 0..10 {
        let token = entra_user(&format!("user-{user}"));
        let first = in_session(&mut engine, &token, "first");
        is(rejected(&mut engine, &first), AGAIN);
        for _ in 0..3 {
            let second = in_session(&mut engine, &token, "second");
            is(rejected(&mut engine, &second), GONE);
        }
    }
    let carol = entra_user("carol");
    let first = exchange(&mut engine, &carol, "first");
    is(rejected(&mut engine, &first), AGAIN);
    exchange(&mut engine, &carol, "second");
}

#[test]
fn new_session_that_is_rejected_shows_that_the_token_is() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let first = in_session(&mut engine, &token, "first");
    is(rejected(&mut engine, &first), AGAIN);
    let second = in_session(&mut engine, &token, "second");
    is(rejected(&mut engine, &second), GONE);
    let (_, initialize) = warm(&mut engine, &token);
    is(rejected(&mut engine, &initialize), NO_USE);
    engine.advance(60);
    let (_, initialize) = warm(&mut engine, &token);
    is(rejected(&mut engine, &initialize), AGAIN);
    assert_eq!(asks_anew(&mut engine, &token), Some(None));
}

#[test]
fn session_id_saves_no_upstream_that_rejects_everything() {
    let mut engine = TestEngine::ready();
    for user in 0..3 {
        let token = entra_user(&format!("user-{user}"));
        let first = in_session(&mut engine, &token, "first");
        is(rejected(&mut engine, &first), AGAIN);
        let second = in_session(&mut engine, &token, "second");
        is(rejected(&mut engine, &second), GONE);
        let (_, initialize) = warm(&mut engine, &token);
        is(rejected(&mut engine, &initialize), NO_USE);
    }
    let fourth = in_session(&mut engine, &entra_user("fourth"), "first");
    is(rejected(&mut engine, &fourth), NO_USE);
}

#[test]
fn claims_challenge_in_a_session_is_about_the_token() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let first = in_session(&mut engine, &token, "first");
    is(rejected(&mut engine, &first), AGAIN);
    let second = in_session(&mut engine, &token, "second");
    is(reason(&instead(&mut engine, &second, &answer(401, &[&challenge(CLAIMS)]))), AGAIN);
    let third = in_session(&mut engine, &token, "third");
    is(reason(&instead(&mut engine, &third, &answer(401, &[&challenge(CLAIMS)]))), NO_USE);
}

#[test]
fn answer_404_of_the_upstream_passes_and_keeps_the_token() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let first = in_session(&mut engine, &token, "first");
    let action = engine.inner.on_upstream_response(&first, &answer(404, &[]), engine.now);
    assert!(matches!(action, UpstreamAction::PassOn { .. }));
    assert_eq!(sent(engine.decide(bearer("/github", &token))).0, "Bearer first");
}
