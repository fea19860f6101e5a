//! What happens to requests, without the host: no I/O, no clock, no proxy-wasm.
//!
//! Requests, replies and ticks go in with the time; decisions and calls come out. [`decide`] is one straight
//! function. Where it lacks a fact, the request waits for the *flight* that fetches it, together with everyone
//! else who lacks it, and is decided again from the top when the flight has landed. The flight belongs to
//! nobody: it goes on when the request that started it has left.

mod counters;
mod credentials;
mod decide;
mod flight;
mod known;
mod select;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

pub use counters::{Counters, Sample};
pub use flight::FlightId;

use crate::config::{Config, Resource};
use crate::crypto::Crypto;
use crate::http::{Call, CallFailure, HeaderEdits, LocalAnswer, Reply, Request};
use crate::refusal::{Concern, Reason, Refusal};
use crate::time::UnixTime;
use decide::{Facts, Need, Outcome, Stop};
use flight::{Flight, Flights, Join, Landing, Operation, Purpose};
use known::Known;

/// How often one request is decided at most. Keys, a refetch for its `kid` and a token make four.
const MOST_DECISIONS: u8 = 8;

/// The most requests that wait in one worker.
const MOST_WAITING: usize = 1024;

/// How far the clock may go back without being taken for another clock.
const CLOCK_JITTER: Duration = Duration::from_secs(5);

/// How much longer than its timeout a call is waited for, in case the host forgets it.
const GRACE: Duration = Duration::from_secs(5);

/// A request of the host's, for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u32);

/// What to do with a request now.
#[must_use]
pub enum Step {
    /// Let it through, changed so. This is its end here.
    Forward(HeaderEdits),
    /// Answer it. This is its end here.
    Answer(LocalAnswer),
    /// Hold it: a later call will return its step. There are calls to make, see [`Engine::next_call`].
    Wait,
}

/// Decides what happens to requests.
pub struct Engine {
    config: Config,
    crypto: Box<dyn Crypto>,
    known: Known,
    flights: Flights,
    waiting: HashMap<RequestId, Waiting>,
    calls: VecDeque<(FlightId, Call)>,
    counters: Counters,
    latest: UnixTime,
}

struct Waiting {
    request: Request,
    decisions: u8,
    /// What it waits for.
    purpose: Purpose,
}

impl Engine {
    /// Knows nothing yet; the first [`tick`](Self::tick) fetches keys.
    pub fn new(config: Config, crypto: Box<dyn Crypto>) -> Self {
        let known = Known::new(config.providers.len(), config.verified_tokens, config.exchanged_tokens);
        Self {
            config,
            crypto,
            known,
            flights: Flights::default(),
            waiting: HashMap::new(),
            calls: VecDeque::new(),
            counters: Counters::default(),
            latest: UnixTime::default(),
        }
    }

    /// A request has come in.
    pub fn request(&mut self, id: RequestId, request: Request, now: UnixTime) -> Step {
        self.observe(now);
        match self.decide(&request, now) {
            Ok(outcome) => {
                if matches!(outcome, Outcome::Forward { exchanged: true, .. }) {
                    self.counters.cache_hit();
                }
                self.finish(outcome)
            }
            Err(Stop::Refuse { refusal, resource }) => self.refuse(&refusal, resource),
            Err(Stop::Need(need)) => {
                let waiting = Waiting { request, decisions: 1, purpose: need.purpose() };
                self.wait(id, waiting, need, now)
            }
        }
    }

    /// A call has ended. The steps of those who waited for it come back.
    pub fn reply(&mut self, flight: FlightId, reply: &Reply, now: UnixTime) -> Vec<(RequestId, Step)> {
        self.observe(now);
        let Some(flight) = self.flights.take(flight) else {
            return Vec::new();
        };
        let mut landing = Landing {
            config: &self.config,
            crypto: self.crypto.as_ref(),
            known: &mut self.known,
            counters: &mut self.counters,
        };
        match landing.land(flight, reply, now) {
            flight::Next::Call(next) => {
                let (flight, call) = *next;
                self.launch(flight, call);
                Vec::new()
            }
            flight::Next::Done(waiters) => self.decide_again(waiters, now),
        }
    }

    /// Time has passed: keys that are due are fetched, and calls that the host has forgotten are given up.
    pub fn tick(&mut self, now: UnixTime) -> Vec<(RequestId, Step)> {
        self.observe(now);
        for provider in self.known.due(now) {
            if self.known.issuer(provider).is_some_and(|issuer| !issuer.fetching) {
                let started = self.start(Operation::keys(provider, &self.config), None, now);
                if let Err(refusal) = started {
                    log::warn!("could not fetch keys: {refusal}");
                }
            }
        }
        let overdue = self.flights.overdue(now, |provider| {
            self.config.providers.get(provider).map_or(GRACE, |provider| provider.timeout.saturating_add(GRACE))
        });
        let mut steps = Vec::new();
        for flight in overdue {
            steps.extend(self.reply(flight, &Reply::Failed(CallFailure::TimedOut), now));
        }
        steps
    }

    /// A call that is to be made now, and the flight that its reply belongs to.
    pub fn next_call(&mut self) -> Option<(FlightId, Call)> {
        self.calls.pop_front()
    }

