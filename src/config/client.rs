use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rsa::sha2::{Digest as _, Sha256};
use sha1::Sha1;

use crate::config::provider::own_header_name;
use crate::config::reader::Fields;
use crate::config::{ConfigError, either, find_placeholder};
use crate::crypto::{Algorithm, SigningKey, pem};
use crate::dpop::DpopKey;
use crate::jose::is_compact;
use crate::provider::{AssertionSource, CertificateHeader, Client, ClientAuthentication, ClientSecret};
use crate::secret::Secret;

const FIELDS: [&str; 10] = [
    "method",
    "assertion",
    "secret",
    "previous_secret",
    "key",
    "key_id",
    "algorithm",
    "audience",
    "certificate",
    "certificate_header",
];

/// Where the value of an environment variable comes from.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

const METHODS: &str = "client_secret_basic, client_secret_post, private_key_jwt, tls_client_auth, self_signed_tls_client_auth, client_assertion or upstream";

/// The client that exchanges at a provider.
pub(super) fn build(
    provider: &Fields<'_>,
    env: Environment<'_>,
    warnings: &mut Vec<String>,
) -> Result<Client, ConfigError> {
    let fields = provider.required_object("client", &["id", "authentication", "dpop"])?;
    let id = fields.required_text("id", "the client id that the provider gave")?.to_owned();
    find_placeholder(&fields.at("id"), &id, warnings);
    let Some(own) = fields.object("authentication", &FIELDS)? else {
        let expected = format!("an object with a method, which is {METHODS}, and what that needs");
        return Err(ConfigError::new(fields.at("authentication"), "nothing", expected));
    };
    let authentication = authentication(&own, env, warnings)?;
    let dpop = match fields.object("dpop", &["key", "algorithm"])? {
        Some(fields) => {
            let key = signing_key(&fields, env, warnings)?;
            if let ClientAuthentication::PrivateKeyJwt { key: other, .. } = &authentication
                && other.public_jwk() == key.public_jwk()
            {
                warnings.push(format!("{}: the key of authentication, too; take one of its own", fields.at("key")));
            }
            Some(DpopKey::new(key))
        }
        None => None,
    };
    Ok(Client { id, authentication, dpop })
}

fn authentication(
    fields: &Fields<'_>,
    env: Environment<'_>,
    warnings: &mut Vec<String>,
) -> Result<ClientAuthentication, ConfigError> {
    let method = fields.required_text("method", METHODS)?;
    let uses: &[&str] = match method {
        "client_secret_basic" | "client_secret_post" => &["secret", "previous_secret"],
        "private_key_jwt" => &["key", "key_id", "algorithm", "audience", "certificate", "certificate_header"],
        "client_assertion" => &["assertion"],
        "tls_client_auth" | "self_signed_tls_client_auth" | "upstream" => &[],
        other => return Err(ConfigError::new(fields.at("method"), format!("{other:?}"), METHODS)),
    };
    let is_unused = |name: &&&str| **name != "method" && !uses.contains(name) && fields.has(name);
    if let Some(name) = FIELDS.iter().find(is_unused) {
        return Err(ConfigError::new(
            fields.at(name),
            "a value",
            format!("nothing: method {method:?} does not use it"),
        ));
    }
    match method {
        "client_secret_basic" | "client_secret_post" => {
            let current = secret(fields, "secret", env, warnings)?;
            let previous = match fields.has("previous_secret") {
                true => Some(secret(fields, "previous_secret", env, warnings)?),
                false => None,
            };
            if previous.as_ref().is_some_and(|previous| previous.reveal() == current.reveal()) {
                warnings.push(format!("{}: it is the same as secret", fields.at("previous_secret")));
            }
            let secret = ClientSecret { current, previous };
            Ok(if method == "client_secret_basic" {
                ClientAuthentication::SecretBasic(secret)
            } else {
                ClientAuthentication::SecretPost(secret)
            })
        }
        "private_key_jwt" => {
            let key = signing_key(fields, env, warnings)?;
            let optional = |name: &str| fields.text(name).map(|text| text.map(str::to_owned));
            Ok(ClientAuthentication::PrivateKeyJwt {
                certificate: certificate_header(fields, env, &key)?,
                key,
                key_id: optional("key_id")?,
                audience: optional("audience")?,
            })
        }
        "client_assertion" => Ok(ClientAuthentication::Assertion(assertion(fields, env, warnings)?)),
        "upstream" => Ok(ClientAuthentication::Upstream),
        _ => Ok(ClientAuthentication::MutualTls),
    }
}

