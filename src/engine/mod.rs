//! Engine: what happens to requests, without the host: no I/O, no clock, no proxy-wasm.
//!
//! Requests, callout results and ticks go in with the time; decisions and callouts come out. The [`pipeline`] decides a request.
//! Where it lacks a fact, the request waits for the fetch that brings it, together with all others that lack it, and runs
//! through the pipeline again when the fetch has ended (docs/adr/0001). A fetch does not depend on the request that started
//! it: it continues when that request has left.

mod audit;
mod authenticate;
mod authorize;
mod broadcast;
mod cache_key;
mod context;
mod credentials;
mod exchanged_token;
mod fetch;
mod header_mutations;
mod in_flight;
mod need;
mod on_callout_result;
mod pipeline;
mod route;
mod state;
mod token_copies;
mod token_exchange;
mod upstream_proof;
mod upstream_response;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::cache::circuit_breaker::BreakerContext;
use crate::cache::shared_tokens::SharedTokens;
use crate::config::Config;
use crate::crypto::Crypto;
use crate::http::{Callout, CalloutFailure, CalloutResult, LocalReply, Request};
use crate::provider::Provider;
use crate::refusal::{Reason, Refusal, log_at};
use crate::shared::{CLOCK_TOLERANCE, SharedData, SharedStore};
use crate::telemetry::{CacheOutcome, Counters, Fact, FilterState};
use crate::time::UnixTime;
use audit::AuditContext;
use broadcast::Broadcast;
use context::{ForwardKind, Passed, RequestContext, Stop};
use credentials::RequestHead;
use fetch::FetchOutcome;
use in_flight::InFlight;
use need::FetchKey;
use on_callout_result::CalloutHandler;
use state::WorkerState;

pub use header_mutations::HeaderMutations;
pub use in_flight::FetchId;
pub use upstream_response::{ForwardedRequest, UpstreamAction};

/// Maximum number of runs of the pipeline for one request. Keys, a fetch of keys because none fits, and a token make four.
const MAX_DECISIONS: u8 = 8;

/// Maximum number of fetches of other workers that one tick polls. Each takes some microseconds.
const MAX_POLLED: usize = 64;

/// Maximum number of callouts that one tick gives up. Each takes a log line and a record.
const MAX_OVERDUE: usize = 64;

/// Number of a request, given by the host for as long as the request lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u32);

/// Decision about a request. [`Forward`](Self::Forward) and [`Respond`](Self::Respond) end it here.
#[must_use]
pub enum Decision {
    /// The request is forwarded with these header mutations.
    Forward(HeaderMutations),
    /// A local reply answers the request.
    Respond(LocalReply),
    /// The request waits. [`Engine::next_decision`] returns its decision later.
    Pause,
}

/// Engine of one worker.
pub struct Engine {
    config: Config,
    crypto: Box<dyn Crypto>,
    store: SharedStore,
    broadcast: Broadcast,
    state: WorkerState,
    in_flight: InFlight,
    waiting: FxHashMap<RequestId, Waiting>,
    /// Size of the headers of all waiting requests, in bytes.
    waiting_bytes: usize,
    /// Requests whose wait is over, in the order in which it ended. Requests that have left since are in it, too.
    ready: VecDeque<RequestId>,
    callouts: VecDeque<(FetchId, Callout)>,
    counters: Counters,
    latest: UnixTime,
    /// Last fetch of another worker that was polled. Polling rotates from here.
    last_polled: Option<FetchId>,
}

/// Request that waits.
struct Waiting {
    request: Request,
    progress: Progress,
    audit: AuditContext,
    state: WaitState,
}

/// State of a wait, from its beginning to the moment at which the decision is handed out.
#[derive(Clone, Copy)]
enum WaitState {
    /// A fetch is in flight.
    For(FetchKey),
    /// The fetch has ended: the request is decided again.
    Ended,
    /// The time is over: the request is refused.
    TimedOut,
}

/// Progress of a request.
#[derive(Clone, Copy)]
struct Progress {
    /// Number of runs of the pipeline.
    decisions: u8,
    /// Time of arrival.
    since: UnixTime,
    /// Result of the token look-up, set once the request has waited for a token.
    cache: Option<CacheOutcome>,
}

