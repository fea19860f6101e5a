//! Circuit breakers for token endpoints, shared by all workers of a process (docs/adr/0016).
//!
//! Closed: exchanges flow. Open: exchanges are refused, after rate limits for as long as the provider asks, after several
//! outages in a row for a back-off. Half-open: the back-off is over and one exchange in the process is the probe; any response to
//! it closes the breaker. No single user opens a breaker for others: of one user's failures in a row at most two count, and a rate
//! limit holds for its user alone until another user gets one as well.

use std::time::Duration;

use crate::cache::backoff::{exponential, jittered};
use crate::cache::exchanged_tokens::TokenKey;
use crate::crypto::Crypto;
use crate::provider::{Provider, ProviderId, TokenExchangeTarget};
use crate::refusal::Reason;
use crate::shared::{CLOCK_TOLERANCE, SharedStore, Update, Updated};
use crate::time::UnixTime;

/// Maximum time for which rate limits keep a breaker open: two users may have caused them.
const MAX_THROTTLE: Duration = Duration::from_secs(60);

/// Number of exchanges in a row without a response, not all of one user, that open a breaker.
const OUTAGES_TO_OPEN: u32 = 3;

/// Maximum back-off after outages, in seconds.
const MAX_BACKOFF_SECS: u32 = 30;

/// Maximum time after an open state for which tokens are not renewed yet: users without a token come first.
const RENEWAL_DELAY: Duration = Duration::from_secs(10);

/// Maximum age of a record, and maximum time from now to the end of an open state in it.
const MAX_RECORD_AGE: Duration = Duration::from_secs(120);

/// Circuit breakers that have been open, or were read from shared memory, in this worker. A breaker that is missing is closed.
#[derive(Default)]
pub(crate) struct CircuitBreakers(Vec<(BreakerKey, Breaker)>);

/// Token endpoint that a breaker is for: exchanges of one tenant's users at one provider. Exchanges that end at the
/// authorization server of a resource (ID-JAG) have a breaker of their own: their failures say nothing about other exchanges.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct BreakerKey {
    /// Provider of the caller's token.
    pub(crate) provider: ProviderId,
    /// Tenant of the caller's token, if the provider has tenants.
    tenant: Option<String>,
    /// Token endpoint of the second hop, at the authorization server of the resource, if the exchange has one.
    second_endpoint: Option<Box<str>>,
}

/// State of a breaker at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BreakerState {
    /// Exchanges flow.
    Closed,
    /// Exchanges are refused.
    Open(BreakerOpen),
    /// The next exchange is the probe.
    HalfOpen,
}

/// Refusal by an open breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BreakerOpen {
    /// [`Reason::ProviderThrottled`] or [`Reason::ProviderUnavailable`].
    pub(crate) reason: Reason,
    /// Time until the breaker lets an exchange through.
    pub(crate) retry_after: Duration,
}

/// Record of a breaker.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Breaker {
    /// End of the open state, exclusive.
    open_until: UnixTime,
    /// The open state comes from a rate limit, not from outages.
    is_throttled: bool,
    /// Number of outages in a row that count for all users.
    outages: u32,
    /// User of the last outage.
    last_user: UserHash,
    /// The outages in a row are of several users.
    has_several_users: bool,
    /// Number of further outages of `last_user` in a row, which count for that user only.
    user_outages: u32,
    /// End of the time for which exchanges of `last_user` alone are refused, exclusive.
    user_until: UnixTime,
    /// Start of the last open state after outages. Exchanges that were in flight then tell nothing new.
    opened: UnixTime,
    /// User of the last rate limit.
    throttled_user: UserHash,
    /// End of the time for which a rate limit holds for `throttled_user`, exclusive.
    throttled_user_until: UnixTime,
    /// Time of the last write.
    written: UnixTime,
}

/// User as a part of an authentication code, so that records name no user.
type UserHash = [u8; 4];

/// Inputs of the changes to a breaker.
pub(crate) struct BreakerContext<'a> {
    /// Shared memory.
    pub(crate) store: &'a SharedStore,
    /// Randomness for the jitter.
    pub(crate) crypto: &'a dyn Crypto,
    /// Provider of the breaker's key.
    pub(crate) provider: &'a Provider,
    pub(crate) now: UnixTime,
}

impl CircuitBreakers {
    /// Returns an error if a breaker is open, as far as this worker knows.
    pub(crate) fn check(&self, key: &BreakerKey, now: UnixTime) -> Result<(), BreakerOpen> {
        match self.get(key).map_or(BreakerState::Closed, |breaker| breaker.state(now)) {
            BreakerState::Closed | BreakerState::HalfOpen => Ok(()),
            BreakerState::Open(open) => Err(open),
        }
    }

