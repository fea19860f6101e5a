//! Codes of configuration errors, each with a test, and all mistakes of a document at once.

use std::collections::BTreeSet;

use onbehalf::config::{Code, Config, ConfigError, MAX_FINDINGS};
use serde_json::{Value, json};

use crate::configuration_reference::whole_schema;
use onbehalf_test_support::{ENTRA, OKTA, OTHER_KEY, configuration, environment, key_set, set as set_at};

fn variable(name: &str) -> Option<String> {
    match name {
        "TWO_WORDS" => Some("two words".to_owned()),
        _ => environment(name),
    }
}

fn error(configuration: &Value) -> ConfigError {
    Config::parse(configuration.to_string().as_bytes(), &variable).expect_err("a mistake")
}

/// The configuration with some values replaced, by JSON pointer.
fn changed(changes: &[(&str, Value)]) -> Value {
    let mut configuration = configuration();
    for (pointer, value) in changes {
        set_at(&mut configuration, pointer, value.clone());
    }
    configuration
}

const ENTRA_AT: &str = "/identity_providers/entra-us";
const URN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// One or more configurations for each code: the code, the changes, the path of the finding.
fn cases() -> Vec<(Code, Value, &'static str)> {
    let set = |code: Code, pointer: &str, value: Value, path: &'static str| (code, changed(&[(pointer, value)]), path);
    let okta = |name: &str| format!("/identity_providers/okta-eu/{name}");
    let exchange = |name: &str| format!("/resources/0/exchange/okta-eu/{name}");
    let rfc8693 = (okta("profile"), json!("rfc8693"));
    let with_rfc8693 = |code: Code, exchange: Value, path: &'static str| {
        let target = ("/resources/0/exchange/okta-eu", exchange);
        (code, changed(&[(&rfc8693.0, rfc8693.1.clone()), target]), path)
    };
    let validate_only = |more: Value| {
        let mut okta =
            json!({"profile": "validate_only", "issuer": OKTA, "cluster": "okta", "audiences": ["api://default"]});
        more.as_object().unwrap().iter().for_each(|(name, value)| okta[name] = value.clone());
        okta
    };
    let shared = json!({"inline": "0123456789abcdef0123456789abcdef"});
    let keys: Value = serde_json::from_slice(&key_set(&[&OTHER_KEY])).unwrap();
    let okta_header = json!({"type": "id_token", "header": "x-a", "audiences": ["c"]});
    let assertion = json!({"method": "client_assertion", "assertion": {"header": "x-a"}});
    let id_jag = json!({"audience": "https://auth.todo.example", "authorization_server": {"cluster": "c",
        "token_endpoint": "https://auth.todo.example/t", "client": {"id": "d", "authentication": assertion}}});
    vec![
        // The schema finds these, too.
        set(Code::UnknownField, "/resourcez", json!([]), "resourcez"),
        set(Code::Renamed, &okta("profile"), json!("none"), "identity_providers.okta-eu.profile"),
        set(Code::WrongType, &okta("cluster"), json!(1), "identity_providers.okta-eu.cluster"),
        set(Code::OutOfRange, "/max_wait_seconds", json!(121), "max_wait_seconds"),
        set(Code::UnknownValue, &okta("profile"), json!("okta"), "identity_providers.okta-eu.profile"),
        set(Code::Missing, &okta("cluster"), Value::Null, "identity_providers.okta-eu.cluster"),
        set(Code::EmptyList, &okta("audiences"), json!([]), "identity_providers.okta-eu.audiences"),
        set(Code::ExactlyOne, "/shared_data_secret", json!({}), "shared_data_secret"),
        set(
            Code::NotUsed,
            &okta("client/authentication/secret"),
            shared,
            "identity_providers.okta-eu.client.authentication.secret",
        ),
        set(
            Code::InvalidName,
            &exchange("parameters"),
            json!({"a b": "c"}),
            "resources[0].exchange.okta-eu.parameters",
        ),
        set(
            Code::Duplicate,
            &okta("client/authentication/certificate_header"),
            json!(["x5c", "x5c"]),
            "identity_providers.okta-eu.client.authentication.certificate_header",
        ),
        // Only the reader finds these.
        set(Code::NotAUrl, &okta("issuer"), json!("login"), "identity_providers.okta-eu.issuer"),
        set(
            Code::MetadataUrl,
            &okta("issuer"),
            json!(format!("{OKTA}/.well-known/openid-configuration")),
            "identity_providers.okta-eu.issuer",
        ),
        set(Code::NotANormalPath, "/unauthenticated_paths", json!(["/a/../b"]), "unauthenticated_paths[0]"),
        set(
            Code::ReservedPath,
            "/resources/0/url",
            json!("https://mcp.acme.example/.well-known/oauth-protected-resource/x"),
            "resources[0].url",
        ),
        set(Code::NotAScope, "/resources/0/scopes", json!(["a b"]), "resources[0].scopes[0]"),
        set(Code::NotAHeader, "/request_headers_to_remove", json!(["host"]), "request_headers_to_remove[0]"),
        (
            Code::ClientHeader,
            changed(&[
                (&okta("subject_token"), okta_header),
                (&format!("{ENTRA_AT}/client/authentication"), assertion),
            ]),
            "identity_providers.entra-us.client.authentication.assertion.header",
        ),
        set(Code::NotACookie, "/request_cookies_to_remove", json!(["a b"]), "request_cookies_to_remove[0]"),
        with_rfc8693(
            Code::NotAUrn,
            json!({"audience": "a", "actor_token": {"header": "x-actor", "type": "jwt", "subject": "s"}}),
            "resources[0].exchange.okta-eu.actor_token.type",
        ),
        set(
            Code::UnsetVariable,
            &format!("{ENTRA_AT}/client/authentication/secret"),
            json!({"env": "NOT_SET"}),
            "identity_providers.entra-us.client.authentication.secret.env",
        ),
        with_rfc8693(
            Code::NotAToken,
            json!({"audience": "a", "actor_token": {"env": "TWO_WORDS", "type": URN}}),
            "resources[0].exchange.okta-eu.actor_token.env",
        ),
        set(
            Code::NotAKey,
            &okta("client/authentication/key"),
            json!({"inline": "MII"}),
            "identity_providers.okta-eu.client.authentication.key",
        ),
        set(
            Code::NotACertificate,
            &okta("client/authentication/certificate"),
            json!({"inline": "MII"}),
            "identity_providers.okta-eu.client.authentication.certificate",
        ),
        set(
            Code::MissingCertificate,
            &okta("client/authentication/certificate_header"),
            json!(["x5c"]),
            "identity_providers.okta-eu.client.authentication.certificate",
        ),
        set(Code::NotAKeySet, &okta("jwks"), json!({"keys": [{"kty": "oct"}]}), "identity_providers.okta-eu.jwks"),
        (
            Code::TwoKeySources,
            changed(&[(&okta("jwks"), keys), (&okta("jwks_uri"), json!(format!("{OKTA}/keys")))]),
            "identity_providers.okta-eu.jwks_uri",
        ),
        set(Code::TenantMismatch, &okta("tenants"), json!(["t"]), "identity_providers.okta-eu.tenants"),
        (
            Code::SameIssuer,
            changed(&[(&okta("profile"), json!("rfc8693")), (&okta("issuer"), json!(ENTRA))]),
            "identity_providers.okta-eu.issuer",
        ),
        set(Code::SameUrl, "/resources/1/url", json!("https://mcp.acme.example/github/"), "resources[1].url"),
        set(Code::NestedWithoutAlias, "/resources/0/aliases", json!(["http://in.example/"]), "resources[1].aliases"),
        set(Code::MissingAudiences, &okta("audiences"), Value::Null, "identity_providers.okta-eu.audiences"),
        set(
            Code::SubjectTokenMismatch,
            &okta("subject_token"),
            json!({"type": "id_token", "header": "x-a"}),
            "identity_providers.okta-eu.subject_token.audiences",
        ),
        set(
            Code::RefusedByProfile,
            &okta("issuer"),
            json!("https://acme-admin.okta.com/oauth2/default"),
            "identity_providers.okta-eu.issuer",
        ),
        set(
            Code::RefusedByProfile,
            "/resources/0/exchange/entra-us/audience",
            json!("x"),
            "resources[0].exchange.entra-us.audience",
        ),
        set(Code::NotUsedByProfile, &exchange("forward"), json!(true), "resources[0].exchange.okta-eu.forward"),
        set(
            Code::UnknownProvider,
            "/resources/1/exchange/nobody",
            json!({"audience": "x"}),
            "resources[1].exchange.nobody",
        ),
        set(
            Code::UnknownProvider,
            "/resources/0/authorization_servers",
            json!(["nobody"]),
            "resources[0].authorization_servers[0]",
        ),
        (
            Code::IdTokensCannot,
            changed(&[(&okta("subject_token"), json!({"type": "id_token"}))]),
            "resources[0].exchange.okta-eu",
        ),
        (
            Code::ForwardsBoundTokens,
            changed(&[
                ("/identity_providers/okta-eu", validate_only(json!({}))),
                ("/resources/0/exchange/okta-eu", json!({"forward": true})),
                ("/resources/0/certificate_bound_tokens", json!("optional")),
            ]),
            "resources[0].exchange.okta-eu.forward",
        ),
        set(Code::MissingDpopKey, &exchange("token_type"), json!("dpop"), "resources[0].exchange.okta-eu.token_type"),
        set(
            Code::UpstreamUrlUnused,
            &exchange("upstream_url"),
            json!("https://up.example"),
            "resources[0].exchange.okta-eu.upstream_url",
        ),
        with_rfc8693(
            Code::MissingSubject,
            json!({"audience": "a", "actor_token": {"header": "x-actor", "type": URN}}),
            "resources[0].exchange.okta-eu.actor_token.subject",
        ),
        (
            Code::AssertionInHeader,
            changed(&[(&okta("profile"), json!("id_jag")), ("/resources/0/exchange/okta-eu", id_jag)]),
            "resources[0].exchange.okta-eu.authorization_server.client.authentication.assertion.header",
        ),
        set(
            Code::ReservedParameter,
            &exchange("parameters"),
            json!({"grant_type": "x"}),
            "resources[0].exchange.okta-eu.parameters",
        ),
        (
            Code::MissingSharedDataSecret,
            json!({
                "identity_providers": {"okta-eu": validate_only(json!({}))},
                "resources": [{"url": "https://mcp.acme.example", "exchange": {"okta-eu": {}}}],
            }),
            "shared_data_secret",
        ),
        set(Code::ShortSecret, "/shared_data_secret", json!({"inline": "1234567"}), "shared_data_secret"),
    ]
}

