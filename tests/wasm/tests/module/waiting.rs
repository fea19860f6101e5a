//! Requests that wait for the same token, and clients that disconnect.

use onbehalf_wasm_tests::{Host, Module, Outcome, Reply, StreamId};
use serde_json::json;

use crate::support::provider::{self, entra, exchanged, issued, okta};
use crate::support::{head, ready, send, send_waiting, settle, setup, token, verdict};

#[test]
fn call_is_made_when_the_queue_is_delivered() {
    let mut host = ready();
    let token = token::entra("alice", host.world().now()).sign();
    let authorization = format!("Bearer {token}");
    let request = host.request(&head(&authorization));
    assert!(host.calls().is_empty(), "a request must not dispatch: the SDK loses the reply when it leaves");
    assert_eq!(host.run_queue(), 1);
    assert_eq!(host.calls().len(), 1);
    assert_eq!(host.outcome(request), Outcome::Waiting);
}

#[test]
fn timer_makes_up_for_a_lost_wake_up() {
    let mut host = setup(Module::filter(), &provider::configuration()).deny("proxy_on_queue_ready").start();
    crate::support::fetch_keys(&mut host);
    let token = token::entra("alice", host.world().now()).sign();
    let request = send_waiting(&mut host, &token);
    assert!(host.calls().is_empty());
    host.advance(1);
    settle(&mut host, &mut [&mut entra()]);
    assert_eq!(verdict(&host.outcome(request)), "forwarded");
}

#[test]
fn first_client_disconnects_and_the_others_are_answered() {
    let mut host = ready();
    let token = token::entra("alice", host.world().now()).sign();
    let requests: Vec<_> = (0..50).map(|_| send_waiting(&mut host, &token)).collect();
    let calls = host.calls();
    assert_eq!(calls.len(), 1, "fifty first requests of one user are one exchange");
    host.leave(requests[0]);
    host.leave(requests[30]);
    host.answer(calls[0].id, Reply::json(issued(&token).to_string()));
    host.run_queue();
    for (number, request) in requests.into_iter().enumerate() {
        match host.outcome(request) {
            Outcome::Left => assert!(number == 0 || number == 30),
            outcome => {
                let headers = outcome.forwarded();
                assert_eq!(headers.text("authorization"), Some(format!("Bearer {}", exchanged(&token)).as_str()));
            }
        }
    }
}

/// Number of decided requests.
fn decided(host: &Host, requests: &[StreamId]) -> usize {
    requests.iter().filter(|request| host.outcome(**request) != Outcome::Waiting).count()
}

#[test]
fn waiting_requests_resume_32_in_a_turn_in_order_of_arrival() {
    let mut host = ready();
    let token = token::entra("alice", host.world().now()).sign();
    let requests: Vec<_> = (0..256).map(|_| send_waiting(&mut host, &token)).collect();
    let calls = host.calls();
    host.answer(calls[0].id, Reply::json(issued(&token).to_string()));
    let mut gone = 0;
    loop {
        let now_gone = decided(&host, &requests);
        assert!(now_gone - gone <= 32, "{} went in one turn", now_gone - gone);
        assert_eq!(decided(&host, &requests[..now_gone]), now_gone, "not in order");
        gone = now_gone;
        if !host.run_queue_once() {
            break;
        }
    }
    assert_eq!(gone, requests.len(), "the rest was forgotten");
}

#[test]
fn request_with_a_body_is_the_last_of_its_turn() {
    let mut host = ready();
    let token = token::entra("alice", host.world().now()).sign();
    let authorization = format!("Bearer {token}");
    let bodies: [&[u8]; 6] = [b"", b"", b"{}", b"", b"{}", b""];
    let requests: Vec<_> = bodies.iter().map(|body| host.request_with_body(&head(&authorization), body)).collect();
    host.run_queue();
    let calls = host.calls();
    host.answer(calls[0].id, Reply::json(issued(&token).to_string()));
    let mut gone = vec![decided(&host, &requests)];
    while host.run_queue_once() {
        gone.push(decided(&host, &requests));
    }
    assert_eq!(gone, [3, 5, 6]);
}

#[test]
fn timer_resumes_no_more_requests_than_any_other_turn() {
    let mut host = setup(Module::filter(), &provider::configuration()).start();
    let now = host.world().now();
    let forged: Vec<_> = (0..500)
        .map(|n| send_waiting(&mut host, &token::entra(&format!("m{n}"), now).signed_with(&[1; 256])))
        .collect();
    let waiting: Vec<_> = forged.into_iter().filter(|request| host.outcome(*request) == Outcome::Waiting).collect();
    assert_eq!(waiting.len(), 256, "half of the places, for one of two providers");
    // No reply arrives, and the host drops the calls.
    host.advance(16);
    let gone = decided(&host, &waiting);
    assert!((1..=32).contains(&gone), "{gone} went, beside calls that are made once more");
    host.run_queue();
    assert_eq!(decided(&host, &waiting), waiting.len());
}

#[test]
fn token_is_cached_although_every_client_disconnected() {
    let mut host = ready();
    let token = token::entra("alice", host.world().now()).sign();
    let requests: Vec<_> = (0..3).map(|_| send_waiting(&mut host, &token)).collect();
    for request in requests {
        host.leave(request);
    }
    let call = host.calls().remove(0);
    host.answer(call.id, Reply::json(issued(&token).to_string()));
    let request = send_waiting(&mut host, &token);
    assert_eq!(verdict(&host.outcome(request)), "forwarded");
    assert!(host.calls().is_empty());
}

