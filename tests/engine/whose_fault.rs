//! Verdicts on failed exchanges: who must act after what products answer, for an Entra, an Okta and a plain profile of RFC 8693.

use onbehalf::http::CalloutResult;
use onbehalf_test_support::{
    ENTRA_KEY, NOW, OKTA_KEY, SharedMap, TestEngine, alice, answer, answer_with, answered, authorization, bearer, bob,
    configuration, environment, form, header, issued, log_facts, reason, refused, with,
};
use serde_json::{Value, json};

const TOKEN: (u16, &str) = (401, "exchange_rejected");
const USER: (u16, &str) = (403, "interaction_required");
const DENIED: (u16, &str) = (403, "exchange_denied");
const OPERATOR: (u16, &str) = (502, "exchange_misconfigured");
const THROTTLED: (u16, &str) = (503, "provider_throttled");
const UNAVAILABLE: (u16, &str) = (503, "provider_unavailable");

/// Returns the configuration whose Okta has another profile.
fn with_profile(profile: &str) -> Value {
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"]["profile"] = json!(profile);
    configuration
}

fn token(profile: &str, user: &str) -> String {
    match profile {
        "entra_obo" => ENTRA_KEY.token(&with(alice(), json!({"oid": user}))),
        _ => OKTA_KEY.token(&with(bob(), json!({"sub": user, "uid": user}))),
    }
}

/// Returns status, reason and responsible party of an exchange that fails.
fn fault(profile: &str, reply: &CalloutResult) -> (u16, String, String) {
    let configuration = if profile == "entra_obo" { configuration() } else { with_profile(profile) };
    let mut engine = TestEngine::new(&configuration).with_keys();
    let local_reply = answered(engine.exchange(bearer("/github", &token(profile, "user")), reply));
    let (status, reason) = reason(&local_reply);
    (status, reason, log_facts(&local_reply.record.to_string())["responsible"].clone())
}

/// Checks a row for each profile.
fn check(profiles: &[&str], status: u16, body: &Value, expected: (u16, &str), responsible: &str) {
    for profile in profiles {
        let (expected_status, reason) = expected;
        assert_eq!(
            fault(profile, &answer_with(status, &[], body)),
            (expected_status, reason.to_owned(), responsible.to_owned()),
            "{profile}: {status} {body}"
        );
    }
}

const ALL: &[&str] = &["entra_obo", "okta_obo", "rfc8693"];

#[test]
fn token_that_the_provider_calls_invalid_is_the_callers_fault() {
    for error in ["invalid_token", "expired_token", "token_expired", "token_inactive"] {
        for status in [400, 401, 403] {
            check(ALL, status, &json!({"error": error, "error_description": "x"}), TOKEN, "user");
        }
    }
    check(ALL, 400, &json!({"error": "invalid_grant"}), TOKEN, "user");
    // Auth0, for a refresh token that is not known any more.
    check(&["rfc8693"], 401, &json!({"error": "invalid_grant"}), TOKEN, "user");
    check(&["rfc8693"], 403, &json!({"error": "invalid_grant"}), TOKEN, "user");
}

#[test]
fn status_401_of_a_token_endpoint_is_failed_client_authentication() {
    let keycloak =
        json!({"error": "unauthorized_client", "error_description": "Invalid client or Invalid client credentials"});
    let auth0 = json!({"error": "access_denied", "error_description": "Unauthorized"});
    for body in [keycloak, json!({"error": "invalid_request"}), json!({"error": "of_no_known_name"}), json!({})] {
        check(ALL, 401, &body, OPERATOR, "operator");
    }
    check(&["entra_obo", "rfc8693"], 401, &auth0, OPERATOR, "operator");
    // No rule of an access policy: the one exception.
    check(&["okta_obo"], 401, &auth0, OPERATOR, "admin");
    // Keycloak before version 20.
    check(ALL, 400, &json!({"error": "invalid_client"}), OPERATOR, "operator");
}

