//! Exchanged tokens in shared memory: workers of one process make one token request for all, and no other plugin reads the
//! token.

mod circuit_breaker;
mod conflicts;
mod exchange;
mod records;
mod refusals;
mod renewal;
mod throttling;

use onbehalf::engine::Decision;
use onbehalf_test_support::{
    ENTRA_KEY, SharedMap, TestEngine, alice, answer, answered, bearer, configuration, header, refused, with,
};
use serde_json::json;

/// Workers that have the providers' keys.
fn workers<const N: usize>(shared: &SharedMap) -> [TestEngine; N] {
    TestEngine::workers(&configuration(), shared)
}

fn github(token: &str) -> onbehalf::http::Request {
    bearer("/github", token)
}

/// Returns `true` if the next call of the worker is a token request.
fn exchanges(engine: &mut TestEngine) -> bool {
    engine.inner.next_callout().is_some_and(|(_, call)| call.method == "POST")
}

/// A new token of a user.
fn fresh(user: &str, at: &TestEngine) -> String {
    let claims = json!({"oid": user, "scp": "mcp.read mcp.admin", "uti": at.now.millis(), "exp": at.now.secs() + 600});
    ENTRA_KEY.token(&with(alice(), claims))
}

/// The `retry-after` of a refusal, in seconds.
fn told_to_wait(step: Decision) -> u64 {
    let answer = answered(step);
    assert_eq!(answer.status, 503, "{answer:?}");
    header(&answer, "retry-after").unwrap().parse().unwrap()
}

/// Returns `true` if `seconds` is a pause less up to a tenth of jitter, in whole seconds.
fn is_about(seconds: u64, pause: u64) -> bool {
    (pause - pause.div_ceil(10)..=pause).contains(&seconds)
}

/// Opens the circuit by three failures.
fn open_circuit(engine: &mut TestEngine, users: [&str; 3]) {
    for (number, user) in users.into_iter().enumerate() {
        let claims = json!({"oid": user, "uti": format!("closes-{number}"), "exp": engine.now.secs() + 600});
        let token = ENTRA_KEY.token(&with(alice(), claims));
        refused(engine.exchange(github(&token), &answer(503, b"")));
    }
    let other = fresh("other", engine);
    assert!(is_about(told_to_wait(engine.decide(github(&other))), 4));
    engine.expect_no_call();
}
