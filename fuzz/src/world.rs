//! Two providers, callers with their tokens, and what must be true of anything that the engine says.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::LazyLock;

use onbehalf::config::Config;
use onbehalf::crypto::{Algorithm, Crypto, PublicKey, SigningKey, Software};
use onbehalf::engine::Engine;
use onbehalf::http::{Callout, CalloutResult, LocalReply};
use serde_json::{Value, json};

use crate::support::{ENTRA, OKTA, SECRET, SharedMap, answer, configuration};

/// Somebody with a token.
pub struct Caller {
    /// The access token.
    pub token: &'static str,
    /// The ID token that goes with it.
    pub id_token: Option<&'static str>,
    /// `exp` of both.
    pub expires: u64,
    /// What is to be asked for at `/github`; `None`: never forwarded.
    pub github: Option<&'static str>,
    /// What is to be asked for at `/github/admin`.
    pub admin: Option<&'static str>,
    /// Proofs of possession that go with the access token, where it is bound to a key.
    pub proofs: Vec<&'static str>,
    /// The SHA-256 of its certificate, where the access token is bound to that.
    pub certificate: Option<[u8; 32]>,
}

/// What stands for a certificate: nothing but its SHA-256 is ever looked at.
pub const CERTIFICATE: &[u8] = b"certificate";

static WORLD: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(include_str!("../fixtures/world.json")).unwrap());

pub static CALLERS: LazyLock<Vec<Caller>> = LazyLock::new(|| {
    let caller = |caller: &'static Value| Caller {
        token: caller["token"].as_str().unwrap(),
        id_token: caller["id_token"].as_str(),
        expires: caller["expires"].as_u64().unwrap(),
        github: caller["github"].as_str(),
        admin: caller["admin"].as_str(),
        proofs: caller["proofs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
        certificate: caller["has_certificate"].as_bool().map(|_| hmac_sha256::Hash::hash(CERTIFICATE)),
    };
    WORLD["callers"].as_array().unwrap().iter().map(caller).collect()
});

/// The JWK Set of an issuer, before or after it has changed a key.
pub fn key_set(issuer: &str, next: bool) -> String {
    WORLD[if next { "next_keys" } else { "keys" }][issuer].to_string()
}

/// Where the ID token of those callers comes from that must have one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum IdToken {
    None,
    Header,
    Cookie,
}

impl IdToken {
    pub const NAME: &str = "idt";

    pub fn from_byte(byte: u8) -> Self {
        [Self::None, Self::Header, Self::Cookie][usize::from(byte) % 3]
    }
}

pub fn config(id_token: IdToken, cached: u8) -> Config {
    let mut configuration = configuration();
    let okta = &mut configuration["identity_providers"]["okta-eu"];
    // An assertion has a random `jti`, and no run would be like another.
    okta["client"]["authentication"] = json!({"method": "client_secret_basic", "secret": {"env": "SECRET"}});
    let audiences = ["login-client"];
    match id_token {
        IdToken::None => {}
        IdToken::Header => {
            okta["subject_token"] = json!({"type": "id_token", "header": IdToken::NAME, "audiences": audiences})
        }
        IdToken::Cookie => {
            okta["subject_token"] = json!({"type": "id_token", "cookie": IdToken::NAME, "audiences": audiences})
        }
    }
    configuration["resources"][0]["dpop"] = json!({"mode": "optional"});
    configuration["resources"][0]["certificate_bound_tokens"] = json!("optional");
    let cached = cached % 8;
    configuration["cache"] = json!({"verified_tokens": cached, "exchanged_tokens": cached + 1});
    Config::parse(configuration.to_string().as_bytes(), &|_| Some(SECRET.to_owned())).unwrap()
}

/// A worker that shares `shared` with others.
pub fn engine(id_token: IdToken, cached: u8, shared: &SharedMap, worker: u8) -> Engine {
    watch_the_log();
    Engine::new(config(id_token, cached), Box::new(Remembering { worker }), Box::new(shared.clone()))
}

/// The real verdicts, each found once: there are few tokens in this world, and the runs are many.
struct Remembering {
    worker: u8,
}

type Verdicts = HashMap<(Vec<u8>, Vec<u8>, Vec<u8>), bool>;

thread_local! {
    static VERDICTS: RefCell<Verdicts> = RefCell::default();
}

