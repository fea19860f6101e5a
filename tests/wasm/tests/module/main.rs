//! The compiled filter under a host that behaves as Envoy was measured to.

mod support;

mod capabilities;
mod chaos;
mod configuration;
mod cost;
mod exports;
mod failures;
mod flow;
mod hostile;
mod secrets;
mod signatures;
mod upstream;
mod waiting;
mod workers;
