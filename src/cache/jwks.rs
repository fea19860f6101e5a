//! JWKS cache of one issuer: its endpoints, its keys, and the schedule of fetches.
//!
//! All workers share the schedule ([`JwksRecord`]), so that one worker fetches for all: it holds the lease meanwhile, and the
//! others take over the document that it stores.

use std::rc::Rc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::cache::backoff::{exponential, jittered};
use crate::cache::exchanged_tokens::KeyPrefix;
use crate::cache::jwks_record::{self, JwksRecord, MAX_BACKOFF_SECS, MAX_REFRESH, REFETCH_INTERVAL};
use crate::crypto::Crypto;
use crate::jose::KeySet;
use crate::provider::{Endpoints, Provider};
use crate::resource::ResourceId;
use crate::shared::{Lease, SharedKey, SharedStore, Update, Updated};
use crate::time::UnixTime;
use crate::url::Url;

/// Minimum time between two fetches, whatever the provider's `Cache-Control` says.
const MIN_REFRESH: Duration = Duration::from_secs(5 * 60);

/// Age below which keys are not fetched again because of a signature.
const JUST_FETCHED: Duration = Duration::from_secs(1);

/// Time between two fetches if the provider sends no `Cache-Control`.
const DEFAULT_REFRESH: Duration = Duration::from_secs(3600);

/// JWKS of one issuer, as one worker knows it.
pub(crate) struct JwksCache {
    /// Endpoints of the issuer. `None`: not discovered yet.
    pub(crate) endpoints: Option<Endpoints>,
    /// Keys of the issuer. `None`: not fetched yet, or expired.
    pub(crate) keys: Option<KeySet>,
    /// Generation of the keys in the shared record.
    generation: u64,
    /// Time of the fetch of the keys.
    fetched: UnixTime,
    /// Latest shared record that this worker has read or written.
    record: JwksRecord,
    /// This VM has had a request.
    pub(crate) serves: bool,
    /// Name of the shared record. `None`: keys and endpoints are configured, and nothing is fetched.
    name: Option<Rc<str>>,
    /// Maximum age of keys that cannot be fetched again. `None`: keys are configured and do not age.
    max_age: Option<Duration>,
    /// Time of a lease, from the start of each call under it.
    lease_time: Duration,
    /// Prefix of the cache keys of the exchanged tokens of each resource. It depends on the endpoints.
    key_prefixes: FxHashMap<ResourceId, KeyPrefix>,
}

/// Reason for a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefreshCause {
    /// The schedule says so, or there are no keys.
    Due,
    /// No key verifies a token: its `kid` is unknown, or another key may be published under it by now.
    NoKeyFits,
}

/// Result of a request for the lease of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefreshLease {
    /// This worker fetches.
    Acquired,
    /// Another worker fetches.
    HeldByOther,
    /// No fetch is due: another worker has fetched the keys meanwhile, or a fetch has just failed.
    NotDue,
}

/// Effect of a new document on tokens that were verified or exchanged before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct JwksChange {
    /// A key is gone or an endpoint has moved: verified tokens must be verified again.
    pub(crate) invalidates_tokens: bool,
    /// There is a key that was not there before.
    pub(crate) adds_keys: bool,
}

impl JwksChange {
    fn and(self, other: Self) -> Self {
        Self {
            invalidates_tokens: self.invalidates_tokens || other.invalidates_tokens,
            adds_keys: self.adds_keys || other.adds_keys,
        }
    }
}

