//! Requests that a start makes at the providers before any user is served.

use std::collections::BTreeSet;

use onbehalf::http::{Callout, CalloutResult};
use onbehalf_test_support::{OKTA_KEY, SharedMap, TestEngine, answer, answer_with, key_set};
use serde_json::{Value, json};

const PROVIDERS: usize = 10;

/// Ten providers whose metadata and keys are fetched, and a resource for all of them.
fn ten_providers() -> Value {
    let name = |number: usize| format!("p{number}");
    let provider = |number: usize| {
        json!({
            "profile": "rfc8693", "issuer": format!("https://p{number}.example"), "cluster": name(number), "audiences": ["api"],
            "client": {"id": "c", "authentication": {"method": "client_secret_basic", "secret": {"inline": "s"}}},
        })
    };
    let all = |value: &dyn Fn(usize) -> Value| {
        Value::Object((0..PROVIDERS).map(|number| (name(number), value(number))).collect())
    };
    json!({
        "identity_providers": all(&provider),
        "resources": [{"url": "https://mcp.acme.example/github", "exchange": all(&|_| json!({"audience": "a"}))}],
    })
}

/// The reply of a provider to a call for a document of `path`, or for its keys.
fn reply(call: &Callout, path: &str) -> CalloutResult {
    let issuer = format!("https://{}", call.url.authority());
    match call.url.path() {
        asked if asked == path => answer_with(
            200,
            &[],
            &json!({"issuer": issuer, "jwks_uri": format!("{issuer}/k"), "token_endpoint": format!("{issuer}/t")}),
        ),
        "/k" => answer(200, &key_set(&[&OKTA_KEY])),
        _ => answer(404, b""),
    }
}

/// URLs of all calls that workers make from their start until five seconds later.
fn calls_of_a_start(workers: usize, path: &str) -> Vec<String> {
    let shared = SharedMap::default();
    let configuration = ten_providers();
    let mut workers: Vec<_> = (0..workers).map(|_| TestEngine::sharing(&configuration, &shared)).collect();
    let mut urls = Vec::new();
    for _ in 0..5 {
        workers.iter_mut().for_each(|engine| drop(engine.tick()));
        for engine in &mut workers {
            urls.extend(engine.serve_calls(|call| reply(call, path)));
            engine.advance(1);
        }
    }
    for engine in &mut workers {
        assert_eq!(engine.inner.jwks_ages(engine.now).len(), PROVIDERS, "every worker has all keys");
    }
    urls
}

#[test]
fn cold_start_of_ten_providers_makes_twenty_requests() {
    for workers in [1, 4] {
        let urls = calls_of_a_start(workers, "/.well-known/openid-configuration");
        let distinct: BTreeSet<_> = urls.iter().collect();
        assert_eq!((urls.len(), distinct.len()), (20, 20), "{workers} workers: {urls:?}");
        // A server that has the other document is asked for both.
        let urls = calls_of_a_start(workers, "/.well-known/oauth-authorization-server");
        assert_eq!(urls.len(), 30, "{workers} workers: {urls:?}");
    }
}
