//! JWKS: fetch, refresh and rotation. A provider that fails or sends other documents removes no key.

use onbehalf::engine::Decision;
use onbehalf::http::CalloutResult;
use onbehalf::telemetry::Sample;
use serde_json::{Value, json};

use onbehalf_test_support::{
    ENTRA, ENTRA_KEY, NOW, OKTA, OTHER_KEY, TENANT, TIMED_OUT, TestEngine, alice, alice_token, answer, answer_with,
    answered, authorization, bearer, configuration, header, issued, key_set, provider_document, refused, with,
};

fn steps_of(engine: &mut TestEngine, replies: &mut dyn FnMut(&str) -> CalloutResult) -> Vec<Decision> {
    let mut steps = Vec::new();
    while let Some((flight, call)) = engine.inner.next_callout() {
        let reply = replies(call.url.as_str());
        steps.extend(engine.callout_result(flight, &reply).into_iter().map(|(_, step)| step));
    }
    steps
}

#[test]
fn keys_are_refreshed_by_cache_control_within_limits() {
    for (cache_control, least, most) in [
        (None, 54 * 60, 60 * 60),
        (Some("max-age=1800"), 27 * 60, 30 * 60),
        (Some("max-age=0"), 270, 300),
        (Some("no-store, no-cache"), 270, 300),
        (Some("max-age=86400"), 77_760, 86_400),
        (Some("max-age=31536000"), 77_760, 86_400),
    ] {
        let mut engine = TestEngine::new(&configuration());
        engine.tick();
        let headers: Vec<(&str, &str)> = cache_control.map(|value| ("cache-control", value)).into_iter().collect();
        steps_of(&mut engine, &mut |url| match url {
            url if url.ends_with("discovery/v2.0/keys") => {
                answer_with(200, &headers, &serde_json::from_slice(&key_set(&[&ENTRA_KEY])).unwrap())
            }
            url if url.contains("okta") => TIMED_OUT,
            _ => entra_metadata(),
        });
        engine.advance(least - 1);
        engine.tick();
        let fetched = |engine: &mut TestEngine| {
            let mut fetched = false;
            steps_of(engine, &mut |url| {
                fetched |= url.contains("entra");
                TIMED_OUT
            });
            fetched
        };
        assert!(!fetched(&mut engine), "{cache_control:?}: too soon");
        engine.advance(most - least + 1);
        engine.tick();
        assert!(fetched(&mut engine), "{cache_control:?}: too late");
    }
}

#[test]
fn fetches_are_counted_and_key_ages_reported() {
    let mut engine = TestEngine::ready();
    let counted = engine.inner.counters().take();
    assert!(
        counted.contains(&(Sample::JwksRefreshes("entra-us".into(), "ok"), 1))
            && counted.contains(&(Sample::JwksRefreshes("okta-eu".into(), "ok"), 1))
    );
    engine.advance(1234);
    let seconds = std::time::Duration::from_secs(1234);
    assert_eq!(engine.inner.jwks_ages(engine.now), [("entra-us".into(), seconds), ("okta-eu".into(), seconds)]);
    assert!(TestEngine::new(&configuration()).inner.jwks_ages(NOW).is_empty());
}

#[test]
fn configured_endpoints_need_no_discovery() {
    let mut configuration = configuration();
    let entra = &mut configuration["identity_providers"]["entra-us"];
    entra["jwks_uri"] = json!("https://keys.entra.example/k");
    entra["token_endpoint"] = json!("https://tokens.entra.example/t");
    let mut engine = TestEngine::new(&configuration);
    engine.send_waiting(bearer("/github", &alice_token()));
    let (flight, call) = engine.expect_call();
    assert_eq!(call.url.as_str(), "https://keys.entra.example/k");
    engine.callout_result(flight, &answer(200, &key_set(&[&ENTRA_KEY])));
    assert_eq!(engine.expect_call().1.url.as_str(), "https://tokens.entra.example/t");
}

