//! At which resources a verified token may be used, by its audience (RFC 9068 section 4, RFC 8707 section 2).

use crate::jose::Claims;
use crate::provider::Provider;
use crate::resource::Resource;

/// What the audiences of a token open. A verified token is remembered for all resources, so this is, too: no text is
/// compared again.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// The resources that leave it to the provider which audiences its tokens have.
    common: bool,
    /// Of the resources that say so themselves, those that take it, by their index.
    own: Vec<usize>,
}

impl Admission {
    /// Of a token of that provider.
    pub(crate) fn of(claims: &Claims<'_>, index: usize, provider: &Provider, resources: &[Resource]) -> Self {
        let has = |list: &Vec<String>| list.iter().any(|audience| claims.audiences.contains(&audience.as_str()));
        let list = |resource: &Resource| resource.audiences.get(index).and_then(Option::as_ref).is_some_and(has);
        let own = resources.iter().enumerate().filter(|(_, resource)| list(resource));
        Self { common: has(&provider.audiences), own: own.map(|(at, _)| at).collect() }
    }

    /// Whether the token of that provider may be used at the resource of that index. Where the provider's users have no
    /// business at all, that is what they hear.
    pub(crate) fn is_for(&self, provider: usize, index: usize, resource: &Resource) -> bool {
        match (resource.audiences.get(provider), resource.targets.get(provider)) {
            (Some(Some(_)), _) => self.own.contains(&index),
            (_, Some(Some(_))) => self.common,
            _ => true,
        }
    }
}
