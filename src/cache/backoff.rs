//! Back-off with jitter.

use std::time::Duration;

use crate::crypto::Crypto;

/// Between nine tenths of `span` and all of it: workers of many machines should not come at the same moment.
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
    fn jitter_takes_a_tenth_at_most_and_is_not_always_the_same() {
        let span = Duration::from_secs(3600);
        let some: Vec<_> = (0..64).map(|_| jittered(span, &Software)).collect();
        assert!(some.iter().all(|jittered| (span * 9 / 10..=span).contains(jittered)), "{some:?}");
        assert!(some.iter().any(|jittered| *jittered != some[0]));
    }
}
