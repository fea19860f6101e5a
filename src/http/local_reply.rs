//! Local replies: responses that the filter sends in place of the upstream's.

use crate::telemetry::Record;

/// Response of the filter itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// HTTP status code.
    pub status: u16,
    /// Header fields. Values are printable ASCII.
    pub headers: Vec<(&'static str, String)>,
    /// Body: JSON, or empty.
    pub body: String,
    /// Facts of the request for the access log.
    pub record: Record,
}
