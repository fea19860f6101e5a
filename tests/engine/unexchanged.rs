//! Tokens that are validated and exchanged for nothing.

use onbehalf::config::Config;
use onbehalf::engine::UpstreamAction;
use onbehalf::http::Response;
use onbehalf::telemetry::Sample;
use serde_json::{Value, json};

use crate::support::*;

const PATH: &str = "/plain";

fn none() -> Value {
    json!({"profile": "validate_only", "issuer": OKTA, "cluster": "okta", "audiences": ["api://default"]})
}

/// The users of the second provider, of whom a resource wants nothing to be exchanged.
fn unexchanged(exchange: Value) -> Value {
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"] = none();
    configuration["resources"] = json!([
        {"url": "https://mcp.acme.example/plain", "scopes": ["mcp.read"], "exchange": {"okta-eu": exchange}},
        {"url": "https://mcp.acme.example/github", "scopes_supported": ["https://mcp.acme.example/github/read"],
            "exchange": {"entra-us": {"resource": "api://github"}}},
    ]);
    configuration
}

fn ready(configuration: &Value) -> Bench {
    let mut bench = Bench::new(configuration);
    bench.tick();
    while let Some((flight, call)) = bench.engine.next_callout() {
        let reply = match call.url.as_str() {
            // It has no token endpoint, and needs none.
            "https://acme.okta.example/oauth2/default/.well-known/openid-configuration" => {
                answer_with(200, &[], &json!({"issuer": OKTA, "jwks_uri": format!("{OKTA}/v1/keys")}))
            }
            _ => provider_document(&call),
        };
        bench.reply(flight, &reply);
    }
    bench
}

/// What the log warns of in resources.
fn warnings(configuration: &Value) -> Vec<String> {
    parse(configuration).warnings.into_iter().filter(|warning| warning.starts_with("resources")).collect()
}

#[test]
fn a_token_is_removed_unless_the_resource_says_otherwise() {
    for exchange in [json!({}), json!({"forward": false})] {
        let configuration = unexchanged(exchange);
        assert!(warnings(&configuration).is_empty());
        let mut bench = ready(&configuration);
        let edits = forwarded(bench.ask(bearer(PATH, &bob_token())));
        assert!(edits.authorization.is_none());
        bench.no_call();
    }
}

#[test]
fn what_the_upstream_wants_of_nobodys_token_is_not_for_the_client() {
    for (dpop, expected) in [
        (json!({"mode": "off"}), &["www-authenticate"][..]),
        (json!({"mode": "optional"}), &["www-authenticate", "dpop-nonce"]),
    ] {
        let mut configuration = unexchanged(json!({}));
        configuration["resources"][0]["dpop"] = dpop;
        let mut bench = ready(&configuration);
        let sent = forwarded(bench.ask(bearer(PATH, &bob_token()))).sent.expect("its answer is looked at");
        let fields = ["www-authenticate", "dpop-nonce"].map(|name| (name.to_owned(), b"theirs".to_vec()));
        for status in [200, 401, 403] {
            let answer = Response { status, headers: fields.to_vec(), body: Vec::new() };
            match bench.engine.on_upstream_response(&sent, &answer, bench.now) {
                UpstreamAction::PassOn { remove } => assert_eq!(remove, expected),
                UpstreamAction::Instead(_) => panic!("{status}: there is no token to exchange anew"),
            }
        }
        assert!(forwarded(bench.ask(bearer(PATH, &bob_token()))).authorization.is_none());
    }
    // The caller's own token is the upstream's to judge.
    let mut bench = ready(&unexchanged(json!({"forward": true})));
    assert!(forwarded(bench.ask(bearer(PATH, &bob_token()))).sent.is_none());
}

#[test]
fn a_token_is_forwarded_where_the_resource_says_so_and_the_log_warns_of_it() {
    let configuration = unexchanged(json!({"forward": true}));
    let warnings = warnings(&configuration);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("resources[0].exchange.okta-eu.forward: "), "{warnings:?}");
    let mut bench = ready(&configuration);
    let token = bob_token();
    assert_eq!(authorization(bench.ask(bearer(PATH, &token))), format!("Bearer {token}"));
    // Only there, and only of that provider.
    assert_eq!(refused(bench.ask(bearer("/github", &token))).1, "no_exchange");
    assert_eq!(refused(bench.ask(bearer(PATH, &alice_token()))).1, "no_exchange");
    bench.no_call();
}

