//! One line for each refusal and each exchange: who, what and how it ended, and nothing that could be anybody's claim.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Once;
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};
use onbehalf::engine::Decision;
use onbehalf::http::CalloutFailure;
use onbehalf::http::CalloutResult;
use onbehalf::telemetry::FilterState;
use serde_json::{Value, json};

use crate::support::*;

thread_local! {
    static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

/// Keeps what the engine logs in each thread: a test has one of its own.
struct Keep;

impl Log for Keep {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        LINES.with_borrow_mut(|lines| lines.push((record.level(), record.args().to_string())));
    }

    fn flush(&self) {}
}

fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        log::set_logger(&Keep).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
    LINES.take();
}

/// A line as an aggregator reads it (logfmt: quoted values as in JSON).
fn read(line: &str) -> HashMap<String, String> {
    let mut facts = HashMap::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (name, value) = rest.split_once('=').unwrap_or_else(|| panic!("no fact at {rest:?} in {line}"));
        let end = if value.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(value).into_iter::<String>();
            values.next().unwrap().unwrap_or_else(|error| panic!("{error}: {line}"));
            values.byte_offset()
        } else {
            value.find(' ').unwrap_or(value.len())
        };
        let (value, after) = value.split_at(end);
        let value = if value.starts_with('"') { serde_json::from_str(value).unwrap() } else { value.to_owned() };
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name:?} in {line}");
        assert_eq!(facts.insert(name.to_owned(), value), None, "{name} twice in {line}");
        rest = after.strip_prefix(' ').unwrap_or(after);
    }
    facts
}

/// The lines since the last time, those that are no record left out.
fn records() -> Vec<(Level, HashMap<String, String>)> {
    let lines = LINES.take().into_iter().filter(|(_, line)| line.starts_with("event="));
    lines.map(|(level, line)| (level, read(&line))).collect()
}

fn record() -> (Level, HashMap<String, String>) {
    let mut records = records();
    assert_eq!(records.len(), 1, "{records:?}");
    records.remove(0)
}

