//! How the client proves who it is at the token endpoint: assertions of every algorithm, and certificates.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jwt_simple::algorithms::{
    ECDSAP256KeyPairLike as _, ECDSAP384KeyPairLike as _, ES256KeyPair, ES384KeyPair, Ed25519KeyPair,
};
use onbehalf::config::Config;
use onbehalf::crypto::{Algorithm, Crypto as _, PublicKey, Software};
use onbehalf::http::{Callout, CalloutResult, Request};
use onbehalf::telemetry::Sample;
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};

use crate::support::*;

/// A private key in PEM, the public one, and its bytes as a certificate has them.
struct Pair {
    pem: String,
    public: PublicKey,
    bytes: Vec<u8>,
}

static RSA: LazyLock<Pair> = LazyLock::new(|| {
    let key = rsa::PrivateKey::new(&mut rand(), 2048).unwrap();
    let public = PublicKey::rsa(&key.n_bytes(), &key.e_bytes()).unwrap();
    Pair { pem: key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string(), public, bytes: key.n_bytes().to_vec() }
});

static P256: LazyLock<Pair> = LazyLock::new(|| {
    let pair = ES256KeyPair::generate();
    let bytes = pair.key_pair().public_key().to_bytes_uncompressed();
    let public = PublicKey::p256(&bytes[1..33], &bytes[33..]).unwrap();
    Pair { pem: pair.key_pair().to_pem().unwrap(), public, bytes }
});

static P384: LazyLock<Pair> = LazyLock::new(|| {
    let pair = ES384KeyPair::generate();
    let bytes = pair.key_pair().public_key().to_bytes_uncompressed();
    let public = PublicKey::p384(&bytes[1..49], &bytes[49..]).unwrap();
    Pair { pem: pair.key_pair().to_pem().unwrap(), public, bytes }
});

static ED25519: LazyLock<Pair> = LazyLock::new(|| {
    let pair = Ed25519KeyPair::generate();
    let bytes = pair.public_key().to_bytes();
    // It writes the public key behind it.
    let pem = pair.to_pem().split_inclusive("-----END PRIVATE KEY-----").next().unwrap().to_owned();
    Pair { pem, public: PublicKey::ed25519(&bytes).unwrap(), bytes }
});

fn rand() -> impl rsa::rand_core::CryptoRng {
    rsa::rand_core::UnwrapErr(getrandom::SysRng)
}

const ALGORITHMS: [(&str, &LazyLock<Pair>); 9] = [
    ("RS256", &RSA),
    ("RS384", &RSA),
    ("RS512", &RSA),
    ("PS256", &RSA),
    ("PS384", &RSA),
    ("PS512", &RSA),
    ("ES256", &P256),
    ("ES384", &P384),
    ("EdDSA", &ED25519),
];

fn with_client(authentication: Value) -> Value {
    let mut configuration = configuration();
    configuration["identity_providers"]["entra-us"]["client"]["authentication"] = authentication;
    configuration
}

/// The header and the claims of the assertion by which a client proves itself, and whether the key signed it.
fn assertion(authentication: Value, algorithm: &str, public: &PublicKey) -> (Value, Value) {
    let mut bench = Bench::new(&with_client(authentication)).with_keys();
    bench.wait(bearer("/github", &alice_token()));
    let form = form(&bench.call().1);
    assert!(!form.contains_key("client_secret"));
    let token = &form["client_assertion"];
    let (input, signature) = token.rsplit_once('.').unwrap();
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    let verify =
        |input: &str| Software.verify(Algorithm::from_name(algorithm).unwrap(), public, input.as_bytes(), &signature);
    assert!(verify(input), "{algorithm}");
    assert!(!verify(&format!("{input}A")), "{algorithm}");
    let part = |text: &str| serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap();
    let (header, claims) = input.split_once('.').unwrap();
    (part(header), part(claims))
}

