//! Attacks by a caller or a provider on others, and ways around the rules, found in review.

use std::time::Duration;

use onbehalf::config::Config;
use onbehalf::engine::Decision;
use serde_json::{Value, json};

use onbehalf_test_support::{
    ENTRA_KEY, NOW, OKTA, OKTA_KEY, OTHER_KEY, TestEngine, alice, alice_day_token, alice_token, answer, authorization,
    base64url, bearer, bob, bob_id, bob_token, configuration, entra_user, environment, forwarded, issued,
    provider_document, refused, request, with,
};

fn unsigned(issuer: &str) -> String {
    let encode = |part: Value| base64url(part.to_string());
    format!(
        "{}.{}.AAAA",
        encode(json!({"alg": "ES256", "kid": "x"})),
        encode(if issuer == OKTA { bob() } else { alice() })
    )
}

fn with_id_token(source: &str) -> TestEngine {
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"]["subject_token"] =
        json!({"type": "id_token", source: "idt", "audiences": ["login-client"]});
    TestEngine::new(&configuration).with_keys()
}

#[test]
fn escaped_character_does_not_select_the_shorter_resource() {
    let mut configuration = configuration();
    configuration["resources"][1]["url"] = json!("https://mcp.acme.example/github/@admin");
    let mut engine = TestEngine::new(&configuration).with_keys();
    // Envoy routes `%40` as it is written, without `normalize_path` `%61` as well, and others decode them first.
    for (path, reason) in [
        ("/github/@admin", "insufficient_scope"),
        ("/github/@%61dmin/x", "ambiguous_path"),
        ("/github/%40admin", "ambiguous_path"),
        ("/github/%40%61dmin/x", "ambiguous_path"),
    ] {
        assert_eq!(refused(engine.decide(bearer(path, &alice_token()))).1, reason, "{path}");
    }
    let step = engine.decide(bearer("/github/%40x", &alice_token()));
    assert!(matches!(step, Decision::Pause), "both readings are of one resource");
}

#[test]
fn fragment_does_not_make_a_path_open() {
    let step = TestEngine::ready().decide(request("GET", "/healthz#/../github/admin", &[]));
    assert_eq!(refused(step).1, "ambiguous_path");
}

#[test]
fn token_in_the_query_of_an_unauthenticated_path_is_refused() {
    let step = TestEngine::ready().decide(request("GET", &format!("/healthz?access_token={}", alice_token()), &[]));
    assert_eq!(refused(step).1, "multiple_credentials");
}

#[test]
fn forged_tokens_of_one_provider_leave_room_for_users_of_another() {
    let mut engine = TestEngine::new(&configuration());
    engine.tick();
    while let Some((flight, call)) = engine.inner.next_callout() {
        if call.url.as_str().contains("entra") {
            engine.callout_result(flight, &provider_document(&call));
        }
    }
    for _ in 0..2000 {
        drop(engine.send(bearer("/github", &unsigned(OKTA))));
    }
    assert_eq!(engine.inner.waiting(), 256);
    engine.send_waiting(bearer("/github", &alice_token()));
}

#[test]
fn one_user_does_not_fill_the_waiting_list() {
    let mut engine = TestEngine::ready();
    let token = entra_user("mallory");
    for _ in 0..2000 {
        drop(engine.send(bearer("/github", &token)));
    }
    engine.send_waiting(bearer("/github", &alice_token()));
}

#[test]
fn overloaded_worker_still_fetches_a_new_key_afterwards() {
    let mut engine = TestEngine::ready();
    for user in 0..1024 {
        engine.send_waiting(bearer("/github", &entra_user(&format!("u{user}"))));
    }
    let unknown = OTHER_KEY.token(&alice());
    assert_eq!(refused(engine.decide(bearer("/github", &unknown))).1, "overloaded");
    let (flight, _) = engine.expect_call();
    engine.callout_result(flight, &issued("up"));
    engine.send_waiting(bearer("/github", &unknown));
}

#[test]
fn disconnected_clients_take_no_place_of_requests_for_a_new_key() {
    let mut engine = TestEngine::ready();
    let forged = ENTRA_KEY.sign(&json!({"alg": "ES256", "kid": "forged"}), &alice());
    for _ in 0..64 {
        let id = engine.send_waiting(bearer("/github", &forged));
        engine.inner.request_closed(id);
    }
    engine.send_waiting(bearer("/github", &OTHER_KEY.token(&alice())));
}

#[test]
fn keys_that_cannot_be_refreshed_are_trusted_up_to_their_maximum_age() {
    let mut configuration = configuration();
    configuration["identity_providers"]["entra-us"]["jwks_max_age_seconds"] = json!(86_400);
    let mut engine = TestEngine::new(&configuration).with_keys();
    let refresh = |engine: &mut TestEngine| {
        engine.tick();
        while let Some((flight, call)) = engine.inner.next_callout() {
            let is_keys = call.url.as_str().ends_with("keys");
            let reply = if is_keys { answer(200, br#"{"keys":[]}"#) } else { provider_document(&call) };
            engine.callout_result(flight, &reply);
        }
    };
    let token = ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() + 200_000})));
    for _ in 0..95 {
        engine.advance(900);
        refresh(&mut engine);
    }
    authorization(engine.exchange(bearer("/github", &token), &issued("up")));
    engine.advance(900 + 1);
    refresh(&mut engine);
    assert_eq!(refused(engine.decide(bearer("/github", &token))), (503, "jwks_unavailable".to_owned()));
}

