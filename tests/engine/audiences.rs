//! A caller's token is accepted only at its own resource (RFC 8707 section 2).

use onbehalf::config::Config;
use onbehalf::engine::Decision;
use serde_json::{Value, json};

use onbehalf_test_support::{
    ENTRA_KEY, OKTA_KEY, TestEngine, alice, answered, authorization, bearer, bob, bob_id, configuration,
    configuration_error, environment, form, issued, parse, refused, request, with,
};

const A: &str = "https://mcp.acme.example/a";
const B: &str = "https://mcp.acme.example/b";

/// Two resources for Okta's users, each with more options.
fn two(a: Value, b: Value) -> Value {
    let resource = |url: &str, more: Value| {
        with(json!({"url": url, "exchange": {"okta-eu": {"audience": format!("{url}-upstream")}}}), more)
    };
    let mut configuration = configuration();
    configuration["resources"] = json!([resource(A, a), resource(B, b)]);
    configuration["identity_providers"].as_object_mut().unwrap().remove("entra-us");
    configuration
}

/// Two resources, each with its own URL as its only audience.
fn strict() -> Value {
    let mut configuration = two(json!({"audiences": [A]}), json!({"audiences": [B]}));
    configuration["identity_providers"]["okta-eu"].as_object_mut().unwrap().remove("audiences");
    configuration
}

fn token(audience: Value) -> String {
    OKTA_KEY.token(&with(bob(), json!({"aud": audience})))
}

/// Returns `true` if a token is accepted at a path: exchanged, or found in the cache.
fn is_taken(engine: &mut TestEngine, path: &str, token: &str) -> bool {
    match engine.decide(bearer(path, token)) {
        Decision::Pause => {
            let (flight, _) = engine.expect_call();
            let steps = engine.callout_result(flight, &issued("up"));
            assert_eq!(steps.into_iter().map(|(_, step)| authorization(step)).collect::<Vec<_>>(), ["Bearer up"]);
            true
        }
        Decision::Forward(edits) => edits.authorization.is_some_and(|token| token.reveal() == "Bearer up"),
        refusal @ Decision::Respond(_) => {
            assert_eq!(refused(refusal), (401, "wrong_audience".to_owned()));
            engine.expect_no_call();
            false
        }
    }
}

fn detail(step: Decision) -> String {
    answered(step).record.to_string()
}

#[test]
fn token_for_another_resource_is_refused_before_a_key_fetch() {
    let mut engine = TestEngine::new(&strict());
    for (path, aud) in [("/b", json!(A)), ("/a", json!(B)), ("/a", json!([B, "x"])), ("/a", json!("api://default"))] {
        assert!(!is_taken(&mut engine, path, &token(aud.clone())), "{path} {aud}");
    }
    // A token for this resource waits for the keys.
    engine.send_waiting(bearer("/a", &token(json!(A))));
    // The provider's list of audiences has the same effect.
    let mut engine = TestEngine::new(&two(json!({"audiences": [A]}), json!({})));
    assert!(!is_taken(&mut engine, "/b", &token(json!(A))));
    assert!(!is_taken(&mut engine, "/a", &token(json!("api://default"))));
    engine.send_waiting(bearer("/b", &token(json!("api://default"))));
}

#[test]
fn token_verified_for_one_resource_is_refused_at_another() {
    let mut engine = TestEngine::new(&strict()).with_keys();
    let (of_a, of_b, of_both) = (token(json!(A)), token(json!(B)), token(json!([B, "x", A])));
    for _ in 0..3 {
        for (path, token, expected) in [
            ("/a", &of_a, true),
            ("/b", &of_a, false),
            ("/b", &of_b, true),
            ("/a", &of_b, false),
            ("/b", &of_both, true),
            ("/a", &of_both, true),
        ] {
            assert_eq!(is_taken(&mut engine, path, token), expected, "{path}");
        }
    }
}

#[test]
fn refusal_at_one_resource_leaves_the_token_good_at_its_own() {
    let mut engine = TestEngine::new(&strict()).with_keys();
    let of_a = token(json!(A));
    assert!(!is_taken(&mut engine, "/b", &of_a));
    assert!(is_taken(&mut engine, "/a", &of_a));
}

