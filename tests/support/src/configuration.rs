//! A configuration with two providers and two resources, and changes to it.

use jwt_simple::algorithms::ECDSAP256KeyPairLike as _;
use onbehalf::config::{Config, ConfigError};
use serde_json::{Value, json};

use crate::tokens::{CLIENT_KEY, ENTRA, OKTA, SECRET};

/// An object with some members replaced, or removed by null.
pub fn with(mut object: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().expect("an object") {
        if value.is_null() {
            object.as_object_mut().expect("an object").remove(name);
        } else {
            object[name] = value.clone();
        }
    }
    object
}

/// Sets the value at a JSON pointer, whose parent there must be.
pub fn set(document: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').expect("a JSON pointer");
    match document.pointer_mut(parent).unwrap_or_else(|| panic!("nothing at {parent}")) {
        Value::Array(list) => list[name.parse::<usize>().expect("an index")] = value,
        parent => parent[name] = value,
    }
}

/// Entra and Okta, a resource that both exchange for, and a resource that only Entra exchanges for.
pub fn configuration() -> Value {
    json!({
        "identity_providers": {
            "entra-us": {
                "profile": "entra_obo", "issuer": ENTRA, "cluster": "entra", "audiences": ["api://gateway", "gateway-id"],
                "client": {"id": "gateway-id", "authentication": {"method": "client_secret_post", "secret": {"env": "ENTRA_CLIENT_SECRET"}}},
            },
            "okta-eu": {
                "profile": "okta_obo", "issuer": OKTA, "cluster": "okta", "audiences": ["api://default"],
                "client": {"id": "0oa1", "authentication":
                    {"method": "private_key_jwt", "key": {"env": "OKTA_PRIVATE_KEY"}, "key_id": "k1", "algorithm": "ES256"}},
            },
        },
        "resources": [
            {"url": "https://mcp.acme.example/github", "scopes": ["mcp.read"], "scopes_supported": ["https://mcp.acme.example/github/mcp.read"],
             "exchange": {"entra-us": {"resource": "api://github"}, "okta-eu": {"audience": "com.acme.github", "scopes": ["github.read"]}}},
            {"url": "https://mcp.acme.example/github/admin", "scopes": ["mcp.admin"],
             "scopes_supported": ["https://mcp.acme.example/github/admin/mcp.admin"],
             "exchange": {"entra-us": {"resource": "api://github-admin"}}},
        ],
        "unauthenticated_paths": ["/healthz"],
    })
}

/// A configuration without Okta.
pub fn only_entra(mut configuration: Value) -> Value {
    configuration["identity_providers"].as_object_mut().expect("an object").remove("okta-eu");
    for resource in configuration["resources"].as_array_mut().expect("an array") {
        resource["exchange"].as_object_mut().expect("an object").remove("okta-eu");
    }
    configuration
}

/// The configuration in which no worker shares exchanged tokens.
pub fn without_shared_tokens() -> Value {
    let mut configuration = configuration();
    configuration["cache"] = json!({"shared_tokens": 0});
    configuration
}

/// The environment variables that the configuration names.
pub fn environment(name: &str) -> Option<String> {
    match name {
        "ENTRA_CLIENT_SECRET" | "SECRET" => Some(SECRET.to_owned()),
        "OKTA_PRIVATE_KEY" => Some(CLIENT_KEY.key_pair().to_pem().expect("PKCS #8")),
        _ => None,
    }
}

/// The configuration as the engine reads it.
pub fn parse(configuration: &Value) -> Config {
    Config::parse(configuration.to_string().as_bytes(), &environment).unwrap_or_else(|error| panic!("{error}"))
}

/// The error of a configuration that is refused.
pub fn configuration_error(configuration: &Value) -> ConfigError {
    Config::parse(configuration.to_string().as_bytes(), &environment).expect_err("a configuration with a mistake")
}

/// The warnings of a configuration, without the one that the two resources above share a list of audiences on purpose.
pub fn warnings(config: &Config) -> Vec<String> {
    let shared = "identity_providers.entra-us.audiences: \"api://gateway\" is accepted at 2 resources";
    let is_of_list = |warning: &&String| !warning.starts_with(shared);
    config.warnings.iter().filter(is_of_list).cloned().collect()
}
