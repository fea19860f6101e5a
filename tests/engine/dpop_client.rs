//! Tokens that are bound to a key of ours: proofs at the token endpoint, and for the upstream.

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jwt_simple::algorithms::{ECDSAP256KeyPairLike as _, ES256KeyPair, ES384KeyPair, Ed25519KeyPair, RS256KeyPair};
use onbehalf::config::Config;
use onbehalf::crypto::{Algorithm, Software};
use onbehalf::dpop::verify;
use onbehalf::engine::HeaderMutations;
use onbehalf::engine::{Decision, UpstreamAction};
use onbehalf::http::{Callout, CalloutFailure, CalloutResult, Request, Response};
use onbehalf::provider::{Hop, SecretVersion, SubjectInput, TokenRequest};
use onbehalf::telemetry::Sample;
use onbehalf::url::Url;
use serde_json::{Value, json};

use crate::support::*;

const TOKEN_ENDPOINT: &str = "https://acme.okta.example/oauth2/default/v1/token";

/// The key for proofs.
static DPOP_KEY: LazyLock<ES256KeyPair> = LazyLock::new(ES256KeyPair::generate);

fn pem() -> String {
    DPOP_KEY.key_pair().to_pem().unwrap()
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn sha256(bytes: &[u8]) -> String {
    encode(hmac_sha256::Hash::hash(bytes))
}

/// Of the key for proofs, written out here (RFC 7638 section 3).
fn thumbprint() -> String {
    let point = DPOP_KEY.key_pair().public_key().to_bytes_uncompressed();
    let [x, y] = [&point[1..33], &point[33..]].map(encode);
    sha256(format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#).as_bytes())
}

/// A key for proofs, and what the resource says of the exchange beside audience and scopes.
fn with_key(pem: &str, algorithm: &str, more: Value) -> Value {
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"]["client"]["dpop"] =
        json!({"key": {"inline": pem}, "algorithm": algorithm});
    let exchange = &mut configuration["resources"][0]["exchange"]["okta-eu"];
    *exchange = with(exchange.clone(), more);
    configuration
}

fn as_dpop() -> Value {
    with_key(&pem(), "ES256", json!({"token_type": "dpop"}))
}

fn bench() -> Bench {
    Bench::new(&as_dpop()).with_keys()
}

/// Another user of the same provider for each name.
fn user(name: &str) -> String {
    OKTA_KEY.token(&with(bob(), json!({"uid": name, "jti": format!("AT.{name}")})))
}

fn proof_of(call: &Callout) -> String {
    let mut proofs = call.headers.iter().filter(|(name, _)| *name == "dpop");
    let proof = proofs.next().expect("a proof").1.reveal().to_owned();
    assert!(proofs.next().is_none());
    proof
}

fn part(token: &str, index: usize) -> Value {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
}

fn claims(proof: &str) -> Value {
    part(proof, 1)
}

fn nonce_of(call: &Callout) -> Value {
    claims(&proof_of(call))["nonce"].clone()
}

/// What the filter itself says of a proof to it for that method, URL and token.
fn verdict(proof: &str, method: &str, url: &str, token: &str) -> Result<(), &'static str> {
    let url = Url::parse(url).unwrap();
    let key_thumbprint = &thumbprint();
    let expected = verify::ProofRules {
        method: method.as_bytes(),
        url: &url,
        path: url.path(),
        access_token: token,
        key_thumbprint,
        max_age: Duration::from_secs(60),
    };
    verify::verify(proof.as_bytes(), expected, &Software, NOW).map(|_| ())
}

fn bound(token: &str, headers: &[(&str, &str)]) -> CalloutResult {
    answer_with(200, headers, &json!({"access_token": token, "token_type": "DPoP", "expires_in": 3600}))
}

fn use_nonce(status: u16, headers: &[(&str, &str)]) -> CalloutResult {
    answer_with(status, headers, &json!({"error": "use_dpop_nonce", "error_description": "nonce"}))
}

#[test]
fn every_token_request_has_a_proof_of_the_key_for_its_endpoint() {
    let mut bench = bench();
    let mut seen = Vec::new();
    for name in ["one", "two"] {
        bench.wait(bearer("/github", &user(name)));
        let call = bench.call().1;
        assert_eq!(call.url.as_str(), TOKEN_ENDPOINT);
        let proof = proof_of(&call);
        // All of it holds but the one claim that is only for resources.
        assert_eq!(verdict(&proof, "POST", TOKEN_ENDPOINT, ""), Err("ath is not the hash of the token"));
        assert_eq!(verdict(&proof, "POST", OKTA, ""), Err("htu is not the URL of the request"));
        let header = part(&proof, 0);
        assert_eq!((header["typ"].as_str(), header["alg"].as_str()), (Some("dpop+jwt"), Some("ES256")));
        let mut members: Vec<_> = header["jwk"].as_object().unwrap().keys().collect();
        members.sort();
        assert_eq!(members, ["crv", "kty", "x", "y"]);
        let claims = claims(&proof);
        let mut names: Vec<_> = claims.as_object().unwrap().keys().collect();
        names.sort();
        assert_eq!(names, ["htm", "htu", "iat", "jti"], "no nonce is known yet, and there is no token");
        assert_eq!(claims["iat"].as_u64(), Some(NOW.secs()));
        seen.push(claims["jti"].clone());
    }
    assert_ne!(seen[0], seen[1]);
    // Calls to a provider for which there is no key have none.
    bench.wait(bearer("/github", &alice_token()));
    assert!(bench.call().1.headers.iter().all(|(name, _)| *name != "dpop"));
}

#[test]
fn a_proof_is_made_with_keys_of_other_kinds_as_well() {
    use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};
    let rsa = rsa::PrivateKey::new(&mut rsa::rand_core::UnwrapErr(getrandom::SysRng), 2048).unwrap();
    let rsa = rsa.to_pkcs8_pem(LineEnding::LF).unwrap().to_string();
    let ed25519 = Ed25519KeyPair::generate().to_pem();
    let ed25519 = ed25519.split_inclusive("-----END PRIVATE KEY-----").next().unwrap().to_owned();
    let p384 = {
        use jwt_simple::algorithms::ECDSAP384KeyPairLike as _;
        ES384KeyPair::generate().key_pair().to_pem().unwrap()
    };
    for (algorithm, pem, kind) in
        [("PS256", &rsa, "RSA"), ("RS384", &rsa, "RSA"), ("ES384", &p384, "EC"), ("EdDSA", &ed25519, "OKP")]
    {
        let mut bench = Bench::new(&with_key(pem, algorithm, json!({"token_type": "dpop"}))).with_keys();
        bench.wait(bearer("/github", &bob_token()));
        let proof = proof_of(&bench.call().1);
        let header = part(&proof, 0);
        assert_eq!((header["alg"].as_str(), header["jwk"]["kty"].as_str()), (Some(algorithm), Some(kind)));
        for private in ["d", "p", "q", "dp", "dq", "qi"] {
            assert!(header["jwk"].get(private).is_none(), "{algorithm} {private}");
        }
        // As a set of keys for tokens: the signature is by the key in the proof.
        let set = json!({"keys": [with(header["jwk"].clone(), json!({"alg": algorithm}))]}).to_string();
        let (keys, skipped) = onbehalf::jose::KeySet::read(set.as_bytes()).unwrap();
        assert!(skipped.is_empty(), "{skipped:?}");
        let algorithm = Algorithm::from_name(algorithm).unwrap();
        let onbehalf::jose::Selection::Found(key) = keys.select(None, algorithm) else {
            panic!("no key for {algorithm:?}");
        };
        let (input, signature) = proof.rsplit_once('.').unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        use onbehalf::crypto::Crypto as _;
        assert!(Software.verify(algorithm, &key.public, input.as_bytes(), &signature), "{algorithm:?}");
    }
}

