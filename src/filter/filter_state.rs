//! Filter state: each fact of a request, `wasm.onbehalf.` before its name, for other filters and the access log. The SDK's
//! setter panics on every status but one, and another plugin that has declared a name read-only makes Envoy return another.
#![expect(unsafe_code, reason = "the host takes path and value by pointer and length")]

use crate::telemetry::{FilterState, PREFIX, Record};

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    // proxy-wasm ABI 0.2.1, proxy_set_property.
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
}

/// Tells of the effective context's request that goes on. Whether every fact is there: filters behind this one decide by them.
pub(crate) fn tell(state: &FilterState) -> bool {
    match state {
        FilterState::Empty => true,
        FilterState::Caller(facts) => facts.iter().all(|(path, value)| set(path, value)),
        FilterState::Record(record) => tell_record(record),
    }
}

/// Tells of how the effective context's request ended. An access log that is not told has a gap.
pub(crate) fn tell_record(record: &Record) -> bool {
    record.facts().all(|(name, value)| set(&[PREFIX, name].concat(), &value))
}

fn set(path: &str, value: &str) -> bool {
    // SAFETY: the host reads both for as long as the call takes, and keeps neither.
    let status = unsafe { proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len()) };
    if status != 0 {
        log::error!("the filter state {path} could not be set: status {status}");
    }
    status == 0
}
