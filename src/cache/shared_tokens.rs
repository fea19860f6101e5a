//! Exchanged tokens that the workers of a process share, so that one worker exchanges for all: it holds the lease meanwhile, and
//! the others wait for its result (docs/adr/0016).
//!
//! Shared memory never shrinks, so tokens are in a fixed number of records, each with room for some. Each entry of a record is
//! encrypted by itself; an entry that does not decrypt is absent.

use std::time::Duration;

use crate::cache::exchanged_tokens::{CachedExchange, Fingerprint, TokenKey};
use crate::cache::rejected_tokens::RejectedTokens;
use crate::crypto::Crypto;
use crate::shared::{CLOCK_TOLERANCE, Lease, SharedStore, Update, Updated};
use crate::time::UnixTime;

/// Maximum number of tokens in a record.
const TOKENS_PER_RECORD: usize = 16;

/// Maximum time from now to the end of an entry: no token lives longer. An entry with a later end is removed first.
const MAX_LIFETIME: Duration = Duration::from_secs(8 * 24 * 3600);

/// Number of bytes of the tag by which an entry is found in its record.
const TAG_BYTES: usize = 16;

/// Shared tokens as one worker sees them.
pub(crate) struct SharedTokens<'a> {
    /// Shared memory.
    pub(crate) store: &'a SharedStore,
    /// Randomness for the encryption of entries.
    pub(crate) crypto: &'a dyn Crypto,
    /// Tokens that an upstream has rejected: they are ignored even if they reappear in shared memory.
    pub(crate) rejections: &'a RejectedTokens,
    /// Maximum number of tokens. 0: workers share no tokens.
    pub(crate) capacity: usize,
}

/// Result of a request for the lease of an exchange.
pub(crate) enum TokenLease {
    /// This worker exchanges.
    Acquired,
    /// Another worker exchanges.
    HeldByOther,
    /// Another worker has exchanged: this is its result.
    Found(CachedExchange),
}

/// State of an exchange that another worker makes.
pub(crate) enum RemoteExchange {
    /// The other worker still holds the lease.
    Pending,
    /// The other worker has stored this result.
    Found(CachedExchange),
    /// The other worker has released the lease, or lost it, without a result.
    Abandoned,
}

/// Entry for one token, decrypted.
struct Entry {
    lease: Lease,
    /// Time of the last write.
    written: UnixTime,
    exchange: Option<CachedExchange>,
}

/// Entry as it stands in a record: a tag, an end, a length of four bytes, and encrypted content.
struct EncryptedEntry<'a> {
    tag: &'a [u8; TAG_BYTES],
    /// Second from which the entry has no effect any more.
    until: [u8; 4],
    content: &'a [u8],
}

/// Record and tag of one token.
struct Slot {
    record: String,
    tag: [u8; TAG_BYTES],
}

