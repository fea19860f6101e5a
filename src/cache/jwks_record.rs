//! Records of an issuer in shared memory, by which workers share the fetch of a JWKS: its schedule with the lease, and the
//! fetched document.

use std::time::Duration;

use crate::jose::KeySet;
use crate::provider::{Endpoints, Provider};
use crate::shared::{CLOCK_TOLERANCE, Lease, SharedStore, Update};
use crate::time::UnixTime;
use crate::url::Url;

/// Maximum time between two fetches.
pub(crate) const MAX_REFRESH: Duration = Duration::from_secs(24 * 3600);

/// Maximum back-off after failed fetches, in seconds.
pub(crate) const MAX_BACKOFF_SECS: u32 = 60;

/// Minimum time between two fetches for tokens that no key verifies.
pub(crate) const REFETCH_INTERVAL: Duration = Duration::from_secs(30);

/// Maximum time of a lease: the maximum `timeout_seconds` of a provider, and the grace of a callout.
const MAX_LEASE: Duration = Duration::from_secs(65);

/// Time from the start of a call for which serving VMs wait for an idle VM. An ordinary call is over by then.
const IDLE_LEASE: Duration = Duration::from_secs(2);

/// Delay of idle VMs when a JWKS is due and another VM serves requests. Every VM looks at the record once in a second.
const IDLE_DELAY: Duration = Duration::from_secs(5);

/// Schedule of the fetches of one issuer's JWKS.
///
/// A VM is idle until its first request. The VM of Envoy's main thread always is, and it cannot reach every cluster: failures of
/// idle VMs, and the back-off after them, are separate from those of serving VMs (docs/adr/0007).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct JwksRecord {
    /// Number of successful fetches. The document with this number has the JWKS.
    pub(crate) generation: u64,
    /// Number of completed fetches, successful or not.
    pub(crate) completed: u64,
    /// Number of failed fetches in a row, in serving VMs.
    pub(crate) failures: u32,
    /// Time of the last successful fetch.
    pub(crate) fetched: UnixTime,
    /// Time from which the JWKS is fetched, for the first time or again.
    pub(crate) due: UnixTime,
    /// Number of failed fetches in a row, in idle VMs.
    pub(crate) idle_failures: u32,
    /// Time from which idle VMs may fetch, after their failures.
    pub(crate) idle_due: UnixTime,
    /// Time from which a token that no key verifies may cause a fetch.
    pub(crate) refetch_from: UnixTime,
    /// Lease of the worker that fetches.
    pub(crate) lease: Lease,
    /// Start of the latest call under the lease.
    pub(crate) call_started: UnixTime,
    /// The holder of the lease is an idle VM.
    pub(crate) is_lease_idle: bool,
    /// A serving VM has fetched the JWKS, or tried to.
    pub(crate) has_serving_vm: bool,
}

/// Document of one generation. `None`: there is none, or it is of another generation.
pub(crate) fn document(store: &SharedStore, name: &str, generation: u64) -> Option<Vec<u8>> {
    store.read(&document_name(name))?.strip_prefix(&generation.to_le_bytes()).map(<[u8]>::to_vec)
}

/// Stores the document of one generation. The last writer wins: readers compare the generation.
pub(crate) fn put_document(store: &SharedStore, name: &str, generation: u64, document: &[u8]) {
    let content = [&generation.to_le_bytes(), document].concat();
    store.update(&document_name(name), |_| Update::Write(content.clone(), ()));
}

fn document_name(name: &str) -> String {
    format!("{name}.document")
}

/// Writes a document: the JWKS URL and the token endpoint on a line each, then the JWK Set as it was fetched.
pub(crate) fn write_document(endpoints: &Endpoints, jwks: &[u8]) -> Vec<u8> {
    let jwks_uri = endpoints.jwks_uri.as_ref().map_or("", Url::as_str);
    let token_endpoint = endpoints.token_endpoint.as_ref().map_or("", Url::as_str);
    [jwks_uri.as_bytes(), b"\n", token_endpoint.as_bytes(), b"\n", jwks].concat()
}

/// Reads a document. `None`: it is malformed to this version of the module.
pub(crate) fn read_document(document: &[u8], provider: &Provider) -> Option<(Endpoints, KeySet)> {
    let mut parts = document.splitn(3, |byte| *byte == b'\n');
    let mut url = || match std::str::from_utf8(parts.next()?).ok()? {
        "" => Some(None),
        text => Some(Some(Url::parse_endpoint(text).ok()?)),
    };
    let endpoints = Endpoints { jwks_uri: url()?, token_endpoint: url()? };
    let keys = match &provider.jwks {
        Some(keys) => keys.clone(),
        None => KeySet::read(parts.next()?)?.0,
    };
    Some((endpoints, keys))
}

