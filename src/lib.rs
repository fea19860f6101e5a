//! `onbehalf`: a proxy-wasm filter for Envoy that turns the token a user comes with into the token that the
//! upstream wants.
//!
//! # The contract
//!
//! 1. The inbound token never reaches the upstream: it is exchanged or removed, or the request is refused. There is
//!    no fall-back to the inbound token, to a service account or to another user's token. The one way around is the
//!    operator's word for one resource and the users of one provider (`forward: true` with the profile `validate_only`), of
//!    which the log warns: what they come with goes on as it came, once it is validated, and nothing is ever exchanged
//!    for it.
//! 2. A request is decided by pure code ([`engine`]), which does no I/O, reads no clock and does not know that
//!    proxy-wasm exists.
//! 3. What a request lacks (keys, a token) is fetched once for everyone who lacks it, by the root context, and
//!    survives the request that first asked.
//! 4. No input can trap the VM: a trap loses every request that is paused in that worker.
//! 5. What differs between identity providers is in [`idp`], and nothing outside it names one.
//!
//! # The flow
//!
//! ```text
//!            on_http_request_headers              on_tick · on_queue_ready · on_http_call_response
//!                       │                                             │
//!  shell            stream ──────────────┐            ┌───────────── root
//!                       │ Request        │ Step       │ Reply         │ Call
//!  ─────────────────────┼────────────────┼────────────┼───────────────┼──────────────────────────
//!  engine               ▼                │            ▼               │
//!               decide(request, facts, now)        flights: what is being fetched, who waits
//!               select → authenticate → authorize → exchange
//!                       │
//!            Forward(edits) · Answer · Wait for keys or a token
//! ```
//!
//! Attacker bytes end in [`token`], [`path`] and [`json`]; operator bytes end in [`config`]; every "no" is a row
//! of the table in [`refusal`].

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
