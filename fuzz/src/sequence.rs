//! Whole sequences of events: requests, replies good and hostile, ticks, a clock that jumps, requests that leave.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use onbehalf::engine::{Decision, Engine, FetchId, RequestId};
use onbehalf::http::{Callout, CalloutFailure, CalloutResult, Request, Response};
use onbehalf::time::UnixTime;
use serde_json::json;

use crate::support::{NOW, OKTA, SharedMap, answer, answer_with, form, request};
use crate::world::{CALLERS, IdToken, check_answer, document, engine, issuer};

/// Which configuration, and what happens.
#[derive(Arbitrary, Debug)]
pub struct Plan<'a> {
    id_token: u8,
    cached: u8,
    events: Vec<Event<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Event<'a> {
    /// A caller asks a worker for a resource, mostly properly.
    Request { worker: bool, caller: u8, admin: bool, proof: u8, oddity: Oddity },
    /// A call is answered.
    CalloutResult { call: u8, reply: Scripted<'a> },
    /// A call that was answered before is answered again.
    Again { call: u8, reply: Scripted<'a> },
    /// The host's timer of a worker.
    Tick(bool),
    /// Another plugin writes into the memory that workers share.
    Damage { at: u16, byte: u8 },
    /// Time passes.
    Later(Span),
    /// The clock is set back.
    Earlier(Span),
    /// The clock is set to anything.
    At(u64),
    /// A request that waits leaves.
    Gone(u8),
}

/// How a request differs from a proper one.
#[derive(Arbitrary, Debug)]
enum Oddity {
    None,
    /// Another caller's ID token, or one where none belongs.
    IdTokenOf(u8),
    NoIdToken,
    TwoCookies,
    TwoAuthorizations,
    TokenInQuery,
    NoProof,
    NoCertificate,
    OtherScheme,
}

#[derive(Arbitrary, Debug)]
enum Span {
    Moment,
    Second,
    Minute,
    QuarterOfAnHour,
    Day,
    Millis(u32),
}

/// What comes back.
#[derive(Arbitrary, Debug)]
enum Scripted<'a> {
    /// What a provider says.
    Good,
    /// The same, when it has changed a key.
    Next,
    /// The same with a byte that is not right.
    Spoiled {
        at: u16,
        byte: u8,
    },
    /// The first part of the same.
    Cut(u16),
    /// A token that is good for so long.
    Issued {
        lifetime: u16,
    },
    /// The token of a caller, as a token for the upstream.
    Echo(u8),
    /// The token that was handed in, as an error.
    EchoAsError {
        status: u16,
    },
    Failed(u8),
    /// An error that the standards know.
    Error {
        status: u16,
        error: u8,
        retry_after: Option<u64>,
    },
    /// Anything.
    Bytes {
        status: u16,
        header: u8,
        value: &'a [u8],
        body: &'a [u8],
    },
}

const ERRORS: [&str; 10] = [
    "invalid_grant",
    "invalid_client",
    "interaction_required",
    "consent_required",
    "access_denied",
    "slow_down",
    "temporarily_unavailable",
    "server_error",
    "invalid_target",
    "",
];

const HEADERS: [&str; 6] =
    ["retry-after", "x-rate-limit-reset", "x-okta-request-id", "x-ms-request-id", "cache-control", "age"];

/// A request that waits.
struct Waiting {
    caller: usize,
    admin: bool,
    /// The ID token that it has with it.
    id_token: Option<&'static str>,
    /// The proof that it has with it.
    proof: Option<&'static str>,
    has_certificate: bool,
}

/// What a provider issued: for which token, for which target, and until when it can be used at most.
struct Issued {
    subject: String,
    target: String,
    until: u64,
}

/// A flight, and the worker whose it is.
type Fetch = (usize, FetchId, Callout);

struct Run {
    id_token: IdToken,
    shared: SharedMap,
    workers: [Engine; 2],
    now: UnixTime,
    requests: u32,
    /// Requests that wait, of each worker.
    waiting: [BTreeMap<RequestId, Waiting>; 2],
    calls: Vec<Fetch>,
    answered: Vec<Fetch>,
    /// Proofs by which somebody got in; and whether the clock and the memory were such that none may do so twice.
    used: HashSet<&'static str>,
    remembers_proofs: bool,
    issued: HashMap<String, Vec<Issued>>,
    serial: u32,
}

