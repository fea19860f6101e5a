//! Builder of protected resources.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use crate::config::audiences::AudienceLists;
use crate::config::check::item;
use crate::config::error::Code;
use crate::config::findings::Reported;
use crate::config::options::is_provider_name;
use crate::config::provider::Providers;
use crate::config::reader::Fields;
use crate::config::{NORMAL_PATH, audiences, exchange, scopes, url};
use crate::path;
use crate::provider::{ActorToken, ExchangeTarget, Provider, SubjectTokenSource, TokenExchangeTarget};
use crate::resource::{DpopPolicy, Requirement, Resource, ResourceExchange, ResourceId, RouteTable, metadata};
use crate::secret::shown;
use crate::url::Url;

/// Resources and providers.
pub(super) struct Built<'a> {
    /// Providers, once the audiences of all resources are known.
    pub(super) providers: Providers<'a, Rc<Provider>>,
    /// Resources, in the order of the document.
    pub(super) resources: Result<Vec<Rc<Resource>>, Reported>,
    /// Host and path of each resource without a mistake.
    pub(super) routes: RouteTable,
}

/// Builds every resource, in the order of the document.
pub(super) fn build_all<'a>(root: &Fields<'a>, mut providers: Providers<'a>) -> Built<'a> {
    let items = root.resources();
    let count = items.len();
    let all: Vec<_> = items.into_iter().flatten().collect();
    let mut is_complete = all.len() == count;
    let names: HashSet<&str> = providers.names.iter().copied().collect();
    for fields in &all {
        let exchange = fields.named_objects("exchange");
        is_complete &= !exchange.is_empty();
        for (name, target) in exchange {
            if !names.contains(name) {
                is_complete = false;
                // Without any provider, none of the names is a mistake of its own.
                if !names.is_empty() && target.is_ok() {
                    let known: Vec<&str> =
                        providers.names.iter().copied().filter(|name| is_provider_name(name)).collect();
                    let expected = format!("a name from identity_providers: {}", known.join(", "));
                    let found = "a name that no provider has";
                    fields.refuse(Code::UnknownProvider, &format!("exchange.{name}"), found, &expected);
                }
            }
        }
    }
    let lists = audiences::read(&all, &mut providers, is_complete);
    let Providers { names, built } = providers;
    let providers = Providers { names, built: built.into_iter().map(Rc::new).collect() };
    let mut resources: Vec<Rc<Resource>> = Vec::new();
    let mut routes = RouteTable::default();
    // Paths in the document, by the identity of the resource.
    let mut paths: Vec<&str> = Vec::new();
    for (fields, audiences) in all.iter().zip(lists) {
        let is_mistaken = audiences.is_none();
        let Ok(resource) = build(fields, &providers, audiences.unwrap_or_default()) else { continue };
        let id = ResourceId(u32::try_from(paths.len()).unwrap_or(u32::MAX));
        let resource = Rc::new(Resource { id, ..resource });
        paths.push(fields.path());
        if place(fields, &resource, &mut routes, &paths).is_ok() && !is_mistaken {
            resources.push(resource);
        }
    }
    let nested = check_nested(root, &resources, &routes, &paths);
    if resources.len() == count {
        audiences::warn(&providers.built, &resources, &all);
    }
    let resources = if nested.is_ok() && resources.len() == count { Ok(resources) } else { Err(Reported::DEPENDS) };
    Built { providers, resources, routes }
}

