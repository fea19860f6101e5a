//! What is counted. Numbers are collected here and fetched once in a while: a hostcall for each would show on
//! the warm path.

use std::rc::Rc;
use std::time::Duration;

/// The most durations that are kept until they are fetched: each is a hostcall then. Of more, those that come later are not
/// recorded.
const MOST_DURATIONS: usize = 4096;

/// Metric of the host. Envoy's stat has the labels in its name: `onbehalf.exchanges.provider.idp.outcome.ok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name without the prefix `onbehalf`.
    pub name: &'static str,
    /// Kind that the host knows.
    pub kind: MetricKind,
    /// Names of the labels, in the order of the stat's name.
    pub labels: &'static [&'static str],
}

/// Kinds of metrics (proxy-wasm ABI 0.2.1, `proxy_metric_type_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Sum that only grows.
    Counter,
    /// Last value.
    Gauge,
    /// Distribution of values.
    Histogram,
}

impl Metric {
    /// Decisions on requests, by label.
    pub const DECISIONS: Self = Self::new("decisions", MetricKind::Counter, &["reason"]);
    /// Look-ups of exchanged tokens, by result.
    pub const TOKEN_CACHE: Self = Self::new("token_cache", MetricKind::Counter, &["result"]);
    /// Token exchanges, by provider and outcome.
    pub const EXCHANGES: Self = Self::new("exchanges", MetricKind::Counter, &["provider", "outcome"]);
    /// Fetches of a provider's JWKS, by outcome.
    pub const KEY_REFRESHES: Self = Self::new("key_refreshes", MetricKind::Counter, &["provider", "outcome"]);
    /// Duration of token exchanges in milliseconds.
    pub const EXCHANGE_DURATION: Self = Self::new("exchange_duration_ms", MetricKind::Histogram, &["provider"]);
    /// Age of a provider's JWKS in seconds.
    pub const KEY_AGE: Self = Self::new("key_age_seconds", MetricKind::Gauge, &["provider"]);

    /// Every metric.
    pub const ALL: &[Self] = &[
        Self::DECISIONS,
        Self::TOKEN_CACHE,
        Self::EXCHANGES,
        Self::KEY_REFRESHES,
        Self::EXCHANGE_DURATION,
        Self::KEY_AGE,
    ];

    const fn new(name: &'static str, kind: MetricKind, labels: &'static [&'static str]) -> Self {
        Self { name, kind, labels }
    }

    /// Name of Envoy's stat, with a value for each label.
    pub fn stat(&self, values: &[&str]) -> String {
        let labels = self.labels.iter().zip(values);
        labels.fold(["onbehalf.", self.name].concat(), |stat, (label, value)| [&stat, ".", label, ".", value].concat())
    }
}

/// A number that goes to a metric of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sample {
    /// So many decisions of that label.
    Decisions(&'static str),
    /// So many look-ups for an exchanged token: `hit`, `miss`, `joined`, `shared` or `renewed`.
    TokenCache(&'static str),
    /// So many exchanges with a provider (by name) that ended so.
    Exchanges(Rc<str>, &'static str),
    /// So many fetches of a provider's keys that ended so: `ok` or `failed`.
    KeyRefreshes(Rc<str>, &'static str),
}

/// Numbers since they were last fetched.
#[derive(Debug, Default)]
pub struct Counters {
    forwarded: u64,
    hits: u64,
    /// One for each label that has come up: a few dozen at most.
    others: Vec<(Sample, u64)>,
    durations: Vec<(Rc<str>, Duration)>,
}

impl Counters {
    /// Every number above zero; they start from zero again.
    pub fn take(&mut self) -> Vec<(Sample, u64)> {
        let mut samples = std::mem::take(&mut self.others);
        samples.push((Sample::Decisions("forwarded"), std::mem::take(&mut self.forwarded)));
        samples.push((Sample::TokenCache("hit"), std::mem::take(&mut self.hits)));
        samples.retain(|(_, number)| *number > 0);
        samples
    }

    /// How long exchanges took since the last time, by provider.
    pub fn take_durations(&mut self) -> Vec<(Rc<str>, Duration)> {
        std::mem::take(&mut self.durations)
    }

    pub(crate) fn forwarded(&mut self) {
        self.forwarded = self.forwarded.saturating_add(1);
    }

    pub(crate) fn cache_hit(&mut self) {
        self.hits = self.hits.saturating_add(1);
    }

    pub(crate) fn cache_miss(&mut self) {
        self.count(Sample::TokenCache("miss"));
    }

    pub(crate) fn cache_shared(&mut self) {
        self.count(Sample::TokenCache("shared"));
    }

    pub(crate) fn cache_renewed(&mut self) {
        self.count(Sample::TokenCache("renewed"));
    }

    pub(crate) fn cache_joined(&mut self) {
        self.count(Sample::TokenCache("joined"));
    }

    pub(crate) fn open_path(&mut self) {
        self.count(Sample::Decisions("open_path"));
    }

    pub(crate) fn metadata(&mut self) {
        self.count(Sample::Decisions("metadata"));
    }

    pub(crate) fn refused(&mut self, reason: &'static str) {
        self.count(Sample::Decisions(reason));
    }

    pub(crate) fn exchanged(&mut self, provider: &Rc<str>, outcome: &'static str, took: Duration) {
        self.count(Sample::Exchanges(provider.clone(), outcome));
        if self.durations.len() < MOST_DURATIONS {
            self.durations.push((provider.clone(), took));
        }
    }

    pub(crate) fn keys_refreshed(&mut self, provider: &Rc<str>, ok: bool) {
        self.count(Sample::KeyRefreshes(provider.clone(), if ok { "ok" } else { "failed" }));
    }

    fn count(&mut self, sample: Sample) {
        match self.others.iter_mut().find(|(other, _)| *other == sample) {
            Some((_, number)) => *number = number.saturating_add(1),
            None => self.others.push((sample, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_has_its_labels_in_its_name() {
        assert_eq!(Metric::DECISIONS.stat(&["expired"]), "onbehalf.decisions.reason.expired");
        assert_eq!(Metric::EXCHANGES.stat(&["idp", "ok"]), "onbehalf.exchanges.provider.idp.outcome.ok");
    }

    #[test]
    fn durations_have_an_end() {
        let mut counters = Counters::default();
        (0..10_000).for_each(|_| counters.exchanged(&"p".into(), "ok", Duration::ZERO));
        assert_eq!(counters.take_durations().len(), MOST_DURATIONS);
        assert!(counters.take().contains(&(Sample::Exchanges("p".into(), "ok"), 10_000)), "but all are counted");
        counters.exchanged(&"p".into(), "ok", Duration::ZERO);
        assert_eq!(counters.take_durations().len(), 1);
    }
}
