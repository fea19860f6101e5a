//! Names of header fields and cookies that carry tokens.

use crate::config::error::Code;
use crate::config::findings::Reported;
use crate::config::reader::Fields;
use crate::secret::shown;

/// Returns `true` for a token of RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Reads the name of a header field. Returns it in lower case.
pub(super) fn header_name(fields: &Fields<'_>, path: &str, name: &str) -> Result<String, Reported> {
    let lower = name.to_ascii_lowercase();
    let reserved =
        ["authorization", "cookie", "dpop", "host", "connection", "content-length", "transfer-encoding", "te"];
    if !is_token(&lower) || reserved.contains(&lower.as_str()) {
        return Err(not_a_name(fields, Code::NotAHeader, path, name, "the name of a header field of its own"));
    }
    Ok(lower)
}

/// Reads the name of a header field that Envoy itself sets, and that has no meaning to clients.
pub(super) fn own_header_name(fields: &Fields<'_>, path: &str, name: &str) -> Result<String, Reported> {
    let lower = header_name(fields, path, name)?;
    if !lower.starts_with("x-") {
        let expected = "a name that begins with x-, of a field that a filter in front of this one sets";
        return Err(not_a_name(fields, Code::NotAHeader, path, name, expected));
    }
    Ok(lower)
}

/// Reads the name of a cookie.
pub(super) fn cookie_name(fields: &Fields<'_>, path: &str, name: &str) -> Result<String, Reported> {
    if !is_token(name) {
        return Err(not_a_name(fields, Code::NotACookie, path, name, "the name of a cookie"));
    }
    Ok(name.to_owned())
}

#[inline(never)]
fn not_a_name(fields: &Fields<'_>, code: Code, path: &str, name: &str, expected: &str) -> Reported {
    fields.refuse(code, path, &shown(name), expected)
}
