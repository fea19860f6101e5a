//! Validation without an exchange.

use onbehalf::config::Config;
use onbehalf::engine::UpstreamAction;
use onbehalf::http::Response;
use onbehalf::telemetry::Sample;
use serde_json::{Value, json};

use onbehalf_test_support::{
    OKTA, OKTA_KEY, OTHER_KEY, SharedMap, TestEngine, alice_token, answer_with, authorization, bearer, bob, bob_token,
    configuration, environment, forwarded, key_set, parse, provider_document, refused, request, with,
};

const PATH: &str = "/plain";

fn none() -> Value {
    json!({"profile": "validate_only", "issuer": OKTA, "cluster": "okta", "audiences": ["api://default"]})
}

/// The second provider without an exchange at one resource.
fn unexchanged(exchange: Value) -> Value {
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"] = none();
    configuration["resources"] = json!([
        {"url": "https://mcp.acme.example/plain", "scopes": ["mcp.read"], "exchange": {"okta-eu": exchange}},
        {"url": "https://mcp.acme.example/github", "scopes_supported": ["https://mcp.acme.example/github/read"],
            "exchange": {"entra-us": {"resource": "api://github"}}},
    ]);
    configuration
}

fn without_token_endpoint(configuration: &Value) -> TestEngine {
    TestEngine::with_replies(configuration, |call| match call.url.as_str() {
        // The provider has no token endpoint and needs none.
        "https://acme.okta.example/oauth2/default/.well-known/openid-configuration" => {
            answer_with(200, &[], &json!({"issuer": OKTA, "jwks_uri": format!("{OKTA}/v1/keys")}))
        }
        _ => provider_document(call),
    })
}

/// The warnings about resources.
fn warnings(configuration: &Value) -> Vec<String> {
    parse(configuration).warnings.into_iter().filter(|warning| warning.starts_with("resources")).collect()
}

#[test]
fn token_is_removed_unless_the_resource_forwards_it() {
    for exchange in [json!({}), json!({"forward": false})] {
        let configuration = unexchanged(exchange);
        assert!(warnings(&configuration).is_empty());
        let mut engine = without_token_endpoint(&configuration);
        let edits = forwarded(engine.decide(bearer(PATH, &bob_token())));
        assert!(edits.authorization.is_none());
        engine.expect_no_call();
    }
}

#[test]
fn upstream_challenge_without_a_token_is_removed() {
    for (dpop, expected) in [
        (json!({"mode": "off"}), &["www-authenticate"][..]),
        (json!({"mode": "optional"}), &["www-authenticate", "dpop-nonce"]),
    ] {
        let mut configuration = unexchanged(json!({}));
        configuration["resources"][0]["dpop"] = dpop;
        let mut engine = without_token_endpoint(&configuration);
        let sent = forwarded(engine.decide(bearer(PATH, &bob_token()))).sent.expect("its answer is looked at");
        let fields = ["www-authenticate", "dpop-nonce"].map(|name| (name.to_owned(), b"theirs".to_vec()));
        for status in [200, 401, 403] {
            let answer = Response { status, headers: fields.to_vec(), body: Vec::new() };
            match engine.inner.on_upstream_response(&sent, &answer, engine.now) {
                UpstreamAction::PassOn { remove } => assert_eq!(remove, expected),
                UpstreamAction::Instead(_) => panic!("{status}: there is no token to exchange anew"),
            }
        }
        assert!(forwarded(engine.decide(bearer(PATH, &bob_token()))).authorization.is_none());
    }
    // The upstream validates the caller's own token.
    let mut engine = without_token_endpoint(&unexchanged(json!({"forward": true})));
    assert!(forwarded(engine.decide(bearer(PATH, &bob_token()))).sent.is_none());
}

#[test]
fn token_is_forwarded_if_configured_and_the_log_warns() {
    let configuration = unexchanged(json!({"forward": true}));
    let warnings = warnings(&configuration);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("resources[0].exchange.okta-eu.forward: "), "{warnings:?}");
    let mut engine = without_token_endpoint(&configuration);
    let token = bob_token();
    assert_eq!(authorization(engine.decide(bearer(PATH, &token))), format!("Bearer {token}"));
    // The token is forwarded only at this resource, and only for this provider.
    assert_eq!(refused(engine.decide(bearer("/github", &token))).1, "no_exchange");
    assert_eq!(refused(engine.decide(bearer(PATH, &alice_token()))).1, "no_exchange");
    engine.expect_no_call();
}

