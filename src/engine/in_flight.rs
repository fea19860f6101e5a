//! What is being fetched, and who waits for it. A flight is one remote operation, of one call or of several in a
//! row; the same need twice at the same time is one flight.

use std::borrow::Cow;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::cache::circuit_breaker::{self, BreakerContext, BreakerKey};
use crate::cache::exchanged_tokens::TokenKey;
use crate::cache::shared_tokens::SharedTokens;
use crate::config::Config;
use crate::crypto::Crypto;
use crate::engine::RequestId;
use crate::engine::audit::AuditContext;
use crate::engine::decide::{Need, TokenNeed};
use crate::engine::state::WorkerState;
use crate::engine::token_exchange::{self, TokenExchange};
use crate::http::{Callout, CalloutResult};
use crate::jose::KeySet;
use crate::provider::{Document, Endpoints, ErrorClass, ExchangeTarget, Provider, TokenEndpointError, trace_of};
use crate::refusal::{Reason, Refusal, log_at};
use crate::secret::Secret;
use crate::shared::SharedStore;
use crate::telemetry::{CacheOutcome, Counters, Fact, Record};
use crate::time::UnixTime;
use crate::url::Url;

/// A flight's number; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FetchId(u64);

pub(super) struct Fetch {
    pub(super) operation: Operation,
    pub(super) waiters: Vec<RequestId>,
    /// When its current call was made.
    pub(super) started: UnixTime,
}

/// The step at which a flight is.
pub(super) enum Operation {
    /// A provider's metadata is asked for; its keys come next.
    Discovery { provider: usize, document: Document },
    /// A provider's keys are asked for.
    Keys { provider: usize, endpoints: Endpoints, jwks_uri: Url },
    /// Another worker asks for a provider's keys; so many fetches had ended before.
    KeysElsewhere { provider: usize, ended: u64 },
    /// A token is exchanged.
    TokenExchange(TokenExchange),
    /// Another worker exchanges a token at a provider.
    TokenElsewhere { provider: usize, key: TokenKey },
}

/// What two needs must have in common to be served by one flight.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum FetchKey {
    Keys(usize),
    Token(TokenKey),
}

/// What follows a reply.
pub(super) enum Next {
    /// Another call of the same flight.
    Callout(Box<(Fetch, Callout)>),
    /// The flight is over; these waited for it.
    Done(Vec<RequestId>),
}

/// Whether a request could join a flight.
pub(super) enum Join {
    Joined,
    /// So many wait for the same already that they would take the places of everyone else.
    Full,
    NoFlight,
}

/// How many requests may wait for the same token.
const MOST_WAITING_FOR_A_TOKEN: usize = 256;

/// What another worker does.
#[derive(Clone, Copy)]
pub(super) enum RemoteFetch {
    /// It asks for a provider's keys; so many fetches had ended before.
    Keys { provider: usize, ended: u64 },
    /// It exchanges a token.
    Token(TokenKey),
}

#[derive(Default)]
pub(super) struct InFlight {
    flights: FxHashMap<FetchId, Fetch>,
    by_purpose: FxHashMap<FetchKey, FetchId>,
    numbers: u64,
}

impl InFlight {
    /// Lets `waiter` wait for a flight that serves `need`, if there is one with room.
    pub(super) fn join(&mut self, need: &Need, waiter: RequestId, most_waiting_for_keys: usize) -> Join {
        let room = match need {
            Need::Keys { .. } => most_waiting_for_keys,
            Need::Token(_) => MOST_WAITING_FOR_A_TOKEN,
        };
        match self.by_purpose.get(&need.purpose()).and_then(|id| self.flights.get_mut(id)) {
            None => Join::NoFlight,
            Some(flight) if flight.waiters.len() >= room => Join::Full,
            Some(flight) => {
                flight.waiters.push(waiter);
                Join::Joined
            }
        }
    }

    /// A request does not wait any more: its place is another's.
    pub(super) fn leave(&mut self, purpose: FetchKey, waiter: RequestId) {
        if let Some(flight) = self.by_purpose.get(&purpose).and_then(|id| self.flights.get_mut(id)) {
            flight.waiters.retain(|other| *other != waiter);
        }
    }

