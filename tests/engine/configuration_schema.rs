//! JSON Schema of the configuration: recipes and examples follow it, and the reader refuses whatever it refuses.

use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use jwt_simple::algorithms::ES256KeyPair;
use onbehalf::config::Config;
use onbehalf::config::options::{Group, Kind, OptionSpec, ROOT};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde_json::{Map, Value, json};

use crate::configuration_reference::{EXAMPLE, SCHEMA, options, schema_of_option, whole_schema};
use onbehalf_test_support::{OTHER_KEY, configuration, environment, key_set, set};

/// Words that the reader of a recipe replaces.
const PLACEHOLDERS: [(&str, &str); 9] = [
    ("MCP_HOST", "mcp.acme.example"),
    ("ENTRA_TENANT_ID", "9b1c0000-1111-4222-8333-444455556666"),
    ("\"ENTRA_CLIENT_ID\"", "\"11111111-1111-4222-8333-444455556666\""),
    ("ENTRA_MCP_APP_ID", "22222222-1111-4222-8333-444455556666"),
    ("OKTA_DOMAIN", "acme.okta.com"),
    ("KEYCLOAK_HOST", "sso.acme.example"),
    ("OKTA_CLIENT_ID", "0oa1"),
    ("OKTA_AGENT_ID", "wlp1"),
    ("OKTA_MCP_SERVER_ID", "aus1"),
];

fn validator() -> Validator {
    jsonschema::draft202012::new(&whole_schema()).unwrap()
}

/// The document as Envoy hands it over.
fn json_of(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(truth)) => json!(truth),
        Yaml::Value(Scalar::Integer(number)) => json!(number),
        Yaml::Value(Scalar::FloatingPoint(number)) => json!(number.into_inner()),
        Yaml::Value(Scalar::String(text)) => json!(text),
        Yaml::Sequence(items) => items.iter().map(json_of).collect(),
        Yaml::Mapping(members) => {
            let name = |name: &Yaml<'_>| json_of(name).as_str().unwrap_or_default().to_owned();
            members.iter().map(|(key, value)| (name(key), json_of(value))).collect::<Map<_, _>>().into()
        }
        other => panic!("{other:?}"),
    }
}

fn documents(text: &str) -> Vec<Value> {
    let filled = PLACEHOLDERS.iter().fold(text.to_owned(), |text, (word, value)| text.replace(word, value));
    let filled = filled.replace(" ENTRA_CLIENT_ID", " 11111111-1111-4222-8333-444455556666");
    let filled = filled.replace("[ENTRA_CLIENT_ID", "[11111111-1111-4222-8333-444455556666");
    Yaml::load_from_str(&filled).unwrap_or_else(|error| panic!("{error}: {filled}")).iter().map(json_of).collect()
}

/// Every configuration of the filter in a document, however deep.
fn configurations<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) if members.contains_key("identity_providers") => found.push(value),
        Value::Object(members) => members.values().for_each(|value| configurations(value, found)),
        Value::Array(items) => items.iter().for_each(|value| configurations(value, found)),
        _ => {}
    }
}

/// Tracked files of a folder, and of those in it.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn variable(name: &str) -> Option<String> {
    Some(match name {
        _ if name.ends_with("_KEY") => ES256KeyPair::generate().to_pem().unwrap(),
        _ => format!("the-value-of-{name}-with-many-characters"),
    })
}

#[test]
fn recipes_and_examples_follow_the_schema_and_are_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![root.join("README.md")];
    files(&root.join("docs"), &mut paths);
    files(&root.join("envoy-config"), &mut paths);
    let validator = validator();
    let mut count = 0;
    for path in paths {
        let name = path.display();
        let text = fs::read_to_string(&path).unwrap();
        let blocks: Vec<String> = match path.extension().and_then(|extension| extension.to_str()) {
            Some("yaml") => vec![text],
            Some("md") => text
                .split("```yaml\n")
                .skip(1)
                .map(|rest| rest.split("```").next().unwrap().to_owned())
                .filter(|block| block.contains("identity_providers:"))
                .collect(),
            _ => continue,
        };
        for block in blocks {
            for document in documents(&block) {
                let mut found = Vec::new();
                configurations(&document, &mut found);
                for configuration in found {
                    let errors: Vec<_> = validator.iter_errors(configuration).map(|error| error.to_string()).collect();
                    assert!(errors.is_empty(), "{name}: {errors:?}");
                    if let Err(error) = Config::parse(configuration.to_string().as_bytes(), &variable) {
                        panic!("{name}: {error}");
                    }
                    count += 1;
                }
            }
        }
    }
    assert!(count >= 10, "only {count} configurations");
}