#[test]
fn failed_exchange_refuses_all_requests_that_waited_for_it() {
    let mut host = ready();
    let token = token::entra("alice", host.world().now()).sign();
    let requests: Vec<_> = (0..10).map(|_| send_waiting(&mut host, &token)).collect();
    let call = host.calls().remove(0);
    host.answer(call.id, Reply::timeout());
    for request in requests {
        assert_eq!(verdict(&host.outcome(request)), "provider_unavailable");
    }
    host.advance(10);
    assert_eq!(verdict(&send(&mut host, &token)), "forwarded", "it is tried again later");
}

#[test]
fn replies_in_any_order_reach_their_own_requests() {
    let mut host = ready();
    let now = host.world().now();
    let users: Vec<(String, String)> = (0..12)
        .map(|number| {
            let user = format!("user-{number}");
            let token = if number % 2 == 0 { token::entra(&user, now) } else { token::okta(&user, now) };
            (user, token.sign())
        })
        .collect();
    let requests: Vec<_> = users.iter().map(|(_, token)| send_waiting(&mut host, token)).collect();
    let mut calls = host.calls();
    assert_eq!(calls.len(), users.len());
    calls.reverse();
    calls.rotate_left(5);
    for call in calls {
        let form = call.text().to_owned();
        let (_, token) = users.iter().find(|(_, token)| form.contains(token.as_str())).expect("a token of ours");
        host.answer(call.id, Reply::json(issued(token).to_string()));
    }
    for ((_, token), request) in users.iter().zip(requests) {
        let headers = host.outcome(request).forwarded();
        assert_eq!(headers.text("authorization"), Some(format!("Bearer {}", exchanged(token)).as_str()));
    }
}

#[test]
fn requests_before_the_keys_wait_for_them() {
    let mut host = setup(Module::filter(), &provider::configuration()).start();
    let now = host.world().now();
    let alice = send_waiting(&mut host, &token::entra("alice", now).sign());
    let bob = send_waiting(&mut host, &token::okta("bob", now).sign());
    let mallory = send_waiting(&mut host, &token::entra("mallory", now).signed_with(&[1; 256]));
    for request in [alice, bob, mallory] {
        assert_eq!(host.outcome(request), Outcome::Waiting);
    }
    let (mut entra, mut okta) = (entra(), okta());
    settle(&mut host, &mut [&mut entra, &mut okta]);
    assert_eq!(verdict(&host.outcome(alice)), "forwarded");
    assert_eq!(verdict(&host.outcome(bob)), "forwarded");
    assert_eq!(verdict(&host.outcome(mallory)), "bad_signature");
    assert!(entra.called.values().all(|times| *times == 1), "{:?}", entra.called);
    assert_eq!(entra.forms.len(), 1, "nothing was exchanged for a token that does not verify");
}

#[test]
fn missing_reply_does_not_hold_a_request_for_ever() {
    let mut host = ready();
    let token = token::entra("alice", host.world().now()).sign();
    let request = send_waiting(&mut host, &token);
    let lost = host.calls().remove(0);
    assert!(lost.timeout > 0 && lost.timeout <= 60_000, "Envoy waits for ever for 0");
    host.advance(120);
    host.advance(120);
    assert_eq!(verdict(&host.outcome(request)), "provider_unavailable");
    // A late reply decides no request a second time. The host would detect it.
    host.answer(lost.id, Reply::json(issued(&token).to_string()));
}

#[test]
fn client_that_disconnects_during_its_call_affects_no_other() {
    let mut host = ready();
    let now = host.world().now();
    let tokens: Vec<String> = (0..20).map(|number| token::entra(&format!("u{number}"), now).sign()).collect();
    let requests: Vec<_> = tokens.iter().map(|token| send_waiting(&mut host, token)).collect();
    for (number, call) in host.calls().into_iter().enumerate() {
        if number % 3 == 0 {
            host.leave(requests[number]);
        }
        let reply = match number % 4 {
            0 => Reply::json(issued(&tokens[number]).to_string()),
            1 => Reply::reset(),
            2 => Reply::new(400, "application/json", json!({"error": "invalid_grant"}).to_string()),
            _ => Reply::timeout(),
        };
        host.answer(call.id, reply);
    }
    // The calls with a broken connection are repeated.
    for call in host.calls() {
        host.answer(call.id, Reply::timeout());
    }
    for (number, request) in requests.into_iter().enumerate() {
        let left = number % 3 == 0;
        assert_eq!(verdict(&host.outcome(request)) == "left", left, "{number}");
        assert_ne!(host.outcome(request), Outcome::Waiting, "{number}");
    }
}

#[test]
fn waiting_requests_for_one_token_are_limited_with_retry_after() {
    let mut host = ready();
    let now = host.world().now();
    let mut refused = 0;
    let mut requests = Vec::new();
    for number in 0..6000 {
        let token =
            token::okta(&format!("u{}", number % 3), now).with_algorithm(crate::support::keys::Alg::EdDsa).sign();
        requests.push(send_waiting(&mut host, &token));
        if let Outcome::Answered(answer) = host.outcome(requests[number]) {
            assert_eq!(crate::support::reason(&answer), "overloaded");
            assert!(answer.headers.get("retry-after").is_some());
            refused += 1;
        }
    }
    assert!(refused > 0, "six thousand paused requests in one worker are too many");
    settle(&mut host, &mut [&mut okta()]);
    for request in requests {
        assert_ne!(host.outcome(request), Outcome::Waiting);
    }
}
