//! The shapes that issuers and tokens have at each provider, and what a person is told of a token that cannot do.

use onbehalf::config::Config;
use onbehalf::engine::Decision;
use onbehalf::http::CalloutResult;
use serde_json::{Value, json};

use crate::support::*;

const LOGIN: &str = "https://login.microsoftonline.com";
const HOME: &str = "5f0c7a4e-9a0f-4c3e-8f5d-2b7f6f1f0c11";
const PARTNER: &str = "0d9c8b7a-1111-4222-8333-aabbccddeeff";
const OTHER: &str = "99999999-1111-4222-8333-aabbccddeeff";

/// One provider, and a resource that it exchanges for.
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
fn ready(configuration: &Value, asked: &str, issuer: &str) -> Bench {
    let mut bench = Bench::new(configuration);
    bench.tick();
    while let Some((flight, call)) = bench.engine.next_callout() {
        let reply = if call.url.as_str().contains(".well-known") {
            assert_eq!(call.url.as_str(), asked);
            let base = asked.split("/v2.0").next().unwrap();
            let at = |path: &str| format!("{base}/{path}");
            let document = json!({"issuer": issuer, "jwks_uri": at("discovery/v2.0/keys"), "token_endpoint": at("oauth2/v2.0/token")});
            answer_with(200, &[], &document)
        } else {
            answer(200, &templated_keys())
        };
        bench.reply(flight, &reply);
    }
    bench
}

fn single_tenant() -> Bench {
    let issuer = format!("{LOGIN}/{HOME}/v2.0");
    ready(&entra(&issuer, json!({})), &format!("{issuer}/.well-known/openid-configuration"), &issuer)
}

fn multi_tenant() -> Bench {
    let template = format!("{LOGIN}/{{tenantid}}/v2.0");
    let configuration = entra(&template, json!({"tenants": [HOME, PARTNER]}));
    ready(&configuration, &format!("{LOGIN}/organizations/v2.0/.well-known/openid-configuration"), &template)
}

/// Where a token that is accepted is exchanged.
fn exchanged_at(bench: &mut Bench, claims: &Value) -> String {
    let step = bench.ask(bearer("/github", &ENTRA_KEY.token(claims)));
    match step {
        Decision::Pause => {
            let (flight, call) = bench.call();
            bench.reply(flight, &TIMED_OUT);
            call.url.as_str().to_owned()
        }
        Decision::Respond(answer) => panic!("{answer:?}"),
        Decision::Forward(_) => panic!("not exchanged"),
    }
}

fn reason(bench: &mut Bench, claims: &Value) -> String {
    refused(bench.ask(bearer("/github", &ENTRA_KEY.token(claims)))).1
}

#[test]
fn tokens_of_both_versions_of_one_tenant_are_accepted_together() {
    let mut bench = single_tenant();
    let endpoint = format!("{LOGIN}/{HOME}/oauth2/v2.0/token");
    assert_eq!(exchanged_at(&mut bench, &v2(HOME)), endpoint);
    assert_eq!(exchanged_at(&mut bench, &with(v1(HOME), json!({"oid": "bob"}))), endpoint);
}

#[test]
fn a_version_that_is_not_that_of_the_issuer_is_refused() {
    let mut bench = single_tenant();
    assert_eq!(reason(&mut bench, &with(v1(HOME), json!({"ver": "2.0"}))), "invalid_claims");
    assert_eq!(reason(&mut bench, &with(v2(HOME), json!({"ver": "1.0"}))), "invalid_claims");
    for issuer in [
        format!("https://sts.windows.net/{HOME}"),
        format!("https://sts.windows.net/{HOME}/v2.0"),
        format!("https://sts.chinacloudapi.cn/{HOME}/"),
        format!("https://login.microsoftonline.us/{HOME}/v2.0"),
        format!("{LOGIN}/{HOME}/"),
        format!("https://login.microsoftonline.com@evil.example/{HOME}/v2.0"),
        format!("https://login.microsoftonline.com.evil.example/{HOME}/v2.0"),
    ] {
        assert_eq!(reason(&mut bench, &with(v2(HOME), json!({"iss": issuer}))), "unknown_issuer", "{issuer}");
    }
}

