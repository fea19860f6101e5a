//! Sender-constrained tokens (RFC 9449, RFC 8705) are accepted from their holders only.

use jwt_simple::algorithms::{ECDSAP256KeyPairLike, ES256KeyPair};
use onbehalf::crypto::{Algorithm, Crypto, SigningKey, Software};
use onbehalf::engine::Decision;
use onbehalf::http::Request;
use serde_json::{Value, json};

use onbehalf_test_support::{
    ENTRA_KEY, NOW, SharedMap, TestEngine, alice, alice_token, answered, authorization, base64url, base64url_decode,
    bearer, configuration, forwarded, header, issued, refused, request, sha256_base64url, with,
};

/// The DPoP key of a client.
struct Holder {
    key: SigningKey,
    jwk: Value,
}

impl Holder {
    fn new() -> Self {
        let pair = ES256KeyPair::generate();
        let point = pair.key_pair().public_key().to_bytes_uncompressed();
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": base64url(&point[1..33]), "y": base64url(&point[33..])});
        Self { key: SigningKey::parse(Algorithm::Es256, &pair.key_pair().to_pem().unwrap()).unwrap(), jwk }
    }

    /// The JWK thumbprint of RFC 7638 section 3, member by member.
    fn thumbprint(&self) -> String {
        let [x, y] = ["x", "y"].map(|name| self.jwk[name].as_str().unwrap());
        sha256_base64url(format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#).as_bytes())
    }

    fn token(&self) -> String {
        ENTRA_KEY.token(&with(alice(), json!({"cnf": {"jkt": self.thumbprint()}})))
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let input = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
        format!("{input}.{}", base64url(Software.sign(&self.key, input.as_bytes()).unwrap()))
    }

    fn header(&self) -> Value {
        json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk})
    }

    fn proof(&self, token: &str, change: Value) -> String {
        self.sign(&self.header(), &with(proof_claims(token), change))
    }
}

fn proof_claims(token: &str) -> Value {
    static SERIAL: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    json!({"jti": format!("proof-{serial}"), "htm": "POST", "htu": "https://mcp.acme.example/github",
        "iat": NOW.secs(), "ath": sha256_base64url(token.as_bytes())})
}

fn with_resource(more: Value) -> Value {
    let mut configuration = configuration();
    configuration["resources"][0] = with(configuration["resources"][0].clone(), more);
    configuration
}

fn with_dpop_mode(mode: &str) -> TestEngine {
    TestEngine::new(&with_resource(json!({"dpop": {"mode": mode}}))).with_keys()
}

fn dpop(token: &str, proof: &str) -> Request {
    request("POST", "/github", &[("authorization", &format!("DPoP {token}")), ("dpop", proof)])
}

fn refusal_of(engine: &mut TestEngine, token: &str, proof: &str) -> String {
    refused(engine.decide(dpop(token, proof))).1
}

#[test]
fn bound_token_with_its_proof_is_exchanged_and_the_proof_removed() {
    for mode in ["optional", "required"] {
        let (mut engine, holder) = (with_dpop_mode(mode), Holder::new());
        let token = holder.token();
        let step = engine.exchange(dpop(&token, &holder.proof(&token, json!({}))), &issued("up"));
        let edits = forwarded(step);
        assert_eq!(edits.authorization.unwrap().reveal(), "Bearer up");
        assert!(edits.remove.contains(&"dpop".to_owned()));
        // The second request finds the token in the cache and has a new proof.
        assert_eq!(authorization(engine.decide(dpop(&token, &holder.proof(&token, json!({}))))), "Bearer up");
    }
}

