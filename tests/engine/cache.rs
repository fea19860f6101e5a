//! The caches of exchanged tokens and of refusals: lifetimes, renewals, users.

use std::time::Duration;

use onbehalf::engine::Decision;
use serde_json::{Value, json};

use onbehalf_test_support::{
    ENTRA_KEY, NOW, OKTA_KEY, TIMED_OUT, TestEngine, alice, alice_day_token, alice_token, answer_with, answered,
    authorization, bearer, bob, bob_id, bob_token, configuration, entra_user, form, header, issued, refused, request,
    with,
};

fn is_exchanged_again(engine: &mut TestEngine, token: &str) -> bool {
    match engine.decide(bearer("/github", token)) {
        Decision::Pause => true,
        Decision::Forward(_) => false,
        Decision::Respond(answer) => panic!("{answer:?}"),
    }
}

#[test]
fn second_request_makes_no_call() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    authorization(engine.exchange(bearer("/github", &token), &issued("up")));
    for path in ["/github", "/github/x?y=z"] {
        assert_eq!(authorization(engine.decide(bearer(path, &token))), "Bearer up");
    }
    engine.expect_no_call();
}

#[test]
fn each_user_gets_only_their_own_token() {
    let mut engine = TestEngine::ready();
    let tokens =
        [alice_token(), entra_user("carol"), bob_token(), ENTRA_KEY.token(&with(alice(), json!({"uti": "2"})))];
    for (index, token) in tokens.iter().enumerate() {
        authorization(engine.exchange(bearer("/github", token), &issued(&format!("up-{index}"))));
    }
    for (index, token) in tokens.iter().enumerate() {
        assert_eq!(authorization(engine.decide(bearer("/github", token))), format!("Bearer up-{index}"));
    }
}

#[test]
fn each_target_has_its_own_token() {
    let mut engine = TestEngine::ready();
    let token = ENTRA_KEY.token(&with(alice(), json!({"scp": "mcp.read mcp.admin"})));
    authorization(engine.exchange(bearer("/github", &token), &issued("user")));
    authorization(engine.exchange(bearer("/github/admin", &token), &issued("admin")));
    assert_eq!(authorization(engine.decide(bearer("/github", &token))), "Bearer user");
    assert_eq!(authorization(engine.decide(bearer("/github/admin", &token))), "Bearer admin");
}

#[test]
fn exchanged_token_is_used_until_30_seconds_before_it_expires() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    let reply = answer_with(200, &[], &json!({"access_token": "up", "token_type": "Bearer", "expires_in": 600}));
    authorization(engine.exchange(bearer("/github", &token), &reply));
    engine.advance(569);
    assert!(!is_exchanged_again(&mut engine, &token));
    engine.advance(1);
    assert!(is_exchanged_again(&mut engine, &token));
}

#[test]
fn exchanged_token_is_used_while_its_subject_token_is_accepted() {
    let mut engine = TestEngine::ready();
    let token = ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() + 100})));
    authorization(engine.exchange(bearer("/github", &token), &issued("up")));
    // The leeway for clocks is a minute.
    engine.advance(159);
    assert!(!is_exchanged_again(&mut engine, &token));
    engine.advance(1);
    assert_eq!(refused(engine.decide(bearer("/github", &token))), (401, "expired".to_owned()));
    engine.expect_no_call();
}

/// Number of exchanges for `calls` requests, one every half second, with a subject token for `subject` seconds.
/// `lifetime` returns the lifetime of a token that is issued a number of milliseconds after the start.
fn exchanges_of(subject: u64, calls: u64, lifetime: impl Fn(u64) -> Value) -> usize {
    let mut engine = TestEngine::ready();
    let token = ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() + subject})));
    let mut exchanges = 0;
    for half_second in 0..calls {
        let since = half_second * 500;
        engine.now = NOW.plus(Duration::from_millis(since));
        let (_, mut step) = engine.send(bearer("/github", &token));
        while let Some((flight, call)) = engine.inner.next_callout() {
            assert_eq!(call.method, "POST");
            exchanges += 1;
            let body =
                with(json!({"access_token": format!("up-{exchanges}"), "token_type": "Bearer"}), lifetime(since));
            for (_, next) in engine.callout_result(flight, &answer_with(200, &[], &body)) {
                step = next;
            }
        }
        authorization(step);
    }
    exchanges
}

