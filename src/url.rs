//! Absolute URLs, kept as written.

use std::rc::Rc;

use http::Uri;

/// Absolute `https` URL without user information or fragment. Only the URL of an endpoint may have a query. `http` is accepted for
/// loopback hosts only.
///
/// The text stays as written: issuers are compared code point by code point (OpenID Connect Discovery 4.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: Rc<str>,
    authority: String,
    path: String,
    /// Path and query, as a request has them.
    request_target: String,
    https: bool,
}

/// Fault of a URL of a recipe that the operator has not replaced.
pub const PLACEHOLDER: &str = "has a placeholder in place of the host";

impl Url {
    /// Reads a URL without query. `Err`: the fault, as the end of a sentence about the option.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains(['#', '?']) {
            return Err("must have no query and no fragment");
        }
        Self::parse_endpoint(text)
    }

    /// Reads the URL of an endpoint, which may have a query (RFC 6749 section 3.2). `Err`: the fault, as in
    /// [`parse`](Self::parse).
    pub fn parse_endpoint(text: &str) -> Result<Self, &'static str> {
        if text.contains('#') {
            return Err("must have no fragment");
        }
        // `Uri` accepts `"`, against RFC 3986 section 2. It would end the quoted strings of challenges.
        if text.contains('"') {
            return Err("must have no quotation mark");
        }
        let uri: Uri = text.parse().map_err(|_| "is not a URL")?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err("is not an absolute URL");
        };
        if authority.as_str().contains('@') {
            return Err("must have no user information");
        }
        let host = authority.host();
        if host.contains('_') && host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(PLACEHOLDER);
        }
        let https = match scheme {
            "https" => true,
            "http" if is_loopback(authority.host()) => false,
            "http" => return Err("must be https (http is for loopback hosts only)"),
            _ => return Err("must be an https URL"),
        };
        let default_port = if https { ":443" } else { ":80" };
        let authority = authority.as_str().to_ascii_lowercase();
        let authority = authority.strip_suffix(default_port).unwrap_or(&authority).to_owned();
        // `Uri` makes `/` of an empty path. A resource identifier may have none (RFC 9728 section 3.1).
        let has_path = without_query(text).ends_with('/') || uri.path() != "/";
        let path = if has_path { uri.path().to_owned() } else { String::new() };
        let request_target = match text.split_once('?') {
            Some((_, query)) => format!("{}?{query}", uri.path()),
            None => uri.path().to_owned(),
        };
        Ok(Self { text: text.into(), authority, path, request_target, https })
    }

    /// Text as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Text before the query, for logs: a query may have a key of the operator's.
    pub fn without_query(&self) -> &str {
        without_query(&self.text)
    }

    /// Path and query, as a request has them (RFC 9112 section 3.2.1). A path that is empty is `/`.
    pub fn request_target(&self) -> &str {
        &self.request_target
    }

    /// Shared text as written.
    pub fn shared(&self) -> Rc<str> {
        self.text.clone()
    }

    /// Host and port in lower case, without the default port of the scheme.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Path: empty, or beginning with `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Scheme: `https` or `http`.
    pub const fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// Returns `true` if `authority` of a request is that of this URL, ignoring ASCII case and the default port of the scheme.
    pub fn is_at(&self, authority: &[u8]) -> bool {
        let own_port: &[u8] = if self.https { b":443" } else { b":80" };
        let authority = authority.strip_suffix(own_port).unwrap_or(authority);
        authority.eq_ignore_ascii_case(self.authority.as_bytes())
    }
}

fn without_query(text: &str) -> &str {
    text.split_once('?').map_or(text, |(before, _)| before)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host == "[::1]"
        || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_keep_their_text_and_give_their_parts() {
        let url = Url::parse("https://MCP.acme.com:443/github").unwrap();
        assert_eq!(
            (url.as_str(), url.authority(), url.path()),
            ("https://MCP.acme.com:443/github", "mcp.acme.com", "/github")
        );
        assert_eq!(Url::parse("https://a.example").unwrap().path(), "");
        assert_eq!(Url::parse("https://a.example/").unwrap().path(), "/");
        assert_eq!(Url::parse("http://127.0.0.1:8080/x").unwrap().authority(), "127.0.0.1:8080");
    }

    #[test]
    fn urls_that_hide_something_are_refused() {
        for text in [
            "http://a.example/",
            "https://login.example@evil.example/",
            "https://a.example/?q",
            "https://a.example/#f",
            "ftp://a.example/",
            "/path",
            "a.example",
            "https://",
            "https://a b/",
            "https://a.example/\"",
            "https://MCP_HOST/mcp",
            "http://127.0.0.1.evil.example/",
            "",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_endpoint_keeps_its_query() {
        for (text, path, target) in [
            ("https://a.example/t?realm=/alpha&x=%20", "/t", "/t?realm=/alpha&x=%20"),
            ("https://a.example?x=/", "", "/?x=/"),
            ("https://a.example/?", "/", "/?"),
            ("https://a.example", "", "/"),
        ] {
            let url = Url::parse_endpoint(text).unwrap();
            assert_eq!((url.as_str(), url.path(), url.request_target()), (text, path, target));
            assert!(!url.without_query().contains('?'));
        }
        for text in
            ["https://a.example/t#f", "https://a.example/t?q#f", "https://a.example/t?a b", "https://a.example/t?\""]
        {
            assert!(Url::parse_endpoint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_authority_matches_without_regard_to_case_and_default_port() {
        let url = Url::parse("https://mcp.acme.com/x").unwrap();
        assert!(url.is_at(b"mcp.acme.com") && url.is_at(b"MCP.acme.com:443"));
        assert!(!url.is_at(b"mcp.acme.com:80") && !url.is_at(b"mcp.acme.com.") && !url.is_at(b"user@mcp.acme.com"));
    }
}
