//! A plan for the random world: its settings and its events, as the fuzzer makes them.

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use onbehalf_test_support::world::{Event, IdToken, Scene, Settings, World};

use crate::watch_the_log;

/// The settings and the events of one run.
#[derive(Arbitrary, Debug)]
pub struct Plan<'a> {
    id_token: u8,
    cached: u8,
    events: Vec<Event<'a>>,
}

/// Plays a plan with two workers, ends the run, and checks the invariants after each event.
pub fn run(plan: &Plan<'_>) {
    watch_the_log(&plan.events.iter().flat_map(Event::texts).collect::<Vec<_>>().join(&b'\n'));
    let settings = Settings::fixed(IdToken::from_byte(plan.id_token), plan.cached);
    World::new(Scene::fixed(), settings, 2).play(&plan.events);
}
