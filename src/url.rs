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
        without_a_query(text)?;
        Self::read(text, is_loopback)
    }

    /// Reads a URL without query, and takes `http` for any host: behind a load balancer, requests come in the clear. `Err`: the
    /// fault, as in [`parse`](Self::parse).
    pub fn parse_internal(text: &str) -> Result<Self, &'static str> {
        without_a_query(text)?;
        Self::read(text, |_| true)
    }

    /// Reads the URL of an endpoint, which may have a query (RFC 6749 section 3.2). `Err`: the fault, as in
    /// [`parse`](Self::parse).
    pub fn parse_endpoint(text: &str) -> Result<Self, &'static str> {
        Self::read(text, is_loopback)
    }

    fn read(text: &str, takes_http: fn(&str) -> bool) -> Result<Self, &'static str> {
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
        if host.contains('*') {
            return Err("has a * in its host: no pattern stands for several hosts");
        }
        if !is_host(host) {
            return Err("has a character in its host that no host name has");
        }
        let port = authority.as_str().strip_prefix(host).unwrap_or_default();
        if !port.is_empty() && authority.port_u16().is_none_or(|number| number == 0 || port != format!(":{number}")) {
            return Err("has a port that is no number from 1 to 65535 without leading zeros");
        }
        if host.contains('_') && host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(PLACEHOLDER);
        }
        let https = match scheme {
            "https" => true,
            "http" if takes_http(host) => false,
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

    /// Authorities of requests for this URL, in lower case: its own, and the one with the default port of the scheme.
    pub fn authorities(&self) -> impl Iterator<Item = String> {
        let default_port = if self.https { ":443" } else { ":80" };
        let has_port = self.authority.contains(':') && !self.authority.ends_with(']');
        let with_port = (!has_port).then(|| [&self.authority, default_port].concat());
        std::iter::once(self.authority.clone()).chain(with_port)
    }
}

/// Returns `true` for a host name, an IPv4 address or an IPv6 address in brackets. RFC 3986 section 3.2.2 allows more, which no
/// client resolves.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|address| address.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
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

/// Refuses a query and a fragment.
fn without_a_query(text: &str) -> Result<(), &'static str> {
    if text.contains(['#', '?']) { Err("must have no query and no fragment") } else { Ok(()) }
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
            "https://*.example.com/mcp",
            "https://*/mcp",
            "https://mcp.*.example.com/",
            "https://mcp~.example.com/",
            "https://mcp,a.example/",
            "https://mcp%2e.example/",
            "https://(a|b).example/",
            "https://a.example:/mcp",
            "https://a.example:0/mcp",
            "https://a.example:0443/mcp",
            "https://a.example:65536/mcp",
            "https://[::z]/mcp",
            "https://:443/mcp",
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
    fn a_url_has_one_authority_or_a_second_with_the_default_port() {
        let of = |text: &str| Url::parse_internal(text).unwrap().authorities().collect::<Vec<_>>();
        assert_eq!(of("https://MCP.acme.com/x"), ["mcp.acme.com", "mcp.acme.com:443"]);
        assert_eq!(of("https://mcp.acme.com:443/x"), ["mcp.acme.com", "mcp.acme.com:443"]);
        assert_eq!(of("https://mcp.acme.com:8443"), ["mcp.acme.com:8443"]);
        assert_eq!(of("https://mcp.acme.com:80"), ["mcp.acme.com:80"]);
        assert_eq!(of("http://mcp.internal"), ["mcp.internal", "mcp.internal:80"]);
        assert_eq!(of("https://[::1]"), ["[::1]", "[::1]:443"]);
        assert_eq!(of("https://[::1]:8443"), ["[::1]:8443"]);
    }

    #[test]
    fn http_is_for_loopback_hosts_and_internal_urls_only() {
        assert!(Url::parse("http://mcp.internal/x").is_err());
        assert_eq!(Url::parse_internal("http://mcp.internal/x").unwrap().authority(), "mcp.internal");
        assert!(Url::parse_internal("ftp://mcp.internal/x").is_err());
    }
}
