//! Metadata of standard servers, and keys in the configuration.

use onbehalf::config::Config;
use onbehalf::http::CalloutResult;
use onbehalf_test_support::{
    OKTA_KEY, TIMED_OUT, TestEngine, answer, answer_with, bearer, bob, environment, issued, key_set, refused, with,
};
use serde_json::{Value, json};

use super::{okta, only};

#[test]
fn configured_keys_are_not_fetched_and_have_no_age() {
    let issuer = "https://acme.okta.com/oauth2/default";
    let inline: Value = serde_json::from_slice(&key_set(&[&OKTA_KEY])).unwrap();
    let mut engine =
        TestEngine::new(&okta(issuer, json!({"jwks": inline, "token_endpoint": format!("{issuer}/v1/token")})));
    engine.tick();
    engine.expect_no_call();
    engine.advance(40 * 86_400);
    engine.tick();
    engine.expect_no_call();
    assert!(engine.inner.jwks_ages(engine.now).is_empty());
    let now = engine.now.secs();
    let token = |kid: &str| {
        let claims = with(bob(), json!({"iss": issuer, "iat": now, "exp": now + 60}));
        OKTA_KEY.sign(&json!({"alg": "ES256", "kid": kid}), &claims)
    };
    assert_eq!(refused(engine.decide(bearer("/github", &token("k")))).1, "unknown_key");
    engine.expect_no_call();
    engine.send_waiting(bearer("/github", &token(OKTA_KEY.kid)));
    // Without a configured token endpoint, the metadata is fetched for it, and the keys are not.
    let mut engine = TestEngine::new(&okta(issuer, json!({"jwks": inline})));
    engine.tick();
    let (flight, _) = engine.expect_call();
    let endpoints = json!({"issuer": issuer, "token_endpoint": format!("{issuer}/v1/token")});
    engine.callout_result(flight, &answer_with(200, &[], &endpoints));
    engine.expect_no_call();
    engine.send_waiting(bearer("/github", &OKTA_KEY.token(&with(bob(), json!({"iss": issuer})))));
    let (flight, _) = engine.expect_call();
    assert_eq!(engine.callout_result(flight, &issued("up")).len(), 1);
    // The refusal names a metadata fetch that fails.
    let mut without = TestEngine::new(&okta(issuer, json!({"jwks": inline})));
    let asked = without.send_waiting(bearer("/github", &OKTA_KEY.token(&with(bob(), json!({"iss": issuer})))));
    let (flight, _) = without.expect_call();
    let mut steps = without.callout_result(flight, &answer(500, b""));
    assert_eq!(steps.len(), 1);
    let (waited, step) = steps.remove(0);
    assert_eq!((waited, refused(step)), (asked, (503, "provider_unavailable".to_owned())));
    // Configured keys do not age, however long the metadata fetch fails.
    for _ in 0..10 {
        engine.advance(86_400);
        engine.tick();
        while let Some((flight, call)) = engine.inner.next_callout() {
            assert_eq!(call.method, "GET");
            engine.callout_result(flight, &TIMED_OUT);
        }
    }
    assert!(engine.inner.jwks_ages(engine.now).is_empty());
    let token = with(bob(), json!({"iss": issuer, "exp": engine.now.secs() + 600, "iat": engine.now.secs()}));
    engine.send_waiting(bearer("/github", &OKTA_KEY.token(&token)));
    assert_eq!(engine.expect_call().1.method, "POST");
}

#[test]
fn configured_keys_must_all_be_usable() {
    let issuer = "https://acme.okta.com/oauth2/default";
    let good: Value = serde_json::from_slice(&key_set(&[&OKTA_KEY])).unwrap();
    let mut odd = good.clone();
    odd["keys"].as_array_mut().unwrap().push(json!({"kty": "oct", "k": "AAAA"}));
    for (more, path) in [
        (json!({"jwks": {}}), "jwks"),
        (json!({"jwks": {"keys": []}}), "jwks"),
        (json!({"jwks": odd}), "jwks"),
        (json!({"jwks": good, "jwks_uri": "https://acme.okta.com/k"}), "jwks_uri"),
    ] {
        let error = Config::parse(okta(issuer, more).to_string().as_bytes(), &environment).unwrap_err();
        assert_eq!(error.path, format!("identity_providers.idp.{path}"), "{error}");
    }
}

#[test]
fn server_without_openid_discovery_is_found_by_rfc_8414() {
    let issuer = "https://as.example/tenant";
    let provider = json!({
        "profile": "rfc8693", "issuer": issuer, "cluster": "idp", "audiences": ["api://default"],
        "client": {"id": "c", "authentication": {"method": "client_secret_basic", "secret": {"inline": "s"}}},
    });
    let mut engine = TestEngine::new(&only(provider, json!({"audience": "a"})));
    engine.tick();
    let mut urls = Vec::new();
    while let Some((flight, call)) = engine.inner.next_callout() {
        let url = call.url.as_str().to_owned();
        let reply: CalloutResult = match url.as_str() {
            "https://as.example/.well-known/oauth-authorization-server/tenant" => answer_with(
                200,
                &[],
                &json!({"issuer": issuer, "jwks_uri": "https://as.example/k", "token_endpoint": "https://as.example/t"}),
            ),
            "https://as.example/k" => answer(200, &key_set(&[&OKTA_KEY])),
            _ => answer(404, b"not here"),
        };
        urls.push(url);
        engine.callout_result(flight, &reply);
    }
    assert_eq!(urls.len(), 3, "{urls:?}");
    let claims = with(bob(), json!({"iss": issuer, "cid": null, "uid": null}));
    engine.send_waiting(bearer("/github", &OKTA_KEY.token(&claims)));
}