#[test]
fn examples_of_options_follow_the_schema_of_the_option() {
    for (path, option) in options() {
        let value = documents(option.docs.example).remove(0)[option.name].take();
        let validator = jsonschema::draft202012::new(&schema_of_option(option)).unwrap();
        let errors: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{path}.{}: {errors:?}", option.name);
    }
}

#[test]
fn the_schema_is_one_that_its_draft_allows() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(SCHEMA)).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    assert!(jsonschema::draft202012::meta::is_valid(&schema));
    assert!(validator().is_valid(&documents(EXAMPLE)[0]));
}

/// Options that need a certificate or an assertion for a key. `tests/engine/client_authentication/` has them.
const CREDENTIALS: [&str; 3] = [".authentication.certificate", ".authentication.certificate_header", ".assertion.env"];

/// Configurations that together have every option but [`CREDENTIALS`].
pub fn valid() -> Vec<Value> {
    let mut full = configuration();
    full["identity_providers"]["standard"] = json!({
        "profile": "rfc8693", "issuer": "https://id.acme.example", "cluster": "id", "audiences": ["api"],
        "jwks": serde_json::from_slice::<Value>(&key_set(&[&OTHER_KEY])).unwrap(),
        "token_endpoint": "https://id.acme.example/t", "retries": 0,
        "jwks_cluster": "keys", "token_cluster": "tokens", "clock_skew_seconds": 5, "timeout_seconds": 3, "jwks_max_age_seconds": 7200,
        "subject_token": {"type": "id_token", "cookie": "idt", "audiences": ["login"]},
        "algorithms": ["PS256", "ES256"], "audience_claim": "client_id", "scope_claims": ["scope", "permissions"],
        "required_claims": {"azp": "login", "https://acme.example/groups": ["a", "b"], "email_verified": true},
        "client": {"id": "c", "authentication": {"method": "client_secret_basic", "secret": {"inline": "s"},
            "previous_secret": {"inline": "t"}}, "dpop": {"key": {"env": "OKTA_PRIVATE_KEY"}, "algorithm": "ES256"}},
    });
    full["identity_providers"]["assertion"] = json!({
        "profile": "jwt_bearer", "issuer": "https://jb.acme.example", "cluster": "id", "audiences": ["api"],
        "jwks_uri": "https://jb.acme.example/keys",
        "client": {"id": "c", "authentication": {"method": "client_assertion", "assertion": {"header": "x-a"}}},
    });
    full["identity_providers"]["two_tokens"] = json!({
        "profile": "jwt_bearer", "issuer": "https://two.acme.example", "cluster": "id", "audiences": ["api"],
        "subject_token": {"type": "id_token", "header": "x-id-token", "audiences": ["login"]},
        "client": {"id": "c", "authentication": {"method": "client_assertion", "assertion": {"header": "x-b"}}},
    });
    full["resources"][1]["exchange"]["standard"] = json!({"audience": "a",
        "actor_token": {"env": "SECRET", "type": "urn:ietf:params:oauth:token-type:jwt"}});
    full["resources"][0]["dpop"] = json!({"mode": "optional", "nonce": true, "max_age_seconds": 60});
    full["resources"][0]["certificate_bound_tokens"] = json!("optional");
    full["resources"][0]["authorization_servers"] = json!(["okta-eu"]);
    full["resources"][0]["audiences"] = json!(["api", "gateway-id"]);
    full["resources"][0]["aliases"] = json!(["http://mcp.internal:8080/"]);
    full["resources"][1]["aliases"] = json!(["http://mcp.internal:8080/admin"]);
    full["resources"][0]["encoded_slashes"] = json!(true);
    full["resource_defaults"] = json!({"dpop": {"mode": "off"}, "scopes_supported": ["{url}/mcp.read"]});
    full["resources"][0]["exchange"]["entra-us"]["claims"] = json!({"access_token": {"xms_cc": {"values": ["cp1"]}}});
    full["resources"][0]["exchange"]["standard"] = json!({"audience": ["a", "b"], "resource": "https://a.example",
        "requested_token_type": "urn:ietf:params:oauth:token-type:jwt", "parameters": {"tenant": "acme"},
        "token_type": "dpop", "upstream_url": "https://up.example",
        "actor_token": {"header": "x-actor", "type": "urn:ietf:params:oauth:token-type:jwt", "subject": "s", "issuer": "i"}});
    full["resources"][0]["exchange"]["assertion"] = json!({"scopes": ["s"]});
    full["cache"] = json!({"verified_tokens": 10, "exchanged_tokens": 10, "verified_bytes": 10000,
        "exchanged_bytes": 10000, "shared_tokens": 0});
    full["audit"] = json!({"subjects": "hashed", "hits": true, "error_descriptions": true});
    full["max_wait_seconds"] = json!(10);
    full["request_headers_to_remove"] = json!(["x-internal"]);
    full["request_cookies_to_remove"] = json!(["session"]);
    full["shared_data_secret"] = json!({"inline": "0123456789abcdef0123456789abcdef"});
    let mut tenants = configuration();
    let entra = &mut tenants["identity_providers"]["entra-us"];
    entra["issuer"] = json!("https://login.entra.example/{tenantid}/v2.0");
    entra["tenants"] = json!(["9b1c0000-1111-4222-8333-444455556666"]);
    let validate_only = json!({
        "identity_providers": {"acme": {"profile": "validate_only", "issuer": "https://id.acme.example", "cluster": "id"}},
        "shared_data_secret": {"inline": "0123456789abcdef0123456789abcdef"},
        "resource_defaults": {"audiences": ["{url}"], "exchange": {"acme": {"forward": true}}},
        "resources": [{"url": "https://a.example"}, {"url": "https://b.example", "audiences": null, "exchange": null}],
    });
    let id_jag = json!({
        "identity_providers": {"acme": {"profile": "id_jag", "issuer": "https://id.acme.example", "cluster": "id",
            "audiences": ["c"], "subject_token": {"type": "id_token"},
            "client": {"id": "c", "authentication": {"method": "client_secret_post", "secret": {"inline": "s"}}}}},
        "resources": [{"url": "https://a.example", "exchange": {"acme": {"audience": "https://auth.todo.example",
            "authorization_server": {"token_endpoint": "https://auth.todo.example/t", "cluster": "todo",
                "client": {"id": "d", "authentication": {"method": "private_key_jwt", "algorithm": "ES256", "key_id": "k",
                    "key": {"env": "OKTA_PRIVATE_KEY"}, "audience": "https://auth.todo.example"}}}}}}],
    });
    vec![full, tenants, validate_only, id_jag]
}