#[test]
fn previous_secret_is_tried_after_any_failed_client_authentication() {
    let calls = |reply: &CalloutResult| {
        let mut configuration = with_profile("rfc8693");
        configuration["identity_providers"]["okta-eu"]["client"]["authentication"] = json!({
            "method": "client_secret_post", "secret": {"inline": "new"}, "previous_secret": {"inline": "old"}});
        let mut engine = TestEngine::new(&configuration).with_keys();
        engine.send_waiting(bearer("/github", &token("rfc8693", "user")));
        let mut secrets = Vec::new();
        for _ in 0..2 {
            let (flight, call) = engine.expect_call();
            secrets.push(form(&call)["client_secret"].clone());
            if !engine.callout_result(flight, reply).is_empty() {
                break;
            }
        }
        engine.expect_no_call();
        secrets
    };
    let error = |status: u16, error: &str| answer_with(status, &[], &json!({"error": error}));
    let refused = [
        error(401, "unauthorized_client"),
        error(401, "access_denied"),
        error(401, "invalid_request"),
        error(400, "invalid_client"),
        answer(401, b""),
        answer(401, b"<html>"),
    ];
    for (index, reply) in refused.iter().enumerate() {
        assert_eq!(calls(reply), ["new", "old"], "{index}");
    }
    let others = [
        error(401, "invalid_token"),
        error(401, "mfa_required"),
        error(401, "invalid_dpop_proof"),
        error(400, "unauthorized_client"),
        error(403, "access_denied"),
        error(429, "invalid_client"),
        answer(403, b""),
    ];
    for (index, reply) in others.iter().enumerate() {
        assert_eq!(calls(reply), ["new"], "{index}");
    }
}

#[test]
fn step_up_is_for_the_user_whatever_the_status() {
    for error in [
        "mfa_required",
        "mfa_registration_required",
        "insufficient_user_authentication",
        "unmet_authentication_requirements",
        "login_required",
        "interaction_required",
        "account_selection_required",
    ] {
        for status in [400, 401, 403] {
            check(ALL, status, &json!({"error": error, "mfa_token": "x"}), USER, "user");
        }
    }
}

#[test]
fn refusal_of_client_or_target_is_not_the_users_fault() {
    for description in ["Client is not within the token audience", "Service not found: https://api.example"] {
        let body = json!({"error": "access_denied", "error_description": description});
        check(ALL, 403, &body, OPERATOR, "admin");
    }
    let reply = answer_with(403, &[], &json!({"error": "access_denied"}));
    let mut engine = TestEngine::new(&with_profile("rfc8693")).with_keys();
    let record = answered(engine.exchange(bearer("/github", &token("rfc8693", "user")), &reply)).record.to_string();
    let remedy = &log_facts(&record)["remedy"];
    assert!(remedy.contains("aud") && remedy.contains("client.id"), "{remedy}");
    check(ALL, 400, &json!({"error": "access_denied"}), DENIED, "admin");
}

#[test]
fn transient_answers_are_passed_on_with_retry_after() {
    for profile in ALL {
        let pause = |status: u16, fields: &[(&str, &str)], body: &Value| {
            let configuration = if *profile == "entra_obo" { configuration() } else { with_profile(profile) };
            let mut engine = TestEngine::new(&configuration).with_keys();
            let reply = answer_with(status, fields, body);
            let local_reply = answered(engine.exchange(bearer("/github", &token(profile, "user")), &reply));
            (reason(&local_reply), header(&local_reply, "retry-after").map(str::to_owned))
        };
        for status in [408, 421, 425, 500, 502, 599] {
            let (found, pause) = pause(status, &[("retry-after", "7")], &json!({}));
            assert_eq!((found.0, &*found.1, pause.as_deref()), (503, UNAVAILABLE.1, Some("7")), "{profile} {status}");
        }
        for status in [301, 408, 421, 425, 503] {
            let (found, pause) = pause(status, &[], &json!({"error": "invalid_grant"}));
            assert_eq!((found.0, &*found.1, pause.as_deref()), (503, UNAVAILABLE.1, Some("1")), "{profile} {status}");
        }
        for error in ["slow_down", "rate_limit_exceeded", "rate_limited", "too_many_requests"] {
            for status in [400, 401, 403, 429] {
                let (found, pause) = pause(status, &[], &json!({"error": error}));
                assert_eq!((found.0, &*found.1, pause.as_deref()), (503, THROTTLED.1, Some("10")), "{profile} {error}");
            }
        }
        let later = (NOW.secs() + 25).to_string();
        for (field, value, seconds) in [
            ("ratelimit-reset", "20", "20"),
            ("ratelimit-reset", &*later, "25"),
            ("x-ratelimit-reset", "20", "20"),
            ("x-ratelimit-reset", &*later, "25"),
            ("x-ratelimit-reset", "19.5", "19"),
            ("x-ratelimit-reset", "0", "1"),
            ("x-ratelimit-reset", "999999999", "120"),
            ("x-ratelimit-reset", "1700000000", "1"),
            ("x-ratelimit-reset", "18446744073709551615", "120"),
            ("x-ratelimit-reset", "-5", "10"),
            ("x-ratelimit-reset", "Tue Feb 16 2021", "10"),
        ] {
            let (_, pause) = pause(429, &[(field, value)], &json!({}));
            assert_eq!(pause.as_deref(), Some(seconds), "{profile} {field}: {value}");
        }
        let both = pause(429, &[("x-ratelimit-reset", "20"), ("retry-after", "3")], &json!({}));
        assert_eq!(both.1.as_deref(), Some("3"));
    }
}