#[test]
fn every_code_has_a_configuration_with_that_one_mistake() {
    let schema = jsonschema::draft202012::new(&whole_schema()).unwrap();
    let mut tested = BTreeSet::from([Code::NotAnObject]);
    for (code, configuration, path) in cases() {
        let error = error(&configuration);
        let findings: Vec<_> = error.findings().map(|finding| (finding.code, finding.path.as_str())).collect();
        let extra = (code == Code::Duplicate)
            .then_some((Code::MissingCertificate, "identity_providers.okta-eu.client.authentication.certificate"));
        let expected: Vec<_> = [(code, path)].into_iter().chain(extra).collect();
        assert_eq!(findings, expected, "{error}");
        let (_, _, in_schema) = Code::ALL.iter().find(|(other, ..)| *other == code).unwrap();
        assert_eq!(!schema.is_valid(&configuration), *in_schema, "{}", code.name());
        tested.insert(code);
    }
    let all: BTreeSet<Code> = Code::ALL.iter().map(|(code, ..)| *code).collect();
    assert_eq!(tested, all);
}

#[test]
fn bytes_that_are_no_object_have_a_code_of_their_own() {
    for text in [&b""[..], b"[]", b"\xff", br#"{"a":1,"a":1}"#] {
        assert_eq!(Config::parse(text, &environment).unwrap_err().code, Code::NotAnObject);
    }
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_the_document() {
    let text = r#"{
        "max_wait_seconds": 0,
        "resources": [
            {"url": "http://mcp.acme.example", "scope": [], "dpop": {"nonce": "yes"}, "exchange": {"okta": {"audience": 5}}},
            {"url": "https://mcp.acme.example/b", "exchange": {"okta": {"audience": "a", "presented_as": "dpop"}}}
        ],
        "identity_providers": {
            "okta": {
                "profile": "okta_obo", "issuer": "https://acme.okta.com/oauth2/default?x", "audiences": ["api"],
                "client": {"id": "", "authentication": {"method": "client_secret_basic", "key": {"inline": "TOPSECRET"}}}
            },
            "entra": {"profile": "entra", "cluster": "c"}
        },
        "shared_data_secret": "TOPSECRET"
    }"#;
    let error = Config::parse(text.as_bytes(), &environment).unwrap_err();
    let found: Vec<_> = error.findings().map(|finding| (finding.path.as_str(), finding.code.name())).collect();
    assert_eq!(
        found,
        [
            ("max_wait_seconds", "out_of_range"),
            ("resources[0].url", "not_a_url"),
            ("resources[0].scope", "unknown_field"),
            ("resources[0].dpop.nonce", "wrong_type"),
            ("resources[0].dpop.mode", "missing"),
            ("resources[0].exchange.okta.audience", "wrong_type"),
            ("resources[1].exchange.okta.presented_as", "renamed"),
            ("identity_providers.okta.issuer", "not_a_url"),
            ("identity_providers.okta.client.id", "wrong_type"),
            ("identity_providers.okta.client.authentication.key", "not_used"),
            ("identity_providers.okta.client.authentication.secret", "missing"),
            ("identity_providers.okta.cluster", "missing"),
            ("identity_providers.entra.profile", "unknown_value"),
            ("identity_providers.entra.issuer", "missing"),
            ("shared_data_secret", "wrong_type"),
        ]
    );
    assert_eq!(error.to_string().lines().count(), found.len());
    assert!(!error.to_string().contains("TOPSECRET"));
}