#[test]
fn valid_configurations_are_read_and_follow_the_schema() {
    let validator = validator();
    for (index, configuration) in valid().iter().enumerate() {
        let errors: Vec<_> = validator.iter_errors(configuration).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{index}: {errors:?}");
        Config::parse(configuration.to_string().as_bytes(), &environment)
            .unwrap_or_else(|error| panic!("{index}: {error}"));
    }
}

/// Adds the options that an object has, and those of the objects in it.
fn mark(object: &Value, group: &'static Group, found: &mut Vec<*const OptionSpec>) {
    for option in group.options {
        let Some(value) = object.get(option.name).filter(|value| !value.is_null()) else { continue };
        found.push(option);
        let Some(inner) = option.kind.group() else { continue };
        match option.kind {
            Kind::Map(_) => value.as_object().unwrap().values().for_each(|value| mark(value, inner, found)),
            Kind::List(_) => value.as_array().unwrap().iter().for_each(|value| mark(value, inner, found)),
            _ => mark(value, inner, found),
        }
    }
}

#[test]
fn valid_configurations_together_have_every_option() {
    let mut found = Vec::new();
    valid().iter().for_each(|configuration| mark(configuration, &ROOT, &mut found));
    let missing = options().into_iter().filter(|(_, option)| !found.contains(&std::ptr::from_ref(*option)));
    let missing = missing.map(|(path, option)| format!("{path}.{}", option.name));
    let missing: Vec<String> = missing.filter(|name| !CREDENTIALS.iter().any(|end| name.ends_with(end))).collect();
    assert!(missing.is_empty(), "`valid` in tests/engine/configuration_schema.rs has no {missing:?}");
}

#[test]
fn numbers_outside_of_their_range_are_refused_by_reader_and_schema() {
    let validator = validator();
    let mut count = 0;
    for configuration in valid() {
        let mut found = Vec::new();
        pointers(&configuration, "", &mut found);
        for pointer in found.iter().filter(|pointer| configuration.pointer(pointer).unwrap().is_number()) {
            let name = pointer.rsplit('/').next().unwrap();
            let (_, option) = options().into_iter().find(|(_, option)| option.name == name).unwrap();
            let Kind::Integer(range) = &option.kind else { panic!("{pointer} is no whole number") };
            for wrong in [json!(i64::from(range.min) - 1), json!(i64::from(range.max) + 1), json!(0.5)] {
                let mut changed = configuration.clone();
                set(&mut changed, pointer, wrong.clone());
                assert!(!validator.is_valid(&changed), "{pointer}: {wrong}");
                assert!(Config::parse(changed.to_string().as_bytes(), &environment).is_err(), "{pointer}: {wrong}");
                count += 1;
            }
        }
    }
    let numbers = options().into_iter().filter(|(_, option)| matches!(option.kind, Kind::Integer(_))).count();
    assert!(numbers > 0 && count >= 3 * numbers, "{count} mistakes for {numbers} options");
}

