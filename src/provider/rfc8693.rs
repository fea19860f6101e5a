//! Profile `rfc8693`: any provider that follows the standards, with token exchange (RFC 8693).

use crate::provider::{
    ExchangeOptions, Grant, KnownError, Profile, ProfileError, RequestedTokenType, TokenExchangeTarget, keycloak_errors,
};

/// Profile without deviations.
#[derive(Debug)]
pub(super) struct Rfc8693;

impl Profile for Rfc8693 {
    fn name(&self) -> &'static str {
        "rfc8693"
    }

    /// Returns the errors of Keycloak, whose words no other provider uses.
    fn known_errors(&self) -> &'static [KnownError] {
        keycloak_errors::KNOWN_ERRORS
    }
}

/// Builds the target of a token exchange. Fails without an audience, resource or scope.
pub(super) fn target(mut options: ExchangeOptions) -> Result<TokenExchangeTarget, ProfileError> {
    let requested_token_type = options.requested_token_type.take();
    let grant = Grant::TokenExchange {
        requested_token_type: requested_token_type.as_deref().map(RequestedTokenType::parse).transpose()?,
        actor_token: options.actor.take(),
    };
    let target = options.into_target(grant)?;
    if target.audiences.is_empty() && target.resources.is_empty() && target.scope.is_none() {
        return Err(ProfileError::new(
            "",
            "none of audience, resource and scopes",
            "an audience, a resource or scopes",
        ));
    }
    Ok(target)
}
