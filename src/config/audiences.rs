//! Audiences of resources and providers: accepted values of `aud` in callers' tokens.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::config::check::item;
use crate::config::error::Code;
use crate::config::find_placeholders;
use crate::config::findings::Reported;
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

/// Maximum number of resources that a warning names.
const MAX_NAMED: usize = 3;

/// Warns of audiences that several resources accept, so that a token for one of them is accepted at the others (RFC 8707 section 2),
/// and of lists that the profile of the provider doubts. `fields` are those of the resources.
pub(super) fn warn(providers: &[Rc<Provider>], resources: &[Rc<Resource>], fields: &[Fields<'_>]) {
    let Some(context) = fields.first().map(|fields| fields.context) else {
        return;
    };
    // Providers of one resource have the same list of it.
    let mut warned = HashSet::new();
    for provider in providers {
        let lists = lists_of(provider, resources);
        let path_of = |(list, _): &(AcceptedAt<'_>, &[String])| match list {
            AcceptedAt::One(resource) => {
                let fields = usize::try_from(resource.id.0).ok().and_then(|id| fields.get(id));
                fields.map_or_else(String::new, |fields| fields.at("audiences"))
            }
            AcceptedAt::All(_) => format!("identity_providers.{}.audiences", provider.name),
        };
        if let Some((list, shared)) = first_shared(&lists)
            && let path = path_of(list)
            && warned.insert(path.clone())
        {
            let mut at: Vec<&Resource> = lists
                .iter()
                .filter(|(_, list)| list.contains(shared))
                .flat_map(|(at, _)| at.resources())
                .copied()
                .collect();
            at.sort_unstable_by_key(|resource| resource.id);
            let named = at.iter().take(MAX_NAMED).map(|resource| resource.url.as_str()).collect::<Vec<_>>().join(", ");
            let more = match at.len().saturating_sub(MAX_NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let shared = match shown(shared) {
                Cow::Borrowed(_) => "an audience".into(),
                quoted => quoted,
            };
            context.warn(&path, format_args!(
                "{shared} is accepted at {} resources, so a token for one of them is accepted at each: {named}{more}; give each an audience of its own, in its audiences",
                at.len(),
            ));
        }
        let mut doubts =
            lists.iter().filter_map(|list| Some((list, provider.profile.audiences_warning(provider, list.1)?)));
        if let Some((list, doubt)) = doubts.next() {
            let more = match doubts.count() {
                0 => String::new(),
                more => format!(" (and so at {more} more resources)"),
            };
            context.warn(&path_of(list), format_args!("with {}, {doubt}{more}", provider.name));
        }
    }
}

/// Resources with one list of audiences for a provider.
enum AcceptedAt<'a> {
    /// A resource with a list of its own.
    One(&'a Resource),
    /// All resources for which the list of the provider counts.
    All(Vec<&'a Resource>),
}

impl<'a> AcceptedAt<'a> {
    fn resources(&self) -> &[&'a Resource] {
        match self {
            Self::One(resource) => std::slice::from_ref(resource),
            Self::All(resources) => resources,
        }
    }
}

/// Lists of audiences that count for tokens of the provider: first its own, if it counts somewhere.
fn lists_of<'a>(provider: &'a Provider, resources: &'a [Rc<Resource>]) -> Vec<(AcceptedAt<'a>, &'a [String])> {
    let (mut common, mut lists) = (Vec::new(), Vec::new());
    for resource in resources {
        match resource.exchange(provider).map(|exchange| exchange.audiences.as_deref()) {
            Some(Some(own)) => lists.push((AcceptedAt::One(resource), own)),
            Some(None) => common.push(&**resource),
            None => {}
        }
    }
    if !common.is_empty() {
        lists.insert(0, (AcceptedAt::All(common), provider.audiences.as_slice()));
    }
    lists
}

/// First audience that is accepted at several resources, with the first list that has it.
fn first_shared<'l, 'a>(
    lists: &'l [(AcceptedAt<'a>, &'a [String])],
) -> Option<(&'l (AcceptedAt<'a>, &'a [String]), &'a String)> {
    let mut first = HashMap::new();
    for (position, list) in lists.iter().enumerate() {
        for audience in list.1 {
            if matches!(&list.0, AcceptedAt::All(resources) if resources.len() > 1) {
                return Some((list, audience));
            }
            let known = *first.entry(audience).or_insert(position);
            if known != position {
                return lists.get(known).map(|list| (list, audience));
            }
        }
    }
    None
}
