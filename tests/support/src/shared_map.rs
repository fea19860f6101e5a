//! Shared data and shared queues, as Envoy has them for the workers of one process.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use onbehalf::shared::{CasVersion, SharedData};

/// Shared memory in the test's own process.
#[derive(Clone, Default)]
pub struct SharedMap(Rc<RefCell<Records>>, Rc<RefCell<Queues>>);

/// The messages of each queue, by the queue's number.
type Queues = Vec<Vec<Vec<u8>>>;

/// Value and version of each record, by name.
type Records = HashMap<String, (Vec<u8>, u32)>;

impl SharedData for SharedMap {
    fn get(&self, name: &str) -> (Option<Vec<u8>>, CasVersion) {
        match self.0.borrow().get(name) {
            Some((value, version)) => (Some(value.clone()), CasVersion(Some(*version))),
            None => (None, CasVersion(None)),
        }
    }

    fn put(&self, name: &str, value: &[u8], version: CasVersion) -> bool {
        let mut map = self.0.borrow_mut();
        let found = map.get(name).map(|(_, version)| *version);
        if found != version.0 {
            return false;
        }
        map.insert(name.to_owned(), (value.to_vec(), found.unwrap_or(0) + 1));
        true
    }

    fn enqueue(&self, queue: u32, message: &[u8]) -> bool {
        let mut queues = self.1.borrow_mut();
        let found = queues.get_mut(queue as usize);
        found.map(|queue| queue.push(message.to_vec())).is_some()
    }
}

impl SharedMap {
    /// Overwrites every record, as another plugin may.
    pub fn overwrite(&self, change: impl Fn(&str, &mut Vec<u8>)) {
        for (name, (value, version)) in self.0.borrow_mut().iter_mut() {
            change(name, value);
            *version += 1;
        }
    }

    /// Registers a queue for a worker and returns its number.
    pub fn register_queue(&self) -> u32 {
        let mut queues = self.1.borrow_mut();
        queues.push(Vec::new());
        u32::try_from(queues.len() - 1).unwrap()
    }

    /// Takes all messages out of a queue.
    pub fn dequeue(&self, queue: u32) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.1.borrow_mut()[queue as usize])
    }

    /// Every value, for [`put_back`](Self::put_back).
    pub fn copy(&self) -> Vec<(String, Vec<u8>)> {
        self.0.borrow().iter().map(|(name, (value, _))| (name.clone(), value.clone())).collect()
    }

    /// Writes copied values back, as a restart of another plugin may.
    pub fn put_back(&self, values: &[(String, Vec<u8>)]) {
        for (name, value) in values {
            let mut map = self.0.borrow_mut();
            let version = map.get(name).map_or(0, |(_, version)| *version);
            map.insert(name.clone(), (value.clone(), version + 1));
        }
    }

    /// The version of each record, which grows with each write.
    pub fn versions(&self) -> HashMap<String, u32> {
        self.0.borrow().iter().map(|(name, (_, version))| (name.clone(), *version)).collect()
    }

    /// The name of each record.
    pub fn names(&self) -> Vec<String> {
        self.0.borrow().keys().cloned().collect()
    }
}
