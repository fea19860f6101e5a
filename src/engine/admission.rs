//! At which resources a verified token may be used, by its audience (RFC 9068 section 4, RFC 8707 section 2).

use crate::config::{Config, Resource};
use crate::token::Claims;

/// What the audiences of a token open. A verified token is remembered for all resources, so this is, too: no text is
/// compared again.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// The resources that leave it to the provider which audiences its tokens have.
    common: bool,
    /// Of the resources that say so themselves, those that take it, by their index.
    own: Vec<usize>,
}

impl Admission {
    /// Of a token of that provider.
    pub(super) fn of(claims: &Claims<'_>, config: &Config, provider: usize) -> Self {
        let has = |list: &Vec<String>| list.iter().any(|audience| claims.audiences.contains(&audience.as_str()));
        let list = |resource: &Resource| resource.audiences.get(provider).and_then(Option::as_ref).is_some_and(has);
        let own = config.resources.iter().enumerate().filter(|(_, resource)| list(resource));
        Self {
            common: config.providers.get(provider).is_some_and(|provider| has(&provider.audiences)),
            own: own.map(|(index, _)| index).collect(),
        }
    }

    /// Whether the token of that provider may be used at the resource of that index. Where the provider's users have no
    /// business at all, that is what they hear.
    pub(super) fn is_for(&self, provider: usize, index: usize, resource: &Resource) -> bool {
        match (resource.audiences.get(provider), resource.targets.get(provider)) {
            (Some(Some(_)), _) => self.own.contains(&index),
            (_, Some(Some(_))) => self.common,
            _ => true,
        }
    }
}
