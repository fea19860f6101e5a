//! HTTP responses of providers and upstreams.

use std::time::Duration;

/// HTTP response.
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// Value of the first field with that name, if it is printable ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(field, _)| field == name)?;
        std::str::from_utf8(value).ok().filter(|value| value.bytes().all(|byte| matches!(byte, b' '..=b'~')))
    }
}

impl Response {
    /// Content coding of the body (RFC 9110 section 8.4), which the filter does not decode. `None`: the body has none, or `identity`.
    pub fn content_coding(&self) -> Option<&str> {
        let coding = self.header("content-encoding")?.trim();
        (!coding.is_empty() && !coding.eq_ignore_ascii_case("identity")).then_some(coding)
    }

    /// Freshness lifetime (RFC 9111 section 4.2): `max-age` minus `Age`. Zero for `no-store` and `no-cache`. `None`: the response has
    /// no freshness lifetime.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_for_which_an_answer_is_fresh_is_read() {
        let max_age = |headers: &[(&str, &str)]| {
            let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
            Response { status: 200, headers, body: Vec::new() }.max_age().map(|age| age.as_secs())
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
}
