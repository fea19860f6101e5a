//! Validation of tokens, and the reason of each refusal.

use serde_json::json;

use onbehalf_test_support::{
    ENTRA_KEY, NOW, OKTA_KEY, TestEngine, alice, alice_token, answered, authorization, base64url, base64url_decode,
    bearer, bob, bob_id, bob_token, header, issued, refused, with,
};

fn refusal_of(token: &str) -> (u16, String) {
    refused(TestEngine::ready().decide(bearer("/github", token)))
}

fn reason_of_401(token: &str) -> String {
    let (status, reason) = refusal_of(token);
    assert_eq!(status, 401, "{reason}");
    reason
}

#[test]
fn valid_token_of_either_provider_is_exchanged() {
    for token in [alice_token(), bob_token()] {
        assert_eq!(authorization(TestEngine::ready().exchange(bearer("/github", &token), &issued("up"))), "Bearer up");
    }
}

#[test]
fn algorithm_comes_from_the_key_and_not_from_the_token() {
    for alg in ["none", "None", "HS256", "ES512", "es256", "RS256", "PS256", "ES384", "EdDSA", ""] {
        let token = ENTRA_KEY.sign(&json!({"alg": alg, "kid": "entra-1"}), &alice());
        assert_eq!(reason_of_401(&token), "unsupported_algorithm", "{alg}");
    }
    assert_eq!(reason_of_401(&ENTRA_KEY.sign(&json!({"kid": "entra-1"}), &alice())), "unsupported_algorithm");
}

#[test]
fn key_of_one_issuer_verifies_no_token_of_another() {
    let forged = OKTA_KEY.sign(&json!({"alg": "ES256", "kid": "okta-1"}), &alice());
    let mut engine = TestEngine::ready();
    let (_, step) = engine.send(bearer("/github", &forged));
    assert!(matches!(step, onbehalf::engine::Decision::Pause), "an unknown kid is looked for once");
    let steps = engine.serve_keys();
    assert_eq!(refused(steps.into_iter().next().unwrap().1).1, "unknown_key");
    let forged = OKTA_KEY.sign(&json!({"alg": "ES256", "kid": "entra-1"}), &alice());
    assert_eq!(reason_of_401(&forged), "bad_signature");
}

#[test]
fn changed_token_has_a_bad_signature() {
    let token = alice_token();
    let (head, signature) = token.rsplit_once('.').unwrap();
    let other = ENTRA_KEY.token(&with(alice(), json!({"oid": "mallory"})));
    let (other_head, _) = other.rsplit_once('.').unwrap();
    assert_eq!(reason_of_401(&format!("{other_head}.{signature}")), "bad_signature");
    let bytes = base64url_decode(signature);
    for changed in [&bytes[..63], &[&bytes[..], &[0]].concat(), &[0; 64], &[0xff; 64]] {
        assert_eq!(reason_of_401(&format!("{head}.{}", base64url(changed))), "bad_signature");
    }
    assert_eq!(reason_of_401(&format!("{head}.")), "bad_signature");
}

#[test]
fn opaque_and_encrypted_tokens_have_their_own_refusals() {
    assert_eq!(reason_of_401("no-jwt"), "opaque_token");
    assert_eq!(reason_of_401("a.b.c"), "malformed_token");
    assert_eq!(reason_of_401("a.b.c.d.e"), "encrypted_token");
    assert_eq!(
        reason_of_401(&ENTRA_KEY.sign(&json!({"alg": "ES256", "kid": "entra-1", "crit": ["x"], "x": 1}), &alice())),
        "malformed_token"
    );
}

#[test]
fn jwts_of_other_kinds_are_refused_by_typ() {
    for typ in [
        "logout+jwt",
        "secevent+jwt",
        "dpop+jwt",
        "oauth-id-jag+jwt",
        "application/secevent+jwt",
        "client-authentication+jwt",
        "x",
    ] {
        let token = ENTRA_KEY.sign(&json!({"alg": "ES256", "kid": "entra-1", "typ": typ}), &alice());
        assert_eq!(reason_of_401(&token), "unsupported_token_type", "{typ}");
    }
    for typ in ["JWT", "at+jwt", "application/at+jwt", "AT+JWT"] {
        let token = ENTRA_KEY.sign(&json!({"alg": "ES256", "kid": "entra-1", "typ": typ}), &alice());
        authorization(TestEngine::ready().exchange(bearer("/github", &token), &issued("up")));
    }
}

#[test]
fn issuer_is_compared_by_code_points() {
    for issuer in [
        "https://login.entra.example/9b1c0000-1111-4222-8333-444455556666/v2.0/",
        "https://LOGIN.entra.example/9b1c0000-1111-4222-8333-444455556666/v2.0",
        "http://login.entra.example/9b1c0000-1111-4222-8333-444455556666/v2.0",
        "https://login.entra.example/%39b1c0000-1111-4222-8333-444455556666/v2.0",
        "https://login.entra.example@evil.example/9b1c0000-1111-4222-8333-444455556666/v2.0",
        "https://login.entra.example/{tenantid}/v2.0",
        "",
    ] {
        assert_eq!(
            reason_of_401(&ENTRA_KEY.token(&with(alice(), json!({"iss": issuer})))),
            "unknown_issuer",
            "{issuer}"
        );
    }
}

