//! Dispatch of fetches: a need joins a fetch in flight, waits for another worker's, or starts one.

use std::rc::Rc;
use std::time::Duration;

use crate::cache::circuit_breaker::BreakerContext;
use crate::cache::jwks::{RefreshCause, RefreshLease};
use crate::cache::shared_tokens::{RemoteExchange, TokenLease};
use crate::engine::audit::log_failed_exchange;
use crate::engine::in_flight::{Fetch, JoinOutcome, Operation, RemoteFetch};
use crate::engine::need::{FetchKey, Need, TokenNeed};
use crate::engine::on_callout_result::NOT_MADE;
use crate::engine::token_exchange::TokenExchange;
use crate::engine::{Engine, Progress, RequestId};
use crate::http::Callout;
use crate::provider::Provider;
use crate::refusal::{Reason, Refusal};
use crate::telemetry::CacheOutcome;
use crate::time::UnixTime;

/// Maximum number of requests that wait in one worker.
const MAX_WAITING: usize = 1024;

/// Maximum size of their headers, in bytes. Envoy accepts 60 KiB for one request, or more if the operator allows it.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;

/// Maximum number of fetches in flight in one worker. There are as many as waiting requests and renewals, unless clients
/// leave: their fetches continue without them.
const MAX_FETCHES: usize = MAX_WAITING + 2 * MAX_RENEWALS;

/// Maximum number of tokens that are renewed at once in one worker.
const MAX_RENEWALS: usize = 32;

/// Time after which a token is looked for again that another worker renews.
const RENEWED_ELSEWHERE: Duration = Duration::from_secs(2);

/// Result of [`Engine::fetch_or_join`].
pub(super) enum FetchOutcome {
    /// The request waits for that fetch.
    Waiting(FetchKey),
    /// The need is met, or will not be: the request is decided again.
    DecideAgain,
    /// The need cannot be met.
    Refused(Refusal),
}

impl Engine {
    /// Keeps the keys of a provider fresh.
    pub(super) fn refresh_jwks(&mut self, provider: &Rc<Provider>, now: UnixTime) {
        let (store, _, state) = self.parts();
        let jwks = state.jwks(provider);
        let change = jwks.sync(store, provider, now);
        let is_too_old = jwks.remove_expired(now);
        let is_due = jwks.is_due(now);
        if is_too_old {
            log::error!(
                "the keys of provider={} are older than jwks_max_age_seconds: tokens of its users are refused",
                provider.name
            );
            state.forget_verified();
        }
        state.apply_change(change);
        if is_due
            && !self.in_flight.contains(FetchKey::Jwks(provider.id))
            && self.claim_jwks(provider, RefreshCause::Due, now) == RefreshLease::Acquired
        {
            // The log has its failure, and the schedule the next attempt.
            let _ = self.start_jwks(provider, false, None, now);
        }
    }

    /// Returns `true` if another worker is still at a fetch. What it has fetched is taken over.
    pub(super) fn is_fetch_pending(&mut self, fetch: &RemoteFetch, now: UnixTime) -> bool {
        match fetch {
            RemoteFetch::Jwks { provider, ended } => {
                let (store, _, state) = self.parts();
                let jwks = state.jwks(provider);
                jwks.is_leased_by_other(store, now) && jwks.completed_fetches() == *ended
            }
            RemoteFetch::Token(key) => match self.shared_tokens().poll(key, now) {
                RemoteExchange::Pending => true,
                RemoteExchange::Abandoned => false,
                RemoteExchange::Found(exchange) => {
                    self.state.exchanged_tokens.put_shared(*key, exchange);
                    false
                }
            },
        }
    }

