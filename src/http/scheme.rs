//! Authentication schemes of access tokens (RFC 6750, RFC 9449).

/// Authentication scheme.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Bearer token (RFC 6750).
    #[default]
    Bearer,
    /// Token with a DPoP proof (RFC 9449).
    Dpop,
}

impl Scheme {
    /// Name in `Authorization` and `WWW-Authenticate`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bearer => "Bearer",
            Self::Dpop => "DPoP",
        }
    }
}
