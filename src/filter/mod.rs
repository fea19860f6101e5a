//! Proxy-wasm filter: passes requests and callout results to the engine, and decisions and callouts to the host. It decides
//! nothing.
//!
//! Two rules hold here. While the engine is borrowed, there is no hostcall that could cause another callback: only log lines and
//! signatures. SDK functions that unwrap UTF-8, or panic on a status that Envoy returns, are not used; `clippy.toml` bans them.

mod clock;
mod filter_state;
mod headers;
mod metrics;
mod root;
mod shared_data;
mod stream;
mod worker;

use proxy_wasm::types::LogLevel;

use crate::filter::root::RootFilter;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|id| Box::new(RootFilter::new(id)));
}}
