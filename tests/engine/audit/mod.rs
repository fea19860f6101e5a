//! The audit record: one log line for each refusal and each exchange with user, target and outcome, and filter state for
//! cached requests. No untrusted claim is in it.

mod diagnosis;
mod filter_state;
mod issued_token;
mod keys;
mod log_line;
mod privacy;

use log::{Level, LevelFilter, Log, Metadata, Record};
use onbehalf::engine::Decision;
use onbehalf::telemetry::FilterState;
use onbehalf_test_support::{ENTRA, TENANT, log_facts};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Once;

thread_local! {
    static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

/// Collects the log of each thread. A test has a thread of its own.
struct Keep;

impl Log for Keep {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        LINES.with_borrow_mut(|lines| lines.push((record.level(), record.args().to_string())));
    }

    fn flush(&self) {}
}

fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        log::set_logger(&Keep).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
    LINES.take();
}

/// The audit records since the last call.
fn records() -> Vec<(Level, HashMap<String, String>)> {
    let lines = LINES.take().into_iter().filter(|(_, line)| line.starts_with("event="));
    lines.map(|(level, line)| (level, log_facts(&line))).collect()
}

fn record() -> (Level, HashMap<String, String>) {
    let mut records = records();
    assert_eq!(records.len(), 1, "{records:?}");
    records.remove(0)
}

fn facts(facts: &[(&str, &str)]) -> HashMap<String, String> {
    facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const GITHUB: &str = "https://mcp.acme.example/github";

const ALICE: &str = "9b1c0000-1111-4222-8333-444455556666/alice";

/// The facts of every record about Alice at the first resource.
fn of_alice(more: &[(&str, &str)]) -> HashMap<String, String> {
    let mut all = facts(&[
        ("resource", GITHUB),
        ("provider", "entra-us"),
        ("issuer", ENTRA),
        ("subject", ALICE),
        ("client", "client"),
        ("tenant", TENANT),
        ("scopes", "api://github/.default"),
    ]);
    all.extend(facts(more));
    all
}

fn audited(step: Decision) -> HashMap<String, String> {
    let state = match step {
        Decision::Forward(edits) => edits.filter_state,
        Decision::Respond(answer) => FilterState::Record(answer.record),
        Decision::Pause => panic!("waits"),
    };
    let mut facts = HashMap::new();
    let is_whole = state.write(|key, value| facts.insert(key.replace("onbehalf.", ""), value.to_owned()).is_none());
    assert!(is_whole, "a fact is there twice: {facts:?}");
    facts
}
