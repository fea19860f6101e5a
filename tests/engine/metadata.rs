//! Protected resource metadata (RFC 9728).

use serde_json::{Value, json};

use onbehalf_test_support::{
    ENTRA, OKTA, TENANT, TestEngine, alice_token, answered, authorization, bearer, configuration, forwarded, header,
    issued, refused, request,
};

#[test]
fn each_resource_has_its_metadata_at_the_well_known_path() {
    let answer =
        answered(TestEngine::ready().decide(request("GET", "/.well-known/oauth-protected-resource/github", &[])));
    assert_eq!((answer.status, header(&answer, "content-type")), (200, Some("application/json")));
    assert_eq!(header(&answer, "access-control-allow-origin"), Some("*"));
    let document: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        document,
        json!({"resource": "https://mcp.acme.example/github", "authorization_servers": [ENTRA, OKTA],
            "bearer_methods_supported": ["header"], "scopes_supported": ["https://mcp.acme.example/github/mcp.read"]})
    );
    let admin =
        answered(TestEngine::ready().decide(request("GET", "/.well-known/oauth-protected-resource/github/admin", &[])));
    let document: Value = serde_json::from_str(&admin.body).unwrap();
    assert_eq!(document["authorization_servers"], json!([ENTRA]), "only providers with an exchange");
}

#[test]
fn resource_at_the_root_has_its_metadata_at_the_bare_path() {
    for url in ["https://mcp.acme.example", "https://mcp.acme.example/"] {
        let mut configuration = configuration();
        configuration["resources"] = json!([{"url": url, "exchange": {"entra-us": {"resource": "api://x"}}}]);
        let mut engine = TestEngine::new(&configuration);
        let answer = answered(engine.decide(request("GET", "/.well-known/oauth-protected-resource", &[])));
        let document: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(document["resource"], url);
        assert!(document.get("scopes_supported").is_none(), "an empty list is left out");
        let challenge = answered(engine.decide(request("POST", "/any/thing", &[])));
        assert_eq!(
            header(&challenge, "www-authenticate"),
            Some("Bearer resource_metadata=\"https://mcp.acme.example/.well-known/oauth-protected-resource\"")
        );
    }
}

#[test]
fn metadata_accepts_only_get_head_and_options() {
    let mut engine = TestEngine::ready();
    let path = "/.well-known/oauth-protected-resource/github";
    assert_eq!(answered(engine.decide(request("HEAD", path, &[]))).status, 200);
    let preflight = answered(engine.decide(request("OPTIONS", path, &[])));
    assert_eq!((preflight.status, preflight.body.as_str()), (204, ""));
    assert_eq!(header(&preflight, "access-control-allow-methods"), Some("GET, HEAD, OPTIONS"));
    let answer = answered(engine.decide(request("POST", path, &[])));
    assert_eq!((answer.status, header(&answer, "allow")), (405, Some("GET, HEAD, OPTIONS")));
}

/// The authorization servers that the first resource names.
fn servers(configuration: &Value) -> Value {
    let path = "/.well-known/oauth-protected-resource/github";
    let answer = answered(TestEngine::new(configuration).decide(request("GET", path, &[])));
    serde_json::from_str::<Value>(&answer.body).unwrap()["authorization_servers"].clone()
}

#[test]
fn authorization_servers_are_listed_in_the_configured_order() {
    let mut configuration = configuration();
    for (list, expected) in [
        (json!(["okta-eu", "entra-us"]), json!([OKTA, ENTRA])),
        (json!(["entra-us", "okta-eu"]), json!([ENTRA, OKTA])),
        (json!(["okta-eu"]), json!([OKTA])),
    ] {
        configuration["resources"][0]["authorization_servers"] = list;
        assert_eq!(servers(&configuration), expected);
    }
    // Tokens of an issuer that is not listed are accepted all the same.
    let mut engine = TestEngine::new(&configuration).with_keys();
    assert_eq!(authorization(engine.exchange(bearer("/github", &alice_token()), &issued("up"))), "Bearer up");
}

