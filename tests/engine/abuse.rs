//! What a caller or a provider could do to others, or get past the rules, found in review.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use onbehalf::config::Config;
use serde_json::{Value, json};

use crate::support::*;

fn unsigned(issuer: &str) -> String {
    let encode = |part: Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
    format!(
        "{}.{}.AAAA",
        encode(json!({"alg": "ES256", "kid": "x"})),
        encode(if issuer == OKTA { bob() } else { alice() })
    )
}

fn with_id_token(source: &str) -> Bench {
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"]["subject_token"] =
        json!({"type": "id_token", source: "idt", "audiences": ["login-client"]});
    Bench::new(&configuration).with_keys()
}

#[test]
fn an_escaped_character_does_not_pick_the_shorter_resource() {
    let mut configuration = configuration();
    configuration["resources"][1]["url"] = json!("https://mcp.acme.example/github/@admin");
    let mut bench = Bench::new(&configuration).with_keys();
    for path in ["/github/@admin", "/github/%40admin", "/github/%40%61dmin/x"] {
        assert_eq!(refused(bench.ask(bearer(path, &alice_token()))).1, "insufficient_scope", "{path}");
    }
}

#[test]
fn a_fragment_does_not_make_a_path_an_open_one() {
    let step = Bench::ready().ask(request("GET", "/healthz#/../github/admin", &[]));
    assert_eq!(refused(step).1, "ambiguous_path");
}

#[test]
fn no_token_goes_on_in_the_query_of_an_open_path() {
    let step = Bench::ready().ask(request("GET", &format!("/healthz?access_token={}", alice_token()), &[]));
    assert_eq!(refused(step).1, "several_credentials");
}

#[test]
fn forged_tokens_of_a_provider_without_keys_leave_room_for_the_users_of_another() {
    let mut bench = Bench::new(&configuration());
    bench.tick();
    while let Some((flight, call)) = bench.engine.next_callout() {
        if call.url.as_str().contains("entra") {
            bench.reply(flight, &provider_document(&call));
        }
    }
    for _ in 0..2000 {
        drop(bench.send(bearer("/github", &unsigned(OKTA))));
    }
    assert_eq!(bench.engine.waiting(), 256);
    bench.wait(bearer("/github", &alice_token()));
}

#[test]
fn one_user_does_not_take_every_place() {
    let mut bench = Bench::ready();
    let token = entra_user("mallory");
    for _ in 0..2000 {
        drop(bench.send(bearer("/github", &token)));
    }
    bench.wait(bearer("/github", &alice_token()));
}

#[test]
fn an_overloaded_worker_still_looks_for_a_new_key_afterwards() {
    let mut bench = Bench::ready();
    for user in 0..1024 {
        bench.wait(bearer("/github", &entra_user(&format!("u{user}"))));
    }
    let unknown = OTHER_KEY.token(&alice());
    assert_eq!(refused(bench.ask(bearer("/github", &unknown))).1, "overloaded");
    let (flight, _) = bench.call();
    bench.reply(flight, &issued("up"));
    bench.wait(bearer("/github", &unknown));
}

#[test]
fn those_who_left_take_no_place_of_those_who_wait_for_a_new_key() {
    let mut bench = Bench::ready();
    let forged = ENTRA_KEY.sign(&json!({"alg": "ES256", "kid": "forged"}), &alice());
    for _ in 0..64 {
        let id = bench.wait(bearer("/github", &forged));
        bench.engine.gone(id);
    }
    bench.wait(bearer("/github", &OTHER_KEY.token(&alice())));
}

#[test]
fn keys_that_cannot_be_fetched_again_are_trusted_as_long_as_they_may_be() {
    let mut configuration = configuration();
    configuration["identity_providers"]["entra-us"]["jwks_max_age_seconds"] = json!(86_400);
    let mut bench = Bench::new(&configuration).with_keys();
    let refresh = |bench: &mut Bench| {
        bench.tick();
        while let Some((flight, call)) = bench.engine.next_callout() {
            let is_keys = call.url.as_str().ends_with("keys");
            let reply = if is_keys { answer(200, br#"{"keys":[]}"#) } else { provider_document(&call) };
            bench.reply(flight, &reply);
        }
    };
    let token = ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() + 200_000})));
    for _ in 0..95 {
        bench.advance(900);
        refresh(&mut bench);
    }
    authorization(bench.exchange(bearer("/github", &token), &issued("up")));
    bench.advance(900 + 1);
    refresh(&mut bench);
    assert_eq!(refused(bench.ask(bearer("/github", &token))), (503, "keys_unavailable".to_owned()));
}

