//! How an exchanged token goes to its upstream: as it is, or with a proof that we hold its key (RFC 9449 section 7.1).

use crate::crypto::Crypto;
use crate::dpop::{NonceCache, NonceIssuer, ProofTarget};
use crate::engine::credentials::RequestHead;
use crate::path;
use crate::provider::{TokenExchangeTarget, TokenType};
use crate::resource::Resource;
use crate::secret::Secret;
use crate::time::UnixTime;
use crate::url::Url;

/// What proves to the upstream that `authorization` is ours.
pub(super) enum UpstreamProof {
    /// Nothing has to.
    Needless,
    /// The value for `dpop`.
    Made(Secret),
    /// Something has to, and could not be made.
    Missing,
}

/// The proof that goes with `authorization` to the resource of that index.
pub(super) fn prove(
    (index, resource): (usize, &Resource),
    target: &TokenExchangeTarget,
    head: &RequestHead<'_>,
    authorization: &Secret,
    nonces: &NonceCache,
    crypto: &dyn Crypto,
    now: UnixTime,
) -> UpstreamProof {
    let TokenType::Dpop { url: upstream } = &target.token_type else {
        return UpstreamProof::Needless;
    };
    let make = || {
        let purpose = ProofTarget {
            method: std::str::from_utf8(head.method).ok()?,
            url: &url(&resource.url, upstream.as_ref(), head.target)?,
            // One that was not bound has another scheme in front.
            access_token: Some(authorization.reveal().strip_prefix("DPoP ")?),
            nonce: nonces.of(NonceIssuer::Upstream(index)).map(|nonce| &**nonce),
        };
        target.issued_to().dpop.as_ref()?.prove(purpose, crypto, now)
    };
    make().map_or(UpstreamProof::Missing, UpstreamProof::Made)
}

/// What the upstream takes for the URL of a request with that `target`: the path goes on as it came, and so it stands there.
fn url(resource: &Url, upstream: Option<&Url>, target: &[u8]) -> Option<String> {
    let end = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    let came = std::str::from_utf8(target.get(..end)?).ok()?;
    let of = |url: &Url, path: &str| format!("{}://{}{path}", url.scheme(), url.authority());
    let Some(upstream) = upstream else {
        return Some(of(resource, came));
    };
    let own = path::without_final_slash(resource.path());
    let normal = path::normal_form(target)?;
    match came.strip_prefix(own).or_else(|| normal.strip_prefix(own))? {
        "" if upstream.path().is_empty() => Some(of(upstream, "/")),
        "" => Some(of(upstream, upstream.path())),
        rest => Some(of(upstream, &[path::without_final_slash(upstream.path()), rest].concat())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_is_what_the_upstream_takes_for_its_own() {
        let parse = |text: &str| Url::parse(text).unwrap();
        let resource = parse("https://MCP.acme.example:443/github");
        let is = |upstream: Option<&str>, target: &str, expected: &str| {
            let made = url(&resource, upstream.map(parse).as_ref(), target.as_bytes());
            assert_eq!(made.as_deref(), Some(expected), "{upstream:?} {target}");
        };
        for (target, path) in
            [("/github", "/github"), ("/github/?x=1", "/github/"), ("/github/a%20b%40c?q=/", "/github/a%20b%40c")]
        {
            is(None, target, &format!("https://mcp.acme.example{path}"));
        }
        for (upstream, target, expected) in [
            ("https://up.example", "/github", "https://up.example/"),
            ("https://up.example", "/github/a?b", "https://up.example/a"),
            ("https://up.example/", "/github", "https://up.example/"),
            ("https://up.example/", "/github/a", "https://up.example/a"),
            ("https://up.example/mcp", "/github", "https://up.example/mcp"),
            ("https://up.example/mcp/", "/github", "https://up.example/mcp/"),
            ("https://up.example/mcp/", "/github/a/", "https://up.example/mcp/a/"),
            ("http://127.0.0.1:8080/mcp", "/%67ithub/%61", "http://127.0.0.1:8080/mcp/a"),
        ] {
            is(Some(upstream), target, expected);
        }
        assert_eq!(url(&resource, Some(&parse("https://up.example")), b"/other"), None);
    }
}
