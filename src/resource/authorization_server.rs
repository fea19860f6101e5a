//! Requests for an authorization server on the host of a resource, and the authorization servers that the client should use.
//!
//! This host has no authorization server. Clients that do not read protected resource metadata look for one here (MCP 2025-03-26
//! "Authorization", Fallbacks for Servers without Metadata Discovery), and show the response to a person.

use std::rc::Rc;

use crate::path::without_final_slash;
use crate::resource::{Resource, SlashForm, metadata};

/// Paths of authorization server metadata: before the path of the server (RFC 8414 section 3.1), or after it (OpenID Connect
/// Discovery section 4.1).
const DOCUMENTS: [&str; 2] = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"];

/// Default paths of its endpoints, for a server without metadata.
const ENDPOINTS: [&str; 3] = ["/authorize", "/token", "/register"];

/// Maximum number of issuers, and of metadata URLs, in a response. A resource may have a hundred tenants, and a host a hundred
/// resources.
const MOST: usize = 8;

/// Path of the authorization server that a request for `path` looks for; empty for the whole host. `None`: it looks for none.
pub fn looked_for(path: &str) -> Option<&str> {
    let path = without_final_slash(path);
    if ENDPOINTS.contains(&path) {
        return Some("");
    }
    let in_front =
        |document: &&str| path.strip_prefix(*document).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let behind = |document: &&str| path.strip_suffix(*document);
    DOCUMENTS.iter().find_map(in_front).or_else(|| DOCUMENTS.iter().find_map(behind))
}

/// Authorization servers of resources, and the URLs of the metadata that names them. Nothing comes from the request.
#[derive(Clone, Debug)]
pub struct AuthorizationServers {
    /// Issuers, in the order in which a client should try them.
    pub issuers: Vec<String>,
    /// URLs of the protected resource metadata.
    pub metadata: Vec<String>,
}

impl AuthorizationServers {
    /// Authorization servers of `resources`.
    pub fn of<'a>(resources: impl Iterator<Item = &'a Rc<Resource>>) -> Self {
        let mut servers = Self { issuers: Vec::new(), metadata: Vec::new() };
        for resource in resources.take(MOST) {
            servers.metadata.push(metadata::url(resource, SlashForm::Configured));
            for issuer in resource.issuers().take(MOST) {
                if servers.issuers.len() < MOST && !servers.issuers.contains(&issuer) {
                    servers.issuers.push(issuer);
                }
            }
        }
        servers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_of_an_authorization_server_is_known_and_no_other_is() {
        for (path, of) in [
            ("/register", ""),
            ("/authorize", ""),
            ("/token", ""),
            ("/token/", ""),
            ("/.well-known/oauth-authorization-server", ""),
            ("/.well-known/oauth-authorization-server/", ""),
            ("/.well-known/openid-configuration", ""),
            ("/.well-known/oauth-authorization-server/mcp", "/mcp"),
            ("/.well-known/oauth-authorization-server/mcp/", "/mcp"),
            ("/.well-known/openid-configuration/a/b", "/a/b"),
            ("/mcp/.well-known/openid-configuration", "/mcp"),
            ("/a/b/.well-known/oauth-authorization-server", "/a/b"),
        ] {
            assert_eq!(looked_for(path), Some(of), "{path}");
        }
        for path in [
            "/",
            "",
            "/Register",
            "/registers",
            "/register/x",
            "/a/register",
            "/oauth/token",
            "/.well-known",
            "/.well-known/openid-configurations",
            "/.well-known/oauth-protected-resource",
            "/.well-known/oauth-protected-resource/mcp",
            "/mcp/.well-known/openid-configuration/x",
            "/mcp.well-known/openid-configuration/x",
        ] {
            assert_eq!(looked_for(path), None, "{path}");
        }
    }
}
