//! Error class: the party that must act when a token request fails.

use crate::http::CalloutFailure;
use crate::provider::Profile;

/// Party that must act after a failed token request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// The caller: the provider does not accept its token any more.
    Token,
    /// The user: sign in again, consent, or present another factor.
    UserMustAct,
    /// The administrator who grants access: this user has none.
    NotAllowed,
    /// The operator of the provider or of this filter: the configuration is wrong.
    Operator,
    /// The provider, which received too many requests.
    Throttled,
    /// The provider or the network: no service.
    Unavailable,
    /// The provider: its response is unusable.
    InvalidResponse,
}

impl ErrorClass {
    /// Returns `true` if the same request can succeed later without an action of anyone.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Throttled | Self::Unavailable)
    }

    /// Returns the class of a failed callout.
    pub(super) const fn of_failure(failure: CalloutFailure) -> Self {
        match failure {
            CalloutFailure::TooLarge => Self::InvalidResponse,
            CalloutFailure::NotSent | CalloutFailure::TimedOut | CalloutFailure::NoConnection => Self::Unavailable,
        }
    }

    /// Returns the class of an error response (RFC 6749 section 5.2, RFC 8693 section 2.2.2, OpenID Connect Core section
    /// 3.1.2.6), by status, `error` and `suberror`.
    pub(super) fn of_response(profile: &dyn Profile, status: u16, error: &str, suberror: Option<&str>) -> Self {
        match (status, error) {
            (429, _) | (_, "slow_down") => Self::Throttled,
            (300..=399 | 500.., _) => Self::Unavailable,
            _ => profile.error_class(status, error, suberror).unwrap_or(match error {
                "invalid_grant" => Self::Token,
                "interaction_required" | "consent_required" | "login_required" => Self::UserMustAct,
                "access_denied" => Self::NotAllowed,
                "temporarily_unavailable" | "server_error" => Self::Unavailable,
                _ => Self::Operator,
            }),
        }
    }
}
