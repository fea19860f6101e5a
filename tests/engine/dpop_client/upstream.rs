//! Proofs and nonces for the upstream.

use jwt_simple::algorithms::{ECDSAP256KeyPairLike as _, ES256KeyPair};
use onbehalf::config::Config;
use onbehalf::engine::HeaderMutations;
use onbehalf::engine::{Decision, UpstreamAction};
use onbehalf::http::{Request, Response};
use onbehalf::provider::{Hop, SecretVersion, SubjectInput, TokenRequest};
use onbehalf::url::Url;
use onbehalf_test_support::{
    NOW, OKTA_KEY, SharedMap, TestEngine, answer_with, answered, authorization, bearer, bob_id, bob_token,
    configuration, forwarded, header, issued, parse, refused, request, sha256_base64url, with,
};
use serde_json::{Value, json};
use std::time::Duration;

use super::{TOKEN_ENDPOINT, as_dpop, bound, claims, nonce_of, pem, proof, user, verify_proof, with_key};

/// The header edits of a request whose token is in the cache.
fn goes_on(engine: &mut TestEngine, request: Request) -> HeaderMutations {
    forwarded(engine.decide(request))
}

#[test]
fn bound_token_is_forwarded_with_a_fresh_proof_for_each_request() {
    let mut engine = TestEngine::new(&as_dpop()).with_keys();
    let edits = forwarded(engine.exchange(bearer("/github", &bob_token()), &bound("up", &[])));
    assert_eq!(edits.authorization.as_ref().unwrap().reveal(), "DPoP up");
    let first = proof(&edits);
    verify_proof(&first, "POST", "https://mcp.acme.example/github", "up").unwrap();
    // The token comes from the cache.
    let bearer = format!("Bearer {}", bob_token());
    let edits = goes_on(&mut engine, request("GET", "/github/a%20b?x=1", &[("authorization", &bearer)]));
    assert_eq!(edits.authorization.as_ref().unwrap().reveal(), "DPoP up");
    let second = proof(&edits);
    let url = "https://mcp.acme.example/github/a%20b";
    verify_proof(&second, "GET", url, "up").unwrap();
    assert_eq!(claims(&second)["htu"], url);
    assert_eq!(claims(&second)["ath"], sha256_base64url(b"up"));
    assert_ne!(claims(&first)["jti"], claims(&second)["jti"]);
    for (method, url, token) in
        [("POST", url, "up"), ("GET", "https://mcp.acme.example/github", "up"), ("GET", url, "other")]
    {
        assert!(verify_proof(&second, method, url, token).is_err());
    }
}

#[test]
fn callers_proof_is_never_forwarded() {
    let mut engine = TestEngine::new(&as_dpop()).with_keys();
    authorization(engine.exchange(bearer("/github", &bob_token()), &bound("up", &[])));
    let bearer_token = format!("Bearer {}", bob_token());
    let fields = [("authorization", bearer_token.as_str()), ("dpop", "theirs"), ("dpop", "theirs too")];
    let edits = goes_on(&mut engine, request("POST", "/github", &fields));
    assert!(edits.remove.contains(&"dpop".to_owned()));
    verify_proof(&proof(&edits), "POST", "https://mcp.acme.example/github", "up").unwrap();
    // A resource without proofs forwards no proof at all.
    let mut engine = TestEngine::ready();
    authorization(engine.exchange(bearer("/github", &bob_token()), &issued("up")));
    let edits = goes_on(&mut engine, request("POST", "/github", &fields));
    assert!(edits.remove.contains(&"dpop".to_owned()) && edits.proof.is_none());
}

#[test]
fn upstream_proof_has_the_configured_upstream_url() {
    let upstream = json!({"token_type": "dpop", "upstream_url": "https://internal.example/v1/mcp"});
    let mut engine = TestEngine::new(&with_key(&pem(), "ES256", upstream)).with_keys();
    authorization(engine.exchange(bearer("/github", &bob_token()), &bound("up", &[])));
    for (path, expected) in
        [("/github?q", "https://internal.example/v1/mcp"), ("/github/a/b", "https://internal.example/v1/mcp/a/b")]
    {
        let edits = goes_on(&mut engine, bearer(path, &bob_token()));
        assert_eq!(claims(&proof(&edits))["htu"], expected);
        verify_proof(&proof(&edits), "POST", expected, "up").unwrap();
    }
}

