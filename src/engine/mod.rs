//! What happens to requests, without the host: no I/O, no clock, no proxy-wasm.
//!
//! Requests, replies and ticks go in with the time; decisions and calls come out. [`decide`] is one straight
//! function. Where it lacks a fact, the request waits for the *flight* that fetches it, together with everyone
//! else who lacks it, and is decided again from the top when the flight has landed. The flight belongs to
//! nobody: it goes on when the request that started it has left.

mod audit;
mod broadcast;
mod credentials;
mod decide;
mod delegation;
mod fetch;
mod header_mutations;
mod in_flight;
mod route;
mod sender_constraint;
mod state;
mod token_copies;
mod token_exchange;
mod upstream_proof;
mod upstream_response;

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::cache::circuit_breaker::BreakerContext;
use crate::cache::shared_tokens::SharedTokens;
use crate::config::Config;
use crate::crypto::Crypto;
use crate::engine::audit::{AuditContext, CacheOutcome};
use crate::engine::broadcast::Broadcast;
use crate::engine::decide::{Facts, Outcome, Passage, Stop};
use crate::engine::fetch::Served;
use crate::engine::in_flight::{CalloutHandler, FetchKey, InFlight};
use crate::engine::state::WorkerState;
use crate::http::{Callout, CalloutFailure, CalloutResult, LocalReply, Request};
use crate::provider::Provider;
use crate::refusal::{Reason, Refusal, log_at};
use crate::resource::Resource;
use crate::shared::{SharedData, SharedStore, WorkerId};
use crate::telemetry::{Counters, FilterState};
use crate::time::UnixTime;

pub use header_mutations::HeaderMutations;
pub use in_flight::FetchId;
pub use upstream_response::{Sent, UpstreamAction};

/// How often one request is decided at most. Keys, a refetch for its `kid` and a token make four.
const MOST_DECISIONS: u8 = 8;

/// For how many things that other workers do it is looked in one tick: each takes some microseconds.
const MOST_LOOKS: usize = 64;

/// The most calls that are given up in one tick, each with a line in the log and a record to write.
const MOST_OVERDUE: usize = 64;

/// How far the clock may go back without being taken for another clock.
const CLOCK_JITTER: Duration = Duration::from_secs(5);

/// A request of the host's, for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u32);

/// What to do with a request now.
#[must_use]
pub enum Decision {
    /// Let it through, changed so. This is its end here.
    Forward(HeaderMutations),
    /// Answer it. This is its end here.
    Respond(LocalReply),
    /// Hold it: a later call will return its decision.
    Pause,
}

/// Decides what happens to requests.
pub struct Engine {
    config: Config,
    crypto: Box<dyn Crypto>,
    shared: Box<dyn SharedData>,
    /// Who we are among those who share memory.
    worker: WorkerId,
    broadcast: Broadcast,
    known: WorkerState,
    flights: InFlight,
    waiting: FxHashMap<RequestId, Waiting>,
    /// The bytes of the headers of all that wait.
    waiting_bytes: usize,
    /// Requests whose wait is over, in the order in which it ended. Those that have left meanwhile are in it, too.
    ready: VecDeque<RequestId>,
    calls: VecDeque<(FetchId, Callout)>,
    counters: Counters,
    latest: UnixTime,
    /// For what another worker does it was looked last.
    looked: Option<FetchId>,
}

struct Waiting {
    request: Request,
    progress: Progress,
    about: AuditContext,
    state: WaitState,
}

/// The wait of a request, from its beginning to the moment at which its step is handed out.
#[derive(Clone, Copy)]
enum WaitState {
    /// It waits for a flight.
    For(FetchKey),
    /// Its flight has landed: it is decided again.
    Landed,
    /// Its time is over: it is refused.
    TooLong,
}

/// How far a request has come.
#[derive(Clone, Copy)]
struct Progress {
    /// How often it was decided.
    decisions: u8,
    /// When it came.
    since: UnixTime,
    /// For a token of whose call it has waited.
    cache: Option<CacheOutcome>,
}