#[test]
fn window_of_a_rate_limit_does_not_prolong_another_failure() {
    let mut engine = TestEngine::new(&with_profile("rfc8693")).with_keys();
    let user = token("rfc8693", "user");
    // Auth0 sends the window with every response.
    let reply = answer_with(400, &[("x-ratelimit-reset", "100")], &json!({"error": "invalid_grant"}));
    assert_eq!(refused(engine.exchange(bearer("/github", &user), &reply)).1, TOKEN.1);
    engine.advance(31);
    engine.send_waiting(bearer("/github", &user));
    engine.expect_call();
}

#[test]
fn claims_in_an_answer_are_for_the_user() {
    let claims = r#"{"access_token":{"capolids":{"essential":true,"values":["1"]}}}"#;
    let body = json!({"error": "invalid_grant", "error_codes": [50076], "claims": claims});
    check(ALL, 400, &body, USER, "user");
    let challenged = |body: &Value| {
        let capable = ENTRA_KEY.token(&with(alice(), json!({"xms_cc": ["cp1"]})));
        let local_reply =
            answered(TestEngine::ready().exchange(bearer("/github", &capable), &answer_with(400, &[], body)));
        let challenge = header(&local_reply, "www-authenticate").unwrap_or_default().to_owned();
        (local_reply.status, challenge.contains("insufficient_claims") && challenge.contains("claims="))
    };
    assert_eq!(challenged(&body), (401, true));
    for suberror in ["basic_action", "additional_action", "message_only", "bad_token", "of_no_known_name"] {
        assert_eq!(challenged(&with(body.clone(), json!({"suberror": suberror}))), (401, true), "{suberror}");
    }
    for error in ["invalid_token", "expired_token", "token_expired", "token_inactive", "invalid_grant"] {
        for status in [400, 401, 403] {
            check(ALL, status, &json!({"error": error, "claims": claims}), USER, "user");
        }
        assert_eq!(challenged(&json!({"error": error, "claims": claims})), (401, true), "{error}");
    }
    for error in ["access_denied", "invalid_request", "unauthorized_client", "of_no_known_name"] {
        check(&["entra_obo", "rfc8693"], 400, &json!({"error": error, "claims": claims}), USER, "user");
        check(&["entra_obo", "rfc8693"], 403, &json!({"error": error, "claims": claims}), USER, "user");
    }
    // A challenge that cannot be passed on is none.
    for odd in
        [json!("{"), json!("[]"), json!({"access_token": {}}), json!(format!("{{\"a\":\"{}\"}}", "a".repeat(4096)))]
    {
        check(ALL, 400, &json!({"error": "invalid_grant", "claims": odd}), TOKEN, "user");
    }
    // Claims do not excuse a wrong secret, a wrong proof, an outage or a rate limit.
    for (status, error) in
        [(400, "invalid_client"), (401, "invalid_client"), (401, "unauthorized_client"), (400, "invalid_dpop_proof")]
    {
        check(ALL, status, &json!({"error": error, "claims": claims}), OPERATOR, "operator");
    }
    check(ALL, 503, &json!({"error": "invalid_token", "claims": claims}), UNAVAILABLE, "provider");
    check(ALL, 429, &json!({"error": "invalid_grant", "claims": claims}), THROTTLED, "provider");
}

