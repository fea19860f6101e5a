use std::rc::Rc;
use std::time::Duration;

use super::{ConfigError, raw, required};
use crate::crypto::{SigningAlgorithm, SigningKey};
use crate::http::Url;
use crate::idp::{self, Profile};
use crate::secret::Secret;

const DEFAULT_LEEWAY: u64 = 60;
const DEFAULT_TIMEOUT: u64 = 10;

/// An identity provider whose users may come in.
#[derive(Debug)]
pub struct Provider {
    /// The operator's name for it: the label in metrics and logs.
    pub name: Rc<str>,
    /// What it does in its own way.
    pub profile: &'static dyn Profile,
    /// `iss` of its tokens.
    pub issuer: Url,
    /// Envoy's cluster for every call to it.
    pub cluster: Rc<str>,
    /// What `aud` of an access token may be.
    pub audiences: Vec<String>,
    /// Where its keys are, if not discovered.
    pub jwks_uri: Option<Url>,
    /// Where tokens are exchanged, if not discovered.
    pub token_endpoint: Option<Url>,
    /// Who we are to it.
    pub client: Client,
    /// What is exchanged.
    pub subject_token: SubjectToken,
    /// How far its clock and ours may differ.
    pub leeway: Duration,
    /// How long one call may take.
    pub timeout: Duration,
}

/// The OAuth client that exchanges.
#[derive(Debug)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// How it proves that.
    pub authentication: ClientAuthentication,
}

/// RFC 6749 section 2.3.1, OpenID Connect Core section 9.
#[derive(Debug)]
pub enum ClientAuthentication {
    /// `client_secret_basic`.
    SecretBasic(Secret),
    /// `client_secret_post`.
    SecretPost(Secret),
    /// `private_key_jwt`.
    PrivateKeyJwt {
        /// What the assertion is signed with.
        key: SigningKey,
        /// `kid` of the assertion.
        key_id: Option<String>,
        /// `aud` of the assertion, if not the token endpoint.
        audience: Option<String>,
    },
}

/// The token that is handed to the provider.
#[derive(Debug)]
pub enum SubjectToken {
    /// The access token that the caller was let in with.
    AccessToken,
    /// An ID token of the same user, presented beside it.
    IdToken {
        /// Where it is presented.
        source: TokenSource,
        /// What its `aud` may be: the client that the user signed in to.
        audiences: Vec<String>,
    },
}

/// A place in a request.
#[derive(Debug)]
pub enum TokenSource {
    /// A header field, name in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
}

impl Provider {
    pub(super) fn build(
        name: String,
        raw: raw::Provider,
        env: &dyn Fn(&str) -> Option<String>,
        warnings: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        let at = |field: &str| format!("identity_providers.{name}.{field}");
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        if name.is_empty() || name.len() > 63 || !name.bytes().all(is_name) {
            return Err(ConfigError::new(
                "identity_providers",
                format!("the name {name:?}"),
                "names of 1 to 63 of a-z, 0-9, - and _ (they become labels of metrics)",
            ));
        }
        let profile = idp::profile(&raw.profile)
            .ok_or_else(|| ConfigError::new(at("profile"), format!("{:?}", raw.profile), idp::profile_names()))?;
        let url = |field: &str, text: &str| {
            Url::parse(text).map_err(|problem| {
                ConfigError::new(at(field), format!("{text:?}"), format!("a URL that {}", positive(problem)))
            })
        };
        if raw.audiences.is_empty() || raw.audiences.iter().any(String::is_empty) {
            return Err(ConfigError::new(
                at("audiences"),
                "none, or an empty one",
                "what `aud` of the callers' tokens is",
            ));
        }
        let leeway = in_range(at("clock_leeway_seconds"), raw.clock_leeway_seconds.unwrap_or(DEFAULT_LEEWAY), 0, 300)?;
        let timeout = in_range(at("timeout_seconds"), raw.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT), 1, 60)?;
        let provider = Self {
            profile,
            issuer: url("issuer", &raw.issuer)?,
            cluster: required(&at("cluster"), raw.cluster)?.into(),
            audiences: raw.audiences,
            jwks_uri: raw.jwks_uri.as_deref().map(|text| url("jwks_uri", text)).transpose()?,
            token_endpoint: raw.token_endpoint.as_deref().map(|text| url("token_endpoint", text)).transpose()?,
            client: Client {
                id: required(&at("client.id"), raw.client.id)?,
                authentication: authentication(&at("client.authentication"), raw.client.authentication, env, warnings)?,
            },
            subject_token: subject_token(&at("subject_token"), raw.subject_token)?,
            leeway,
            timeout,
            name: name.as_str().into(),
        };
        profile.check(&provider).map_err(|(field, found, expected)| ConfigError::new(at(field), found, expected))?;
        Ok(provider)
    }
}

/// Turns "must be …" into words that stand behind "a URL that".
fn positive(problem: &str) -> &str {
    match problem {
        "is not a URL" | "is not an absolute URL" => "is absolute, such as https://login.example/tenant",
        "must have no user information" => "has no user information",
        "must have no query and no fragment" => "has no query and no fragment",
        _ => "is https (http is for loopback hosts only)",
    }
}

fn in_range(path: String, seconds: u64, least: u64, most: u64) -> Result<Duration, ConfigError> {
    if (least..=most).contains(&seconds) {
        Ok(Duration::from_secs(seconds))
    } else {
        Err(ConfigError::new(path, seconds.to_string(), format!("{least} to {most} seconds")))
    }
}

