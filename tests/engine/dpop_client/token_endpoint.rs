//! Proofs and nonces for the token endpoint.

use jwt_simple::algorithms::{ES384KeyPair, Ed25519KeyPair};
use onbehalf::crypto::{Algorithm, Software};
use onbehalf::http::{Callout, CalloutFailure, CalloutResult};
use onbehalf::telemetry::Sample;
use onbehalf_test_support::{
    NOW, OKTA, TestEngine, alice_token, answer_with, authorization, base64url_decode, bearer, bob_token, form,
    jws_part, refused, with,
};
use serde_json::{Value, json};

use super::{TOKEN_ENDPOINT, as_dpop, bound, claims, nonce_of, proof_of, user, verify_proof, with_key};

fn use_nonce(status: u16, headers: &[(&str, &str)]) -> CalloutResult {
    answer_with(status, headers, &json!({"error": "use_dpop_nonce", "error_description": "nonce"}))
}

#[test]
fn token_request_has_a_proof_for_its_endpoint() {
    let mut engine = TestEngine::new(&as_dpop()).with_keys();
    let mut seen = Vec::new();
    for name in ["one", "two"] {
        engine.send_waiting(bearer("/github", &user(name)));
        let call = engine.expect_call().1;
        assert_eq!(call.url.as_str(), TOKEN_ENDPOINT);
        let proof = proof_of(&call);
        // Only `ath` is missing, which is for protected resources.
        assert_eq!(verify_proof(&proof, "POST", TOKEN_ENDPOINT, ""), Err("ath is not the hash of the token"));
        assert_eq!(verify_proof(&proof, "POST", OKTA, ""), Err("htu is not the URL of the request"));
        let header = jws_part(&proof, 0);
        assert_eq!((header["typ"].as_str(), header["alg"].as_str()), (Some("dpop+jwt"), Some("ES256")));
        let mut members: Vec<_> = header["jwk"].as_object().unwrap().keys().collect();
        members.sort();
        assert_eq!(members, ["crv", "kty", "x", "y"]);
        let claims = claims(&proof);
        let mut names: Vec<_> = claims.as_object().unwrap().keys().collect();
        names.sort();
        assert_eq!(names, ["htm", "htu", "iat", "jti"], "no nonce is known yet, and there is no token");
        assert_eq!(claims["iat"].as_u64(), Some(NOW.secs()));
        seen.push(claims["jti"].clone());
    }
    assert_ne!(seen[0], seen[1]);
    // RFC 9449 section 4.2: `htu` has no query, though the request has one.
    let mut configuration = as_dpop();
    let queried = format!("{TOKEN_ENDPOINT}?realm=/alpha");
    configuration["identity_providers"]["okta-eu"]["token_endpoint"] = json!(queried);
    let mut with_query = TestEngine::new(&configuration).with_keys();
    with_query.send_waiting(bearer("/github", &user("three")));
    let call = with_query.expect_call().1;
    assert_eq!(call.url.as_str(), queried);
    assert_eq!(claims(&proof_of(&call))["htu"], TOKEN_ENDPOINT);
    // Calls to a provider without a DPoP key have no proof.
    engine.send_waiting(bearer("/github", &alice_token()));
    assert!(engine.expect_call().1.headers.iter().all(|(name, _)| *name != "dpop"));
}

