//! Okta: on-behalf-of token exchange (RFC 8693) at a custom authorization server.

use super::{Blame, Caller, Mistake, Profile, RawExchange, Recognition, Subject, Target, rfc8693};
use crate::config::{Provider, SubjectToken};
use crate::http::Url;
use crate::json::Object;
use crate::token::{Claims, Header, Rejection, TokenError};

#[derive(Debug)]
pub(super) struct OktaObo;

impl Profile for OktaObo {
    fn name(&self) -> &'static str {
        "okta_obo"
    }

    /// The keys by which an org authorization server signs access tokens are not published: no proxy can validate them.
    fn check(&self, provider: &Provider) -> Result<(), Mistake> {
        if is_org_server(&provider.issuer) && !matches!(provider.subject_token, SubjectToken::IdToken) {
            let expected = "the issuer of a custom authorization server (…/oauth2/default), or subject_token of type id_token without header and cookie: nobody but Okta can validate access tokens of the org server";
            return Err(("issuer", "the org authorization server".to_owned(), expected));
        }
        let path = provider.issuer.path();
        let is_custom = path.strip_prefix("/oauth2/").is_some_and(|id| !id.is_empty() && !id.contains('/'));
        if !is_custom && !path.is_empty() {
            let expected = "https://{domain}/oauth2/{id of the authorization server}, or https://{domain} for the org server, without anything behind it";
            return Err(("issuer", format!("{:?}", provider.issuer.as_str()), expected));
        }
        let label = provider.issuer.authority().split('.').next().unwrap_or_default();
        if is_okta(&provider.issuer) && label.ends_with("-admin") {
            let expected = "the org's own host, not that of its admin console";
            return Err(("issuer", format!("{:?}", provider.issuer.as_str()), expected));
        }
        Ok(())
    }

    fn recognise<'a>(&self, provider: &'a Provider, issuer: &str, claims: &Object<'_>) -> Recognition<'a> {
        let own = &provider.issuer;
        let exact = super::exactly(provider, issuer);
        if matches!(exact, Recognition::Foreign)
            && let Ok(other) = Url::parse(issuer)
        {
            if other.authority() == own.authority() && is_org_server(&other) && claims.has("cid") {
                return Recognition::Almost(TokenError::Issuer.because(
                    "an access token of the org authorization server, which nobody but Okta can validate: have the client ask the custom authorization server that is configured",
                ));
            }
            if other.authority() == own.authority() && !is_org_server(&other) && other.path() != own.path() {
                return Recognition::Almost(TokenError::Issuer.because(
                    "a token of another authorization server of the same org: have the client ask the one that is configured, or add this one as a provider",
                ));
            }
            if other.authority() != own.authority() && other.path() == own.path() && is_okta(&other) {
                return Recognition::Almost(TokenError::Issuer.because(
                    "a token of another org or environment (preview, EMEA, a custom domain): the client signs in at another host than the one that is configured",
                ));
            }
        }
        exact
    }

    fn target(&self, exchange: RawExchange) -> Result<Target, Mistake> {
        let service_cannot =
            |scope: &String| matches!(scope.as_str(), "openid" | "offline_access" | "profile" | "email");
        if exchange.scopes.iter().any(service_cannot) {
            let expected = "scopes of the target: openid, profile, email and offline_access are refused in an exchange";
            return Err((".scopes", "a scope of OpenID Connect".to_owned(), expected));
        }
        let target = rfc8693::target(exchange)?;
        if target.audiences.len() != 1 {
            let found = if target.audiences.is_empty() { "nothing" } else { "several" };
            return Err((".audience", found.to_owned(), "the audience of the authorization server that exchanges"));
        }
        Ok(target)
    }

    /// An access token names its client in `cid`, and its user in `uid`, which an application's own lacks.
    fn caller(&self, _provider: &Provider, _header: &Header, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        if is_id_token(claims) || !claims.has("cid") {
            return Err(TokenError::IdToken
                .because("no cid, or jti of an ID token: the client sends the wrong one of its two tokens"));
        }
        let user = claims.text("uid").filter(|uid| !uid.is_empty()).ok_or_else(|| {
            TokenError::NotAUser.because("no uid: the token is of the client credentials grant, no user has signed in")
        })?;
        Ok(Caller { user: user.to_owned(), tenant: None, takes_claims_challenge: false })
    }

    /// `sub` of an ID token is what access tokens carry as `uid`.
    fn id_token_caller(&self, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        rfc8693::is_no_event(claims)?;
        if claims.has("cid") {
            return Err(
                TokenError::AccessToken.because("cid: the client sends its access token where its ID token belongs")
            );
        }
        rfc8693::subject(claims)
    }

    fn wrong_audience(&self, provider: &Provider, claims: &Claims<'_>) -> &'static str {
        if is_id_token(claims) || matches!(provider.subject_token, SubjectToken::IdToken) {
            "an ID token for another client: it must be of the client that is configured"
        } else {
            "aud is the audience of the authorization server, or the resource that the client asked for: configure what tokens of this server carry"
        }
    }

    fn parameters<'a>(&self, target: &'a Target, subject: Subject<'a>) -> Vec<(&'a str, &'a str)> {
        rfc8693::parameters(target, subject)
    }

    /// `access_denied` with 401 (no policy rule) and 403 (no trusted server) is the operator's; with 400 the user's.
    fn blame(&self, status: u16, error: &str, _suberror: Option<&str>) -> Option<Blame> {
        (error == "access_denied" && status != 400).then_some(Blame::Operator)
    }

    fn trace_fields(&self) -> &'static [&'static str] {
        &["x-okta-request-id"]
    }
}

/// Such as `https://acme.okta.com`: not below `/oauth2/`.
fn is_org_server(issuer: &Url) -> bool {
    issuer.path().is_empty() || issuer.path() == "/"
}

fn is_okta(issuer: &Url) -> bool {
    [".okta.com", ".oktapreview.com", ".okta-emea.com", ".okta-gov.com", ".okta.mil"]
        .iter()
        .any(|domain| issuer.authority().ends_with(domain))
}

fn is_id_token(claims: &Claims<'_>) -> bool {
    claims.text("jti").is_some_and(|id| id.starts_with("ID.")) || rfc8693::is_id_token(claims)
}
