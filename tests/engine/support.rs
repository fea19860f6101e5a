//! An engine with two providers and two resources, keys that sign tokens for it, and replies by script.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jwt_simple::algorithms::{ECDSAP256KeyPairLike, ES256KeyPair};
use onbehalf::config::Config;
use onbehalf::crypto::{Algorithm, Crypto, SigningKey, Software};
use onbehalf::engine::HeaderMutations;
use onbehalf::engine::{Decision, Engine, FetchId, RequestId};
use onbehalf::http::{Callout, CalloutFailure, CalloutResult, LocalReply, Request, Response};
use onbehalf::shared::{CasVersion, SharedData};
use onbehalf::time::UnixTime;
use serde_json::{Value, json};

pub const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
pub const TENANT: &str = "9b1c0000-1111-4222-8333-444455556666";
pub const ENTRA: &str = "https://login.entra.example/9b1c0000-1111-4222-8333-444455556666/v2.0";
pub const OKTA: &str = "https://acme.okta.example/oauth2/default";
pub const SECRET: &str = "s3cr3t~value";

/// A signing key with its JWK.
pub struct Signer {
    pub kid: &'static str,
    key: SigningKey,
    jwk: Value,
}

impl Signer {
    pub fn new(kid: &'static str) -> Self {
        let pair = ES256KeyPair::generate();
        let key = SigningKey::parse(Algorithm::Es256, &pair.key_pair().to_pem().unwrap()).unwrap();
        let point = pair.key_pair().public_key().to_bytes_uncompressed();
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let jwk = json!({"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": encode(&point[1..33]), "y": encode(&point[33..])});
        Self { kid, key, jwk }
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_bytes(header.to_string(), claims.to_string())
    }

    /// Header and claims may be anything, JSON or not.
    pub fn sign_bytes(&self, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
        let input = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(claims));
        let signature = Software.sign(&self.key, input.as_bytes()).unwrap();
        format!("{input}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    pub fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "ES256", "kid": self.kid, "typ": "JWT"}), claims)
    }
}

pub static ENTRA_KEY: LazyLock<Signer> = LazyLock::new(|| Signer::new("entra-1"));
pub static OKTA_KEY: LazyLock<Signer> = LazyLock::new(|| Signer::new("okta-1"));
pub static OTHER_KEY: LazyLock<Signer> = LazyLock::new(|| Signer::new("other-1"));

/// The PEM of an ES256 key for client assertions, and the verdict on them.
pub static CLIENT_KEY: LazyLock<ES256KeyPair> = LazyLock::new(ES256KeyPair::generate);

pub fn key_set(signers: &[&Signer]) -> Vec<u8> {
    json!({"keys": signers.iter().map(|signer| &signer.jwk).collect::<Vec<_>>()}).to_string().into_bytes()
}

