//! Telemetry: the facts of a request for the log, the access log and other filters, and the metrics.

pub mod fact;
pub mod metrics;
pub mod record;

pub use fact::{Detail, Fact, cut};
pub use metrics::{CacheOutcome, Counters, Metric, MetricKind, Sample};
pub use record::{CallerFacts, FilterState, Record, SubjectDisplay};