impl Engine {
    /// Knows nothing yet; the first [`tick`](Self::tick) fetches keys.
    pub fn new(config: Config, crypto: Box<dyn Crypto>, shared: Box<dyn SharedData>) -> Self {
        let known = WorkerState::new(&config);
        Self {
            worker: crypto.random().unwrap_or_default(),
            config,
            crypto,
            shared,
            broadcast: Broadcast::default(),
            known,
            flights: InFlight::default(),
            waiting: FxHashMap::default(),
            waiting_bytes: 0,
            ready: VecDeque::new(),
            calls: VecDeque::new(),
            counters: Counters::default(),
            latest: UnixTime::default(),
            looked: None,
        }
    }

    /// The host has a queue for this worker, by its number: what other workers put in comes back to
    /// [`message`](Self::message).
    pub fn listen(&mut self, queue: u32, now: UnixTime) {
        let board = SharedStore { shared: self.shared.as_ref(), key: &self.config.shared_key, worker: self.worker };
        self.broadcast.listen(queue, &board, now);
    }

    /// A request has come in.
    pub fn request(&mut self, id: RequestId, request: Request, now: UnixTime) -> Decision {
        self.observe(now);
        self.known.serve();
        self.run(id, request, Progress { decisions: 0, since: now, cache: None }, now)
    }

    /// A call has ended. The steps of those who waited for it come from [`next_decision`](Self::next_decision).
    pub fn reply(&mut self, flight: FetchId, reply: &CalloutResult, now: UnixTime) {
        self.observe(now);
        let Some(flight) = self.flights.take(flight) else {
            return;
        };
        let mut landing = CalloutHandler {
            config: &self.config,
            crypto: self.crypto.as_ref(),
            known: &mut self.known,
            counters: &mut self.counters,
            board: SharedStore { shared: self.shared.as_ref(), key: &self.config.shared_key, worker: self.worker },
        };
        match landing.land(flight, reply, now) {
            in_flight::Next::Callout(next) => {
                let (flight, call) = *next;
                self.launch(flight, call);
            }
            in_flight::Next::Done(waiters) => self.end_wait(waiters, WaitState::Landed),
        }
    }

    /// Time has passed: what other workers have found is taken over, keys that are due are fetched, and calls that the host
    /// has forgotten are given up. Steps come from [`next_decision`](Self::next_decision).
    pub fn tick(&mut self, now: UnixTime) {
        self.observe(now);
        let board = SharedStore { shared: self.shared.as_ref(), key: &self.config.shared_key, worker: self.worker };
        self.broadcast.keep_listed(&board, now);
        for index in 0..self.config.providers.len() {
            self.refresh_jwks(index, now);
        }
        for endpoint in self.known.circuits.all_closed(now) {
            if let Some(provider) = self.config.providers.get(endpoint.provider) {
                let board =
                    SharedStore { shared: self.shared.as_ref(), key: &self.config.shared_key, worker: self.worker };
                let watch = BreakerContext { board, crypto: self.crypto.as_ref(), provider, now };
                self.known.circuits.look(&endpoint, &watch);
            }
        }
        let elsewhere = self.flights.elsewhere();
        let next = elsewhere.partition_point(|(flight, _)| Some(*flight) <= self.looked);
        let in_turn = elsewhere.iter().skip(next).chain(elsewhere.iter().take(next));
        for (flight, elsewhere) in in_turn.take(MOST_LOOKS) {
            self.looked = Some(*flight);
            if !self.is_fetch_pending(*elsewhere, now)
                && let Some(flight) = self.flights.take(*flight)
            {
                self.end_wait(flight.waiters, WaitState::Landed);
            }
        }
        let overdue = self.flights.overdue(now, |provider| {
            self.config.providers.get(provider).map_or(Duration::ZERO, Provider::callout_limit)
        });
        for flight in overdue.into_iter().take(MOST_OVERDUE) {
            self.reply(flight, &CalloutResult::Failed(CalloutFailure::TimedOut), now);
        }
        self.expire_waiting(now);
    }

    /// Ends the wait of requests that have waited for as long as they may.
    fn expire_waiting(&mut self, now: UnixTime) {
        let mut expired: Vec<(RequestId, FetchKey)> = Vec::new();
        for (id, waiting) in &self.waiting {
            if let WaitState::For(purpose) = waiting.state
                && now.since(waiting.progress.since) >= self.config.max_wait
            {
                expired.push((*id, purpose));
            }
        }
        expired.sort_unstable_by_key(|(id, _)| *id);
        for (id, purpose) in &expired {
            self.flights.leave(*purpose, *id);
        }
        self.end_wait(expired.into_iter().map(|(id, _)| id), WaitState::TooLong);
    }