impl SharedTokens<'_> {
    /// Acquires the lease of an exchange for `lease_time`, which one worker at a time holds. `is_renewal`: a token whose renewal is
    /// due does not count as found. The lease is acquired without a record where workers share no tokens, where the entry cannot
    /// be encrypted, and after a conflict in every attempt: another worker may exchange at the same time.
    pub(crate) fn acquire_lease(
        &self,
        key: &TokenKey,
        is_renewal: bool,
        lease_time: Duration,
        now: UnixTime,
    ) -> TokenLease {
        let Some(slot) = self.slot(key) else {
            return TokenLease::Acquired;
        };
        let worker = self.store.worker();
        let updated = self.store.update_raw(&slot.record, |record| {
            let record = record.unwrap_or_default();
            let exchange = match self.without_rejected(key, self.find(&slot, record, now)) {
                Some(Entry { exchange: Some(exchange), .. }) if !(is_renewal && exchange.is_renewal_due(now)) => {
                    return Update::Keep(TokenLease::Found(exchange));
                }
                Some(entry) if entry.lease.is_held_by_other(worker, now) => {
                    return Update::Keep(TokenLease::HeldByOther);
                }
                Some(entry) => entry.exchange,
                None => None,
            };
            let own = Entry { lease: Lease::granted(worker, lease_time, now), written: now, exchange };
            match self.with_entry(&slot, record, Some(&own), now) {
                Some(next) => Update::Write(next, TokenLease::Acquired),
                None => Update::Keep(TokenLease::Acquired),
            }
        });
        updated.into_value()
    }

    /// State of an exchange that another worker makes.
    pub(crate) fn poll(&self, key: &TokenKey, now: UnixTime) -> RemoteExchange {
        let entry = self.slot(key).and_then(|slot| {
            let record = self.store.read_raw(&slot.record)?;
            self.without_rejected(key, self.find(&slot, &record, now))
        });
        match entry {
            Some(Entry { exchange: Some(exchange), .. }) if !exchange.is_renewal_due(now) => {
                RemoteExchange::Found(exchange)
            }
            Some(entry) if entry.lease.is_held_by_other(self.store.worker(), now) => RemoteExchange::Pending,
            _ => RemoteExchange::Abandoned,
        }
    }

    /// Stores the result of this worker's exchange for all workers, and releases the lease. A failure does not replace the result
    /// or the lease of a worker that has taken the lease meanwhile, and a token does not replace one that expires later.
    pub(crate) fn publish(&self, key: &TokenKey, result: &CachedExchange, now: UnixTime) {
        let is_token = |exchange: &CachedExchange| exchange.fingerprint().is_some();
        self.update_entry(key, now, |entry| {
            let is_own = entry.lease.holder == self.store.worker();
            let has_token = entry.exchange.as_ref().is_some_and(is_token);
            if !is_own && !is_token(result) && (entry.lease.is_held(now) || has_token) {
                return false;
            }
            match (&entry.exchange, result) {
                (
                    Some(CachedExchange::Issued { until: theirs, fingerprint, .. }),
                    CachedExchange::Issued { until: own, .. },
                ) if own < theirs && !self.rejections.is_rejected(key, *fingerprint) => {}
                _ => entry.exchange = Some(result.clone()),
            }
            if is_own {
                entry.lease.release();
            }
            true
        });
    }

    /// Releases the lease of this worker after an exchange without a result. `kept`: the token that this worker still has. Its
    /// time of renewal is stored if the entry has the same token, which may have been invalidated meanwhile.
    pub(crate) fn release(&self, key: &TokenKey, kept: Option<&CachedExchange>, now: UnixTime) {
        self.update_entry(key, now, |entry| {
            let is_own = entry.lease.holder == self.store.worker();
            if is_own {
                entry.lease.release();
                if let (
                    Some(CachedExchange::Issued { fingerprint: stored, renew_from, .. }),
                    Some(CachedExchange::Issued { fingerprint, renew_from: next, .. }),
                ) = (&mut entry.exchange, kept)
                    && stored == fingerprint
                {
                    *renew_from = *next;
                }
            }
            is_own
        });
    }

    /// Removes a token that its upstream has rejected. A token that another worker has stored since then stays.
    pub(crate) fn invalidate(&self, key: &TokenKey, rejected: Fingerprint, now: UnixTime) {
        self.update_entry(key, now, |entry| {
            let is_stored = entry.exchange.as_ref().and_then(CachedExchange::fingerprint) == Some(rejected);
            if is_stored {
                entry.exchange = None;
            }
            is_stored
        });
    }

    /// Entry without a token that this worker knows to be rejected: an older record may have been put back.
    fn without_rejected(&self, key: &TokenKey, entry: Option<Entry>) -> Option<Entry> {
        let is_rejected = |exchange: &CachedExchange| {
            exchange.fingerprint().is_some_and(|fingerprint| self.rejections.is_rejected(key, fingerprint))
        };
        entry.map(|entry| Entry { exchange: entry.exchange.filter(|exchange| !is_rejected(exchange)), ..entry })
    }

    /// Changes the entry of a token. `change` returns `true` if the entry must be written. After a conflict in every attempt the
    /// change is lost: a token is not shared, and a lease ends by expiry.
    fn update_entry(&self, key: &TokenKey, now: UnixTime, change: impl Fn(&mut Entry) -> bool) {
        let Some(slot) = self.slot(key) else {
            return;
        };
        let updated = self.store.update_raw(&slot.record, |record| {
            let record = record.unwrap_or_default();
            let free = Lease { holder: self.store.worker(), until: UnixTime::default() };
            let empty = Entry { lease: free, written: now, exchange: None };
            let mut entry = self.find(&slot, record, now).unwrap_or(empty);
            if !change(&mut entry) {
                return Update::Keep(());
            }
            entry.written = now;
            let kept = (entry.exchange.is_some() || entry.lease.is_held(now)).then_some(&entry);
            match self.with_entry(&slot, record, kept, now) {
                Some(next) => Update::Write(next, ()),
                None => Update::Keep(()),
            }
        });
        if let Updated::Contested(()) = updated {
            log::debug!("a record of exchanged tokens is contested: a token is not shared");
        }
    }

    /// Slot of a token. `None`: workers share no tokens. Another plugin can neither compute nor choose it, because it comes from
    /// an authentication code.
    fn slot(&self, key: &TokenKey) -> Option<Slot> {
        let records = u32::try_from(self.capacity.div_ceil(TOKENS_PER_RECORD)).ok().filter(|records| *records > 0)?;
        let code = self.store.key().mac(&[b"token", key.bytes()]);
        let (tag, rest) = code.split_first_chunk::<TAG_BYTES>()?;
        let number = rest.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))?.checked_rem(records)?;
        Some(Slot { record: format!("onbehalf.tokens.{number}"), tag: *tag })
    }

    /// Entry in a slot, without an exchange that has expired. `None`: there is none, it does not decrypt, or its times are of a clock
    /// that has been set back since.
    fn find(&self, slot: &Slot, record: &[u8], now: UnixTime) -> Option<Entry> {
        let encrypted = entries(record).find(|entry| *entry.tag == slot.tag)?;
        let content = self.store.key().decrypt(&slot.context(encrypted.until), encrypted.content)?;
        let mut entry = Entry::read(&content)?;
        if entry.written > now.plus(CLOCK_TOLERANCE) {
            return None;
        }
        entry.exchange = entry.exchange.filter(|exchange| now < exchange.until());
        Some(entry)
    }

    /// Record with `entry` in its slot, or without one. Expired entries are removed; in a full record the entry that expires first
    /// makes room. `None`: the entry could not be encrypted.
    fn with_entry(&self, slot: &Slot, record: &[u8], entry: Option<&Entry>, now: UnixTime) -> Option<Vec<u8>> {
        let is_current = |entry: &EncryptedEntry<'_>| {
            let until = UnixTime::from_secs(u32::from_le_bytes(entry.until).into());
            now < until && until < now.plus(MAX_LIFETIME)
        };
        let mut others: Vec<EncryptedEntry<'_>> =
            entries(record).filter(|other| *other.tag != slot.tag && is_current(other)).collect();
        let max = TOKENS_PER_RECORD.saturating_sub(1);
        if others.len() > max {
            // Entries of another plugin, with an end that is far ahead, make room first.
            others.retain(|other| {
                let slot = Slot { record: slot.record.clone(), tag: *other.tag };
                self.store.key().decrypt(&slot.context(other.until), other.content).is_some()
            });
        }
        others.sort_by_key(|other| u32::from_le_bytes(other.until));
        let surplus = others.len().saturating_sub(max);
        let mut next = Vec::with_capacity(record.len().saturating_add(2048));
        for other in others.iter().skip(surplus) {
            other.write(&mut next);
        }
        if let Some(entry) = entry {
            let until = entry.until();
            let content = self.store.key().encrypt(&slot.context(until), &entry.write(), self.crypto)?;
            EncryptedEntry { tag: &slot.tag, until, content: &content }.write(&mut next);
        }
        Some(next)
    }
}

