use std::borrow::Borrow;
use std::rc::Rc;
use std::time::Duration;

use crate::config::audiences::AudienceLists;
use crate::config::client::Environment;
use crate::config::reader::Fields;
use crate::config::{ConfigError, audiences, check_scopes, exchange};
use crate::path;
use crate::provider::{ActorToken, ExchangeTarget, Provider, SubjectTokenSource, TokenExchangeTarget};
use crate::resource::{DpopPolicy, Requirement, Resource, ResourceExchange, ResourceId, metadata};
use crate::url::Url;

/// How far the time of a proof may be from now, if the operator does not say.
const DEFAULT_PROOF_AGE: u32 = 300;

const FIELDS: [&str; 8] = [
    "url",
    "audiences",
    "scopes",
    "scopes_supported",
    "authorization_servers",
    "dpop",
    "certificate_bound_tokens",
    "exchange",
];

/// Providers, once their audiences are known, and resources, both in the order of their identities.
type ProvidersAndResources = (Vec<Rc<Provider>>, Vec<Rc<Resource>>);

/// Every resource, as listed.
pub(super) fn build_all(
    root: &Fields<'_>,
    mut providers: Vec<Provider>,
    env: Environment<'_>,
    warnings: &mut Vec<String>,
) -> Result<ProvidersAndResources, ConfigError> {
    let mut resources: Vec<Rc<Resource>> = Vec::new();
    let all = root.objects("resources", &FIELDS)?;
    for fields in &all {
        for (name, fields) in fields.named_objects("exchange", &exchange::FIELDS)? {
            if !providers.iter().any(|provider| *provider.name == *name) {
                return Err(unknown_provider(&fields, &providers));
            }
        }
    }
    let lists = audiences::read(&all, &mut providers, warnings)?;
    let providers: Vec<Rc<Provider>> = providers.into_iter().map(Rc::new).collect();
    for (fields, audiences) in all.iter().zip(lists) {
        let id = ResourceId(u32::try_from(resources.len()).unwrap_or(u32::MAX));
        let resource = Resource { id, ..build(fields, &providers, audiences, env, warnings)? };
        let same = |other: &Rc<Resource>| {
            other.url.authority() == resource.url.authority()
                && path::without_final_slash(other.url.path()) == path::without_final_slash(resource.url.path())
        };
        if let Some(other) = resources.iter().position(same) {
            return Err(ConfigError::new(
                fields.at("url"),
                format!("host and path of resources[{other}]"),
                "a host and path of its own (a longer path under another resource is fine)",
            ));
        }
        resources.push(Rc::new(resource));
    }
    audiences::warn(&providers, &resources, warnings);
    Ok((providers, resources))
}

fn unknown_provider<P: Borrow<Provider>>(fields: &Fields<'_>, providers: &[P]) -> ConfigError {
    let names: Vec<&str> = providers.iter().map(|provider| &*provider.borrow().name).collect();
    let expected = format!("a name from identity_providers: {}", names.join(", "));
    ConfigError::new(fields.path(), "a name that no provider has", expected)
}

