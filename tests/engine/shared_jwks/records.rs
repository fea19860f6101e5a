//! Records in shared memory: removed keys, other secrets, and records that another plugin writes.

use onbehalf::engine::Decision;
use onbehalf::http::CalloutResult;
use onbehalf_test_support::{
    ENTRA_KEY, NOW, OTHER_KEY, SharedMap, TestEngine, alice, alice_token, answer, authorization, bearer, entra_user,
    issued, key_set, provider_document, refused, with, without_shared_tokens,
};
use serde_json::json;

use super::{is_admitted, with_another_key, with_fetched_keys, workers};

#[test]
fn key_removed_at_one_worker_is_removed_at_all() {
    let shared = SharedMap::default();
    let (mut first, [mut second]) = (with_fetched_keys(&shared), workers(&shared));
    second.tick();
    let token = ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() + 9000})));
    authorization(second.exchange(bearer("/github", &token), &issued("up")));
    for engine in [&mut first, &mut second] {
        engine.advance(3600);
    }
    first.tick();
    first.serve_calls(with_another_key);
    second.tick();
    second.expect_no_call();
    assert!(matches!(second.decide(bearer("/github", &token)), Decision::Pause), "the key is looked for once more");
    let (flight, _) = second.expect_call();
    assert_eq!(refused(second.only_step(flight, &answer(200, &key_set(&[&OTHER_KEY])))).1, "unknown_key");
}

#[test]
fn record_of_another_plugin_is_ignored() {
    let poison = |name: &str, value: &mut Vec<u8>| {
        if name.ends_with(".document") {
            let text = String::from_utf8_lossy(value).replace("entra-1", "other-1");
            *value = text.into_bytes();
        }
    };
    let wipe = |_: &str, value: &mut Vec<u8>| value.clear();
    let flip = |_: &str, value: &mut Vec<u8>| *value.last_mut().unwrap() ^= 1;
    is_not_believed(&poison);
    is_not_believed(&wipe);
    is_not_believed(&flip);
}

fn is_not_believed(change: &dyn Fn(&str, &mut Vec<u8>)) {
    let shared = SharedMap::default();
    with_fetched_keys(&shared);
    shared.overwrite(change);
    let mut second = TestEngine::sharing(&without_shared_tokens(), &shared);
    second.tick();
    assert_eq!(second.serve_calls(provider_document).len(), 4, "it fetches for itself");
    assert!(is_admitted(&mut second, &alice_token()));
}

#[test]
fn workers_with_another_secret_share_no_keys() {
    let shared = SharedMap::default();
    with_fetched_keys(&shared);
    let mut other = without_shared_tokens();
    other["identity_providers"]["entra-us"]["client"]["authentication"]["secret"] = json!({"inline": "another"});
    let mut second = TestEngine::sharing(&other, &shared);
    second.tick();
    assert_eq!(second.serve_calls(provider_document).len(), 4);
}

#[test]
fn names_in_shared_memory_are_few_and_opaque() {
    let shared = SharedMap::default();
    let mut workers: [TestEngine; 2] = workers(&shared);
    for engine in &mut workers {
        engine.tick();
        engine.serve_calls(provider_document);
        for user in 0..50 {
            let token = entra_user(&format!("user-{user}"));
            authorization(engine.exchange(bearer("/github", &token), &issued(&format!("up-{user}"))));
        }
    }
    let names = shared.names();
    assert_eq!(names.len(), 5, "{names:?}");
    let is_ours = |name: &String| ["onbehalf.keys.", "onbehalf.workers."].iter().any(|prefix| name.starts_with(prefix));
    assert!(names.iter().all(|name| is_ours(name) && !name.contains("entra")), "{names:?}");
}

#[test]
fn worker_with_stricter_rules_fetches_for_itself() {
    let shared = SharedMap::default();
    let mut first = TestEngine::sharing(&without_shared_tokens(), &shared);
    first.tick();
    first.serve_calls(|call| match provider_document(call) {
        CalloutResult::Response(mut answer) => {
            answer.headers.push(("cache-control".to_owned(), b"max-age=86400".to_vec()));
            CalloutResult::Response(answer)
        }
        failed => failed,
    });
    let mut strict = without_shared_tokens();
    for name in ["entra-us", "okta-eu"] {
        strict["identity_providers"][name]["jwks_max_age_seconds"] = json!(3600);
    }
    let mut second = TestEngine::sharing(&strict, &shared);
    second.advance(4000);
    second.tick();
    assert_eq!(second.serve_calls(provider_document).len(), 4);
    let token = ENTRA_KEY.token(&with(alice(), json!({"exp": second.now.secs() + 600})));
    assert!(is_admitted(&mut second, &token));
}

#[test]
fn restored_records_restore_no_old_key() {
    let shared = SharedMap::default();
    let (mut first, [mut second]) = (with_fetched_keys(&shared), workers(&shared));
    let before = shared.copy();
    for engine in [&mut first, &mut second] {
        engine.advance(3600);
    }
    first.tick();
    first.serve_calls(with_another_key);
    second.tick();
    shared.put_back(&before);
    let claims = with(alice(), json!({"exp": first.now.secs() + 600}));
    for engine in [&mut first, &mut second] {
        engine.tick();
        engine.expect_no_call();
        assert!(is_admitted(engine, &OTHER_KEY.token(&claims)), "the new key stays");
    }
}
