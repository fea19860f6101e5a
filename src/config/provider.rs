use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rsa::sha2::{Digest as _, Sha256};
use sha1::Sha1;

use super::fields::Fields;
use super::{ConfigError, shown};
use crate::crypto::{Algorithm, SigningKey, pem};
use crate::http::Url;
use crate::idp::{self, Profile};
use crate::secret::Secret;
use crate::token::KeySet;

const DEFAULT_LEEWAY: u32 = 60;
const DEFAULT_TIMEOUT: u32 = 10;

/// For how long keys are trusted that could not be fetched again, in seconds: what a provider may be away for, and what
/// its keys may live before.
const DEFAULT_OLDEST_KEYS: u32 = 48 * 3600;

const FIELDS: [&str; 13] = [
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
];

/// Where the value of an environment variable comes from.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// An identity provider whose users may come in.
#[derive(Debug)]
pub struct Provider {
    /// The operator's name for it: the label in metrics and logs.
    pub name: Rc<str>,
    /// What it does in its own way.
    pub profile: &'static dyn Profile,
    /// `iss` of its tokens. Of a provider of many tenants, with the word in the place of the tenant that stands for all.
    pub issuer: Url,
    /// The tenants whose users may come in, of a provider of many; else none.
    pub tenants: Vec<String>,
    /// Envoy's cluster for every call to it.
    pub cluster: Rc<str>,
    /// What `aud` of the token in `authorization` may be.
    pub audiences: Vec<String>,
    /// Its keys, if the operator wrote them down.
    pub jwks: Option<KeySet>,
    /// Where its keys are, if not discovered.
    pub jwks_uri: Option<Url>,
    /// Where tokens are exchanged, if not discovered.
    pub token_endpoint: Option<Url>,
    /// Who we are to it.
    pub client: Client,
    /// What is exchanged.
    pub subject_token: SubjectToken,
    /// For how long keys are trusted that could not be fetched again.
    pub oldest_keys: Duration,
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
    SecretBasic(ClientSecret),
    /// `client_secret_post`.
    SecretPost(ClientSecret),
    /// `private_key_jwt`.
    PrivateKeyJwt {
        /// What the assertion is signed with.
        key: SigningKey,
        /// `kid` of the assertion.
        key_id: Option<String>,
        /// `aud` of the assertion, if not the token endpoint.
        audience: Option<String>,
        /// What the assertion says of the key's certificate.
        certificate: CertificateHeader,
    },
}

/// A client's secret, and while it is being replaced also the one from before.
#[derive(Debug)]
pub struct ClientSecret {
    /// The one to use.
    pub current: Secret,
    /// The one to use where the provider does not know that yet.
    pub previous: Option<Secret>,
}

/// By what a client assertion names the certificate of its key: header members of RFC 7515 sections 4.1.6 to 4.1.8.
#[derive(Debug, Default)]
pub struct CertificateHeader {
    /// `x5t#S256` and `x5t`, as far as they are wanted: SHA-256 and SHA-1 of the certificate, in base64url.
    pub thumbprints: Vec<(&'static str, String)>,
    /// `x5c`: the certificate and those that it rests on, in base64. Empty: not wanted.
    pub chain: Vec<String>,
}

impl ClientAuthentication {
    /// Whether there is another secret to try where the first is not known.
    pub const fn has_previous_secret(&self) -> bool {
        matches!(self, Self::SecretBasic(secret) | Self::SecretPost(secret) if secret.previous.is_some())
    }

