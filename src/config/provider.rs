use std::rc::Rc;
use std::time::Duration;

use crate::config::client::{self, Environment};
use crate::config::reader::Fields;
use crate::config::{ConfigError, either, find_placeholder, find_placeholders, profile_error, shown};
use crate::jose::KeySet;
use crate::provider::{
    self, Client, Profile, Provider, ProviderId, ProviderOptions, SubjectTokenSource, TENANT, TokenLocation,
};
use crate::url::Url;

const DEFAULT_LEEWAY: u32 = 60;
const DEFAULT_TIMEOUT: u32 = 10;

/// For how long keys are trusted that could not be fetched again, in seconds: what a provider may be away for, and what
/// its keys may live before.
const DEFAULT_OLDEST_KEYS: u32 = 48 * 3600;

const FIELDS: [&str; 14] = [
    "profile",
    "issuer",
    "tenants",
    "cluster",
    "audiences",
    "jwks",
    "jwks_uri",
    "keys_max_age_seconds",
    "token_endpoint",
    "client",
    "subject_token",
    "clock_leeway_seconds",
    "timeout_seconds",
    "retries",
];

/// Every provider, in order of their names.
pub(super) fn build_all(
    root: &Fields<'_>,
    env: Environment<'_>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Provider>, ConfigError> {
    let mut providers: Vec<Provider> = Vec::new();
    for (name, fields) in root.named_objects("identity_providers", &FIELDS)? {
        let id = ProviderId(u32::try_from(providers.len()).unwrap_or(u32::MAX));
        let provider = Provider { id, ..build(name, &fields, env, warnings)? };
        let own = provider.issuers();
        if providers.iter().any(|other| other.issuers().iter().any(|issuer| own.contains(issuer))) {
            return Err(ConfigError::new(
                fields.at("issuer"),
                "the issuer of another provider",
                "an issuer of its own",
            ));
        }
        providers.push(provider);
    }
    for provider in &providers {
        if let Some(header) = provider.client.as_ref().and_then(|client| client.authentication.header())
            && providers.iter().any(|other| other.subject_token.header() == Some(header))
        {
            return Err(ConfigError::new(
                format!("identity_providers.{}.client.authentication.assertion.header", provider.name),
                format!("{header:?}, in which callers send ID tokens"),
                "a field of its own, which Envoy itself puts there",
            ));
        }
    }
    Ok(providers)
}

