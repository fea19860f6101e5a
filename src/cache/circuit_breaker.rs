//! When a provider is left in peace, for whomever: it throttles, or it gives no service. All workers of a process know.

use std::time::Duration;

use crate::cache::backoff::jittered;
use crate::cache::exchanged_tokens::TokenKey;
use crate::crypto::Crypto;
use crate::provider::{Provider, ProviderId, TokenExchangeTarget};
use crate::refusal::Reason;
use crate::shared::SharedStore;
use crate::time::UnixTime;

/// A provider that throttles is left in peace for so long at most: one user may have been the cause.
const LONGEST_THROTTLE: Duration = Duration::from_secs(60);

/// So many exchanges in a row without service, and not all of one user's, and nobody asks for a while.
const OUTAGES: u32 = 3;

/// The longest pause after outages, in seconds.
const LONGEST_BACKOFF: u32 = 30;

/// For how long before its end a token is not renewed after its provider has throttled: those who have none come first.
const AFTERWARDS: Duration = Duration::from_secs(10);

/// Nothing that is true of a provider is so for longer.
const LONGEST_MEMORY: Duration = Duration::from_secs(120);

/// How often a record is written again that another worker has written meanwhile.
const MOST_TRIES: usize = 8;

/// What is known of the endpoints of providers: one for each tenant of each, as far as there is something to know.
#[derive(Default)]
pub(crate) struct CircuitBreakers(Vec<(BreakerKey, Breaker)>);

/// Where exchanges of a tenant's users go.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct BreakerKey {
    pub(crate) provider: ProviderId,
    /// See [`place`].
    pub(crate) place: Option<String>,
}

/// The tenant, and the endpoint of the authorization server of the resource, where exchanges end at one of its own: what
/// they meet there says nothing of others.
pub(crate) fn place(tenant: Option<&str>, elsewhere: Option<&str>) -> Option<String> {
    match elsewhere {
        None => tenant.map(str::to_owned),
        Some(endpoint) => Some([tenant.unwrap_or_default(), " ", endpoint].concat()),
    }
}

/// The endpoint that [`place`] wants to know.
pub(crate) fn elsewhere(target: &TokenExchangeTarget) -> Option<&str> {
    target.authorization_server().map(|server| server.token_endpoint.as_str())
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Breaker {
    /// Until when nobody asks.
    until: UnixTime,
    /// Whether it said that it wants fewer requests; else it gave no service.
    throttles: bool,
    /// How many exchanges in a row it has not served.
    outages: u32,
    /// Who was the last of them, and whether there were others.
    last: UserHash,
    several: bool,
    /// Further exchanges of that user that it has not served, which do not count for others, and the time until which only
    /// that user does not ask.
    repeats: u32,
    last_until: UnixTime,
    /// The time at which the last pause for all began. An exchange that was under way then says nothing new.
    closed: UnixTime,
    written: UnixTime,
}

/// A user, by a part of a digest.
type UserHash = [u8; 4];

/// What a worker does with what it learns.
pub(crate) struct BreakerContext<'a> {
    pub(crate) board: SharedStore<'a>,
    pub(crate) crypto: &'a dyn Crypto,
    pub(crate) provider: &'a Provider,
    pub(crate) now: UnixTime,
}

impl CircuitBreakers {
    /// For how long nobody asks, and why.
    pub(crate) fn closed(
        &self,
        provider: ProviderId,
        place: Option<&str>,
        now: UnixTime,
    ) -> Option<(Reason, Duration)> {
        let state = self.state(provider, place).filter(|state| now < state.until)?;
        let reason = if state.throttles { Reason::ProviderThrottled } else { Reason::ProviderUnavailable };
        Some((reason, state.until.since(now)))
    }

    /// Whether a token may be renewed now.
    pub(crate) fn may_renew(&self, provider: ProviderId, place: Option<&str>, key: &TokenKey, now: UnixTime) -> bool {
        self.closed(provider, place, now.minus(key.share_of(AFTERWARDS))).is_none()
    }

    pub(crate) fn clock_went_back(&mut self) {
        self.0.clear();
    }