impl Engine {
    /// Engine with empty caches. The first [`tick`](Self::tick) fetches keys.
    pub fn new(config: Config, crypto: Box<dyn Crypto>, shared: Box<dyn SharedData>) -> Self {
        let state = WorkerState::new(&config);
        Self {
            store: SharedStore::new(shared, config.shared_key.clone(), crypto.random().unwrap_or_default()),
            config,
            crypto,
            broadcast: Broadcast::default(),
            state,
            in_flight: InFlight::default(),
            waiting: FxHashMap::default(),
            waiting_bytes: 0,
            ready: VecDeque::new(),
            callouts: VecDeque::new(),
            counters: Counters::default(),
            latest: UnixTime::default(),
            last_polled: None,
        }
    }

    /// Announces the queue of this worker, by the host's number. Messages of other workers in it go to
    /// [`message`](Self::message).
    pub fn listen(&mut self, queue: u32, now: UnixTime) {
        self.broadcast.listen(queue, &self.store, now);
    }

    /// Decides a new request.
    pub fn request(&mut self, id: RequestId, request: Request, now: UnixTime) -> Decision {
        self.set_time(now);
        self.state.serve();
        self.run(id, request, Progress { decisions: 0, since: now, cache: None }, now)
    }

    /// Takes in the result of a callout. [`next_decision`](Self::next_decision) returns the decisions of the requests that
    /// waited for it.
    pub fn callout_result(&mut self, fetch: FetchId, result: &CalloutResult, now: UnixTime) {
        self.set_time(now);
        let Some(fetch) = self.in_flight.take(fetch) else {
            return;
        };
        match self.callout_handler().handle(fetch, result, now) {
            on_callout_result::Next::Callout(next) => {
                let (fetch, callout) = *next;
                self.launch(fetch, callout);
            }
            on_callout_result::Next::Done(waiters) => self.end_wait(waiters, WaitState::Ended),
        }
    }

