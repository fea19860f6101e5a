//! Users and tokens in the audit record.

use log::Level;
use onbehalf::http::CalloutFailure;
use onbehalf::http::CalloutResult;
use onbehalf_test_support::{
    ENTRA, ENTRA_KEY, NOW, OKTA_KEY, OTHER_KEY, SECRET, TENANT, TestEngine, alice, alice_token, answer, authorization,
    bearer, bob, configuration, entra_user, issued, key_set, log_facts, provider_document, with,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

use super::{ALICE, GITHUB, LINES, audited, facts, listen, record, records};

#[test]
fn unverified_token_has_no_user_in_the_log() {
    listen();
    let mut engine = TestEngine::ready();
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
        let told = audited(engine.decide(bearer("/github", token)));
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
    // No token is verified while the keys are fetched.
    let mut engine = TestEngine::new(&configuration());
    engine.send_waiting(bearer("/github", &alice_token()));
    let (flight, _) = engine.expect_call();
    engine.callout_result(flight, &CalloutResult::Failed(CalloutFailure::NoConnection));
    let mut records = records();
    let (level, facts) = records.pop().unwrap();
    let document = format!("{ENTRA}/.well-known/openid-configuration");
    let failed = self::facts(&[
        ("event", "jwks_fetch_failed"),
        ("provider", "entra-us"),
        ("url", &document),
        ("cluster", "entra"),
        ("error", "no connection, or it broke"),
        ("cached_jwks", "none"),
    ]);
    assert_eq!(records, [(Level::Warn, failed)]);
    assert_eq!(
        (level, &*facts["reason"], &*facts["provider_unverified"]),
        (Level::Warn, "jwks_unavailable", "entra-us")
    );
    assert!(!facts.contains_key("subject"), "{facts:?}");
}

/// The `subject` of one user under a policy.
fn subject_with(audit: &Value, user: &str, token: &dyn Fn(&str) -> String) -> Option<String> {
    let mut configuration = configuration();
    configuration["audit"] = audit.clone();
    let mut engine = TestEngine::new(&configuration).with_keys();
    records();
    authorization(engine.exchange(bearer("/github", &token(user)), &issued("one")));
    record().1.remove("subject")
}

#[test]
fn users_are_logged_in_the_configured_form() {
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
fn claims_cannot_forge_a_log_line_or_a_fact() {
    listen();
    let evil = "x\" event=exchanged\r\n[info] event=refused reason=ok subject=root\u{2028}\\";
    let mut engine = TestEngine::ready();
    let token = OKTA_KEY.token(&with(bob(), json!({"uid": evil, "cid": evil})));
    let step = engine.exchange(bearer("/github", &token), &issued("one"));
    let lines = LINES.take();
    let (_, line) = lines.last().unwrap();
    assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line}");
    let facts = log_facts(line);
    assert_eq!((&*facts["subject"], &*facts["client"]), (evil, evil));
    let told = audited(step);
    assert!(told["subject"].bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{told:?}");
    assert!(!told["subject"].replace("\\\"", "").contains('"'), "{told:?}");

    // Text of an unverified token, its header or the request forges nothing either.
    engine.send_waiting(bearer("/github", &OTHER_KEY.sign(&json!({"alg": "ES256", "kid": evil}), &bob())));
    let (_, unknown_key) = engine.serve_keys().remove(0);
    for step in [
        unknown_key,
        engine.decide(bearer("/github", &ENTRA_KEY.token(&with(alice(), json!({"iss": evil}))))),
        engine.decide(onbehalf::http::Request::new(&[
            (":method", b"GET"),
            (":authority", evil.replace(['\r', '\n'], "").as_bytes()),
            (":path", b"/"),
        ])),
    ] {
        let told = audited(step);
        assert!(told.values().all(|value| value.bytes().all(|byte| (b' '..=b'~').contains(&byte))), "{told:?}");
    }
    let lines: Vec<_> = LINES.take().into_iter().filter(|(_, line)| line.starts_with("event=")).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (_, line) in &lines {
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line}");
        assert_eq!(log_facts(line)["event"], "refused");
    }
}

#[test]
fn untrusted_text_cannot_end_the_quoted_detail_in_the_access_log() {
    listen();
    let mut engine = TestEngine::ready();
    let kid = "x subject=9b1c/victim event=forwarded y";
    engine.send_waiting(bearer("/github", &OTHER_KEY.sign(&json!({"alg": "ES256", "kid": kid}), &bob())));
    let (_, step) = engine.serve_keys().remove(0);
    let told = audited(step);
    let field = format!("detail=\"{}\" status=401", told["detail"]);
    let facts = log_facts(&field);
    assert_eq!(facts.keys().collect::<BTreeSet<_>>(), BTreeSet::from([&"detail".to_owned(), &"status".to_owned()]));
    // The access log has the text of the log line, quoted once more.
    assert_eq!(log_facts(&facts["detail"])["kid"], kid);
    assert_eq!(record().1["kid"], kid);
}

#[test]
fn log_lines_contain_no_part_of_a_token() {
    listen();
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let step = engine.exchange(bearer("/github", &token), &issued("the-issued-token"));
    let (_, signature) = token.rsplit_once('.').unwrap();
    let secrets = [signature, token.split('.').nth(1).unwrap(), "the-issued-token", SECRET];
    let told = format!("{:?}", audited(step));
    let lines = LINES.take();
    assert!(lines.iter().any(|(_, line)| line.starts_with("event=exchanged")), "{lines:?}");
    for (_, line) in lines {
        assert!(secrets.iter().all(|secret| !line.contains(secret) && !told.contains(secret)), "{line}");
        assert!(!line.contains("pairwise") && !line.contains("mcp.write"), "another claim: {line}");
    }
}

#[test]
fn issuer_fact_is_the_tenants_where_a_provider_has_several() {
    listen();
    let mut configuration = configuration();
    let provider = &mut configuration["identity_providers"]["entra-us"];
    provider["issuer"] = json!("https://login.entra.example/{tenantid}/v2.0");
    provider["tenants"] = json!([TENANT]);
    provider["jwks_uri"] = json!("https://login.entra.example/keys");
    provider["token_endpoint"] = json!("https://login.entra.example/organizations/oauth2/v2.0/token");
    let mut engine = TestEngine::new(&configuration);
    engine.tick();
    while let Some((flight, call)) = engine.inner.next_callout() {
        let reply =
            if call.url.path() == "/keys" { answer(200, &key_set(&[&ENTRA_KEY])) } else { provider_document(&call) };
        engine.callout_result(flight, &reply);
    }
    records();
    authorization(engine.exchange(bearer("/github", &alice_token()), &issued("one")));
    assert_eq!(record().1["issuer"], ENTRA);
}
