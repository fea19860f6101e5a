//! Events from a random generator.

use super::event::{ERRORS, Event, Oddity, Scripted, Span};
use crate::random::Random;

/// An event: mostly requests and replies, some disconnects, and time that passes.
pub fn random_event(random: &mut Random) -> Event<'static> {
    let byte = |random: &mut Random| u8::try_from(random.below(256)).expect("an octet");
    match random.below(100) {
        0..=54 => Event::Request {
            worker: random.one_in(2),
            caller: byte(random),
            admin: random.one_in(3),
            proof: byte(random),
            oddity: if random.one_in(20) { random_oddity(random) } else { Oddity::None },
        },
        55..=59 => Event::Gone(byte(random)),
        60..=94 => {
            let reply = match random.below(100) {
                0..=19 => random_trouble(random),
                20..=22 => Scripted::Next,
                23..=24 => Scripted::Cut(u16::try_from(random.below(60)).expect("small")),
                _ => Scripted::Issued { lifetime: random.pick(&[1, 5, 60, 3600]) },
            };
            Event::CalloutResult { call: byte(random), reply }
        }
        95 => Event::Tick(random.one_in(2)),
        _ => {
            let span = Span::Millis(random.pick(&[1, 500, 2000, 31_000, 901_000]));
            if random.one_in(40) { Event::Earlier(span) } else { Event::Later(span) }
        }
    }
}

fn random_oddity(random: &mut Random) -> Oddity {
    match random.below(8) {
        0 => Oddity::IdTokenOf(u8::try_from(random.below(256)).expect("an octet")),
        1 => Oddity::NoIdToken,
        2 => Oddity::TwoCookies,
        3 => Oddity::TwoAuthorizations,
        4 => Oddity::TokenInQuery,
        5 => Oddity::NoProof,
        6 => Oddity::NoCertificate,
        _ => Oddity::OtherScheme,
    }
}

/// The reply of a provider in trouble, for which [`Scripted::trouble`] gives the response.
pub fn random_trouble(random: &mut Random) -> Scripted<'static> {
    let response = |status, body| Scripted::Bytes { status, header: 2, value: b"", body };
    let error = |status, error: &str, retry_after| {
        let error = ERRORS.iter().position(|name| *name == error).expect("an error of the list");
        Scripted::Error { status, error: u8::try_from(error).expect("an octet"), retry_after }
    };
    match random.below(11) {
        0 => Scripted::Failed(1),
        1 => Scripted::Failed(2),
        2 => response(200, b"<html>"),
        3 => response(503, b""),
        4 => error(429, "", Some(3)),
        5 => error(400, "invalid_grant", None),
        6 => error(400, "interaction_required", None),
        7 => error(401, "invalid_client", None),
        8 => Scripted::EchoAsError { status: random.pick(&[400, 401, 500]) },
        9 => Scripted::Failed(3),
        _ => response(200, b"{}"),
    }
}