    fn callout_handler(&mut self) -> CalloutHandler<'_> {
        CalloutHandler {
            config: &self.config,
            crypto: self.crypto.as_ref(),
            state: &mut self.state,
            counters: &mut self.counters,
            store: &self.store,
        }
    }

    /// Does what time demands: takes over what other workers have fetched, fetches keys that are due, and gives up callouts
    /// that the host has forgotten and requests that have waited for too long.
    pub fn tick(&mut self, now: UnixTime) {
        self.set_time(now);
        self.broadcast.keep_registered(&self.store, now);
        let providers = self.config.providers.clone();
        for provider in &providers {
            self.refresh_jwks(provider, now);
        }
        for key in self.state.circuit_breakers.open_breakers(now) {
            if let Some(provider) = providers.iter().find(|provider| provider.id == key.provider) {
                let (store, crypto, state) = self.parts();
                state.circuit_breakers.sync(&key, &BreakerContext { store, crypto, provider, now });
            }
        }
        self.poll_remote(now);
        for fetch in self.in_flight.overdue(now).into_iter().take(MAX_OVERDUE) {
            self.callout_result(fetch, &CalloutResult::Failed(CalloutFailure::TimedOut), now);
        }
        self.expire_waiting(now);
    }

    /// Polls fetches of other workers.
    fn poll_remote(&mut self, now: UnixTime) {
        let remote = self.in_flight.remote();
        let next = remote.partition_point(|(fetch, _)| Some(*fetch) <= self.last_polled);
        let in_turn = remote.iter().skip(next).chain(remote.iter().take(next));
        for (fetch, remote) in in_turn.take(MAX_POLLED) {
            self.last_polled = Some(*fetch);
            if !self.is_fetch_pending(remote, now)
                && let Some(fetch) = self.in_flight.take(*fetch)
            {
                self.end_wait(fetch.waiters, WaitState::Ended);
            }
        }
    }

    /// Ends the wait of requests that have waited for `max_wait`.
    fn expire_waiting(&mut self, now: UnixTime) {
        let mut expired: Vec<(RequestId, FetchKey)> = Vec::new();
        for (id, waiting) in &self.waiting {
            if let WaitState::For(key) = waiting.state
                && now.since(waiting.progress.since) >= self.config.max_wait
            {
                expired.push((*id, key));
            }
        }
        expired.sort_unstable_by_key(|(id, _)| *id);
        for (id, key) in &expired {
            self.in_flight.leave(*key, *id);
        }
        self.end_wait(expired.into_iter().map(|(id, _)| id), WaitState::TimedOut);
    }

    /// Queues requests, in that order, for [`next_decision`](Self::next_decision).
    fn end_wait(&mut self, ids: impl IntoIterator<Item = RequestId>, state: WaitState) {
        for id in ids {
            if let Some(waiting) = self.waiting.get_mut(&id) {
                waiting.state = state;
                self.ready.push_back(id);
            }
        }
    }

    /// Decision about the next request whose wait is over; [`Decision::Pause`] if it waits for another fetch now. `None`: no
    /// wait is over.
    ///
    /// Requests are decided one at a time, so that the host continues only as many in one callback as it can bear
    /// (docs/adr/0018): each local reply runs the response callbacks of all filters before the next one is sent.
    pub fn next_decision(&mut self, now: UnixTime) -> Option<(RequestId, Decision)> {
        while let Some(id) = self.ready.pop_front() {
            let Some(Waiting { request, progress, audit, state }) = self.remove_waiting(id) else {
                continue;
            };
            let decision = match state {
                WaitState::TimedOut => {
                    let audit = AuditContext { cache: progress.cache, ..audit };
                    let because = "the request waited for max_wait_seconds";
                    let refusal = Refusal::because(Reason::ProviderUnavailable, because);
                    self.refuse(&refusal.retry_after(Duration::from_secs(1)), &audit, progress, now)
                }
                WaitState::For(_) | WaitState::Ended => self.run(id, request, progress, now),
            };
            return Some((id, decision));
        }
        None
    }

    fn remove_waiting(&mut self, id: RequestId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(waiting.request.bytes());
        Some(waiting)
    }

    /// Returns `true` if [`next_callout`](Self::next_callout) or [`next_decision`](Self::next_decision) has something to
    /// return.
    pub fn has_work(&self) -> bool {
        !self.callouts.is_empty() || !self.ready.is_empty()
    }

    /// Shared store, cryptography and state, borrowed at once.
    fn parts(&mut self) -> (&SharedStore, &dyn Crypto, &mut WorkerState) {
        (&self.store, self.crypto.as_ref(), &mut self.state)
    }

    fn shared_tokens(&self) -> SharedTokens<'_> {
        let (crypto, rejections) = (self.crypto.as_ref(), &self.state.rejected_tokens);
        SharedTokens { store: &self.store, crypto, rejections, capacity: self.config.shared_tokens }
    }

    /// Returns `true` if requests wait for a fetch of another worker, so that the next tick should come soon.
    pub fn needs_fast_tick(&self) -> bool {
        !self.in_flight.remote().is_empty()
    }

    /// Age of the keys of each provider, by the provider's name, where there are keys that can age.
    pub fn jwks_ages(&mut self, now: UnixTime) -> Vec<(Rc<str>, Duration)> {
        let (state, providers) = (&mut self.state, &self.config.providers);
        let age = |provider: &Rc<Provider>| Some((provider.name.clone(), state.jwks(provider).age(now)?));
        providers.iter().filter_map(age).collect()
    }

    /// Next callout to make, and the fetch that its result belongs to.
    pub fn next_callout(&mut self) -> Option<(FetchId, Callout)> {
        self.callouts.pop_front()
    }

    /// Names of the fields of a request's trailers that are removed.
    pub fn trailers(&self, trailers: &Request) -> Vec<String> {
        credentials::trailers_to_remove(trailers, &self.config)
    }

    /// Returns `true` if the request waits.
    pub fn waits(&self, id: RequestId) -> bool {
        self.waiting.contains_key(&id)
    }

    /// Removes a request that has left before it was decided.
    pub fn request_closed(&mut self, id: RequestId) {
        if let Some(Waiting { state: WaitState::For(key), .. }) = self.remove_waiting(id) {
            self.in_flight.leave(key, id);
        }
    }

    /// Counters since they were last taken.
    pub fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Number of waiting requests.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Sets the time. A small step back is a clock being adjusted. No span here is so short that it matters, and to forget
    /// every exchanged token would overload the providers.
    fn set_time(&mut self, now: UnixTime) {
        if now.plus(CLOCK_TOLERANCE) < self.latest {
            self.state.clock_went_back();
            self.in_flight.clock_went_back(now);
            self.latest = now;
        }
        self.latest = self.latest.max(now);
    }

    /// Runs the pipeline for a request, as often as a run brings it further.
    fn run(&mut self, id: RequestId, mut request: Request, mut progress: Progress, now: UnixTime) -> Decision {
        let mut last = AuditContext::default();
        while progress.decisions < MAX_DECISIONS {
            let mut ctx = RequestContext {
                request: &request,
                head: RequestHead::read(&request, &self.config),
                config: &self.config,
                crypto: self.crypto.as_ref(),
                store: &self.store,
                state: &mut self.state,
                now,
                prefix: "",
                audit: AuditContext::default(),
            };
            let decided = pipeline::decide(&mut ctx);
            let mut audit = ctx.audit;
            audit.cache = progress.cache.or(audit.cache);
            match decided {
                Ok(passed) => return self.pass(passed, &audit, progress, now),
                Err(Stop::Refuse(refusal)) => {
                    let refusal = of_second_pass(&request, &refusal).unwrap_or(*refusal);
                    return self.refuse(&refusal, &audit, progress, now);
                }
                Err(Stop::Fetch(need)) => {
                    progress.decisions = progress.decisions.saturating_add(1);
                    match self.fetch_or_join(id, need, request.bytes(), &mut progress, now) {
                        FetchOutcome::Waiting(key) => {
                            self.waiting_bytes = self.waiting_bytes.saturating_add(request.bytes());
                            let state = WaitState::For(key);
                            // The host knows it as long as the request is in its callback.
                            request.has_passed = if (request.has_passed)() { || true } else { || false };
                            self.waiting.insert(id, Waiting { request, progress, audit, state });
                            return Decision::Pause;
                        }
                        FetchOutcome::DecideAgain => last = audit,
                        FetchOutcome::Refused(refusal) => return self.refuse(&refusal, &audit, progress, now),
                    }
                }
            }
        }
        let because = "the request still lacks what was fetched for it";
        let refusal = Refusal::because(Reason::ProviderUnavailable, because).retry_after(Duration::from_secs(1));
        self.refuse(&refusal, &last, progress, now)
    }

    /// Ends a request that has passed the pipeline.
    fn pass(&mut self, passed: Passed, audit: &AuditContext, progress: Progress, now: UnixTime) -> Decision {
        let (mut mutations, kind, renewal) = match passed {
            Passed::Metadata(reply) => {
                self.counters.metadata();
                return Decision::Respond(reply);
            }
            Passed::Forward { mutations, kind, renewal } => (mutations, kind, renewal),
        };
        if kind == ForwardKind::Unauthenticated {
            self.counters.unauthenticated_path();
            return Decision::Forward(mutations);
        }
        mutations.filter_state = self.filter_state(kind, audit, progress, now);
        if kind == ForwardKind::Exchanged && progress.decisions == 0 {
            self.counters.looked_up(CacheOutcome::Hit);
        }
        if let Some(need) = renewal {
            self.renew(need, now);
        }
        self.counters.forwarded();
        Decision::Forward(mutations)
    }

    /// Filter state of a forwarded request. The first request of a token that is not exchanged is logged like an exchange,
    /// the next ones are like those with a token from the cache.
    fn filter_state(&self, kind: ForwardKind, audit: &AuditContext, progress: Progress, now: UnixTime) -> FilterState {
        let is_first = kind == ForwardKind::NotExchanged && audit.is_first();
        let is_from_cache = match kind {
            ForwardKind::Exchanged => audit.cache == Some(CacheOutcome::Hit),
            ForwardKind::NotExchanged | ForwardKind::Unauthenticated => !is_first,
        };
        match audit.caller_facts(&self.config).filter(|_| is_from_cache) {
            Some(facts) => FilterState::Caller(facts),
            None => {
                let record = audit.record(&self.config, &[(Fact::Event, "forwarded")], now.since(progress.since));
                if is_first {
                    log::info!("{record}");
                }
                FilterState::Record(record)
            }
        }
    }

    /// Ends a request with a refusal.
    fn refuse(&mut self, refusal: &Refusal, audit: &AuditContext, progress: Progress, now: UnixTime) -> Decision {
        let ending = [(Fact::Event, "refused"), (Fact::Reason, refusal.reason.label())];
        let mut record = audit.record(&self.config, &ending, now.since(progress.since));
        record.add_detail(&refusal.detail);
        log_at(refusal.reason, &record);
        self.counters.refused(refusal.reason.label());
        let mut reply = refusal.reply(audit.resource.as_deref(), audit.form);
        reply.record = record;
        Decision::Respond(reply)
    }
}

/// Refusal of a request that has passed this filter before. Its `authorization` is the work of the first pass, so a refusal of the
/// credential says nothing of the client's token, and a client that got a 401 would throw a good token away.
fn of_second_pass(request: &Request, refusal: &Refusal) -> Option<Refusal> {
    let is_about_credential = matches!(refusal.reason.row().status, 401 | 403);
    let is_second = is_about_credential && (request.has_passed)();
    is_second.then(|| Refusal::because(Reason::SecondPass, refusal.reason.label()))
}
