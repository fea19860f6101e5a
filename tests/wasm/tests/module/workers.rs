//! Several VMs of one Envoy: the state that they share and the state that they must not share.

use onbehalf_wasm_tests::{Host, Module, Outcome, Reply, World};

use crate::support::provider::{self, entra, exchanged, issued, okta};
use crate::support::{fetch_keys, send, send_waiting, settle, setup, token, verdict};

fn worker(world: &World, vm_id: &str) -> Host {
    let mut host = setup(Module::filter(), &provider::configuration()).world(world).vm_id(vm_id).start();
    assert!(host.configured());
    fetch_keys(&mut host);
    host
}

#[test]
fn each_worker_is_woken_by_its_own_requests_only() {
    let world = World::default();
    let mut workers: Vec<Host> = (0..4).map(|_| worker(&world, "")).collect();
    let now = world.now();
    let tokens: Vec<String> = (0..4).map(|number| token::entra(&format!("user-{number}"), now).sign()).collect();
    let requests: Vec<_> = workers.iter_mut().zip(&tokens).map(|(host, token)| send_waiting(host, token)).collect();
    for (number, (host, token)) in workers.iter().zip(&tokens).enumerate() {
        let calls = host.calls();
        assert_eq!(calls.len(), 1, "worker {number}");
        assert!(calls[0].text().contains(token.as_str()), "worker {number} calls for a request of another");
    }
    for ((host, token), request) in workers.iter_mut().zip(&tokens).zip(requests).rev() {
        settle(host, &mut [&mut entra()]);
        let headers = host.outcome(request).forwarded();
        assert_eq!(headers.text("authorization"), Some(format!("Bearer {}", exchanged(token)).as_str()));
    }
}

#[test]
fn worker_in_trouble_does_not_affect_the_others() {
    let world = World::default();
    let (mut first, mut second) = (worker(&world, ""), worker(&world, ""));
    let [alice, bob] = ["alice", "bob"].map(|user| token::entra(user, world.now()).sign());
    let (stuck, fine) = (send_waiting(&mut first, &alice), send_waiting(&mut second, &bob));
    let call = second.calls().remove(0);
    second.answer(call.id, Reply::json(issued(&bob).to_string()));
    assert_eq!(verdict(&second.outcome(fine)), "forwarded");
    assert_eq!(first.outcome(stuck), Outcome::Waiting, "a reply belongs to the worker that asked");
    let call = first.calls().remove(0);
    first.answer(call.id, Reply::timeout());
    assert_eq!(verdict(&first.outcome(stuck)), "provider_unavailable");
    let again = send_waiting(&mut second, &bob);
    assert_eq!(verdict(&second.outcome(again)), "forwarded");
}

#[test]
fn one_worker_exchanges_for_another_that_waits() {
    let world = World::default();
    let (mut first, mut second) = (worker(&world, ""), worker(&world, ""));
    let token = token::entra("alice", world.now()).sign();
    let asks = send_waiting(&mut first, &token);
    let waits = send_waiting(&mut second, &token);
    assert!(second.calls().is_empty());
    second.tick();
    assert_eq!(second.outcome(waits), Outcome::Waiting);
    settle(&mut first, &mut [&mut entra()]);
    second.tick();
    for (host, request) in [(&first, asks), (&second, waits)] {
        let headers = host.outcome(request).forwarded();
        assert_eq!(headers.text("authorization"), Some(format!("Bearer {}", exchanged(&token)).as_str()));
    }
    // Another plugin has its own memory.
    let mut apart = worker(&world, "another");
    send_waiting(&mut apart, &token);
    assert_eq!(apart.calls().len(), 1);
}

#[test]
fn metrics_of_all_workers_add_up() {
    let world = World::default();
    let mut workers: Vec<Host> = (0..3).map(|_| worker(&world, "")).collect();
    for host in &mut workers {
        let token = token::okta("bob", world.now()).sign();
        assert_eq!(verdict(&send(host, &token)), "forwarded");
        host.tick();
    }
    assert_eq!(world.counter("onbehalf.decisions.reason.forwarded"), 3);
    assert_eq!(world.counter("onbehalf.exchanges.provider.okta-eu.outcome.ok"), 1);
    assert_eq!(world.counter("onbehalf.token_cache.result.shared"), 2);
}

#[test]
fn canary_vm_that_is_dropped_affects_no_worker() {
    let world = World::default();
    drop(setup(Module::filter(), &provider::configuration()).world(&world).start());
    let mut host = worker(&world, "");
    drop(setup(Module::filter(), &provider::configuration()).world(&world).start());
    let token = token::entra("alice", world.now()).sign();
    assert_eq!(verdict(&send(&mut host, &token)), "forwarded", "a later VM must not take over the queue");
}

#[test]
fn shared_data_contains_no_token() {
    let world = World::default();
    let mut workers = [worker(&world, ""), worker(&world, "")];
    let tokens = [token::entra("alice", world.now()).sign(), token::okta("bob", world.now()).sign()];
    for host in &mut workers {
        for token in &tokens {
            assert_eq!(verdict(&send(host, token)), "forwarded");
        }
        host.tick();
        settle(host, &mut [&mut entra(), &mut okta()]);
    }
    for (key, value) in world.shared_data() {
        for token in &tokens {
            for secret in [token.as_bytes(), exchanged(token).as_bytes(), provider::ENTRA_SECRET.as_bytes()] {
                let found = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
                assert!(!found(&key) && !found(&value), "shared data is open to every plugin with the same vm_id");
            }
        }
    }
}
