//! Memory that all workers of a process share: keys that one of them fetched, proofs that one of them has seen, tokens
//! that one of them got.
//!
//! A host isolates it by an operator's setting that many deployments leave empty, so other plugins may read and write
//! it. Records are therefore authenticated by a key that only workers with the same configuration have, and what should not
//! be read is encrypted. There is no way to remove a record, so their names are few and fixed.

mod key;

pub use key::{Nonce, SharedKey, is_same_code};

/// Named values with a version each, of which a writer can say which one it means to replace.
pub trait SharedData {
    /// The value under `name`, if there is one, and its version.
    fn get(&self, name: &str) -> (Option<Vec<u8>>, CasVersion);

    /// Puts `value` there if what stands there still has that version. Whether it did.
    fn put(&self, name: &str, value: &[u8], version: CasVersion) -> bool;

    /// Puts `message` into a worker's queue, by the host's number. Whether it did.
    fn enqueue(&self, queue: u32, message: &[u8]) -> bool;
}

/// The version of a value. That of one that does not exist fits only as long as it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CasVersion(pub Option<u32>);

/// Who a worker is among those that share memory.
pub(crate) type WorkerId = [u8; 16];

/// What workers share by.
#[derive(Clone, Copy)]
pub(crate) struct SharedStore<'a> {
    pub(crate) shared: &'a dyn SharedData,
    pub(crate) key: &'a SharedKey,
    pub(crate) worker: WorkerId,
}