#[test]
fn an_assertion_is_signed_with_every_algorithm() {
    for (algorithm, pair) in ALGORITHMS {
        let authentication = json!({"method": "private_key_jwt", "algorithm": algorithm, "key": {"inline": pair.pem}});
        let (header, claims) = assertion(authentication, algorithm, &pair.public);
        assert_eq!(header, json!({"alg": algorithm, "typ": "JWT"}));
        let seconds = |name: &str| claims[name].as_u64().unwrap();
        assert_eq!((seconds("iat"), seconds("nbf"), seconds("exp")), (NOW.secs(), NOW.secs() - 60, NOW.secs() + 300));
        assert_eq!((claims["iss"].as_str(), claims["sub"].as_str()), (Some("gateway-id"), Some("gateway-id")));
    }
}

fn error(authentication: &Value) -> String {
    let configuration = with_client(authentication.clone()).to_string();
    Config::parse(configuration.as_bytes(), &environment).unwrap_err().to_string()
}

#[test]
fn a_key_is_for_the_algorithm_that_is_named() {
    for (algorithm, pair) in ALGORITHMS {
        for (other, other_pair) in ALGORITHMS {
            if pair.bytes != other_pair.bytes {
                let error = error(
                    &json!({"method": "private_key_jwt", "algorithm": algorithm, "key": {"inline": other_pair.pem}}),
                );
                assert!(error.contains("client.authentication.key"), "{algorithm} with a key for {other}: {error}");
            }
        }
    }
    let error = error(&json!({"method": "private_key_jwt", "algorithm": "HS256", "key": {"inline": RSA.pem}}));
    assert!(error.contains("client.authentication.algorithm") && error.contains("PS256"), "{error}");
}

/// Something that has a public key in it, as a certificate has, in PEM.
fn certificate(pair: &Pair, serial: u8) -> (Vec<u8>, String) {
    let content = [&[2, 1, serial][..], pair.public.spki(), &b"the rest".repeat(40)].concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let der = [&[0x30, 0x82][..], &length, &content].concat();
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64_STANDARD.encode(&der));
    (der, pem)
}

#[test]
fn an_assertion_names_the_certificate_that_its_provider_knows_the_key_by() {
    use rsa::sha2::{Digest as _, Sha256};
    let ((leaf, leaf_pem), (root, root_pem)) = (certificate(&RSA, 1), certificate(&P256, 2));
    let chain = format!("{leaf_pem}{root_pem}");
    let mut authentication = json!({"method": "private_key_jwt", "algorithm": "PS256", "key": {"inline": RSA.pem},
        "certificate": {"inline": chain}});
    let sha256 = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&leaf));
    let (header, _) = assertion(authentication.clone(), "PS256", &RSA.public);
    assert_eq!(header, json!({"alg": "PS256", "typ": "JWT", "x5t#S256": sha256}));
    authentication["certificate_header"] = json!(["x5t", "x5c", "x5t#S256"]);
    authentication["key_id"] = json!("k");
    let (header, _) = assertion(authentication, "PS256", &RSA.public);
    let sha1 = BASE64_URL_SAFE_NO_PAD.encode(sha1::Sha1::digest(&leaf));
    let chain = [leaf, root].map(|der| BASE64_STANDARD.encode(der));
    let expected = json!({"alg": "PS256", "typ": "JWT", "kid": "k", "x5t": sha1, "x5t#S256": sha256, "x5c": chain});
    assert_eq!(header, expected);
}

#[test]
fn a_certificate_must_be_the_keys_own() {
    let (_, other) = certificate(&P256, 1);
    let private = RSA.pem.replace("PRIVATE KEY", "CERTIFICATE");
    let empty = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----";
    let (_, own) = certificate(&RSA, 1);
    for (certificate, what) in [
        (other.as_str(), "another key"),
        (&private, "another key"),
        ("no certificate", "no PEM"),
        (&RSA.pem, "no PEM"),
        (&format!("{own}{empty}"), "no PEM"),
    ] {
        let error = error(&json!({"method": "private_key_jwt", "algorithm": "PS256", "key": {"inline": RSA.pem},
            "certificate": {"inline": certificate}}));
        assert!(error.contains("authentication.certificate: ") && error.contains(what), "{error}");
        assert!(!error.contains("PRIVATE"), "{error}");
    }
    let (_, own) = certificate(&RSA, 1);
    let error = |more: Value| {
        let base = json!({"method": "private_key_jwt", "algorithm": "PS256", "key": {"inline": RSA.pem}});
        error(&with(base, more))
    };
    assert!(
        error(json!({"certificate": {"inline": own}, "certificate_header": ["x5u"]})).contains("certificate_header")
    );
    let twice = error(json!({"certificate": {"inline": own}, "certificate_header": ["x5t", "x5t"]}));
    assert!(twice.contains("certificate_header: found \"x5t\" twice"), "{twice}");
    assert!(error(json!({"certificate_header": ["x5c"]})).contains("authentication.certificate: found nothing"));
    let none = error(json!({"certificate": {"inline": own}, "certificate_header": []}));
    assert!(none.contains("authentication.certificate_header: found an empty list"), "{none}");
}