    /// Sees to it that a need is met: by a fetch in flight, by another worker, or by a fetch that starts now.
    pub(super) fn fetch_or_join(
        &mut self,
        id: RequestId,
        need: Need,
        bytes: usize,
        progress: &mut Progress,
        now: UnixTime,
    ) -> FetchOutcome {
        let overloaded = || FetchOutcome::Refused(Refusal::new(Reason::Overloaded).retry_after(Duration::from_secs(1)));
        if self.waiting.len() >= MAX_WAITING || self.waiting_bytes.saturating_add(bytes) > MAX_WAITING_BYTES {
            return overloaded();
        }
        // A request that waits for keys has proved nothing yet: half of the places are for those that have.
        let max_waiting_for_keys = (MAX_WAITING / 2).checked_div(self.config.providers.len()).unwrap_or(1).max(1);
        let key = need.fetch_key();
        match self.in_flight.join(&need, id, max_waiting_for_keys) {
            JoinOutcome::Joined => {
                if matches!(need, Need::Token(_)) {
                    progress.cache = Some(self.counters.looked_up(CacheOutcome::Coalesced));
                }
                return FetchOutcome::Waiting(key);
            }
            JoinOutcome::Full => return overloaded(),
            JoinOutcome::NotFound if self.in_flight.len() >= MAX_FETCHES => return overloaded(),
            JoinOutcome::NotFound => {}
        }
        let started = match need {
            Need::Jwks { provider, is_refetch } => self.fetch_jwks(&provider, is_refetch, id, now),
            Need::Token(need) => self.fetch_token(need, id, progress, now),
        };
        match started {
            Ok(true) => FetchOutcome::Waiting(key),
            Ok(false) => FetchOutcome::DecideAgain,
            Err(refusal) => FetchOutcome::Refused(refusal),
        }
    }

    /// Fetch of keys that a request waits for. Returns `false` if another worker has just fetched them, or has failed.
    fn fetch_jwks(
        &mut self,
        provider: &Rc<Provider>,
        is_refetch: bool,
        waiter: RequestId,
        now: UnixTime,
    ) -> Result<bool, Refusal> {
        let cause = if is_refetch { RefreshCause::NoKeyFits } else { RefreshCause::Due };
        match self.claim_jwks(provider, cause, now) {
            RefreshLease::NotDue => return Ok(false),
            RefreshLease::HeldByOther => {
                let ended = self.state.jwks(provider).completed_fetches();
                let operation = Operation::RemoteJwks { provider: provider.clone(), ended };
                self.in_flight.put(Fetch { operation, waiters: vec![waiter], started: now });
            }
            RefreshLease::Acquired => self.start_jwks(provider, is_refetch, Some(waiter), now)?,
        }
        Ok(true)
    }

    /// Token exchange that a request waits for. Returns `false` if another worker has the token.
    fn fetch_token(
        &mut self,
        need: Rc<TokenNeed>,
        waiter: RequestId,
        progress: &mut Progress,
        now: UnixTime,
    ) -> Result<bool, Refusal> {
        match self.claim_token(&need, false, now)? {
            TokenLease::Found(exchange) => {
                progress.cache = Some(self.counters.looked_up(CacheOutcome::Shared));
                if exchange.fingerprint().is_some() {
                    self.state.remember_success(&need);
                }
                self.state.exchanged_tokens.put_shared(need.key, exchange);
                return Ok(false);
            }
            TokenLease::HeldByOther => {
                progress.cache = Some(self.counters.looked_up(CacheOutcome::Coalesced));
                let operation = Operation::RemoteToken { provider: need.provider().clone(), key: need.key };
                self.in_flight.put(Fetch { operation, waiters: vec![waiter], started: now });
            }
            TokenLease::Acquired => {
                progress.cache = Some(self.counters.looked_up(CacheOutcome::Miss));
                self.exchange(need, Some(waiter), now)?;
            }
        }
        Ok(true)
    }

