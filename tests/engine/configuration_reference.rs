//! Configuration reference: `docs/configuration.md` and `docs/configuration.schema.json`, both made of the option table.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use onbehalf::config::Code;
use onbehalf::config::options::{Condition, Group, Kind, OptionSpec, Presence, ROOT, Range, SECRET};
use onbehalf::provider::{self, Profile};
use serde_json::{Map, Value, json};

pub const SCHEMA: &str = "docs/configuration.schema.json";
const PAGE: &str = "docs/configuration.md";

const NAME: &str = "^[a-z0-9_-]{1,63}$";

/// The profiles in the order of the documentation, with what each is for.
const PROFILES: [(&str, &str); 7] = [
    ("entra_obo", "Microsoft Entra ID, on-behalf-of flow"),
    ("okta_obo", "Okta, token exchange at a custom authorization server"),
    ("okta_xaa", "Okta, Cross App Access: an ID-JAG, and a token for it"),
    ("id_jag", "Any provider that issues an ID-JAG (draft-ietf-oauth-identity-assertion-authz-grant)"),
    ("rfc8693", "Any provider with OAuth 2.0 Token Exchange (RFC 8693)"),
    ("jwt_bearer", "Any provider with the JWT bearer grant (RFC 7523): the token is the `assertion`"),
    ("validate_only", "Any provider: tokens are validated, and not exchanged"),
];

fn profile(name: &str) -> &'static dyn Profile {
    provider::profile(name).unwrap_or_else(|| panic!("no profile {name}"))
}

fn exchanging() -> Vec<&'static str> {
    PROFILES.iter().map(|(name, _)| *name).filter(|name| profile(name).exchanges()).collect()
}

/// The option that a condition is about, and its values.
fn condition(condition: &Condition) -> (&'static str, Vec<&'static str>) {
    match condition {
        Condition::Method(methods) => ("method", methods.to_vec()),
        Condition::Exchanges => ("profile", exchanging()),
    }
}

/// Calls `visit` for each object that has options, with its path; an object that stands in several places comes once.
fn groups() -> Vec<(String, &'static Group)> {
    fn walk(path: String, group: &'static Group, all: &mut Vec<(String, &'static Group)>) {
        if std::ptr::eq(group, &SECRET) || all.iter().any(|(_, other)| std::ptr::eq(*other, group)) {
            return;
        }
        all.push((path.clone(), group));
        for option in group.options {
            if let Some(inner) = option.kind.group() {
                walk(path_in(&path, option), inner, all);
            }
        }
    }
    let mut all = Vec::new();
    walk(String::new(), &ROOT, &mut all);
    all.push(("secrets".to_owned(), &SECRET));
    all
}

/// The path of the objects in an option: `identity_providers.*`, `resources[]`, `audit`.
fn path_in(path: &str, option: &OptionSpec) -> String {
    let step = match option.kind {
        Kind::Map(_) => format!("{}.*", option.name),
        Kind::List(_) => format!("{}[]", option.name),
        _ => option.name.to_owned(),
    };
    if path.is_empty() { step } else { format!("{path}.{step}") }
}

fn path_of(group: &'static Group) -> String {
    groups().into_iter().find(|(_, other)| std::ptr::eq(*other, group)).unwrap().0
}

/// The name of an object in `$defs`: its path without the signs for names and lists.
fn definition(path: &str) -> String {
    path.replace(".*", "").replace("[]", "")
}

