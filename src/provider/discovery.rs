//! Discovery: the endpoints of an issuer, by OpenID Connect Discovery 1.0, or by RFC 8414 if that document is no metadata of it.

use std::borrow::Cow;

use crate::json::{self, Object};
use crate::path::without_final_slash;
use crate::provider::Provider;
use crate::telemetry::cut;
use crate::url::Url;

/// Maximum length of a text of a document in a log line, in characters.
const MAX_SHOWN: usize = 128;

/// Endpoints of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// `jwks_uri`. `None`: the configuration has the keys.
    pub jwks_uri: Option<Url>,
    /// `token_endpoint`. `None`: no tokens are exchanged.
    pub token_endpoint: Option<Url>,
}

/// Metadata document, in the order of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// OpenID Connect Discovery 1.0 section 4: the well-known path follows the path of the issuer.
    OpenId,
    /// RFC 8414 section 3: the well-known path precedes the path of the issuer.
    AuthorizationServer,
}

impl Document {
    /// Returns the document that is requested if this one is no metadata of the issuer.
    pub const fn next(self) -> Option<Self> {
        match self {
            Self::OpenId => Some(Self::AuthorizationServer),
            Self::AuthorizationServer => None,
        }
    }

    /// Returns the URL of the document. `None`: the issuer has no such URL.
    pub fn url(self, issuer: &Url) -> Option<Url> {
        let path = without_final_slash(issuer.path());
        let base = issuer.as_str().strip_suffix(issuer.path()).unwrap_or(issuer.as_str());
        let url = match self {
            Self::OpenId => format!("{base}{path}/.well-known/openid-configuration"),
            Self::AuthorizationServer => format!("{base}/.well-known/oauth-authorization-server{path}"),
        };
        Url::parse(&url).ok()
    }
}

impl Endpoints {
    /// Returns the configured endpoints, if none has to be discovered.
    pub fn configured(provider: &Provider) -> Option<Self> {
        if provider.jwks_uri.is_none() && provider.jwks.is_none() {
            return None;
        }
        let is_missing = provider.client.is_some() && provider.token_endpoint.is_none();
        (!is_missing)
            .then(|| Self { jwks_uri: provider.jwks_uri.clone(), token_endpoint: provider.token_endpoint.clone() })
    }

    /// Reads a metadata document. Configured endpoints take precedence.
    ///
    /// `issuer` must be the configured one (OpenID Connect Discovery section 4.3, RFC 8414 section 3.3). Endpoints must be
    /// on the host of the issuer, unless they have a cluster of their own: a document must not choose the server that receives
    /// a client secret, so the issuer's host or the operator chooses it (docs/adr/0027). A client with mutual TLS uses the alias of
    /// the token endpoint (RFC 8705 section 5), if the document has one.
    ///
    /// A document may have any other members (RFC 8414 section 3.2, OpenID Connect Discovery section 4.2). They are ignored,
    /// whatever they are. A member that is used must not stand twice.
    pub fn discovered(provider: &Provider, body: &[u8]) -> Result<Self, DiscoveryError> {
        let text = String::from_utf8_lossy(body);
        let needs_keys = provider.jwks.is_none() && provider.jwks_uri.is_none();
        let needs_token_endpoint = provider.client.is_some() && provider.token_endpoint.is_none();
        let is_read = |name: &str| match name {
            "issuer" => true,
            "jwks_uri" => needs_keys,
            "token_endpoint" => needs_token_endpoint,
            _ => false,
        };
        let document = json::members(&text, &is_read).ok_or(DiscoveryError::NotJson)?;
        let issuer = document.string("issuer").unwrap_or_default();
        if !provider.is_metadata_issuer(issuer) {
            return Err(DiscoveryError::OtherIssuer(cut(issuer, MAX_SHOWN)));
        }
        let aliases = if provider.wants_mtls_alias() { aliases(&text)? } else { None };
        let endpoint = |object: &Object<'_>, name: &str, configured: &Option<Url>, cluster: &str| {
            if let Some(url) = configured {
                return Ok(url.clone());
            }
            let url = object.string(name).and_then(|text| Url::parse_endpoint(text).ok());
            let url = url.ok_or(DiscoveryError::NoEndpoint)?;
            let is_admitted = provider.issuer.is_host_of(&url) || *cluster != *provider.cluster;
            if is_admitted {
                Ok(url)
            } else {
                Err(DiscoveryError::OtherHost(cut(&[name, " ", url.without_query()].concat(), MAX_SHOWN)))
            }
        };
        Ok(Self {
            jwks_uri: match provider.jwks {
                Some(_) => None,
                None => Some(endpoint(&document, "jwks_uri", &provider.jwks_uri, &provider.jwks_cluster)?),
            },
            token_endpoint: match provider.client {
                Some(_) => {
                    let document = aliases.as_ref().unwrap_or(&document);
                    Some(endpoint(document, "token_endpoint", &provider.token_endpoint, &provider.token_cluster)?)
                }
                None => None,
            },
        })
    }
}

/// Reads `mtls_endpoint_aliases`. `None`: it has no alias of the token endpoint.
fn aliases(text: &str) -> Result<Option<Object<'_>>, DiscoveryError> {
    let value = json::raw_member(text, "mtls_endpoint_aliases").ok_or(DiscoveryError::NotJson)?;
    let Some(value) = value.filter(|value| value.starts_with('{')) else {
        return Ok(None);
    };
    let aliases = json::members(value, &|name| name == "token_endpoint").ok_or(DiscoveryError::NotJson)?;
    Ok((!aliases.is_empty()).then_some(aliases))
}

/// Problem of a metadata document. Texts of the document are cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiscoveryError {
    /// `jwks_uri` or `token_endpoint` is missing, or no `https` URL.
    NoEndpoint,
    /// The document is not a JSON object, or a member that is used stands twice.
    NotJson,
    /// An endpoint is on another host than the issuer, and has no cluster of its own. It is given with its name.
    OtherHost(String),
    /// `issuer` is not the configured one, but this. Empty: it is missing, or no string.
    OtherIssuer(String),
}

impl DiscoveryError {
    /// Returns the value of `error` in a log line.
    pub fn text(&self) -> Cow<'static, str> {
        match self {
            Self::NoEndpoint => "its metadata lacks jwks_uri or token_endpoint, or one is not an https URL".into(),
            Self::NotJson => "its metadata is not a JSON object, or has a member twice".into(),
            Self::OtherHost(endpoint) => format!(
                "its metadata has an endpoint on another host, {endpoint}; set jwks_cluster and token_cluster, or jwks_uri and token_endpoint, if that is right"
            )
            .into(),
            Self::OtherIssuer(found) if found.is_empty() => "its metadata has no issuer".into(),
            Self::OtherIssuer(found) => {
                format!("its metadata names another issuer than the configured one: {found}").into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_documents_have_the_urls_of_their_standards() {
        for (issuer, openid, oauth) in [
            (
                "https://a.example",
                "https://a.example/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server",
            ),
            (
                "https://a.example/",
                "https://a.example/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server",
            ),
            (
                "https://a.example:8443/t/x",
                "https://a.example:8443/t/x/.well-known/openid-configuration",
                "https://a.example:8443/.well-known/oauth-authorization-server/t/x",
            ),
        ] {
            let issuer = Url::parse(issuer).unwrap();
            assert_eq!(Document::OpenId.url(&issuer).unwrap().as_str(), openid);
            assert_eq!(Document::AuthorizationServer.url(&issuer).unwrap().as_str(), oauth);
        }
    }
}