fn with_two_secrets(method: &str) -> Bench {
    Bench::new(&with_client(
        json!({"method": method, "secret": {"inline": "new"}, "previous_secret": {"inline": "old"}}),
    ))
    .with_keys()
}

/// The secret by which a call proves its client.
fn secret_of(call: &Callout) -> String {
    let basic = call.headers.iter().find(|(name, _)| *name == "authorization");
    match basic {
        Some((_, value)) => {
            let pair = BASE64_STANDARD.decode(value.reveal().strip_prefix("Basic ").unwrap()).unwrap();
            String::from_utf8(pair).unwrap().split_once(':').unwrap().1.to_owned()
        }
        None => form(call)["client_secret"].clone(),
    }
}

fn invalid_client() -> CalloutResult {
    answer_with(401, &[], &json!({"error": "invalid_client", "error_codes": [7_000_215]}))
}

#[test]
fn while_a_secret_is_replaced_the_old_one_serves_where_the_new_is_not_known() {
    for method in ["client_secret_post", "client_secret_basic"] {
        let mut bench = with_two_secrets(method);
        let id = bench.wait(bearer("/github", &alice_token()));
        let (flight, call) = bench.call();
        assert_eq!(secret_of(&call), "new");
        assert!(bench.reply(flight, &invalid_client()).is_empty(), "it waits on");
        // Who comes meanwhile waits for the same.
        let other = bench.wait(bearer("/github", &alice_token()));
        let (flight, call) = bench.call();
        assert_eq!(secret_of(&call), "old");
        bench.no_call();
        let steps = bench.reply(flight, &issued("up"));
        let served: Vec<_> = steps.into_iter().map(|(id, step)| (id, authorization(step))).collect();
        assert_eq!(served, [(id, "Bearer up".to_owned()), (other, "Bearer up".to_owned())]);
        let counted = bench.engine.counters().take();
        assert!(counted.contains(&(Sample::ExchangedTokenCache(0, "ok_with_previous_secret"), 1)), "{counted:?}");
        // The new one is always tried first.
        bench.wait(bearer("/github", &entra_user("next")));
        assert_eq!(secret_of(&bench.call().1), "new");
    }
}

#[test]
fn a_provider_that_knows_neither_secret_is_asked_twice_and_one_that_says_something_else_once() {
    let mut bench = with_two_secrets("client_secret_post");
    bench.wait(bearer("/github", &alice_token()));
    let (flight, _) = bench.call();
    assert!(bench.reply(flight, &invalid_client()).is_empty());
    let (flight, _) = bench.call();
    let mut steps = bench.reply(flight, &invalid_client());
    assert_eq!(refused(steps.remove(0).1).1, "exchange_misconfigured");
    bench.no_call();

    for reply in [answer_with(400, &[], &json!({"error": "invalid_grant"})), TIMED_OUT, answer(401, b"<html>")] {
        let mut bench = with_two_secrets("client_secret_post");
        bench.wait(bearer("/github", &alice_token()));
        let (flight, _) = bench.call();
        assert_eq!(bench.reply(flight, &reply).len(), 1);
        bench.no_call();
    }
}

#[test]
fn only_a_client_with_a_secret_has_a_previous_one() {
    let error = error(&json!({"method": "private_key_jwt", "algorithm": "RS256", "key": {"inline": RSA.pem},
        "previous_secret": {"inline": "old"}}));
    assert!(error.contains("authentication.previous_secret: "), "{error}");
}

