//! Configuration mistakes, each reported with the path of its field.

use onbehalf::config::Config;
use serde_json::{Value, json};

use onbehalf_test_support::{ENTRA, OKTA, configuration, configuration_error, environment, parse, set, warnings};

/// The configuration with one field replaced, or removed by null, at a JSON pointer.
fn changed(pointer: &str, value: Value) -> Value {
    let mut configuration = configuration();
    if value.is_null() {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        configuration.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
    } else {
        set(&mut configuration, pointer, value);
    }
    configuration
}

#[test]
fn each_mistake_names_its_field() {
    let cases: Vec<(&str, Value, &str)> = vec![
        ("/identity_providers", json!({}), "identity_providers"),
        ("/identity_providers", json!([]), "identity_providers"),
        ("/identity_providers", Value::Null, "identity_providers"),
        ("/resources", json!([]), "resources"),
        ("/resources", Value::Null, "resources"),
        ("/resourcez", json!([]), "resourcez"),
        ("/identity_providers/entra-us/isuer", json!("x"), "identity_providers.entra-us.isuer"),
        ("/identity_providers/entra-us/issuer", Value::Null, "identity_providers.entra-us.issuer"),
        ("/identity_providers/entra-us/issuer", json!(7), "identity_providers.entra-us.issuer"),
        ("/identity_providers/entra-us/issuer", json!("http://login.example"), "identity_providers.entra-us.issuer"),
        (
            "/identity_providers/entra-us/issuer",
            json!("https://login.example/common/v2.0"),
            "identity_providers.entra-us.issuer",
        ),
        ("/identity_providers/entra-us/issuer", json!(format!("{ENTRA}/")), "identity_providers.entra-us.issuer"),
        (
            "/identity_providers/entra-us/issuer",
            json!(format!("{ENTRA}/.well-known/openid-configuration")),
            "identity_providers.entra-us.issuer",
        ),
        ("/identity_providers/okta-eu/issuer", json!(format!("{OKTA}/")), "identity_providers.okta-eu.issuer"),
        (
            "/resources/0/exchange/entra-us/parameters",
            json!({"Requested-Token.Use": "on_behalf_of"}),
            "resources[0].exchange.entra-us.parameters",
        ),
        ("/identity_providers/entra-us/algorithms", json!([]), "identity_providers.entra-us.algorithms"),
        ("/identity_providers/entra-us/algorithms", json!(["HS256"]), "identity_providers.entra-us.algorithms"),
        ("/identity_providers/entra-us/algorithms", json!("RS256"), "identity_providers.entra-us.algorithms"),
        ("/identity_providers/entra-us/audience_claim", json!("azp"), "identity_providers.entra-us.audience_claim"),
        ("/identity_providers/okta-eu/audience_claim", json!("cid"), "identity_providers.okta-eu.audience_claim"),
        ("/identity_providers/okta-eu/audience_claim", json!(["cid"]), "identity_providers.okta-eu.audience_claim"),
        ("/identity_providers/entra-us/scope_claims", json!([]), "identity_providers.entra-us.scope_claims"),
        ("/identity_providers/entra-us/scope_claims", json!([""]), "identity_providers.entra-us.scope_claims[0]"),
        ("/identity_providers/entra-us/required_claims", json!({}), "identity_providers.entra-us.required_claims"),
        ("/identity_providers/entra-us/required_claims", json!(["a"]), "identity_providers.entra-us.required_claims"),
        (
            "/identity_providers/entra-us/required_claims",
            json!({"": "a"}),
            "identity_providers.entra-us.required_claims",
        ),
        (
            "/identity_providers/entra-us/required_claims",
            json!({"a": []}),
            "identity_providers.entra-us.required_claims.a",
        ),
        (
            "/identity_providers/entra-us/required_claims",
            json!({"a": {}}),
            "identity_providers.entra-us.required_claims.a",
        ),
        (
            "/identity_providers/entra-us/required_claims",
            json!({"a": 0.5}),
            "identity_providers.entra-us.required_claims.a",
        ),
        (
            "/identity_providers/entra-us/required_claims",
            json!({"a": ["b", ""]}),
            "identity_providers.entra-us.required_claims.a",
        ),
        (
            "/identity_providers/okta-eu/issuer",
            json!("https://acme-admin.okta.com/oauth2/default"),
            "identity_providers.okta-eu.issuer",
        ),
        (
            "/identity_providers/okta-eu/issuer",
            json!("https://OKTA_DOMAIN/oauth2/default"),
            "identity_providers.okta-eu.issuer",
        ),
        ("/identity_providers/okta-eu/subject_token", json!({"type": "id_token"}), "resources[0].exchange.okta-eu"),
        ("/resources/0/url", json!("https://mcp.acme.example/*"), "resources[0].url"),
        ("/resources/0/dpop", json!({"nonce": true}), "resources[0].dpop.mode"),
        ("/resources/0/dpop", json!("required"), "resources[0].dpop"),
        ("/identity_providers/entra-us/jwks_uri", json!("keys"), "identity_providers.entra-us.jwks_uri"),
        (
            "/identity_providers/entra-us/jwks_uri",
            json!("https://a.example/k?q#f"),
            "identity_providers.entra-us.jwks_uri",
        ),
        ("/identity_providers/entra-us/jwks_cluster", json!(""), "identity_providers.entra-us.jwks_cluster"),
        ("/identity_providers/entra-us/token_cluster", json!(["t"]), "identity_providers.entra-us.token_cluster"),
        ("/identity_providers/entra-us/profile", json!("entra"), "identity_providers.entra-us.profile"),
        ("/identity_providers/entra-us/cluster", Value::Null, "identity_providers.entra-us.cluster"),
        ("/identity_providers/entra-us/cluster", json!(""), "identity_providers.entra-us.cluster"),
        ("/identity_providers/entra-us/audiences", json!([]), "identity_providers.entra-us.audiences"),
        ("/identity_providers/entra-us/audiences", json!("api://x"), "identity_providers.entra-us.audiences"),
        ("/identity_providers/entra-us/audiences", json!(["a", ""]), "identity_providers.entra-us.audiences[1]"),
        (
            "/identity_providers/entra-us/clock_skew_seconds",
            json!(301),
            "identity_providers.entra-us.clock_skew_seconds",
        ),
        (
            "/identity_providers/entra-us/clock_skew_seconds",
            json!(-1),
            "identity_providers.entra-us.clock_skew_seconds",
        ),
        ("/identity_providers/entra-us/timeout_seconds", json!(0), "identity_providers.entra-us.timeout_seconds"),
        ("/identity_providers/entra-us/timeout_seconds", json!(1.5), "identity_providers.entra-us.timeout_seconds"),
        ("/identity_providers/entra-us/client/id", Value::Null, "identity_providers.entra-us.client.id"),
        (
            "/identity_providers/entra-us/client/authentication/method",
            json!("plain"),
            "identity_providers.entra-us.client.authentication.method",
        ),
        (
            "/identity_providers/entra-us/client/authentication/secret",
            Value::Null,
            "identity_providers.entra-us.client.authentication.secret",
        ),
        (
            "/identity_providers/entra-us/client/authentication/secret",
            json!("plain"),
            "identity_providers.entra-us.client.authentication.secret",
        ),
        (
            "/identity_providers/entra-us/client/authentication/secret",
            json!({}),
            "identity_providers.entra-us.client.authentication.secret",
        ),
        (
            "/identity_providers/entra-us/client/authentication/secret",
            json!({"env": "NOT_SET"}),
            "identity_providers.entra-us.client.authentication.secret.env",
        ),
        (
            "/identity_providers/entra-us/client/authentication/key_id",
            json!("k"),
            "identity_providers.entra-us.client.authentication.key_id",
        ),
        (
            "/identity_providers/okta-eu/client/authentication/algorithm",
            json!("HS256"),
            "identity_providers.okta-eu.client.authentication.algorithm",
        ),
        (
            "/identity_providers/okta-eu/client/authentication/algorithm",
            json!("RS256"),
            "identity_providers.okta-eu.client.authentication.key",
        ),
        (
            "/identity_providers/okta-eu/client/authentication/key",
            json!({"inline": "MII"}),
            "identity_providers.okta-eu.client.authentication.key",
        ),
        ("/identity_providers/okta-eu/issuer", json!(ENTRA), "identity_providers.okta-eu.issuer"),
        (
            "/identity_providers/okta-eu/subject_token",
            json!({"type": "id_token", "audiences": ["c"]}),
            "identity_providers.okta-eu.subject_token",
        ),
        (
            "/identity_providers/okta-eu/subject_token",
            json!({"type": "id_token", "header": "x"}),
            "identity_providers.okta-eu.subject_token.audiences",
        ),
        (
            "/identity_providers/okta-eu/subject_token",
            json!({"type": "id_token", "header": "Authorization", "audiences": ["c"]}),
            "identity_providers.okta-eu.subject_token.header",
        ),
        (
            "/identity_providers/okta-eu/subject_token",
            json!({"type": "saml"}),
            "identity_providers.okta-eu.subject_token.type",
        ),
        (
            "/identity_providers/okta-eu/subject_token",
            json!({"type": "urn:acme:a b"}),
            "identity_providers.okta-eu.subject_token.type",
        ),
        (
            "/identity_providers/entra-us/subject_token",
            json!({"type": "jwt"}),
            "identity_providers.entra-us.subject_token.type",
        ),
        (
            "/identity_providers/entra-us/subject_token",
            json!({"type": "id_token", "header": "x", "audiences": ["c"]}),
            "identity_providers.entra-us.subject_token",
        ),
        ("/resources/0/url", json!("https://mcp.acme.example/a/../b"), "resources[0].url"),
        ("/resources/0/url", json!("http://mcp.acme.example/a"), "resources[0].url"),
        ("/resources/0/url", json!("https://mcp.acme.example/a;v=1"), "resources[0].url"),
        ("/resources/1/url", json!("https://MCP.acme.example:443/github/"), "resources[1].url"),
        ("/resources/0/scopes", json!(["a b"]), "resources[0].scopes[0]"),
        ("/resources/0/scopes_supported", json!(["a\"b"]), "resources[0].scopes_supported[0]"),
        ("/resources/0/authorization_servers", json!([]), "resources[0].authorization_servers"),
        ("/resources/0/authorization_servers", json!("okta-eu"), "resources[0].authorization_servers"),
        ("/resources/0/authorization_servers", json!(["okta-eu", "nobody"]), "resources[0].authorization_servers[1]"),
        ("/resources/0/authorization_servers", json!(["okta-eu", "okta-eu"]), "resources[0].authorization_servers[1]"),
        ("/resources/1/authorization_servers", json!(["okta-eu"]), "resources[1].authorization_servers[0]"),
        ("/resources/0/exchange", json!({}), "resources[0].exchange"),
        ("/resources/0/exchange/nobody", json!({"audience": "x"}), "resources[0].exchange.nobody"),
        ("/resources/0/exchange/entra-us", json!({}), "resources[0].exchange.entra-us"),
        ("/resources/0/exchange/entra-us", json!({"audience": "x"}), "resources[0].exchange.entra-us.audience"),
        ("/resources/0/exchange/entra-us", json!({"resource": "x", "scopes": ["y"]}), "resources[0].exchange.entra-us"),
        (
            "/resources/0/exchange/entra-us",
            json!({"scopes": ["api://x/.default", "api://x/read"]}),
            "resources[0].exchange.entra-us.scopes",
        ),
        ("/resources/0/exchange/okta-eu", json!({"scopes": ["x"]}), "resources[0].exchange.okta-eu.audience"),
        (
            "/resources/0/exchange/okta-eu",
            json!({"audience": "x", "resource": "https://x.example/#a"}),
            "resources[0].exchange.okta-eu.resource",
        ),
        (
            "/resources/0/exchange/okta-eu",
            json!({"audience": "x", "scopes": ["openid"]}),
            "resources[0].exchange.okta-eu.scopes",
        ),
        (
            "/resources/0/exchange/okta-eu",
            json!({"audience": "x", "requested_token_type": "saml2"}),
            "resources[0].exchange.okta-eu.requested_token_type",
        ),
        (
            "/resources/0/url",
            json!("https://mcp.acme.example/.well-known/oauth-protected-resource/x"),
            "resources[0].url",
        ),
        ("/unauthenticated_paths", json!(["/a/../b"]), "unauthenticated_paths[0]"),
        ("/unauthenticated_paths", json!(["/a", "/b;v=1"]), "unauthenticated_paths[1]"),
        ("/unauthenticated_paths", json!(["/health/*"]), "unauthenticated_paths[0]"),
        ("/unauthenticated_paths", json!("/a"), "unauthenticated_paths"),
        ("/cache", json!({"exchanged_tokens": 0}), "cache.exchanged_tokens"),
        ("/cache", json!({"verified_tokens": "many"}), "cache.verified_tokens"),
        ("/audit", json!({"subjects": "Hashed"}), "audit.subjects"),
        ("/audit", json!({"hits": "yes"}), "audit.hits"),
    ];
    for (pointer, value, path) in cases {
        let error = configuration_error(&changed(pointer, value.clone()));
        assert_eq!(error.path, path, "{pointer} = {value}: {error}");
        assert!(!error.found.is_empty() && !error.expected.is_empty());
    }
}