    /// Returns `true` if a token may be renewed: the breaker is not open, and was not open a part of [`RENEWAL_DELAY`] ago. The part
    /// differs by token, so that renewals do not all begin at once.
    pub(crate) fn allows_renewal(&self, key: &BreakerKey, token: &TokenKey, now: UnixTime) -> bool {
        self.check(key, now.minus(token.share_of(RENEWAL_DELAY))).is_ok()
    }

    /// Keys of the breakers that are open, as far as this worker knows.
    pub(crate) fn open_breakers(&self, now: UnixTime) -> Vec<BreakerKey> {
        self.0.iter().filter(|(_, breaker)| breaker.is_open(now)).map(|(key, _)| key.clone()).collect()
    }

    /// Takes over the state that other workers have recorded: a probe may have closed the breaker.
    pub(crate) fn sync(&mut self, key: &BreakerKey, context: &BreakerContext<'_>) {
        let content = context.store.read(&context.name(key));
        self.set(key, context.breaker(content.as_deref()));
    }

    /// Forgets all breakers: their times are of a clock that was set back. Shared records of that clock are ignored.
    pub(crate) fn clock_went_back(&mut self) {
        self.0.clear();
    }

    /// Lets an exchange for `user` through, or refuses it. In the half-open state the exchange becomes the probe, and all others
    /// are refused until it has had time to end. After a conflict in every attempt the exchange is let through as a second probe.
    pub(crate) fn try_acquire(
        &mut self,
        key: &BreakerKey,
        user: &str,
        context: &BreakerContext<'_>,
    ) -> Result<(), BreakerOpen> {
        let now = context.now;
        let updated = context.store.update(&context.name(key), |content| {
            let breaker = context.breaker(content);
            self.set(key, breaker);
            match breaker.state(now) {
                BreakerState::Open(open) => return Update::Keep(Err(open)),
                _ if breaker.is_user_throttled(now) && breaker.throttled_user == context.user_hash(user) => {
                    let retry_after = breaker.throttled_user_until.since(now);
                    return Update::Keep(Err(BreakerOpen { reason: Reason::ProviderThrottled, retry_after }));
                }
                BreakerState::Closed => return Update::Keep(Ok(None)),
                BreakerState::HalfOpen => {}
            }
            let is_last_user = breaker.last_user == context.user_hash(user);
            if is_last_user && now < breaker.user_until {
                let retry_after = breaker.user_until.since(now);
                return Update::Keep(Err(BreakerOpen { reason: Reason::ProviderUnavailable, retry_after }));
            }
            let probe_end = now.plus(context.provider.callout_limit());
            let next = match is_last_user && breaker.user_outages > 0 {
                // A user whose probe has failed before holds up no other user.
                true => Breaker { user_until: probe_end, written: now, ..breaker },
                false => Breaker { open_until: probe_end, is_throttled: false, written: now, ..breaker },
            };
            Update::Write(next.write(), Ok(Some(next)))
        });
        if let Updated::Done(Ok(Some(next))) = updated {
            self.set(key, next);
        }
        updated.into_value().map(|_| ())
    }

    /// Records a rate limit in an exchange for `user`, for `pause`, at most [`MAX_THROTTLE`]. It refuses exchanges of that user, and
    /// opens the breaker for all users if the rate limit of another user has not ended yet. Of rate limits at once, the longest
    /// counts.
    pub(crate) fn record_throttle(
        &mut self,
        key: &BreakerKey,
        user: &str,
        pause: Duration,
        context: &BreakerContext<'_>,
    ) {
        let (user, now) = (context.user_hash(user), context.now);
        let until = now.plus(pause.min(MAX_THROTTLE));
        self.update(key, context, |breaker| breaker.with_response().with_rate_limit(user, until, now));
    }

    /// Records an exchange for `user` without a response, which began at `started`. Returns the back-off of that user.
    pub(crate) fn record_outage(
        &mut self,
        key: &BreakerKey,
        user: &str,
        started: UnixTime,
        context: &BreakerContext<'_>,
    ) -> Duration {
        let (user, now) = (context.user_hash(user), context.now);
        let second = jittered(Duration::from_secs(1), context.crypto);
        let backoff = |outages: u32| second.saturating_mul(exponential(outages.saturating_sub(1), MAX_BACKOFF_SECS));
        let user_backoff = |breaker: &Breaker| backoff(breaker.outages.saturating_add(breaker.user_outages));
        let next = self.update(key, context, |breaker| {
            if breaker.is_tripped() && started < breaker.opened {
                return breaker;
            }
            if breaker.is_tripped() && breaker.last_user == user {
                return breaker.with_failed_probe(now, user_backoff);
            }
            breaker.with_outage(user, now, backoff)
        });
        user_backoff(&next)
    }

