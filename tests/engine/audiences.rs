//! A caller's token is good at the resource that it is for, and at no other (RFC 8707 section 2).

use onbehalf::config::{Config, ConfigError};
use onbehalf::engine::Decision;
use serde_json::{Value, json};

use crate::support::*;

const A: &str = "https://mcp.acme.example/a";
const B: &str = "https://mcp.acme.example/b";

/// Two resources of Okta's users, each with what is given of it.
fn two(a: Value, b: Value) -> Value {
    let resource = |url: &str, more: Value| {
        with(json!({"url": url, "exchange": {"okta-eu": {"audience": format!("{url}-upstream")}}}), more)
    };
    let mut configuration = configuration();
    configuration["resources"] = json!([resource(A, a), resource(B, b)]);
    configuration["identity_providers"].as_object_mut().unwrap().remove("entra-us");
    configuration
}

/// Each with its own URL for an audience, which nothing else has.
fn strict() -> Value {
    let mut configuration = two(json!({"audiences": [A]}), json!({"audiences": [B]}));
    configuration["identity_providers"]["okta-eu"].as_object_mut().unwrap().remove("audiences");
    configuration
}

fn token(audience: Value) -> String {
    OKTA_KEY.token(&with(bob(), json!({"aud": audience})))
}

fn ready(configuration: &Value) -> Bench {
    Bench::new(configuration).with_keys()
}

/// Whether a token is taken at a path: exchanged, or served from the cache.
fn is_taken(bench: &mut Bench, path: &str, token: &str) -> bool {
    match bench.ask(bearer(path, token)) {
        Decision::Pause => {
            let (flight, _) = bench.call();
            let steps = bench.reply(flight, &issued("up"));
            assert_eq!(steps.into_iter().map(|(_, step)| authorization(step)).collect::<Vec<_>>(), ["Bearer up"]);
            true
        }
        Decision::Forward(edits) => edits.authorization.is_some_and(|token| token.reveal() == "Bearer up"),
        refusal @ Decision::Respond(_) => {
            assert_eq!(refused(refusal), (401, "wrong_audience".to_owned()));
            bench.no_call();
            false
        }
    }
}

fn detail(step: Decision) -> String {
    answered(step).audit.facts().map(|(name, value)| format!("{name}={value} ")).collect()
}

#[test]
fn a_token_for_another_resource_is_refused_before_any_key_is_fetched() {
    let mut bench = Bench::new(&strict());
    for (path, aud) in [("/b", json!(A)), ("/a", json!(B)), ("/a", json!([B, "x"])), ("/a", json!("api://default"))] {
        assert!(!is_taken(&mut bench, path, &token(aud.clone())), "{path} {aud}");
    }
    // One that is for it waits for the keys.
    bench.wait(bearer("/a", &token(json!(A))));
    // So it is where the provider's list counts.
    let mut bench = Bench::new(&two(json!({"audiences": [A]}), json!({})));
    assert!(!is_taken(&mut bench, "/b", &token(json!(A))));
    assert!(!is_taken(&mut bench, "/a", &token(json!("api://default"))));
    bench.wait(bearer("/b", &token(json!("api://default"))));
}

#[test]
fn a_token_that_was_verified_for_one_resource_is_refused_at_another() {
    let mut bench = ready(&strict());
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
            assert_eq!(is_taken(&mut bench, path, token), expected, "{path}");
        }
    }
}

#[test]
fn a_refusal_at_one_resource_does_not_keep_a_token_from_its_own() {
    let mut bench = ready(&strict());
    let of_a = token(json!(A));
    assert!(!is_taken(&mut bench, "/b", &of_a));
    assert!(is_taken(&mut bench, "/a", &of_a));
}

