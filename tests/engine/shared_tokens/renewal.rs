//! Renewals: one worker renews a token and the others use it.

use onbehalf::telemetry::{CacheOutcome, Sample};
use onbehalf_test_support::{
    ENTRA_KEY, SharedMap, TestEngine, alice, alice_day_token, alice_token, answer_with, authorization, bearer,
    forwarded, issued, refused, with,
};
use serde_json::json;

use super::{exchanges, github, open_circuit, workers};

/// Workers that all have the token `one` for Alice, 300 seconds before it expires, and Alice's own token.
fn near_renewal<const N: usize>() -> (SharedMap, [TestEngine; N], String) {
    let shared = SharedMap::default();
    let mut workers: [TestEngine; N] = workers(&shared);
    let token = alice_day_token();
    authorization(workers[0].exchange(github(&token), &issued("one")));
    for worker in &mut workers {
        assert_eq!(authorization(worker.decide(github(&token))), "Bearer one");
        worker.advance(3300);
    }
    (shared, workers, token)
}

#[test]
fn one_worker_renews_and_the_others_use_the_next_token() {
    let (_, [mut first, mut second, mut third], token) = near_renewal();
    for engine in [&mut first, &mut second, &mut third] {
        assert_eq!(authorization(engine.decide(github(&token))), "Bearer one", "nobody waits");
    }
    let (flight, _) = first.expect_call();
    second.expect_no_call();
    third.expect_no_call();
    assert!(first.callout_result(flight, &issued("two")).is_empty());
    for engine in [&mut first, &mut second, &mut third] {
        engine.advance(3);
        forwarded(engine.decide(github(&token)));
        assert_eq!(authorization(engine.decide(github(&token))), "Bearer two");
        engine.expect_no_call();
    }
}

#[test]
fn failed_renewal_is_not_retried_at_once_by_the_next_worker() {
    let (_, [mut first, mut second], token) = near_renewal();
    authorization(first.decide(github(&token)));
    let (flight, _) = first.expect_call();
    first.callout_result(flight, &answer_with(400, &[], &json!({"error": "temporarily_unavailable"})));
    assert_eq!(authorization(second.decide(github(&token))), "Bearer one");
    second.expect_no_call();
    second.advance(11);
    assert_eq!(authorization(second.decide(github(&token))), "Bearer one");
    assert!(exchanges(&mut second));
}

#[test]
fn next_token_that_expires_sooner_is_shared_and_not_sought_again() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [TestEngine; 2] = workers(&shared);
    let token = alice_day_token();
    let good_for = |token: &str, seconds: u64| {
        answer_with(200, &[], &json!({"access_token": token, "token_type": "Bearer", "expires_in": seconds}))
    };
    authorization(first.exchange(github(&token), &good_for("long", 3600)));
    // The other worker and shared memory lack the token, as when the records were full.
    shared.overwrite(|name, value| {
        if name.contains("tokens") {
            value.clear();
        }
    });
    for engine in [&mut first, &mut second] {
        engine.advance(3300);
    }
    authorization(second.exchange(github(&token), &good_for("short", 200)));
    assert_eq!(authorization(first.decide(github(&token))), "Bearer long");
    let counted = first.inner.counters().take();
    assert!(counted.contains(&(Sample::TokenCache(CacheOutcome::Shared), 1)), "{counted:?}");
    assert_eq!(authorization(first.decide(github(&token))), "Bearer short");
    assert!(!first.inner.counters().take().contains(&(Sample::TokenCache(CacheOutcome::Shared), 1)));
    first.expect_no_call();
}

#[test]
fn denied_renewal_ends_the_token_at_all_workers() {
    let (_, [mut first, mut second], token) = near_renewal();
    authorization(first.decide(github(&token)));
    let (flight, _) = first.expect_call();
    first.callout_result(flight, &answer_with(400, &[], &json!({"error": "invalid_grant"})));
    assert_eq!(refused(first.decide(github(&token))).1, "exchange_rejected");
    // The renewal was due at the second worker as well. One request finds the denial, and later requests are refused.
    authorization(second.decide(github(&token)));
    assert_eq!(refused(second.decide(github(&token))).1, "exchange_rejected");
    second.expect_no_call();
}

#[test]
fn late_reply_does_not_replace_the_token_of_another_worker() {
    let shared = SharedMap::default();
    let [mut slow, mut quick, mut third]: [TestEngine; 3] = workers(&shared);
    let token = alice_token();
    slow.send_waiting(github(&token));
    let (flight, _) = slow.expect_call();
    for engine in [&mut slow, &mut quick, &mut third] {
        engine.advance(16);
    }
    authorization(quick.exchange(github(&token), &issued("up")));
    slow.callout_result(flight, &answer_with(400, &[], &json!({"error": "invalid_grant"})));
    assert_eq!(authorization(third.decide(github(&token))), "Bearer up");
}

#[test]
fn blocked_renewal_takes_no_lease_at_each_request() {
    let (shared, [mut first, mut second], token) = near_renewal();
    open_circuit(&mut first, ["a", "b", "c"]);
    // The other worker learns of the open circuit when it takes the lease.
    assert_eq!(authorization(second.decide(github(&token))), "Bearer one");
    let records = shared.versions();
    assert_eq!(authorization(second.decide(github(&token))), "Bearer one");
    assert_eq!(shared.versions(), records, "nothing was claimed again");
    second.expect_no_call();
}

#[test]
fn lost_scope_does_not_return_from_another_worker() {
    let shared = SharedMap::default();
    let [mut first, mut second]: [TestEngine; 2] = workers(&shared);
    let with_scopes = |scopes: &str, more: &str| ENTRA_KEY.token(&with(alice(), json!({"scp": scopes, "uti": more})));
    authorization(first.exchange(github(&with_scopes("mcp.read", "1")), &issued("up")));
    assert_eq!(refused(second.decide(github(&with_scopes("mcp.write", "2")))), (403, "insufficient_scope".to_owned()));
    second.expect_no_call();
    // Another token of the same user has its own entry.
    second.send_waiting(github(&with_scopes("mcp.read", "3")));
    assert!(exchanges(&mut second));
    // A token shared for one resource admits no request to another.
    assert_eq!(refused(second.decide(bearer("/github/admin", &with_scopes("mcp.read", "1")))).1, "insufficient_scope");
}
