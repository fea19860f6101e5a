//! Absolute URLs, kept as written.

use std::rc::Rc;

use http::Uri;

/// Absolute `https` URL without user information, query or fragment. `http` is accepted for loopback hosts only.
///
/// The text stays as written: issuers are compared code point by code point (OpenID Connect Discovery 4.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: Rc<str>,
    authority: String,
    path: String,
    https: bool,
}

impl Url {
    /// Reads `text`. `Err`: the fault, as the end of a sentence about the option.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains(['#', '?']) {
            return Err("must have no query and no fragment");
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
            return Err("has a placeholder in place of the host");
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
        let path = if text.ends_with('/') || uri.path() != "/" { uri.path().to_owned() } else { String::new() };
        Ok(Self { text: text.into(), authority, path, https })
    }

    /// Text as written.
    pub fn as_str(&self) -> &str {
        &self.text
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
    fn an_authority_matches_without_regard_to_case_and_default_port() {
        let url = Url::parse("https://mcp.acme.com/x").unwrap();
        assert!(url.is_at(b"mcp.acme.com") && url.is_at(b"MCP.acme.com:443"));
        assert!(!url.is_at(b"mcp.acme.com:80") && !url.is_at(b"mcp.acme.com.") && !url.is_at(b"user@mcp.acme.com"));
    }
}
