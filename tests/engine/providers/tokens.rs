//! Tokens that a provider does not issue for the gateway, and the refusal of each.

use onbehalf::config::Config;
use onbehalf_test_support::{
    ENTRA_KEY, NOW, OKTA_KEY, TestEngine, bearer, bob, bob_id, environment, form, key_set, refused, with,
};
use serde_json::{Value, json};

use super::{HOME, LOGIN, entra, okta, only, refusal_of, single_tenant, v1, v2};

#[test]
fn token_for_the_providers_own_api_has_its_own_refusal() {
    let mut engine = single_tenant();
    for audience in
        ["https://graph.microsoft.com", "https://graph.microsoft.com/", "00000003-0000-0000-c000-000000000000"]
    {
        assert_eq!(refusal_of(&mut engine, &with(v1(HOME), json!({"aud": audience}))), "wrong_audience");
    }
    let header = json!({"alg": "ES256", "kid": "entra-1", "typ": "JWT", "nonce": "x"});
    let token = ENTRA_KEY.sign(&header, &v2(HOME));
    assert_eq!(refused(engine.decide(bearer("/github", &token))).1, "wrong_audience");
}

#[test]
fn hopeless_token_is_refused_before_a_key_fetch() {
    let mut engine = TestEngine::new(&entra(&format!("{LOGIN}/{HOME}/v2.0"), json!({})));
    for (change, expected) in [
        (json!({"aud": "api://other"}), "wrong_audience"),
        (json!({"exp": NOW.secs() - 61}), "expired"),
        (json!({"nbf": NOW.secs() + 61}), "not_yet_valid"),
        (json!({"scp": null, "azp": null}), "id_token_as_access_token"),
    ] {
        assert_eq!(refusal_of(&mut engine, &with(v2(HOME), change)), expected);
    }
    engine.expect_no_call();
    assert_eq!(engine.inner.waiting(), 0);
}

#[test]
fn okta_org_server_is_accepted_for_id_tokens_only() {
    let org = "https://acme.okta.com";
    let error = Config::parse(okta(org, json!({})).to_string().as_bytes(), &environment).unwrap_err();
    assert_eq!(error.path, "identity_providers.idp.issuer");
    let inline: Value = serde_json::from_slice(&key_set(&[&OKTA_KEY])).unwrap();
    let more = json!({"subject_token": {"type": "id_token"}, "audiences": ["login-client"], "jwks": inline,
        "token_endpoint": format!("{org}/oauth2/v1/token")});
    let mut engine = TestEngine::new(&okta(org, more));
    let id_token = with(bob_id(), json!({"iss": org}));
    engine.send_waiting(bearer("/github", &OKTA_KEY.token(&id_token)));
    let (_, call) = engine.expect_call();
    assert_eq!(form(&call)["subject_token_type"], "urn:ietf:params:oauth:token-type:id_token");
    let mut reason = |claims: &Value| refused(engine.decide(bearer("/github", &OKTA_KEY.token(claims)))).1;
    assert_eq!(reason(&with(bob(), json!({"iss": org, "aud": org}))), "access_token_as_id_token");
    assert_eq!(reason(&with(id_token, json!({"aud": "another-client"}))), "wrong_audience");
}

#[test]
fn token_of_another_authorization_server_is_refused_by_issuer() {
    let issuer = "https://acme.okta.com/oauth2/default";
    let inline: Value = serde_json::from_slice(&key_set(&[&OKTA_KEY])).unwrap();
    let mut engine =
        TestEngine::new(&okta(issuer, json!({"jwks": inline, "token_endpoint": format!("{issuer}/v1/token")})));
    for other in [
        "https://acme.okta.com",
        "https://acme.okta.com/oauth2/aus1",
        "https://acme.oktapreview.com/oauth2/default",
        "https://acme.okta.com/oauth2/default/",
    ] {
        let token = OKTA_KEY.token(&with(bob(), json!({"iss": other})));
        assert_eq!(refused(engine.decide(bearer("/github", &token))).1, "unknown_issuer", "{other}");
    }
    engine.send_waiting(bearer("/github", &OKTA_KEY.token(&with(bob(), json!({"iss": issuer})))));
}