/// Refuses a resource below another one that lacks the aliases of the other. Its requests at such an alias would have the rules of
/// the other. The work is proportional to the length of the document: the first alias that a resource lacks ends its check.
fn check_nested(
    root: &Fields<'_>,
    resources: &[Rc<Resource>],
    routes: &RouteTable,
    paths: &[&str],
) -> Result<(), Reported> {
    let path_of = |resource: &Resource| {
        usize::try_from(resource.id.0).ok().and_then(|id| paths.get(id)).copied().unwrap_or_default()
    };
    let mut checked = Ok(());
    for inner in resources {
        // The schemes have different default ports: requests with the port have another authority.
        let places = |url: &'_ Url, rest: &str| {
            let path = [path::without_final_slash(url.path()), rest].concat();
            url.authorities().map(move |authority| [&*authority, &path].concat()).collect::<Vec<_>>()
        };
        let own: HashSet<String> = inner.aliases.iter().flat_map(|alias| places(alias, "")).collect();
        // It has its own aliases.
        let lacking = routes.along(&inner.url).find_map(|outer| {
            let prefix = path::without_final_slash(outer.url.path());
            let rest = path::without_final_slash(inner.url.path()).strip_prefix(prefix).unwrap_or_default();
            let is_lacking = |alias: &&Url| places(alias, rest).iter().any(|place| !own.contains(place));
            outer.aliases.iter().find(is_lacking).map(|alias| (outer, alias, rest))
        });
        if let Some((outer, alias, rest)) = lacking {
            let found = format!("none for its place below an alias of {}", path_of(outer));
            let place = path::without_final_slash(alias.path());
            let expected = format!("{}://{}{place}{rest} as well", alias.scheme(), alias.authority());
            let name = format!("{}.aliases", path_of(inner));
            checked = Err(root.context.refuse(Code::NestedWithoutAlias, name, &found, &expected));
        }
    }
    checked
}

/// Adds a resource to the route table at its URL and at its aliases.
fn place(
    fields: &Fields<'_>,
    resource: &Rc<Resource>,
    routes: &mut RouteTable,
    paths: &[&str],
) -> Result<(), Reported> {
    let mut placed = Ok(());
    let aliases = resource.aliases.iter().enumerate().map(|(index, alias)| (item("aliases", index), alias));
    for (name, url) in std::iter::once(("url".to_owned(), &resource.url)).chain(aliases) {
        if let Err(other) = routes.add(url, resource) {
            let other = usize::try_from(other.id.0).ok().and_then(|id| paths.get(id)).copied().unwrap_or_default();
            let expected = "a host and path of its own; it may be below another resource";
            placed = Err(fields.refuse(Code::SameUrl, &name, &format!("host and path of {other}"), expected));
        }
    }
    placed
}

fn build(
    fields: &Fields<'_>,
    providers: &Providers<'_, Rc<Provider>>,
    audiences: AudienceLists,
) -> Result<Resource, Reported> {
    let url = resource_url(fields);
    let aliases = aliases(fields);
    let encoded_slashes = fields.truth("encoded_slashes");
    let needed = scopes(fields, "scopes");
    let scopes_supported =
        if fields.has("scopes_supported") { scopes(fields, "scopes_supported") } else { needed.clone() };
    let dpop = dpop(fields);
    let certificates = requirement(fields, "certificate_bound_tokens");
    let mut targets: Vec<Option<ExchangeTarget>> = providers.built.iter().map(|_| None).collect();
    let mut is_complete = true;
    for (name, exchange) in fields.named_objects("exchange") {
        let found = providers.built.iter().zip(targets.iter_mut()).find(|(provider, _)| *provider.name == *name);
        let (Some((provider, slot)), Ok(exchange)) = (found, exchange) else {
            is_complete = false;
            continue;
        };
        match target(&exchange, fields, providers, provider, (&needed, &dpop, certificates)) {
            Ok(target) => *slot = Some(target),
            Err(_) => is_complete = false,
        }
    }
    // A provider with a mistake may be one that is named.
    let audiences = audiences.into_iter().chain(std::iter::repeat(None));
    let exchanges = providers.built.iter().zip(targets).zip(audiences).filter_map(|((provider, target), audiences)| {
        Some(Rc::new(ResourceExchange { provider: provider.clone(), target: target?, audiences }))
    });
    let exchanges: Vec<Rc<ResourceExchange>> = exchanges.collect();
    let servers = if is_complete { authorization_servers(fields, &exchanges) } else { Err(Reported::DEPENDS) };
    let (
        (Ok(url), Ok(aliases), Ok(encoded_slashes), Ok(scopes), Ok(scopes_supported)),
        (Ok(dpop), Ok(certificates), Ok(authorization_servers)),
    ) = ((url, aliases, encoded_slashes, needed, scopes_supported), (dpop, certificates, servers))
    else {
        return Err(Reported::DEPENDS);
    };
    let resource = Resource {
        id: ResourceId::default(),
        url,
        aliases,
        encoded_slashes,
        scopes,
        scopes_supported,
        dpop,
        certificates,
        exchanges,
        authorization_servers,
    };
    warn_of_scopes(fields, &resource);
    Ok(resource)
}