#[test]
fn users_of_every_tenant_that_is_listed_are_exchanged_at_their_own() {
    let mut bench = multi_tenant();
    for tenant in [HOME, PARTNER] {
        for claims in [v2(tenant), v1(tenant)] {
            assert_eq!(exchanged_at(&mut bench, &claims), format!("{LOGIN}/{tenant}/oauth2/v2.0/token"));
        }
    }
}

#[test]
fn a_tenant_that_is_not_listed_is_named_and_refused() {
    for mut bench in [single_tenant(), multi_tenant()] {
        assert_eq!(reason(&mut bench, &v2(OTHER)), "wrong_tenant");
        assert_eq!(reason(&mut bench, &v1(OTHER)), "wrong_tenant");
    }
}

#[test]
fn iss_and_tid_name_the_same_tenant_or_the_token_is_refused() {
    let mut bench = multi_tenant();
    for tid in [json!(PARTNER), json!(null), json!(7), json!(HOME.to_uppercase())] {
        assert_eq!(reason(&mut bench, &with(v2(HOME), json!({"tid": tid}))), "invalid_claims", "{tid}");
    }
    for tenant in ["{tenantid}", "organizations", "common", "", "..", &HOME.to_uppercase()] {
        let claims = json!({"iss": format!("{LOGIN}/{tenant}/v2.0"), "tid": tenant});
        assert_eq!(reason(&mut bench, &with(v2(HOME), claims)), "unknown_issuer", "{tenant}");
    }
}

#[test]
fn a_key_of_one_tenant_verifies_no_token_of_another() {
    let template = format!("{LOGIN}/{{tenantid}}/v2.0");
    let mut bench = Bench::new(&entra(&template, json!({"tenants": [HOME, PARTNER]})));
    bench.tick();
    let mut set: Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY])).unwrap();
    set["keys"][0]["issuer"] = json!(format!("{LOGIN}/{PARTNER}/v2.0"));
    while let Some((flight, call)) = bench.engine.next_callout() {
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
        bench.reply(flight, &reply);
    }
    assert_eq!(reason(&mut bench, &v2(HOME)), "unknown_key");
    exchanged_at(&mut bench, &v2(PARTNER));
}

#[test]
fn the_metadata_of_all_tenants_must_be_the_template() {
    for issuer in [format!("{LOGIN}/organizations/v2.0"), format!("{LOGIN}/{HOME}/v2.0"), "{tenantid}".to_owned()] {
        let template = format!("{LOGIN}/{{tenantid}}/v2.0");
        let configuration = entra(&template, json!({"tenants": [HOME]}));
        let url = format!("{LOGIN}/organizations/v2.0/.well-known/openid-configuration");
        let mut bench = ready(&configuration, &url, &issuer);
        // Somebody who waits is reason enough to look once more.
        bench.wait(bearer("/github", &ENTRA_KEY.token(&v2(HOME))));
        let (flight, call) = bench.call();
        assert_eq!(call.url.as_str(), url);
        let document =
            json!({"issuer": issuer, "jwks_uri": format!("{LOGIN}/k"), "token_endpoint": format!("{LOGIN}/t")});
        let step = bench.reply(flight, &answer_with(200, &[], &document)).remove(0).1;
        assert_eq!(refused(step).1, "jwks_unavailable", "{issuer}");
        assert_eq!(reason(&mut bench, &v2(HOME)), "jwks_unavailable", "{issuer}");
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
        let mut bench = Bench::new(&entra(&issuer, json!({"jwks": inline, "token_endpoint": endpoint})));
        assert_eq!(exchanged_at(&mut bench, &with(v2(HOME), json!({"iss": issuer}))), endpoint);
        assert_eq!(exchanged_at(&mut bench, &with(v1(HOME), json!({"iss": format!("{sts}/{HOME}/")}))), endpoint);
        assert_eq!(reason(&mut bench, &v2(HOME)), "unknown_issuer");
    }
}