#[test]
fn a_nonce_that_the_provider_wants_is_in_the_next_proof_and_in_those_of_others() {
    for status in [400, 401] {
        let mut bench = bench();
        let id = bench.wait(bearer("/github", &user("one")));
        let (flight, first) = bench.call();
        assert_eq!(nonce_of(&first), Value::Null);
        assert!(bench.reply(flight, &use_nonce(status, &[("dpop-nonce", "n1")])).is_empty(), "it waits on");
        let (flight, second) = bench.call();
        assert_eq!(nonce_of(&second), "n1");
        let jti = |call: &Callout| claims(&proof_of(call))["jti"].clone();
        assert_ne!(jti(&first), jti(&second));
        let assertion = |call: &Callout| form(call)["client_assertion"].clone();
        assert_ne!(part(&assertion(&first), 1)["jti"], part(&assertion(&second), 1)["jti"]);
        let mut steps = bench.reply(flight, &bound("up", &[]));
        assert_eq!(steps.remove(0).0, id);
        bench.no_call();
        // One call for the next.
        bench.wait(bearer("/github", &user("two")));
        let (flight, call) = bench.call();
        assert_eq!(nonce_of(&call), "n1");
        // A good answer brings another.
        bench.reply(flight, &bound("up2", &[("dpop-nonce", "n2")]));
        bench.wait(bearer("/github", &user("three")));
        assert_eq!(nonce_of(&bench.call().1), "n2");
    }
}

