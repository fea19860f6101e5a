//! Scopes (RFC 6750 section 3.1): the caller's token must have each scope of the resource.

use crate::cache::verified_tokens::VerifiedToken;
use crate::refusal::{Reason, Refusal};
use crate::resource::Resource;

/// Refuses a token that lacks a scope.
pub(super) fn check(resource: &Resource, caller: &VerifiedToken) -> Result<(), Refusal> {
    let is_granted = |scope: &String| caller.scopes.iter().any(|granted| **granted == **scope);
    match resource.scopes.iter().find(|scope| !is_granted(scope)) {
        Some(missing) => Err(Refusal::because(Reason::InsufficientScope, format!("missing={missing:?}"))),
        None => Ok(()),
    }
}
