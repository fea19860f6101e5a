//! Support for the engine, fuzz and wasm tests: keys and tokens, a configuration with two providers and two resources,
//! scripted replies, an engine with its own clock, and one random world with one set of invariants.
//!
//! Only integration tests may use this crate: it depends on `onbehalf`, so unit tests inside `onbehalf` would see two
//! copies of each type.

mod configuration;
mod http;
mod provider;
mod random;
mod shared_map;
mod test_engine;
mod tokens;
pub mod world;

pub use configuration::{
    configuration, configuration_error, environment, only_entra, parse, set, warnings, with, without_shared_tokens,
};
pub use http::{
    TIMED_OUT, answer, answer_with, answered, authorization, bearer, form, forwarded, header, issued, log_facts,
    reason, refused, request,
};
pub use provider::provider_document;
pub use random::Random;
pub use shared_map::SharedMap;
pub use test_engine::TestEngine;
pub use tokens::{
    CLIENT_KEY, ENTRA, ENTRA_KEY, NOW, OKTA, OKTA_KEY, OTHER_KEY, SECRET, Signer, TENANT, alice, alice_day_token,
    alice_token, base64url, base64url_decode, bob, bob_id, bob_token, entra_user, jws_part, key_set, sha256_base64url,
};
