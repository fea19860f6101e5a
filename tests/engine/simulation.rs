//! The random world with thousands of requests: replies that are late and out of order, providers that fail, clients that
//! disconnect, a clock that jumps. The invariants hold after each event, and every request is decided at the end.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use onbehalf_test_support::world::{Event, IdToken, Oddity, Scene, Scripted, Settings, World, random_event};
use onbehalf_test_support::{NOW, Random};

/// Settings that every seed varies: every other world takes two calls for Okta's tokens, and the caches are small.
fn settings(random: &mut Random, seed: u64) -> Settings {
    Settings {
        id_token: IdToken::None,
        two_calls: !seed.is_multiple_of(2),
        client_assertions: true,
        cache: Some((8 + random.below(40), 1 + random.below(40))),
    }
}

/// Lets 600 random events happen, and ends the run. A failure names the seed.
fn play(world: &mut World<'_>, random: &mut Random, seed: u64) {
    let run = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..600 {
            world.happen(&random_event(random));
        }
        world.finish();
    }));
    assert!(run.is_ok(), "with seed {seed}");
}

/// Adds up the refusals of a run.
fn add(refused: &mut BTreeMap<String, usize>, more: BTreeMap<String, usize>) {
    for (reason, number) in more {
        *refused.entry(reason).or_default() += number;
    }
}

fn assert_each_happened(refused: &BTreeMap<String, usize>, reasons: &[&str]) {
    for reason in reasons {
        assert!(refused.contains_key(*reason), "{reason} never happened: {refused:?}");
    }
}

#[test]
fn random_events_keep_every_invariant() {
    let (mut forwarded, mut exchanges, mut assertions) = (0, 0, 0);
    let mut refused = BTreeMap::new();
    for seed in 0..60 {
        let mut random = Random::from_seed(seed);
        let settings = settings(&mut random, seed);
        let scene = Scene::generated(&mut random, settings.okta_target());
        let mut world = World::new(&scene, settings, if seed % 4 < 2 { 1 } else { 2 });
        play(&mut world, &mut random, seed);
        forwarded += world.tally.forwarded;
        exchanges += world.tally.exchanges;
        assertions += world.tally.assertions;
        add(&mut refused, world.tally.refused);
    }
    assert!(assertions > 200, "{assertions} assertions were used");
    // The simulation would prove little if few requests were forwarded.
    assert!(
        forwarded > 3000 && exchanges > 1000 && exchanges < forwarded,
        "{forwarded} forwarded, {exchanges} exchanges"
    );
    let reasons = [
        "jwks_unavailable",
        "provider_unavailable",
        "provider_throttled",
        "provider_answer_invalid",
        "exchange_rejected",
        "interaction_required",
        "exchange_misconfigured",
        "unknown_key",
        "wrong_audience",
        "opaque_token",
        "expired",
    ];
    assert_each_happened(&refused, &reasons);
}

#[test]
fn random_events_keep_the_invariants_of_bound_tokens_and_id_tokens() {
    let (mut forwarded, mut refused) = (0, BTreeMap::new());
    for seed in 0..20 {
        let mut random = Random::from_seed(1000 + seed);
        let id_token = random.pick(&[IdToken::None, IdToken::Header, IdToken::Cookie]);
        let settings = Settings { two_calls: false, id_token, ..settings(&mut random, seed) };
        let mut world = World::new(Scene::fixed(), settings, 2);
        play(&mut world, &mut random, seed);
        forwarded += world.tally.forwarded;
        add(&mut refused, world.tally.refused);
    }
    assert!(forwarded > 500, "{forwarded} forwarded");
    let reasons = [
        "sender_constrained_token",
        "invalid_dpop_proof",
        "multiple_credentials",
        "subject_token_missing",
        "wrong_certificate",
    ];
    assert_each_happened(&refused, &reasons);
}

#[test]
fn healthy_providers_exchange_each_token_once_for_each_target() {
    let mut random = Random::from_seed(8);
    let settings = Settings { two_calls: false, cache: None, ..settings(&mut random, 8) };
    let mut scene = Scene::generated(&mut random, settings.okta_target());
    scene.callers.retain(|caller| caller.github.is_some() && caller.expires > NOW.secs() + 3000);
    let targets: usize = scene.callers.iter().map(|caller| 1 + usize::from(caller.admin.is_some())).sum();
    let mut world = World::new(&scene, settings, 1);
    for _ in 0..2000 {
        let byte = u8::try_from(random.below(256)).unwrap();
        world.happen(&if random.below(10) < 7 {
            let caller = usize::from(byte) % scene.callers.len();
            let admin = scene.callers[caller].admin.is_some() && random.one_in(2);
            Event::Request { worker: false, caller: byte, admin, proof: 0, oddity: Oddity::None }
        } else {
            Event::CalloutResult { call: byte, reply: Scripted::Good }
        });
    }
    world.finish();
    assert_eq!(world.tally.exchanges, targets);
    assert!(world.tally.refused.is_empty(), "{:?}", world.tally.refused);
    assert!(world.tally.documents.values().all(|calls| *calls == 1), "{:?}", world.tally.documents);
}
