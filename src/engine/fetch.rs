//! What requests lack is fetched: by a flight that is up already, by another worker, or by a flight of its own.

use std::time::Duration;

use crate::cache::circuit_breaker::BreakerContext;
use crate::cache::jwks::{self, RefreshCause, RefreshLease};
use crate::cache::shared_tokens;
use crate::engine::decide::{Need, TokenNeed};
use crate::engine::in_flight::{Fetch, FetchKey, Join, Operation, RemoteFetch, exchange_record};
use crate::engine::token_exchange::TokenExchange;
use crate::engine::{Engine, Progress, RequestId};
use crate::http::Callout;
use crate::refusal::{Reason, Refusal, log_at};
use crate::shared::SharedStore;
use crate::telemetry::CacheOutcome;
use crate::time::UnixTime;

/// The most requests that wait in one worker.
const MOST_WAITING: usize = 1024;

/// The most bytes of headers that they have. Envoy takes 60 KiB for one request, or more if the operator wants it.
const MOST_WAITING_BYTES: usize = 64 * 1024 * 1024;

/// The most flights that a worker has up. Their number is that of the waiting requests and the renewals, unless clients leave:
/// their flights go on without them.
const MOST_FLIGHTS: usize = MOST_WAITING + 2 * MOST_RENEWALS;

/// How many tokens are renewed at once in one worker.
const MOST_RENEWALS: usize = 32;

/// When to look again for a token that another worker is renewing.
const RENEWED_ELSEWHERE: Duration = Duration::from_secs(2);

/// What became of a need.
pub(super) enum Served {
    /// The request waits for that.
    Waits(FetchKey),
    /// What was missing is there, or will not come: the request is decided again.
    Decide,
    /// There is no way to serve it.
    No(Refusal),
}

impl Engine {
    /// Keeps the keys of a provider fresh.
    pub(super) fn refresh_jwks(&mut self, index: usize, now: UnixTime) {
        let board = SharedStore { shared: self.shared.as_ref(), key: &self.config.shared_key, worker: self.worker };
        let (Some(issuer), Some(provider)) = (self.known.issuer_mut(index), self.config.providers.get(index)) else {
            return;
        };
        let change = issuer.sync(&board, provider, now);
        if issuer.drop_old(now) {
            log::error!(
                "the keys of provider={} are older than keys_max_age_seconds: tokens of its users are refused",
                provider.name
            );
            self.known.forget_verified();
        }
        self.known.apply_change(change);
        let is_due = self.known.issuer(index).is_some_and(|issuer| issuer.is_due(now));
        if is_due
            && !self.flights.fetches(index)
            && self.claim(index, RefreshCause::Due, now) == RefreshLease::Ours
            && let Err(refusal) = self.start(Operation::keys(index, false, &self.config, &self.known), None, now)
        {
            let name = self.config.providers.get(index).map_or("", |provider| &*provider.name);
            log::warn!("event=jwks_fetch_failed provider={name} {refusal}");
        }
    }

    /// Whether another worker is still at what it does. What it has brought is taken over.
    pub(super) fn is_fetch_pending(&mut self, elsewhere: RemoteFetch, now: UnixTime) -> bool {
        match elsewhere {
            RemoteFetch::Keys { provider, ended } => {
                let board = self.board();
                let is_at_it = |issuer: &jwks::JwksCache| {
                    issuer.is_fetched_by_others(&board, now) && issuer.ended_fetches() == ended
                };
                self.known.issuer(provider).is_some_and(is_at_it)
            }
            RemoteFetch::Token(key) => match self.pool().look(&key, now) {
                shared_tokens::TokenLease::Others => true,
                shared_tokens::TokenLease::Ours => false,
                shared_tokens::TokenLease::Found(exchange) => {
                    self.known.exchanges.take_over(key, exchange);
                    false
                }
            },
        }
    }

    fn claim(&mut self, index: usize, cause: RefreshCause, now: UnixTime) -> RefreshLease {
        let board = SharedStore { shared: self.shared.as_ref(), key: &self.config.shared_key, worker: self.worker };
        let (Some(issuer), Some(provider)) = (self.known.issuer_mut(index), self.config.providers.get(index)) else {
            return RefreshLease::Nobody;
        };
        let (claim, change) = issuer.claim(cause, &board, provider, now);
        self.known.apply_change(change);
        claim
    }

