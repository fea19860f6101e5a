//! Request paths in normal form.
//!
//! If a proxy reads a path in another way than the upstream, an attacker can bypass the rule of a path. An ambiguous path is
//! therefore refused. Envoy's `normalize_path` and `merge_slashes`, if set, normalise harmless paths before the filter sees them.

use std::borrow::Cow;

/// Path of `target` (RFC 9112 section 3.2.1) in normal form, without the query. Percent-encoded printable characters are decoded:
/// unreserved ones (RFC 3986 section 6.2.2.2), and others such as `@` and `:`, which servers decode before they route.
///
/// `None`: a server could read it as another path. It has an empty or a dot segment (also before a `;parameter`), a separator that
/// is percent-encoded or a backslash (`%2F`, `%5C`, `\`), a control character, a non-ASCII byte, an invalid percent-encoding or a
/// fragment, or does not begin with `/`.
pub fn normal_form(target: &[u8]) -> Option<Cow<'_, str>> {
    normal_form_with_slashes(target).filter(|path| !has_encoded_slash(path))
}

/// Path of `target` in normal form, in which `%2F` is an ordinary escape. A server may decode it: the caller compares the
/// [`readings`] of such a path. None of them has a dot segment. A path without an escape is borrowed.
pub fn normal_form_with_slashes(target: &[u8]) -> Option<Cow<'_, str>> {
    let path = text(target)?;
    if !path.starts_with('/') || !path.bytes().all(|byte| matches!(byte, 0x21..=0x7E) && !matches!(byte, b'\\' | b'#'))
    {
        return None;
    }
    let path = if path.contains('%') { Cow::Owned(decode(path, is_printable)?) } else { Cow::Borrowed(path) };
    if has_encoded_slash(&path) {
        let decoded = path.replace(SLASH, "/");
        let is_plain = |segment: &str| {
            let bare = segment.split(';').next().unwrap_or(segment);
            !matches!(bare, "." | "..") && (!bare.is_empty() || segment.is_empty())
        };
        if !decoded.split('/').all(is_plain) {
            return None;
        }
    }
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let bare = segment.split(';').next().unwrap_or(segment);
        if matches!(bare, "." | "..") || (bare.is_empty() && (segment != bare || segments.peek().is_some())) {
            return None;
        }
    }
    Some(path)
}

/// Fault of a target without a normal form, for the log.
#[inline(never)]
pub fn ambiguity(target: &[u8]) -> &'static str {
    let Some(path) = text(target).filter(|path| path.bytes().all(|byte| matches!(byte, 0x21..=0x7E))) else {
        return "a character that must be percent-encoded";
    };
    if !path.starts_with('/') {
        return "no slash at its beginning";
    }
    if path.contains('\\') {
        return "a backslash, which some servers take for a slash";
    }
    if path.contains('#') {
        return "a fragment";
    }
    let is_escape = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !path.split('%').skip(1).all(is_escape) {
        return "a percent sign without two hexadecimal digits";
    }
    let Some(decoded) = decode(path, is_printable) else {
        return "an escaped dot, semicolon, backslash or control character (%2E, %3B, %5C, %00)";
    };
    let bare = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    if decoded.replace(SLASH, "/").split('/').any(bare) {
        return "a dot segment (/./ or /../), which normalize_path of Envoy resolves unless a slash is escaped";
    }
    "an empty segment (//), which merge_slashes of Envoy removes unless it has parameters"
}

/// Path of `target` in which only unreserved characters are decoded, as Envoy reads it with `normalize_path`. `None`: it is the normal form.
pub fn with_reserved_encoded(target: &[u8]) -> Option<String> {
    let path = text(target)?;
    if path.contains('%') { decode(path, is_unreserved) } else { None }
}

/// Path of `target` in which nothing is decoded, as Envoy reads it without `normalize_path`. The digits of escapes are in upper
/// case. `None`: it is the normal form.
pub fn as_written(target: &[u8]) -> Option<String> {
    let path = text(target)?;
    if path.contains('%') { decode(path, |_| false) } else { None }
}

/// Path of `target`, without the query. `None`: it is not UTF-8.
fn text(target: &[u8]) -> Option<&str> {
    let end = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    std::str::from_utf8(target.get(..end)?).ok()
}

/// Returns `true` for an unreserved character (RFC 3986 section 2.3).
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Returns `true` if `path` is its own normal form and has neither a `;parameter` nor a `*`. A `*` is an ordinary character, but an
/// operator who writes one means a pattern.
pub fn is_normal(path: &str) -> bool {
    !path.contains([';', '*']) && normal_form(path.as_bytes()).is_some_and(|normal| normal == path)
}

/// Encoded `/` of a normal form.
const SLASH: &str = "%2F";

/// Returns `true` if a path in normal form has an encoded `/`.
pub fn has_encoded_slash(path: &str) -> bool {
    // Most paths have no escape.
    path.contains('%') && path.contains(SLASH)
}

/// Other readings of a path with encoded slashes: servers decode them, and some then take several slashes for one.
pub fn readings(path: &str) -> [String; 2] {
    let decoded = path.replace(SLASH, "/");
    let mut merged = String::with_capacity(decoded.len());
    for character in decoded.chars() {
        if character != '/' || !merged.ends_with('/') {
            merged.push(character);
        }
    }
    [decoded, merged]
}

/// Path below `from` as the same path below `to`; both have no final slash.
pub fn moved<'a>(path: &'a str, from: &str, to: &str) -> Cow<'a, str> {
    if from == to {
        return Cow::Borrowed(path);
    }
    match [to, path.strip_prefix(from).unwrap_or(path)].concat() {
        moved if moved.is_empty() => Cow::Borrowed("/"),
        moved => Cow::Owned(moved),
    }
}

