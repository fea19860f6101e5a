//! Messages from one worker to all other workers of the process: a token that an upstream has rejected.
//!
//! A worker serves a token from its own cache without a look into shared memory, so it must be told that the token is no longer
//! valid. Each worker has a shared queue of the host, and a record in shared memory lists the queues. A message is
//! authenticated: only workers with the same configuration can write one.

use std::rc::Rc;
use std::time::Duration;

use crate::cache::exchanged_tokens::{Fingerprint, TokenKey};
use crate::cache::rejected_tokens::TokenRejected;
use crate::resource::{Resource, ResourceId};
use crate::shared::{CLOCK_TOLERANCE, SharedKey, SharedStore, Update, Updated};
use crate::time::UnixTime;

/// Interval at which a worker renews its entry in the list.
const REGISTRATION_INTERVAL: Duration = Duration::from_secs(30);

/// Maximum age of an entry in the list. An older one is of a worker that has ended.
const MAX_ENTRY_AGE: Duration = Duration::from_secs(90);

/// Maximum number of workers in the list; the workers that renewed their entries last stay.
const MAX_WORKERS: usize = 256;

/// Name under which messages are authenticated. Another form of a message has another name.
const MESSAGE: &str = "onbehalf.token_rejected";

/// Digest of the URL of a resource. Two configurations, such as those of two listeners, can number the same resource differently.
type ResourceDigest = [u8; 16];

/// Registration of this worker for messages of other workers.
#[derive(Default)]
pub(super) struct Broadcast {
    /// Shared queue of this worker, by the host's number. `None`: the host has given none.
    queue: Option<u32>,
    /// Last renewal of the entry in the list. `None`: the list does not have it yet.
    registered_at: Option<UnixTime>,
}

/// Worker in the list.
#[derive(Clone, Copy)]
struct Entry {
    queue: u32,
    /// Time of the last renewal, in seconds.
    renewed: u32,
}

impl Broadcast {
    /// Registers `queue` for messages to this worker.
    pub(super) fn listen(&mut self, queue: u32, store: &SharedStore, now: UnixTime) {
        self.queue = Some(queue);
        self.registered_at = None;
        self.keep_registered(store, now);
    }

    /// Renews the entry of this worker if [`REGISTRATION_INTERVAL`] has passed. After a conflict in every attempt, the next tick
    /// tries again.
    pub(super) fn keep_registered(&mut self, store: &SharedStore, now: UnixTime) {
        let Some(queue) = self.queue else {
            return;
        };
        if self.registered_at.is_some_and(|last| last <= now && now.since(last) < REGISTRATION_INTERVAL) {
            return;
        }
        let updated = store.update(&list_name(store.key()), |content| {
            let mut entries = read_list(content, now);
            entries.retain(|entry| entry.queue != queue);
            entries.push(Entry { queue, renewed: u32::try_from(now.secs()).unwrap_or(u32::MAX) });
            let surplus = entries.len().saturating_sub(MAX_WORKERS);
            Update::Write(write_list(entries.get(surplus..).unwrap_or_default()), ())
        });
        match updated {
            Updated::Done(()) => self.registered_at = Some(now),
            Updated::Contested(()) => log::debug!("the list of workers is contested: this worker is not in it yet"),
        }
    }

    /// Sends a message to all other workers: the upstream of `resource` has rejected a token.
    pub(super) fn send(&self, rejected: &TokenRejected, resource: &Resource, store: &SharedStore, now: UnixTime) {
        let entries = read_list(store.read(&list_name(store.key())).as_deref(), now);
        let message = store.key().seal(MESSAGE, &rejected.write(&digest(store.key(), resource)));
        for entry in entries.iter().filter(|entry| Some(entry.queue) != self.queue) {
            if !store.enqueue(entry.queue, &message) {
                log::debug!("a worker could not be told of a rejected token: it may have ended");
            }
        }
    }
}

