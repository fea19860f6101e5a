//! Clock of the host.

use std::time::Duration;

use proxy_wasm::hostcalls;

use crate::time::UnixTime;

/// Wall clock of the host. Without one, every token is expired.
pub(super) fn now() -> UnixTime {
    let time = hostcalls::get_current_time().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    UnixTime::default().plus(time.unwrap_or(Duration::MAX))
}
