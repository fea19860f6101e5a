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
            "bearer_methods_supported": ["header"], "scopes_supported": ["https://mcp.acme.example/github/mcp.read"]})
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

/// The authorization servers that the first resource names.
fn servers(configuration: &Value) -> Value {
    let path = "/.well-known/oauth-protected-resource/github";
    let answer = answered(Bench::new(configuration).ask(request("GET", path, &[])));
    serde_json::from_str::<Value>(&answer.body).unwrap()["authorization_servers"].clone()
}

#[test]
fn clients_are_told_of_authorization_servers_in_the_operators_order() {
    let mut configuration = configuration();
    for (list, expected) in [
        (json!(["okta-eu", "entra-us"]), json!([OKTA, ENTRA])),
        (json!(["entra-us", "okta-eu"]), json!([ENTRA, OKTA])),
        (json!(["okta-eu"]), json!([OKTA])),
    ] {
        configuration["resources"][0]["authorization_servers"] = list;
        assert_eq!(servers(&configuration), expected);
    }
    // Whom clients are not told of may come all the same.
    let mut bench = Bench::new(&configuration).with_keys();
    assert_eq!(authorization(bench.exchange(bearer("/github", &alice_token()), &issued("up"))), "Bearer up");
}

#[test]
fn the_tenants_of_a_provider_stay_together_in_the_operators_order() {
    let mut configuration = configuration();
    let entra = &mut configuration["identity_providers"]["entra-us"];
    let tenant = "0d9c8b7a-1111-4222-8333-aabbccddeeff";
    entra["issuer"] = json!(ENTRA.replace(TENANT, "{tenantid}"));
    entra["tenants"] = json!([tenant, TENANT]);
    configuration["resources"][0]["authorization_servers"] = json!(["okta-eu", "entra-us"]);
    assert_eq!(servers(&configuration), json!([OKTA, ENTRA.replace(TENANT, tenant), ENTRA]));
}

const AT: [&str; 9] = [
    "/register",
    "/authorize?client_id=x",
    "/token",
    "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
    "/.well-known/oauth-authorization-server/github",
    "/.well-known/openid-configuration/github/admin",
    "/.well-known/openid-configuration/nothing",
    "/nothing/.well-known/openid-configuration",
];

#[test]
fn whoever_takes_this_for_an_authorization_server_is_told_which_to_ask() {
    let mut bench = Bench::ready();
    let document = |path: &str| format!("https://mcp.acme.example/.well-known/oauth-protected-resource{path}");
    for path in AT {
        let (issuers, metadata) = match path.rsplit_once("/github") {
            Some((_, "")) => (json!([ENTRA, OKTA]), json!([document("/github")])),
            Some((_, "/admin")) => (json!([ENTRA]), json!([document("/github/admin")])),
            _ => (json!([ENTRA, OKTA]), json!([document("/github"), document("/github/admin")])),
        };
        for method in ["GET", "HEAD", "POST", "PUT"] {
            for more in [&[][..], &[("authorization", "Bearer x")], &[("origin", "https://inspector.example")]] {
                let answer = answered(bench.ask(request(method, path, more)));
                assert_eq!(answer.status, 404, "{method} {path}");
                assert_eq!(header(&answer, "access-control-allow-origin"), Some("*"));
                assert_eq!(header(&answer, "cache-control"), Some("no-store"));
                assert_eq!(header(&answer, "www-authenticate"), None);
                let body: Value = serde_json::from_str(&answer.body).unwrap();
                let named: Vec<&str> =
                    issuers.as_array().unwrap().iter().map(|issuer| issuer.as_str().unwrap()).collect();
                let named = named.join(" or ");
                let description =
                    format!("This is no authorization server; ask one of authorization_servers for a token ({named}).");
                assert_eq!(
                    body,
                    json!({"error": "not_found", "error_description": description,
                        "reason": "not_an_authorization_server", "authorization_servers": issuers,
                        "resource_metadata": metadata}),
                    "{method} {path}"
                );
            }
        }
        let preflight = answered(bench.ask(request("OPTIONS", path, &[("access-control-request-method", "POST")])));
        assert_eq!((preflight.status, preflight.body.as_str()), (204, ""), "{path}");
        assert_eq!(header(&preflight, "access-control-allow-methods"), Some("GET, HEAD, POST, OPTIONS"));
    }
}

