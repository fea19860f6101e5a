//! Properties that hold for every input, each tried on many inputs. The inputs are the same in each run;
//! `PROPTEST_RNG_SEED` gives others, and `PROPTEST_CASES` (256 by default) more or fewer.

mod configuration;
mod proofs;
mod readers;
mod routing;
mod tokens;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::RngSeed;
use serde_json::Value;

/// `cases` inputs, scaled by `PROPTEST_CASES`.
fn cases(cases: u32) -> ProptestConfig {
    let asked = ProptestConfig::default();
    let rng_seed = if asked.rng_seed == RngSeed::Random { RngSeed::Fixed(1) } else { asked.rng_seed };
    // A failing input becomes a test of its own, so no file keeps it.
    ProptestConfig { cases: (asked.cases * cases).div_ceil(256), rng_seed, failure_persistence: None, ..asked }
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ]
}

/// A request target of pieces that servers read in different ways.
fn target() -> impl Strategy<Value = String> {
    const PIECES: [&str; 30] = [
        "/", "/", "/", ".", "..", "%2e", "%2E", "%2f", "%5c", "%", "%4", "%41", "%7e", "%25", "%3b", "%40", "%20",
        "%23", "%3f", "%e2%82", "%00", ";", "\\", "?", "#", " ", "@", "é", "github", "admin",
    ];
    vec(select(&PIECES[..]), 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// Maximum seconds whose milliseconds a double counts exactly. Later times are off by some milliseconds.
const EXACT: u64 = (1 << 53) / 1000;

/// The place and the new byte of a change: mostly a base64url character, and often at the end of a segment, where the
/// last character has unused bits.
fn change() -> impl Strategy<Value = (Place, u8)> {
    let place = prop_oneof![
        any::<Index>().prop_map(Place::Anywhere),
        (0..3_usize).prop_map(Place::EndOfSegment),
        (0..3_usize).prop_map(Place::EndOfSegment),
    ];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=.".to_vec();
    (place, prop_oneof![0_u8..0x80, select(alphabet)])
}

#[derive(Clone, Debug)]
enum Place {
    Anywhere(Index),
    EndOfSegment(usize),
}

fn changed(good: &str, at: &Place, byte: u8, insert: bool) -> String {
    let mut bytes = good.as_bytes().to_vec();
    let at = match at {
        Place::Anywhere(at) => at.index(bytes.len()),
        Place::EndOfSegment(segment) => good.split('.').take(segment + 1).map(|part| part.len() + 1).sum::<usize>() - 2,
    };
    if insert {
        bytes.insert(at + 1, byte);
    } else {
        bytes[at] = byte;
    }
    String::from_utf8(bytes).unwrap()
}
