//! Telemetry: records for the log and the access log, and metrics.

pub mod metrics;
pub mod record;

pub use metrics::{Counters, Metric, MetricKind, Sample};
pub use record::{CallerFacts, FilterState, PREFIX, Record, SubjectDisplay};
