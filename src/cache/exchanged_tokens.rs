//! Exchanged tokens and failed exchanges, each until it runs out.

use std::num::NonZeroUsize;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::cache::lru::{Lru, cache};
use crate::json::{self, Value};
use crate::provider::Issued;
use crate::refusal::Refusal;
use crate::secret::Secret;
use crate::time::UnixTime;

/// The time before its end at which an exchanged token makes room for the next one.
const MARGIN: Duration = Duration::from_secs(30);

/// How much later than the token its subject must end for a next one to be worth a call.
const WORTH_RENEWING: Duration = Duration::from_secs(60);

/// The time within which those who wait for a token get it.
const HANDED_OUT: Duration = Duration::from_secs(1);

/// For how long at least a token is not asked for again that is not needed yet.
const RENEWAL_PAUSE: Duration = Duration::from_secs(10);

/// A digest of everything that shapes an exchanged token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenKey([u8; 32]);

/// By what an exchanged token is known again: a digest, so that it can be remembered for longer than the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 16]);

impl Fingerprint {
    pub(crate) const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Of the value for `authorization`.
    fn of(authorization: &str) -> Self {
        Self(hmac_sha256::Hash::hash(authorization.as_bytes()).first_chunk().copied().unwrap_or_default())
    }
}

/// What an exchange has brought.
#[derive(Clone)]
pub(crate) enum CachedExchange {
    /// A token.
    Issued {
        /// The value for `authorization`.
        authorization: Secret,
        /// Made with it, so that no request has to.
        mark: Fingerprint,
        until: UnixTime,
        /// When to ask for the next one, if that may be good for longer.
        renew_from: Option<UnixTime>,
    },
    /// None, and no other for a while.
    Failed { refusal: Refusal, until: UnixTime },
}

impl CachedExchange {
    fn issued(authorization: String, until: UnixTime, renew_from: Option<UnixTime>) -> Self {
        Self::Issued {
            mark: Fingerprint::of(&authorization),
            authorization: Secret::new(authorization),
            until,
            renew_from,
        }
    }

    /// Of a token.
    pub(crate) const fn mark(&self) -> Option<Fingerprint> {
        match self {
            Self::Issued { mark, .. } => Some(*mark),
            Self::Failed { .. } => None,
        }
    }

    fn bytes(&self) -> usize {
        let texts = match self {
            Self::Issued { authorization, .. } => authorization.reveal().len(),
            Self::Failed { refusal, .. } => {
                let claims = refusal.claims.as_ref().map_or(0, String::len);
                let uri = refusal.interaction_uri.as_ref().map_or(0, |uri| uri.len());
                refusal.detail.bytes().saturating_add(claims).saturating_add(uri)
            }
        };
        texts.saturating_add(ENTRY_BYTES)
    }

    pub(crate) const fn until(&self) -> UnixTime {
        match self {
            Self::Issued { until, .. } | Self::Failed { until, .. } => *until,
        }
    }

    /// Whether it is a token that should be followed by the next one.
    pub(crate) fn is_due(&self, now: UnixTime) -> bool {
        matches!(self, Self::Issued { renew_from: Some(from), .. } if *from <= now)
    }

    /// As text, for another worker.
    pub(crate) fn write(&self) -> Zeroizing<String> {
        let members = match self {
            Self::Issued { authorization, until, renew_from, .. } => {
                let mut members = vec![("token", authorization.reveal().into()), ("until", until.millis().into())];
                members.extend(renew_from.map(|from| ("renew", from.millis().into())));
                members
            }
            Self::Failed { refusal, until } => {
                let mut members = refusal.members();
                members.push(("until", until.millis().into()));
                members
            }
        };
        Zeroizing::new(json::text(members))
    }

    /// What [`write`](Self::write) has made.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let members = json::object(text)?;
        let time = |name: &str| members.get(name).and_then(Value::as_u64).map(UnixTime::from_millis);
        let until = time("until")?;
        Some(match members.string("token") {
            Some(token) => Self::issued(token.to_owned(), until, time("renew")),
            None => Self::Failed { refusal: Refusal::from_members(&members)?, until },
        })
    }
}

/// The ends of the token that is handed in.
#[derive(Clone, Copy)]
pub(crate) struct SubjectEnds {
    /// `exp`.
    pub(crate) expires: UnixTime,
    /// The end of its use here: `exp` and the leeway.
    pub(crate) accepted_until: UnixTime,
}

