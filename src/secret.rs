//! Secrets: client secrets, private keys, tokens.

use std::fmt;
use std::rc::Rc;

use zeroize::Zeroizing;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_show_the_text() {
        assert!(!format!("{:?}", Secret::new("hunter2".to_owned())).contains("hunter2"));
    }
}