#[test]
fn last_seconds_of_a_subject_token_cost_one_exchange() {
    let an_hour = |_| json!({"expires_in": 3600});
    assert_eq!(exchanges_of(28, 40, an_hour), 1);
    assert_eq!(exchanges_of(60, 115, an_hour), 1);
    // The exchanged token is used until the subject token is no longer accepted.
    assert_eq!(exchanges_of(28, 176, an_hour), 1);
    // Some providers issue a token for no longer than the rest of the subject token's lifetime, in whole seconds.
    let what_is_left = |subject: u64| move |since: u64| json!({"expires_in": (subject * 1000 - since) / 1000});
    assert_eq!(exchanges_of(28, 56, what_is_left(28)), 1);
    assert_eq!(exchanges_of(60, 120, what_is_left(60)), 1);
    assert_eq!(exchanges_of(600, 1200, what_is_left(600)), 1);
}

#[test]
fn expiry_of_the_subject_token_counts_where_a_request_has_two_tokens() {
    let mut configuration = configuration();
    let subject = json!({"type": "id_token", "header": "x-id-token", "audiences": ["login-client"]});
    configuration["identity_providers"]["okta-eu"]["subject_token"] = subject;
    let mut engine = TestEngine::new(&configuration).with_keys();
    let id_token = OKTA_KEY.token(&with(bob_id(), json!({"exp": NOW.secs() + 28})));
    // Each request has another access token.
    let request_at = |second: u64| {
        let access_token = OKTA_KEY.token(&with(bob(), json!({"jti": format!("AT.{second}")})));
        let fields = [("authorization", format!("Bearer {access_token}")), ("x-id-token", id_token.clone())];
        request("POST", "/github", &fields.each_ref().map(|(name, value)| (*name, value.as_str())))
    };
    authorization(engine.exchange(request_at(0), &issued("up")));
    for second in 1..88 {
        engine.advance(1);
        assert_eq!(authorization(engine.decide(request_at(second))), "Bearer up", "{second}");
    }
    engine.advance(1);
    assert_eq!(refused(engine.decide(request_at(88))), (401, "subject_token_invalid".to_owned()));
    engine.expect_no_call();
}

#[test]
fn short_lived_tokens_are_exchanged_each_time_they_expire() {
    let of = |seconds: u64| move |_: u64| json!({"expires_in": seconds});
    // A quarter of a short token's lifetime is left for the renewal, if the next token may last a minute longer.
    assert_eq!(exchanges_of(600, 120, of(60)), 2, "one, and one ahead");
    // Near the end of the subject token, each token is used to its end.
    assert_eq!(exchanges_of(30, 56, of(7)), 4);
    assert_eq!(exchanges_of(30, 57, of(7)), 5);
    assert_eq!(exchanges_of(60, 120, of(60)), 1);
}

#[test]
fn exchanged_tokens_stay_within_the_byte_limit() {
    let mut configuration = configuration();
    configuration["cache"] = json!({"exchanged_bytes": 100_000, "shared_tokens": 0});
    let mut engine = TestEngine::new(&configuration).with_keys();
    let up = |user: usize| format!("{user}-{}", "t".repeat(20_000));
    let token = |user: usize| entra_user(&format!("u{user}"));
    let exchange = |engine: &mut TestEngine, user: usize, up: &str| {
        drop(engine.exchange(bearer("/github", &token(user)), &issued(up)))
    };
    for user in 0..20 {
        exchange(&mut engine, user, &up(user));
    }
    for user in 16..20 {
        assert_eq!(authorization(engine.decide(bearer("/github", &token(user)))), format!("Bearer {}", up(user)));
    }
    for user in [0, 15] {
        engine.send_waiting(bearer("/github", &token(user)));
    }
    // The cache holds the same entries, and a refusal in place of a token.
    let denied = answer_with(400, &[], &json!({"error": "access_denied"}));
    let mut engine = TestEngine::new(&configuration).with_keys();
    let short = answer_with(200, &[], &json!({"access_token": up(1), "token_type": "Bearer", "expires_in": 60}));
    for _ in 0..20 {
        drop(engine.exchange(bearer("/github", &token(1)), &denied));
        engine.advance(61);
        drop(engine.exchange(bearer("/github", &token(1)), &short));
        engine.advance(61);
    }
    exchange(&mut engine, 1, &up(1));
    for user in 2..5 {
        exchange(&mut engine, user, &up(user));
    }
    for user in 1..5 {
        assert_eq!(authorization(engine.decide(bearer("/github", &token(user)))), format!("Bearer {}", up(user)));
    }
    // A token larger than the limit still serves the requests that wait for it.
    configuration["cache"]["exchanged_bytes"] = json!(0);
    let mut engine = TestEngine::new(&configuration).with_keys();
    let waiting = [(); 3].map(|()| engine.send_waiting(bearer("/github", &token(1))));
    let (flight, _) = engine.expect_call();
    let steps = engine.callout_result(flight, &issued(&up(1)));
    assert_eq!(steps.len(), waiting.len());
    engine.expect_no_call();
}