#[test]
fn id_token_as_credential_excludes_other_kinds_of_tokens() {
    let issuer = "https://as.example";
    let inline: Value = serde_json::from_slice(&key_set(&[&OKTA_KEY])).unwrap();
    let provider = json!({
        "profile": "rfc8693", "issuer": issuer, "cluster": "idp", "audiences": ["login-client"], "jwks": inline,
        "token_endpoint": "https://as.example/t", "subject_token": {"type": "id_token"},
        "client": {"id": "c", "authentication": {"method": "client_secret_basic", "secret": {"inline": "s"}}},
    });
    let configuration = only(provider, json!({"audience": "a"}));
    let mut engine = TestEngine::new(&configuration);
    let id_token = with(bob_id(), json!({"iss": issuer}));
    for (change, expected) in [
        (json!({"nonce": null, "scope": "read"}), "access_token_as_id_token"),
        (json!({"nonce": null, "scp": ["read"]}), "access_token_as_id_token"),
        (json!({"nonce": null, "client_id": "x"}), "access_token_as_id_token"),
        // Access tokens of ZITADEL and of Spring have their client in `aud`; RFC 9068 has both claims.
        (json!({"nonce": null, "client_id": "login-client"}), "access_token_as_id_token"),
        (json!({"nonce": null, "scope": ["openid"], "nbf": NOW.secs()}), "access_token_as_id_token"),
        (
            json!({"nonce": null, "scope": "a", "client_id": "login-client", "azp": "login-client"}),
            "access_token_as_id_token",
        ),
        // One of WSO2.
        (
            json!({"nonce": null, "scope": "openid", "azp": "login-client", "aut": "APPLICATION_USER"}),
            "access_token_as_id_token",
        ),
        // The client's ID is also the name of an API, to which another client sends its access token.
        (json!({"nonce": null, "scope": "read", "azp": "mcp-client"}), "access_token_as_id_token"),
        (json!({"nonce": null, "client_id": "mcp-client", "azp": "login-client"}), "access_token_as_id_token"),
        (json!({"typ": "Bearer"}), "access_token_as_id_token"),
        (json!({"token_use": "access"}), "access_token_as_id_token"),
        (json!({"typ": "Refresh"}), "unsupported_token_type"),
        (json!({"events": {}}), "unsupported_token_type"),
    ] {
        let token = OKTA_KEY.token(&with(id_token.clone(), change.clone()));
        assert_eq!(refused(engine.decide(bearer("/github", &token))).1, expected, "{change}");
    }
    let header = json!({"alg": "ES256", "kid": OKTA_KEY.kid, "typ": "at+jwt"});
    let token = OKTA_KEY.sign(&header, &with(id_token.clone(), json!({"azp": "login-client"})));
    assert_eq!(refused(engine.decide(bearer("/github", &token))).1, "unsupported_token_type");
    // OpenID Connect Core section 2: an ID token may have further claims. Authelia writes `client_id` into it.
    for change in [
        json!({}),
        json!({"client_id": "x", "scope": "openid"}),
        json!({"nonce": null, "at_hash": "h", "client_id": "x"}),
        json!({"nonce": null, "typ": "ID", "scope": "openid"}),
        json!({"nonce": null}),
        json!({"nonce": null, "azp": "login-client", "scope": "openid profile"}),
        json!({"nonce": null, "azp": "login-client", "scp": ["openid"], "aud": ["other", "login-client"]}),
        json!({"nonce": null, "azp": "login-client", "client_id": "login-client"}),
    ] {
        let mut engine = TestEngine::new(&configuration);
        engine.send_waiting(bearer("/github", &OKTA_KEY.token(&with(id_token.clone(), change))));
        engine.expect_call();
    }
}