fn resource_url(fields: &Fields<'_>) -> Result<Url, Reported> {
    let text = fields.required_text("url")?;
    let url = url(fields, "url", text, "the https URL that clients use")?;
    check_path(fields, "url", &url)?;
    Ok(url)
}

/// Reads the URLs under which Envoy sees requests that clients send to the resource's own.
fn aliases(fields: &Fields<'_>) -> Result<Vec<Url>, Reported> {
    let texts = fields.texts("aliases")?;
    let read = |(index, text): (usize, &String)| {
        let name = item("aliases", index);
        let url = Url::parse_internal(text).map_err(|problem| {
            let expected = "an http or https URL with the host and path that Envoy sees";
            fields.refuse(Code::NotAUrl, &name, &format!("{}, which {problem}", shown(text)), expected)
        })?;
        check_path(fields, &name, &url)?;
        Ok(url)
    };
    // All of them, so that each mistake is reported.
    let read: Vec<_> = texts.iter().enumerate().map(read).collect();
    read.into_iter().collect()
}

fn check_path(fields: &Fields<'_>, name: &str, url: &Url) -> Result<(), Reported> {
    if !url.path().is_empty() && !path::is_normal(url.path()) {
        return Err(fields.refuse(Code::NotANormalPath, name, &shown(url.as_str()), NORMAL_PATH));
    }
    if path::is_under(url.path(), metadata::WELL_KNOWN) {
        let expected = "a path outside that of protected resource metadata";
        return Err(fields.refuse(Code::ReservedPath, name, &shown(url.as_str()), expected));
    }
    Ok(())
}

fn dpop(fields: &Fields<'_>) -> Result<DpopPolicy, Reported> {
    let Some(fields) = fields.object("dpop")? else {
        return Ok(DpopPolicy { mode: Requirement::Off, nonce: false, max_age: Duration::ZERO });
    };
    fields.required_text("mode")?;
    let max_age = Duration::from_secs(fields.number("max_age_seconds")?.into());
    Ok(DpopPolicy { mode: requirement(&fields, "mode")?, nonce: fields.truth("nonce")?, max_age })
}

fn requirement(fields: &Fields<'_>, name: &str) -> Result<Requirement, Reported> {
    match fields.text(name)? {
        None | Some("off") => Ok(Requirement::Off),
        Some("optional") => Ok(Requirement::Optional),
        Some("required") => Ok(Requirement::Required),
        Some(_) => Err(Reported::DEPENDS),
    }
}

/// Demands of a resource on callers' tokens: scopes, DPoP, certificates.
type Demands<'a> = (&'a Result<Vec<String>, Reported>, &'a Result<DpopPolicy, Reported>, Result<Requirement, Reported>);

