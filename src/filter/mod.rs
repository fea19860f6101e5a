//! Proxy-wasm filter: passes requests and callout results to the engine, and decisions and callouts to the host. It decides
//! nothing.
//!
//! Two rules hold here. While the engine is borrowed, there is no hostcall that could cause another callback: only log lines and
//! signatures. SDK functions that unwrap UTF-8, or panic on a status that Envoy returns, are not used; `clippy.toml` bans them.

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

/// Wall clock of the host. Without one, every token is expired.
fn now() -> UnixTime {
    let time = hostcalls::get_current_time().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    UnixTime::default().plus(time.unwrap_or(Duration::MAX))
}