    pub(super) fn put(&mut self, flight: Fetch) -> FetchId {
        self.numbers = self.numbers.wrapping_add(1);
        let id = FetchId(self.numbers);
        self.by_purpose.insert(flight.operation.purpose(), id);
        self.flights.insert(id, flight);
        id
    }

    pub(super) fn take(&mut self, id: FetchId) -> Option<Fetch> {
        let flight = self.flights.remove(&id)?;
        self.by_purpose.remove(&flight.operation.purpose());
        Some(flight)
    }

    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    /// How many are for nobody who waits.
    pub(super) fn background_count(&self) -> usize {
        self.flights.values().filter(|flight| flight.waiters.is_empty()).count()
    }

    /// Whether a token is on its way.
    pub(super) fn exchanges(&self, key: TokenKey) -> bool {
        self.by_purpose.contains_key(&FetchKey::Token(key))
    }

    /// Whether keys of a provider are on their way.
    pub(super) fn fetches(&self, provider: usize) -> bool {
        self.by_purpose.contains_key(&FetchKey::Keys(provider))
    }

    /// What is waited for that other workers do.
    pub(super) fn elsewhere(&self) -> Vec<(FetchId, RemoteFetch)> {
        let elsewhere = |id: FetchId| match self.flights.get(&id)?.operation {
            Operation::KeysElsewhere { provider, ended } => Some((id, RemoteFetch::Keys { provider, ended })),
            Operation::TokenElsewhere { key, .. } => Some((id, RemoteFetch::Token(key))),
            _ => None,
        };
        self.in_order().into_iter().filter_map(elsewhere).collect()
    }

    /// Flights that have been up longer than their call may take.
    pub(super) fn overdue(&self, now: UnixTime, limit: impl Fn(usize) -> Duration) -> Vec<FetchId> {
        let is_overdue = |flight: &Fetch| {
            !flight.operation.is_elsewhere() && now.since(flight.started) > limit(flight.operation.provider())
        };
        self.in_order().into_iter().filter(|id| self.flights.get(id).is_some_and(is_overdue)).collect()
    }

    /// In the order in which they were started, so that the same events always have the same outcome.
    fn in_order(&self) -> Vec<FetchId> {
        let mut ids: Vec<_> = self.flights.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    pub(super) fn clock_went_back(&mut self, now: UnixTime) {
        for flight in self.flights.values_mut() {
            flight.started = flight.started.min(now);
        }
    }
}

impl Operation {
    /// Fetches a provider's keys, by way of discovery unless the endpoints are configured, or known and only a new key is
    /// wanted.
    pub(super) fn keys(provider: usize, again: bool, config: &Config, known: &WorkerState) -> Self {
        let configured = || config.providers.get(provider).and_then(Endpoints::configured);
        let known = known.issuer(provider).filter(|_| again).and_then(|issuer| issuer.endpoints.clone());
        match known.or_else(configured) {
            Some(Endpoints { jwks_uri: Some(jwks_uri), token_endpoint }) => {
                let endpoints = Endpoints { jwks_uri: Some(jwks_uri.clone()), token_endpoint };
                Self::Keys { provider, endpoints, jwks_uri }
            }
            _ => Self::Discovery { provider, document: Document::OpenId },
        }
    }

    /// The call of this step. `None`: it could not be made.
    pub(super) fn call(
        &self,
        config: &Config,
        known: &WorkerState,
        crypto: &dyn Crypto,
        now: UnixTime,
    ) -> Option<Callout> {
        let provider = config.providers.get(self.provider())?;
        match self {
            Self::Discovery { document, .. } => Some(get(provider, document.url(&provider.issuer)?)),
            Self::Keys { jwks_uri, .. } => Some(get(provider, jwks_uri.clone())),
            Self::KeysElsewhere { .. } | Self::TokenElsewhere { .. } => None,
            Self::TokenExchange(exchange) => exchange.call(config, &known.nonces, crypto, now),
        }
    }

    pub(super) const fn provider(&self) -> usize {
        match self {
            Self::Discovery { provider, .. }
            | Self::Keys { provider, .. }
            | Self::KeysElsewhere { provider, .. }
            | Self::TokenElsewhere { provider, .. } => *provider,
            Self::TokenExchange(exchange) => exchange.need.provider,
        }
    }

