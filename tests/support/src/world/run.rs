//! A run: workers, the events that happen to them, and the invariants after each event.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use onbehalf::engine::HeaderMutations;
use onbehalf::engine::{Decision, Engine, FetchId, RequestId};
use onbehalf::http::{Callout, CalloutResult, LocalReply};
use onbehalf::time::UnixTime;
use serde_json::Value;

use super::event::{Event, Oddity, Scripted};
use super::invariants::check_local_reply;
use super::scene::{Caller, Scene};
use super::settings::{IdToken, Settings, exchange_of, issuer_of};
use crate::http::{form, request};
use crate::shared_map::SharedMap;
use crate::tokens::{NOW, OKTA};

/// Maximum time for which the host may stay silent about a call: after it, the engine may make the call again.
const CALL_LIMIT: Duration = Duration::from_secs(15);

/// A request that waits.
struct Waiting<'s> {
    caller: &'s Caller,
    admin: bool,
    /// The ID token in the request.
    id_token: Option<&'s str>,
    /// The DPoP proof in the request.
    proof: Option<&'s str>,
    has_certificate: bool,
}

/// A token that a provider issued.
struct Issued {
    subject: String,
    target: String,
    /// The end of its lifetime in milliseconds, at the latest.
    until: u64,
}

/// A call that a worker has made.
struct InFlight {
    worker: usize,
    id: FetchId,
    call: Callout,
    /// The time of the call, or none once the call has taken longer than its limit.
    since: Option<UnixTime>,
}

/// The outcome of a run, in numbers.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests that were forwarded.
    pub forwarded: usize,
    /// Token requests with a caller's token.
    pub exchanges: usize,
    /// Token requests with an assertion, which are the second of two.
    pub assertions: usize,
    /// Requests that were refused, by reason.
    pub refused: BTreeMap<String, usize>,
    /// Calls for metadata and keys, by URL.
    pub documents: BTreeMap<String, usize>,
}

/// Workers, their providers and their callers.
pub struct World<'s> {
    scene: &'s Scene,
    settings: Settings,
    shared: SharedMap,
    workers: Vec<Engine>,
    now: UnixTime,
    requests: u32,
    /// The requests of each worker that wait.
    waiting: Vec<BTreeMap<RequestId, Waiting<'s>>>,
    calls: Vec<InFlight>,
    answered: Vec<InFlight>,
    /// DPoP proofs of requests that were forwarded.
    used_proofs: HashSet<&'s str>,
    /// `true` while neither the clock nor the memory was tampered with, so that no proof is accepted twice.
    remembers_proofs: bool,
    issued: HashMap<String, Vec<Issued>>,
    /// Subject token and target of each assertion that the first of two calls has brought.
    assertions: HashMap<String, (String, String)>,
    used_assertions: HashSet<String>,
    serial: u32,
    /// The outcome so far.
    pub tally: Tally,
}

impl<'s> World<'s> {
    /// A world in which nothing has happened yet. It has one worker or two.
    pub fn new(scene: &'s Scene, settings: Settings, workers: u8) -> Self {
        let shared = SharedMap::default();
        Self {
            scene,
            settings,
            workers: (1..=workers).map(|worker| settings.engine(&shared, worker)).collect(),
            shared,
            now: NOW,
            requests: 0,
            waiting: (0..workers).map(|_| BTreeMap::new()).collect(),
            calls: Vec::new(),
            answered: Vec::new(),
            used_proofs: HashSet::new(),
            remembers_proofs: true,
            issued: HashMap::new(),
            assertions: HashMap::new(),
            used_assertions: HashSet::new(),
            serial: 0,
            tally: Tally::default(),
        }
    }

