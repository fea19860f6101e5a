//! JWKS: fetch, refresh and rotation. A provider that fails or sends other documents removes no key.

use onbehalf::engine::Decision;
use onbehalf::http::CalloutResult;
use onbehalf::telemetry::Sample;
use serde_json::{Value, json};

use onbehalf_test_support::{
    ENTRA, ENTRA_KEY, NOW, OKTA, OTHER_KEY, Signer, TENANT, TIMED_OUT, TestEngine, alice, alice_token, answer,
    answer_with, answered, authorization, bearer, configuration, header, issued, key_set, provider_document, refused,
    with,
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
    // A document that is no metadata of the issuer is followed by the next one, and a document that names another host is not.
    let bad = [
        (2, json!({"issuer": format!("{ENTRA}/")})),
        (2, json!({"issuer": "https://login.entra.example/{tenantid}/v2.0"})),
        (2, json!({"issuer": null})),
        (2, json!({"jwks_uri": null})),
        (2, json!({"token_endpoint": 1})),
        (2, json!({"jwks_uri": "http://login.entra.example/k"})),
        (2, json!({"jwks_uri": "https://login.entra.example/k#f"})),
        (2, json!({"token_endpoint": "https://login.entra.example/t?q#f"})),
        (2, json!({"token_endpoint": "https://login.entra.example@evil.example/t"})),
        (1, json!({"jwks_uri": "https://evil.example/k"})),
        (1, json!({"jwks_uri": "https://evil.example/k?at=login.entra.example"})),
        (1, json!({"token_endpoint": "https://login.entra.example:444/t"})),
        (1, json!({"token_endpoint": "https://evil.example?login.entra.example/"})),
    ];
    for (documents, change) in bad {
        let mut engine = TestEngine::new(&configuration());
        engine.send_waiting(bearer("/github", &alice_token()));
        let document = with(good.clone(), change.clone());
        let mut called = 0;
        let mut steps = steps_of(&mut engine, &mut |url| {
            called += 1;
            assert!(url.contains("/.well-known/"), "nothing that it names is called: {url}");
            answer_with(200, &[], &document)
        });
        assert_eq!(called, documents, "{change}");
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

/// A key that is another one than the usual, under its `kid`.
fn successor() -> Signer {
    let mut signer = Signer::new("the next key");
    signer.jwk["kid"] = json!(ENTRA_KEY.kid);
    signer
}

#[test]
fn another_key_under_a_known_kid_is_fetched() {
    let next = successor();
    let head = json!({"alg": "ES256", "kid": ENTRA_KEY.kid});
    let claims = with(alice(), json!({"exp": NOW.secs() + 9000}));
    let nameless = |signer: &Signer| json!({"keys": [with(signer.jwk.clone(), json!({"kid": null}))]}).to_string();
    let rsa_only = r#"{"keys":[{"kty":"RSA","kid":"entra-1","e":"AQAB","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}]}"#;
    let twice = json!({"keys": [ENTRA_KEY.jwk, next.jwk]}).to_string();
    for (before, head, after) in [
        (String::from_utf8(key_set(&[&ENTRA_KEY])).unwrap(), &head, String::from_utf8(key_set(&[&next])).unwrap()),
        (nameless(&ENTRA_KEY), &json!({"alg": "ES256"}), nameless(&next)),
        (rsa_only.to_owned(), &head, String::from_utf8(key_set(&[&next])).unwrap()),
        (rsa_only.to_owned(), &json!({"alg": "ES256"}), nameless(&next)),
        (twice, &head, String::from_utf8(key_set(&[&next])).unwrap()),
    ] {
        let mut engine = TestEngine::with_replies(&configuration(), |call| match call.url.as_str() {
            url if url.ends_with("discovery/v2.0/keys") => answer(200, before.as_bytes()),
            _ => provider_document(call),
        });
        let token = next.sign(head, &claims);
        assert_eq!(refused(engine.decide(bearer("/github", &token))).0, 401, "the keys have just come");
        engine.expect_no_call();
        engine.advance(1);
        engine.send_waiting(bearer("/github", &token));
        let (flight, call) = engine.expect_call();
        assert!(call.url.as_str().ends_with("discovery/v2.0/keys"), "{call:?}");
        assert!(engine.callout_result(flight, &answer(200, after.as_bytes())).is_empty(), "it waits for its token");
        assert_eq!(engine.expect_call().1.method, "POST", "{before}");
    }
}

#[test]
fn verified_token_of_a_replaced_key_is_verified_again() {
    let mut engine = TestEngine::ready();
    let old = alice_token();
    authorization(engine.exchange(bearer("/github", &old), &issued("old")));
    let next = successor();
    engine.advance(1);
    engine.send_waiting(bearer("/github", &next.sign(&json!({"alg": "ES256", "kid": ENTRA_KEY.kid}), &alice())));
    let (flight, _) = engine.expect_call();
    engine.callout_result(flight, &answer(200, &key_set(&[&next])));
    engine.expect_call();
    assert_eq!(refused(engine.decide(bearer("/github", &old))).1, "bad_signature");
}

#[test]
fn configured_keys_are_not_looked_for_because_of_a_forged_signature() {
    let mut configuration = configuration();
    let keys: Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY])).unwrap();
    configuration["identity_providers"]["entra-us"]["jwks"] = keys;
    let mut engine = TestEngine::new(&configuration);
    engine.tick();
    engine.serve_calls(provider_document);
    engine.advance(60);
    let forged = OTHER_KEY.sign(&json!({"alg": "ES256", "kid": ENTRA_KEY.kid}), &alice());
    assert_eq!(refused(engine.decide(bearer("/github", &forged))), (401, "bad_signature".to_owned()));
    engine.expect_no_call();
}

