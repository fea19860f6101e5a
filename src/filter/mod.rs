//! The only place that knows proxy-wasm. It carries requests and replies to the engine and steps and calls back
//! to the host, and decides nothing.
//!
//! Two rules. While the engine is borrowed there is no hostcall that could bring another callback: it logs and has
//! signatures computed, and nothing else. And only those of the SDK's functions that neither unwrap UTF-8 nor panic on a status that Envoy returns; `clippy.toml` bans the others.

mod filter_state;
mod headers;
mod metrics;
mod root;
mod shared_data;
mod stream;

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::LogLevel;

use crate::filter::root::RootFilter;
use crate::time::UnixTime;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|id| Box::new(RootFilter::new(id)));
}}

/// The host's wall clock. Were there none, every token would be expired.
fn now() -> UnixTime {
    let time = hostcalls::get_current_time().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    UnixTime::default().plus(time.unwrap_or(Duration::MAX))
}