#[test]
fn proof_is_accepted_once_in_the_whole_process() {
    let shared = SharedMap::default();
    let configuration = with_resource(json!({"dpop": {"mode": "required"}}));
    let mut first = TestEngine::sharing(&configuration, &shared).with_keys();
    let mut second = TestEngine::sharing(&configuration, &shared).with_keys();
    let holder = Holder::new();
    let token = holder.token();
    let proof = holder.proof(&token, json!({}));
    authorization(first.exchange(dpop(&token, &proof), &issued("up")));
    authorization(second.decide(dpop(&token, &holder.proof(&token, json!({})))));
    assert_eq!(refusal_of(&mut first, &token, &proof), "invalid_dpop_proof");
    assert_eq!(refusal_of(&mut second, &token, &proof), "invalid_dpop_proof");
    // A proof of another user may have the same `jti`.
    let other = Holder::new();
    let jti = proof_claims("")["jti"].clone();
    assert_eq!(authorization(first.decide(dpop(&token, &holder.proof(&token, json!({"jti": jti}))))), "Bearer up");
    let token = other.token();
    first.send_waiting(dpop(&token, &other.proof(&token, json!({"jti": jti}))));
}

#[test]
fn same_proof_in_two_waiting_requests_is_accepted_once() {
    let (mut engine, holder) = (with_dpop_mode("required"), Holder::new());
    let token = holder.token();
    let proof = holder.proof(&token, json!({}));
    engine.send_waiting(dpop(&token, &proof));
    engine.send_waiting(dpop(&token, &proof));
    let (flight, _) = engine.expect_call();
    let mut steps = engine.callout_result(flight, &issued("up")).into_iter().map(|(_, step)| step);
    assert_eq!(authorization(steps.next().unwrap()), "Bearer up");
    assert_eq!(refused(steps.next().unwrap()).1, "invalid_dpop_proof");
}

#[test]
fn every_part_of_a_proof_is_checked() {
    let (mut engine, holder) = (with_dpop_mode("optional"), Holder::new());
    let token = holder.token();
    let now = NOW.secs();
    for change in [
        json!({"htm": "GET"}),
        json!({"htm": "post"}),
        json!({"htm": null}),
        json!({"htu": null}),
        json!({"htu": "http://mcp.acme.example/github"}),
        json!({"htu": "https://mcp.acme.example/github/admin"}),
        json!({"htu": "https://mcp.acme.example/GitHub"}),
        json!({"htu": "https://mcp.acme.example/github/"}),
        json!({"htu": "https://other.acme.example/github"}),
        json!({"htu": "https://mcp.acme.example:8443/github"}),
        json!({"htu": 7}),
        json!({"iat": now - 301}),
        json!({"iat": now + 301}),
        json!({"iat": null}),
        json!({"iat": "now"}),
        json!({"iat": -1}),
        json!({"jti": null}),
        json!({"jti": ""}),
        json!({"jti": 7}),
        json!({"jti": "x".repeat(600)}),
        json!({"ath": null}),
        json!({"ath": sha256_base64url(b"another token")}),
        json!({"ath": format!("{}=", sha256_base64url(token.as_bytes()))}),
        json!({"nonce": 7}),
    ] {
        assert_eq!(
            refusal_of(&mut engine, &token, &holder.proof(&token, change.clone())),
            "invalid_dpop_proof",
            "{change}"
        );
    }
    for change in [
        json!({"typ": "JWT"}),
        json!({"typ": null}),
        json!({"alg": "none"}),
        json!({"alg": "HS256"}),
        json!({"alg": "RS256"}),
        json!({"alg": "ES384"}),
        json!({"jwk": null}),
        json!({"jwk": Holder::new().jwk}),
        json!({"jwk": with(holder.jwk.clone(), json!({"d": "AAAA"}))}),
        json!({"jwk": with(holder.jwk.clone(), json!({"alg": "ES384"}))}),
        json!({"jwk": with(holder.jwk.clone(), json!({"use": "enc"}))}),
        json!({"jwk": "jwk"}),
        json!({"crit": ["x"]}),
    ] {
        let proof = holder.sign(&with(holder.header(), change.clone()), &proof_claims(&token));
        assert_eq!(refusal_of(&mut engine, &token, &proof), "invalid_dpop_proof", "{change}");
    }
    let good = holder.proof(&token, json!({}));
    let (head, signature) = good.rsplit_once('.').unwrap();
    let mut bytes = base64url_decode(signature);
    bytes[7] ^= 1;
    let bent = format!("{head}.{}", base64url(bytes));
    for proof in ["", "x", "a.b.c", &bent, head, &format!("{good}."), &format!("{good}, {good}"), &"a".repeat(5000)] {
        assert_eq!(refusal_of(&mut engine, &token, proof), "invalid_dpop_proof", "{proof:.40}");
    }
    // The proof is signed by the key in its header, which is not the key of the token.
    let thief = Holder::new();
    assert_eq!(refusal_of(&mut engine, &token, &thief.proof(&token, json!({}))), "invalid_dpop_proof");
    for good in [
        json!({"iat": now - 300}),
        json!({"iat": now + 299}),
        json!({"htu": "https://MCP.acme.example:443/github?q=1#f"}),
    ] {
        let step = engine.decide(dpop(&token, &holder.proof(&token, good.clone())));
        assert!(matches!(step, Decision::Pause), "{good}");
    }
}

