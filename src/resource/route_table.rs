//! Route table: the resource at each host and path. A look-up costs as much as the path has configured segments, and does not
//! depend on the number of resources, hosts and unauthenticated paths.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::path::without_final_slash;
use crate::resource::{Resource, SlashForm};
use crate::url::Url;

/// Maximum number of segments of a request's path that are looked at for a hint.
const MAX_HINT_SEGMENTS: usize = 16;

/// Resources by host and path, and the paths that take no token.
#[derive(Default)]
pub struct RouteTable {
    hosts: FxHashMap<Box<str>, Host>,
    /// First resource at each host name, whatever the port is.
    names: FxHashMap<Box<str>, Rc<Resource>>,
    /// Resources by path, whatever their host is.
    paths: Node,
    /// Resources by the last segment of their path.
    last_segments: FxHashMap<Box<str>, Rc<Resource>>,
    unauthenticated: FxHashSet<Box<str>>,
}

/// Resources at one host.
#[derive(Default)]
pub struct Host {
    /// Resources, in order of the configuration.
    pub resources: Vec<Rc<Resource>>,
    paths: Node,
    /// Resource of each metadata document, by path without a final slash. `None`: two resources with a public URL of that path
    /// are behind this host.
    documents: FxHashMap<Box<str>, (Place, Option<Rc<Resource>>)>,
}

/// Place of a metadata document at a host. A later variant wins over an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// Path of an alias.
    Alias,
    /// Path of the public URL, at the host of an alias.
    BehindAlias,
    /// Public URL.
    Own,
}

/// Place at which Envoy sees the requests of a resource: its public URL, or an alias.
#[derive(Debug)]
pub struct Mount {
    /// Resource.
    pub resource: Rc<Resource>,
    /// Path without a final slash.
    pub prefix: Box<str>,
}

/// Two mounts of one configuration are the same if resource and path are.
impl PartialEq for Mount {
    fn eq(&self, other: &Self) -> bool {
        self.resource == other.resource && self.prefix == other.prefix
    }
}

impl Eq for Mount {}

/// Path that configured paths begin with: a node for each segment.
#[derive(Default)]
struct Node {
    mount: Option<Mount>,
    children: FxHashMap<Box<str>, Self>,
    /// First resource at or below the path.
    first: Option<Rc<Resource>>,
}

impl RouteTable {
    /// Adds a path that takes no token.
    pub(crate) fn add_unauthenticated(&mut self, path: &str) {
        self.unauthenticated.insert(path.into());
    }

    /// Returns `true` if the path takes no token.
    pub fn is_unauthenticated(&self, path: &str) -> bool {
        self.unauthenticated.contains(path)
    }

    /// Adds a resource at its public URL, or at an alias. `Err`: the resource that has the host and the path already.
    pub(crate) fn add(&mut self, url: &Url, resource: &Rc<Resource>) -> Result<(), Rc<Resource>> {
        let prefix = without_final_slash(url.path());
        let mut taken = url.authorities().filter_map(|authority| self.hosts.get(&*authority)?.paths.at(prefix));
        if let Some(mount) = taken.next() {
            return Err(mount.resource.clone());
        }
        let public = without_final_slash(resource.url.path());
        let is_public = *url == resource.url;
        self.names.entry(without_port(url.authority()).into()).or_insert_with(|| resource.clone());
        for authority in url.authorities() {
            let host = self.hosts.entry(authority.into()).or_default();
            host.paths.add(prefix, resource);
            if host.resources.last().is_none_or(|last| last != resource) {
                host.resources.push(resource.clone());
            }
            // Behind a load balancer, a request for a document has the public path, or that of the alias.
            let place = if is_public { Place::Own } else { Place::BehindAlias };
            host.add_document(public, place, resource);
            host.add_document(prefix, if is_public { Place::Own } else { Place::Alias }, resource);
        }
        if is_public {
            self.paths.add(prefix, resource);
            if let Some((_, last)) = prefix.rsplit_once('/') {
                self.last_segments.entry(last.into()).or_insert_with(|| resource.clone());
            }
        }
        Ok(())
    }

    /// Resources whose public URL is `url` or is above it, the outermost first.
    pub(crate) fn along(&self, url: &Url) -> impl Iterator<Item = &Rc<Resource>> {
        let authority = url.authority();
        let is_public = move |mount: &&Mount| {
            let url = &mount.resource.url;
            url.authority() == authority && without_final_slash(url.path()) == &*mount.prefix
        };
        let nodes = self.hosts.get(authority).map(|host| host.paths.along(without_final_slash(url.path())));
        nodes
            .into_iter()
            .flatten()
            .filter_map(|node| node.mount.as_ref())
            .filter(is_public)
            .map(|mount| &mount.resource)
    }

