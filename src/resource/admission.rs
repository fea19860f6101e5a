//! Admission: the resources at which a verified token may be used, by its audience (RFC 9068 section 4, RFC 8707 section 2).

use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::jose::Claims;
use crate::provider::{Provider, ProviderId};
use crate::resource::{Resource, ResourceId};

/// Resources by the audiences of their own. A look-up does not depend on the number of other resources.
#[derive(Debug, Default)]
pub struct AudienceIndex(FxHashMap<Box<str>, Vec<(ProviderId, ResourceId)>>);

impl AudienceIndex {
    /// Index of those resources.
    pub(crate) fn of(resources: &[Rc<Resource>]) -> Self {
        let mut index = Self::default();
        for resource in resources {
            for exchange in &resource.exchanges {
                for audience in exchange.audiences.iter().flatten() {
                    let at = index.0.entry(audience.as_str().into()).or_default();
                    at.push((exchange.provider.id, resource.id));
                }
            }
        }
        index
    }

    /// Resources that accept one of these audiences in tokens of that provider, in order of their identities.
    fn accepting(&self, audiences: &[&str], provider: &Provider) -> Vec<ResourceId> {
        let at = audiences.iter().filter_map(|audience| self.0.get(*audience)).flatten();
        let mut resources: Vec<_> = at.filter(|(of, _)| *of == provider.id).map(|(_, resource)| *resource).collect();
        resources.sort_unstable();
        resources.dedup();
        resources
    }
}

/// Resources that accept the audiences of a token. It is cached with the verified token, so that audiences are compared once.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// `true` if resources without audiences of their own accept the token.
    common: bool,
    /// Resources that have audiences of their own and accept the token, in order of their identities.
    own: Vec<ResourceId>,
}

impl Admission {
    /// Admission of a token of that provider.
    pub(crate) fn of(claims: &Claims<'_>, provider: &Provider, index: &AudienceIndex) -> Self {
        let mut own = index.accepting(&claims.audiences, provider);
        if let Some(further) = &claims.further_audiences {
            let accepting = index.accepting(further, provider);
            own.retain(|resource| accepting.binary_search(resource).is_ok());
        }
        Self { common: claims.is_for(&provider.audiences), own }
    }

    /// Returns `true` if the token of that provider may be used at that resource. A user whom the resource does not serve is
    /// refused for that reason, later.
    pub(crate) fn is_for(&self, provider: &Provider, resource: &Resource) -> bool {
        match resource.exchange(provider) {
            Some(exchange) if exchange.audiences.is_some() => self.own.binary_search(&resource.id).is_ok(),
            Some(_) => self.common,
            None => true,
        }
    }
}
