//! Proofs that were used: none is good twice (RFC 9449 section 11.1), whichever worker sees it. And the nonces that make
//! proofs young.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::shared::{Shared, SharedKey, is_same_code};
use crate::time::UnixTime;

/// In how many records proofs are kept, and how many a record takes: shared memory never shrinks, so it must have an
/// end. A million proofs, which at the usual 300 s in either direction is 1,700 a second.
const RECORDS: u16 = 4096;
const PROOFS_OF_A_RECORD: usize = 256;

/// A proof in a record: twelve bytes of its code, and the second from which on it may be forgotten.
const ENTRY: usize = 16;

/// How often a record is written again that another worker has written meanwhile.
const MOST_TRIES: usize = 8;

/// For how long a nonce is given out. It is good for twice as long.
const NONCE_PERIOD: Duration = Duration::from_secs(300);

/// What became of a proof that is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It is used now.
    First,
    /// It was used before.
    Again,
    /// It cannot be said: there is no room to remember it, or no telling what was used.
    Unknown,
}

/// Uses the proof `id` by the key `thumbprint`. It must be remembered until `until`, when its time makes it too old.
pub(super) fn use_proof(
    shared: &dyn Shared,
    key: &SharedKey,
    thumbprint: &str,
    id: &str,
    until: UnixTime,
    now: UnixTime,
) -> Use {
    // Nobody can choose where a proof is kept: the code takes a key that only workers have.
    let code = key.code(&[b"proof", thumbprint.as_bytes(), id.as_bytes()]);
    let (place, code) = match code.split_first_chunk::<2>() {
        Some((place, rest)) => (u16::from_le_bytes(*place) % RECORDS, rest.get(..12).unwrap_or_default()),
        None => return Use::Unknown,
    };
    let name = format!("onbehalf.proofs.{place}");
    let until = u32::try_from(until.secs().saturating_add(1)).unwrap_or(u32::MAX);
    for _ in 0..MOST_TRIES {
        let (record, version) = shared.get(&name);
        let record = record.unwrap_or_default();
        let (entries, rest) = record.as_chunks::<ENTRY>();
        if !rest.is_empty() {
            return Use::Unknown;
        }
        let mut next = Vec::with_capacity(record.len().saturating_add(ENTRY));
        for entry in entries {
            let (used, end) = entry.split_at(12);
            let end = u32::from_le_bytes(end.try_into().unwrap_or([0xff; 4]));
            if now.secs() >= end.into() {
                continue;
            }
            if used == code {
                return Use::Again;
            }
            next.extend(entry);
        }
        if next.len() >= PROOFS_OF_A_RECORD.saturating_mul(ENTRY) {
            return Use::Unknown;
        }
        next.extend(code);
        next.extend(until.to_le_bytes());
        if shared.put(&name, &next, version) {
            return Use::First;
        }
    }
    Use::Unknown
}

/// The nonce that is given out now: a code over the number of the period that only workers can make. So none has to be
/// remembered, and every worker knows those of the others.
pub(super) fn nonce(key: &SharedKey, now: UnixTime) -> String {
    nonce_of(key, period(now))
}

/// Whether `nonce` was given out a short time ago.
pub(super) fn is_fresh(nonce: &str, key: &SharedKey, now: UnixTime) -> bool {
    let this = period(now);
    let is = |period: u64| is_same_code(nonce.as_bytes(), nonce_of(key, period).as_bytes());
    is(this) || is(this.saturating_sub(1))
}

fn nonce_of(key: &SharedKey, period: u64) -> String {
    let period = period.to_le_bytes();
    let code = key.code(&[b"nonce", &period]);
    BASE64_URL_SAFE_NO_PAD.encode(code.get(..24).unwrap_or_default())
}

fn period(now: UnixTime) -> u64 {
    now.secs().checked_div(NONCE_PERIOD.as_secs()).unwrap_or_default()
}
