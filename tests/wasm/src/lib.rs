//! A proxy-wasm host for tests: it runs the compiled filter natively and behaves as Envoy 1.40 was measured to.
//!
//! Everything is state that a test reads and changes; nothing is expected in advance and nothing happens by itself.
//! A request is sent and its [`Outcome`] read; the call-outs it caused are listed by [`Host::calls`] and answered in any
//! order, late, or never; the clock moves when [`World::advance`] says so.
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