/// The schema of a value.
fn schema(kind: &Kind) -> Value {
    let text = || json!({"type": "string", "minLength": 1});
    let reference = |group| json!({"$ref": format!("#/$defs/{}", definition(&path_of(group)))});
    match kind {
        Kind::Text => text(),
        Kind::Secret => reference(&SECRET),
        Kind::Integer(Range { min, max, default, .. }) => {
            json!({"type": "integer", "minimum": min, "maximum": max, "default": default})
        }
        Kind::Boolean => json!({"type": "boolean", "default": false}),
        Kind::Choice(values) => json!({"type": "string", "enum": values}),
        Kind::Profile => json!({"type": "string", "enum": PROFILES.map(|(name, _)| name)}),
        Kind::Texts("") => json!({"type": "array", "items": text()}),
        Kind::Texts(_) => json!({"type": "array", "items": text(), "minItems": 1}),
        Kind::Choices(values) => {
            json!({"type": "array", "items": {"type": "string", "enum": values}, "minItems": 1, "uniqueItems": true})
        }
        Kind::OneOrMore => json!({"type": ["string", "array"], "minLength": 1, "items": text()}),
        Kind::Object(group) => reference(group),
        Kind::Defaults(group) => {
            let mut schema = schema_of(group);
            let schema = schema.as_object_mut().unwrap();
            schema["properties"].as_object_mut().unwrap().remove(group.options[0].name);
            schema.remove("required");
            schema.remove("description");
            assert!(!schema.contains_key("allOf"), "a default has no option that another one decides about");
            Value::Object(schema.clone())
        }
        Kind::List(group) => json!({"type": "array", "items": reference(group), "minItems": 1}),
        Kind::Map(group) => json!({"type": "object", "propertyNames": {"pattern": NAME},
            "additionalProperties": reference(group), "minProperties": 1}),
        Kind::TextMap => {
            json!({"type": "object", "propertyNames": {"pattern": "^[A-Za-z0-9._-]+$"}, "additionalProperties": text()})
        }
        Kind::Claims => {
            let number =
                json!({"type": "integer", "minimum": -9_007_199_254_740_991_i64, "maximum": 9_007_199_254_740_991_i64});
            let value = json!({"anyOf": [text(), number, {"type": "boolean"}]});
            json!({"type": "object", "propertyNames": {"minLength": 1}, "minProperties": 1,
                "additionalProperties": {"anyOf": [value, {"type": "array", "items": value, "minItems": 1}]}})
        }
        Kind::AnyObjects => {
            json!({"type": "object", "additionalProperties": {"type": "object"}, "minProperties": 1})
        }
        Kind::KeySet => json!({"type": "object", "required": ["keys"],
            "properties": {"keys": {"type": "array", "items": {"type": "object"}, "minItems": 1}}}),
    }
}

/// The schema of an object's options. An option that is not required may be `null`, which counts as absent.
fn schema_of(group: &'static Group) -> Value {
    let mut properties = Map::new();
    let (mut required, mut rules) = (Vec::new(), Vec::new());
    for option in group.options {
        let value = schema(&option.kind);
        let is_required = matches!(option.presence, Presence::Required(_));
        let mut property = if is_required { value } else { json!({"anyOf": [value, {"type": "null"}]}) };
        property["description"] =
            json!(option.docs.description.replace('`', "").replace("[profiles](#profiles)", "profiles"));
        properties.insert(option.name.to_owned(), property);
        let (on, is_needed) = match option.presence {
            Presence::Optional | Presence::RequiredOrDefault => continue,
            Presence::Required(_) => {
                required.push(option.name);
                continue;
            }
            Presence::RequiredIf(on) => (on, true),
            Presence::AllowedIf(on) => (on, false),
        };
        let (field, values) = condition(on);
        let others: Vec<&str> = match group.option(field).map(|option| &option.kind) {
            Some(Kind::Choice(all)) => all.to_vec(),
            _ => PROFILES.map(|(name, _)| name).to_vec(),
        };
        let others: Vec<&str> = others.into_iter().filter(|value| !values.contains(value)).collect();
        let when = |values: &[&str]| json!({"properties": {field: {"enum": values}}, "required": [field]});
        if is_needed {
            let there = json!({"required": [option.name], "properties": {option.name: {"not": {"type": "null"}}}});
            rules.push(json!({"if": when(&values), "then": there}));
        }
        rules.push(json!({"if": when(&others), "then": {"properties": {option.name: {"type": "null"}}}}));
    }
    if let Some(([first, second], _)) = group.exactly_one {
        let alone = |one: &str, other: &str| json!({"required": [one], "properties": {one: {"type": "string"}, other: {"type": "null"}}});
        rules.push(json!({"oneOf": [alone(first, second), alone(second, first)]}));
    }
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if !rules.is_empty() {
        schema["allOf"] = json!(rules);
    }
    schema["description"] = json!(group.description.replace('`', "").replace("[profiles](#profiles)", "profiles"));
    schema
}

/// The schema of the whole configuration.
pub fn whole_schema() -> Value {
    let mut schema = schema_of(&ROOT);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Configuration of onbehalf");
    // An option that is required in each resource, unless it is among the defaults.
    for (_, option) in options().iter().filter(|(_, option)| matches!(option.presence, Presence::RequiredOrDefault)) {
        let there = json!({"required": [option.name], "properties": {option.name: {"not": {"type": "null"}}}});
        let has_default = json!({"required": ["resource_defaults"],
            "properties": {"resource_defaults": {"type": "object", "allOf": [there]}}});
        let in_each = json!({"properties": {"resources": {"items": there}}});
        let rule = json!({"if": has_default, "then": true, "else": in_each});
        match schema.get_mut("allOf") {
            Some(rules) => rules.as_array_mut().unwrap().push(rule),
            None => schema["allOf"] = json!([rule]),
        }
    }
    let definitions: Map<String, Value> =
        groups().into_iter().skip(1).map(|(path, group)| (definition(&path), schema_of(group))).collect();
    schema["$defs"] = Value::Object(definitions);
    schema
}

