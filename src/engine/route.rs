//! Routing: the resource that host and path of a request belong to.

use std::borrow::Cow;
use std::rc::Rc;

use crate::config::Config;
use crate::engine::context::RequestContext;
use crate::http::LocalReply;
use crate::jose::JWT_START;
use crate::path;
use crate::refusal::{Reason, Refusal};
use crate::resource::authorization_server::{self, AuthorizationServers};
use crate::resource::{Host, Mount, Resource, RouteTable, SlashForm, metadata};
use crate::telemetry::{Detail, Fact, cut};

/// Maximum length of host and path in a log line, in characters.
const MAX_SHOWN: usize = 128;

/// Target of a request, by host and path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// Path that takes no token.
    Unauthenticated,
    /// Resource, at its URL or at an alias.
    Resource(&'a Mount),
    /// Metadata document of a resource.
    Metadata(&'a Rc<Resource>),
    /// Endpoint or document of an authorization server on the host of resources: of the one resource, or of all of them.
    AuthorizationServer(Option<&'a Rc<Resource>>),
}

/// Routes by authority and request target, and finds the form of the resource's URL that the client uses. A path with two readings
/// is refused, because the upstream could take the other one (docs/adr/0005).
pub(super) fn route<'a>(
    config: &'a Config,
    authority: &[u8],
    target: &[u8],
) -> Result<(Route<'a>, SlashForm), Refusal> {
    let ambiguous = |cause| ambiguous(authority, target, cause);
    let path = path::normal_form_with_slashes(target).ok_or_else(|| ambiguous(path::ambiguity(target)))?;
    let routes = &config.routes;
    let host = routes.host(authority);
    let read = |path: &str| {
        let route = route_path(routes, host, path);
        // Some servers remove `;parameters` before they route.
        if path.contains(';') && route_path(routes, host, &path::without_parameters(path)) != route {
            return Err(ambiguous("parameters (;), without which it leads elsewhere"));
        }
        Ok(route)
    };
    let route = read(&path)?;
    // A path without an escape is borrowed, and has one reading.
    if let Cow::Owned(path) = &path {
        // Envoy and some servers route by the escapes of reserved characters, such as `%40`, and Envoy without `normalize_path` by all
        // escapes; others decode them first.
        for reading in [path::with_reserved_encoded(target), path::as_written(target)].into_iter().flatten() {
            if read(&reading)? != route {
                return Err(ambiguous(
                    "an escaped character, such as %40, with which it leads elsewhere than without the escape",
                ));
            }
        }
        if path::has_encoded_slash(path) {
            // The resource and its path must be those of each reading. Configured paths have no encoded slash, so this one is below.
            match route {
                Some(Route::Resource(mount)) if mount.resource.encoded_slashes => {}
                Some(Route::Resource(mount)) => {
                    let mut refusal =
                        ambiguous("an escaped slash (%2F), and the resource has no encoded_slashes: true");
                    refusal.detail.add(Fact::Nearest, mount.resource.url.as_str().to_owned());
                    return Err(refusal);
                }
                _ => return Err(ambiguous("an escaped slash (%2F) outside of resources with encoded_slashes")),
            }
            for reading in path::readings(path) {
                if read(&reading)? != route {
                    return Err(ambiguous("an escaped slash (%2F) that leads elsewhere once it is decoded"));
                }
            }
        }
    }
    match route {
        Some(Route::Resource(mount)) => Ok((Route::Resource(mount), mount.slash_form(&path))),
        Some(Route::Metadata(resource)) => {
            let form = match path.strip_prefix(metadata::WELL_KNOWN) {
                Some("") => SlashForm::Configured,
                Some(path) if path.ends_with('/') => SlashForm::Slash,
                _ => SlashForm::Bare,
            };
            Ok((Route::Metadata(resource), form))
        }
        Some(route) => Ok((route, SlashForm::Configured)),
        None => Err(unknown(routes, authority, &path)),
    }
}

/// Host or path of a request as a log line shows it: up to a JWT.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut shown = cut(text.split(JWT_START).next().unwrap_or_default(), MAX_SHOWN);
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    shown
}

/// Refusal of a path with two readings. The log shows the path as it came, up to a query or a fragment.
#[inline(never)]
fn ambiguous(authority: &[u8], target: &[u8], fault: &str) -> Refusal {
    let path = target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    let detail = Detail::new().with(Fact::Host, shown(authority)).with(Fact::Path, shown(path));
    Refusal::detailed(Reason::AmbiguousPath, detail.with(Fact::Cause, ["the path has ", fault].concat()))
}

/// Refusal of a request for a host and path without a resource. The log names the resource that may be meant; the client does not
/// learn it.
fn unknown(routes: &RouteTable, authority: &[u8], path: &str) -> Refusal {
    let nearest = routes.nearest(authority, path).map_or("", |resource| resource.url.as_str());
    let detail = Detail::new().with(Fact::Host, shown(authority)).with(Fact::Path, shown(path.as_bytes()));
    let detail = detail.with(Fact::Nearest, nearest.to_owned());
    let cause = "no resource is at this host and path; a port counts; aliases of a resource name what Envoy sees behind a load balancer";
    Refusal::detailed(Reason::UnknownResource, detail.with(Fact::Cause, cause))
}

fn route_path<'a>(routes: &'a RouteTable, host: Option<&'a Host>, path: &str) -> Option<Route<'a>> {
    if routes.is_unauthenticated(path) {
        return Some(Route::Unauthenticated);
    }
    let host = host?;
    if let Some(rest) = path.strip_prefix(metadata::WELL_KNOWN).filter(|rest| rest.is_empty() || rest.starts_with('/'))
    {
        return host.document(rest).map(Route::Metadata);
    }
    if let Some(mount) = host.mount(path) {
        return Some(Route::Resource(mount));
    }
    let server = authorization_server::looked_for(path)?;
    Some(Route::AuthorizationServer(host.mount(server).map(|mount| &mount.resource)))
}

/// Answer to a request for the metadata document of a resource (RFC 9728 section 3).
pub(super) fn metadata(ctx: &RequestContext<'_>, resource: &Resource, form: SlashForm) -> Result<LocalReply, Refusal> {
    metadata::answer(ctx.head.method, resource, form).ok_or_else(|| Refusal::new(Reason::MethodNotAllowed))
}

/// Answer to a request that is meant for an authorization server: a preflight succeeds, everything else is refused with the
/// names of the authorization servers that the client should ask.
pub(super) fn authorization_server(
    ctx: &mut RequestContext<'_>,
    resource: Option<&Rc<Resource>>,
) -> Result<LocalReply, Refusal> {
    if ctx.head.method == b"OPTIONS" {
        return Ok(metadata::preflight("GET, HEAD, POST, OPTIONS"));
    }
    ctx.audit.resource = resource.cloned();
    let here = ctx.config.routes.host(ctx.head.authority).map_or(&[][..], |host| &host.resources);
    let servers = match resource {
        Some(resource) => AuthorizationServers::of(std::iter::once(resource)),
        None => AuthorizationServers::of(here.iter()),
    };
    Err(Refusal { servers: Some(Box::new(servers)), ..Refusal::new(Reason::NotAnAuthorizationServer) })
}
