//! Local replies: responses that the filter sends itself.

use crate::telemetry::Record;

/// An answer of our own in place of the upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// The status code.
    pub status: u16,
    /// Header fields; values are printable ASCII.
    pub headers: Vec<(&'static str, String)>,
    /// The body, JSON or empty.
    pub body: String,
    /// What the access log is told of the request.
    pub audit: Record,
}
