//! HTTP callouts to identity providers, and their results.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::http::Response;
use crate::secret::Secret;
use crate::url::Url;

/// A request to an identity provider.
pub struct Callout {
    /// Envoy's name for where it goes.
    pub cluster: Rc<str>,
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The URL, of which scheme, authority and path are sent.
    pub url: Url,
    /// Header fields besides the pseudo-headers.
    pub headers: Vec<(&'static str, Secret)>,
    /// The body; empty for `GET`.
    pub body: Secret,
    /// How long the host may wait for the answer.
    pub timeout: Duration,
    /// The longest body that is read, in bytes; a longer one is [`CalloutFailure::TooLarge`].
    pub most_bytes: usize,
}

impl fmt::Debug for Callout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} via {}", self.method, self.url.as_str(), self.cluster)
    }
}

/// How a [`Callout`] ended.
pub enum CalloutResult {
    /// Somebody answered.
    Response(Response),
    /// Nobody did, or nothing that can be used.
    Failed(CalloutFailure),
}

/// Why there is no usable answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalloutFailure {
    /// The host refused to send it: no such cluster, or no healthy host known yet.
    NotSent,
    /// The host gave up waiting.
    TimedOut,
    /// No connection, or it broke.
    NoConnection,
    /// The answer was larger than anyone sensible sends.
    TooLarge,
}

impl CalloutFailure {
    /// A few words for a log line.
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotSent => "the call could not be sent: is the cluster defined, and does its host resolve?",
            Self::TimedOut => "no answer in time",
            Self::NoConnection => "no connection, or it broke",
            Self::TooLarge => "the answer is too large",
        }
    }
}
