//! Unusable token: problem of a token response with status 2xx.

/// Problem of a response with status 2xx, which makes its token unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnusableToken {
    /// `token_type` is DPoP, and the upstream expects a bearer token.
    Bound,
    /// The body has a content coding, which the filter does not decode.
    Encoded,
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
    /// `expires_in` is no number.
    Lifetime,
    /// The response has no `access_token`.
    Missing,
    /// `token_type` is neither Bearer nor DPoP.
    NotBearer,
    /// `token_type` is neither DPoP nor Bearer, and the upstream expects a bound token.
    NotDpop,
    /// `token_type` of an ID-JAG is neither N_A nor Bearer.
    NotIdJag,
    /// `expires_in` is zero or negative: the token has expired.
    NoLifetime,
    /// The body is not a JSON object, or a member that is read stands twice.
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
            Self::Encoded => "the response is compressed",
            Self::Expired => "the token has expired",
            Self::ForSameAudience => "the token has the issuer and the audience of the subject token",
            Self::ForThisProxy => "the token is for this proxy itself, and so for every resource behind it",
            Self::HandedBack => "the token of the request came back",
            Self::IdToken => "the token is an ID token",
            Self::Lifetime => "expires_in is not a number of seconds",
            Self::Missing => "the response has no access_token",
            Self::NoLifetime => "expires_in is zero or negative",
            Self::NotBearer => "token_type is not Bearer",
            Self::NotDpop => "token_type is not DPoP",
            Self::NotIdJag => "token_type is neither N_A nor Bearer",
            Self::NotJson => "the response is not a JSON object, or has a member twice",
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
