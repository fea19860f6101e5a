//! A server that takes a token as an authorization grant (RFC 7523 section 2.1), and calls what it is for by whatever
//! parameters the operator writes.

use crate::jose::{Claims, Header, Rejection};
use crate::provider::{
    Caller, ExchangeOptions, ExchangeTarget, Parameters, Profile, ProfileError, Provider, SubjectInput, rfc8693,
};

/// RFC 7523 section 2.1.
pub(crate) const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

#[derive(Debug)]
pub(crate) struct JwtBearer;

impl Profile for JwtBearer {
    fn name(&self) -> &'static str {
        "jwt_bearer"
    }

    fn target(&self, _provider: &Provider, exchange: ExchangeOptions) -> Result<ExchangeTarget, ProfileError> {
        if exchange.requested_token_type.is_some() {
            return Err((".requested_token_type", "a value".to_owned(), "none: it is a parameter of RFC 8693"));
        }
        let target = rfc8693::target(exchange)?;
        let ExchangeTarget { audiences, resources, scope, parameters, .. } = &target;
        if audiences.is_empty() && resources.is_empty() && scope.is_none() && parameters.is_empty() {
            return Err(("", "nothing to ask for".to_owned(), "an audience, a resource, scopes or parameters"));
        }
        Ok(target)
    }

    fn caller(&self, provider: &Provider, header: &Header, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        rfc8693::Rfc8693.caller(provider, header, claims)
    }

    fn id_token_caller(&self, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        rfc8693::Rfc8693.id_token_caller(claims)
    }

    fn parameters<'a>(&self, target: &'a ExchangeTarget, subject: SubjectInput<'a>) -> Parameters<'a> {
        let mut parameters = vec![("grant_type", GRANT.into()), ("assertion", subject.token.into())];
        parameters.extend(rfc8693::targets(target));
        parameters
    }
}
