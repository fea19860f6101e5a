//! Nonces that this proxy gives to its callers for their DPoP proofs (RFC 9449 section 9).

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;

use crate::shared::SharedKey;
use crate::time::UnixTime;

/// Time for which one nonce is given out. It is accepted in this period and in the next one.
const NONCE_PERIOD: Duration = Duration::from_secs(300);

/// Number of bytes of a nonce before base64url.
const NONCE_BYTES: usize = 24;

/// Nonce of the current period: an authentication code over the number of the period. All workers make the same one, and none
/// has to be remembered.
pub(crate) fn nonce(key: &SharedKey, now: UnixTime) -> String {
    nonce_of(key, period(now))
}

/// Returns `true` if `nonce` is the one of the current period or of the period before.
pub(crate) fn is_fresh(nonce: &str, key: &SharedKey, now: UnixTime) -> bool {
    let current = period(now);
    let is_of = |period: u64| bool::from(nonce.as_bytes().ct_eq(nonce_of(key, period).as_bytes()));
    is_of(current) || is_of(current.saturating_sub(1))
}

fn nonce_of(key: &SharedKey, period: u64) -> String {
    let code = key.mac(&[b"nonce", &period.to_le_bytes()]);
    BASE64_URL_SAFE_NO_PAD.encode(code.get(..NONCE_BYTES).unwrap_or_default())
}

fn period(now: UnixTime) -> u64 {
    now.secs().checked_div(NONCE_PERIOD.as_secs()).unwrap_or_default()
}
