//! The emulated `verify_signature` gives the verdicts that Envoy's own was measured to give (`tests/envoy/vectors.test.mjs`),
//! so that what the other tests here find holds there.

#[path = "../../vectors/verdicts.rs"]
mod verdicts;
#[path = "../../vectors/wycheproof.rs"]
mod wycheproof;

use std::cell::Cell;

use onbehalf::crypto::EnvoyCrypto;
use onbehalf_wasm_tests::foreign;

#[test]
fn the_emulated_function_gives_every_vector_its_verdict() {
    let calls = Cell::new(0);
    let host = EnvoyCrypto::probe(|name, arguments| {
        assert_eq!(name, "verify_signature");
        calls.set(calls.get() + 1);
        foreign::verify_signature(arguments).ok()
    });
    assert_eq!(format!("{host:?}"), "signatures are verified by the host");
    let asked_by_the_probe = calls.get();
    let verdicts = verdicts::check(&host);
    println!("{verdicts}");
    verdicts.assert_complete();
    assert_eq!(calls.get() - asked_by_the_probe, verdicts.for_the_host);
}