#[test]
fn proof_is_signed_with_keys_of_every_kind() {
    use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};
    let rsa = rsa::PrivateKey::new(&mut rsa::rand_core::UnwrapErr(getrandom::SysRng), 2048).unwrap();
    let rsa = rsa.to_pkcs8_pem(LineEnding::LF).unwrap().to_string();
    let ed25519 = Ed25519KeyPair::generate().to_pem();
    let ed25519 = ed25519.split_inclusive("-----END PRIVATE KEY-----").next().unwrap().to_owned();
    let p384 = {
        use jwt_simple::algorithms::ECDSAP384KeyPairLike as _;
        ES384KeyPair::generate().key_pair().to_pem().unwrap()
    };
    for (algorithm, pem, kind) in
        [("PS256", &rsa, "RSA"), ("RS384", &rsa, "RSA"), ("ES384", &p384, "EC"), ("EdDSA", &ed25519, "OKP")]
    {
        let mut engine = TestEngine::new(&with_key(pem, algorithm, json!({"token_type": "dpop"}))).with_keys();
        engine.send_waiting(bearer("/github", &bob_token()));
        let proof = proof_of(&engine.expect_call().1);
        let header = jws_part(&proof, 0);
        assert_eq!((header["alg"].as_str(), header["jwk"]["kty"].as_str()), (Some(algorithm), Some(kind)));
        for private in ["d", "p", "q", "dp", "dq", "qi"] {
            assert!(header["jwk"].get(private).is_none(), "{algorithm} {private}");
        }
        // Reads the JWK of the proof as a JWK Set to verify the signature.
        let set = json!({"keys": [with(header["jwk"].clone(), json!({"alg": algorithm}))]}).to_string();
        let (keys, skipped) = onbehalf::jose::KeySet::read(set.as_bytes()).unwrap();
        assert!(skipped.is_empty(), "{skipped:?}");
        let algorithm = Algorithm::from_name(algorithm).unwrap();
        let onbehalf::jose::Selection::Found(key) = keys.select(None, algorithm) else {
            panic!("no key for {algorithm:?}");
        };
        let (input, signature) = proof.rsplit_once('.').unwrap();
        let signature = base64url_decode(signature);
        use onbehalf::crypto::Crypto as _;
        assert!(Software.verify(algorithm, &key.public, input.as_bytes(), &signature), "{algorithm:?}");
    }
}

#[test]
fn provider_nonce_is_in_the_retry_and_in_later_proofs() {
    for status in [400, 401] {
        let mut engine = TestEngine::new(&as_dpop()).with_keys();
        let id = engine.send_waiting(bearer("/github", &user("one")));
        let (flight, first) = engine.expect_call();
        assert_eq!(nonce_of(&first), Value::Null);
        assert!(engine.callout_result(flight, &use_nonce(status, &[("dpop-nonce", "n1")])).is_empty(), "it waits on");
        let (flight, second) = engine.expect_call();
        assert_eq!(nonce_of(&second), "n1");
        let jti = |call: &Callout| claims(&proof_of(call))["jti"].clone();
        assert_ne!(jti(&first), jti(&second));
        let assertion = |call: &Callout| form(call)["client_assertion"].clone();
        assert_ne!(jws_part(&assertion(&first), 1)["jti"], jws_part(&assertion(&second), 1)["jti"]);
        let mut steps = engine.callout_result(flight, &bound("up", &[]));
        assert_eq!(steps.remove(0).0, id);
        engine.expect_no_call();
        // The retry is one call.
        engine.send_waiting(bearer("/github", &user("two")));
        let (flight, call) = engine.expect_call();
        assert_eq!(nonce_of(&call), "n1");
        // A good response brings another nonce.
        engine.callout_result(flight, &bound("up2", &[("dpop-nonce", "n2")]));
        engine.send_waiting(bearer("/github", &user("three")));
        assert_eq!(nonce_of(&engine.expect_call().1), "n2");
    }
}

#[test]
fn stale_nonce_costs_one_call_and_a_second_demand_is_an_error() {
    let mut engine = TestEngine::new(&as_dpop()).with_keys();
    engine.send_waiting(bearer("/github", &user("one")));
    let (flight, _) = engine.expect_call();
    engine.callout_result(flight, &bound("up", &[("dpop-nonce", "n1")]));
    engine.send_waiting(bearer("/github", &user("two")));
    let (flight, call) = engine.expect_call();
    assert_eq!(nonce_of(&call), "n1");
    assert!(engine.callout_result(flight, &use_nonce(400, &[("dpop-nonce", "n2")])).is_empty());
    let (flight, call) = engine.expect_call();
    assert_eq!(nonce_of(&call), "n2");
    let mut steps = engine.callout_result(flight, &use_nonce(400, &[("dpop-nonce", "n3")]));
    assert_eq!(refused(steps.remove(0).1), (502, "exchange_misconfigured".to_owned()));
    engine.expect_no_call();
    // The last nonce is kept all the same.
    engine.send_waiting(bearer("/github", &user("three")));
    assert_eq!(nonce_of(&engine.expect_call().1), "n3");
}

