//! State that the VMs of one Envoy share: the clock, shared data, queues and metrics.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use onbehalf_test_support::Random;

use crate::abi::{Done, Status};

/// The process of the VMs. Clones refer to the same world.
#[derive(Clone)]
pub struct World(Rc<RefCell<Shared>>);

/// The value of a metric that a filter defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Metric {
    Counter(u64),
    Gauge(u64),
    Histogram(Vec<u64>),
}

struct Shared {
    now: u64,
    random: Random,
    vms: u32,
    data: BTreeMap<(String, Vec<u8>), (Vec<u8>, u32)>,
    next_cas: u32,
    queues: BTreeMap<u32, Queue>,
    ready: VecDeque<Ready>,
    metrics: BTreeMap<String, Metric>,
}

struct Queue {
    vm_id: String,
    name: Vec<u8>,
    owner: u32,
    root: u32,
    items: VecDeque<Vec<u8>>,
}

/// An undelivered wake-up: queue `queue` has a message for root context `root` of VM `owner`.
#[derive(Clone, Copy)]
pub(crate) struct Ready {
    owner: u32,
    pub(crate) root: u32,
    pub(crate) queue: u32,
}

/// 2026-11-23 00:00:00 UTC, the start time of every world.
const START: u64 = 1_795_392_000;
const SECOND: u64 = 1_000_000_000;

impl Default for World {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(Shared {
            now: START * SECOND,
            random: Random::from_seed(0),
            vms: 0,
            data: BTreeMap::new(),
            next_cas: 1,
            queues: BTreeMap::new(),
            ready: VecDeque::new(),
            metrics: BTreeMap::new(),
        })))
    }
}