#[test]
fn a_secret_in_the_place_of_a_field_is_not_shown() {
    let mut configuration = configuration();
    for secret in ["hunter", "hunter2~secret", "eyJhbGciOi"] {
        configuration["identity_providers"]["entra-us"]["client"]["authentication"]["secret"] = json!({secret: "x"});
        let error = Config::parse(configuration.to_string().as_bytes(), &environment).unwrap_err();
        assert_eq!(error.path, "identity_providers.entra-us.client.authentication.secret");
        assert!(!error.to_string().contains(secret), "{error}");
    }
}

#[test]
fn a_secret_in_the_place_of_its_name_is_not_shown() {
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
fn a_clock_that_went_forward_and_back_keeps_no_token_too_long() {
    let mut bench = Bench::ready();
    let token = ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() + 86_400})));
    bench.advance(8 * 3600);
    authorization(bench.exchange(bearer("/github", &token), &issued("up")));
    bench.now = NOW.plus(Duration::from_secs(2 * 3600));
    bench.wait(bearer("/github", &token));
}

#[test]
fn a_clock_that_is_set_back_by_a_moment_costs_nobody_a_token() {
    let mut bench = Bench::ready();
    let token = alice_token();
    authorization(bench.exchange(bearer("/github", &token), &issued("up")));
    bench.now = NOW.minus(Duration::from_secs(5));
    bench.tick();
    bench.no_call();
    assert_eq!(authorization(bench.ask(bearer("/github", &token))), "Bearer up");
}

#[test]
fn neither_of_the_callers_tokens_goes_on_when_the_provider_hands_it_back() {
    let (access_token, id_token) = (bob_token(), OKTA_KEY.token(&bob_id()));
    let fields = [("authorization", format!("Bearer {access_token}")), ("idt", id_token)];
    let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
    for handed_back in fields.map(|(_, value)| value.trim_start_matches("Bearer ")) {
        let step = with_id_token("header").exchange(request("POST", "/github", &fields), &issued(handed_back));
        assert_eq!(refused(step).1, "provider_answer_invalid");
    }
}

#[test]
fn white_space_around_its_name_does_not_save_the_cookie() {
    let id_token = OKTA_KEY.token(&bob_id());
    let authorization = format!("Bearer {}", bob_token());
    let cookie = |text: &str| text.replace("ID", &id_token);
    let fields = |cookie: &str| request("POST", "/github", &[("authorization", &authorization), ("cookie", cookie)]);
    let edits = forwarded(with_id_token("cookie").exchange(fields(&cookie("a=b;idt =ID ; idtx=y")), &issued("up")));
    assert_eq!(edits.cookie.as_deref(), Some(&b"a=b; idtx=y"[..]));
    let twice = with_id_token("cookie").ask(fields(&cookie("idt=ID; idt =ID")));
    assert_eq!(refused(twice).1, "subject_token_missing");
}

#[test]
fn a_token_that_no_server_would_take_as_a_header_is_not_kept() {
    let token = |length: usize| issued(&"a".repeat(length));
    authorization(Bench::ready().exchange(bearer("/github", &alice_token()), &token(32 * 1024)));
    let step = Bench::ready().exchange(bearer("/github", &alice_token()), &token(32 * 1024 + 1));
    assert_eq!(refused(step).1, "provider_answer_invalid");
}

#[test]
fn an_applications_own_token_is_no_users_at_a_standard_server_either() {
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"]["profile"] = json!("rfc8693");
    for client in ["client_id", "azp"] {
        let claims = with(bob(), json!({"sub": "service", client: "service"}));
        let step = Bench::new(&configuration).with_keys().ask(bearer("/github", &OKTA_KEY.token(&claims)));
        assert_eq!(refused(step).1, "not_a_user_token", "{client}");
    }
}

#[test]
fn headers_that_choose_another_path_do_not_go_on() {
    let authorization = format!("Bearer {}", alice_token());
    let fields = [("authorization", authorization.as_str()), ("x-original-url", "/admin"), ("x-rewrite-url", "/admin")];
    let edits = forwarded(Bench::ready().exchange(request("POST", "/github", &fields), &issued("up")));
    assert_eq!(edits.remove, ["x-original-url", "x-rewrite-url"]);
}
