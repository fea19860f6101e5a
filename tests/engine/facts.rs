//! The facts that tests in other languages read: `tests/facts.json`, which `make docs` writes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use onbehalf::engine::Decision;
use onbehalf::provider;
use onbehalf::refusal::{Challenge, Reason};
use onbehalf::telemetry::{FilterState, Metric, MetricKind};
use serde_json::{Value, json};

use onbehalf_test_support::{TestEngine, alice_token, answer_with, bearer, entra_user, issued};

fn reasons() -> Vec<Value> {
    let fact = |reason: &Reason| {
        let row = reason.row();
        let challenge = match row.challenge {
            Challenge::No => "none",
            Challenge::Bare => "bare",
            Challenge::WithError => "error",
        };
        json!({"label": row.label, "status": row.status, "error": row.error, "challenge": challenge, "text": row.text})
    };
    Reason::ALL.iter().map(fact).collect()
}

fn metrics() -> Vec<Value> {
    let fact = |metric: &Metric| {
        let kind = match metric.kind() {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        json!({"name": format!("onbehalf_{}", metric.name()), "kind": kind, "labels": metric.labels()})
    };
    Metric::ALL.iter().map(fact).collect()
}

/// Names of the filter state that a step leaves.
fn told(step: Decision) -> BTreeSet<String> {
    let state = match step {
        Decision::Forward(edits) => edits.filter_state,
        Decision::Respond(answer) => FilterState::Record(answer.record),
        Decision::Pause => panic!("the request waits"),
    };
    let mut names = BTreeSet::new();
    assert!(
        state.write(|key, _| names.insert(key.trim_start_matches("onbehalf.").to_owned())),
        "a fact is there twice"
    );
    names
}

/// Names of filter state: `every_call` on each forwarded request, `some_calls` in addition on a first one or a refused one.
fn filter_state() -> Value {
    let mut engine = TestEngine::ready();
    let refusal = answer_with(400, &[("x-ms-request-id", "trace")], &json!({"error": "invalid_client"}));
    let mut all = told(engine.exchange(bearer("/github", &alice_token()), &issued("up")));
    let every_call = told(engine.decide(bearer("/github", &alice_token())));
    all.extend(told(engine.exchange(bearer("/github", &entra_user("carol")), &refusal)));
    json!({"every_call": every_call, "some_calls": all.difference(&every_call).collect::<Vec<_>>()})
}

fn facts() -> String {
    let profiles: Vec<_> = provider::profile_names().split(", ").map(str::to_owned).collect();
    let facts = json!({
        "reasons": reasons(),
        "metrics": metrics(),
        "profiles": profiles,
        "filter_state": filter_state(),
    });
    format!("{facts:#}\n")
}

#[test]
fn the_file_of_facts_is_what_the_code_has() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/facts.json");
    let facts = facts();
    if std::env::var_os("ONBEHALF_WRITE_DOCS").is_some() {
        fs::write(&path, &facts).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == facts, "tests/facts.json is not what the code has: run make docs");
}