fn authentication(
    path: &str,
    raw: raw::Authentication,
    env: &dyn Fn(&str) -> Option<String>,
    warnings: &mut Vec<String>,
) -> Result<ClientAuthentication, ConfigError> {
    let unused = |field: &str, present: bool| {
        if present {
            Err(ConfigError::new(
                format!("{path}.{field}"),
                "a value",
                format!("nothing: {} does not use it", raw.method),
            ))
        } else {
            Ok(())
        }
    };
    match raw.method.as_str() {
        method @ ("client_secret_basic" | "client_secret_post") => {
            unused("key", raw.key.is_some())?;
            unused("key_id", raw.key_id.is_some())?;
            unused("algorithm", raw.algorithm.is_some())?;
            unused("audience", raw.audience.is_some())?;
            let secret = secret(&format!("{path}.secret"), raw.secret, env, warnings)?;
            Ok(if method == "client_secret_basic" {
                ClientAuthentication::SecretBasic(secret)
            } else {
                ClientAuthentication::SecretPost(secret)
            })
        }
        "private_key_jwt" => {
            unused("secret", raw.secret.is_some())?;
            let algorithm = match raw.algorithm.as_deref() {
                Some("RS256") => SigningAlgorithm::Rs256,
                Some("ES256") => SigningAlgorithm::Es256,
                other => {
                    let found = other.map_or_else(|| "nothing".to_owned(), |name| format!("{name:?}"));
                    return Err(ConfigError::new(format!("{path}.algorithm"), found, "RS256 or ES256"));
                }
            };
            let text = secret(&format!("{path}.key"), raw.key, env, warnings)?;
            let key = SigningKey::parse(algorithm, text.reveal()).ok_or_else(|| {
                ConfigError::new(
                    format!("{path}.key"),
                    "something else",
                    format!(
                        "a private key for {} as PKCS#8 PEM (`openssl pkcs8 -topk8 -nodes` makes one) or as JWK",
                        algorithm.name()
                    ),
                )
            })?;
            Ok(ClientAuthentication::PrivateKeyJwt { key, key_id: raw.key_id, audience: raw.audience })
        }
        other => Err(ConfigError::new(
            format!("{path}.method"),
            format!("{other:?}"),
            "client_secret_basic, client_secret_post or private_key_jwt",
        )),
    }
}

fn secret(
    path: &str,
    raw: Option<raw::Secret>,
    env: &dyn Fn(&str) -> Option<String>,
    warnings: &mut Vec<String>,
) -> Result<Secret, ConfigError> {
    match raw {
        Some(raw::Secret { env: Some(variable), inline: None }) => match env(&variable) {
            Some(value) if !value.trim().is_empty() => Ok(Secret::new(value.trim().to_owned())),
            _ => Err(ConfigError::new(
                format!("{path}.env"),
                format!("{variable:?}, which is not set in the filter's environment"),
                "a variable of Envoy's environment that is listed in vm_config.environment_variables.host_env_keys",
            )),
        },
        Some(raw::Secret { env: None, inline: Some(value) }) if !value.is_empty() => {
            warnings.push(format!(
                "{path}.inline: a secret in the configuration is shown by Envoy's /config_dump; use env"
            ));
            Ok(Secret::new(value))
        }
        _ => Err(ConfigError::new(path, "nothing usable", "{env: NAME}, or {inline: value}")),
    }
}

fn subject_token(path: &str, raw: Option<raw::SubjectToken>) -> Result<SubjectToken, ConfigError> {
    let Some(raw) = raw else {
        return Ok(SubjectToken::AccessToken);
    };
    match raw.kind.as_str() {
        "access_token" => {
            if raw.header.is_some() || raw.cookie.is_some() || !raw.audiences.is_empty() {
                let expected = "no header, cookie or audiences: the access token is the one in `authorization`";
                return Err(ConfigError::new(path, "more than a type", expected));
            }
            Ok(SubjectToken::AccessToken)
        }
        "id_token" => {
            let source = match (raw.header, raw.cookie) {
                (Some(header), None) => TokenSource::Header(header_name(&format!("{path}.header"), &header)?),
                (None, Some(cookie)) => TokenSource::Cookie(cookie_name(&format!("{path}.cookie"), cookie)?),
                _ => {
                    return Err(ConfigError::new(
                        path,
                        "none or both of header and cookie",
                        "the one that carries the ID token",
                    ));
                }
            };
            if raw.audiences.is_empty() || raw.audiences.iter().any(String::is_empty) {
                let expected = "the id of the client that the user signed in to";
                return Err(ConfigError::new(format!("{path}.audiences"), "none, or an empty one", expected));
            }
            Ok(SubjectToken::IdToken { source, audiences: raw.audiences })
        }
        other => Err(ConfigError::new(format!("{path}.type"), format!("{other:?}"), "access_token or id_token")),
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn header_name(path: &str, name: &str) -> Result<String, ConfigError> {
    let lower = name.to_ascii_lowercase();
    let reserved = ["authorization", "cookie", "host", "connection", "content-length", "transfer-encoding", "te"];
    if !is_token(&lower) || reserved.contains(&lower.as_str()) {
        return Err(ConfigError::new(path, format!("{name:?}"), "the name of a header field of its own"));
    }
    Ok(lower)
}

fn cookie_name(path: &str, name: String) -> Result<String, ConfigError> {
    if is_token(&name) { Ok(name) } else { Err(ConfigError::new(path, format!("{name:?}"), "the name of a cookie")) }
}