    /// What it rests on: nobody else has these bytes.
    pub fn secret(&self) -> &[u8] {
        match self {
            Self::SecretBasic(secret) | Self::SecretPost(secret) => secret.current.reveal().as_bytes(),
            Self::PrivateKeyJwt { key, .. } => key.pkcs8(),
        }
    }
}

/// The token that is handed to the provider.
#[derive(Debug)]
pub enum SubjectToken {
    /// The caller comes with an access token, and that is it.
    AccessToken,
    /// The caller comes with an ID token, and that is it.
    IdToken,
    /// The caller comes with an access token, and beside it with an ID token of the same user, which is it.
    IdTokenBeside {
        /// Where it is presented.
        source: TokenSource,
        /// What its `aud` may be: the client that the user signed in to.
        audiences: Vec<String>,
    },
}

impl Provider {
    /// Whether a metadata document that names `issuer` is this provider's.
    pub fn is_metadata_issuer(&self, issuer: &str) -> bool {
        match self.profile.tenant_word() {
            Some(word) if !self.tenants.is_empty() => {
                // Spelled in either way, and not replaced by anything.
                let template = issuer.replacen("{tenantId}", "{tenantid}", 1);
                template == self.issuer.as_str().replacen(word, TENANT, 1)
            }
            _ => issuer == self.issuer.as_str(),
        }
    }