#[test]
fn resource_without_audiences_accepts_only_the_providers_list() {
    // The verdict at one resource has no effect on the other, in either order.
    let configuration = two(json!({"audiences": [A]}), json!({}));
    for first in ["/a", "/b"] {
        let mut engine = TestEngine::new(&configuration).with_keys();
        let (of_a, common, of_both) =
            (token(json!(A)), token(json!("api://default")), token(json!([A, "api://default"])));
        for path in [first, "/a", "/b", "/a", "/b"] {
            assert_eq!(is_taken(&mut engine, path, &of_a), path == "/a", "{path}");
            assert_eq!(is_taken(&mut engine, path, &common), path == "/b", "{path}");
            assert!(is_taken(&mut engine, path, &of_both), "{path}");
        }
    }
}

#[test]
fn provider_audiences_hold_where_no_resource_has_its_own() {
    let mut engine = TestEngine::new(&two(json!({}), json!({}))).with_keys();
    let (common, of_a) = (token(json!("api://default")), token(json!(A)));
    for path in ["/a", "/b", "/a"] {
        assert!(is_taken(&mut engine, path, &common));
        assert!(!is_taken(&mut engine, path, &of_a));
    }
}

#[test]
fn token_waiting_for_one_resource_is_refused_at_another() {
    let mut engine = TestEngine::new(&strict());
    let of_a = token(json!(A));
    let waiting = engine.send_waiting(bearer("/a", &of_a));
    assert!(matches!(engine.decide(bearer("/b", &of_a)), Decision::Respond(_)), "it does not wait");
    let steps = engine.serve_keys_and_hold_token_requests();
    assert!(steps.is_empty(), "decided without a token");
    let (flight, call) = engine.expect_call();
    assert_eq!(form(&call)["audience"], format!("{A}-upstream"));
    let steps = engine.callout_result(flight, &issued("up"));
    assert_eq!(steps.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [waiting]);
    assert!(!is_taken(&mut engine, "/b", &of_a), "the token that was exchanged for the one serves the other");
}

#[test]
fn log_names_the_other_resource_and_the_user_once_verified() {
    let mut engine = TestEngine::new(&strict()).with_keys();
    let of_a = token(json!(A));
    let first = detail(engine.decide(bearer("/b", &of_a)));
    assert!(first.contains("for another resource here") && first.contains("provider_unverified=okta-eu"), "{first}");
    assert!(!first.contains("subject="), "nothing was verified: {first}");
    assert!(is_taken(&mut engine, "/a", &of_a));
    let then = detail(engine.decide(bearer("/b", &of_a)));
    assert!(then.contains("for another resource here") && then.contains("subject=00ubob"), "{then}");
    let of_nobody = detail(engine.decide(bearer("/b", &token(json!("https://elsewhere.example")))));
    assert!(!of_nobody.contains("for another resource here"), "{of_nobody}");
}

#[test]
fn provider_without_exchange_is_reported_before_the_audience() {
    let mut configuration = configuration();
    configuration["resources"] = json!([
        {"url": A, "audiences": [A], "exchange": {"okta-eu": {"audience": "x"}}},
        {"url": B, "audiences": ["api://gateway"], "exchange": {"entra-us": {"resource": "api://b"}}},
    ]);
    let mut engine = TestEngine::new(&configuration).with_keys();
    let of_a = token(json!(A));
    for _ in 0..2 {
        assert_eq!(refused(engine.decide(bearer("/b", &of_a))), (403, "no_exchange".to_owned()));
        assert!(is_taken(&mut engine, "/a", &of_a));
    }
    assert_eq!(refused(engine.decide(bearer("/b", &token(json!("nobodys"))))).1, "wrong_audience");
}

