//! Random sequences of all events of a worker. The host fails the test when a request is decided twice, when the module
//! traps or acts on a request that has ended. This test adds that each request is decided, with its own token, and that
//! local replies keep the invariants of the random world.

use onbehalf::http::{CalloutFailure, CalloutResult};
use onbehalf_test_support::Random;
use onbehalf_test_support::world::{Secrets, check_reply_parts, random_trouble};
use onbehalf_wasm_tests::{Host, Outcome, Reply, StreamId};

use crate::support::keys::Alg;
use crate::support::provider::{ENTRA_SECRET, entra, exchanged, issued, okta};
use crate::support::{ready, send_waiting, settle, token};

/// The reply of the host in place of a reply of the random world.
fn host_reply(reply: CalloutResult) -> Reply {
    match reply {
        CalloutResult::Failed(CalloutFailure::TimedOut) => Reply::timeout(),
        CalloutResult::Failed(CalloutFailure::NoConnection) => Reply::refused(),
        CalloutResult::Failed(_) | CalloutResult::ByEnvoy(..) => Reply::reset(),
        CalloutResult::Response(answer) => {
            let reply = Reply::new(answer.status, "application/json", answer.body);
            answer.headers.iter().fold(reply, |reply, (name, value)| reply.header(name, value))
        }
    }
}

fn random_reply(random: &mut Random, subject: &str) -> Reply {
    if random.one_in(3) { Reply::json(issued(subject).to_string()) } else { trouble(random, subject) }
}

fn trouble(random: &mut Random, subject: &str) -> Reply {
    host_reply(random_trouble(random).trouble(subject).expect("a reply"))
}

/// One event.
fn step(host: &mut Host, random: &mut Random, asked: &mut Vec<(StreamId, String)>) {
    match random.below(12) {
        0..=4 => {
            let user = format!("user-{}", random.below(6));
            let minute = host.world().now() / 60 * 60;
            let token = if random.below(2) == 0 { token::entra(&user, minute) } else { token::okta(&user, minute) };
            let token = token.with_algorithm(Alg::EdDsa).sign();
            asked.push((send_waiting(host, &token), token));
        }
        5..=7 => {
            let calls = host.calls();
            if calls.is_empty() {
                return;
            }
            let call = &calls[random.below(calls.len())];
            let form: Vec<(String, String)> = form_urlencoded::parse(&call.body).into_owned().collect();
            let subject = form.iter().find(|(name, _)| name == "assertion" || name == "subject_token");
            let reply = match subject {
                Some((_, subject)) => random_reply(random, subject),
                None if random.below(3) == 0 => Reply::timeout(),
                None if call.cluster == "entra" => entra().reply(call),
                None => okta().reply(call),
            };
            host.answer(call.id, reply);
        }
        8 if !asked.is_empty() => {
            let (request, _) = &asked[random.below(asked.len())];
            host.leave(*request);
        }
        9 => host.advance(random.below(20) as u64),
        10 => host.advance(random.below(2) as u64 * 1000),
        _ => {
            host.tick();
        }
    }
}

fn text(octets: &[u8]) -> &str {
    std::str::from_utf8(octets).expect("text")
}

#[test]
fn random_events_decide_each_request_once_and_with_its_own_token() {
    let mut total = 0;
    for seed in 1..=12 {
        let mut random = Random::from_seed(seed);
        let mut host = ready();
        let mut asked = Vec::new();
        for _ in 0..400 {
            step(&mut host, &mut random, &mut asked);
        }
        for _ in 0..5 {
            settle(&mut host, &mut [&mut entra(), &mut okta()]);
            host.advance(130);
        }
        let secrets = Secrets::of_tokens(asked.iter().map(|(_, token)| token.as_str())).and(ENTRA_SECRET);
        let mut forwarded = 0;
        for (request, token) in &asked {
            match host.outcome(*request) {
                Outcome::Waiting => panic!("seed {seed}: {request:?} was forgotten\n{}", host.log_text()),
                Outcome::Forwarded(headers) => {
                    assert_eq!(headers.text("authorization"), Some(format!("Bearer {}", exchanged(token)).as_str()));
                    forwarded += 1;
                }
                Outcome::Answered(answer) => {
                    let headers = answer.headers.iter().map(|(name, value)| (text(name), text(value)));
                    check_reply_parts(u16::try_from(answer.status).unwrap(), headers, answer.text(), &secrets);
                }
                Outcome::Left => {}
            }
        }
        host.advance(1);
        assert!(host.world().counter("onbehalf.decisions.reason.forwarded") >= forwarded, "seed {seed}");
        total += forwarded;
    }
    assert!(total > 200, "only {total} requests were forwarded: this is no test of forwarding");
}
