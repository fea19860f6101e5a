//! Secrets: client secrets, private keys, tokens, and texts that may be one in a wrong place.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

use zeroize::Zeroizing;

/// Maximum length of a plain text in bytes. Generated secrets have 32 characters or more.
const MAX_PLAIN_BYTES: usize = 31;

/// Secret text. `Debug` hides it, it has no equality, and its memory is wiped when the last owner drops it.
#[derive(Clone)]
pub struct Secret(Rc<Zeroizing<String>>);

impl Secret {
    /// Takes ownership of `text`.
    pub fn new(text: String) -> Self {
        Self(Rc::new(Zeroizing::new(text)))
    }

    /// The text, only for a header or a form that is sent to the party that may have it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Returns `true` for text that is short and plain, as names are. Other text may be a secret in a wrong place.
pub fn is_plain(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_#. ".contains(&byte);
    text.len() <= MAX_PLAIN_BYTES && text.bytes().all(is_plain)
}

/// Returns text of the configuration for a message: in quotation marks, if it is plain or a URL without user information and
/// query. Other text may be a secret in a wrong place, and becomes "another value".
pub fn shown(text: &str) -> Cow<'static, str> {
    let is_url = text.contains("://") && !text.contains(['@', '?', '#']);
    if is_plain(text) || is_url { format!("{text:?}").into() } else { "another value".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_show_the_text() {
        assert!(!format!("{:?}", Secret::new("hunter2".to_owned())).contains("hunter2"));
    }

    #[test]
    fn names_and_urls_are_shown_and_other_text_is_not() {
        for text in ["", "jwt_bearer", "X-Id-Token", "x5t#S256", "a b", "https://a.example/mcp", "api://mcp"] {
            assert_eq!(shown(text), format!("{text:?}"));
        }
        let generated = ["pass/word+2", "a@b", "0123456789abcdef0123456789abcdef", "Zq8~x.0123456789", "é", "\n"];
        let urls = ["https://user:password@a.example", "https://a.example/?sig=x", "https://a.example#x"];
        for text in generated.into_iter().chain(urls) {
            assert_eq!(shown(text), "another value", "{text}");
        }
    }
}
