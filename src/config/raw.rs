//! The configuration as the operator writes it. No logic: `super` turns it into a [`super::Config`].

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) identity_providers: BTreeMap<String, Provider>,
    pub(crate) resources: Vec<Resource>,
    #[serde(default)]
    pub(crate) open_paths: Vec<String>,
    #[serde(default)]
    pub(crate) cache: Cache,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Provider {
    pub(crate) profile: String,
    pub(crate) issuer: String,
    pub(crate) cluster: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) jwks_uri: Option<String>,
    pub(crate) token_endpoint: Option<String>,
    pub(crate) client: Client,
    pub(crate) subject_token: Option<SubjectToken>,
    pub(crate) clock_leeway_seconds: Option<u64>,
    pub(crate) timeout_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) authentication: Authentication,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Authentication {
    pub(crate) method: String,
    pub(crate) secret: Option<Secret>,
    pub(crate) key: Option<Secret>,
    pub(crate) key_id: Option<String>,
    pub(crate) algorithm: Option<String>,
    pub(crate) audience: Option<String>,
}

/// Either from an environment variable or written out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Secret {
    pub(crate) env: Option<String>,
    pub(crate) inline: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubjectToken {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) header: Option<String>,
    pub(crate) cookie: Option<String>,
    #[serde(default)]
    pub(crate) audiences: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resource {
    pub(crate) url: String,
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    pub(crate) scopes_supported: Option<Vec<String>>,
    pub(crate) exchange: BTreeMap<String, Exchange>,
}

/// What to ask a provider for, as the operator writes it; which fields make sense is the profile's to say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// `audience`.
    pub audience: Option<String>,
    /// `resource`.
    pub resource: Option<String>,
    /// `scopes`.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// `requested_token_type`.
    pub requested_token_type: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cache {
    pub(crate) verified_tokens: Option<usize>,
    pub(crate) exchanged_tokens: Option<usize>,
}
