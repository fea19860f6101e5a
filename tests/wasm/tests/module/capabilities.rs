//! Hosts that offer less: Envoy's `capability_restriction_config`, older versions, other proxies.

use onbehalf_wasm_tests::{Host, Module, Outcome};

use crate::support::provider::{self, entra, okta};
use crate::support::{fetch_keys, head, send, settle, setup, token, verdict};

fn without(capability: &str) -> Host {
    setup(Module::filter(), &provider::configuration()).deny(capability).survives_traps().start()
}

#[test]
fn module_works_without_foreign_functions() {
    let mut host = without("proxy_call_foreign_function");
    assert!(host.configured(), "{:?} {}", host.trap(), host.log_text());
    fetch_keys(&mut host);
    let now = host.world().now();
    assert_eq!(verdict(&send(&mut host, &token::entra("alice", now).sign())), "forwarded");
    assert_eq!(verdict(&send(&mut host, &token::okta("bob", now).sign())), "forwarded");
}

#[test]
fn missing_foreign_function_leaves_the_other_in_use() {
    for absent in ["verify_signature", "sign"] {
        let mut host = setup(Module::filter(), &provider::configuration()).without_foreign_function(absent).start();
        fetch_keys(&mut host);
        let now = host.world().now();
        assert_eq!(verdict(&send(&mut host, &token::okta("bob", now).sign())), "forwarded", "without {absent}");
        assert!(host.hostcalls().get("proxy_call_foreign_function").is_some_and(|times| *times > 0));
    }
}

/// Denies each capability of the module in turn. The module never forwards the caller's own token, nor a request as if
/// it had been exchanged.
#[test]
fn missing_capabilities_never_forward_the_inbound_token() {
    let used: Vec<String> = Module::filter()
        .imports()
        .into_iter()
        .filter_map(|name| name.split_once('.').map(|(_, name)| name.to_owned()))
        .collect();
    let mut trapped = Vec::new();
    for capability in &used {
        let mut host = without(capability);
        if host.configured() {
            fetch_keys(&mut host);
        }
        let token = token::entra("alice", host.world().now()).sign();
        let authorization = format!("Bearer {token}");
        let request = host.request(&head(&authorization));
        if host.trap().is_none() {
            settle(&mut host, &mut [&mut entra(), &mut okta()]);
        }
        if let Outcome::Forwarded(headers) = host.outcome(request) {
            for (_, value) in headers.iter() {
                assert!(!value.windows(token.len()).any(|window| window == token.as_bytes()), "{capability}");
            }
        }
        if let Some(trap) = host.trap() {
            trapped.push(format!("{capability}: {}", trap.lines().next().unwrap_or_default()));
        }
    }
    println!("capabilities whose absence traps the VM:\n{}", trapped.join("\n"));
}

#[test]
fn denied_callout_is_a_refusal_and_not_a_trap() {
    let mut host = without("proxy_http_call");
    assert!(host.configured());
    host.tick();
    let token = token::entra("alice", host.world().now()).sign();
    let outcome = send(&mut host, &token);
    assert_eq!(verdict(&outcome), "jwks_unavailable", "{:?}", host.trap());
}
