//! The plugin configuration: JSON, or a `google.protobuf.Struct` in its binary form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onbehalf::config::Config;
use onbehalf::crypto::Software;
use onbehalf::engine::{Decision, Engine, RequestId};
use onbehalf::http::Request;
use onbehalf_fuzz::check_answer;
use onbehalf_test_support::world::has_the_client_secret;
use onbehalf_test_support::{NOW, SECRET, SharedMap};

fuzz_target!(|bytes: &[u8]| {
    if has_the_client_secret(bytes) {
        return;
    }
    let config = match Config::parse(bytes, &|name| (name != "UNSET").then(|| SECRET.to_owned())) {
        Ok(config) => config,
        Err(error) => {
            let line = error.to_string();
            assert!(!line.contains(SECRET), "a secret in an error");
            return;
        }
    };
    assert!(!config.providers.is_empty() && !config.resources.is_empty() && config.exchanged_tokens > 0);
    assert!(!format!("{config:?} {:?}", config.warnings).contains(SECRET), "a secret in a warning or in Debug");
    if config.exchanged_tokens.saturating_add(config.verified_tokens) > 20_000 {
        return;
    }
    // Every accepted configuration serves the challenge and the metadata of each resource.
    let asked: Vec<_> = config
        .resources
        .iter()
        .map(|resource| (resource.url.authority().to_owned(), resource.url.path().to_owned()))
        .collect();
    let mut engine = Engine::new(config, Box::new(Software), Box::new(SharedMap::default()));
    engine.tick(NOW);
    assert!(engine.next_decision(NOW).is_none());
    for (id, (authority, path)) in (0..).zip(asked) {
        for (number, prefix) in (0..).zip(["", "/.well-known/oauth-protected-resource"]) {
            let path = if prefix.is_empty() && path.is_empty() { "/".to_owned() } else { format!("{prefix}{path}") };
            let fields = [(":method", "GET".to_owned()), (":authority", authority.clone()), (":path", path)];
            let request = Request::new(&fields.each_ref().map(|(name, value)| (*name, value.as_bytes())));
            match engine.request(RequestId(2 * id + number), request, NOW) {
                Decision::Respond(answer) => check_answer(&answer),
                // An unauthenticated path may equal the path of a resource.
                Decision::Forward(edits) => assert!(edits.authorization.is_none()),
                Decision::Pause => panic!("waits for nothing"),
            }
        }
    }
});
