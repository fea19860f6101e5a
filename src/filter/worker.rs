//! State that the root context and the streams of a worker share.

use std::cell::{Cell, RefCell};

use proxy_wasm::hostcalls;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::engine::{Engine, ForwardedRequest, RequestId};
use crate::time::UnixTime;

/// Queue item with which a stream wakes the root context of its worker.
pub(super) const WAKE_UP: &[u8] = b"work";

/// State that the root context and the streams of a worker share.
pub(crate) struct WorkerContext {
    pub(crate) engine: RefCell<Option<Engine>>,
    /// `true` if a resource needs the client's certificate.
    pub(crate) takes_certificates: Cell<bool>,
    /// Queue for messages of other workers and for wake-ups. Only the root context sends callouts: the SDK passes a response to the
    /// context that was active at dispatch, and drops it if that context is gone.
    pub(super) queue: Cell<Option<u32>>,
    /// `true` from a wake-up until the root runs.
    pub(super) is_woken: Cell<bool>,
    /// Information on the tokens of paused requests that the root resumed, until the upstream responds or the stream ends.
    pub(super) resumed: RefCell<FxHashMap<u32, ForwardedRequest>>,
    /// Paused requests that have a body or trailers.
    pub(super) unfinished: RefCell<FxHashSet<u32>>,
    /// Time of the last request whose response status was read.
    pub(super) status_read_at: Cell<UnixTime>,
}

impl WorkerContext {
    /// Removes the information on the token of a resumed request.
    pub(crate) fn take_resumed(&self, RequestId(id): RequestId) -> Option<ForwardedRequest> {
        self.resumed.try_borrow_mut().ok()?.remove(&id)
    }

    /// Notes that a paused request has a body or trailers.
    pub(crate) fn add_unfinished(&self, RequestId(id): RequestId) {
        if let Ok(mut unfinished) = self.unfinished.try_borrow_mut() {
            unfinished.insert(id);
        }
    }

    /// Returns `true` if the paused request has a body or trailers, and forgets it.
    pub(crate) fn take_unfinished(&self, RequestId(id): RequestId) -> bool {
        self.unfinished.try_borrow_mut().is_ok_and(|mut unfinished| unfinished.remove(&id))
    }

    /// Returns `true` if the status of a response may be read: at most once in a millisecond.
    pub(crate) fn may_read_status(&self, sent: &ForwardedRequest) -> bool {
        self.status_read_at.replace(sent.at()) != sent.at()
    }

    /// Makes `on_queue_ready` run in the next turn of the event loop.
    pub(crate) fn wake(&self) {
        if self.is_woken.get() {
            return;
        }
        let sent = self.queue.get().is_some_and(|queue| hostcalls::enqueue_shared_queue(queue, Some(WAKE_UP)).is_ok());
        self.is_woken.set(sent);
        if !sent {
            // The next tick does the work.
            log::debug!("the root could not be woken");
        }
    }
}
