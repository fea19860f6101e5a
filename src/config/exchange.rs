//! Builder of exchange targets: the token that a resource needs from one provider.

use std::rc::Rc;

use crate::config::error::Code;
use crate::config::findings::Reported;
use crate::config::options::{EXCHANGE, Kind, OptionSpec};
use crate::config::reader::{Fields, by_name};
use crate::config::secrets::variable;
use crate::config::{
    check, client, find_placeholders, names, optional_endpoint, optional_url, refused_by_profile, scopes,
};
use crate::crypto::Algorithm;
use crate::dpop::DpopKey;
use crate::json;
use crate::provider::{
    ActorToken, ActorTokenSource, AuthorizationServerOptions, ExchangeOptions, ExchangeTarget, Profile, Provider,
    TokenExchangeTarget, TokenType,
};
use crate::secret::Secret;

/// Options about the token for the upstream, which every profile uses that exchanges tokens.
const PRESENTATION: [&str; 2] = ["token_type", "upstream_url"];

/// Builds the target of an exchange at the provider.
pub(super) fn build(fields: &Fields<'_>, provider: &Provider) -> Result<ExchangeTarget, Reported> {
    let profile = provider.profile;
    let used = profile.exchange_fields();
    let mut is_unused = false;
    for OptionSpec { name, .. } in EXCHANGE.options {
        let is_used = used.contains(name) || (PRESENTATION.contains(name) && profile.exchanges());
        if fields.has(name) && !is_used {
            let expected = format!("nothing: profile {:?} does not use it", profile.name());
            fields.refuse(Code::NotUsedByProfile, name, "a value", &expected);
            is_unused = true;
        }
    }
    if is_unused {
        return Err(Reported::DEPENDS);
    }
    let Some(client) = &provider.client else {
        return Ok(ExchangeTarget::ValidateOnly { forward: fields.truth("forward")? });
    };
    let texts = ["audience", "resource"].map(|name| fields.texts(name));
    let requested_token_type = fields.text("requested_token_type").map(|text| text.map(str::to_owned));
    let (
        ([Ok(audiences), Ok(resources)], Ok(scopes), Ok(requested_token_type), Ok(claims)),
        (Ok(actor), Ok(authorization_server), Ok(parameters)),
    ) = (
        (texts, scopes(fields, "scopes"), requested_token_type, claims(fields)),
        (actor(fields), authorization_server(fields), parameters(fields, profile)),
    )
    else {
        return Err(Reported::DEPENDS);
    };
    let exchange = ExchangeOptions {
        client: client.clone(),
        audiences,
        resources,
        scopes,
        requested_token_type,
        claims,
        actor,
        authorization_server,
        parameters,
    };
    find_placeholders(fields, "audience", &exchange.audiences);
    find_placeholders(fields, "resource", &exchange.resources);
    find_placeholders(fields, "scopes", &exchange.scopes);
    let target = profile.target(provider, exchange).map_err(|error| refused_by_profile(fields, error))?;
    let token_type = token_type(fields, provider, &target)?;
    if target.issued_to().dpop.is_some() && matches!(token_type, TokenType::Bearer) {
        fields.warn(
            "token_type",
            format_args!("not dpop, although the client has a key in dpop: bound tokens are refused"),
        );
    }
    Ok(ExchangeTarget::Exchange(Rc::new(TokenExchangeTarget { token_type, ..target })))
}

fn actor(fields: &Fields<'_>) -> Result<Option<ActorToken>, Reported> {
    let Some(actor) = fields.object("actor_token")? else {
        return Ok(None);
    };
    let token_type = actor.required_text("type").and_then(|text| {
        let is_urn = text.contains(':') && text.bytes().all(|byte| matches!(byte, 0x21..=0x7E));
        let expected = "a URN such as urn:ietf:params:oauth:token-type:access_token";
        if is_urn { Ok(text) } else { Err(actor.refuse(Code::NotAUrn, "type", "no URN", expected)) }
    });
    let source = match actor.text("env")? {
        Some(name) => {
            let token = variable(&actor, name)?;
            if !token.reveal().bytes().all(|byte| matches!(byte, 0x21..=0x7E)) {
                return Err(actor.refuse(Code::NotAToken, "env", "a variable that holds no token", "one token"));
            }
            ActorTokenSource::Fixed(token)
        }
        None => ActorTokenSource::Header(names::own_header_name(&actor, "header", actor.required_text("header")?)?),
    };
    let optional = |name: &str| actor.text(name).map(|text| text.map(str::to_owned));
    let (subject, issuer, token_type) = (optional("subject")?, optional("issuer")?, token_type?.to_owned());
    if matches!(source, ActorTokenSource::Header(_)) && subject.is_none() {
        let expected = "`sub` of the tokens in header: they must be of one actor, because exchanged tokens are cached";
        return Err(actor.refuse(Code::MissingSubject, "subject", "nothing", expected));
    }
    Ok(Some(ActorToken { source, token_type, subject, issuer }))
}

