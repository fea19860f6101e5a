//! HTTP as plain data: what comes in from the host and what goes out to it.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use http::Uri;

use crate::audit::{FilterState, Record};
use crate::engine::Sent;
use crate::secret::Secret;

/// An absolute `https` URL without user information, query or fragment; `http` only towards a loopback host.
///
/// The text is kept as written: an issuer is compared code point by code point (OpenID Connect Discovery 4.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: Rc<str>,
    authority: String,
    path: String,
    https: bool,
}

impl Url {
    /// Reads `text`; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains(['#', '?']) {
            return Err("must have no query and no fragment");
        }
        // `Uri` lets it through (RFC 3986 section 2 does not), and it would end the quoted strings that URLs stand in.
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
            return Err("has a word for a host that is to be replaced");
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
        // `Uri` gives `/` for an empty path, which a resource identifier does not have (RFC 9728 section 3.1).
        let path = if text.ends_with('/') || uri.path() != "/" { uri.path().to_owned() } else { String::new() };
        Ok(Self { text: text.into(), authority, path, https })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same, to be kept.
    pub fn shared(&self) -> Rc<str> {
        self.text.clone()
    }

    /// Host and port, lower case, without the scheme's own port.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path: empty, or from its first `/` on.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `https` or `http`.
    pub const fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// Whether `authority`, as a request names it, is this URL's: ASCII case and the scheme's own port do not count.
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

/// The head of a request: its header fields in order, names in lower case, pseudo-headers among them; and what the
/// connection that it came on says of the client.
///
/// The fields stay in the one buffer in which the host hands them over: a string for each name and value would be most
/// of what the filter allocates for a request.
#[derive(Clone)]
pub struct Request {
    pairs: Vec<u8>,
    /// SHA-256 of the DER certificate by which the client proved itself in TLS, if it did.
    pub peer_certificate: Option<[u8; 32]>,
}

impl Request {
    /// From the header map as a proxy-wasm host serialises it: the number of fields, the lengths of each name and value
    /// (32 bits each, little-endian), then names and values, each with a zero byte behind it.
    pub const fn from_pairs(pairs: Vec<u8>) -> Self {
        Self { pairs, peer_certificate: None }
    }

    /// From fields that stand by themselves.
    pub fn new(fields: &[(&str, &[u8])]) -> Self {
        let length = |part: &[u8]| u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes();
        let mut pairs = u32::try_from(fields.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
        for (name, value) in fields {
            pairs.extend(length(name.as_bytes()));
            pairs.extend(length(value));
        }
        for (name, value) in fields {
            pairs.extend([name.as_bytes(), b"\0", value, b"\0"].concat());
        }
        Self::from_pairs(pairs)
    }

    /// The memory that the fields take.
    pub const fn bytes(&self) -> usize {
        self.pairs.len()
    }

    /// Every field, in order; those up to where the buffer is no header map.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (count, rest) = self.pairs.split_first_chunk().unwrap_or((&[0; 4], &[]));
        let count = usize::try_from(u32::from_le_bytes(*count)).unwrap_or(usize::MAX);
        let (lengths, content) = rest.split_at_checked(count.saturating_mul(8)).unwrap_or_default();
        let (lengths, _) = lengths.as_chunks::<4>();
        let (lengths, _) = lengths.as_chunks::<2>();
        lengths.iter().scan(content, |content, [name, value]| {
            let mut part = |length: &[u8; 4]| {
                let (part, rest) = content.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
                *content = rest.get(1..)?;
                Some(part)
            };
            Some((part(name)?, part(value)?))
        })
    }

    /// The first field of that name.
    pub fn field(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields().find_map(|(field, value)| (field == name).then_some(value))
    }
}

/// What changes in a request's header before it goes on to the upstream.
pub struct HeaderEdits {
    /// The new value of `authorization`, or `None`: it is removed.
    pub authorization: Option<Secret>,
    /// Names of fields that are removed.
    pub remove: Vec<String>,
    /// A new value for `cookie`.
    pub cookie: Option<Vec<u8>>,
    /// A new value for `dpop`: that we hold the key of the token in `authorization`.
    pub proof: Option<Secret>,
    /// Who is calling, for other filters and the access log.
    pub filter_state: FilterState,
    /// What to come back with when the upstream answers, if it is of interest then.
    pub sent: Option<Sent>,
}

/// An answer of our own in place of the upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalAnswer {
    /// The status code.
    pub status: u16,
    /// Header fields; values are printable ASCII.
    pub headers: Vec<(&'static str, String)>,
    /// The body, JSON or empty.
    pub body: String,
    /// What the access log is told of the request.
    pub audit: Record,
}

/// A request to an identity provider.
pub struct Call {
    /// Envoy's name for where it goes.
    pub cluster: Rc<str>,
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The URL, of which scheme, authority and path are sent.
    pub url: Url,
    /// Header fields besides the pseudo-headers.
    pub headers: Vec<(&'static str, Secret)>,
    /// The body; empty for `GET`.
    pub body: Secret,
    /// How long the host may wait for the answer.
    pub timeout: Duration,
    /// The longest body that is read, in bytes; a longer one is [`CallFailure::TooLarge`].
    pub most_bytes: usize,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} via {}", self.method, self.url.as_str(), self.cluster)
    }
}

