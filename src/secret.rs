//! Text that must not be seen: client secrets, private keys, tokens.

use std::fmt;
use std::rc::Rc;

use zeroize::Zeroizing;

/// A secret text. `Debug` hides it, there is no equality, and the memory is wiped with its last owner.
#[derive(Clone)]
pub struct Secret(Rc<Zeroizing<String>>);

impl Secret {
    /// Takes ownership of `text`.
    pub fn new(text: String) -> Self {
        Self(Rc::new(Zeroizing::new(text)))
    }

    /// The text itself: for a header or a form that goes to its owner, and for nothing else.
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
