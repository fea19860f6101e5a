//! Routing: hosts, paths and aliases of resources, the forms of their URLs, and encoded slashes.

use onbehalf::config::Code;
use onbehalf::http::Request;
use serde_json::{Value, json};

use onbehalf_test_support::{
    ENTRA, ENTRA_KEY, TestEngine, alice, alice_token, answered, authorization, bearer, configuration,
    configuration_error, header, issued, key_set, only_entra, parse, refused, request, with,
};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

pub fn resource(url: &str, more: Value) -> Value {
    with(json!({"url": url, "exchange": {"entra-us": {"resource": "api://x"}}}), more)
}

pub fn of(resources: Value) -> Value {
    let mut configuration = only_entra(configuration());
    configuration["resources"] = resources;
    configuration
}

fn at(authority: &str, method: &str, path: &str, more: &[(&str, &str)]) -> Request {
    let mut fields: Vec<(&str, &[u8])> =
        vec![(":method", method.as_bytes()), (":authority", authority.as_bytes()), (":path", path.as_bytes())];
    fields.extend(more.iter().map(|(name, value)| (*name, value.as_bytes())));
    Request::new(&fields)
}

/// URL of the metadata document in the challenge of a request without a token.
fn challenged(engine: &mut TestEngine, authority: &str, path: &str) -> String {
    let answer = answered(engine.decide(at(authority, "POST", path, &[])));
    assert_eq!(answer.status, 401, "{authority}{path}: {answer:?}");
    let challenge = header(&answer, "www-authenticate").unwrap();
    let (_, rest) = challenge.split_once("resource_metadata=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

/// `resource` of the document at a path. `None`: there is none.
fn document(engine: &mut TestEngine, authority: &str, path: &str) -> Option<String> {
    let answer = answered(engine.decide(at(authority, "GET", path, &[])));
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    (answer.status == 200).then(|| body["resource"].as_str().unwrap().to_owned())
}

#[test]
fn both_slash_forms_have_a_challenge_and_a_document_of_their_own() {
    for url in ["https://mcp.acme.example/mcp", "https://mcp.acme.example/mcp/"] {
        let mut engine = TestEngine::new(&of(json!([resource(url, json!({}))])));
        for form in ["/mcp", "/mcp/"] {
            let metadata = challenged(&mut engine, "mcp.acme.example", form);
            assert_eq!(metadata, format!("https://mcp.acme.example{WELL_KNOWN}{form}"), "{url}");
            let path = format!("{WELL_KNOWN}{form}");
            let expected = format!("https://mcp.acme.example{form}");
            assert_eq!(document(&mut engine, "mcp.acme.example", &path), Some(expected), "{url}");
        }
        let configured = url.strip_prefix("https://mcp.acme.example").unwrap();
        for below in ["/mcp/x", "/mcp/x/"] {
            let metadata = challenged(&mut engine, "mcp.acme.example", below);
            assert_eq!(metadata, format!("https://mcp.acme.example{WELL_KNOWN}{configured}"));
        }
    }
}

#[test]
fn url_without_a_path_has_one_challenge_in_both_forms() {
    for url in ["https://mcp.acme.example", "https://mcp.acme.example/"] {
        let mut engine = TestEngine::new(&of(json!([resource(url, json!({}))])));
        assert_eq!(challenged(&mut engine, "mcp.acme.example", "/"), format!("https://mcp.acme.example{WELL_KNOWN}"));
        assert_eq!(document(&mut engine, "mcp.acme.example", WELL_KNOWN).as_deref(), Some(url));
        let with_slash = document(&mut engine, "mcp.acme.example", &format!("{WELL_KNOWN}/"));
        assert_eq!(with_slash.as_deref(), Some("https://mcp.acme.example/"));
    }
}

#[test]
fn challenge_with_an_error_names_the_form_of_the_client() {
    let mut engine = TestEngine::ready();
    let expired = ENTRA_KEY.token(&with(alice(), json!({"exp": 1})));
    for form in ["/github", "/github/"] {
        let answer = answered(engine.decide(bearer(form, &expired)));
        let challenge = header(&answer, "www-authenticate").unwrap();
        assert!(challenge.contains(&format!("{WELL_KNOWN}{form}\"")), "{challenge}");
    }
}

/// A resource behind a load balancer that changes its host, and an ingress that removes a part of its path.
fn behind_a_balancer() -> Value {
    of(json!([
        resource(
            "https://mcp.acme.example/tenant/mcp",
            json!({"aliases": ["http://mcp.internal:8080/mcp", "https://mcp.acme.example/mcp"]})
        ),
        resource("https://api.acme.example", json!({"aliases": ["http://api.internal/v1"]})),
    ]))
}

#[test]
fn alias_serves_the_resource_and_names_its_public_url() {
    let mut engine = TestEngine::new(&behind_a_balancer()).with_keys();
    let public = format!("https://mcp.acme.example{WELL_KNOWN}/tenant/mcp");
    for (authority, path) in [
        ("mcp.internal:8080", "/mcp"),
        ("MCP.internal:8080", "/mcp"),
        ("mcp.acme.example", "/mcp"),
        ("mcp.acme.example:443", "/tenant/mcp"),
    ] {
        assert_eq!(challenged(&mut engine, authority, path), public, "{authority}{path}");
        assert_eq!(challenged(&mut engine, authority, &format!("{path}/")), format!("{public}/"));
        assert_eq!(challenged(&mut engine, authority, &format!("{path}/x")), public);
        for place in ["/tenant/mcp", "/mcp"] {
            let found = document(&mut engine, authority, &format!("{WELL_KNOWN}{place}"));
            assert_eq!(found.as_deref(), Some("https://mcp.acme.example/tenant/mcp"), "{authority} {place}");
        }
    }
    for authority in ["api.internal", "api.internal:80"] {
        let metadata = challenged(&mut engine, authority, "/v1/x");
        assert_eq!(metadata, format!("https://api.acme.example{WELL_KNOWN}"));
    }
    for (authority, path) in
        [("mcp.internal", "/mcp"), ("api.internal:443", "/v1"), ("api.internal", "/"), ("mcp.internal:8080", "/")]
    {
        assert_eq!(refused(engine.decide(at(authority, "POST", path, &[]))).1, "unknown_resource", "{authority}{path}");
    }
    let token = format!("Bearer {}", alice_token());
    let request = at("mcp.internal:8080", "POST", "/mcp", &[("authorization", &token)]);
    assert_eq!(authorization(engine.exchange(request, &issued("up"))), "Bearer up");
}

#[test]
fn document_that_two_aliases_of_a_host_could_mean_is_not_served() {
    let aliased = |host: &str| {
        let alias = format!("http://mcp.internal/{host}");
        resource(&format!("https://{host}.acme.example/mcp"), json!({"aliases": [alias]}))
    };
    let mut engine = TestEngine::new(&of(json!([aliased("one"), aliased("two")])));
    assert_eq!(document(&mut engine, "mcp.internal", &format!("{WELL_KNOWN}/mcp")), None);
    for host in ["one", "two"] {
        let found = document(&mut engine, "mcp.internal", &format!("{WELL_KNOWN}/{host}"));
        assert_eq!(found, Some(format!("https://{host}.acme.example/mcp")));
    }
}

#[test]
fn alias_that_is_the_place_of_another_resource_is_refused() {
    let one = |aliases: Value| resource("https://mcp.acme.example/one", json!({"aliases": aliases}));
    let two = |aliases: Value| resource("https://mcp.acme.example/two", json!({"aliases": aliases}));
    for (resources, path) in [
        (json!([one(json!(["https://mcp.acme.example/two/"])), two(json!([]))]), "resources[1].url"),
        (json!([one(json!([])), two(json!(["https://MCP.acme.example:443/one"]))]), "resources[1].aliases[0]"),
        (json!([one(json!(["http://a/x"])), two(json!(["http://b/x", "http://a:80/x"]))]), "resources[1].aliases[1]"),
        (json!([one(json!(["https://a:80/x"])), two(json!(["http://a/x"]))]), "resources[1].aliases[0]"),
        (json!([one(json!(["https://mcp.acme.example/one"]))]), "resources[0].aliases[0]"),
    ] {
        let error = configuration_error(&of(resources));
        assert_eq!((error.path.as_str(), error.code), (path, Code::SameUrl), "{error}");
    }
    for (alias, code) in [
        ("ftp://a", Code::NotAUrl),
        ("a/mcp", Code::NotAUrl),
        ("http://*.internal/mcp", Code::NotAUrl),
        ("http://a/x?y", Code::NotAUrl),
        ("http://a/x/*", Code::NotANormalPath),
        ("http://a/.well-known/oauth-protected-resource/x", Code::ReservedPath),
    ] {
        let error = configuration_error(&of(json!([one(json!(["http://b", alias]))])));
        assert_eq!((error.path.as_str(), error.code), ("resources[0].aliases[1]", code), "{error}");
    }
}

#[test]
fn host_with_a_pattern_or_a_foreign_character_is_refused() {
    for url in
        ["https://*.acme.example/mcp", "https://mcp.*/", "https://mcp|b.acme.example/", "https://mcp.acme.example:/x"]
    {
        let error = configuration_error(&of(json!([resource(url, json!({}))])));
        assert_eq!((error.path.as_str(), error.code), ("resources[0].url", Code::NotAUrl), "{url}");
    }
}

#[test]
fn unknown_resource_shows_its_path_and_the_nearest_url_in_the_log_only() {
    let mut engine = TestEngine::new(&behind_a_balancer());
    let mcp = "https://mcp.acme.example/tenant/mcp";
    for (authority, path, shown, nearest) in [
        ("mcp.acme.example", "/tenant/x?secret-word", "/tenant/x", mcp),
        ("lb.internal", "/tenant/mcp", "/tenant/mcp", mcp),
        ("lb.internal", "/mcp/x", "/mcp/x", mcp),
        ("mcp.internal:8080", "/x", "/x", mcp),
        ("MCP.internal", "/", "/", mcp),
        ("mcp.internal:9090", "/x", "/x", mcp),
        ("mcp.internal:8080:1", "/x", "/x", ""),
        ("lb.internal", "/x\" reason=no", "", ""),
        ("lb.internal", "/x%22%20event=y", "/x\\\"%20event=y", ""),
        // Neither host nor path is like one of the configuration.
        ("lb.internal", "/elsewhere/x", "/elsewhere/x", ""),
        ("lb.internal", "/", "/", ""),
        // Somebody's token in a path.
        ("lb.internal", "/elsewhere/eyJhbGciOiJub25lIn0.secret-word", "/elsewhere/...", ""),
    ] {
        let answer = answered(engine.decide(at(authority, "GET", path, &[])));
        if shown.is_empty() {
            assert_eq!(answer.status, 400, "{path}");
            continue;
        }
        let line = answer.record.to_string();
        assert!(line.contains(&format!("path=\"{shown}\"")), "{line}");
        let expected = if nearest.is_empty() { String::new() } else { format!(" nearest={nearest} ") };
        assert!(line.contains(&expected) && line.contains(" nearest=") != nearest.is_empty(), "{line}");
        assert!(!line.contains("secret-word"), "{line}");
        let sent = format!("{:?}{}", answer.headers, answer.body);
        assert!(!sent.contains("tenant") && !sent.contains("acme"), "{sent}");
    }
    let long = format!("/{}", "a".repeat(1000));
    let answer = answered(engine.decide(at("mcp.acme.example", "GET", &long, &[])));
    assert!(answer.record.to_string().contains(&format!("path=\"/{}...\"", "a".repeat(127))));
}

/// A GitLab that keeps encoded slashes, a resource below it, and one that keeps none.
fn gitlab() -> TestEngine {
    TestEngine::new(&of(json!([
        resource("https://mcp.acme.example/git", json!({"encoded_slashes": true})),
        resource("https://mcp.acme.example/git/admin", json!({"scopes": ["admin"]})),
        resource("https://mcp.acme.example/git/deep/er", json!({"encoded_slashes": true})),
        resource("https://mcp.acme.example/api", json!({})),
    ])))
}

#[test]
fn encoded_slash_is_let_through_below_a_resource_that_keeps_it() {
    let mut engine = gitlab();
    let challenge = format!("https://mcp.acme.example{WELL_KNOWN}/git");
    for path in [
        "/git/api/v4/projects/group%2Fproject",
        "/git/@scope%2fname",
        "/git/api/queues/%2F/jobs",
        "/git/api/queues/%2F",
        "/git/a%2Fb?x=%2F..",
        "/git/a%2Fb;v=1",
        "/git/deep%2Fx",
    ] {
        assert_eq!(challenged(&mut engine, "mcp.acme.example", path), challenge, "{path}");
    }
    let deeper = challenged(&mut engine, "mcp.acme.example", "/git/deep/er/a%2Fb");
    assert_eq!(deeper, format!("https://mcp.acme.example{WELL_KNOWN}/git/deep/er"));
}

#[test]
fn encoded_slash_never_leads_to_two_readings_of_the_route() {
    let mut engine = gitlab();
    for path in [
        "/git%2Fx",
        "/%2Fgit/x",
        "/git%2Fadmin",
        "/git/admin%2Fx",
        "/git/%2Fadmin",
        "/git/%2F%2Fadmin%2Fx",
        "/git%2F/admin",
        "/git/admin/a%2Fb",
        "/git/x%2F..%2Fadmin",
        "/git/x/..%2Fadmin",
        "/git/%2F..;/admin",
        "/git/%2Fadmin;x",
        "/git/%2F;x/admin",
        "/git/deep%2Fer",
        "/git/deep%2Fer/x",
        "/git/deep/er%2Fx",
        "/git/deep;x%2Fer",
        "/git/a%2F.",
        "/git/a%5C%2Fb",
        "/api/a%2Fb",
        "/nothing/a%2Fb",
        "/healthz%2Fx",
        "/%2Fhealthz",
        "/.well-known/oauth-protected-resource/git%2Fadmin",
    ] {
        assert_eq!(refused(engine.decide(request("GET", path, &[]))), (400, "ambiguous_path".to_owned()), "{path}");
    }
}

#[test]
fn each_of_a_thousand_resources_is_found_with_its_audience() {
    let mut document = of((0..1000)
        .map(|number| {
            let url = format!("https://mcp.acme.example/r{number}");
            resource(&url, json!({"audiences": [url.clone()], "scopes": [format!("s{number}")]}))
        })
        .collect());
    document["identity_providers"]["entra-us"]["profile"] = json!("rfc8693");
    for resource in document["resources"].as_array_mut().unwrap() {
        resource["exchange"]["entra-us"] = json!({"audience": "x"});
    }
    let config = parse(&document);
    assert_eq!((config.resources.len(), config.scopes.len()), (1000, 1000));
    let mut engine = TestEngine::new(&document).with_keys();
    let token = |number: usize| {
        let aud = format!("https://mcp.acme.example/r{number}");
        let claims = json!({"aud": [aud.clone(), aud], "scp": null, "scope": format!("s{number}"), "iss": ENTRA, "client_id": "c"});
        ENTRA_KEY.token(&with(alice(), claims))
    };
    for number in [0, 1, 499, 999] {
        let step = engine.exchange(bearer(&format!("/r{number}/x"), &token(number)), &issued("up"));
        assert_eq!(authorization(step), "Bearer up");
        assert_eq!(refused(engine.decide(bearer("/r7", &token(number)))).1, "wrong_audience");
    }
}

#[test]
fn each_issuer_of_two_hundred_providers_is_found() {
    const TENANTS: [&str; 2] = ["5f0c7a4e-9a0f-4c3e-8f5d-2b7f6f1f0c11", "0d9c8b7a-1111-4222-8333-aabbccddeeff"];
    let keys: Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY])).unwrap();
    let client = json!({"id": "c", "authentication": {"method": "client_secret_post", "secret": {"env": "SECRET"}}});
    let provider = |profile: &str, issuer: &str| {
        json!({"profile": profile, "issuer": issuer, "cluster": "c", "audiences": ["api"], "jwks": keys,
            "token_endpoint": format!("{}/t", issuer.trim_end_matches('/')), "client": client})
    };
    let mut document = of(json!([]));
    let mut providers = serde_json::Map::new();
    let mut exchange = serde_json::Map::new();
    for number in 0..200 {
        let issuer = format!("https://id{number}.acme.example");
        providers.insert(format!("a{number:03}"), provider("rfc8693", &issuer));
        exchange.insert(format!("a{number:03}"), json!({"audience": "x"}));
    }
    let mut entra = provider("entra_obo", "https://login.microsoftonline.com/{tenantid}/v2.0");
    entra["tenants"] = json!(TENANTS);
    entra["client"]["id"] = json!("33333333-1111-4222-8333-444455556666");
    entra["audiences"] = json!(["33333333-1111-4222-8333-444455556666"]);
    providers.insert("z-entra".to_owned(), entra);
    exchange.insert("z-entra".to_owned(), json!({"resource": "api://x"}));
    document["identity_providers"] = providers.into();
    document["resources"] = json!([{"url": "https://mcp.acme.example/mcp", "exchange": exchange}]);
    let mut engine = TestEngine::new(&document);
    let asked = |engine: &mut TestEngine, claims: Value| {
        let id = engine.send_waiting(bearer("/mcp", &ENTRA_KEY.token(&with(alice(), claims))));
        let (flight, call) = engine.expect_call();
        let steps = engine.callout_result(flight, &issued("up"));
        assert_eq!(steps[0].0, id);
        call.url.as_str().to_owned()
    };
    for number in [0, 63, 64, 199] {
        let issuer = format!("https://id{number}.acme.example");
        let claims = json!({"iss": issuer, "aud": "api", "client_id": "c", "scp": null});
        assert_eq!(asked(&mut engine, claims), format!("{issuer}/t"));
    }
    for tenant in TENANTS {
        for (issuer, version) in [
            (format!("https://login.microsoftonline.com/{tenant}/v2.0"), "2.0"),
            (format!("https://sts.windows.net/{tenant}/"), "1.0"),
        ] {
            let aud = "33333333-1111-4222-8333-444455556666";
            let claims = json!({"iss": issuer, "tid": tenant, "ver": version, "aud": aud, "appid": "c", "azp": "c", "jti": issuer});
            assert!(asked(&mut engine, claims).starts_with("https://login.microsoftonline.com/"), "{issuer}");
        }
    }
    for issuer in ["https://id200.acme.example", "https://id199.acme.example/", ""] {
        let token = ENTRA_KEY.token(&with(alice(), json!({"iss": issuer})));
        assert_eq!(refused(engine.decide(bearer("/mcp", &token))).1, "unknown_issuer", "{issuer}");
    }
}

