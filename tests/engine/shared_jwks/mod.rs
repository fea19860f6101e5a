//! JWKS in shared memory: one worker fetches the keys of an issuer for all workers of the process.

mod cold_start;
mod fetch;
mod idle_vm;
mod records;

use onbehalf::engine::Decision;
use onbehalf::http::{Callout, CalloutResult};
use onbehalf_test_support::{
    OTHER_KEY, SharedMap, TestEngine, alice_token, answer, bearer, key_set, only_entra, provider_document,
    without_shared_tokens,
};

fn workers<const N: usize>(shared: &SharedMap) -> [TestEngine; N] {
    std::array::from_fn(|_| TestEngine::sharing(&without_shared_tokens(), shared))
}

/// Workers with Entra alone.
fn workers_of_entra<const N: usize>(shared: &SharedMap) -> [TestEngine; N] {
    std::array::from_fn(|_| TestEngine::sharing(&only_entra(without_shared_tokens()), shared))
}

/// The providers' replies after Entra has replaced its key.
fn with_another_key(call: &Callout) -> CalloutResult {
    let is_keys = call.url.as_str().ends_with("discovery/v2.0/keys");
    if is_keys { answer(200, &key_set(&[&OTHER_KEY])) } else { provider_document(call) }
}

/// A worker that has the keys.
fn with_fetched_keys(shared: &SharedMap) -> TestEngine {
    let mut engine = TestEngine::sharing(&without_shared_tokens(), shared);
    engine.tick();
    engine.serve_calls(provider_document);
    engine
}

/// Returns `true` if a token of Alice is accepted and exchanged.
fn is_admitted(engine: &mut TestEngine, token: &str) -> bool {
    let step = engine.decide(bearer("/github", token));
    let is_posted = engine.inner.next_callout().is_some_and(|(_, call)| call.method == "POST");
    matches!(step, Decision::Pause) && is_posted
}

fn alice_request() -> onbehalf::http::Request {
    bearer("/github", &alice_token())
}