#[test]
fn missing_or_repeated_proof_is_refused() {
    let (mut engine, holder) = (with_dpop_mode("optional"), Holder::new());
    let token = holder.token();
    let authorization = format!("DPoP {token}");
    let proof = holder.proof(&token, json!({}));
    let none = request("POST", "/github", &[("authorization", &authorization)]);
    assert_eq!(refused(engine.decide(none)).1, "invalid_dpop_proof");
    let two = request("POST", "/github", &[("authorization", &authorization), ("dpop", &proof), ("dpop", &proof)]);
    assert_eq!(refused(engine.decide(two)).1, "invalid_dpop_proof");
}

#[test]
fn bound_token_is_no_bearer_token_at_any_resource() {
    let holder = Holder::new();
    for mode in ["off", "optional", "required"] {
        let mut engine = with_dpop_mode(mode);
        assert_eq!(refused(engine.decide(bearer("/github", &holder.token()))).1, "sender_constrained_token", "{mode}");
        for cnf in [json!({}), json!({"kid": "x"}), json!({"jwk": {}})] {
            let token = ENTRA_KEY.token(&with(alice(), json!({"cnf": cnf})));
            assert_eq!(refused(engine.decide(bearer("/github", &token))).1, "sender_constrained_token", "{mode} {cnf}");
        }
    }
}

#[test]
fn unbound_token_is_accepted_by_the_mode_of_the_resource() {
    let holder = Holder::new();
    let token = alice_token();
    let proof = || holder.proof(&alice_token(), json!({}));
    assert!(matches!(with_dpop_mode("optional").decide(bearer("/github", &token)), Decision::Pause));
    assert_eq!(refused(with_dpop_mode("required").decide(bearer("/github", &token))).1, "token_not_sender_constrained");
    assert_eq!(refusal_of(&mut with_dpop_mode("optional"), &token, &proof()), "token_not_sender_constrained");
    assert_eq!(refused(with_dpop_mode("off").decide(dpop(&token, &proof()))), (401, "no_credentials".to_owned()));
    // `cnf` that is `null` binds to nothing, and passes for no binding where one is required.
    let claims = with(alice(), json!({"cnf": "HERE"})).to_string().replace("\"HERE\"", "null");
    let token = ENTRA_KEY.sign_bytes(json!({"alg": "ES256", "kid": ENTRA_KEY.kid}).to_string(), claims);
    assert!(matches!(with_dpop_mode("optional").decide(bearer("/github", &token)), Decision::Pause));
    assert_eq!(refused(with_dpop_mode("required").decide(bearer("/github", &token))).1, "token_not_sender_constrained");
}