#[test]
fn separate_id_token_is_for_the_client_at_every_resource() {
    let mut configuration = strict();
    configuration["identity_providers"]["okta-eu"]["subject_token"] =
        json!({"type": "id_token", "header": "x-id-token", "audiences": ["login-client"]});
    let mut engine = TestEngine::new(&configuration).with_keys();
    let id_token = OKTA_KEY.token(&bob_id());
    for (path, audience) in [("/a", A), ("/b", B)] {
        let bearer = format!("Bearer {}", token(json!(audience)));
        let fields = [("authorization", bearer.as_str()), ("x-id-token", id_token.as_str())];
        assert_eq!(authorization(engine.exchange(request("POST", path, &fields), &issued("up"))), "Bearer up");
        // The separate ID token does not admit the request.
        let crossed = format!("Bearer {}", token(json!(if audience == A { B } else { A })));
        let fields = [("authorization", crossed.as_str()), ("x-id-token", id_token.as_str())];
        assert_eq!(refused(engine.decide(request("POST", path, &fields))).1, "wrong_audience");
    }
}

#[test]
fn id_token_as_credential_must_be_for_its_resource_too() {
    let mut configuration = strict();
    configuration["identity_providers"]["okta-eu"]["subject_token"] = json!({"type": "id_token"});
    let mut engine = TestEngine::new(&configuration).with_keys();
    let of_a = OKTA_KEY.token(&with(bob_id(), json!({"aud": A})));
    assert!(is_taken(&mut engine, "/a", &of_a));
    assert!(!is_taken(&mut engine, "/b", &of_a));
}

#[test]
fn provider_needs_audiences_unless_each_resource_has_its_own() {
    parse(&strict());
    let mut one_without = strict();
    one_without["resources"][1].as_object_mut().unwrap().remove("audiences");
    let mistake = configuration_error(&one_without);
    assert_eq!((mistake.path.as_str(), mistake.found.as_str()), ("identity_providers.okta-eu.audiences", "none"));
    assert!(mistake.expected.contains("missing in resources[1]"), "{mistake}");
    // A provider without an exchange has no resource that could have the audiences.
    let mut of_nobody = configuration();
    of_nobody["identity_providers"]["okta-eu"].as_object_mut().unwrap().remove("audiences");
    of_nobody["resources"][0]["exchange"].as_object_mut().unwrap().remove("okta-eu");
    assert_eq!(configuration_error(&of_nobody).path, "identity_providers.okta-eu.audiences");
}

#[test]
fn audience_list_of_a_resource_must_be_satisfiable() {
    let id = "0b7e1c11-0000-4000-8000-000000000001";
    let other = "api://0b7e1c11-0000-4000-8000-000000000002";
    let of_entra = |audiences: Value| {
        let mut configuration = configuration();
        let entra = &mut configuration["identity_providers"]["entra-us"];
        entra["client"]["id"] = json!(id);
        entra["audiences"] = json!([id]);
        configuration["resources"] =
            json!([{"url": A, "audiences": audiences, "exchange": {"entra-us": {"resource": "api://x"}}}]);
        configuration
    };
    parse(&of_entra(json!([id, A])));
    for (audiences, path) in [
        (json!([]), "resources[0].audiences"),
        (json!("x"), "resources[0].audiences"),
        (json!([id, ""]), "resources[0].audiences[1]"),
        (json!([id, other]), "resources[0].audiences[1]"),
        (json!(["another-client"]), "resources[0].audiences[0]"),
    ] {
        assert_eq!(configuration_error(&of_entra(audiences.clone())).path, path, "{audiences}");
    }
    // With two providers, an audience that only tokens of the other can have belongs to that provider.
    let mut of_both = of_entra(json!([id, other, "api://default"]));
    of_both["resources"][0]["exchange"]["okta-eu"] = json!({"audience": "x"});
    let config = parse(&of_both);
    let [entra, okta] = config.resources[0].exchanges.as_slice() else { panic!("two providers") };
    let (entra, okta) = (&entra.audiences, &okta.audiences);
    assert_eq!(entra.as_deref().unwrap(), [id, "api://default"]);
    assert_eq!(okta.as_deref().unwrap(), [id, other, "api://default"]);
    of_both["resources"][0]["audiences"] = json!([other]);
    let mistake = configuration_error(&of_both);
    assert_eq!(mistake.path, "resources[0].audiences");
    assert!(mistake.found.contains("entra-us"), "{mistake}");
}

