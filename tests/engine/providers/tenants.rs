//! Entra tenants, and the versions of their tokens.

use onbehalf::config::Config;
use onbehalf::engine::Decision;
use onbehalf_test_support::{
    ENTRA_KEY, TIMED_OUT, TestEngine, answer, answer_with, answered, bearer, environment, key_set, refused, request,
    with,
};
use serde_json::{Value, json};

use super::{HOME, LOGIN, OTHER, PARTNER, discovered_at, entra, okta, refusal_of, single_tenant, v1, v2};

fn multi_tenant() -> TestEngine {
    let template = format!("{LOGIN}/{{tenantid}}/v2.0");
    let configuration = entra(&template, json!({"tenants": [HOME, PARTNER]}));
    discovered_at(&configuration, &format!("{LOGIN}/organizations/v2.0/.well-known/openid-configuration"), &template)
}

/// The URL of the token request for accepted claims.
fn exchanged_at(engine: &mut TestEngine, claims: &Value) -> String {
    let step = engine.decide(bearer("/github", &ENTRA_KEY.token(claims)));
    match step {
        Decision::Pause => {
            let (flight, call) = engine.expect_call();
            engine.callout_result(flight, &TIMED_OUT);
            call.url.as_str().to_owned()
        }
        Decision::Respond(answer) => panic!("{answer:?}"),
        Decision::Forward(_) => panic!("not exchanged"),
    }
}

#[test]
fn tokens_of_both_versions_of_a_tenant_are_accepted() {
    let mut engine = single_tenant();
    let endpoint = format!("{LOGIN}/{HOME}/oauth2/v2.0/token");
    assert_eq!(exchanged_at(&mut engine, &v2(HOME)), endpoint);
    assert_eq!(exchanged_at(&mut engine, &with(v1(HOME), json!({"oid": "bob"}))), endpoint);
}

#[test]
fn token_version_must_fit_the_issuer() {
    let mut engine = single_tenant();
    assert_eq!(refusal_of(&mut engine, &with(v1(HOME), json!({"ver": "2.0"}))), "invalid_claims");
    assert_eq!(refusal_of(&mut engine, &with(v2(HOME), json!({"ver": "1.0"}))), "invalid_claims");
    for issuer in [
        format!("https://sts.windows.net/{HOME}"),
        format!("https://sts.windows.net/{HOME}/v2.0"),
        format!("https://sts.chinacloudapi.cn/{HOME}/"),
        format!("https://login.microsoftonline.us/{HOME}/v2.0"),
        format!("{LOGIN}/{HOME}/"),
        format!("https://login.microsoftonline.com@evil.example/{HOME}/v2.0"),
        format!("https://login.microsoftonline.com.evil.example/{HOME}/v2.0"),
    ] {
        assert_eq!(refusal_of(&mut engine, &with(v2(HOME), json!({"iss": issuer}))), "unknown_issuer", "{issuer}");
    }
}

#[test]
fn users_of_listed_tenants_are_exchanged_at_their_own_tenant() {
    let mut engine = multi_tenant();
    for tenant in [HOME, PARTNER] {
        for claims in [v2(tenant), v1(tenant)] {
            assert_eq!(exchanged_at(&mut engine, &claims), format!("{LOGIN}/{tenant}/oauth2/v2.0/token"));
        }
    }
}

#[test]
fn unlisted_tenant_is_refused_by_name() {
    for mut engine in [single_tenant(), multi_tenant()] {
        assert_eq!(refusal_of(&mut engine, &v2(OTHER)), "wrong_tenant");
        assert_eq!(refusal_of(&mut engine, &v1(OTHER)), "wrong_tenant");
    }
}

#[test]
fn iss_and_tid_must_name_the_same_tenant() {
    let mut engine = multi_tenant();
    for tid in [json!(PARTNER), json!(null), json!(7), json!(HOME.to_uppercase())] {
        assert_eq!(refusal_of(&mut engine, &with(v2(HOME), json!({"tid": tid}))), "invalid_claims", "{tid}");
    }
    for tenant in ["{tenantid}", "organizations", "common", "", "..", &HOME.to_uppercase()] {
        let claims = json!({"iss": format!("{LOGIN}/{tenant}/v2.0"), "tid": tenant});
        assert_eq!(refusal_of(&mut engine, &with(v2(HOME), claims)), "unknown_issuer", "{tenant}");
    }
}

#[test]
fn key_of_one_tenant_verifies_no_token_of_another() {
    let template = format!("{LOGIN}/{{tenantid}}/v2.0");
    let mut engine = TestEngine::new(&entra(&template, json!({"tenants": [HOME, PARTNER]})));
    engine.tick();
    let mut set: Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY])).unwrap();
    set["keys"][0]["issuer"] = json!(format!("{LOGIN}/{PARTNER}/v2.0"));
    while let Some((flight, call)) = engine.inner.next_callout() {
        let at = |path: &str| format!("{LOGIN}/organizations/{path}");
        let reply = if call.url.as_str().contains(".well-known") {
            answer_with(
                200,
                &[],
                &json!({"issuer": template, "jwks_uri": at("k"), "token_endpoint": at("oauth2/v2.0/token")}),
            )
        } else {
            answer(200, set.to_string().as_bytes())
        };
        engine.callout_result(flight, &reply);
    }
    assert_eq!(refusal_of(&mut engine, &v2(HOME)), "unknown_key");
    exchanged_at(&mut engine, &v2(PARTNER));
}