impl Crypto for Remembering {
    fn verify(&self, algorithm: Algorithm, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        VERDICTS.with_borrow_mut(|verdicts| {
            if verdicts.len() > 10_000 {
                verdicts.clear();
            }
            // The message says the algorithm, so it need not be part of the name.
            let found = (key.spki().to_vec(), message.to_vec(), signature.to_vec());
            *verdicts.entry(found).or_insert_with(|| Software.verify(algorithm, key, message, signature))
        })
    }

    fn sign(&self, key: &SigningKey, message: &[u8]) -> Option<Vec<u8>> {
        Software.sign(key, message)
    }

    /// Not random, so that every run can be had again; but no two workers get the same.
    fn random(&self) -> Option<[u8; 16]> {
        Some([self.worker; 16])
    }
}

/// Which provider a call goes to. It must be one of them.
pub fn issuer(call: &Callout) -> &'static str {
    let issuer = if &*call.cluster == "entra" { ENTRA } else { OKTA };
    let host = issuer.split('/').nth(2).unwrap();
    assert_eq!(call.url.authority(), host, "a call went to a host that is not its provider's");
    assert_eq!(call.url.scheme(), "https");
    issuer
}

/// What the provider says to a call for its metadata or its keys.
pub fn document(call: &Callout, next: bool) -> CalloutResult {
    let issuer = issuer(call);
    if call.url.as_str().contains("/.well-known/") {
        let metadata = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys"), "token_endpoint": format!("{issuer}/token")});
        answer(200, metadata.to_string().as_bytes())
    } else {
        answer(200, key_set(issuer, next).as_bytes())
    }
}

/// Whether an input holds the secret by itself: the fuzzer reads it in the comparisons, and what an operator or a
/// provider writes elsewhere may be shown.
pub fn holds_the_secret(input: &[u8]) -> bool {
    input.windows(SECRET.len()).any(|window| window.eq_ignore_ascii_case(SECRET.as_bytes()))
}

/// Whether the signature of one of the callers' tokens, or the client's secret, is in `text`.
pub fn has_a_secret(text: &str) -> bool {
    let tokens = CALLERS.iter().flat_map(|caller| [Some(caller.token), caller.id_token]).flatten();
    text.contains(SECRET)
        || tokens.filter_map(|token| token.rsplit_once('.')).any(|(_, signature)| text.contains(signature))
}

/// What holds for every answer that is not the upstream's.
pub fn check_answer(answer: &LocalReply) {
    assert!(matches!(answer.status, 200 | 204 | 400..=599), "{answer:?}");
    assert!(!has_a_secret(&answer.body), "a secret went out");
    if !answer.body.is_empty() {
        let _: Value = serde_json::from_str(&answer.body).expect("a body that is not JSON");
    }
    for (name, value) in &answer.headers {
        assert!(value.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{name}: {value:?}");
        assert!(!has_a_secret(value), "a secret went out");
        if *name == "www-authenticate" {
            check_challenge(value);
        }
    }
}

/// `Bearer name="value", name="value"` (RFC 9110 section 11.6.1), nothing else and no name twice.
pub fn check_challenge(value: &str) {
    let parameters = value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("DPoP "));
    let mut rest = parameters.expect("a challenge of another scheme");
    let mut names = Vec::new();
    loop {
        let (name, quoted) = rest.split_once("=\"").unwrap_or_else(|| panic!("no quoted string: {value}"));
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name:?} in {value}");
        assert!(!names.contains(&name), "{name} stands twice: {value}");
        names.push(name);
        let (text, after) = quoted.split_once('"').unwrap_or_else(|| panic!("an open string: {value}"));
        assert!(!text.contains('\\'), "{value}");
        if after.is_empty() {
            return;
        }
        rest = after.strip_prefix(", ").unwrap_or_else(|| panic!("something after a string: {value}"));
    }
}

/// Reads every line of the log as it is written: no secret, no name of a user but where a verified token's is, once, no character
/// that ends a line.
struct Watcher;

impl log::Log for Watcher {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = record.args().to_string();
        assert!(!line.contains(char::is_control), "a control character in the log: {line:?}");
        assert!(!has_a_secret(&line), "a secret in the log");
        let mut rest = line.split(' ').filter(|fact| !fact.starts_with("subject="));
        assert!(!rest.any(|fact| fact.contains("user-")), "a user in the log: {line}");
        assert!(line.matches(" subject=").count() <= 1, "two users in a line: {line}");
    }

    fn flush(&self) {}
}

pub fn watch_the_log() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Watcher).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}
