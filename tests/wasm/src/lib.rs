//! A proxy-wasm host for tests: it runs the compiled filter natively and behaves as Envoy 1.40 was measured to.
//!
//! All state can be read and changed by a test; no calls are expected in advance and nothing happens by itself. A test
//! sends a request and reads its [`Outcome`]; [`Host::calls`] lists the callouts, which are answered in any order,
//! late, or never; [`World::advance`] moves the clock.
//!
//! ```no_run
//! use onbehalf_wasm_tests::{Module, Outcome, Reply};
//!
//! let mut host = Module::filter().host().configuration("{}").cluster("entra").start();
//! let request = host.request(&[(":method", "GET"), (":path", "/"), (":authority", "mcp.example")]);
//! host.run_queue();
//! for call in host.calls() {
//!     host.answer(call.id, Reply::timeout());
//! }
//! assert!(!matches!(host.outcome(request), Outcome::Waiting));
//! ```
//!
//! Several [`Host`]s in one [`World`] are the worker VMs of one Envoy: they share data, queues, metrics and the clock,
//! and each has an instance of its own. What a well-behaved filter never does (answer a request twice, act on no
//! request, edit headers that have left, trap) fails the test that made it happen.

mod abi;
pub mod foreign;
mod headers;
mod host;
mod imports;
mod memory;
mod module;
#[cfg(test)]
mod rules;
mod setup;
mod vm;
mod world;

pub use abi::Status;
pub use headers::Headers;
pub use host::{Host, StreamId};
pub use module::Module;
pub use setup::Setup;
pub use vm::{Answer, Call, CallId, Cluster, Counts, Log, Outcome, Reply};
pub use world::{Metric, World};
