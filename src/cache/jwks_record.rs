//! When an issuer was asked for keys, and what it gave: the records by which workers know of each other's fetches.

use std::time::Duration;

use crate::jose::KeySet;
use crate::provider::{Endpoints, Provider};
use crate::shared::{CasVersion, SharedStore, WorkerId};
use crate::time::UnixTime;
use crate::url::Url;

/// The longest time between two fetches.
pub(crate) const LONGEST_REFRESH: Duration = Duration::from_secs(24 * 3600);

/// The longest pause after failed fetches, in seconds.
pub(crate) const LONGEST_BACKOFF: u32 = 60;

/// How often a `kid` that is not in the set may cause a fetch.
pub(crate) const REFETCH: Duration = Duration::from_secs(30);

/// The longest lease: a call of a minute, and the grace.
pub(crate) const LONGEST_LEASE: Duration = Duration::from_secs(65);

/// The time for which those who wait leave a fetch to an idle VM, from each of its calls on. An ordinary call is over by then.
const PATIENCE: Duration = Duration::from_secs(2);

/// The delay with which an idle VM fetches keys again, where there is one that serves: every VM looks once in a second.
const STANDING_BACK: Duration = Duration::from_secs(5);

/// When an issuer was asked, and when it may be asked again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct JwksRecord {
    /// How often keys have been found. The document of that number has them.
    pub(crate) generation: u64,
    /// How often a fetch has ended, whichever way.
    pub(crate) ended: u64,
    /// How many fetches in a row have failed.
    pub(crate) failures: u32,
    /// When the keys were fetched.
    pub(crate) fetched: UnixTime,
    /// When to fetch keys, for the first time or again.
    pub(crate) due: UnixTime,
    /// Fetches in a row that have failed in idle VMs, and the time from which these may try again. A VM is idle until its first
    /// request. That of Envoy's main thread always is, and cannot reach every cluster.
    pub(crate) idle_failures: u32,
    pub(crate) idle_due: UnixTime,
    /// From when on an unknown `kid` may cause a fetch.
    pub(crate) refetch_from: UnixTime,
    /// Who is fetching, and until when the others let it.
    pub(crate) leased_by: WorkerId,
    pub(crate) leased_until: UnixTime,
    /// The time of its current call, and a mark of an idle VM.
    pub(crate) leased_from: UnixTime,
    pub(crate) is_lease_idle: bool,
    /// A VM that serves has fetched keys, or tried to: there is one.
    pub(crate) is_served: bool,
}

impl SharedStore<'_> {
    pub(crate) fn schedule(&self, name: &str, now: UnixTime) -> (Option<JwksRecord>, CasVersion) {
        let (record, version) = self.shared.get(name);
        let schedule = record.and_then(|record| self.key.open(name, &record).and_then(JwksRecord::read));
        (schedule.map(|schedule| schedule.within(now)), version)
    }

    pub(crate) fn put_schedule(&self, name: &str, schedule: JwksRecord, version: CasVersion) -> bool {
        self.shared.put(name, &self.key.seal(name, &schedule.write()), version)
    }

    pub(crate) fn document(&self, name: &str, generation: u64) -> Option<Vec<u8>> {
        let name = document_name(name);
        let record = self.shared.get(&name).0?;
        let content = self.key.open(&name, &record)?;
        content.strip_prefix(&generation.to_le_bytes()).map(<[u8]>::to_vec)
    }

    /// Whoever writes last is right: a reader compares the generation.
    pub(crate) fn put_document(&self, name: &str, generation: u64, document: &[u8]) {
        let name = document_name(name);
        let record = self.key.seal(&name, &[&generation.to_le_bytes(), document].concat());
        let (_, version) = self.shared.get(&name);
        if !self.shared.put(&name, &record, version) {
            log::debug!("two workers have fetched the same keys");
        }
    }
}

fn document_name(name: &str) -> String {
    format!("{name}.document")
}

/// The endpoints, a line each, then the JWK Set as it came.
pub(crate) fn write_document(endpoints: &Endpoints, jwks: &[u8]) -> Vec<u8> {
    let jwks_uri = endpoints.jwks_uri.as_ref().map_or("", Url::as_str);
    let token_endpoint = endpoints.token_endpoint.as_ref().map_or("", Url::as_str);
    [jwks_uri.as_bytes(), b"\n", token_endpoint.as_bytes(), b"\n", jwks].concat()
}