#[test]
fn invalid_token_is_refused_without_an_exchange_too() {
    let mut engine = without_token_endpoint(&unexchanged(json!({"forward": true})));
    for (claims, reason) in [
        (json!({"aud": "other"}), "wrong_audience"),
        (json!({"exp": 1}), "expired"),
        (json!({"scp": ["mcp.write"]}), "insufficient_scope"),
        (json!({"client_id": "bob@acme.example"}), "not_a_user_token"),
        (json!({"nonce": "n"}), "id_token_as_access_token"),
        (json!({"cnf": {"jkt": "k"}}), "sender_constrained_token"),
        (json!({"cnf": {"x5t#S256": "c"}}), "sender_constrained_token"),
    ] {
        let token = OKTA_KEY.token(&with(bob(), claims.clone()));
        assert_eq!(refused(engine.decide(bearer(PATH, &token))).1, reason, "{claims}");
    }
    let forged = OTHER_KEY.sign(&json!({"alg": "ES256", "kid": OKTA_KEY.kid}), &bob());
    assert_eq!(refused(engine.decide(bearer(PATH, &forged))).1, "bad_signature");
    assert_eq!(refused(engine.decide(request("POST", PATH, &[]))).1, "no_credentials");
}

#[test]
fn validation_only_counts_no_exchange() {
    let mut engine = without_token_endpoint(&unexchanged(json!({"forward": true})));
    engine.inner.counters().take();
    forwarded(engine.decide(bearer(PATH, &bob_token())));
    assert_eq!(engine.inner.counters().take(), [(Sample::Decisions("forwarded"), 1)]);
}

#[test]
fn configured_keys_need_no_discovery_without_an_exchange() {
    let mut configuration = unexchanged(json!({}));
    configuration["identity_providers"].as_object_mut().unwrap().remove("entra-us");
    configuration["resources"].as_array_mut().unwrap().truncate(1);
    // No client has a secret that could protect shared memory.
    configuration["shared_data_secret"] = json!({"inline": "0123456789abcdef0123456789abcdef0123456789abcdef"});
    configuration["identity_providers"]["okta-eu"]["jwks"] = serde_json::from_slice(&key_set(&[&OKTA_KEY])).unwrap();
    let mut engine = TestEngine::new(&configuration);
    engine.tick();
    engine.expect_no_call();
    assert!(forwarded(engine.decide(bearer(PATH, &bob_token()))).authorization.is_none());
}

#[test]
fn keys_reach_other_workers_without_a_token_endpoint() {
    let configuration = unexchanged(json!({}));
    let shared = SharedMap::default();
    let mut one = TestEngine::sharing(&configuration, &shared);
    one.tick();
    while let Some((flight, call)) = one.inner.next_callout() {
        one.callout_result(flight, &provider_document(&call));
    }
    let mut other = TestEngine::sharing(&configuration, &shared);
    other.tick();
    other.expect_no_call();
    assert!(forwarded(other.decide(bearer(PATH, &bob_token()))).authorization.is_none());
}

#[test]
fn exchange_options_are_refused_in_the_none_profile() {
    let at = |change: &dyn Fn(&mut Value)| {
        let mut configuration = unexchanged(json!({"forward": true}));
        change(&mut configuration);
        Config::parse(configuration.to_string().as_bytes(), &environment)
            .map(|_| ())
            .map_err(|error| error.path.clone())
    };
    assert_eq!(at(&|_| {}), Ok(()));
    let client = configuration()["identity_providers"]["okta-eu"]["client"].clone();
    for (name, value) in [
        ("client", client),
        ("token_endpoint", json!("https://acme.okta.example/token")),
        ("retries", json!(1)),
        ("subject_token", json!({"type": "id_token", "header": "x-id-token", "audiences": ["c"]})),
    ] {
        let path = format!("identity_providers.okta-eu.{name}");
        assert_eq!(at(&|whole| whole["identity_providers"]["okta-eu"][name] = value.clone()), Err(path));
    }
    for (name, value) in [
        ("audience", json!("a")),
        ("scopes", json!(["s"])),
        ("parameters", json!({"a": "b"})),
        ("forward", json!("kept")),
        ("forward", json!("true")),
    ] {
        let path = format!("resources[0].exchange.okta-eu.{name}");
        assert_eq!(at(&|whole| whole["resources"][0]["exchange"]["okta-eu"][name] = value.clone()), Err(path));
    }
    // Only the profile `validate_only` has the option `token`.
    let path = "resources[1].exchange.entra-us.forward".to_owned();
    assert_eq!(at(&|whole| whole["resources"][1]["exchange"]["entra-us"]["forward"] = json!(true)), Err(path));
    // The upstream cannot verify a bound token.
    for (name, value) in [("dpop", json!({"mode": "optional"})), ("certificate_bound_tokens", json!("required"))] {
        let path = "resources[0].exchange.okta-eu.forward".to_owned();
        assert_eq!(at(&|whole| whole["resources"][0][name] = value.clone()), Err(path));
        assert_eq!(
            at(&|whole| {
                whole["resources"][0][name] = value.clone();
                whole["resources"][0]["exchange"]["okta-eu"] = json!({});
            }),
            Ok(())
        );
    }
}