/// Claims with some replaced (or removed, by null).
pub fn with(mut claims: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// What Entra says of Alice to the gateway.
pub fn alice() -> Value {
    json!({"iss": ENTRA, "aud": "api://gateway", "oid": "alice", "tid": TENANT, "sub": "pairwise", "azp": "client", "ver": "2.0",
        "scp": "mcp.read mcp.write", "iat": NOW.secs(), "nbf": NOW.secs(), "exp": NOW.secs() + 3600})
}

/// What Okta says of Bob to the gateway.
pub fn bob() -> Value {
    json!({"iss": OKTA, "aud": "api://default", "sub": "bob@acme.example", "uid": "00ubob", "cid": "client", "ver": 1,
        "jti": "AT.1", "scp": ["mcp.read", "mcp.write"], "iat": NOW.secs(), "exp": NOW.secs() + 3600})
}

/// What Okta says of Bob to the application that he signed in to.
pub fn bob_id() -> Value {
    json!({"iss": OKTA, "aud": "login-client", "sub": "00ubob", "jti": "ID.1", "nonce": "n", "iat": NOW.secs(), "exp": NOW.secs() + 3600})
}

pub fn alice_token() -> String {
    ENTRA_KEY.token(&alice())
}

/// Another user of Entra's for each name.
pub fn entra_user(name: &str) -> String {
    ENTRA_KEY.token(&with(alice(), json!({"oid": name})))
}

pub fn bob_token() -> String {
    OKTA_KEY.token(&bob())
}

pub fn configuration() -> Value {
    json!({
        "identity_providers": {
            "entra-us": {
                "profile": "entra_obo", "issuer": ENTRA, "cluster": "entra", "audiences": ["api://gateway", "gateway-id"],
                "client": {"id": "gateway-id", "authentication": {"method": "client_secret_post", "secret": {"env": "ENTRA_CLIENT_SECRET"}}},
            },
            "okta-eu": {
                "profile": "okta_obo", "issuer": OKTA, "cluster": "okta", "audiences": ["api://default"],
                "client": {"id": "0oa1", "authentication":
                    {"method": "private_key_jwt", "key": {"env": "OKTA_PRIVATE_KEY"}, "key_id": "k1", "algorithm": "ES256"}},
            },
        },
        "resources": [
            {"url": "https://mcp.acme.example/github", "scopes": ["mcp.read"], "scopes_supported": ["https://mcp.acme.example/github/mcp.read"],
             "exchange": {"entra-us": {"resource": "api://github"}, "okta-eu": {"audience": "com.acme.github", "scopes": ["github.read"]}}},
            {"url": "https://mcp.acme.example/github/admin", "scopes": ["mcp.admin"],
             "scopes_supported": ["https://mcp.acme.example/github/admin/mcp.admin"],
             "exchange": {"entra-us": {"resource": "api://github-admin"}}},
        ],
        "unauthenticated_paths": ["/healthz"],
    })
}

pub fn environment(name: &str) -> Option<String> {
    match name {
        "ENTRA_CLIENT_SECRET" => Some(SECRET.to_owned()),
        "OKTA_PRIVATE_KEY" => Some(CLIENT_KEY.key_pair().to_pem().unwrap()),
        _ => None,
    }
}

pub fn parse(configuration: &Value) -> Config {
    Config::parse(configuration.to_string().as_bytes(), &environment).unwrap_or_else(|error| panic!("{error}"))
}

/// What the operator is warned of, beside that both resources above take tokens of one list, which they do on purpose.
pub fn warnings(config: &Config) -> Vec<String> {
    let is_of_list = |warning: &&String| !warning.starts_with("identity_providers.entra-us.audiences: they hold for ");
    config.warnings.iter().filter(is_of_list).cloned().collect()
}

pub fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Request {
    let mut fields: Vec<(&str, &[u8])> =
        vec![(":method", method.as_bytes()), (":authority", b"mcp.acme.example"), (":path", path.as_bytes())];
    fields.extend(more.iter().map(|(name, value)| (*name, value.as_bytes())));
    Request::new(&fields)
}

pub fn bearer(path: &str, token: &str) -> Request {
    request("POST", path, &[("authorization", &format!("Bearer {token}"))])
}

pub fn answer(status: u16, body: &[u8]) -> CalloutResult {
    CalloutResult::Response(Response { status, headers: Vec::new(), body: body.to_vec() })
}

pub fn answer_with(status: u16, headers: &[(&str, &str)], body: &Value) -> CalloutResult {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    CalloutResult::Response(Response { status, headers, body: body.to_string().into_bytes() })
}

pub fn issued(token: &str) -> CalloutResult {
    answer_with(200, &[], &json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600}))
}

pub fn form(call: &Callout) -> HashMap<String, String> {
    let pairs: Vec<_> = form_urlencoded::parse(call.body.reveal().as_bytes()).into_owned().collect();
    let form: HashMap<_, _> = pairs.iter().cloned().collect();
    assert_eq!(form.len(), pairs.len(), "a parameter stands twice");
    form
}

/// The memory that workers of one process share, as Envoy has it.
#[derive(Clone, Default)]
pub struct SharedMap(Rc<RefCell<Records>>, Rc<RefCell<Queues>>);

/// The items of each queue, by its number.
type Queues = Vec<Vec<Vec<u8>>>;

/// Value and version, by name.
type Records = HashMap<String, (Vec<u8>, u32)>;

impl SharedData for SharedMap {
    fn get(&self, name: &str) -> (Option<Vec<u8>>, CasVersion) {
        match self.0.borrow().get(name) {
            Some((value, version)) => (Some(value.clone()), CasVersion(Some(*version))),
            None => (None, CasVersion(None)),
        }
    }

    fn put(&self, name: &str, value: &[u8], version: CasVersion) -> bool {
        let mut map = self.0.borrow_mut();
        let found = map.get(name).map(|(_, version)| *version);
        if found != version.0 {
            return false;
        }
        map.insert(name.to_owned(), (value.to_vec(), found.unwrap_or(0) + 1));
        true
    }

    fn enqueue(&self, queue: u32, message: &[u8]) -> bool {
        let mut queues = self.1.borrow_mut();
        let found = queues.get_mut(queue as usize);
        found.map(|queue| queue.push(message.to_vec())).is_some()
    }
}

