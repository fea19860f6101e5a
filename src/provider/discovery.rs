//! From an issuer to its endpoints: OpenID Connect Discovery 1.0, or RFC 8414 where a server has no such document.

use crate::json::{self, Object, Value};
use crate::path::without_final_slash;
use crate::provider::Provider;
use crate::url::Url;

/// Where a provider's keys are and where it exchanges tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// `jwks_uri`. `None`: the operator wrote the keys down.
    pub jwks_uri: Option<Url>,
    /// `token_endpoint`. `None`: nothing is exchanged there.
    pub token_endpoint: Option<Url>,
}

/// A metadata document, in the order in which they are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// OpenID Connect Discovery 1.0 section 4: the well-known path behind the issuer's own.
    OpenId,
    /// RFC 8414 section 3: the well-known path in front of the issuer's own.
    AuthorizationServer,
}

impl Document {
    /// Its URL.
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
    /// Those that the operator set, if none is missing.
    pub fn configured(provider: &Provider) -> Option<Self> {
        if provider.jwks_uri.is_none() && provider.jwks.is_none() {
            return None;
        }
        let is_missing = provider.profile.exchanges() && provider.token_endpoint.is_none();
        (!is_missing)
            .then(|| Self { jwks_uri: provider.jwks_uri.clone(), token_endpoint: provider.token_endpoint.clone() })
    }

    /// Reads the metadata document; what the operator set by hand has precedence.
    ///
    /// `issuer` must be the configured one (OpenID Connect Discovery section 4.3, RFC 8414 section 3.3). An endpoint on
    /// another host than the issuer's is not followed: every call goes to the one cluster that the operator named, so it
    /// would reach the wrong server, and a document must not be able to choose where a client's secret goes. A client
    /// that proves itself by its TLS certificate does so at the endpoint's alias (RFC 8705 section 5), if there is one.
    pub fn discovered(provider: &Provider, body: &[u8]) -> Result<Self, &'static str> {
        let document = json::object(body).ok_or("its metadata is not a JSON object")?;
        if !document.string("issuer").is_some_and(|issuer| provider.is_metadata_issuer(issuer)) {
            return Err("its metadata names another issuer than the configured one");
        }
        let aliases = document.get("mtls_endpoint_aliases").and_then(Value::as_object);
        let aliases = aliases.filter(|aliases| provider.wants_mtls_alias() && aliases.has("token_endpoint"));
        let endpoint = |object: &Object<'_>, name: &str, configured: &Option<Url>| {
            if let Some(url) = configured {
                return Ok(url.clone());
            }
            let url = object.string(name).and_then(|text| Url::parse(text).ok());
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
            jwks_uri: match provider.jwks {
                Some(_) => None,
                None => Some(endpoint(&document, "jwks_uri", &provider.jwks_uri)?),
            },
            token_endpoint: match provider.profile.exchanges() {
                true => Some(endpoint(aliases.unwrap_or(&document), "token_endpoint", &provider.token_endpoint)?),
                false => None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_documents_are_where_their_standards_say() {
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
