//! Random sequences of everything that can happen to a worker. The host fails the test when a request is decided twice,
//! when the module traps or acts on nothing; this adds that nobody is forgotten and nobody gets another's token.

use onbehalf_wasm_tests::{Host, Outcome, Reply, StreamId};
use serde_json::json;

use crate::support::keys::Alg;
use crate::support::provider::{entra, exchanged, issued, okta};
use crate::support::{ready, send_waiting, settle, token};

/// The same numbers in each run with the same seed (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).expect("small")
    }
}

fn random_reply(dice: &mut Dice, subject: &str) -> Reply {
    match dice.roll(9) {
        0 => Reply::timeout(),
        1 => Reply::refused(),
        2 => Reply::reset(),
        3 => Reply::new(429, "text/plain", "").header("retry-after", "3"),
        4 => Reply::new(400, "application/json", json!({"error": "invalid_grant"}).to_string()),
        5 => Reply::json("<html>"),
        _ => Reply::json(issued(subject).to_string()),
    }
}

/// One thing that happens.
fn step(host: &mut Host, dice: &mut Dice, asked: &mut Vec<(StreamId, String)>) {
    match dice.roll(12) {
        0..=4 => {
            let user = format!("user-{}", dice.roll(6));
            let minute = host.world().now() / 60 * 60;
            let token = if dice.roll(2) == 0 { token::entra(&user, minute) } else { token::okta(&user, minute) };
            let token = token.with_algorithm(Alg::EdDsa).sign();
            asked.push((send_waiting(host, &token), token));
        }
        5..=7 => {
            let calls = host.calls();
            if calls.is_empty() {
                return;
            }
            let call = &calls[dice.roll(calls.len())];
            let form: Vec<(String, String)> = form_urlencoded::parse(&call.body).into_owned().collect();
            let subject = form.iter().find(|(name, _)| name == "assertion" || name == "subject_token");
            let reply = match subject {
                Some((_, subject)) => random_reply(dice, subject),
                None if dice.roll(3) == 0 => Reply::timeout(),
                None if call.cluster == "entra" => entra().reply(call),
                None => okta().reply(call),
            };
            host.answer(call.id, reply);
        }
        8 if !asked.is_empty() => {
            let (request, _) = &asked[dice.roll(asked.len())];
            host.leave(*request);
        }
        9 => host.advance(dice.roll(20) as u64),
        10 => host.advance(dice.roll(2) as u64 * 1000),
        _ => {
            host.tick();
        }
    }
}

#[test]
fn whatever_happens_each_request_is_decided_once_and_with_its_own_token() {
    let mut total = 0;
    for seed in 1..=12 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut host = ready();
        let mut asked = Vec::new();
        for _ in 0..400 {
            step(&mut host, &mut dice, &mut asked);
        }
        for _ in 0..5 {
            settle(&mut host, &mut [&mut entra(), &mut okta()]);
            host.advance(130);
        }
        let mut forwarded = 0;
        for (request, token) in &asked {
            match host.outcome(*request) {
                Outcome::Waiting => panic!("seed {seed}: {request:?} was forgotten\n{}", host.log_text()),
                Outcome::Forwarded(headers) => {
                    assert_eq!(headers.text("authorization"), Some(format!("Bearer {}", exchanged(token)).as_str()));
                    forwarded += 1;
                }
                Outcome::Answered(_) | Outcome::Left => {}
            }
        }
        host.advance(1);
        assert!(host.world().counter("onbehalf.decisions.reason.forwarded") >= forwarded, "seed {seed}");
        total += forwarded;
    }
    assert!(total > 200, "only {total} requests were forwarded: this is no test of forwarding");
}
