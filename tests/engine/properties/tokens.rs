//! Tokens: their bytes, their validity, and the exchanges that they cause.

use onbehalf::crypto::{Algorithm, Software};
use onbehalf::engine::Decision;
use onbehalf::jose::{Claims, CompactJws, KeySet, Selection, Signed, TokenError, TokenRules, check, verify};
use onbehalf::time::UnixTime;
use onbehalf_test_support::{
    ENTRA, ENTRA_KEY, NOW, SharedMap, TENANT, TestEngine, alice, alice_token, answer_with, bearer, configuration,
    key_set, provider_document, with,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use std::time::Duration;

use super::{EXACT, cases, change, changed};

/// Checks claims and signature of a token with the keys of one provider.
fn accept(token: &str, now: UnixTime) -> Result<(), TokenError> {
    let compact = CompactJws::parse(token, |_| None)?;
    let algorithm = Algorithm::from_name(&compact.header.algorithm).ok_or(TokenError::Algorithm)?;
    let members = compact.claims()?;
    let claims = Claims::read(&members)?;
    let audiences = ["api://gateway".to_owned()];
    let expected = TokenRules { audiences: &audiences, types: &["jwt"], leeway: Duration::from_secs(60) };
    check(&compact.header, &claims, expected, || Ok(()), now).map_err(|rejection| rejection.error)?;
    let (keys, _) = KeySet::read(&key_set(&[&ENTRA_KEY])).unwrap();
    match keys.select(compact.header.key_id.as_deref(), algorithm) {
        Selection::Found(key) => {
            let signed = Signed { algorithm, input: compact.signing_input, signature: &compact.signature };
            verify(signed, key, &[], ENTRA, Some(TENANT), &Software)
        }
        _ => Err(TokenError::Key),
    }
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn token_with_one_changed_byte_is_refused((at, byte) in change(), insert in any::<bool>()) {
        let good = alice_token();
        prop_assert!(accept(&good, NOW).is_ok());
        let changed = changed(&good, &at, byte, insert);
        prop_assume!(changed != good);
        prop_assert!(accept(&changed, NOW).is_err(), "accepted with {:?}", char::from(byte));
    }
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn token_is_valid_from_nbf_to_exp_and_at_no_other_time(
        expires in prop_oneof![0..300_u64, Just(0), any::<u64>().prop_map(|seconds| seconds % EXACT)],
        not_before in proptest::option::of(prop_oneof![0..300_u64, any::<u64>().prop_map(|seconds| seconds % EXACT)]),
        now in prop_oneof![0..400_u64, Just(u64::MAX / 1000), 0..EXACT],
        near in proptest::option::of((any::<bool>(), 0..3_u64)),
    ) {
        // Most errors are off by one.
        let now = match (near, not_before) {
            (None, _) => now,
            (Some((true, off)), Some(from)) => (from + off).saturating_sub(61),
            (Some((_, off)), _) => expires + 59 + off,
        };
        let token = ENTRA_KEY.token(&with(alice(), json!({"exp": expires, "nbf": not_before, "iat": null})));
        let verdict = accept(&token, UnixTime::from_secs(now));
        let leeway = 60;
        let expected = if i128::from(now) >= i128::from(expires) + leeway {
            Some(TokenError::Expired)
        } else if not_before.is_some_and(|from| i128::from(now) < i128::from(from) - leeway) {
            Some(TokenError::NotYetValid)
        } else {
            None
        };
        prop_assert_eq!(verdict.err(), expected);
    }

    /// Each exchange is one that the lifetimes require, so fewer are impossible.
    #[test]
    fn token_is_exchanged_when_missing_and_used_before_it_expires(
        subject in prop_oneof![1..120_u64, 1..4000_u64],
        lifetimes in vec(prop_oneof![1..100_u64, 1..4000_u64], 1..6),
        ends_with_subject in any::<bool>(),
        is_jwt in any::<bool>(),
        latency in prop_oneof![Just(0), 0..3000_u64],
        pauses in vec(prop_oneof![0..1000_u64, 0..30_000_u64, 0..600_000_u64], 1..150),
    ) {
        let shared = SharedMap::default();
        let mut workers = [(); 2].map(|()| TestEngine::sharing(&configuration(), &shared).with_keys());
        let subject = subject * 1000;
        let token = ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() + subject / 1000})));
        // Tokens that were issued: each with the time of its request, and its lifetime.
        let mut issued: Vec<(String, u64, u64)> = Vec::new();
        let mut time = 0;
        for (number, pause) in pauses.into_iter().enumerate() {
            time += pause;
            if time >= subject + 60_000 {
                break;
            }
            let engine = &mut workers[number % 2];
            engine.now = NOW.plus(Duration::from_millis(time));
            let (id, mut step) = engine.send(bearer("/github", &token));
            let waits = matches!(step, Decision::Pause);
            while let Some((flight, call)) = engine.inner.next_callout() {
                prop_assert_eq!(call.method, "POST");
                // A token is used to its end unless the next one may last a minute longer, which is worth a call.
                let is_worth_it = |asked: u64, lifetime: u64| asked + lifetime + 60_000 < subject;
                let usable = |asked, lifetime: u64| match is_worth_it(asked, lifetime) {
                    true => lifetime - (lifetime / 4).min(30_000),
                    false => lifetime,
                };
                let until = |(_, asked, lifetime): &&(String, u64, u64)| asked + usable(*asked, *lifetime);
                if let Some((_, asked, lifetime)) = issued.iter().max_by_key(until) {
                    let all = usable(*asked, *lifetime);
                    let ahead = if waits || !is_worth_it(*asked, *lifetime) { 0 } else { all / 5 };
                    prop_assert!(time + 1 + ahead >= asked + all, "asked for again after {} of {} ms", time - asked, lifetime);
                    // A renewal that would bring a shorter token is not repeated.
                    let (_, last, lifetime) = issued.last().unwrap();
                    let ahead = if waits { 0 } else { usable(*last, *lifetime) / 5 };
                    prop_assert!(time + 1 + ahead >= asked + all, "asked for again after {} ms", time - last);
                }
                let asked = time;
                time += latency;
                engine.now = NOW.plus(Duration::from_millis(time));
                let left = (subject.saturating_sub(asked) / 1000).max(1);
                let lifetime = lifetimes[issued.len() % lifetimes.len()];
                let lifetime = if ends_with_subject { lifetime.min(left) } else { lifetime };
                let expires = UnixTime::from_secs((NOW.millis() + asked).div_ceil(1000) + lifetime);
                let claims = json!({"n": issued.len(), "aud": "api://github", "exp": expires.secs()});
                let (next, lifetime, expires_in) = match is_jwt {
                    true => (ENTRA_KEY.token(&claims), expires.millis() - NOW.millis() - asked, 9000),
                    false => (format!("up-{}", issued.len()), lifetime * 1000, lifetime),
                };
                issued.push((next.clone(), asked, lifetime));
                let body = json!({"access_token": next, "token_type": "Bearer", "expires_in": expires_in});
                for (of, next) in engine.callout_result(flight, &answer_with(200, &[], &body)) {
                    prop_assert_eq!(of, id);
                    step = next;
                }
            }
            match step {
                Decision::Forward(edits) => {
                    let authorization = edits.authorization.unwrap();
                    let sent = authorization.reveal().strip_prefix("Bearer ").unwrap();
                    let (_, asked, lifetime) = issued.iter().find(|(token, ..)| token == sent).unwrap();
                    // Requests that waited for a slow response get its token all the same.
                    let slack = if waits && !is_jwt { latency } else { 0 };
                    prop_assert!(time < asked + lifetime + slack, "sent {} ms after its end", time - asked - lifetime);
                }
                // The response took longer than the lifetime of its token, or of the caller's own.
                Decision::Respond(answer) => prop_assert!(latency > 0, "{:?}", answer),
                Decision::Pause => prop_assert!(false, "nobody waits"),
            }
        }
    }

    #[test]
    fn changed_token_is_never_exchanged((at, byte) in change()) {
        let good = alice_token();
        let changed = changed(&good, &at, byte, false);
        prop_assume!(changed != good);
        let mut engine = TestEngine::ready();
        drop(engine.send(bearer("/github", &changed)));
        while let Some((flight, call)) = engine.inner.next_callout() {
            // An unknown `kid` may cause a fetch of keys. No other call is allowed.
            prop_assert_eq!(call.method, "GET");
            drop(engine.callout_result(flight, &provider_document(&call)));
        }
        prop_assert_eq!(engine.inner.waiting(), 0);
    }
}
