//! Exchanged tokens that the workers of a process share, so that one of them asks for all: it holds the lease while it
//! does, the others look for what it brings.
//!
//! Shared memory never shrinks, so tokens are in a fixed number of records, each with room for some. They are encrypted,
//! each by itself; where a record cannot be read, there is nothing in it.

use std::time::Duration;

use crate::cache::exchanged_tokens::{CachedExchange, Fingerprint, TokenKey};
use crate::cache::rejected_tokens::RejectedTokens;
use crate::crypto::Crypto;
use crate::shared::{SharedStore, WorkerId};
use crate::time::UnixTime;

/// How many tokens a record has room for.
const TOKENS_OF_A_RECORD: usize = 16;

/// How often a record is written again that another worker has written meanwhile.
const MOST_TRIES: usize = 32;

/// Nothing is in force for longer: lifetimes that are believed are shorter.
const LONGEST: Duration = Duration::from_secs(8 * 24 * 3600);

/// How far ahead of our clock another worker's may be.
const CLOCK_JITTER: Duration = Duration::from_secs(5);

/// The records, as one worker sees them.
pub(crate) struct SharedTokens<'a> {
    pub(crate) board: SharedStore<'a>,
    pub(crate) crypto: &'a dyn Crypto,
    /// What is not taken over, whoever puts it there.
    pub(crate) rejections: &'a RejectedTokens,
    /// How many tokens there is room for; 0: each worker has its own only.
    pub(crate) room: usize,
}

/// Who exchanges a token.
pub(crate) enum TokenLease {
    /// This worker.
    Ours,
    /// Another one.
    Others,
    /// Nobody: this is there.
    Found(CachedExchange),
}

/// What stands there for one token.
struct Entry {
    leased_by: WorkerId,
    leased_until: UnixTime,
    /// When it was written.
    written: UnixTime,
    exchange: Option<CachedExchange>,
}

/// An entry as it is kept.
struct Sealed<'a> {
    tag: &'a [u8; TAG],
    /// The second from which on nothing of it is in force.
    until: [u8; 4],
    content: &'a [u8],
}

const TAG: usize = 16;

