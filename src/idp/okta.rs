//! Okta: on-behalf-of token exchange (RFC 8693) at a custom authorization server.

use super::{Blame, Caller, Mistake, Profile, RawExchange, Subject, Target, rfc8693};
use crate::token::{Claims, TokenError};

#[derive(Debug)]
pub(super) struct OktaObo;

impl Profile for OktaObo {
    fn name(&self) -> &'static str {
        "okta_obo"
    }

    fn target(&self, exchange: RawExchange) -> Result<Target, Mistake> {
        let service_cannot =
            |scope: &String| matches!(scope.as_str(), "openid" | "offline_access" | "profile" | "email");
        if exchange.scopes.iter().any(service_cannot) {
            let expected = "scopes of the target: openid, profile, email and offline_access are refused in an exchange";
            return Err((".scopes", "a scope of OpenID Connect".to_owned(), expected));
        }
        let target = rfc8693::target(exchange)?;
        if target.audience.is_none() {
            return Err((".audience", "nothing".to_owned(), "the audience of the authorization server that exchanges"));
        }
        Ok(target)
    }

    /// An access token names its client in `cid`, and its user in `uid`, which an application's own lacks.
    fn caller(&self, claims: &Claims) -> Result<Caller, TokenError> {
        let is_id_token = claims.text("jti").is_some_and(|id| id.starts_with("ID."));
        if is_id_token || !claims.has("cid") {
            return Err(TokenError::IdToken);
        }
        let user = claims.text("uid").filter(|uid| !uid.is_empty()).ok_or(TokenError::NotAUser)?;
        Ok(Caller { user: user.to_owned(), takes_claims_challenge: false })
    }

    /// `sub` of an ID token is what access tokens carry as `uid`.
    fn id_token_user(&self, claims: &Claims) -> Option<String> {
        claims.subject.clone().filter(|subject| !subject.is_empty())
    }

    fn parameters<'a>(&self, target: &'a Target, subject: Subject<'a>) -> Vec<(&'static str, &'a str)> {
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
