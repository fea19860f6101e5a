//! Header mutations of a request that is forwarded.

use crate::engine::upstream_response::Sent;
use crate::secret::Secret;
use crate::telemetry::FilterState;

/// What changes in a request's header before it goes on to the upstream.
pub struct HeaderMutations {
    /// The new value of `authorization`, or `None`: it is removed.
    pub authorization: Option<Secret>,
    /// Names of fields that are removed.
    pub remove: Vec<String>,
    /// A new value for `cookie`.
    pub cookie: Option<Vec<u8>>,
    /// A new value for `dpop`: that we hold the key of the token in `authorization`.
    pub proof: Option<Secret>,
    /// Who is calling, for other filters and the access log.
    pub filter_state: FilterState,
    /// What to come back with when the upstream answers, if it is of interest then.
    pub sent: Option<Sent>,
}
