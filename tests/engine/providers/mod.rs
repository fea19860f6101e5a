//! Issuers, tokens and exchange targets of each provider.

mod discovery;
mod issuers;
mod targets;
mod tenants;
mod tokens;

use onbehalf_test_support::{ENTRA_KEY, TestEngine, alice, answer, answer_with, bearer, key_set, refused, with};
use serde_json::{Value, json};

const LOGIN: &str = "https://login.microsoftonline.com";

const HOME: &str = "5f0c7a4e-9a0f-4c3e-8f5d-2b7f6f1f0c11";

const PARTNER: &str = "0d9c8b7a-1111-4222-8333-aabbccddeeff";

const OTHER: &str = "99999999-1111-4222-8333-aabbccddeeff";

/// A configuration with one provider and one resource.
fn only(provider: Value, exchange: Value) -> Value {
    json!({
        "identity_providers": {"idp": provider},
        "resources": [{"url": "https://mcp.acme.example/github", "exchange": {"idp": exchange}}],
    })
}

fn entra(issuer: &str, more: Value) -> Value {
    let provider = json!({
        "profile": "entra_obo", "issuer": issuer, "cluster": "idp", "audiences": ["api://gateway", "gateway-id"],
        "client": {"id": "gateway-id", "authentication": {"method": "client_secret_post", "secret": {"inline": "s"}}},
    });
    only(with(provider, more), json!({"resource": "api://github"}))
}

fn okta(issuer: &str, more: Value) -> Value {
    let provider = json!({
        "profile": "okta_obo", "issuer": issuer, "cluster": "idp", "audiences": ["api://default"],
        "client": {"id": "0oa", "authentication": {"method": "client_secret_basic", "secret": {"inline": "s"}}},
    });
    only(with(provider, more), json!({"audience": "a", "scopes": ["x"]}))
}

fn v2(tenant: &str) -> Value {
    with(alice(), json!({"iss": format!("{LOGIN}/{tenant}/v2.0"), "tid": tenant}))
}

fn v1(tenant: &str) -> Value {
    let claims = json!({"iss": format!("https://sts.windows.net/{tenant}/"), "tid": tenant, "ver": "1.0", "azp": null,
        "appid": "client", "appidacr": "0"});
    with(alice(), claims)
}

/// Keys as the v2.0 endpoint publishes them: with an issuer template in each.
fn templated_keys() -> Vec<u8> {
    let mut set: Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY])).unwrap();
    set["keys"][0]["issuer"] = json!(format!("{LOGIN}/{{tenantid}}/v2.0"));
    set.to_string().into_bytes()
}

/// An engine whose provider is asked for its metadata at `asked` and names itself `issuer`.
fn discovered_at(configuration: &Value, asked: &str, issuer: &str) -> TestEngine {
    TestEngine::with_replies(configuration, |call| {
        if call.url.as_str().contains("oauth-authorization-server") {
            answer(404, b"")
        } else if call.url.as_str().contains(".well-known") {
            assert_eq!(call.url.as_str(), asked);
            let base = asked.split("/v2.0").next().unwrap();
            let at = |path: &str| format!("{base}/{path}");
            let document = json!({"issuer": issuer, "jwks_uri": at("discovery/v2.0/keys"), "token_endpoint": at("oauth2/v2.0/token")});
            answer_with(200, &[], &document)
        } else {
            answer(200, &templated_keys())
        }
    })
}

fn single_tenant() -> TestEngine {
    let issuer = format!("{LOGIN}/{HOME}/v2.0");
    discovered_at(&entra(&issuer, json!({})), &format!("{issuer}/.well-known/openid-configuration"), &issuer)
}

fn refusal_of(engine: &mut TestEngine, claims: &Value) -> String {
    refused(engine.decide(bearer("/github", &ENTRA_KEY.token(claims)))).1
}