    /// Whether another worker does it.
    const fn is_elsewhere(&self) -> bool {
        matches!(self, Self::KeysElsewhere { .. } | Self::TokenElsewhere { .. })
    }

    const fn purpose(&self) -> FetchKey {
        match self {
            Self::Discovery { provider, .. } | Self::Keys { provider, .. } | Self::KeysElsewhere { provider, .. } => {
                FetchKey::Keys(*provider)
            }
            Self::TokenElsewhere { key, .. } => FetchKey::Token(*key),
            Self::TokenExchange(exchange) => FetchKey::Token(exchange.need.key),
        }
    }
}

/// The largest metadata document or key set that is read. Ten keys with their certificates are about 20 KB.
const MOST_DOCUMENT_BYTES: usize = 1024 * 1024;

fn get(provider: &Provider, url: Url) -> Callout {
    Callout {
        cluster: provider.cluster.clone(),
        method: "GET",
        url,
        headers: vec![("accept", Secret::new("application/json".to_owned()))],
        body: Secret::new(String::new()),
        timeout: provider.timeout,
        most_bytes: MOST_DOCUMENT_BYTES,
    }
}

/// Everything that a reply may change.
pub(super) struct CalloutHandler<'a> {
    pub(super) config: &'a Config,
    pub(super) crypto: &'a dyn Crypto,
    pub(super) known: &'a mut WorkerState,
    pub(super) counters: &'a mut Counters,
    pub(super) board: SharedStore<'a>,
}

impl<'a> CalloutHandler<'a> {
    /// Takes a reply in: what it says is known from now on, and the flight goes on or ends.
    pub(super) fn land(&mut self, flight: Fetch, reply: &CalloutResult, now: UnixTime) -> Next {
        let Some(provider) = self.config.providers.get(flight.operation.provider()) else {
            return Next::Done(flight.waiters);
        };
        match flight.operation {
            Operation::Discovery { provider: index, document } => {
                let next =
                    match (body(reply).and_then(|body| Ok(Endpoints::discovered(provider, body)?)), reply, document) {
                        (Ok(Endpoints { jwks_uri: Some(jwks_uri), token_endpoint }), ..) => {
                            let endpoints = Endpoints { jwks_uri: Some(jwks_uri.clone()), token_endpoint };
                            Operation::Keys { provider: index, endpoints, jwks_uri }
                        }
                        (Ok(endpoints), ..) => {
                            let keys = provider.jwks.clone().unwrap_or_default();
                            self.keys(index, provider, endpoints, keys, (b"", None), now);
                            return Next::Done(flight.waiters);
                        }
                        // Some servers know the one document, some the other.
                        (Err(_), CalloutResult::Response(answer), Document::OpenId) if answer.status == 404 => {
                            Operation::Discovery { provider: index, document: Document::AuthorizationServer }
                        }
                        (Err(problem), ..) => {
                            let url = document.url(&provider.issuer);
                            self.no_keys(index, provider, &problem, url.as_ref(), now);
                            return Next::Done(flight.waiters);
                        }
                    };
                match next.call(self.config, self.known, self.crypto, now) {
                    Some(call) => {
                        if let Some(issuer) = self.known.issuer_mut(index) {
                            issuer.is_fetch_pending(&self.board, now);
                        }
                        let flight = Fetch { operation: next, waiters: flight.waiters, started: now };
                        Next::Callout(Box::new((flight, call)))
                    }
                    None => {
                        self.no_keys(index, provider, "the call could not be made", None, now);
                        Next::Done(flight.waiters)
                    }
                }
            }
            Operation::Keys { provider: index, endpoints, jwks_uri } => {
                let read = body(reply).and_then(|body| {
                    let (keys, skipped) = KeySet::read(body).ok_or("the answer is not a JWK Set")?;
                    Ok((body, keys, skipped))
                });
                let url = Some(&jwks_uri);
                match (read, reply) {
                    (Ok((jwks, keys, skipped)), CalloutResult::Response(answer)) if !keys.is_empty() => {
                        for reason in skipped {
                            log::debug!("skipped a key of provider={}: {reason}", provider.name);
                        }
                        self.keys(index, provider, endpoints, keys, (jwks, answer.max_age()), now);
                    }
                    (Ok(_), _) => self.no_keys(index, provider, "the JWK Set has no usable key", url, now),
                    (Err(problem), _) => self.no_keys(index, provider, &problem, url, now),
                }
                Next::Done(flight.waiters)
            }
            Operation::KeysElsewhere { .. } | Operation::TokenElsewhere { .. } => Next::Done(flight.waiters),
            Operation::TokenExchange(exchange) => {
                let (need, took) = (exchange.need.clone(), exchange.took(now));
                let is_new = match exchange.land(reply, self.config, &mut self.known.nonces, self.crypto, now) {
                    token_exchange::Next::Callout(next, call) => {
                        let operation = Operation::TokenExchange(next);
                        return Next::Callout(Box::new((
                            Fetch { operation, waiters: flight.waiters, started: now },
                            call,
                        )));
                    }
                    token_exchange::Next::Issued { issued, outcome } => {
                        let mut record =
                            exchange_record(&need.about(), self.config, outcome, flight.waiters.len(), took);
                        record.add(Fact::LifetimeSeconds, &issued.end(now).since(now).as_secs().to_string());
                        record.add(Fact::ProviderTraceId, &trace_of(provider, need.target(self.config), reply));
                        log::info!("{record}");
                        self.counters.exchanged(need.provider, outcome, took);
                        self.known.circuits.served(&need.endpoint(), &self.watch(provider, now));
                        self.known.exchanges.put_issued(need.key, &issued, need.subject_ends, flight.started, now)
                    }
                    token_exchange::Next::Failed(fault) => {
                        self.no_token(&need, provider, &fault, flight.waiters.len(), took, now)
                    }
                };
                match self.known.exchanges.peek(&need.key, now) {
                    Some(brought) if is_new => self.pool().publish(&need.key, brought, now),
                    kept => self.pool().give_back(&need.key, kept, now),
                }
                Next::Done(flight.waiters)
            }
        }
    }