/// Plays a plan and everything that it left under way, and checks each step.
pub fn run(plan: &Plan<'_>) {
    let id_token = IdToken::from_byte(plan.id_token);
    let shared = SharedMap::default();
    let mut run = Run {
        id_token,
        workers: [1, 2].map(|worker| engine(id_token, plan.cached, &shared, worker)),
        shared,
        now: NOW,
        requests: 0,
        waiting: Default::default(),
        calls: Vec::new(),
        answered: Vec::new(),
        used: HashSet::new(),
        remembers_proofs: true,
        issued: HashMap::new(),
        serial: 0,
    };
    for event in &plan.events {
        run.happen(event);
        for (engine, waiting) in run.workers.iter().zip(&run.waiting) {
            assert_eq!(engine.waiting(), waiting.len(), "the engine and the host count differently");
        }
    }
    run.come_to_an_end();
}

impl Run {
    fn happen(&mut self, event: &Event<'_>) {
        match event {
            Event::Request { worker, caller, admin, proof, oddity } => {
                self.ask(usize::from(*worker), usize::from(*caller) % CALLERS.len(), *admin, *proof, oddity);
            }
            Event::CalloutResult { call, reply } => {
                if !self.calls.is_empty() {
                    let flight = self.calls.swap_remove(usize::from(*call) % self.calls.len());
                    self.land(flight, reply);
                }
            }
            Event::Again { call, reply } => {
                if !self.answered.is_empty() {
                    let (worker, flight, call) = &self.answered[usize::from(*call) % self.answered.len()];
                    let (reply, _) = scripted(reply, call, &mut self.serial);
                    let engine = &mut self.workers[*worker];
                    let had_work = engine.has_work();
                    engine.callout_result(*flight, &reply, self.now);
                    assert_eq!(engine.has_work(), had_work, "a call ended twice");
                }
            }
            Event::Tick(worker) => self.tick(usize::from(*worker)),
            Event::Damage { at, byte } => {
                self.remembers_proofs = false;
                self.shared.overwrite(|_, value| {
                    let at = usize::from(*at) % (value.len() + 1);
                    if at == value.len() { value.push(*byte) } else { value[at] = *byte }
                });
            }
            Event::Later(span) => {
                self.now = self.now.plus(duration(span));
                self.tick(0);
                self.tick(1);
            }
            Event::Earlier(span) => {
                self.remembers_proofs = false;
                self.now = self.now.minus(duration(span));
            }
            Event::At(millis) => {
                self.remembers_proofs = false;
                self.now = UnixTime::from_millis(*millis);
            }
            Event::Gone(which) => {
                let worker = usize::from(*which) % 2;
                let waiting = &mut self.waiting[worker];
                let id = waiting.keys().copied().nth(usize::from(*which) / 2 % waiting.len().max(1));
                if let Some(id) = id {
                    waiting.remove(&id);
                    self.workers[worker].request_closed(id);
                }
            }
        }
    }