#[test]
fn a_previous_secret_that_is_the_same_is_pointed_out() {
    let warned = |old: &str| {
        let authentication = json!({"method": "client_secret_post", "secret": {"env": "ENTRA_CLIENT_SECRET"},
            "previous_secret": {"inline": old}});
        warnings(&parse(&with_client(authentication)))
    };
    assert_eq!(warned("old").len(), 1, "that it is inline");
    let warnings = warned(SECRET);
    assert!(warnings[1].contains("client.authentication.previous_secret: it is the same"), "{warnings:?}");
    assert!(!warnings[1].contains(SECRET));
}

/// What a call says of the client: its fields beside those of the grant, and whether it has an `authorization`.
fn proof(call: &Callout) -> (Vec<(String, String)>, bool) {
    let grant = ["grant_type", "requested_token_use", "assertion", "scope"];
    let mut fields: Vec<_> = form(call).into_iter().filter(|(name, _)| !grant.contains(&name.as_str())).collect();
    fields.sort();
    (fields, call.headers.iter().any(|(name, _)| *name == "authorization"))
}

fn field(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn a_client_that_is_known_by_its_tls_certificate_sends_its_id_and_no_secret() {
    for method in ["tls_client_auth", "self_signed_tls_client_auth"] {
        let mut bench = Bench::new(&with_client(json!({"method": method}))).with_keys();
        bench.wait(bearer("/github", &alice_token()));
        assert_eq!(proof(&bench.call().1), (vec![field("client_id", "gateway-id")], false), "{method}");
    }
}

#[test]
fn a_client_that_the_cluster_proves_sends_nothing_of_its_own() {
    let mut bench = Bench::new(&with_client(json!({"method": "envoy_injected"}))).with_keys();
    bench.wait(bearer("/github", &alice_token()));
    assert_eq!(proof(&bench.call().1), (vec![], false));
}

const ALIAS: &str = "https://login.entra.example/mtls/token";

/// Entra's metadata with these aliases.
fn metadata(aliases: &Value) -> CalloutResult {
    let at = |path: &str| format!("https://login.entra.example/{path}");
    answer_with(
        200,
        &[],
        &json!({"issuer": ENTRA, "jwks_uri": at("keys"), "token_endpoint": at("token"), "mtls_endpoint_aliases": aliases}),
    )
}

/// Where a token is exchanged, or why it is not.
fn exchanged_at(configuration: &Value, aliases: &Value) -> Result<String, (u16, String)> {
    let mut bench = Bench::new(configuration);
    bench.wait(bearer("/github", &alice_token()));
    let (flight, _) = bench.call();
    if let Some((_, step)) = bench.reply(flight, &metadata(aliases)).pop() {
        return Err(refused(step));
    }
    let (flight, _) = bench.call();
    bench.reply(flight, &answer(200, &key_set(&[&ENTRA_KEY])));
    Ok(bench.call().1.url.as_str().to_owned())
}

#[test]
fn the_endpoint_for_mutual_tls_is_taken_where_there_is_one_on_the_same_host() {
    let usual = "https://login.entra.example/token".to_owned();
    let mutual = with_client(json!({"method": "tls_client_auth"}));
    let aliases = json!({"token_endpoint": ALIAS, "revocation_endpoint": "https://mtls.entra.example/revoke"});
    assert_eq!(exchanged_at(&mutual, &aliases), Ok(ALIAS.to_owned()));
    // RFC 8705 section 5: without an alias it is the usual one.
    for aliases in [json!({}), json!({"revocation_endpoint": ALIAS}), json!("none"), Value::Null] {
        assert_eq!(exchanged_at(&mutual, &aliases), Ok(usual.clone()), "{aliases}");
    }
    // No document decides which server gets the call.
    for bad in [
        json!("https://mtls.entra.example/token"),
        json!("https://login.entra.example:8443/token"),
        json!("http://login.entra.example/token"),
        json!(7),
    ] {
        let found = exchanged_at(&mutual, &json!({"token_endpoint": bad}));
        assert_eq!(found, Err((503, "keys_unavailable".to_owned())), "{bad}");
    }
    let mut by_hand = mutual;
    by_hand["identity_providers"]["entra-us"]["token_endpoint"] = json!("https://mtls.entra.example/by-hand");
    let found = exchanged_at(&by_hand, &json!({"token_endpoint": "https://other.entra.example/token"}));
    assert_eq!(found, Ok("https://mtls.entra.example/by-hand".to_owned()));
    // Whoever does not prove itself so has no business there.
    for authentication in
        [json!({"method": "envoy_injected"}), json!({"method": "client_secret_post", "secret": {"inline": "s"}})]
    {
        assert_eq!(exchanged_at(&with_client(authentication), &aliases), Ok(usual.clone()));
    }
}

#[test]
fn endpoints_are_not_taken_over_from_a_worker_whose_client_proves_itself_in_another_way() {
    let shared = SharedMap::default();
    let worker = |method: &str| Bench::beside(&with_client(json!({"method": method})), &shared);
    let fetch = |bench: &mut Bench| {
        bench.tick();
        let calls = std::iter::from_fn(|| bench.engine.next_callout()).collect::<Vec<_>>();
        let urls: Vec<_> = calls.iter().map(|(_, call)| call.url.as_str().to_owned()).collect();
        for (flight, call) in calls {
            if call.url.as_str().starts_with("https://login.entra.example") {
                bench.reply(flight, &metadata(&json!({"token_endpoint": ALIAS})));
                let (flight, _) = bench.call();
                bench.reply(flight, &answer(200, &key_set(&[&ENTRA_KEY])));
            }
        }
        urls.iter().any(|url| url.starts_with("https://login.entra.example"))
    };
    let endpoint = |bench: &mut Bench| {
        bench.wait(bearer("/github", &alice_token()));
        bench.call().1.url.as_str().to_owned()
    };
    let mut upstream = worker("envoy_injected");
    assert!(fetch(&mut upstream));
    let mut same = worker("envoy_injected");
    assert!(!fetch(&mut same), "what is there is taken over");
    assert_eq!(endpoint(&mut same), "https://login.entra.example/token");
    let mut mutual = worker("tls_client_auth");
    assert!(fetch(&mut mutual), "it looks for itself");
    assert_eq!(endpoint(&mut mutual), ALIAS);
}

const ASSERTION: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ3b3JrbG9hZCJ9.c2lnbmF0dXJl";
const NEXT_ASSERTION: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ3b3JrbG9hZCJ9.bmV4dA";
const HEADER: &str = "x-workload-assertion";

fn asserted() -> Value {
    with_client(json!({"method": "client_assertion", "assertion": {"header": "X-Workload-Assertion"}}))
}

/// A request of a user's with these assertions.
fn with_assertions(token: &str, assertions: &[&str]) -> Request {
    let authorization = format!("Bearer {token}");
    let mut fields = vec![("authorization", authorization.as_str())];
    fields.extend(assertions.iter().map(|assertion| (HEADER, *assertion)));
    request("POST", "/github", &fields)
}

fn assertion_fields(assertion: &str) -> Vec<(String, String)> {
    vec![
        field("client_assertion", assertion),
        field("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        field("client_id", "gateway-id"),
    ]
}

#[test]
fn an_assertion_of_another_issuer_is_sent_as_envoy_puts_it_there_and_goes_no_further() {
    let mut bench = Bench::new(&asserted()).with_keys();
    bench.wait(with_assertions(&alice_token(), &[ASSERTION]));
    let (flight, call) = bench.call();
    assert_eq!(proof(&call), (assertion_fields(ASSERTION), false));
    assert!(!format!("{call:?}").contains("c2lnbmF0dXJl"));
    let edits = forwarded(bench.reply(flight, &issued("up")).remove(0).1);
    assert_eq!(edits.remove, [HEADER]);

    // Nor on a way that needs none: for a user of the other provider, and on an open path.
    bench.wait(with_assertions(&bob_token(), &[ASSERTION]));
    let (flight, call) = bench.call();
    assert!(!call.body.reveal().contains(ASSERTION));
    let edits = forwarded(bench.reply(flight, &issued("up")).remove(0).1);
    assert_eq!(edits.remove, [HEADER]);
    let edits = forwarded(bench.ask(request("GET", "/healthz", &[(HEADER, ASSERTION), (HEADER, "x")])));
    assert!(edits.remove.contains(&HEADER.to_owned()));
}

#[test]
fn an_assertion_from_the_environment_is_read_once() {
    let configuration = with_client(json!({"method": "client_assertion", "assertion": {"env": "ASSERTION"}}));
    let read = |value: &'static str| {
        let environment =
            move |name: &str| if name == "ASSERTION" { Some(value.to_owned()) } else { environment(name) };
        Config::parse(configuration.to_string().as_bytes(), &environment)
    };
    let config = read("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ3b3JrbG9hZCJ9.c2lnbmF0dXJl\n").unwrap();
    assert_eq!(warnings(&config).len(), 1);
    assert!(warnings(&config)[0].contains("client.authentication.assertion.env: it is read once, when Envoy starts"));
    assert!(!format!("{config:?}").contains("c2lnbmF0dXJl"));
    let engine = onbehalf::engine::Engine::new(config, Box::new(Software), Box::new(SharedMap::default()));
    let mut bench = Bench::of(engine).with_keys();
    bench.wait(with_assertions(&alice_token(), &[NEXT_ASSERTION]));
    assert_eq!(proof(&bench.call().1), (assertion_fields(ASSERTION), false));
    for bad in ["", " ", "hunter2hunter2", "a.b", "a.b.c.d", "a.b.", "a.b.c d", "a.b.c\nd", "a.b.c="] {
        let error = read(bad).unwrap_err();
        assert_eq!(error.path, "identity_providers.entra-us.client.authentication.assertion.env", "{bad}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn without_exactly_one_assertion_of_the_right_form_nothing_is_exchanged() {
    let long = format!("a.b.{}", "c".repeat(16 * 1024));
    let bad: [&[&str]; 9] = [
        &[],
        &[""],
        &["hunter2"],
        &["a.b"],
        &["a..c"],
        &["a.b.c,a.b.c"],
        &["a.b.c&client_id=x"],
        &[ASSERTION, NEXT_ASSERTION],
        &[&long],
    ];
    let mut bench = Bench::new(&asserted()).with_keys();
    for assertions in bad {
        let answer = answered(bench.ask(with_assertions(&alice_token(), assertions)));
        assert_eq!(answer.status, 502, "{assertions:?}");
        assert!(answer.body.contains("exchange_misconfigured") && !answer.body.contains("hunter2"), "{answer:?}");
        bench.no_call();
    }
    // It was about those requests, and not about the user.
    bench.wait(with_assertions(&alice_token(), &[ASSERTION]));
    assert_eq!(proof(&bench.call().1).0, assertion_fields(ASSERTION));
}

#[test]
fn a_new_assertion_changes_no_token_that_is_there_and_is_used_for_the_next() {
    let mut bench = Bench::new(&asserted()).with_keys();
    let first = bench.wait(with_assertions(&alice_token(), &[ASSERTION]));
    let second = bench.wait(with_assertions(&alice_token(), &[NEXT_ASSERTION]));
    let (flight, call) = bench.call();
    assert_eq!(proof(&call).0, assertion_fields(ASSERTION));
    bench.no_call();
    let steps = bench.reply(flight, &issued("up"));
    assert_eq!(steps.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [first, second]);
    for assertions in [&[NEXT_ASSERTION][..], &[ASSERTION], &[], &["no JWT"]] {
        let step = bench.ask(with_assertions(&alice_token(), assertions));
        assert_eq!(authorization(step), "Bearer up", "{assertions:?}");
    }
    bench.no_call();
    bench.wait(with_assertions(&entra_user("other"), &[NEXT_ASSERTION]));
    assert_eq!(proof(&bench.call().1).0, assertion_fields(NEXT_ASSERTION));
}

#[test]
fn a_token_in_use_outlives_a_bad_assertion_and_is_renewed_with_the_next_good_one() {
    let mut bench = Bench::new(&asserted()).with_keys();
    let token = ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() + 7200})));
    let step = bench.exchange(with_assertions(&token, &[ASSERTION]), &issued("up"));
    assert_eq!(authorization(step), "Bearer up");
    bench.advance(3500);
    for assertions in [&["no JWT"][..], &[NEXT_ASSERTION]] {
        // The second comes too soon behind the failure.
        assert_eq!(authorization(bench.ask(with_assertions(&token, assertions))), "Bearer up");
        bench.no_call();
    }
    bench.advance(11);
    assert_eq!(authorization(bench.ask(with_assertions(&token, &[NEXT_ASSERTION]))), "Bearer up");
    let (flight, call) = bench.call();
    assert_eq!(proof(&call).0, assertion_fields(NEXT_ASSERTION));
    bench.reply(flight, &issued("next"));
    assert_eq!(authorization(bench.ask(with_assertions(&token, &[]))), "Bearer next");
}

