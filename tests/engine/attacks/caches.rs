//! Attacks on the caches: a cached verdict, scope or failure holds for nothing else.

use onbehalf::engine::Decision;
use onbehalf_test_support::{
    ENTRA_KEY, TestEngine, alice, alice_token, answer_with, authorization, base64url, bearer, bob_token, issued,
    refused, with,
};
use serde_json::json;

use super::outcome_of;

#[test]
fn cached_verdict_accepts_no_other_token() {
    let mut engine = TestEngine::ready();
    let good = alice_token();
    assert_eq!(outcome_of(&mut engine, &good), "exchanged");
    let [head, claims, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let other = ENTRA_KEY.token(&with(alice(), json!({"oid": "mallory"})));
    let other: Vec<&str> = other.split('.').collect();
    // The claims in another order and with another space: the same claims in other bytes.
    let heads = [r#"{"kid":"entra-1","alg":"ES256","typ":"JWT"}"#, r#"{"alg":"ES256","kid":"entra-1","typ":"JWT" }"#]
        .map(base64url);
    for forged in [
        format!("{}.{claims}.{signature}", heads[0]),
        format!("{}.{claims}.{signature}", heads[1]),
        format!("{head}.{}.{signature}", other[1]),
        format!("{head}.{claims}.{}", other[2]),
        format!("{head}.{}.{signature}", base64url(with(alice(), json!({"scp": "mcp.admin"})).to_string())),
    ] {
        for path in ["/github", "/github/x"] {
            let (status, reason) = refused(engine.decide(bearer(path, &forged)));
            assert_eq!((status, reason.as_str()), (401, "bad_signature"));
        }
        engine.expect_no_call();
    }
    assert_eq!(authorization(engine.decide(bearer("/github", &good))), "Bearer up");
}

#[test]
fn lost_scope_does_not_return_from_the_cache() {
    let mut engine = TestEngine::ready();
    let before = ENTRA_KEY.token(&with(alice(), json!({"scp": "mcp.read"})));
    assert_eq!(outcome_of(&mut engine, &before), "exchanged");
    let after = ENTRA_KEY.token(&with(alice(), json!({"scp": "mcp.write"})));
    assert_eq!(refused(engine.decide(bearer("/github", &after))), (403, "insufficient_scope".to_owned()));
    // Another token of the same user has its own entry.
    let again = ENTRA_KEY.token(&with(alice(), json!({"scp": "mcp.read", "uti": "2"})));
    assert!(matches!(engine.decide(bearer("/github", &again)), Decision::Pause));
}

#[test]
fn cached_failure_holds_for_one_token_and_one_resource() {
    let mut engine = TestEngine::ready();
    let scopes = json!({"scp": "mcp.read mcp.admin"});
    let token = ENTRA_KEY.token(&with(alice(), scopes.clone()));
    let denied = answer_with(400, &[], &json!({"error": "access_denied"}));
    assert_eq!(refused(engine.exchange(bearer("/github", &token), &denied)).1, "exchange_denied");
    assert_eq!(refused(engine.decide(bearer("/github", &token))).1, "exchange_denied");
    assert_eq!(authorization(engine.exchange(bearer("/github/admin", &token), &issued("admin"))), "Bearer admin");
    let other = ENTRA_KEY.token(&with(alice(), with(scopes, json!({"uti": "2"}))));
    assert_eq!(authorization(engine.exchange(bearer("/github", &other), &issued("up"))), "Bearer up");
    let bob = bob_token();
    assert_eq!(authorization(engine.exchange(bearer("/github", &bob), &issued("bobs"))), "Bearer bobs");
    assert_eq!(refused(engine.decide(bearer("/github", &token))).1, "exchange_denied");
}
