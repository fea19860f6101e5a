//! Identity Assertion JWT Authorization Grant (draft-ietf-oauth-identity-assertion-authz-grant): the provider exchanges
//! the user's token for an assertion (ID-JAG) to the authorization server of the resource, which may be another company's
//! and takes it as a grant (RFC 7523).

use crate::jose::{Claims, Header, Rejection};
use crate::provider::{
    AuthorizationServer, Caller, ClientAuthentication, ExchangeOptions, ExchangeTarget, Parameters, Profile,
    ProfileError, Provider, SubjectInput, SubjectTokenSource, jwt_bearer, rfc8693,
};
use crate::url::Url;

/// The type of what the first request is for.
pub(crate) const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";

/// Any provider that follows the draft.
#[derive(Debug)]
pub(crate) struct IdJag;

impl Profile for IdJag {
    fn name(&self) -> &'static str {
        "id_jag"
    }

    fn check(&self, provider: &Provider) -> Result<(), ProfileError> {
        check(provider)
    }

    fn audience_instead(&self, provider: &Provider, audience: &str) -> Option<&'static str> {
        audience_instead(provider, audience)
    }

    fn exchange_fields(&self) -> &'static [&'static str] {
        FIELDS
    }

    fn target(&self, provider: &Provider, exchange: ExchangeOptions) -> Result<ExchangeTarget, ProfileError> {
        target(provider, exchange, |_| None)
    }

    fn caller(&self, provider: &Provider, header: &Header, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        rfc8693::Rfc8693.caller(provider, header, claims)
    }

    fn id_token_caller(&self, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        rfc8693::Rfc8693.id_token_caller(claims)
    }

    fn parameters<'a>(&self, target: &'a ExchangeTarget, subject: SubjectInput<'a>) -> Parameters<'a> {
        rfc8693::parameters(target, subject)
    }
}

pub(crate) const FIELDS: &[&str] = &["audience", "resource", "scopes", "authorization_server", "parameters"];

/// An ID token is for the very client that exchanges it.
const OF_CLIENT: &str = "the id of the client that exchanges, alone: an ID token of another client is refused there";

pub(crate) fn check(provider: &Provider) -> Result<(), ProfileError> {
    match &provider.subject_token {
        SubjectTokenSource::IdTokenBeside { audiences, .. }
            if !audiences.iter().all(|id| is_of_client(provider, id)) =>
        {
            Err(("subject_token.audiences", "another client".to_owned(), OF_CLIENT))
        }
        _ => Ok(()),
    }
}

pub(crate) fn audience_instead(provider: &Provider, audience: &str) -> Option<&'static str> {
    let is_id_token = matches!(provider.subject_token, SubjectTokenSource::IdToken);
    (is_id_token && !is_of_client(provider, audience)).then_some(OF_CLIENT)
}

fn is_of_client(provider: &Provider, id: &str) -> bool {
    provider.client.as_ref().is_some_and(|client| client.id == id)
}

/// What to ask for; `own_endpoint` gives the token endpoint of an issuer whose own is known from it.
pub(crate) fn target(
    provider: &Provider,
    exchange: ExchangeOptions,
    own_endpoint: impl FnOnce(&Url) -> Option<Url>,
) -> Result<ExchangeTarget, ProfileError> {
    const AUDIENCE: &str = "the issuer of the resource's authorization server, one https URL";
    let [audience] = exchange.audiences.as_slice() else {
        let found = if exchange.audiences.is_empty() { "nothing" } else { "several" };
        return Err((".audience", found.to_owned(), AUDIENCE));
    };
    let issuer = Url::parse(audience).map_err(|problem| (".audience", format!("a text that {problem}"), AUDIENCE))?;
    let server = exchange.authorization_server;
    let token_endpoint = server.token_endpoint.or_else(|| own_endpoint(&issuer)).ok_or_else(|| {
        let expected =
            "a URL: audience is another server than the provider, such as another company's, and its token_endpoint must be set";
        (".authorization_server.token_endpoint", "nothing".to_owned(), expected)
    })?;
    let is_elsewhere = token_endpoint.authority() != provider.issuer.authority();
    if is_elsewhere && server.cluster.is_none() {
        let expected = "a cluster of its own: the token endpoint is on another host than the provider";
        return Err((".authorization_server.cluster", "nothing".to_owned(), expected));
    }
    if server.client.is_none() {
        match provider.client.as_ref().map(|client| &client.authentication) {
            Some(ClientAuthentication::PrivateKeyJwt { audience: None, .. }) => {}
            Some(ClientAuthentication::PrivateKeyJwt { audience: Some(_), .. }) => {
                let expected =
                    "a client of its own, as the provider's has an audience for its assertions: two servers want two";
                return Err((".authorization_server.client", "nothing".to_owned(), expected));
            }
            _ if is_elsewhere => {
                let expected = "a client of its own: the provider's secret is nothing for another host";
                return Err((".authorization_server.client", "nothing".to_owned(), expected));
            }
            _ => {}
        }
    }
    let second = AuthorizationServer { token_endpoint, cluster: server.cluster, client: server.client };
    let first = rfc8693::target(ExchangeOptions { authorization_server: Default::default(), ..exchange })?;
    Ok(ExchangeTarget { requested_token_type: Some(ID_JAG.to_owned()), second: Some(second), ..first })
}

/// The parameters of the second request. What is asked for stands in the assertion: a `scope` beside it is refused.
pub(crate) fn second_parameters(assertion: &str) -> Parameters<'_> {
    vec![("grant_type", jwt_bearer::GRANT.into()), ("assertion", assertion.into())]
}
