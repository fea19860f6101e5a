//! Cross App Access of Okta, the exchange for AI agents: the deviations from `id_jag`.
//!
//! The org authorization server issues the ID-JAG. The resource authorization server is a custom authorization server of
//! the same org, or one of another company.

use crate::provider::okta_servers::{is_custom_server, is_org_server};
use crate::provider::{ExchangeOptions, ProfileError, Provider, ProviderOptions, TokenExchangeTarget, id_jag};
use crate::url::Url;

/// Path of the token endpoint of an org authorization server.
const ORG_TOKEN_PATH: &str = "/oauth2/v1/token";

/// Checks that a configured token endpoint is that of the org authorization server.
pub(super) fn check(options: &ProviderOptions<'_>) -> Result<(), ProfileError> {
    if options.token_endpoint.is_some_and(|endpoint| endpoint.path() != ORG_TOKEN_PATH) {
        let expected =
            "nothing, or https://{domain}/oauth2/v1/token: only the org authorization server issues an ID-JAG";
        return Err(ProfileError::new("token_endpoint", "another endpoint", expected));
    }
    id_jag::check(options)
}

/// Builds the target. The token endpoint of an authorization server of the same org follows from its issuer.
pub(super) fn target(provider: &Provider, options: ExchangeOptions) -> Result<TokenExchangeTarget, ProfileError> {
    if options.scopes.is_empty() {
        let expected =
            "at least one scope of the resource: Okta refuses the access token request without (id_jag_scopes)";
        return Err(ProfileError::new("scopes", "nothing", expected));
    }
    let is_same_org = |issuer: &Url| provider.issuer.is_host_of(issuer);
    let mut issuers = options.audiences.iter().filter_map(|audience| Url::parse(audience).ok());
    if issuers.any(|issuer| is_same_org(&issuer) && !is_custom_server(&issuer)) {
        let expected =
            "the issuer of a custom authorization server (https://{domain}/oauth2/{id}), or of another company's";
        return Err(ProfileError::new("audience", "the org authorization server", expected));
    }
    id_jag::target(provider, options, |issuer| {
        Url::parse(&format!("{}/v1/token", issuer.as_str())).ok().filter(|_| is_same_org(issuer))
    })
}

/// Returns the token endpoint of the org authorization server. `endpoint` is configured, or discovered for the issuer,
/// which may be a custom authorization server.
pub(super) fn token_endpoint(provider: &Provider, endpoint: &Url) -> Option<Url> {
    let issuer = provider.issuer.url()?;
    if provider.token_endpoint.is_some() || is_org_server(issuer) {
        return Some(endpoint.clone());
    }
    Url::parse(&format!("{}://{}{ORG_TOKEN_PATH}", issuer.scheme(), issuer.authority())).ok()
}