fn facts(facts: &[(&str, &str)]) -> HashMap<String, String> {
    facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const GITHUB: &str = "https://mcp.acme.example/github";
const ALICE: &str = "9b1c0000-1111-4222-8333-444455556666/alice";

/// What every line about Alice at the first resource says of her and of it.
fn of_alice(more: &[(&str, &str)]) -> HashMap<String, String> {
    let mut all = facts(&[
        ("resource", GITHUB),
        ("provider", "entra-us"),
        ("issuer", ENTRA),
        ("subject", ALICE),
        ("client", "client"),
        ("tenant", TENANT),
        ("scopes", "api://github/.default"),
    ]);
    all.extend(facts(more));
    all
}

fn audited(step: Decision) -> HashMap<String, String> {
    let state = match step {
        Decision::Forward(edits) => edits.filter_state,
        Decision::Respond(answer) => FilterState::Record(answer.audit),
        Decision::Pause => panic!("waits"),
    };
    state.facts().into_iter().map(|(name, value)| (name.to_owned(), value.into_owned())).collect()
}

#[test]
fn an_exchange_says_who_what_how_long_and_by_which_name_the_provider_knows_it() {
    listen();
    let mut bench = Bench::ready();
    let id = bench.wait(bearer("/github", &alice_token()));
    let joined = bench.wait(bearer("/github", &alice_token()));
    bench.now = bench.now.plus(Duration::from_millis(120));
    let (flight, _) = bench.call();
    assert!(records().is_empty());
    let body = json!({"access_token": "issued", "token_type": "Bearer", "expires_in": 3600});
    let steps = bench.reply(flight, &answer_with(200, &[("x-ms-request-id", "trace-1")], &body));
    let expected = [
        ("event", "exchanged"),
        ("outcome", "ok"),
        ("cache", "miss"),
        ("latency_ms", "120"),
        ("waiters", "2"),
        ("lifetime_s", "3600"),
        ("trace", "trace-1"),
    ];
    assert_eq!(record(), (Level::Info, of_alice(&expected)));
    let told: HashMap<_, _> = steps.into_iter().map(|(id, step)| (id, audited(step))).collect();
    let forwarded = |cache| of_alice(&[("event", "forwarded"), ("cache", cache), ("latency_ms", "120")]);
    assert_eq!(told[&id], forwarded("miss"));
    assert_eq!(told[&joined], forwarded("joined"));
}

#[test]
fn a_cached_call_has_its_caller_in_filter_state_and_no_line() {
    listen();
    for hits in [false, true] {
        let mut configuration = configuration();
        configuration["audit"] = json!({"hits": hits});
        let mut bench = Bench::new(&configuration).with_keys();
        authorization(bench.exchange(bearer("/github", &alice_token()), &issued("one")));
        records();
        let mut expected = of_alice(if hits { &[("event", "forwarded"), ("cache", "hit")] } else { &[] });
        expected.remove("scopes");
        if !hits {
            expected.remove("issuer");
        }
        for _ in 0..2 {
            assert_eq!(audited(bench.ask(bearer("/github", &alice_token()))), expected);
            assert!(records().is_empty(), "such a request has no line");
        }
    }
}

#[test]
fn cached_calls_of_two_users_to_two_resources_are_told_apart() {
    listen();
    let mut configuration = configuration();
    configuration["resources"][1]["scopes"] = json!([]);
    let mut bench = Bench::new(&configuration).with_keys();
    let users = ["alice", "carol"].map(|user| (format!("{TENANT}/{user}"), entra_user(user)));
    for path in ["/github", "/github/admin"] {
        for (_, token) in &users {
            authorization(bench.exchange(bearer(path, token), &issued("one")));
        }
    }
    for (path, resource) in [("/github", GITHUB.to_owned()), ("/github/admin", format!("{GITHUB}/admin"))] {
        for (subject, token) in &users {
            let told = audited(bench.ask(bearer(path, token)));
            assert_eq!((&told["subject"], &told["resource"]), (subject, &resource));
        }
    }
    assert!(audited(bench.ask(request("GET", "/healthz", &[]))).is_empty(), "nobody calls on an open path");
}

#[test]
fn a_fact_has_the_same_value_in_the_first_call_and_in_cached_ones() {
    listen();
    let odd = "a\" event=x\\\r\n\u{e9}\u{1f600}%2C,;=";
    let long = "\u{e9}".repeat(513);
    let mut configuration = configuration();
    let url = format!("https://mcp.acme.example/{}", "r".repeat(600));
    configuration["resources"][0]["url"] = json!(url);
    configuration["audit"] = json!({"hits": true});
    for name in [odd, &*long] {
        let token = OKTA_KEY.token(&with(bob(), json!({"uid": name, "cid": name})));
        let mut bench = Bench::new(&configuration).with_keys();
        let path = format!("/{}", "r".repeat(600));
        let first = audited(bench.exchange(bearer(&path, &token), &issued("one")));
        let cached = audited(bench.ask(bearer(&path, &token)));
        for fact in ["subject", "client", "provider", "issuer", "resource"] {
            assert_eq!(first[fact], cached[fact]);
            assert!(cached[fact].bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", cached[fact]);
        }
    }
}

#[test]
fn applications_with_long_names_are_told_apart_in_filter_state() {
    listen();
    let of = |client: String| {
        let token = OKTA_KEY.token(&with(bob(), json!({"cid": client})));
        let mut bench = Bench::ready();
        authorization(bench.exchange(bearer("/github", &token), &issued("one")));
        audited(bench.ask(bearer("/github", &token)))["client"].clone()
    };
    let common = "x".repeat(512);
    assert_eq!(of(common.clone()), common);
    assert_ne!(of(format!("{common}y")), of(format!("{common}z")));
}

#[test]
fn users_with_long_names_are_told_apart_in_filter_state() {
    listen();
    let of = |user: &str| {
        let token = OKTA_KEY.token(&with(bob(), json!({"uid": user})));
        let mut bench = Bench::ready();
        let first = audited(bench.exchange(bearer("/github", &token), &issued("one")));
        let cached = audited(bench.ask(bearer("/github", &token)));
        assert_eq!(first["subject"], cached["subject"], "the same before and after");
        first["subject"].clone()
    };
    let common = "x".repeat(512);
    assert_eq!(of(&common), common);
    assert_ne!(of(&format!("{common}y")), of(&format!("{common}z")));
    // Nobody is called by another's digest.
    let digest = of(&format!("{common}y"));
    assert!(digest.starts_with("digest~"));
    assert_ne!(of(&digest), digest);
    // Nor does HTTP make one of two, by taking spaces off.
    assert_eq!(["a", " a", "a ", " ", "a b"].map(of), ["a", "\\u0020a", "a\\u0020", "\\u0020", "a b"]);
}

#[test]
fn a_failed_exchange_has_its_line_and_so_has_each_who_waited_or_came_later() {
    listen();
    let mut bench = Bench::ready();
    bench.wait(bearer("/github", &alice_token()));
    bench.wait(bearer("/github", &alice_token()));
    bench.now = bench.now.plus(Duration::from_millis(70));
    let (flight, _) = bench.call();
    let body = json!({"error": "invalid_client", "error_codes": [7_000_215], "trace_id": "t-2", "error_description": "secret words"});
    let steps = bench.reply(flight, &answer_with(401, &[], &body));
    let [exchange, first, second] = records().try_into().unwrap();
    for (level, facts) in [&exchange, &first, &second] {
        assert_eq!(*level, Level::Warn);
        let has = |name: &str, value: &str| assert_eq!(facts[name], value, "{facts:?}");
        has("subject", ALICE);
        has("issuer", ENTRA);
        has("resource", GITHUB);
        has("provider", "entra-us");
        has("error", "invalid_client");
        has("status", "401");
        has("codes", "7000215");
        has("trace", "t-2");
        has("latency_ms", "70");
        assert!(!format!("{facts:?}").contains("words"));
    }
    assert_eq!((&*exchange.1["event"], &*exchange.1["outcome"]), ("exchanged", "exchange_misconfigured"));
    assert_eq!((&*exchange.1["cache"], &*exchange.1["waiters"]), ("miss", "2"));
    for (refusal, cache) in [(&first.1, "miss"), (&second.1, "joined")] {
        assert_eq!((&*refusal["event"], &*refusal["reason"]), ("refused", "exchange_misconfigured"));
        assert_eq!(refusal["cache"], cache);
    }
    for (_, step) in steps {
        let told = audited(step);
        assert_eq!((&*told["reason"], &*told["subject"]), ("exchange_misconfigured", ALICE));
        assert!(told["detail"].contains("trace=t-2"), "{told:?}");
    }
    refused(bench.ask(bearer("/github", &alice_token())));
    let (_, later) = record();
    assert_eq!((&*later["cache"], &*later["latency_ms"], &*later["trace"]), ("remembered", "0", "t-2"));
}

#[test]
fn a_renewal_has_its_line_whether_it_brings_a_token_or_none() {
    for (reply, outcome, level) in
        [(issued("second"), "ok", Level::Info), (TIMED_OUT, "provider_unavailable", Level::Warn)]
    {
        listen();
        let mut bench = Bench::ready();
        let token = ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() + 86400})));
        authorization(bench.exchange(bearer("/github", &token), &issued("first")));
        bench.advance(3500);
        records();
        authorization(bench.ask(bearer("/github", &token)));
        assert!(records().is_empty());
        let (flight, _) = bench.call();
        assert!(bench.reply(flight, &reply).is_empty());
        let (loud, facts) = record();
        assert_eq!(loud, level);
        assert_eq!((&*facts["event"], &*facts["outcome"], &*facts["cache"]), ("renewed", outcome, "renewed"));
        assert_eq!((&*facts["subject"], &*facts["waiters"]), (ALICE, "0"));
    }
}