#[test]
fn an_assertion_comes_from_one_place_that_is_its_own() {
    let at = |assertion: Value| error(&json!({"method": "client_assertion", "assertion": assertion}));
    for (assertion, path, found) in [
        (json!({}), "assertion", "neither env nor header"),
        (json!({"env": "A", "header": "x-a"}), "assertion", "both env and header"),
        (json!({"inline": ASSERTION}), "assertion.inline", "a field that does not exist"),
        (json!({"header": "authorization"}), "assertion.header", "\"authorization\""),
        (json!({"header": "x a"}), "assertion.header", "\"x a\""),
        (json!({"header": "x-a\n"}), "assertion.header", "\"x-a\\n\""),
        (json!({"env": "NOT_SET"}), "assertion.env", "NOT_SET, which is not set"),
        (json!("x-a"), "assertion", "a string"),
    ] {
        let error = at(assertion);
        let expected = format!("client.authentication.{path}: found {found}");
        assert!(error.contains(&expected), "{error}");
        assert!(!error.contains(ASSERTION), "{error}");
    }
    assert!(error(&json!({"method": "client_assertion"})).contains("client.authentication.assertion: found nothing"));

    let mut configuration = asserted();
    configuration["identity_providers"]["okta-eu"]["subject_token"] =
        json!({"type": "id_token", "header": "X-WORKLOAD-ASSERTION", "audiences": ["login-client"]});
    let error = Config::parse(configuration.to_string().as_bytes(), &environment).unwrap_err();
    assert_eq!(error.path, "identity_providers.entra-us.client.authentication.assertion.header");
}

