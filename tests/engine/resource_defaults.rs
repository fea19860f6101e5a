//! `resource_defaults`: options that every resource has unless it sets them.

use onbehalf::config::Config;
use serde_json::{Value, json};

use crate::configuration_reference::whole_schema;
use onbehalf_test_support::{configuration, configuration_error, environment, only_entra, parse, with};

/// A configuration of a thousand resources that set nothing but their URL.
fn thousand(defaults: Value) -> Value {
    let mut configuration = only_entra(configuration());
    configuration["resource_defaults"] = defaults;
    let resource = |number: usize| json!({"url": format!("https://mcp.acme.example/r{number}")});
    configuration["resources"] = (0..1000).map(resource).collect();
    configuration
}

fn defaults() -> Value {
    json!({"scopes": ["mcp.read"], "scopes_supported": ["{url}/mcp.read"], "dpop": {"mode": "optional"},
        "exchange": {"entra-us": {"resource": "api://github", "claims": {"access_token": {"x": {"value": "{url}"}}}}}})
}

/// Path, code and found value of each mistake.
fn found(configuration: &Value) -> Vec<(String, &'static str)> {
    let error = configuration_error(configuration);
    error.findings().map(|finding| (finding.path.clone(), finding.code.name())).collect()
}

#[test]
fn resource_has_the_defaults_that_it_does_not_set() {
    let mut configuration = thousand(defaults());
    let own = json!({"url": "https://api.acme.example", "scopes": ["api.read"], "scopes_supported": null,
        "exchange": {"entra-us": {"scopes": ["api://x/y"]}}});
    configuration["resources"][0] = own;
    let config = parse(&configuration);
    let [first, second] = [&config.resources[0], &config.resources[999]];
    assert_eq!(first.scopes, ["api.read"]);
    assert_eq!(first.scopes_supported, ["https://api.acme.example/mcp.read"], "null counts as absent");
    assert_eq!(second.scopes, ["mcp.read"]);
    assert_eq!(second.scopes_supported, ["https://mcp.acme.example/r999/mcp.read"]);
    let target = |index: usize| config.resources[index].exchanges[0].target.exchange().unwrap();
    assert_eq!(target(0).scope.as_deref(), Some("api://x/y"), "an option is replaced as a whole");
    let grant = |index: usize| format!("{:?}", target(index).grant);
    assert!(!grant(0).contains("https://"));
    assert_eq!(target(999).scope.as_deref(), Some("api://github/.default"));
    assert!(grant(999).contains("https://mcp.acme.example/r999"), "{}", grant(999));
}

#[test]
fn path_of_each_resource_stands_in_its_aliases() {
    let mut configuration = thousand(with(defaults(), json!({"aliases": ["http://mcp.internal:8080/in{path}"]})));
    configuration["resources"][0] = json!({"url": "https://api.acme.example"});
    let config = parse(&configuration);
    let host = config.routes.host(b"mcp.internal:8080").unwrap();
    let at = |path: &str| host.mount(path).map(|mount| mount.resource.url.as_str());
    assert_eq!(at("/in/r7/x"), Some("https://mcp.acme.example/r7"));
    assert_eq!(at("/in/other"), Some("https://api.acme.example"), "the path of a URL without one is empty");
    assert_eq!(at("/r7"), None);
}

#[test]
fn mistake_in_the_defaults_is_reported_once_at_its_place() {
    let validator = jsonschema::draft202012::new(&whole_schema()).unwrap();
    for (changes, path, code, is_in_schema) in [
        (json!({"scope": ["x"]}), "resource_defaults.scope", "unknown_field", true),
        (json!({"url": "https://a.example"}), "resource_defaults.url", "unknown_field", true),
        (json!({"scopes": "x"}), "resource_defaults.scopes", "wrong_type", true),
        (json!({"dpop": {"mode": "always"}}), "resource_defaults.dpop.mode", "unknown_value", true),
        (json!({"dpop": {"nonce": true}}), "resource_defaults.dpop.mode", "missing", true),
        (json!({"scopes": ["a b"]}), "resource_defaults.scopes[0]", "not_a_scope", false),
        (json!({"scopes": ["ok", "{url} x"]}), "resource_defaults.scopes[1]", "not_a_scope", false),
        (json!({"exchange": {"nobody": {}}}), "resource_defaults.exchange.nobody", "unknown_provider", false),
        (
            json!({"exchange": {"entra-us": {"audience": "x"}}}),
            "resource_defaults.exchange.entra-us.audience",
            "refused_by_profile",
            false,
        ),
        (
            json!({"authorization_servers": ["nobody"]}),
            "resource_defaults.authorization_servers[0]",
            "unknown_provider",
            false,
        ),
        (json!({"aliases": ["{url}"]}), "resource_defaults.aliases[0]", "same_url", false),
    ] {
        let configuration = thousand(with(defaults(), changes.clone()));
        assert_eq!(found(&configuration), [(path.to_owned(), code)], "{changes}");
        assert_eq!(!validator.is_valid(&configuration), is_in_schema, "{changes}");
    }
    // An unknown name is a mistake even without a value.
    let mut unknown = thousand(defaults());
    unknown["resource_defaults"]["a"] = Value::Null;
    assert_eq!(found(&unknown), [("resource_defaults.a".to_owned(), "unknown_field")]);
    assert!(!validator.is_valid(&unknown));
    let mut configuration = thousand(json!([]));
    assert_eq!(found(&configuration)[0], ("resource_defaults".to_owned(), "wrong_type"));
    configuration["resource_defaults"] = json!({"dpop": {"mode": "off"}});
    assert_eq!(found(&configuration)[0], ("resources[0].exchange".to_owned(), "missing"));
    assert!(!validator.is_valid(&configuration));
}

