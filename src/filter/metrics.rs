//! Metrics of Envoy: defines each statistic at its first number and hands numbers over.

use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;
use rustc_hash::FxHashMap;

use crate::telemetry::{Metric, MetricKind, Sample};

/// Statistics that are defined in Envoy, by name.
#[derive(Default)]
pub(crate) struct Metrics {
    ids: FxHashMap<String, u32>,
}

impl Metrics {
    /// Adds `samples` to counters, and `durations` of exchanges to the histogram of their provider.
    pub(crate) fn record(&mut self, samples: Vec<(Sample, u64)>, durations: Vec<(Rc<str>, Duration)>) {
        for (sample, number) in samples {
            let stat = sample.stat();
            if let (Some(id), Ok(number)) = (self.id(MetricKind::Counter, stat), i64::try_from(number)) {
                hostcalls::increment_metric(id, number).ok();
            }
        }
        for (provider, duration) in durations {
            let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            self.set(Metric::ExchangeDuration, &provider, millis);
        }
    }

    /// Sets the age of the JWKS of providers.
    pub(crate) fn record_jwks_ages(&mut self, ages: Vec<(Rc<str>, Duration)>) {
        for (provider, age) in ages {
            self.set(Metric::JwksAge, &provider, age.as_secs());
        }
    }

    fn set(&mut self, metric: Metric, provider: &str, value: u64) {
        let stat = metric.stat(&[provider]);
        if let Some(id) = self.id(metric.kind(), stat) {
            hostcalls::record_metric(id, value).ok();
        }
    }

    /// Id of a statistic, which is defined if it is new.
    fn id(&mut self, kind: MetricKind, stat: String) -> Option<u32> {
        if let Some(id) = self.ids.get(&stat) {
            return Some(*id);
        }
        let kind = match kind {
            MetricKind::Counter => MetricType::Counter,
            MetricKind::Gauge => MetricType::Gauge,
            MetricKind::Histogram => MetricType::Histogram,
        };
        let id = hostcalls::define_metric(kind, &stat).ok()?;
        self.ids.insert(stat, id);
        Some(id)
    }
}