#[test]
fn token_that_expires_at_once_still_serves_waiting_requests() {
    let reply = answer_with(200, &[], &json!({"access_token": "up", "token_type": "Bearer", "expires_in": 1}));
    assert_eq!(authorization(TestEngine::ready().exchange(bearer("/github", &alice_token()), &reply)), "Bearer up");
    let almost_over = ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() - 30})));
    assert_eq!(
        authorization(TestEngine::ready().exchange(bearer("/github", &almost_over), &issued("up"))),
        "Bearer up"
    );
}

#[test]
fn request_that_waits_for_a_slow_response_gets_its_token() {
    let slow = |body: Value| {
        let mut engine = TestEngine::ready();
        engine.send_waiting(bearer("/github", &alice_token()));
        let (flight, _) = engine.expect_call();
        engine.advance(9);
        let steps = engine.callout_result(flight, &answer_with(200, &[], &body));
        (engine, steps)
    };
    let good_for = |seconds: u64| json!({"access_token": "up", "token_type": "Bearer", "expires_in": seconds});
    // A lifetime begins with the response, which arrives after the request for it.
    for (seconds, used_for) in [(1, 999), (5, 999), (10, 999), (20, 6000), (600, 561_000)] {
        let (mut engine, steps) = slow(good_for(seconds));
        assert_eq!(authorization(steps.into_iter().next().unwrap().1), "Bearer up", "{seconds}");
        let landed = engine.now;
        engine.now = landed.plus(Duration::from_millis(used_for - 1));
        assert!(!is_exchanged_again(&mut engine, &alice_token()), "{seconds}");
        engine.now = landed.plus(Duration::from_millis(used_for + 1));
        assert!(is_exchanged_again(&mut engine, &alice_token()), "{seconds}");
    }
    // The `exp` of a token counts to the millisecond.
    let exp = (NOW.millis() + 9400) as f64 / 1000.0;
    let token = ENTRA_KEY.token(&json!({"aud": "api://github", "exp": exp}));
    let (mut engine, steps) = slow(with(good_for(600), json!({"access_token": token})));
    assert_eq!(authorization(steps.into_iter().next().unwrap().1), format!("Bearer {token}"));
    engine.now = engine.now.plus(Duration::from_millis(401));
    assert!(is_exchanged_again(&mut engine, &alice_token()));
}

#[test]
fn negative_cache_lifetime_depends_on_the_refusal() {
    let with_page = json!({"error": "interaction_required", "interaction_uri": "https://login.entra.example/consent"});
    let cases: [(Value, u16, u64); 6] = [
        (json!({"error": "invalid_grant"}), 400, 30),
        (json!({"error": "interaction_required"}), 400, 120),
        (with_page, 400, 10),
        (json!({"error": "access_denied"}), 400, 60),
        (json!({"error": "invalid_client"}), 401, 30),
        (json!({}), 503, 1),
    ];
    for (body, status, seconds) in cases {
        let mut engine = TestEngine::ready();
        let token = alice_token();
        let first = refused(engine.exchange(bearer("/github", &token), &answer_with(status, &[], &body)));
        engine.advance(seconds - 1);
        assert_eq!(refused(engine.decide(bearer("/github", &token))), first);
        engine.expect_no_call();
        engine.advance(1);
        assert!(is_exchanged_again(&mut engine, &token), "{body}");
    }
}