    /// The issuers of its tokens, in their usual spelling: what a client may be told of.
    pub fn issuers(&self) -> Vec<String> {
        match self.profile.tenant_word() {
            Some(word) if !self.tenants.is_empty() => {
                self.tenants.iter().map(|tenant| self.issuer.as_str().replacen(word, tenant, 1)).collect()
            }
            _ => vec![self.issuer.as_str().to_owned()],
        }
    }
}

/// What stands for the tenant in the issuer of a provider of many.
const TENANT: &str = "{tenantid}";

/// A place in a request.
#[derive(Debug)]
pub enum TokenSource {
    /// A header field, name in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
}

/// Every provider, in order of their names.
pub(super) fn build_all(
    root: &Fields<'_>,
    env: Environment<'_>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Provider>, ConfigError> {
    let mut providers: Vec<Provider> = Vec::new();
    for (name, fields) in root.named_objects("identity_providers", &FIELDS)? {
        let provider = build(name, &fields, env, warnings)?;
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
    let profile = fields.required_text("profile", &idp::profile_names())?;
    let profile = idp::profile(profile)
        .ok_or_else(|| ConfigError::new(fields.at("profile"), format!("{profile:?}"), idp::profile_names()))?;
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
    let audiences = fields.texts("audiences")?;
    if audiences.is_empty() {
        return Err(ConfigError::new(fields.at("audiences"), "none", "a list of what `aud` of the callers' tokens is"));
    }
    let seconds = |field: &str, least: u32, most: u32, default: u32| {
        let seconds = fields.number(field, least, most, "seconds")?.unwrap_or(default);
        Ok(Duration::from_secs(seconds.into()))
    };
    let client = fields.required_object("client", &["id", "authentication"])?;
    let authentication_fields = [
        "method",
        "secret",
        "previous_secret",
        "key",
        "key_id",
        "algorithm",
        "audience",
        "certificate",
        "certificate_header",
    ];
    let provider = Provider {
        name: name.into(),
        profile,
        issuer: url("issuer", &issuer)?,
        tenants,
        cluster: fields.required_text("cluster", "the name of the Envoy cluster of the provider")?.into(),
        audiences,
        jwks: jwks(fields)?,
        jwks_uri: optional_url("jwks_uri")?,
        token_endpoint: optional_url("token_endpoint")?,
        client: Client {
            id: client.required_text("id", "the client id that the provider gave")?.to_owned(),
            authentication: authentication(
                &client.required_object("authentication", &authentication_fields)?,
                env,
                warnings,
            )?,
        },
        subject_token: match fields.object("subject_token", &["type", "header", "cookie", "audiences"])? {
            Some(fields) => subject_token(&fields)?,
            None => SubjectToken::AccessToken,
        },
        oldest_keys: seconds("keys_max_age_seconds", 600, 604_800, DEFAULT_OLDEST_KEYS)?,
        leeway: seconds("clock_leeway_seconds", 0, 300, DEFAULT_LEEWAY)?,
        timeout: seconds("timeout_seconds", 1, 60, DEFAULT_TIMEOUT)?,
    };
    profile.check(&provider).map_err(|(field, found, expected)| ConfigError::new(fields.at(field), found, expected))?;
    Ok(provider)
}

/// The issuer with a word in the place of its tenant, and the tenants, where there are several.
fn issuer(fields: &Fields<'_>, profile: &'static dyn Profile) -> Result<(String, Vec<String>), ConfigError> {
    let text = fields.required_text("issuer", "the provider's issuer, as its tokens have it in `iss`")?;
    let tenants = fields.texts("tenants")?;
    match (profile.tenant_word(), text.contains(TENANT), tenants.is_empty()) {
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

fn authentication(
    fields: &Fields<'_>,
    env: Environment<'_>,
    warnings: &mut Vec<String>,
) -> Result<ClientAuthentication, ConfigError> {
    const ALGORITHMS: &str = "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA";
    const METHODS: &str = "client_secret_basic, client_secret_post or private_key_jwt";
    let method = fields.required_text("method", METHODS)?;
    let unused = |names: &[&str]| match names.iter().find(|name| fields.has(name)) {
        Some(name) => Err(ConfigError::new(fields.at(name), "a value", format!("nothing: {method} does not use it"))),
        None => Ok(()),
    };
    match method {
        "client_secret_basic" | "client_secret_post" => {
            unused(&["key", "key_id", "algorithm", "audience", "certificate", "certificate_header"])?;
            let current = secret(fields, "secret", env, warnings)?;
            let previous = match fields.has("previous_secret") {
                true => Some(secret(fields, "previous_secret", env, warnings)?),
                false => None,
            };
            let secret = ClientSecret { current, previous };
            Ok(if method == "client_secret_basic" {
                ClientAuthentication::SecretBasic(secret)
            } else {
                ClientAuthentication::SecretPost(secret)
            })
        }
        "private_key_jwt" => {
            unused(&["secret", "previous_secret"])?;
            let name = fields.required_text("algorithm", ALGORITHMS)?;
            let algorithm = Algorithm::from_name(name)
                .ok_or_else(|| ConfigError::new(fields.at("algorithm"), format!("{name:?}"), ALGORITHMS))?;
            let text = secret(fields, "key", env, warnings)?;
            let key = SigningKey::parse(algorithm, text.reveal()).ok_or_else(|| {
                let kind = match algorithm {
                    Algorithm::Es256 => "a P-256 key",
                    Algorithm::Es384 => "a P-384 key",
                    Algorithm::EdDsa => "an Ed25519 key",
                    _ => "an RSA key of 2048 to 4096 bits",
                };
                let expected = format!(
                    "{kind} as PEM that begins with BEGIN PRIVATE KEY (openssl pkcs8 -topk8 -nocrypt -in key.pem makes it of other forms)"
                );
                ConfigError::new(fields.at("key"), "something that is no such key", expected)
            })?;
            let optional = |name: &str| fields.text(name).map(|text| text.map(str::to_owned));
            Ok(ClientAuthentication::PrivateKeyJwt {
                certificate: certificate_header(fields, env, &key)?,
                key,
                key_id: optional("key_id")?,
                audience: optional("audience")?,
            })
        }
        other => Err(ConfigError::new(fields.at("method"), format!("{other:?}"), METHODS)),
    }
}

/// What assertions say of the certificate that the provider knows the key by.
fn certificate_header(
    fields: &Fields<'_>,
    env: Environment<'_>,
    key: &SigningKey,
) -> Result<CertificateHeader, ConfigError> {
    const MEMBERS: &str = "some of x5t#S256, x5t and x5c";
    if !fields.has("certificate") {
        return match fields.has("certificate_header") {
            true => Err(ConfigError::new(
                fields.at("certificate"),
                "nothing",
                "the certificate that certificate_header is about",
            )),
            false => Ok(CertificateHeader::default()),
        };
    }
    // It is no secret.
    let text = secret(fields, "certificate", env, &mut Vec::new())?;
    let wrong = |found: &str| {
        let expected = "the certificate of key as PEM, behind it those that it rests on";
        ConfigError::new(fields.at("certificate"), found, expected)
    };
    let chain =
        pem::blocks(text.reveal(), "CERTIFICATE").ok_or_else(|| wrong("something that is no PEM of certificates"))?;
    let certificate =
        chain.first().filter(|der| key.is_in(der)).ok_or_else(|| wrong("a certificate of another key"))?;
    let mut members = fields.texts("certificate_header")?;
    if members.is_empty() {
        members.push("x5t#S256".to_owned());
    }
    let mut header = CertificateHeader::default();
    for (index, member) in members.iter().enumerate() {
        if members.iter().take(index).any(|other| other == member) {
            return Err(ConfigError::new(fields.at("certificate_header"), format!("{member:?} twice"), MEMBERS));
        }
        match member.as_str() {
            "x5t#S256" => {
                header.thumbprints.push(("x5t#S256", BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(certificate))))
            }
            "x5t" => header.thumbprints.push(("x5t", BASE64_URL_SAFE_NO_PAD.encode(Sha1::digest(certificate)))),
            "x5c" => header.chain = chain.iter().map(|der| BASE64_STANDARD.encode(der)).collect(),
            other => return Err(ConfigError::new(fields.at("certificate_header"), format!("{other:?}"), MEMBERS)),
        }
    }
    Ok(header)
}

fn secret(
    parent: &Fields<'_>,
    name: &str,
    env: Environment<'_>,
    warnings: &mut Vec<String>,
) -> Result<Secret, ConfigError> {
    let fields = parent.required_object(name, &["env", "inline"])?;
    match (fields.text("env")?, fields.text("inline")?) {
        (Some(variable), None) => match env(variable) {
            Some(value) if !value.trim().is_empty() => Ok(Secret::new(value.trim().to_owned())),
            _ => Err(ConfigError::new(
                fields.at("env"),
                // Somebody may have put the secret itself here.
                format!("{}, which is not set, or empty, in the filter's environment", name_only(variable)),
                "a variable of Envoy's environment that vm_config.environment_variables.host_env_keys lists",
            )),
        },
        (None, Some(value)) => {
            let path = fields.at("inline");
            warnings.push(format!("{path}: a secret in the configuration is shown by Envoy's /config_dump; use env"));
            Ok(Secret::new(value.to_owned()))
        }
        _ => Err(ConfigError::new(fields.path(), "none or both of env and inline", "{env: NAME}, or {inline: value}")),
    }
}

/// The name of a variable, if it looks like one.
fn name_only(variable: &str) -> &str {
    let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if variable.len() <= 64 && variable.bytes().all(is_name) {
        variable
    } else {
        "a name that is not made of A-Z, 0-9 and _"
    }
}

fn subject_token(fields: &Fields<'_>) -> Result<SubjectToken, ConfigError> {
    let audiences = fields.texts("audiences")?;
    let (header, cookie) = (fields.text("header")?, fields.text("cookie")?);
    let is_alone = header.is_none() && cookie.is_none() && audiences.is_empty();
    match fields.required_text("type", "access_token or id_token")? {
        "access_token" if is_alone => Ok(SubjectToken::AccessToken),
        "id_token" if is_alone => Ok(SubjectToken::IdToken),
        "access_token" => {
            let expected = "no header, cookie or audiences: the access token is the one in `authorization`";
            Err(ConfigError::new(fields.path(), "more than a type", expected))
        }
        "id_token" => {
            let source = match (header, cookie) {
                (Some(header), None) => TokenSource::Header(header_name(&fields.at("header"), header)?),
                (None, Some(cookie)) => TokenSource::Cookie(cookie_name(&fields.at("cookie"), cookie)?),
                _ => {
                    return Err(ConfigError::new(
                        fields.path(),
                        "none or both of header and cookie",
                        "the one that carries the ID token, with its audiences; or neither and no audiences, where it is the token in `authorization`",
                    ));
                }
            };
            if audiences.is_empty() {
                let expected = "a list with the id of the client that the user signed in to";
                return Err(ConfigError::new(fields.at("audiences"), "none", expected));
            }
            Ok(SubjectToken::IdTokenBeside { source, audiences })
        }
        other => Err(ConfigError::new(fields.at("type"), format!("{other:?}"), "access_token or id_token")),
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

fn cookie_name(path: &str, name: &str) -> Result<String, ConfigError> {
    if is_token(name) {
        Ok(name.to_owned())
    } else {
        Err(ConfigError::new(path, format!("{name:?}"), "the name of a cookie"))
    }
}