impl SharedMap {
    /// Writes over whatever is there, as another plugin may.
    pub fn overwrite(&self, change: impl Fn(&str, &mut Vec<u8>)) {
        for (name, (value, version)) in self.0.borrow_mut().iter_mut() {
            change(name, value);
            *version += 1;
        }
    }

    /// A queue of its own for a worker.
    pub fn register_queue(&self) -> u32 {
        let mut queues = self.1.borrow_mut();
        queues.push(Vec::new());
        u32::try_from(queues.len() - 1).unwrap()
    }

    /// Takes out what is in a queue.
    pub fn dequeue(&self, queue: u32) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.1.borrow_mut()[queue as usize])
    }

    /// Every value, for [`put_back`](Self::put_back).
    pub fn copy(&self) -> Vec<(String, Vec<u8>)> {
        self.0.borrow().iter().map(|(name, (value, _))| (name.clone(), value.clone())).collect()
    }

    pub fn put_back(&self, values: &[(String, Vec<u8>)]) {
        for (name, value) in values {
            let mut map = self.0.borrow_mut();
            let version = map.get(name).map_or(0, |(_, version)| *version);
            map.insert(name.clone(), (value.clone(), version + 1));
        }
    }

    /// How often each record was written.
    pub fn versions(&self) -> HashMap<String, u32> {
        self.0.borrow().iter().map(|(name, (_, version))| (name.clone(), *version)).collect()
    }

    pub fn names(&self) -> Vec<String> {
        self.0.borrow().keys().cloned().collect()
    }
}

/// An engine, its time, and the calls that it has out.
pub struct Bench {
    pub engine: Engine,
    pub now: UnixTime,
    ids: u32,
    held: Vec<(FetchId, Callout)>,
    /// What it shares with other workers, and its queue there.
    shared: Option<(SharedMap, u32)>,
}

impl Bench {
    pub fn new(configuration: &Value) -> Self {
        Self::beside(configuration, &SharedMap::default())
    }

    /// Another worker of a process.
    pub fn beside(configuration: &Value, shared: &SharedMap) -> Self {
        let mut bench = Self::of(Engine::new(parse(configuration), Box::new(Software), Box::new(shared.clone())));
        let queue = shared.register_queue();
        bench.engine.listen(queue, bench.now);
        bench.shared = Some((shared.clone(), queue));
        bench
    }

    pub fn shared_memory(&self) -> SharedMap {
        self.shared.as_ref().expect("a worker among others").0.clone()
    }

    pub fn queue(&self) -> u32 {
        self.shared.as_ref().expect("a worker among others").1
    }

    /// Delivers what other workers have sent; how many messages there were.
    pub fn messages(&mut self) -> usize {
        let (shared, queue) = self.shared.as_ref().expect("a worker among others");
        let messages = shared.dequeue(*queue);
        for message in &messages {
            self.engine.message(message, self.now);
        }
        messages.len()
    }

    pub fn with_environment(configuration: &Value, environment: &dyn Fn(&str) -> Option<String>) -> Self {
        let config = Config::parse(configuration.to_string().as_bytes(), environment);
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        Self::of(Engine::new(config, Box::new(Software), Box::new(SharedMap::default())))
    }

    pub fn of(engine: Engine) -> Self {
        Self { engine, now: NOW, ids: 0, held: Vec::new(), shared: None }
    }

    /// The configuration above, its keys fetched.
    pub fn ready() -> Self {
        Self::new(&configuration()).with_keys()
    }

    pub fn with_keys(mut self) -> Self {
        self.tick();
        self.serve_keys();
        self
    }

    pub fn advance(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
    }

    pub fn tick(&mut self) -> Vec<(RequestId, Decision)> {
        self.engine.tick(self.now);
        self.steps()
    }

    /// Every step of requests whose wait is over, in order.
    pub fn steps(&mut self) -> Vec<(RequestId, Decision)> {
        let (engine, now) = (&mut self.engine, self.now);
        let steps = std::iter::from_fn(|| engine.next_decision(now));
        steps.filter(|(_, step)| !matches!(step, Decision::Pause)).collect()
    }

    pub fn send(&mut self, request: Request) -> (RequestId, Decision) {
        self.ids += 1;
        let id = RequestId(self.ids);
        (id, self.engine.request(id, request, self.now))
    }

    /// A request that has to wait.
    pub fn wait(&mut self, request: Request) -> RequestId {
        let (id, step) = self.send(request);
        assert!(matches!(step, Decision::Pause), "decided at once");
        id
    }

