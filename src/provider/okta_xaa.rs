//! Okta: Cross App Access, the exchange for AI agents. The org authorization server issues an ID-JAG to the authorization
//! server of the resource: a custom one of the same org, or another company's.

use crate::jose::{Claims, Header, Rejection};
use crate::json::Object;
use crate::provider::okta::{self, OktaObo};
use crate::provider::{
    Caller, ErrorClass, ExchangeOptions, ExchangeTarget, IssuerMatch, KnownError, Parameters, Profile, ProfileError,
    Provider, SubjectInput, id_jag, rfc8693,
};
use crate::url::Url;

#[derive(Debug)]
pub(crate) struct OktaXaa;

impl Profile for OktaXaa {
    fn name(&self) -> &'static str {
        "okta_xaa"
    }

    fn check(&self, provider: &Provider) -> Result<(), ProfileError> {
        OktaObo.check(provider)?;
        if provider.token_endpoint.as_ref().is_some_and(|endpoint| endpoint.path() != ORG_TOKEN_PATH) {
            let expected =
                "none, or that of the org server, https://{domain}/oauth2/v1/token: only that issues an ID-JAG";
            return Err(("token_endpoint", "another one".to_owned(), expected));
        }
        id_jag::check(provider)
    }

    fn audience_instead(&self, provider: &Provider, audience: &str) -> Option<&'static str> {
        id_jag::audience_instead(provider, audience)
    }

    fn exchange_fields(&self) -> &'static [&'static str] {
        id_jag::FIELDS
    }

    fn target(&self, provider: &Provider, exchange: ExchangeOptions) -> Result<ExchangeTarget, ProfileError> {
        okta::check_scopes(&exchange.scopes)?;
        if exchange.scopes.is_empty() {
            let expected = "at least one scope of the resource: the second request is refused without (id_jag_scopes)";
            return Err((".scopes", "none".to_owned(), expected));
        }
        let is_here = |issuer: &Url| issuer.authority() == provider.issuer.authority();
        let issuers = exchange.audiences.iter().filter_map(|audience| Url::parse(audience).ok());
        if issuers.into_iter().any(|issuer| is_here(&issuer) && !okta::is_custom_server(&issuer)) {
            let expected = "the issuer of a custom authorization server (…/oauth2/{id}), or of another company's";
            return Err((".audience", "no custom authorization server".to_owned(), expected));
        }
        id_jag::target(provider, exchange, |issuer| {
            Url::parse(&format!("{}/v1/token", issuer.as_str())).ok().filter(|_| is_here(issuer))
        })
    }

    fn match_issuer<'a>(&self, provider: &'a Provider, issuer: &str, claims: &Object<'_>) -> IssuerMatch<'a> {
        OktaObo.match_issuer(provider, issuer, claims)
    }

    fn caller(&self, provider: &Provider, header: &Header, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        OktaObo.caller(provider, header, claims)
    }

    fn id_token_caller(&self, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        OktaObo.id_token_caller(claims)
    }

    fn wrong_audience(&self, provider: &Provider, audiences: &[String], claims: &Claims<'_>) -> &'static str {
        OktaObo.wrong_audience(provider, audiences, claims)
    }

    /// The org server's, whichever server of the org the token comes from.
    fn token_endpoint(&self, provider: &Provider, endpoint: &Url, _tenant: Option<&str>) -> Option<Url> {
        if provider.token_endpoint.is_some() || okta::is_org_server(&provider.issuer) {
            return Some(endpoint.clone());
        }
        let issuer = &provider.issuer;
        Url::parse(&format!("{}://{}{ORG_TOKEN_PATH}", issuer.scheme(), issuer.authority())).ok()
    }

    fn is_id_token(&self, claims: &Object<'_>) -> bool {
        OktaObo.is_id_token(claims)
    }

    fn parameters<'a>(&self, target: &'a ExchangeTarget, subject: SubjectInput<'a>) -> Parameters<'a> {
        rfc8693::parameters(target, subject)
    }

    fn blame(&self, status: u16, error: &str, suberror: Option<&str>) -> Option<ErrorClass> {
        OktaObo.blame(status, error, suberror)
    }

    fn failures(&self) -> &'static [KnownError] {
        OktaObo.failures()
    }

    fn trace_fields(&self) -> &'static [&'static str] {
        OktaObo.trace_fields()
    }
}

/// Where the org server issues tokens.
const ORG_TOKEN_PATH: &str = "/oauth2/v1/token";