/// How a [`Call`] ended.
pub enum Reply {
    /// Somebody answered.
    Answer(Answer),
    /// Nobody did, or nothing that can be used.
    Failed(CallFailure),
}

/// An HTTP response.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first field of that name, if it is printable ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(field, _)| field == name)?;
        std::str::from_utf8(value).ok().filter(|value| value.bytes().all(|byte| matches!(byte, b' '..=b'~')))
    }
}

impl Answer {
    /// For how long it is fresh (RFC 9111 section 4.2): `max-age` less the time that it was under way, nothing if it is not
    /// to be stored or used again. `None`: it does not say.
    pub fn max_age(&self) -> Option<Duration> {
        let fields = self.headers.iter().filter(|(name, _)| name == "cache-control");
        let text: Vec<u8> =
            fields.map(|(_, value)| value.as_slice()).collect::<Vec<_>>().join(&b","[..]).to_ascii_lowercase();
        let directives = std::str::from_utf8(&text).ok()?.split(',').map(str::trim);
        let mut fresh = None;
        for directive in directives {
            match directive.split_once('=') {
                None if matches!(directive, "no-store" | "no-cache") => return Some(Duration::ZERO),
                Some(("max-age", seconds)) => fresh = Some(seconds.trim_matches('"').parse().ok()?),
                _ => {}
            }
        }
        let age = self.header("age").and_then(|age| age.trim().parse().ok()).unwrap_or(0);
        fresh.map(|fresh: u64| Duration::from_secs(fresh.saturating_sub(age)))
    }
}

/// Why there is no usable answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFailure {
    /// The host refused to send it: no such cluster, or no healthy host known yet.
    NotSent,
    /// The host gave up waiting.
    TimedOut,
    /// No connection, or it broke.
    NoConnection,
    /// The answer was larger than anyone sensible sends.
    TooLarge,
}

impl CallFailure {
    /// A few words for a log line.
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotSent => "the call could not be sent: is the cluster defined, and does its host resolve?",
            Self::TimedOut => "no answer in time",
            Self::NoConnection => "no connection, or it broke",
            Self::TooLarge => "the answer is too large",
        }
    }
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
    fn a_header_map_is_read_as_the_host_writes_it() {
        let fields: [(&str, &[u8]); 4] = [(":path", b"/"), ("x", b""), ("cookie", b"a\0b"), ("y", b"\xff\xfe")];
        let request = Request::new(&fields);
        let read: Vec<_> = request.fields().collect();
        let expected: Vec<_> = fields.iter().map(|(name, value)| (name.as_bytes(), *value)).collect();
        assert_eq!(read, expected);
        assert_eq!((request.field(b"x"), request.field(b"z")), (Some(&b""[..]), None));
    }

    #[test]
    fn a_buffer_that_is_no_header_map_gives_no_more_than_it_has() {
        let whole = Request::new(&[("a", b"1"), ("b", b"2")]).pairs;
        for length in 0..whole.len() {
            assert!(Request::from_pairs(whole[..length].to_vec()).fields().count() < 2, "{length}");
        }
        let mut lie = whole;
        lie[..4].fill(0xff);
        assert_eq!(Request::from_pairs(lie.clone()).fields().count(), 0);
        lie[..4].copy_from_slice(&[2, 0, 0, 0]);
        lie[4..8].fill(0xff);
        assert_eq!(Request::from_pairs(lie).fields().count(), 0);
    }

    #[test]
    fn the_time_for_which_an_answer_is_fresh_is_read() {
        let max_age = |headers: &[(&str, &str)]| {
            let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
            Answer { status: 200, headers, body: Vec::new() }.max_age().map(|age| age.as_secs())
        };
        assert_eq!(max_age(&[]), None);
        assert_eq!(max_age(&[("cache-control", "public, Max-Age=3600, must-revalidate")]), Some(3600));
        assert_eq!(max_age(&[("cache-control", "public"), ("cache-control", "max-age=\"60\"")]), Some(60));
        assert_eq!(max_age(&[("cache-control", "max-age=3600"), ("age", "600")]), Some(3000));
        assert_eq!(max_age(&[("cache-control", "max-age=3600"), ("age", "9999")]), Some(0));
        assert_eq!(max_age(&[("cache-control", "no-cache, no-store")]), Some(0));
        assert_eq!(max_age(&[("cache-control", "private")]), None);
        for odd in ["max-age=", "max-age=-1", "max-age=1e9", "max-age=99999999999999999999"] {
            assert_eq!(max_age(&[("cache-control", odd)]), None, "{odd}");
        }
    }

    #[test]
    fn an_authority_matches_without_regard_to_case_and_default_port() {
        let url = Url::parse("https://mcp.acme.com/x").unwrap();
        assert!(url.is_at(b"mcp.acme.com") && url.is_at(b"MCP.acme.com:443"));
        assert!(!url.is_at(b"mcp.acme.com:80") && !url.is_at(b"mcp.acme.com.") && !url.is_at(b"user@mcp.acme.com"));
    }
}
