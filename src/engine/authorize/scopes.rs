//! Scopes (RFC 6750 section 3.1): the caller's token must have each scope of the resource.

use crate::cache::verified_tokens::VerifiedToken;
use crate::refusal::{Reason, Refusal};
use crate::resource::Resource;
use crate::telemetry::{Detail, Fact};

/// Refuses a token that lacks a scope.
pub(super) fn check(resource: &Resource, caller: &VerifiedToken) -> Result<(), Refusal> {
    let is_granted = |scope: &String| caller.scopes.iter().any(|granted| **granted == **scope);
    match resource.scopes.iter().find(|scope| !is_granted(scope)) {
        Some(missing) => {
            let detail = Detail::new().with(Fact::Missing, missing.clone());
            Err(Refusal::detailed(Reason::InsufficientScope, detail))
        }
        None => Ok(()),
    }
}
