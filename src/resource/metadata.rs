//! Protected resource metadata (RFC 9728 sections 2 and 3).

use crate::dpop::verify;
use crate::http::LocalReply;
use crate::json;
use crate::path::without_final_slash;
use crate::resource::{Requirement, Resource, SlashForm};
use crate::telemetry::Record;

/// Path between host and path of the resource (section 3).
pub const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// CORS field that lets scripts of every origin read a response.
pub fn readable() -> (&'static str, String) {
    ("access-control-allow-origin", "*".to_owned())
}

/// Reply to a CORS preflight request.
pub fn preflight(methods: &str) -> LocalReply {
    let headers = vec![
        readable(),
        ("access-control-allow-methods", methods.to_owned()),
        ("access-control-allow-headers", "*".to_owned()),
        ("access-control-max-age", "86400".to_owned()),
    ];
    LocalReply { status: 204, headers, body: String::new(), record: Record::default() }
}

/// URL of the metadata of a resource, for a client that uses that form of its URL (section 3.1). The path `/` is dropped.
pub fn url(resource: &Resource, form: SlashForm) -> String {
    let url = &resource.url;
    let path = match without_final_slash(url.path()) {
        "" => "",
        _ if form == SlashForm::Configured => url.path(),
        bare => bare,
    };
    let slash = if form == SlashForm::Slash && !path.is_empty() { "/" } else { "" };
    format!("{}://{}{WELL_KNOWN}{path}{slash}", url.scheme(), url.authority())
}

/// Reply to a request for the metadata, with CORS fields. `None`: the method is not supported.
pub fn answer(method: &[u8], resource: &Resource, form: SlashForm) -> Option<LocalReply> {
    match method {
        b"OPTIONS" => Some(preflight("GET, HEAD, OPTIONS")),
        b"GET" | b"HEAD" => {
            let headers = vec![
                readable(),
                ("content-type", "application/json".to_owned()),
                ("cache-control", "public, max-age=3600".to_owned()),
            ];
            Some(LocalReply { status: 200, headers, body: document(resource, form), record: Record::default() })
        }
        _ => None,
    }
}

fn document(resource: &Resource, form: SlashForm) -> String {
    let issuers: Vec<String> = resource.issuers().collect();
    let mut document = vec![
        ("resource", json::Value::String(resource.identifier(form))),
        ("bearer_methods_supported", ["header"].into_iter().collect()),
    ];
    // Section 3.2: empty arrays are omitted.
    if !issuers.is_empty() {
        document.insert(1, ("authorization_servers", issuers.iter().map(String::as_str).collect()));
    }
    if !resource.scopes_supported.is_empty() {
        document.push(("scopes_supported", resource.scopes_supported.iter().map(String::as_str).collect()));
    }
    if resource.dpop.mode != Requirement::Off {
        document.push(("dpop_signing_alg_values_supported", verify::ALGORITHMS.into_iter().collect()));
    }
    if resource.dpop.mode == Requirement::Required {
        document.push(("dpop_bound_access_tokens_required", true.into()));
    }
    if resource.certificates != Requirement::Off {
        document.push(("tls_client_certificate_bound_access_tokens", true.into()));
    }
    json::text(document)
}