#[test]
fn retry_after_counts_down() {
    let mut engine = TestEngine::ready();
    let reply = answer_with(429, &[("retry-after", "20")], &json!({}));
    let token = alice_token();
    refused(engine.exchange(bearer("/github", &token), &reply));
    engine.advance(5);
    assert_eq!(header(&answered(engine.decide(bearer("/github", &token))), "retry-after"), Some("15"));
}

#[test]
fn refusal_of_one_user_does_not_affect_another() {
    let mut engine = TestEngine::ready();
    refused(engine.exchange(
        bearer("/github", &alice_token()),
        &answer_with(400, &[], &json!({"error": "interaction_required"})),
    ));
    let carol = entra_user("carol");
    assert_eq!(authorization(engine.exchange(bearer("/github", &carol), &issued("up"))), "Bearer up");
}

#[test]
fn full_cache_evicts_the_least_recently_used_token() {
    let mut configuration = configuration();
    configuration["cache"] = json!({"verified_tokens": 2, "exchanged_tokens": 2, "shared_tokens": 0});
    let mut engine = TestEngine::new(&configuration).with_keys();
    let tokens = ["a", "b", "c"].map(entra_user);
    authorization(engine.exchange(bearer("/github", &tokens[0]), &issued("0")));
    authorization(engine.exchange(bearer("/github", &tokens[1]), &issued("1")));
    authorization(engine.decide(bearer("/github", &tokens[0])));
    authorization(engine.exchange(bearer("/github", &tokens[2]), &issued("2")));
    assert_eq!(authorization(engine.decide(bearer("/github", &tokens[0]))), "Bearer 0");
    assert!(is_exchanged_again(&mut engine, &tokens[1]));
}

#[test]
fn exchanged_token_is_found_without_a_verified_token_cache() {
    let mut configuration = configuration();
    configuration["cache"] = json!({"verified_tokens": 0});
    let mut engine = TestEngine::new(&configuration).with_keys();
    let token = alice_token();
    authorization(engine.exchange(bearer("/github", &token), &issued("up")));
    assert_eq!(authorization(engine.decide(bearer("/github", &token))), "Bearer up");
}

#[test]
fn throttling_of_two_users_pauses_exchanges_of_all_users() {
    let mut engine = TestEngine::ready();
    authorization(engine.exchange(bearer("/github", &entra_user("early")), &issued("up")));
    let reply = answer_with(429, &[("retry-after", "20")], &json!({}));
    for token in [alice_token(), entra_user("second")] {
        assert_eq!(refused(engine.exchange(bearer("/github", &token), &reply)).1, "provider_throttled");
    }

    engine.advance(7);
    let answer = answered(engine.decide(bearer("/github", &entra_user("late"))));
    assert_eq!((answer.status, header(&answer, "retry-after")), (503, Some("13")));
    engine.expect_no_call();
    assert_eq!(
        authorization(engine.decide(bearer("/github", &entra_user("early")))),
        "Bearer up",
        "who has a token goes on"
    );
    authorization(engine.exchange(bearer("/github", &bob_token()), &issued("other")));

    engine.advance(13);
    authorization(engine.exchange(bearer("/github", &entra_user("late")), &issued("late")));
}

#[test]
fn clock_that_goes_back_does_not_prolong_throttling() {
    let mut engine = TestEngine::ready();
    let reply = answer_with(429, &[("retry-after", "60")], &json!({}));
    for user in ["first", "second"] {
        refused(engine.exchange(bearer("/github", &entra_user(user)), &reply));
    }
    engine.now = engine.now.minus(Duration::from_secs(600));
    for user in ["early", "first", "second"] {
        let token = ENTRA_KEY.token(&with(alice(), json!({"oid": user, "iat": null, "nbf": null})));
        authorization(engine.exchange(bearer("/github", &token), &issued("early")));
    }
}

/// An engine, and a subject token that is good for a day.
fn with_a_day() -> (TestEngine, String) {
    let token = alice_day_token();
    (TestEngine::ready(), token)
}

