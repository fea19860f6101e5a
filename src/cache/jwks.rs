//! What a worker knows of an issuer: where it is, its keys, and when to ask it again. When to ask is a [`JwksRecord`] that
//! all workers share, so that one of them asks for all: it holds the lease while it does, the others look for what it
//! brings.

use std::time::Duration;

use crate::cache::backoff::jittered;
use crate::cache::exchanged_tokens::KeyPrefix;
use crate::cache::jwks_record::{JwksRecord, LONGEST_BACKOFF, LONGEST_REFRESH, REFETCH, read_document, write_document};
use crate::crypto::Crypto;
use crate::jose::KeySet;
use crate::provider::{Endpoints, Provider};
use crate::resource::ResourceId;
use crate::shared::{SharedKey, SharedStore};
use crate::time::UnixTime;
use crate::url::Url;

/// Not sooner are keys fetched again, whatever their provider's `Cache-Control` says.
const SHORTEST_REFRESH: Duration = Duration::from_secs(5 * 60);

/// When they are fetched again if it says nothing.
const USUAL_REFRESH: Duration = Duration::from_secs(3600);

/// How often a record is written again that another worker has written meanwhile.
const MOST_TRIES: usize = 4;

/// What is known of an issuer.
pub(crate) struct JwksCache {
    pub(crate) endpoints: Option<Endpoints>,
    pub(crate) keys: Option<KeySet>,
    /// The generation of the keys, and when they were fetched.
    generation: u64,
    fetched: UnixTime,
    /// What is known of the schedule that all workers share.
    schedule: JwksRecord,
    /// This VM has had a request.
    pub(crate) serves: bool,
    /// What the records are called that workers share; nothing is fetched, and so nothing shared, where it is missing.
    name: Option<Box<str>>,
    /// For how long keys are trusted that could not be fetched again; those that the operator wrote down do not age.
    oldest: Option<Duration>,
    /// How long a fetch keeps its lease, from each of its calls on.
    lease: Duration,
    /// For each resource, the digest of what shapes its tokens beside the subject token. Rests on the endpoints.
    shapes: Vec<(ResourceId, KeyPrefix)>,
}

/// Why keys are to be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefreshCause {
    /// It is time, or there are none.
    Due,
    /// A `kid` is not among them.
    UnknownKey,
}

/// Who fetches keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefreshLease {
    /// This worker.
    Ours,
    /// Another one.
    Others,
    /// Nobody: another worker has just found them, or has failed.
    Nobody,
}

/// What has changed with what is known of an issuer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct JwksChange {
    /// A key that was there is not any more, or an endpoint has moved: what rests on the old ones is to be forgotten.
    pub(crate) lost: bool,
    /// There are other keys than before.
    pub(crate) found: bool,
}

impl JwksCache {
    pub(crate) fn new(provider: &Provider, key: &SharedKey) -> Self {
        let endpoints = Endpoints::configured(provider);
        let is_fixed = endpoints.is_some() && provider.jwks.is_some();
        let url = |url: &Option<Url>| url.as_ref().map_or_else(String::new, |url| url.as_str().to_owned());
        let code = key.code(&[
            provider.issuer.as_str().as_bytes(),
            provider.cluster.as_bytes(),
            url(&provider.jwks_uri).as_bytes(),
            url(&provider.token_endpoint).as_bytes(),
            // Another endpoint is found then.
            &[provider.wants_mtls_alias().into()],
        ]);
        let code: String = code.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self {
            endpoints: if is_fixed { endpoints } else { None },
            keys: provider.jwks.clone(),
            generation: 0,
            fetched: UnixTime::default(),
            schedule: JwksRecord::default(),
            serves: false,
            name: (!is_fixed).then(|| format!("onbehalf.keys.{code}").into()),
            oldest: provider.jwks.is_none().then_some(provider.oldest_keys),
            lease: provider.callout_limit(),
            shapes: Vec::new(),
        }
    }

    /// The shape of the tokens for a resource; `make` is called the first time. `None`: the endpoints are not known.
    pub(crate) fn shape(
        &mut self,
        resource: ResourceId,
        make: impl FnOnce(&Endpoints) -> KeyPrefix,
    ) -> Option<&KeyPrefix> {
        let endpoints = self.endpoints.as_ref()?;
        if !self.shapes.iter().any(|(index, _)| *index == resource) {
            self.shapes.push((resource, make(endpoints)));
        }
        self.shapes.iter().find(|(index, _)| *index == resource).map(|(_, shape)| shape)
    }

    /// Whether keys are to be fetched: it is time, or there is nothing here although no fetch has failed, whatever the
    /// shared schedule says (its document may be unreadable, or too old for this worker's configuration).
    pub(crate) fn is_due(&self, now: UnixTime) -> bool {
        let is_bare = self.keys.is_none() || self.endpoints.is_none();
        let is_needed = is_bare && self.schedule.failures == 0 && self.schedule.may_try(self.serves, now);
        self.name.is_some() && (is_needed || self.schedule.is_due(self.serves, now))
    }

