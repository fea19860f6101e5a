//! `tls_client_auth`, and clients that the cluster authenticates.

use onbehalf::http::CalloutResult;
use onbehalf_test_support::{
    ENTRA, ENTRA_KEY, SharedMap, TestEngine, alice_token, answer, answer_with, bearer, key_set, refused,
};
use serde_json::{Value, json};

use super::{field, proof, with_client};

#[test]
fn tls_client_auth_sends_the_client_id_and_no_secret() {
    for method in ["tls_client_auth", "self_signed_tls_client_auth"] {
        let mut engine = TestEngine::new(&with_client(json!({"method": method}))).with_keys();
        engine.send_waiting(bearer("/github", &alice_token()));
        assert_eq!(proof(&engine.expect_call().1), (vec![field("client_id", "gateway-id")], false), "{method}");
    }
}

#[test]
fn client_authenticated_by_the_cluster_sends_no_credential() {
    let mut engine = TestEngine::new(&with_client(json!({"method": "envoy_injected"}))).with_keys();
    engine.send_waiting(bearer("/github", &alice_token()));
    assert_eq!(proof(&engine.expect_call().1), (vec![], false));
}

const ALIAS: &str = "https://login.entra.example/mtls/token";

/// Entra's metadata with `mtls_endpoint_aliases`.
fn metadata(aliases: &Value) -> CalloutResult {
    let at = |path: &str| format!("https://login.entra.example/{path}");
    answer_with(
        200,
        &[],
        &json!({"issuer": ENTRA, "jwks_uri": at("keys"), "token_endpoint": at("token"), "mtls_endpoint_aliases": aliases}),
    )
}

/// The URL of the token request, or the refusal.
fn exchanged_at(configuration: &Value, aliases: &Value) -> Result<String, (u16, String)> {
    exchanged_after(configuration, &metadata(aliases))
}

fn exchanged_after(configuration: &Value, metadata: &CalloutResult) -> Result<String, (u16, String)> {
    let copy = || match metadata {
        CalloutResult::Response(response) => answer(response.status, &response.body),
        _ => panic!("no response"),
    };
    let mut engine = TestEngine::new(configuration);
    engine.send_waiting(bearer("/github", &alice_token()));
    while let Some((flight, call)) = engine.inner.next_callout() {
        let reply = match call.url.path() {
            path if path.contains("/.well-known/") => copy(),
            "/keys" => answer(200, &key_set(&[&ENTRA_KEY])),
            _ => return Ok(call.url.as_str().to_owned()),
        };
        if let Some((_, step)) = engine.callout_result(flight, &reply).pop() {
            return Err(refused(step));
        }
    }
    panic!("neither a token request nor a refusal")
}

#[test]
fn mtls_endpoint_alias_is_used_on_the_same_host_only() {
    let usual = "https://login.entra.example/token".to_owned();
    let mutual = with_client(json!({"method": "tls_client_auth"}));
    let aliases = json!({"token_endpoint": ALIAS, "revocation_endpoint": "https://mtls.entra.example/revoke"});
    assert_eq!(exchanged_at(&mutual, &aliases), Ok(ALIAS.to_owned()));
    // RFC 8705 section 5: without an alias, the client uses the usual endpoint.
    for aliases in
        [json!({}), json!({"revocation_endpoint": ALIAS}), json!({"token_endpoint": null}), json!("none"), Value::Null]
    {
        assert_eq!(exchanged_at(&mutual, &aliases), Ok(usual.clone()), "{aliases}");
    }
    // A document cannot choose another host.
    for bad in [
        json!("https://mtls.entra.example/token"),
        json!("https://login.entra.example:8443/token"),
        json!("http://login.entra.example/token"),
        json!(7),
    ] {
        let found = exchanged_at(&mutual, &json!({"token_endpoint": bad}));
        assert_eq!(found, Err((503, "jwks_unavailable".to_owned())), "{bad}");
    }
    // The operator can: another cluster is another server.
    let mut own_cluster = mutual.clone();
    own_cluster["identity_providers"]["entra-us"]["token_cluster"] = json!("mtls");
    let elsewhere = "https://mtls.entra.example/token".to_owned();
    assert_eq!(exchanged_at(&own_cluster, &json!({"token_endpoint": elsewhere})), Ok(elsewhere));
    let mut by_hand = mutual;
    by_hand["identity_providers"]["entra-us"]["token_endpoint"] = json!("https://mtls.entra.example/by-hand");
    let found = exchanged_at(&by_hand, &json!({"token_endpoint": "https://other.entra.example/token"}));
    assert_eq!(found, Ok("https://mtls.entra.example/by-hand".to_owned()));
    // Clients with another method do not use the alias.
    for authentication in
        [json!({"method": "envoy_injected"}), json!({"method": "client_secret_post", "secret": {"inline": "s"}})]
    {
        assert_eq!(exchanged_at(&with_client(authentication), &aliases), Ok(usual.clone()));
    }
}

#[test]
fn alias_is_read_among_members_that_nobody_can_read() {
    let mutual = with_client(json!({"method": "tls_client_auth"}));
    let found = |aliases: &str| {
        let CalloutResult::Response(response) = metadata(&json!("~")) else { panic!("no response") };
        let document = String::from_utf8(response.body).unwrap().replace(r#""~""#, aliases);
        exchanged_after(&mutual, &answer(200, document.as_bytes()))
    };
    let alias = format!(r#""token_endpoint":"{ALIAS}""#);
    for odd in [r#""x":1e400"#, r#""x":1,"x":2"#, r#""x":"\ud800""#] {
        assert_eq!(found(&format!("{{{odd},{alias}}}")), Ok(ALIAS.to_owned()), "{odd}");
    }
    for twice in [
        format!("{{{alias},{alias}}}"),
        format!(r#"{{{alias}}},"mtls_endpoint_aliases":{{{alias}}}"#),
        r#"{"token_endpoint":"\ud800"}"#.to_owned(),
    ] {
        assert_eq!(found(&twice), Err((503, "jwks_unavailable".to_owned())), "{twice}");
    }
}

#[test]
fn endpoints_are_not_shared_between_authentication_methods() {
    let shared = SharedMap::default();
    let worker = |method: &str| TestEngine::sharing(&with_client(json!({"method": method})), &shared);
    let fetch = |engine: &mut TestEngine| {
        engine.tick();
        let calls = std::iter::from_fn(|| engine.inner.next_callout()).collect::<Vec<_>>();
        let urls: Vec<_> = calls.iter().map(|(_, call)| call.url.as_str().to_owned()).collect();
        for (flight, call) in calls {
            if call.url.as_str().starts_with("https://login.entra.example") {
                engine.callout_result(flight, &metadata(&json!({"token_endpoint": ALIAS})));
                let (flight, _) = engine.expect_call();
                engine.callout_result(flight, &answer(200, &key_set(&[&ENTRA_KEY])));
            }
        }
        urls.iter().any(|url| url.starts_with("https://login.entra.example"))
    };
    let endpoint = |engine: &mut TestEngine| {
        engine.send_waiting(bearer("/github", &alice_token()));
        engine.expect_call().1.url.as_str().to_owned()
    };
    let mut upstream = worker("envoy_injected");
    assert!(fetch(&mut upstream));
    let mut same = worker("envoy_injected");
    assert!(!fetch(&mut same), "what is there is taken over");
    assert_eq!(endpoint(&mut same), "https://login.entra.example/token");
    let mut mutual = worker("tls_client_auth");
    assert!(fetch(&mut mutual), "it looks for itself");
    assert_eq!(endpoint(&mut mutual), ALIAS);
}
