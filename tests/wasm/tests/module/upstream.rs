//! The module and the upstream's responses. A trap fails the test by itself.

use onbehalf_wasm_tests::{Host, Outcome};

use crate::support::provider::entra;
use crate::support::{head, ready, send_waiting, settle, token, verdict};

/// A request that was forwarded just now: the first waited for its token, later ones did not.
fn sent(host: &mut Host, token: &str) -> onbehalf_wasm_tests::StreamId {
    // The request is in a later millisecond than the response before. The filter ignores responses to requests that
    // may be older.
    host.world().advance(1);
    let request = send_waiting(host, token);
    settle(host, &mut [&mut entra()]);
    assert_eq!(verdict(&host.outcome(request)), "forwarded");
    request
}

#[test]
fn rejected_token_is_exchanged_again_for_warm_and_waiting_requests() {
    for field in [Some("Bearer"), None] {
        let mut host = ready();
        let token = token::entra("alice", host.world().now()).sign();
        let mut headers = vec![(":status", "401")];
        headers.extend(field.map(|value| ("www-authenticate", value)));
        for expected in ["upstream_rejected_token", "upstream_rejects_tokens"] {
            let request = sent(&mut host, &token);
            host.respond(request, &headers);
            assert_eq!(verdict(&host.outcome(request)), expected);
        }
        let request = sent(&mut host, &token);
        host.respond(request, &headers);
        assert_eq!(verdict(&host.outcome(request)), "upstream_rejects_tokens", "a warm request");
    }
}

#[test]
fn good_response_costs_a_warm_request_one_header_read() {
    let mut host = ready();
    let token = token::entra("alice", host.world().now()).sign();
    let first = sent(&mut host, &token);
    host.respond(first, &[(":status", "200")]);
    host.world().advance(1);
    let [one, other, last] = [(); 3].map(|()| send_waiting(&mut host, &token));
    let count = |host: &Host, request| host.hostcalls_of(request).values().sum::<u64>();
    let with_content = [(":status", "200"), ("content-type", "text/event-stream")];
    // gRPC's status is in the header of a response without content.
    for (request, response, looks) in
        [(one, &with_content[..], 2), (other, &with_content, 1), (last, &with_content[..1], 2)]
    {
        let before = count(&host, request);
        host.respond(request, response);
        assert_eq!(count(&host, request) - before, looks, "the status of every answer in a millisecond is read");
        assert_eq!(verdict(&host.outcome(request)), "forwarded");
    }
}

#[test]
fn response_on_an_unauthenticated_path_is_not_read() {
    let mut host = ready();
    let request = host.request(&[(":method", "GET"), (":authority", "mcp.acme.example"), (":path", "/healthz")]);
    let before: u64 = host.hostcalls_of(request).values().sum();
    let response = host.respond(request, &[(":status", "401"), ("www-authenticate", "Basic")]);
    assert_eq!(host.hostcalls_of(request).values().sum::<u64>(), before);
    assert_eq!(response.text("www-authenticate"), Some("Basic"));
}

#[test]
fn upstream_responses_of_every_kind_cause_no_trap() {
    let mut host = ready();
    let odd: [&[u8]; 10] = [
        b"",
        b"0",
        b"99999",
        b"-401",
        b"\xff\xfe",
        b"401",
        b"101",
        b"Bearer error=\"insufficient_claims\", claims=\"\xff\"",
        b"Bearer error=\"insufficient_claims\", claims=\"e30\"",
        b"\",\\",
    ];
    let long = vec![b','; 200_000];
    for (number, status) in odd.into_iter().enumerate() {
        for (other, field) in odd.into_iter().chain([&long[..]]).enumerate() {
            let user = format!("user-{number}-{other}");
            let token = token::entra(&user, host.world().now()).sign();
            let request = sent(&mut host, &token);
            let headers: [(&[u8], &[u8]); 4] =
                [(b":status", status), (b"www-authenticate", field), (b"www-authenticate", field), (field, b"x")];
            let response = host.respond(request, &headers);
            let is_rejected = matches!(host.outcome(request), Outcome::Answered(_));
            assert_eq!(is_rejected, status == b"401", "{status:?} {field:?}");
            assert_eq!(response.get("www-authenticate"), None);
        }
        let token = token::entra("bare", host.world().now()).sign();
        let request = sent(&mut host, &token);
        host.respond::<&[u8], &[u8]>(request, &[]);
        assert_eq!(verdict(&host.outcome(request)), "forwarded");
    }
}

#[test]
fn responses_may_arrive_out_of_order() {
    let mut host = ready();
    let token = token::entra("alice", host.world().now()).sign();
    let requests: Vec<_> = (0..4).map(|_| host.request(&head(&format!("Bearer {token}")))).collect();
    settle(&mut host, &mut [&mut entra()]);
    host.world().advance(1);
    for (index, expected) in [(2, "upstream_rejected_token"), (0, "upstream_rejected_token"), (3, "forwarded")] {
        let status = if expected == "forwarded" { "200" } else { "401" };
        host.respond(requests[index], &[(":status", status), ("www-authenticate", "Bearer")]);
        assert_eq!(verdict(&host.outcome(requests[index])), expected);
    }
    host.leave(requests[1]);
}
