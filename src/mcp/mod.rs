//! What an MCP server must say about its authorization (MCP 2025-11-25 and 2026-07-28, "Authorization"): where its
//! tokens come from, before and after a refusal. Any OAuth client of any API reads the same.

pub mod authorization_server;
pub mod challenge;
pub mod metadata;