/// What a look-up for an exchanged token gives.
pub(crate) enum Lookup {
    Issued {
        /// The value for `authorization`.
        authorization: Secret,
        mark: Fingerprint,
        /// Whether it is time to ask for the next one.
        is_due: bool,
    },
    Failed(Refusal),
    Unknown,
}

/// Exchanged tokens and refusals of a worker. The one that was not used for longest is given up first: they are bounded by
/// number and by bytes.
pub(crate) struct ExchangedTokenCache {
    exchanges: Lru<TokenKey, CachedExchange>,
    bytes: usize,
    most_bytes: usize,
}

/// What an entry takes beside its texts, roughly.
const ENTRY_BYTES: usize = 200;

impl ExchangedTokenCache {
    /// Room for so many, and so many bytes of them.
    pub(crate) fn new(most: usize, most_bytes: usize) -> Self {
        Self { exchanges: cache(NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN)), bytes: 0, most_bytes }
    }

    /// The one that was put last stays, whatever its size: requests wait for it.
    fn put(&mut self, key: TokenKey, exchange: CachedExchange) {
        self.bytes = self.bytes.saturating_add(exchange.bytes());
        // The one that had its place, or was pushed out.
        let gone = self.exchanges.push(key, exchange);
        self.bytes = self.bytes.saturating_sub(gone.map_or(0, |(_, gone)| gone.bytes()));
        while self.bytes > self.most_bytes && self.exchanges.len() > 1 {
            let gone = self.exchanges.pop_lru();
            self.bytes = self.bytes.saturating_sub(gone.map_or(0, |(_, gone)| gone.bytes()));
        }
    }

    fn remove(&mut self, key: &TokenKey) {
        let gone = self.exchanges.pop(key);
        self.bytes = self.bytes.saturating_sub(gone.map_or(0, |gone| gone.bytes()));
    }

    /// Every span that was measured by the old clock ends.
    pub(crate) fn clock_went_back(&mut self) {
        self.exchanges.clear();
        self.bytes = 0;
    }

    /// What is there for others to have.
    pub(crate) fn peek(&self, key: &TokenKey, now: UnixTime) -> Option<&CachedExchange> {
        self.exchanges.peek(key).filter(|exchange| now < exchange.until())
    }

    /// Takes over what another worker has found, also a token that ends sooner than the one here: the others have that one.
    pub(crate) fn take_over(&mut self, key: TokenKey, theirs: CachedExchange) {
        self.put(key, theirs);
    }

    /// Another worker is at the next token: this one does not look for it again before long.
    pub(crate) fn leave_renewal(&mut self, key: &TokenKey, pause: Duration, now: UnixTime) {
        if let Some(CachedExchange::Issued { renew_from, .. }) = self.exchanges.peek_mut(key) {
            *renew_from = Some(now.plus(pause));
        }
    }

    pub(crate) fn get(&mut self, key: &TokenKey, now: UnixTime) -> Lookup {
        match self.exchanges.get(key) {
            Some(CachedExchange::Issued { authorization, mark, until, renew_from }) if now < *until => Lookup::Issued {
                authorization: authorization.clone(),
                mark: *mark,
                is_due: renew_from.is_some_and(|from| from <= now),
            },
            Some(CachedExchange::Failed { refusal, until }) if now < *until => {
                let mut refusal = refusal.clone();
                refusal.retry_after = refusal.retry_after.map(|_| until.since(now));
                Lookup::Failed(refusal)
            }
            Some(_) => {
                self.remove(key);
                Lookup::Unknown
            }
            None => Lookup::Unknown,
        }
    }

    /// Remembers a token until its own end, less a margin, but no longer than its subject is accepted. The margin is there
    /// for the next token: one that would end with the subject as well is no reason for another exchange, so the token is
    /// used to its end then.
    ///
    /// `asked`: the time of the call. A lifetime counts from the answer (RFC 6749 section 5.1), which came no sooner.
    ///
    /// `false`: a token stays in use that is good for longer.
    pub(crate) fn put_issued(
        &mut self,
        key: TokenKey,
        issued: &Issued,
        subject: SubjectEnds,
        asked: UnixTime,
        now: UnixTime,
    ) -> bool {
        let asked = asked.min(now);
        let end = issued.end(asked);
        // One that ends with its subject would be followed by one that does, too.
        let is_worth_it = end.plus(WORTH_RENEWING) < subject.expires;
        let quarter = end.since(asked).checked_div(4).unwrap_or_default();
        let margin = if is_worth_it { MARGIN.min(quarter) } else { Duration::ZERO };
        // Those who wait for a slow answer get its token all the same.
        let at_least = issued.end(now).min(now.plus(HANDED_OUT));
        let until = end.minus(margin).min(subject.accepted_until).max(at_least);
        let authorization = format!("{} {}", issued.scheme.name(), issued.access_token.reveal());
        let fifth = until.since(now).checked_div(5).unwrap_or_default();
        // Users who came at the same moment are not renewed at the same moment.
        let latest = until.minus(fifth).plus(key.share_of(fifth.checked_div(2).unwrap_or_default()));
        let wanted = issued.refresh_in.map_or(latest, |refresh_in| now.plus(refresh_in).min(latest));
        let renew_from = Some(wanted.max(now.plus(RENEWAL_PAUSE))).filter(|from| is_worth_it && *from < until);
        if let Some(CachedExchange::Issued { until: better, renew_from, .. }) = self.exchanges.peek_mut(&key)
            && now < *better
            && until < *better
        {
            // Some providers hand out less than they did: the next one is worth a call when it would end later.
            let from = better.minus(fifth).max(now.plus(RENEWAL_PAUSE));
            *renew_from = Some(from).filter(|from| *from < *better);
            return false;
        }
        self.put(key, CachedExchange::issued(authorization, until, renew_from));
        true
    }

    /// Which token is in use.
    pub(crate) fn mark(&self, key: &TokenKey) -> Option<Fingerprint> {
        self.exchanges.peek(key).and_then(CachedExchange::mark)
    }

    /// A token is not good any more. That there is none, and why, stays.
    pub(crate) fn drop_issued(&mut self, key: &TokenKey) {
        if self.mark(key).is_some() {
            self.remove(key);
        }
    }

    /// Remembers that there is no token, for `pause`. Where that says nothing of the token that is there and still good, it
    /// stays: there is only no next one yet. Whether that is remembered.
    pub(crate) fn put_failed(
        &mut self,
        key: TokenKey,
        refusal: Refusal,
        keeps: bool,
        pause: Duration,
        now: UnixTime,
    ) -> bool {
        if let Some(CachedExchange::Issued { until, renew_from, .. }) = self.exchanges.peek_mut(&key)
            && now < *until
            && keeps
        {
            *renew_from = Some(now.plus(pause.max(RENEWAL_PAUSE)));
            return false;
        }
        self.put(key, CachedExchange::Failed { refusal, until: now.plus(pause) });
        true
    }
}