#[test]
fn mistake_of_a_resource_is_reported_at_the_resource() {
    let mut configuration = thousand(defaults());
    configuration["resources"][1] = json!({"url": "http://mcp.acme.example/r1"});
    configuration["resources"][2]["scopes"] = json!(["a b"]);
    configuration["resources"][3]["exchange"] = json!({"nobody": {"resource": "x"}});
    let expected = [
        ("resources[1].url", "not_a_url"),
        ("resources[2].scopes[0]", "not_a_scope"),
        ("resources[3].exchange.nobody", "unknown_provider"),
    ];
    let found = found(&configuration);
    assert_eq!(found.iter().map(|(path, code)| (path.as_str(), *code)).collect::<Vec<_>>(), expected);
}

#[test]
fn mistaken_default_that_every_resource_replaces_is_reported() {
    let mut configuration =
        thousand(json!({"dpop": {"mode": "off", "nonsense": 1}, "certificate_bound_tokens": "never"}));
    for resource in configuration["resources"].as_array_mut().unwrap() {
        resource["exchange"] = json!({"entra-us": {"resource": "api://x"}});
        resource["dpop"] = json!({"mode": "off"});
        resource["certificate_bound_tokens"] = json!("off");
    }
    let expected = [
        ("resource_defaults.certificate_bound_tokens", "unknown_value"),
        ("resource_defaults.dpop.nonsense", "unknown_field"),
    ];
    assert_eq!(found(&configuration), expected.map(|(path, code)| (path.to_owned(), code)));
}

#[test]
fn warning_about_a_default_stands_once() {
    let mut defaults = defaults();
    defaults["exchange"]["entra-us"] = json!({"resource": "api://CLIENT_ID"});
    let config = Config::parse(thousand(defaults).to_string().as_bytes(), &environment).unwrap();
    let about = config.warnings.iter().filter(|warning| warning.starts_with("resource_defaults.exchange.entra-us"));
    assert_eq!(about.count(), 1, "{:?}", config.warnings.len());
}

#[test]
fn each_warning_about_a_default_stands_once() {
    let mut defaults = defaults();
    // No token of Entra has the first, and no client can request the second.
    defaults["scopes"] = json!(["api://x/read"]);
    defaults["scopes_supported"] = json!(["read"]);
    let mut configuration = thousand(defaults);
    let mut second = configuration["identity_providers"]["entra-us"].clone();
    second["issuer"] = json!("https://login.microsoftonline.com/5c2f0000-1111-4222-8333-444455556666/v2.0");
    configuration["identity_providers"]["entra-eu"] = second;
    configuration["resource_defaults"]["exchange"]["entra-eu"] = json!({"resource": "api://github"});
    let warnings = parse(&configuration).warnings;
    for start in ["resource_defaults.scopes[0]: with entra-", "resource_defaults.scopes_supported[0]: with entra-"] {
        let about: Vec<&String> = warnings.iter().filter(|warning| warning.starts_with(start)).collect();
        assert!(about.len() == 2 && about[0].contains("entra-eu") && about[1].contains("entra-us"), "{about:?}");
    }
}

#[test]
fn secret_in_the_place_of_a_default_is_not_shown() {
    for changes in [json!({"hunter2~secret~0123456789": 1}), json!({"aliases": ["hunter2~secret"]})] {
        let error = configuration_error(&thousand(with(defaults(), changes))).to_string();
        assert!(error.contains("resource_defaults") && !error.contains("hunter2"), "{error}");
    }
}
