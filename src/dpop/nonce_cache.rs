//! The nonces that servers have given for our proofs (RFC 9449 sections 8 and 9): of each server the latest.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::dpop::proof;
use crate::http::Response;
use crate::url::Url;

/// Of how many servers they are kept: a provider has an endpoint, or one for each tenant.
const MOST_SERVERS: usize = 256;

/// Who has given a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NonceIssuer<'a> {
    /// A provider, at this endpoint.
    TokenEndpoint(&'a Url),
    /// The upstream of the resource with this URL.
    Upstream(&'a Url),
}

/// The latest nonce of each server. Whoever has not been heard of for longest is forgotten first.
#[derive(Default)]
pub(crate) struct NonceCache(VecDeque<(Owner, Rc<str>)>);

enum Owner {
    TokenEndpoint(Box<str>),
    Upstream(Box<str>),
}

impl Owner {
    fn is(&self, server: NonceIssuer<'_>) -> bool {
        match (self, server) {
            (Self::TokenEndpoint(known), NonceIssuer::TokenEndpoint(url)) => **known == *url.as_str(),
            (Self::Upstream(known), NonceIssuer::Upstream(url)) => **known == *url.as_str(),
            _ => false,
        }
    }
}

impl NonceCache {
    /// What the next proof for `server` must have in it, as far as it has said.
    pub(crate) fn of(&self, server: NonceIssuer<'_>) -> Option<&Rc<str>> {
        self.0.iter().find(|(owner, _)| owner.is(server)).map(|(_, nonce)| nonce)
    }

    /// Takes in what an answer's `DPoP-Nonce` says, good answer or bad. Whether there is a nonce.
    pub(crate) fn learn<'a>(&mut self, server: NonceIssuer<'_>, fields: impl Iterator<Item = &'a [u8]>) -> bool {
        let Some(nonce) = proof::nonce(fields) else {
            return false;
        };
        if self.of(server).is_some_and(|known| **known == *nonce) {
            return true;
        }
        self.0.retain(|(owner, _)| !owner.is(server));
        if self.0.len() >= MOST_SERVERS {
            self.0.pop_front();
        }
        let owner = match server {
            NonceIssuer::TokenEndpoint(url) => Owner::TokenEndpoint(url.as_str().into()),
            NonceIssuer::Upstream(url) => Owner::Upstream(url.as_str().into()),
        };
        self.0.push_back((owner, nonce.into()));
        true
    }
}

/// The `DPoP-Nonce` fields of an answer.
pub(crate) fn fields(answer: &Response) -> impl Iterator<Item = &[u8]> {
    answer.headers.iter().filter(|(name, _)| name == "dpop-nonce").map(|(_, value)| value.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_servers_the_latest_are_kept_each_with_its_latest_nonce() {
        let mut nonces = NonceCache::default();
        let url = |server: usize| Url::parse(&format!("https://{server}.example")).unwrap();
        let learn = |nonces: &mut NonceCache, server: usize, nonce: &str| {
            nonces.learn(NonceIssuer::Upstream(&url(server)), std::iter::once(nonce.as_bytes()))
        };
        for server in 0..=MOST_SERVERS {
            assert!(learn(&mut nonces, server, "first"));
        }
        assert_eq!(nonces.of(NonceIssuer::Upstream(&url(0))), None);
        assert!(learn(&mut nonces, 1, "first") && !learn(&mut nonces, 1, "a b") && learn(&mut nonces, 1, "second"));
        assert_eq!(nonces.of(NonceIssuer::Upstream(&url(1))).map(|nonce| &**nonce), Some("second"));
        assert_eq!(nonces.0.len(), MOST_SERVERS);
    }

    #[test]
    fn nobody_gets_the_nonce_of_another() {
        let mut nonces = NonceCache::default();
        let [one, other] = ["https://a.example/token", "https://a.example/token2"].map(|url| Url::parse(url).unwrap());
        assert!(nonces.learn(NonceIssuer::TokenEndpoint(&one), std::iter::once(&b"n"[..])));
        assert!(nonces.of(NonceIssuer::TokenEndpoint(&one)).is_some());
        assert!(
            nonces.of(NonceIssuer::TokenEndpoint(&other)).is_none() && nonces.of(NonceIssuer::Upstream(&one)).is_none()
        );
    }
}
