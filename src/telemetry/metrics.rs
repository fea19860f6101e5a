//! Table of the metrics, and the numbers of a worker until the filter hands them to Envoy: a hostcall for each request would
//! slow a request down for which everything is cached.

use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;

/// Maximum number of durations that wait to be taken. Each is a hostcall then. Further durations are not recorded.
const MAX_DURATIONS: usize = 4096;

/// Kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Number of events since the VM started.
    Counter,
    /// Current value.
    Gauge,
    /// Distribution of values.
    Histogram,
}

/// Makes [`Metric`] of its table: a variant for each row with its name, kind, labels and, natively only, its meaning.
macro_rules! metrics {
    ($($metric:ident => ($name:literal, $kind:ident, $labels:expr, $meaning:literal);)*) => {
        /// Metric of the filter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the table has the meaning of each")]
        pub enum Metric {
            $($metric,)*
        }

        impl Metric {
            /// Every metric, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$metric,)*];

            /// Name, without the prefix `onbehalf`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$metric => $name,)*
                }
            }

            /// Kind.
            pub const fn kind(self) -> MetricKind {
                match self {
                    $(Self::$metric => MetricKind::$kind,)*
                }
            }

            /// Names of the labels, in the order of the name of a statistic.
            pub const fn labels(self) -> &'static [&'static str] {
                match self {
                    $(Self::$metric => &$labels,)*
                }
            }

            /// Sentence for the documentation. The module for Envoy does not contain it.
            #[cfg(not(target_arch = "wasm32"))]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$metric => $meaning,)*
                }
            }
        }
    };
}

metrics! {
    Decisions => ("decisions", Counter, ["reason"], "Requests, by the reason of the refusal, or by forwarded, unauthenticated_path or metadata.");
    TokenCache => ("token_cache", Counter, ["result"], "Look-ups of exchanged tokens, by their result.");
    Exchanges => ("exchanges", Counter, ["provider", "outcome"], "Token exchanges, by their outcome.");
    ExchangeDuration => ("exchange_duration_ms", Histogram, ["provider"], "Duration of token exchanges, in milliseconds.");
    JwksRefreshes => ("jwks_refreshes", Counter, ["provider", "outcome"], "Fetches of the JWKS of a provider, by their outcome: ok or failed.");
    JwksAge => ("jwks_age_seconds", Gauge, ["provider"], "Time since the keys in use were fetched, in seconds.");
}

impl Metric {
    /// Name of the statistic in Envoy for `values` of the labels: `onbehalf.<name>.<label>.<value>...`. The `stats_tags` of the
    /// configurations in `envoy-config/` make labels of it.
    pub fn stat(self, values: &[&str]) -> String {
        let mut stat = ["onbehalf.", self.name()].concat();
        for (label, value) in self.labels().iter().zip(values) {
            // Writing to a string does not fail.
            let _ = write!(stat, ".{label}.{value}");
        }
        stat
    }
}

/// Result of the look-up of an exchanged token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheOutcome {
    /// The cache has the token.
    Hit,
    /// A token exchange starts.
    Miss,
    /// The request waits for an exchange that another request started.
    Coalesced,
    /// Another worker has the token.
    Shared,
    /// A token exchange starts before the token in the cache ends.
    Renewed,
    /// The cache has the failure of an earlier exchange.
    NegativeHit,
}

impl CacheOutcome {
    /// Label in metrics and log lines.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Coalesced => "coalesced",
            Self::Shared => "shared",
            Self::Renewed => "renewed",
            Self::NegativeHit => "negative_hit",
        }
    }
}