fn build(
    name: &str,
    fields: &Fields<'_>,
    env: Environment<'_>,
    warnings: &mut Vec<String>,
) -> Result<Provider, ConfigError> {
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    if name.is_empty() || name.len() > 63 || !name.bytes().all(is_name) {
        let expected = "names of 1 to 63 of a-z, 0-9, - and _ (they become labels of metrics)";
        return Err(ConfigError::new("identity_providers", format!("the name {name:?}"), expected));
    }
    let profile = fields.required_text("profile", &provider::profile_names())?;
    let profile = provider::profile(profile)
        .ok_or_else(|| ConfigError::new(fields.at("profile"), format!("{profile:?}"), provider::profile_names()))?;
    let url = |field: &str, text: &str| {
        Url::parse(text).map_err(|problem| {
            ConfigError::new(fields.at(field), shown(text, problem), "a URL such as https://login.example/tenant")
        })
    };
    let optional_url = |field: &str| fields.text(field)?.map(|text| url(field, text)).transpose();
    let (issuer, tenants) = issuer(fields, profile)?;
    if issuer.contains("/.well-known/") {
        let expected = "the issuer itself, as it stands in its metadata document and in `iss`";
        return Err(ConfigError::new(fields.at("issuer"), "the URL of its metadata", expected));
    }
    let audiences = audiences(fields)?;
    find_placeholders(&fields.at("audiences"), &audiences, warnings);
    find_placeholder(&fields.at("token_endpoint"), fields.text("token_endpoint")?.unwrap_or_default(), warnings);
    let seconds = |field: &str, least: u32, most: u32, default: u32| {
        let seconds = fields.number(field, least, most, "seconds")?.unwrap_or(default);
        Ok(Duration::from_secs(seconds.into()))
    };
    let issuer = url("issuer", &issuer)?;
    let token_endpoint = optional_url("token_endpoint")?;
    let client = client(fields, profile, env, warnings)?.map(Rc::new);
    let subject_token = match fields.object("subject_token", &["type", "header", "cookie", "audiences"])? {
        Some(fields) => subject_token(&fields)?,
        None => SubjectTokenSource::AccessToken,
    };
    let options = ProviderOptions {
        issuer: &issuer,
        tenants: &tenants,
        token_endpoint: token_endpoint.as_ref(),
        client_id: client.as_ref().map(|client| client.id.as_str()),
        subject_token: &subject_token,
    };
    profile.check(&options).map_err(|error| profile_error(fields, error))?;
    let provider = Provider {
        id: ProviderId::default(),
        name: name.into(),
        profile,
        issuer,
        tenants,
        cluster: fields.required_text("cluster", "the name of the Envoy cluster of the provider")?.into(),
        every_audience: audiences.clone(),
        audiences,
        jwks: jwks(fields)?,
        jwks_uri: optional_url("jwks_uri")?,
        token_endpoint,
        client,
        subject_token,
        oldest_keys: seconds("keys_max_age_seconds", 600, 604_800, DEFAULT_OLDEST_KEYS)?,
        leeway: seconds("clock_leeway_seconds", 0, 300, DEFAULT_LEEWAY)?,
        timeout: seconds("timeout_seconds", 1, 60, DEFAULT_TIMEOUT)?,
        retries: fields.number("retries", 0, 1, "calls")?.unwrap_or(1) > 0,
    };
    for audience in &provider.audiences {
        if let Some(expected) = profile.expected_audience(&provider, audience) {
            return Err(ConfigError::new(fields.at("audiences"), format!("{audience:?}"), expected));
        }
    }
    Ok(provider)
}

/// What `aud` of callers' tokens is expected to be, in an error.
pub(super) const AUDIENCES: &str = "a list of what `aud` of the callers' tokens is";

/// The list `audiences` of a provider or a resource. An empty one would admit nobody.
pub(super) fn audiences(fields: &Fields<'_>) -> Result<Vec<String>, ConfigError> {
    let audiences = fields.texts("audiences")?;
    if audiences.is_empty() && fields.has("audiences") {
        return Err(ConfigError::new(fields.at("audiences"), "an empty list", AUDIENCES));
    }
    Ok(audiences)
}