#[test]
fn metadata_for_several_tenants_must_have_the_issuer_template() {
    for issuer in [format!("{LOGIN}/organizations/v2.0"), format!("{LOGIN}/{HOME}/v2.0"), "{tenantid}".to_owned()] {
        let template = format!("{LOGIN}/{{tenantid}}/v2.0");
        let configuration = entra(&template, json!({"tenants": [HOME]}));
        let url = format!("{LOGIN}/organizations/v2.0/.well-known/openid-configuration");
        let mut engine = discovered_at(&configuration, &url, &issuer);
        // A waiting request causes one more fetch.
        engine.send_waiting(bearer("/github", &ENTRA_KEY.token(&v2(HOME))));
        let (flight, call) = engine.expect_call();
        assert_eq!(call.url.as_str(), url);
        let document =
            json!({"issuer": issuer, "jwks_uri": format!("{LOGIN}/k"), "token_endpoint": format!("{LOGIN}/t")});
        assert!(engine.callout_result(flight, &answer_with(200, &[], &document)).is_empty());
        // The next document is of the same issuer.
        let (flight, _) = engine.expect_call();
        let step = engine.only_step(flight, &answer_with(200, &[], &document));
        assert_eq!(refused(step).1, "jwks_unavailable", "{issuer}");
        assert_eq!(refusal_of(&mut engine, &v2(HOME)), "jwks_unavailable", "{issuer}");
    }
}

#[test]
fn national_clouds_have_their_own_hosts() {
    for (login, sts) in [
        ("https://login.microsoftonline.us", "https://sts.windows.net"),
        ("https://login.partner.microsoftonline.cn", "https://sts.chinacloudapi.cn"),
    ] {
        let issuer = format!("{login}/{HOME}/v2.0");
        let inline: Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY])).unwrap();
        let endpoint = format!("{login}/{HOME}/oauth2/v2.0/token");
        let mut engine = TestEngine::new(&entra(&issuer, json!({"jwks": inline, "token_endpoint": endpoint})));
        assert_eq!(exchanged_at(&mut engine, &with(v2(HOME), json!({"iss": issuer}))), endpoint);
        assert_eq!(exchanged_at(&mut engine, &with(v1(HOME), json!({"iss": format!("{sts}/{HOME}/")}))), endpoint);
        assert_eq!(refusal_of(&mut engine, &v2(HOME)), "unknown_issuer");
    }
}

#[test]
fn mistakes_about_tenants_are_reported_by_field() {
    let template = format!("{LOGIN}/{{tenantid}}/v2.0");
    for (configuration, path) in [
        (entra(&template, json!({})), "tenants"),
        (entra(&template, json!({"tenants": ["acme.com"]})), "tenants"),
        (entra(&format!("{LOGIN}/{HOME}/v2.0"), json!({"tenants": [HOME]})), "issuer"),
        (entra(&format!("{LOGIN}/organizations/v2.0"), json!({})), "issuer"),
        (entra(&format!("{LOGIN}/acme.com/v2.0"), json!({})), "issuer"),
        (entra(&format!("https://sts.windows.net/{HOME}/"), json!({})), "issuer"),
        (okta("https://acme.okta.com/oauth2/{tenantid}", json!({})), "issuer"),
        (okta("https://acme.okta.com/oauth2/default", json!({"tenants": [HOME]})), "tenants"),
    ] {
        let error = Config::parse(configuration.to_string().as_bytes(), &environment).unwrap_err();
        assert_eq!(error.path, format!("identity_providers.idp.{path}"), "{error}");
    }
}

#[test]
fn resource_metadata_names_the_issuer_of_each_tenant() {
    let mut engine = multi_tenant();
    let document = answered(engine.decide(request("GET", "/.well-known/oauth-protected-resource/github", &[])));
    let document: Value = serde_json::from_str(&document.body).unwrap();
    let issuers = [HOME, PARTNER].map(|tenant| format!("{LOGIN}/{tenant}/v2.0"));
    assert_eq!(document["authorization_servers"], json!(issuers));
}

#[test]
fn two_providers_cannot_have_the_same_tenant() {
    let mut configuration = entra(&format!("{LOGIN}/{{tenantid}}/v2.0"), json!({"tenants": [HOME, PARTNER]}));
    let single = with(
        configuration["identity_providers"]["idp"].clone(),
        json!({"issuer": format!("{LOGIN}/{PARTNER}/v2.0"), "tenants": null}),
    );
    configuration["identity_providers"]["second"] = single;
    let error = Config::parse(configuration.to_string().as_bytes(), &environment).unwrap_err();
    assert_eq!(error.path, "identity_providers.second.issuer");
}

#[test]
fn guest_is_exchanged_at_the_tenant_of_the_token() {
    let mut engine = multi_tenant();
    let guest = with(v2(PARTNER), json!({"idp": format!("https://sts.windows.net/{OTHER}/"), "oid": "guest"}));
    assert_eq!(exchanged_at(&mut engine, &guest), format!("{LOGIN}/{PARTNER}/oauth2/v2.0/token"));
    assert_eq!(refusal_of(&mut engine, &with(guest, json!({"tid": null}))), "invalid_claims");
    engine.expect_no_call();
}
