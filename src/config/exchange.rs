use std::rc::Rc;

use crate::config::client::{self, Environment};
use crate::config::reader::Fields;
use crate::config::{ConfigError, check_scopes, either, find_placeholders, profile_error, provider, shown};
use crate::crypto::Algorithm;
use crate::dpop::DpopKey;
use crate::json;
use crate::provider::{
    ActorToken, ActorTokenSource, AuthorizationServerOptions, ExchangeOptions, ExchangeTarget, Provider,
    TokenExchangeTarget, TokenType,
};
use crate::secret::Secret;
use crate::url::Url;

pub(super) const FIELDS: [&str; 11] = [
    "audience",
    "resource",
    "scopes",
    "requested_token_type",
    "claims",
    "actor_token",
    "authorization_server",
    "token",
    "parameters",
    "presented_as",
    "upstream_url",
];

/// How the token is presented, whatever the profile.
const PRESENTATION: [&str; 2] = ["presented_as", "upstream_url"];

/// What to ask a provider for.
pub(super) fn build(
    fields: &Fields<'_>,
    provider: &Provider,
    env: Environment<'_>,
    warnings: &mut Vec<String>,
) -> Result<ExchangeTarget, ConfigError> {
    let profile = provider.profile;
    let taken = profile.exchange_fields();
    let is_taken = |name: &str| taken.contains(&name) || (PRESENTATION.contains(&name) && profile.exchanges());
    if let Some(name) = FIELDS.iter().find(|name| fields.has(name) && !is_taken(name)) {
        let expected = format!("nothing: profile {:?} does not use it", profile.name());
        return Err(ConfigError::new(fields.at(name), "a value", expected));
    }
    let Some(client) = &provider.client else {
        return Ok(ExchangeTarget::ValidateOnly { forward: forward(fields)? });
    };
    let scopes = fields.texts("scopes")?;
    check_scopes(&fields.at("scopes"), &scopes)?;
    let exchange = ExchangeOptions {
        client: client.clone(),
        audiences: fields.one_or_more("audience")?,
        resources: fields.one_or_more("resource")?,
        scopes,
        requested_token_type: fields.text("requested_token_type")?.map(str::to_owned),
        claims: claims(fields)?,
        actor: actor(fields, env)?,
        authorization_server: authorization_server(fields, env, warnings)?,
        parameters: parameters(fields)?,
    };
    find_placeholders(&fields.at("audience"), &exchange.audiences, warnings);
    find_placeholders(&fields.at("resource"), &exchange.resources, warnings);
    find_placeholders(&fields.at("scopes"), &exchange.scopes, warnings);
    let target = profile.target(provider, exchange).map_err(|error| profile_error(fields, error))?;
    let token_type = token_type(fields, provider, &target, warnings)?;
    let is_bound = target.issued_to().dpop.is_some();
    if is_bound && matches!(token_type, TokenType::Bearer) {
        warnings.push(format!(
            "{}: not dpop, although the client has a key in dpop: tokens that are bound to that are refused",
            fields.at("presented_as")
        ));
    }
    Ok(ExchangeTarget::Exchange(Rc::new(TokenExchangeTarget { token_type, ..target })))
}

fn actor(fields: &Fields<'_>, env: Environment<'_>) -> Result<Option<ActorToken>, ConfigError> {
    const TYPE: &str = "a URN such as urn:ietf:params:oauth:token-type:access_token";
    let Some(actor) = fields.object("actor_token", &["env", "header", "type", "subject", "issuer"])? else {
        return Ok(None);
    };
    let source = match (actor.text("env")?, actor.text("header")?) {
        (Some(variable), None) => {
            let is_token = |value: &str| value.bytes().all(|byte| matches!(byte, 0x21..=0x7E));
            let value = env(variable).map(|value| value.trim().to_owned());
            let token = value.filter(|value| !value.is_empty() && is_token(value)).ok_or_else(|| {
                let expected = "a variable of Envoy's environment that vm_config.environment_variables.host_env_keys lists, with one token in it";
                ConfigError::new(actor.at("env"), "a variable that is not set, or that holds no token", expected)
            })?;
            ActorTokenSource::Fixed(Secret::new(token))
        }
        (None, Some(name)) => ActorTokenSource::Header(provider::own_header_name(&actor.at("header"), name)?),
        _ => {
            let expected = "{env: NAME} or {header: name}, with a type";
            return Err(ConfigError::new(actor.path(), either(actor.has("env"), ["env", "header"]), expected));
        }
    };
    let token_type = actor.required_text("type", TYPE)?;
    if !token_type.contains(':') || !token_type.bytes().all(|byte| matches!(byte, 0x21..=0x7E)) {
        return Err(ConfigError::new(actor.at("type"), "no URN", TYPE));
    }
    let optional = |name: &str| actor.text(name).map(|text| text.map(str::to_owned));
    let (subject, issuer) = (optional("subject")?, optional("issuer")?);
    if matches!(source, ActorTokenSource::Header(_)) && subject.is_none() {
        let expected =
            "`sub` of the tokens in header: they must be of one actor, whose exchanged tokens are kept for the next";
        return Err(ConfigError::new(actor.at("subject"), "nothing", expected));
    }
    Ok(Some(ActorToken { source, token_type: token_type.to_owned(), subject, issuer }))
}

