//! Which resource a request is for.

use crate::config::Config;
use crate::path;
use crate::resource::{authorization_server, metadata};

/// What host and path mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// A path that needs no token.
    Open,
    /// A resource, by index.
    Resource(usize),
    /// The metadata document of a resource, by index.
    Metadata(usize),
    /// What an authorization server would have, on a host of resources: of the one by index, or of all of them.
    AuthorizationServer(Option<usize>),
    /// Nothing here.
    ValidateOnly,
}

/// Selects by authority and path. `None`: the path can be read in more than one way.
pub(super) fn select(config: &Config, authority: &[u8], target: &[u8]) -> Option<Route> {
    let path = path::normal_form(target)?;
    let selected = select_path(config, authority, &path);
    // Some servers take `;parameters` off before they route. It must not matter which kind is behind us.
    if path.contains(';') && select_path(config, authority, &path::without_parameters(&path)) != selected {
        return None;
    }
    Some(selected)
}

fn select_path(config: &Config, authority: &[u8], path: &str) -> Route {
    if config.unauthenticated_paths.iter().any(|open| open == path) {
        return Route::Open;
    }
    let here = || config.resources.iter().enumerate().filter(|(_, resource)| resource.url.is_at(authority));
    if let Some(rest) = path.strip_prefix(metadata::WELL_KNOWN).filter(|rest| rest.is_empty() || rest.starts_with('/'))
    {
        let document = here().find(|(_, resource)| metadata::resource_path(resource.url.path()) == rest);
        return document.map_or(Route::ValidateOnly, |(index, _)| Route::Metadata(index));
    }
    let nearest = |path: &str| {
        here()
            .filter(|(_, resource)| path::is_under(path, resource.url.path()))
            .max_by_key(|(_, resource)| path::without_final_slash(resource.url.path()).len())
            .map(|(index, _)| index)
    };
    match (nearest(path), authorization_server::looked_for(path)) {
        (Some(index), _) => Route::Resource(index),
        (None, Some(server)) if here().next().is_some() => Route::AuthorizationServer(nearest(server)),
        (None, _) => Route::ValidateOnly,
    }
}
