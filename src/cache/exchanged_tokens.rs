//! Cache of exchanged tokens and failed exchanges (positive and negative), each until it expires.

use std::num::NonZeroUsize;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::cache::lru::{Lru, cache};
use crate::json::{self, Value};
use crate::provider::Issued;
use crate::refusal::Refusal;
use crate::secret::Secret;
use crate::time::UnixTime;

/// Maximum time before its expiry at which a token is no longer used, if a token that expires later is available.
const EXPIRY_MARGIN: Duration = Duration::from_secs(30);

/// Minimum time by which the subject token must outlive the exchanged token for a renewal. The next token would otherwise expire
/// with the subject token as well.
const MIN_RENEWAL_GAIN: Duration = Duration::from_secs(60);

/// Minimum time for which a token that was just issued is used: the requests that wait for it get it, however late it comes.
const MIN_USE: Duration = Duration::from_secs(1);

/// Minimum time between two exchanges for the renewal of one token.
const MIN_RENEWAL_INTERVAL: Duration = Duration::from_secs(10);

/// Approximate memory of an entry without its texts, in bytes.
const ENTRY_BYTES: usize = 200;

/// Number of characters at the end of a subject token that enter a [`TokenKey`]: in base64url, at least 254 bits of its signature.
const SIGNATURE_CHARACTERS: usize = 43;

/// Cache key of an exchanged token: digest of everything that shapes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenKey([u8; 32]);

/// Digest of an exchanged token. It identifies the token after the token itself was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// The digest.
    pub(crate) const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Fingerprint with this digest.
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    fn of(authorization: &str) -> Self {
        Self(hmac_sha256::Hash::hash(authorization.as_bytes()).first_chunk().copied().unwrap_or_default())
    }
}

/// Result of an exchange.
#[derive(Clone)]
pub(crate) enum CachedExchange {
    /// Token.
    Issued {
        /// Value for `authorization`: scheme and token.
        authorization: Secret,
        /// Digest of `authorization`, computed once.
        fingerprint: Fingerprint,
        /// End of its use, exclusive.
        until: UnixTime,
        /// Time from which the next token is asked for. `None`: it would expire no later than this one.
        renew_from: Option<UnixTime>,
    },
    /// Refusal, for requests until a time.
    Failed {
        /// Refusal of these requests.
        refusal: Refusal,
        /// End of its use, exclusive.
        until: UnixTime,
    },
}

impl CachedExchange {
    fn issued(authorization: String, until: UnixTime, renew_from: Option<UnixTime>) -> Self {
        Self::Issued {
            fingerprint: Fingerprint::of(&authorization),
            authorization: Secret::new(authorization),
            until,
            renew_from,
        }
    }

