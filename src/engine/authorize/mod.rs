//! Authorization: whether the caller may use the resource. The order is audience, sender constraint, provider, required
//! claims, scopes. [`delegation`] follows where a token is exchanged.

pub(super) mod delegation;
mod required_claims;
mod scopes;
mod sender_constraint;

use std::rc::Rc;

use crate::cache::verified_tokens::VerifiedToken;
use crate::engine::authenticate::{FOR_ANOTHER_RESOURCE, rejected};
use crate::engine::context::{RequestContext, Stop};
use crate::engine::credentials::Credential;
use crate::engine::state::TokenRole;
use crate::jose::TokenError;
use crate::refusal::{Reason, Refusal};
use crate::resource::{Resource, ResourceExchange};
use crate::telemetry::Detail;
use sender_constraint::UnusedProof;

/// Authorizes the caller. The result is the exchange for users of the caller's provider, and the DPoP proof of the request,
/// which is still to be used.
pub(super) fn authorize<'c>(
    ctx: &RequestContext<'_>,
    resource: &Resource,
    credential: &Credential<'_>,
    caller: &'c VerifiedToken,
) -> Result<(Rc<ResourceExchange>, Option<UnusedProof<'c>>), Stop> {
    // The cache of verified tokens is one for all resources.
    if !caller.admission.is_for(&caller.provider, resource) {
        let rejection = TokenError::Audience.because(FOR_ANOTHER_RESOURCE);
        return Err(rejected(TokenRole::Credential, &rejection, Detail::new()));
    }
    let proof = sender_constraint::check(ctx, resource, credential, caller)?;
    let exchange = resource.exchange(&caller.provider).ok_or(Refusal::new(Reason::NoExchange))?;
    required_claims::check(caller)?;
    scopes::check(resource, caller)?;
    Ok((exchange.clone(), proof))
}
