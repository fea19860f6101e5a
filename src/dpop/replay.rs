//! Proofs that were used: none is good twice (RFC 9449 section 11.1), whichever worker sees it. And the nonces that make
//! proofs young.

use crate::shared::{SharedData, SharedKey};
use crate::time::UnixTime;

/// In how many records proofs are kept, and how many a record takes: shared memory never shrinks, so it must have an
/// end. A million proofs, which at the usual 300 s in either direction is 1,700 a second.
const RECORDS: u16 = 4096;
const PROOFS_OF_A_RECORD: usize = 256;

/// In how many of them those of one key are: one client cannot fill the places of all others.
const RECORDS_OF_A_KEY: u16 = 64;

/// The longest that a proof can have to be remembered: ten minutes of age in either direction, and some.
const LONGEST_MEMORY: u64 = 1300;

/// A proof in a record: twelve bytes of its code, and the second from which on it may be forgotten.
const ENTRY: usize = 16;

/// How often a record is written again that another worker has written meanwhile.
const MOST_TRIES: usize = 8;

/// What became of a proof that is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProofUse {
    /// It is used now.
    First,
    /// It was used before.
    Again,
    /// It cannot be said: there is no room to remember it.
    Unknown,
}

/// Uses the proof `id` by the key `thumbprint`. It must be remembered until `until`, when its time makes it too old.
pub(crate) fn use_proof(
    shared: &dyn SharedData,
    key: &SharedKey,
    thumbprint: &str,
    id: &str,
    until: UnixTime,
    now: UnixTime,
) -> ProofUse {
    // Nobody can choose where a proof is kept: the codes take a key that only workers have.
    let holder = key.code(&[b"holder", thumbprint.as_bytes()]);
    let code = key.code(&[b"proof", thumbprint.as_bytes(), id.as_bytes()]);
    let (Some((first, _)), Some((place, code))) = (holder.split_first_chunk::<2>(), code.split_first_chunk::<2>())
    else {
        return ProofUse::Unknown;
    };
    let within = u16::from_le_bytes(*place) % RECORDS_OF_A_KEY;
    let place = u16::from_le_bytes(*first).wrapping_add(within) % RECORDS;
    let code = code.get(..12).unwrap_or_default();
    let name = format!("onbehalf.proofs.{place}");
    let until = u32::try_from(until.secs().saturating_add(1)).unwrap_or(u32::MAX);
    for _ in 0..MOST_TRIES {
        let (record, version) = shared.get(&name);
        // One that is not ours is written over: whoever can break a record can erase it as well.
        let entries = record.as_deref().and_then(|record| key.open(&name, record)).unwrap_or_default();
        let (entries, _) = entries.as_chunks::<ENTRY>();
        let mut next = Vec::with_capacity(entries.len().saturating_add(1).saturating_mul(ENTRY));
        for entry in entries {
            let (used, end) = entry.split_at(12);
            let end = u64::from(u32::from_le_bytes(end.try_into().unwrap_or_default()));
            // Over, or from a time when the clock was ahead.
            if now.secs() >= end || end > now.secs().saturating_add(LONGEST_MEMORY) {
                continue;
            }
            if used == code {
                return ProofUse::Again;
            }
            next.extend(entry);
        }
        if next.len() >= PROOFS_OF_A_RECORD.saturating_mul(ENTRY) {
            return ProofUse::Unknown;
        }
        next.extend(code);
        next.extend(until.to_le_bytes());
        if shared.put(&name, &key.seal(&name, &next), version) {
            return ProofUse::First;
        }
    }
    ProofUse::Unknown
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;
    use crate::shared::CasVersion;

    #[derive(Default)]
    struct Memory(RefCell<HashMap<String, Vec<u8>>>);

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

    fn key() -> SharedKey {
        SharedKey::of([&b"secret"[..]].into_iter())
    }

    fn used(memory: &Memory, holder: &str, id: &str, now: UnixTime) -> ProofUse {
        use_proof(memory, &key(), holder, id, now.plus(Duration::from_secs(300)), now)
    }

    #[test]
    fn one_client_fills_its_own_places_and_no_more() {
        let memory = Memory::default();
        let refused =
            (0..40_000).filter(|id| used(&memory, "greedy", &id.to_string(), NOW) == ProofUse::Unknown).count();
        assert!(refused >= 40_000 - 64 * 256, "{refused}");
        assert_eq!(memory.0.borrow().len(), 64);
        assert!(memory.0.borrow().values().all(|record| record.len() <= 32 + 256 * ENTRY));
        let others = (0..500).filter(|id| used(&memory, &format!("user-{id}"), "1", NOW) == ProofUse::First).count();
        assert!(others > 450, "{others} of 500 others still get in");
        let later = NOW.plus(Duration::from_secs(301));
        assert_eq!(used(&memory, "greedy", "once more", later), ProofUse::First, "places become free with time");
    }

    #[test]
    fn entries_from_a_clock_that_was_ahead_do_not_stay() {
        let memory = Memory::default();
        let ahead = NOW.plus(Duration::from_secs(90 * 86_400));
        for id in 0..40_000 {
            used(&memory, "a", &id.to_string(), ahead);
        }
        assert_eq!(used(&memory, "a", "now", NOW), ProofUse::First);
    }
}