#[test]
fn forged_signatures_cause_one_fetch_in_30_seconds() {
    let mut engine = TestEngine::ready();
    let good = alice_token();
    authorization(engine.exchange(bearer("/github", &good), &issued("up")));
    let forged = |number: u64| {
        let claims = with(alice(), json!({"exp": NOW.secs() + 3000 + number}));
        OTHER_KEY.sign(&json!({"alg": "ES256", "kid": ENTRA_KEY.kid}), &claims)
    };
    engine.advance(1);
    for number in 0..256 {
        engine.send_waiting(bearer("/github", &forged(number)));
    }
    assert_eq!(refused(engine.decide(bearer("/github", &forged(256)))), (503, "overloaded".to_owned()));
    assert_eq!(authorization(engine.decide(bearer("/github", &good))), "Bearer up", "honest requests do not wait");
    let (flight, call) = engine.expect_call();
    engine.expect_no_call();
    let steps = engine.callout_result(flight, &provider_document(&call));
    assert_eq!(steps.len(), 256);
    for (_, step) in steps {
        assert_eq!(refused(step), (401, "bad_signature".to_owned()));
    }
    engine.advance(29);
    assert_eq!(refused(engine.decide(bearer("/github", &forged(257)))).1, "bad_signature");
    // Both kinds of token share the one fetch.
    let unknown = OTHER_KEY.token(&alice());
    assert_eq!(refused(engine.decide(bearer("/github", &unknown))).1, "unknown_key");
    engine.expect_no_call();
    engine.advance(1);
    engine.send_waiting(bearer("/github", &forged(258)));
    engine.expect_call();
    engine.expect_no_call();
}

#[test]
fn wait_of_a_forged_signature_is_bounded() {
    let mut engine = TestEngine::ready();
    let forged = OTHER_KEY.sign(&json!({"alg": "ES256", "kid": ENTRA_KEY.kid}), &alice());
    engine.advance(1);
    let id = engine.send_waiting(bearer("/github", &forged));
    let (flight, _) = engine.expect_call();
    engine.advance(30);
    let mut steps = engine.tick();
    assert_eq!(steps.len(), 1);
    let (waited, step) = steps.remove(0);
    assert_eq!((waited, refused(step).0), (id, 401), "the lost callout ends its wait");
    // While the provider is down, no such token waits, and the keys stay.
    assert!(engine.callout_result(flight, &TIMED_OUT).is_empty());
    assert_eq!(refused(engine.decide(bearer("/github", &forged))).1, "bad_signature");
    engine.send_waiting(bearer("/github", &alice_token()));
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
