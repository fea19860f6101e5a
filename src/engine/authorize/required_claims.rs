//! Required claims: claims that the operator requires of a provider's tokens.

use crate::cache::verified_tokens::VerifiedToken;
use crate::refusal::{Reason, Refusal};
use crate::telemetry::{Detail, Fact};

/// Refuses a token that lacks a claim. The log has the name of the claim, and not its value.
pub(super) fn check(caller: &VerifiedToken) -> Result<(), Refusal> {
    match &caller.missing_claim {
        Some(name) => {
            let detail = Detail::new().with(Fact::Missing, name.to_string());
            Err(Refusal::detailed(Reason::RequiredClaimMissing, detail))
        }
        None => Ok(()),
    }
}