impl SharedTokens<'_> {
    /// Asks for the right to exchange for `key`, which one worker at a time has, for `lease`. `renews`: what is there may be
    /// followed by the next if it is due.
    pub(crate) fn claim(&self, key: &TokenKey, renews: bool, lease: Duration, now: UnixTime) -> TokenLease {
        let Some(place) = self.place(key) else {
            return TokenLease::Ours;
        };
        for _ in 0..MOST_TRIES {
            let (record, version) = self.board.shared.get(&place.name);
            let record = record.unwrap_or_default();
            let entry = self.good(key, self.find(&place, &record, now));
            let exchange = match entry {
                Some(Entry { exchange: Some(exchange), .. }) if !(renews && exchange.is_due(now)) => {
                    return TokenLease::Found(exchange);
                }
                Some(entry) if entry.is_leased(now) && entry.leased_by != self.board.worker => {
                    return TokenLease::Others;
                }
                Some(entry) => entry.exchange,
                None => None,
            };
            let ours = Entry { leased_by: self.board.worker, leased_until: now.plus(lease), written: now, exchange };
            match self.with(&place, &record, Some(&ours), now) {
                Some(next) if self.board.shared.put(&place.name, &next, version) => break,
                Some(_) => {}
                None => break,
            }
        }
        TokenLease::Ours
    }

    /// What another worker has brought, or whether it still has the lease.
    pub(crate) fn look(&self, key: &TokenKey, now: UnixTime) -> TokenLease {
        let entry = self.place(key).and_then(|place| {
            let record = self.board.shared.get(&place.name).0?;
            self.good(key, self.find(&place, &record, now))
        });
        match entry {
            Some(Entry { exchange: Some(exchange), .. }) if !exchange.is_due(now) => TokenLease::Found(exchange),
            Some(entry) if entry.is_leased(now) && entry.leased_by != self.board.worker => TokenLease::Others,
            _ => TokenLease::Ours,
        }
    }

    /// An exchange of ours is over: what it has brought is for all, and the lease is given back.
    pub(crate) fn publish(&self, key: &TokenKey, brought: &CachedExchange, now: UnixTime) {
        let is_token = |exchange: &CachedExchange| exchange.mark().is_some();
        self.change(key, now, |entry| {
            let is_ours = entry.leased_by == self.board.worker;
            if !is_ours && !is_token(brought) && (entry.is_leased(now) || entry.exchange.as_ref().is_some_and(is_token))
            {
                // The lease was over, and another worker has taken it: what comes of that counts.
                return false;
            }
            match (&entry.exchange, brought) {
                // Some providers hand out less than they did.
                (Some(CachedExchange::Issued { until, mark, .. }), CachedExchange::Issued { until: ours, .. })
                    if ours < until && !self.rejections.has(key, *mark) => {}
                _ => entry.exchange = Some(brought.clone()),
            }
            if is_ours {
                entry.leased_until = UnixTime::default();
            }
            true
        });
    }

    /// An exchange of ours has brought nothing: the lease is given back. Of `kept`, which is still good here, only says when
    /// to ask for the next one, and only if it is what is there: it may have been withdrawn.
    pub(crate) fn give_back(&self, key: &TokenKey, kept: Option<&CachedExchange>, now: UnixTime) {
        self.change(key, now, |entry| {
            let is_ours = entry.leased_by == self.board.worker;
            if is_ours {
                entry.leased_until = UnixTime::default();
                if let (
                    Some(CachedExchange::Issued { mark: there, renew_from, .. }),
                    Some(CachedExchange::Issued { mark, renew_from: next, .. }),
                ) = (&mut entry.exchange, kept)
                    && there == mark
                {
                    *renew_from = *next;
                }
            }
            is_ours
        });
    }

    /// A token is not good any more: nobody takes it over. One that another worker has brought since then stays.
    pub(crate) fn withdraw(&self, key: &TokenKey, rejected: Fingerprint, now: UnixTime) {
        self.change(key, now, |entry| {
            let is_it = entry.exchange.as_ref().and_then(CachedExchange::mark) == Some(rejected);
            if is_it {
                entry.exchange = None;
            }
            is_it
        });
    }

    /// An entry without a token that was rejected: by mistake or by intent, it may be there again.
    fn good(&self, key: &TokenKey, entry: Option<Entry>) -> Option<Entry> {
        let is_rejected =
            |exchange: &CachedExchange| exchange.mark().is_some_and(|mark| self.rejections.has(key, mark));
        entry.map(|entry| Entry { exchange: entry.exchange.filter(|exchange| !is_rejected(exchange)), ..entry })
    }

    /// Changes what stands there for `key`, if `change` says that it has.
    fn change(&self, key: &TokenKey, now: UnixTime, change: impl Fn(&mut Entry) -> bool) {
        let Some(place) = self.place(key) else {
            return;
        };
        for _ in 0..MOST_TRIES {
            let (record, version) = self.board.shared.get(&place.name);
            let record = record.unwrap_or_default();
            let mut entry = self.find(&place, &record, now).unwrap_or_else(|| Entry::empty(self.board.worker));
            if !change(&mut entry) {
                return;
            }
            entry.written = now;
            let kept = (entry.exchange.is_some() || entry.is_leased(now)).then_some(&entry);
            match self.with(&place, &record, kept, now) {
                Some(next) if !self.board.shared.put(&place.name, &next, version) => {}
                _ => return,
            }
        }
        log::debug!("a record of tokens is contested: a token is not shared");
    }

    /// Where `key` is kept. Nobody who lacks the workers' key can say, or choose.
    fn place(&self, key: &TokenKey) -> Option<Place> {
        let records = u32::try_from(self.room.div_ceil(TOKENS_OF_A_RECORD)).ok().filter(|records| *records > 0)?;
        let code = self.board.key.code(&[b"token", key.bytes()]);
        let (tag, rest) = code.split_first_chunk::<TAG>()?;
        let number = rest.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))?.checked_rem(records)?;
        Some(Place { name: format!("onbehalf.tokens.{number}"), tag: *tag })
    }

    /// The entry for a place, without what is not in force.
    fn find(&self, place: &Place, record: &[u8], now: UnixTime) -> Option<Entry> {
        let sealed = entries(record).find(|sealed| *sealed.tag == place.tag)?;
        let content = self.board.key.decrypt(&place.context(sealed.until), sealed.content)?;
        let mut entry = Entry::read(&content)?;
        // From a clock that was ahead: its times mean something else.
        if entry.written > now.plus(CLOCK_JITTER) {
            return None;
        }
        entry.exchange = entry.exchange.filter(|exchange| now < exchange.until());
        Some(entry)
    }

    /// A record with `entry` in its place; the one that ends first makes room for it. `None`: it could not be encrypted.
    fn with(&self, place: &Place, record: &[u8], entry: Option<&Entry>, now: UnixTime) -> Option<Vec<u8>> {
        let is_in_force = |sealed: &Sealed<'_>| {
            let until = UnixTime::from_secs(u32::from_le_bytes(sealed.until).into());
            now < until && until < now.plus(LONGEST)
        };
        let mut others: Vec<Sealed<'_>> =
            entries(record).filter(|sealed| *sealed.tag != place.tag && is_in_force(sealed)).collect();
        let most = TOKENS_OF_A_RECORD.saturating_sub(1);
        if others.len() > most {
            // What somebody else has put there, with an end that is far away, goes first.
            others.retain(|sealed| {
                let place = Place { name: place.name.clone(), tag: *sealed.tag };
                self.board.key.decrypt(&place.context(sealed.until), sealed.content).is_some()
            });
        }
        others.sort_by_key(|sealed| u32::from_le_bytes(sealed.until));
        let surplus = others.len().saturating_sub(most);
        let mut next = Vec::with_capacity(record.len().saturating_add(2048));
        for sealed in others.iter().skip(surplus) {
            sealed.write(&mut next);
        }
        if let Some(entry) = entry {
            let until = entry.until();
            let content = entry.write();
            let sealed = self.board.key.encrypt(&place.context(until), &content, self.nonce()?)?;
            Sealed { tag: &place.tag, until, content: &sealed }.write(&mut next);
        }
        Some(next)
    }

    fn nonce(&self) -> Option<crate::shared::Nonce> {
        let bytes = [self.crypto.random()?, self.crypto.random()?].concat();
        bytes.first_chunk().copied()
    }
}