    /// Fingerprint of the token. `None`: the exchange failed.
    pub(crate) const fn fingerprint(&self) -> Option<Fingerprint> {
        match self {
            Self::Issued { fingerprint, .. } => Some(*fingerprint),
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

    /// End of its use, exclusive.
    pub(crate) const fn until(&self) -> UnixTime {
        match self {
            Self::Issued { until, .. } | Self::Failed { until, .. } => *until,
        }
    }

    /// Returns `true` if it is a token whose renewal is due.
    pub(crate) fn is_renewal_due(&self, now: UnixTime) -> bool {
        matches!(self, Self::Issued { renew_from: Some(from), .. } if *from <= now)
    }

    /// Writes it as JSON, for shared memory.
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

    /// Reads the JSON of [`write`](Self::write). `None`: it is malformed.
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

/// Expiry of a subject token.
#[derive(Clone, Copy)]
pub(crate) struct SubjectExpiry {
    /// `exp`.
    pub(crate) expires: UnixTime,
    /// `exp` and the clock skew that the provider is configured with.
    pub(crate) accepted_until: UnixTime,
}

/// Result of a look-up of an exchanged token.
pub(crate) enum Lookup {
    /// Token.
    Issued {
        /// Value for `authorization`: scheme and token.
        authorization: Secret,
        /// Digest of `authorization`.
        fingerprint: Fingerprint,
        /// The next token should be asked for now.
        is_renewal_due: bool,
    },
    /// Refusal of a failed exchange, with the remaining time in `retry_after`.
    Failed(Refusal),
    /// No exchange was made, or its result has expired.
    Unknown,
}

/// Results of exchanges in one worker, bounded by number and by bytes. The least recently used one is evicted.
pub(crate) struct ExchangedTokenCache {
    exchanges: Lru<TokenKey, CachedExchange>,
    bytes: usize,
    max_bytes: usize,
}

impl ExchangedTokenCache {
    /// Empty cache for at most `max` results, and at most `max_bytes` of memory.
    pub(crate) fn new(max: usize, max_bytes: usize) -> Self {
        Self { exchanges: cache(NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN)), bytes: 0, max_bytes }
    }

    /// Stores a result. The latest one stays, whatever its size: requests wait for it.
    fn put(&mut self, key: TokenKey, exchange: CachedExchange) {
        self.bytes = self.bytes.saturating_add(exchange.bytes());
        let replaced_or_evicted = self.exchanges.push(key, exchange);
        self.bytes = self.bytes.saturating_sub(replaced_or_evicted.map_or(0, |(_, gone)| gone.bytes()));
        while self.bytes > self.max_bytes && self.exchanges.len() > 1 {
            let evicted = self.exchanges.pop_lru();
            self.bytes = self.bytes.saturating_sub(evicted.map_or(0, |(_, gone)| gone.bytes()));
        }
    }

    fn remove(&mut self, key: &TokenKey) {
        let removed = self.exchanges.pop(key);
        self.bytes = self.bytes.saturating_sub(removed.map_or(0, |gone| gone.bytes()));
    }

    /// Forgets all results: their times are of a clock that was set back.
    pub(crate) fn clock_went_back(&mut self) {
        self.exchanges.clear();
        self.bytes = 0;
    }

    /// Current result for a key, for other workers. It does not count as a use.
    pub(crate) fn peek(&self, key: &TokenKey, now: UnixTime) -> Option<&CachedExchange> {
        self.exchanges.peek(key).filter(|exchange| now < exchange.until())
    }

    /// Stores the result of another worker. It replaces a token of this worker that expires later: all other workers have the new
    /// one.
    pub(crate) fn put_shared(&mut self, key: TokenKey, exchange: CachedExchange) {
        self.put(key, exchange);
    }

    /// Postpones the renewal of a token for `pause`, for example while another worker renews it.
    pub(crate) fn postpone_renewal(&mut self, key: &TokenKey, pause: Duration, now: UnixTime) {
        if let Some(CachedExchange::Issued { renew_from, .. }) = self.exchanges.peek_mut(key) {
            *renew_from = Some(now.plus(pause));
        }
    }

    /// Looks up the result for a key, and removes it if it has expired.
    pub(crate) fn get(&mut self, key: &TokenKey, now: UnixTime) -> Lookup {
        match self.exchanges.get(key) {
            Some(CachedExchange::Issued { authorization, fingerprint, until, renew_from }) if now < *until => {
                Lookup::Issued {
                    authorization: authorization.clone(),
                    fingerprint: *fingerprint,
                    is_renewal_due: renew_from.is_some_and(|from| from <= now),
                }
            }
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

    /// Stores a token that was just issued, to be used until its expiry less [`EXPIRY_MARGIN`], and no longer than its subject
    /// token is accepted. The margin applies only if a renewal gains [`MIN_RENEWAL_GAIN`]; else the token is used until its expiry.
    ///
    /// `asked`: time of the call. A lifetime counts from the response (RFC 6749 section 5.1), which came no sooner.
    ///
    /// Returns `false` if a token that is used for longer is there already and stays.
    pub(crate) fn put_issued(
        &mut self,
        key: TokenKey,
        issued: &Issued,
        subject: SubjectExpiry,
        asked: UnixTime,
        now: UnixTime,
    ) -> bool {
        let asked = asked.min(now);
        let expiry = issued.end(asked);
        let is_renewable = expiry.plus(MIN_RENEWAL_GAIN) < subject.expires;
        let quarter = expiry.since(asked).checked_div(4).unwrap_or_default();
        let margin = if is_renewable { EXPIRY_MARGIN.min(quarter) } else { Duration::ZERO };
        let min_until = issued.end(now).min(now.plus(MIN_USE));
        let until = expiry.minus(margin).min(subject.accepted_until).max(min_until);
        let authorization = format!("{} {}", issued.scheme.name(), issued.access_token.reveal());
        let fifth = until.since(now).checked_div(5).unwrap_or_default();
        // A share by key, so that tokens that were issued at one moment are not renewed at one moment.
        let latest = until.minus(fifth).plus(key.share_of(fifth.checked_div(2).unwrap_or_default()));
        let wanted = issued.refresh_in.map_or(latest, |refresh_in| now.plus(refresh_in).min(latest));
        let renew_from = Some(wanted.max(now.plus(MIN_RENEWAL_INTERVAL))).filter(|from| is_renewable && *from < until);
        if let Some(CachedExchange::Issued { until: longer, renew_from, .. }) = self.exchanges.peek_mut(&key)
            && now < *longer
            && until < *longer
        {
            // The provider issues tokens of a shorter lifetime than before: the next one must expire later than this one.
            let from = longer.minus(fifth).max(now.plus(MIN_RENEWAL_INTERVAL));
            *renew_from = Some(from).filter(|from| *from < *longer);
            return false;
        }
        self.put(key, CachedExchange::issued(authorization, until, renew_from));
        true
    }

    /// Fingerprint of the token for a key. `None`: there is none.
    pub(crate) fn fingerprint(&self, key: &TokenKey) -> Option<Fingerprint> {
        self.exchanges.peek(key).and_then(CachedExchange::fingerprint)
    }

    /// Value for `authorization` of the token for a key, if it is the one with that fingerprint.
    pub(crate) fn authorization(&self, key: &TokenKey, of: Fingerprint) -> Option<&Secret> {
        match self.exchanges.peek(key) {
            Some(CachedExchange::Issued { authorization, fingerprint, .. }) if *fingerprint == of => {
                Some(authorization)
            }
            _ => None,
        }
    }

    /// Removes the token for a key. A failed exchange stays.
    pub(crate) fn remove_issued(&mut self, key: &TokenKey) {
        if self.fingerprint(key).is_some() {
            self.remove(key);
        }
    }

    /// Stores a failed exchange for `pause`. `keeps_token`: the failure says nothing about a current token, which stays; only its
    /// renewal is postponed. Returns `false` in that case.
    pub(crate) fn put_failed(
        &mut self,
        key: TokenKey,
        refusal: Refusal,
        keeps_token: bool,
        pause: Duration,
        now: UnixTime,
    ) -> bool {
        if let Some(CachedExchange::Issued { until, renew_from, .. }) = self.exchanges.peek_mut(&key)
            && now < *until
            && keeps_token
        {
            *renew_from = Some(now.plus(pause.max(MIN_RENEWAL_INTERVAL)));
            return false;
        }
        self.put(key, CachedExchange::Failed { refusal, until: now.plus(pause) });
        true
    }
}

/// Hash of everything that a [`TokenKey`] is made of, except for the subject token.
#[derive(Clone)]
pub(crate) struct KeyPrefix(hmac_sha256::Hash);

impl KeyPrefix {
    /// Hashes `parts`, each with its length in front: no two lists of parts have the same input.
    pub(crate) fn of<'a>(parts: impl Iterator<Item = &'a str>) -> Self {
        let mut hash = hmac_sha256::Hash::new();
        for part in parts {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        Self(hash)
    }
}

impl TokenKey {
    /// Key with this digest.
    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest.
    pub(crate) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Part of `span` that differs by key: from nothing to all of it.
    pub(crate) fn share_of(&self, span: Duration) -> Duration {
        let [first, ..] = self.0;
        span.saturating_mul(first.into()).checked_div(u8::MAX.into()).unwrap_or_default()
    }

    /// SHA-256 over the prefix and a verified subject token.
    ///
    /// The end of its signature stands for the token: one block to hash instead of a dozen. A caller cannot choose a signature, and
    /// an issuer would have to sign some 2^127 tokens for two of them with the same end.
    pub(crate) fn of(prefix: &KeyPrefix, subject: &str) -> Self {
        let mut hash = prefix.0;
        hash.update(subject.as_bytes().last_chunk::<SIGNATURE_CHARACTERS>().map_or(subject.as_bytes(), |end| end));
        Self(hash.finalize())
    }
}