    /// Lets requests go on, in that order, when [`next_decision`](Self::next_decision) comes to them.
    fn end_wait(&mut self, ids: impl IntoIterator<Item = RequestId>, state: WaitState) {
        for id in ids {
            if let Some(waiting) = self.waiting.get_mut(&id) {
                waiting.state = state;
                self.ready.push_back(id);
            }
        }
    }

    /// The step of the next request whose wait is over; [`Decision::Pause`], if it waits for something else now. `None`: there is no
    /// such request.
    ///
    /// Requests are decided one at a time, so that the host lets as few of them go in one callback as it can bear
    /// (docs/adr/0018): each answer runs the response callbacks of all filters before the next one is sent.
    pub fn next_decision(&mut self, now: UnixTime) -> Option<(RequestId, Decision)> {
        while let Some(id) = self.ready.pop_front() {
            let Some(Waiting { request, progress, about, state }) = self.remove_waiting(id) else {
                continue;
            };
            let step = match state {
                WaitState::TooLong => {
                    let about = AuditContext { cache: progress.cache, ..about };
                    let because = "because=\"it has waited for max_wait_seconds\"";
                    let refusal = Refusal::because(Reason::ProviderUnavailable, because);
                    self.refuse(&refusal.retry_after(Duration::from_secs(1)), &about, progress, now)
                }
                WaitState::For(_) | WaitState::Landed => self.run(id, request, progress, now),
            };
            return Some((id, step));
        }
        None
    }

    fn remove_waiting(&mut self, id: RequestId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(waiting.request.bytes());
        Some(waiting)
    }

    /// Whether there are calls to make or steps to hand out: see [`next_callout`](Self::next_callout) and
    /// [`next_decision`](Self::next_decision).
    pub fn has_work(&self) -> bool {
        !self.calls.is_empty() || !self.ready.is_empty()
    }