fn authorization_server(fields: &Fields<'_>) -> Result<AuthorizationServerOptions, Reported> {
    let Some(server) = fields.object("authorization_server")? else {
        return Ok(AuthorizationServerOptions::default());
    };
    let token_endpoint = optional_endpoint(&server, "token_endpoint", "the https URL of the token endpoint");
    let client = server.has("client").then(|| client::build(&server)).transpose()?;
    if client.as_ref().is_some_and(|client| client.authentication.header().is_some()) {
        let name = "client.authentication.assertion.header";
        let expected = "an assertion from the environment, or another method";
        return Err(server.refuse(Code::AssertionInHeader, name, "a value", expected));
    }
    let cluster = server.text("cluster")?.map(Rc::from);
    Ok(AuthorizationServerOptions { token_endpoint: token_endpoint?, cluster, client })
}

/// Reads the claims that the operator wants in the token (OpenID Connect Core section 5.5). Returns JSON text.
fn claims(fields: &Fields<'_>) -> Result<Option<String>, Reported> {
    let claims = fields.any_object("claims")?;
    Ok(claims.map(|claims| json::text(claims.members().map(|(name, value)| (name, value.clone())))))
}

/// Parameters of token requests that are set by fields of their own, or by the exchange itself.
const RESERVED: [&str; 28] = [
    "access_token",
    "actor_token",
    "actor_token_type",
    "assertion",
    "audience",
    "auth_req_id",
    "claims",
    "client_assertion",
    "client_assertion_type",
    "client_id",
    "client_secret",
    "code",
    "code_verifier",
    "device_code",
    "grant_type",
    "password",
    "redirect_uri",
    "refresh_token",
    "request",
    "request_uri",
    "requested_subject",
    "requested_token_type",
    "resource",
    "scope",
    "subject_token",
    "subject_token_type",
    "token",
    "username",
];

/// Reads additional parameters of the token request (RFC 6749 section 8.2), in order of their names.
fn parameters(fields: &Fields<'_>, profile: &dyn Profile) -> Result<Vec<(String, Secret)>, Reported> {
    let mut parameters = Vec::new();
    for (name, value) in fields.any_object("parameters")?.map(by_name).unwrap_or_default() {
        let normal = name.to_ascii_lowercase().replace(['.', '-'], "_");
        if RESERVED.contains(&normal.as_str()) || profile.own_parameters().contains(&normal.as_str()) {
            let expected = "no name that the exchange itself sets";
            return Err(fields.refuse(Code::ReservedParameter, "parameters", &format!("the name {name:?}"), expected));
        }
        let value = check::text(value).filter(|_| Kind::TextMap.admits(name)).ok_or(Reported::DEPENDS)?;
        parameters.push((name.to_owned(), Secret::new(value.to_owned())));
    }
    Ok(parameters)
}

/// Reads the type of the exchanged token, and the URL that proofs for the upstream name.
fn token_type(fields: &Fields<'_>, provider: &Provider, target: &TokenExchangeTarget) -> Result<TokenType, Reported> {
    if fields.text("token_type")? != Some("dpop") {
        if fields.has("upstream_url") {
            let expected = "nothing: only proofs (token_type: dpop) name it";
            return Err(fields.refuse(Code::UpstreamUrlUnused, "upstream_url", "a value", expected));
        }
        return Ok(TokenType::Bearer);
    }
    let Some(key) = &target.issued_to().dpop else {
        let expected = match target.has_one_client() {
            true => format!("bearer, or a key in identity_providers.{}.client.dpop", provider.name),
            false => "bearer, or a key in dpop of authorization_server.client".to_owned(),
        };
        return Err(fields.refuse(Code::MissingDpopKey, "token_type", "\"dpop\"", &expected));
    };
    let algorithm = DpopKey::algorithm(key);
    if !matches!(algorithm, Algorithm::Es256 | Algorithm::Es384) {
        fields.warn(
            "token_type",
            format_args!(
                "each request to the upstream takes a signature, which is slow with {}; use an ES256 key",
                algorithm.name()
            ),
        );
    }
    Ok(TokenType::Dpop { url: optional_url(fields, "upstream_url", "the https URL that the upstream has for itself")? })
}
