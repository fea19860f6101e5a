//! Exchanged tokens and failed exchanges, each until it runs out; and which provider is left in peace.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::known::{Cache, cache};
use crate::idp::Issued;
use crate::refusal::Refusal;
use crate::secret::Secret;
use crate::time::UnixTime;

/// How long before its end an exchanged token is not used any more.
const MARGIN: Duration = Duration::from_secs(30);

/// A provider is left in peace for all users for so long at most: one of them may have been the cause.
const LONGEST_THROTTLE: Duration = Duration::from_secs(60);

/// How much later than the token its subject must end for a next one to be worth a call.
const WORTH_RENEWING: Duration = Duration::from_secs(60);

/// For how long at least a token is not asked for again that is not needed yet.
const RENEWAL_PAUSE: Duration = Duration::from_secs(10);

/// A digest of everything that shapes an exchanged token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenKey([u8; 32]);

enum Exchange {
    Issued {
        authorization: Secret,
        until: UnixTime,
        /// When to ask for the next one, if that may be good for longer.
        renew_from: Option<UnixTime>,
    },
    Failed {
        refusal: Refusal,
        until: UnixTime,
    },
}

/// What a look-up for an exchanged token gives.
pub(super) enum Exchanged {
    Issued {
        /// The value for `authorization`.
        authorization: Secret,
        /// Whether it is time to ask for the next one.
        is_due: bool,
    },
    Failed(Refusal),
    Unknown,
}

/// What a worker has of exchanges.
pub(super) struct Exchanges {
    exchanges: Cache<TokenKey, Exchange>,
    /// By provider and tenant, until when it wants no exchange at all: there is a row for each that has said so.
    throttled: Vec<(usize, Option<String>, UnixTime)>,
}