    /// Records a response to an exchange, whatever its status: closes the breaker, unless it is open for a rate limit.
    pub(crate) fn record_success(&mut self, key: &BreakerKey, context: &BreakerContext<'_>) {
        let content = context.store.read(&context.name(key));
        let breaker = context.breaker(content.as_deref());
        if breaker.outages == 0 {
            self.set(key, breaker);
            return;
        }
        self.update(key, context, Breaker::with_response);
    }

    /// Changes a breaker and its shared record. After a conflict in every attempt the change counts for this worker only, until
    /// the next [`sync`](Self::sync).
    fn update(
        &mut self,
        key: &BreakerKey,
        context: &BreakerContext<'_>,
        change: impl Fn(Breaker) -> Breaker,
    ) -> Breaker {
        let updated = context.store.update(&context.name(key), |content| {
            let next = Breaker { written: context.now, ..change(context.breaker(content)) };
            Update::Write(next.write(), next)
        });
        let next = updated.into_value();
        self.set(key, next);
        next
    }

    fn get(&self, key: &BreakerKey) -> Option<&Breaker> {
        self.0.iter().find(|(other, _)| other == key).map(|(_, breaker)| breaker)
    }

    fn set(&mut self, key: &BreakerKey, breaker: Breaker) {
        match self.0.iter_mut().find(|(other, _)| other == key) {
            Some(entry) => entry.1 = breaker,
            None if breaker == Breaker::default() => {}
            None => self.0.push((key.clone(), breaker)),
        }
    }
}

impl BreakerKey {
    /// Key for exchanges of `target` for users of a provider's tenant.
    pub(crate) fn new(provider: ProviderId, tenant: Option<&str>, target: &TokenExchangeTarget) -> Self {
        Self {
            provider,
            tenant: tenant.map(str::to_owned),
            second_endpoint: target.authorization_server().map(|server| server.token_endpoint.as_str().into()),
        }
    }
}

impl BreakerContext<'_> {
    /// Name of the shared record. Their number is bounded by the tenants and the second hops of the configuration.
    fn name(&self, key: &BreakerKey) -> String {
        let mut place = key.tenant.clone().unwrap_or_default();
        if let Some(second_endpoint) = &key.second_endpoint {
            place.push(' ');
            place.push_str(second_endpoint);
        }
        let parts = [&*self.provider.name, self.provider.issuer.as_str(), &*self.provider.token_cluster, &place];
        format!("onbehalf.circuit.{}", self.store.key().mac_hex::<16>(&parts.map(str::as_bytes)))
    }

    fn user_hash(&self, user: &str) -> UserHash {
        self.store.key().mac(&[b"user", user.as_bytes()]).first_chunk().copied().unwrap_or_default()
    }

    /// Breaker in a record. A missing, old or malformed record is a closed breaker, and so is one of a clock that was set back.
    fn breaker(&self, content: Option<&[u8]>) -> Breaker {
        let is_sane = |breaker: &Breaker| {
            breaker.written <= self.now.plus(CLOCK_TOLERANCE)
                && self.now.since(breaker.written) <= MAX_RECORD_AGE
                && breaker.open_until.max(breaker.user_until).max(breaker.throttled_user_until)
                    <= self.now.plus(MAX_RECORD_AGE)
        };
        content.and_then(Breaker::read).filter(is_sane).unwrap_or_default()
    }
}

impl Breaker {
    fn state(&self, now: UnixTime) -> BreakerState {
        if self.is_open(now) {
            let reason = if self.is_throttled { Reason::ProviderThrottled } else { Reason::ProviderUnavailable };
            return BreakerState::Open(BreakerOpen { reason, retry_after: self.open_until.since(now) });
        }
        if self.is_tripped() { BreakerState::HalfOpen } else { BreakerState::Closed }
    }

    fn is_open(&self, now: UnixTime) -> bool {
        now < self.open_until
    }

    /// Returns `true` if outages have opened the breaker and no response has closed it since: it is open or half-open.
    const fn is_tripped(&self) -> bool {
        self.outages >= OUTAGES_TO_OPEN && self.has_several_users
    }

    /// End of a rate limit. The epoch: there is none.
    fn throttled_until(&self) -> UnixTime {
        if self.is_throttled { self.open_until } else { UnixTime::default() }
    }

    /// Returns `true` if a rate limit holds for `throttled_user`.
    fn is_user_throttled(&self, now: UnixTime) -> bool {
        now < self.throttled_user_until
    }