impl Slot {
    /// Context of the encryption: an entry decrypts in its own record, with its own tag and end, and nowhere else.
    fn context(&self, until: [u8; 4]) -> Vec<u8> {
        [self.record.as_bytes(), b"\0", &self.tag, &until].concat()
    }
}

impl Entry {
    /// Second from which neither the lease nor the exchange has any effect.
    fn until(&self) -> [u8; 4] {
        let lease = self.lease.until;
        let until = self.exchange.as_ref().map_or(lease, |exchange| exchange.until().max(lease));
        u32::try_from(until.secs().saturating_add(1)).unwrap_or(u32::MAX).to_le_bytes()
    }

    fn write(&self) -> zeroize::Zeroizing<Vec<u8>> {
        let text = self.exchange.as_ref().map(CachedExchange::write);
        let text = text.as_deref().map_or(&b""[..], |text| text.as_bytes());
        let times = [self.lease.until, self.written].map(|time| time.millis().to_le_bytes());
        zeroize::Zeroizing::new([&self.lease.holder[..], times.as_flattened(), text].concat())
    }

    fn read(content: &[u8]) -> Option<Self> {
        let (holder, rest) = content.split_first_chunk()?;
        let (until, rest) = rest.split_first_chunk()?;
        let (written, text) = rest.split_first_chunk()?;
        let time = |bytes: &[u8; 8]| UnixTime::from_millis(u64::from_le_bytes(*bytes));
        let exchange = if text.is_empty() { None } else { Some(CachedExchange::read(text)?) };
        let lease = Lease { holder: *holder, until: time(until) };
        Some(Self { lease, written: time(written), exchange })
    }
}

impl EncryptedEntry<'_> {
    fn write(&self, record: &mut Vec<u8>) {
        record.extend(self.tag);
        record.extend(self.until);
        record.extend(u32::try_from(self.content.len()).unwrap_or(u32::MAX).to_le_bytes());
        record.extend(self.content);
    }
}

/// Entries of a record, up to the first malformed byte.
fn entries(record: &[u8]) -> impl Iterator<Item = EncryptedEntry<'_>> {
    let mut rest = record;
    std::iter::from_fn(move || {
        let (tag, after) = rest.split_first_chunk()?;
        let (until, after) = after.split_first_chunk()?;
        let (length, after) = after.split_first_chunk()?;
        let (content, after) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        rest = after;
        Some(EncryptedEntry { tag, until: *until, content })
    })
}