#[test]
fn an_old_nonce_is_replaced_with_one_call_and_a_second_wish_in_a_row_is_a_fault() {
    let mut bench = bench();
    bench.wait(bearer("/github", &user("one")));
    let (flight, _) = bench.call();
    bench.reply(flight, &bound("up", &[("dpop-nonce", "n1")]));
    bench.wait(bearer("/github", &user("two")));
    let (flight, call) = bench.call();
    assert_eq!(nonce_of(&call), "n1");
    assert!(bench.reply(flight, &use_nonce(400, &[("dpop-nonce", "n2")])).is_empty());
    let (flight, call) = bench.call();
    assert_eq!(nonce_of(&call), "n2");
    let mut steps = bench.reply(flight, &use_nonce(400, &[("dpop-nonce", "n3")]));
    assert_eq!(refused(steps.remove(0).1), (502, "exchange_misconfigured".to_owned()));
    bench.no_call();
    // What it said last is kept all the same.
    bench.wait(bearer("/github", &user("three")));
    assert_eq!(nonce_of(&bench.call().1), "n3");
}

#[test]
fn a_nonce_that_is_none_is_neither_kept_nor_a_reason_to_ask_again() {
    let long = "n".repeat(1025);
    let bad: [&[(&str, &str)]; 7] = [
        &[],
        &[("dpop-nonce", "")],
        &[("dpop-nonce", "a b")],
        &[("dpop-nonce", "a\"b")],
        &[("dpop-nonce", "a\u{7f}")],
        &[("dpop-nonce", &long)],
        &[("dpop-nonce", "a"), ("dpop-nonce", "b")],
    ];
    for headers in bad {
        let mut bench = bench();
        bench.wait(bearer("/github", &user("one")));
        let (flight, _) = bench.call();
        assert_eq!(bench.reply(flight, &use_nonce(400, headers)).len(), 1, "{headers:?}");
        bench.no_call();
        bench.wait(bearer("/github", &user("two")));
        assert_eq!(nonce_of(&bench.call().1), Value::Null, "{headers:?}");
    }
    // Another status or error is about something else.
    for reply in [
        use_nonce(403, &[("dpop-nonce", "n")]),
        use_nonce(500, &[("dpop-nonce", "n")]),
        answer_with(400, &[("dpop-nonce", "n")], &json!({"error": "invalid_dpop_proof"})),
    ] {
        let mut bench = bench();
        bench.wait(bearer("/github", &user("one")));
        let (flight, _) = bench.call();
        assert_eq!(bench.reply(flight, &reply).len(), 1);
        bench.no_call();
    }
    // Without a key there is nothing that a nonce could stand in.
    let mut bench = Bench::ready();
    bench.wait(bearer("/github", &bob_token()));
    let (flight, _) = bench.call();
    assert_eq!(bench.reply(flight, &use_nonce(400, &[("dpop-nonce", "n")])).len(), 1);
    bench.no_call();
}