#[test]
fn token_needs_one_configured_audience() {
    for audience in [
        json!("api://gateway/"),
        json!("api://gateway.evil"),
        json!("API://gateway"),
        json!(""),
        json!([]),
        json!(["https://graph.example"]),
        json!("00000003-0000-0000-c000-000000000000"),
    ] {
        assert_eq!(
            reason_of_401(&ENTRA_KEY.token(&with(alice(), json!({"aud": audience})))),
            "wrong_audience",
            "{audience}"
        );
    }
    let several = ENTRA_KEY.token(&with(alice(), json!({"aud": ["other", "gateway-id"]})));
    authorization(TestEngine::ready().exchange(bearer("/github", &several), &issued("up")));
}

#[test]
fn missing_claims_are_refused() {
    for change in [
        json!({"exp": null}),
        json!({"exp": "soon"}),
        json!({"aud": null}),
        json!({"aud": 1}),
        json!({"nbf": "x"}),
        json!({"oid": null}),
    ] {
        assert_eq!(reason_of_401(&ENTRA_KEY.token(&with(alice(), change.clone()))), "invalid_claims", "{change}");
    }
}

#[test]
fn times_are_checked_to_the_second_with_60_seconds_of_leeway() {
    let at = |seconds: i64| NOW.secs().saturating_add_signed(seconds);
    assert_eq!(reason_of_401(&ENTRA_KEY.token(&with(alice(), json!({"exp": at(-60)})))), "expired");
    assert_eq!(reason_of_401(&ENTRA_KEY.token(&with(alice(), json!({"exp": 0})))), "expired");
    assert_eq!(reason_of_401(&ENTRA_KEY.token(&with(alice(), json!({"nbf": at(61)})))), "not_yet_valid");
    assert_eq!(reason_of_401(&ENTRA_KEY.token(&with(alice(), json!({"iat": at(61)})))), "not_yet_valid");
    for good in
        [json!({"exp": at(-59)}), json!({"nbf": at(60)}), json!({"iat": at(60)}), json!({"iat": null, "nbf": null})]
    {
        let token = ENTRA_KEY.token(&with(alice(), good.clone()));
        assert_eq!(
            authorization(TestEngine::ready().exchange(bearer("/github", &token), &issued("up"))),
            "Bearer up",
            "{good}"
        );
    }
}

#[test]
fn id_token_is_no_access_token() {
    let entra = with(alice(), json!({"aud": "gateway-id", "scp": null, "azp": null, "nonce": "n"}));
    assert_eq!(reason_of_401(&ENTRA_KEY.token(&entra)), "id_token_as_access_token");
    assert_eq!(
        reason_of_401(&OKTA_KEY.token(&with(bob_id(), json!({"aud": "api://default"})))),
        "id_token_as_access_token"
    );
    assert_eq!(reason_of_401(&OKTA_KEY.token(&with(bob(), json!({"cid": null})))), "id_token_as_access_token");
}

#[test]
fn application_token_is_no_user_token() {
    let application = [
        ENTRA_KEY.token(&with(alice(), json!({"scp": null, "roles": ["r"]}))),
        ENTRA_KEY.token(&with(alice(), json!({"idtyp": "app"}))),
        OKTA_KEY.token(&with(bob(), json!({"uid": null, "sub": "client"}))),
    ];
    for token in application {
        assert_eq!(refusal_of(&token), (403, "not_a_user_token".to_owned()));
    }
}

#[test]
fn token_needs_every_scope_of_the_resource() {
    let token = ENTRA_KEY.token(&with(alice(), json!({"scp": "mcp.write"})));
    let answer = answered(TestEngine::ready().decide(bearer("/github", &token)));
    assert_eq!(answer.status, 403);
    let challenge = header(&answer, "www-authenticate").unwrap();
    assert!(
        challenge.contains("error=\"insufficient_scope\"")
            && challenge.contains("scope=\"https://mcp.acme.example/github/mcp.read\""),
        "{challenge}"
    );
    assert_eq!(refused(TestEngine::ready().decide(bearer("/github/admin", &alice_token()))).1, "insufficient_scope");
}

#[test]
fn user_without_an_exchange_for_the_resource_is_refused() {
    let token = OKTA_KEY.token(&with(bob(), json!({"scp": ["mcp.admin"]})));
    assert_eq!(refused(TestEngine::ready().decide(bearer("/github/admin", &token))), (403, "no_exchange".to_owned()));
}

#[test]
fn verified_token_expires_in_the_cache_too() {
    let mut engine = TestEngine::ready();
    authorization(engine.exchange(bearer("/github", &alice_token()), &issued("up")));
    engine.advance(3600 + 59);
    let (_, step) = engine.send(bearer("/github", &alice_token()));
    assert!(matches!(step, onbehalf::engine::Decision::Pause), "still accepted, its exchanged token is over");
    engine.advance(1);
    assert_eq!(refused(engine.decide(bearer("/github", &alice_token()))), (401, "expired".to_owned()));
}