    /// Breaker after a response: outages are over, and rate limits stay.
    fn with_response(self) -> Self {
        Self {
            open_until: self.throttled_until(),
            is_throttled: self.is_throttled,
            throttled_user: self.throttled_user,
            throttled_user_until: self.throttled_user_until,
            ..Self::default()
        }
    }

    /// Breaker after a rate limit until `until`. Providers may limit the client or each user. While the rate limit of another user
    /// holds, the client is assumed to be limited.
    fn with_rate_limit(self, user: UserHash, until: UnixTime, now: UnixTime) -> Self {
        // A rate limit that has ended ends before `until`.
        let until = until.max(self.throttled_user_until);
        let next = Self { throttled_user: user, throttled_user_until: until, ..self };
        match self.is_user_throttled(now) && self.throttled_user != user {
            true => Self { open_until: until.max(self.throttled_until()), is_throttled: true, ..next },
            false => next,
        }
    }

    /// Breaker after a probe failed for the user whose exchange failed last: another user may probe at once, and the user alone
    /// waits for the back-off.
    fn with_failed_probe(self, now: UnixTime, user_backoff: impl Fn(&Self) -> Duration) -> Self {
        let next = Self { user_outages: self.user_outages.saturating_add(1), ..self };
        let is_first = self.user_outages == 0 && !self.is_throttled;
        let open_until = if is_first { self.open_until.min(now) } else { self.open_until };
        Self { open_until, user_until: now.plus(user_backoff(&next)), ..next }
    }

    /// Breaker after another outage in a row. A rate limit that the provider has asked for meanwhile stays.
    fn with_outage(self, user: UserHash, now: UnixTime, backoff: impl Fn(u32) -> Duration) -> Self {
        let throttled_until = self.throttled_until();
        let open_until = throttled_until.max(self.open_until.min(now));
        let breaker = Self { open_until, is_throttled: now < throttled_until, ..self };
        let is_of_one_user = self.outages > 0 && !self.has_several_users && self.last_user == user;
        let outages = self.outages.saturating_add(1);
        if is_of_one_user && outages >= OUTAGES_TO_OPEN {
            return Self { user_outages: self.user_outages.saturating_add(1), ..breaker };
        }
        let next = Self {
            outages,
            has_several_users: self.outages > 0 && !is_of_one_user,
            last_user: user,
            user_outages: 0,
            user_until: UnixTime::default(),
            ..breaker
        };
        match next.is_tripped() {
            true => Self { open_until: open_until.max(now.plus(backoff(outages))), opened: now, ..next },
            false => next,
        }
    }

    fn write(&self) -> Vec<u8> {
        let times = [self.open_until, self.user_until, self.opened, self.throttled_user_until, self.written];
        let times = times.map(|time| time.millis().to_le_bytes());
        let counts = [self.outages, self.user_outages].map(u32::to_le_bytes);
        let flags = [u8::from(self.is_throttled), u8::from(self.has_several_users)];
        [times.as_flattened(), counts.as_flattened(), &self.last_user, &self.throttled_user, &flags].concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (times, rest) = bytes.split_first_chunk::<40>()?;
        let (counts, rest) = rest.split_first_chunk::<8>()?;
        let (last_user, rest) = rest.split_first_chunk()?;
        let (throttled_user, flags) = rest.split_first_chunk()?;
        let [is_throttled, has_several_users] = *flags else {
            return None;
        };
        let (times, counts) = (times.as_chunks::<8>().0, counts.as_chunks::<4>().0);
        let times = <[[u8; 8]; 5]>::try_from(times).ok()?.map(|time| UnixTime::from_millis(u64::from_le_bytes(time)));
        let [open_until, user_until, opened, throttled_user_until, written] = times;
        let [outages, user_outages] = <[[u8; 4]; 2]>::try_from(counts).ok()?.map(u32::from_le_bytes);
        Some(Self {
            open_until,
            is_throttled: is_throttled != 0,
            outages,
            last_user: *last_user,
            has_several_users: has_several_users != 0,
            user_outages,
            user_until,
            opened,
            throttled_user: *throttled_user,
            throttled_user_until,
            written,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_only_whole() {
        let breaker = Breaker {
            open_until: UnixTime::from_millis(1),
            is_throttled: true,
            outages: 2,
            last_user: [3; 4],
            has_several_users: false,
            user_outages: 4,
            user_until: UnixTime::from_millis(5),
            opened: UnixTime::from_millis(6),
            throttled_user: [7; 4],
            throttled_user_until: UnixTime::from_millis(8),
            written: UnixTime::from_millis(9),
        };
        let written = breaker.write();
        assert!(Breaker::read(&written) == Some(breaker));
        assert!(Breaker::read(&written[1..]).is_none() && Breaker::read(&[&written[..], &[0]].concat()).is_none());
    }
}