#[test]
fn a_nonce_a_previous_secret_and_a_broken_connection_get_along() {
    let mut configuration = as_dpop();
    configuration["identity_providers"]["okta-eu"]["client"]["authentication"] =
        json!({"method": "client_secret_post", "secret": {"inline": "new"}, "previous_secret": {"inline": "old"}});
    let mut bench = Bench::new(&configuration).with_keys();
    bench.wait(bearer("/github", &bob_token()));
    let invalid = |nonce| answer_with(401, &[("dpop-nonce", nonce)], &json!({"error": "invalid_client"}));
    let mut ids = Vec::new();
    let mut expect = |bench: &mut Bench, secret: &str, nonce: Value, reply: &CalloutResult| {
        let (flight, call) = bench.call();
        assert_eq!((form(&call)["client_secret"].as_str(), nonce_of(&call)), (secret, nonce));
        ids.push(claims(&proof_of(&call))["jti"].clone());
        bench.reply(flight, reply)
    };
    assert!(expect(&mut bench, "new", json!(null), &use_nonce(400, &[("dpop-nonce", "n1")])).is_empty());
    assert!(expect(&mut bench, "new", json!("n1"), &CalloutResult::Failed(CalloutFailure::NoConnection)).is_empty());
    assert!(expect(&mut bench, "new", json!("n1"), &use_nonce(400, &[("dpop-nonce", "n2")])).is_empty());
    assert!(expect(&mut bench, "new", json!("n2"), &invalid("n3")).is_empty());
    assert!(expect(&mut bench, "old", json!("n3"), &use_nonce(400, &[("dpop-nonce", "n4")])).is_empty());
    let mut steps = expect(&mut bench, "old", json!("n4"), &bound("up", &[]));
    assert_eq!(authorization(steps.remove(0).1), "DPoP up");
    bench.no_call();
    let counted = bench.engine.counters().take();
    assert!(counted.contains(&(Sample::ExchangedTokenCache(1, "ok_with_previous_secret"), 1)), "{counted:?}");
    ids.sort_by_key(Value::to_string);
    ids.dedup();
    assert_eq!(ids.len(), 6, "a proof was sent twice");
}

#[test]
fn those_who_wait_at_once_each_learn_the_nonce_by_one_call_more() {
    let mut bench = bench();
    bench.wait(bearer("/github", &user("one")));
    bench.wait(bearer("/github", &user("two")));
    let calls = [bench.call().0, bench.call().0];
    for flight in calls {
        assert!(bench.reply(flight, &use_nonce(400, &[("dpop-nonce", "n")])).is_empty());
        let (flight, call) = bench.call();
        assert_eq!(nonce_of(&call), "n");
        assert_eq!(bench.reply(flight, &bound("up", &[])).len(), 1);
    }
}

/// What goes on with a token from the cache.
fn goes_on(bench: &mut Bench, request: Request) -> HeaderMutations {
    forwarded(bench.ask(request))
}

fn proof(edits: &HeaderMutations) -> String {
    edits.proof.as_ref().expect("a proof").reveal().to_owned()
}

#[test]
fn a_bound_token_goes_on_with_a_proof_of_its_own_for_each_request() {
    let mut bench = bench();
    let edits = forwarded(bench.exchange(bearer("/github", &bob_token()), &bound("up", &[])));
    assert_eq!(edits.authorization.as_ref().unwrap().reveal(), "DPoP up");
    let first = proof(&edits);
    verdict(&first, "POST", "https://mcp.acme.example/github", "up").unwrap();
    // From the cache.
    let bearer = format!("Bearer {}", bob_token());
    let edits = goes_on(&mut bench, request("GET", "/github/a%20b?x=1", &[("authorization", &bearer)]));
    assert_eq!(edits.authorization.as_ref().unwrap().reveal(), "DPoP up");
    let second = proof(&edits);
    let url = "https://mcp.acme.example/github/a%20b";
    verdict(&second, "GET", url, "up").unwrap();
    assert_eq!(claims(&second)["htu"], url);
    assert_eq!(claims(&second)["ath"], sha256(b"up"));
    assert_ne!(claims(&first)["jti"], claims(&second)["jti"]);
    for (method, url, token) in
        [("POST", url, "up"), ("GET", "https://mcp.acme.example/github", "up"), ("GET", url, "other")]
    {
        assert!(verdict(&second, method, url, token).is_err());
    }
}