#[test]
fn gateway_app_is_no_exchange_target_of_any_resource() {
    let mut configuration = configuration();
    configuration["resources"][1]["audiences"] = json!(["https://own.acme.example/mcp"]);
    parse(&configuration);
    configuration["resources"][0]["exchange"]["entra-us"] = json!({"resource": "https://own.acme.example/mcp/"});
    assert_eq!(configuration_error(&configuration).path, "resources[0].exchange.entra-us");
}

#[test]
fn token_of_the_wrong_version_is_explained_by_its_resources_audiences() {
    let mut configuration = configuration();
    configuration["identity_providers"]["entra-us"]["client"]["id"] = json!("0b7e1c11-0000-4000-8000-000000000001");
    let (id, uri) = ("0b7e1c11-0000-4000-8000-000000000001", "api://gateway");
    configuration["identity_providers"]["entra-us"]["audiences"] = json!([id]);
    configuration["resources"][0]["audiences"] = json!([uri]);
    configuration["resources"][0]["exchange"].as_object_mut().unwrap().remove("okta-eu");
    configuration["resources"][1]["audiences"] = json!([id]);
    let mut engine = TestEngine::new(&configuration).with_keys();
    let v2 = |aud: &str| ENTRA_KEY.token(&with(alice(), json!({"aud": aud})));
    let at = |path: &str, engine: &mut TestEngine| {
        detail(engine.decide(bearer(path, &v2("0b7e1c11-aaaa-4000-8000-000000000009"))))
    };
    assert!(at("/github", &mut engine).contains("a v2.0 token, whose aud is the client id"));
    assert!(at("/github/admin", &mut engine).contains("a token for another app"));
}

#[test]
fn token_for_another_name_of_the_gateway_app_is_not_called_foreign() {
    let mut configuration = configuration();
    let id = "0b7e1c11-0000-4000-8000-000000000001";
    configuration["identity_providers"]["entra-us"]["client"]["id"] = json!(id);
    configuration["identity_providers"]["entra-us"]["audiences"] = json!([id, "https://mcp.acme.example/github"]);
    let mut engine = TestEngine::new(&configuration).with_keys();
    let mut told =
        |aud: &str| detail(engine.decide(bearer("/github", &ENTRA_KEY.token(&with(alice(), json!({"aud": aud}))))));
    assert!(told(&format!("api://{id}")).contains("a token for the app of client.id, by a name that audiences lacks"));
    assert!(told("api://0b7e1c11-aaaa-4000-8000-000000000009").contains("a token for another app"));
}

#[test]
fn misspelled_provider_name_is_reported_at_its_place() {
    let mut configuration = configuration();
    let entra = configuration["identity_providers"]["entra-us"].as_object_mut().unwrap();
    let audiences = entra.remove("audiences").unwrap();
    let resource = &mut configuration["resources"][0];
    resource["audiences"] = audiences;
    let exchange = resource["exchange"].as_object_mut().unwrap();
    let target = exchange.remove("entra-us").unwrap();
    exchange.insert("entra-uk".to_owned(), target);
    configuration["resources"].as_array_mut().unwrap().truncate(1);
    let error = Config::parse(configuration.to_string().as_bytes(), &environment).unwrap_err();
    assert_eq!(error.path, "resources[0].exchange.entra-uk");
    configuration["resources"][0]["exchange"].as_object_mut().unwrap().remove("entra-uk");
    let error = Config::parse(configuration.to_string().as_bytes(), &environment).unwrap_err();
    assert_eq!(error.path, "identity_providers.entra-us.audiences");
    assert!(error.expected.contains("whose exchange names it"), "{error}");
}

#[test]
fn recipe_placeholder_in_a_resources_audiences_causes_a_warning() {
    let warnings = parse(&two(json!({"audiences": ["https://MCP_HOST/a"]}), json!({"audiences": [B]}))).warnings;
    let warning = "resources[0].audiences: MCP_HOST looks like a placeholder of a recipe";
    assert!(warnings.iter().any(|text| text == warning), "{warnings:?}");
}