/// Where the assertion of another issuer comes from.
fn assertion(
    parent: &Fields<'_>,
    env: Environment<'_>,
    warnings: &mut Vec<String>,
) -> Result<AssertionSource, ConfigError> {
    let fields = parent.required_object("assertion", &["env", "header"])?;
    match (fields.text("env")?, fields.text("header")?) {
        (Some(name), None) => {
            let path = fields.at("env");
            let assertion = variable(&path, name, env)?;
            if !is_compact(assertion.reveal().as_bytes()) {
                return Err(ConfigError::new(path, "a variable that holds no such thing", "a signed JWT"));
            }
            warnings
                .push(format!("{path}: it is read once, when Envoy starts; use header for an assertion that rotates"));
            Ok(AssertionSource::Environment(assertion))
        }
        (None, Some(name)) => Ok(AssertionSource::Header(own_header_name(&fields.at("header"), name)?)),
        _ => Err(ConfigError::new(
            fields.path(),
            either(fields.has("env"), ["env", "header"]),
            "{env: NAME}, or {header: x-…}",
        )),
    }
}

/// The private key in `key`, for `algorithm`.
fn signing_key(
    fields: &Fields<'_>,
    env: Environment<'_>,
    warnings: &mut Vec<String>,
) -> Result<SigningKey, ConfigError> {
    const ALGORITHMS: &str = "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA";
    let name = fields.required_text("algorithm", ALGORITHMS)?;
    let algorithm = Algorithm::from_name(name)
        .ok_or_else(|| ConfigError::new(fields.at("algorithm"), format!("{name:?}"), ALGORITHMS))?;
    let text = secret(fields, "key", env, warnings)?;
    SigningKey::parse(algorithm, text.reveal()).ok_or_else(|| {
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
    })
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
    match (members.is_empty(), fields.has("certificate_header")) {
        (true, true) => return Err(ConfigError::new(fields.at("certificate_header"), "an empty list", MEMBERS)),
        (true, false) => members.push("x5t#S256".to_owned()),
        (false, _) => {}
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

/// A secret of the operator's: from the environment, or written down.
pub(super) fn secret(
    parent: &Fields<'_>,
    name: &str,
    env: Environment<'_>,
    warnings: &mut Vec<String>,
) -> Result<Secret, ConfigError> {
    let fields = parent.required_object(name, &["env", "inline"])?;
    match (fields.text("env")?, fields.text("inline")?) {
        (Some(name), None) => variable(&fields.at("env"), name, env),
        (None, Some(value)) => {
            let path = fields.at("inline");
            warnings.push(format!("{path}: a secret in the configuration is shown by Envoy's /config_dump; use env"));
            Ok(Secret::new(value.to_owned()))
        }
        _ => Err(ConfigError::new(
            fields.path(),
            either(fields.has("env"), ["env", "inline"]),
            "{env: NAME}, or {inline: value}",
        )),
    }
}

/// The value of a variable of Envoy's environment.
fn variable(path: &str, name: &str, env: Environment<'_>) -> Result<Secret, ConfigError> {
    match env(name) {
        Some(value) if !value.trim().is_empty() => Ok(Secret::new(value.trim().to_owned())),
        _ => Err(ConfigError::new(
            path,
            // Somebody may have put the secret itself here.
            format!("{}, which is not set, or empty, in the filter's environment", name_only(name)),
            "a variable of Envoy's environment that vm_config.environment_variables.host_env_keys lists",
        )),
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
