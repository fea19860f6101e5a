//! Replay protection for DPoP proofs (RFC 9449 section 11.1): a proof is accepted once, by one worker of the process.

use crate::shared::{SharedStore, Update, Updated};
use crate::time::UnixTime;

/// Number of records of used proofs. Shared memory never shrinks, so the number is fixed: 4,096 records of 256 proofs hold a
/// million, which at the default `max_age` of 300 s in either direction is 1,700 proofs a second.
const RECORDS: u16 = 4096;

/// Maximum number of proofs in a record.
const PROOFS_PER_RECORD: usize = 256;

/// Number of records for the proofs of one key: one client cannot fill the records of all others.
const RECORDS_PER_KEY: u16 = 64;

/// Maximum time for which a proof is remembered, in seconds: the maximum `max_age` of ten minutes in either direction, and a
/// reserve. An entry with a later end was written before the clock was set back.
const MAX_REMEMBERED_SECS: u64 = 1300;

/// Number of bytes of a proof in a record: its code, and the second from which it may be forgotten.
const ENTRY_BYTES: usize = CODE_BYTES + 4;

/// Number of bytes of the code that stands for a proof.
const CODE_BYTES: usize = 12;

/// Result of recording the use of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplayCheck {
    /// The proof is recorded as used: this is its first use.
    FirstUse,
    /// The proof was used before.
    Replayed,
    /// The proof cannot be recorded, so that a second use could not be found out: the records of its key are full, or other
    /// workers wrote the record during every attempt.
    NotRecorded,
}

/// Records the use of the proof with this `jti` by the key with this thumbprint. The record lasts until `until`, when `iat` makes
/// the proof too old.
pub(crate) fn record_use(
    store: &SharedStore,
    thumbprint: &str,
    jti: &str,
    until: UnixTime,
    now: UnixTime,
) -> ReplayCheck {
    // Authentication codes choose the record: a client cannot choose it without the workers' key.
    let of_key = store.key().mac(&[b"holder", thumbprint.as_bytes()]);
    let of_proof = store.key().mac(&[b"proof", thumbprint.as_bytes(), jti.as_bytes()]);
    let (Some((first, _)), Some((offset, rest))) = (of_key.split_first_chunk::<2>(), of_proof.split_first_chunk::<2>())
    else {
        return ReplayCheck::NotRecorded;
    };
    let offset = u16::from_le_bytes(*offset) % RECORDS_PER_KEY;
    let number = u16::from_le_bytes(*first).wrapping_add(offset) % RECORDS;
    let code = rest.get(..CODE_BYTES).unwrap_or_default();
    let until = u32::try_from(until.secs().saturating_add(1)).unwrap_or(u32::MAX);
    let updated = store.update(&format!("onbehalf.proofs.{number}"), |content| {
        let (entries, _) = content.unwrap_or_default().as_chunks::<ENTRY_BYTES>();
        let mut next = Vec::with_capacity(entries.len().saturating_add(1).saturating_mul(ENTRY_BYTES));
        for entry in entries {
            let (used, end) = entry.split_at(CODE_BYTES);
            let end = u64::from(u32::from_le_bytes(end.try_into().unwrap_or_default()));
            if now.secs() >= end || end > now.secs().saturating_add(MAX_REMEMBERED_SECS) {
                continue;
            }
            if used == code {
                return Update::Keep(ReplayCheck::Replayed);
            }
            next.extend(entry);
        }
        if next.len() >= PROOFS_PER_RECORD.saturating_mul(ENTRY_BYTES) {
            return Update::Keep(ReplayCheck::NotRecorded);
        }
        next.extend(code);
        next.extend(until.to_le_bytes());
        Update::Write(next, ReplayCheck::FirstUse)
    });
    match updated {
        Updated::Done(check) => check,
        Updated::Contested(_) => ReplayCheck::NotRecorded,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::shared::{CasVersion, SharedData, SharedKey};

    #[derive(Clone, Default)]
    struct Memory(Rc<RefCell<HashMap<String, Vec<u8>>>>);

    impl SharedData for Memory {
        fn get(&self, name: &str) -> (Option<Vec<u8>>, CasVersion) {
            (self.0.borrow().get(name).cloned(), CasVersion(None))
        }

        fn put(&self, name: &str, value: &[u8], _version: CasVersion) -> bool {
            self.0.borrow_mut().insert(name.to_owned(), value.to_vec());
            true
        }

        fn enqueue(&self, _queue: u32, _message: &[u8]) -> bool {
            false
        }
    }

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn record(memory: &Memory, thumbprint: &str, jti: &str, now: UnixTime) -> ReplayCheck {
        let key = SharedKey::from_secrets([&b"secret"[..]].into_iter());
        let store = SharedStore::new(Box::new(memory.clone()), Rc::new(key), [0; 16]);
        record_use(&store, thumbprint, jti, now.plus(Duration::from_secs(300)), now)
    }

    #[test]
    fn one_client_fills_its_own_places_and_no_more() {
        let memory = Memory::default();
        let refused = (0..40_000)
            .filter(|id| record(&memory, "greedy", &id.to_string(), NOW) == ReplayCheck::NotRecorded)
            .count();
        assert!(refused >= 40_000 - 64 * 256, "{refused}");
        assert_eq!(memory.0.borrow().len(), 64);
        assert!(memory.0.borrow().values().all(|record| record.len() <= 32 + 256 * ENTRY_BYTES));
        let others =
            (0..500).filter(|id| record(&memory, &format!("user-{id}"), "1", NOW) == ReplayCheck::FirstUse).count();
        assert!(others > 450, "{others} of 500 others still get in");
        let later = NOW.plus(Duration::from_secs(301));
        assert_eq!(
            record(&memory, "greedy", "once more", later),
            ReplayCheck::FirstUse,
            "places become free with time"
        );
    }

    #[test]
    fn entries_from_a_clock_that_was_ahead_do_not_stay() {
        let memory = Memory::default();
        let ahead = NOW.plus(Duration::from_secs(90 * 86_400));
        for id in 0..40_000 {
            record(&memory, "a", &id.to_string(), ahead);
        }
        assert_eq!(record(&memory, "a", "now", NOW), ReplayCheck::FirstUse);
    }
}
