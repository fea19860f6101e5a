//! gRPC: an upstream rejects a token with status 200 and `grpc-status` 16 in the header, without content.

use onbehalf::engine::UpstreamAction;
use onbehalf::http::Response;
use onbehalf_test_support::{TestEngine, alice_token, reason};

use super::{AGAIN, NO_USE, exchange, instead, is, warm};

fn grpc(status: u16, grpc_status: &str) -> Response {
    let field = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    let headers = vec![field("content-type", "application/grpc"), field("grpc-status", grpc_status)];
    Response { status, headers, body: Vec::new() }
}

#[test]
fn grpc_status_16_counts_as_a_401() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let first = exchange(&mut engine, &token, "first");
    is(reason(&instead(&mut engine, &first, &grpc(200, "16"))), AGAIN);
    let second = exchange(&mut engine, &token, "second");
    is(reason(&instead(&mut engine, &second, &grpc(200, "16"))), NO_USE);
    assert_eq!(warm(&mut engine, &token).0, "Bearer second");
}

#[test]
fn other_grpc_statuses_pass_and_keep_the_token() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let first = exchange(&mut engine, &token, "first");
    let others = ["0", "7", "14", "1", "6", "160", "016", "-16", "16.0", "", "x"];
    for answer in others.map(|other| grpc(200, other)).into_iter().chain([grpc(403, "16"), grpc(503, "16")]) {
        let action = engine.inner.on_upstream_response(&first, &answer, engine.now);
        assert!(matches!(action, UpstreamAction::PassOn { .. }), "{} {:?}", answer.status, answer.headers);
    }
    assert_eq!(warm(&mut engine, &token).0, "Bearer first");
}