#[test]
fn a_field_that_a_method_does_not_use_is_refused() {
    let values = json!({"secret": {"inline": "s"}, "previous_secret": {"inline": "s"}, "key": {"inline": RSA.pem},
        "key_id": "k", "algorithm": "RS256", "audience": "a", "certificate": {"inline": "c"},
        "certificate_header": ["x5c"], "assertion": {"header": "x-a"}});
    let used: [(&str, &[&str]); 7] = [
        ("client_secret_basic", &["secret", "previous_secret"]),
        ("client_secret_post", &["secret", "previous_secret"]),
        ("private_key_jwt", &["key", "key_id", "algorithm", "audience", "certificate", "certificate_header"]),
        ("tls_client_auth", &[]),
        ("self_signed_tls_client_auth", &[]),
        ("client_assertion", &["assertion"]),
        ("envoy_injected", &[]),
    ];
    for (method, used) in used {
        for (name, value) in values.as_object().unwrap() {
            if !used.contains(&name.as_str()) {
                let error = error(&json!({"method": method, name: value}));
                assert!(error.contains(&format!("authentication.{name}: found a value")), "{method} {name}: {error}");
            }
        }
    }
}

/// A configuration in which no client has a secret.
fn without_secrets(shared: &Value) -> Value {
    let mut configuration = with_client(json!({"method": "tls_client_auth"}));
    configuration["identity_providers"]["okta-eu"]["client"]["authentication"] = json!({"method": "envoy_injected"});
    if !shared.is_null() {
        configuration["shared_data_secret"] = shared.clone();
    }
    configuration
}

