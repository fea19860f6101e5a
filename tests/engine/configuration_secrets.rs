//! Secrets in wrong places of a configuration: no line of an error or of the log repeats them.

use onbehalf::config::{Code, Config};
use serde_json::{Map, Value, json};

use crate::configuration_schema::{pointers, valid};
use onbehalf_test_support::{configuration, configuration_error, environment};

/// Text that has the form of a generated client secret.
const SECRET: &str = "3kH8Q~vT2xYbN.r5LwE0dGmUJ7cZ1pXo-fAsKq9WjR4~";

/// Panics if a line of the error or of the log has the secret, or its beginning in either case.
fn assert_hidden(configuration: &Value, place: &str) {
    let text = match Config::parse(configuration.to_string().as_bytes(), &environment) {
        Ok(config) => config.warnings.join("\n"),
        Err(error) => format!("{error}\n{error:?}"),
    };
    let part = SECRET[..12].to_lowercase();
    assert!(!text.to_lowercase().contains(&part), "{place}: {text}");
}

/// Calls `visit` with each place of each configuration that is valid.
fn each_place(visit: impl Fn(&Value, &str)) {
    assert_eq!(SECRET.len(), 44);
    for configuration in valid() {
        let mut found = Vec::new();
        pointers(&configuration, "", &mut found);
        found.iter().for_each(|pointer| visit(&configuration, pointer));
    }
}

fn with(configuration: &Value, pointer: &str, value: Value) -> Value {
    let mut changed = configuration.clone();
    *changed.pointer_mut(pointer).unwrap() = value;
    changed
}

#[test]
fn secret_as_the_value_of_any_option_is_in_no_line() {
    each_place(|configuration, pointer| {
        for value in
            [json!(SECRET), json!([SECRET]), json!([[SECRET]]), json!({"env": SECRET}), json!([SECRET, SECRET])]
        {
            assert_hidden(&with(configuration, pointer, value), pointer);
        }
    });
}

#[test]
fn secret_as_any_name_is_in_no_line() {
    let values = [json!(null), json!(1), json!("x"), json!(["x"]), json!({}), json!({"x": 1}), json!({SECRET: 1})];
    each_place(|configuration, pointer| {
        let Some(members) = configuration.pointer(pointer).unwrap().as_object() else { return };
        for value in &values {
            let mut more = members.clone();
            more.insert(SECRET.to_owned(), value.clone());
            assert_hidden(&with(configuration, pointer, more.into()), pointer);
            assert_hidden(&with(configuration, pointer, json!({SECRET: value})), pointer);
        }
        for name in members.keys() {
            let renamed = members
                .iter()
                .map(|(other, value)| (if other == name { SECRET.to_owned() } else { other.clone() }, value.clone()));
            let renamed: Map<String, Value> = renamed.collect();
            assert_hidden(&with(configuration, pointer, renamed.into()), &format!("{pointer}/{name}"));
        }
    });
}

#[test]
fn nothing_is_read_below_an_invalid_name() {
    for pointer in ["/identity_providers", "/resources/0/exchange", "/resources/0/exchange/okta-eu/parameters"] {
        for value in [json!(1), json!({"x": 1, "client": {"y": 1}})] {
            let mut configuration = configuration();
            configuration["resources"][0]["exchange"]["okta-eu"]["parameters"] = json!({"tenant": "acme"});
            configuration.pointer_mut(pointer).unwrap()[SECRET] = value;
            let error = configuration_error(&configuration);
            let path = pointer.replace("/0", "[0]").trim_start_matches('/').replace('/', ".");
            let found: Vec<_> =
                error.findings().map(|finding| (finding.code, &*finding.path, &*finding.found)).collect();
            assert_eq!(found, [(Code::InvalidName, &*path, "another name")], "{error}");
        }
    }
}

#[test]
fn parameter_with_a_long_name_has_a_path_without_it() {
    let mut configuration = configuration();
    let name = SECRET.replace('~', ".");
    configuration["resources"][0]["exchange"]["okta-eu"]["parameters"] = json!({&name: 1, "tenant": 1});
    let error = configuration_error(&configuration);
    let paths: Vec<_> = error.findings().map(|finding| &*finding.path).collect();
    let parameters = "resources[0].exchange.okta-eu.parameters";
    assert_eq!(paths, [format!("{parameters}.tenant"), format!("{parameters}.<another name>")]);
}

#[test]
fn short_plain_name_is_quoted() {
    let changed = |pointer: &str, name: &str| {
        let mut configuration = configuration();
        let value = configuration["identity_providers"]["entra-us"].clone();
        configuration.pointer_mut(pointer).unwrap()[name] = value;
        configuration_error(&configuration).to_string()
    };
    for (pointer, name, words) in [
        (
            "/identity_providers",
            "Entra",
            "at identity_providers: found the name \"Entra\", expected names of 1 to 63 of",
        ),
        (
            "/resources/0/exchange",
            "Entra",
            "at resources[0].exchange: found the name \"Entra\", expected names of 1 to 63",
        ),
        (
            "/identity_providers/okta-eu",
            "clientId",
            "at identity_providers.okta-eu.clientId: found a field that does not",
        ),
        ("", "resuorces", "at resuorces: found a field that does not exist (did you mean resources?), expected only"),
    ] {
        let error = changed(pointer, name);
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn text_as_long_as_a_generated_secret_is_not_quoted() {
    for (length, is_quoted) in [(31, true), (32, false)] {
        let text = "a".repeat(length);
        let mut configuration = configuration();
        configuration["audit"] = json!({"subjects": text});
        assert_eq!(configuration_error(&configuration).found.contains(&text), is_quoted);
    }
}