    /// Takes over what other workers know, and makes an exchange for `user` that is about to start the only one where the last
    /// ones have failed. The error: it may not, why, and for how long.
    pub(crate) fn enter(
        &mut self,
        endpoint: &BreakerKey,
        user: &str,
        watch: &BreakerContext<'_>,
    ) -> Result<(), (Reason, Duration)> {
        let now = watch.now;
        for _ in 0..MOST_TRIES {
            let (state, version) = watch.read(endpoint);
            self.set(endpoint, state);
            if let Some(closed) = self.closed(endpoint.provider, endpoint.place.as_deref(), now) {
                return Err(closed);
            }
            if !state.is_out() {
                return Ok(());
            }
            let is_last = state.last == watch.user(user);
            if is_last && now < state.last_until {
                return Err((Reason::ProviderUnavailable, state.last_until.since(now)));
            }
            let over = now.plus(watch.provider.callout_limit());
            let probed = match is_last && state.repeats > 0 {
                // A user's own bad luck, or ill will, holds up nobody else.
                true => Breaker { last_until: over, written: now, ..state },
                false => Breaker { until: over, throttles: false, written: now, ..state },
            };
            if watch.board.shared.put(&watch.name(endpoint), &watch.seal(endpoint, probed), version) {
                self.set(endpoint, probed);
                break;
            }
        }
        Ok(())
    }

    /// Which providers nobody asks, as far as is known here.
    pub(crate) fn all_closed(&self, now: UnixTime) -> Vec<BreakerKey> {
        self.0.iter().filter(|(_, state)| now < state.until).map(|(endpoint, _)| endpoint.clone()).collect()
    }

    /// Takes over what other workers know: somebody may have found that it is back.
    pub(crate) fn look(&mut self, endpoint: &BreakerKey, watch: &BreakerContext<'_>) {
        self.set(endpoint, watch.read(endpoint).0);
    }

    /// It wants fewer requests, for `pause`.
    pub(crate) fn throttled(&mut self, endpoint: &BreakerKey, pause: Duration, watch: &BreakerContext<'_>) {
        let until = watch.now.plus(pause.min(LONGEST_THROTTLE));
        self.change(endpoint, watch, |state| {
            // The longer of two pauses counts, if both answers were under way at once.
            let before = if state.throttles { state.until } else { UnixTime::default() };
            Breaker { until: until.max(before), throttles: true, ..Breaker::default() }
        });
    }

    /// It gave no service to an exchange for `user` that began at some time. The result is that user's own pause.
    pub(crate) fn out(
        &mut self,
        endpoint: &BreakerKey,
        user: &str,
        began: UnixTime,
        watch: &BreakerContext<'_>,
    ) -> Duration {
        let (user, now) = (watch.user(user), watch.now);
        let random = jittered(Duration::from_secs(1), watch.crypto);
        let pause = |outages: u32| {
            let doubled = 1_u32.checked_shl(outages.saturating_sub(1)).unwrap_or(LONGEST_BACKOFF).min(LONGEST_BACKOFF);
            random.saturating_mul(doubled)
        };
        let own_pause = |state: &Breaker| pause(state.outages.saturating_add(state.repeats));
        let state = self.change(endpoint, watch, |state| {
            if state.is_out() && began < state.closed {
                return state;
            }
            if state.is_out() && state.last == user {
                // The probe of somebody whom it did not serve before either: others may try at once.
                let next = Breaker { repeats: state.repeats.saturating_add(1), ..state };
                let until = if state.repeats == 0 && !state.throttles { state.until.min(now) } else { state.until };
                return Breaker { until, last_until: now.plus(own_pause(&next)), ..next };
            }
            // A pause that it has asked for meanwhile still holds.
            let throttled = if state.throttles { state.until } else { UnixTime::default() };
            let until = throttled.max(state.until.min(now));
            let state = Breaker { until, throttles: now < throttled, ..state };
            let is_alone = state.outages > 0 && !state.several && state.last == user;
            if is_alone && state.outages.saturating_add(1) >= OUTAGES {
                // One user closes nothing for others, nor makes it worse for them.
                return Breaker { repeats: state.repeats.saturating_add(1), ..state };
            }
            let outages = state.outages.saturating_add(1);
            let several = state.outages > 0 && !is_alone;
            let next = Breaker { outages, several, last: user, repeats: 0, last_until: UnixTime::default(), ..state };
            match next.is_out() {
                true => Breaker { until: until.max(now.plus(pause(outages))), closed: now, ..next },
                false => next,
            }
        });
        own_pause(&state)
    }

    /// It has answered an exchange.
    pub(crate) fn served(&mut self, endpoint: &BreakerKey, watch: &BreakerContext<'_>) {
        let (state, _) = watch.read(endpoint);
        if state.outages == 0 {
            self.set(endpoint, state);
            return;
        }
        self.change(endpoint, watch, |state| match state.throttles {
            // A pause that it has asked for meanwhile stays.
            true => Breaker { until: state.until, throttles: true, ..Breaker::default() },
            false => Breaker::default(),
        });
    }

