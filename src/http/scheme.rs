//! Authentication schemes of access tokens (RFC 6750, RFC 9449), and the characters of a token.

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

/// Returns `true` if a value is a `b64token` (RFC 6750 section 2.1), which `Authorization` can carry.
pub fn is_b64token(token: &[u8]) -> bool {
    const ALLOWED: [bool; 256] = {
        let mut allowed = [false; 256];
        let mut rest: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/";
        while let [byte, others @ ..] = rest {
            #[expect(clippy::indexing_slicing, reason = "a byte is below 256; evaluated at compile time")]
            {
                allowed[*byte as usize] = true;
            }
            rest = others;
        }
        allowed
    };
    let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
    let body = token.get(..token.len().saturating_sub(padding)).unwrap_or_default();
    !body.is_empty() && body.iter().all(|byte| ALLOWED.get(usize::from(*byte)) == Some(&true))
}