#[test]
fn the_callers_own_proof_never_takes_the_place_of_ours() {
    let mut bench = bench();
    authorization(bench.exchange(bearer("/github", &bob_token()), &bound("up", &[])));
    let bearer_token = format!("Bearer {}", bob_token());
    let fields = [("authorization", bearer_token.as_str()), ("dpop", "theirs"), ("dpop", "theirs too")];
    let edits = goes_on(&mut bench, request("POST", "/github", &fields));
    assert!(edits.remove.contains(&"dpop".to_owned()));
    verdict(&proof(&edits), "POST", "https://mcp.acme.example/github", "up").unwrap();
    // A resource without proofs has none, neither theirs nor ours.
    let mut bench = Bench::ready();
    authorization(bench.exchange(bearer("/github", &bob_token()), &issued("up")));
    let edits = goes_on(&mut bench, request("POST", "/github", &fields));
    assert!(edits.remove.contains(&"dpop".to_owned()) && edits.proof.is_none());
}

#[test]
fn the_url_of_a_proof_is_the_upstreams_own_where_it_is_configured() {
    let upstream = json!({"token_type": "dpop", "upstream_url": "https://internal.example/v1/mcp"});
    let mut bench = Bench::new(&with_key(&pem(), "ES256", upstream)).with_keys();
    authorization(bench.exchange(bearer("/github", &bob_token()), &bound("up", &[])));
    for (path, expected) in
        [("/github?q", "https://internal.example/v1/mcp"), ("/github/a/b", "https://internal.example/v1/mcp/a/b")]
    {
        let edits = goes_on(&mut bench, bearer(path, &bob_token()));
        assert_eq!(claims(&proof(&edits))["htu"], expected);
        verdict(&proof(&edits), "POST", expected, "up").unwrap();
    }
}

#[test]
fn a_nonce_of_the_upstream_is_in_its_next_proofs_and_in_nobody_elses() {
    let mut configuration = as_dpop();
    configuration["resources"][1]["scopes"] = json!([]);
    configuration["resources"][1]["exchange"]["okta-eu"] =
        json!({"audience": "com.acme.admin", "scopes": ["admin"], "token_type": "dpop"});
    let mut bench = Bench::new(&configuration).with_keys();
    authorization(bench.exchange(bearer("/github", &bob_token()), &bound("up", &[])));
    authorization(bench.exchange(bearer("/github/admin", &bob_token()), &bound("admin", &[])));
    let nonce =
        |bench: &mut Bench, path: &str| claims(&proof(&goes_on(bench, bearer(path, &bob_token()))))["nonce"].clone();
    assert_eq!(nonce(&mut bench, "/github"), Value::Null);
    let says = |bench: &mut Bench, fields: &[&str]| {
        bench.engine.upstream_nonce(0, fields.iter().map(|field| field.as_bytes()));
        nonce(bench, "/github")
    };
    assert_eq!(says(&mut bench, &["u1"]), "u1");
    assert_eq!(says(&mut bench, &[]), "u1");
    assert_eq!(says(&mut bench, &["u2"]), "u2");
    for hostile in [&["a b"][..], &["a\r\nb"], &["x", "y"], &[&"n".repeat(1025)]] {
        assert_eq!(says(&mut bench, hostile), "u2");
    }
    assert_eq!(nonce(&mut bench, "/github/admin"), Value::Null);
    bench.wait(bearer("/github", &user("another")));
    assert_eq!(nonce_of(&bench.call().1), Value::Null, "the provider's is another");
    // A resource that takes no proofs, or none at all, has no nonce.
    bench.engine.upstream_nonce(7, std::iter::once(&b"n"[..]));
    Bench::ready().engine.upstream_nonce(0, std::iter::once(&b"n"[..]));
}

/// The step that follows an answer of the provider's, and what the log would say.
fn after(more: Value, kind: &str) -> (u16, String) {
    let mut bench = Bench::new(&with_key(&pem(), "ES256", more)).with_keys();
    let body = json!({"access_token": "up", "token_type": kind, "expires_in": 3600});
    match bench.exchange(bearer("/github", &bob_token()), &answer_with(200, &[], &body)) {
        Decision::Forward(edits) => (200, edits.authorization.unwrap().reveal().to_owned()),
        step => refused(step),
    }
}

