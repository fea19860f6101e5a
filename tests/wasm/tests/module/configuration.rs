//! The module's verdict on its configuration.

use onbehalf_wasm_tests::{Host, Module};
use serde_json::{Value, json};

use crate::support::provider::configuration;
use crate::support::setup;

fn start(configuration: &Value) -> Host {
    setup(Module::filter(), configuration).start()
}

/// The complete configuration with one change.
fn changed(pointer: &str, value: Value) -> Value {
    let mut configuration = configuration();
    *configuration.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is in the example")) = value;
    configuration
}

#[test]
fn module_imports_only_functions_that_envoy_offers() {
    let imports = Module::filter().imports();
    assert!(!imports.is_empty());
    for import in imports {
        assert!(import.starts_with("env.proxy_") || import.starts_with("wasi_snapshot_preview1."), "{import}");
    }
    // Starting it links every import; see `Host::start`.
    assert!(start(&configuration()).configured());
}

#[test]
fn valid_configuration_is_accepted_without_a_call_or_a_warning() {
    let host = start(&changed("/resources/1/audiences", json!(["api://onbehalf/entra-only"])));
    assert!(host.configured(), "{}", host.log_text());
    assert!(host.calls().is_empty(), "on_configure also runs in `envoy --mode validate`");
    assert!(host.tick_period() > 0);
    assert!(host.logs().iter().all(|log| log.level < 3), "{}", host.log_text());
}

#[test]
fn each_mistake_is_refused_with_the_path_of_its_field() {
    let provider = "/identity_providers/entra-us";
    let cases = [
        ("identity_providers.entra-us.profile", changed(&format!("{provider}/profile"), json!("entra"))),
        ("identity_providers.entra-us.issuer", changed(&format!("{provider}/issuer"), json!("http://login.example"))),
        ("identity_providers.entra-us.cluster", changed(&format!("{provider}/cluster"), json!(""))),
        ("identity_providers.entra-us.audiences", changed(&format!("{provider}/audiences"), json!([]))),
        ("identity_providers.entra-us.audiences", changed(&format!("{provider}/audiences"), json!("api://x"))),
        ("identity_providers.entra-us.client.id", changed(&format!("{provider}/client/id"), json!(7))),
        (
            "identity_providers.entra-us.client.authentication.secret",
            changed(&format!("{provider}/client/authentication/secret"), json!({"env": "NOT_SET"})),
        ),
        ("resources[1].url", changed("/resources/1/url", json!("https://mcp.acme.example/github"))),
        ("resources[0].exchange", changed("/resources/0/exchange", json!({"nobody": {"resource": "x"}}))),
        ("unauthenticated_paths[0]", changed("/unauthenticated_paths/0", json!("/a/../b"))),
        ("resources", changed("/resources", json!([]))),
    ];
    for (path, configuration) in cases {
        let host = start(&configuration);
        assert!(!host.configured(), "{path} was accepted");
        assert!(host.log_text().contains(path), "{path} is not named in:\n{}", host.log_text());
    }
}

#[test]
fn unknown_field_is_refused_by_name() {
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"]["client"]["secrets"] = json!("x");
    let host = start(&configuration);
    assert!(!host.configured());
    assert!(host.log_text().contains("identity_providers.okta-eu.client"), "{}", host.log_text());
    assert!(host.log_text().contains("secrets"), "{}", host.log_text());
}

#[test]
fn bytes_that_are_no_configuration_are_refused_without_a_trap() {
    let deep = "[".repeat(100_000);
    let cases: [&[u8]; 8] = [b"", b"{", b"[]", b"null", b"\xff\xfe", b"\"{}\"", b"{} {}", deep.as_bytes()];
    for bytes in cases {
        let host = Module::filter().host().configuration(bytes).start();
        assert!(!host.configured());
        assert!(host.logs().iter().any(|log| log.level >= 4), "no error was logged");
    }
}

#[test]
fn inline_secret_works_and_causes_a_warning_without_being_shown() {
    let secret = "inline-secret-93ab";
    let configuration = changed("/identity_providers/entra-us/client/authentication/secret", json!({"inline": secret}));
    let host = start(&configuration);
    assert!(host.configured(), "{}", host.log_text());
    assert!(
        host.logs()
            .iter()
            .any(|log| log.level == 3 && log.text.starts_with("warning: ") && log.text.contains("inline")),
        "{}",
        host.log_text()
    );
    assert!(!host.log_text().contains(secret));
}

#[test]
fn refused_configuration_shows_no_secret() {
    let secret = "inline-secret-93ab";
    let places = ["secret", "key", "key_id", "algorithm", "method"];
    for place in places {
        for value in [json!(secret), json!([secret]), json!({"inline": [secret]}), json!({ secret: 1 })] {
            let mut configuration = configuration();
            configuration["identity_providers"]["entra-us"]["client"]["authentication"][place] = value.clone();
            let host = start(&configuration);
            assert!(!host.configured(), "{place}: {value}");
            let shown = host.log_text().contains(secret);
            let is_secret_place = matches!(place, "secret" | "key") && !value.is_object();
            assert!(!(shown && is_secret_place), "{place}: {value} shows the secret:\n{}", host.log_text());
        }
    }
}