    fn change(
        &mut self,
        endpoint: &BreakerKey,
        watch: &BreakerContext<'_>,
        change: impl Fn(Breaker) -> Breaker,
    ) -> Breaker {
        let mut next = Breaker::default();
        for _ in 0..MOST_TRIES {
            let (state, version) = watch.read(endpoint);
            next = Breaker { written: watch.now, ..change(state) };
            if watch.board.shared.put(&watch.name(endpoint), &watch.seal(endpoint, next), version) {
                break;
            }
        }
        self.set(endpoint, next);
        next
    }

    fn state(&self, provider: ProviderId, place: Option<&str>) -> Option<&Breaker> {
        let is = |endpoint: &BreakerKey| endpoint.provider == provider && endpoint.place.as_deref() == place;
        self.0.iter().find(|(endpoint, _)| is(endpoint)).map(|(_, state)| state)
    }

    fn set(&mut self, endpoint: &BreakerKey, state: Breaker) {
        match self.0.iter_mut().find(|(other, _)| other == endpoint) {
            Some(row) => row.1 = state,
            None if state == Breaker::default() => {}
            None => self.0.push((endpoint.clone(), state)),
        }
    }
}

impl BreakerContext<'_> {
    /// There is one for each tenant that is configured, and each host of an authorization server of resources.
    fn name(&self, endpoint: &BreakerKey) -> String {
        let place = endpoint.place.as_deref().unwrap_or_default();
        let parts = [&*self.provider.name, self.provider.issuer.as_str(), &*self.provider.cluster, place];
        let code = self.board.key.code(&parts.map(str::as_bytes));
        let code: String = code.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("onbehalf.circuit.{code}")
    }

    fn user(&self, user: &str) -> UserHash {
        let code = self.board.key.code(&[b"user", user.as_bytes()]);
        code.first_chunk().copied().unwrap_or_default()
    }

    fn read(&self, endpoint: &BreakerKey) -> (Breaker, crate::shared::CasVersion) {
        let name = self.name(endpoint);
        let (record, version) = self.board.shared.get(&name);
        let state = record.as_deref().and_then(|record| self.board.key.open(&name, record)).and_then(Breaker::read);
        // What was written by a clock that was ahead, or long ago, is not true any more.
        let is_sane = |state: &Breaker| {
            state.written <= self.now.plus(Duration::from_secs(5))
                && self.now.since(state.written) <= LONGEST_MEMORY
                && state.until.max(state.last_until) <= self.now.plus(LONGEST_MEMORY)
        };
        (state.filter(is_sane).unwrap_or_default(), version)
    }

    fn seal(&self, endpoint: &BreakerKey, state: Breaker) -> Vec<u8> {
        self.board.key.seal(&self.name(endpoint), &state.write())
    }
}

impl Breaker {
    /// An endpoint is out of service until an exchange gets an answer: one at a time tries.
    const fn is_out(&self) -> bool {
        self.outages >= OUTAGES && self.several
    }

    fn write(&self) -> Vec<u8> {
        let times = [self.until, self.last_until, self.closed, self.written].map(|time| time.millis().to_le_bytes());
        let counts = [self.outages, self.repeats].map(u32::to_le_bytes);
        let flags = [u8::from(self.throttles), u8::from(self.several)];
        [times.as_flattened(), counts.as_flattened(), &self.last, &flags].concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (times, rest) = bytes.split_first_chunk::<32>()?;
        let (counts, rest) = rest.split_first_chunk::<8>()?;
        let (last, flags) = rest.split_first_chunk()?;
        let [throttles, several] = *flags else {
            return None;
        };
        let (times, counts) = (times.as_chunks::<8>().0, counts.as_chunks::<4>().0);
        let times = <[[u8; 8]; 4]>::try_from(times).ok()?.map(|time| UnixTime::from_millis(u64::from_le_bytes(time)));
        let [until, last_until, closed, written] = times;
        let [outages, repeats] = <[[u8; 4]; 2]>::try_from(counts).ok()?.map(u32::from_le_bytes);
        Some(Self {
            until,
            throttles: throttles != 0,
            outages,
            last: *last,
            several: several != 0,
            repeats,
            last_until,
            closed,
            written,
        })
    }
}