#[test]
fn without_a_list_of_its_own_a_resource_takes_the_providers_and_no_other_resources() {
    // In either order: what one resource found out about a token says nothing of the other.
    let configuration = two(json!({"audiences": [A]}), json!({}));
    for first in ["/a", "/b"] {
        let mut bench = ready(&configuration);
        let (of_a, common, of_both) =
            (token(json!(A)), token(json!("api://default")), token(json!([A, "api://default"])));
        for path in [first, "/a", "/b", "/a", "/b"] {
            assert_eq!(is_taken(&mut bench, path, &of_a), path == "/a", "{path}");
            assert_eq!(is_taken(&mut bench, path, &common), path == "/b", "{path}");
            assert!(is_taken(&mut bench, path, &of_both), "{path}");
        }
    }
}

#[test]
fn one_list_for_all_is_what_counts_where_no_resource_has_another() {
    let mut bench = ready(&two(json!({}), json!({})));
    let (common, of_a) = (token(json!("api://default")), token(json!(A)));
    for path in ["/a", "/b", "/a"] {
        assert!(is_taken(&mut bench, path, &common));
        assert!(!is_taken(&mut bench, path, &of_a));
    }
}

#[test]
fn whoever_waits_for_one_resource_does_not_get_into_another() {
    let mut bench = Bench::new(&strict());
    let of_a = token(json!(A));
    let waiting = bench.wait(bearer("/a", &of_a));
    assert!(matches!(bench.ask(bearer("/b", &of_a)), Decision::Respond(_)), "it does not wait");
    let steps = bench.serve_keys_until_post();
    assert!(steps.is_empty(), "decided without a token");
    let (flight, call) = bench.call();
    assert_eq!(form(&call)["audience"], format!("{A}-upstream"));
    let steps = bench.reply(flight, &issued("up"));
    assert_eq!(steps.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [waiting]);
    assert!(!is_taken(&mut bench, "/b", &of_a), "the token that was exchanged for the one serves the other");
}

#[test]
fn the_log_says_that_the_token_is_for_another_resource_and_whose_it_is_once_that_is_known() {
    let mut bench = ready(&strict());
    let of_a = token(json!(A));
    let first = detail(bench.ask(bearer("/b", &of_a)));
    assert!(first.contains("for another resource here") && first.contains("provider_unverified=okta-eu"), "{first}");
    assert!(!first.contains("subject="), "nothing was verified: {first}");
    assert!(is_taken(&mut bench, "/a", &of_a));
    let then = detail(bench.ask(bearer("/b", &of_a)));
    assert!(then.contains("for another resource here") && then.contains("subject=00ubob"), "{then}");
    let of_nobody = detail(bench.ask(bearer("/b", &token(json!("https://elsewhere.example")))));
    assert!(!of_nobody.contains("for another resource here"), "{of_nobody}");
}

#[test]
fn users_without_business_at_a_resource_hear_that_and_nothing_of_audiences() {
    let mut configuration = configuration();
    configuration["resources"] = json!([
        {"url": A, "audiences": [A], "exchange": {"okta-eu": {"audience": "x"}}},
        {"url": B, "audiences": ["api://gateway"], "exchange": {"entra-us": {"resource": "api://b"}}},
    ]);
    let mut bench = ready(&configuration);
    let of_a = token(json!(A));
    for _ in 0..2 {
        assert_eq!(refused(bench.ask(bearer("/b", &of_a))), (403, "no_exchange".to_owned()));
        assert!(is_taken(&mut bench, "/a", &of_a));
    }
    assert_eq!(refused(bench.ask(bearer("/b", &token(json!("nobodys"))))).1, "wrong_audience");
}