/// Builds the target of the exchange at one provider.
fn target(
    fields: &Fields<'_>,
    resource: &Fields<'_>,
    providers: &Providers<'_, Rc<Provider>>,
    provider: &Provider,
    (scopes, dpop, certificates): Demands<'_>,
) -> Result<ExchangeTarget, Reported> {
    let scopes = scopes.as_deref().unwrap_or_default();
    let dpop = dpop.as_ref().map_or(Requirement::Off, |dpop| dpop.mode);
    let certificates = certificates.unwrap_or_default();
    if matches!(provider.subject_token, SubjectTokenSource::IdToken) {
        // No user of the provider has such a token.
        let lacks = |what: &str, expected: &str| {
            let found = format!("{what}, where users of {} come with ID tokens", provider.name);
            let expected = format!("{expected}, or a resource of their own for these users");
            Err(fields.refuse(Code::IdTokensCannot, "", &found, &expected))
        };
        if !scopes.is_empty() {
            return lacks("scopes of the resource", "no scopes (remove scopes: ID tokens carry none)");
        }
        if dpop == Requirement::Required || certificates == Requirement::Required {
            return lacks("a token that must be bound", "none required (ID tokens are not bound)");
        }
    }
    for (index, scope) in scopes.iter().enumerate() {
        if let Some(doubt) = provider.profile.scope_warning(scope) {
            resource.warn(&item("scopes", index), format_args!("with {}, {doubt}", provider.name));
        }
    }
    let target = exchange::build(fields, provider)?;
    let actor = target.exchange().and_then(TokenExchangeTarget::actor_token).and_then(ActorToken::header);
    if actor.is_some() && providers.built.iter().any(|other| other.subject_token.header() == actor) {
        let expected = "a field that only Envoy sets";
        let found = "the field in which callers send ID tokens";
        return Err(fields.refuse(Code::ClientHeader, "actor_token.header", found, expected));
    }
    if matches!(target, ExchangeTarget::ValidateOnly { forward: true }) {
        if dpop != Requirement::Off || certificates != Requirement::Off {
            let expected = "false, or a resource without dpop and certificate_bound_tokens: no proof for a bound token reaches the upstream";
            return Err(fields.refuse(Code::ForwardsBoundTokens, "forward", "true", expected));
        }
        fields.warn(
            "forward",
            format_args!("the callers' own tokens reach the upstream, which can use them wherever they are accepted"),
        );
    }
    Ok(target)
}

/// Warns of scopes that clients cannot ask for.
fn warn_of_scopes(fields: &Fields<'_>, resource: &Resource) {
    let Resource { url, scopes_supported: scopes, .. } = resource;
    let field = if fields.has("scopes_supported") { "scopes_supported" } else { "scopes" };
    for provider in &resource.authorization_servers {
        let (profile, name) = (provider.profile, &*provider.name);
        if scopes.is_empty()
            && let Some(doubt) = profile.advertised_scope_warning(None, url)
        {
            fields.warn("scopes_supported", format_args!("with {name}, {doubt}"));
        }
        for (index, scope) in scopes.iter().enumerate() {
            if let Some(doubt) = profile.advertised_scope_warning(Some(scope), url) {
                fields.warn(&item(field, index), format_args!("with {name}, {doubt}"));
            }
        }
    }
}

/// Reads the providers that metadata names, in the operator's order: clients take the first (RFC 9728 section 7.6 leaves the
/// choice to them). The default is all providers of the exchange, in order of their names.
fn authorization_servers(
    fields: &Fields<'_>,
    exchanges: &[Rc<ResourceExchange>],
) -> Result<Vec<Rc<Provider>>, Reported> {
    let asked = || exchanges.iter().map(|exchange| &exchange.provider);
    if !fields.has("authorization_servers") {
        return Ok(asked().cloned().collect());
    }
    let mut servers: Vec<Rc<Provider>> = Vec::new();
    for (at, wanted) in fields.texts("authorization_servers")?.iter().enumerate() {
        let (code, found) = match asked().find(|provider| *provider.name == **wanted) {
            Some(provider) if !servers.contains(provider) => {
                if provider.issuer.url().is_none() {
                    let text = format_args!("its issuer is no https URL, so that the metadata leaves it out");
                    fields.warn(&item("authorization_servers", at), text);
                }
                servers.push(provider.clone());
                continue;
            }
            Some(_) => (Code::Duplicate, "a name that stands twice"),
            None => (Code::UnknownProvider, "a name that is not in exchange"),
        };
        let names: Vec<&str> = asked().map(|provider| &*provider.name).collect();
        let expected = format!("names of providers in exchange, each once: {}", names.join(", "));
        return Err(fields.refuse(code, &item("authorization_servers", at), found, &expected));
    }
    Ok(servers)
}