    fn ask(&mut self, worker: usize, number: usize, admin: bool, proof: u8, oddity: &Oddity) {
        let caller = &CALLERS[number];
        let mut waiting = Waiting {
            caller: number,
            admin,
            // Where none is looked for, none is sent.
            id_token: caller.id_token.filter(|_| self.id_token != IdToken::None),
            proof: caller.proofs.get(usize::from(proof) % caller.proofs.len().max(1)).copied(),
            has_certificate: caller.certificate.is_some(),
        };
        let mut path = if admin { "/github/admin" } else { "/github" }.to_owned();
        let mut is_bearer = caller.proofs.is_empty();
        match oddity {
            Oddity::None | Oddity::TwoCookies | Oddity::TwoAuthorizations => {}
            Oddity::IdTokenOf(other) => {
                let id_token = CALLERS[usize::from(*other) % CALLERS.len()].id_token;
                waiting.id_token = id_token.filter(|_| self.id_token != IdToken::None);
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
            match self.id_token {
                IdToken::None => {}
                IdToken::Header => fields.push((IdToken::NAME, id_token.to_owned())),
                IdToken::Cookie => fields.push(("cookie", format!("a=b; {}={id_token}", IdToken::NAME))),
            }
        }
        if matches!(oddity, Oddity::TwoCookies) {
            fields.push(("cookie", format!("{}=other", IdToken::NAME)));
        }
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut request: Request = request("POST", &path, &fields);
        request.peer_certificate = caller.certificate.filter(|_| waiting.has_certificate);
        self.requests += 1;
        let id = RequestId(self.requests);
        let step = self.workers[worker].request(id, request, self.now);
        let is_hopeless = matches!(oddity, Oddity::TwoAuthorizations | Oddity::TokenInQuery | Oddity::OtherScheme);
        // Whether a token is bound is known when it has been verified, so one sent in the wrong way may wait for keys.
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
        self.collect(worker);
    }

    fn land(&mut self, (worker, flight, call): Fetch, reply: &Scripted<'_>) {
        let (reply, lifetime) = scripted(reply, &call, &mut self.serial);
        if let (true, CalloutResult::Response(answer)) = (call.method == "POST", &reply) {
            let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            if let Some(token) = body["access_token"].as_str() {
                let (subject, target) = asked(&call);
                let until = lifetime
                    .map_or(u64::MAX, |lifetime| self.now.millis().saturating_add(u64::from(lifetime.max(1)) * 1000));
                self.issued.entry(token.to_owned()).or_default().push(Issued { subject, target, until });
            }
        }
        self.workers[worker].reply(flight, &reply, self.now);
        self.answered.push((worker, flight, call));
        // The rest goes with the next event, as in a host that lets a few go in a callback.
        self.finish(worker, 1);
    }

    fn tick(&mut self, worker: usize) {
        self.workers[worker].tick(self.now);
        self.finish(worker, usize::MAX);
    }

    /// Hands out so many steps at most.
    fn finish(&mut self, worker: usize, most: usize) {
        for _ in 0..most {
            let Some((id, step)) = self.workers[worker].next_decision(self.now) else {
                break;
            };
            if !matches!(step, Decision::Pause) {
                let waiting = self.waiting[worker].remove(&id).expect("a step for a request that does not wait");
                self.check(&waiting, step);
            }
        }
        self.collect(worker);
    }

    fn collect(&mut self, worker: usize) {
        while let Some((flight, call)) = self.workers[worker].next_callout() {
            let issuer = issuer(&call);
            if call.method == "POST" {
                let (subject, target) = asked(&call);
                let is_his = |token: Option<&str>| token == Some(subject.as_str());
                let caller = CALLERS.iter().find(|caller| is_his(Some(caller.token)) || is_his(caller.id_token));
                let caller = caller.expect("a token was handed in that is no caller's");
                let targets = [caller.github, caller.admin];
                assert!(targets.contains(&Some(target.as_str())), "a hostile token was sent to a provider");
                assert_eq!(target == "com.acme.github", issuer == OKTA, "sent to another's provider");
            }
            self.calls.push((worker, flight, call));
        }
    }

    fn check(&mut self, request: &Waiting, step: Decision) {
        let caller = &CALLERS[request.caller];
        match step {
            Decision::Pause => panic!("a wait is no end"),
            Decision::Respond(answer) => {
                assert!(answer.status >= 400);
                check_answer(&answer);
            }
            Decision::Forward(edits) => {
                let authorization = edits.authorization.expect("forwarded without a token");
                let token = authorization.reveal().strip_prefix("Bearer ").unwrap();
                assert!(token != caller.token && Some(token) != request.id_token, "an inbound token went on");
                let uses_id_token = self.id_token != IdToken::None && caller.id_token.is_some();
                let subject = if uses_id_token { caller.id_token.unwrap() } else { caller.token };
                assert!(!uses_id_token || request.id_token == caller.id_token, "forwarded with another's ID token");
                let target = if request.admin { caller.admin } else { caller.github };
                let issued = self.issued.get(token).expect("a token that no provider issued");
                let fits = |issued: &&Issued| issued.subject == subject && Some(issued.target.as_str()) == target;
                let until = issued.iter().filter(fits).map(|issued| issued.until).max();
                let until = until.expect("a token that was issued for another user or another resource");
                assert!(self.now.millis() < until, "a token that has run out");
                assert!(self.now.secs() < caller.expires + 60, "forwarded for a token that has expired");
                assert!(caller.certificate.is_none() || request.has_certificate, "a stolen token was taken");
                if !caller.proofs.is_empty() {
                    let proof = request.proof.expect("a stolen token was taken");
                    let is_first = self.used.insert(proof);
                    assert!(is_first || !self.remembers_proofs, "a proof was taken twice");
                    assert!(self.now.since(NOW).max(NOW.since(self.now)).as_secs() <= 300, "an old proof was taken");
                }
            }
        }
    }

    /// Everything that is under way is answered well, and time passes: then nobody waits any more.
    fn come_to_an_end(&mut self) {
        let mut landed = 0;
        for _ in 0..250 {
            while let Some(flight) = self.calls.pop() {
                self.land(flight, &Scripted::Good);
                landed += 1;
                assert!(landed < 10_000, "there is no end to the calls");
            }
            if self.waiting.iter().all(BTreeMap::is_empty) {
                break;
            }
            // A worker waits for another's fetch no longer than that may take.
            self.now = self.now.plus(Duration::from_secs(1));
            self.tick(0);
            self.tick(1);
        }
        assert!(self.waiting.iter().all(BTreeMap::is_empty), "requests were never answered");
        assert!(self.workers.iter().all(|engine| engine.waiting() == 0));
    }
}

/// Subject token and target of an exchange.
fn asked(call: &Callout) -> (String, String) {
    let form = form(call);
    let subject = form.get("assertion").or_else(|| form.get("subject_token")).unwrap();
    let target = form.get("audience").or_else(|| form.get("scope")).unwrap();
    (subject.clone(), target.clone())
}

/// The reply, and for how long its token is good.
fn scripted(reply: &Scripted<'_>, call: &Callout, serial: &mut u32) -> (CalloutResult, Option<u16>) {
    let mut issued = |lifetime: u16| {
        *serial += 1;
        let token = format!("up-{serial}");
        answer_with(200, &[], &json!({"access_token": token, "token_type": "Bearer", "expires_in": lifetime}))
    };
    let mut good = |next: bool| if call.method == "POST" { issued(3600) } else { document(call, next) };
    match reply {
        Scripted::Good => (good(false), Some(3600)),
        Scripted::Next => (good(true), Some(3600)),
        Scripted::Spoiled { at, byte } => {
            let mut reply = good(false);
            if let CalloutResult::Response(answer) = &mut reply {
                let at = usize::from(*at) % answer.body.len();
                answer.body[at] = *byte;
            }
            (reply, None)
        }
        Scripted::Cut(length) => {
            let mut reply = good(false);
            if let CalloutResult::Response(answer) = &mut reply {
                answer.body.truncate(usize::from(*length));
            }
            (reply, None)
        }
        Scripted::Issued { lifetime } => (issued(*lifetime), Some(*lifetime)),
        Scripted::Echo(caller) => {
            let caller = &CALLERS[usize::from(*caller) % CALLERS.len()];
            let token = caller.id_token.filter(|_| serial.is_multiple_of(2)).unwrap_or(caller.token);
            *serial += 1;
            (answer_with(200, &[], &json!({"access_token": token, "token_type": "Bearer"})), None)
        }
        Scripted::EchoAsError { status } => {
            let subject = if call.method == "POST" { asked(call).0 } else { String::new() };
            let claims = json!({"access_token": {"nonce": {"value": subject}}}).to_string();
            let body = json!({"error": subject, "suberror": subject, "trace_id": subject, "error_description": subject,
                "error_codes": [1, subject], "claims": claims});
            (answer_with(*status, &[], &body), None)
        }
        Scripted::Failed(how) => {
            use CalloutFailure::{NoConnection, NotSent, TimedOut, TooLarge};
            (CalloutResult::Failed([NotSent, TimedOut, NoConnection, TooLarge][usize::from(*how) % 4]), None)
        }
        Scripted::Error { status, error, retry_after } => {
            let retry_after = retry_after.map(|seconds| seconds.to_string());
            let headers: Vec<_> = retry_after.iter().map(|value| ("retry-after", value.as_str())).collect();
            (answer_with(*status, &headers, &json!({"error": ERRORS[usize::from(*error) % ERRORS.len()]})), None)
        }
        Scripted::Bytes { status, header, value, body } => {
            let name = HEADERS[usize::from(*header) % HEADERS.len()].to_owned();
            let CalloutResult::Response(answer) = answer(*status, body) else { unreachable!() };
            (CalloutResult::Response(Response { headers: vec![(name, value.to_vec())], ..answer }), None)
        }
    }
}

fn duration(span: &Span) -> Duration {
    Duration::from_millis(match span {
        Span::Moment => 1,
        Span::Second => 1000,
        Span::Minute => 61_000,
        Span::QuarterOfAnHour => 901_000,
        Span::Day => 86_401_000,
        Span::Millis(millis) => u64::from(*millis),
    })
}