    /// How long until keys are fetched again, if a fetch has failed just now.
    pub(crate) fn pause(&self, now: UnixTime) -> Option<Duration> {
        (self.schedule.failures > 0 && now < self.schedule.due).then(|| self.schedule.due.since(now))
    }

    /// Whether a `kid` that is not in the set may wait for a fetch: for one that is under way, or for one of its own.
    pub(crate) fn may_refetch(&self, now: UnixTime) -> bool {
        let is_free = now >= self.schedule.refetch_from && self.pause(now).is_none();
        self.name.is_some() && (is_free || now < self.schedule.lease_end(self.serves))
    }

    /// How old the keys are, where they can age.
    pub(crate) fn age(&self, now: UnixTime) -> Option<Duration> {
        (self.oldest.is_some() && self.keys.is_some()).then(|| now.since(self.fetched))
    }

    /// Another worker is fetching, as far as is known here, and is left to it.
    pub(crate) fn is_fetched_by_others(&self, board: &SharedStore<'_>, now: UnixTime) -> bool {
        now < self.schedule.lease_end(self.serves) && self.schedule.leased_by != board.worker
    }

    /// Every span that was measured by an old clock ends.
    pub(crate) fn clock_went_back(&mut self) {
        self.schedule.due = UnixTime::default();
        self.schedule.idle_due = UnixTime::default();
        self.schedule.refetch_from = UnixTime::default();
        self.schedule.leased_until = UnixTime::default();
    }

    /// Gives up keys that are too old to be trusted. Whether there were such.
    pub(crate) fn drop_old(&mut self, now: UnixTime) -> bool {
        let too_old = self.age(now).zip(self.oldest).is_some_and(|(age, oldest)| age > oldest);
        if too_old {
            self.keys = None;
        }
        too_old
    }

    /// Takes over what another worker has found since.
    pub(crate) fn sync(&mut self, board: &SharedStore<'_>, provider: &Provider, now: UnixTime) -> JwksChange {
        let Some((Some(schedule), _)) = self.name.as_deref().map(|name| board.schedule(name, now)) else {
            return JwksChange::default();
        };
        self.take_over(schedule, board, provider, now)
    }

    /// A schedule that is behind what was known here has been put back by somebody: it is not believed.
    fn take_over(
        &mut self,
        schedule: JwksRecord,
        board: &SharedStore<'_>,
        provider: &Provider,
        now: UnixTime,
    ) -> JwksChange {
        let mut change = JwksChange::default();
        if schedule.is_behind(&self.schedule) {
            return change;
        }
        self.schedule = schedule;
        let is_fresh = self.oldest.is_none_or(|oldest| now.since(schedule.fetched) <= oldest);
        if schedule.generation > self.generation && is_fresh {
            let document = self.name.as_deref().and_then(|name| board.document(name, schedule.generation));
            // Where there is none, another is just being written over it, and will be there on the next look.
            if let Some((endpoints, keys)) = document.and_then(|document| read_document(&document, provider)) {
                change = self.put(endpoints, keys);
                self.generation = schedule.generation;
                self.fetched = schedule.fetched;
            }
        }
        change
    }

    fn put(&mut self, endpoints: Endpoints, keys: KeySet) -> JwksChange {
        let moved = self.endpoints.as_ref().is_some_and(|old| *old != endpoints);
        if moved {
            self.shapes.clear();
        }
        let lost = self.keys.as_ref().is_some_and(|old| !old.is_contained_in(&keys));
        let found = self.keys.as_ref().is_none_or(|old| !keys.is_contained_in(old));
        self.endpoints = Some(endpoints);
        self.keys = Some(keys);
        JwksChange { lost: lost || moved, found }
    }

    /// Asks for the right to fetch, which one worker at a time has.
    pub(crate) fn claim(
        &mut self,
        cause: RefreshCause,
        board: &SharedStore<'_>,
        provider: &Provider,
        now: UnixTime,
    ) -> (RefreshLease, JwksChange) {
        let mut change = JwksChange::default();
        let Some(name) = self.name.clone() else {
            return (RefreshLease::Nobody, change);
        };
        for _ in 0..MOST_TRIES {
            let (found, version) = board.schedule(&name, now);
            if let Some(found) = found {
                let more = self.take_over(found, board, provider, now);
                change = JwksChange { lost: change.lost || more.lost, found: change.found || more.found };
                if self.is_fetched_by_others(board, now) {
                    return (RefreshLease::Others, change);
                }
                let is_wanted = match cause {
                    RefreshCause::Due => self.is_due(now),
                    RefreshCause::UnknownKey => now >= self.schedule.refetch_from && self.pause(now).is_none(),
                };
                if !is_wanted || change.found {
                    return (RefreshLease::Nobody, change);
                }
            }
            // Taken over a moment ago, or ahead of what stands there.
            let mut next = self.schedule;
            next.leased_by = board.worker;
            next.leased_until = now.plus(self.lease);
            next.leased_from = now;
            next.is_lease_idle = !self.serves;
            next.is_served |= self.serves;
            if cause == RefreshCause::UnknownKey {
                next.refetch_from = now.plus(REFETCH);
            }
            if board.put_schedule(&name, next, version) {
                self.schedule = next;
                break;
            }
        }
        (RefreshLease::Ours, change)
    }