#[test]
fn of_a_token_that_is_not_verified_no_line_says_whose_it_is() {
    listen();
    let mut bench = Bench::ready();
    let forged = OTHER_KEY.sign(&json!({"alg": "ES256", "kid": "entra-1"}), &alice());
    let foreign = ENTRA_KEY.token(&with(alice(), json!({"iss": "https://evil.example/"})));
    let expired = ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() - 3600})));
    let elsewhere = ENTRA_KEY.token(&with(alice(), json!({"aud": "api://other"})));
    for (token, reason) in [
        (&forged, "bad_signature"),
        (&foreign, "unknown_issuer"),
        (&expired, "expired"),
        (&elsewhere, "wrong_audience"),
    ] {
        let told = audited(bench.ask(bearer("/github", token)));
        let (level, facts) = record();
        assert_eq!(level, Level::Info);
        assert_eq!((&*facts["event"], &*facts["reason"], &*facts["resource"]), ("refused", reason, GITHUB));
        for facts in [&facts, &told] {
            for name in ["issuer", "subject", "client", "provider", "scopes"] {
                assert!(!facts.contains_key(name), "{facts:?}");
            }
            assert!(!format!("{facts:?}").contains("alice"), "{facts:?}");
        }
    }
    // While keys are fetched, nothing is verified either.
    let mut bench = Bench::new(&configuration());
    bench.wait(bearer("/github", &alice_token()));
    let (flight, _) = bench.call();
    bench.reply(flight, &CalloutResult::Failed(CalloutFailure::NoConnection));
    let mut records = records();
    let (level, facts) = records.pop().unwrap();
    let document = format!("{ENTRA}/.well-known/openid-configuration");
    let failed = self::facts(&[
        ("event", "keys_failed"),
        ("provider", "entra-us"),
        ("url", &document),
        ("cluster", "entra"),
        ("error", "no connection, or it broke"),
        ("keys", "none"),
    ]);
    assert_eq!(records, [(Level::Warn, failed)]);
    assert_eq!(
        (level, &*facts["reason"], &*facts["provider_unverified"]),
        (Level::Warn, "keys_unavailable", "entra-us")
    );
    assert!(!facts.contains_key("subject"), "{facts:?}");
}