#[test]
fn a_token_is_presented_as_the_resource_has_it_or_not_at_all() {
    let refused = (502, "provider_answer_invalid".to_owned());
    for kind in ["DPoP", "dpop", "DPOP"] {
        assert_eq!(after(json!({"token_type": "dpop"}), kind), (200, "DPoP up".to_owned()), "{kind}");
        assert_eq!(after(json!({}), kind), refused, "{kind}");
        assert_eq!(after(json!({"token_type": "bearer"}), kind), refused, "{kind}");
    }
    for kind in ["Bearer", "bearer"] {
        assert_eq!(after(json!({"token_type": "dpop"}), kind), refused, "a downgrade");
        assert_eq!(after(json!({}), kind), (200, "Bearer up".to_owned()));
    }
    for kind in ["", "N_A", "PoP", "DPoP ", "mac"] {
        assert_eq!(after(json!({"token_type": "dpop"}), kind), refused, "{kind}");
        assert_eq!(after(json!({}), kind), refused, "{kind}");
    }
    // Without a key there is no proof that anybody could have made.
    let mut bench = Bench::ready();
    assert_eq!(crate::support::refused(bench.exchange(bearer("/github", &bob_token()), &bound("up", &[]))), refused);
}

#[test]
fn the_log_says_what_to_do_where_a_token_is_not_of_the_kind_that_the_resource_presents() {
    let config = |more: Value| parse(&with_key(&pem(), "ES256", more));
    let problem = |config: &Config, kind: &str| {
        let request = TokenRequest {
            provider: &config.providers[1],
            target: config.resources[0].targets[1].as_ref().unwrap(),
            token_endpoint: &Url::parse(TOKEN_ENDPOINT).unwrap(),
            subject: SubjectInput { token: "subject", is_id_token: false, ..SubjectInput::default() },
            leg: Hop::First,
            which: SecretVersion::Current,
            nonce: None,
            assertion: None,
        };
        let body = json!({"access_token": "up", "token_type": kind, "expires_in": 3600});
        request.read(&answer_with(200, &[], &body), &[], NOW).unwrap_err().to_string()
    };
    let bound = problem(&config(json!({})), "DPoP");
    assert!(bound.contains("token_type: dpop") && bound.contains("switch off"), "{bound}");
    let plain = problem(&config(json!({"token_type": "dpop"})), "Bearer");
    assert!(plain.contains("bind the app"), "{plain}");
}

#[test]
fn the_callers_own_token_is_not_proved_to_the_upstream_either() {
    let mut configuration = as_dpop();
    configuration["identity_providers"]["okta-eu"]["subject_token"] =
        json!({"type": "id_token", "header": "x-id-token", "audiences": ["login-client"]});
    let mut bench = Bench::new(&configuration).with_keys();
    let (bearer_token, id_token) = (format!("Bearer {}", bob_token()), OKTA_KEY.token(&bob_id()));
    let fields = [("authorization", bearer_token.as_str()), ("x-id-token", &id_token)];
    let step = bench.exchange(request("POST", "/github", &fields), &bound(&bob_token(), &[]));
    assert_eq!(refused(step).1, "provider_answer_invalid");
}

#[test]
fn resources_that_present_the_same_exchange_in_other_ways_do_not_share_its_token() {
    let mut configuration = as_dpop();
    configuration["resources"][1]["scopes"] = json!([]);
    configuration["resources"][1]["exchange"]["okta-eu"] =
        with(configuration["resources"][0]["exchange"]["okta-eu"].clone(), json!({"token_type": null}));
    let mut bench = Bench::new(&configuration).with_keys();
    let edits = forwarded(bench.exchange(bearer("/github", &bob_token()), &bound("up", &[])));
    assert!(edits.proof.is_some());
    let edits = forwarded(bench.exchange(bearer("/github/admin", &bob_token()), &issued("plain")));
    assert_eq!(edits.authorization.unwrap().reveal(), "Bearer plain");
    assert!(edits.proof.is_none());
}

fn error(configuration: &Value) -> String {
    Config::parse(configuration.to_string().as_bytes(), &environment).unwrap_err().to_string()
}