#[test]
fn upstream_nonce_is_in_later_proofs_for_that_upstream_only() {
    let mut configuration = as_dpop();
    configuration["resources"][1]["scopes"] = json!([]);
    configuration["resources"][1]["exchange"]["okta-eu"] =
        json!({"audience": "com.acme.admin", "scopes": ["admin"], "token_type": "dpop"});
    let mut engine = TestEngine::new(&configuration).with_keys();
    authorization(engine.exchange(bearer("/github", &bob_token()), &bound("up", &[])));
    authorization(engine.exchange(bearer("/github/admin", &bob_token()), &bound("admin", &[])));
    let nonce = |engine: &mut TestEngine, path: &str| {
        claims(&proof(&goes_on(engine, bearer(path, &bob_token()))))["nonce"].clone()
    };
    assert_eq!(nonce(&mut engine, "/github"), Value::Null);
    let says = |engine: &mut TestEngine, fields: &[&str]| {
        let edits = goes_on(engine, bearer("/github", &bob_token()));
        let fields: Vec<_> = fields.iter().map(|field| ("dpop-nonce", *field)).collect();
        assert!(matches!(answered_with(engine, &edits, 200, &fields), UpstreamAction::PassOn { .. }));
        nonce(engine, "/github")
    };
    assert_eq!(says(&mut engine, &["u1"]), "u1");
    assert_eq!(says(&mut engine, &[]), "u1");
    assert_eq!(says(&mut engine, &["u2"]), "u2");
    for hostile in [&["a b"][..], &["a\r\nb"], &["x", "y"], &[&"n".repeat(1025)]] {
        assert_eq!(says(&mut engine, hostile), "u2");
    }
    assert_eq!(nonce(&mut engine, "/github/admin"), Value::Null);
    engine.send_waiting(bearer("/github", &user("another")));
    assert_eq!(nonce_of(&engine.expect_call().1), Value::Null, "the provider's is another");
}

/// Status and `authorization` after a token response with this `token_type`, or status and reason of the refusal.
fn after(more: Value, kind: &str) -> (u16, String) {
    let mut engine = TestEngine::new(&with_key(&pem(), "ES256", more)).with_keys();
    let body = json!({"access_token": "up", "token_type": kind, "expires_in": 3600});
    match engine.exchange(bearer("/github", &bob_token()), &answer_with(200, &[], &body)) {
        Decision::Forward(edits) => (200, edits.authorization.unwrap().reveal().to_owned()),
        step => refused(step),
    }
}

#[test]
fn token_type_must_be_the_one_the_resource_presents() {
    let refused = (502, "provider_answer_invalid".to_owned());
    for kind in ["DPoP", "dpop", "DPOP"] {
        assert_eq!(after(json!({"token_type": "dpop"}), kind), (200, "DPoP up".to_owned()), "{kind}");
        assert_eq!(after(json!({}), kind), refused, "{kind}");
        assert_eq!(after(json!({"token_type": "bearer"}), kind), refused, "{kind}");
    }
    for kind in ["Bearer", "bearer"] {
        assert_eq!(after(json!({"token_type": "dpop"}), kind), refused, "a downgrade");
        assert_eq!(after(json!({}), kind), (200, "Bearer up".to_owned()));
    }
    for kind in ["", "N_A", "PoP", "DPoP ", "mac"] {
        assert_eq!(after(json!({"token_type": "dpop"}), kind), refused, "{kind}");
        assert_eq!(after(json!({}), kind), refused, "{kind}");
    }
    // Without a key there is no proof.
    let mut engine = TestEngine::ready();
    assert_eq!(
        onbehalf_test_support::refused(engine.exchange(bearer("/github", &bob_token()), &bound("up", &[]))),
        refused
    );
}

