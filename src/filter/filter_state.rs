//! Filter state: facts of a request for the access log and for other filters, each under `wasm.onbehalf.<name>`.
//!
//! The SDK's setter panics on every status except success. Envoy returns another one if another plugin has declared the key
//! read-only, so this module calls the host itself.
#![expect(unsafe_code, reason = "the host takes key and value by pointer and length")]

use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;

use crate::telemetry::{FilterState, Record};

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    // proxy-wasm ABI 0.2.1, proxy_set_property.
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
}

/// Key that every request for a resource has.
const MARK: &str = "onbehalf.resource";

/// `DeclarePropertyArguments` of Envoy for [`MARK`]: `name` (1), `type` (3) Bytes, and `span` (5) DownstreamRequest.
///
/// Filter state lives as long as the filter chain by default, and an internal redirect begins another one. This key lives as
/// long as the request. No client can set filter state.
fn declaration() -> Vec<u8> {
    let length = u8::try_from(MARK.len()).unwrap_or_default();
    [&[0x0a, length], MARK.as_bytes(), &[0x18, 0, 0x28, 1]].concat()
}

/// Makes [`MARK`] outlive the filter chain. A host that cannot do that treats a second pass like a first.
pub(crate) fn declare() {
    match hostcalls::call_foreign_function("declare_property", Some(&declaration())) {
        // Envoy keeps the first declaration, which is the same, when the configuration changes.
        Ok(_) | Err(Status::BadArgument) => {}
        Err(status) => log::debug!("a second pass of a request cannot be recognised: {status:?}"),
    }
}

/// Returns `true` if the effective context's request has passed this filter before.
pub(crate) fn is_marked() -> bool {
    matches!(hostcalls::get_property(vec![MARK]), Ok(Some(_)))
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
