//! Where clients look for an authorization server on the host of a resource, and the ones that they should have asked.
//!
//! There is none here. Clients that do not read the resource's metadata take the host for one all the same (MCP 2025-03-26
//! "Authorization", Fallbacks for Servers without Metadata Discovery), and what they are answered is shown to a person.

use std::rc::Rc;

use crate::path::without_final_slash;
use crate::resource::{Resource, metadata};

/// Metadata of an authorization server: in front of its path (RFC 8414 section 3.1), and behind it (OpenID Connect Discovery
/// section 4.1).
const DOCUMENTS: [&str; 2] = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"];

/// Its endpoints, where no metadata says other ones.
const ENDPOINTS: [&str; 3] = ["/authorize", "/token", "/register"];

/// How many of each are named at most: a resource may have users of a hundred tenants, and a host a hundred resources.
const MOST: usize = 8;

/// The path of the server that is looked for at `path`, if one is; empty for one of the whole host.
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

/// The authorization servers of resources, and where that can be read: from the configuration alone.
#[derive(Clone, Debug)]
pub struct AuthorizationServers {
    /// Their issuers, in the order in which a client should try them.
    pub issuers: Vec<String>,
    /// The URLs of the metadata of the resources.
    pub metadata: Vec<String>,
}

impl AuthorizationServers {
    /// Those of these resources.
    pub fn of<'a>(resources: impl Iterator<Item = &'a Rc<Resource>>) -> Self {
        let mut servers = Self { issuers: Vec::new(), metadata: Vec::new() };
        for resource in resources.take(MOST) {
            servers.metadata.push(metadata::url(resource));
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