#[test]
fn a_value_of_the_wrong_type_has_no_other_mistake() {
    for (pointer, value) in [
        ("/identity_providers", json!([])),
        ("/identity_providers", json!({})),
        ("/identity_providers/okta-eu", json!("okta")),
        ("/identity_providers/okta-eu/client", json!(true)),
        ("/identity_providers/okta-eu/client/authentication", json!([])),
        ("/identity_providers/okta-eu/audiences", json!("api")),
        ("/identity_providers/okta-eu/isuer", json!(OKTA)),
        ("/resources", json!({})),
        ("/resources/0", json!("x")),
        ("/resources/0/exchange", json!("x")),
        ("/resources/0/exchange/okta-eu", json!("x")),
        ("/cache", json!(1)),
    ] {
        let mut configuration = changed(&[(pointer, value.clone())]);
        if pointer.ends_with("isuer") {
            configuration["identity_providers"]["okta-eu"].as_object_mut().unwrap().remove("issuer");
        }
        let error = error(&configuration);
        assert_eq!(error.findings().count(), 1, "{pointer} = {value}: {error}");
    }
}

#[test]
fn the_first_mistakes_of_many_are_reported() {
    let mut configuration = configuration();
    for number in 0..1000 {
        configuration["resources"][0]["exchange"][format!("nobody-{number:04}")] = json!({"audience": 1});
    }
    let error = error(&configuration);
    assert_eq!(error.findings().count(), MAX_FINDINGS);
    assert_eq!(error.path, "resources[0].exchange.nobody-0000.audience");
}