#[test]
fn metadata_of_another_issuer_is_not_followed() {
    let good = json!({"issuer": ENTRA, "jwks_uri": "https://login.entra.example/k", "token_endpoint": "https://login.entra.example/t"});
    let bad = [
        json!({"issuer": format!("{ENTRA}/")}),
        json!({"issuer": "https://login.entra.example/{tenantid}/v2.0"}),
        json!({"issuer": null}),
        json!({"jwks_uri": null}),
        json!({"token_endpoint": 1}),
        json!({"jwks_uri": "http://login.entra.example/k"}),
        json!({"jwks_uri": "https://evil.example/k"}),
        json!({"token_endpoint": "https://login.entra.example@evil.example/t"}),
        json!({"token_endpoint": "https://login.entra.example:444/t"}),
    ];
    for change in bad {
        let mut engine = TestEngine::new(&configuration());
        engine.send_waiting(bearer("/github", &alice_token()));
        let document = with(good.clone(), change.clone());
        let mut called = 0;
        let mut steps = steps_of(&mut engine, &mut |_| {
            called += 1;
            answer_with(200, &[], &document)
        });
        assert_eq!(called, 1, "nothing that it names is called: {change}");
        assert_eq!(refused(steps.remove(0)), (503, "jwks_unavailable".to_owned()), "{change}");
    }
}

#[test]
fn request_without_keys_is_refused_with_retry_after() {
    for reply in [TIMED_OUT, answer(404, b"{}"), answer(200, b"<html>"), answer(302, b"")] {
        let mut engine = TestEngine::new(&configuration());
        engine.send_waiting(bearer("/github", &alice_token()));
        let answer = answered(steps_of(&mut engine, &mut |_| clone(&reply)).remove(0));
        assert_eq!((answer.status, header(&answer, "retry-after")), (503, Some("1")));
        assert_eq!(refused(engine.decide(bearer("/github", &alice_token()))).1, "jwks_unavailable");
        engine.expect_no_call();
        engine.advance(1);
        assert!(matches!(engine.decide(bearer("/github", &alice_token())), Decision::Pause));
    }
}

#[test]
fn failed_fetches_back_off_up_to_a_minute() {
    let mut engine = TestEngine::new(&configuration());
    let mut at = Vec::new();
    for second in 0..400 {
        engine.tick();
        let failed = steps_of(&mut engine, &mut |url| {
            if url.contains("entra") {
                at.push(second);
            }
            TIMED_OUT
        });
        assert!(failed.is_empty());
        engine.advance(1);
    }
    let pauses: Vec<u64> = at.windows(2).map(|pair| pair[1] - pair[0]).take(8).collect();
    let most = [1, 2, 4, 8, 16, 32, 60, 60];
    let fits = |(pause, most): (&u64, u64)| (most * 9 / 10..=most).contains(pause);
    assert!(pauses.iter().zip(most).all(fits), "{pauses:?}");
}

