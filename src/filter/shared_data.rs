//! Shared data and queues of Envoy.

use proxy_wasm::hostcalls;

use crate::shared::{CasVersion, SharedData};

/// Shared data of Envoy, one map for all VMs with the same `vm_id`, and the queues of the VMs.
pub(crate) struct EnvoySharedData;

/// CAS version that no value has: with it, the host creates a missing value and overwrites none.
const NONE: u32 = u32::MAX;

impl SharedData for EnvoySharedData {
    fn get(&self, name: &str) -> (Option<Vec<u8>>, CasVersion) {
        let (value, version) = hostcalls::get_shared_data(name).unwrap_or_default();
        (value, CasVersion(version))
    }

    fn put(&self, name: &str, value: &[u8], version: CasVersion) -> bool {
        hostcalls::set_shared_data(name, Some(value), Some(version.0.unwrap_or(NONE))).is_ok()
    }

    fn enqueue(&self, queue: u32, message: &[u8]) -> bool {
        hostcalls::enqueue_shared_queue(queue, Some(message)).is_ok()
    }
}
