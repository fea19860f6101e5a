//! The request that reaches the upstream.

use onbehalf::engine::Decision;
use onbehalf::engine::HeaderMutations;
use serde_json::{Value, json};

use onbehalf_test_support::{
    ENTRA_KEY, OKTA_KEY, OTHER_KEY, TestEngine, alice, alice_token, answer, bearer, bob, bob_id, bob_token,
    configuration, form, forwarded, issued, key_set, provider_document, refused, request, with,
};

fn with_id_token(source: Value) -> Value {
    let mut configuration = configuration();
    let mut subject = json!({"type": "id_token", "audiences": ["login-client"]});
    for (name, value) in source.as_object().unwrap() {
        subject[name] = value.clone();
    }
    configuration["identity_providers"]["okta-eu"]["subject_token"] = subject;
    configuration
}

fn in_header() -> TestEngine {
    TestEngine::new(&with_id_token(json!({"header": "X-ID-Token"}))).with_keys()
}

fn in_cookie() -> TestEngine {
    TestEngine::new(&with_id_token(json!({"cookie": "id_token"}))).with_keys()
}

fn edits_of(engine: &mut TestEngine, fields: &[(&str, &str)]) -> HeaderMutations {
    let authorization = format!("Bearer {}", bob_token());
    let mut all = vec![("authorization", authorization.as_str())];
    all.extend_from_slice(fields);
    forwarded(engine.exchange(request("POST", "/github", &all), &issued("up")))
}

#[test]
fn client_cannot_set_the_filters_own_headers() {
    let mut engine = TestEngine::ready();
    let edits = edits_of(
        &mut engine,
        &[("x-onbehalf-user", "admin"), ("x-onbehalf-", ""), ("dpop", "proof"), ("cookie", "a=b"), ("x-other", "y")],
    );
    assert_eq!(edits.remove, ["x-onbehalf-user", "x-onbehalf-", "dpop"]);
    assert!(edits.cookie.is_none());
    assert_eq!(edits.authorization.unwrap().reveal(), "Bearer up");
}

#[test]
fn unauthenticated_path_needs_no_token_and_forwards_none() {
    let edits = forwarded(TestEngine::ready().decide(request(
        "GET",
        "/healthz?x=y",
        &[("authorization", "Bearer x"), ("x-onbehalf-a", "b")],
    )));
    assert!(edits.authorization.is_none());
    assert_eq!(edits.remove, ["x-onbehalf-a"]);
}

#[test]
fn id_token_is_the_subject_token_and_is_removed() {
    let mut engine = in_header();
    let id_token = OKTA_KEY.token(&bob_id());
    let authorization = format!("Bearer {}", bob_token());
    let (_, step) =
        engine.send(request("POST", "/github", &[("authorization", &authorization), ("x-id-token", &id_token)]));
    assert!(matches!(step, Decision::Pause));
    let (flight, call) = engine.expect_call();
    assert_eq!(form(&call)["subject_token"], id_token);
    assert_eq!(form(&call)["subject_token_type"], "urn:ietf:params:oauth:token-type:id_token");
    let edits = forwarded(engine.only_step(flight, &issued("up")));
    assert_eq!(edits.remove, ["x-id-token"]);
}

#[test]
fn id_token_is_removed_from_the_cookies() {
    let id_token = OKTA_KEY.token(&bob_id());
    let edits = edits_of(&mut in_cookie(), &[("cookie", &format!("a=b; id_token={id_token};c=d")), ("cookie", "e=f")]);
    assert_eq!(edits.cookie.as_deref(), Some(&b"a=b; c=d; e=f"[..]));
    let edits = edits_of(&mut in_cookie(), &[("cookie", &format!("id_token={id_token}"))]);
    assert_eq!(edits.remove, ["cookie"]);
}

#[test]
fn id_token_is_removed_for_users_of_other_providers_too() {
    let mut engine = in_header();
    let authorization = format!("Bearer {}", alice_token());
    let request = request("POST", "/github", &[("authorization", &authorization), ("x-id-token", "whatever")]);
    assert_eq!(forwarded(engine.exchange(request, &issued("up"))).remove, ["x-id-token"]);
    let open = onbehalf_test_support::request("GET", "/healthz", &[("x-id-token", "whatever")]);
    assert_eq!(forwarded(engine.decide(open)).remove, ["x-id-token"]);
}