pub(crate) fn read_document(document: &[u8], provider: &Provider) -> Option<(Endpoints, KeySet)> {
    let mut parts = document.splitn(3, |byte| *byte == b'\n');
    let mut url = || match std::str::from_utf8(parts.next()?).ok()? {
        "" => Some(None),
        text => Some(Some(Url::parse(text).ok()?)),
    };
    let endpoints = Endpoints { jwks_uri: url()?, token_endpoint: url()? };
    let keys = match &provider.jwks {
        Some(keys) => keys.clone(),
        None => KeySet::read(parts.next()?)?.0,
    };
    Some((endpoints, keys))
}

impl JwksRecord {
    fn write(&self) -> Vec<u8> {
        let times = [self.fetched, self.due, self.refetch_from, self.leased_until, self.idle_due, self.leased_from];
        let times = times.map(UnixTime::millis);
        let failures = [self.failures, self.idle_failures].map(u64::from);
        let flags = [self.is_lease_idle, self.is_served].map(u64::from);
        let numbers = [[self.generation, self.ended], failures, flags].concat();
        let mut bytes: Vec<u8> = numbers.into_iter().chain(times).flat_map(u64::to_le_bytes).collect();
        bytes.extend(self.leased_by);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (numbers, leased_by) = bytes.split_first_chunk::<96>()?;
        let (numbers, _) = numbers.as_chunks::<8>();
        let numbers = <[[u8; 8]; 12]>::try_from(numbers).ok()?.map(u64::from_le_bytes);
        let [generation, ended, failures, idle_failures, is_lease_idle, is_served, times @ ..] = numbers;
        let [fetched, due, refetch_from, leased_until, idle_due, leased_from] = times.map(UnixTime::from_millis);
        Some(Self {
            generation,
            ended,
            failures: u32::try_from(failures).ok()?,
            fetched,
            due,
            idle_failures: u32::try_from(idle_failures).ok()?,
            idle_due,
            refetch_from,
            leased_by: leased_by.try_into().ok()?,
            leased_until,
            leased_from,
            is_lease_idle: is_lease_idle != 0,
            is_served: is_served != 0,
        })
    }

    /// The time until which a VM leaves the fetch to another that has the lease.
    pub(crate) fn lease_end(&self, serves: bool) -> UnixTime {
        match self.is_lease_idle && serves {
            true => self.leased_until.min(self.leased_from.plus(PATIENCE)),
            false => self.leased_until,
        }
    }

    /// Keys are due for VMs that serve before they are for idle ones, which have a pause of their own as well.
    pub(crate) fn is_due(&self, serves: bool, now: UnixTime) -> bool {
        let standing_back = if self.is_served && !serves { STANDING_BACK } else { Duration::ZERO };
        now >= self.due.plus(standing_back) && self.may_try(serves, now)
    }

    /// A failure of an idle VM keeps no VM that serves from trying.
    pub(crate) fn may_try(&self, serves: bool, now: UnixTime) -> bool {
        serves || now >= self.idle_due
    }

    /// Whether less had happened when it was written.
    pub(crate) fn is_behind(&self, other: &Self) -> bool {
        (self.generation, self.ended) < (other.generation, other.ended)
    }

    /// The same without a point in time that is further away than it can have been set: the clock has gone back since.
    fn within(self, now: UnixTime) -> Self {
        let sane = |time: UnixTime, most: Duration| if time > now.plus(most) { UnixTime::default() } else { time };
        let jitter = Duration::from_secs(5);
        Self {
            fetched: sane(self.fetched, jitter).min(now),
            due: match self.failures {
                0 => sane(self.due, LONGEST_REFRESH),
                _ => sane(self.due, Duration::from_secs(LONGEST_BACKOFF.into())),
            },
            refetch_from: sane(self.refetch_from, REFETCH),
            leased_until: sane(self.leased_until, LONGEST_LEASE),
            leased_from: sane(self.leased_from, jitter),
            idle_due: sane(self.idle_due, Duration::from_secs(LONGEST_BACKOFF.into())),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_read_as_it_was_written() {
        let schedule = JwksRecord {
            generation: 1,
            ended: 2,
            failures: 3,
            fetched: UnixTime::from_millis(4),
            due: UnixTime::from_millis(5),
            refetch_from: UnixTime::from_millis(6),
            leased_by: [7; 16],
            leased_until: UnixTime::from_millis(8),
            leased_from: UnixTime::from_millis(9),
            is_lease_idle: true,
            is_served: false,
            idle_failures: 10,
            idle_due: UnixTime::from_millis(11),
        };
        let written = schedule.write();
        assert_eq!(JwksRecord::read(&written), Some(schedule));
        assert_eq!(JwksRecord::read(&written[1..]), None);
        assert_eq!(JwksRecord::read(&[&written[..], &[0]].concat()), None);
    }
}
