//! Routing: the resource that host and path of a request belong to.

use std::rc::Rc;

use crate::config::Config;
use crate::engine::context::RequestContext;
use crate::http::LocalReply;
use crate::path;
use crate::refusal::{Reason, Refusal};
use crate::resource::authorization_server::{self, AuthorizationServers};
use crate::resource::{Resource, metadata};
use crate::telemetry::{Detail, Fact};

/// Target of a request, by host and path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// Path that takes no token.
    Unauthenticated,
    /// Resource.
    Resource(&'a Rc<Resource>),
    /// Metadata document of a resource.
    Metadata(&'a Rc<Resource>),
    /// Endpoint or document of an authorization server on the host of resources: of the one resource, or of all of them.
    AuthorizationServer(Option<&'a Rc<Resource>>),
}

/// Routes by authority and request target. A path with two readings is refused, because the upstream could take the other
/// one (docs/adr/0005).
pub(super) fn route<'a>(config: &'a Config, authority: &[u8], target: &[u8]) -> Result<Route<'a>, Refusal> {
    let ambiguous = || Refusal::new(Reason::AmbiguousPath);
    let path = path::normal_form(target).ok_or_else(ambiguous)?;
    let route = route_path(config, authority, &path);
    // Some servers remove `;parameters` before they route.
    if path.contains(';') && route_path(config, authority, &path::without_parameters(&path)) != route {
        return Err(ambiguous());
    }
    route.ok_or_else(|| {
        let host: String = String::from_utf8_lossy(authority).chars().take(128).collect();
        let detail = Detail::new().with(Fact::Host, host);
        let cause = "no resource is at this host and path; a port counts";
        Refusal::detailed(Reason::UnknownResource, detail.with(Fact::Cause, cause))
    })
}

fn route_path<'a>(config: &'a Config, authority: &[u8], path: &str) -> Option<Route<'a>> {
    if config.unauthenticated_paths.iter().any(|open| open == path) {
        return Some(Route::Unauthenticated);
    }
    let mut here = config.resources.iter().filter(|resource| resource.url.is_at(authority));
    if let Some(rest) = path.strip_prefix(metadata::WELL_KNOWN).filter(|rest| rest.is_empty() || rest.starts_with('/'))
    {
        return here.find(|resource| metadata::resource_path(resource.url.path()) == rest).map(Route::Metadata);
    }
    let nearest = |path: &str| {
        here.clone()
            .filter(|resource| path::is_under(path, resource.url.path()))
            .max_by_key(|resource| path::without_final_slash(resource.url.path()).len())
    };
    match (nearest(path), authorization_server::looked_for(path)) {
        (Some(resource), _) => Some(Route::Resource(resource)),
        (None, Some(server)) if here.clone().next().is_some() => Some(Route::AuthorizationServer(nearest(server))),
        (None, _) => None,
    }
}

/// Answer to a request for the metadata document of a resource (RFC 9728 section 3).
pub(super) fn metadata(ctx: &RequestContext<'_>, resource: &Resource) -> Result<LocalReply, Refusal> {
    metadata::answer(ctx.head.method, resource).ok_or_else(|| Refusal::new(Reason::MethodNotAllowed))
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
    let here = ctx.config.resources.iter().filter(|candidate| {
        resource.is_none_or(|resource| resource == *candidate) && candidate.url.is_at(ctx.head.authority)
    });
    let servers = Some(Box::new(AuthorizationServers::of(here)));
    Err(Refusal { servers, ..Refusal::new(Reason::NotAnAuthorizationServer) })
}
