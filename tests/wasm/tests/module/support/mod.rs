//! Support for the tests of the module: keys, tokens, and identity providers that answer callouts.

pub mod keys;
pub mod provider;
pub mod token;

use onbehalf_wasm_tests::{Answer, Host, Module, Outcome, Setup, StreamId};
use serde_json::Value;

use provider::{Idp, entra, okta};

/// The headers of a request for the resource that both providers exchange for.
pub fn head(authorization: &str) -> Vec<(&str, &str)> {
    vec![
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "mcp.acme.example"),
        (":path", "/github"),
        ("user-agent", "test"),
        ("authorization", authorization),
    ]
}

/// A VM for a configuration, with the clusters and variables that [`provider::configuration`] names.
pub fn setup<'a>(module: &'a Module, configuration: &Value) -> Setup<'a> {
    module
        .host()
        .configuration(configuration.to_string())
        .env("ENTRA_CLIENT_SECRET", provider::ENTRA_SECRET)
        .env("OKTA_PRIVATE_KEY", keys::pem())
        .cluster("entra")
        .cluster("okta")
}

/// A VM that accepts users of both providers and has their keys.
pub fn ready() -> Host {
    let mut host = setup(Module::filter(), &provider::configuration()).start();
    assert!(host.configured(), "{}", host.log_text());
    fetch_keys(&mut host);
    host
}

/// Lets the VM fetch metadata and keys of both providers.
pub fn fetch_keys(host: &mut Host) {
    host.tick();
    settle(host, &mut [&mut entra(), &mut okta()]);
}

/// Answers callouts, as healthy providers do, until there are none.
pub fn settle(host: &mut Host, providers: &mut [&mut Idp]) {
    for _ in 0..100 {
        host.run_queue();
        let Some(call) = host.calls().into_iter().next() else { return };
        let provider = providers.iter_mut().find(|idp| idp.cluster == call.cluster);
        let provider = provider.unwrap_or_else(|| panic!("a call to the cluster {:?}", call.cluster));
        let reply = provider.reply(&call);
        host.answer(call.id, reply);
    }
    panic!("the module does not stop calling; its log:\n{}", host.log_text());
}

/// Sends a token and answers the callouts that follow.
pub fn send(host: &mut Host, token: &str) -> Outcome {
    let request = send_waiting(host, token);
    settle(host, &mut [&mut entra(), &mut okta()]);
    host.outcome(request)
}

/// Sends a token and leaves the callouts to the test.
pub fn send_waiting(host: &mut Host, token: &str) -> StreamId {
    let authorization = format!("Bearer {token}");
    let request = host.request(&head(&authorization));
    host.run_queue();
    request
}

/// The reason of a refusal. Checks the parts that every refusal has.
pub fn reason(answer: &Answer) -> String {
    assert_eq!(answer.headers.text("content-type"), Some("application/json"), "{answer:?}");
    assert_eq!(answer.headers.text("cache-control"), Some("no-store"), "{answer:?}");
    let body: Value = serde_json::from_slice(&answer.body).expect("a refusal's body is JSON");
    assert!(body["error"].is_string() && body["error_description"].is_string(), "{body}");
    body["reason"].as_str().expect("a refusal names its reason").to_owned()
}

/// `forwarded`, `waiting`, `left`, or the reason of a refusal.
pub fn verdict(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Waiting => "waiting".to_owned(),
        Outcome::Left => "left".to_owned(),
        Outcome::Forwarded(_) => "forwarded".to_owned(),
        Outcome::Answered(answer) => reason(answer),
    }
}
