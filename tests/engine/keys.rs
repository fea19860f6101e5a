//! Keys are there when they are needed, and a provider that fails or lies takes none away.

use onbehalf::engine::Decision;
use onbehalf::http::CalloutResult;
use onbehalf::telemetry::Sample;
use serde_json::{Value, json};

use crate::support::*;

fn steps_of(bench: &mut Bench, replies: &mut dyn FnMut(&str) -> CalloutResult) -> Vec<Decision> {
    let mut steps = Vec::new();
    while let Some((flight, call)) = bench.engine.next_callout() {
        let reply = replies(call.url.as_str());
        steps.extend(bench.reply(flight, &reply).into_iter().map(|(_, step)| step));
    }
    steps
}

#[test]
fn keys_are_fetched_on_the_first_tick_and_again_when_cache_control_says_so_within_bounds() {
    for (cache_control, least, most) in [
        (None, 54 * 60, 60 * 60),
        (Some("max-age=1800"), 27 * 60, 30 * 60),
        (Some("max-age=0"), 270, 300),
        (Some("no-store, no-cache"), 270, 300),
        (Some("max-age=86400"), 77_760, 86_400),
        (Some("max-age=31536000"), 77_760, 86_400),
    ] {
        let mut bench = Bench::new(&configuration());
        bench.tick();
        let headers: Vec<(&str, &str)> = cache_control.map(|value| ("cache-control", value)).into_iter().collect();
        steps_of(&mut bench, &mut |url| match url {
            url if url.ends_with("discovery/v2.0/keys") => {
                answer_with(200, &headers, &serde_json::from_slice(&key_set(&[&ENTRA_KEY])).unwrap())
            }
            url if url.contains("okta") => TIMED_OUT,
            _ => entra_metadata(),
        });
        bench.advance(least - 1);
        bench.tick();
        let fetched = |bench: &mut Bench| {
            let mut fetched = false;
            steps_of(bench, &mut |url| {
                fetched |= url.contains("entra");
                TIMED_OUT
            });
            fetched
        };
        assert!(!fetched(&mut bench), "{cache_control:?}: too soon");
        bench.advance(most - least + 1);
        bench.tick();
        assert!(fetched(&mut bench), "{cache_control:?}: too late");
    }
}

#[test]
fn every_fetch_is_counted_and_the_age_of_keys_is_known() {
    let mut bench = Bench::ready();
    let counted = bench.engine.counters().take();
    assert!(
        counted.contains(&(Sample::JwksRefreshes(0, "ok"), 1))
            && counted.contains(&(Sample::JwksRefreshes(1, "ok"), 1))
    );
    bench.advance(1234);
    let seconds = std::time::Duration::from_secs(1234);
    assert_eq!(bench.engine.key_ages(bench.now), [(0, seconds), (1, seconds)]);
    assert!(Bench::new(&configuration()).engine.key_ages(NOW).is_empty());
}

#[test]
fn endpoints_set_by_hand_need_no_discovery() {
    let mut configuration = configuration();
    let entra = &mut configuration["identity_providers"]["entra-us"];
    entra["jwks_uri"] = json!("https://keys.entra.example/k");
    entra["token_endpoint"] = json!("https://tokens.entra.example/t");
    let mut bench = Bench::new(&configuration);
    bench.wait(bearer("/github", &alice_token()));
    let (flight, call) = bench.call();
    assert_eq!(call.url.as_str(), "https://keys.entra.example/k");
    bench.reply(flight, &answer(200, &key_set(&[&ENTRA_KEY])));
    assert_eq!(bench.call().1.url.as_str(), "https://tokens.entra.example/t");
}

#[test]
fn a_metadata_document_that_is_not_the_issuers_is_not_followed() {
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
        let mut bench = Bench::new(&configuration());
        bench.wait(bearer("/github", &alice_token()));
        let document = with(good.clone(), change.clone());
        let mut called = 0;
        let mut steps = steps_of(&mut bench, &mut |_| {
            called += 1;
            answer_with(200, &[], &document)
        });
        assert_eq!(called, 1, "nothing that it names is called: {change}");
        assert_eq!(refused(steps.remove(0)), (503, "jwks_unavailable".to_owned()), "{change}");
    }
}

#[test]
fn without_keys_nobody_gets_in_and_everybody_is_told_when_to_come_back() {
    for reply in [TIMED_OUT, answer(404, b"{}"), answer(200, b"<html>"), answer(302, b"")] {
        let mut bench = Bench::new(&configuration());
        bench.wait(bearer("/github", &alice_token()));
        let answer = answered(steps_of(&mut bench, &mut |_| clone(&reply)).remove(0));
        assert_eq!((answer.status, header(&answer, "retry-after")), (503, Some("1")));
        assert_eq!(refused(bench.ask(bearer("/github", &alice_token()))).1, "jwks_unavailable");
        bench.no_call();
        bench.advance(1);
        assert!(matches!(bench.ask(bearer("/github", &alice_token())), Decision::Pause));
    }
}

#[test]
fn failed_fetches_are_repeated_less_and_less_often_up_to_a_minute() {
    let mut bench = Bench::new(&configuration());
    let mut at = Vec::new();
    for second in 0..400 {
        bench.tick();
        let failed = steps_of(&mut bench, &mut |url| {
            if url.contains("entra") {
                at.push(second);
            }
            TIMED_OUT
        });
        assert!(failed.is_empty());
        bench.advance(1);
    }
    let pauses: Vec<u64> = at.windows(2).map(|pair| pair[1] - pair[0]).take(8).collect();
    let most = [1, 2, 4, 8, 16, 32, 60, 60];
    let fits = |(pause, most): (&u64, u64)| (most * 9 / 10..=most).contains(pause);
    assert!(pauses.iter().zip(most).all(fits), "{pauses:?}");
}

