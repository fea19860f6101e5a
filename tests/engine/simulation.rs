//! Thousands of requests, in an order that nobody thought of: replies late and shuffled, providers that fail,
//! requests that leave, a clock that jumps. After every step the contract holds; at the end everyone is answered.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use onbehalf::engine::{Decision, FetchId, RequestId};
use onbehalf::http::{Callout, CalloutFailure, CalloutResult};
use onbehalf::time::UnixTime;
use serde_json::{Value, json};

use crate::support::*;

/// SplitMix64: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

/// A caller: a token, where it goes, and what must come of it when all goes well.
#[derive(Clone)]
struct Caller {
    token: String,
    path: &'static str,
    /// `None`: never forwarded.
    target: Option<&'static str>,
    expires: u64,
}

struct World {
    random: Random,
    bench: Bench,
    callers: Vec<Caller>,
    /// Requests that wait, with their caller.
    waiting: BTreeMap<RequestId, usize>,
    /// Calls that are out, and since when.
    calls: Vec<(FetchId, Callout, UnixTime)>,
    /// What the providers issued: the token, for which caller's token and target, and until when.
    issued: HashMap<String, (String, String, u64)>,
    /// What the first of two calls has brought: for which caller's token and target, and which were used.
    assertions: HashMap<String, (String, String)>,
    used: HashSet<String>,
    serial: u64,
    forwarded: usize,
    refused: BTreeMap<String, usize>,
    /// When each provider's keys were asked for because of an unknown `kid` at most this often, by URL.
    key_calls: HashMap<String, u64>,
    keys: Vec<&'static Signer>,
    exchanges: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let mut configuration = configuration();
        // Of every other world, one provider's tokens take two calls.
        let bobs_target =
            if seed.is_multiple_of(2) { "com.acme.github" } else { "https://acme.okta.example/oauth2/aus1" };
        if !seed.is_multiple_of(2) {
            configuration["identity_providers"]["okta-eu"]["profile"] = json!("okta_xaa");
            configuration["resources"][0]["exchange"]["okta-eu"]["audience"] = json!(bobs_target);
        }
        configuration["cache"] =
            json!({"verified_tokens": 8 + random.below(40), "exchanged_tokens": 1 + random.below(40)});
        let mut callers = Vec::new();
        let expires = |random: &mut Random| NOW.secs() + [30, 300, 3600, 86_400][random.below(4)];
        for user in 0..12 {
            let exp = expires(&mut random);
            let claims = with(
                alice(),
                json!({"oid": format!("u{user}"), "exp": exp, "nbf": null, "iat": null, "scp": "mcp.read mcp.admin"}),
            );
            let token = ENTRA_KEY.token(&claims);
            callers.push(Caller {
                token: token.clone(),
                path: "/github",
                target: Some("api://github/.default"),
                expires: exp,
            });
            callers.push(Caller {
                token,
                path: "/github/admin/x",
                target: Some("api://github-admin/.default"),
                expires: exp,
            });
            let exp = expires(&mut random);
            let claims = with(bob(), json!({"uid": format!("00u{user}"), "exp": exp, "iat": null}));
            callers.push(Caller {
                token: OKTA_KEY.token(&claims),
                path: "/github",
                target: Some(bobs_target),
                expires: exp,
            });
        }
        for hostile in [
            OTHER_KEY.token(&alice()),
            OTHER_KEY.token(&bob()),
            ENTRA_KEY.token(&bob()),
            ENTRA_KEY.token(&with(alice(), json!({"aud": "other"}))),
            ENTRA_KEY.token(&with(alice(), json!({"scp": null}))),
            "no-token-at-all".to_owned(),
            OKTA_KEY.token(&with(bob(), json!({"exp": 1}))),
        ] {
            callers.push(Caller { token: hostile, path: "/github", target: None, expires: 0 });
        }
        Self {
            random,
            bench: Bench::new(&configuration),
            callers,
            waiting: BTreeMap::new(),
            calls: Vec::new(),
            issued: HashMap::new(),
            assertions: HashMap::new(),
            used: HashSet::new(),
            serial: 0,
            forwarded: 0,
            refused: BTreeMap::new(),
            key_calls: HashMap::new(),
            keys: vec![&ENTRA_KEY, &OKTA_KEY],
            exchanges: 0,
        }
    }

    /// For which caller's token a call at a token endpoint is, and for what.
    fn wanted(&self, form: &HashMap<String, String>) -> (String, String) {
        let token = form.get("assertion").or_else(|| form.get("subject_token")).unwrap();
        self.assertions.get(token).cloned().unwrap_or_else(|| {
            let target = form.get("audience").or_else(|| form.get("scope")).unwrap();
            (token.clone(), target.clone())
        })
    }

    fn collect_calls(&mut self) {
        while let Some((flight, call)) = self.bench.engine.next_callout() {
            if call.method == "POST" {
                let form = form(&call);
                let (subject, _) = self.wanted(&form);
                match form.get("assertion").filter(|assertion| self.assertions.contains_key(*assertion)) {
                    Some(assertion) => assert!(self.used.insert(assertion.clone()), "an assertion was used twice"),
                    None => self.exchanges += 1,
                }
                let caller = self.callers.iter().find(|caller| caller.token == subject).unwrap();
                assert!(caller.target.is_some(), "a hostile token was sent to a provider");
                let is_entra = form.contains_key("requested_token_use");
                let host = if is_entra { "login.entra.example" } else { "acme.okta.example" };
                assert_eq!(call.url.authority(), host, "a token went to another provider than its issuer");
            } else {
                *self.key_calls.entry(call.url.as_str().to_owned()).or_default() += 1;
            }
            self.calls.push((flight, call, self.bench.now));
        }
        self.no_need_is_in_flight_twice();
    }

    fn no_need_is_in_flight_twice(&self) {
        let mut purposes = HashSet::new();
        // A call of which the host says nothing for longer than its timeout is given up, and may be made again.
        let is_out = |since: UnixTime| self.bench.now.since(since) <= Duration::from_secs(15);
        for (_, call, _) in self.calls.iter().filter(|(_, _, since)| is_out(*since)) {
            let purpose = if call.method == "GET" {
                call.url.authority().to_owned()
            } else {
                let (subject, target) = self.wanted(&form(call));
                format!("{subject} {target}")
            };
            assert!(purposes.insert(purpose), "the same is fetched twice at once");
        }
    }

    fn check(&mut self, caller: usize, step: Decision) {
        let caller = &self.callers[caller];
        let now = self.bench.now.secs();
        match step {
            Decision::Pause => panic!("a wait is no end"),
            Decision::Forward(edits) => {
                self.forwarded += 1;
                let authorization = edits.authorization.expect("a token").reveal().to_owned();
                let token = authorization.strip_prefix("Bearer ").unwrap();
                let (subject, target, _) = self.issued.get(token).expect("a token that no provider issued");
                assert_eq!(*subject, caller.token, "another user's token");
                assert_eq!(Some(target.as_str()), caller.target, "another resource's token");
                assert!(now < caller.expires + 60, "forwarded with an expired token");
            }
            Decision::Respond(answer) => {
                let body: Value = serde_json::from_str(&answer.body).unwrap();
                let reason = body["reason"].as_str().unwrap().to_owned();
                assert!(answer.status >= 400);
                assert!(!answer.body.contains(caller.token.get(..24).unwrap_or(&caller.token)));
                *self.refused.entry(reason).or_default() += 1;
            }
        }
    }

    fn finish(&mut self, steps: Vec<(RequestId, Decision)>) {
        for (id, step) in steps {
            let caller = self.waiting.remove(&id).expect("a request that does not wait was answered");
            self.check(caller, step);
        }
        self.collect_calls();
    }

    fn arrive(&mut self) {
        let caller = self.random.below(self.callers.len());
        let (id, step) = self.bench.send(bearer(self.callers[caller].path, &self.callers[caller].token));
        if matches!(step, Decision::Pause) {
            self.waiting.insert(id, caller);
            self.collect_calls();
        } else {
            self.check(caller, step);
        }
    }

    fn leave(&mut self) {
        let ids: Vec<_> = self.waiting.keys().copied().collect();
        if !ids.is_empty() {
            let id = ids[self.random.below(ids.len())];
            self.waiting.remove(&id);
            self.bench.engine.gone(id);
        }
    }

    fn land(&mut self, trouble: usize) {
        if self.calls.is_empty() {
            return;
        }
        let (flight, call, _) = self.calls.swap_remove(self.random.below(self.calls.len()));
        let reply = if self.random.below(100) < trouble { self.bad_reply() } else { self.good_reply(&call) };
        let steps = self.bench.reply(flight, &reply);
        self.finish(steps);
    }

    fn good_reply(&mut self, call: &Callout) -> CalloutResult {
        if call.url.as_str().ends_with("keys") {
            let signers: Vec<&Signer> = self
                .keys
                .iter()
                .copied()
                .filter(|signer| signer.kid.starts_with("entra") == call.url.as_str().contains("entra"))
                .collect();
            return answer(200, &key_set(&signers));
        }
        if call.method == "GET" {
            return provider_document(call);
        }
        let form = form(call);
        let (subject, target) = self.wanted(&form);
        self.serial += 1;
        if let Some(kind) = form.get("requested_token_type") {
            let assertion = format!("assertion-{}", self.serial);
            self.assertions.insert(assertion.clone(), (subject, target));
            let body = json!({"access_token": assertion, "token_type": "N_A", "issued_token_type": kind});
            return answer_with(200, &[], &body);
        }
        let token = format!("up-{}", self.serial);
        let lifetime = [1, 5, 60, 3600][self.random.below(4)];
        self.issued.insert(token.clone(), (subject, target, self.bench.now.secs() + lifetime));
        answer_with(200, &[], &json!({"access_token": token, "token_type": "Bearer", "expires_in": lifetime}))
    }

    fn bad_reply(&mut self) -> CalloutResult {
        match self.random.below(9) {
            0 => CalloutResult::Failed(CalloutFailure::TimedOut),
            1 => CalloutResult::Failed(CalloutFailure::NoConnection),
            2 => answer(200, b"<html>"),
            3 => answer(503, b""),
            4 => answer_with(429, &[("retry-after", "3")], &json!({})),
            5 => answer_with(400, &[], &json!({"error": "invalid_grant"})),
            6 => answer_with(400, &[], &json!({"error": "interaction_required"})),
            7 => answer_with(401, &[], &json!({"error": "invalid_client"})),
            _ => answer(200, b"{}"),
        }
    }

    fn pass_time(&mut self) {
        let span = Duration::from_millis([1, 500, 2000, 31_000, 901_000][self.random.below(5)]);
        self.bench.now = if self.random.one_in(40) { self.bench.now.minus(span) } else { self.bench.now.plus(span) };
        for (_, _, since) in &mut self.calls {
            // Given up for good, even if the clock goes back later.
            let given_up = self.bench.now.since(*since) > Duration::from_secs(15);
            *since = if given_up { UnixTime::default() } else { (*since).min(self.bench.now) };
        }
        let steps = self.bench.tick();
        self.finish(steps);
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            match self.random.below(100) {
                0..=54 => self.arrive(),
                55..=59 => self.leave(),
                60..=94 => self.land(20),
                _ => self.pass_time(),
            }
            assert_eq!(self.bench.engine.waiting(), self.waiting.len());
        }
        // Everything that is under way comes to an end, and so does everyone who waits.
        while !self.calls.is_empty() {
            self.land(0);
        }
        assert!(self.waiting.is_empty(), "{} requests were never answered", self.waiting.len());
        assert_eq!(self.bench.engine.waiting(), 0);
    }
}

