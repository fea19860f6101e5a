//! Configurations with mistakes.

use onbehalf::config::{Config, ConfigError};
use onbehalf::engine::Decision;
use onbehalf::http::Request;
use onbehalf_test_support::{OTHER_KEY, SECRET, TestEngine, configuration, environment, header, key_set};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use super::{cases, scalar};
use crate::configuration_schema::pointers;

/// A JSON value as `google.protobuf.Value`, field by field (protobuf.dev, "Encoding").
fn protobuf_value(value: &Value) -> Vec<u8> {
    match value {
        Value::Null => vec![0x08, 0],
        Value::Bool(truth) => vec![0x20, u8::from(*truth)],
        Value::Number(number) => [&[0x11][..], &number.as_f64().unwrap().to_le_bytes()].concat(),
        Value::String(text) => protobuf_field(3, text.as_bytes()),
        Value::Object(_) => protobuf_field(5, &protobuf_struct(value)),
        Value::Array(items) => protobuf_field(
            6,
            &items.iter().flat_map(|item| protobuf_field(1, &protobuf_value(item))).collect::<Vec<_>>(),
        ),
    }
}

fn protobuf_struct(object: &Value) -> Vec<u8> {
    let entry = |(name, value): (&String, &Value)| {
        protobuf_field(1, &[protobuf_field(1, name.as_bytes()), protobuf_field(2, &protobuf_value(value))].concat())
    };
    object.as_object().unwrap().iter().flat_map(entry).collect()
}

fn protobuf_field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        field.push(0x80 | u8::try_from(length & 0x7f).unwrap());
        length >>= 7;
    }
    field.push(u8::try_from(length).unwrap());
    [field, bytes.to_vec()].concat()
}

const INLINE: &str = "1nl1ne~value";

/// A configuration with every option, and secrets from both sources.
fn full_configuration() -> Value {
    let mut configuration = configuration();
    configuration["identity_providers"]["standard"] = json!({
        "profile": "rfc8693", "issuer": "https://id.acme.example", "cluster": "id", "audiences": ["api"],
        "jwks": serde_json::from_slice::<Value>(&key_set(&[&OTHER_KEY])).unwrap(),
        "token_endpoint": "https://id.acme.example/t",
        "clock_skew_seconds": 5, "timeout_seconds": 3, "jwks_max_age_seconds": 7200,
        "subject_token": {"type": "id_token", "cookie": "idt", "audiences": ["login"]},
        "client": {"id": "c", "authentication": {"method": "client_secret_basic", "secret": {"inline": INLINE}}},
    });
    configuration["resources"][0]["dpop"] = json!({"mode": "optional", "nonce": true, "max_age_seconds": 60});
    configuration["resources"][0]["certificate_bound_tokens"] = json!("required");
    configuration["cache"] = json!({"verified_tokens": 10, "exchanged_tokens": 10, "verified_bytes": 10000});
    configuration
}

/// A mistake in one value of a configuration.
#[derive(Clone, Debug)]
enum Mistake {
    Another(Value),
    Spoiled(Index, char),
    ExtraField(String),
    Wrapped,
    Removed,
}

fn mistake() -> impl Strategy<Value = Mistake> {
    let odd = select(vec!['"', '\\', '/', '.', '%', ' ', '\n', '\0', '@', ':', '?', '#', 'é', '{', '~', 'A']);
    prop_oneof![
        scalar().prop_map(Mistake::Another),
        prop_oneof![Just(json!([])), Just(json!({})), Just(json!("")), Just(json!([""])), Just(json!({"": {}}))]
            .prop_map(Mistake::Another),
        (any::<Index>(), odd).prop_map(|(at, odd)| Mistake::Spoiled(at, odd)),
        any::<String>().prop_map(Mistake::ExtraField),
        Just(Mistake::Wrapped),
        Just(Mistake::Removed),
    ]
}