#[test]
fn id_token_must_be_single_valid_and_of_the_same_user() {
    let authorization = format!("Bearer {}", bob_token());
    let verdict = |fields: &[(&str, &str)]| {
        let mut all = vec![("authorization", authorization.as_str())];
        all.extend_from_slice(fields);
        refused(in_header().decide(request("POST", "/github", &all)))
    };
    let good = OKTA_KEY.token(&bob_id());
    let changed = |changes: Value| OKTA_KEY.token(&with(bob_id(), changes));
    assert_eq!(verdict(&[]), (401, "subject_token_missing".to_owned()));
    assert_eq!(verdict(&[("x-id-token", "")]), (401, "subject_token_missing".to_owned()));
    assert_eq!(verdict(&[("x-id-token", &good), ("x-id-token", &good)]), (401, "subject_token_missing".to_owned()));
    for bad in [
        "opaque".to_owned(),
        changed(json!({"aud": "another-client"})),
        changed(json!({"exp": 1})),
        changed(json!({"iss": "https://evil.example"})),
        OTHER_KEY.sign(&json!({"alg": "ES256", "kid": "okta-1"}), &bob_id()),
        OKTA_KEY.sign(&json!({"alg": "ES256", "kid": "okta-1", "typ": "at+jwt"}), &bob_id()),
        bob_token(),
    ] {
        assert_eq!(verdict(&[("x-id-token", &bad)]), (401, "subject_token_invalid".to_owned()));
    }
    assert_eq!(verdict(&[("x-id-token", &changed(json!({"sub": "00ucarol"})))]), (401, "subject_mismatch".to_owned()));
    let of_alice = ENTRA_KEY.token(&with(alice(), json!({"aud": "login-client", "oid": "00ubob"})));
    assert_eq!(verdict(&[("x-id-token", &of_alice)]), (401, "subject_token_invalid".to_owned()));
}

#[test]
fn verified_id_token_is_no_access_token() {
    let mut engine = in_header();
    let id_token = OKTA_KEY.token(&with(bob_id(), json!({"aud": ["login-client", "api://default"]})));
    edits_of(&mut engine, &[("x-id-token", &id_token)]);
    assert_eq!(refused(engine.decide(bearer("/github", &id_token))).1, "id_token_as_access_token");
}

#[test]
fn cached_id_token_is_checked_by_the_rules_of_its_own_provider() {
    let other = "https://other.okta.example/oauth2/default";
    let mut configuration = with_id_token(json!({"header": "x-id-token"}));
    let mut provider = configuration["identity_providers"]["okta-eu"].clone();
    provider["issuer"] = json!(other);
    provider["jwks_uri"] = json!(format!("{other}/k"));
    provider["token_endpoint"] = json!(format!("{other}/t"));
    provider["subject_token"]["audiences"] = json!(["other-login-client"]);
    configuration["identity_providers"]["okta-us"] = provider;
    configuration["resources"][0]["exchange"]["okta-us"] = json!({"audience": "x"});
    let mut engine = TestEngine::new(&configuration);
    engine.tick();
    while let Some((flight, call)) = engine.inner.next_callout() {
        let reply = if call.url.as_str().starts_with(other) {
            answer(200, &key_set(&[&OTHER_KEY]))
        } else {
            provider_document(&call)
        };
        engine.callout_result(flight, &reply);
    }
    // An ID token of the other provider, for a client of the first.
    let id_token = OTHER_KEY.token(&with(bob_id(), json!({"iss": other})));
    let theirs = OTHER_KEY.token(&with(bob(), json!({"iss": other})));
    for access_token in [bob_token(), theirs] {
        let authorization = format!("Bearer {access_token}");
        let fields = [("authorization", authorization.as_str()), ("x-id-token", id_token.as_str())];
        assert_eq!(refused(engine.decide(request("POST", "/github", &fields))).1, "subject_token_invalid");
    }
}