#[test]
fn suberror_for_which_no_sign_in_helps_causes_none() {
    let claims = r#"{"access_token":{"capolids":{"essential":true,"values":["1"]}}}"#;
    for more in [json!({}), json!({"claims": claims})] {
        let entra = |error: &str, suberror: &str, expected: (u16, &str), responsible: &str| {
            let body = with(json!({"error": error, "suberror": suberror}), more.clone());
            check(&["entra_obo"], 400, &body, expected, responsible);
            let capable = ENTRA_KEY.token(&with(alice(), json!({"xms_cc": ["cp1"]})));
            let outcome = TestEngine::ready().exchange(bearer("/github", &capable), &answer_with(400, &[], &body));
            assert_eq!(header(&answered(outcome), "www-authenticate"), None, "{body}");
        };
        // The grant is of another client, which a new token of the same client does not change.
        entra("invalid_grant", "client_mismatch", OPERATOR, "operator");
        // The user needs another app. Microsoft's libraries and servers spell the value differently.
        for suberror in ["protection_policies_required", "protection_policy_required"] {
            for error in ["invalid_grant", "unauthorized_client"] {
                entra(error, suberror, DENIED, "user");
            }
        }
    }
    // The code says that a sign-in helps.
    let body = json!({"error": "interaction_required", "suberror": "protection_policies_required"});
    check(&["entra_obo"], 400, &body, USER, "user");
}

fn invalid_request() -> CalloutResult {
    answer_with(400, &[], &json!({"error": "invalid_request", "error_description": "Invalid token"}))
}

#[test]
fn invalid_request_is_the_users_only_where_the_exchange_has_worked() {
    for profile in ["okta_obo", "rfc8693"] {
        let mut engine = TestEngine::new(&with_profile(profile)).with_keys();
        let mut outcome =
            |user: &str, reply: &CalloutResult| engine.exchange(bearer("/github", &token(profile, user)), reply);
        assert_eq!(refused(outcome("first", &invalid_request())), (502, OPERATOR.1.to_owned()), "nobody succeeded");
        assert_eq!(authorization(outcome("second", &issued("up"))), "Bearer up");
        let local_reply = answered(outcome("third", &invalid_request()));
        assert_eq!(reason(&local_reply), (401, TOKEN.1.to_owned()), "{profile}");
        assert!(header(&local_reply, "www-authenticate").unwrap().contains("invalid_token"));
        assert_eq!(log_facts(&local_reply.record.to_string())["responsible"], "user");
        // The configuration is loaded anew.
        let mut engine = TestEngine::new(&with_profile(profile)).with_keys();
        let again = engine.exchange(bearer("/github", &token(profile, "third")), &invalid_request());
        assert_eq!(refused(again).1, OPERATOR.1, "{profile}");
    }
}

#[test]
fn known_description_of_another_cause_counts_more_than_a_success() {
    for (profile, description, expected) in [
        ("rfc8693", "Standard token exchange is not enabled for the requested client", OPERATOR.1),
        ("rfc8693", "Requested audience not available: mcp-server", OPERATOR.1),
        ("rfc8693", "Invalid token", TOKEN.1),
        ("rfc8693", "words that nobody knows", TOKEN.1),
        ("okta_obo", "'requested_token_type' is invalid.", OPERATOR.1),
        ("okta_obo", "The value of 'subject_token' is invalid.", TOKEN.1),
    ] {
        let mut engine = TestEngine::new(&with_profile(profile)).with_keys();
        let mut outcome =
            |user: &str, reply: &CalloutResult| engine.exchange(bearer("/github", &token(profile, user)), reply);
        assert_eq!(authorization(outcome("one", &issued("up"))), "Bearer up");
        let reply = answer_with(400, &[], &json!({"error": "invalid_request", "error_description": description}));
        let local_reply = answered(outcome("two", &reply));
        assert_eq!(reason(&local_reply).1, expected, "{profile}: {description}");
        let facts = log_facts(&local_reply.record.to_string());
        assert_eq!(facts["responsible"] == "user", expected == TOKEN.1, "{profile}: {description}");
    }
}