/// Counter of the host with its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sample {
    /// Requests with that label.
    Decisions(&'static str),
    /// Look-ups of exchanged tokens with that result.
    TokenCache(CacheOutcome),
    /// Token exchanges at a provider with that outcome.
    Exchanges(Rc<str>, &'static str),
    /// Fetches of the JWKS of a provider with that outcome.
    JwksRefreshes(Rc<str>, &'static str),
}

impl Sample {
    /// Name of the statistic.
    pub fn stat(&self) -> String {
        match self {
            Self::Decisions(label) => Metric::Decisions.stat(&[label]),
            Self::TokenCache(outcome) => Metric::TokenCache.stat(&[outcome.label()]),
            Self::Exchanges(provider, outcome) => Metric::Exchanges.stat(&[provider, outcome]),
            Self::JwksRefreshes(provider, outcome) => Metric::JwksRefreshes.stat(&[provider, outcome]),
        }
    }
}

/// Numbers since they were last taken.
#[derive(Debug, Default)]
pub struct Counters {
    forwarded: u64,
    hits: u64,
    /// All other numbers. There are a few dozen combinations of labels at most.
    others: Vec<(Sample, u64)>,
    durations: Vec<(Rc<str>, Duration)>,
}

impl Counters {
    /// Returns every number above zero, and resets all.
    pub fn take(&mut self) -> Vec<(Sample, u64)> {
        let mut samples = std::mem::take(&mut self.others);
        samples.push((Sample::Decisions("forwarded"), std::mem::take(&mut self.forwarded)));
        samples.push((Sample::TokenCache(CacheOutcome::Hit), std::mem::take(&mut self.hits)));
        samples.retain(|(_, number)| *number > 0);
        samples
    }

    /// Returns the durations of exchanges with the name of their provider, and forgets them.
    pub fn take_durations(&mut self) -> Vec<(Rc<str>, Duration)> {
        std::mem::take(&mut self.durations)
    }

    pub(crate) fn forwarded(&mut self) {
        self.forwarded = self.forwarded.saturating_add(1);
    }

    /// Counts the look-up of an exchanged token, and returns `outcome` for the log line.
    pub(crate) fn looked_up(&mut self, outcome: CacheOutcome) -> CacheOutcome {
        match outcome {
            CacheOutcome::Hit => self.hits = self.hits.saturating_add(1),
            _ => self.count(Sample::TokenCache(outcome)),
        }
        outcome
    }

    pub(crate) fn unauthenticated_path(&mut self) {
        self.count(Sample::Decisions("unauthenticated_path"));
    }

    pub(crate) fn metadata(&mut self) {
        self.count(Sample::Decisions("metadata"));
    }

    pub(crate) fn refused(&mut self, reason: &'static str) {
        self.count(Sample::Decisions(reason));
    }

    pub(crate) fn exchanged(&mut self, provider: &Rc<str>, outcome: &'static str, took: Duration) {
        self.count(Sample::Exchanges(provider.clone(), outcome));
        if self.durations.len() < MAX_DURATIONS {
            self.durations.push((provider.clone(), took));
        }
    }

    pub(crate) fn jwks_refreshed(&mut self, provider: &Rc<str>, ok: bool) {
        self.count(Sample::JwksRefreshes(provider.clone(), if ok { "ok" } else { "failed" }));
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
    fn the_number_of_durations_is_bounded_and_all_exchanges_are_counted() {
        let mut counters = Counters::default();
        (0..10_000).for_each(|_| counters.exchanged(&"p".into(), "ok", Duration::ZERO));
        assert_eq!(counters.take_durations().len(), MAX_DURATIONS);
        assert!(counters.take().contains(&(Sample::Exchanges("p".into(), "ok"), 10_000)));
        counters.exchanged(&"p".into(), "ok", Duration::ZERO);
        assert_eq!(counters.take_durations().len(), 1);
    }

    #[test]
    fn the_name_of_a_statistic_has_every_label() {
        let stat = Sample::JwksRefreshes("two".into(), "ok").stat();
        assert_eq!(stat, "onbehalf.jwks_refreshes.provider.two.outcome.ok");
        for metric in Metric::ALL {
            assert!(metric.meaning().ends_with('.') && !metric.labels().is_empty(), "{metric:?}");
        }
    }
}