#[test]
fn whoever_is_refused_with_a_good_token_is_named() {
    listen();
    let mut bench = Bench::ready();
    let poor = ENTRA_KEY.token(&with(alice(), json!({"scp": "other"})));
    for (path, token, reason) in
        [("/github", &poor, "insufficient_scope"), ("/github/admin", &bob_token(), "no_exchange")]
    {
        assert_eq!(refused(bench.ask(bearer(path, token))).1, reason);
        let (_, facts) = record();
        assert_eq!(facts["reason"], reason);
        let (issuer, subject) = if reason == "no_exchange" { (OKTA, "00ubob") } else { (ENTRA, ALICE) };
        assert_eq!((&*facts["issuer"], &*facts["subject"], &*facts["client"]), (issuer, subject, "client"));
    }
    // It was verified once, and has run out since.
    authorization(bench.exchange(bearer("/github", &alice_token()), &issued("one")));
    records();
    bench.advance(4000);
    refused(bench.ask(bearer("/github", &alice_token())));
    let (_, facts) = record();
    assert_eq!((&*facts["reason"], &*facts["subject"]), ("expired", ALICE));
}

#[test]
fn a_request_without_a_token_is_not_worth_a_line_that_everybody_sees() {
    listen();
    let mut bench = Bench::ready();
    let told = audited(bench.ask(request("GET", "/github", &[])));
    let expected = [("event", "refused"), ("reason", "no_credentials"), ("resource", GITHUB), ("latency_ms", "0")];
    assert_eq!(told, facts(&expected));
    assert_eq!(record(), (Level::Debug, facts(&expected)));
    // Any client may look for an authorization server here, and what it writes into the path is its own.
    let path = "/.well-known/openid-configuration/github/word-of-a-stranger";
    drop(answered(bench.ask(request("GET", path, &[("x-word", "word-of-a-stranger")]))));
    let expected =
        [("event", "refused"), ("reason", "not_an_authorization_server"), ("resource", GITHUB), ("latency_ms", "0")];
    assert_eq!(record(), (Level::Debug, facts(&expected)));
}

/// What each of the policies makes of one user of an issuer's.
fn subject_with(audit: &Value, user: &str, token: &dyn Fn(&str) -> String) -> Option<String> {
    let mut configuration = configuration();
    configuration["audit"] = audit.clone();
    let mut bench = Bench::new(&configuration).with_keys();
    records();
    authorization(bench.exchange(bearer("/github", &token(user)), &issued("one")));
    record().1.remove("subject")
}

#[test]
fn users_are_shown_as_the_operator_wants_it() {
    listen();
    let of_entra = |user: &str| entra_user(user);
    let of_okta = |user: &str| OKTA_KEY.token(&with(bob(), json!({"uid": user})));
    assert_eq!(subject_with(&json!({}), "alice", &of_entra).unwrap(), ALICE);
    assert_eq!(subject_with(&json!({"subjects": "plain"}), "alice", &of_entra).unwrap(), ALICE);
    assert_eq!(subject_with(&json!({"subjects": "none"}), "alice", &of_entra), None);
    let hashed = json!({"subjects": "hashed"});
    let alice = subject_with(&hashed, "alice", &of_entra).unwrap();
    assert_eq!(alice.len(), 22);
    assert_eq!(subject_with(&hashed, "alice", &of_entra).unwrap(), alice, "lines of one user can be joined");
    assert_ne!(subject_with(&hashed, "mallory", &of_entra).unwrap(), alice);
    assert_eq!(subject_with(&json!({}), ALICE, &of_okta).unwrap(), ALICE, "a namesake at another issuer");
    assert_ne!(subject_with(&hashed, ALICE, &of_okta).unwrap(), alice);
}

