//! Issuer of a provider's tokens.

use std::rc::Rc;

use crate::url::Url;

/// Issuer, as `iss` of tokens has it: a text that is compared code point by code point (RFC 7519 section 4.1.1).
///
/// Metadata is found by an `https` URL only (RFC 8414 section 2). An issuer of another form, such as that of AD FS or of a service
/// account, has configured keys and endpoints.
#[derive(Clone, Debug)]
pub struct Issuer {
    text: Rc<str>,
    url: Option<Url>,
}

impl Issuer {
    /// Issuer that has no metadata.
    pub fn without_metadata(text: &str) -> Self {
        Self { text: text.into(), url: None }
    }

    /// Text as configured.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Shared text as configured.
    pub fn shared(&self) -> Rc<str> {
        self.text.clone()
    }

    /// Issuer as a URL. `None`: it has no metadata.
    pub const fn url(&self) -> Option<&Url> {
        self.url.as_ref()
    }

    /// Returns `true` if a URL is on the host and port of the issuer.
    pub fn is_host_of(&self, url: &Url) -> bool {
        self.url.as_ref().is_some_and(|own| own.authority() == url.authority())
    }
}

impl From<Url> for Issuer {
    fn from(url: Url) -> Self {
        Self { text: url.shared(), url: Some(url) }
    }
}
