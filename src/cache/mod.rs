//! Caches of a worker, and the records in shared memory by which workers share their contents.

pub(crate) mod backoff;
pub(crate) mod circuit_breaker;
pub(crate) mod exchanged_tokens;
pub(crate) mod jwks;
pub(crate) mod jwks_record;
pub(crate) mod lru;
pub(crate) mod rejected_tokens;
pub(crate) mod shared_tokens;
pub(crate) mod verified_tokens;