#[test]
fn whatever_happens_the_contract_holds() {
    let (mut forwarded, mut exchanges, mut assertions) = (0, 0, 0);
    let mut refused = BTreeMap::<String, usize>::new();
    for seed in 0..60 {
        let mut world = World::new(seed);
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run(600)));
        assert!(run.is_ok(), "with seed {seed}");
        forwarded += world.forwarded;
        exchanges += world.exchanges;
        assertions += world.used.len();
        for (reason, number) in world.refused {
            *refused.entry(reason).or_default() += number;
        }
    }
    assert!(assertions > 200, "{assertions} assertions were used");
    // The simulation would prove little if it never got anywhere.
    assert!(
        forwarded > 3000 && exchanges > 1000 && exchanges < forwarded,
        "{forwarded} forwarded, {exchanges} exchanges"
    );
    for reason in [
        "jwks_unavailable",
        "provider_unavailable",
        "provider_throttled",
        "provider_answer_invalid",
        "exchange_rejected",
        "interaction_required",
        "exchange_misconfigured",
        "unknown_key",
        "wrong_audience",
        "opaque_token",
        "expired",
    ] {
        assert!(refused.contains_key(reason), "{reason} never happened: {refused:?}");
    }
}

#[test]
fn without_trouble_each_token_is_exchanged_once_for_each_target() {
    let mut world = World::new(8);
    world.callers.retain(|caller| caller.target.is_some() && caller.expires > NOW.secs() + 3000);
    world.bench = Bench::new(&configuration());
    let pairs: HashSet<_> = world.callers.iter().map(|caller| (caller.token.clone(), caller.target)).collect();
    for _ in 0..2000 {
        if world.random.below(10) < 7 {
            world.arrive();
        } else if let Some(at) = (!world.calls.is_empty()).then(|| world.random.below(world.calls.len())) {
            let (flight, call, _) = world.calls.swap_remove(at);
            let reply = if call.method == "POST" {
                let form = form(&call);
                let subject = form.get("assertion").or_else(|| form.get("subject_token")).unwrap().clone();
                let target = form.get("audience").or_else(|| form.get("scope")).unwrap().clone();
                world.serial += 1;
                let token = format!("up-{}", world.serial);
                world.issued.insert(token.clone(), (subject, target, u64::MAX));
                issued(&token)
            } else {
                world.good_reply(&call)
            };
            let steps = world.bench.reply(flight, &reply);
            world.finish(steps);
        }
    }
    assert_eq!(world.exchanges, pairs.len());
    assert!(world.refused.is_empty(), "{:?}", world.refused);
    assert!(world.key_calls.values().all(|calls| *calls == 1), "{:?}", world.key_calls);
}
