//! Key for shared data, made of every secret in the configuration.

use std::rc::Rc;

use crate::config::error::Code;
use crate::config::findings::Reported;
use crate::config::provider::Providers;
use crate::config::reader::Fields;
use crate::config::secrets::secret;
use crate::provider::{ExchangeTarget, Provider};
use crate::resource::Resource;
use crate::shared::SharedKey;

/// Minimum length of a secret that protects shared data, in characters: a reader of the data can try short ones.
const MIN_SHARED_CHARACTERS: usize = 32;

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
