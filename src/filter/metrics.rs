use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;
use rustc_hash::FxHashMap;

use crate::telemetry::Sample;

/// Envoy's metrics. Their names carry the labels; the `stats_tags` of the shipped configurations take them out.
#[derive(Default)]
pub(crate) struct Metrics {
    providers: Vec<Rc<str>>,
    ids: FxHashMap<String, u32>,
}

impl Metrics {
    pub(crate) fn for_providers(providers: Vec<Rc<str>>) -> Self {
        Self { providers, ids: FxHashMap::default() }
    }

    pub(crate) fn record(&mut self, samples: Vec<(Sample, u64)>, durations: Vec<(usize, Duration)>) {
        for (sample, number) in samples {
            let name = match sample {
                Sample::Decisions(reason) => format!("onbehalf.decisions.reason.{reason}"),
                Sample::TokenCache(result) => format!("onbehalf.token_cache.result.{result}"),
                Sample::Exchanges(provider, outcome) => {
                    format!("onbehalf.exchanges.provider.{}.outcome.{outcome}", self.provider(provider))
                }
                Sample::KeyRefreshes(provider, outcome) => {
                    format!("onbehalf.key_refreshes.provider.{}.outcome.{outcome}", self.provider(provider))
                }
            };
            if let (Some(id), Ok(number)) = (self.id(MetricType::Counter, name), i64::try_from(number)) {
                hostcalls::increment_metric(id, number).ok();
            }
        }
        for (provider, duration) in durations {
            let name = format!("onbehalf.exchange_duration_ms.provider.{}", self.provider(provider));
            if let (Some(id), Ok(millis)) = (self.id(MetricType::Histogram, name), u64::try_from(duration.as_millis()))
            {
                hostcalls::record_metric(id, millis).ok();
            }
        }
    }

    pub(crate) fn record_key_ages(&mut self, ages: Vec<(usize, Duration)>) {
        for (provider, age) in ages {
            let name = format!("onbehalf.key_age_seconds.provider.{}", self.provider(provider));
            if let Some(id) = self.id(MetricType::Gauge, name) {
                hostcalls::record_metric(id, age.as_secs()).ok();
            }
        }
    }

    fn provider(&self, index: usize) -> &str {
        self.providers.get(index).map_or("-", |name| name)
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
