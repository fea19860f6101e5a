//! Old names of options and values: the error gives the new name.

use onbehalf::config::Code;
use serde_json::{Value, json};

use onbehalf_test_support::{OKTA, configuration, configuration_error, set};

fn finding(pointer: &str, value: Value) -> (String, String, Code) {
    let mut configuration = configuration();
    set(&mut configuration, pointer, value);
    let error = configuration_error(&configuration);
    assert_eq!(error.findings().count(), 1, "{error}");
    (error.path.clone(), error.found.clone(), error.code)
}

#[test]
fn an_old_name_of_an_option_is_told_the_new_one() {
    for (pointer, old, new) in [
        ("", "open_paths", "unauthenticated_paths"),
        ("", "longest_wait_seconds", "max_wait_seconds"),
        ("", "shared_secret", "shared_data_secret"),
        ("/identity_providers/okta-eu", "clock_leeway_seconds", "clock_skew_seconds"),
        ("/identity_providers/okta-eu", "keys_max_age_seconds", "jwks_max_age_seconds"),
        ("/resources/0/exchange/okta-eu", "presented_as", "token_type"),
        ("/resources/0/exchange/okta-eu", "token", "forward"),
    ] {
        let (path, found, code) = finding(&format!("{pointer}/{old}"), json!("x"));
        assert!(path.ends_with(old) && code == Code::Renamed, "{path}");
        assert!(found.starts_with(&format!("a field that does not exist: {old} is called {new} now")), "{found}");
    }
    let (_, found, _) = finding("/resources/0/exchange/okta-eu/token", json!("removed"));
    assert!(found.ends_with("now: true for forwarded, false for removed"), "{found}");
}

#[test]
fn an_old_name_of_a_value_is_told_the_new_one() {
    let okta = "/identity_providers/okta-eu";
    for (pointer, value, found) in [
        (format!("{okta}/profile"), json!("none"), "\"none\", which is called \"validate_only\" now"),
        (
            format!("{okta}/client/authentication"),
            json!({"method": "upstream"}),
            "\"upstream\", which is called \"envoy_injected\" now",
        ),
    ] {
        assert_eq!(finding(&pointer, value).1, found);
    }
    let (_, found, code) =
        finding(&format!("{okta}/issuer"), json!(format!("{OKTA}/.well-known/openid-configuration")));
    assert_eq!((found.as_str(), code), ("the URL of its metadata", Code::MetadataUrl));
}
