//! Exports of the built module: those that tools/exports.json keeps, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use onbehalf_wasm_tests::Module;
use serde_json::Value;

#[test]
fn built_module_exports_the_listed_callbacks() {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/exports.json");
    let nodes: Vec<Value> = serde_json::from_str(&fs::read_to_string(list).unwrap()).unwrap();
    let kept: BTreeSet<_> = nodes.iter().filter_map(|node| node["export"].as_str()).collect();
    let exports = Module::filter().exports();
    assert_eq!(exports.iter().map(String::as_str).collect::<BTreeSet<_>>(), kept);
}
