//! DPoP nonces that this proxy gives out (RFC 9449 section 9).

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::shared::{SharedKey, is_same_code};
use crate::time::UnixTime;

/// For how long a nonce is given out. It is good for twice as long.
const NONCE_PERIOD: Duration = Duration::from_secs(300);

/// The nonce that is given out now: a code over the number of the period that only workers can make. So none has to be
/// remembered, and every worker knows those of the others.
pub(crate) fn nonce(key: &SharedKey, now: UnixTime) -> String {
    nonce_of(key, period(now))
}

/// Whether `nonce` was given out a short time ago.
pub(crate) fn is_fresh(nonce: &str, key: &SharedKey, now: UnixTime) -> bool {
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