impl JwksCache {
    /// Cache of a provider's issuer, with the configured keys and endpoints. It calls nothing.
    pub(crate) fn new(provider: &Provider, key: &SharedKey) -> Self {
        let endpoints = Endpoints::configured(provider);
        let is_fixed = endpoints.is_some() && provider.jwks.is_some();
        let name = || {
            let url = |url: &Option<Url>| url.as_ref().map_or_else(String::new, |url| url.as_str().to_owned());
            let code = key.mac_hex::<16>(&[
                provider.issuer.as_str().as_bytes(),
                provider.cluster.as_bytes(),
                provider.jwks_cluster.as_bytes(),
                provider.token_cluster.as_bytes(),
                url(&provider.jwks_uri).as_bytes(),
                url(&provider.token_endpoint).as_bytes(),
                // Metadata has another token endpoint for mutual TLS (RFC 8705 section 5).
                &[provider.wants_mtls_alias().into()],
                // A record has a token endpoint only if there is a client, and keys only if they are fetched.
                &[provider.client.is_some().into(), provider.jwks.is_some().into()],
            ]);
            format!("onbehalf.keys.{code}").into()
        };
        Self {
            endpoints: if is_fixed { endpoints } else { None },
            keys: provider.jwks.clone(),
            generation: 0,
            fetched: UnixTime::default(),
            record: JwksRecord::default(),
            serves: false,
            name: (!is_fixed).then(name),
            max_age: provider.jwks.is_none().then_some(provider.oldest_keys),
            lease_time: provider.callout_limit(),
            key_prefixes: FxHashMap::default(),
        }
    }

    /// Prefix of the cache keys of the exchanged tokens of a resource; `make` is called the first time. `None`: the endpoints
    /// are not known yet.
    pub(crate) fn key_prefix(
        &mut self,
        resource: ResourceId,
        make: impl FnOnce(&Endpoints) -> KeyPrefix,
    ) -> Option<&KeyPrefix> {
        let endpoints = self.endpoints.as_ref()?;
        Some(self.key_prefixes.entry(resource).or_insert_with(|| make(endpoints)))
    }

    /// Returns `true` if the JWKS must be fetched: the schedule says so, or this worker has no keys although no fetch has
    /// failed. In that case the shared document is unreadable, or too old for the configuration of this worker.
    pub(crate) fn is_due(&self, now: UnixTime) -> bool {
        let is_empty = self.keys.is_none() || self.endpoints.is_none();
        let is_missing = is_empty && self.record.failures == 0 && self.record.may_try(self.serves, now);
        self.name.is_some() && (is_missing || self.record.is_due(self.serves, now))
    }

    /// Remaining back-off after a failed fetch. `None`: the last fetch did not fail, or the back-off is over.
    pub(crate) fn remaining_backoff(&self, now: UnixTime) -> Option<Duration> {
        (self.record.failures > 0 && now < self.record.due).then(|| self.record.due.since(now))
    }

    /// Returns `true` if a request whose token no key verifies may wait for a fetch: for one in flight, or for a new one.
    pub(crate) fn may_refetch(&self, now: UnixTime) -> bool {
        self.max_age.is_some() && (self.is_refetch_allowed(now) || self.record.lease_for(self.serves).is_held(now))
    }

    fn is_refetch_allowed(&self, now: UnixTime) -> bool {
        now >= self.record.refetch_from && self.remaining_backoff(now).is_none()
    }

    /// Returns `true` if the keys are so new that another fetch would bring the same.
    pub(crate) fn is_just_fetched(&self, now: UnixTime) -> bool {
        self.age(now).is_some_and(|age| age < JUST_FETCHED)
    }

    /// Age of the keys. `None`: there are none, or they are configured and do not age.
    pub(crate) fn age(&self, now: UnixTime) -> Option<Duration> {
        (self.max_age.is_some() && self.keys.is_some()).then(|| now.since(self.fetched))
    }

    /// Returns `true` if another worker holds the lease, by the record that this worker has read last.
    pub(crate) fn is_leased_by_other(&self, store: &SharedStore, now: UnixTime) -> bool {
        self.record.lease_for(self.serves).is_held_by_other(store.worker(), now)
    }

    /// Number of completed fetches, by the record that this worker has read last.
    pub(crate) fn completed_fetches(&self) -> u64 {
        self.record.completed
    }

    /// Removes all times of the clock before it was set back.
    pub(crate) fn clock_went_back(&mut self) {
        self.record.due = UnixTime::default();
        self.record.idle_due = UnixTime::default();
        self.record.refetch_from = UnixTime::default();
        self.record.lease.release();
    }

    /// Removes keys that are older than their maximum age. Returns `true` if there were such keys.
    pub(crate) fn remove_expired(&mut self, now: UnixTime) -> bool {
        let is_expired = self.age(now).zip(self.max_age).is_some_and(|(age, max)| age > max);
        if is_expired {
            self.keys = None;
        }
        is_expired
    }