#[test]
fn tenants_of_a_provider_stay_together_in_the_configured_order() {
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
fn request_to_an_oauth_path_is_answered_with_the_real_servers() {
    let mut engine = TestEngine::ready();
    let document = |path: &str| format!("https://mcp.acme.example/.well-known/oauth-protected-resource{path}");
    for path in AT {
        let (issuers, metadata) = match path.rsplit_once("/github") {
            Some((_, "")) => (json!([ENTRA, OKTA]), json!([document("/github")])),
            Some((_, "/admin")) => (json!([ENTRA]), json!([document("/github/admin")])),
            _ => (json!([ENTRA, OKTA]), json!([document("/github"), document("/github/admin")])),
        };
        for method in ["GET", "HEAD", "POST", "PUT"] {
            for more in [&[][..], &[("authorization", "Bearer x")], &[("origin", "https://inspector.example")]] {
                let answer = answered(engine.decide(request(method, path, more)));
                assert_eq!(answer.status, 404, "{method} {path}");
                assert_eq!(header(&answer, "access-control-allow-origin"), Some("*"));
                assert_eq!(header(&answer, "cache-control"), Some("no-store"));
                assert_eq!(header(&answer, "www-authenticate"), None);
                let body: Value = serde_json::from_str(&answer.body).unwrap();
                let named: Vec<&str> =
                    issuers.as_array().unwrap().iter().map(|issuer| issuer.as_str().unwrap()).collect();
                let named = named.join(" or ");
                let description = format!(
                    "This host is not an authorization server; get a token from one of authorization_servers ({named})."
                );
                assert_eq!(
                    body,
                    json!({"error": "not_found", "error_description": description,
                        "reason": "not_an_authorization_server", "authorization_servers": issuers,
                        "resource_metadata": metadata}),
                    "{method} {path}"
                );
            }
        }
        let preflight = answered(engine.decide(request("OPTIONS", path, &[("access-control-request-method", "POST")])));
        assert_eq!((preflight.status, preflight.body.as_str()), (204, ""), "{path}");
        assert_eq!(header(&preflight, "access-control-allow-methods"), Some("GET, HEAD, POST, OPTIONS"));
    }
}

#[test]
fn host_lists_no_servers_of_another_host() {
    let mut configuration = configuration();
    configuration["resources"][1]["url"] = json!("https://admin.acme.example/github");
    configuration["resources"][0]["authorization_servers"] = json!(["okta-eu"]);
    let mut engine = TestEngine::new(&configuration);
    for (path, port) in [("/register", ""), ("/.well-known/oauth-authorization-server/github", ":443")] {
        for (host, issuer) in [("mcp", OKTA), ("admin", ENTRA)] {
            let host = format!("{host}.acme.example");
            let authority = format!("{host}{port}");
            let fields: [(&str, &[u8]); 3] =
                [(":method", b"GET"), (":authority", authority.as_bytes()), (":path", path.as_bytes())];
            let answer = answered(engine.decide(onbehalf::http::Request::new(&fields)));
            let body: Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(body["authorization_servers"], json!([issuer]), "{host}{path}");
            let document = format!("https://{host}/.well-known/oauth-protected-resource/github");
            assert_eq!(body["resource_metadata"], json!([document]));
        }
    }
}

#[test]
fn configured_order_of_servers_holds_at_the_wrong_path_too() {
    let mut configuration = configuration();
    configuration["resources"][0]["authorization_servers"] = json!(["okta-eu", "entra-us"]);
    let answer = answered(TestEngine::new(&configuration).decide(request("POST", "/register", &[])));
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["authorization_servers"], json!([OKTA, ENTRA]));
    assert!(body["error_description"].as_str().unwrap().ends_with(&format!("({OKTA} or {ENTRA}).")));
}

#[test]
fn oauth_paths_belong_to_the_resource_above_them_or_are_unknown() {
    let mut engine = TestEngine::ready();
    for path in ["/github/.well-known/openid-configuration", "/github/token", "/github/register"] {
        assert_eq!(refused(engine.decide(request("GET", path, &[]))), (401, "no_credentials".to_owned()), "{path}");
    }
    let mut configuration = configuration();
    configuration["resources"][0]["url"] = json!("https://mcp.acme.example");
    let mut root = TestEngine::new(&configuration);
    configuration["resources"][0]["url"] = json!("https://other.acme.example/github");
    configuration["resources"][1]["url"] = json!("https://other.acme.example/github/admin");
    let mut elsewhere = TestEngine::new(&configuration);
    for path in AT {
        assert_eq!(refused(root.decide(request("GET", path, &[]))), (401, "no_credentials".to_owned()), "{path}");
        assert_eq!(
            refused(elsewhere.decide(request("GET", path, &[]))),
            (404, "unknown_resource".to_owned()),
            "{path}"
        );
    }
    // A configured unauthenticated path needs no token.
    configuration["unauthenticated_paths"] = json!(["/token"]);
    configuration["resources"][0]["url"] = json!("https://mcp.acme.example/github");
    forwarded(TestEngine::new(&configuration).decide(request("POST", "/token", &[])));
}

#[test]
fn ambiguous_path_is_refused_at_the_metadata_too() {
    for path in ["/token;x", "/register;/../github", "/.well-known/openid-configuration;x/github", "//register"] {
        assert_eq!(refused(TestEngine::ready().decide(request("GET", path, &[]))).1, "ambiguous_path", "{path}");
    }
}

#[test]
fn list_of_servers_is_bounded_and_repeats_no_request_text() {
    let mut configuration = configuration();
    let resource = |number: usize| json!({"url": format!("https://mcp.acme.example/r{number}"), "exchange": {"entra-us": {"resource": "api://x"}}});
    configuration["resources"] = (0..200).map(resource).collect();
    let tenants: Vec<String> = (0..200).map(|number| format!("0d9c8b7a-1111-4222-8333-{number:012}")).collect();
    configuration["identity_providers"]["entra-us"]["issuer"] = json!(ENTRA.replace(TENANT, "{tenantid}"));
    configuration["identity_providers"]["entra-us"]["tenants"] = json!(tenants);
    let mut engine = TestEngine::new(&configuration);
    for path in ["/register?secret-word", "/secret-word/.well-known/openid-configuration"] {
        let fields = [("x-secret-word", "secret-word"), ("authorization", "Bearer secret-word")];
        let answer = answered(engine.decide(request("POST", path, &fields)));
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["authorization_servers"].as_array().unwrap().len(), 8);
        assert_eq!(body["resource_metadata"].as_array().unwrap().len(), 8);
        assert!(answer.body.len() < 4096);
        assert!(!format!("{answer:?}").contains("secret-word"), "{answer:?}");
    }
}