/// The schema of one option's value, for its example.
pub fn schema_of_option(option: &OptionSpec) -> Value {
    let mut schema = schema(&option.kind);
    schema["$defs"] = whole_schema()["$defs"].clone();
    schema
}

/// Every option with the path of its object.
pub fn options() -> Vec<(String, &'static OptionSpec)> {
    let of = |(path, group): (String, &'static Group)| group.options.iter().map(move |option| (path.clone(), option));
    groups().into_iter().flat_map(of).collect()
}

fn code_list(values: &[&str]) -> String {
    values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ")
}

fn link(group: &'static Group) -> String {
    let path = path_of(group);
    format!("[`{path}`](#{})", anchor(&path))
}

/// The heading of an object's section.
fn heading(path: &str) -> String {
    if path.is_empty() { "Top level".to_owned() } else { format!("Object `{path}`") }
}

/// The anchor of an object's section, as GitHub makes it of the heading.
fn anchor(path: &str) -> String {
    let kept = heading(path).to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).collect()
}

fn type_of(kind: &Kind) -> String {
    match kind {
        Kind::Text => "string".to_owned(),
        Kind::Secret => format!("secret, see {}", link(&SECRET)),
        Kind::Integer(Range { min, max, unit, .. }) => format!("integer from {min} to {max}, {unit}"),
        Kind::Boolean => "boolean".to_owned(),
        Kind::Choice(values) => format!("one of {}", code_list(values)),
        Kind::Profile => format!("one of {}", code_list(&PROFILES.map(|(name, _)| name))),
        Kind::Texts("") => "list of strings".to_owned(),
        Kind::Texts(_) => "list of strings, not empty".to_owned(),
        Kind::Choices(values) => format!("list of some of {}, not empty", code_list(values)),
        Kind::OneOrMore => "string, or list of strings".to_owned(),
        Kind::Object(group) => format!("object, see {}", link(group)),
        Kind::Defaults(group) => {
            format!("object of the options of {}, except `{}`", link(group), group.options[0].name)
        }
        Kind::List(group) => format!("list of objects, not empty; see {}", link(group)),
        Kind::Map(group) => format!("object of objects by name, not empty; see {}", link(group)),
        Kind::TextMap => "object of strings by name".to_owned(),
        Kind::Claims => "object of strings, whole numbers, booleans and lists of these by claim, not empty".to_owned(),
        Kind::AnyObjects => "object of objects".to_owned(),
        Kind::KeySet => "JWK Set (RFC 7517 section 5)".to_owned(),
    }
}

fn write_option(page: &mut String, path: &str, option: &OptionSpec) {
    let full =
        if path.is_empty() || path == "secrets" { option.name.to_owned() } else { format!("{path}.{}", option.name) };
    let docs = &option.docs;
    writeln!(page, "#### `{full}`\n\n{}\n", docs.description).unwrap();
    writeln!(page, "- Type: {}", type_of(&option.kind)).unwrap();
    let default = match &option.kind {
        Kind::Integer(range) => format!("`{}`", range.default),
        Kind::Boolean => "`false`".to_owned(),
        _ => docs.default.to_owned(),
    };
    if !default.is_empty() {
        writeln!(page, "- Default: {default}").unwrap();
    }
    let conditions = |on: &Condition| {
        let (field, values) = condition(on);
        match on {
            Condition::Method(_) => format!("`{field}` is {}", code_list(&values).replace(", ", " or ")),
            Condition::Exchanges => "`profile` exchanges tokens".to_owned(),
        }
    };
    match option.presence {
        Presence::Required(_) => writeln!(page, "- Required: always").unwrap(),
        Presence::RequiredIf(on) => {
            writeln!(page, "- Required: if {}; otherwise not allowed", conditions(on)).unwrap();
        }
        Presence::AllowedIf(on) => writeln!(page, "- Allowed: if {}", conditions(on)).unwrap(),
        Presence::RequiredOrDefault => writeln!(page, "- Required: if `resource_defaults` does not have it").unwrap(),
        Presence::Optional => {}
    }
    if !docs.required.is_empty() {
        writeln!(page, "- Required: if {}", docs.required).unwrap();
    }
    if docs.example.len() > 110 {
        writeln!(page, "- Example: see [Example](#example)\n").unwrap();
    } else {
        writeln!(page, "- Example: `{}`\n", docs.example).unwrap();
    }
}

