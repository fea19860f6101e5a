//! Log lines about the fetch of metadata and keys.

use log::Level;
use onbehalf::http::{CalloutResult, Response};
use onbehalf_test_support::{
    ENTRA, ENTRA_KEY, OTHER_KEY, TestEngine, answer, answer_with, configuration, only_entra, provider_document, with,
};
use serde_json::{Value, json};

use super::{facts, listen, record};

const KEYS: &str = "https://login.entra.example/9b1c0000-1111-4222-8333-444455556666/discovery/v2.0/keys";
const OPENID: &str =
    "https://login.entra.example/9b1c0000-1111-4222-8333-444455556666/v2.0/.well-known/openid-configuration";
const RFC_8414: &str =
    "https://login.entra.example/.well-known/oauth-authorization-server/9b1c0000-1111-4222-8333-444455556666/v2.0";

/// The one record of a start at which the provider replies so to calls for its metadata and its keys.
fn record_of(configuration: &Value, reply: impl Fn(&str) -> Option<CalloutResult>) -> (Level, Vec<(String, String)>) {
    listen();
    TestEngine::with_replies(configuration, |call| reply(call.url.as_str()).unwrap_or_else(|| provider_document(call)));
    let (level, facts) = record();
    let mut facts: Vec<_> = facts.into_iter().collect();
    facts.sort();
    (level, facts)
}

fn sorted(more: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut facts: Vec<_> = facts(more).into_iter().collect();
    facts.sort();
    facts
}

fn failed(url: &str, cluster: &str, error: &str) -> (Level, Vec<(String, String)>) {
    let more = [
        ("event", "jwks_fetch_failed"),
        ("provider", "entra-us"),
        ("url", url),
        ("cluster", cluster),
        ("error", error),
        ("cached_jwks", "none"),
    ];
    (Level::Warn, sorted(&more))
}

fn keys(keys: &[Value]) -> CalloutResult {
    answer(200, json!({"keys": keys}).to_string().as_bytes())
}

fn compressed(coding: &str) -> CalloutResult {
    let headers = vec![("content-encoding".to_owned(), coding.as_bytes().to_vec())];
    CalloutResult::Response(Response { status: 200, headers, body: b"\x1f\x8b\x08\x00".to_vec() })
}

#[test]
fn failed_discovery_names_the_problem_of_each_document() {
    let configuration = only_entra(configuration());
    let found = record_of(&configuration, |url| match url {
        OPENID => Some(answer_with(200, &[], &json!({"issuer": "https://other.example"}))),
        _ => Some(answer(403, b"")),
    });
    let error = format!(
        "its metadata names another issuer than the configured one: https://other.example; after that, {RFC_8414}: the answer's status is 403"
    );
    assert_eq!(found, failed(OPENID, "entra", &error));
    // The last problem comes first if no document is metadata, or each is.
    let found = record_of(&configuration, |url| Some(answer(if url == OPENID { 404 } else { 403 }, b"")));
    let error = format!("the answer's status is 403; before that, {OPENID}: the answer's status is 404");
    assert_eq!(found, failed(RFC_8414, "entra", &error));
    let found = record_of(&configuration, |url| match url {
        OPENID => Some(answer_with(200, &[], &json!({"issuer": ENTRA}))),
        _ => Some(answer_with(200, &[], &json!({}))),
    });
    let error = format!(
        "its metadata has no issuer; before that, {OPENID}: its metadata lacks jwks_uri or token_endpoint, or one is not an https URL"
    );
    assert_eq!(found, failed(RFC_8414, "entra", &error));
}

#[test]
fn values_of_metadata_in_the_log_are_escaped_and_cut() {
    let issuer = format!("https://other.example/\" event=x\n{}", "a".repeat(999));
    let found = record_of(&only_entra(configuration()), |_| Some(answer_with(200, &[], &json!({"issuer": issuer}))));
    let error = &found.1.iter().find(|(name, _)| name == "error").unwrap().1;
    let shown: String = issuer.chars().take(128).collect();
    let problem = format!("its metadata names another issuer than the configured one: {shown}");
    assert_eq!(*error, format!("{problem}; before that, {OPENID}: {problem}"));
}

#[test]
fn endpoint_on_another_host_is_logged_with_its_name_and_without_query() {
    let good = json!({"issuer": ENTRA, "jwks_uri": "https://login.entra.example/k", "token_endpoint": "https://login.entra.example/t"});
    for (name, url, shown) in [
        ("jwks_uri", "https://keys.example/k?secret=x", "https://keys.example/k"),
        ("token_endpoint", "https://login.entra.example:444/t", "https://login.entra.example:444/t"),
    ] {
        let document = with(good.clone(), json!({name: url}));
        let found = record_of(&only_entra(configuration()), |_| Some(answer_with(200, &[], &document)));
        let error = format!(
            "its metadata has an endpoint on another host, {name} {shown}; set jwks_cluster and token_cluster, or jwks_uri and token_endpoint, if that is right"
        );
        assert_eq!(found, failed(OPENID, "entra", &error));
    }
}