#[test]
fn a_token_for_a_providers_own_api_is_told_from_one_for_another() {
    let mut bench = single_tenant();
    for audience in
        ["https://graph.microsoft.com", "https://graph.microsoft.com/", "00000003-0000-0000-c000-000000000000"]
    {
        assert_eq!(reason(&mut bench, &with(v1(HOME), json!({"aud": audience}))), "wrong_audience");
    }
    let header = json!({"alg": "ES256", "kid": "entra-1", "typ": "JWT", "nonce": "x"});
    let token = ENTRA_KEY.sign(&header, &v2(HOME));
    assert_eq!(refused(bench.ask(bearer("/github", &token))).1, "wrong_audience");
}

#[test]
fn what_can_never_succeed_is_named_before_any_key_is_looked_for() {
    let mut bench = Bench::new(&entra(&format!("{LOGIN}/{HOME}/v2.0"), json!({})));
    for (change, expected) in [
        (json!({"aud": "api://other"}), "wrong_audience"),
        (json!({"exp": NOW.secs() - 61}), "expired"),
        (json!({"nbf": NOW.secs() + 61}), "not_yet_valid"),
        (json!({"idtyp": "app"}), "not_a_user_token"),
        (json!({"scp": null, "roles": ["x"]}), "not_a_user_token"),
        (json!({"scp": null, "azp": null}), "id_token_as_access_token"),
    ] {
        assert_eq!(reason(&mut bench, &with(v2(HOME), change)), expected);
    }
    bench.no_call();
    assert_eq!(bench.engine.waiting(), 0);
}

#[test]
fn an_org_server_is_for_id_tokens_and_its_access_tokens_are_refused() {
    let org = "https://acme.okta.com";
    let error = Config::parse(okta(org, json!({})).to_string().as_bytes(), &environment).unwrap_err();
    assert_eq!(error.path, "identity_providers.idp.issuer");
    let inline: Value = serde_json::from_slice(&key_set(&[&OKTA_KEY])).unwrap();
    let more = json!({"subject_token": {"type": "id_token"}, "audiences": ["login-client"], "jwks": inline,
        "token_endpoint": format!("{org}/oauth2/v1/token")});
    let mut bench = Bench::new(&okta(org, more));
    let id_token = with(bob_id(), json!({"iss": org}));
    bench.wait(bearer("/github", &OKTA_KEY.token(&id_token)));
    let (_, call) = bench.call();
    assert_eq!(form(&call)["subject_token_type"], "urn:ietf:params:oauth:token-type:id_token");
    let mut reason = |claims: &Value| refused(bench.ask(bearer("/github", &OKTA_KEY.token(claims)))).1;
    assert_eq!(reason(&with(bob(), json!({"iss": org, "aud": org}))), "access_token_as_id_token");
    assert_eq!(reason(&with(id_token, json!({"aud": "another-client"}))), "wrong_audience");
}

#[test]
fn a_token_of_a_neighbouring_authorization_server_is_refused_by_its_issuer() {
    let issuer = "https://acme.okta.com/oauth2/default";
    let inline: Value = serde_json::from_slice(&key_set(&[&OKTA_KEY])).unwrap();
    let mut bench = Bench::new(&okta(issuer, json!({"jwks": inline, "token_endpoint": format!("{issuer}/v1/token")})));
    for other in [
        "https://acme.okta.com",
        "https://acme.okta.com/oauth2/aus1",
        "https://acme.oktapreview.com/oauth2/default",
        "https://acme.okta.com/oauth2/default/",
    ] {
        let token = OKTA_KEY.token(&with(bob(), json!({"iss": other})));
        assert_eq!(refused(bench.ask(bearer("/github", &token))).1, "unknown_issuer", "{other}");
    }
    bench.wait(bearer("/github", &OKTA_KEY.token(&with(bob(), json!({"iss": issuer})))));
}

