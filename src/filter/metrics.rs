use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;
use rustc_hash::FxHashMap;

use crate::telemetry::Sample;

/// Envoy's metrics. Their names carry the labels; the `stats_tags` of the shipped configurations take them out.
#[derive(Default)]
pub(crate) struct Metrics {
    ids: FxHashMap<String, u32>,
}

impl Metrics {
    pub(crate) fn record(&mut self, samples: Vec<(Sample, u64)>, durations: Vec<(Rc<str>, Duration)>) {
        for (sample, number) in samples {
            let name = match sample {
                Sample::Decisions(reason) => format!("onbehalf.decisions.reason.{reason}"),
                Sample::TokenCache(result) => format!("onbehalf.token_cache.result.{result}"),
                Sample::Exchanges(provider, outcome) => {
                    format!("onbehalf.exchanges.provider.{}.outcome.{outcome}", provider)
                }
                Sample::KeyRefreshes(provider, outcome) => {
                    format!("onbehalf.key_refreshes.provider.{}.outcome.{outcome}", provider)
                }
            };
            if let (Some(id), Ok(number)) = (self.id(MetricType::Counter, name), i64::try_from(number)) {
                hostcalls::increment_metric(id, number).ok();
            }
        }
        for (provider, duration) in durations {
            let name = format!("onbehalf.exchange_duration_ms.provider.{}", provider);
            if let (Some(id), Ok(millis)) = (self.id(MetricType::Histogram, name), u64::try_from(duration.as_millis()))
            {
                hostcalls::record_metric(id, millis).ok();
            }
        }
    }

    pub(crate) fn record_jwks_ages(&mut self, ages: Vec<(Rc<str>, Duration)>) {
        for (provider, age) in ages {
            let name = format!("onbehalf.key_age_seconds.provider.{}", provider);
            if let Some(id) = self.id(MetricType::Gauge, name) {
                hostcalls::record_metric(id, age.as_secs()).ok();
            }
        }
    }

    fn id(&mut self, kind: MetricType, name: String) -> Option<u32> {
        if let Some(id) = self.ids.get(&name) {
            return Some(*id);
        }
        let id = hostcalls::define_metric(kind, &name).ok()?;
        self.ids.insert(name, id);
        Some(id)
    }
}