#[test]
fn where_no_client_has_a_secret_what_workers_share_needs_one() {
    let error =
        |shared: Value| Config::parse(without_secrets(&shared).to_string().as_bytes(), &environment).unwrap_err();
    let missing = error(Value::Null);
    assert_eq!((missing.path.as_str(), missing.found.as_str()), ("shared_data_secret", "nothing"));
    assert!(missing.expected.contains("openssl rand -base64 32"), "{missing}");
    let short = error(json!({"inline": "0123456789abcdef0123456789abcde"}));
    assert_eq!(short.path, "shared_data_secret");
    assert!(short.expected.contains("at least 32") && !short.to_string().contains("0123456789"), "{short}");
    assert_eq!(error(json!({"env": "NOT_SET"})).path, "shared_data_secret.env");
    assert_eq!(error(json!("0123456789abcdef0123456789abcdef")).path, "shared_data_secret");

    let config = parse(&without_secrets(&json!({"inline": "0123456789abcdef0123456789abcdef"})));
    assert_eq!(warnings(&config).len(), 1);
    assert!(warnings(&config)[0].starts_with("shared_data_secret.inline: "));
    assert!(!format!("{config:?}").contains("0123456789"));
    // An assertion from the environment is its issuer's as well, and does not last.
    let mut asserted = without_secrets(&Value::Null);
    asserted["identity_providers"]["okta-eu"]["client"]["authentication"] =
        json!({"method": "client_assertion", "assertion": {"env": "ASSERTION"}});
    let environment = |name: &str| if name == "ASSERTION" { Some(ASSERTION.to_owned()) } else { None };
    let error = Config::parse(asserted.to_string().as_bytes(), &environment).unwrap_err();
    assert_eq!(error.path, "shared_data_secret");
}

