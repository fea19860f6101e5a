//! The key of shared memory, which workers derive from the client secrets.

use onbehalf::config::Config;
use onbehalf_test_support::{SharedMap, TestEngine, configuration, environment, parse, warnings};
use serde_json::{Value, json};

use super::{ASSERTION, with_client};

/// A configuration in which no client has a secret.
fn without_secrets(shared: &Value) -> Value {
    let mut configuration = with_client(json!({"method": "tls_client_auth"}));
    configuration["identity_providers"]["okta-eu"]["client"]["authentication"] = json!({"method": "envoy_injected"});
    if !shared.is_null() {
        configuration["shared_data_secret"] = shared.clone();
    }
    configuration
}

#[test]
fn shared_memory_needs_a_secret_where_no_client_has_one() {
    let error =
        |shared: Value| Config::parse(without_secrets(&shared).to_string().as_bytes(), &environment).unwrap_err();
    let missing = error(Value::Null);
    assert_eq!((missing.path.as_str(), missing.found.as_str()), ("shared_data_secret", "nothing"));
    assert!(missing.expected.contains("openssl rand -base64 32"), "{missing}");
    let short = error(json!({"inline": "0123456789abcdef0123456789abcde"}));
    assert_eq!(short.path, "shared_data_secret");
    assert!(short.expected.contains("at least 32") && !short.to_string().contains("0123456789"), "{short}");
    assert_eq!(error(json!({"env": "NOT_SET"})).path, "shared_data_secret.env");
    assert_eq!(error(json!("0123456789abcdef0123456789abcdef")).path, "shared_data_secret");

    let config = parse(&without_secrets(&json!({"inline": "0123456789abcdef0123456789abcdef"})));
    assert_eq!(warnings(&config).len(), 1);
    assert!(warnings(&config)[0].starts_with("shared_data_secret.inline: "));
    assert!(!format!("{config:?}").contains("0123456789"));
    // An assertion from the environment is no secret of the client either, and it expires.
    let mut asserted = without_secrets(&Value::Null);
    asserted["identity_providers"]["okta-eu"]["client"]["authentication"] =
        json!({"method": "client_assertion", "assertion": {"env": "ASSERTION"}});
    let environment = |name: &str| if name == "ASSERTION" { Some(ASSERTION.to_owned()) } else { None };
    let error = Config::parse(asserted.to_string().as_bytes(), &environment).unwrap_err();
    assert_eq!(error.path, "shared_data_secret");
}

#[test]
fn workers_share_memory_only_if_all_secrets_are_equal() {
    let secrets = ["0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdeF"];
    let with_secret = |mut configuration: Value, secret: Option<&str>| {
        if let Some(secret) = secret {
            configuration["shared_data_secret"] = json!({"inline": secret});
        }
        configuration
    };
    let without = |secret: &str| without_secrets(&json!({"inline": secret}));
    let (one, other) = (secrets[0], secrets[1]);
    let own = |secret| with_secret(configuration(), secret);
    for (first, second, same) in [
        (without(one), without(one), true),
        (without(one), without(other), false),
        (own(Some(one)), own(Some(one)), true),
        (own(Some(one)), own(Some(other)), false),
        (own(Some(one)), own(None), false),
        // A client secret is used in addition to `shared_data_secret`.
        (
            with_secret(with_client(json!({"method": "client_secret_post", "secret": {"inline": "s"}})), Some(one)),
            own(Some(one)),
            false,
        ),
    ] {
        let shared = SharedMap::default();
        drop(TestEngine::sharing(&first, &shared).with_keys());
        let mut engine = TestEngine::sharing(&second, &shared);
        engine.tick();
        assert_eq!(engine.inner.next_callout().is_none(), same, "{first} {second}");
    }
}

#[test]
fn log_warns_where_all_secrets_of_the_shared_memory_key_are_short() {
    let short = "k".repeat(31);
    let is_warned = |secrets: [&str; 2], shared: bool| {
        let mut whole = configuration();
        for (name, secret) in ["entra-us", "okta-eu"].into_iter().zip(secrets) {
            whole["identity_providers"][name]["client"]["authentication"] =
                json!({"method": "client_secret_post", "secret": {"inline": secret}});
        }
        if shared {
            whole["shared_data_secret"] = json!({"inline": "0123456789abcdef0123456789abcdef"});
        }
        let warnings = parse(&whole).warnings;
        let warning: Vec<&String> = warnings.iter().filter(|text| text.starts_with("shared_data_secret: ")).collect();
        assert!(warning.iter().all(|text| !text.contains(&short)));
        !warning.is_empty()
    };
    let long = "k".repeat(32);
    assert!(is_warned([&short, "s"], false));
    assert!(!is_warned([&short, &long], false));
    assert!(!is_warned([&short, "s"], true));
    // A private key is long enough.
    assert!(warnings(&parse(&configuration())).is_empty());
}