/// Removes `;parameters` of each segment, as Java servlet containers do.
pub fn without_parameters(path: &str) -> String {
    let bare = |segment: &str| segment.split(';').next().unwrap_or(segment).to_owned();
    path.split('/').map(bare).collect::<Vec<_>>().join("/")
}

/// Returns `true` if `path` is `prefix` or is below it, segment by segment.
pub fn is_under(path: &str, prefix: &str) -> bool {
    let prefix = without_final_slash(prefix);
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `path` without a `/` at its end.
pub fn without_final_slash(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

/// Returns `true` for a printable character. Decoded `/`, `%`, `?` and `#` would change the meaning. They stay encoded, and so do
/// spaces and non-ASCII bytes.
const fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7E) && !matches!(byte, b'/' | b'%' | b'?' | b'#')
}

/// Decodes the escapes of such characters. `None`: an escape is invalid, or could end or change a segment.
fn decode(path: &str, is_decoded: fn(u8) -> bool) -> Option<String> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, escape)) = rest.split_once('%') {
        decoded.push_str(before);
        let digits = escape.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        match u8::from_str_radix(digits, 16).ok()? {
            b'\\' | b'.' | b';' | 0..=0x1F | 0x7F => return None,
            byte if is_decoded(byte) => decoded.push(char::from(byte)),
            _ => {
                decoded.push('%');
                decoded.push_str(&digits.to_ascii_uppercase());
            }
        }
        rest = escape.get(2..)?;
    }
    decoded.push_str(rest);
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_stay_as_they_are() {
        for path in ["/", "/mcp", "/mcp/", "/a/b.c/d-e_f~g", "/a/.well-known/x", "/a/...", "/x;v=1", "/a%20b", "/MCP"] {
            assert_eq!(normal_form(path.as_bytes()).as_deref(), Some(path));
        }
        assert_eq!(normal_form(b"/mcp?x=/../y").as_deref(), Some("/mcp"));
        assert_eq!(normal_form(b"/%6d%63%70/%e2%82%ac").as_deref(), Some("/mcp/%E2%82%AC"));
    }

    #[test]
    fn paths_with_two_readings_are_refused() {
        for path in [
            "",
            "mcp",
            "*",
            "//mcp",
            "/mcp//x",
            "/mcp/./x",
            "/mcp/../x",
            "/mcp/..",
            "/.",
            "/mcp/..;/x",
            "/mcp/.;a/x",
            "/mcp/;/x",
            "/mcp/;a",
            "/%2e%2e/x",
            "/%2E/x",
            "/mcp%2f..",
            "/mcp%5cx",
            "/mcp\\x",
            "/mcp%00",
            "/mcp%0a",
            "/mcp%",
            "/mcp%2",
            "/mcp%zz",
            "/mcp x",
            "/mcp\u{7f}",
            "/mçp",
            "/a%3bb",
            "/%2e%2e;/x",
            "http://other/mcp",
        ] {
            assert_eq!(normal_form(path.as_bytes()), None, "{path}");
        }
        assert_eq!(normal_form(b"/\xff\xfe"), None);
    }

    #[test]
    fn an_escape_does_not_hide_a_character() {
        for (escaped, plain) in
            [("/%40admin", "/@admin"), ("/models%3Apredict", "/models:predict"), ("/%24%2a%2B%2c%3d%7e", "/$*+,=~")]
        {
            assert_eq!(normal_form(escaped.as_bytes()).as_deref(), Some(plain));
        }
        assert_eq!(normal_form(b"/%25%3f%23%20").as_deref(), Some("/%25%3F%23%20"));
        assert_eq!(normal_form(b"/a#b"), None);
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        assert!(
            is_under("/mcp", "/mcp") && is_under("/mcp/", "/mcp") && is_under("/mcp/x", "/mcp/") && is_under("/x", "")
        );
        assert!(!is_under("/mcpx", "/mcp") && !is_under("/MCP", "/mcp") && !is_under("/", "/mcp"));
    }

    #[test]
    fn an_encoded_slash_has_readings_without_dot_segments() {
        let with_slashes = |path: &str| normal_form_with_slashes(path.as_bytes()).map(Cow::into_owned);
        for (target, path, decoded, merged) in [
            ("/git/a%2fb", "/git/a%2Fb", "/git/a/b", "/git/a/b"),
            ("/mq/%2F/%61", "/mq/%2F/a", "/mq///a", "/mq/a"),
            ("/a/%2F", "/a/%2F", "/a//", "/a/"),
            ("/%2Fa;b/c", "/%2Fa;b/c", "//a;b/c", "/a;b/c"),
        ] {
            assert_eq!(with_slashes(target).as_deref(), Some(path));
            assert_eq!(readings(path), [decoded, merged], "{target}");
            assert_eq!(normal_form(target.as_bytes()), None, "{target}");
        }
        for target in
            ["/a/x%2F..%2Fb", "/a%2F.", "/a/%2F..;/b", "/a/..%2Fb", "/a/%2F;x", "/a//%2F", "/a%2F%5Cb", "/a%2F%2e%2e"]
        {
            assert_eq!(with_slashes(target), None, "{target}");
        }
        assert_eq!(normal_form(b"/a%252Fb").as_deref(), Some("/a%252Fb"));
    }

    #[test]
    fn a_moved_path_keeps_the_rest() {
        for (path, from, to, expected) in [
            ("/mcp/x", "/mcp", "/mcp", "/mcp/x"),
            ("/mcp/x", "/mcp", "/tenant/mcp", "/tenant/mcp/x"),
            ("/x", "", "/tenant", "/tenant/x"),
            ("/tenant", "/tenant", "", "/"),
            ("/tenant/", "/tenant", "/a", "/a/"),
        ] {
            assert_eq!(moved(path, from, to), expected);
        }
    }
}
