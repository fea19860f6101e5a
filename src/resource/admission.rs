//! Admission: the resources at which a verified token may be used, by its audience (RFC 9068 section 4, RFC 8707 section 2).

use crate::jose::Claims;
use crate::provider::Provider;
use crate::resource::Resource;

/// Resources that accept the audiences of a token. It is cached with the verified token, so that audiences are compared once.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// `true` if resources without audiences of their own accept the token.
    common: bool,
    /// Indices of the resources that have audiences of their own and accept the token.
    own: Vec<usize>,
}

impl Admission {
    /// Admission of a token of that provider.
    pub(crate) fn of(claims: &Claims<'_>, index: usize, provider: &Provider, resources: &[Resource]) -> Self {
        let has = |list: &Vec<String>| list.iter().any(|audience| claims.audiences.contains(&audience.as_str()));
        let list = |resource: &Resource| resource.audiences.get(index).and_then(Option::as_ref).is_some_and(has);
        let own = resources.iter().enumerate().filter(|(_, resource)| list(resource));
        Self { common: has(&provider.audiences), own: own.map(|(at, _)| at).collect() }
    }

    /// Returns `true` if the token of that provider may be used at the resource with that index, or if users of the provider have no
    /// access: the refusal is `no_exchange` then.
    pub(crate) fn is_for(&self, provider: usize, index: usize, resource: &Resource) -> bool {
        match (resource.audiences.get(provider), resource.targets.get(provider)) {
            (Some(Some(_)), _) => self.own.contains(&index),
            (_, Some(Some(_))) => self.common,
            _ => true,
        }
    }
}