fn forward(fields: &Fields<'_>) -> Result<bool, ConfigError> {
    match fields.text("token")? {
        None | Some("removed") => Ok(false),
        Some("forwarded") => Ok(true),
        Some(other) => Err(ConfigError::new(fields.at("token"), format!("{other:?}"), "removed or forwarded")),
    }
}

fn authorization_server(
    fields: &Fields<'_>,
    env: Environment<'_>,
    warnings: &mut Vec<String>,
) -> Result<AuthorizationServerOptions, ConfigError> {
    let Some(server) = fields.object("authorization_server", &["token_endpoint", "cluster", "client"])? else {
        return Ok(AuthorizationServerOptions::default());
    };
    let url = |text: &str| {
        Url::parse(text).map_err(|problem| {
            ConfigError::new(server.at("token_endpoint"), shown(text, problem), "the https URL of the token endpoint")
        })
    };
    let client = server.has("client").then(|| client::build(&server, env, warnings)).transpose()?;
    if client.as_ref().is_some_and(|client| client.authentication.header().is_some()) {
        let path = server.at("client.authentication.assertion.header");
        return Err(ConfigError::new(path, "a value", "an assertion from the environment, or another method"));
    }
    Ok(AuthorizationServerOptions {
        token_endpoint: server.text("token_endpoint")?.map(url).transpose()?,
        cluster: server.text("cluster")?.map(Rc::from),
        client,
    })
}

/// What the operator wants to be in the token (OpenID Connect Core section 5.5).
fn claims(fields: &Fields<'_>) -> Result<Option<String>, ConfigError> {
    let Some(claims) = fields.any_object("claims")? else {
        return Ok(None);
    };
    let is_well_formed = !claims.is_empty() && claims.members().all(|(_, value)| value.as_object().is_some());
    if !is_well_formed {
        let expected = "an object of objects, such as {access_token: {xms_cc: {values: [cp1]}}}";
        return Err(ConfigError::new(fields.at("claims"), "another form", expected));
    }
    Ok(Some(json::text(claims.members().map(|(name, value)| (name, value.clone())))))
}

/// Parameters of token requests that are set by fields of their own, or by the exchange itself.
const RESERVED: [&str; 31] = [
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
    "requested_issuer",
    "requested_subject",
    "requested_token_type",
    "requested_token_use",
    "resource",
    "scope",
    "subject_issuer",
    "subject_token",
    "subject_token_type",
    "token",
    "username",
];

/// Parameters that the operator's provider wants beside those that are known (RFC 6749 section 8.2).
fn parameters(fields: &Fields<'_>) -> Result<Vec<(String, Secret)>, ConfigError> {
    let named = fields.named_texts("parameters")?;
    // RFC 6749 appendix A, `param-name`; some servers take `.` and `-` for `_`.
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    let is_reserved = |name: &str| RESERVED.contains(&name.to_ascii_lowercase().replace(['.', '-'], "_").as_str());
    let expected = "names of letters, digits, -, . and _ that no other field sets and the exchange does not either";
    for (name, _) in &named {
        // Somebody may have written a secret where its name should be.
        let found = match (is_name(name), is_reserved(name)) {
            (true, false) => continue,
            (_, true) => format!("the name {name:?}"),
            (false, false) => "a name that is none".to_owned(),
        };
        return Err(ConfigError::new(fields.at("parameters"), found, expected));
    }
    Ok(named.into_iter().map(|(name, value)| (name, Secret::new(value))).collect())
}

/// How the exchanged token goes to the upstream.
fn token_type(
    fields: &Fields<'_>,
    provider: &Provider,
    target: &TokenExchangeTarget,
    warnings: &mut Vec<String>,
) -> Result<TokenType, ConfigError> {
    const SCHEMES: &str = "bearer or dpop";
    let prover = target.issued_to().dpop.as_ref();
    match fields.text("presented_as")? {
        None | Some("bearer") if fields.has("upstream_url") => {
            let expected = "nothing: only proofs (presented_as: dpop) name the URL of the upstream";
            Err(ConfigError::new(fields.at("upstream_url"), "a value", expected))
        }
        None | Some("bearer") => Ok(TokenType::Bearer),
        Some("dpop") if prover.is_none() => {
            let expected = match target.has_one_client() {
                true => format!("bearer, or a key in identity_providers.{}.client.dpop", provider.name),
                false => "bearer, or a key in dpop of authorization_server.client".to_owned(),
            };
            Err(ConfigError::new(fields.at("presented_as"), "\"dpop\"", expected))
        }
        Some("dpop") => {
            let algorithm = prover.map(DpopKey::algorithm);
            if let Some(algorithm) = algorithm.filter(|it| !matches!(it, Algorithm::Es256 | Algorithm::Es384)) {
                warnings.push(format!(
                    "{}: each request to the upstream takes a signature, which is slow with {} (and in the module itself with PS* and EdDSA); use an ES256 key",
                    fields.at("presented_as"),
                    algorithm.name()
                ));
            }
            let url = |text: &str| {
                let expected = "the https URL that the upstream has for itself";
                Url::parse(text)
                    .map_err(|problem| ConfigError::new(fields.at("upstream_url"), shown(text, problem), expected))
            };
            Ok(TokenType::Dpop { url: fields.text("upstream_url")?.map(url).transpose()? })
        }
        Some(other) => Err(ConfigError::new(fields.at("presented_as"), format!("{other:?}"), SCHEMES)),
    }
}
