//! Header mutations of a request that is forwarded.

use crate::engine::upstream_response::ForwardedRequest;
use crate::secret::Secret;
use crate::telemetry::FilterState;

/// Header mutations of a request that is forwarded, and what is kept of it.
pub struct HeaderMutations {
    /// New value of `authorization`. `None`: it is removed.
    pub authorization: Option<Secret>,
    /// Names of fields that are removed.
    pub remove: Vec<String>,
    /// New value of `cookie`. `None`: it stays as it is.
    pub cookie: Option<Vec<u8>>,
    /// New value of `dpop`: proof of the key that the token in `authorization` is bound to.
    pub proof: Option<Secret>,
    /// Filter state: the caller, for other filters and the access log.
    pub filter_state: FilterState,
    /// Facts to keep until the upstream answers. `None`: its answer is forwarded as it is.
    pub sent: Option<ForwardedRequest>,
}