    fn board(&self) -> SharedStore<'_> {
        SharedStore { shared: self.shared.as_ref(), key: &self.config.shared_key, worker: self.worker }
    }

    fn pool(&self) -> SharedTokens<'_> {
        let (crypto, rejections) = (self.crypto.as_ref(), &self.known.rejections);
        SharedTokens { board: self.board(), crypto, rejections, room: self.config.shared_tokens }
    }

    /// Whether requests wait for what another worker is fetching, so that the next tick should be soon.
    pub fn needs_fast_tick(&self) -> bool {
        !self.flights.elsewhere().is_empty()
    }

    /// How old the keys of each provider are, by its index, where they can age and are there.
    pub fn key_ages(&self, now: UnixTime) -> Vec<(usize, Duration)> {
        let ages = self.known.issuers().iter().enumerate();
        ages.filter_map(|(index, issuer)| Some((index, issuer.age(now)?))).collect()
    }

    /// A call that is to be made now, and the flight that its reply belongs to.
    pub fn next_callout(&mut self) -> Option<(FetchId, Callout)> {
        self.calls.pop_front()
    }

    /// The upstream of a resource, by its index, has answered with these `DPoP-Nonce` fields: the next proof for it has
    /// the nonce in it (RFC 9449 sections 8.2 and 9). Whether there is one.
    pub fn upstream_nonce<'a>(&mut self, resource: usize, fields: impl Iterator<Item = &'a [u8]>) -> bool {
        self.config.resources.get(resource).is_some_and(Resource::takes_proofs)
            && self.known.nonces.learn(crate::dpop::NonceIssuer::Upstream(resource), fields)
    }

    /// Names of the fields in a request's trailers that do not go on.
    pub fn trailers(&self, trailers: &Request) -> Vec<String> {
        credentials::trailers_to_remove(trailers, &self.config)
    }

    /// Whether the step of a request has yet to come.
    pub fn waits(&self, id: RequestId) -> bool {
        self.waiting.contains_key(&id)
    }

    /// A request has left before its step came.
    pub fn gone(&mut self, id: RequestId) {
        if let Some(Waiting { state: WaitState::For(purpose), .. }) = self.remove_waiting(id) {
            self.flights.leave(purpose, id);
        }
    }

    /// What has been counted since the last time.
    pub fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A step back of a moment is a clock being disciplined: no span here is so short that it matters, and forgetting
    /// every exchanged token for it would be a stampede at the providers.
    fn observe(&mut self, now: UnixTime) {
        if now.plus(CLOCK_JITTER) < self.latest {
            self.known.clock_went_back();
            self.flights.clock_went_back(now);
            self.latest = now;
        }
        self.latest = self.latest.max(now);
    }

    /// Decides a request, as often as that brings it further.
    fn run(&mut self, id: RequestId, request: Request, mut progress: Progress, now: UnixTime) -> Decision {
        let mut last = AuditContext::default();
        while progress.decisions < MOST_DECISIONS {
            let mut facts = Facts {
                config: &self.config,
                known: &mut self.known,
                crypto: self.crypto.as_ref(),
                shared: self.shared.as_ref(),
                about: AuditContext::default(),
                sent: None,
            };
            let decided = decide::decide(&request, &mut facts, now);
            let AuditContext { resource, caller, cache } = facts.about;
            let about = AuditContext { resource, caller, cache: progress.cache.or(cache) };
            match decided {
                Ok(mut outcome) => {
                    if let Outcome::Forward { edits, passage, renewal } = &mut outcome
                        && *passage != Passage::Open
                    {
                        let is_first = *passage == Passage::Unexchanged && about.is_first();
                        let is_remembered = match passage {
                            Passage::Lookup => about.cache == Some(CacheOutcome::Hit),
                            Passage::Unexchanged | Passage::Open => !is_first,
                        };
                        edits.filter_state = match about.caller_facts(&self.config).filter(|_| is_remembered) {
                            Some(facts) => FilterState::Caller(facts),
                            None => {
                                let took = now.since(progress.since);
                                FilterState::Record(about.record(&self.config, &[("event", "forwarded")], took))
                            }
                        };
                        // The first time is what an exchange is for other tokens, the next like one from the cache.
                        if let FilterState::Record(record) = &edits.filter_state
                            && is_first
                        {
                            log::info!("{record}");
                        }
                        if *passage == Passage::Lookup && progress.decisions == 0 {
                            self.counters.cache_hit();
                        }
                        if let Some(need) = renewal.take() {
                            self.renew(need, now);
                        }
                    }
                    return self.finish(outcome);
                }
                Err(Stop::Refuse(refusal)) => return self.refuse(&refusal, &about, progress, now),
                Err(Stop::Need(need)) => {
                    progress.decisions = progress.decisions.saturating_add(1);
                    match self.serve(id, need, request.bytes(), &mut progress, now) {
                        Served::Waits(purpose) => {
                            self.waiting_bytes = self.waiting_bytes.saturating_add(request.bytes());
                            let state = WaitState::For(purpose);
                            self.waiting.insert(id, Waiting { request, progress, about, state });
                            return Decision::Pause;
                        }
                        Served::Decide => last = about,
                        Served::No(refusal) => return self.refuse(&refusal, &about, progress, now),
                    }
                }
            }
        }
        let because = "because=\"the request still lacks what was fetched for it\"";
        let refusal = Refusal::because(Reason::ProviderUnavailable, because).retry_after(Duration::from_secs(1));
        self.refuse(&refusal, &last, progress, now)
    }

    fn finish(&mut self, outcome: Outcome) -> Decision {
        match outcome {
            Outcome::Forward { edits, passage, .. } => {
                match passage {
                    Passage::Lookup | Passage::Unexchanged => self.counters.forwarded(),
                    Passage::Open => self.counters.open_path(),
                }
                Decision::Forward(edits)
            }
            Outcome::Metadata(answer) => {
                self.counters.metadata();
                Decision::Respond(answer)
            }
        }
    }

    fn refuse(&mut self, refusal: &Refusal, about: &AuditContext, progress: Progress, now: UnixTime) -> Decision {
        let ending = [("event", "refused"), ("reason", refusal.reason.label())];
        let mut record = about.record(&self.config, &ending, now.since(progress.since));
        record.add_detail(&refusal.detail);
        log_at(refusal.reason, &record);
        self.counters.refused(refusal.reason.label());
        let mut answer = refusal.answer(about.resource.and_then(|index| self.config.resources.get(index)));
        answer.audit = record;
        Decision::Respond(answer)
    }
}
