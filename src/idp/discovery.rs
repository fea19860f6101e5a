//! OpenID Connect Discovery 1.0: from an issuer to its endpoints.

use crate::config::Provider;
use crate::http::Url;
use crate::json;

/// Where a provider's keys are and where it exchanges tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// `jwks_uri`.
    pub jwks_uri: Url,
    /// `token_endpoint`.
    pub token_endpoint: Url,
}

impl Endpoints {
    /// Those that the operator set, if both are.
    pub fn configured(provider: &Provider) -> Option<Self> {
        Some(Self { jwks_uri: provider.jwks_uri.clone()?, token_endpoint: provider.token_endpoint.clone()? })
    }

    /// Reads the metadata document; what the operator set by hand has precedence.
    ///
    /// `issuer` must be the configured one (section 4.3). An endpoint on another host than the issuer's is not
    /// followed: every call goes to the one cluster that the operator named, so it would reach the wrong server,
    /// and a document must not be able to choose where a client's secret goes.
    pub fn discovered(provider: &Provider, body: &[u8]) -> Result<Self, &'static str> {
        let document = json::object(body).ok_or("its metadata is not a JSON object")?;
        if json::string(&document, "issuer") != Some(provider.issuer.as_str()) {
            return Err("its metadata names another issuer than the configured one");
        }
        let endpoint = |name: &str, configured: &Option<Url>| {
            if let Some(url) = configured {
                return Ok(url.clone());
            }
            let url = json::string(&document, name).and_then(|text| Url::parse(text).ok());
            let url = url.ok_or("its metadata lacks jwks_uri or token_endpoint, or one is not an https URL")?;
            if url.authority() == provider.issuer.authority() {
                Ok(url)
            } else {
                Err(
                    "its metadata has an endpoint on another host; set jwks_uri and token_endpoint by hand if that is right",
                )
            }
        };
        Ok(Self {
            jwks_uri: endpoint("jwks_uri", &provider.jwks_uri)?,
            token_endpoint: endpoint("token_endpoint", &provider.token_endpoint)?,
        })
    }
}

/// Section 4: the well-known path behind the issuer's own.
pub fn metadata_url(issuer: &Url) -> Option<Url> {
    Url::parse(&format!("{}/.well-known/openid-configuration", crate::path::without_final_slash(issuer.as_str()))).ok()
}