#[test]
fn an_id_token_that_comes_beside_is_for_the_client_whatever_the_resource_is() {
    let mut configuration = strict();
    configuration["identity_providers"]["okta-eu"]["subject_token"] =
        json!({"type": "id_token", "header": "x-id-token", "audiences": ["login-client"]});
    let mut bench = ready(&configuration);
    let id_token = OKTA_KEY.token(&bob_id());
    for (path, audience) in [("/a", A), ("/b", B)] {
        let bearer = format!("Bearer {}", token(json!(audience)));
        let fields = [("authorization", bearer.as_str()), ("x-id-token", id_token.as_str())];
        assert_eq!(authorization(bench.exchange(request("POST", path, &fields), &issued("up"))), "Bearer up");
        // The one that comes beside does not open it.
        let crossed = format!("Bearer {}", token(json!(if audience == A { B } else { A })));
        let fields = [("authorization", crossed.as_str()), ("x-id-token", id_token.as_str())];
        assert_eq!(refused(bench.ask(request("POST", path, &fields))).1, "wrong_audience");
    }
}

#[test]
fn an_id_token_in_the_place_of_an_access_token_is_for_its_resource_too() {
    let mut configuration = strict();
    configuration["identity_providers"]["okta-eu"]["subject_token"] = json!({"type": "id_token"});
    let mut bench = ready(&configuration);
    let of_a = OKTA_KEY.token(&with(bob_id(), json!({"aud": A})));
    assert!(is_taken(&mut bench, "/a", &of_a));
    assert!(!is_taken(&mut bench, "/b", &of_a));
}

fn error(configuration: &Value) -> ConfigError {
    Config::parse(configuration.to_string().as_bytes(), &environment).expect_err("a mistake")
}

#[test]
fn a_provider_needs_a_list_unless_each_of_its_resources_has_one() {
    parse(&strict());
    let mut one_without = strict();
    one_without["resources"][1].as_object_mut().unwrap().remove("audiences");
    let mistake = error(&one_without);
    assert_eq!((mistake.path.as_str(), mistake.found.as_str()), ("identity_providers.okta-eu.audiences", "none"));
    assert!(mistake.expected.contains("missing in resources[1]"), "{mistake}");
    // A provider that nobody is exchanged for has no other place for it.
    let mut of_nobody = configuration();
    of_nobody["identity_providers"]["okta-eu"].as_object_mut().unwrap().remove("audiences");
    of_nobody["resources"][0]["exchange"].as_object_mut().unwrap().remove("okta-eu");
    assert_eq!(error(&of_nobody).path, "identity_providers.okta-eu.audiences");
}

#[test]
fn a_list_of_a_resource_has_something_in_it_that_its_tokens_can_have() {
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
        assert_eq!(error(&of_entra(audiences.clone())).path, path, "{audiences}");
    }
    // With two providers, an audience that the tokens of one cannot have is the other's.
    let mut of_both = of_entra(json!([id, other, "api://default"]));
    of_both["resources"][0]["exchange"]["okta-eu"] = json!({"audience": "x"});
    let config = parse(&of_both);
    let [entra, okta] = config.resources[0].audiences.as_slice() else { panic!("two providers") };
    assert_eq!(entra.as_deref().unwrap(), [id, "api://default"]);
    assert_eq!(okta.as_deref().unwrap(), [id, other, "api://default"]);
    of_both["resources"][0]["audiences"] = json!([other]);
    let mistake = error(&of_both);
    assert_eq!(mistake.path, "resources[0].audiences");
    assert!(mistake.found.contains("entra-us"), "{mistake}");
}

#[test]
fn the_proxys_own_app_is_no_target_whichever_resource_names_its_audience() {
    let mut configuration = configuration();
    configuration["resources"][1]["audiences"] = json!(["https://own.acme.example/mcp"]);
    parse(&configuration);
    configuration["resources"][0]["exchange"]["entra-us"] = json!({"resource": "https://own.acme.example/mcp/"});
    assert_eq!(error(&configuration).path, "resources[0].exchange.entra-us");
}

