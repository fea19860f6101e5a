//! Filter state: facts of a request for the access log and for other filters, each under `wasm.onbehalf.<name>`.
//!
//! The SDK's setter panics on every status except success. Envoy returns another one if another plugin has declared the key
//! read-only, so this module calls the host itself.
#![expect(unsafe_code, reason = "the host takes key and value by pointer and length")]

use crate::telemetry::{FilterState, Record};

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    // proxy-wasm ABI 0.2.1, proxy_set_property.
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
}

/// Sets the filter state of the effective context's request, which is forwarded. Returns `true` if every fact is set: filters
/// behind this one decide by them.
pub(crate) fn write(state: &FilterState) -> bool {
    state.write(set)
}

/// Sets the filter state of the effective context's request, which is refused. Returns `true` if every fact is set.
pub(crate) fn write_record(record: &Record) -> bool {
    record.write(set)
}

fn set(key: &'static str, value: &str) -> bool {
    // SAFETY: the host reads both during the call, and keeps neither.
    let status = unsafe { proxy_set_property(key.as_ptr(), key.len(), value.as_ptr(), value.len()) };
    if status != 0 {
        log::error!("the filter state {key} could not be set: status {status}");
    }
    status == 0
}
