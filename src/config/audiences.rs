use std::rc::Rc;

use crate::config::provider::{AUDIENCES, audiences};
use crate::config::reader::Fields;
use crate::config::{ConfigError, find_placeholders};
use crate::provider::Provider;
use crate::resource::Resource;

/// Accepted audiences of one resource, by the position of the provider. `None`: the provider's own list counts.
pub(super) type AudienceLists = Vec<Option<Vec<String>>>;

/// The lists of each resource. Every provider gets to know what its tokens may be for at any of them.
pub(super) fn read(
    resources: &[Fields<'_>],
    providers: &mut [Provider],
    warnings: &mut Vec<String>,
) -> Result<Vec<AudienceLists>, ConfigError> {
    let mut all = Vec::with_capacity(resources.len());
    for fields in resources {
        let own = audiences(fields)?;
        find_placeholders(&fields.at("audiences"), &own, warnings);
        all.push(lists(fields, &own, providers)?);
    }
    for (index, provider) in providers.iter_mut().enumerate() {
        let (mut is_of_use, mut lacking) = (false, None);
        for (fields, lists) in resources.iter().zip(&all) {
            if !exchanges(fields, provider) {
                continue;
            }
            is_of_use = true;
            match lists.get(index).and_then(Option::as_ref) {
                None => lacking = lacking.or(Some(fields)),
                Some(own) => {
                    for audience in own {
                        if !provider.every_audience.contains(audience) {
                            provider.every_audience.push(audience.clone());
                        }
                    }
                }
            }
        }
        if provider.audiences.is_empty() && (lacking.is_some() || !is_of_use) {
            let path = format!("identity_providers.{}.audiences", provider.name);
            let mut expected = AUDIENCES.to_owned();
            if !is_of_use {
                expected += ", or a resource with such a list whose exchange names it: there is none";
            }
            if let Some(fields) = lacking {
                expected += ", or such a list in each resource that exchanges for it, which is missing in ";
                expected += fields.path();
            }
            return Err(ConfigError::new(path, "none", expected));
        }
    }
    Ok(all)
}

/// The lists of one resource. An audience that the tokens of one of its providers cannot have is the other's alone.
fn lists(fields: &Fields<'_>, own: &[String], providers: &[Provider]) -> Result<AudienceLists, ConfigError> {
    let instead = |provider: &Provider, audience: &String| provider.profile.expected_audience(provider, audience);
    let is_asked = |provider: &Provider| !own.is_empty() && exchanges(fields, provider);
    let mut lists = AudienceLists::with_capacity(providers.len());
    for provider in providers {
        let mut list = own.to_vec();
        list.retain(|audience| instead(provider, audience).is_none());
        lists.push(is_asked(provider).then_some(list));
    }
    for (index, audience) in own.iter().enumerate() {
        let mut asked = providers.iter().filter(|provider| is_asked(provider));
        if !lists.iter().flatten().any(|list| list.contains(audience))
            && let Some(expected) = asked.find_map(|provider| instead(provider, audience))
        {
            return Err(ConfigError::new(fields.at(&format!("audiences[{index}]")), format!("{audience:?}"), expected));
        }
    }
    for (provider, list) in providers.iter().zip(&lists) {
        if list.as_ref().is_some_and(Vec::is_empty)
            && let Some(expected) = own.iter().find_map(|audience| instead(provider, audience))
        {
            let found = format!("none that tokens of {} could have", provider.name);
            return Err(ConfigError::new(fields.at("audiences"), found, expected));
        }
    }
    Ok(lists)
}

fn exchanges(fields: &Fields<'_>, provider: &Provider) -> bool {
    // Whatever else may be wrong with it is found when it is read.
    fields.any_object("exchange").ok().flatten().is_some_and(|members| members.get(&provider.name).is_some())
}

/// Warns of resources that take tokens for others because nobody said which are theirs (RFC 8707 section 2).
pub(super) fn warn(providers: &[Rc<Provider>], resources: &[Rc<Resource>], warnings: &mut Vec<String>) {
    for provider in providers {
        let (mut sharing, mut without) = (Vec::new(), Vec::new());
        for resource in resources {
            let Some(exchange) = resource.exchange(provider) else {
                continue;
            };
            let own = exchange.audiences.as_ref();
            if own.is_none() {
                without.push(resource.url.as_str());
            }
            if own.is_none_or(|own| own.iter().any(|audience| provider.audiences.contains(audience))) {
                sharing.push(resource.url.as_str());
            }
        }
        if sharing.len() > 1 && !without.is_empty() {
            warnings.push(format!(
                "identity_providers.{}.audiences: they hold for {}, so a token that was meant for one of {} is accepted there, too: whoever holds it, a client or another server, can use it for what its user did not mean it for; write audiences into each of these resources",
                provider.name,
                without.join(", "),
                sharing.join(", "),
            ));
        }
    }
}
