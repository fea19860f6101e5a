//! Messages from one worker of the process to all others.
//!
//! A worker serves a token from its own memory without a look at what workers share, so it has to be told when that token is not
//! good any more. Each worker has a queue; a record in shared memory lists the queues. Only workers with the same configuration
//! can write a message that is believed.

use std::time::Duration;

use crate::cache::exchanged_tokens::{Fingerprint, TokenKey};
use crate::cache::rejected_tokens::TokenRejected;
use crate::resource::ResourceId;
use crate::shared::{SharedKey, SharedStore};
use crate::time::UnixTime;

/// A worker renews its entry after this time.
const RENEWAL: Duration = Duration::from_secs(30);

/// An entry that was not renewed for this time is of a worker that has ended.
const LONGEST_SILENCE: Duration = Duration::from_secs(90);

/// The most workers in the list; the last that renewed their entries stay.
const MOST_WORKERS: usize = 256;

/// The record is written again this often where another worker has written it meanwhile.
const MOST_TRIES: usize = 32;

/// How far ahead of our clock another worker's may be.
const CLOCK_JITTER: Duration = Duration::from_secs(5);

/// The name under which messages are authenticated.
const MESSAGE: &str = "onbehalf.message";

/// The place of a worker among those that send each other messages.
#[derive(Default)]
pub(super) struct Broadcast {
    /// The queue of this worker, by the host's number. `None`: it has none.
    queue: Option<u32>,
    /// The last renewal of its entry.
    renewed: Option<UnixTime>,
}

/// A worker in the list.
#[derive(Clone, Copy)]
struct Entry {
    queue: u32,
    /// The second in which the entry was renewed.
    seen: u32,
}

impl Broadcast {
    /// Messages for this worker go to `queue` from now on.
    pub(super) fn listen(&mut self, queue: u32, board: &SharedStore<'_>, now: UnixTime) {
        self.queue = Some(queue);
        self.renewed = None;
        self.keep_listed(board, now);
    }

    /// Renews the entry of this worker, if it is time.
    pub(super) fn keep_listed(&mut self, board: &SharedStore<'_>, now: UnixTime) {
        let Some(queue) = self.queue else {
            return;
        };
        if self.renewed.is_some_and(|renewed| renewed <= now && now.since(renewed) < RENEWAL) {
            return;
        }
        let name = list_name(board.key);
        for _ in 0..MOST_TRIES {
            let (record, version) = board.shared.get(&name);
            let mut entries = read(board.key, &name, record.as_deref(), now);
            entries.retain(|entry| entry.queue != queue);
            entries.push(Entry { queue, seen: seconds(now) });
            let surplus = entries.len().saturating_sub(MOST_WORKERS);
            if board.shared.put(&name, &board.key.seal(&name, &write(entries.iter().skip(surplus))), version) {
                self.renewed = Some(now);
                return;
            }
        }
        log::debug!("the list of workers is contested: this one is not in it yet");
    }

    /// Tells all other workers.
    pub(super) fn send(&self, rejected: &TokenRejected, board: &SharedStore<'_>, now: UnixTime) {
        let name = list_name(board.key);
        let entries = read(board.key, &name, board.shared.get(&name).0.as_deref(), now);
        let message = board.key.seal(MESSAGE, &rejected.write());
        for entry in entries.iter().filter(|entry| Some(entry.queue) != self.queue) {
            if !board.shared.enqueue(entry.queue, &message) {
                log::debug!("a worker could not be told of a rejected token: it may have ended");
            }
        }
    }
}

/// A message that another worker with this key has sent.
pub(super) fn open(key: &SharedKey, message: &[u8]) -> Option<TokenRejected> {
    TokenRejected::read(key.open(MESSAGE, message)?)
}

/// Workers with another configuration have a list of their own.
fn list_name(key: &SharedKey) -> String {
    let code = key.code(&[b"list of workers"]);
    let code: String = code.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("onbehalf.workers.{code}")
}

fn seconds(now: UnixTime) -> u32 {
    u32::try_from(now.secs()).unwrap_or(u32::MAX)
}

/// The entries of workers that have not ended.
fn read(key: &SharedKey, name: &str, record: Option<&[u8]>, now: UnixTime) -> Vec<Entry> {
    let content = record.and_then(|record| key.open(name, record)).unwrap_or_default();
    let (entries, _) = content.as_chunks::<8>();
    let entry = |bytes: &[u8; 8]| {
        let (queue, seen) = bytes.split_first_chunk::<4>()?;
        Some(Entry { queue: u32::from_le_bytes(*queue), seen: u32::from_le_bytes(seen.try_into().ok()?) })
    };
    let is_alive = |entry: &Entry| {
        let seen = UnixTime::from_secs(entry.seen.into());
        seen <= now.plus(CLOCK_JITTER) && now.since(seen) <= LONGEST_SILENCE
    };
    entries.iter().filter_map(entry).filter(is_alive).collect()
}

fn write<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<u8> {
    entries.flat_map(|entry| [entry.queue.to_le_bytes(), entry.seen.to_le_bytes()].concat()).collect()
}

impl TokenRejected {
    fn write(&self) -> Vec<u8> {
        let at = self.at.millis().to_le_bytes();
        let claims = self.claims.as_deref().unwrap_or_default().as_bytes();
        let (flag, resource) = ([u8::from(self.is_for_claims)], self.resource.0.to_le_bytes());
        [&self.key.bytes()[..], self.mark.bytes(), &at, &flag, &resource, claims].concat()
    }

    fn read(content: &[u8]) -> Option<Self> {
        let (key, rest) = content.split_first_chunk()?;
        let (mark, rest) = rest.split_first_chunk()?;
        let (at, rest) = rest.split_first_chunk()?;
        let (&[is_for_claims], rest) = rest.split_first_chunk()?;
        let (resource, claims) = rest.split_first_chunk()?;
        let claims = std::str::from_utf8(claims).ok()?;
        Some(Self {
            key: TokenKey::from_bytes(*key),
            mark: Fingerprint::from_bytes(*mark),
            at: UnixTime::from_millis(u64::from_le_bytes(*at)),
            is_for_claims: is_for_claims != 0,
            resource: ResourceId(u32::from_le_bytes(*resource)),
            claims: Some(claims).filter(|claims| !claims.is_empty()).map(Box::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written_and_only_whole() {
        let rejected = TokenRejected {
            key: TokenKey::from_bytes([1; 32]),
            mark: Fingerprint::from_bytes([2; 16]),
            at: UnixTime::from_millis(3),
            is_for_claims: true,
            resource: ResourceId(4),
            claims: None,
        };
        let written = rejected.write();
        assert_eq!(TokenRejected::read(&written).as_ref(), Some(&rejected));
        assert_eq!(TokenRejected::read(&written[1..]), None);
        assert_eq!(TokenRejected::read(&[&written[..], &[0xff]].concat()), None);
        let with_claims = TokenRejected { claims: Some("{}".into()), ..rejected };
        assert_eq!(TokenRejected::read(&with_claims.write()), Some(with_claims));
    }
}
