//! Audiences, resources and scopes that an exchange may name.

use onbehalf_test_support::{configuration_error, parse};
use serde_json::{Value, json};

use super::{HOME, LOGIN, OTHER, PARTNER, entra, okta};

/// Path and text of the error in a configuration.
fn mistake(configuration: &Value) -> (String, String) {
    let error = configuration_error(configuration);
    (error.path.clone(), error.to_string())
}

fn target(mut configuration: Value, exchange: Value) -> Value {
    configuration["resources"][0]["exchange"]["idp"] = exchange;
    configuration
}

#[test]
fn audience_that_is_not_the_clients_app_is_refused() {
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
        assert_eq!(path, "identity_providers.idp.audiences[1]", "{audience}");
        assert!(text.contains("AADSTS500131"), "{text}");
    }
    let own = format!("api://{PARTNER}");
    for audience in [PARTNER, &own, &format!("{own}/gateway"), "api://gateway", "https://mcp.acme.example/mcp"] {
        parse(&with_audiences(json!([audience])));
    }
}

#[test]
fn exchange_target_is_one_app_other_than_the_gateways() {
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
        json!({"resource": "api://gateway/.default/"}),
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
fn default_scope_of_a_resource_is_appended_once() {
    for resource in ["api://a", "api://a/", "api://a/.default", "api://a/.default/"] {
        let configuration = target(entra(&format!("{LOGIN}/{HOME}/v2.0"), json!({})), json!({"resource": resource}));
        let config = parse(&configuration);
        let target = config.resources[0].exchanges[0].target.exchange().unwrap();
        assert_eq!(target.scope.as_deref(), Some("api://a/.default"), "{resource}");
    }
}

#[test]
fn full_scope_uri_where_tokens_have_the_short_scope_causes_a_warning() {
    let mut configuration = entra(&format!("{LOGIN}/{HOME}/v2.0"), json!({}));
    configuration["resources"][0]["scopes_supported"] = json!(["https://mcp.acme.example/github/mcp.read"]);
    configuration["resources"][0]["scopes"] = json!(["mcp.read"]);
    assert!(parse(&configuration).warnings.iter().all(|warning| !warning.starts_with("resources")));
    configuration["resources"][0]["scopes"] = json!(["mcp.read", "api://gateway/mcp.read"]);
    let warnings = parse(&configuration).warnings;
    let warning = warnings.iter().find(|warning| warning.starts_with("resources[0].scopes[1]: with idp")).unwrap();
    assert!(warning.contains("scopes_supported"), "{warning}");
    // Other profiles accept any scope string.
    let mut configuration = okta("https://acme.okta.com/oauth2/default", json!({}));
    configuration["resources"][0]["scopes"] = json!(["api://gateway/mcp.read"]);
    assert!(parse(&configuration).warnings.iter().all(|warning| !warning.starts_with("resources")));
}

#[test]
fn openid_scopes_are_refused_in_an_exchange_without_them() {
    let base = || okta("https://acme.okta.com/oauth2/default", json!({}));
    for scope in ["openid", "profile", "email", "address", "phone", "offline_access"] {
        let (path, _) = mistake(&target(base(), json!({"audience": "a", "scopes": ["x", scope]})));
        assert_eq!(path, "resources[0].exchange.idp.scopes", "{scope}");
    }
}

#[test]
fn exchange_resource_is_an_absolute_uri_without_a_fragment() {
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
fn exchange_without_a_target_is_refused() {
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
fn scopes_that_mcp_clients_cannot_request_cause_a_warning() {
    let url = "https://mcp.acme.example/github";
    let warned = |scopes: Value, supported: Value| {
        let mut configuration = entra(&format!("{LOGIN}/{HOME}/v2.0"), json!({}));
        configuration["resources"][0]["scopes"] = scopes;
        configuration["resources"][0]["scopes_supported"] = supported;
        let warnings = parse(&configuration).warnings.into_iter();
        warnings.filter(|text| text.contains(": with idp, ") && !text.contains("short name")).collect::<Vec<_>>()
    };
    // The advertised scope is the URL of the resource, a slash and the name.
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
        // Without `scopes_supported`, the short scopes are advertised.
        (Value::Null, "scopes[0]", "AADSTS650053"),
    ] {
        let warnings = warned(json!(["mcp.read"]), supported.clone());
        assert_eq!(warnings.len(), 1, "{supported}: {warnings:?}");
        assert!(warnings[0].starts_with(&format!("resources[0].{at}: ")), "{supported}: {warnings:?}");
        assert!(warnings[0].contains("with idp, "), "{supported}: {warnings:?}");
        assert!(warnings[0].contains(number), "{supported}: {warnings:?}");
    }
    // Clients send the scope with the slash at the end of the URL.
    let mut configuration = entra(&format!("{LOGIN}/{HOME}/v2.0"), json!({}));
    configuration["resources"][0]["url"] = json!(format!("{url}/"));
    configuration["resources"][0]["scopes_supported"] = json!([format!("{url}//mcp.read")]);
    assert!(parse(&configuration).warnings.iter().all(|text| !text.contains("AADSTS")));
    // The warning concerns neither another provider nor a resource that lists another provider first.
    let mut configuration = okta("https://acme.okta.com/oauth2/default", json!({}));
    configuration["resources"][0]["scopes_supported"] = json!(["api://gateway/mcp.read", "mcp.read"]);
    assert!(parse(&configuration).warnings.iter().all(|text| !text.starts_with("resources")));
    let mut both = onbehalf_test_support::configuration();
    both["resources"][0]["scopes_supported"] = json!(["mcp.read"]);
    let of_entra = |configuration: &Value| {
        parse(configuration).warnings.iter().filter(|text| text.contains("with entra-us, ")).count()
    };
    assert_eq!(of_entra(&both), 1);
    both["resources"][0]["authorization_servers"] = json!(["okta-eu"]);
    assert_eq!(of_entra(&both), 0);
}
