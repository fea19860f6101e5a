//! The attacks of docs/attacks.md that no other test shows. Each runs against the whole engine, so that a token counts as
//! refused only if the provider was asked for nothing but its metadata and keys.

mod algorithms;
mod caches;
mod claims;
mod encoding;
mod keys;
mod token_types;

use jwt_simple::algorithms::RS256KeyPair;
use onbehalf::engine::Decision;
use onbehalf::jose::KeySet;
use onbehalf_test_support::{
    TestEngine, answer, base64url, bearer, configuration, issued, provider_document, refused, with,
};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// The reason of a refusal with 401. The engine calls nothing but the two providers' own documents.
fn reason_of_401(engine: &mut TestEngine, token: &str) -> String {
    let step = match engine.decide(bearer("/github", token)) {
        Decision::Pause => engine.serve_keys().pop().expect("an answer").1,
        step => step,
    };
    engine.expect_no_call();
    let (status, reason) = refused(step);
    assert_eq!(status, 401, "{reason}");
    reason
}

/// The outcome of a token: `exchanged`, or the reason of its refusal.
fn outcome_of(engine: &mut TestEngine, token: &str) -> String {
    match engine.decide(bearer("/github", token)) {
        Decision::Forward(_) => "exchanged".to_owned(),
        Decision::Respond(answer) => refused(Decision::Respond(answer)).1,
        Decision::Pause => {
            let (flight, call) = engine.expect_call();
            if call.method == "POST" {
                engine.callout_result(flight, &issued("up"));
                return "exchanged".to_owned();
            }
            // The fetch for an unknown `kid` fails, and the known keys stay.
            refused(engine.only_step(flight, &answer(404, b""))).1
        }
    }
}

fn header(more: Value) -> Value {
    with(json!({"alg": "ES256", "kid": "entra-1", "typ": "JWT"}), more)
}

/// An engine whose first provider publishes this JWK Set.
fn with_keys(set: &Value) -> TestEngine {
    TestEngine::with_replies(&configuration(), |call| match call.url.as_str().ends_with("discovery/v2.0/keys") {
        true => answer(200, set.to_string().as_bytes()),
        false => provider_document(call),
    })
}

/// The number of usable keys in a set, and the reason for each unusable one.
fn read(keys: &[Value]) -> (usize, Vec<&'static str>) {
    let (set, skipped) = KeySet::read(json!({"keys": keys}).to_string().as_bytes()).unwrap();
    (set.len(), skipped)
}

static RSA: LazyLock<RS256KeyPair> = LazyLock::new(|| RS256KeyPair::generate(2048).unwrap());

/// A JWS of a header and claims, signed by `sign`.
fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let input = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
    let signature = sign(input.as_bytes());
    format!("{input}.{}", base64url(signature))
}