impl World {
    /// Seconds since 1970 by this world's clock.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now_nanoseconds() / SECOND
    }

    /// Moves the clock. No other function does, and it causes neither a tick nor a timeout by itself.
    pub fn advance(&self, seconds: u64) {
        self.0.borrow_mut().now += seconds * SECOND;
    }

    /// Sets the clock back, as a time server may.
    pub fn rewind(&self, seconds: u64) {
        self.0.borrow_mut().now -= seconds * SECOND;
    }

    /// The metrics of all VMs, by the name that the filter gave.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<String, Metric> {
        self.0.borrow().metrics.clone()
    }

    /// The value of a counter; 0 if it does not exist.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        match self.0.borrow().metrics.get(name) {
            Some(Metric::Counter(value)) => *value,
            Some(other) => panic!("{name} is no counter but {other:?}"),
            None => 0,
        }
    }

    /// Every key and value of the shared data, of every `vm_id`.
    #[must_use]
    pub fn shared_data(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.0.borrow().data.iter().map(|((_, key), (value, _))| (key.clone(), value.clone())).collect()
    }

    pub(crate) fn now_nanoseconds(&self) -> u64 {
        self.0.borrow().now
    }

    pub(crate) fn since_start(&self) -> u64 {
        self.now_nanoseconds().saturating_sub(START * SECOND)
    }

    pub(crate) fn enter(&self) -> u32 {
        let mut shared = self.0.borrow_mut();
        shared.vms += 1;
        shared.vms
    }

    /// Random octets that are the same in each run of a test.
    pub(crate) fn random(&self, length: usize) -> Vec<u8> {
        let mut octets = vec![0; length];
        self.0.borrow_mut().random.fill(&mut octets);
        octets
    }

    pub(crate) fn data(&self, vm_id: &str, key: &[u8]) -> Result<(Vec<u8>, u32), Status> {
        self.0.borrow().data.get(&(vm_id.to_owned(), key.to_vec())).cloned().ok_or(Status::NotFound)
    }

    /// Envoy's rule: a wrong `cas` is refused only where the key exists, so any `cas` creates; 0 overwrites.
    pub(crate) fn set_data(&self, vm_id: &str, key: &[u8], value: &[u8], cas: u32) -> Done {
        let mut shared = self.0.borrow_mut();
        let key = (vm_id.to_owned(), key.to_vec());
        if shared.data.get(&key).is_some_and(|(_, stored)| cas != 0 && cas != *stored) {
            return Err(Status::CasMismatch);
        }
        let next = shared.next_cas;
        shared.next_cas += 1;
        shared.data.insert(key, (value.to_vec(), next));
        Ok(())
    }

    /// A second registration of a name keeps the messages and gets the later wake-ups.
    pub(crate) fn register_queue(&self, vm_id: &str, name: &[u8], owner: u32, root: u32) -> u32 {
        let found = self.resolve_queue(vm_id, name);
        let mut shared = self.0.borrow_mut();
        let id = found.unwrap_or_else(|_| u32::try_from(shared.queues.len()).expect("few queues") + 1);
        let queue = shared.queues.entry(id).or_insert_with(|| Queue {
            vm_id: vm_id.to_owned(),
            name: name.to_vec(),
            owner,
            root,
            items: VecDeque::new(),
        });
        queue.owner = owner;
        queue.root = root;
        id
    }

    pub(crate) fn resolve_queue(&self, vm_id: &str, name: &[u8]) -> Result<u32, Status> {
        let shared = self.0.borrow();
        let found = shared.queues.iter().find(|(_, queue)| queue.vm_id == vm_id && queue.name == name);
        found.map(|(id, _)| *id).ok_or(Status::NotFound)
    }

    pub(crate) fn enqueue(&self, id: u32, value: Vec<u8>) -> Done {
        let mut shared = self.0.borrow_mut();
        let queue = shared.queues.get_mut(&id).ok_or(Status::NotFound)?;
        queue.items.push_back(value);
        let ready = Ready { owner: queue.owner, root: queue.root, queue: id };
        shared.ready.push_back(ready);
        Ok(())
    }

    pub(crate) fn dequeue(&self, id: u32) -> Result<Vec<u8>, Status> {
        let mut shared = self.0.borrow_mut();
        let queue = shared.queues.get_mut(&id).ok_or(Status::NotFound)?;
        queue.items.pop_front().ok_or(Status::Empty)
    }

    /// The oldest wake-up for `vm`.
    pub(crate) fn next_ready(&self, vm: u32) -> Option<Ready> {
        let mut shared = self.0.borrow_mut();
        let at = shared.ready.iter().position(|ready| ready.owner == vm)?;
        shared.ready.remove(at)
    }

    pub(crate) fn with_metric<T>(&self, name: &str, new: Metric, change: impl FnOnce(&mut Metric) -> T) -> T {
        change(self.0.borrow_mut().metrics.entry(name.to_owned()).or_insert(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_cas_creates_and_does_not_overwrite() {
        let world = World::default();
        assert_eq!(world.set_data("vm", b"k", b"1", u32::MAX), Ok(()));
        assert_eq!(world.set_data("vm", b"k", b"2", u32::MAX), Err(Status::CasMismatch));
        let (value, cas) = world.data("vm", b"k").expect("it was set");
        assert_eq!(value, b"1");
        assert_eq!(world.set_data("vm", b"k", b"3", cas), Ok(()));
        assert_eq!(world.set_data("vm", b"k", b"4", cas), Err(Status::CasMismatch));
        assert_eq!(world.set_data("vm", b"k", b"5", 0), Ok(()));
        assert_eq!(world.data("other", b"k"), Err(Status::NotFound));
    }

    #[test]
    fn last_vm_to_register_a_queue_is_woken_and_finds_its_messages() {
        let world = World::default();
        let (first, second) = (world.enter(), world.enter());
        let queue = world.register_queue("", b"q", first, 1);
        assert_eq!(world.enqueue(queue, b"a".to_vec()), Ok(()));
        assert_eq!(world.register_queue("", b"q", second, 1), queue);
        assert_eq!(world.enqueue(queue, b"b".to_vec()), Ok(()));
        assert!(world.next_ready(first).is_some() && world.next_ready(first).is_none());
        assert!(world.next_ready(second).is_some() && world.next_ready(second).is_none());
        assert_eq!((world.dequeue(queue), world.dequeue(queue)), (Ok(b"a".to_vec()), Ok(b"b".to_vec())));
        assert_eq!((world.dequeue(queue), world.enqueue(9, Vec::new())), (Err(Status::Empty), Err(Status::NotFound)));
        assert_eq!(world.resolve_queue("other", b"q"), Err(Status::NotFound));
    }
}
