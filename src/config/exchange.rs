use std::rc::Rc;

use super::client::{self, Client, Environment};
use super::fields::Fields;
use super::{ConfigError, Provider, check_scopes, either, find_placeholders, provider, shown};
use crate::crypto::Algorithm;
use crate::http::Url;
use crate::idp::{Presentation, Target, Unexchanged};
use crate::json;
use crate::secret::Secret;
use crate::token::prover::Prover;

/// What to ask a provider for, as the operator wrote it; which fields make sense is the profile's to say.
#[derive(Debug, Default)]
pub struct RawExchange {
    /// `audience`: none, one, or several.
    pub audiences: Vec<String>,
    /// `resource`: none, one, or several.
    pub resources: Vec<String>,
    /// `scopes`.
    pub scopes: Vec<String>,
    /// `requested_token_type`.
    pub requested_token_type: Option<String>,
    /// `claims`: JSON text.
    pub claims: Option<String>,
    /// `actor_token`.
    pub actor: Option<Actor>,
    /// `authorization_server`.
    pub authorization_server: RawAuthorizationServer,
    /// `token`: whether the caller's own goes on.
    pub token: Option<Unexchanged>,
    /// Parameters that no profile knows, none of them one that it does.
    pub parameters: Vec<(String, Secret)>,
}

/// The party that acts for users, as its token says (RFC 8693 section 2.1).
#[derive(Debug)]
pub struct Actor {
    /// Where the token is.
    pub source: ActorSource,
    /// `actor_token_type`.
    pub token_type: String,
    /// `sub` of the token, if the operator says: who must be allowed to act (section 4.4).
    pub subject: Option<String>,
    /// `iss` of the token, if it is not the provider's.
    pub issuer: Option<String>,
}

/// Where an actor's token comes from.
#[derive(Debug)]
pub enum ActorSource {
    /// From the environment of the filter.
    Fixed(Secret),
    /// From that header field of each request, where Envoy itself has put it.
    Header(String),
}

impl Actor {
    /// The header field in which its tokens come, if they do.
    pub fn header(&self) -> Option<&str> {
        match &self.source {
            ActorSource::Fixed(_) => None,
            ActorSource::Header(name) => Some(name),
        }
    }

    /// What tells one actor from another, whatever its token is at the moment.
    pub fn identity(&self) -> [&str; 4] {
        [
            "actor",
            self.header().unwrap_or_default(),
            self.subject.as_deref().unwrap_or_default(),
            self.issuer.as_deref().unwrap_or_default(),
        ]
    }
}

/// The authorization server of the resource, where that is not the provider, as far as the operator wrote it.
#[derive(Debug, Default)]
pub struct RawAuthorizationServer {
    /// Where it issues tokens.
    pub token_endpoint: Option<Url>,
    /// Envoy's cluster for calls to it.
    pub cluster: Option<Rc<str>>,
    /// Who we are to it.
    pub client: Option<Client>,
}

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
) -> Result<Target, ConfigError> {
    let profile = provider.profile;
    let taken = profile.exchange_fields();
    let is_taken = |name: &str| taken.contains(&name) || (PRESENTATION.contains(&name) && profile.exchanges());
    if let Some(name) = FIELDS.iter().find(|name| fields.has(name) && !is_taken(name)) {
        let expected = format!("nothing: profile {:?} does not use it", profile.name());
        return Err(ConfigError::new(fields.at(name), "a value", expected));
    }
    let scopes = fields.texts("scopes")?;
    check_scopes(&fields.at("scopes"), &scopes)?;
    let exchange = RawExchange {
        audiences: fields.one_or_more("audience")?,
        resources: fields.one_or_more("resource")?,
        scopes,
        requested_token_type: fields.text("requested_token_type")?.map(str::to_owned),
        claims: claims(fields)?,
        actor: actor(fields, env)?,
        authorization_server: authorization_server(fields, env, warnings)?,
        token: token(fields)?,
        parameters: parameters(fields)?,
    };
    find_placeholders(&fields.at("audience"), &exchange.audiences, warnings);
    find_placeholders(&fields.at("resource"), &exchange.resources, warnings);
    find_placeholders(&fields.at("scopes"), &exchange.scopes, warnings);
    let target = profile
        .target(provider, exchange)
        .map_err(|(field, found, expected)| ConfigError::new(format!("{}{field}", fields.path()), found, expected))?;
    let presentation = presentation(fields, provider, &target, warnings)?;
    let is_bound = target.issued_to(provider).is_some_and(|client| client.dpop.is_some());
    if is_bound && matches!(presentation, Presentation::Bearer) {
        warnings.push(format!(
            "{}: not dpop, although the client has a key in dpop: tokens that are bound to that are refused",
            fields.at("presented_as")
        ));
    }
    Ok(Target { presentation, ..target })
}

