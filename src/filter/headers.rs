//! Header maps, read in one hostcall into one buffer. The SDK's getter allocates twice for each field and checks names for UTF-8,
//! which took a tenth of the time of a request for which everything is cached (docs/adr/0006).
#![expect(unsafe_code, reason = "the host hands the buffer over by pointer and length")]

use proxy_wasm::types::MapType;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    // proxy-wasm ABI 0.2.1, proxy_get_header_map_pairs.
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    // proxy-wasm ABI 0.2.1, proxy_get_header_map_value.
    fn proxy_get_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
}

/// Serialised header map; empty if the host has none.
pub(crate) fn pairs(map: MapType) -> Vec<u8> {
    let mut data = std::ptr::null_mut();
    let mut size = 0;
    // SAFETY: both out pointers are to live variables of the types that the ABI names.
    let status = unsafe { proxy_get_header_map_pairs(map as u32, &raw mut data, &raw mut size) };
    if status != 0 || data.is_null() {
        return Vec::new();
    }
    // SAFETY: `proxy_on_memory_allocate` of the SDK made the buffer as a `Vec<u8>` of that capacity, from the same allocator. The
    // host filled it and does not keep it.
    unsafe { Vec::from_raw_parts(data, size, size) }
}

/// Value of the first field with that name in the response. If there is none, the host makes no buffer and takes a fifth of the
/// time.
pub(crate) fn response_field(name: &str) -> Option<Vec<u8>> {
    let mut data = std::ptr::null_mut();
    let mut size = 0;
    let map = MapType::HttpResponseHeaders as u32;
    // SAFETY: name and length belong together, and the out pointers are to live variables.
    let status = unsafe { proxy_get_header_map_value(map, name.as_ptr(), name.len(), &raw mut data, &raw mut size) };
    match (status, data.is_null()) {
        // SAFETY: as above.
        (0, false) => Some(unsafe { Vec::from_raw_parts(data, size, size) }),
        (0, true) => Some(Vec::new()),
        _ => None,
    }
}