#[test]
fn a_host_names_no_servers_of_another_host() {
    let mut configuration = configuration();
    configuration["resources"][1]["url"] = json!("https://admin.acme.example/github");
    configuration["resources"][0]["authorization_servers"] = json!(["okta-eu"]);
    let mut bench = Bench::new(&configuration);
    for (path, port) in [("/register", ""), ("/.well-known/oauth-authorization-server/github", ":443")] {
        for (host, issuer) in [("mcp", OKTA), ("admin", ENTRA)] {
            let host = format!("{host}.acme.example");
            let authority = format!("{host}{port}");
            let fields: [(&str, &[u8]); 3] =
                [(":method", b"GET"), (":authority", authority.as_bytes()), (":path", path.as_bytes())];
            let answer = answered(bench.ask(onbehalf::http::Request::new(&fields)));
            let body: Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(body["authorization_servers"], json!([issuer]), "{host}{path}");
            let document = format!("https://{host}/.well-known/oauth-protected-resource/github");
            assert_eq!(body["resource_metadata"], json!([document]));
        }
    }
}

#[test]
fn an_order_of_the_operators_holds_for_whoever_asks_at_the_wrong_place_too() {
    let mut configuration = configuration();
    configuration["resources"][0]["authorization_servers"] = json!(["okta-eu", "entra-us"]);
    let answer = answered(Bench::new(&configuration).ask(request("POST", "/register", &[])));
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["authorization_servers"], json!([OKTA, ENTRA]));
    assert!(body["error_description"].as_str().unwrap().ends_with(&format!("({OKTA} or {ENTRA}).")));
}

#[test]
fn a_resource_has_what_is_under_it_and_a_host_without_one_has_nothing() {
    let mut bench = Bench::ready();
    for path in ["/github/.well-known/openid-configuration", "/github/token", "/github/register"] {
        assert_eq!(refused(bench.ask(request("GET", path, &[]))), (401, "no_credentials".to_owned()), "{path}");
    }
    let mut configuration = configuration();
    configuration["resources"][0]["url"] = json!("https://mcp.acme.example");
    let mut root = Bench::new(&configuration);
    configuration["resources"][0]["url"] = json!("https://other.acme.example/github");
    configuration["resources"][1]["url"] = json!("https://other.acme.example/github/admin");
    let mut elsewhere = Bench::new(&configuration);
    for path in AT {
        assert_eq!(refused(root.ask(request("GET", path, &[]))), (401, "no_credentials".to_owned()), "{path}");
        assert_eq!(refused(elsewhere.ask(request("GET", path, &[]))), (404, "unknown_resource".to_owned()), "{path}");
    }
    // What the operator opened is open.
    configuration["unauthenticated_paths"] = json!(["/token"]);
    configuration["resources"][0]["url"] = json!("https://mcp.acme.example/github");
    forwarded(Bench::new(&configuration).ask(request("POST", "/token", &[])));
}

#[test]
fn what_a_path_could_mean_to_another_server_is_ambiguous_there_too() {
    for path in ["/token;x", "/register;/../github", "/.well-known/openid-configuration;x/github", "//register"] {
        assert_eq!(refused(Bench::ready().ask(request("GET", path, &[]))).1, "ambiguous_path", "{path}");
    }
}

#[test]
fn an_answer_that_names_servers_has_an_end_and_no_word_of_the_requests() {
    let mut configuration = configuration();
    let resource = |number: usize| json!({"url": format!("https://mcp.acme.example/r{number}"), "exchange": {"entra-us": {"resource": "api://x"}}});
    configuration["resources"] = (0..200).map(resource).collect();
    let tenants: Vec<String> = (0..200).map(|number| format!("0d9c8b7a-1111-4222-8333-{number:012}")).collect();
    configuration["identity_providers"]["entra-us"]["issuer"] = json!(ENTRA.replace(TENANT, "{tenantid}"));
    configuration["identity_providers"]["entra-us"]["tenants"] = json!(tenants);
    let mut bench = Bench::new(&configuration);
    for path in ["/register?secret-word", "/secret-word/.well-known/openid-configuration"] {
        let fields = [("x-secret-word", "secret-word"), ("authorization", "Bearer secret-word")];
        let answer = answered(bench.ask(request("POST", path, &fields)));
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["authorization_servers"].as_array().unwrap().len(), 8);
        assert_eq!(body["resource_metadata"].as_array().unwrap().len(), 8);
        assert!(answer.body.len() < 4096);
        assert!(!format!("{answer:?}").contains("secret-word"), "{answer:?}");
    }
}
