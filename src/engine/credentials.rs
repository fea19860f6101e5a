//! Credential of a request, and the header fields that must not reach the upstream.

use crate::config::Config;
use crate::engine::header_mutations::HeaderMutations;
use crate::engine::token_copies::{TokenCopies, is_field, is_field_of, is_token_field};
use crate::http::{Request, Scheme, is_b64token};
use crate::jose::{MAX_TOKEN_BYTES, is_compact};
use crate::provider::TokenLocation;
use crate::refusal::{Reason, Refusal};
use crate::secret::Secret;
use crate::telemetry::FilterState;

/// Log detail: place of a second credential.
const MULTIPLE_FIELDS: &str = "several authorization fields";
const TOKEN_IN_TARGET: &str = "a token in path, query or host";
const TOKEN_IN_PROXY_FIELD: &str = "a token in a field that proxies on the way append to";
const QUERY_TOKEN: &str = "access_token in the query";

/// Header block of a request, read in one pass.
#[derive(Default)]
pub(super) struct RequestHead<'a> {
    pub(super) method: &'a [u8],
    pub(super) authority: &'a [u8],
    pub(super) target: &'a [u8],
    authorization: Option<&'a [u8]>,
    multiple_authorizations: bool,
    proof: DpopField<'a>,
    /// Names of fields that are removed.
    remove: Vec<String>,
    has_cookie: bool,
    /// `true` if the request names a session of the upstream (MCP "Session Management").
    pub(super) has_session: bool,
    /// Length of the longest value that could hold a token, in bytes.
    longest: usize,
}

/// `DPoP` header field (RFC 9449 section 4.1).
#[derive(Clone, Copy, Default)]
pub(super) enum DpopField<'a> {
    #[default]
    None,
    One(&'a [u8]),
    Several,
}

/// Token of a request, and how it was presented.
#[derive(Clone, Copy)]
pub(super) struct Credential<'a> {
    pub(super) scheme: Scheme,
    pub(super) token: &'a str,
    pub(super) proof: DpopField<'a>,
}

impl<'a> RequestHead<'a> {
    /// Reads the header block.
    pub(super) fn read(request: &'a Request, config: &Config) -> Self {
        let mut head = Self::default();
        for (name, value) in request.fields() {
            match name {
                b":method" => head.method = value,
                b":authority" => head.authority = value,
                b":path" => head.target = value,
                b"authorization" => {
                    head.multiple_authorizations |= head.authorization.is_some();
                    head.authorization = Some(value);
                }
                b"dpop" => {
                    head.proof = match head.proof {
                        DpopField::None => DpopField::One(value),
                        DpopField::One(_) | DpopField::Several => DpopField::Several,
                    };
                    // The proof is for a token that does not reach the upstream.
                    head.remove(name);
                }
                _ if stays_here(name, config) => head.remove(name),
                _ => {
                    head.has_cookie |= name == b"cookie";
                    head.has_session |= name == b"mcp-session-id";
                    head.longest = head.longest.max(value.len());
                }
            }
        }
        head
    }

    fn remove(&mut self, name: &[u8]) {
        let name = String::from_utf8_lossy(name);
        if !self.remove.iter().any(|known| *known == name) {
            self.remove.push(name.into_owned());
        }
    }

