//! The main flow: discovery, keys, token, exchange, forward.

use onbehalf_test_support::base64url_decode;
use onbehalf_wasm_tests::{Metric, Module, Outcome};
use serde_json::{Value, json};

use crate::support::keys::{self, Alg};
use crate::support::provider::{self, entra, exchanged, okta};
use crate::support::token;
use crate::support::{fetch_keys, head, ready, send, send_waiting, settle, setup, verdict};

#[test]
fn entra_and_okta_users_each_get_a_token_of_their_own_provider() {
    let mut host = setup(Module::filter(), &provider::configuration()).start();
    let (mut entra, mut okta) = (entra(), okta());
    host.tick();
    settle(&mut host, &mut [&mut entra, &mut okta]);
    assert_eq!(entra.called.len(), 2, "discovery and keys: {:?}", entra.called);
    assert_eq!(okta.called.len(), 2, "discovery and keys: {:?}", okta.called);

    let now = host.world().now();
    let (alice, bob) = (token::entra("alice", now).sign(), token::okta("bob", now).sign());
    for (token, idp) in [(&alice, &mut entra), (&bob, &mut okta)] {
        let request = send_waiting(&mut host, token);
        assert_eq!(host.outcome(request), Outcome::Waiting);
        settle(&mut host, &mut [idp]);
        let headers = host.outcome(request).forwarded();
        assert_eq!(headers.all("authorization"), [format!("Bearer {}", exchanged(token)).as_bytes()]);
    }

    let form = &entra.forms[0];
    let expected = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("assertion", alice.as_str()),
        ("requested_token_use", "on_behalf_of"),
        ("scope", "api://github-mcp/.default"),
        ("client_id", "onbehalf-app"),
        ("client_secret", provider::ENTRA_SECRET),
    ];
    for (name, value) in expected {
        assert_eq!(form.get(name).map(String::as_str), Some(value), "{name}");
    }
    let form = &okta.forms[0];
    let expected = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", bob.as_str()),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("audience", "com.acme.github"),
        ("scope", "github.read"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
    ];
    for (name, value) in expected {
        assert_eq!(form.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[test]
fn client_assertion_is_fresh_and_for_its_endpoint_only() {
    for offered in [true, false] {
        let mut setup = setup(Module::filter(), &provider::configuration());
        if !offered {
            setup = setup.without_foreign_function("sign").without_foreign_function("verify_signature");
        }
        let mut host = setup.start();
        fetch_keys(&mut host);
        let mut okta = okta();
        let now = host.world().now();
        for user in ["bob", "carol"] {
            send_waiting(&mut host, &token::okta(user, now).sign());
            settle(&mut host, &mut [&mut okta]);
        }
        let ids: Vec<String> = okta.forms.iter().map(|form| check_assertion(&form["client_assertion"], now)).collect();
        assert_eq!(ids.len(), 2);
        assert_ne!(ids[0], ids[1], "jti must be fresh");
    }
}

/// Checks a client assertion (RFC 7523 section 3) and returns its `jti`.
fn check_assertion(assertion: &str, now: u64) -> String {
    let (message, signature) = assertion.rsplit_once('.').expect("a JWS");
    let (header, claims) = message.split_once('.').expect("a JWS");
    assert!(
        keys::signed_by_client(message.as_bytes(), &base64url_decode(signature)),
        "the assertion's signature does not fit"
    );
    let header: Value = serde_json::from_slice(&base64url_decode(header)).expect("JSON");
    let claims: Value = serde_json::from_slice(&base64url_decode(claims)).expect("JSON");
    assert_eq!((header["alg"].as_str(), header["kid"].as_str()), (Some("ES256"), Some("k1")));
    assert_eq!((claims["iss"].as_str(), claims["sub"].as_str()), (Some("0oaservice"), Some("0oaservice")));
    assert_eq!(claims["aud"], "https://acme.okta.example/oauth2/default/v1/token");
    let expires = claims["exp"].as_u64().expect("exp");
    assert!(expires > now && expires <= now + 300, "{claims}");
    claims["jti"].as_str().expect("jti").to_owned()
}

#[test]
fn second_request_of_a_user_makes_no_call() {
    let mut host = ready();
    let token = token::entra("alice", host.world().now()).sign();
    let first = send(&mut host, &token).forwarded();
    let request = send_waiting(&mut host, &token);
    assert!(host.calls().is_empty());
    assert_eq!(host.outcome(request).forwarded(), first);
}

#[test]
fn exchanged_token_is_not_used_after_its_or_the_subjects_expiry() {
    let mut host = ready();
    let now = host.world().now();
    let long = token::entra("alice", now).claim("exp", now + 9000).sign();
    let short = token::entra("bob", now).claim("exp", now + 600).sign();
    for token in [&long, &short] {
        assert_eq!(verdict(&send(&mut host, token)), "forwarded");
    }
    host.world().advance(700);
    assert_eq!(verdict(&send(&mut host, &short)), "expired");
    let request = send_waiting(&mut host, &long);
    assert!(matches!(host.outcome(request), Outcome::Forwarded(_)), "issued for 3000 s, 700 s ago");
    host.world().advance(2400);
    let request = send_waiting(&mut host, &long);
    assert_eq!(host.outcome(request), Outcome::Waiting, "a new exchange is due");
    assert_eq!(host.calls().len(), 1);
}

#[test]
fn credentials_of_the_client_are_not_forwarded() {
    let mut host = ready();
    let token = token::entra("alice", host.world().now()).sign();
    let authorization = format!("Bearer {token}");
    let mut headers = head(&authorization);
    headers.extend([("x-onbehalf-user", "root"), ("x-onbehalf-user", "admin"), ("x-other", "stays")]);
    let request = host.request(&headers);
    settle(&mut host, &mut [&mut entra()]);
    let forwarded = host.outcome(request).forwarded();
    assert_eq!(forwarded.get("x-onbehalf-user"), None);
    assert_eq!(forwarded.text("x-other"), Some("stays"));
    for (name, value) in forwarded.iter() {
        let leaks = value.windows(token.len()).any(|window| window == token.as_bytes());
        assert!(!leaks, "{} carries the inbound token", String::from_utf8_lossy(name));
    }
}

#[test]
fn body_passes_unchanged_behind_a_request_that_waited() {
    let mut host = ready();
    let token = token::entra("alice", host.world().now()).sign();
    let authorization = format!("Bearer {token}");
    let request = host.request_with_body(&head(&authorization), br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    settle(&mut host, &mut [&mut entra()]);
    assert_eq!(verdict(&host.outcome(request)), "forwarded");
    let response = host.respond(request, &[(":status", "200"), ("content-type", "text/event-stream")]);
    assert_eq!(response.text(":status"), Some("200"));
}

#[test]
fn unauthenticated_path_needs_no_token_and_forwards_none() {
    let mut host = ready();
    let headers = [
        (":method", "GET"),
        (":authority", "mcp.acme.example"),
        (":path", "/healthz"),
        ("authorization", "Bearer something"),
    ];
    let request = host.request(&headers);
    assert_eq!(host.outcome(request).forwarded().get("authorization"), None);
}

#[test]
fn metadata_names_the_resource_and_its_authorization_servers() {
    let mut host = ready();
    let get = |method| {
        [
            (":method", method),
            (":authority", "mcp.acme.example"),
            (":path", "/.well-known/oauth-protected-resource/github"),
        ]
    };
    let request = host.request(&get("GET"));
    let answer = host.outcome(request).answer();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers.text("access-control-allow-origin"), Some("*"));
    let document: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(document["resource"], "https://mcp.acme.example/github");
    let issuers = document["authorization_servers"].as_array().expect("a list");
    for issuer in [provider::ENTRA_ISSUER, provider::OKTA_ISSUER] {
        assert!(issuers.contains(&issuer.into()), "{document}");
    }
    for (method, status) in [("OPTIONS", 204), ("HEAD", 200), ("POST", 405)] {
        let request = host.request(&get(method));
        assert_eq!(host.outcome(request).answer().status, status, "{method}");
    }
}

#[test]
fn request_without_a_token_gets_the_metadata_url() {
    let mut host = ready();
    let request = host.request(&[(":method", "GET"), (":authority", "mcp.acme.example"), (":path", "/github")]);
    let outcome = host.outcome(request);
    assert_eq!(verdict(&outcome), "no_credentials");
    let answer = outcome.answer();
    assert_eq!(answer.status, 401);
    let challenge = answer.headers.text("www-authenticate").expect("a challenge");
    assert!(
        challenge
            .contains(r#"resource_metadata="https://mcp.acme.example/.well-known/oauth-protected-resource/github""#)
    );
    assert!(!challenge.contains("error"), "RFC 6750 section 3.1: no error when no token was sent: {challenge}");
}

#[test]
fn user_of_a_provider_without_an_exchange_is_refused() {
    let mut host = ready();
    let token = token::okta("bob", host.world().now()).sign();
    let authorization = format!("Bearer {token}");
    let mut headers = head(&authorization);
    headers.retain(|(name, _)| *name != ":path");
    headers.push((":path", "/entra-only"));
    let request = host.request(&headers);
    settle(&mut host, &mut [&mut okta()]);
    assert_eq!(verdict(&host.outcome(request)), "no_exchange");
}

#[test]
fn decisions_are_counted_by_reason_after_a_tick() {
    let mut host = ready();
    let now = host.world().now();
    let token = token::entra("alice", now).sign();
    send(&mut host, &token);
    send(&mut host, &token);
    send(&mut host, &token::entra("alice", now).claim("exp", now - 600).claim("nbf", now - 900).sign());
    host.tick();
    let world = host.world();
    assert_eq!(world.counter("onbehalf.decisions.reason.forwarded"), 2);
    assert_eq!(world.counter("onbehalf.decisions.reason.expired"), 1);
    assert_eq!(world.counter("onbehalf.exchanges.provider.entra-us.outcome.ok"), 1);
    assert_eq!(world.counter("onbehalf.token_cache.result.hit"), 1);
    assert_eq!(world.counter("onbehalf.jwks_refreshes.provider.okta-eu.outcome.ok"), 1);
    let durations = world.metrics().remove("onbehalf.exchange_duration_ms.provider.entra-us");
    assert!(matches!(&durations, Some(Metric::Histogram(samples)) if samples.len() == 1), "{durations:?}");
}

#[test]
fn token_of_every_accepted_algorithm_is_exchanged() {
    let mut host = ready();
    let now = host.world().now();
    for algorithm in Alg::ALL {
        let token = token::okta("bob", now).with_algorithm(algorithm).sign();
        assert_eq!(verdict(&send(&mut host, &token)), "forwarded", "{algorithm:?}\n{}", host.log_text());
    }
}

#[test]
fn id_token_in_a_header_or_cookie_is_exchanged_and_removed() {
    for source in [json!({"header": "x-id-token"}), json!({"cookie": "id"})] {
        let mut configuration = provider::configuration();
        let mut subject = json!({"type": "id_token", "audiences": ["0oalogin"]});
        for (name, value) in source.as_object().expect("an object") {
            subject[name] = value.clone();
        }
        configuration["identity_providers"]["okta-eu"]["subject_token"] = subject;
        let mut host = setup(Module::filter(), &configuration).start();
        assert!(host.configured(), "{}", host.log_text());
        fetch_keys(&mut host);
        let now = host.world().now();
        let access = format!("Bearer {}", token::okta("bob", now).sign());
        let id_token = |user: &str| {
            let token =
                token::okta(user, now).without("uid").without("cid").claim("sub", user).claim("aud", "0oalogin");
            token.claim("jti", "ID.x").sign()
        };
        let with = |id_token: &str| {
            let mut headers: Vec<(String, String)> =
                head(&access).into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            match source.get("cookie") {
                None => headers.push(("x-id-token".into(), id_token.into())),
                Some(_) => headers.push(("cookie".into(), format!("theme=dark; id={id_token}; lang=de"))),
            }
            headers
        };
        let mut okta = okta();
        let bobs = id_token("bob");
        let request = host.request(&with(&bobs));
        settle(&mut host, &mut [&mut okta]);
        let headers = host.outcome(request).forwarded();
        assert_eq!(okta.forms[0]["subject_token"], bobs);
        assert_eq!(okta.forms[0]["subject_token_type"], "urn:ietf:params:oauth:token-type:id_token");
        assert_eq!(headers.get("x-id-token"), None);
        if source.get("cookie").is_some() {
            assert_eq!(headers.text("cookie"), Some("theme=dark; lang=de"));
        }
        let request = host.request(&with(&id_token("carol")));
        settle(&mut host, &mut [&mut okta]);
        assert_eq!(verdict(&host.outcome(request)), "subject_mismatch");
        let request = host.request(&head(&access));
        settle(&mut host, &mut [&mut okta]);
        assert_eq!(verdict(&host.outcome(request)), "subject_token_missing");
        assert_eq!(okta.forms.len(), 1, "nothing is exchanged for a refused request");
    }
}
