//! HTTP callouts to identity providers, and their results.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::http::Response;
use crate::secret::Secret;
use crate::url::Url;

/// HTTP request to an identity provider.
pub struct Callout {
    /// Name of the Envoy cluster.
    pub cluster: Rc<str>,
    /// `GET` or `POST`.
    pub method: &'static str,
    /// URL. Scheme, authority, path and query are sent.
    pub url: Url,
    /// Header fields of this request alone.
    pub headers: Vec<(&'static str, Secret)>,
    /// Body; empty for `GET`.
    pub body: Secret,
    /// Maximum time until the response is complete.
    pub timeout: Duration,
    /// Maximum length of the response body, in bytes. A longer body is [`CalloutFailure::TooLarge`].
    pub most_bytes: usize,
}

impl Callout {
    /// Pseudo-headers and header fields, as they are sent. Every callout asks for a body without content coding (RFC 9110 section
    /// 12.5.3): the module has no decoder.
    pub fn header_map(&self) -> Vec<(&str, &str)> {
        let mut fields = vec![
            (":method", self.method),
            (":scheme", self.url.scheme()),
            (":authority", self.url.authority()),
            (":path", self.url.request_target()),
            ("user-agent", concat!("onbehalf/", env!("CARGO_PKG_VERSION"))),
            ("accept-encoding", "identity"),
        ];
        fields.extend(self.headers.iter().map(|(name, value)| (*name, value.reveal())));
        fields
    }
}

impl fmt::Debug for Callout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} via {}", self.method, self.url.without_query(), self.cluster)
    }
}

/// Result of a [`Callout`].
pub enum CalloutResult {
    /// The server responded.
    Response(Response),
    /// There is no usable response.
    Failed(CalloutFailure),
    /// Envoy answered itself, because there is no response: its words, cut to [`CalloutResult::MAX_WORDS`].
    ByEnvoy(CalloutFailure, Box<str>),
}

impl CalloutResult {
    /// Maximum length of the words of Envoy, in bytes.
    pub const MAX_WORDS: usize = 512;

    /// Result of a callout that Envoy answered itself with this body.
    pub fn by_envoy(failure: CalloutFailure, body: &[u8]) -> Self {
        let words = body.get(..Self::MAX_WORDS).unwrap_or(body);
        Self::ByEnvoy(failure, String::from_utf8_lossy(words).into())
    }

    /// Reason for which there is no usable response, if there is none.
    pub const fn failure(&self) -> Option<CalloutFailure> {
        match self {
            Self::Failed(failure) | Self::ByEnvoy(failure, _) => Some(*failure),
            Self::Response(_) => None,
        }
    }

    /// Words of Envoy, if it answered itself. They are for the log, and decide nothing.
    pub fn words(&self) -> &str {
        match self {
            Self::ByEnvoy(_, words) => words,
            Self::Response(_) | Self::Failed(_) => "",
        }
    }
}

/// Reason for which a callout has no usable response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalloutFailure {
    /// Envoy did not send it: the cluster does not exist, or has no healthy host yet.
    NotSent,
    /// The response was not complete in time.
    TimedOut,
    /// The connection could not be made, or broke.
    NoConnection,
    /// The response body is longer than `most_bytes`.
    TooLarge,
}

impl CalloutFailure {
    /// Words for a log line.
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotSent => "the call could not be sent: is the cluster defined, and does its host resolve?",
            Self::TimedOut => "no answer in time",
            Self::NoConnection => "no connection, or it broke",
            Self::TooLarge => "the answer is too large",
        }
    }
}