    /// Credential in `authorization` (RFC 6750 section 2.1, RFC 9449 section 7.1). A token in the query is never accepted (MCP
    /// "Authorization"). The characters of the token are not checked: [`check_form`] tells why a token cannot be read.
    pub(super) fn credential(&self) -> Result<Credential<'a>, Refusal> {
        let malformed = || Refusal::new(Reason::MalformedCredentials);
        if self.multiple_authorizations {
            return Err(Refusal::because(Reason::MultipleCredentials, MULTIPLE_FIELDS));
        }
        self.check_query()?;
        let value = match self.authorization {
            None | Some([]) => return Err(Refusal::new(Reason::NoCredentials)),
            Some(value) => value,
        };
        let end = value.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(value.len());
        let (scheme, rest) = value.split_at_checked(end).ok_or_else(malformed)?;
        let scheme = if scheme.eq_ignore_ascii_case(b"bearer") {
            Scheme::Bearer
        } else if scheme.eq_ignore_ascii_case(b"dpop") {
            Scheme::Dpop
        } else {
            return Err(if value.is_ascii() { Refusal::new(Reason::NoCredentials) } else { malformed() });
        };
        let start = rest.iter().position(|byte| *byte != b' ').unwrap_or(rest.len());
        let token = rest.get(start..).filter(|token| start > 0 && !token.is_empty()).ok_or_else(malformed)?;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::new(Reason::TokenTooLarge));
        }
        let token = std::str::from_utf8(token).map_err(|_| malformed())?;
        Ok(Credential { scheme, token, proof: self.proof })
    }

    /// Refuses an `access_token` in the query, because the query is forwarded as it is.
    pub(super) fn check_query(&self) -> Result<(), Refusal> {
        if has_query_token(self.target) {
            return Err(Refusal::because(Reason::MultipleCredentials, QUERY_TOKEN));
        }
        Ok(())
    }

    /// Tokens that must not stand anywhere else in the request.
    pub(super) fn copies(&self, config: &'a Config) -> TokenCopies<'a> {
        TokenCopies::of(self.authorization, config)
    }

    /// Refuses the token of `authorization`, and any JWT of a provider, in path, query or host.
    pub(super) fn check_target(&self, copies: &TokenCopies<'_>) -> Result<(), Refusal> {
        if copies.is_in(self.target) || copies.is_in(self.authority) {
            return Err(Refusal::because(Reason::MultipleCredentials, TOKEN_IN_TARGET));
        }
        Ok(())
    }

    /// Header mutations: `authorization` and `dpop` are replaced or removed, and every copy of a token is removed. The error:
    /// a copy stands in a field that other proxies need.
    pub(super) fn mutations(
        mut self,
        request: &Request,
        config: &Config,
        copies: &TokenCopies<'_>,
        authorization: Option<Secret>,
        proof: Option<Secret>,
    ) -> Result<HeaderMutations, Refusal> {
        let may_have_copies = self.longest >= copies.shortest();
        if may_have_copies {
            for (name, value) in request.fields() {
                let is_read = matches!(name, b"authorization" | b"cookie") || name.starts_with(b":");
                if !is_read && copies.is_in(value) {
                    if is_appended_by_proxies(name) {
                        return Err(Refusal::because(Reason::MultipleCredentials, TOKEN_IN_PROXY_FIELD));
                    }
                    self.remove(name);
                }
            }
        }
        let mut cookie = None;
        if self.has_cookie {
            let stays_here = |pair: &[u8]| {
                config.own_cookies.iter().any(|name| cookie_value(pair, name).is_some())
                    || (may_have_copies && copies.is_in(pair))
            };
            if cookies(request).any(stays_here) {
                let kept: Vec<&[u8]> = cookies(request).filter(|pair| !stays_here(pair)).collect();
                if kept.is_empty() {
                    self.remove(b"cookie");
                } else {
                    cookie = Some(kept.join(&b"; "[..]));
                }
            }
        }
        let remove = self.remove;
        Ok(HeaderMutations {
            authorization,
            remove,
            cookie,
            proof,
            filter_state: FilterState::Unauthenticated,
            sent: None,
        })
    }
}

/// Returns `true` if fields of that name are always removed.
fn stays_here(name: &[u8], config: &Config) -> bool {
    // The first letter excludes nearly all names.
    let is_known = || {
        // Some servers take their path from these fields, so that a client could choose another one than was decided on.
        is_field(name, b"x-original-url")
            || is_field(name, b"x-rewrite-url")
            || is_field_of(name, b"x-onbehalf-")
            || is_token_field(name)
    };
    (matches!(name.first(), Some(b'x' | b'p')) && is_known())
        || config.own_headers.iter().any(|header| is_field(name, header.as_bytes()))
}