#[test]
fn token_in_use_is_renewed_before_it_expires_without_a_wait() {
    let (mut engine, token) = with_a_day();
    authorization(engine.exchange(bearer("/github", &token), &issued("first")));
    engine.advance(2800);
    assert_eq!(authorization(engine.decide(bearer("/github", &token))), "Bearer first");
    engine.expect_no_call();
    engine.advance(450);
    for _ in 0..3 {
        assert_eq!(authorization(engine.decide(bearer("/github", &token))), "Bearer first");
    }
    let (flight, call) = engine.expect_call();
    assert_eq!((call.method, form(&call)["assertion"].as_str()), ("POST", token.as_str()));
    engine.expect_no_call();
    assert!(engine.callout_result(flight, &issued("second")).is_empty());
    assert_eq!(authorization(engine.decide(bearer("/github", &token))), "Bearer second");
    engine.expect_no_call();
    engine.advance(1500);
    assert_eq!(authorization(engine.decide(bearer("/github", &token))), "Bearer second", "past the end of the first");
    engine.expect_no_call();
}

#[test]
fn refresh_in_sets_the_time_of_the_renewal() {
    let (mut engine, token) = with_a_day();
    let reply = |refresh_in: Value| {
        answer_with(
            200,
            &[],
            &json!({"access_token": "first", "token_type": "Bearer", "expires_in": 3600, "refresh_in": refresh_in}),
        )
    };
    authorization(engine.exchange(bearer("/github", &token), &reply(json!(100))));
    engine.advance(99);
    authorization(engine.decide(bearer("/github", &token)));
    engine.expect_no_call();
    engine.advance(1);
    authorization(engine.decide(bearer("/github", &token)));
    let (flight, _) = engine.expect_call();
    // A `refresh_in` after the expiry or of another type is ignored.
    for odd in [json!(999_999), json!("soon"), json!(-1), json!(null)] {
        let other = entra_user(&odd.to_string());
        authorization(engine.exchange(bearer("/github", &other), &reply(odd)));
    }
    engine.expect_no_call();
    assert!(engine.callout_result(flight, &issued("second")).is_empty());
}

#[test]
fn failed_renewal_keeps_the_token_and_is_retried() {
    let (mut engine, token) = with_a_day();
    authorization(engine.exchange(bearer("/github", &token), &issued("first")));
    engine.advance(2850);
    let mut calls = 0;
    // The token is used until 30 seconds before the hour.
    for _ in 2850..3569 {
        assert_eq!(authorization(engine.decide(bearer("/github", &token))), "Bearer first");
        while let Some((flight, _)) = engine.inner.next_callout() {
            calls += 1;
            assert!(engine.callout_result(flight, &TIMED_OUT).is_empty());
        }
        engine.advance(1);
    }
    assert!((12..=32).contains(&calls), "{calls}");
    engine.advance(2);
    engine.send_waiting(bearer("/github", &token));
}

#[test]
fn token_that_expires_with_its_subject_token_is_not_renewed() {
    let mut engine = TestEngine::ready();
    let token = ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() + 1800})));
    authorization(engine.exchange(bearer("/github", &token), &issued("first")));
    engine.advance(1700);
    assert_eq!(authorization(engine.decide(bearer("/github", &token))), "Bearer first");
    engine.expect_no_call();
}

#[test]
fn renewals_stop_while_a_provider_throttles() {
    let (mut engine, token) = with_a_day();
    authorization(engine.exchange(bearer("/github", &token), &issued("first")));
    engine.advance(3300);
    for user in ["other", "another"] {
        let token = ENTRA_KEY.token(&with(alice(), json!({"oid": user, "exp": engine.now.secs() + 600})));
        let reply = answer_with(429, &[("retry-after", "20")], &json!({}));
        refused(engine.exchange(bearer("/github", &token), &reply));
    }
    assert_eq!(authorization(engine.decide(bearer("/github", &token))), "Bearer first");
    engine.expect_no_call();
    // Requests without a token come before renewals for some seconds.
    engine.advance(20);
    engine.send_waiting(bearer("/github", &entra_user("late")));
    let (flight, _) = engine.expect_call();
    engine.callout_result(flight, &issued("late"));
    engine.advance(30);
    assert_eq!(authorization(engine.decide(bearer("/github", &token))), "Bearer first");
    engine.expect_call();
}

#[test]
fn denied_renewal_ends_the_token() {
    for (body, reason) in [
        ("invalid_grant", "exchange_rejected"),
        ("interaction_required", "interaction_required"),
        ("access_denied", "exchange_denied"),
    ] {
        let (mut engine, token) = with_a_day();
        authorization(engine.exchange(bearer("/github", &token), &issued("first")));
        engine.advance(3300);
        authorization(engine.decide(bearer("/github", &token)));
        let (flight, _) = engine.expect_call();
        assert!(engine.callout_result(flight, &answer_with(400, &[], &json!({"error": body}))).is_empty());
        assert_eq!(refused(engine.decide(bearer("/github", &token))).1, reason);
    }
}

