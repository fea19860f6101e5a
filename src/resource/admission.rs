//! Admission: the resources at which a verified token may be used, by its audience (RFC 9068 section 4, RFC 8707 section 2).

use std::rc::Rc;

use crate::jose::Claims;
use crate::provider::Provider;
use crate::resource::{Resource, ResourceId};

/// Resources that accept the audiences of a token. It is cached with the verified token, so that audiences are compared once.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// `true` if resources without audiences of their own accept the token.
    common: bool,
    /// Resources that have audiences of their own and accept the token.
    own: Vec<ResourceId>,
}

impl Admission {
    /// Admission of a token of that provider.
    pub(crate) fn of(claims: &Claims<'_>, provider: &Provider, resources: &[Rc<Resource>]) -> Self {
        let has = |list: &[String]| claims.is_for(list);
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