    /// A fetch of ours goes on with another call. Where the lease has gone to another worker, both go on: what ends first is
    /// there first, and neither undoes the other.
    pub(crate) fn is_fetch_pending(&mut self, board: &SharedStore<'_>, now: UnixTime) {
        let Some(name) = self.name.clone() else {
            return;
        };
        for _ in 0..MOST_TRIES {
            let (found, version) = board.schedule(&name, now);
            let ours = found.filter(|found| found.leased_by == board.worker && !found.is_behind(&self.schedule));
            let Some(mut next) = ours else {
                return;
            };
            next.leased_until = now.plus(self.lease);
            next.leased_from = now;
            if board.put_schedule(&name, next, version) {
                self.schedule = next;
                return;
            }
        }
    }

    /// Keys were fetched, and are for everyone.
    pub(crate) fn fetched(
        &mut self,
        found: (Endpoints, KeySet, &[u8]),
        max_age: Option<Duration>,
        board: &SharedStore<'_>,
        crypto: &dyn Crypto,
        now: UnixTime,
    ) -> JwksChange {
        let (endpoints, keys, jwks) = found;
        // Half of what keys may live is left for fetches that fail.
        let half = self.oldest.and_then(|oldest| oldest.checked_div(2));
        let longest = half.map_or(LONGEST_REFRESH, |half| LONGEST_REFRESH.min(half));
        let refresh = max_age.unwrap_or(USUAL_REFRESH).clamp(SHORTEST_REFRESH.min(longest), longest);
        let due = now.plus(jittered(refresh, crypto));
        let document = write_document(&endpoints, jwks);
        let change = self.put(endpoints, keys);
        self.fetched = now;
        self.ended(board, now, Some(&document), |schedule| {
            schedule.failures = 0;
            schedule.idle_failures = 0;
            schedule.idle_due = UnixTime::default();
            schedule.fetched = now;
            schedule.due = due;
        });
        change
    }

    /// Keys could not be fetched; what is there stays. In an idle VM that says nothing to those that serve.
    pub(crate) fn failed(&mut self, board: &SharedStore<'_>, crypto: &dyn Crypto, now: UnixTime) {
        let serves = self.serves;
        let failures = if serves { self.schedule.failures } else { self.schedule.idle_failures };
        let pause = 1_u32.checked_shl(failures).unwrap_or(LONGEST_BACKOFF).min(LONGEST_BACKOFF);
        let due = now.plus(jittered(Duration::from_secs(pause.into()), crypto));
        self.ended(board, now, None, |schedule| match serves {
            true => {
                schedule.failures = schedule.failures.saturating_add(1);
                schedule.due = due;
            }
            false => {
                schedule.idle_failures = schedule.idle_failures.saturating_add(1);
                schedule.idle_due = due;
            }
        });
    }

    /// A fetch of ours is over: the lease is given back, with what `change` makes of the schedule. The document is of
    /// keys that were found; without one the fetch has failed.
    fn ended(
        &mut self,
        board: &SharedStore<'_>,
        now: UnixTime,
        document: Option<&[u8]>,
        change: impl Fn(&mut JwksRecord),
    ) {
        let Some(name) = self.name.clone() else {
            return;
        };
        for _ in 0..MOST_TRIES {
            let (found, version) = board.schedule(&name, now);
            let found = found.filter(|found| !found.is_behind(&self.schedule));
            if document.is_none() && found.is_some_and(|found| found.leased_by != board.worker) {
                // The lease was over, and another worker has taken it: what came of that counts.
                return;
            }
            let mut next = found.unwrap_or(self.schedule);
            if let Some(document) = document {
                next.generation = next.generation.saturating_add(1);
                board.put_document(&name, next.generation, document);
            }
            change(&mut next);
            next.ended = next.ended.saturating_add(1);
            next.leased_until = UnixTime::default();
            if board.put_schedule(&name, next, version) {
                self.schedule = next;
                if document.is_some() {
                    self.generation = next.generation;
                }
                return;
            }
        }
        // The record is contested beyond reason: what came of the fetch counts here all the same.
        change(&mut self.schedule);
        self.schedule.leased_until = UnixTime::default();
    }

    /// How often a fetch has ended, as far as is known here.
    pub(crate) fn ended_fetches(&self) -> u64 {
        self.schedule.ended
    }
}
