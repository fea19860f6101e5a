//! DPoP proof towards the upstream (RFC 9449 section 7.1).

use crate::dpop::{NonceIssuer, ProofTarget};
use crate::engine::context::RequestContext;
use crate::path;
use crate::provider::{ExchangeTarget, TokenType};
use crate::refusal::{Reason, Refusal};
use crate::resource::{Resource, ResourceExchange};
use crate::secret::Secret;
use crate::url::Url;

/// Proof that goes with `authorization` to the upstream. `None`: the upstream gets a bearer token.
pub(super) fn prove(
    ctx: &RequestContext<'_>,
    resource: &Resource,
    exchange: &ResourceExchange,
    authorization: &Secret,
) -> Result<Option<Secret>, Refusal> {
    let ExchangeTarget::Exchange(target) = &exchange.target else {
        return Ok(None);
    };
    let TokenType::Dpop { url: upstream } = &target.token_type else {
        return Ok(None);
    };
    let make = || {
        let proof = ProofTarget {
            method: std::str::from_utf8(ctx.head.method).ok()?,
            url: &url(&resource.url, ctx.prefix, upstream.as_ref(), ctx.head.target)?,
            // A bearer token has another scheme in front.
            access_token: Some(authorization.reveal().strip_prefix("DPoP ")?),
            nonce: ctx.state.nonces.get(NonceIssuer::Upstream(&resource.url)).map(|nonce| &**nonce),
        };
        target.issued_to().dpop.as_ref()?.prove(proof, ctx.crypto, ctx.now)
    };
    match make() {
        Some(proof) => Ok(Some(proof)),
        None => {
            let cause = "the proof for the upstream could not be made or signed";
            Err(Refusal::because(Reason::ExchangeMisconfigured, cause))
        }
    }
}

/// URL of a request in the upstream's eyes: `htu` of the proof. The path is as the request has it, because it is forwarded so; below
/// the path of an alias, which `prefix` is then, it is that below the path of the resource.
fn url(resource: &Url, prefix: &str, upstream: Option<&Url>, target: &[u8]) -> Option<String> {
    let end = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    let came = std::str::from_utf8(target.get(..end)?).ok()?;
    let of = |url: &Url, path: &str| format!("{}://{}{path}", url.scheme(), url.authority());
    if upstream.is_none() && path::without_final_slash(resource.path()) == prefix {
        return Some(of(resource, came));
    }
    let upstream = upstream.unwrap_or(resource);
    let normal = path::normal_form_with_slashes(target)?;
    match came.strip_prefix(prefix).or_else(|| normal.strip_prefix(prefix))? {
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
            let made = url(&resource, "/github", upstream.map(parse).as_ref(), target.as_bytes());
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
        assert_eq!(url(&resource, "/github", Some(&parse("https://up.example")), b"/other"), None);
        for (prefix, upstream, target, expected) in [
            ("/in", None, "/in/a%20b?q", "https://mcp.acme.example/github/a%20b"),
            ("/in", None, "/in", "https://mcp.acme.example/github"),
            ("", None, "/a", "https://mcp.acme.example/github/a"),
            ("/in", Some("https://up.example/mcp"), "/in/a", "https://up.example/mcp/a"),
        ] {
            let made = url(&resource, prefix, upstream.map(parse).as_ref(), target.as_bytes());
            assert_eq!(made.as_deref(), Some(expected), "{prefix} {upstream:?} {target}");
        }
    }
}