#[test]
fn no_claim_forges_a_line_or_a_fact() {
    listen();
    let evil = "x\" event=exchanged\r\n[info] event=refused reason=ok subject=root\u{2028}\\";
    let mut bench = Bench::ready();
    let token = OKTA_KEY.token(&with(bob(), json!({"uid": evil, "cid": evil})));
    let step = bench.exchange(bearer("/github", &token), &issued("one"));
    let lines = LINES.take();
    let (_, line) = lines.last().unwrap();
    assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line}");
    let facts = read(line);
    assert_eq!((&*facts["subject"], &*facts["client"]), (evil, evil));
    let told = audited(step);
    assert!(told["subject"].bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{told:?}");
    assert!(!told["subject"].replace("\\\"", "").contains('"'), "{told:?}");

    // Nor does what an unverified token, its header or the request says.
    bench.wait(bearer("/github", &OTHER_KEY.sign(&json!({"alg": "ES256", "kid": evil}), &bob())));
    let (_, unknown_key) = bench.serve_keys().remove(0);
    for step in [
        unknown_key,
        bench.ask(bearer("/github", &ENTRA_KEY.token(&with(alice(), json!({"iss": evil}))))),
        bench.ask(onbehalf::http::Request::new(&[
            (":method", b"GET"),
            (":authority", evil.replace(['\r', '\n'], "").as_bytes()),
            (":path", b"/"),
        ])),
    ] {
        let told = audited(step);
        assert!(told.values().all(|value| value.bytes().all(|byte| (b' '..=b'~').contains(&byte))), "{told:?}");
    }
    for (_, line) in LINES.take().iter().filter(|(_, line)| line.starts_with("event=")) {
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line}");
        assert_eq!(read(line)["event"], "refused");
    }
}

#[test]
fn no_stranger_ends_the_field_of_the_access_log_that_has_the_detail_in_quotes() {
    listen();
    let mut bench = Bench::ready();
    let kid = "x subject=9b1c/victim event=forwarded y";
    bench.wait(bearer("/github", &OTHER_KEY.sign(&json!({"alg": "ES256", "kid": kid}), &bob())));
    let (_, step) = bench.serve_keys().remove(0);
    let told = audited(step);
    let field = format!("detail=\"{}\" status=401", told["detail"]);
    let facts = read(&field);
    assert_eq!(facts.keys().collect::<BTreeSet<_>>(), BTreeSet::from([&"detail".to_owned(), &"status".to_owned()]));
    // The same as in the line, one layer deeper.
    assert_eq!(read(&facts["detail"])["kid"], kid);
    assert_eq!(record().1["kid"], kid);
}

#[test]
fn a_token_that_goes_on_without_an_exchange_has_its_line_the_first_time_at_each_resource_in_each_worker() {
    listen();
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"] =
        json!({"profile": "validate_only", "issuer": OKTA, "cluster": "okta", "audiences": ["api://default"]});
    let resource = |path: &str, exchange: Value| json!({"url": format!("https://mcp.acme.example/{path}"), "exchange": {"okta-eu": exchange}});
    let forwarded = || json!({"forward": true});
    configuration["resources"] = json!([
        {"url": GITHUB, "scopes": ["no-such"], "exchange": {"okta-eu": {}}},
        resource("one", forwarded()), resource("two", forwarded()), resource("three", json!({})),
    ]);
    let shared = SharedMap::default();
    let mut workers = [(); 2].map(|()| Bench::beside(&configuration, &shared).with_keys());
    records();
    let token = bob_token();
    for bench in &mut workers {
        // Verified for the first time, and going nowhere.
        assert_eq!(refused(bench.ask(bearer("/github", &token))).1, "insufficient_scope");
        assert_eq!(record().1["event"], "refused");
        for path in ["/one", "/two", "/three"] {
            let told = audited(bench.ask(bearer(path, &token)));
            let (level, line) = record();
            assert_eq!((level, &line), (Level::Info, &told));
            assert_eq!(
                (&*told["event"], &*told["subject"], &*told["provider"]),
                ("forwarded", "bob@acme.example", "okta-eu")
            );
            assert_eq!(told["resource"], format!("https://mcp.acme.example{path}"));
            let again = audited(bench.ask(bearer(path, &token)));
            assert_eq!((&again["subject"], &again["resource"]), (&told["subject"], &told["resource"]));
            assert!(records().is_empty());
        }
    }
    let another = OKTA_KEY.token(&with(bob(), json!({"sub": "carol@acme.example"})));
    let _ = workers[0].ask(bearer("/one", &another));
    assert_eq!(record().1["subject"], "carol@acme.example");
}

