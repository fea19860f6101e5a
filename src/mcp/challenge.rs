//! `WWW-Authenticate` (RFC 6750 section 3, RFC 9728 section 5.1). Every value is a quoted string.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::metadata;
use crate::config::Resource;

/// Where to get a token, and nothing else: there was none.
pub fn bare(resource: &Resource) -> String {
    let mut value = format!("Bearer resource_metadata=\"{}\"", metadata::url(resource));
    push_scope(&mut value, resource);
    value
}

/// What was wrong with the token, and where to get another.
pub fn with_error(resource: &Resource, error: &str, description: &str) -> String {
    let mut value = format!(
        "Bearer error=\"{error}\", error_description=\"{description}\", resource_metadata=\"{}\"",
        metadata::url(resource)
    );
    push_scope(&mut value, resource);
    value
}

/// What a token must claim beside what it does. `claims`: JSON text, sent in standard base64.
pub fn insufficient_claims(resource: &Resource, description: &str, claims: &str) -> String {
    let claims = BASE64_STANDARD.encode(claims);
    format!("{}, claims=\"{claims}\"", with_error(resource, "insufficient_claims", description))
}

fn push_scope(value: &mut String, resource: &Resource) {
    if !resource.scopes_supported.is_empty() {
        value.push_str(", scope=\"");
        value.push_str(&resource.scopes_supported.join(" "));
        value.push('"');
    }
}
