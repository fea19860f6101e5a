//! Exponential back-off with jitter.

use std::time::Duration;

use crate::crypto::Crypto;

/// Back-off after a number of earlier failures in a row, in seconds: 1, 2, 4, ..., at most `max`.
pub(crate) fn exponential(failures: u32, max: u32) -> u32 {
    1_u32.checked_shl(failures).unwrap_or(max).min(max)
}

/// Random time between nine tenths of `span` and all of it, so that workers of several machines do not call at the same moment.
pub(crate) fn jittered(span: Duration, crypto: &dyn Crypto) -> Duration {
    let random = crypto.random().map_or(u8::MAX, |bytes| u8::from_le_bytes([bytes[0]]));
    let tenth = span.checked_div(10).unwrap_or_default();
    let part = tenth.saturating_mul(random.into()).checked_div(u8::MAX.into()).unwrap_or_default();
    span.saturating_sub(tenth).saturating_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Software;

    #[test]
    fn a_backoff_doubles_up_to_its_maximum() {
        assert_eq!(
            [0, 1, 2, 5, 6, 31, 32, u32::MAX].map(|failures| exponential(failures, 60)),
            [1, 2, 4, 32, 60, 60, 60, 60]
        );
    }

    #[test]
    fn jitter_takes_a_tenth_at_most_and_varies() {
        let span = Duration::from_secs(3600);
        let some: Vec<_> = (0..64).map(|_| jittered(span, &Software)).collect();
        assert!(some.iter().all(|jittered| (span * 9 / 10..=span).contains(jittered)), "{some:?}");
        assert!(some.iter().any(|jittered| *jittered != some[0]));
    }
}