#[test]
fn keys_that_are_written_down_are_not_fetched_and_do_not_age() {
    let issuer = "https://acme.okta.com/oauth2/default";
    let inline: Value = serde_json::from_slice(&key_set(&[&OKTA_KEY])).unwrap();
    let mut bench = Bench::new(&okta(issuer, json!({"jwks": inline, "token_endpoint": format!("{issuer}/v1/token")})));
    bench.tick();
    bench.no_call();
    bench.advance(40 * 86_400);
    bench.tick();
    bench.no_call();
    assert!(bench.engine.key_ages(bench.now).is_empty());
    let now = bench.now.secs();
    let token = |kid: &str| {
        let claims = with(bob(), json!({"iss": issuer, "iat": now, "exp": now + 60}));
        OKTA_KEY.sign(&json!({"alg": "ES256", "kid": kid}), &claims)
    };
    assert_eq!(refused(bench.ask(bearer("/github", &token("k")))).1, "unknown_key");
    bench.no_call();
    bench.wait(bearer("/github", &token(OKTA_KEY.kid)));
    // Without a token endpoint, that is discovered, and nothing else.
    let mut bench = Bench::new(&okta(issuer, json!({"jwks": inline})));
    bench.tick();
    let (flight, _) = bench.call();
    let endpoints = json!({"issuer": issuer, "token_endpoint": format!("{issuer}/v1/token")});
    bench.reply(flight, &answer_with(200, &[], &endpoints));
    bench.no_call();
    bench.wait(bearer("/github", &OKTA_KEY.token(&with(bob(), json!({"iss": issuer})))));
    let (flight, _) = bench.call();
    assert_eq!(bench.reply(flight, &issued("up")).len(), 1);
    // Where it cannot be had, that is what is said.
    let mut without = Bench::new(&okta(issuer, json!({"jwks": inline})));
    let asked = without.wait(bearer("/github", &OKTA_KEY.token(&with(bob(), json!({"iss": issuer})))));
    let (flight, _) = without.call();
    let mut steps = without.reply(flight, &answer(500, b""));
    assert_eq!(steps.len(), 1);
    let (waited, step) = steps.remove(0);
    assert_eq!((waited, refused(step)), (asked, (503, "provider_unavailable".to_owned())));
    // However long the metadata cannot be had again, the keys do not get old.
    for _ in 0..10 {
        bench.advance(86_400);
        bench.tick();
        while let Some((flight, call)) = bench.engine.next_callout() {
            assert_eq!(call.method, "GET");
            bench.reply(flight, &TIMED_OUT);
        }
    }
    assert!(bench.engine.key_ages(bench.now).is_empty());
    let token = with(bob(), json!({"iss": issuer, "exp": bench.now.secs() + 600, "iat": bench.now.secs()}));
    bench.wait(bearer("/github", &OKTA_KEY.token(&token)));
    assert_eq!(bench.call().1.method, "POST");
}

