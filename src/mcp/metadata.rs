//! The protected resource metadata document (RFC 9728 sections 2 and 3).

use serde_json::json;

use crate::config::{Provider, Resource};
use crate::http::LocalAnswer;
use crate::path::without_final_slash;

/// Section 3: stands between host and path of the resource.
pub const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The URL of a resource's document (section 3.1).
pub fn url(resource: &Resource) -> String {
    let url = &resource.url;
    format!("{}://{}{WELL_KNOWN}{}", url.scheme(), url.authority(), resource_path(url.path()))
}

/// The path part behind the well-known one for a resource at `path`; a lone slash is dropped (section 3.1).
pub fn resource_path(path: &str) -> &str {
    if path == "/" { without_final_slash(path) } else { path }
}

/// The answer to a request for the document, with what browsers need to read it from another origin.
pub fn answer(method: &[u8], resource: &Resource, providers: &[Provider]) -> Option<LocalAnswer> {
    let mut headers = vec![("access-control-allow-origin", "*".to_owned())];
    match method {
        b"OPTIONS" => {
            headers.extend([
                ("access-control-allow-methods", "GET, HEAD, OPTIONS".to_owned()),
                ("access-control-allow-headers", "*".to_owned()),
                ("access-control-max-age", "86400".to_owned()),
            ]);
            Some(LocalAnswer { status: 204, headers, body: String::new() })
        }
        b"GET" | b"HEAD" => {
            headers.extend([
                ("content-type", "application/json".to_owned()),
                ("cache-control", "public, max-age=3600".to_owned()),
            ]);
            Some(LocalAnswer { status: 200, headers, body: document(resource, providers) })
        }
        _ => None,
    }
}

fn document(resource: &Resource, providers: &[Provider]) -> String {
    let exchanging = providers.iter().zip(&resource.targets).filter(|(_, target)| target.is_some());
    let mut document = json!({
        "resource": resource.url.as_str(),
        "authorization_servers": exchanging.map(|(provider, _)| provider.issuer.as_str()).collect::<Vec<_>>(),
        "bearer_methods_supported": ["header"],
    });
    // Section 3.2: empty arrays are left out.
    if let (Some(members), false) = (document.as_object_mut(), resource.scopes_supported.is_empty()) {
        members.insert("scopes_supported".to_owned(), resource.scopes_supported.clone().into());
    }
    document.to_string()
}