fn mistaken(mut configuration: Value, mistakes: &[(Index, Mistake)]) -> Value {
    for (which, mistake) in mistakes {
        let mut found = Vec::new();
        pointers(&configuration, "", &mut found);
        // The first is that of the whole document.
        found.remove(0);
        if found.is_empty() {
            return configuration;
        }
        let pointer = which.get(&found);
        let value = configuration.pointer_mut(pointer).unwrap();
        match mistake {
            Mistake::Another(other) => *value = other.clone(),
            Mistake::Spoiled(at, odd) => {
                if let Value::String(text) = value
                    && text != INLINE
                {
                    let mut characters: Vec<char> = text.chars().collect();
                    characters.insert(at.index(characters.len() + 1), *odd);
                    *text = characters.into_iter().collect();
                }
            }
            Mistake::ExtraField(name) => {
                if let Value::Object(members) = value {
                    members.insert(name.clone(), json!(1));
                }
            }
            Mistake::Wrapped => *value = json!([value.take()]),
            Mistake::Removed => *value = Value::Null,
        }
    }
    configuration
}

fn parsed(bytes: &[u8]) -> Result<Config, ConfigError> {
    Config::parse(bytes, &environment)
}

/// Returns `true` if `text` is `Bearer name="value", name="value"` (RFC 9110 sections 5.6.4 and 11.6.1).
fn is_challenge(text: &str) -> bool {
    let Some(mut rest) = text.strip_prefix("Bearer ") else {
        return false;
    };
    loop {
        let Some((name, quoted)) = rest.split_once("=\"") else {
            return false;
        };
        let Some((value, after)) = quoted.split_once('"') else {
            return false;
        };
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        if !name.bytes().all(is_name) || !value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'\\') {
            return false;
        }
        match after.strip_prefix(", ") {
            Some(next) => rest = next,
            None => return after.is_empty(),
        }
    }
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn mistaken_configuration_is_refused_by_field_and_shows_no_secret(
        mistakes in vec((any::<Index>(), mistake()), 1..4),
    ) {
        let configuration = mistaken(full_configuration(), &mistakes);
        let key = environment("OKTA_PRIVATE_KEY").unwrap();
        let key = key.lines().nth(1).unwrap();
        let hides_secrets = |text: &str| [SECRET, INLINE, key].iter().all(|secret| !text.contains(secret));
        let as_json = parsed(configuration.to_string().as_bytes());
        match &as_json {
            Ok(config) => {
                let shown = format!("{config:?}");
                prop_assert!(hides_secrets(&shown));
            }
            Err(error) => {
                prop_assert!(!error.path.is_empty() && !error.found.is_empty() && !error.expected.is_empty());
                prop_assert!(hides_secrets(&error.to_string()), "at {}", error.path);
            }
        }
        // Envoy passes JSON or protobuf, and both must give the same result.
        let as_struct = parsed(&protobuf_struct(&configuration));
        let place = |result: &Result<Config, ConfigError>| match result {
            Ok(config) => format!("{config:?}"),
            Err(error) => error.path.clone(),
        };
        prop_assert_eq!(place(&as_json), place(&as_struct));
    }

    #[test]
    fn accepted_resource_can_stand_in_a_challenge(
        path in "[ -~]{0,6}", scope in "[ -~]{1,6}", authority in "[a-z:.'*_]{0,6}",
    ) {
        let mut configuration = configuration();
        let url = format!("https://mcp{authority}.acme.example/{path}");
        configuration["resources"][0]["url"] = json!(url);
        configuration["resources"][0]["scopes_supported"] = json!([scope]);
        if let Ok(config) = parsed(configuration.to_string().as_bytes()) {
            let resource = &config.resources[0];
            let path = if resource.url.path().is_empty() { "/" } else { resource.url.path() };
            let fields: [(&str, &[u8]); 3] =
                [(":method", b"GET"), (":authority", resource.url.authority().as_bytes()), (":path", path.as_bytes())];
            match TestEngine::new(&configuration).decide(Request::new(&fields)) {
                Decision::Respond(answer) => {
                    let challenge = header(&answer, "www-authenticate").unwrap_or_default();
                    prop_assert!(is_challenge(challenge), "{:?} of {}", challenge, url);
                }
                _ => prop_assert!(false, "nobody asked for a token at {}", url),
            }
        }
    }
}