#[test]
fn a_configuration_by_which_nothing_could_be_proved_is_refused() {
    let no_key = with(configuration(), json!({}));
    let with_exchange = |mut configuration: Value, more: Value| {
        let exchange = &mut configuration["resources"][0]["exchange"]["okta-eu"];
        *exchange = with(exchange.clone(), more);
        error(&configuration)
    };
    let at = "resources[0].exchange.okta-eu";
    let found = with_exchange(no_key, json!({"token_type": "dpop"}));
    assert!(found.contains(&format!("{at}.token_type: ")) && found.contains("okta-eu.client.dpop"), "{found}");
    for more in [
        json!({"upstream_url": "https://x.example"}),
        json!({"upstream_url": "https://x.example", "token_type": "bearer"}),
    ] {
        assert!(
            with_exchange(as_dpop(), with(json!({"token_type": null}), more)).contains(&format!("{at}.upstream_url: "))
        );
    }
    for url in ["http://x.example", "https://x.example/?q", "https://user:pass@x.example", "x", "https://x.example/#f"]
    {
        let found = with_exchange(as_dpop(), json!({"upstream_url": url}));
        assert!(found.contains(&format!("{at}.upstream_url: ")) && !found.contains("pass"), "{found}");
    }
    assert!(with_exchange(as_dpop(), json!({"token_type": "DPoP"})).contains("bearer or dpop"));
    for (key, algorithm, field) in
        [(pem(), "ES384", "key"), (pem(), "HS256", "algorithm"), ("no key".to_owned(), "ES256", "key")]
    {
        let found = error(&with_key(&key, algorithm, json!({})));
        assert!(
            found.contains(&format!("okta-eu.client.dpop.{field}: ")) && !found.contains("BEGIN PRIVATE KEY-"),
            "{found}"
        );
    }
    let mut empty = configuration();
    empty["identity_providers"]["okta-eu"]["client"]["dpop"] = json!({});
    assert!(error(&empty).contains("client.dpop.algorithm: found nothing"));
}

#[test]
fn nothing_of_the_key_is_shown() {
    let config = parse(&as_dpop());
    let shown = format!("{config:?}");
    let body: String = pem().lines().filter(|line| !line.starts_with('-')).collect();
    assert!(shown.contains("SigningKey(ES256)") && !shown.contains(&body[..40]));
}

#[test]
fn a_worker_presents_the_token_that_another_has_got_and_one_with_another_key_does_not() {
    let shared = SharedMap::default();
    let mut first = Bench::beside(&as_dpop(), &shared).with_keys();
    authorization(first.exchange(bearer("/github", &bob_token()), &bound("up", &[])));
    let mut second = Bench::beside(&as_dpop(), &shared).with_keys();
    let edits = goes_on(&mut second, bearer("/github", &bob_token()));
    assert_eq!(edits.authorization.as_ref().unwrap().reveal(), "DPoP up");
    verdict(&proof(&edits), "POST", "https://mcp.acme.example/github", "up").unwrap();
    // What workers share is under a key that is made of the client's secrets, and they are the same.
    let other = ES256KeyPair::generate().key_pair().to_pem().unwrap();
    let mut third = Bench::beside(&with_key(&other, "ES256", json!({"token_type": "dpop"})), &shared).with_keys();
    third.wait(bearer("/github", &bob_token()));
    assert_eq!(third.call().1.method, "POST");
}

/// What is made of an upstream's answer to a request that went on with these edits.
fn answered_with(bench: &mut Bench, edits: &HeaderMutations, status: u16, headers: &[(&str, &str)]) -> UpstreamAction {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    let answer = Response { status, headers, body: Vec::new() };
    let sent = edits.sent.expect("what it was sent with");
    bench.now = bench.now.plus(Duration::from_millis(1));
    bench.engine.on_upstream_response(&sent, &answer, bench.now)
}

