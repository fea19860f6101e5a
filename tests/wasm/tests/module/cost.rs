//! Cost of a request: calls of host functions, and memory.

use onbehalf_wasm_tests::Counts;

use crate::support::keys::Alg;
use crate::support::provider::{entra, okta};
use crate::support::{ready, send, send_waiting, settle, token, verdict};

fn header_calls(counts: &Counts) -> u64 {
    counts.iter().filter(|(name, _)| name.contains("header_map")).map(|(_, times)| times).sum()
}

#[test]
fn warm_request_reads_its_headers_once_and_writes_one() {
    let mut host = ready();
    let token = token::entra("alice", host.world().now()).sign();
    assert_eq!(verdict(&send(&mut host, &token)), "forwarded");
    let request = send_waiting(&mut host, &token);
    assert_eq!(verdict(&host.outcome(request)), "forwarded");
    let counts = host.hostcalls_of(request);
    let total: u64 = counts.values().sum();
    println!("a warm request: {} calls of header functions, {total} in all: {counts:?}", header_calls(&counts));
    assert!(header_calls(&counts) <= 3, "{counts:?}");
    // Each fact about the caller is one write of filter state.
    let facts = counts.get("proxy_set_property").copied().unwrap_or_default();
    assert_eq!(facts, 5, "{counts:?}");
    assert!(total - facts <= 4, "{counts:?}");
    for name in
        ["proxy_call_foreign_function", "proxy_log", "proxy_set_shared_data", "random_get", "proxy_increment_metric"]
    {
        assert_eq!(counts.get(name), None, "{counts:?}");
    }
}

#[test]
fn refused_request_makes_few_hostcalls() {
    let mut host = ready();
    let token = token::entra("alice", host.world().now()).signed_with(&[7; 256]);
    let request = send_waiting(&mut host, &token);
    assert_eq!(verdict(&host.outcome(request)), "bad_signature");
    let counts = host.hostcalls_of(request);
    println!("a refused request: {counts:?}");
    assert_eq!(counts.get("proxy_call_foreign_function"), Some(&1));
    // Each fact for the access log is one write of filter state.
    assert!(counts.get("proxy_set_property").is_some_and(|facts| *facts <= 8), "{counts:?}");
    let others: u64 = counts.iter().filter(|(name, _)| **name != "proxy_set_property").map(|(_, times)| times).sum();
    assert!(others <= 6, "{counts:?}");
}

#[test]
fn idle_worker_makes_almost_no_hostcalls() {
    let mut host = ready();
    host.tick();
    let before: u64 = host.hostcalls().values().sum();
    for _ in 0..60 {
        host.advance(1);
    }
    let after: u64 = host.hostcalls().values().sum();
    assert!(after - before <= 5 * 60, "{:?}", host.hostcalls());
    assert!(host.calls().is_empty());
}

/// Ten thousand users with one token each, forwarded and gone.
#[test]
fn memory_is_limited_by_the_cache_and_not_by_the_number_of_users() {
    const USERS: usize = 10_000;
    let mut host = ready();
    let now = host.world().now();
    let (mut entra, mut okta) = (entra(), okta());
    let mut round = |host: &mut onbehalf_wasm_tests::Host, name: &str| {
        for number in 0..USERS {
            let token = token::entra(&format!("{name}-{number}"), now).with_algorithm(Alg::EdDsa).sign();
            let request = send_waiting(host, &token);
            settle(host, &mut [&mut entra, &mut okta]);
            assert!(matches!(host.outcome(request), onbehalf_wasm_tests::Outcome::Forwarded(_)));
            host.respond(request, &[(":status", "200")]);
            entra.forms.clear();
        }
    };
    let empty = host.memory_bytes();
    round(&mut host, "first");
    let full = host.memory_bytes();
    round(&mut host, "second");
    let later = host.memory_bytes();
    let each = (full - empty) / USERS;
    println!(
        "linear memory: {empty} bytes empty, {full} with {USERS} users ({each} a user), {later} after {} more",
        2 * USERS
    );
    assert!(each <= 8 * 1024, "{each} bytes a user");
    assert!(later <= full + full / 4, "memory grows with users that are gone: {full} then {later}");
}
