//! Form parameters of the grants in token requests.

use std::borrow::Cow;

use crate::provider::{ActorToken, ActorTokenSource, Grant, SubjectInput, TokenExchangeTarget, oauth};

/// Form parameters: name and value.
pub type Parameters<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// Returns the parameters of the request to the provider, without those of client authentication and
/// [`TokenExchangeTarget::parameters`].
pub(super) fn parameters<'a>(target: &'a TokenExchangeTarget, subject: SubjectInput<'a>) -> Parameters<'a> {
    match &target.grant {
        Grant::TokenExchange { requested_token_type, actor_token } => {
            token_exchange(target, subject, actor_token.as_ref(), requested_token_type.map(|requested| requested.urn()))
        }
        Grant::JwtBearer { .. } => {
            let mut parameters = jwt_bearer(subject.token);
            parameters.extend(audience_and_scope(target));
            parameters
        }
        Grant::IdJag(_) => token_exchange(target, subject, None, Some(oauth::ID_JAG)),
    }
}

/// Returns the parameters of a JWT authorization grant (RFC 7523 section 2.1). An ID-JAG contains its scopes, so its
/// access token request has no `scope`.
pub(super) fn jwt_bearer(assertion: &str) -> Parameters<'_> {
    vec![("grant_type", oauth::GRANT_JWT_BEARER.into()), ("assertion", assertion.into())]
}

/// Parameters of token exchange (RFC 8693 section 2.1).
fn token_exchange<'a>(
    target: &'a TokenExchangeTarget,
    subject: SubjectInput<'a>,
    actor: Option<&'a ActorToken>,
    requested_token_type: Option<&'static str>,
) -> Parameters<'a> {
    let usual_type = if subject.is_id_token { oauth::ID_TOKEN } else { oauth::ACCESS_TOKEN };
    let mut parameters = vec![
        ("grant_type", oauth::GRANT_TOKEN_EXCHANGE.into()),
        ("subject_token", subject.token.into()),
        ("subject_token_type", subject.token_type.unwrap_or(usual_type).into()),
    ];
    if let Some(ActorToken { source, token_type, .. }) = actor {
        let token = match source {
            ActorTokenSource::Fixed(token) => Some(token.reveal()),
            ActorTokenSource::Header(_) => subject.actor,
        };
        parameters.extend(token.map(|token| ("actor_token", token.into())));
        parameters.push(("actor_token_type", token_type.into()));
    }
    parameters.extend(audience_and_scope(target));
    parameters.extend(requested_token_type.map(|urn| ("requested_token_type", urn.into())));
    parameters
}

/// Parameters that name the upstream and the scopes (RFC 8693 section 2.1, RFC 8707 section 2).
fn audience_and_scope(target: &TokenExchangeTarget) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    let audiences = target.audiences.iter().map(|audience| ("audience", audience));
    let resources = target.resources.iter().map(|resource| ("resource", resource));
    let scope = target.scope.iter().map(|scope| ("scope", scope));
    audiences.chain(resources).chain(scope).map(|(name, value)| (name, value.into()))
}