    /// Renews a token that is still in use. No request waits for it.
    pub(super) fn renew(&mut self, need: Rc<TokenNeed>, now: UnixTime) {
        // The next request asks again.
        if self.in_flight.contains(FetchKey::Token(need.key)) || self.in_flight.background_count() >= MAX_RENEWALS {
            return;
        }
        let key = need.key;
        match self.claim_token(&need, true, now) {
            Ok(TokenLease::Found(exchange)) => {
                self.counters.looked_up(CacheOutcome::Shared);
                self.state.exchanged_tokens.put_shared(key, exchange);
            }
            Ok(TokenLease::HeldByOther) => self.state.exchanged_tokens.postpone_renewal(&key, RENEWED_ELSEWHERE, now),
            Ok(TokenLease::Acquired) => {
                self.counters.looked_up(CacheOutcome::Renewed);
                let audit = need.audit();
                if let Err(refusal) = self.exchange(need, None, now) {
                    log_failed_exchange(&audit, &self.config, &refusal, 0, Duration::ZERO);
                    // The next request does not try again at once.
                    self.state.exchanged_tokens.put_failed(key, refusal, true, Duration::ZERO, now);
                }
            }
            // The next request does not ask the circuit breaker again at once.
            Err(refusal) => self.state.exchanged_tokens.postpone_renewal(
                &key,
                refusal.retry_after.unwrap_or(RENEWED_ELSEWHERE),
                now,
            ),
        }
    }

    /// Acquires the lease of a fetch of keys.
    fn claim_jwks(&mut self, provider: &Rc<Provider>, cause: RefreshCause, now: UnixTime) -> RefreshLease {
        let (store, _, state) = self.parts();
        let (lease, change) = state.jwks(provider).acquire_lease(cause, store, provider, now);
        state.apply_change(change);
        lease
    }

    /// Acquires the lease of a token exchange. The error: the circuit breaker is open.
    fn claim_token(&mut self, need: &TokenNeed, renews: bool, now: UnixTime) -> Result<TokenLease, Refusal> {
        let provider = need.provider();
        let lease = self.shared_tokens().acquire_lease(&need.key, renews, provider.callout_limit(), now);
        if matches!(lease, TokenLease::Acquired) {
            let (store, crypto, state) = self.parts();
            let context = BreakerContext { store, crypto, provider, now };
            let user = &need.caller.identity.user;
            if let Err(open) = state.circuit_breakers.try_acquire(&need.breaker_key(), user, &context) {
                self.release(need, now);
                let because = "the circuit breaker of the token endpoint is open";
                return Err(Refusal::because(open.reason, because).retry_after(open.retry_after));
            }
        }
        Ok(lease)
    }

    /// Releases the lease of a token exchange that does not take place.
    fn release(&self, need: &TokenNeed, now: UnixTime) {
        let kept = self.state.exchanged_tokens.peek(&need.key, now);
        self.shared_tokens().release(&need.key, kept, now);
    }

    /// Starts a token exchange. The error: its first callout cannot be made.
    fn exchange(&mut self, need: Rc<TokenNeed>, waiter: Option<RequestId>, now: UnixTime) -> Result<(), Refusal> {
        let endpoints = self.state.jwks(need.provider()).endpoints.as_ref();
        let started = match TokenExchange::new(need.clone(), endpoints, now) {
            Some(exchange) => self.start(Operation::TokenExchange(exchange), waiter, now),
            // The endpoint was known when the need was found.
            None => Err(Refusal::new(Reason::JwksUnavailable).retry_after(Duration::from_secs(1))),
        };
        if started.is_err() {
            self.release(&need, now);
        }
        started
    }

    fn start_jwks(
        &mut self,
        provider: &Rc<Provider>,
        is_refetch: bool,
        waiter: Option<RequestId>,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let operation = Operation::jwks(provider, is_refetch, &mut self.state);
        let started = self.start(operation, waiter, now);
        if started.is_err() {
            self.callout_handler().jwks_failed(provider, (NOT_MADE, ""), None, now);
        }
        started
    }

    /// Starts a fetch. The error: its first callout cannot be made.
    fn start(&mut self, operation: Operation, waiter: Option<RequestId>, now: UnixTime) -> Result<(), Refusal> {
        let Some(callout) = operation.callout(&self.state, self.crypto.as_ref(), now) else {
            return Err(Refusal::because(
                Reason::ExchangeMisconfigured,
                "the request to the provider could not be made or signed",
            ));
        };
        self.launch(Fetch { operation, waiters: waiter.into_iter().collect(), started: now }, callout);
        Ok(())
    }

    /// Queues the callout of a fetch.
    pub(super) fn launch(&mut self, fetch: Fetch, callout: Callout) {
        let id = self.in_flight.put(fetch);
        self.callouts.push_back((id, callout));
    }
}
