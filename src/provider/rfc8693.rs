//! Any server that follows RFC 8693 (OAuth 2.0 Token Exchange).

use std::borrow::Cow;

use crate::jose::{Claims, Header, Rejection, TokenError};
use crate::provider::profile::scope_parameter;
use crate::provider::{
    ActorToken, ActorTokenSource, Caller, ExchangeOptions, ExchangeTarget, Parameters, Profile, ProfileError, Provider,
    SubjectInput,
};

/// RFC 8693 section 3.
pub(crate) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
pub(crate) const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
/// RFC 8693 section 3: a JWT, which an access token may be.
pub(crate) const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

#[derive(Debug)]
pub(crate) struct Rfc8693;

impl Profile for Rfc8693 {
    fn name(&self) -> &'static str {
        "rfc8693"
    }

    fn exchange_fields(&self) -> &'static [&'static str] {
        &["audience", "resource", "scopes", "requested_token_type", "actor_token", "parameters"]
    }

    fn target(&self, _provider: &Provider, exchange: ExchangeOptions) -> Result<ExchangeTarget, ProfileError> {
        let target = target(exchange)?;
        if target.audiences.is_empty() && target.resources.is_empty() && target.scope.is_none() {
            return Err(("", "nothing to ask for".to_owned(), "an audience, a resource or scopes"));
        }
        Ok(target)
    }

    /// A token whose subject is its client is the client's own (RFC 9068 section 2.2).
    fn caller(&self, _provider: &Provider, _header: &Header, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        if is_id_token(claims) {
            return Err(TokenError::IdToken.because("nonce, at_hash or c_hash: the client sends its ID token"));
        }
        is_no_event(claims)?;
        let caller = subject(claims)?;
        if ["client_id", "azp"].iter().any(|name| claims.text(name) == Some(&caller.user)) {
            return Err(TokenError::NotAUser.because("sub is the client: the token is of the client credentials grant"));
        }
        Ok(caller)
    }

    /// A logout token names what happened, an access token its client or scopes; an ID token does neither.
    fn id_token_caller(&self, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        is_no_event(claims)?;
        if claims.scopes.is_some() || claims.has("client_id") || claims.text("typ") == Some("Bearer") {
            return Err(
                TokenError::AccessToken.because("scope, client_id or typ Bearer: the client sends its access token")
            );
        }
        subject(claims)
    }

    fn parameters<'a>(&self, target: &'a ExchangeTarget, subject: SubjectInput<'a>) -> Parameters<'a> {
        parameters(target, subject)
    }
}

/// `nonce`, `at_hash` and `c_hash` are claims of ID tokens (OpenID Connect Core sections 2 and 3.3.2.11).
pub(crate) fn is_id_token(claims: &Claims<'_>) -> bool {
    ["nonce", "at_hash", "c_hash"].iter().any(|name| claims.has(name))
}

/// `events` is a claim of security event tokens (RFC 8417 section 2.2), logout tokens among them.
pub(crate) fn is_no_event(claims: &Claims<'_>) -> Result<(), Rejection> {
    if claims.has("events") {
        return Err(TokenError::Type.because("events: a logout token, or another security event"));
    }
    Ok(())
}

/// The user whom `sub` names.
pub(crate) fn subject(claims: &Claims<'_>) -> Result<Caller, Rejection> {
    let user = claims.subject.filter(|subject| !subject.is_empty()).ok_or(TokenError::Claims("sub is missing"))?;
    let client = claims.text("client_id").or_else(|| claims.text("azp")).map(str::to_owned);
    Ok(Caller { user: user.to_owned(), tenant: None, client, takes_claims_challenge: false })
}

/// What the operator wrote, checked for form only.
pub(crate) fn target(exchange: ExchangeOptions) -> Result<ExchangeTarget, ProfileError> {
    if let Some(resource) = exchange.resources.iter().find(|resource| !is_absolute_uri(resource)) {
        let expected = "an absolute URI without a fragment (RFC 8707 section 2)";
        return Err((".resource", format!("{resource:?}"), expected));
    }
    let requested_token_type = exchange.requested_token_type;
    if requested_token_type.as_deref().is_some_and(|kind| kind != ACCESS_TOKEN && kind != JWT) {
        let expected =
            "urn:ietf:params:oauth:token-type:access_token or …:jwt: what is issued goes out as a bearer token";
        return Err((".requested_token_type", "another type".to_owned(), expected));
    }
    Ok(ExchangeTarget {
        audiences: exchange.audiences,
        resources: exchange.resources,
        scope: scope_parameter(&exchange.scopes),
        requested_token_type,
        parameters: exchange.parameters,
        actor: exchange.actor,
        ..ExchangeTarget::default()
    })
}

/// RFC 3986 section 4.3, as far as it takes to see that something is none.
fn is_absolute_uri(text: &str) -> bool {
    let is_in_schemes = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let is_in_uris = |byte: u8| matches!(byte, b'!'..=b'~') && !b"\"#<>\\^`{|}".contains(&byte);
    text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(is_in_schemes)
            && !rest.is_empty()
            && rest.bytes().all(is_in_uris)
    })
}

/// The parameters of RFC 8693 section 2.1.
pub(crate) fn parameters<'a>(target: &'a ExchangeTarget, subject: SubjectInput<'a>) -> Parameters<'a> {
    let subject_token_type = if subject.is_id_token { ID_TOKEN } else { ACCESS_TOKEN };
    let mut parameters = vec![
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange".into()),
        ("subject_token", subject.token.into()),
        ("subject_token_type", subject_token_type.into()),
    ];
    if let Some(ActorToken { source, token_type, .. }) = &target.actor {
        let token = match source {
            ActorTokenSource::Fixed(token) => Some(token.reveal()),
            ActorTokenSource::Header(_) => subject.actor,
        };
        parameters.extend(token.map(|token| ("actor_token", token.into())));
        parameters.push(("actor_token_type", token_type.into()));
    }
    parameters.extend(targets(target));
    parameters
}

/// Those that say what for: sections 2.1 and 3, and RFC 8707 section 2.
pub(crate) fn targets(target: &ExchangeTarget) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    let audiences = target.audiences.iter().map(|audience| ("audience", audience));
    let resources = target.resources.iter().map(|resource| ("resource", resource));
    let scope = target.scope.iter().map(|scope| ("scope", scope));
    let kind = target.requested_token_type.iter().map(|kind| ("requested_token_type", kind));
    audiences.chain(resources).chain(scope).chain(kind).map(|(name, value)| (name, value.into()))
}