/// Returns `true` if proxies, this Envoy among them, append facts about the client to a field. A token in it must not
/// remove these facts, so such a request is refused.
fn is_appended_by_proxies(name: &[u8]) -> bool {
    matches!(name, b"x-forwarded-for" | b"x-forwarded-client-cert" | b"forwarded" | b"via")
}

/// Names of trailer fields that are removed. No credential is read from trailers, but a server may merge them with the header
/// (RFC 9110 section 6.5.1).
pub(super) fn trailers_to_remove(trailers: &Request, config: &Config) -> Vec<String> {
    let copies = TokenCopies::of(None, config);
    let mut names = Vec::new();
    for (name, value) in trailers.fields() {
        let goes = matches!(name, b"authorization" | b"cookie" | b"dpop") || stays_here(name, config);
        if goes || copies.is_in(value) {
            let name = String::from_utf8_lossy(name).into_owned();
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// Refuses a value of `authorization` that is not one credential (RFC 6750 section 2.1).
pub(super) fn check_form(token: &str) -> Result<(), Refusal> {
    if token.contains(',') {
        // A proxy has joined two field lines (RFC 9110 section 5.3).
        return Err(Refusal::because(Reason::MultipleCredentials, MULTIPLE_FIELDS));
    }
    if is_b64token(token.as_bytes()) { Ok(()) } else { Err(Refusal::new(Reason::MalformedCredentials)) }
}

/// Client assertion in the header field where Envoy puts it: exactly one. The error says what is wrong.
pub(super) fn client_assertion(request: &Request, header: &str) -> Result<Secret, &'static str> {
    let mut values = request.fields().filter(|(field, _)| *field == header.as_bytes()).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (None, _) => Err("nothing has put it there"),
        (Some(_), Some(_)) => Err("it is there several times"),
        (Some(value), None) if !is_compact(value) => Err("it is no signed JWT"),
        (Some(value), None) => Ok(Secret::new(String::from_utf8_lossy(value).into_owned())),
    }
}

/// Subject token in the configured field or cookie: exactly one.
pub(super) fn subject_token<'a>(request: &'a Request, source: &TokenLocation) -> Option<&'a str> {
    match source {
        TokenLocation::Header(name) => header_token(request, name),
        TokenLocation::Cookie(name) => {
            only(cookies(request).filter_map(|pair| cookie_value(pair, name))).and_then(token)
        }
    }
}

/// Token in a header field: exactly one.
pub(super) fn header_token<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    only(request.fields().filter(|(field, _)| *field == name.as_bytes()).map(|(_, value)| value)).and_then(token)
}

fn token(value: &[u8]) -> Option<&str> {
    if value.len() > MAX_TOKEN_BYTES || !is_b64token(value) {
        return None;
    }
    std::str::from_utf8(value).ok()
}

fn only<T>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// Pairs `name=value` of all `cookie` fields (RFC 6265 section 4.2.1).
fn cookies(request: &Request) -> impl Iterator<Item = &[u8]> {
    let fields = request.fields().filter(|(name, _)| *name == b"cookie");
    fields.flat_map(|(_, value)| {
        value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty())
    })
}

fn cookie_value<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    let (found, value) = pair.split_at_checked(equals)?;
    // Some servers ignore white space around a name.
    if found.trim_ascii() == name.as_bytes() { value.get(1..).map(<[u8]>::trim_ascii) } else { None }
}

/// Returns `true` if the query has an `access_token` (RFC 6750 section 2.3), in any escaping. Some servers end a parameter at
/// `;`, ignore white space around a name or its case, read `.` and a space as `_`, or read `[]` behind a name as a list.
fn has_query_token(target: &[u8]) -> bool {
    let Some(start) = target.iter().position(|byte| *byte == b'?') else {
        return false;
    };
    let query = target.get(start.saturating_add(1)..).unwrap_or_default();
    let is_token = |name: &str| {
        name.trim()
            .split('[')
            .next()
            .is_some_and(|name| name.replace(['.', ' '], "_").eq_ignore_ascii_case("access_token"))
    };
    query.split(|byte| *byte == b';').any(|part| form_urlencoded::parse(part).any(|(name, _)| is_token(&name)))
}
