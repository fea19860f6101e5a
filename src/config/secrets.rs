//! Secrets: values from the environment or from the configuration itself, and the key for shared data that is made of them.

use std::rc::Rc;

use crate::config::error::Code;
use crate::config::findings::Reported;
use crate::config::provider::Providers;
use crate::config::reader::Fields;
use crate::provider::{ExchangeTarget, Provider};
use crate::resource::Resource;
use crate::secret::Secret;
use crate::shared::SharedKey;

/// Minimum length of a secret that protects shared data, in characters: a reader of the data can try short ones.
const MIN_SHARED_CHARACTERS: usize = 32;

/// Reads a secret, which must be there.
pub(super) fn secret(parent: &Fields<'_>, name: &str) -> Result<Secret, Reported> {
    read(parent, name, true)
}

/// Reads a certificate, which is given like a secret and is none.
pub(super) fn certificate(parent: &Fields<'_>, name: &str) -> Result<Secret, Reported> {
    read(parent, name, false)
}

fn read(parent: &Fields<'_>, name: &str, is_secret: bool) -> Result<Secret, Reported> {
    let fields = parent.required_object(name)?;
    if let Some(name) = fields.text("env")? {
        return variable(&fields, name);
    }
    let value = fields.required_text("inline")?;
    if is_secret {
        let text = format_args!("a secret in the configuration is shown by Envoy's /config_dump; use env");
        fields.warn("inline", text);
    }
    Ok(Secret::new(value.to_owned()))
}

/// Returns the value of the environment variable that the field `env` names.
pub(super) fn variable(fields: &Fields<'_>, name: &str) -> Result<Secret, Reported> {
    match fields.context.variable(name) {
        Some(value) if !value.trim().is_empty() => Ok(Secret::new(value.trim().to_owned())),
        _ => {
            // The name may be the secret itself, in the wrong place.
            let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
            let is_shown = name.len() <= 64 && name.bytes().all(is_name);
            let name = if is_shown { name } else { "a name that is not made of A-Z, 0-9 and _" };
            let found = format!("{name}, which is not set, or empty, in the filter's environment");
            let expected = "a variable of Envoy's environment that vm_config.environment_variables.host_env_keys lists";
            Err(fields.refuse(Code::UnsetVariable, "env", &found, expected))
        }
    }
}

/// Makes the key for shared data of every secret in the configuration. `resources` is `None` if one is mistaken: its client
/// may have a secret.
pub(super) fn shared_key(
    root: &Fields<'_>,
    providers: &Providers<'_, Rc<Provider>>,
    resources: Option<&[Rc<Resource>]>,
) -> Result<SharedKey, Reported> {
    const NAME: &str = "shared_data_secret";
    let own = if root.has(NAME) { Some(secret(root, NAME)?) } else { None };
    if let Some(own) = &own {
        let count = own.reveal().chars().count();
        if count < MIN_SHARED_CHARACTERS {
            return Err(root.refuse(Code::ShortSecret, NAME, &format!("{count} characters"), "at least 32"));
        }
    }
    let (providers, resources) = (providers.all_ref()?, resources.ok_or(Reported::DEPENDS)?);
    let targets = resources.iter().flat_map(|resource| &resource.exchanges).map(|exchange| &exchange.target);
    let targets = targets.filter_map(ExchangeTarget::exchange).filter(|target| !target.has_one_client());
    let elsewhere = targets.filter_map(|target| Some(&target.authorization_server()?.client));
    let clients = providers.iter().filter_map(|provider| provider.client.as_ref()).chain(elsewhere);
    let secrets: Vec<&[u8]> = clients.filter_map(|client| client.authentication.secret()).collect();
    if own.is_none() && secrets.is_empty() {
        let expected = "{env: NAME} with a random secret (openssl rand -base64 32 makes one): no client has a secret to protect Envoy's shared data";
        return Err(root.refuse(Code::MissingSharedDataSecret, NAME, "nothing", expected));
    }
    if own.is_none() && secrets.iter().all(|secret| secret.len() < MIN_SHARED_CHARACTERS) {
        root.warn(NAME, format_args!(
            "not set, and every client secret has less than 32 characters: a reader of Envoy's shared data can guess it"
        ));
    }
    let own = own.as_ref().map(|own| own.reveal().as_bytes());
    Ok(SharedKey::from_secrets(own.into_iter().chain(secrets)))
}
