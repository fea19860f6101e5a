//! Lease of one worker on a call that serves all workers.

use std::time::Duration;

use crate::shared::WorkerId;
use crate::time::UnixTime;

/// Right of one worker to make a call whose result all workers share. Other workers wait for the result until the lease is
/// released or expires; a worker that has died loses its lease by expiry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Worker that took the lease last.
    pub(crate) holder: WorkerId,
    /// End of the lease, exclusive. A time in the past: no worker holds it.
    pub(crate) until: UnixTime,
}

impl Lease {
    /// Lease of `holder` for `span` from now.
    pub(crate) fn granted(holder: WorkerId, span: Duration, now: UnixTime) -> Self {
        Self { holder, until: now.plus(span) }
    }

    /// Returns `true` if a worker holds it now.
    pub(crate) fn is_held(&self, now: UnixTime) -> bool {
        now < self.until
    }

    /// Returns `true` if a worker other than `worker` holds it now.
    pub(crate) fn is_held_by_other(&self, worker: WorkerId, now: UnixTime) -> bool {
        self.is_held(now) && self.holder != worker
    }

    /// Ends it, so that any worker may take it at once. The holder stays known.
    pub(crate) fn release(&mut self) {
        self.until = UnixTime::default();
    }
}