impl JwksRecord {
    /// Writes the content of a record.
    pub(crate) fn write(&self) -> Vec<u8> {
        let numbers = [
            self.generation,
            self.completed,
            self.failures.into(),
            self.idle_failures.into(),
            self.is_lease_idle.into(),
            self.has_serving_vm.into(),
            self.fetched.millis(),
            self.due.millis(),
            self.refetch_from.millis(),
            self.lease.until.millis(),
            self.idle_due.millis(),
            self.call_started.millis(),
        ];
        [numbers.map(u64::to_le_bytes).as_flattened(), &self.lease.holder].concat()
    }

    /// Reads the content of a record, with the times of a clock that was ahead removed. `None`: it is malformed.
    pub(crate) fn read(content: &[u8], now: UnixTime) -> Option<Self> {
        let (numbers, holder) = content.split_first_chunk::<96>()?;
        let (numbers, _) = numbers.as_chunks::<8>();
        let numbers = <[[u8; 8]; 12]>::try_from(numbers).ok()?.map(u64::from_le_bytes);
        let [generation, completed, failures, idle_failures, is_lease_idle, has_serving_vm, times @ ..] = numbers;
        let [fetched, due, refetch_from, leased_until, idle_due, call_started] = times.map(UnixTime::from_millis);
        let record = Self {
            generation,
            completed,
            failures: u32::try_from(failures).ok()?,
            fetched,
            due,
            idle_failures: u32::try_from(idle_failures).ok()?,
            idle_due,
            refetch_from,
            lease: Lease { holder: holder.try_into().ok()?, until: leased_until },
            call_started,
            is_lease_idle: is_lease_idle != 0,
            has_serving_vm: has_serving_vm != 0,
        };
        Some(record.within(now))
    }

    /// Lease as a VM regards it: a serving VM waits for an idle holder no longer than [`IDLE_LEASE`].
    pub(crate) fn lease_for(&self, serves: bool) -> Lease {
        match self.is_lease_idle && serves {
            true => Lease { until: self.lease.until.min(self.call_started.plus(IDLE_LEASE)), ..self.lease },
            false => self.lease,
        }
    }

    /// Returns `true` if the JWKS is due for a VM. Serving VMs come first; idle VMs have a back-off of their own as well.
    pub(crate) fn is_due(&self, serves: bool, now: UnixTime) -> bool {
        let delay = if self.has_serving_vm && !serves { IDLE_DELAY } else { Duration::ZERO };
        now >= self.due.plus(delay) && self.may_try(serves, now)
    }

    /// Returns `true` if the back-off of idle VMs does not keep a VM from a fetch. It keeps no serving VM from it.
    pub(crate) fn may_try(&self, serves: bool, now: UnixTime) -> bool {
        serves || now >= self.idle_due
    }

    /// Returns `true` if it was written before `other`.
    pub(crate) fn is_behind(&self, other: &Self) -> bool {
        (self.generation, self.completed) < (other.generation, other.completed)
    }

    /// Record without times that are further ahead than they can have been set: the clock was set back since.
    fn within(self, now: UnixTime) -> Self {
        let sane = |time: UnixTime, max: Duration| if time > now.plus(max) { UnixTime::default() } else { time };
        let max_backoff = Duration::from_secs(MAX_BACKOFF_SECS.into());
        Self {
            fetched: sane(self.fetched, CLOCK_TOLERANCE).min(now),
            due: sane(self.due, if self.failures == 0 { MAX_REFRESH } else { max_backoff }),
            refetch_from: sane(self.refetch_from, REFETCH_INTERVAL),
            lease: Lease { until: sane(self.lease.until, MAX_LEASE), ..self.lease },
            call_started: sane(self.call_started, CLOCK_TOLERANCE),
            idle_due: sane(self.idle_due, max_backoff),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_only_whole() {
        let record = JwksRecord {
            generation: 1,
            completed: 2,
            failures: 3,
            fetched: UnixTime::from_millis(4),
            due: UnixTime::from_millis(5),
            idle_failures: 10,
            idle_due: UnixTime::from_millis(11),
            refetch_from: UnixTime::from_millis(6),
            lease: Lease { holder: [7; 16], until: UnixTime::from_millis(8) },
            call_started: UnixTime::from_millis(9),
            is_lease_idle: true,
            has_serving_vm: false,
        };
        let (written, now) = (record.write(), UnixTime::from_millis(12));
        assert_eq!(JwksRecord::read(&written, now), Some(record));
        assert_eq!(JwksRecord::read(&written[1..], now), None);
        assert_eq!(JwksRecord::read(&[&written[..], &[0]].concat(), now), None);
    }
}
