//! What Envoy's access log is told: each fact as filter state of the request, `wasm.onbehalf.` before its name. The SDK's
//! setter panics on every status but one, and another plugin that has declared a name read-only makes Envoy return another.
#![expect(unsafe_code, reason = "the host takes path and value by pointer and length")]

use crate::audit::Record;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    // proxy-wasm ABI 0.2.1, proxy_set_property.
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
}

/// Tells of the effective context's request. An access log that is not told has a gap; the request is none the worse.
pub(super) fn tell(record: &Record) {
    for (name, value) in record.facts() {
        let path = ["onbehalf.", name].concat();
        // SAFETY: the host reads both for as long as the call takes, and keeps neither.
        let status = unsafe { proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len()) };
        if status != 0 {
            log::debug!("the filter state {path} could not be set: status {status}");
        }
    }
}
