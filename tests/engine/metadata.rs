//! Protected resource metadata (RFC 9728).

use serde_json::{Value, json};

use crate::support::*;

#[test]
fn each_resource_has_its_document_at_the_well_known_path() {
    let answer = answered(Bench::ready().ask(request("GET", "/.well-known/oauth-protected-resource/github", &[])));
    assert_eq!((answer.status, header(&answer, "content-type")), (200, Some("application/json")));
    assert_eq!(header(&answer, "access-control-allow-origin"), Some("*"));
    let document: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        document,
        json!({"resource": "https://mcp.acme.example/github", "authorization_servers": [ENTRA, OKTA],
            "bearer_methods_supported": ["header"], "scopes_supported": ["api://gateway/mcp.read"]})
    );
    let admin = answered(Bench::ready().ask(request("GET", "/.well-known/oauth-protected-resource/github/admin", &[])));
    let document: Value = serde_json::from_str(&admin.body).unwrap();
    assert_eq!(document["authorization_servers"], json!([ENTRA]), "only providers with an exchange");
}

#[test]
fn a_resource_at_the_root_has_its_document_at_the_bare_path() {
    for url in ["https://mcp.acme.example", "https://mcp.acme.example/"] {
        let mut configuration = configuration();
        configuration["resources"] = json!([{"url": url, "exchange": {"entra-us": {"resource": "api://x"}}}]);
        let mut bench = Bench::new(&configuration);
        let answer = answered(bench.ask(request("GET", "/.well-known/oauth-protected-resource", &[])));
        let document: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(document["resource"], url);
        assert!(document.get("scopes_supported").is_none(), "an empty list is left out");
        let challenge = answered(bench.ask(request("POST", "/any/thing", &[])));
        assert_eq!(
            header(&challenge, "www-authenticate"),
            Some("Bearer resource_metadata=\"https://mcp.acme.example/.well-known/oauth-protected-resource\"")
        );
    }
}

#[test]
fn the_document_can_be_read_and_nothing_else() {
    let mut bench = Bench::ready();
    let path = "/.well-known/oauth-protected-resource/github";
    assert_eq!(answered(bench.ask(request("HEAD", path, &[]))).status, 200);
    let preflight = answered(bench.ask(request("OPTIONS", path, &[])));
    assert_eq!((preflight.status, preflight.body.as_str()), (204, ""));
    assert_eq!(header(&preflight, "access-control-allow-methods"), Some("GET, HEAD, OPTIONS"));
    let answer = answered(bench.ask(request("POST", path, &[])));
    assert_eq!((answer.status, header(&answer, "allow")), (405, Some("GET, HEAD, OPTIONS")));
}