    /// Host of a request, by its authority in any case of letters.
    pub fn host(&self, authority: &[u8]) -> Option<&Host> {
        let authority = std::str::from_utf8(authority).ok()?;
        match self.hosts.get(authority) {
            None if authority.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                self.hosts.get(&*authority.to_ascii_lowercase())
            }
            host => host,
        }
    }

    /// First resource, in order of the configuration, whose path is not empty and covers `path` at some host.
    pub(crate) fn covering(&self, path: &str) -> Option<&Rc<Resource>> {
        let mounts = self.paths.along(path).skip(1).filter_map(|node| node.mount.as_ref());
        mounts.map(|mount| &mount.resource).min_by_key(|resource| resource.id)
    }

    /// Resource that a request for an unknown host or path was probably meant for: one below the same path at that host or at
    /// another one, one whose path ends like a part of the path, or any at that host.
    pub fn nearest(&self, authority: &[u8], path: &str) -> Option<&Rc<Resource>> {
        fn deepest<'a>(node: &'a Node, path: &str) -> Option<&'a Rc<Resource>> {
            node.along(path).skip(1).last().and_then(|node| node.first.as_ref())
        }
        let host = self.host(authority);
        let here = || host.and_then(|host| deepest(&host.paths, path));
        let elsewhere = || deepest(&self.paths, path);
        let last = || path.split('/').skip(1).take(MAX_HINT_SEGMENTS).find_map(|part| self.last_segments.get(part));
        let name = || self.names.get(&*without_port(std::str::from_utf8(authority).ok()?).to_ascii_lowercase());
        here().or_else(elsewhere).or_else(last).or_else(|| host?.resources.first()).or_else(name).or(
            match self.hosts.len() {
                // One host, by its name with and without the port.
                ..=2 => self.paths.first.as_ref(),
                _ => None,
            },
        )
    }
}

/// Host of an authority (RFC 3986 section 3.2): an IPv6 address has colons within brackets.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    }
}

impl Host {
    /// Resource with the longest path that covers `path`.
    pub fn mount(&self, path: &str) -> Option<&Mount> {
        self.paths.along(path).filter_map(|node| node.mount.as_ref()).last()
    }

    /// Resource whose metadata document is at `path` behind the well-known path (RFC 9728 section 3.1).
    pub fn document(&self, path: &str) -> Option<&Rc<Resource>> {
        self.documents.get(without_final_slash(path))?.1.as_ref()
    }

    fn add_document(&mut self, path: &str, place: Place, resource: &Rc<Resource>) {
        let known = self.documents.entry(path.into()).or_insert_with(|| (place, Some(resource.clone())));
        if known.0 < place {
            *known = (place, Some(resource.clone()));
        } else if known.0 == place && known.1.as_ref() != Some(resource) {
            known.1 = None;
        }
    }
}

impl Mount {
    /// Form of the resource's URL that the client of a request for `path` used. The form of a URL without a path does not show.
    pub fn slash_form(&self, path: &str) -> SlashForm {
        match path.strip_prefix(&*self.prefix) {
            Some("") => SlashForm::Bare,
            Some("/") if !self.prefix.is_empty() => SlashForm::Slash,
            _ => SlashForm::Configured,
        }
    }
}

impl Node {
    fn add(&mut self, prefix: &str, resource: &Rc<Resource>) {
        let mut node = self;
        node.first.get_or_insert_with(|| resource.clone());
        for segment in prefix.split('/').skip(1) {
            node = node.children.entry(segment.into()).or_default();
            node.first.get_or_insert_with(|| resource.clone());
        }
        node.mount.get_or_insert_with(|| Mount { resource: resource.clone(), prefix: prefix.into() });
    }

    /// Nodes from this one down along the path, as far as there are any.
    fn along<'a>(&'a self, path: &str) -> impl Iterator<Item = &'a Self> {
        let mut segments = path.split('/').skip(1);
        std::iter::successors(Some(self), move |node| node.children.get(segments.next()?))
    }

    fn at(&self, prefix: &str) -> Option<&Mount> {
        let depth = prefix.split('/').count();
        self.along(prefix).nth(depth.saturating_sub(1))?.mount.as_ref()
    }
}

/// Without recursion: a path of the configuration may have any number of segments.
impl Drop for Node {
    fn drop(&mut self) {
        let mut nodes: Vec<Self> = self.children.drain().map(|(_, node)| node).collect();
        while let Some(mut node) = nodes.pop() {
            nodes.extend(node.children.drain().map(|(_, node)| node));
        }
    }
}

/// Numbers only: the resources are in the configuration.
impl fmt::Debug for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{} authorities, {} unauthenticated paths}}", self.hosts.len(), self.unauthenticated.len())
    }
}

impl Resource {
    /// Resource identifier in the form that the client used.
    pub fn identifier(&self, form: SlashForm) -> Cow<'_, str> {
        let text = self.url.as_str();
        match form {
            SlashForm::Configured => text.into(),
            SlashForm::Bare => without_final_slash(text).into(),
            SlashForm::Slash if text.ends_with('/') => text.into(),
            SlashForm::Slash => [text, "/"].concat().into(),
        }
    }
}