    /// The step of a request that must be decided at once.
    pub fn ask(&mut self, request: Request) -> Decision {
        self.send(request).1
    }

    pub fn call(&mut self) -> (FetchId, Callout) {
        self.held.pop().or_else(|| self.engine.next_callout()).expect("a call")
    }

    pub fn no_call(&mut self) {
        if let Some((_, call)) = self.engine.next_callout() {
            panic!("an unexpected call: {call:?}");
        }
    }

    pub fn reply(&mut self, flight: FetchId, reply: &CalloutResult) -> Vec<(RequestId, Decision)> {
        self.engine.reply(flight, reply, self.now);
        self.steps()
    }

    /// Answers every outstanding call that is for discovery or keys as the two providers do.
    pub fn serve_keys(&mut self) -> Vec<(RequestId, Decision)> {
        let mut steps = Vec::new();
        while let Some((flight, call)) = self.engine.next_callout() {
            assert_eq!(call.method, "GET", "{call:?}");
            steps.extend(self.reply(flight, &provider_document(&call)));
        }
        steps
    }

    /// Sends a request whose token has to be exchanged, and lets the provider reply.
    pub fn exchange(&mut self, request: Request, reply: &CalloutResult) -> Decision {
        let (id, step) = self.send(request);
        assert!(matches!(step, Decision::Pause), "decided without an exchange");
        let (flight, call) = self.call();
        assert_eq!(call.method, "POST", "{call:?}");
        let mut steps = self.reply(flight, reply);
        assert_eq!(steps.len(), 1);
        let (answered, step) = steps.remove(0);
        assert_eq!(answered, id);
        step
    }
}

/// Metadata and keys of the two providers.
pub fn provider_document(call: &Callout) -> CalloutResult {
    let metadata = |issuer: &str, keys: &str, token: &str| {
        answer_with(200, &[], &json!({"issuer": issuer, "jwks_uri": keys, "token_endpoint": token}))
    };
    match call.url.as_str() {
        "https://login.entra.example/9b1c0000-1111-4222-8333-444455556666/v2.0/.well-known/openid-configuration" => {
            metadata(
                ENTRA,
                "https://login.entra.example/9b1c0000-1111-4222-8333-444455556666/discovery/v2.0/keys",
                "https://login.entra.example/9b1c0000-1111-4222-8333-444455556666/oauth2/v2.0/token",
            )
        }
        "https://acme.okta.example/oauth2/default/.well-known/openid-configuration" => {
            metadata(OKTA, &format!("{OKTA}/v1/keys"), &format!("{OKTA}/v1/token"))
        }
        "https://login.entra.example/9b1c0000-1111-4222-8333-444455556666/discovery/v2.0/keys" => {
            answer(200, &key_set(&[&ENTRA_KEY]))
        }
        "https://acme.okta.example/oauth2/default/v1/keys" => answer(200, &key_set(&[&OKTA_KEY])),
        other => panic!("nobody serves {other}"),
    }
}

pub fn forwarded(step: Decision) -> HeaderMutations {
    match step {
        Decision::Forward(edits) => edits,
        Decision::Respond(answer) => panic!("refused: {answer:?}"),
        Decision::Pause => panic!("waits"),
    }
}

/// The value that `authorization` gets.
pub fn authorization(step: Decision) -> String {
    forwarded(step).authorization.expect("an authorization").reveal().to_owned()
}

pub fn answered(step: Decision) -> LocalReply {
    match step {
        Decision::Respond(answer) => answer,
        Decision::Forward(_) => panic!("forwarded"),
        Decision::Pause => panic!("waits"),
    }
}

pub fn header<'a>(answer: &'a LocalReply, name: &str) -> Option<&'a str> {
    answer.headers.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_str())
}

/// Status and reason of a refusal.
pub fn refused(step: Decision) -> (u16, String) {
    let answer = answered(step);
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    (answer.status, body["reason"].as_str().unwrap().to_owned())
}

pub const TIMED_OUT: CalloutResult = CalloutResult::Failed(CalloutFailure::TimedOut);

impl Bench {
    /// Like `serve_keys`, up to the first call that is for something else.
    pub fn serve_keys_until_post(&mut self) -> Vec<(RequestId, Decision)> {
        let mut steps = Vec::new();
        let mut others = Vec::new();
        while let Some((flight, call)) = self.engine.next_callout() {
            if call.method == "GET" {
                steps.extend(self.reply(flight, &provider_document(&call)));
            } else {
                others.push((flight, call));
            }
        }
        self.held = others;
        steps
    }
}
