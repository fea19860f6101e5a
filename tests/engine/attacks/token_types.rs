//! Attacks 9 and 10: critical extensions, and JWTs of other kinds.

use onbehalf::http::CalloutResult;
use onbehalf_test_support::{
    ENTRA_KEY, OKTA_KEY, TestEngine, alice, alice_token, answer, answer_with, base64url, bearer, bob, configuration,
    environment, refused, with,
};
use serde_json::{Value, json};

use super::{header, reason_of_401, signed};

#[test]
fn critical_extensions_and_other_encodings_are_refused() {
    let claims = alice().to_string();
    for more in [
        r#""crit":["urn:x"],"urn:x":1"#,
        r#""crit":["urn:x"]"#,
        r#""crit":["exp"],"exp":1"#,
        r#""crit":["alg"]"#,
        r#""crit":[]"#,
        r#""crit":[1]"#,
        r#""crit":"urn:x""#,
        r#""crit":{}"#,
        r#""crit":null"#,
        r#""crit":["b64"],"b64":false"#,
        r#""crit":["b64"],"b64":true"#,
        r#""b64":false"#,
        r#""b64":true"#,
        r#""b64":null"#,
        r#""zip":"DEF""#,
        r#""zip":"def""#,
        r#""enc":"A256GCM""#,
        r#""enc":null"#,
        r#""zip":null"#,
    ] {
        let token = ENTRA_KEY.sign_bytes(format!(r#"{{"alg":"ES256","kid":"entra-1",{more}}}"#), &claims);
        assert_eq!(reason_of_401(&mut TestEngine::ready(), &token), "malformed_token", "{more}");
    }
    // RFC 7797 section 5.2: the payload is not encoded.
    let input = format!("{}.{claims}", base64url(r#"{"alg":"ES256","kid":"entra-1","b64":false,"crit":["b64"]}"#));
    let step = TestEngine::ready().decide(bearer("/github", &format!("{input}.AAAA")));
    assert_eq!(refused(step).0, 400);
}

#[test]
fn jwt_with_the_typ_of_another_kind_is_no_access_token() {
    for kind in [
        "logout+jwt",
        "secevent+jwt",
        "dpop+jwt",
        "oauth-id-jag+jwt",
        "global-token-revocation+jwt",
        "client-authentication+jwt",
        "token-introspection+jwt",
        "oauth-authz-req+jwt",
        "entity-statement+jwt",
        "id_token+jwt",
        "JOSE",
        "JWT ",
        "text/jwt",
        "",
    ] {
        for typ in [kind.to_owned(), kind.to_uppercase(), format!("application/{kind}")] {
            for (signer, claims) in [(&*ENTRA_KEY, alice()), (&*OKTA_KEY, bob())] {
                let token = signer.sign(&json!({"alg": "ES256", "kid": signer.kid, "typ": typ}), &claims);
                assert_eq!(reason_of_401(&mut TestEngine::ready(), &token), "unsupported_token_type", "{typ:?}");
            }
        }
    }
    for cty in ["JWT", "jwt", "application/jwt", "at+jwt"] {
        let token = ENTRA_KEY.sign(&header(json!({"cty": cty})), &alice());
        assert_eq!(reason_of_401(&mut TestEngine::ready(), &token), "malformed_token", "{cty}");
    }
    let nested = ENTRA_KEY.sign_bytes(header(json!({})).to_string(), alice_token());
    assert_eq!(reason_of_401(&mut TestEngine::ready(), &nested), "malformed_token");
}

#[test]
fn jwt_of_another_kind_without_typ_is_no_access_token() {
    let events = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    let of_entra = |more: Value| with(with(alice(), json!({"scp": null, "azp": null})), more);
    let of_okta = |more: Value| with(with(bob(), json!({"scp": null, "cid": null})), more);
    let cases = [
        ("an ID token", json!({"nonce": "n", "at_hash": "h"}), "id_token_as_access_token"),
        ("a logout token", json!({"events": events, "sid": "s"}), "unsupported_token_type"),
        (
            "a security event",
            json!({"events": events, "sub_id": {"format": "opaque", "id": "x"}}),
            "unsupported_token_type",
        ),
    ];
    for (what, more, expected) in cases {
        for typ in [json!("JWT"), json!(null)] {
            for (signer, claims) in [(&*ENTRA_KEY, of_entra(more.clone())), (&*OKTA_KEY, of_okta(more.clone()))] {
                let head = with(json!({"alg": "ES256", "kid": signer.kid}), json!({"typ": typ}));
                assert_eq!(reason_of_401(&mut TestEngine::ready(), &signer.sign(&head, &claims)), expected, "{what}");
            }
        }
    }
    // A provider whose tokens have no other known claims.
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"]["profile"] = json!("rfc8693");
    configuration["resources"][0]["scopes"] = json!([]);
    for uri in ["http://schemas.openid.net/event/backchannel-logout", "urn:another"] {
        let token = OKTA_KEY.token(&with(bob(), json!({"scp": null, "cid": null, "events": {uri: {}}})));
        let mut engine = TestEngine::new(&configuration).with_keys();
        assert_eq!(reason_of_401(&mut engine, &token), "unsupported_token_type");
    }
    // A client assertion has the client's signature, whatever its `iss` is.
    let client = onbehalf::crypto::SigningKey::parse(
        onbehalf::crypto::Algorithm::Es256,
        &environment("OKTA_PRIVATE_KEY").unwrap(),
    )
    .unwrap();
    for (kid, expected) in [("k1", "unknown_key"), ("okta-1", "bad_signature")] {
        let head = json!({"alg": "ES256", "kid": kid, "typ": "JWT"});
        let claims = with(bob(), json!({"sub": "0oa1"}));
        let token = signed(&head, &claims, |input| {
            onbehalf::crypto::Crypto::sign(&onbehalf::crypto::Software, &client, input).unwrap()
        });
        assert_eq!(reason_of_401(&mut TestEngine::ready(), &token), expected);
    }
}

#[test]
fn token_response_of_another_kind_is_refused() {
    let at = |reply: &CalloutResult| refused(TestEngine::ready().exchange(bearer("/github", &alice_token()), reply));
    let good = json!({"access_token": "up", "token_type": "Bearer", "expires_in": 60});
    for token_type in [json!("mac"), json!("Bearer "), json!("Bearer, N_A"), json!(["Bearer"]), json!(7), json!("")] {
        let reply = answer_with(200, &[], &with(good.clone(), json!({"token_type": token_type})));
        assert_eq!(at(&reply), (502, "provider_answer_invalid".to_owned()), "{token_type}");
    }
    for expires_in in
        [json!(0.5), json!(-1e300), json!("0.9"), json!("-1"), json!(""), json!("inf"), json!([]), json!(true)]
    {
        let reply = answer_with(200, &[], &with(good.clone(), json!({"expires_in": expires_in})));
        assert_eq!(at(&reply), (502, "provider_answer_invalid".to_owned()), "{expires_in}");
    }
    let html = b"<!doctype html><p>Unauthorized</p>";
    for (status, expected) in
        [(401, "exchange_misconfigured"), (403, "exchange_misconfigured"), (200, "provider_answer_invalid")]
    {
        assert_eq!(at(&answer(status, html)), (502, expected.to_owned()), "{status}");
    }
    for status in [301, 302, 303, 307, 308, 400, 404] {
        let reply = answer_with(status, &[("location", "https://evil.example/token")], &good);
        let mut engine = TestEngine::ready();
        let (status, _) = refused(engine.exchange(bearer("/github", &alice_token()), &reply));
        engine.expect_no_call();
        assert!(matches!(status, 502 | 503), "{status}");
    }
}
