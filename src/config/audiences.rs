//! Audiences of resources and providers: accepted values of `aud` in callers' tokens.

use std::collections::HashSet;
use std::rc::Rc;

use crate::config::check::item;
use crate::config::error::Code;
use crate::config::find_placeholders;
use crate::config::findings::{Context, Reported};
use crate::config::options::AUDIENCES;
use crate::config::provider::Providers;
use crate::config::reader::Fields;
use crate::provider::Provider;
use crate::resource::Resource;
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

/// Warns of resources that accept tokens for other resources because they have no `audiences` (RFC 8707 section 2).
pub(super) fn warn(providers: &[Rc<Provider>], resources: &[Rc<Resource>], context: &Context<'_>) {
    for provider in providers {
        let (mut sharing, mut without) = (Vec::new(), Vec::new());
        let common: HashSet<&String> = provider.audiences.iter().collect();
        for resource in resources {
            let Some(exchange) = resource.exchange(provider) else {
                continue;
            };
            let own = exchange.audiences.as_ref();
            if own.is_none() {
                without.push(resource.url.as_str());
            }
            if own.is_none_or(|own| own.iter().any(|audience| common.contains(audience))) {
                sharing.push(resource.url.as_str());
            }
        }
        if sharing.len() > 1 && !without.is_empty() {
            context.warn(&format!("identity_providers.{}.audiences", provider.name), format_args!(
                "they hold for {}, so a token that was meant for one of {} is accepted there, too; set audiences in each of these resources",
                without.join(", "),
                sharing.join(", "),
            ));
        }
    }
}
