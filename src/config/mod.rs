//! The validated configuration. Operator bytes end in `raw`; past [`Config::parse`] there are only domain types.
//!
//! A mistake is refused with the path of the field, what was found and what is expected, because the operator
//! sees nothing but that line of Envoy's log (`envoy --mode validate` prints it too).

mod provider;
mod raw;
mod resource;

use std::fmt;

pub use provider::{Client, ClientAuthentication, Provider, SubjectToken, TokenSource};
pub use resource::Resource;

pub use raw::Exchange as RawExchange;

/// How many tokens a worker remembers when the operator does not say.
const DEFAULT_CACHED_TOKENS: usize = 10_000;

/// Everything the operator decided.
#[derive(Debug)]
pub struct Config {
    /// In order of their names.
    pub providers: Vec<Provider>,
    /// As listed.
    pub resources: Vec<Resource>,
    /// Paths that are forwarded without a token, exactly as listed.
    pub open_paths: Vec<String>,
    /// The most verified tokens that are remembered.
    pub verified_tokens: usize,
    /// The most exchanged tokens (and refusals) that are remembered.
    pub exchanged_tokens: usize,
    /// What the operator should know although it is no mistake.
    pub warnings: Vec<String>,
}

/// A mistake in the configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where: `identity_providers.okta.client.id`, `resources[0].url`.
    pub path: String,
    /// What is there; never a secret.
    pub found: String,
    /// What should be.
    pub expected: String,
}

impl ConfigError {
    pub(crate) fn new(path: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { path: path.into(), found: found.into(), expected: expected.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration error at {}: found {}, expected {}", self.path, self.found, self.expected)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads a configuration (JSON). `env` gives the value of an environment variable.
    pub fn parse(bytes: &[u8], env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let raw: raw::Config =
            serde_path_to_error::deserialize(&mut deserializer).map_err(|error| syntax_error(&error))?;
        if deserializer.end().is_err() {
            return Err(ConfigError::new("the configuration", "something behind its end", "one JSON object"));
        }
        let mut warnings = Vec::new();
        if raw.identity_providers.is_empty() {
            return Err(ConfigError::new("identity_providers", "none", "at least one identity provider"));
        }
        let providers = raw
            .identity_providers
            .into_iter()
            .map(|(name, provider)| Provider::build(name, provider, env, &mut warnings))
            .collect::<Result<Vec<_>, _>>()?;
        for (index, provider) in providers.iter().enumerate() {
            if providers.iter().take(index).any(|other| other.issuer.as_str() == provider.issuer.as_str()) {
                let path = format!("identity_providers.{}.issuer", provider.name);
                return Err(ConfigError::new(path, "the issuer of another provider", "an issuer of its own"));
            }
        }
        if raw.resources.is_empty() {
            return Err(ConfigError::new("resources", "none", "at least one resource"));
        }
        let resources = resource::build_all(raw.resources, &providers)?;
        for (index, path) in raw.open_paths.iter().enumerate() {
            if crate::path::normal_form(path.as_bytes()).is_none_or(|normal| normal != *path) {
                let found = format!("{path:?}");
                return Err(ConfigError::new(
                    format!("open_paths[{index}]"),
                    found,
                    "a path in normal form, without query",
                ));
            }
        }
        Ok(Self {
            providers,
            resources,
            open_paths: raw.open_paths,
            verified_tokens: raw.cache.verified_tokens.unwrap_or(DEFAULT_CACHED_TOKENS),
            exchanged_tokens: at_least_one(raw.cache.exchanged_tokens)?,
            warnings,
        })
    }
}

fn at_least_one(entries: Option<usize>) -> Result<usize, ConfigError> {
    match entries {
        Some(0) => {
            Err(ConfigError::new("cache.exchanged_tokens", "0", "1 or more: waiting requests get their token from it"))
        }
        Some(entries) => Ok(entries),
        None => Ok(DEFAULT_CACHED_TOKENS),
    }
}

fn syntax_error(error: &serde_path_to_error::Error<serde_json::Error>) -> ConfigError {
    let path = match error.path().to_string() {
        path if path == "." => "the configuration".to_owned(),
        path => path,
    };
    // The text of serde_json quotes values; a string in a secret's place must not get into a log.
    let text = if path.ends_with("secret") || path.ends_with("key") || path.ends_with("inline") {
        "something of a wrong type".to_owned()
    } else {
        error.inner().to_string()
    };
    ConfigError::new(path, text, "what the table of options in the README says")
}

/// `value` unless it is empty.
fn required(path: &str, value: String) -> Result<String, ConfigError> {
    if value.is_empty() { Err(ConfigError::new(path, "an empty string", "a value")) } else { Ok(value) }
}

/// RFC 6749 section 3.3: what a scope token is made of.
fn check_scopes(path: &str, scopes: &[String]) -> Result<(), ConfigError> {
    for (index, scope) in scopes.iter().enumerate() {
        let fits = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
        if scope.is_empty() || !scope.bytes().all(fits) {
            let expected = "one scope: printable ASCII without spaces, quotes and backslashes (RFC 6749 section 3.3)";
            return Err(ConfigError::new(format!("{path}[{index}]"), format!("{scope:?}"), expected));
        }
    }
    Ok(())
}