#[test]
fn provider_name_has_only_characters_of_a_metric_label() {
    for name in ["", "Entra", "entra us", "entra.us", "é"] {
        let mut configuration = configuration();
        let provider = configuration["identity_providers"]["entra-us"].clone();
        configuration["identity_providers"] = json!({name: provider});
        assert_eq!(configuration_error(&configuration).path, "identity_providers", "{name}");
    }
}

#[test]
fn malformed_json_is_refused_with_its_position() {
    let parse = |text: &[u8]| Config::parse(text, &environment).expect_err("a mistake");
    assert_eq!(parse(b"{\n  \"resources\": [,]}").found, "no JSON: line 2, column 17");
    for text in [&b""[..], b"[]", b"null", b"\xff", b"{} {}", br#"{"resources":[],"resources":[]}"#] {
        assert_eq!(parse(text).path, "the configuration");
    }
}

#[test]
fn secret_in_a_wrong_place_is_not_shown() {
    for pointer in [
        "/identity_providers/entra-us/client/authentication/secret",
        "/identity_providers/okta-eu/client/authentication/key",
    ] {
        for value in [
            json!("TOPSECRET"),
            json!({"inline": ["TOPSECRET"]}),
            json!({"inline": "TOPSECRET", "env": "X"}),
            json!(["TOPSECRET"]),
        ] {
            assert!(!configuration_error(&changed(pointer, value)).to_string().contains("TOPSECRET"));
        }
    }
    let wrong_key = changed("/identity_providers/okta-eu/client/authentication/key", json!({"inline": "TOPSECRET"}));
    assert!(!configuration_error(&wrong_key).to_string().contains("TOPSECRET"));
}

