//! JWKS in shared memory: one worker fetches the keys of an issuer for all workers of the process.

mod fetch;
mod idle_vm;
mod records;

use onbehalf::engine::Step;
use onbehalf::http::{Call, Reply};
use onbehalf_test_support::{
    OTHER_KEY, SharedMap, TestEngine, alice_token, answer, bearer, configuration as usual, key_set, provider_document,
};
use serde_json::json;

/// One in which each worker exchanges for itself: here it is about what comes before.
fn configuration() -> serde_json::Value {
    let mut configuration = usual();
    configuration["cache"] = json!({"shared_tokens": 0});
    configuration
}

fn workers<const N: usize>(shared: &SharedMap) -> [TestEngine; N] {
    std::array::from_fn(|_| TestEngine::sharing(&configuration(), shared))
}

/// The same with one provider.
fn workers_of_entra<const N: usize>(shared: &SharedMap) -> [TestEngine; N] {
    std::array::from_fn(|_| TestEngine::sharing(&entra_alone(), shared))
}

/// Lets every call of a worker be answered; gives the URLs.
fn serve_with(engine: &mut TestEngine, answer: impl Fn(&Call) -> Reply) -> Vec<String> {
    let mut urls = Vec::new();
    while let Some((flight, call)) = engine.inner.next_call() {
        urls.push(call.url.as_str().to_owned());
        engine.reply(flight, &answer(&call));
    }
    urls
}

/// The same as the providers do.
fn serve(engine: &mut TestEngine) -> Vec<String> {
    serve_with(engine, provider_document)
}

/// The same as they do when the one has another key.
fn with_another_key(call: &Call) -> Reply {
    let is_keys = call.url.as_str().ends_with("discovery/v2.0/keys");
    if is_keys { answer(200, &key_set(&[&OTHER_KEY])) } else { provider_document(call) }
}

/// A worker that has fetched all keys.
fn served(shared: &SharedMap) -> TestEngine {
    let mut engine = TestEngine::sharing(&configuration(), shared);
    engine.tick();
    serve(&mut engine);
    engine
}

/// Whether a token of Alice's gets as far as its exchange.
fn is_admitted(engine: &mut TestEngine, token: &str) -> bool {
    let step = engine.decide(bearer("/github", token));
    let is_posted = engine.inner.next_call().is_some_and(|(_, call)| call.method == "POST");
    matches!(step, Step::Wait) && is_posted
}

/// A configuration with one provider.
fn entra_alone() -> serde_json::Value {
    let mut configuration = configuration();
    configuration["identity_providers"].as_object_mut().unwrap().remove("okta-eu");
    for resource in configuration["resources"].as_array_mut().unwrap() {
        resource["exchange"].as_object_mut().unwrap().remove("okta-eu");
    }
    configuration
}

fn github() -> onbehalf::http::Request {
    bearer("/github", &alice_token())
}