fn actor(fields: &Fields<'_>, env: Environment<'_>) -> Result<Option<Actor>, ConfigError> {
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
            ActorSource::Fixed(Secret::new(token))
        }
        (None, Some(name)) => ActorSource::Header(provider::own_header_name(&actor.at("header"), name)?),
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
    if matches!(source, ActorSource::Header(_)) && subject.is_none() {
        let expected =
            "`sub` of the tokens in header: they must be of one actor, whose exchanged tokens are kept for the next";
        return Err(ConfigError::new(actor.at("subject"), "nothing", expected));
    }
    Ok(Some(Actor { source, token_type: token_type.to_owned(), subject, issuer }))
}

fn token(fields: &Fields<'_>) -> Result<Option<Unexchanged>, ConfigError> {
    match fields.text("token")? {
        None => Ok(None),
        Some("removed") => Ok(Some(Unexchanged::Removed)),
        Some("forwarded") => Ok(Some(Unexchanged::Forwarded)),
        Some(other) => Err(ConfigError::new(fields.at("token"), format!("{other:?}"), "removed or forwarded")),
    }
}

fn authorization_server(
    fields: &Fields<'_>,
    env: Environment<'_>,
    warnings: &mut Vec<String>,
) -> Result<RawAuthorizationServer, ConfigError> {
    let Some(server) = fields.object("authorization_server", &["token_endpoint", "cluster", "client"])? else {
        return Ok(RawAuthorizationServer::default());
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
    Ok(RawAuthorizationServer {
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
fn presentation(
    fields: &Fields<'_>,
    provider: &Provider,
    target: &Target,
    warnings: &mut Vec<String>,
) -> Result<Presentation, ConfigError> {
    const SCHEMES: &str = "bearer or dpop";
    let prover = target.issued_to(provider).and_then(|client| client.dpop.as_ref());
    match fields.text("presented_as")? {
        None | Some("bearer") if fields.has("upstream_url") => {
            let expected = "nothing: only proofs (presented_as: dpop) name the URL of the upstream";
            Err(ConfigError::new(fields.at("upstream_url"), "a value", expected))
        }
        None | Some("bearer") => Ok(Presentation::Bearer),
        Some("dpop") if prover.is_none() => {
            let expected = match target.second.as_ref().and_then(|server| server.client.as_ref()) {
                None => format!("bearer, or a key in identity_providers.{}.client.dpop", provider.name),
                Some(_) => "bearer, or a key in dpop of authorization_server.client".to_owned(),
            };
            Err(ConfigError::new(fields.at("presented_as"), "\"dpop\"", expected))
        }
        Some("dpop") => {
            let algorithm = prover.map(Prover::algorithm);
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
            Ok(Presentation::Dpop { url: fields.text("upstream_url")?.map(url).transpose()? })
        }
        Some(other) => Err(ConfigError::new(fields.at("presented_as"), format!("{other:?}"), SCHEMES)),
    }
}
