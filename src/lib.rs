//! `onbehalf`: a proxy-wasm filter for Envoy. It validates the token of a caller, exchanges it at the identity provider for a
//! token that is meant for the upstream, and forwards the request with that token.
//!
//! # The contract
//!
//! 1. The caller's token never reaches the upstream. It is exchanged or removed, or the request is refused. There is no
//!    fall-back to the caller's token, to a service account or to the token of another user. The one exception is explicit:
//!    the operator can forward the callers' own tokens for one resource and the users of one provider, with a profile that
//!    only validates. The log warns of it.
//! 2. Pure code decides a request ([`engine`]). It does no I/O, reads no clock and does not know proxy-wasm.
//! 3. A fact that a request lacks (keys, a token) is fetched once for all requests that lack it, by the root context. The fetch
//!    outlives the request that started it.
//! 4. No input can trap the VM. A trap loses every request that is paused in that worker.
//! 5. The folder [`provider`] holds everything in which identity providers differ. No other folder names one.
//!
//! # The pipeline
//!
//! Each step is a file of [`engine`]. A step that lacks a fact stops the pipeline; it runs again from the top when the fact is
//! there, and cached results make that cheap.
//!
//! ```text
//!  filter::stream      on_http_request_headers: the header block in one hostcall
//!  ────────────────────────────────────────────────────────────────────────────────────────────────────
//!  engine::pipeline    route              resource of host and path; metadata; unauthenticated paths
//!                      credentials        the one token, and no copy of it elsewhere
//!                      authenticate       form, issuer, claims, key, signature          ─► lacks keys
//!                      authorize          audience, sender constraint, provider, claims, scopes
//!                      exchanged_token    delegation, cache key, look-up                ─► lacks a token
//!                      (proof of use)     the caller's DPoP proof is used up
//!                      upstream_proof     DPoP proof for the upstream
//!                      header_mutations   Forward · Respond · Pause
//!  ────────────────────────────────────────────────────────────────────────────────────────────────────
//!  engine::fetch       in_flight          one fetch for all that lack the same fact
//!                      token_exchange     callouts of one exchange, in a row
//!                      on_callout_result  what a result says is stored; waiting requests are decided again
//!  ────────────────────────────────────────────────────────────────────────────────────────────────────
//!  filter::root        on_tick · on_queue_ready · on_http_call_response: dispatches callouts, continues requests
//! ```
//!
//! # Reading order
//!
//! 1. `engine/mod.rs`, the surface: requests, callout results and ticks in; decisions and callouts out.
//! 2. `engine/pipeline.rs`, sixty lines, and then its steps.
//! 3. `provider/profile.rs`, what a provider may do in its own way, and `provider/rfc8693.rs`, the standard.
//! 4. [`refusal`]: every refusal is a row of one table. `config/options.rs`: every option is a row of another.
//!
//! Attacker bytes end in [`jose`], [`dpop`], [`path`] and [`json`]; operator bytes end in [`config`].
//! `docs/architecture.md` has the layers of the folders, which `make lint` checks, and `docs/glossary.md` the words.

pub mod cache;
pub mod config;
pub mod crypto;
pub mod dpop;
pub mod engine;
pub mod http;
pub mod jose;
pub mod json;
pub mod path;
pub mod provider;
pub mod refusal;
pub mod resource;
pub mod secret;
pub mod shared;
pub mod telemetry;
pub mod time;
pub mod url;

#[cfg(target_arch = "wasm32")]
mod filter;
