use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;
use rustc_hash::FxHashMap;

use crate::telemetry::{Metric, MetricKind, Sample};

/// Envoy's metrics. Their names carry the labels; the `stats_tags` of the shipped configurations take them out.
#[derive(Default)]
pub(crate) struct Metrics {
    ids: FxHashMap<String, u32>,
}

impl Metrics {
    pub(crate) fn record(&mut self, samples: Vec<(Sample, u64)>, durations: Vec<(Rc<str>, Duration)>) {
        for (sample, number) in samples {
            let id = match sample {
                Sample::Decisions(reason) => self.id(&Metric::DECISIONS, &[reason]),
                Sample::TokenCache(result) => self.id(&Metric::TOKEN_CACHE, &[result]),
                Sample::Exchanges(provider, outcome) => self.id(&Metric::EXCHANGES, &[&provider, outcome]),
                Sample::KeyRefreshes(provider, outcome) => self.id(&Metric::KEY_REFRESHES, &[&provider, outcome]),
            };
            if let (Some(id), Ok(number)) = (id, i64::try_from(number)) {
                hostcalls::increment_metric(id, number).ok();
            }
        }
        for (provider, duration) in durations {
            let id = self.id(&Metric::EXCHANGE_DURATION, &[&provider]);
            if let (Some(id), Ok(millis)) = (id, u64::try_from(duration.as_millis())) {
                hostcalls::record_metric(id, millis).ok();
            }
        }
    }

    pub(crate) fn record_jwks_ages(&mut self, ages: Vec<(Rc<str>, Duration)>) {
        for (provider, age) in ages {
            if let Some(id) = self.id(&Metric::KEY_AGE, &[&provider]) {
                hostcalls::record_metric(id, age.as_secs()).ok();
            }
        }
    }

    fn id(&mut self, metric: &Metric, labels: &[&str]) -> Option<u32> {
        let stat = metric.stat(labels);
        if let Some(id) = self.ids.get(&stat) {
            return Some(*id);
        }
        let kind = match metric.kind {
            MetricKind::Counter => MetricType::Counter,
            MetricKind::Gauge => MetricType::Gauge,
            MetricKind::Histogram => MetricType::Histogram,
        };
        let id = hostcalls::define_metric(kind, &stat).ok()?;
        self.ids.insert(stat, id);
        Some(id)
    }
}