#[test]
fn a_token_of_the_wrong_version_is_explained_by_the_list_of_its_resource() {
    let mut configuration = configuration();
    configuration["identity_providers"]["entra-us"]["client"]["id"] = json!("0b7e1c11-0000-4000-8000-000000000001");
    let (id, uri) = ("0b7e1c11-0000-4000-8000-000000000001", "api://gateway");
    configuration["identity_providers"]["entra-us"]["audiences"] = json!([id]);
    configuration["resources"][0]["audiences"] = json!([uri]);
    configuration["resources"][0]["exchange"].as_object_mut().unwrap().remove("okta-eu");
    configuration["resources"][1]["audiences"] = json!([id]);
    let mut bench = ready(&configuration);
    let v2 = |aud: &str| ENTRA_KEY.token(&with(alice(), json!({"aud": aud})));
    let at =
        |path: &str, bench: &mut Bench| detail(bench.ask(bearer(path, &v2("0b7e1c11-aaaa-4000-8000-000000000009"))));
    assert!(at("/github", &mut bench).contains("a v2.0 token, whose aud is the client id"));
    assert!(at("/github/admin", &mut bench).contains("a token for another app"));
}

#[test]
fn a_token_for_the_proxys_app_by_another_name_is_not_called_anothers() {
    let mut configuration = configuration();
    let id = "0b7e1c11-0000-4000-8000-000000000001";
    configuration["identity_providers"]["entra-us"]["client"]["id"] = json!(id);
    configuration["identity_providers"]["entra-us"]["audiences"] = json!([id, "https://mcp.acme.example/github"]);
    let mut bench = ready(&configuration);
    let mut told =
        |aud: &str| detail(bench.ask(bearer("/github", &ENTRA_KEY.token(&with(alice(), json!({"aud": aud}))))));
    assert!(told(&format!("api://{id}")).contains("a token for the app of client.id, by a name that audiences lacks"));
    assert!(told("api://0b7e1c11-aaaa-4000-8000-000000000009").contains("a token for another app"));
}

#[test]
fn a_typing_mistake_in_a_providers_name_is_found_where_it_is() {
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
fn the_log_warns_where_resources_take_each_others_tokens_because_nobody_said_which_are_theirs() {
    let warned = |configuration: &Value| {
        let warnings = parse(configuration).warnings;
        let about_lists = |text: &String| text.starts_with("identity_providers.okta-eu.audiences: ");
        warnings.into_iter().filter(about_lists).collect::<Vec<_>>()
    };
    let both = warned(&two(json!({}), json!({})));
    assert_eq!(both.len(), 1);
    assert!(both[0].contains(&format!("they hold for {A}, {B}, so")), "{both:?}");
    // One list would do, if it had nothing in common with the other.
    let overlapping = warned(&two(json!({"audiences": [A, "api://default"]}), json!({})));
    assert_eq!(overlapping.len(), 1);
    let words = format!("they hold for {B}, so a token that was meant for one of {A}, {B} is accepted there");
    assert!(overlapping[0].contains(&words), "{overlapping:?}");
    for quiet in [
        strict(),
        two(json!({"audiences": [A]}), json!({})),
        // The operator has said so.
        two(json!({"audiences": ["api://default"]}), json!({"audiences": ["api://default"]})),
    ] {
        assert_eq!(warned(&quiet), [""; 0]);
    }
    let mut alone = two(json!({}), json!({}));
    alone["resources"].as_array_mut().unwrap().pop();
    assert_eq!(warned(&alone), [""; 0]);
    // Another provider's users have nothing to do with it.
    let mut of_others = two(json!({}), json!({}));
    of_others["identity_providers"]["entra-us"] = configuration()["identity_providers"]["entra-us"].clone();
    of_others["resources"][1]["exchange"] = json!({"entra-us": {"resource": "api://b"}});
    assert_eq!(warned(&of_others), [""; 0]);
}

#[test]
fn a_word_of_a_recipe_in_the_list_of_a_resource_is_warned_about() {
    let warnings = parse(&two(json!({"audiences": ["https://MCP_HOST/a"]}), json!({"audiences": [B]}))).warnings;
    let warning = "resources[0].audiences: MCP_HOST looks like a placeholder of a recipe";
    assert!(warnings.iter().any(|text| text == warning), "{warnings:?}");
}