#[test]
fn a_token_that_a_worker_has_forgotten_has_its_line_again() {
    listen();
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"] =
        json!({"profile": "validate_only", "issuer": OKTA, "cluster": "okta", "audiences": ["api://default"]});
    configuration["resources"] = json!([{"url": GITHUB, "exchange": {"okta-eu": {}}}]);
    configuration["cache"] = json!({"verified_tokens": 1});
    let mut bench = Bench::new(&configuration).with_keys();
    records();
    let [bob, carol] =
        ["bob", "carol"].map(|name| OKTA_KEY.token(&with(bob(), json!({"sub": format!("{name}@acme.example")}))));
    for token in [&bob, &carol, &bob] {
        let told = audited(bench.ask(bearer("/github", token)));
        assert_eq!(record(), (Level::Info, told));
        let _ = bench.ask(bearer("/github", token));
        assert!(records().is_empty());
    }
}

#[test]
fn nothing_of_a_token_is_in_any_line() {
    listen();
    let mut bench = Bench::ready();
    let token = alice_token();
    let step = bench.exchange(bearer("/github", &token), &issued("the-issued-token"));
    let (_, signature) = token.rsplit_once('.').unwrap();
    let secrets = [signature, token.split('.').nth(1).unwrap(), "the-issued-token", SECRET];
    let told = format!("{:?}", audited(step));
    for (_, line) in LINES.take() {
        assert!(secrets.iter().all(|secret| !line.contains(secret) && !told.contains(secret)), "{line}");
        assert!(!line.contains("pairwise") && !line.contains("mcp.write"), "another claim: {line}");
    }
}

#[test]
fn a_users_issuer_is_that_of_the_tenant_where_a_provider_has_several() {
    listen();
    let mut configuration = configuration();
    let provider = &mut configuration["identity_providers"]["entra-us"];
    provider["issuer"] = json!("https://login.entra.example/{tenantid}/v2.0");
    provider["tenants"] = json!([TENANT]);
    provider["jwks_uri"] = json!("https://login.entra.example/keys");
    provider["token_endpoint"] = json!("https://login.entra.example/organizations/oauth2/v2.0/token");
    let mut bench = Bench::new(&configuration);
    bench.tick();
    while let Some((flight, call)) = bench.engine.next_callout() {
        let reply =
            if call.url.path() == "/keys" { answer(200, &key_set(&[&ENTRA_KEY])) } else { provider_document(&call) };
        bench.reply(flight, &reply);
    }
    records();
    authorization(bench.exchange(bearer("/github", &alice_token()), &issued("one")));
    assert_eq!(record().1["issuer"], ENTRA);
}

#[test]
fn what_another_worker_has_brought_is_told_by_whoever_it_serves() {
    for (reply, event) in [(issued("one"), "forwarded"), (answer(401, br#"{"error":"invalid_client"}"#), "refused")] {
        listen();
        let shared = SharedMap::default();
        let mut workers = [(); 2].map(|()| Bench::beside(&configuration(), &shared).with_keys());
        let _ = workers[0].exchange(bearer("/github", &alice_token()), &reply);
        records();
        let told = audited(workers[1].ask(bearer("/github", &alice_token())));
        assert_eq!((&*told["event"], &*told["cache"], &*told["subject"]), (event, "shared", ALICE));
        let lines = records();
        assert_eq!(
            lines.len(),
            usize::from(event == "refused"),
            "the exchange has its line at the other worker: {lines:?}"
        );
    }
}

#[test]
fn whoever_has_waited_too_long_is_named_if_it_is_known_who_that_is() {
    listen();
    let mut configuration = configuration();
    configuration["max_wait_seconds"] = json!(5);
    configuration["identity_providers"]["entra-us"]["timeout_seconds"] = json!(20);
    let mut bench = Bench::new(&configuration).with_keys();
    bench.wait(bearer("/github", &alice_token()));
    bench.advance(6);
    let told = audited(bench.tick().remove(0).1);
    let (level, line) = record();
    assert_eq!(level, Level::Warn);
    for facts in [&told, &line] {
        assert_eq!((&*facts["reason"], &*facts["subject"]), ("provider_unavailable", ALICE));
        assert_eq!((&*facts["cache"], &*facts["latency_ms"]), ("miss", "6000"));
    }
}