#[test]
fn an_upstream_that_wants_a_nonce_gets_it_with_the_next_request_and_the_same_token() {
    let mut bench = bench();
    let edits = forwarded(bench.exchange(bearer("/github", &bob_token()), &bound("up", &[])));
    // Those that were under way at once are told the same.
    for _ in [1, 2] {
        let wish = [("www-authenticate", "DPoP error=\"use_dpop_nonce\", algs=\"ES256\""), ("dpop-nonce", "u1")];
        let UpstreamAction::Instead(step) = answered_with(&mut bench, &edits, 401, &wish) else {
            panic!("it went on");
        };
        let answer = answered(step);
        assert_eq!((answer.status, header(&answer, "retry-after")), (503, Some("1")));
        assert!(header(&answer, "dpop-nonce").is_none() && header(&answer, "www-authenticate").is_none());
    }
    let edits = goes_on(&mut bench, bearer("/github", &bob_token()));
    assert_eq!(edits.authorization.as_ref().unwrap().reveal(), "DPoP up");
    assert_eq!(claims(&proof(&edits))["nonce"], "u1");
    // A good answer brings another; it is for us, and not for the client.
    let UpstreamAction::PassOn { remove } = answered_with(&mut bench, &edits, 200, &[("dpop-nonce", "u2")]) else {
        panic!("a good answer was replaced");
    };
    assert!(remove.contains(&"dpop-nonce"));
    let edits = goes_on(&mut bench, bearer("/github", &bob_token()));
    assert_eq!(claims(&proof(&edits))["nonce"], "u2");
    bench.no_call();
    // Without a nonce, or with another error, it is the token that is not good.
    for headers in [&[("www-authenticate", "DPoP error=\"use_dpop_nonce\"")][..], &[("dpop-nonce", "u3")]] {
        let mut bench = self::bench();
        let edits = forwarded(bench.exchange(bearer("/github", &bob_token()), &bound("up", &[])));
        assert!(matches!(answered_with(&mut bench, &edits, 401, headers), UpstreamAction::Instead(_)));
        bench.wait(bearer("/github", &bob_token()));
        assert_eq!(bench.call().1.method, "POST");
    }
}

#[test]
fn what_a_resource_without_proofs_says_of_nonces_is_the_clients() {
    let mut bench = Bench::ready();
    let edits = forwarded(bench.exchange(bearer("/github", &bob_token()), &issued("up")));
    let UpstreamAction::PassOn { remove } = answered_with(&mut bench, &edits, 200, &[("dpop-nonce", "u")]) else {
        panic!("a good answer was replaced");
    };
    assert!(!remove.contains(&"dpop-nonce"));
}

#[test]
fn the_log_warns_of_a_key_whose_signatures_are_slow_where_each_request_takes_one() {
    let warnings = |pem: &str, algorithm: &str, exchange: Value| parse(&with_key(pem, algorithm, exchange)).warnings;
    let of = |pem: &str, algorithm: &str, exchange: Value| {
        let warnings = warnings(pem, algorithm, exchange);
        let is_of_speed =
            |text: &String| text.starts_with("resources[0].exchange.okta-eu.token_type: ") && text.contains("ES256");
        warnings.into_iter().filter(is_of_speed).collect()
    };
    let rsa = RS256KeyPair::generate(2048).unwrap().to_pem().unwrap();
    for algorithm in ["RS256", "PS256", "PS512"] {
        let found: Vec<String> = of(&rsa, algorithm, json!({"token_type": "dpop"}));
        assert!(found.len() == 1 && found[0].contains(algorithm) && found[0].contains("ES256"), "{found:?}");
        // A token request is no request of a client's.
        assert_eq!(of(&rsa, algorithm, json!({})), [""; 0]);
    }
    assert_eq!(of(&pem(), "ES256", json!({"token_type": "dpop"})), [""; 0]);
}

#[test]
fn a_client_that_proves_itself_to_us_gets_no_nonce_of_the_upstreams() {
    for (mode, hidden) in [("off", false), ("optional", true)] {
        let mut configuration = configuration();
        configuration["resources"][0]["dpop"] = json!({"mode": mode});
        let mut bench = Bench::new(&configuration).with_keys();
        let edits = forwarded(bench.exchange(bearer("/github", &bob_token()), &issued("up")));
        assert_eq!(edits.sent.unwrap().hides_nonce(), hidden);
        let UpstreamAction::PassOn { remove } = answered_with(&mut bench, &edits, 200, &[("dpop-nonce", "u")]) else {
            panic!("a good answer was replaced");
        };
        assert_eq!(remove.contains(&"dpop-nonce"), hidden, "{mode}");
    }
}