#[test]
fn what_is_not_valid_goes_no_further_than_with_an_exchange() {
    let mut bench = ready(&unexchanged(json!({"forward": true})));
    for (claims, reason) in [
        (json!({"aud": "other"}), "wrong_audience"),
        (json!({"exp": 1}), "expired"),
        (json!({"scp": ["mcp.write"]}), "insufficient_scope"),
        (json!({"client_id": "bob@acme.example"}), "not_a_user_token"),
        (json!({"nonce": "n"}), "id_token_as_access_token"),
        (json!({"cnf": {"jkt": "k"}}), "bound_token"),
        (json!({"cnf": {"x5t#S256": "c"}}), "bound_token"),
    ] {
        let token = OKTA_KEY.token(&with(bob(), claims.clone()));
        assert_eq!(refused(bench.ask(bearer(PATH, &token))).1, reason, "{claims}");
    }
    let forged = OTHER_KEY.sign(&json!({"alg": "ES256", "kid": OKTA_KEY.kid}), &bob());
    assert_eq!(refused(bench.ask(bearer(PATH, &forged))).1, "bad_signature");
    assert_eq!(refused(bench.ask(request("POST", PATH, &[]))).1, "no_credentials");
}

#[test]
fn nothing_is_counted_as_an_exchange() {
    let mut bench = ready(&unexchanged(json!({"forward": true})));
    bench.engine.counters().take();
    forwarded(bench.ask(bearer(PATH, &bob_token())));
    assert_eq!(bench.engine.counters().take(), [(Sample::Decisions("forwarded"), 1)]);
}

#[test]
fn keys_that_are_written_down_need_no_discovery_where_nothing_is_exchanged() {
    let mut configuration = unexchanged(json!({}));
    configuration["identity_providers"].as_object_mut().unwrap().remove("entra-us");
    configuration["resources"].as_array_mut().unwrap().truncate(1);
    // No client is left whose secret could protect what workers share.
    configuration["shared_data_secret"] = json!({"inline": "0123456789abcdef0123456789abcdef0123456789abcdef"});
    configuration["identity_providers"]["okta-eu"]["jwks"] = serde_json::from_slice(&key_set(&[&OKTA_KEY])).unwrap();
    let mut bench = Bench::new(&configuration);
    bench.tick();
    bench.no_call();
    assert!(forwarded(bench.ask(bearer(PATH, &bob_token()))).authorization.is_none());
}

#[test]
fn keys_reach_other_workers_also_without_a_token_endpoint() {
    let configuration = unexchanged(json!({}));
    let shared = SharedMap::default();
    let mut one = Bench::beside(&configuration, &shared);
    one.tick();
    while let Some((flight, call)) = one.engine.next_callout() {
        one.reply(flight, &provider_document(&call));
    }
    let mut other = Bench::beside(&configuration, &shared);
    other.tick();
    other.no_call();
    assert!(forwarded(other.ask(bearer(PATH, &bob_token()))).authorization.is_none());
}

#[test]
fn what_an_exchange_would_need_is_refused_beside_none() {
    let at = |change: &dyn Fn(&mut Value)| {
        let mut configuration = unexchanged(json!({"forward": true}));
        change(&mut configuration);
        Config::parse(configuration.to_string().as_bytes(), &environment)
            .map(|_| ())
            .map_err(|error| error.path.clone())
    };
    assert_eq!(at(&|_| {}), Ok(()));
    let client = configuration()["identity_providers"]["okta-eu"]["client"].clone();
    for (name, value) in [
        ("client", client),
        ("token_endpoint", json!("https://acme.okta.example/token")),
        ("retries", json!(1)),
        ("subject_token", json!({"type": "id_token", "header": "x-id-token", "audiences": ["c"]})),
    ] {
        let path = format!("identity_providers.okta-eu.{name}");
        assert_eq!(at(&|whole| whole["identity_providers"]["okta-eu"][name] = value.clone()), Err(path));
    }
    for (name, value) in [
        ("audience", json!("a")),
        ("scopes", json!(["s"])),
        ("parameters", json!({"a": "b"})),
        ("forward", json!("kept")),
        ("forward", json!("true")),
    ] {
        let path = format!("resources[0].exchange.okta-eu.{name}");
        assert_eq!(at(&|whole| whole["resources"][0]["exchange"]["okta-eu"][name] = value.clone()), Err(path));
    }
    // Only a profile that exchanges nothing has a word about the caller's own token.
    let path = "resources[1].exchange.entra-us.forward".to_owned();
    assert_eq!(at(&|whole| whole["resources"][1]["exchange"]["entra-us"]["forward"] = json!(true)), Err(path));
    // A bound token proves nothing behind here.
    for (name, value) in [("dpop", json!({"mode": "optional"})), ("certificate_bound_tokens", json!("required"))] {
        let path = "resources[0].exchange.okta-eu.forward".to_owned();
        assert_eq!(at(&|whole| whole["resources"][0][name] = value.clone()), Err(path));
        assert_eq!(
            at(&|whole| {
                whole["resources"][0][name] = value.clone();
                whole["resources"][0]["exchange"]["okta-eu"] = json!({});
            }),
            Ok(())
        );
    }
}