    /// Takes over the keys that another worker has fetched since the last look at the record.
    pub(crate) fn sync(&mut self, store: &SharedStore, provider: &Provider, now: UnixTime) -> JwksChange {
        let content = self.name.as_deref().and_then(|name| store.read(name));
        let record = content.and_then(|content| JwksRecord::read(&content, now));
        record.map_or_else(JwksChange::default, |record| self.take_over(record, store, provider, now))
    }

    /// Takes over a record and its document. A record that is behind the last one that this worker has read is ignored:
    /// another plugin has put it back.
    fn take_over(&mut self, record: JwksRecord, store: &SharedStore, provider: &Provider, now: UnixTime) -> JwksChange {
        if record.is_behind(&self.record) {
            return JwksChange::default();
        }
        self.record = record;
        let is_fresh = self.max_age.is_none_or(|max| now.since(record.fetched) <= max);
        let Some(name) = self.name.as_deref().filter(|_| record.generation > self.generation && is_fresh) else {
            return JwksChange::default();
        };
        // A document of another generation is about to be replaced: the next look finds the right one.
        let document = jwks_record::document(store, name, record.generation);
        let Some((endpoints, keys)) = document.and_then(|document| jwks_record::read_document(&document, provider))
        else {
            return JwksChange::default();
        };
        self.generation = record.generation;
        self.fetched = record.fetched;
        self.replace(endpoints, keys)
    }

    fn replace(&mut self, endpoints: Endpoints, keys: KeySet) -> JwksChange {
        let has_moved = self.endpoints.as_ref().is_some_and(|old| *old != endpoints);
        if has_moved {
            self.key_prefixes.clear();
        }
        let has_lost_keys = self.keys.as_ref().is_some_and(|old| !old.is_contained_in(&keys));
        let adds_keys = self.keys.as_ref().is_none_or(|old| !keys.is_contained_in(old));
        self.endpoints = Some(endpoints);
        self.keys = Some(keys);
        JwksChange { invalidates_tokens: has_lost_keys || has_moved, adds_keys }
    }

    /// Acquires the lease of a fetch, which one worker at a time holds. After a conflict in every attempt this worker fetches
    /// without a lease: another worker may fetch at the same time.
    pub(crate) fn acquire_lease(
        &mut self,
        cause: RefreshCause,
        store: &SharedStore,
        provider: &Provider,
        now: UnixTime,
    ) -> (RefreshLease, JwksChange) {
        let mut change = JwksChange::default();
        let Some(name) = self.name.clone() else {
            return (RefreshLease::NotDue, change);
        };
        let updated = store.update(&name, |content| {
            if let Some(record) = content.and_then(|content| JwksRecord::read(content, now)) {
                change = change.and(self.take_over(record, store, provider, now));
                if self.is_leased_by_other(store, now) {
                    return Update::Keep(Err(RefreshLease::HeldByOther));
                }
                let is_wanted = match cause {
                    RefreshCause::Due => self.is_due(now),
                    RefreshCause::NoKeyFits => self.is_refetch_allowed(now),
                };
                if !is_wanted || change.adds_keys {
                    return Update::Keep(Err(RefreshLease::NotDue));
                }
            }
            // `self.record` is the record that was just read, or a later one if that was put back.
            let mut next = self.record;
            next.lease = Lease::granted(store.worker(), self.lease_time, now);
            next.call_started = now;
            next.is_lease_idle = !self.serves;
            next.has_serving_vm |= self.serves;
            if cause == RefreshCause::NoKeyFits {
                next.refetch_from = now.plus(REFETCH_INTERVAL);
            }
            Update::Write(next.write(), Ok(next))
        });
        match updated {
            Updated::Done(Ok(next)) => self.record = next,
            Updated::Contested(Ok(_)) => {}
            Updated::Done(Err(lease)) | Updated::Contested(Err(lease)) => return (lease, change),
        }
        (RefreshLease::Acquired, change)
    }