#[test]
fn failed_refresh_keeps_the_keys() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    for reply in [
        TIMED_OUT,
        answer(500, b""),
        answer(200, b"{}"),
        answer(200, br#"{"keys":[]}"#),
        answer(200, br#"{"keys":[{"kty":"oct"}]}"#),
    ] {
        engine.advance(3600);
        engine.tick();
        steps_of(&mut engine, &mut |url| {
            if url.contains(".well-known") { provider_document_for(url) } else { clone(&reply) }
        });
        let fresh = ENTRA_KEY.token(&with(alice(), json!({"exp": engine.now.secs() + 600})));
        assert!(matches!(engine.decide(bearer("/github", &fresh)), Decision::Pause));
        let (flight, call) = engine.expect_call();
        assert_eq!(call.method, "POST");
        engine.callout_result(flight, &issued("up"));
    }
    drop(token);
}

fn entra_metadata() -> CalloutResult {
    let at = |path: &str| format!("https://login.entra.example/{TENANT}/{path}");
    let endpoints =
        json!({"issuer": ENTRA, "jwks_uri": at("discovery/v2.0/keys"), "token_endpoint": at("oauth2/v2.0/token")});
    answer_with(200, &[], &endpoints)
}

fn provider_document_for(url: &str) -> CalloutResult {
    let issuer = if url.contains("entra") { ENTRA } else { OKTA };
    let at = |path: &str| format!("{}/{path}", issuer.split('/').take(3).collect::<Vec<_>>().join("/"));
    answer_with(200, &[], &json!({"issuer": issuer, "jwks_uri": at("k"), "token_endpoint": at("t")}))
}

fn clone(reply: &CalloutResult) -> CalloutResult {
    match reply {
        CalloutResult::Failed(failure) | CalloutResult::ByEnvoy(failure, _) => CalloutResult::Failed(*failure),
        CalloutResult::Response(answer) => onbehalf_test_support::answer(answer.status, &answer.body),
    }
}

#[test]
fn unknown_kids_cause_one_fetch_in_30_seconds() {
    let mut engine = TestEngine::ready();
    let unknown = |kid: &str| OTHER_KEY.sign(&json!({"alg": "ES256", "kid": kid}), &alice());
    for number in 0..256 {
        engine.send_waiting(bearer("/github", &unknown(&format!("k{number}"))));
    }
    assert_eq!(refused(engine.decide(bearer("/github", &unknown("k256")))), (503, "overloaded".to_owned()));
    let (flight, call) = engine.expect_call();
    assert_eq!(
        call.url.as_str(),
        "https://login.entra.example/9b1c0000-1111-4222-8333-444455556666/discovery/v2.0/keys"
    );
    engine.expect_no_call();
    for (_, step) in engine.callout_result(flight, &provider_document(&call)) {
        assert_eq!(refused(step).1, "unknown_key");
    }
    engine.advance(29);
    assert_eq!(refused(engine.decide(bearer("/github", &unknown("k")))).1, "unknown_key");
    engine.expect_no_call();
    engine.advance(1);
    assert!(matches!(engine.decide(bearer("/github", &unknown("k"))), Decision::Pause));
}

#[test]
fn rotated_key_is_found_and_the_old_key_ends_with_its_tokens() {
    let mut engine = TestEngine::ready();
    let claims = with(alice(), json!({"exp": NOW.secs() + 9000}));
    let old = ENTRA_KEY.token(&claims);
    authorization(engine.exchange(bearer("/github", &old), &issued("old")));
    let new = OTHER_KEY.token(&claims);
    assert!(matches!(engine.decide(bearer("/github", &new)), Decision::Pause));
    let (flight, _) = engine.expect_call();
    assert!(
        engine.callout_result(flight, &answer(200, &key_set(&[&ENTRA_KEY, &OTHER_KEY]))).is_empty(),
        "now it waits for its token"
    );
    let (flight, _) = engine.expect_call();
    assert_eq!(authorization(engine.only_step(flight, &issued("new"))), "Bearer new");
    assert_eq!(authorization(engine.decide(bearer("/github", &old))), "Bearer old");

    engine.advance(3600);
    engine.tick();
    steps_of(&mut engine, &mut |url| match url {
        url if url.ends_with("discovery/v2.0/keys") => answer(200, &key_set(&[&OTHER_KEY])),
        url if url.contains("entra") => entra_metadata(),
        _ => TIMED_OUT,
    });
    assert_eq!(authorization(engine.exchange(bearer("/github", &new), &issued("new"))), "Bearer new");
    assert!(matches!(engine.decide(bearer("/github", &old)), Decision::Pause), "its key is looked for once more");
    let (flight, _) = engine.expect_call();
    assert_eq!(refused(engine.only_step(flight, &answer(200, &key_set(&[&OTHER_KEY])))).1, "unknown_key");
}

#[test]
fn clock_that_goes_back_stops_no_fetch() {
    let mut engine = TestEngine::ready();
    engine.now = NOW.minus(std::time::Duration::from_secs(86_400));
    engine.tick();
    engine.serve_keys();
    let claims = with(alice(), json!({"iat": null, "nbf": null, "exp": NOW.secs()}));
    assert_eq!(
        authorization(engine.exchange(bearer("/github", &ENTRA_KEY.token(&claims)), &issued("up"))),
        "Bearer up"
    );
    let unknown = OTHER_KEY.token(&claims);
    assert!(matches!(engine.decide(bearer("/github", &unknown)), Decision::Pause));
}

#[test]
fn key_of_another_tenant_is_not_used() {
    let mut set: Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY])).unwrap();
    set["keys"][0]["issuer"] = json!("https://login.entra.example/other/v2.0");
    let mut engine = TestEngine::new(&configuration());
    engine.send_waiting(bearer("/github", &alice_token()));
    let mut steps = steps_of(&mut engine, &mut |url| {
        if url.ends_with("keys") || url.ends_with("/k") {
            answer(200, set.to_string().as_bytes())
        } else {
            provider_document_for(url)
        }
    });
    assert_eq!(refused(steps.remove(0)).1, "unknown_key");
}
