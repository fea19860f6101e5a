//! Profile `id_jag`: Identity Assertion JWT Authorization Grant (draft-ietf-oauth-identity-assertion-authz-grant).
//!
//! The provider exchanges the user's token for an ID-JAG (the ID-JAG request). The resource authorization server, which
//! may belong to another company, issues the upstream's token for it (the access token request, RFC 7523).

use std::rc::Rc;

use crate::provider::{
    AuthorizationServer, AuthorizationServerOptions, ClientAuthentication, ExchangeOptions, Grant, Profile,
    ProfileError, Provider, ProviderOptions, SubjectTokenSource, TokenExchangeTarget,
};
use crate::url::Url;

/// Any provider that follows the draft.
#[derive(Debug)]
pub(super) struct IdJag;

impl Profile for IdJag {
    fn name(&self) -> &'static str {
        "id_jag"
    }

    fn check(&self, options: &ProviderOptions<'_>) -> Result<(), ProfileError> {
        check(options)
    }

    fn expected_audience(&self, provider: &Provider, audience: &str) -> Option<&'static str> {
        expected_audience(provider, audience)
    }

    fn exchange_fields(&self) -> &'static [&'static str] {
        EXCHANGE_FIELDS
    }

    fn target(&self, provider: &Provider, options: ExchangeOptions) -> Result<TokenExchangeTarget, ProfileError> {
        target(provider, options, |_| None)
    }
}

pub(super) const EXCHANGE_FIELDS: &[&str] = &["audience", "resource", "scopes", "authorization_server", "parameters"];

/// Expected audience of an ID token: the provider issues an ID-JAG only to the client that the ID token is for.
const CLIENT_ID: &str = "client.id alone: the provider refuses an ID token of another client";

/// Checks the audiences of an ID token that callers send besides the access token.
pub(super) fn check(options: &ProviderOptions<'_>) -> Result<(), ProfileError> {
    match options.subject_token {
        SubjectTokenSource::IdTokenBeside { audiences, .. }
            if !audiences.iter().all(|audience| options.client_id == Some(audience)) =>
        {
            Err(ProfileError::new("subject_token.audiences", "another client", CLIENT_ID))
        }
        _ => Ok(()),
    }
}

/// Returns the expected audience, if callers send ID tokens and `audience` is not the client's id.
pub(super) fn expected_audience(provider: &Provider, audience: &str) -> Option<&'static str> {
    let is_id_token = matches!(provider.subject_token, SubjectTokenSource::IdToken);
    let is_of_client = || provider.client.as_ref().is_some_and(|client| client.id == audience);
    (is_id_token && !is_of_client()).then_some(CLIENT_ID)
}

/// Builds the target. `known_endpoint` returns the token endpoint of an issuer, if it follows from the issuer.
pub(super) fn target(
    provider: &Provider,
    mut options: ExchangeOptions,
    known_endpoint: impl FnOnce(&Url) -> Option<Url>,
) -> Result<TokenExchangeTarget, ProfileError> {
    const AUDIENCE: &str = "the issuer of the resource's authorization server, one https URL";
    let issuer = Url::parse(options.one_audience(AUDIENCE)?)
        .map_err(|problem| ProfileError::new("audience", format!("a text that {problem}"), AUDIENCE))?;
    let AuthorizationServerOptions { token_endpoint, cluster, client } =
        std::mem::take(&mut options.authorization_server);
    let token_endpoint = token_endpoint.or_else(|| known_endpoint(&issuer)).ok_or_else(|| {
        let expected = "a URL: the token endpoint of this audience does not follow from its issuer";
        ProfileError::new("authorization_server.token_endpoint", "nothing", expected)
    })?;
    let is_other_host = !provider.issuer.is_host_of(&token_endpoint);
    if is_other_host && cluster.is_none() {
        let expected = "a cluster: the token endpoint is on another host than the provider";
        return Err(ProfileError::new("authorization_server.cluster", "nothing", expected));
    }
    if client.is_none() {
        check_shared_client(&options.client.authentication, is_other_host)?;
    }
    let server = AuthorizationServer {
        token_endpoint,
        cluster: cluster.unwrap_or_else(|| provider.cluster.clone()),
        client: client.map_or_else(|| options.client.clone(), Rc::new),
    };
    options.into_target(Grant::IdJag(server))
}

/// Checks that the provider's client can authenticate at the resource authorization server as well: a secret must not
/// reach another host, and an assertion has the audience of one server.
fn check_shared_client(authentication: &ClientAuthentication, is_other_host: bool) -> Result<(), ProfileError> {
    let expected = match authentication {
        ClientAuthentication::PrivateKeyJwt { audience: None, .. } => return Ok(()),
        ClientAuthentication::PrivateKeyJwt { audience: Some(_), .. } => {
            "a client: client.authentication.audience of the provider is for assertions to the provider only"
        }
        _ if is_other_host => "a client: the provider's client secret must not be sent to another host",
        _ => return Ok(()),
    };
    Err(ProfileError::new("authorization_server.client", "nothing", expected))
}
