//! Warnings about lists of audiences, when a configuration is loaded.

use onbehalf_test_support::{configuration, parse, with};
use serde_json::{Value, json};

const A: &str = "https://mcp.acme.example/a";
const B: &str = "https://mcp.acme.example/b";

/// Resources for Okta's users, each with more options.
fn of(resources: &[(&str, Value)]) -> Value {
    let resource = |(url, more): &(&str, Value)| {
        with(json!({"url": url, "exchange": {"okta-eu": {"audience": format!("{url}-upstream")}}}), more.clone())
    };
    let mut configuration = configuration();
    configuration["resources"] = resources.iter().map(resource).collect();
    configuration["identity_providers"].as_object_mut().unwrap().remove("entra-us");
    configuration
}

fn two(a: Value, b: Value) -> Value {
    of(&[(A, a), (B, b)])
}

/// Warnings about lists of audiences.
fn warned(configuration: &Value) -> Vec<String> {
    let warnings = parse(configuration).warnings;
    warnings.into_iter().filter(|text| text.split(": ").next().unwrap().contains("audiences")).collect()
}

#[test]
fn log_warns_where_resources_share_one_audience_list() {
    let shared = |path: &str, audience: &str| {
        format!(
            "{path}: \"{audience}\" is accepted at 2 resources, so a token for one of them is accepted at each: {A}, {B}; give each an audience of its own, in its audiences"
        )
    };
    let of_provider = shared("identity_providers.okta-eu.audiences", "api://default");
    let of_resource = |audience: &str| shared("resources[0].audiences", audience);
    for (a, b, expected) in [
        (json!({}), json!({}), &of_provider),
        (json!({"audiences": [A, "api://default"]}), json!({}), &of_provider),
        (json!({}), json!({"audiences": [B, "api://default"]}), &of_provider),
        (json!({"audiences": ["x", "y"]}), json!({"audiences": ["y", "z"]}), &of_resource("y")),
        (json!({"audiences": [A]}), json!({"audiences": [B, A]}), &of_resource(A)),
    ] {
        assert_eq!(warned(&two(a.clone(), b.clone())), [expected.as_str()], "{a} {b}");
    }
    for quiet in [
        two(json!({"audiences": [A]}), json!({"audiences": [B]})),
        two(json!({"audiences": [A]}), json!({})),
        two(json!({"audiences": [A, A]}), json!({"audiences": [B, B]})),
        of(&[(A, json!({}))]),
    ] {
        assert_eq!(warned(&quiet), [""; 0]);
    }
    // Users of another provider do not count.
    let mut of_others = two(json!({}), json!({}));
    of_others["identity_providers"]["entra-us"] = configuration()["identity_providers"]["entra-us"].clone();
    of_others["resources"][1]["exchange"] = json!({"entra-us": {"resource": "api://b"}});
    assert_eq!(warned(&of_others), [""; 0]);
}

#[test]
fn shared_default_list_of_a_thousand_resources_has_one_warning() {
    let urls: Vec<String> = (0..1000).map(|number| format!("https://mcp.acme.example/r{number}")).collect();
    let resources: Vec<_> = urls.iter().map(|url| (url.as_str(), json!({}))).collect();
    let mut configuration = of(&resources);
    configuration["identity_providers"]["entra-us"] =
        with(self::configuration()["identity_providers"]["entra-us"].clone(), json!({"audiences": null}));
    configuration["resource_defaults"] =
        json!({"audiences": ["{url}", "api://gateway"], "exchange": {"entra-us": {"resource": "api://x"}}});
    for resource in configuration["resources"].as_array_mut().unwrap() {
        resource["exchange"]["entra-us"] = json!({"resource": "api://x"});
    }
    let [warning] = warned(&configuration).try_into().unwrap();
    let named = (0..3).map(|number| urls[number].as_str()).collect::<Vec<_>>().join(", ");
    let expected = format!(
        "\"api://gateway\" is accepted at 1000 resources, so a token for one of them is accepted at each: {named} and 997 more; "
    );
    assert!(warning.starts_with(&format!("resource_defaults.audiences: {expected}")), "{warning}");
    configuration["resource_defaults"]["audiences"] = json!(["{url}", "{url}/"]);
    // Entra has v1.0 tokens for these audiences.
    let [warning] = warned(&configuration).try_into().unwrap();
    let expected = "resource_defaults.audiences: with entra-us, only v1.0 tokens are accepted";
    assert!(warning.starts_with(expected) && warning.ends_with(" (and so at 999 more resources)"), "{warning}");
}

#[test]
fn list_without_the_client_id_at_entra_causes_a_warning() {
    const ID: &str = "0b7e1c11-0000-4000-8000-000000000001";
    let warned = |audiences: Value, at_provider: bool| {
        let mut configuration = configuration();
        let entra = &mut configuration["identity_providers"]["entra-us"];
        entra["client"]["id"] = json!(ID);
        let own = if at_provider { Value::Null } else { audiences.clone() };
        entra["audiences"] = if at_provider { audiences } else { json!([ID]) };
        let resource = json!({"url": A, "exchange": {"entra-us": {"resource": "api://x"}}});
        configuration["resources"] = json!([with(resource, json!({"audiences": own}))]);
        warned(&configuration)
    };
    for (at_provider, path) in [(true, "identity_providers.entra-us.audiences"), (false, "resources[0].audiences")] {
        let [warning] = warned(json!([A]), at_provider).try_into().unwrap();
        assert!(warning.starts_with(&format!("{path}: with entra-us, only v1.0 tokens are accepted")), "{warning}");
        for quiet in [json!([ID]), json!([A, ID]), json!([format!("api://{ID}")]), json!([A, "api://gateway"])] {
            assert_eq!(warned(quiet.clone(), at_provider), [""; 0], "{quiet}");
        }
    }
}

#[test]
fn audience_account_of_a_keycloak_realm_causes_a_warning() {
    let warned = |issuer: &str, audiences: Value| {
        let mut configuration = of(&[(A, json!({"audiences": audiences}))]);
        let provider = &mut configuration["identity_providers"]["okta-eu"];
        provider["profile"] = json!("rfc8693");
        provider["issuer"] = json!(issuer);
        warned(&configuration)
    };
    for issuer in ["https://login.acme.com/realms/acme", "https://login.acme.com/auth/realms/acme"] {
        let [warning] = warned(issuer, json!(["gateway", "account"])).try_into().unwrap();
        assert!(warning.starts_with("resources[0].audiences: with okta-eu, account is an audience of"), "{warning}");
        assert_eq!(warned(issuer, json!(["gateway", "accounts"])), [""; 0]);
    }
    assert_eq!(warned("https://login.acme.com/acme", json!(["account"])), [""; 0]);
}