impl Exchanges {
    /// Room for so many.
    pub(super) fn new(most: usize) -> Self {
        Self { exchanges: cache(NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN)), throttled: Vec::new() }
    }

    /// Every span that was measured by the old clock ends.
    pub(super) fn clock_went_back(&mut self) {
        self.throttled.clear();
        self.exchanges.clear();
    }

    pub(super) fn get(&mut self, key: &TokenKey, now: UnixTime) -> Exchanged {
        match self.exchanges.get(key) {
            Some(Exchange::Issued { authorization, until, renew_from }) if now < *until => Exchanged::Issued {
                authorization: authorization.clone(),
                is_due: renew_from.is_some_and(|from| from <= now),
            },
            Some(Exchange::Failed { refusal, until }) if now < *until => {
                let mut refusal = refusal.clone();
                refusal.retry_after = refusal.retry_after.map(|_| until.since(now));
                Exchanged::Failed(refusal)
            }
            Some(_) => {
                self.exchanges.pop(key);
                Exchanged::Unknown
            }
            None => Exchanged::Unknown,
        }
    }

    /// Remembers a token until its own end or its subject's, whichever is earlier, less a margin; but at least so
    /// long that those who wait for it get it.
    pub(super) fn put_issued(&mut self, key: TokenKey, issued: &Issued, subject_expires: UnixTime, now: UnixTime) {
        let end = now.plus(issued.lifetime);
        let margin = MARGIN.min(issued.lifetime.checked_div(4).unwrap_or_default());
        let until = end.min(subject_expires).minus(margin).max(now.plus(Duration::from_secs(1)));
        let authorization = Secret::new(format!("Bearer {}", issued.access_token.reveal()));
        // One that ends with its subject would be followed by one that does, too.
        let is_worth_it = end.plus(WORTH_RENEWING) < subject_expires;
        let fifth = until.since(now).checked_div(5).unwrap_or_default();
        // Users who came at the same moment are not renewed at the same moment.
        let latest = until.minus(fifth).plus(key.share_of(fifth.checked_div(2).unwrap_or_default()));
        let wanted = issued.refresh_in.map_or(latest, |refresh_in| now.plus(refresh_in).min(latest));
        let renew_from = Some(wanted.max(now.plus(RENEWAL_PAUSE))).filter(|from| is_worth_it && *from < until);
        if let Some(Exchange::Issued { until: better, renew_from, .. }) = self.exchanges.peek_mut(&key)
            && now < *better
            && until < *better
        {
            // Some providers hand out less than they did.
            *renew_from = Some(now.plus(RENEWAL_PAUSE));
            return;
        }
        self.exchanges.put(key, Exchange::Issued { authorization, until, renew_from });
    }

    /// For how long a provider wants no exchange of a tenant's, for whomever.
    pub(super) fn throttled(&self, provider: usize, tenant: Option<&str>, now: UnixTime) -> Option<Duration> {
        let is = |row: &&(usize, Option<String>, UnixTime)| row.0 == provider && row.1.as_deref() == tenant;
        let (_, _, until) = self.throttled.iter().find(is)?;
        (now < *until).then(|| until.since(now))
    }

    /// A provider wants no exchange of a tenant's for `pause`.
    pub(super) fn throttle(&mut self, provider: usize, tenant: Option<&str>, pause: Duration, now: UnixTime) {
        let is_over = |until: UnixTime| until.plus(RENEWAL_PAUSE) < now;
        self.throttled.retain(|row| !is_over(row.2));
        let until = now.plus(pause.min(LONGEST_THROTTLE));
        let is_same = |row: &&mut (usize, Option<String>, UnixTime)| row.0 == provider && row.1.as_deref() == tenant;
        match self.throttled.iter_mut().find(is_same) {
            // Of two answers that were under way at once, the one that asks for more.
            Some(row) => row.2 = row.2.max(until),
            None => self.throttled.push((provider, tenant.map(str::to_owned), until)),
        }
    }

    /// Whether a token may be renewed now: some time after a provider has throttled, those who have none come first.
    pub(super) fn may_renew(&self, provider: usize, tenant: Option<&str>, key: &TokenKey, now: UnixTime) -> bool {
        let before = now.minus(key.share_of(RENEWAL_PAUSE));
        self.throttled(provider, tenant, before).is_none()
    }

    /// Remembers that there is no token, for `pause`. Where that says nothing of the token that is there and still good, it
    /// stays: there is only no next one yet.
    pub(super) fn put_failed(&mut self, key: TokenKey, refusal: Refusal, keeps: bool, pause: Duration, now: UnixTime) {
        if let Some(Exchange::Issued { until, renew_from, .. }) = self.exchanges.peek_mut(&key)
            && now < *until
            && keeps
        {
            *renew_from = Some(now.plus(pause.max(RENEWAL_PAUSE)));
            return;
        }
        self.exchanges.put(key, Exchange::Failed { refusal, until: now.plus(pause) });
    }
}

/// What a [`TokenKey`] is made of, except for the subject token.
#[derive(Clone)]
pub(super) struct Shape(hmac_sha256::Hash);

impl Shape {
    /// Each part with its length in front, so that no two lists of parts give the same input.
    pub(super) fn of<'a>(parts: impl Iterator<Item = &'a str>) -> Self {
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
    /// A part of `span` that is another for each key.
    fn share_of(&self, span: Duration) -> Duration {
        let [first, ..] = self.0;
        span.saturating_mul(first.into()).checked_div(u8::MAX.into()).unwrap_or_default()
    }

    /// SHA-256 over the shape and a verified subject token.
    ///
    /// The token stands there by the end of its signature, which is one block to hash instead of a dozen. Whoever cannot sign
    /// cannot choose it, and an issuer would have to sign some 2^127 tokens to give two of them the same.
    pub(super) fn of(shape: &Shape, subject: &str) -> Self {
        let mut hash = shape.0;
        hash.update(subject.as_bytes().last_chunk::<SIGNATURE_END>().map_or(subject.as_bytes(), |end| end));
        Self(hash.finalize())
    }
}