#[test]
fn malformed_nonce_is_not_kept_and_causes_no_retry() {
    let long = "n".repeat(1025);
    let bad: [&[(&str, &str)]; 7] = [
        &[],
        &[("dpop-nonce", "")],
        &[("dpop-nonce", "a b")],
        &[("dpop-nonce", "a\"b")],
        &[("dpop-nonce", "a\u{7f}")],
        &[("dpop-nonce", &long)],
        &[("dpop-nonce", "a"), ("dpop-nonce", "b")],
    ];
    for headers in bad {
        let mut engine = TestEngine::new(&as_dpop()).with_keys();
        engine.send_waiting(bearer("/github", &user("one")));
        let (flight, _) = engine.expect_call();
        assert_eq!(engine.callout_result(flight, &use_nonce(400, headers)).len(), 1, "{headers:?}");
        engine.expect_no_call();
        engine.send_waiting(bearer("/github", &user("two")));
        assert_eq!(nonce_of(&engine.expect_call().1), Value::Null, "{headers:?}");
    }
    // Another status or error is no demand for a nonce.
    for reply in [
        use_nonce(403, &[("dpop-nonce", "n")]),
        use_nonce(500, &[("dpop-nonce", "n")]),
        answer_with(400, &[("dpop-nonce", "n")], &json!({"error": "invalid_dpop_proof"})),
    ] {
        let mut engine = TestEngine::new(&as_dpop()).with_keys();
        engine.send_waiting(bearer("/github", &user("one")));
        let (flight, _) = engine.expect_call();
        assert_eq!(engine.callout_result(flight, &reply).len(), 1);
        engine.expect_no_call();
    }
    // Without a key there is no proof that could contain a nonce.
    let mut engine = TestEngine::ready();
    engine.send_waiting(bearer("/github", &bob_token()));
    let (flight, _) = engine.expect_call();
    assert_eq!(engine.callout_result(flight, &use_nonce(400, &[("dpop-nonce", "n")])).len(), 1);
    engine.expect_no_call();
}

#[test]
fn nonce_previous_secret_and_broken_connection_are_retried_together() {
    let mut configuration = as_dpop();
    configuration["identity_providers"]["okta-eu"]["client"]["authentication"] =
        json!({"method": "client_secret_post", "secret": {"inline": "new"}, "previous_secret": {"inline": "old"}});
    let mut engine = TestEngine::new(&configuration).with_keys();
    engine.send_waiting(bearer("/github", &bob_token()));
    let invalid = |nonce| answer_with(401, &[("dpop-nonce", nonce)], &json!({"error": "invalid_client"}));
    let mut ids = Vec::new();
    let mut expect = |engine: &mut TestEngine, secret: &str, nonce: Value, reply: &CalloutResult| {
        let (flight, call) = engine.expect_call();
        assert_eq!((form(&call)["client_secret"].as_str(), nonce_of(&call)), (secret, nonce));
        ids.push(claims(&proof_of(&call))["jti"].clone());
        engine.callout_result(flight, reply)
    };
    assert!(expect(&mut engine, "new", json!(null), &use_nonce(400, &[("dpop-nonce", "n1")])).is_empty());
    assert!(expect(&mut engine, "new", json!("n1"), &CalloutResult::Failed(CalloutFailure::NoConnection)).is_empty());
    assert!(expect(&mut engine, "new", json!("n1"), &use_nonce(400, &[("dpop-nonce", "n2")])).is_empty());
    assert!(expect(&mut engine, "new", json!("n2"), &invalid("n3")).is_empty());
    assert!(expect(&mut engine, "old", json!("n3"), &use_nonce(400, &[("dpop-nonce", "n4")])).is_empty());
    let mut steps = expect(&mut engine, "old", json!("n4"), &bound("up", &[]));
    assert_eq!(authorization(steps.remove(0).1), "DPoP up");
    engine.expect_no_call();
    let counted = engine.inner.counters().take();
    assert!(counted.contains(&(Sample::Exchanges("okta-eu".into(), "ok_with_previous_secret"), 1)), "{counted:?}");
    ids.sort_by_key(Value::to_string);
    ids.dedup();
    assert_eq!(ids.len(), 6, "a proof was sent twice");
}

#[test]
fn concurrent_exchanges_each_learn_the_nonce_by_one_retry() {
    let mut engine = TestEngine::new(&as_dpop()).with_keys();
    engine.send_waiting(bearer("/github", &user("one")));
    engine.send_waiting(bearer("/github", &user("two")));
    let calls = [engine.expect_call().0, engine.expect_call().0];
    for flight in calls {
        assert!(engine.callout_result(flight, &use_nonce(400, &[("dpop-nonce", "n")])).is_empty());
        let (flight, call) = engine.expect_call();
        assert_eq!(nonce_of(&call), "n");
        assert_eq!(engine.callout_result(flight, &bound("up", &[])).len(), 1);
    }
}