/// What a [`TokenKey`] is made of, except for the subject token.
#[derive(Clone)]
pub(crate) struct KeyPrefix(hmac_sha256::Hash);

impl KeyPrefix {
    /// Each part with its length in front, so that no two lists of parts give the same input.
    pub(crate) fn of<'a>(parts: impl Iterator<Item = &'a str>) -> Self {
        let mut hash = hmac_sha256::Hash::new();
        for part in parts {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        Self(hash)
    }
}

/// So many characters of base64url are 254 bits of a signature at least.
const SIGNATURE_END: usize = 43;

impl TokenKey {
    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A part of `span` that is another for each key.
    pub(crate) fn share_of(&self, span: Duration) -> Duration {
        let [first, ..] = self.0;
        span.saturating_mul(first.into()).checked_div(u8::MAX.into()).unwrap_or_default()
    }

    /// SHA-256 over the shape and a verified subject token.
    ///
    /// The token stands there by the end of its signature, which is one block to hash instead of a dozen. Whoever cannot sign
    /// cannot choose it, and an issuer would have to sign some 2^127 tokens to give two of them the same.
    pub(crate) fn of(shape: &KeyPrefix, subject: &str) -> Self {
        let mut hash = shape.0;
        hash.update(subject.as_bytes().last_chunk::<SIGNATURE_END>().map_or(subject.as_bytes(), |end| end));
        Self(hash.finalize())
    }
}
