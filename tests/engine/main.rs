//! The engine alone: tokens, keys and time go in, decisions and calls come out. No host, no network, no clock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::string_slice, clippy::arithmetic_side_effects, clippy::unreachable, reason = "tests")]
#![allow(unreachable_pub, missing_docs, reason = "a test binary has no public surface")]

mod abuse;
mod actor;
mod attacks;
mod audiences;
mod audit;
mod cache;
mod callers_tokens;
mod client_authentication;
mod client_responses;
mod configuration;
mod configuration_codes;
mod configuration_reference;
mod configuration_schema;
mod configuration_secrets;
mod documentation;
mod dpop_client;
mod errors;
mod exchange;
mod exports;
mod facts;
mod flights;
mod forwarding;
mod invariants;
mod issued;
mod keys;
mod metadata;
mod possession;
mod properties;
mod providers;
mod refusals;
mod renamed_options;
mod resource_defaults;
mod routing;
mod shared_audiences;
mod shared_jwks;
mod shared_tokens;
mod simulation;
mod token_copies;
mod token_responses;
mod tokens;
mod unexchanged;
mod upstream_response;
mod versions;
mod whose_fault;
mod xaa;
