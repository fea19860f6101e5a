//! Authentication schemes of access tokens (RFC 6750, RFC 9449).

/// How a token is presented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// RFC 6750.
    #[default]
    Bearer,
    /// RFC 9449.
    Dpop,
}

impl Scheme {
    /// Its name in `Authorization` and `WWW-Authenticate`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bearer => "Bearer",
            Self::Dpop => "DPoP",
        }
    }
}
