//! The configuration of the world, and its engines.

use std::cell::RefCell;
use std::collections::HashMap;

use onbehalf::config::Config;
use onbehalf::crypto::{Algorithm, Crypto, PublicKey, SigningKey, Software};
use onbehalf::engine::Engine;
use onbehalf::http::Callout;
use serde_json::json;

use crate::configuration::{configuration, parse};
use crate::http::form;
use crate::shared_map::SharedMap;
use crate::tokens::{ENTRA, OKTA};

/// The place of the ID token of Okta's users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdToken {
    /// There is none, and the access token is the subject token.
    None,
    /// A header field.
    Header,
    /// A cookie.
    Cookie,
}

impl IdToken {
    /// The name of the header field or the cookie.
    pub const NAME: &str = "idt";

    /// The place that a byte of the fuzzer chooses.
    pub fn from_byte(byte: u8) -> Self {
        [Self::None, Self::Header, Self::Cookie][usize::from(byte) % 3]
    }
}

/// The settings of one run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The place of the ID token of Okta's users.
    pub id_token: IdToken,
    /// `true` if an exchange at Okta takes two calls (ID-JAG).
    pub two_calls: bool,
    /// `true` if the client at Okta signs assertions; `false` if it sends a secret.
    pub client_assertions: bool,
    /// Maximum number of verified tokens and of exchanged tokens in the caches, or the defaults.
    pub cache: Option<(usize, usize)>,
}

impl Settings {
    /// The settings of the fuzzer, whose inputs must give the same run again: no client assertion with its random `jti`.
    pub fn fixed(id_token: IdToken, cached: u8) -> Self {
        let cached = usize::from(cached % 8);
        Self { id_token, two_calls: false, client_assertions: false, cache: Some((cached, cached + 1)) }
    }

    /// The target of Okta's users in the exchange.
    pub fn okta_target(self) -> &'static str {
        if self.two_calls { "https://acme.okta.example/oauth2/aus1" } else { "com.acme.github" }
    }

    /// The configuration as the engine reads it.
    pub fn config(self) -> Config {
        let mut configuration = configuration();
        let okta = &mut configuration["identity_providers"]["okta-eu"];
        if !self.client_assertions {
            okta["client"]["authentication"] = json!({"method": "client_secret_basic", "secret": {"env": "SECRET"}});
        }
        let audiences = ["login-client"];
        match self.id_token {
            IdToken::None => {}
            IdToken::Header => {
                okta["subject_token"] = json!({"type": "id_token", "header": IdToken::NAME, "audiences": audiences})
            }
            IdToken::Cookie => {
                okta["subject_token"] = json!({"type": "id_token", "cookie": IdToken::NAME, "audiences": audiences})
            }
        }
        if self.two_calls {
            okta["profile"] = json!("okta_xaa");
            configuration["resources"][0]["exchange"]["okta-eu"]["audience"] = json!(self.okta_target());
        }
        configuration["resources"][0]["dpop"] = json!({"mode": "optional"});
        configuration["resources"][0]["certificate_bound_tokens"] = json!("optional");
        if let Some((verified, exchanged)) = self.cache {
            configuration["cache"] = json!({"verified_tokens": verified, "exchanged_tokens": exchanged});
        }
        parse(&configuration)
    }

    /// The engine of a worker that shares `shared` with other workers.
    pub fn engine(self, shared: &SharedMap, worker: u8) -> Engine {
        Engine::new(self.config(), Box::new(CachedVerdicts { worker }), Box::new(shared.clone()))
    }
}

/// Software cryptography that verifies each signature once: a world has few tokens, and the runs are many.
struct CachedVerdicts {
    worker: u8,
}

/// The verdict for an SPKI, a message and a signature. The message names the algorithm.
type Verdicts = HashMap<(Vec<u8>, Vec<u8>, Vec<u8>), bool>;

thread_local! {
    static VERDICTS: RefCell<Verdicts> = RefCell::default();
}

impl Crypto for CachedVerdicts {
    fn verify(&self, algorithm: Algorithm, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        VERDICTS.with_borrow_mut(|verdicts| {
            if verdicts.len() > 10_000 {
                verdicts.clear();
            }
            let name = (key.spki().to_vec(), message.to_vec(), signature.to_vec());
            *verdicts.entry(name).or_insert_with(|| Software.verify(algorithm, key, message, signature))
        })
    }

    fn sign(&self, key: &SigningKey, message: &[u8]) -> Option<Vec<u8>> {
        Software.sign(key, message)
    }

    /// Octets that are the same in each run and differ between workers.
    fn random(&self) -> Option<[u8; 16]> {
        Some([self.worker; 16])
    }
}

/// The issuer that a call goes to, which must be one of the two.
pub fn issuer_of(call: &Callout) -> &'static str {
    let issuer = if &*call.cluster == "entra" { ENTRA } else { OKTA };
    let host = issuer.split('/').nth(2).expect("a host");
    assert_eq!(call.url.authority(), host, "a call went to a host that is not its provider's");
    assert_eq!(call.url.scheme(), "https");
    issuer
}

/// Subject token and target of a token request.
pub fn exchange_of(call: &Callout) -> (String, String) {
    let form = form(call);
    let subject = form.get("assertion").or_else(|| form.get("subject_token")).expect("a subject token");
    let target = form.get("audience").or_else(|| form.get("scope")).cloned();
    (subject.clone(), target.unwrap_or_default())
}