    fn watch(&self, provider: &'a Provider, now: UnixTime) -> BreakerContext<'a> {
        BreakerContext { board: self.board, crypto: self.crypto, provider, now }
    }

    fn pool(&self) -> SharedTokens<'_> {
        let rejections = &self.known.rejections;
        SharedTokens { board: self.board, crypto: self.crypto, rejections, room: self.config.shared_tokens }
    }

    /// The exchange for `need` failed: remembers that for a while, by whose fault it is. Whether it does: a token that is
    /// there may be as good as before.
    pub(super) fn no_token(
        &mut self,
        need: &TokenNeed,
        provider: &'a Provider,
        fault: &TokenEndpointError,
        waiters: usize,
        took: Duration,
        now: UnixTime,
    ) -> bool {
        let reason = Reason::from(fault.blame);
        let pause = match fault.blame {
            // Who can act at once comes back at once.
            ErrorClass::UserMustAct if fault.interaction_uri.is_some() => 10,
            ErrorClass::UserMustAct => 120,
            ErrorClass::NotAllowed => 60,
            ErrorClass::Token | ErrorClass::Operator => 30,
            ErrorClass::Throttled => 10,
            ErrorClass::Nonsense => 5,
            ErrorClass::Unavailable => 1,
        };
        let mut pause = fault.retry_after.unwrap_or_else(|| Duration::from_secs(pause));
        let (endpoint, watch) = (need.endpoint(), self.watch(provider, now));
        if fault.is_rate_limit() {
            self.known.circuits.throttled(&endpoint, pause, &watch);
        } else if fault.blame == ErrorClass::Unavailable {
            let backoff = self.known.circuits.out(&endpoint, &need.caller.caller.user, now.minus(took), &watch);
            pause = fault.retry_after.unwrap_or(backoff);
        } else {
            self.known.circuits.served(&endpoint, &watch);
        }
        let mut refusal = Refusal::detailed(reason, fault.detail());
        let mut record = exchange_record(&need.about(), self.config, reason.label(), waiters, took);
        record.add_detail(&refusal.detail);
        log_at(reason, &record);
        if fault.blame.is_retryable() {
            refusal = refusal.retry_after(pause);
        }
        if fault.blame == ErrorClass::UserMustAct && need.takes_claims_challenge {
            // Not every answer says what is missing; the upstream did.
            refusal.claims = fault.claims.clone().or_else(|| need.claims.clone().map(Into::into));
        }
        if fault.blame == ErrorClass::Operator {
            self.known.rejections.forget_claims(need.resource, &need.key);
        }
        if fault.blame == ErrorClass::UserMustAct {
            refusal.interaction_uri.clone_from(&fault.interaction_uri);
        }
        self.counters.exchanged(need.provider, reason.label(), took);
        // These say nothing of the user: a token that is there is as good as before.
        let keeps = matches!(
            fault.blame,
            ErrorClass::Operator | ErrorClass::Throttled | ErrorClass::Unavailable | ErrorClass::Nonsense
        );
        self.known.exchanges.put_failed(need.key, refusal, keeps, pause, now)
    }

