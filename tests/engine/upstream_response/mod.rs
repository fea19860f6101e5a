//! Responses of the upstream: their effect on the token that the request carried, and the response that the client gets.

mod budgets;
mod claims_challenge;
mod grpc;
mod rejected_token;
mod replaced;
mod session;
mod workers;

use onbehalf::engine::{Decision, ForwardedRequest, UpstreamAction};
use onbehalf::http::{LocalReply, Response};
use onbehalf_test_support::{SharedMap, TestEngine, answered, bearer, configuration, form, forwarded, issued, reason};

const CLAIMS: &str = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;

fn challenge(claims: &str) -> String {
    use base64::Engine as _;
    let claims = base64::prelude::BASE64_STANDARD.encode(claims);
    format!(r#"Bearer realm="", error="insufficient_claims", claims="{claims}""#)
}

fn answer(status: u16, challenges: &[&str]) -> Response {
    let headers = challenges.iter().map(|value| ("www-authenticate".to_owned(), value.as_bytes().to_vec())).collect();
    Response { status, headers, body: Vec::new() }
}

/// The token of a forwarded request, and the record of its use.
fn sent(step: Decision) -> (String, ForwardedRequest) {
    let edits = forwarded(step);
    (edits.authorization.unwrap().reveal().to_owned(), edits.sent.expect("what it was sent with"))
}

/// Moves the clock, so that each request has its own time.
fn later(engine: &mut TestEngine) {
    engine.now = engine.now.plus(std::time::Duration::from_millis(1));
}

fn exchange(engine: &mut TestEngine, token: &str, upstream: &str) -> ForwardedRequest {
    later(engine);
    let (authorization, sent) = sent(engine.exchange(bearer("/github", token), &issued(upstream)));
    assert_eq!(authorization, format!("Bearer {upstream}"));
    sent
}

fn warm(engine: &mut TestEngine, token: &str) -> (String, ForwardedRequest) {
    later(engine);
    sent(engine.decide(bearer("/github", token)))
}

fn instead(engine: &mut TestEngine, sent: &ForwardedRequest, answer: &Response) -> LocalReply {
    later(engine);
    match engine.inner.on_upstream_response(sent, answer, engine.now) {
        UpstreamAction::Instead(step) => answered(step),
        UpstreamAction::PassOn { .. } => panic!("it went on"),
    }
}

fn rejected(engine: &mut TestEngine, sent: &ForwardedRequest) -> (u16, String) {
    reason(&instead(engine, sent, &answer(401, &["Bearer error=\"invalid_token\""])))
}

/// The `claims` of the exchange that the next request makes, or none if it makes no exchange. The provider does not
/// reply.
fn asks_anew(engine: &mut TestEngine, token: &str) -> Option<Option<String>> {
    later(engine);
    match engine.send(bearer("/github", token)) {
        (_, Decision::Pause) => Some(form(&engine.expect_call().1).get("claims").cloned()),
        (_, Decision::Forward(_)) => None,
        (_, Decision::Respond(answer)) => panic!("{answer:?}"),
    }
}

const AGAIN: (u16, &str) = (503, "upstream_rejected_token");

const NO_USE: (u16, &str) = (502, "upstream_rejects_tokens");

fn is((status, reason): (u16, String), expected: (u16, &str)) {
    assert_eq!((status, reason.as_str()), expected);
}

/// Workers of one process with the providers' keys.
fn workers<const N: usize>() -> [TestEngine; N] {
    let shared = SharedMap::default();
    let mut workers = [(); N].map(|()| TestEngine::sharing(&configuration(), &shared));
    workers[0].tick();
    workers[0].serve_keys();
    workers.iter_mut().for_each(|worker| drop(worker.tick()));
    workers
}

/// Delivers the messages of all workers.
fn deliver(workers: &mut [TestEngine]) {
    let latest = workers.iter().map(|worker| worker.now).max().unwrap();
    for worker in workers {
        worker.now = latest;
        worker.deliver_messages();
    }
}
