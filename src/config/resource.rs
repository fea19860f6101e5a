use super::{ConfigError, Provider, check_scopes, raw};
use crate::http::Url;
use crate::idp::Target;
use crate::path;

/// Something behind Envoy that has tokens of its own: an MCP server, an API (RFC 9728 section 1.2).
#[derive(Debug)]
pub struct Resource {
    /// Its resource identifier, and with host and path also what requests are its.
    pub url: Url,
    /// Scopes that a caller's token must have, every one.
    pub scopes: Vec<String>,
    /// Scopes as clients must ask for them: in metadata and challenges. Some providers want a longer form
    /// there than what their tokens carry.
    pub scopes_supported: Vec<String>,
    /// What to ask each provider for, by its index; `None` where users of the provider have no business.
    pub targets: Vec<Option<Target>>,
}

pub(super) fn build_all(raw: Vec<raw::Resource>, providers: &[Provider]) -> Result<Vec<Resource>, ConfigError> {
    let mut resources: Vec<Resource> = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let resource = build(&format!("resources[{index}]"), raw, providers)?;
        let same = |other: &Resource| {
            other.url.authority() == resource.url.authority()
                && path::without_final_slash(other.url.path()) == path::without_final_slash(resource.url.path())
        };
        if let Some(other) = resources.iter().position(same) {
            return Err(ConfigError::new(
                format!("resources[{index}].url"),
                format!("host and path of resources[{other}]"),
                "a host and path of its own (a longer path under another resource is fine)",
            ));
        }
        resources.push(resource);
    }
    Ok(resources)
}

fn build(path: &str, raw: raw::Resource, providers: &[Provider]) -> Result<Resource, ConfigError> {
    let url = Url::parse(&raw.url).map_err(|problem| {
        ConfigError::new(
            format!("{path}.url"),
            format!("{:?}, which {problem}", raw.url),
            "the https URL that clients use",
        )
    })?;
    if !url.path().is_empty() && path::normal_form(url.path().as_bytes()).is_none_or(|normal| normal != url.path()) {
        let expected = "a path in normal form (no empty or dot segments, no escapes that are not needed)";
        return Err(ConfigError::new(format!("{path}.url"), format!("{:?}", raw.url), expected));
    }
    check_scopes(&format!("{path}.scopes"), &raw.scopes)?;
    let scopes_supported = raw.scopes_supported.unwrap_or_else(|| raw.scopes.clone());
    check_scopes(&format!("{path}.scopes_supported"), &scopes_supported)?;
    if raw.exchange.is_empty() {
        return Err(ConfigError::new(
            format!("{path}.exchange"),
            "none",
            "at least one provider's name with what to ask it for",
        ));
    }
    let mut targets: Vec<Option<Target>> = providers.iter().map(|_| None).collect();
    for (name, exchange) in raw.exchange {
        let at = format!("{path}.exchange.{name}");
        let found = providers.iter().zip(targets.iter_mut()).find(|(provider, _)| *provider.name == *name);
        let Some((provider, slot)) = found else {
            return Err(ConfigError::new(at, "a name that no provider has", "a name from identity_providers"));
        };
        check_scopes(&format!("{at}.scopes"), &exchange.scopes)?;
        let target = provider
            .profile
            .target(exchange)
            .map_err(|(field, found, expected)| ConfigError::new(format!("{at}{field}"), found, expected))?;
        *slot = Some(target);
    }
    Ok(Resource { url, scopes: raw.scopes, scopes_supported, targets })
}