#[test]
fn renewal_does_not_replace_a_token_that_lasts_longer() {
    let (mut engine, token) = with_a_day();
    let lasting = |token: &str, seconds: u64, refresh_in: u64| {
        answer_with(
            200,
            &[],
            &json!({"access_token": token, "token_type": "Bearer", "expires_in": seconds, "refresh_in": refresh_in}),
        )
    };
    authorization(engine.exchange(bearer("/github", &token), &lasting("first", 7200, 100)));
    engine.advance(100);
    authorization(engine.decide(bearer("/github", &token)));
    let (flight, _) = engine.expect_call();
    engine.callout_result(flight, &lasting("shorter", 60, 1));
    // The renewal is not repeated at each request either.
    for _ in 0..9 {
        assert_eq!(authorization(engine.decide(bearer("/github", &token))), "Bearer first");
        engine.expect_no_call();
        engine.advance(1);
    }
    let mut short = TestEngine::ready();
    authorization(short.exchange(bearer("/github", &token), &lasting("short", 5, 1)));
    short.advance(2);
    assert_eq!(authorization(short.decide(bearer("/github", &token))), "Bearer short");
    short.expect_no_call();
}

#[test]
fn next_token_that_expires_sooner_postpones_the_renewal() {
    let (mut engine, token) = with_a_day();
    let good_for = |token: &str, seconds: u64| {
        answer_with(200, &[], &json!({"access_token": token, "token_type": "Bearer", "expires_in": seconds}))
    };
    authorization(engine.exchange(bearer("/github", &token), &good_for("first", 3600)));
    let mut renewals = Vec::new();
    // The first token is used until 30 seconds before the hour, and a token of 100 seconds until a quarter of it is
    // left.
    for second in 2800..3570 {
        engine.now = NOW.plus(Duration::from_secs(second));
        assert_eq!(authorization(engine.decide(bearer("/github", &token))), "Bearer first");
        while let Some((flight, _)) = engine.inner.next_callout() {
            renewals.push(second);
            assert!(engine.callout_result(flight, &good_for("next", 100)).is_empty());
        }
        if renewals.len() == 2 {
            break;
        }
    }
    assert!((2850..3250).contains(&renewals[0]), "{renewals:?}");
    assert_eq!(renewals[1..], [3555], "a fifth of its 75 seconds before the end of the other");
    assert_eq!(authorization(engine.decide(bearer("/github", &token))), "Bearer next");
}

#[test]
fn concurrent_renewals_are_limited() {
    let mut engine = TestEngine::ready();
    let tokens: Vec<String> = (0..100)
        .map(|user| ENTRA_KEY.token(&with(alice(), json!({"oid": format!("u{user}"), "exp": NOW.secs() + 86_400}))))
        .collect();
    for token in &tokens {
        authorization(engine.exchange(bearer("/github", token), &issued("first")));
    }
    engine.advance(3300);
    for token in &tokens {
        authorization(engine.decide(bearer("/github", token)));
    }
    let calls: Vec<_> = std::iter::from_fn(|| engine.inner.next_callout()).collect();
    assert_eq!(calls.len(), 32);
    for (flight, _) in calls {
        engine.callout_result(flight, &issued("second"));
    }
    authorization(engine.decide(bearer("/github", &tokens[99])));
    engine.expect_call();
}

#[test]
fn longer_pause_of_two_throttling_responses_counts() {
    let mut engine = TestEngine::ready();
    let mut flights = Vec::new();
    for user in ["one", "two"] {
        engine.send_waiting(bearer("/github", &entra_user(user)));
        flights.push(engine.inner.next_callout().unwrap().0);
    }
    for (flight, pause) in flights.into_iter().zip(["40", "5"]) {
        engine.callout_result(flight, &answer_with(429, &[("retry-after", pause)], &json!({})));
    }
    let answer = answered(engine.decide(bearer("/github", &alice_token())));
    assert_eq!(header(&answer, "retry-after"), Some("40"));
}