#[test]
fn challenges_offer_the_schemes_of_the_resource() {
    let holder = Holder::new();
    let challenges = |mode: &str, request: Request| -> Vec<String> {
        let answer = answered(with_dpop_mode(mode).decide(request));
        answer.headers.iter().filter(|(name, _)| *name == "www-authenticate").map(|(_, value)| value.clone()).collect()
    };
    let nothing = || request("POST", "/github", &[]);
    let [bearer_only] = challenges("off", nothing()).try_into().unwrap();
    assert!(bearer_only.starts_with("Bearer resource_metadata="));
    let [first, second] = challenges("optional", nothing()).try_into().unwrap();
    assert!(first.starts_with("Bearer ") && second.starts_with("DPoP algs=\"ES256 ") && !second.contains("error"));
    let [only] = challenges("required", nothing()).try_into().unwrap();
    assert!(only.starts_with("DPoP algs="));

    let token = holder.token();
    let [bearer, dpop_challenge] = challenges("optional", dpop(&token, "x")).try_into().unwrap();
    assert!(!bearer.contains("error") && dpop_challenge.starts_with("DPoP error=\"invalid_dpop_proof\""));
    let [bearer, dpop_challenge] =
        challenges("optional", onbehalf_test_support::bearer("/github", &token)).try_into().unwrap();
    assert!(bearer.starts_with("Bearer error=\"invalid_token\"") && !dpop_challenge.contains("error"));
    let [only] = challenges("required", onbehalf_test_support::bearer("/github", &alice_token())).try_into().unwrap();
    assert!(only.starts_with("DPoP error=\"invalid_token\""), "{only}");
}

#[test]
fn resource_may_require_a_server_nonce_in_proofs() {
    let shared = SharedMap::default();
    let configuration = with_resource(json!({"dpop": {"mode": "required", "nonce": true}}));
    let mut first = TestEngine::sharing(&configuration, &shared).with_keys();
    let mut second = TestEngine::sharing(&configuration, &shared).with_keys();
    let holder = Holder::new();
    let token = holder.token();
    let without = dpop(&token, &holder.proof(&token, json!({})));
    let answer = answered(first.decide(without));
    assert_eq!(answer.status, 401);
    assert!(header(&answer, "www-authenticate").unwrap().starts_with("DPoP error=\"use_dpop_nonce\""));
    let nonce = header(&answer, "dpop-nonce").unwrap().to_owned();
    let with_nonce = |nonce: &str, iat: u64| dpop(&token, &holder.proof(&token, json!({"nonce": nonce, "iat": iat})));
    let now = NOW.secs();
    authorization(second.exchange(with_nonce(&nonce, now), &issued("up")));
    for wrong in ["", "x", &nonce[1..], &nonce.to_lowercase()] {
        assert_eq!(refused(second.decide(with_nonce(wrong, now))).1, "use_dpop_nonce", "{wrong}");
    }
    second.advance(600);
    assert_eq!(refused(second.decide(with_nonce(&nonce, now + 600))).1, "use_dpop_nonce", "it is too old by now");
}

#[test]
fn used_proof_is_remembered_until_it_is_too_old() {
    let (mut engine, holder) = (with_dpop_mode("required"), Holder::new());
    let token = holder.token();
    let proof = holder.proof(&token, json!({"iat": NOW.secs() + 300}));
    authorization(engine.exchange(dpop(&token, &proof), &issued("up")));
    engine.advance(600);
    assert_eq!(refusal_of(&mut engine, &token, &proof), "invalid_dpop_proof");
    engine.advance(1);
    assert_eq!(refusal_of(&mut engine, &token, &proof), "invalid_dpop_proof", "by its time");
}

#[test]
fn overwritten_record_of_used_proofs_is_ignored() {
    let shared = SharedMap::default();
    let mut engine = TestEngine::sharing(&with_resource(json!({"dpop": {"mode": "required"}})), &shared).with_keys();
    let holder = Holder::new();
    let token = holder.token();
    let proof = holder.proof(&token, json!({}));
    authorization(engine.exchange(dpop(&token, &proof), &issued("up")));
    shared.overwrite(|name, value| {
        if name.starts_with("onbehalf.proofs.") {
            value.push(0);
        }
    });
    // Another plugin can erase the record, which is a limit that the documentation states, but it must not refuse all
    // requests for good.
    assert_eq!(authorization(engine.decide(dpop(&token, &proof))), "Bearer up");
    assert_eq!(refusal_of(&mut engine, &token, &proof), "invalid_dpop_proof");
}