#[test]
fn log_has_a_remedy_for_a_token_of_the_wrong_type() {
    let config = |more: Value| parse(&with_key(&pem(), "ES256", more));
    let problem = |config: &Config, kind: &str| {
        let request = TokenRequest {
            provider: &config.providers[1],
            target: config.resources[0].exchanges[1].target.exchange().unwrap(),
            token_endpoint: &Url::parse(TOKEN_ENDPOINT).unwrap(),
            subject: SubjectInput { token: "subject", is_id_token: false, ..SubjectInput::default() },
            hop: Hop::IdentityProvider,
            secret_version: SecretVersion::Current,
            nonce: None,
            assertion: None,
            has_worked: false,
            shows_descriptions: false,
        };
        let body = json!({"access_token": "up", "token_type": kind, "expires_in": 3600});
        request.read(&answer_with(200, &[], &body), &[], NOW).unwrap_err().to_string()
    };
    let bound = problem(&config(json!({})), "DPoP");
    assert!(bound.contains("token_type: dpop") && bound.contains("switch off"), "{bound}");
    let plain = problem(&config(json!({"token_type": "dpop"})), "Bearer");
    assert!(plain.contains("bind the app"), "{plain}");
}

#[test]
fn unexchanged_token_gets_no_upstream_proof() {
    let mut configuration = as_dpop();
    configuration["identity_providers"]["okta-eu"]["subject_token"] =
        json!({"type": "id_token", "header": "x-id-token", "audiences": ["login-client"]});
    let mut engine = TestEngine::new(&configuration).with_keys();
    let (bearer_token, id_token) = (format!("Bearer {}", bob_token()), OKTA_KEY.token(&bob_id()));
    let fields = [("authorization", bearer_token.as_str()), ("x-id-token", &id_token)];
    let step = engine.exchange(request("POST", "/github", &fields), &bound(&bob_token(), &[]));
    assert_eq!(refused(step).1, "provider_answer_invalid");
}

#[test]
fn token_types_of_one_exchange_are_cached_separately() {
    let mut configuration = as_dpop();
    configuration["resources"][1]["scopes"] = json!([]);
    configuration["resources"][1]["exchange"]["okta-eu"] =
        with(configuration["resources"][0]["exchange"]["okta-eu"].clone(), json!({"token_type": null}));
    let mut engine = TestEngine::new(&configuration).with_keys();
    let edits = forwarded(engine.exchange(bearer("/github", &bob_token()), &bound("up", &[])));
    assert!(edits.proof.is_some());
    let edits = forwarded(engine.exchange(bearer("/github/admin", &bob_token()), &issued("plain")));
    assert_eq!(edits.authorization.unwrap().reveal(), "Bearer plain");
    assert!(edits.proof.is_none());
}

#[test]
fn bound_token_is_shared_only_with_workers_of_the_same_key() {
    let shared = SharedMap::default();
    let mut first = TestEngine::sharing(&as_dpop(), &shared).with_keys();
    authorization(first.exchange(bearer("/github", &bob_token()), &bound("up", &[])));
    let mut second = TestEngine::sharing(&as_dpop(), &shared).with_keys();
    let edits = goes_on(&mut second, bearer("/github", &bob_token()));
    assert_eq!(edits.authorization.as_ref().unwrap().reveal(), "DPoP up");
    verify_proof(&proof(&edits), "POST", "https://mcp.acme.example/github", "up").unwrap();
    // The key of shared memory comes from the client secrets, which are the same.
    let other = ES256KeyPair::generate().key_pair().to_pem().unwrap();
    let mut third = TestEngine::sharing(&with_key(&other, "ES256", json!({"token_type": "dpop"})), &shared).with_keys();
    third.send_waiting(bearer("/github", &bob_token()));
    assert_eq!(third.expect_call().1.method, "POST");
}