    /// Extends the lease of this worker for the next call of the same fetch. Where another worker has taken the lease meanwhile,
    /// or has written the record in every attempt, both fetch, and the later result does not undo the earlier one.
    pub(crate) fn extend_lease(&mut self, store: &SharedStore, now: UnixTime) {
        let Some(name) = self.name.clone() else {
            return;
        };
        let updated = store.update(&name, |content| {
            let record = content.and_then(|content| JwksRecord::read(content, now));
            let is_own = |record: &JwksRecord| record.lease.holder == store.worker() && !record.is_behind(&self.record);
            let Some(mut next) = record.filter(is_own) else {
                return Update::Keep(None);
            };
            next.lease = Lease::granted(store.worker(), self.lease_time, now);
            next.call_started = now;
            Update::Write(next.write(), Some(next))
        });
        if let Updated::Done(Some(next)) = updated {
            self.record = next;
        }
    }

    /// Stores the result of a fetch, for this worker and all others. `max_age`: lifetime in the response's `Cache-Control`.
    pub(crate) fn record_success(
        &mut self,
        (endpoints, keys, jwks): (Endpoints, KeySet, &[u8]),
        max_age: Option<Duration>,
        store: &SharedStore,
        crypto: &dyn Crypto,
        now: UnixTime,
    ) -> JwksChange {
        // Half of the maximum age of keys remains for fetches that fail.
        let half = self.max_age.and_then(|max| max.checked_div(2));
        let max_refresh = half.map_or(MAX_REFRESH, |half| MAX_REFRESH.min(half));
        let refresh = max_age.unwrap_or(DEFAULT_REFRESH).clamp(MIN_REFRESH.min(max_refresh), max_refresh);
        let due = now.plus(jittered(refresh, crypto));
        let document = jwks_record::write_document(&endpoints, jwks);
        let change = self.replace(endpoints, keys);
        self.fetched = now;
        self.complete_fetch(store, now, Some(&document), |record| {
            record.failures = 0;
            record.idle_failures = 0;
            record.idle_due = UnixTime::default();
            record.fetched = now;
            record.due = due;
        });
        change
    }

    /// Records a failed fetch; the keys stay. A failure of an idle VM does not count for serving VMs.
    pub(crate) fn record_failure(&mut self, store: &SharedStore, crypto: &dyn Crypto, now: UnixTime) {
        let serves = self.serves;
        let failures = if serves { self.record.failures } else { self.record.idle_failures };
        let backoff = Duration::from_secs(exponential(failures, MAX_BACKOFF_SECS).into());
        let due = now.plus(jittered(backoff, crypto));
        self.complete_fetch(store, now, None, |record| match serves {
            true => {
                record.failures = record.failures.saturating_add(1);
                record.due = due;
            }
            false => {
                record.idle_failures = record.idle_failures.saturating_add(1);
                record.idle_due = due;
            }
        });
    }

    /// Releases the lease after a fetch, with `change` to the record. `document`: keys that were found; `None` after a failure.
    /// After a conflict in every attempt, the result counts for this worker only.
    fn complete_fetch(
        &mut self,
        store: &SharedStore,
        now: UnixTime,
        document: Option<&[u8]>,
        change: impl Fn(&mut JwksRecord),
    ) {
        let Some(name) = self.name.clone() else {
            return;
        };
        let updated = store.update(&name, |content| {
            let record = content.and_then(|content| JwksRecord::read(content, now));
            let record = record.filter(|record| !record.is_behind(&self.record));
            if document.is_none() && record.is_some_and(|record| record.lease.holder != store.worker()) {
                // The lease had expired, and another worker has taken it: the result of that worker counts.
                return Update::Keep(None);
            }
            let mut next = record.unwrap_or(self.record);
            if let Some(document) = document {
                next.generation = next.generation.saturating_add(1);
                jwks_record::put_document(store, &name, next.generation, document);
            }
            change(&mut next);
            next.completed = next.completed.saturating_add(1);
            next.lease.release();
            Update::Write(next.write(), Some(next))
        });
        match updated {
            Updated::Done(Some(next)) => {
                self.record = next;
                if document.is_some() {
                    self.generation = next.generation;
                }
            }
            Updated::Contested(Some(_)) => {
                change(&mut self.record);
                self.record.lease.release();
            }
            Updated::Done(None) | Updated::Contested(None) => {}
        }
    }
}