#[test]
fn inline_secret_works_and_causes_a_warning() {
    let configuration =
        changed("/identity_providers/entra-us/client/authentication/secret", json!({"inline": "TOPSECRET"}));
    let config = Config::parse(configuration.to_string().as_bytes(), &environment).unwrap();
    let warnings = warnings(&config);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("identity_providers.entra-us.client.authentication.secret.inline"));
    assert!(!format!("{config:?}").contains("TOPSECRET") && !warnings[0].contains("TOPSECRET"));
}

#[test]
fn private_key_may_have_escaped_line_ends() {
    let pem = environment("OKTA_PRIVATE_KEY").unwrap();
    for pem in [pem.replace('\n', "\\n"), pem.replace('\n', "\r\n"), format!("\n{pem}\n")] {
        let env = move |name: &str| if name == "OKTA_PRIVATE_KEY" { Some(pem.clone()) } else { environment(name) };
        assert!(Config::parse(configuration().to_string().as_bytes(), &env).is_ok());
    }
}

#[test]
fn numbers_in_protobuf_notation_are_accepted() {
    let text = changed("/identity_providers/entra-us/timeout_seconds", json!(5))
        .to_string()
        .replace("\"timeout_seconds\":5", "\"timeout_seconds\":5.0");
    assert!(text.contains("5.0") && Config::parse(text.as_bytes(), &environment).is_ok());
}