#[test]
fn certificate_bound_token_needs_the_certificate_of_the_connection() {
    let digest = [7_u8; 32];
    let bound = ENTRA_KEY.token(&with(alice(), json!({"cnf": {"x5t#S256": base64url(digest)}})));
    let ask = |mode: &str, token: &str, certificate: Option<[u8; 32]>| {
        let configuration = with_resource(json!({"certificate_bound_tokens": mode}));
        let mut engine = TestEngine::new(&configuration).with_keys();
        let mut request = bearer("/github", token);
        request.peer_certificate = certificate;
        match engine.decide(request) {
            Decision::Pause => "admitted".to_owned(),
            step => refused(step).1,
        }
    };
    for mode in ["optional", "required"] {
        assert_eq!(ask(mode, &bound, Some(digest)), "admitted");
        assert_eq!(ask(mode, &bound, Some([8; 32])), "wrong_certificate");
        assert_eq!(ask(mode, &bound, None), "wrong_certificate");
    }
    assert_eq!(ask("off", &bound, Some(digest)), "sender_constrained_token");
    assert_eq!(ask("optional", &alice_token(), None), "admitted");
    assert_eq!(ask("required", &alice_token(), Some(digest)), "token_not_sender_constrained");
    // A token bound to a key and a certificate needs both.
    let both = ENTRA_KEY.token(&with(alice(), json!({"cnf": {"x5t#S256": base64url(digest), "jkt": "k"}})));
    assert_eq!(ask("optional", &both, Some(digest)), "sender_constrained_token");
}

#[test]
fn metadata_states_the_binding_rules_of_a_resource() {
    let document = |more: Value| -> Value {
        let mut engine = TestEngine::new(&with_resource(more));
        let path = "/.well-known/oauth-protected-resource/github";
        serde_json::from_str(&answered(engine.decide(request("GET", path, &[]))).body).unwrap()
    };
    let plain = document(json!({}));
    for name in [
        "dpop_signing_alg_values_supported",
        "dpop_bound_access_tokens_required",
        "tls_client_certificate_bound_access_tokens",
    ] {
        assert!(plain.get(name).is_none(), "{name}");
    }
    let optional = document(json!({"dpop": {"mode": "optional"}, "certificate_bound_tokens": "optional"}));
    assert_eq!(optional["dpop_signing_alg_values_supported"][0], "ES256");
    assert!(optional.get("dpop_bound_access_tokens_required").is_none());
    assert_eq!(optional["tls_client_certificate_bound_access_tokens"], true);
    assert_eq!(document(json!({"dpop": {"mode": "required"}}))["dpop_bound_access_tokens_required"], true);
}

#[test]
fn bound_token_for_another_resource_is_refused_with_a_dpop_challenge() {
    let mut configuration =
        with_resource(json!({"dpop": {"mode": "optional"}, "audiences": ["https://mcp.acme.example/github"]}));
    configuration["resources"][1]["audiences"] = json!(["api://gateway"]);
    configuration["resources"][1]["scopes"] = json!([]);
    configuration["resources"][1]["dpop"] = json!({"mode": "optional"});
    let (mut engine, holder) = (TestEngine::new(&configuration).with_keys(), Holder::new());
    let token = holder.token();
    let refused_at_github = |engine: &mut TestEngine| {
        let answer = answered(engine.decide(dpop(&token, &holder.proof(&token, json!({})))));
        let challenges = answer.headers.iter().filter(|(name, _)| *name == "www-authenticate");
        let challenges: Vec<&str> = challenges.map(|(_, value)| value.as_str()).collect();
        assert!(challenges.iter().any(|value| value.starts_with("DPoP error=\"invalid_token\"")), "{challenges:?}");
        assert!(challenges.iter().any(|value| value.starts_with("Bearer resource_metadata=")), "{challenges:?}");
        assert!(answer.body.contains("wrong_audience"), "{}", answer.body);
    };
    refused_at_github(&mut engine);
    let proof = holder.proof(&token, json!({"htu": "https://mcp.acme.example/github/admin"}));
    let fields = [("authorization", format!("DPoP {token}")), ("dpop", proof)];
    let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(authorization(engine.exchange(request("POST", "/github/admin", &fields), &issued("up"))), "Bearer up");
    // The token is in the cache now, and its proof is valid.
    refused_at_github(&mut engine);
}