    /// Lets a request wait for what it needs, and sees to it that somebody fetches that.
    pub(super) fn serve(
        &mut self,
        id: RequestId,
        need: Need,
        bytes: usize,
        progress: &mut Progress,
        now: UnixTime,
    ) -> Served {
        let overloaded = || Served::No(Refusal::new(Reason::Overloaded).retry_after(Duration::from_secs(1)));
        if self.waiting.len() >= MOST_WAITING || self.waiting_bytes.saturating_add(bytes) > MOST_WAITING_BYTES {
            return overloaded();
        }
        let purpose = need.purpose();
        // Whoever waits for keys has proved nothing yet: half of the places are for those who have.
        let most_waiting_for_keys = (MOST_WAITING / 2).checked_div(self.config.providers.len()).unwrap_or(1).max(1);
        match self.flights.join(&need, id, most_waiting_for_keys) {
            Join::Joined => {
                if matches!(need, Need::Token(_)) {
                    progress.cache = Some(self.counters.looked_up(CacheOutcome::Coalesced));
                }
                return Served::Waits(purpose);
            }
            Join::Full => return overloaded(),
            Join::NoFlight if self.flights.len() >= MOST_FLIGHTS => return overloaded(),
            Join::NoFlight => {}
        }
        let started = match need {
            Need::Keys { provider, again } => {
                match self.claim(provider, if again { RefreshCause::UnknownKey } else { RefreshCause::Due }, now) {
                    RefreshLease::Nobody => return Served::Decide,
                    RefreshLease::Others => {
                        let ended = self.known.issuer(provider).map_or(0, jwks::JwksCache::ended_fetches);
                        let operation = Operation::KeysElsewhere { provider, ended };
                        self.flights.put(Fetch { operation, waiters: vec![id], started: now });
                        Ok(())
                    }
                    RefreshLease::Ours => {
                        self.start(Operation::keys(provider, again, &self.config, &self.known), Some(id), now)
                    }
                }
            }
            Need::Token(need) => match self.claim_token(&need, false, now) {
                Ok(shared_tokens::TokenLease::Found(exchange)) => {
                    progress.cache = Some(self.counters.looked_up(CacheOutcome::Shared));
                    self.known.exchanges.take_over(need.key, exchange);
                    return Served::Decide;
                }
                Ok(shared_tokens::TokenLease::Others) => {
                    progress.cache = Some(self.counters.looked_up(CacheOutcome::Coalesced));
                    let operation = Operation::TokenElsewhere { provider: need.provider, key: need.key };
                    self.flights.put(Fetch { operation, waiters: vec![id], started: now });
                    Ok(())
                }
                Ok(shared_tokens::TokenLease::Ours) => {
                    progress.cache = Some(self.counters.looked_up(CacheOutcome::Miss));
                    self.exchange(need, Some(id), now)
                }
                // The provider is to be left in peace, as another worker has found.
                Err(refusal) => Err(refusal),
            },
        };
        match started {
            Ok(()) => Served::Waits(purpose),
            Err(refusal) => Served::No(refusal),
        }
    }

    /// Who exchanges a token. The error: nobody, for now.
    fn claim_token(
        &mut self,
        need: &TokenNeed,
        renews: bool,
        now: UnixTime,
    ) -> Result<shared_tokens::TokenLease, Refusal> {
        let Some(provider) = self.config.providers.get(need.provider) else {
            return Err(Refusal::new(Reason::NoExchange));
        };
        let claim = self.pool().claim(&need.key, renews, provider.callout_limit(), now);
        if matches!(claim, shared_tokens::TokenLease::Ours) {
            let board = SharedStore { shared: self.shared.as_ref(), key: &self.config.shared_key, worker: self.worker };
            let watch = BreakerContext { board, crypto: self.crypto.as_ref(), provider, now };
            if let Err((reason, pause)) = self.known.circuits.enter(&need.endpoint(), &need.caller.caller.user, &watch)
            {
                self.pool().give_back(&need.key, self.known.exchanges.peek(&need.key, now), now);
                let because = "the circuit breaker of the token endpoint is open";
                return Err(Refusal::because(reason, because).retry_after(pause));
            }
        }
        Ok(claim)
    }

    /// Starts an exchange. The error: its first call could not even be made.
    fn exchange(&mut self, need: Box<TokenNeed>, waiter: Option<RequestId>, now: UnixTime) -> Result<(), Refusal> {
        let key = need.key;
        let started = match TokenExchange::new(need, &self.config, &self.known, now) {
            Some(exchange) => self.start(Operation::TokenExchange(exchange), waiter, now),
            // The need was found with the same facts a moment ago.
            None => Err(Refusal::new(Reason::JwksUnavailable).retry_after(Duration::from_secs(1))),
        };
        if started.is_err() {
            self.pool().give_back(&key, self.known.exchanges.peek(&key, now), now);
        }
        started
    }

    /// Asks for the token that follows one which is still good, for whoever comes then: nobody waits for it.
    pub(super) fn renew(&mut self, need: Box<TokenNeed>, now: UnixTime) {
        // The next request asks again.
        if self.flights.exchanges(need.key) || self.flights.background_count() >= MOST_RENEWALS {
            return;
        }
        let key = need.key;
        match self.claim_token(&need, true, now) {
            Ok(shared_tokens::TokenLease::Found(exchange)) => {
                self.counters.looked_up(CacheOutcome::Shared);
                self.known.exchanges.take_over(key, exchange);
            }
            Ok(shared_tokens::TokenLease::Others) => self.known.exchanges.leave_renewal(&key, RENEWED_ELSEWHERE, now),
            Ok(shared_tokens::TokenLease::Ours) => {
                self.counters.looked_up(CacheOutcome::Renewed);
                let about = need.about();
                if let Err(refusal) = self.exchange(need, None, now) {
                    let mut record = exchange_record(&about, &self.config, refusal.reason.label(), 0, Duration::ZERO);
                    record.add_detail(&refusal.detail);
                    log_at(refusal.reason, &record);
                    // Not at the next request again.
                    self.known.exchanges.put_failed(key, refusal, true, Duration::ZERO, now);
                }
            }
            // Nor does every request ask whether it may.
            Err(refusal) => {
                self.known.exchanges.leave_renewal(&key, refusal.retry_after.unwrap_or(RENEWED_ELSEWHERE), now)
            }
        }
    }

    /// Starts a flight. The error: its first call could not even be made.
    fn start(&mut self, operation: Operation, waiter: Option<RequestId>, now: UnixTime) -> Result<(), Refusal> {
        let Some(call) = operation.call(&self.config, &self.known, self.crypto.as_ref(), now) else {
            return Err(Refusal::because(
                Reason::ExchangeMisconfigured,
                "the request to the provider could not be made or signed",
            ));
        };
        self.launch(Fetch { operation, waiters: waiter.into_iter().collect(), started: now }, call);
        Ok(())
    }

    pub(super) fn launch(&mut self, flight: Fetch, call: Callout) {
        let id = self.flights.put(flight);
        self.calls.push_back((id, call));
    }
}