#[test]
fn resource_below_another_one_is_reached_at_the_alias_by_its_own_rules() {
    let mut configuration = configuration();
    configuration["resources"][0]["aliases"] = json!(["http://in.example/"]);
    let error = configuration_error(&configuration).to_string();
    assert!(error.contains("http://in.example/admin as well"), "{error}");
    configuration["resources"][1]["aliases"] = json!(["http://in.example/admin/"]);
    let mut engine = TestEngine::new(&configuration).with_keys();
    let authorization = format!("Bearer {}", alice_token());
    let step = engine.decide(at("in.example", "GET", "/admin/x", &[("authorization", &authorization)]));
    assert_eq!(refused(step).1, "insufficient_scope");
}

#[test]
fn resource_below_others_needs_the_aliases_of_each() {
    let nested = |inner: &str, aliases: Value| {
        of(json!([
            resource(
                "https://mcp.acme.example",
                json!({"aliases": ["http://lb.internal", "http://lb2.internal/root/"]})
            ),
            resource(
                "https://mcp.acme.example/a/b/",
                json!({"aliases":
                ["http://lb.internal/a/b", "http://lb2.internal/root/a/b", "https://b.internal/x"]})
            ),
            resource(inner, json!({"aliases": aliases})),
        ]))
    };
    let (root, b) = (["http://lb.internal/a/b/c", "http://lb2.internal/root/a/b/c"], "https://b.internal/x/c");
    let inner = "https://mcp.acme.example/a/b/c/";
    for (aliases, lacking, of) in [
        (json!([]), "http://lb.internal/a/b/c as well", "an alias of resources[0]"),
        (json!([root[0], b]), "http://lb2.internal/root/a/b/c as well", "an alias of resources[0]"),
        (
            json!([root[1], root[0], "https://b.internal/c"]),
            "https://b.internal/x/c as well",
            "an alias of resources[1]",
        ),
    ] {
        let error = configuration_error(&nested(inner, aliases));
        assert_eq!(error.path, "resources[2].aliases");
        assert!(error.to_string().contains(lacking) && error.to_string().contains(of), "{error}");
    }
    parse(&nested(inner, json!([root[0], format!("{}/", root[1]), b])));
    // Not below them: another host, and paths that only begin alike.
    parse(&nested("https://api.acme.example/a/b/c", json!([])));
    let beside = json!(["http://lb.internal/a/bc", "http://lb2.internal/root/a/bc"]);
    parse(&nested("https://mcp.acme.example/a/bc", beside));
    // An alias is no place that others are below.
    parse(&nested("https://b.internal/x/y", json!([])));
}

#[test]
fn alias_with_another_default_port_is_no_alias_of_the_resource_below() {
    let outer = |alias: &str| resource("https://mcp.acme.example/mcp", json!({"aliases": [alias]}));
    let inner = |aliases: &[&str]| resource("https://mcp.acme.example/mcp/admin", json!({"aliases": aliases}));
    let (http, https) = ("http://in.example/mcp", "https://in.example/mcp");
    let (http_admin, https_admin) = ("http://in.example/mcp/admin", "https://in.example/mcp/admin");
    // Requests for in.example:443 or in.example:80 would have the rules of the outer resource.
    for (alias, other) in [(https, http_admin), (http, https_admin)] {
        let error = configuration_error(&of(json!([outer(alias), inner(&[other])])));
        assert_eq!((error.path.as_str(), error.code), ("resources[1].aliases", Code::NestedWithoutAlias), "{error}");
    }
    for (alias, same) in [(https, https_admin), (http, http_admin), (http, "http://in.example:80/mcp/admin")] {
        parse(&of(json!([outer(alias), inner(&[same])])));
    }
}