    /// A request has left before its step came.
    pub fn gone(&mut self, id: RequestId) {
        if let Some(waiting) = self.waiting.remove(&id) {
            self.flights.leave(waiting.purpose, id);
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

    fn decide(&mut self, request: &Request, now: UnixTime) -> Result<Outcome, Stop> {
        let mut facts = Facts { config: &self.config, known: &mut self.known, crypto: self.crypto.as_ref() };
        decide::decide(request, &mut facts, now)
    }

    fn decide_again(&mut self, waiters: Vec<RequestId>, now: UnixTime) -> Vec<(RequestId, Step)> {
        let mut steps = Vec::with_capacity(waiters.len());
        for id in waiters {
            let Some(mut waiting) = self.waiting.remove(&id) else {
                continue;
            };
            waiting.decisions = waiting.decisions.saturating_add(1);
            let step = match self.decide(&waiting.request, now) {
                Ok(outcome) => self.finish(outcome),
                Err(Stop::Refuse { refusal, resource }) => self.refuse(&refusal, resource),
                Err(Stop::Need(_)) if waiting.decisions >= MOST_DECISIONS => {
                    let refusal = Refusal::because(
                        Reason::ProviderUnavailable,
                        "the request still lacks what was fetched for it",
                    );
                    self.refuse(&refusal.retry_after(Duration::from_secs(1)), None)
                }
                Err(Stop::Need(need)) => {
                    waiting.purpose = need.purpose();
                    self.wait(id, waiting, need, now)
                }
            };
            if !matches!(step, Step::Wait) {
                steps.push((id, step));
            }
        }
        steps
    }

    fn wait(&mut self, id: RequestId, waiting: Waiting, need: Need, now: UnixTime) -> Step {
        let overloaded = || Refusal::new(Reason::Overloaded).retry_after(Duration::from_secs(1));
        if self.waiting.len() >= MOST_WAITING {
            return self.refuse(&overloaded(), None);
        }
        let is_token = matches!(need, Need::Token(_));
        let is_for_a_kid = matches!(need, Need::Keys { known_endpoints: Some(_), .. });
        // Whoever waits for keys has proved nothing yet: half of the places are for those who have.
        let most_waiting_for_keys = (MOST_WAITING / 2).checked_div(self.config.providers.len()).unwrap_or(1).max(1);
        match self.flights.join(&need, id, most_waiting_for_keys) {
            Join::Joined => {
                if is_token {
                    self.counters.cache_joined();
                }
                self.waiting.insert(id, waiting);
                return Step::Wait;
            }
            Join::Full if is_for_a_kid => return self.refuse(&Refusal::new(Reason::UnknownKey), None),
            Join::Full => return self.refuse(&overloaded(), None),
            Join::NoFlight => {}
        }
        if is_token {
            self.counters.cache_miss();
        }
        self.waiting.insert(id, waiting);
        let started = match Operation::of(need, &self.config, &self.known) {
            Some(operation) => self.start(operation, Some(id), now),
            // The need was found with the same facts a moment ago.
            None => Err(Refusal::new(Reason::KeysUnavailable).retry_after(Duration::from_secs(1))),
        };
        match started {
            Ok(()) => Step::Wait,
            Err(refusal) => {
                self.waiting.remove(&id);
                self.refuse(&refusal, None)
            }
        }
    }

    /// Starts a flight. The error: its first call could not even be made.
    fn start(&mut self, operation: Operation, waiter: Option<RequestId>, now: UnixTime) -> Result<(), Refusal> {
        let Some(call) = operation.call(&self.config, self.crypto.as_ref(), now) else {
            return Err(Refusal::because(
                Reason::ExchangeMisconfigured,
                "the request to the provider could not be made or signed",
            ));
        };
        if operation.fetches_keys()
            && let Some(issuer) = self.known.issuer_mut(operation.provider())
        {
            issuer.fetching = true;
            if waiter.is_some() && issuer.keys.is_some() {
                issuer.refetching(now);
            }
        }
        self.launch(Flight { operation, waiters: waiter.into_iter().collect(), started: now }, call);
        Ok(())
    }

    fn launch(&mut self, flight: Flight, call: Call) {
        let id = self.flights.put(flight);
        self.calls.push_back((id, call));
    }

    fn finish(&mut self, outcome: Outcome) -> Step {
        match outcome {
            Outcome::Forward { edits, exchanged } => {
                if exchanged {
                    self.counters.forwarded()
                } else {
                    self.counters.open_path()
                }
                Step::Forward(edits)
            }
            Outcome::Metadata(answer) => {
                self.counters.metadata();
                Step::Answer(answer)
            }
        }
    }

    fn refuse(&mut self, refusal: &Refusal, resource: Option<usize>) -> Step {
        let resource: Option<&Resource> = resource.and_then(|index| self.config.resources.get(index));
        let at = resource.map_or("-", |resource| resource.url.as_str());
        match refusal.reason {
            // The first request of every MCP client.
            Reason::NoCredentials => log::debug!("refused resource={at} {refusal}"),
            reason if reason.row().concern == Concern::Operator => log::warn!("refused resource={at} {refusal}"),
            _ => log::info!("refused resource={at} {refusal}"),
        }
        self.counters.refused(refusal.reason);
        Step::Answer(refusal.answer(resource))
    }
}