/// Where a token is kept.
struct Place {
    name: String,
    tag: [u8; TAG],
}

impl Place {
    /// What an entry is bound to: it can be moved nowhere else.
    fn context(&self, until: [u8; 4]) -> Vec<u8> {
        [self.name.as_bytes(), b"\0", &self.tag, &until].concat()
    }
}

impl Entry {
    fn empty(worker: WorkerId) -> Self {
        Self { leased_by: worker, leased_until: UnixTime::default(), written: UnixTime::default(), exchange: None }
    }

    fn is_leased(&self, now: UnixTime) -> bool {
        now < self.leased_until
    }

    /// The second from which on nothing of it is in force.
    fn until(&self) -> [u8; 4] {
        let until =
            self.exchange.as_ref().map_or(self.leased_until, |exchange| exchange.until().max(self.leased_until));
        u32::try_from(until.secs().saturating_add(1)).unwrap_or(u32::MAX).to_le_bytes()
    }

    fn write(&self) -> zeroize::Zeroizing<Vec<u8>> {
        let text = self.exchange.as_ref().map(CachedExchange::write);
        let text = text.as_deref().map_or(&b""[..], |text| text.as_bytes());
        let times = [self.leased_until, self.written].map(|time| time.millis().to_le_bytes());
        zeroize::Zeroizing::new([&self.leased_by[..], times.as_flattened(), text].concat())
    }

    fn read(content: &[u8]) -> Option<Self> {
        let (leased_by, rest) = content.split_first_chunk()?;
        let (leased_until, rest) = rest.split_first_chunk()?;
        let (written, text) = rest.split_first_chunk()?;
        let time = |bytes: &[u8; 8]| UnixTime::from_millis(u64::from_le_bytes(*bytes));
        let exchange = if text.is_empty() { None } else { Some(CachedExchange::read(text)?) };
        Some(Self { leased_by: *leased_by, leased_until: time(leased_until), written: time(written), exchange })
    }
}

impl Sealed<'_> {
    fn write(&self, record: &mut Vec<u8>) {
        record.extend(self.tag);
        record.extend(self.until);
        record.extend(u32::try_from(self.content.len()).unwrap_or(u32::MAX).to_le_bytes());
        record.extend(self.content);
    }
}

/// The entries of a record, up to where it is none.
fn entries(record: &[u8]) -> impl Iterator<Item = Sealed<'_>> {
    let mut rest = record;
    std::iter::from_fn(move || {
        let (tag, after) = rest.split_first_chunk()?;
        let (until, after) = after.split_first_chunk()?;
        let (length, after) = after.split_first_chunk()?;
        let (content, after) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        rest = after;
        Some(Sealed { tag, until: *until, content })
    })
}
