//! Memory that all workers of one Envoy process share: JWKS, used DPoP proofs, exchanged tokens, circuit breakers.
//!
//! Other plugins may read and write it: Envoy isolates shared data by `vm_id` only, and many deployments leave that empty
//! (docs/adr/0007). Each record is therefore authenticated under a key that only workers with the same configuration have,
//! and secrets in a record are encrypted. A record cannot be removed, so the number of names is bounded.

mod key;
mod lease;
mod store;

use std::time::Duration;

pub use key::SharedKey;
pub(crate) use lease::Lease;
pub(crate) use store::{SharedStore, Update, Updated};

/// Maximum distance into the future of a time that a worker takes from a record. Workers read the clock of one machine, so a
/// time further ahead was written before that clock was set back.
pub(crate) const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// Random identity of a worker among the workers that share memory.
pub(crate) type WorkerId = [u8; 16];

/// Shared data and shared queues of the host (proxy-wasm ABI 0.2.1).
pub trait SharedData {
    /// Returns the value under `name`, if there is one, and its version.
    fn get(&self, name: &str) -> (Option<Vec<u8>>, CasVersion);

    /// Writes `value` under `name` if the version there is still `version`. Returns `true` if it was written.
    fn put(&self, name: &str, value: &[u8], version: CasVersion) -> bool;

    /// Puts `message` into the queue of that host number. Returns `true` if the queue exists.
    fn enqueue(&self, queue: u32, message: &[u8]) -> bool;
}

/// Version of a value, for compare-and-swap. `None` is the version of a name without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CasVersion(pub Option<u32>);
