//! Unusable token: problem of a token response with status 200.

/// Problem of a response with status 200, which makes its token unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnusableToken {
    /// `token_type` is DPoP, and the upstream expects a bearer token.
    Bound,
    /// `exp` of the token is in the past.
    Expired,
    /// The token has the issuer and the audience of the subject token, and the target does not name that audience.
    ForSameAudience,
    /// The token has an audience of this proxy that the target does not name.
    ForThisProxy,
    /// The token is one that the request contained.
    HandedBack,
    /// The token is an ID token.
    IdToken,
    /// `expires_in` is no positive number.
    Lifetime,
    /// The response has no `access_token`.
    Missing,
    /// `token_type` is neither Bearer nor DPoP.
    NotBearer,
    /// `token_type` is neither DPoP nor Bearer, and the upstream expects a bound token.
    NotDpop,
    /// `token_type` of an ID-JAG is neither N_A nor Bearer.
    NotIdJag,
    /// The body is not a JSON object with distinct names.
    NotJson,
    /// The token is of another user than the subject token.
    OfAnotherUser,
    /// The token is a JWT of another kind, such as a refresh token.
    OtherKind,
    /// The token is longer than 32 KiB.
    TooLong,
    /// `token_type` is Bearer, and the upstream expects a bound token.
    Unbound,
    /// The token is no `b64token` (RFC 6750 section 2.1).
    UnsafeInHeader,
    /// `issued_token_type` is not the requested one.
    WrongType,
}

impl UnusableToken {
    /// Returns the value of `error` in a log line.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Bound => "token_type is DPoP, and the upstream expects a bearer token",
            Self::Expired => "the token has expired",
            Self::ForSameAudience => "the token has the issuer and the audience of the subject token",
            Self::ForThisProxy => "the token is for this proxy itself, and so for every resource behind it",
            Self::HandedBack => "the token of the request came back",
            Self::IdToken => "the token is an ID token",
            Self::Lifetime => "expires_in is not a positive number of seconds",
            Self::Missing => "the response has no access_token",
            Self::NotBearer => "token_type is not Bearer",
            Self::NotDpop => "token_type is not DPoP",
            Self::NotIdJag => "token_type is neither N_A nor Bearer",
            Self::NotJson => "the response is not a JSON object with distinct names",
            Self::OfAnotherUser => "the token is of another user",
            Self::OtherKind => "the token is of another kind, such as a refresh token or a logout token",
            Self::TooLong => "the access_token is longer than 32 KiB",
            Self::Unbound => "token_type is Bearer, and the upstream expects a bound token",
            Self::UnsafeInHeader => "the access_token has characters that a Bearer token cannot have",
            Self::WrongType => "issued_token_type is not the requested one",
        }
    }
}

/// Unusable response, with the facts for the log.
pub(super) struct UnusableResponse {
    /// Problem.
    pub(super) problem: UnusableToken,
    /// Audience of the token, if that is the problem.
    pub(super) audience: Option<String>,
}

impl From<UnusableToken> for UnusableResponse {
    fn from(problem: UnusableToken) -> Self {
        Self { problem, audience: None }
    }
}
