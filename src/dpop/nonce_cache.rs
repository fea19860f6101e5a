//! Nonces that servers require in the DPoP proofs of this proxy (RFC 9449 sections 8 and 9): the latest of each server.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::http::Response;
use crate::url::Url;

/// Maximum number of servers whose nonce is kept. A provider has one token endpoint, or one for each tenant.
const MAX_SERVERS: usize = 256;

/// Maximum length of a nonce, in bytes. Envoy limits all header fields of a request to 60 KiB, and the proof with the nonce is
/// one of them.
const MAX_NONCE_BYTES: usize = 1024;

/// Server that has given a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NonceIssuer<'a> {
    /// Token endpoint of an authorization server (RFC 9449 section 8).
    TokenEndpoint(&'a Url),
    /// Upstream of the resource with this URL (RFC 9449 section 9).
    Upstream(&'a Url),
}

impl NonceIssuer<'_> {
    fn is(&self, entry: &Entry) -> bool {
        let (Self::TokenEndpoint(url) | Self::Upstream(url)) = self;
        *entry.url == *url.as_str() && entry.is_upstream == matches!(self, Self::Upstream(_))
    }
}

/// Latest nonce of each server. The server that has sent a new nonce least recently makes room for another.
#[derive(Default)]
pub(crate) struct NonceCache(VecDeque<Entry>);

/// Nonce of one server.
struct Entry {
    is_upstream: bool,
    /// URL of the token endpoint, or of the resource whose upstream it is.
    url: Box<str>,
    nonce: Rc<str>,
}

impl NonceCache {
    /// Nonce for the next proof to a server. `None`: the server has sent none.
    pub(crate) fn get(&self, issuer: NonceIssuer<'_>) -> Option<&Rc<str>> {
        self.0.iter().find(|entry| issuer.is(entry)).map(|entry| &entry.nonce)
    }

    /// Stores the nonce in the `DPoP-Nonce` fields of a response, whatever its status. Returns `true` if there is a valid one.
    pub(crate) fn insert<'a>(&mut self, issuer: NonceIssuer<'_>, fields: impl Iterator<Item = &'a [u8]>) -> bool {
        let Some(nonce) = valid_nonce(fields) else {
            return false;
        };
        if self.get(issuer).is_some_and(|known| **known == *nonce) {
            return true;
        }
        self.0.retain(|entry| !issuer.is(entry));
        if self.0.len() >= MAX_SERVERS {
            self.0.pop_front();
        }
        let (is_upstream, url) = match issuer {
            NonceIssuer::TokenEndpoint(url) => (false, url),
            NonceIssuer::Upstream(url) => (true, url),
        };
        self.0.push_back(Entry { is_upstream, url: url.as_str().into(), nonce: nonce.into() });
        true
    }
}

/// Values of the `DPoP-Nonce` fields of a response.
pub(crate) fn fields(response: &Response) -> impl Iterator<Item = &[u8]> {
    response.headers.iter().filter(|(name, _)| name == "dpop-nonce").map(|(_, value)| value.as_slice())
}

/// Nonce in the `DPoP-Nonce` fields of a response (RFC 9449 section 8.1). `None`: there is no field, there are several, or the
/// value is no NQCHAR string of at most [`MAX_NONCE_BYTES`] bytes.
pub(crate) fn valid_nonce<'a>(mut fields: impl Iterator<Item = &'a [u8]>) -> Option<&'a str> {
    let only = fields.next().filter(|_| fields.next().is_none())?;
    let is_nqchar = |byte: &u8| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
    let is_valid = (1..=MAX_NONCE_BYTES).contains(&only.len()) && only.iter().all(is_nqchar);
    std::str::from_utf8(only).ok().filter(|_| is_valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn insert(nonces: &mut NonceCache, upstream: &Url, nonce: &str) -> bool {
        nonces.insert(NonceIssuer::Upstream(upstream), std::iter::once(nonce.as_bytes()))
    }

    #[test]
    fn the_cache_keeps_the_latest_nonce_of_the_latest_servers() {
        let mut nonces = NonceCache::default();
        let servers: Vec<Url> = (0..=MAX_SERVERS).map(|number| url(&format!("https://a.example/{number}"))).collect();
        for server in &servers {
            assert!(insert(&mut nonces, server, "first"));
        }
        assert_eq!(nonces.get(NonceIssuer::Upstream(&servers[0])), None);
        let second = &servers[1];
        assert!(insert(&mut nonces, second, "first") && !insert(&mut nonces, second, "a b"));
        assert!(insert(&mut nonces, second, "second"));
        assert_eq!(nonces.get(NonceIssuer::Upstream(second)).map(|nonce| &**nonce), Some("second"));
        assert_eq!(nonces.0.len(), MAX_SERVERS);
    }

    #[test]
    fn a_nonce_is_used_for_its_own_server_only() {
        let mut nonces = NonceCache::default();
        let [one, other] = ["https://a.example/token", "https://a.example/token2"].map(url);
        assert!(nonces.insert(NonceIssuer::TokenEndpoint(&one), std::iter::once(&b"n"[..])));
        assert!(nonces.get(NonceIssuer::TokenEndpoint(&one)).is_some());
        for another in [NonceIssuer::TokenEndpoint(&other), NonceIssuer::Upstream(&one), NonceIssuer::Upstream(&other)]
        {
            assert!(nonces.get(another).is_none(), "{another:?}");
        }
    }

    #[test]
    fn a_nonce_is_one_field_of_nqchar() {
        let of = |fields: &[&str]| valid_nonce(fields.iter().map(|field| field.as_bytes())).map(str::to_owned);
        let longest = "n".repeat(MAX_NONCE_BYTES);
        for good in ["a", "eyJ7S_zG.eyJH0-Z.HX4w-7v", "!#[]~,", &longest] {
            assert_eq!(of(&[good]).as_deref(), Some(good));
        }
        for bad in ["", " ", "a b", "a\"b", "a\\b", "a\tb", "a\r\nb", "\u{7f}", "é", &format!("{longest}n")] {
            assert_eq!(of(&[bad]), None, "{bad:?}");
        }
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["a", "a"]), None);
    }
}
