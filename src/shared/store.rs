//! Records in shared data, and the one compare-and-swap loop that changes them.

use std::rc::Rc;

use crate::shared::{CasVersion, SharedData, SharedKey, WorkerId};

/// Maximum attempts of one update.
///
/// An attempt is lost only to another worker that wrote the same record between the read and the write of this one, so each
/// conflict has a winner. A worker that loses 32 attempts has lost to 32 writes of one record within the time of its own
/// reads and writes, each some microseconds: even if the maximum of 256 workers ran at once, they would have to meet there.
/// The loop does not sleep, because a proxy-wasm callback cannot. Each user of [`SharedStore::update`] states the effect of
/// [`Updated::Contested`].
const MAX_ATTEMPTS: usize = 32;

/// Handle of a worker to shared memory.
pub(crate) struct SharedStore {
    data: Box<dyn SharedData>,
    key: Rc<SharedKey>,
    worker: WorkerId,
}

/// Decision of one attempt of an update, with a value for the caller.
pub(crate) enum Update<T> {
    /// Write this content.
    Write(Vec<u8>, T),
    /// Leave the record as it is.
    Keep(T),
}

/// Result of an update.
pub(crate) enum Updated<T> {
    /// The record is as the update decided.
    Done(T),
    /// Other workers wrote the record during each of [`MAX_ATTEMPTS`] attempts. The value is that of the last attempt, whose
    /// content was not written.
    Contested(T),
}

impl<T> Updated<T> {
    /// The value of the last attempt, written or not.
    pub(crate) fn into_value(self) -> T {
        match self {
            Self::Done(value) | Self::Contested(value) => value,
        }
    }
}

impl SharedStore {
    /// Handle of `worker` to `data`, whose records are authenticated under `key`.
    pub(crate) fn new(data: Box<dyn SharedData>, key: Rc<SharedKey>, worker: WorkerId) -> Self {
        Self { data, key, worker }
    }

    /// Key of the workers with this configuration.
    pub(crate) fn key(&self) -> &SharedKey {
        &self.key
    }

    /// Identity of this worker.
    pub(crate) const fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Content of an authenticated record. `None`: there is no record, or it does not authenticate.
    pub(crate) fn read(&self, name: &str) -> Option<Vec<u8>> {
        self.get(name, true).0
    }

    /// Record as it is. `None`: there is none.
    pub(crate) fn read_raw(&self, name: &str) -> Option<Vec<u8>> {
        self.data.get(name).0
    }

    /// Changes an authenticated record by compare-and-swap. `change` gets the content, or `None` where there is no record or
    /// one that does not authenticate; it is called again whenever another worker has written the record meanwhile.
    pub(crate) fn update<T>(&self, name: &str, change: impl FnMut(Option<&[u8]>) -> Update<T>) -> Updated<T> {
        self.compare_and_swap(name, true, change)
    }

    /// Changes a record by compare-and-swap. `change` gets the record as it is and authenticates its parts itself.
    pub(crate) fn update_raw<T>(&self, name: &str, change: impl FnMut(Option<&[u8]>) -> Update<T>) -> Updated<T> {
        self.compare_and_swap(name, false, change)
    }

    fn compare_and_swap<T>(
        &self,
        name: &str,
        is_sealed: bool,
        mut change: impl FnMut(Option<&[u8]>) -> Update<T>,
    ) -> Updated<T> {
        let mut attempt = 1;
        loop {
            let (content, version) = self.get(name, is_sealed);
            match change(content.as_deref()) {
                Update::Keep(value) => return Updated::Done(value),
                Update::Write(next, value) if self.put(name, &next, version, is_sealed) => return Updated::Done(value),
                Update::Write(_, value) if attempt >= MAX_ATTEMPTS => return Updated::Contested(value),
                Update::Write(..) => attempt = attempt.saturating_add(1),
            }
        }
    }

    /// Reads a record. A sealed one that does not authenticate is absent: a writer without the key could erase it as well, so
    /// that nothing is lost when it is replaced.
    fn get(&self, name: &str, is_sealed: bool) -> (Option<Vec<u8>>, CasVersion) {
        let (record, version) = self.data.get(name);
        match is_sealed {
            true => (record.and_then(|record| self.key.open(name, &record).map(<[u8]>::to_vec)), version),
            false => (record, version),
        }
    }

    fn put(&self, name: &str, content: &[u8], version: CasVersion, is_sealed: bool) -> bool {
        match is_sealed {
            true => self.data.put(name, &self.key.seal(name, content), version),
            false => self.data.put(name, content, version),
        }
    }

    /// Puts an authenticated message into the queue of another worker. Returns `true` if the queue exists.
    pub(crate) fn enqueue(&self, queue: u32, message: &[u8]) -> bool {
        self.data.enqueue(queue, message)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Shared data with one record, in which another worker wins the first conflicts.
    struct Contested {
        record: Cell<u32>,
        conflicts: Cell<usize>,
    }

    impl SharedData for Contested {
        fn get(&self, _name: &str) -> (Option<Vec<u8>>, CasVersion) {
            (Some(b"not authenticated".to_vec()), CasVersion(Some(self.record.get())))
        }

        fn put(&self, _name: &str, _value: &[u8], version: CasVersion) -> bool {
            let is_lost = self.conflicts.get() > 0;
            self.conflicts.set(self.conflicts.get().saturating_sub(1));
            self.record.set(self.record.get().wrapping_add(is_lost.into()));
            version == CasVersion(Some(self.record.get()))
        }

        fn enqueue(&self, _queue: u32, _message: &[u8]) -> bool {
            false
        }
    }

    fn store(conflicts: usize) -> SharedStore {
        let data = Contested { record: Cell::new(1), conflicts: Cell::new(conflicts) };
        let key = SharedKey::from_secrets([&b"s"[..]].into_iter());
        SharedStore::new(Box::new(data), Rc::new(key), [0; 16])
    }

    #[test]
    fn an_update_gives_up_after_the_last_attempt_with_its_value() {
        for (conflicts, attempts, is_done) in
            [(0, 1, true), (1, 2, true), (31, 32, true), (32, 32, false), (99, 32, false)]
        {
            let mut count = 0;
            let updated = store(conflicts).update("name", |content| {
                assert_eq!(content, None);
                count += 1;
                Update::Write(Vec::new(), count)
            });
            assert_eq!(matches!(updated, Updated::Done(_)), is_done, "{conflicts}");
            assert_eq!((count, updated.into_value()), (attempts, attempts), "{conflicts}");
        }
    }

    #[test]
    fn an_update_that_keeps_the_record_writes_nothing() {
        let store = store(1);
        assert!(matches!(store.update("name", |_| Update::Keep(7)), Updated::Done(7)));
        let mut count = 0;
        store.update("name", |_| {
            count += 1;
            Update::Write(Vec::new(), ())
        });
        assert_eq!(count, 2, "the one conflict was still to come");
    }
}