#[test]
fn success_of_another_exchange_proves_nothing() {
    let mut configuration = with_profile("rfc8693");
    configuration["resources"][1]["exchange"]["okta-eu"] = json!({"audience": "other"});
    configuration["resources"][1]["scopes"] = json!([]);
    let mut engine = TestEngine::new(&configuration).with_keys();
    let user = |name: &str| token("rfc8693", name);
    let admin = engine.exchange(bearer("/github/admin", &user("one")), &issued("up"));
    assert_eq!(authorization(admin), "Bearer up");
    let entra = engine.exchange(bearer("/github", &token("entra_obo", "alice")), &issued("up"));
    assert_eq!(authorization(entra), "Bearer up");
    let local_reply = engine.exchange(bearer("/github", &user("two")), &invalid_request());
    assert_eq!(refused(local_reply).1, OPERATOR.1);
    let local_reply = engine.exchange(bearer("/github/admin", &user("two")), &invalid_request());
    assert_eq!(refused(local_reply).1, TOKEN.1);
}

#[test]
fn invalid_request_is_not_the_users_where_something_else_may_be_wrong() {
    // RFC 7523 section 3.1 has `invalid_grant` for an invalid assertion.
    let mut engine = TestEngine::ready();
    let mut outcome =
        |user: &str, reply: &CalloutResult| engine.exchange(bearer("/github", &token("entra_obo", user)), reply);
    assert_eq!(authorization(outcome("one", &issued("up"))), "Bearer up");
    assert_eq!(refused(outcome("two", &invalid_request())).1, OPERATOR.1);
    // The actor token may have expired, and it is the same for every user.
    let mut configuration = with_profile("rfc8693");
    configuration["resources"][0]["exchange"]["okta-eu"]["actor_token"] =
        json!({"env": "ACTOR", "type": "urn:ietf:params:oauth:token-type:access_token"});
    let environment = |name: &str| if name == "ACTOR" { Some("actor".to_owned()) } else { environment(name) };
    let mut engine = TestEngine::with_environment(&configuration, &environment).with_keys();
    let mut outcome =
        |user: &str, reply: &CalloutResult| engine.exchange(bearer("/github", &token("rfc8693", user)), reply);
    assert_eq!(authorization(outcome("one", &issued("up"))), "Bearer up");
    assert_eq!(refused(outcome("two", &invalid_request())).1, OPERATOR.1);
}

#[test]
fn invalid_tokens_of_many_users_open_no_circuit_for_others() {
    let mut engine = TestEngine::new(&with_profile("rfc8693")).with_keys();
    let mut outcome =
        |user: &str, reply: &CalloutResult| engine.exchange(bearer("/github", &token("rfc8693", user)), reply);
    assert_eq!(authorization(outcome("good", &issued("up"))), "Bearer up");
    for user in 0..20 {
        assert_eq!(refused(outcome(&format!("user{user}"), &invalid_request())).1, TOKEN.1);
    }
    assert_eq!(authorization(outcome("other", &issued("up-2"))), "Bearer up-2");
}

#[test]
fn token_that_another_worker_shared_is_evidence_too() {
    let shared = SharedMap::default();
    let [mut first, mut second] = TestEngine::workers(&with_profile("rfc8693"), &shared);
    let request = |user: &str| bearer("/github", &token("rfc8693", user));
    assert_eq!(authorization(first.exchange(request("one"), &issued("up"))), "Bearer up");
    assert_eq!(refused(second.exchange(request("two"), &invalid_request())).1, OPERATOR.1, "nothing was shared yet");
    assert_eq!(authorization(second.decide(request("one"))), "Bearer up");
    assert_eq!(refused(second.exchange(request("three"), &invalid_request())).1, TOKEN.1);
}