fn build(
    fields: &Fields<'_>,
    providers: &[Rc<Provider>],
    audiences: AudienceLists,
    env: Environment<'_>,
    warnings: &mut Vec<String>,
) -> Result<Resource, ConfigError> {
    let text = fields.required_text("url", "the https URL that clients use")?;
    let url = Url::parse(text).map_err(|problem| {
        ConfigError::new(fields.at("url"), crate::config::shown(text, problem), "the https URL that clients use")
    })?;
    if !url.path().is_empty() && !path::is_normal(url.path()) {
        let expected = "a path in normal form (no empty or dot segments, no parameters, no patterns, no escapes that are not needed)";
        return Err(ConfigError::new(fields.at("url"), format!("{text:?}"), expected));
    }
    if path::is_under(url.path(), metadata::WELL_KNOWN) {
        let expected = "a path that is not where the metadata of resources is";
        return Err(ConfigError::new(fields.at("url"), format!("{text:?}"), expected));
    }
    let scopes = |fields: &Fields<'_>, name: &str| {
        let scopes = fields.texts(name)?;
        check_scopes(&fields.at(name), &scopes)?;
        Ok(scopes)
    };
    let needed = scopes(fields, "scopes")?;
    let scopes_supported =
        if fields.has("scopes_supported") { scopes(fields, "scopes_supported")? } else { needed.clone() };
    let dpop = match fields.object("dpop", &["mode", "nonce", "max_age_seconds"])? {
        None => DpopPolicy { mode: Requirement::Off, nonce: false, max_age: Duration::ZERO },
        Some(fields) => {
            let seconds = fields.number("max_age_seconds", 10, 600, "seconds")?.unwrap_or(DEFAULT_PROOF_AGE);
            fields.required_text("mode", BOUND)?;
            DpopPolicy {
                mode: bound(&fields, "mode")?,
                nonce: fields.truth("nonce")?,
                max_age: Duration::from_secs(seconds.into()),
            }
        }
    };
    let certificates = bound(fields, "certificate_bound_tokens")?;
    let path_of_scopes = fields.at("scopes");
    let mut targets: Vec<Option<ExchangeTarget>> = providers.iter().map(|_| None).collect();
    for (name, fields) in fields.named_objects("exchange", &exchange::FIELDS)? {
        let found = providers.iter().zip(targets.iter_mut()).find(|(provider, _)| *provider.name == *name);
        let Some((provider, slot)) = found else {
            return Err(unknown_provider(&fields, providers));
        };
        if matches!(provider.subject_token, SubjectTokenSource::IdToken) {
            // Nobody of that provider could come in.
            let lacks = |what: &str, expected: &str| {
                let found = format!("{what}, where users of {name} come with ID tokens");
                ConfigError::new(
                    fields.path(),
                    found,
                    format!("{expected}, or a resource of their own for these users"),
                )
            };
            if !needed.is_empty() {
                return Err(lacks("scopes of the resource", "no scopes (remove scopes: ID tokens carry none)"));
            }
            if dpop.mode == Requirement::Required || certificates == Requirement::Required {
                return Err(lacks("a token that must be bound", "none required (ID tokens are not bound)"));
            }
        }
        for (index, scope) in needed.iter().enumerate() {
            let doubt = provider.profile.scope_warning(scope);
            warnings.extend(doubt.map(|doubt| format!("{path_of_scopes}[{index}]: with {name}, {doubt}")));
        }
        let target = exchange::build(&fields, provider, env, warnings)?;
        let actor = target.exchange().and_then(TokenExchangeTarget::actor_token).and_then(ActorToken::header);
        if actor.is_some() && providers.iter().any(|other| other.subject_token.header() == actor) {
            let path = fields.at("actor_token.header");
            let expected = "a field of its own, which Envoy itself puts there";
            return Err(ConfigError::new(path, "the field in which callers send ID tokens", expected));
        }
        if matches!(target, ExchangeTarget::ValidateOnly { forward: true }) {
            let path = fields.at("token");
            if dpop.mode != Requirement::Off || certificates != Requirement::Off {
                let expected = "removed, or a resource without dpop and certificate_bound_tokens: nobody behind here could prove to hold a bound token";
                return Err(ConfigError::new(path, "\"forwarded\"", expected));
            }
            warnings.push(format!(
                "{path}: the callers' own tokens reach the upstream, which can use them as those callers wherever they are accepted"
            ));
        }
        *slot = Some(target);
    }
    let exchanges = providers.iter().zip(targets).zip(audiences).filter_map(|((provider, target), audiences)| {
        Some(Rc::new(ResourceExchange { provider: provider.clone(), target: target?, audiences }))
    });
    let exchanges: Vec<Rc<ResourceExchange>> = exchanges.collect();
    let authorization_servers = authorization_servers(fields, &exchanges)?;
    let field = if fields.has("scopes_supported") { "scopes_supported" } else { "scopes" };
    for provider in &authorization_servers {
        let none = scopes_supported.is_empty().then_some(("scopes_supported".to_owned(), None));
        let some = scopes_supported.iter().enumerate();
        let some = some.map(|(index, scope)| (format!("{field}[{index}]"), Some(scope.as_str())));
        for (at, scope) in none.into_iter().chain(some) {
            let doubt = provider.profile.advertised_scope_warning(scope, &url);
            let shown = scope.map_or_else(String::new, |scope| format!("{scope:?} beside url {:?}: ", url.as_str()));
            warnings.extend(doubt.map(|doubt| format!("{}: {shown}with {}, {doubt}", fields.at(&at), provider.name)));
        }
    }
    Ok(Resource {
        id: ResourceId::default(),
        url,
        scopes: needed,
        scopes_supported,
        dpop,
        certificates,
        exchanges,
        authorization_servers,
    })
}

/// Which providers clients are told of, and in which order: they take the first (RFC 9728 section 7.6 leaves the choice to
/// them). If the operator does not say, all that the resource exchanges for, in order of their names.
fn authorization_servers(
    fields: &Fields<'_>,
    exchanges: &[Rc<ResourceExchange>],
) -> Result<Vec<Rc<Provider>>, ConfigError> {
    let asked = || exchanges.iter().map(|exchange| &exchange.provider);
    if !fields.has("authorization_servers") {
        return Ok(asked().cloned().collect());
    }
    let wrong = |path: &str, found: &str| {
        let names: Vec<&str> = asked().map(|provider| &*provider.name).collect();
        let expected = format!("names of providers in exchange of this resource, each once: {}", names.join(", "));
        ConfigError::new(fields.at(path), found, expected)
    };
    let mut servers: Vec<Rc<Provider>> = Vec::new();
    for (at, wanted) in fields.texts("authorization_servers")?.iter().enumerate() {
        match asked().find(|provider| *provider.name == **wanted) {
            Some(provider) if !servers.iter().any(|other| other.id == provider.id) => servers.push(provider.clone()),
            found => {
                let found = if found.is_some() { "a name that stands twice" } else { "a name that is not in exchange" };
                return Err(wrong(&format!("authorization_servers[{at}]"), found));
            }
        }
    }
    if servers.is_empty() {
        return Err(wrong("authorization_servers", "an empty list"));
    }
    Ok(servers)
}

const BOUND: &str = "off, optional or required";

fn bound(fields: &Fields<'_>, name: &str) -> Result<Requirement, ConfigError> {
    match fields.text(name)? {
        None | Some("off") => Ok(Requirement::Off),
        Some("optional") => Ok(Requirement::Optional),
        Some("required") => Ok(Requirement::Required),
        Some(other) => Err(ConfigError::new(fields.at(name), format!("{other:?}"), BOUND)),
    }
}
