//! Profile `jwt_bearer`: a provider that takes the caller's token as a JWT authorization grant (RFC 7523 section 2.1).
//! The RFC has no parameter for the upstream, so the operator chooses among audience, resource, scopes and parameters.

use crate::provider::{ExchangeOptions, Grant, Profile, ProfileError, Provider, TokenExchangeTarget};

/// Any provider that follows RFC 7523.
#[derive(Debug)]
pub(super) struct JwtBearer;

impl Profile for JwtBearer {
    fn name(&self) -> &'static str {
        "jwt_bearer"
    }

    fn exchange_fields(&self) -> &'static [&'static str] {
        &["audience", "resource", "scopes", "parameters"]
    }

    fn target(&self, _provider: &Provider, options: ExchangeOptions) -> Result<TokenExchangeTarget, ProfileError> {
        let target = options.into_target(Grant::JwtBearer { claims: None })?;
        let TokenExchangeTarget { audiences, resources, scope, parameters, .. } = &target;
        if audiences.is_empty() && resources.is_empty() && scope.is_none() && parameters.is_empty() {
            let found = "none of audience, resource, scopes and parameters";
            return Err(ProfileError::new("", found, "an audience, a resource, scopes or parameters"));
        }
        Ok(target)
    }
}