#[test]
fn secret_in_place_of_a_field_is_not_shown() {
    let mut configuration = configuration();
    for secret in ["hunter", "hunter2~secret", "eyJhbGciOi"] {
        configuration["identity_providers"]["entra-us"]["client"]["authentication"]["secret"] = json!({secret: "x"});
        let error = Config::parse(configuration.to_string().as_bytes(), &environment).unwrap_err();
        assert_eq!(error.path, "identity_providers.entra-us.client.authentication.secret");
        assert!(!error.to_string().contains(secret), "{error}");
    }
}

#[test]
fn secret_in_place_of_a_variable_name_is_not_shown() {
    let mut configuration = configuration();
    for secret in ["hunter2~secret", "hunter2", "eyJhbGciOi"] {
        configuration["identity_providers"]["entra-us"]["client"]["authentication"]["secret"] = json!({"env": secret});
        let error = Config::parse(configuration.to_string().as_bytes(), &environment).unwrap_err().to_string();
        assert!(!error.contains(secret), "{error}");
    }
    configuration["identity_providers"]["entra-us"]["issuer"] = json!("https://user:hunter2@login.example");
    let error = Config::parse(configuration.to_string().as_bytes(), &environment).unwrap_err().to_string();
    assert!(error.contains("identity_providers.entra-us.issuer") && !error.contains("hunter2"), "{error}");
}

#[test]
fn clock_that_went_forward_and_back_keeps_no_token_too_long() {
    let mut engine = TestEngine::ready();
    let token = alice_day_token();
    engine.advance(8 * 3600);
    authorization(engine.exchange(bearer("/github", &token), &issued("up")));
    engine.now = NOW.plus(Duration::from_secs(2 * 3600));
    engine.send_waiting(bearer("/github", &token));
}

#[test]
fn clock_set_back_by_a_moment_keeps_cached_tokens() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    authorization(engine.exchange(bearer("/github", &token), &issued("up")));
    engine.now = NOW.minus(Duration::from_secs(5));
    engine.tick();
    engine.expect_no_call();
    assert_eq!(authorization(engine.decide(bearer("/github", &token))), "Bearer up");
}

#[test]
fn inbound_tokens_that_the_provider_returns_are_not_forwarded() {
    let (access_token, id_token) = (bob_token(), OKTA_KEY.token(&bob_id()));
    let fields = [("authorization", format!("Bearer {access_token}")), ("idt", id_token)];
    let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
    for handed_back in fields.map(|(_, value)| value.trim_start_matches("Bearer ")) {
        let step = with_id_token("header").exchange(request("POST", "/github", &fields), &issued(handed_back));
        assert_eq!(refused(step).1, "provider_answer_invalid");
    }
}

#[test]
fn cookie_with_white_space_around_its_name_is_removed() {
    let id_token = OKTA_KEY.token(&bob_id());
    let authorization = format!("Bearer {}", bob_token());
    let cookie = |text: &str| text.replace("ID", &id_token);
    let fields = |cookie: &str| request("POST", "/github", &[("authorization", &authorization), ("cookie", cookie)]);
    let edits = forwarded(with_id_token("cookie").exchange(fields(&cookie("a=b;idt =ID ; idtx=y")), &issued("up")));
    assert_eq!(edits.cookie.as_deref(), Some(&b"a=b; idtx=y"[..]));
    let twice = with_id_token("cookie").decide(fields(&cookie("idt=ID; idt =ID")));
    assert_eq!(refused(twice).1, "subject_token_missing");
}

#[test]
fn issued_token_of_more_than_32_kib_is_refused() {
    let token = |length: usize| issued(&"a".repeat(length));
    authorization(TestEngine::ready().exchange(bearer("/github", &alice_token()), &token(32 * 1024)));
    let step = TestEngine::ready().exchange(bearer("/github", &alice_token()), &token(32 * 1024 + 1));
    assert_eq!(refused(step).1, "provider_answer_invalid");
}

#[test]
fn application_token_is_refused_at_an_rfc8693_server() {
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"]["profile"] = json!("rfc8693");
    for client in ["client_id", "azp"] {
        let claims = with(bob(), json!({"sub": "service", client: "service"}));
        let step = TestEngine::new(&configuration).with_keys().decide(bearer("/github", &OKTA_KEY.token(&claims)));
        assert_eq!(refused(step).1, "not_a_user_token", "{client}");
    }
}

#[test]
fn headers_that_choose_another_path_are_removed() {
    let authorization = format!("Bearer {}", alice_token());
    let fields = [("authorization", authorization.as_str()), ("x-original-url", "/admin"), ("x-rewrite-url", "/admin")];
    let edits = forwarded(TestEngine::ready().exchange(request("POST", "/github", &fields), &issued("up")));
    assert_eq!(edits.remove, ["x-original-url", "x-rewrite-url"]);
}