/// The client, where the profile exchanges; where it does not, nothing may stand there that it would be for.
fn client(
    fields: &Fields<'_>,
    profile: &'static dyn Profile,
    env: Environment<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<Client>, ConfigError> {
    if profile.exchanges() {
        return client::build(fields, env, warnings).map(Some);
    }
    match ["client", "token_endpoint", "retries"].iter().find(|name| fields.has(name)) {
        Some(name) => {
            let expected = format!("nothing: profile {:?} exchanges no tokens", profile.name());
            Err(ConfigError::new(fields.at(name), "a value", expected))
        }
        None => Ok(None),
    }
}

/// The issuer with a word in the place of its tenant, and the tenants, where there are several.
fn issuer(fields: &Fields<'_>, profile: &'static dyn Profile) -> Result<(String, Vec<String>), ConfigError> {
    let text = fields.required_text("issuer", "the provider's issuer, as its tokens have it in `iss`")?;
    let tenants = fields.texts("tenants")?;
    match (profile.multitenant_segment(), text.contains(TENANT), tenants.is_empty()) {
        (_, false, true) => Ok((text.to_owned(), tenants)),
        (Some(word), true, false) => Ok((text.replacen(TENANT, word, 1), tenants)),
        (Some(_), true, true) => {
            let expected = "a list of the tenants whose users may come in, as {tenantid} stands in the issuer";
            Err(ConfigError::new(fields.at("tenants"), "none", expected))
        }
        (None, _, _) => {
            let expected = "one issuer, and no tenants: this profile has no providers of several tenants";
            Err(ConfigError::new(
                fields.at(if tenants.is_empty() { "issuer" } else { "tenants" }),
                "several tenants",
                expected,
            ))
        }
        (Some(_), false, false) => {
            let expected =
                "an issuer with {tenantid} (in this spelling) in the place of the tenant, as there are tenants";
            Err(ConfigError::new(fields.at("issuer"), "an issuer without {tenantid}", expected))
        }
    }
}

/// Keys that the operator wrote down. Here, unlike in a set that is fetched, every one must be of use.
fn jwks(fields: &Fields<'_>) -> Result<Option<KeySet>, ConfigError> {
    let Some(set) = fields.any_object("jwks")? else {
        return Ok(None);
    };
    if fields.has("jwks_uri") {
        return Err(ConfigError::new(fields.at("jwks_uri"), "a value", "nothing: the keys are in jwks"));
    }
    let expected = "a JWK Set (RFC 7517 section 5): an object with a list of public keys in `keys`";
    match KeySet::from_members(set) {
        None => Err(ConfigError::new(fields.at("jwks"), "no key set", expected)),
        Some((keys, _)) if keys.is_empty() => {
            Err(ConfigError::new(fields.at("jwks"), "a set with no usable key", expected))
        }
        Some((_, skipped)) if !skipped.is_empty() => Err(ConfigError::new(
            fields.at("jwks"),
            format!("a key that is of no use: {}", skipped.join("; ")),
            expected,
        )),
        Some((keys, _)) => Ok(Some(keys)),
    }
}

fn subject_token(fields: &Fields<'_>) -> Result<SubjectTokenSource, ConfigError> {
    let audiences = fields.texts("audiences")?;
    let (header, cookie) = (fields.text("header")?, fields.text("cookie")?);
    let is_alone = header.is_none() && cookie.is_none() && audiences.is_empty();
    match fields.required_text("type", "access_token or id_token")? {
        "access_token" if is_alone => Ok(SubjectTokenSource::AccessToken),
        "id_token" if is_alone => Ok(SubjectTokenSource::IdToken),
        "access_token" => {
            let expected = "no header, cookie or audiences: the access token is the one in `authorization`";
            Err(ConfigError::new(fields.path(), "more than a type", expected))
        }
        "id_token" => {
            let source = match (header, cookie) {
                (Some(header), None) => TokenLocation::Header(header_name(&fields.at("header"), header)?),
                (None, Some(cookie)) => TokenLocation::Cookie(cookie_name(&fields.at("cookie"), cookie)?),
                _ => {
                    return Err(ConfigError::new(
                        fields.path(),
                        either(cookie.is_some(), ["header", "cookie"]),
                        "the one that carries the ID token, with its audiences; or neither and no audiences, where it is the token in `authorization`",
                    ));
                }
            };
            if audiences.is_empty() {
                let expected = "a list with the id of the client that the user signed in to";
                return Err(ConfigError::new(fields.at("audiences"), "none", expected));
            }
            Ok(SubjectTokenSource::IdTokenBeside { source, audiences })
        }
        other => Err(ConfigError::new(fields.at("type"), format!("{other:?}"), "access_token or id_token")),
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

pub(super) fn header_name(path: &str, name: &str) -> Result<String, ConfigError> {
    let lower = name.to_ascii_lowercase();
    let reserved =
        ["authorization", "cookie", "dpop", "host", "connection", "content-length", "transfer-encoding", "te"];
    if !is_token(&lower) || reserved.contains(&lower.as_str()) {
        return Err(ConfigError::new(path, format!("{name:?}"), "the name of a header field of its own"));
    }
    Ok(lower)
}

/// The same of a field that Envoy itself puts there, and no client may mean something by.
pub(super) fn own_header_name(path: &str, name: &str) -> Result<String, ConfigError> {
    if name.to_ascii_lowercase().starts_with("x-") {
        return header_name(path, name);
    }
    let expected = "a name that begins with x-, of a field that a filter in front of this one puts there";
    Err(ConfigError::new(path, format!("{name:?}"), expected))
}

pub(super) fn cookie_name(path: &str, name: &str) -> Result<String, ConfigError> {
    if is_token(name) {
        Ok(name.to_owned())
    } else {
        Err(ConfigError::new(path, format!("{name:?}"), "the name of a cookie"))
    }
}