#[test]
fn workers_share_with_those_who_have_the_same_secrets_all_of_them() {
    let secrets = ["0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdeF"];
    let with_secret = |mut configuration: Value, secret: Option<&str>| {
        if let Some(secret) = secret {
            configuration["shared_data_secret"] = json!({"inline": secret});
        }
        configuration
    };
    let without = |secret: &str| without_secrets(&json!({"inline": secret}));
    let (one, other) = (secrets[0], secrets[1]);
    let own = |secret| with_secret(configuration(), secret);
    for (first, second, same) in [
        (without(one), without(one), true),
        (without(one), without(other), false),
        (own(Some(one)), own(Some(one)), true),
        (own(Some(one)), own(Some(other)), false),
        (own(Some(one)), own(None), false),
        // A secret of a client's counts beside it.
        (
            with_secret(with_client(json!({"method": "client_secret_post", "secret": {"inline": "s"}})), Some(one)),
            own(Some(one)),
            false,
        ),
    ] {
        let shared = SharedMap::default();
        drop(Bench::beside(&first, &shared).with_keys());
        let mut bench = Bench::beside(&second, &shared);
        bench.tick();
        assert_eq!(bench.engine.next_callout().is_none(), same, "{first} {second}");
    }
}

#[test]
fn the_log_warns_where_all_that_the_key_of_shared_memory_is_made_of_is_short() {
    let short = "k".repeat(31);
    let is_warned = |secrets: [&str; 2], shared: bool| {
        let mut whole = configuration();
        for (name, secret) in ["entra-us", "okta-eu"].into_iter().zip(secrets) {
            whole["identity_providers"][name]["client"]["authentication"] =
                json!({"method": "client_secret_post", "secret": {"inline": secret}});
        }
        if shared {
            whole["shared_data_secret"] = json!({"inline": "0123456789abcdef0123456789abcdef"});
        }
        let warnings = parse(&whole).warnings;
        let warning: Vec<&String> = warnings.iter().filter(|text| text.starts_with("shared_data_secret: ")).collect();
        assert!(warning.iter().all(|text| !text.contains(&short)));
        !warning.is_empty()
    };
    let long = "k".repeat(32);
    assert!(is_warned([&short, "s"], false));
    assert!(!is_warned([&short, &long], false));
    assert!(!is_warned([&short, "s"], true));
    // A private key is no short secret.
    assert!(warnings(&parse(&configuration())).is_empty());
}