    /// Keys of a provider are there, with how they came and for how long they may be taken as they are.
    fn keys(
        &mut self,
        index: usize,
        provider: &Provider,
        endpoints: Endpoints,
        keys: KeySet,
        (jwks, max_age): (&[u8], Option<Duration>),
        now: UnixTime,
    ) {
        let Some(issuer) = self.known.issuer_mut(index) else {
            return;
        };
        log::debug!("fetched {} keys of provider={}", keys.len(), provider.name);
        let change = issuer.fetched((endpoints, keys, jwks), max_age, &self.board, self.crypto, now);
        self.known.apply_change(change);
        self.counters.jwks_refreshed(index, true);
    }

    fn no_keys(&mut self, index: usize, provider: &Provider, problem: &str, url: Option<&Url>, now: UnixTime) {
        if let Some(issuer) = self.known.issuer_mut(index) {
            let mut record = Record::default();
            record.add(Fact::Event, if provider.jwks.is_some() { "discovery_failed" } else { "jwks_fetch_failed" });
            record.add(Fact::Provider, &provider.name);
            record.add(Fact::Url, url.map_or("", Url::as_str));
            record.add(Fact::Cluster, &provider.cluster);
            record.add(Fact::Error, problem);
            record.add(Fact::CachedJwks, if issuer.keys.is_some() { "kept" } else { "none" });
            log::warn!("{record}");
            issuer.failed(&self.board, self.crypto, now);
        }
        self.counters.jwks_refreshed(index, false);
    }
}

/// What is said of an exchange, [`TokenNeed::about`], that ended so, while so many requests waited for it.
pub(super) fn exchange_record(
    about: &AuditContext,
    config: &Config,
    outcome: &str,
    waiters: usize,
    took: Duration,
) -> Record {
    let event = if about.cache == Some(CacheOutcome::Renewed) { "renewed" } else { "exchanged" };
    let mut record = about.record(config, &[(Fact::Event, event), (Fact::Outcome, outcome)], took);
    record.add(Fact::Waiters, &waiters.to_string());
    record
}

/// The body of a good answer, or a word why there is none.
fn body(reply: &CalloutResult) -> Result<&[u8], Cow<'static, str>> {
    match reply {
        CalloutResult::Response(answer) if answer.status == 200 => Ok(&answer.body),
        CalloutResult::Response(answer) => Err(format!("the answer's status is {}", answer.status).into()),
        CalloutResult::Failed(failure) => Err(failure.text().into()),
    }
}

impl Need {
    /// What a flight must be for to serve it.
    pub(super) fn purpose(&self) -> FetchKey {
        match self {
            Self::Keys { provider, .. } => FetchKey::Keys(*provider),
            Self::Token(need) => FetchKey::Token(need.key),
        }
    }
}

impl TokenNeed {
    /// What it is for.
    fn target<'a>(&self, config: &'a Config) -> Option<&'a ExchangeTarget> {
        config.resources.get(self.resource)?.targets.get(self.provider)?.as_ref()
    }

    /// Where it is exchanged.
    pub(super) fn endpoint(&self) -> BreakerKey {
        BreakerKey {
            provider: self.provider,
            place: circuit_breaker::place(self.tenant.as_deref(), self.elsewhere.as_deref()),
        }
    }

    /// For whom, and for what.
    pub(super) fn about(&self) -> AuditContext {
        let cache = if self.is_renewal { CacheOutcome::Renewed } else { CacheOutcome::Miss };
        AuditContext { resource: Some(self.resource), caller: Some(self.caller.clone()), cache: Some(cache) }
    }
}
