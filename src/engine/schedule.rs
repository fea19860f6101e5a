//! When an issuer was asked for keys, and what it gave: the records by which workers know of each other's fetches.

use std::time::Duration;

use super::board::{Board, Worker};
use crate::config::Provider;
use crate::http::Url;
use crate::idp::Endpoints;
use crate::shared::Version;
use crate::time::UnixTime;
use crate::token::KeySet;

/// The longest time between two fetches.
pub(super) const LONGEST_REFRESH: Duration = Duration::from_secs(24 * 3600);

/// The longest pause after failed fetches, in seconds.
pub(super) const LONGEST_BACKOFF: u32 = 60;

/// How often a `kid` that is not in the set may cause a fetch.
pub(super) const REFETCH: Duration = Duration::from_secs(30);

/// The longest lease: a call of a minute, and the grace.
pub(super) const LONGEST_LEASE: Duration = Duration::from_secs(65);

/// When an issuer was asked, and when it may be asked again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Schedule {
    /// How often keys have been found. The document of that number has them.
    pub(super) generation: u64,
    /// How often a fetch has ended, whichever way.
    pub(super) ended: u64,
    /// How many fetches in a row have failed.
    pub(super) failures: u32,
    /// When the keys were fetched.
    pub(super) fetched: UnixTime,
    /// When to fetch keys, for the first time or again.
    pub(super) due: UnixTime,
    /// From when on an unknown `kid` may cause a fetch.
    pub(super) refetch_from: UnixTime,
    /// Who is fetching, and until when the others let it.
    pub(super) leased_by: Worker,
    pub(super) leased_until: UnixTime,
}

impl Board<'_> {
    pub(super) fn schedule(&self, name: &str, now: UnixTime) -> (Option<Schedule>, Version) {
        let (record, version) = self.shared.get(name);
        let schedule = record.and_then(|record| self.key.open(name, &record).and_then(Schedule::read));
        (schedule.map(|schedule| schedule.within(now)), version)
    }

    pub(super) fn put_schedule(&self, name: &str, schedule: Schedule, version: Version) -> bool {
        self.shared.put(name, &self.key.seal(name, &schedule.write()), version)
    }

    pub(super) fn document(&self, name: &str, generation: u64) -> Option<Vec<u8>> {
        let name = document_name(name);
        let record = self.shared.get(&name).0?;
        let content = self.key.open(&name, &record)?;
        content.strip_prefix(&generation.to_le_bytes()).map(<[u8]>::to_vec)
    }

    /// Whoever writes last is right: a reader compares the generation.
    pub(super) fn put_document(&self, name: &str, generation: u64, document: &[u8]) {
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
pub(super) fn write_document(endpoints: &Endpoints, jwks: &[u8]) -> Vec<u8> {
    let jwks_uri = endpoints.jwks_uri.as_ref().map_or("", Url::as_str);
    let token_endpoint = endpoints.token_endpoint.as_ref().map_or("", Url::as_str);
    [jwks_uri.as_bytes(), b"\n", token_endpoint.as_bytes(), b"\n", jwks].concat()
}

pub(super) fn read_document(document: &[u8], provider: &Provider) -> Option<(Endpoints, KeySet)> {
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

impl Schedule {
    fn write(&self) -> Vec<u8> {
        let times = [self.fetched, self.due, self.refetch_from, self.leased_until].map(UnixTime::millis);
        let numbers = [self.generation, self.ended, self.failures.into()];
        let mut bytes: Vec<u8> = numbers.into_iter().chain(times).flat_map(u64::to_le_bytes).collect();
        bytes.extend(self.leased_by);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (numbers, leased_by) = bytes.split_first_chunk::<56>()?;
        let (numbers, _) = numbers.as_chunks::<8>();
        let [generation, ended, failures, fetched, due, refetch_from, leased_until] =
            <[[u8; 8]; 7]>::try_from(numbers).ok()?.map(u64::from_le_bytes);
        Some(Self {
            generation,
            ended,
            failures: u32::try_from(failures).ok()?,
            fetched: UnixTime::from_millis(fetched),
            due: UnixTime::from_millis(due),
            refetch_from: UnixTime::from_millis(refetch_from),
            leased_until: UnixTime::from_millis(leased_until),
            leased_by: leased_by.try_into().ok()?,
        })
    }

    /// Whether less had happened when it was written.
    pub(super) fn is_behind(&self, other: &Self) -> bool {
        (self.generation, self.ended) < (other.generation, other.ended)
    }

    /// The same without a point in time that is further away than it can have been set: the clock has gone back since.
    fn within(self, now: UnixTime) -> Self {
        let sane = |time: UnixTime, most: Duration| if time > now.plus(most) { UnixTime::default() } else { time };
        Self {
            fetched: sane(self.fetched, Duration::from_secs(5)).min(now),
            due: match self.failures {
                0 => sane(self.due, LONGEST_REFRESH),
                _ => sane(self.due, Duration::from_secs(LONGEST_BACKOFF.into())),
            },
            refetch_from: sane(self.refetch_from, REFETCH),
            leased_until: sane(self.leased_until, LONGEST_LEASE),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_read_as_it_was_written() {
        let schedule = Schedule {
            generation: 1,
            ended: 2,
            failures: 3,
            fetched: UnixTime::from_millis(4),
            due: UnixTime::from_millis(5),
            refetch_from: UnixTime::from_millis(6),
            leased_by: [7; 16],
            leased_until: UnixTime::from_millis(8),
        };
        let written = schedule.write();
        assert_eq!(Schedule::read(&written), Some(schedule));
        assert_eq!(Schedule::read(&written[1..]), None);
        assert_eq!(Schedule::read(&[&written[..], &[0]].concat()), None);
    }
}
