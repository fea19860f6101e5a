//! Issuers that are no `https` URL.

use onbehalf::config::Config;
use onbehalf_test_support::{
    OKTA_KEY, TestEngine, answer, answered, bearer, bob, configuration_error, environment, issued, key_set, refused,
    request, with,
};
use serde_json::{Value, json};

use super::only;

/// Issuers as AD FS, Google and cloud accounts have them.
const ISSUERS: [&str; 5] = [
    "http://adfs.acme.example/adfs/services/trust",
    "accounts.google.com",
    "gateway@acme-prod.iam.gserviceaccount.com",
    "urn:acme:idp",
    "https://as.example/?realm=a#b",
];

/// A provider whose keys and token endpoint are configured.
fn by_hand(issuer: &str, more: Value) -> Value {
    let provider = json!({
        "profile": "rfc8693", "issuer": issuer, "cluster": "idp", "audiences": ["api://default"],
        "jwks_uri": "https://as.example/k", "token_endpoint": "https://as.example/t",
        "client": {"id": "c", "authentication": {"method": "client_secret_basic", "secret": {"inline": "s"}}},
    });
    only(with(provider, more), json!({"audience": "a"}))
}

fn token_of(issuer: &str) -> String {
    OKTA_KEY.token(&with(bob(), json!({"iss": issuer, "cid": null, "uid": null})))
}

fn document(engine: &mut TestEngine) -> Value {
    let asked = request("GET", "/.well-known/oauth-protected-resource/github", &[]);
    serde_json::from_str(&answered(engine.decide(asked)).body).unwrap()
}

#[test]
fn issuer_that_is_no_url_is_compared_as_a_whole() {
    for issuer in ISSUERS {
        let mut engine = TestEngine::new(&by_hand(issuer, json!({})));
        engine.send_waiting(bearer("/github", &token_of(issuer)));
        let (flight, call) = engine.expect_call();
        assert_eq!(call.url.as_str(), "https://as.example/k", "no metadata is looked for");
        engine.callout_result(flight, &answer(200, &key_set(&[&OKTA_KEY])));
        let (flight, call) = engine.expect_call();
        assert_eq!(call.url.as_str(), "https://as.example/t");
        assert_eq!(engine.callout_result(flight, &issued("up")).len(), 1);
        let others = [
            issuer.to_uppercase(),
            format!("{issuer}/"),
            format!("https://{issuer}"),
            format!(" {issuer}"),
            issuer[..issuer.len() - 1].to_owned(),
            String::new(),
        ];
        for other in others {
            let verdict = refused(engine.decide(bearer("/github", &token_of(&other))));
            assert_eq!(verdict, (401, "unknown_issuer".to_owned()), "{other:?} at {issuer}");
        }
    }
}

#[test]
fn metadata_leaves_an_issuer_out_that_is_no_url() {
    for issuer in ISSUERS {
        let document = document(&mut TestEngine::new(&by_hand(issuer, json!({}))));
        assert_eq!(document.get("authorization_servers"), None, "{issuer}");
        assert_eq!(document["resource"], "https://mcp.acme.example/github");
    }
    let mut two = by_hand("accounts.google.com", json!({}));
    two["identity_providers"]["other"] =
        with(two["identity_providers"]["idp"].clone(), json!({"issuer": "https://o.example"}));
    two["resources"][0]["exchange"]["other"] = json!({"audience": "a"});
    assert_eq!(document(&mut TestEngine::new(&two))["authorization_servers"], json!(["https://o.example"]));
    two["resources"][0]["authorization_servers"] = json!(["other", "idp"]);
    let config = Config::parse(two.to_string().as_bytes(), &environment).unwrap();
    let expected = "resources[0].authorization_servers[1]: its issuer is no https URL";
    assert!(config.warnings.iter().any(|warning| warning.starts_with(expected)), "{:?}", config.warnings);
    assert_eq!(document(&mut TestEngine::new(&two))["authorization_servers"], json!(["https://o.example"]));
}

#[test]
fn issuer_that_is_no_url_needs_keys_and_token_endpoint() {
    let keys: Value = serde_json::from_slice(&key_set(&[&OKTA_KEY])).unwrap();
    for issuer in ISSUERS {
        let inline = json!({"jwks_uri": null, "jwks": keys});
        Config::parse(by_hand(issuer, inline).to_string().as_bytes(), &environment).unwrap();
        for lacking in [json!({"jwks_uri": null}), json!({"token_endpoint": null})] {
            let error = configuration_error(&by_hand(issuer, lacking.clone())).to_string();
            assert!(error.contains("identity_providers.idp.issuer"), "{lacking}: {error}");
            assert!(error.contains("any other text needs jwks or jwks_uri, and token_endpoint"), "{lacking}: {error}");
        }
        // Providers of these kinds have URLs only.
        for profile in ["entra_obo", "okta_obo"] {
            let error = configuration_error(&by_hand(issuer, json!({"profile": profile}))).to_string();
            assert!(error.contains("identity_providers.idp.issuer"), "{profile}: {error}");
        }
        // Tokens that are only validated need no token endpoint.
        let validated = json!({"profile": "validate_only", "client": null, "token_endpoint": null});
        let mut configuration = by_hand(issuer, validated);
        configuration["resources"][0]["exchange"]["idp"] = json!({});
        configuration["shared_data_secret"] = json!({"inline": "0123456789abcdef0123456789abcdef"});
        Config::parse(configuration.to_string().as_bytes(), &environment).unwrap();
    }
    // A placeholder of a recipe is no issuer.
    let error = configuration_error(&by_hand("https://IDP_HOST/x", json!({}))).to_string();
    assert!(error.contains("placeholder"), "{error}");
    let same = configuration_error(&{
        let mut two = by_hand("accounts.google.com", json!({}));
        two["identity_providers"]["other"] = two["identity_providers"]["idp"].clone();
        two
    });
    assert!(same.to_string().contains("the issuer of another provider"), "{same}");
}