#[test]
fn used_proof_is_forgotten_with_the_process() {
    let configuration = with_resource(json!({"dpop": {"mode": "required", "nonce": true}}));
    let holder = Holder::new();
    let token = holder.token();
    let mut process = TestEngine::new(&configuration).with_keys();
    let answer = answered(process.decide(dpop(&token, &holder.proof(&token, json!({})))));
    let nonce = header(&answer, "dpop-nonce").unwrap();
    let proof = holder.proof(&token, json!({"nonce": nonce}));
    authorization(process.exchange(dpop(&token, &proof), &issued("up")));
    assert_eq!(refusal_of(&mut process, &token, &proof), "invalid_dpop_proof");
    // Nonces are derived from the secrets, so a nonce stays valid after a restart unless a secret was replaced.
    let mut restarted = TestEngine::new(&configuration).with_keys();
    authorization(restarted.exchange(dpop(&token, &proof), &issued("up")));
    assert_eq!(refusal_of(&mut restarted, &token, &proof), "invalid_dpop_proof", "once more, and not again");
    let mut rotated = configuration;
    rotated["identity_providers"]["entra-us"]["client"]["authentication"]["secret"] = json!({"inline": "another"});
    let mut restarted = TestEngine::new(&rotated).with_keys();
    assert_eq!(refusal_of(&mut restarted, &token, &proof), "use_dpop_nonce");
}

#[test]
fn proof_at_an_alias_names_the_public_url_with_the_rest_of_the_path() {
    let more = json!({"dpop": {"mode": "required"}, "encoded_slashes": true,
        "aliases": ["http://mcp.internal:8080/in", "http://root.internal"]});
    let mut configuration = with_resource(more);
    configuration["resources"][1]["aliases"] =
        json!(["http://mcp.internal:8080/in/admin", "http://root.internal/admin"]);
    let mut engine = TestEngine::new(&configuration).with_keys();
    let holder = Holder::new();
    let token = holder.token();
    let at = |authority: &str, path: &str, htu: &str| {
        let proof = holder.proof(&token, json!({"htu": htu}));
        let authorization = format!("DPoP {token}");
        Request::new(&[
            (":method", b"POST"),
            (":authority", authority.as_bytes()),
            (":path", path.as_bytes()),
            ("authorization", authorization.as_bytes()),
            ("dpop", proof.as_bytes()),
        ])
    };
    let first = at("mcp.internal:8080", "/in", "https://mcp.acme.example/github");
    authorization(engine.exchange(first, &issued("up")));
    for (authority, path, htu, is_good) in [
        ("mcp.internal:8080", "/in/x?q", "https://mcp.acme.example/github/x", true),
        ("mcp.internal:8080", "/in/", "https://mcp.acme.example/github/", true),
        ("mcp.internal:8080", "/in/a%2fb", "https://mcp.acme.example/github/a%2Fb", true),
        ("root.internal", "/x", "https://mcp.acme.example/github/x", true),
        ("root.internal", "/", "https://mcp.acme.example/github/", true),
        ("mcp.acme.example", "/github/x", "https://mcp.acme.example/github/x", true),
        ("mcp.internal:8080", "/in/x", "http://mcp.internal:8080/in/x", false),
        ("mcp.internal:8080", "/in/x", "https://mcp.acme.example/in/x", false),
        ("mcp.internal:8080", "/in/x", "https://mcp.acme.example/github/y", false),
        ("mcp.internal:8080", "/in/a%2Fb", "https://mcp.acme.example/github/a/b", false),
        ("mcp.internal:8080", "/in/a/b", "https://mcp.acme.example/github/a%2Fb", false),
        ("root.internal", "/github/x", "https://mcp.acme.example/github/x", false),
    ] {
        match engine.decide(at(authority, path, htu)) {
            Decision::Forward(_) => assert!(is_good, "{authority}{path} {htu}"),
            step => assert_eq!((refused(step).1.as_str(), is_good), ("invalid_dpop_proof", false), "{path} {htu}"),
        }
    }
}