/// The decision on the upstream's response to a request with these edits.
fn answered_with(
    engine: &mut TestEngine,
    edits: &HeaderMutations,
    status: u16,
    headers: &[(&str, &str)],
) -> UpstreamAction {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    let answer = Response { status, headers, body: Vec::new() };
    let sent = edits.sent.clone().expect("what it was sent with");
    engine.now = engine.now.plus(Duration::from_millis(1));
    engine.inner.on_upstream_response(&sent, &answer, engine.now)
}

#[test]
fn upstream_nonce_demand_is_met_by_the_next_request() {
    let mut engine = TestEngine::new(&as_dpop()).with_keys();
    let edits = forwarded(engine.exchange(bearer("/github", &bob_token()), &bound("up", &[])));
    // Requests in flight get the same answer.
    for _ in [1, 2] {
        let wish = [("www-authenticate", "DPoP error=\"use_dpop_nonce\", algs=\"ES256\""), ("dpop-nonce", "u1")];
        let UpstreamAction::Instead(step) = answered_with(&mut engine, &edits, 401, &wish) else {
            panic!("it went on");
        };
        let answer = answered(step);
        assert_eq!((answer.status, header(&answer, "retry-after")), (503, Some("1")));
        assert!(header(&answer, "dpop-nonce").is_none() && header(&answer, "www-authenticate").is_none());
    }
    let edits = goes_on(&mut engine, bearer("/github", &bob_token()));
    assert_eq!(edits.authorization.as_ref().unwrap().reveal(), "DPoP up");
    assert_eq!(claims(&proof(&edits))["nonce"], "u1");
    // A good response brings another nonce, which is for the filter and not for the client.
    let UpstreamAction::PassOn { remove } = answered_with(&mut engine, &edits, 200, &[("dpop-nonce", "u2")]) else {
        panic!("a good answer was replaced");
    };
    assert!(remove.contains(&"dpop-nonce"));
    let edits = goes_on(&mut engine, bearer("/github", &bob_token()));
    assert_eq!(claims(&proof(&edits))["nonce"], "u2");
    engine.expect_no_call();
    // Without a nonce, or with another error, the upstream has rejected the token.
    for headers in [&[("www-authenticate", "DPoP error=\"use_dpop_nonce\"")][..], &[("dpop-nonce", "u3")]] {
        let mut engine = TestEngine::new(&as_dpop()).with_keys();
        let edits = forwarded(engine.exchange(bearer("/github", &bob_token()), &bound("up", &[])));
        assert!(matches!(answered_with(&mut engine, &edits, 401, headers), UpstreamAction::Instead(_)));
        engine.send_waiting(bearer("/github", &bob_token()));
        assert_eq!(engine.expect_call().1.method, "POST");
    }
}

#[test]
fn nonce_of_an_upstream_without_proofs_is_passed_to_the_client() {
    let mut engine = TestEngine::ready();
    let edits = forwarded(engine.exchange(bearer("/github", &bob_token()), &issued("up")));
    let UpstreamAction::PassOn { remove } = answered_with(&mut engine, &edits, 200, &[("dpop-nonce", "u")]) else {
        panic!("a good answer was replaced");
    };
    assert!(!remove.contains(&"dpop-nonce"));
}

#[test]
fn client_that_sends_proofs_gets_no_nonce_of_the_upstream() {
    for (mode, hidden) in [("off", false), ("optional", true)] {
        let mut configuration = configuration();
        configuration["resources"][0]["dpop"] = json!({"mode": mode});
        let mut engine = TestEngine::new(&configuration).with_keys();
        let edits = forwarded(engine.exchange(bearer("/github", &bob_token()), &issued("up")));
        assert_eq!(edits.sent.as_ref().unwrap().hides_nonce(), hidden);
        let UpstreamAction::PassOn { remove } = answered_with(&mut engine, &edits, 200, &[("dpop-nonce", "u")]) else {
            panic!("a good answer was replaced");
        };
        assert_eq!(remove.contains(&"dpop-nonce"), hidden, "{mode}");
    }
}
