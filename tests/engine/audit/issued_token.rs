//! Log line of an exchange that succeeded: what the provider granted.

use log::Level;
use onbehalf_test_support::{
    SECRET, TestEngine, alice_token, answer, answer_with, authorization, bearer, bob_token, configuration, with,
};
use serde_json::{Value, json};
use std::collections::HashMap;

use super::{listen, record};

fn line(configuration: &Value, token: &str, response: &Value) -> (Level, HashMap<String, String>) {
    let mut engine = TestEngine::new(configuration).with_keys();
    listen();
    let step = engine.exchange(bearer("/github", token), &answer_with(200, &[], response));
    assert_eq!(authorization(step), "Bearer up");
    record()
}

fn good() -> Value {
    json!({"access_token": "up", "token_type": "Bearer"})
}

#[test]
fn lifetime_is_the_whole_part_of_a_positive_number() {
    let lifetime = |value: &str| {
        let body = format!(r#"{{"access_token":"up","token_type":"Bearer","expires_in":{value}}}"#);
        let mut engine = TestEngine::ready();
        listen();
        let step = engine.exchange(bearer("/github", &alice_token()), &answer(200, body.as_bytes()));
        assert_eq!(authorization(step), "Bearer up", "{value}");
        record().1["lifetime_s"].clone()
    };
    for (value, seconds) in [
        ("3599.7", "3599"),
        ("\"3599.7\"", "3599"),
        ("\" 3599 \"", "3599"),
        ("3.6e3", "3600"),
        ("1", "1"),
        ("1.99", "1"),
        ("null", "300"),
        ("1e300", "604800"),
        ("18446744073709551615", "604800"),
        ("\"99999999999999999999999\"", "604800"),
    ] {
        assert_eq!(lifetime(value), seconds, "{value}");
    }
}

#[test]
fn granted_scopes_are_logged_and_fewer_than_requested_are_a_warning() {
    let mut configuration = configuration();
    configuration["resources"][0]["exchange"]["okta-eu"]["scopes"] = json!(["read", "write"]);
    let line = |scope: Value| line(&configuration, &bob_token(), &with(good(), json!({"scope": scope})));
    for (scope, granted) in [
        (json!("read write"), "read write"),
        (json!("write extra read"), "write extra read"),
        (json!(["write", "read"]), "write read"),
    ] {
        let (level, facts) = line(scope);
        assert_eq!((level, &*facts["granted_scopes"]), (Level::Info, granted));
        assert!(!facts.contains_key("missing_scopes"), "{facts:?}");
        assert_eq!(facts["scopes"], "read write");
    }
    let (level, facts) = line(json!("read"));
    assert_eq!((level, &*facts["granted_scopes"], &*facts["missing_scopes"]), (Level::Warn, "read", "write"));
    let (level, facts) = line(json!("Read writes"));
    assert_eq!((level, &*facts["missing_scopes"]), (Level::Warn, "read write"));
    // RFC 6749 section 5.1: a response without `scope` grants what was requested.
    for none in [json!(null), json!(""), json!(7), json!([])] {
        let (level, facts) = line(none);
        assert_eq!(level, Level::Info);
        assert!(!facts.contains_key("granted_scopes") && !facts.contains_key("missing_scopes"), "{facts:?}");
    }
}

#[test]
fn entra_scopes_are_compared_by_their_short_names() {
    let missing = |exchange: Value, scope: &str| {
        let mut configuration = configuration();
        configuration["resources"][0]["exchange"]["entra-us"] = exchange;
        let (_, facts) = line(&configuration, &alice_token(), &with(good(), json!({"scope": scope})));
        facts.get("missing_scopes").cloned()
    };
    let two = json!({"scopes": ["api://github/Read", "api://github/write", "offline_access"]});
    assert_eq!(missing(two.clone(), "api://github/read api://github/write"), None);
    assert_eq!(missing(two.clone(), "read write profile"), None);
    assert_eq!(missing(two, "read").as_deref(), Some("api://github/write"));
    assert_eq!(missing(json!({"resource": "api://github"}), "api://github/read"), None, ".default");
}

#[test]
fn granted_scopes_that_repeat_a_secret_are_not_logged() {
    let token = alice_token();
    for scope in [SECRET, &token, &token[..50], "up"] {
        let response = with(good(), json!({"scope": format!("read {scope}")}));
        let (_, facts) = line(&configuration(), &token, &response);
        assert!(!facts.contains_key("granted_scopes"), "{facts:?}");
    }
    let (_, facts) = line(&configuration(), &token, &with(good(), json!({"scope": "a\" event=b\n"})));
    assert_eq!(facts["granted_scopes"], "a\" event=b");
}