#[derive(Clone, Debug)]
enum Change {
    Drop,
    Replace(Value),
    Add(String, Value),
    Wrap,
}

/// The numbers on both sides of each end of a range of an option.
fn ends_of_ranges() -> Vec<i64> {
    let ranges = options().into_iter().filter_map(|(_, option)| match &option.kind {
        Kind::Integer(range) => Some((i64::from(range.min), i64::from(range.max))),
        _ => None,
    });
    ranges.flat_map(|(min, max)| [min - 1, min, max, max + 1]).collect()
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        select(ends_of_ranges()).prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-2_i64..700).prop_map(Value::from),
        (-2_i64..200).prop_map(|number| json!(number as f64)),
        any::<f32>().prop_filter_map("finite", |number| number.is_finite().then(|| json!(number))),
        Just(Value::Null),
        select(vec![
            "",
            "a",
            "none",
            "dpop",
            "off",
            "required",
            "validate_only",
            "entra_obo",
            "id_token",
            "private_key_jwt"
        ])
        .prop_map(Value::from),
        select(vec![
            json!([]),
            json!({}),
            json!([""]),
            json!([1]),
            json!(["a", "a"]),
            json!({"": {}}),
            json!({"env": "A"}),
            json!({"env": "OKTA_PRIVATE_KEY", "inline": null}),
            json!({"env": "A", "inline": "b"}),
            json!({"keys": []}),
            json!([null]),
            json!({"a": null}),
            json!(["x5c", "x5c"]),
            json!("x"),
            json!(["x"])
        ]),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let names: Vec<String> = options()
        .iter()
        .map(|(_, option)| option.name.to_owned())
        .chain(["x", "", "Sec ret", "open_paths"].map(str::to_owned))
        .collect();
    prop_oneof![
        Just(Change::Drop),
        value().prop_map(Change::Replace),
        (select(names), value()).prop_map(|(name, value)| Change::Add(name, value)),
        Just(Change::Wrap),
    ]
}

/// The JSON pointers of every value in `value`, and its own.
pub fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            pointers(value, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
        }),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| pointers(value, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
}

fn apply(configuration: &mut Value, place: Index, change: &Change) {
    let mut found = Vec::new();
    pointers(configuration, "", &mut found);
    let pointer = place.get(&found);
    match change {
        Change::Drop => {
            let Some((parent, name)) = pointer.rsplit_once('/') else { return };
            let name = name.replace("~1", "/").replace("~0", "~");
            match configuration.pointer_mut(parent).unwrap() {
                Value::Object(members) => _ = members.remove(&name),
                Value::Array(items) => _ = items.remove(name.parse().unwrap()),
                _ => {}
            }
        }
        Change::Replace(value) => *configuration.pointer_mut(pointer).unwrap() = value.clone(),
        Change::Add(name, value) => {
            if let Value::Object(members) = configuration.pointer_mut(pointer).unwrap() {
                members.insert(name.clone(), value.clone());
            }
        }
        Change::Wrap => {
            let place = configuration.pointer_mut(pointer).unwrap();
            *place = json!([place.take()]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_reader_refuses_what_the_schema_refuses(
        which in 0..4_usize, changes in vec((any::<Index>(), change()), 1..4),
    ) {
        thread_local! {
            static VALIDATOR: Validator = validator();
            static VALID: Vec<Value> = valid();
        }
        let mut configuration = VALID.with(|valid| valid[which].clone());
        for (place, change) in &changes {
            apply(&mut configuration, *place, change);
        }
        let read = Config::parse(configuration.to_string().as_bytes(), &environment);
        let is_valid = VALIDATOR.with(|validator| validator.is_valid(&configuration));
        prop_assert!(is_valid || read.is_err(), "{configuration}");
        // A code of the schema is no reason for the reader alone.
        if let Err(error) = read
            && is_valid
        {
            for finding in error.findings() {
                let (_, _, in_schema) = onbehalf::config::Code::ALL.iter().find(|(code, ..)| *code == finding.code).unwrap();
                prop_assert!(!in_schema || SHARED.contains(&finding.code.name()), "{finding}: {configuration}");
            }
        }
    }
}

/// Codes of mistakes that the schema finds in most places, and the reader alone in some.
const SHARED: [&str; 1] = ["duplicate"];
