//! At which resources a verified token may be used, by its audience (RFC 9068 section 4, RFC 8707 section 2).

use std::rc::Rc;

use crate::jose::Claims;
use crate::provider::Provider;
use crate::resource::{Resource, ResourceId};

/// What the audiences of a token open. A verified token is remembered for all resources, so this is, too: no text is
/// compared again.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// The resources that leave it to the provider which audiences its tokens have.
    common: bool,
    /// Of the resources that say so themselves, those that take it, by their index.
    own: Vec<ResourceId>,
}

impl Admission {
    /// Of a token of that provider.
    pub(crate) fn of(claims: &Claims<'_>, provider: &Provider, resources: &[Rc<Resource>]) -> Self {
        let has = |list: &[String]| list.iter().any(|audience| claims.audiences.contains(&audience.as_str()));
        let is_own = |resource: &&Rc<Resource>| {
            resource.exchange(provider).and_then(|exchange| exchange.audiences.as_deref()).is_some_and(has)
        };
        Self {
            common: has(&provider.audiences),
            own: resources.iter().filter(is_own).map(|resource| resource.id).collect(),
        }
    }

    /// Returns `true` if the token of that provider may be used at that resource. A user whom the resource does not serve is
    /// refused for that reason, later.
    pub(crate) fn is_for(&self, provider: &Provider, resource: &Resource) -> bool {
        match resource.exchange(provider) {
            Some(exchange) if exchange.audiences.is_some() => self.own.contains(&resource.id),
            Some(_) => self.common,
            None => true,
        }
    }
}
