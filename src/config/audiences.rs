//! Audiences of resources and providers: accepted values of `aud` in callers' tokens.

use std::borrow::Cow;
use std::collections::HashSet;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::config::check::item;
use crate::config::error::Code;
use crate::config::find_placeholders;
use crate::config::findings::Reported;
use crate::config::options::AUDIENCES;
use crate::config::provider::Providers;
use crate::config::reader::Fields;
use crate::provider::Provider;
use crate::resource::{Resource, ResourceId};
use crate::secret::shown;

/// Accepted audiences of one resource, by the position of the provider. `None`: the provider's own list counts.
pub(super) type AudienceLists = Vec<Option<Vec<String>>>;

/// Reads the lists of each resource; a resource with a mistake has `None`. Adds to every provider the audiences that its
/// tokens may have at any resource. Unless `is_complete`, there may be resources that exchange for it and are mistaken.
pub(super) fn read(
    resources: &[Fields<'_>],
    providers: &mut Providers<'_>,
    is_complete: bool,
) -> Vec<Option<AudienceLists>> {
    let mut all = Vec::with_capacity(resources.len());
    for fields in resources {
        let lists = fields.texts("audiences").and_then(|own| {
            find_placeholders(fields, "audiences", &own);
            lists(fields, &own, &providers.built)
        });
        all.push(lists.ok());
    }
    let mut lacking = Vec::new();
    for (index, provider) in providers.built.iter_mut().enumerate() {
        let (mut is_used, mut without) = (false, None);
        let mut known: HashSet<String> = provider.every_audience.iter().cloned().collect();
        for (fields, lists) in resources.iter().zip(&all) {
            if !exchanges(fields, provider) {
                continue;
            }
            is_used = true;
            match lists.as_ref().map(|lists| lists.get(index).and_then(Option::as_ref)) {
                None => {}
                Some(None) => without = without.or(Some(fields)),
                Some(Some(own)) => {
                    for audience in own {
                        if known.insert(audience.clone()) {
                            provider.every_audience.push(audience.clone());
                        }
                    }
                }
            }
        }
        if provider.audiences.is_empty() && (without.is_some() || (!is_used && is_complete)) {
            let mut expected = AUDIENCES.to_owned();
            if !is_used {
                expected += ", or a resource with such a list whose exchange names it: there is none";
            }
            if let Some(fields) = without {
                expected += ", or such a list in each resource that exchanges for it, which is missing in ";
                expected += fields.path();
            }
            lacking.push((format!("identity_providers.{}.audiences", provider.name), expected));
        }
    }
    if let Some(fields) = resources.first() {
        for (path, expected) in lacking {
            fields.context.refuse(Code::MissingAudiences, path, "none", &expected);
        }
    }
    all
}

/// Returns the lists of one resource, by provider. An audience that no token of a provider can have is left out of that
/// provider's list.
fn lists(fields: &Fields<'_>, own: &[String], providers: &[Provider]) -> Result<AudienceLists, Reported> {
    let instead = |provider: &Provider, audience: &String| provider.profile.expected_audience(provider, audience);
    let is_asked = |provider: &Provider| !own.is_empty() && exchanges(fields, provider);
    let mut lists = AudienceLists::with_capacity(providers.len());
    for provider in providers {
        let own = || own.iter().filter(|audience| instead(provider, audience).is_none()).cloned().collect();
        lists.push(is_asked(provider).then(own));
    }
    for (index, audience) in own.iter().enumerate() {
        let mut asked = providers.iter().filter(|provider| is_asked(provider));
        if !lists.iter().flatten().any(|list| list.contains(audience))
            && let Some(expected) = asked.find_map(|provider| instead(provider, audience))
        {
            let name = item("audiences", index);
            return Err(fields.refuse(Code::RefusedByProfile, &name, &shown(audience), expected));
        }
    }
    for (provider, list) in providers.iter().zip(&lists) {
        if list.as_ref().is_some_and(Vec::is_empty)
            && let Some(expected) = own.iter().find_map(|audience| instead(provider, audience))
        {
            let found = format!("none that tokens of {} could have", provider.name);
            return Err(fields.refuse(Code::RefusedByProfile, "audiences", &found, expected));
        }
    }
    Ok(lists)
}

fn exchanges(fields: &Fields<'_>, provider: &Provider) -> bool {
    // Other mistakes in it are found when it is read.
    fields.any_object("exchange").ok().flatten().is_some_and(|members| members.get(&provider.name).is_some())
}

/// Maximum number of resources that a warning names.
const MAX_NAMED: usize = 3;

/// Warns of audiences that several resources accept, so that a token for one of them is accepted at the others (RFC 8707 section 2),
/// and of lists that the profile of the provider doubts. `fields` are those of the resources.
pub(super) fn warn(providers: &[Rc<Provider>], resources: &[Rc<Resource>], fields: &[Fields<'_>]) {
    let Some(context) = fields.first().map(|fields| fields.context) else {
        return;
    };
    let mut warned: HashSet<String> = HashSet::new();
    for provider in providers {
        let mut first: FxHashMap<&str, ResourceId> = FxHashMap::default();
        let (mut shared, mut doubted, mut doubts) = (None, None, 0_usize);
        // Resources without a list of their own accept the same audiences, so one of them shows each fault of the list.
        let mut is_common_read = false;
        for resource in resources {
            let Some(exchange) = resource.exchange(provider) else { continue };
            let list = exchange.audiences.as_ref().unwrap_or(&provider.audiences);
            shared = shared
                .or_else(|| list.iter().find(|audience| *first.entry(audience).or_insert(resource.id) != resource.id));
            if exchange.audiences.is_none() && std::mem::replace(&mut is_common_read, true) {
                continue;
            }
            if let Some(doubt) = provider.profile.audiences_warning(provider, list) {
                doubted = doubted.or(Some((resource, doubt)));
                doubts = doubts.saturating_add(1);
            }
        }
        let path = |resource: &Resource| match resource.exchange(provider) {
            Some(exchange) if exchange.audiences.is_some() => {
                let fields = usize::try_from(resource.id.0).ok().and_then(|id| fields.get(id));
                fields.map_or_else(String::new, |fields| fields.at("audiences"))
            }
            _ => format!("identity_providers.{}.audiences", provider.name),
        };
        if let Some(shared) = shared {
            let accepts = |resource: &&Rc<Resource>| {
                resource.exchange(provider).is_some() && resource.audiences_for(provider).contains(shared)
            };
            let at: Vec<_> = resources.iter().filter(accepts).collect();
            let is_common =
                |resource: &&&Rc<Resource>| resource.exchange(provider).is_some_and(|of| of.audiences.is_none());
            let path =
                at.iter().find(is_common).or_else(|| at.first()).map_or_else(String::new, |resource| path(resource));
            let named = at.iter().take(MAX_NAMED).map(|resource| resource.url.as_str()).collect::<Vec<_>>().join(", ");
            let more = match at.len().saturating_sub(MAX_NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let shared = match shown(shared) {
                Cow::Borrowed(_) => "an audience".into(),
                quoted => quoted,
            };
            // Providers of one resource have the same list of it.
            if warned.insert(path.clone()) {
                context.warn(&path, format_args!(
                    "{shared} is accepted at {} resources, so a token for one of them is accepted at each: {named}{more}; give each an audience of its own, in its audiences",
                    at.len(),
                ));
            }
        }
        if let Some((resource, doubt)) = doubted {
            let more = match doubts.saturating_sub(1) {
                0 => String::new(),
                more => format!(" (and so at {more} more resources)"),
            };
            context.warn(&path(resource), format_args!("with {}, {doubt}{more}", provider.name));
        }
    }
}