#[test]
fn unauthenticated_path_inside_a_resource_causes_a_warning() {
    let warned = |path: &str| warnings(&parse(&changed("/unauthenticated_paths", json!([path]))));
    for path in ["/github", "/github/health"] {
        assert!(warned(path)[0].starts_with("unauthenticated_paths[0]: forwarded without a token"), "{path}");
    }
    assert!(warned("/githubx").is_empty());
    let mut root = changed("/unauthenticated_paths", json!(["/health"]));
    root["resources"] = json!([{"url": "https://mcp.acme.example", "scopes_supported": ["https://mcp.acme.example/read"],
        "exchange": {"entra-us": {"resource": "api://x"}}}]);
    assert!(parse(&root).warnings.is_empty(), "a health check of a host that is one resource");
}

#[test]
fn secret_as_a_bare_string_is_refused_with_the_right_form() {
    let error =
        configuration_error(&changed("/identity_providers/entra-us/client/authentication/secret", json!("hunter2")));
    assert!(error.to_string().contains("env") && !error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn text_that_may_be_a_secret_is_not_repeated_from_a_choice() {
    let long = "Zq8~hunter2.0123456789.0123456789.0123456789";
    for secret in [long, "pass/word+2"] {
        let pointer = "/identity_providers/entra-us/client/authentication/method";
        let error = configuration_error(&changed(pointer, json!(secret))).to_string();
        assert!(error.contains("another value") && !error.contains(secret), "{error}");
    }
}

#[test]
fn recipe_placeholder_causes_a_warning() {
    for (pointer, value, path, word) in [
        (
            "/identity_providers/okta-eu/client/id",
            json!("OKTA_CLIENT_ID"),
            "identity_providers.okta-eu.client.id",
            "OKTA_CLIENT_ID",
        ),
        (
            "/identity_providers/okta-eu/audiences",
            json!(["a", "api://OKTA_MCP_SERVER_ID2/x"]),
            "identity_providers.okta-eu.audiences",
            "OKTA_MCP_SERVER_ID2",
        ),
        (
            "/identity_providers/okta-eu/token_endpoint",
            json!("https://acme.okta.example/oauth2/OKTA_MCP_SERVER_ID/v1/token"),
            "identity_providers.okta-eu.token_endpoint",
            "OKTA_MCP_SERVER_ID",
        ),
        (
            "/resources/0/exchange/entra-us",
            json!({"resource": "api://ENTRA_MCP_APP_ID"}),
            "resources[0].exchange.entra-us.resource",
            "ENTRA_MCP_APP_ID",
        ),
        (
            "/resources/0/exchange/okta-eu/audience",
            json!("https://MCP_HOST/mcp"),
            "resources[0].exchange.okta-eu.audience",
            "MCP_HOST",
        ),
        (
            "/resources/0/exchange/okta-eu/scopes",
            json!(["read", "MCP_SCOPE"]),
            "resources[0].exchange.okta-eu.scopes",
            "MCP_SCOPE",
        ),
    ] {
        assert_eq!(
            warnings(&parse(&changed(pointer, value))),
            [format!("{path}: {word} looks like a placeholder of a recipe")],
            "{pointer}"
        );
    }
    for id in ["0oaAB_CD", "GATEWAY", "gateway_ID", "_A_B", "A__B", "1A_B", "a.b_c"] {
        assert!(warnings(&parse(&changed("/identity_providers/okta-eu/client/id", json!(id)))).is_empty(), "{id}");
    }
    assert!(warnings(&parse(&configuration())).is_empty());
}

#[test]
fn claim_that_is_named_by_a_path_causes_a_warning() {
    let provider = "/identity_providers/okta-eu";
    let of = |option: &str, value: Value| {
        let mut root = configuration();
        root.pointer_mut(provider).unwrap()["profile"] = json!("rfc8693");
        root.pointer_mut(provider).unwrap()[option] = value;
        warnings(&parse(&root))
    };
    let expected = |option: &str, name: &str| {
        format!(
            "identity_providers.okta-eu.{option}: {name:?} is read as one name, with its dots: no claim inside another one is found by it; have the provider write that claim at the top of the token, and name it here"
        )
    };
    for (option, value, name) in [
        ("required_claims", json!({"realm_access.roles": "staff", "email_verified": true}), "realm_access.roles"),
        ("scope_claims", json!(["scope", "resource_access.mcp.roles"]), "resource_access.mcp.roles"),
        ("audience_claim", json!("client.id"), "client.id"),
    ] {
        assert_eq!(of(option, value), [expected(option, name)], "{option}");
    }
    for (option, value) in [
        ("required_claims", json!({"https://acme.example/groups": "staff", "cognito:groups": "a"})),
        ("scope_claims", json!(["permissions"])),
        ("audience_claim", json!("client_id")),
    ] {
        assert_eq!(of(option, value), [""; 0], "{option}");
    }
}

#[test]
fn unused_or_reused_dpop_key_causes_a_warning() {
    let with_key = |name: &str, token_type: &str| {
        let key = json!({"key": {"env": name}, "algorithm": "ES256"});
        let mut configuration = changed("/identity_providers/okta-eu/client/dpop", key);
        for resource in configuration["resources"].as_array_mut().unwrap() {
            if let Some(target) = resource.pointer_mut("/exchange/okta-eu") {
                target["token_type"] = json!(token_type);
            }
        }
        let own = jwt_simple::algorithms::ES256KeyPair::generate().to_pem().unwrap();
        let env = |name: &str| if name == "OWN_KEY" { Some(own.clone()) } else { environment(name) };
        warnings(&Config::parse(configuration.to_string().as_bytes(), &env).unwrap())
    };
    assert!(with_key("OWN_KEY", "dpop").is_empty());
    let unused = with_key("OWN_KEY", "bearer");
    assert!(!unused.is_empty() && unused.iter().all(|warning| warning.contains(".token_type: not dpop")), "{unused:?}");
    assert_eq!(
        with_key("OKTA_PRIVATE_KEY", "dpop"),
        ["identity_providers.okta-eu.client.dpop.key: the same key as in authentication"]
    );
}

#[test]
fn unknown_field_is_refused_with_the_nearest_name() {
    let entra = "/identity_providers/entra-us";
    for (pointer, near) in [
        ("/identity_provider", Some("identity_providers")),
        ("/resuorces", Some("resources")),
        ("/resource", Some("resources")),
        (&format!("{entra}/isuer"), Some("issuer")),
        (&format!("{entra}/jwks_url"), Some("jwks_uri")),
        (&format!("{entra}/client/ids"), Some("id")),
        (&format!("{entra}/scopes"), None),
        (&format!("{entra}/x"), None),
        (&format!("{entra}/client/authentication/secrets"), Some("secret")),
        (&format!("{entra}/client/authentication/secret/inlin"), None),
    ] {
        let found = configuration_error(&changed(pointer, json!({}))).found.clone();
        let expected = near.map_or(String::new(), |near| format!(" (did you mean {near}?)"));
        assert_eq!(found, format!("a field that does not exist{expected}"), "{pointer}");
    }
}

#[test]
fn error_names_one_of_two_variables_and_the_remedy() {
    let okta = "/identity_providers/okta-eu";
    let short = json!({"inline": "1234567"});
    let of_users = json!({"type": "id_token", "audiences": ["a"]});
    let none = json!({"profile": "validate_only", "issuer": OKTA, "cluster": "okta", "audiences": ["a"], "retries": 1});
    let xaa = |scopes: Value, exchange: Value| {
        let mut configuration = configuration();
        configuration["identity_providers"]["okta-eu"]["profile"] = json!("okta_xaa");
        configuration["identity_providers"]["okta-eu"]["subject_token"] = json!({"type": "id_token"});
        configuration["identity_providers"]["okta-eu"]["audiences"] = json!(["0oa1"]);
        configuration["resources"] =
            json!([{"url": "https://mcp.acme.example", "scopes": scopes, "exchange": {"okta-eu": exchange}}]);
        configuration
    };
    let elsewhere = json!({"audience": "https://auth.todo.example", "scopes": ["x"]});
    for (configuration, words) in [
        (
            changed("/identity_providers/entra-us/client/authentication/secret", json!({})),
            "found neither env nor inline",
        ),
        (
            changed("/identity_providers/entra-us/client/authentication/secret", json!({"env": "A", "inline": "b"})),
            "found both env and inline",
        ),
        (
            changed(&format!("{okta}/client/authentication"), json!({"method": "client_assertion", "assertion": {}})),
            "found neither env nor header",
        ),
        (changed(&format!("{okta}/subject_token"), of_users), "found neither header nor cookie"),
        (
            changed(&format!("{okta}/client/authentication"), Value::Null),
            "found nothing, expected an object with a method, which is client_secret_basic,",
        ),
        (changed("/shared_data_secret", short), "found 7 characters"),
        (changed(okta, none), "profile \"validate_only\" does not use it"),
        (
            changed("/identity_providers/entra-us/client/authentication/key_id", json!("k")),
            "method \"client_secret_post\" does not use it",
        ),
        (xaa(json!(["x"]), elsewhere.clone()), "remove scopes: ID tokens carry none"),
        (xaa(json!([]), elsewhere), "the token endpoint of this audience does not follow from its issuer"),
    ] {
        let error = configuration_error(&configuration).to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
}
