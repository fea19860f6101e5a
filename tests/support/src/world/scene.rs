//! The callers of the world and the keys of its providers.

use std::collections::HashMap;
use std::sync::LazyLock;

use onbehalf::http::{Callout, CalloutResult};
use serde_json::{Value, json};

use super::invariants::Secrets;
use super::settings::issuer_of;
use crate::http::answer;
use crate::random::Random;
use crate::tokens::{ENTRA, ENTRA_KEY, NOW, OKTA, OKTA_KEY, OTHER_KEY, alice, bob, key_set};
use crate::with;

/// A caller with a token.
#[derive(Debug)]
pub struct Caller {
    /// The access token.
    pub token: String,
    /// The ID token of the same user.
    pub id_token: Option<String>,
    /// The `exp` of both, in seconds.
    pub expires: u64,
    /// The target of the exchange at `/github`, or none if the caller is never forwarded there.
    pub github: Option<String>,
    /// The target of the exchange at `/github/admin`, or none if the caller is never forwarded there.
    pub admin: Option<String>,
    /// DPoP proofs for the access token, where it is bound to a key.
    pub proofs: Vec<String>,
    /// The SHA-256 of the client certificate, where the access token is bound to it.
    pub certificate: Option<[u8; 32]>,
}

impl Caller {
    /// The target of the exchange at `/github`, or at `/github/admin`.
    pub fn target(&self, admin: bool) -> Option<&str> {
        if admin { self.admin.as_deref() } else { self.github.as_deref() }
    }
}

/// Stands for a certificate: the engine sees only its SHA-256.
pub const CERTIFICATE: &[u8] = b"certificate";

/// Callers, and the keys that their providers publish.
pub struct Scene {
    /// The callers.
    pub callers: Vec<Caller>,
    /// The JWK Set of each issuer.
    keys: HashMap<String, String>,
    /// The JWK Set of each issuer after a key rotation.
    next_keys: HashMap<String, String>,
    /// The secrets of the callers' tokens.
    pub secrets: Secrets,
}

impl Scene {
    fn new(callers: Vec<Caller>, keys: HashMap<String, String>, next_keys: HashMap<String, String>) -> Self {
        let tokens = callers.iter().flat_map(|caller| [Some(&caller.token), caller.id_token.as_ref()]);
        let secrets = Secrets::of_tokens(tokens.flatten().map(String::as_str));
        Self { callers, keys, next_keys, secrets }
    }

    /// The callers of `fixtures/world.json`, with bound tokens, ID tokens and keys of several algorithms. The fuzzer's
    /// `examples/seeds.rs` writes them.
    pub fn fixed() -> &'static Self {
        static FIXED: LazyLock<Scene> = LazyLock::new(|| {
            let world: Value = serde_json::from_str(include_str!("../../fixtures/world.json")).expect("JSON");
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let caller = |caller: &Value| Caller {
                token: text(&caller["token"]).expect("a token"),
                id_token: text(&caller["id_token"]),
                expires: caller["expires"].as_u64().expect("a time"),
                github: text(&caller["github"]),
                admin: text(&caller["admin"]),
                proofs: caller["proofs"].as_array().into_iter().flatten().filter_map(text).collect(),
                certificate: caller["has_certificate"].as_bool().map(|_| hmac_sha256::Hash::hash(CERTIFICATE)),
            };
            let callers = world["callers"].as_array().expect("callers").iter().map(caller).collect();
            let keys = |name: &str| {
                let sets = world[name].as_object().expect("JWK Sets");
                sets.iter().map(|(issuer, set)| (issuer.clone(), set.to_string())).collect()
            };
            Scene::new(callers, keys("keys"), keys("next_keys"))
        });
        &FIXED
    }

    /// Many users of both providers, whose tokens last for 30 seconds to a day, and hostile callers.
    pub fn generated(random: &mut Random, okta_target: &str) -> Self {
        let mut callers = Vec::new();
        let caller = |token: String, expires: u64, github: Option<&str>, admin: Option<&str>| Caller {
            token,
            id_token: None,
            expires,
            github: github.map(str::to_owned),
            admin: admin.map(str::to_owned),
            proofs: Vec::new(),
            certificate: None,
        };
        let mut expires = || NOW.secs() + random.pick(&[30, 300, 3600, 86_400]);
        for user in 0..12 {
            let exp = expires();
            let claims = json!({"oid": format!("user-{user}"), "exp": exp, "nbf": null, "iat": null, "scp": "mcp.read mcp.admin"});
            let token = ENTRA_KEY.token(&with(alice(), claims));
            callers.push(caller(token, exp, Some("api://github/.default"), Some("api://github-admin/.default")));
            let exp = expires();
            let claims = json!({"uid": format!("user-{user}"), "exp": exp, "iat": null});
            callers.push(caller(OKTA_KEY.token(&with(bob(), claims)), exp, Some(okta_target), None));
        }
        let hostile = [
            OTHER_KEY.token(&alice()),
            OTHER_KEY.token(&bob()),
            ENTRA_KEY.token(&bob()),
            ENTRA_KEY.token(&with(alice(), json!({"aud": "other"}))),
            ENTRA_KEY.token(&with(alice(), json!({"scp": null}))),
            "no-token-at-all".to_owned(),
            OKTA_KEY.token(&with(bob(), json!({"exp": 1}))),
        ];
        callers.extend(hostile.map(|token| caller(token, 0, None, None)));
        let set = |signers| String::from_utf8(key_set(signers)).expect("JSON");
        let keys = |entra, okta| HashMap::from([(ENTRA.to_owned(), set(entra)), (OKTA.to_owned(), set(okta))]);
        Self::new(callers, keys(&[&ENTRA_KEY], &[&OKTA_KEY]), keys(&[&ENTRA_KEY], &[&OKTA_KEY]))
    }

    /// The JWK Set of an issuer, before or after its key rotation.
    pub fn key_set(&self, issuer: &str, next: bool) -> &str {
        if next { &self.next_keys[issuer] } else { &self.keys[issuer] }
    }

    /// The reply of a provider to a call for its metadata or its JWKS, before or after its key rotation.
    pub fn document(&self, call: &Callout, next: bool) -> CalloutResult {
        let issuer = issuer_of(call);
        if call.url.as_str().contains("/.well-known/") {
            let metadata = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys"), "token_endpoint": format!("{issuer}/token")});
            answer(200, metadata.to_string().as_bytes())
        } else {
            answer(200, self.key_set(issuer, next).as_bytes())
        }
    }

    /// The caller whose access token or ID token this is.
    pub fn caller_of(&self, token: &str) -> Option<&Caller> {
        self.callers.iter().find(|caller| caller.token == token || caller.id_token.as_deref() == Some(token))
    }
}