#[test]
fn written_keys_must_all_be_of_use() {
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
fn a_server_without_openid_discovery_is_found_by_rfc_8414() {
    let issuer = "https://as.example/tenant";
    let provider = json!({
        "profile": "rfc8693", "issuer": issuer, "cluster": "idp", "audiences": ["api://default"],
        "client": {"id": "c", "authentication": {"method": "client_secret_basic", "secret": {"inline": "s"}}},
    });
    let mut bench = Bench::new(&only(provider, json!({"audience": "a"})));
    bench.tick();
    let mut urls = Vec::new();
    while let Some((flight, call)) = bench.engine.next_callout() {
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
        bench.reply(flight, &reply);
    }
    assert_eq!(urls.len(), 3, "{urls:?}");
    let claims = with(bob(), json!({"iss": issuer, "cid": null, "uid": null}));
    bench.wait(bearer("/github", &OKTA_KEY.token(&claims)));
}

#[test]
fn mistakes_about_tenants_are_named() {
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
fn the_metadata_of_a_resource_names_the_issuer_of_each_tenant() {
    let mut bench = multi_tenant();
    let document = answered(bench.ask(request("GET", "/.well-known/oauth-protected-resource/github", &[])));
    let document: Value = serde_json::from_str(&document.body).unwrap();
    let issuers = [HOME, PARTNER].map(|tenant| format!("{LOGIN}/{tenant}/v2.0"));
    assert_eq!(document["authorization_servers"], json!(issuers));
}

#[test]
fn two_providers_do_not_claim_the_same_tenant() {
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
fn where_an_id_token_is_the_credential_no_other_kind_of_token_is() {
    let issuer = "https://as.example";
    let inline: Value = serde_json::from_slice(&key_set(&[&OKTA_KEY])).unwrap();
    let provider = json!({
        "profile": "rfc8693", "issuer": issuer, "cluster": "idp", "audiences": ["login-client"], "jwks": inline,
        "token_endpoint": "https://as.example/t", "subject_token": {"type": "id_token"},
        "client": {"id": "c", "authentication": {"method": "client_secret_basic", "secret": {"inline": "s"}}},
    });
    let mut bench = Bench::new(&only(provider, json!({"audience": "a"})));
    let id_token = with(bob_id(), json!({"iss": issuer}));
    for (change, expected) in [
        (json!({"scope": "read"}), "access_token_as_id_token"),
        (json!({"client_id": "x"}), "access_token_as_id_token"),
        (json!({"typ": "Bearer"}), "access_token_as_id_token"),
        (json!({"events": {}}), "unsupported_token_type"),
    ] {
        let token = OKTA_KEY.token(&with(id_token.clone(), change));
        assert_eq!(refused(bench.ask(bearer("/github", &token))).1, expected);
    }
    bench.wait(bearer("/github", &OKTA_KEY.token(&id_token)));
}

/// The mistake in a configuration with one provider.
fn mistake(configuration: &Value) -> (String, String) {
    let error = Config::parse(configuration.to_string().as_bytes(), &environment).expect_err("a mistake");
    (error.path.clone(), error.to_string())
}

fn target(mut configuration: Value, exchange: Value) -> Value {
    configuration["resources"][0]["exchange"]["idp"] = exchange;
    configuration
}

#[test]
fn an_audience_that_is_not_the_clients_is_refused_because_no_such_token_is_exchanged() {
    let issuer = format!("{LOGIN}/{HOME}/v2.0");
    let with_audiences = |audiences: Value| {
        let client =
            json!({"id": PARTNER, "authentication": {"method": "client_secret_post", "secret": {"inline": "s"}}});
        entra(&issuer, json!({"audiences": audiences, "client": client}))
    };
    for audience in [
        "gateway",
        OTHER,
        &format!("api://{OTHER}"),
        &PARTNER.to_uppercase(),
        "https://graph.microsoft.com",
        "00000003-0000-0000-c000-000000000000",
    ] {
        let (path, text) = mistake(&with_audiences(json!([PARTNER, audience])));
        assert_eq!(path, "identity_providers.idp.audiences", "{audience}");
        assert!(text.contains(audience) && text.contains("AADSTS500131"), "{text}");
    }
    let own = format!("api://{PARTNER}");
    for audience in [PARTNER, &own, &format!("{own}/gateway"), "api://gateway", "https://mcp.acme.example/mcp"] {
        parse(&with_audiences(json!([audience])));
    }
}

#[test]
fn what_is_asked_for_is_of_one_app_and_not_of_the_proxys_own() {
    let base = || {
        entra(
            &format!("{LOGIN}/{HOME}/v2.0"),
            json!({"audiences": ["api://gateway", "https://mcp.acme.example/", "gateway-id"]}),
        )
    };
    for exchange in [
        json!({"resource": "api://gateway"}),
        json!({"resource": "api://gateway/"}),
        json!({"resource": "api://gateway/.default"}),
        json!({"resource": "https://mcp.acme.example"}),
        json!({"scopes": ["api://gateway/read"]}),
        json!({"scopes": ["offline_access", "https://mcp.acme.example/.default"]}),
    ] {
        let (path, text) = mistake(&target(base(), exchange));
        assert_eq!(path, "resources[0].exchange.idp");
        assert!(text.contains("AADSTS90009"), "{text}");
    }
    for scopes in [
        json!(["api://a/read", "api://b/read"]),
        json!(["api://a/.default", "api://b/.default"]),
        json!(["api://a/read", "User.Read"]),
        json!(["openid", "api://a/read", "https://a/read"]),
    ] {
        let (path, text) = mistake(&target(base(), json!({"scopes": scopes})));
        assert_eq!(path, "resources[0].exchange.idp.scopes");
        assert!(text.contains("AADSTS700022"), "{text}");
    }
    for exchange in [
        json!({"resource": "gateway-id"}),
        json!({"resource": "api://gateway-of-others"}),
        json!({"resource": "https://mcp.acme.example/github"}),
        json!({"scopes": ["https://mcp.acme.example/github/.default"]}),
        json!({"scopes": ["api://a/read", "api://a/write", "offline_access", "openid"]}),
        json!({"scopes": ["User.Read", "https://graph.microsoft.com/Mail.Read", "00000003-0000-0000-c000-000000000000/Mail.Send"]}),
    ] {
        parse(&target(base(), exchange));
    }
}

#[test]
fn a_long_scope_where_tokens_have_the_short_one_is_warned_about() {
    let mut configuration = entra(&format!("{LOGIN}/{HOME}/v2.0"), json!({}));
    configuration["resources"][0]["scopes_supported"] = json!(["https://mcp.acme.example/github/mcp.read"]);
    configuration["resources"][0]["scopes"] = json!(["mcp.read"]);
    assert!(parse(&configuration).warnings.iter().all(|warning| !warning.starts_with("resources")));
    configuration["resources"][0]["scopes"] = json!(["mcp.read", "api://gateway/mcp.read"]);
    let warnings = parse(&configuration).warnings;
    let warning = warnings.iter().find(|warning| warning.starts_with("resources[0].scopes[1]: with idp")).unwrap();
    assert!(warning.contains("scopes_supported"), "{warning}");
    // Elsewhere a scope may be any string.
    let mut configuration = okta("https://acme.okta.com/oauth2/default", json!({}));
    configuration["resources"][0]["scopes"] = json!(["api://gateway/mcp.read"]);
    assert!(parse(&configuration).warnings.iter().all(|warning| !warning.starts_with("resources")));
}

#[test]
fn scopes_of_openid_connect_are_not_asked_for_in_an_exchange_that_refuses_them() {
    let base = || okta("https://acme.okta.com/oauth2/default", json!({}));
    for scope in ["openid", "profile", "email", "address", "phone", "offline_access"] {
        let (path, _) = mistake(&target(base(), json!({"audience": "a", "scopes": ["x", scope]})));
        assert_eq!(path, "resources[0].exchange.idp.scopes", "{scope}");
    }
}

#[test]
fn a_resource_is_an_absolute_uri_without_a_fragment() {
    for profile in ["rfc8693", "jwt_bearer", "okta_obo"] {
        let base = || okta("https://acme.okta.com/oauth2/default", json!({"profile": profile}));
        for resource in [
            "https://a.example/#x",
            "https://a.example#",
            "a.example",
            "/mcp",
            "https:",
            "1a:b",
            "a b:c",
            "https://a.example/ b",
            "https://a.example/\"",
            "é:x",
        ] {
            let (path, _) =
                mistake(&target(base(), json!({"audience": "a", "resource": ["https://ok.example", resource]})));
            assert_eq!(path, "resources[0].exchange.idp.resource", "{profile} {resource}");
        }
        for resource in ["https://a.example", "https://a.example/mcp?x=1", "urn:example:mcp", "api://github"] {
            parse(&target(base(), json!({"audience": "a", "resource": resource})));
        }
    }
}

#[test]
fn a_grant_with_nothing_to_ask_for_is_refused() {
    for profile in ["rfc8693", "jwt_bearer"] {
        let base = || okta("https://acme.okta.com/oauth2/default", json!({"profile": profile}));
        let (path, _) = mistake(&target(base(), json!({})));
        assert_eq!(path, "resources[0].exchange.idp", "{profile}");
        for exchange in [json!({"audience": "a"}), json!({"resource": "https://a.example"}), json!({"scopes": ["a"]})] {
            parse(&target(base(), exchange));
        }
    }
    let by_parameter = target(
        okta("https://acme.okta.com/oauth2/default", json!({"profile": "jwt_bearer"})),
        json!({"parameters": {"connection": "corp"}}),
    );
    parse(&by_parameter);
}

#[test]
fn a_guest_is_exchanged_at_the_tenant_of_the_token_and_without_one_not_at_all() {
    let mut bench = multi_tenant();
    let guest = with(v2(PARTNER), json!({"idp": format!("https://sts.windows.net/{OTHER}/"), "oid": "guest"}));
    assert_eq!(exchanged_at(&mut bench, &guest), format!("{LOGIN}/{PARTNER}/oauth2/v2.0/token"));
    assert_eq!(reason(&mut bench, &with(guest, json!({"tid": null}))), "invalid_claims");
    bench.no_call();
}

#[test]
fn scopes_that_mcp_clients_cannot_ask_for_are_warned_about() {
    let url = "https://mcp.acme.example/github";
    let warned = |scopes: Value, supported: Value| {
        let mut configuration = entra(&format!("{LOGIN}/{HOME}/v2.0"), json!({}));
        configuration["resources"][0]["scopes"] = scopes;
        configuration["resources"][0]["scopes_supported"] = supported;
        let warnings = parse(&configuration).warnings.into_iter();
        warnings.filter(|text| text.contains(": with idp, ") && !text.contains("short name")).collect::<Vec<_>>()
    };
    // What is advertised is the url of the resource, a slash and the name.
    for supported in [
        json!([format!("{url}/mcp.read")]),
        json!([format!("{url}/a"), format!("{url}/b"), "offline_access", "openid", "profile", "email"]),
        json!([format!("{url}/.default")]),
    ] {
        assert_eq!(warned(json!(["mcp.read"]), supported.clone()), [""; 0], "{supported}");
    }
    for (supported, at, number) in [
        (json!(["api://gateway/mcp.read"]), "scopes_supported[0]", "AADSTS9010010"),
        (json!([format!("{url}/a"), "api://gateway/b"]), "scopes_supported[1]", "AADSTS9010010"),
        (json!([format!("{url}//mcp.read")]), "scopes_supported[0]", "AADSTS9010010"),
        (json!(["https://mcp.acme.example/mcp.read"]), "scopes_supported[0]", "AADSTS9010010"),
        (json!(["https://MCP.acme.example/github/mcp.read"]), "scopes_supported[0]", "AADSTS9010010"),
        (json!(["gateway-id/mcp.read"]), "scopes_supported[0]", "AADSTS9010010"),
        (json!([format!("{url}/a"), "mcp.read"]), "scopes_supported[1]", "AADSTS650053"),
        (json!([]), "scopes_supported", "AADSTS900144"),
        // Without the long forms, the short ones of tokens are advertised.
        (Value::Null, "scopes[0]", "AADSTS650053"),
    ] {
        let warnings = warned(json!(["mcp.read"]), supported.clone());
        assert_eq!(warnings.len(), 1, "{supported}: {warnings:?}");
        assert!(warnings[0].starts_with(&format!("resources[0].{at}: ")), "{supported}: {warnings:?}");
        assert!(warnings[0].contains("with idp, "), "{supported}: {warnings:?}");
        assert!(warnings[0].contains(number), "{supported}: {warnings:?}");
    }
    // With a slash at the end of the url, that is what clients send.
    let mut configuration = entra(&format!("{LOGIN}/{HOME}/v2.0"), json!({}));
    configuration["resources"][0]["url"] = json!(format!("{url}/"));
    configuration["resources"][0]["scopes_supported"] = json!([format!("{url}//mcp.read")]);
    assert!(parse(&configuration).warnings.iter().all(|text| !text.contains("AADSTS")));
    // No other provider's, and not where MCP clients are told of another provider.
    let mut configuration = okta("https://acme.okta.com/oauth2/default", json!({}));
    configuration["resources"][0]["scopes_supported"] = json!(["api://gateway/mcp.read", "mcp.read"]);
    assert!(parse(&configuration).warnings.iter().all(|text| !text.starts_with("resources")));
    let mut both = crate::support::configuration();
    both["resources"][0]["scopes_supported"] = json!(["mcp.read"]);
    let of_entra = |configuration: &Value| {
        parse(configuration).warnings.iter().filter(|text| text.contains("with entra-us, ")).count()
    };
    assert_eq!(of_entra(&both), 1);
    both["resources"][0]["authorization_servers"] = json!(["okta-eu"]);
    assert_eq!(of_entra(&both), 0);
}