    /// Plays events and ends the run.
    pub fn play<'e>(&mut self, events: impl IntoIterator<Item = &'e Event<'e>>) {
        for event in events {
            self.happen(event);
        }
        self.finish();
    }

    /// Lets one event happen, and checks each decision and each call that follows.
    pub fn happen(&mut self, event: &Event<'_>) {
        match event {
            Event::Request { worker, caller, admin, proof, oddity } => {
                let caller = &self.scene.callers[usize::from(*caller) % self.scene.callers.len()];
                self.send(self.worker(*worker), caller, *admin, *proof, oddity);
            }
            Event::CalloutResult { call, reply } => {
                if !self.calls.is_empty() {
                    let flight = self.calls.swap_remove(usize::from(*call) % self.calls.len());
                    self.reply(flight, reply);
                }
            }
            Event::Again { call, reply } => {
                if !self.answered.is_empty() {
                    let flight = &self.answered[usize::from(*call) % self.answered.len()];
                    let (reply, _) = reply.reply(&flight.call, self.scene, &mut self.serial);
                    let engine = &mut self.workers[flight.worker];
                    let had_work = engine.has_work();
                    engine.callout_result(flight.id, &reply, self.now);
                    assert_eq!(engine.has_work(), had_work, "a call ended twice");
                }
            }
            Event::Tick(worker) => self.tick(self.worker(*worker)),
            Event::Damage { at, byte } => {
                self.remembers_proofs = false;
                self.shared.overwrite(|_, value| {
                    let at = usize::from(*at) % (value.len() + 1);
                    if at == value.len() { value.push(*byte) } else { value[at] = *byte }
                });
            }
            Event::Later(span) => {
                self.set_clock(self.now.plus(span.duration()));
                self.tick_all();
            }
            Event::Earlier(span) => {
                self.remembers_proofs = false;
                self.set_clock(self.now.minus(span.duration()));
            }
            Event::At(millis) => {
                self.remembers_proofs = false;
                self.set_clock(UnixTime::from_millis(*millis));
            }
            Event::Gone(number) => {
                let worker = usize::from(*number) % self.workers.len();
                let waiting = &mut self.waiting[worker];
                let place = usize::from(*number) / self.workers.len() % waiting.len().max(1);
                if let Some(id) = waiting.keys().copied().nth(place) {
                    waiting.remove(&id);
                    self.workers[worker].request_closed(id);
                }
            }
        }
        for (engine, waiting) in self.workers.iter().zip(&self.waiting) {
            assert_eq!(engine.waiting(), waiting.len(), "the engine and the host count differently");
        }
    }

    fn worker(&self, second: bool) -> usize {
        usize::from(second) % self.workers.len()
    }

    fn set_clock(&mut self, now: UnixTime) {
        self.now = now;
        for flight in &mut self.calls {
            flight.since = flight.since.filter(|since| now.since(*since) <= CALL_LIMIT).map(|since| since.min(now));
        }
    }

    fn send(&mut self, worker: usize, caller: &'s Caller, admin: bool, proof: u8, oddity: &Oddity) {
        let place = self.settings.id_token;
        let mut waiting = Waiting {
            caller,
            admin,
            // A caller sends no ID token where the gateway expects none.
            id_token: caller.id_token.as_deref().filter(|_| place != IdToken::None),
            proof: caller.proofs.get(usize::from(proof) % caller.proofs.len().max(1)).map(String::as_str),
            has_certificate: caller.certificate.is_some(),
        };
        let mut path = if admin { "/github/admin" } else { "/github" }.to_owned();
        let mut is_bearer = caller.proofs.is_empty();
        match oddity {
            Oddity::None | Oddity::TwoCookies | Oddity::TwoAuthorizations => {}
            Oddity::IdTokenOf(other) => {
                let id_token = self.scene.callers[usize::from(*other) % self.scene.callers.len()].id_token.as_deref();
                waiting.id_token = id_token.filter(|_| place != IdToken::None);
            }
            Oddity::NoIdToken => waiting.id_token = None,
            Oddity::TokenInQuery => path = format!("{path}?access_token={}", caller.token),
            Oddity::NoProof => waiting.proof = None,
            Oddity::NoCertificate => waiting.has_certificate = false,
            Oddity::OtherScheme => is_bearer = !is_bearer,
        }
        let authorization = format!("{} {}", if is_bearer { "Bearer" } else { "DPoP" }, caller.token);
        let mut fields = vec![("authorization", authorization.clone())];
        if matches!(oddity, Oddity::TwoAuthorizations) {
            fields.push(("authorization", authorization));
        }
        fields.extend(waiting.proof.map(|proof| ("dpop", proof.to_owned())));
        if let Some(id_token) = waiting.id_token {
            match place {
                IdToken::None => {}
                IdToken::Header => fields.push((IdToken::NAME, id_token.to_owned())),
                IdToken::Cookie => fields.push(("cookie", format!("a=b; {}={id_token}", IdToken::NAME))),
            }
        }
        if matches!(oddity, Oddity::TwoCookies) {
            fields.push(("cookie", format!("{}=other", IdToken::NAME)));
        }
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut request = request("POST", &path, &fields);
        request.peer_certificate = caller.certificate.filter(|_| waiting.has_certificate);
        self.requests += 1;
        let id = RequestId(self.requests);
        let step = self.workers[worker].request(id, request, self.now);
        let is_hopeless = matches!(oddity, Oddity::TwoAuthorizations | Oddity::TokenInQuery | Oddity::OtherScheme);
        // The engine knows that a token is bound once it has verified it, so a token of the wrong scheme may wait for keys.
        let may_wait = matches!(oddity, Oddity::OtherScheme);
        assert!(!is_hopeless || matches!(step, Decision::Respond(_)) || may_wait && matches!(step, Decision::Pause));
        if is_hopeless {
            waiting.proof = None;
            waiting.has_certificate = false;
        }
        match step {
            Decision::Pause => drop(self.waiting[worker].insert(id, waiting)),
            step => self.check(&waiting, step),
        }
        self.collect_calls(worker);
    }

    fn reply(&mut self, flight: InFlight, scripted: &Scripted<'_>) {
        let (reply, lifetime) = scripted.reply(&flight.call, self.scene, &mut self.serial);
        if let (true, CalloutResult::Response(answer)) = (flight.call.method == "POST", &reply) {
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            if let Some(token) = body["access_token"].as_str() {
                let (subject, target) = self.need_of(&flight.call);
                if form(&flight.call).contains_key("requested_token_type") {
                    self.assertions.insert(token.to_owned(), (subject.clone(), target.clone()));
                }
                let until = lifetime
                    .map_or(u64::MAX, |lifetime| self.now.millis().saturating_add(u64::from(lifetime.max(1)) * 1000));
                self.issued.entry(token.to_owned()).or_default().push(Issued { subject, target, until });
            }
        }
        let worker = flight.worker;
        self.workers[worker].callout_result(flight.id, &reply, self.now);
        self.answered.push(flight);
        // The other steps follow with the next events, as in a host that handles a few in each callback.
        self.take_steps(worker, 1);
    }

    fn tick(&mut self, worker: usize) {
        self.workers[worker].tick(self.now);
        self.take_steps(worker, usize::MAX);
    }

    fn tick_all(&mut self) {
        for worker in 0..self.workers.len() {
            self.tick(worker);
        }
    }

    /// Takes at most `limit` steps out of the engine.
    fn take_steps(&mut self, worker: usize, limit: usize) {
        for _ in 0..limit {
            let Some((id, step)) = self.workers[worker].next_decision(self.now) else {
                break;
            };
            if !matches!(step, Decision::Pause) {
                let waiting = self.waiting[worker].remove(&id).expect("a step for a request that does not wait");
                self.check(&waiting, step);
            }
        }
        self.collect_calls(worker);
    }

    /// The caller's token and the target of a token request, also of the second of two.
    fn need_of(&self, call: &Callout) -> (String, String) {
        let (subject, target) = exchange_of(call);
        self.assertions.get(&subject).cloned().unwrap_or((subject, target))
    }

    fn collect_calls(&mut self, worker: usize) {
        while let Some((id, call)) = self.workers[worker].next_callout() {
            let issuer = issuer_of(&call);
            if call.method == "POST" {
                let (sent, _) = exchange_of(&call);
                if self.assertions.contains_key(&sent) {
                    assert!(self.used_assertions.insert(sent), "an assertion was used twice");
                    self.tally.assertions += 1;
                } else {
                    self.tally.exchanges += 1;
                }
                let (subject, target) = self.need_of(&call);
                let caller = self.scene.caller_of(&subject).expect("a subject token that is no caller's");
                let targets = [caller.target(false), caller.target(true)];
                assert!(targets.contains(&Some(target.as_str())), "a hostile token was sent to a provider");
                assert_eq!(target == self.settings.okta_target(), issuer == OKTA, "sent to another issuer's provider");
            } else {
                *self.tally.documents.entry(call.url.as_str().to_owned()).or_default() += 1;
            }
            self.calls.push(InFlight { worker, id, call, since: Some(self.now) });
        }
        self.check_single_flight();
    }

    /// Checks that no worker has two calls in flight for one JWKS or one token.
    fn check_single_flight(&self) {
        let mut needs = HashSet::new();
        for flight in self.calls.iter().filter(|flight| flight.since.is_some()) {
            let need = if flight.call.method == "GET" {
                (flight.call.url.authority().to_owned(), String::new())
            } else {
                self.need_of(&flight.call)
            };
            assert!(needs.insert((flight.worker, need)), "two calls are in flight for the same need");
        }
    }

    fn check(&mut self, request: &Waiting<'s>, step: Decision) {
        match step {
            Decision::Pause => panic!("a wait is no decision"),
            Decision::Respond(answer) => self.check_refusal(request.caller, &answer),
            Decision::Forward(edits) => self.check_forwarded(request, edits),
        }
    }

    fn check_refusal(&mut self, caller: &Caller, answer: &LocalReply) {
        assert!(answer.status >= 400);
        check_local_reply(answer, &self.scene.secrets);
        assert!(!answer.body.contains(caller.token.get(..24).unwrap_or(&caller.token)));
        let body: Value = serde_json::from_str(&answer.body).expect("a body of JSON");
        let reason = body["reason"].as_str().expect("a reason").to_owned();
        *self.tally.refused.entry(reason).or_default() += 1;
    }

    fn check_forwarded(&mut self, request: &Waiting<'s>, edits: HeaderMutations) {
        self.tally.forwarded += 1;
        let caller = request.caller;
        let authorization = edits.authorization.expect("forwarded without a token");
        let token = authorization.reveal().strip_prefix("Bearer ").expect("a bearer token");
        assert!(token != caller.token && Some(token) != request.id_token, "an inbound token was forwarded");
        let id_token = caller.id_token.as_deref().filter(|_| self.settings.id_token != IdToken::None);
        assert!(id_token.is_none() || request.id_token == id_token, "forwarded with another caller's ID token");
        let subject = id_token.unwrap_or(&caller.token);
        let target = caller.target(request.admin);
        let issued = self.issued.get(token).expect("a token that no provider issued");
        let fits = |issued: &&Issued| issued.subject == subject && Some(issued.target.as_str()) == target;
        let until = issued.iter().filter(fits).map(|issued| issued.until).max();
        let until = until.expect("a token that was issued for another caller or another resource");
        assert!(self.now.millis() < until, "forwarded with a token that has expired");
        assert!(self.now.secs() < caller.expires + 60, "forwarded for a caller's token that has expired");
        assert!(caller.certificate.is_none() || request.has_certificate, "a stolen token was accepted");
        if !caller.proofs.is_empty() {
            let proof = request.proof.expect("a stolen token was accepted");
            let is_first = self.used_proofs.insert(proof);
            assert!(is_first || !self.remembers_proofs, "a proof was accepted twice");
            assert!(self.now.since(NOW).max(NOW.since(self.now)).as_secs() <= 300, "an old proof was accepted");
        }
    }

    /// Ends the run: providers reply well to every call and time passes, until each request is decided.
    pub fn finish(&mut self) {
        let mut replies = 0;
        for _ in 0..250 {
            while let Some(flight) = self.calls.pop() {
                self.reply(flight, &Scripted::Good);
                replies += 1;
                assert!(replies < 10_000, "there is no end to the calls");
            }
            if self.waiting.iter().all(BTreeMap::is_empty) {
                break;
            }
            // A worker waits for the fetch of another worker no longer than a fetch may take.
            self.set_clock(self.now.plus(Duration::from_secs(1)));
            self.tick_all();
        }
        assert!(self.waiting.iter().all(BTreeMap::is_empty), "requests were never decided");
        assert!(self.workers.iter().all(|engine| engine.waiting() == 0));
    }
}