#[test]
fn a_failed_refresh_keeps_the_keys() {
    let mut bench = Bench::ready();
    let token = alice_token();
    for reply in [
        TIMED_OUT,
        answer(500, b""),
        answer(200, b"{}"),
        answer(200, br#"{"keys":[]}"#),
        answer(200, br#"{"keys":[{"kty":"oct"}]}"#),
    ] {
        bench.advance(3600);
        bench.tick();
        steps_of(&mut bench, &mut |url| {
            if url.contains(".well-known") { provider_document_for(url) } else { clone(&reply) }
        });
        let fresh = ENTRA_KEY.token(&with(alice(), json!({"exp": bench.now.secs() + 600})));
        assert!(matches!(bench.ask(bearer("/github", &fresh)), Decision::Pause));
        let (flight, call) = bench.call();
        assert_eq!(call.method, "POST");
        bench.reply(flight, &issued("up"));
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
        CalloutResult::Failed(failure) => CalloutResult::Failed(*failure),
        CalloutResult::Response(answer) => crate::support::answer(answer.status, &answer.body),
    }
}

#[test]
fn an_unknown_kid_causes_one_fetch_in_thirty_seconds_however_many_come() {
    let mut bench = Bench::ready();
    let unknown = |kid: &str| OTHER_KEY.sign(&json!({"alg": "ES256", "kid": kid}), &alice());
    for number in 0..256 {
        bench.wait(bearer("/github", &unknown(&format!("k{number}"))));
    }
    assert_eq!(refused(bench.ask(bearer("/github", &unknown("k256")))), (503, "overloaded".to_owned()));
    let (flight, call) = bench.call();
    assert_eq!(
        call.url.as_str(),
        "https://login.entra.example/9b1c0000-1111-4222-8333-444455556666/discovery/v2.0/keys"
    );
    bench.no_call();
    for (_, step) in bench.reply(flight, &provider_document(&call)) {
        assert_eq!(refused(step).1, "unknown_key");
    }
    bench.advance(29);
    assert_eq!(refused(bench.ask(bearer("/github", &unknown("k")))).1, "unknown_key");
    bench.no_call();
    bench.advance(1);
    assert!(matches!(bench.ask(bearer("/github", &unknown("k"))), Decision::Pause));
}

#[test]
fn a_rotated_key_is_found_and_the_old_one_goes_with_its_tokens() {
    let mut bench = Bench::ready();
    let claims = with(alice(), json!({"exp": NOW.secs() + 9000}));
    let old = ENTRA_KEY.token(&claims);
    authorization(bench.exchange(bearer("/github", &old), &issued("old")));
    let new = OTHER_KEY.token(&claims);
    assert!(matches!(bench.ask(bearer("/github", &new)), Decision::Pause));
    let (flight, _) = bench.call();
    assert!(
        bench.reply(flight, &answer(200, &key_set(&[&ENTRA_KEY, &OTHER_KEY]))).is_empty(),
        "now it waits for its token"
    );
    let (flight, _) = bench.call();
    assert_eq!(authorization(bench.reply(flight, &issued("new")).remove(0).1), "Bearer new");
    assert_eq!(authorization(bench.ask(bearer("/github", &old))), "Bearer old");

    bench.advance(3600);
    bench.tick();
    steps_of(&mut bench, &mut |url| match url {
        url if url.ends_with("discovery/v2.0/keys") => answer(200, &key_set(&[&OTHER_KEY])),
        url if url.contains("entra") => entra_metadata(),
        _ => TIMED_OUT,
    });
    assert_eq!(authorization(bench.exchange(bearer("/github", &new), &issued("new"))), "Bearer new");
    assert!(matches!(bench.ask(bearer("/github", &old)), Decision::Pause), "its key is looked for once more");
    let (flight, _) = bench.call();
    assert_eq!(refused(bench.reply(flight, &answer(200, &key_set(&[&OTHER_KEY]))).remove(0).1).1, "unknown_key");
}

#[test]
fn a_clock_that_goes_back_stops_nothing() {
    let mut bench = Bench::ready();
    bench.now = NOW.minus(std::time::Duration::from_secs(86_400));
    bench.tick();
    bench.serve_keys();
    let claims = with(alice(), json!({"iat": null, "nbf": null, "exp": NOW.secs()}));
    assert_eq!(authorization(bench.exchange(bearer("/github", &ENTRA_KEY.token(&claims)), &issued("up"))), "Bearer up");
    let unknown = OTHER_KEY.token(&claims);
    assert!(matches!(bench.ask(bearer("/github", &unknown)), Decision::Pause));
}

#[test]
fn a_key_of_another_tenant_is_not_used() {
    let mut set: Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY])).unwrap();
    set["keys"][0]["issuer"] = json!("https://login.entra.example/other/v2.0");
    let mut bench = Bench::new(&configuration());
    bench.wait(bearer("/github", &alice_token()));
    let mut steps = steps_of(&mut bench, &mut |url| {
        if url.ends_with("keys") || url.ends_with("/k") {
            answer(200, set.to_string().as_bytes())
        } else {
            provider_document_for(url)
        }
    });
    assert_eq!(refused(steps.remove(0)).1, "unknown_key");
}