/// Reads a message. `None`: no worker with this key has sent it. Claims for a resource that is not among `resources` are left out.
pub(super) fn read_message(key: &SharedKey, resources: &[Rc<Resource>], message: &[u8]) -> Option<TokenRejected> {
    let id = |named: &ResourceDigest| {
        resources.iter().find(|resource| digest(key, resource) == *named).map(|resource| resource.id)
    };
    TokenRejected::read(key.open(MESSAGE, message)?, id)
}

fn digest(key: &SharedKey, resource: &Resource) -> ResourceDigest {
    let code = key.mac(&[b"resource", resource.url.as_str().as_bytes()]);
    code.first_chunk().copied().unwrap_or_default()
}

/// Name of the list: workers with another configuration have another one.
fn list_name(key: &SharedKey) -> String {
    format!("onbehalf.workers.{}", key.mac_hex::<8>(&[b"list of workers"]))
}

/// Entries of a list, without those of workers that have ended.
fn read_list(content: Option<&[u8]>, now: UnixTime) -> Vec<Entry> {
    let (entries, _) = content.unwrap_or_default().as_chunks::<8>();
    let entry = |bytes: &[u8; 8]| {
        let (queue, renewed) = bytes.split_first_chunk::<4>()?;
        Some(Entry { queue: u32::from_le_bytes(*queue), renewed: u32::from_le_bytes(renewed.try_into().ok()?) })
    };
    let is_alive = |entry: &Entry| {
        let renewed = UnixTime::from_secs(entry.renewed.into());
        renewed <= now.plus(CLOCK_TOLERANCE) && now.since(renewed) <= MAX_ENTRY_AGE
    };
    entries.iter().filter_map(entry).filter(is_alive).collect()
}

fn write_list(entries: &[Entry]) -> Vec<u8> {
    let mut content = Vec::new();
    for entry in entries {
        content.extend(entry.queue.to_le_bytes());
        content.extend(entry.renewed.to_le_bytes());
    }
    content
}

impl TokenRejected {
    fn write(&self, resource: &ResourceDigest) -> Vec<u8> {
        let at = self.at.millis().to_le_bytes();
        let flag = [u8::from(self.is_for_claims)];
        let claims = self.claims.as_ref().map_or(&b""[..], |(_, claims)| claims.as_bytes());
        [&self.key.bytes()[..], self.fingerprint.bytes(), &at, &flag, resource, claims].concat()
    }

    fn read(content: &[u8], id: impl FnOnce(&ResourceDigest) -> Option<ResourceId>) -> Option<Self> {
        let (key, rest) = content.split_first_chunk()?;
        let (fingerprint, rest) = rest.split_first_chunk()?;
        let (at, rest) = rest.split_first_chunk()?;
        let (&[is_for_claims], rest) = rest.split_first_chunk()?;
        let (resource, claims) = rest.split_first_chunk()?;
        let claims = std::str::from_utf8(claims).ok()?;
        Some(Self {
            key: TokenKey::from_bytes(*key),
            fingerprint: Fingerprint::from_bytes(*fingerprint),
            at: UnixTime::from_millis(u64::from_le_bytes(*at)),
            is_for_claims: is_for_claims != 0,
            claims: Some(claims)
                .filter(|claims| !claims.is_empty())
                .and_then(|claims| Some((id(resource)?, claims.into()))),
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
            fingerprint: Fingerprint::from_bytes([2; 16]),
            at: UnixTime::from_millis(3),
            is_for_claims: true,
            claims: None,
        };
        let read =
            |written: &[u8]| TokenRejected::read(written, |digest| (*digest == [4; 16]).then_some(ResourceId(5)));
        let written = rejected.write(&[4; 16]);
        assert_eq!(read(&written).as_ref(), Some(&rejected));
        assert_eq!(read(&written[1..]), None);
        assert_eq!(read(&[&written[..], &[0xff]].concat()), None);
        let with_claims = TokenRejected { claims: Some((ResourceId(5), "{}".into())), ..rejected };
        assert_eq!(read(&with_claims.write(&[4; 16])), Some(with_claims.clone()));
        let without_claims = TokenRejected { claims: None, ..with_claims };
        assert_eq!(read(&with_claims.write(&[6; 16])), Some(without_claims), "another resource");
    }
}