/// The example of the page: the smallest configuration of two providers.
pub const EXAMPLE: &str = "\
identity_providers:
  entra:
    profile: entra_obo
    issuer: https://login.microsoftonline.com/00000000-1111-4222-8333-444455556666/v2.0
    cluster: entra
    client:
      id: 11111111-1111-4222-8333-444455556666
      authentication: {method: client_secret_post, secret: {env: ENTRA_CLIENT_SECRET}}
  acme:
    profile: rfc8693
    issuer: https://login.acme.com
    cluster: acme
    client:
      id: gateway
      authentication: {method: client_secret_basic, secret: {env: ACME_SECRET}}
resources:
- url: https://mcp.acme.com/mcp
  audiences: [11111111-1111-4222-8333-444455556666, \"https://mcp.acme.com/mcp\"]
  scopes: [mcp:read]
  exchange:
    entra: {resource: api://github}
    acme: {audience: github, scopes: [read]}
";

fn page() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         <!-- `make docs` writes this page from src/config/options.rs. Change the option table, not the page. -->\n\n",
    );
    writeln!(page, "{}", ROOT.description).unwrap();
    page.push_str(
        "\n[`configuration.schema.json`](configuration.schema.json) is a JSON Schema (2020-12) of the same options. \
         `envoy --mode validate` and Envoy's log list all mistakes of a configuration, 20 at most, with path, found value, \
         expected value and a [code](#errors). No secret is in them.\n\n\
         `*` stands for a name that the operator chooses, and `[]` for an item of a list.\n\n",
    );
    page.push_str("## Objects\n\n");
    for (path, _) in groups() {
        writeln!(page, "- [{}](#{})", heading(&path).trim_start_matches("Object "), anchor(&path)).unwrap();
    }
    page.push_str("\n## Profiles\n\n| profile | provider | options of `resources[].exchange.*` |\n|---|---|---|\n");
    for (name, purpose) in PROFILES {
        let profile = profile(name);
        let mut used = profile.exchange_fields().to_vec();
        if name == "entra_obo" {
            // They have an error of their own, which says what to use instead.
            used.retain(|name| !["audience", "requested_token_type"].contains(name));
        }
        if profile.exchanges() {
            used.extend(["token_type", "upstream_url"]);
        }
        writeln!(page, "| `{name}` | {purpose} | {} |", code_list(&used)).unwrap();
    }
    writeln!(page, "\n## Example\n\n```yaml\n{EXAMPLE}```\n").unwrap();
    page.push_str("## Options\n\n");
    for (path, group) in groups() {
        writeln!(page, "### {}\n", heading(&path)).unwrap();
        if !path.is_empty() {
            writeln!(page, "{}\n", group.description).unwrap();
        }
        for option in group.options {
            write_option(&mut page, &path, option);
        }
    }
    page.push_str(
        "## Errors\n\nA mistake has the form `configuration error at PATH: found KIND, expected VALUE (CODE)`.\n\n",
    );
    page.push_str("The schema finds these mistakes, too:\n\n| code | meaning |\n|---|---|\n");
    let rows = |page: &mut String, in_schema: bool| {
        for (code, text, _) in Code::ALL.iter().filter(|(_, _, is_in_schema)| *is_in_schema == in_schema) {
            writeln!(page, "| `{}` | {} |", code.name(), text.trim()).unwrap();
        }
    };
    rows(&mut page, true);
    page.push_str("\nOnly the filter finds these:\n\n| code | meaning |\n|---|---|\n");
    rows(&mut page, false);
    page
}

fn path(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn the_configuration_reference_is_that_of_the_option_table() {
    let schema = serde_json::to_string_pretty(&whole_schema()).unwrap() + "\n";
    for (name, text) in [(PAGE, page()), (SCHEMA, schema)] {
        if std::env::var_os("ONBEHALF_WRITE_DOCS").is_some() {
            fs::write(path(name), &text).unwrap();
        }
        assert!(fs::read_to_string(path(name)).is_ok_and(|found| found == text), "{name} is old: run `make docs`");
    }
}

#[test]
fn every_profile_is_in_the_reference() {
    assert_eq!(provider::profile_names(), PROFILES.map(|(name, _)| name).join(", "));
}

#[test]
fn descriptions_are_short_sentences() {
    for (path, option) in options() {
        let docs = &option.docs;
        let is_short = docs.description.ends_with('.') && docs.description.len() <= 330;
        assert!(is_short, "{path}.{}: a full stop at the end and at most 330 bytes", option.name);
        assert!(docs.example.starts_with(&format!("{}:", option.name)), "{path}.{}: {}", option.name, docs.example);
        for sentence in docs.description.split(". ") {
            assert!(sentence.split(' ').count() <= 30, "{path}.{}: more than 30 words: {sentence}", option.name);
        }
    }
}