#[test]
fn each_reason_is_logged_if_no_key_is_left() {
    let key = |change: Value| with(ENTRA_KEY.jwk.clone(), change);
    let listed = [
        key(json!({"d": "AAAA"})),
        key(json!({"use": "enc"})),
        key(json!({"use": "enc", "kid": "k2"})),
        key(json!({"alg": "ES512"})),
    ];
    let found = record_of(&only_entra(configuration()), |url| (url == KEYS).then(|| keys(&listed)));
    let error = "the JWK Set has no usable key: a private or symmetric key; not for signatures (2 keys); an algorithm that is not supported";
    assert_eq!(found, failed(KEYS, "entra", error));
    let found = record_of(&only_entra(configuration()), |url| (url == KEYS).then(|| keys(&[])));
    assert_eq!(found, failed(KEYS, "entra", "the JWK Set has no usable key"));
    let unreadable = br#"{"keys":[{"kty":"EC","x":1e400},{"kty":"RSA","kty":"EC"}]}"#;
    let found = record_of(&only_entra(configuration()), |url| (url == KEYS).then(|| answer(200, unreadable)));
    let error = "the JWK Set has no usable key: not an object that all JSON readers read alike (2 keys)";
    assert_eq!(found, failed(KEYS, "entra", error));
}

#[test]
fn two_different_keys_with_one_kid_are_logged_at_each_fetch() {
    let other = with(OTHER_KEY.jwk.clone(), json!({"kid": ENTRA_KEY.kid}));
    let odd = with(OTHER_KEY.jwk.clone(), json!({"use": "enc"}));
    let listed = [ENTRA_KEY.jwk.clone(), other, odd];
    let found = record_of(&only_entra(configuration()), |url| (url == KEYS).then(|| keys(&listed)));
    let error = "two different keys have this kid and ES256: tokens with it are refused; keys that are not used: not for signatures";
    let more = [
        ("event", "jwks_ambiguous"),
        ("provider", "entra-us"),
        ("url", KEYS),
        ("kid", ENTRA_KEY.kid),
        ("error", error),
    ];
    assert_eq!(found, (Level::Warn, sorted(&more)));
    // One key that is listed twice is no problem, and has no record.
    listen();
    let twice = [ENTRA_KEY.jwk.clone(), with(ENTRA_KEY.jwk.clone(), json!({"alg": "ES256"}))];
    TestEngine::with_replies(&only_entra(configuration()), |call| match call.url.as_str() {
        KEYS => keys(&twice),
        _ => provider_document(call),
    });
    assert!(super::records().is_empty());
}

#[test]
fn compressed_metadata_or_keys_are_logged_with_their_coding() {
    for coding in ["gzip", "br", "x \u{22}y"] {
        let found = record_of(&only_entra(configuration()), |url| (url == KEYS).then(|| compressed(coding)));
        let compressed_as = format!("its content-encoding is {coding}, although identity was asked for");
        assert_eq!(found, failed(KEYS, "entra", &format!("the answer is not a JWK Set: {compressed_as}")));
        let found = record_of(&only_entra(configuration()), |_| Some(compressed(coding)));
        let problem = format!("its metadata is not a JSON object, or has a member twice: {compressed_as}");
        assert_eq!(found, failed(RFC_8414, "entra", &format!("{problem}; before that, {OPENID}: {problem}")));
    }
    let found = record_of(&only_entra(configuration()), |url| (url == KEYS).then(|| compressed("identity")));
    assert_eq!(found, failed(KEYS, "entra", "the answer is not a JWK Set"));
    // A label alone does no harm.
    listen();
    let label = [("content-encoding", "utf-8")];
    TestEngine::with_replies(&only_entra(configuration()), |call| match call.url.as_str() {
        KEYS => answer_with(200, &label, &json!({"keys": [ENTRA_KEY.jwk]})),
        _ => provider_document(call),
    });
    assert!(super::records().is_empty());
}

#[test]
fn failed_callout_names_its_cluster_and_no_query() {
    let mut configuration = only_entra(configuration());
    let entra = &mut configuration["identity_providers"]["entra-us"];
    entra["jwks_cluster"] = json!("keys");
    entra["jwks_uri"] = json!("https://keys.example/k?key=of-the-operator");
    let found = record_of(&configuration, |url| url.contains("keys.example").then(|| answer(500, b"")));
    assert_eq!(found, failed("https://keys.example/k", "keys", "the answer's status is 500"));
}
