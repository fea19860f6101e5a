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
    // Providers of one resource have the same list of it.
    let mut warned: HashSet<String> = HashSet::new();
    for provider in providers {
        let lists = ListsOf { provider, fields, resources: of_provider(provider, resources) };
        if let Some((path, text)) = lists.shared()
            && warned.insert(path.clone())
        {
            context.warn(&path, format_args!("{text}"));
        }
        if let Some((path, text)) = lists.doubted() {
            context.warn(&path, format_args!("{text}"));
        }
    }
}

/// Resources whose users a provider has, each with its own list of audiences, if it has one.
type Lists<'a> = Vec<(&'a Rc<Resource>, Option<&'a Vec<String>>)>;

fn of_provider<'a>(provider: &Provider, resources: &'a [Rc<Resource>]) -> Lists<'a> {
    let of = |resource: &'a Rc<Resource>| Some((resource, resource.exchange(provider)?.audiences.as_ref()));
    resources.iter().filter_map(of).collect()
}

/// Lists of audiences that hold for the users of one provider.
struct ListsOf<'a> {
    provider: &'a Provider,
    fields: &'a [Fields<'a>],
    resources: Lists<'a>,
}

impl ListsOf<'_> {
    /// Path of the list of a resource.
    fn path(&self, resource: &Resource, own: Option<&Vec<String>>) -> String {
        let fields = usize::try_from(resource.id.0).ok().and_then(|id| self.fields.get(id)).filter(|_| own.is_some());
        match fields {
            Some(fields) => fields.at("audiences"),
            None => format!("identity_providers.{}.audiences", self.provider.name),
        }
    }

    /// Warning about the first audience that several resources accept, with the path of a list that has it.
    fn shared(&self) -> Option<(String, String)> {
        let mut first: FxHashMap<&str, ResourceId> = FxHashMap::default();
        let mut lists =
            self.resources.iter().map(|(resource, own)| (resource, own.unwrap_or(&self.provider.audiences)));
        let shared = lists.find_map(|(resource, list)| {
            list.iter().find(|audience| *first.entry(audience).or_insert(resource.id) != resource.id)
        })?;
        let accepts = |own: &Option<&Vec<String>>| own.unwrap_or(&self.provider.audiences).contains(shared);
        let at: Vec<_> = self.resources.iter().filter(|(_, own)| accepts(own)).collect();
        let (resource, own) = at.iter().find(|(_, own)| own.is_none()).or_else(|| at.first())?;
        let named: Vec<_> = at.iter().take(MAX_NAMED).map(|(resource, _)| resource.url.as_str()).collect();
        let more = match at.len().saturating_sub(MAX_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let shared = match shown(shared) {
            Cow::Borrowed(_) => "an audience".into(),
            quoted => quoted,
        };
        let text = format!(
            "{shared} is accepted at {} resources, so a token for one of them is accepted at each: {}{more}; give each an audience of its own, in its audiences",
            at.len(),
            named.join(", "),
        );
        Some((self.path(resource, *own), text))
    }

    /// Warning about the first list that the profile doubts, with its path.
    fn doubted(&self) -> Option<(String, String)> {
        // The list of the provider is one list, whatever the number of resources without their own.
        let common = self.resources.iter().find(|(_, own)| own.is_none());
        let lists = self.resources.iter().filter(|(_, own)| own.is_some()).chain(common);
        let doubt = |own: &Option<&Vec<String>>| {
            let list = own.unwrap_or(&self.provider.audiences);
            self.provider.profile.audiences_warning(self.provider, list)
        };
        let mut doubted = lists.filter_map(|(resource, own)| Some((resource, own, doubt(own)?)));
        let (resource, own, doubt) = doubted.next()?;
        let more = match doubted.count() {
            0 => String::new(),
            more => format!(" (and so at {more} more resources)"),
        };
        Some((self.path(resource, *own), format!("with {}, {doubt}{more}", self.provider.name)))
    }
}
