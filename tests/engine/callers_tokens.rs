//! Callers' tokens of providers other than Entra and Okta: their kind, and the options for claims and algorithms.

use jwt_simple::algorithms::{RS256KeyPair, RSAKeyPairLike as _};
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::sha2::Sha256;
use serde_json::{Value, json};

use onbehalf::config::Code;
use onbehalf::engine::Decision;
use onbehalf_test_support::{
    ENTRA_KEY, NOW, OKTA_KEY, OTHER_KEY, TestEngine, alice, answered, authorization, base64url, bearer, bob,
    configuration_error, issued, key_set, log_facts, refused, request, with,
};

const ISSUER: &str = "https://id.acme.example";

/// A provider with the profile `rfc8693`, its options changed.
fn configuration(provider: Value) -> Value {
    let keys: Value = serde_json::from_slice(&key_set(&[&OKTA_KEY])).unwrap();
    let acme = json!({
        "profile": "rfc8693", "issuer": ISSUER, "cluster": "acme", "audiences": ["api"], "jwks": keys,
        "token_endpoint": "https://id.acme.example/t",
        "client": {"id": "gateway", "authentication": {"method": "client_secret_basic", "secret": {"inline": "s"}}},
    });
    json!({
        "identity_providers": {"acme": with(acme, provider)},
        "resources": [{"url": "https://mcp.acme.example/github", "exchange": {"acme": {"audience": "github"}}}],
    })
}

/// The claims of Carol's access token.
fn carol() -> Value {
    json!({"iss": ISSUER, "aud": "api", "sub": "carol", "azp": "mcp-client", "iat": NOW.secs(), "exp": NOW.secs() + 3600})
}

fn engine() -> TestEngine {
    TestEngine::new(&configuration(json!({})))
}

/// The outcome of a token: `exchanged`, or status and reason of its refusal.
fn outcome(engine: &mut TestEngine, token: &str) -> String {
    match engine.decide(bearer("/github", token)) {
        Decision::Pause => {
            let (flight, call) = engine.expect_call();
            assert_eq!(call.method, "POST", "{call:?}");
            assert_eq!(authorization(engine.only_step(flight, &issued("up"))), "Bearer up");
            "exchanged".to_owned()
        }
        step => {
            engine.expect_no_call();
            let (status, reason) = refused(step);
            format!("{status} {reason}")
        }
    }
}

/// The outcome of a token with these further claims.
fn outcome_of(configuration: &Value, claims: Value) -> String {
    outcome(&mut TestEngine::new(configuration), &OKTA_KEY.token(&with(carol(), claims)))
}

#[test]
fn stronger_sign_of_an_access_token_outweighs_nonce() {
    for (typ, claims, expected) in [
        ("JWT", json!({"typ": "Bearer", "nonce": "n"}), "exchanged"),
        ("JWT", json!({"typ": "DPoP", "nonce": "n"}), "exchanged"),
        ("at+jwt", json!({"nonce": "n", "at_hash": "h"}), "exchanged"),
        ("application/at+jwt", json!({"nonce": "n"}), "exchanged"),
        ("JWT", json!({"token_use": "access", "nonce": "n"}), "exchanged"),
        ("JWT", json!({"nonce": null, "at_hash": null}), "exchanged"),
        ("JWT", json!({"nonce": "n"}), "401 id_token_as_access_token"),
        ("JWT", json!({"nonce": "n", "scope": "read", "client_id": "c"}), "401 id_token_as_access_token"),
        ("JWT", json!({"at_hash": "h"}), "401 id_token_as_access_token"),
        ("JWT", json!({"typ": "ID"}), "401 id_token_as_access_token"),
        ("JWT", json!({"token_use": "id", "scope": "read"}), "401 id_token_as_access_token"),
    ] {
        let header = json!({"alg": "ES256", "kid": OKTA_KEY.kid, "typ": typ});
        let claims: Value = claims.as_object().unwrap().iter().fold(carol(), |mut all, (name, value)| {
            all[name] = value.clone();
            all
        });
        assert_eq!(outcome(&mut engine(), &OKTA_KEY.sign(&header, &claims)), expected, "{typ} {claims}");
    }
}

#[test]
fn token_that_only_its_issuer_accepts_is_no_access_token() {
    for claims in [
        json!({"typ": "Refresh", "scope": "read"}),
        json!({"typ": "Offline", "nonce": "n"}),
        json!({"typ": "Logout"}),
        json!({"typ": "Serialized-ID"}),
        json!({"token_use": "refresh"}),
        json!({"events": {}, "scope": "read"}),
    ] {
        assert_eq!(outcome_of(&configuration(json!({})), claims.clone()), "401 unsupported_token_type", "{claims}");
    }
}

#[test]
fn every_profile_refuses_what_is_unmistakably_no_users_access_token() {
    let (type_, id) = ("401 unsupported_token_type", "401 id_token_as_access_token");
    let application = "403 not_a_user_token";
    for (typ, claims, expected) in [
        ("JWT", json!({"typ": "Refresh"}), type_),
        ("JWT", json!({"typ": "Offline"}), type_),
        ("JWT", json!({"typ": "Logout"}), type_),
        ("JWT", json!({"typ": "RegistrationAccessToken"}), type_),
        ("JWT", json!({"token_use": "refresh"}), type_),
        ("JWT", json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}), type_),
        ("logout+jwt", json!({}), type_),
        ("secevent+jwt", json!({}), type_),
        ("JWT", json!({"typ": "ID"}), id),
        ("JWT", json!({"token_use": "id"}), id),
        ("JWT", json!({"idtyp": "app"}), application),
        ("JWT", json!({"gty": "client-credentials"}), application),
        ("JWT", json!({"grant_type": "client_credentials"}), application),
        ("JWT", json!({"client_id": "c", "sub": "c"}), application),
        ("JWT", json!({"client_id": "c", "preferred_username": "service-account-c"}), application),
        ("JWT", json!({}), "exchanged"),
        // A stronger sign outweighs `nonce`.
        ("at+jwt", json!({"nonce": "n"}), "exchanged"),
        ("JWT", json!({"typ": "Bearer", "nonce": "n"}), "exchanged"),
        ("JWT", json!({"token_use": "access", "nonce": "n", "at_hash": "h"}), "exchanged"),
        // A provider's own sign is not outweighed.
        ("at+jwt", json!({"idtyp": "app"}), application),
    ] {
        for (profile, key, user) in [("entra_obo", &ENTRA_KEY, alice()), ("okta_obo", &OKTA_KEY, bob())] {
            let header = json!({"alg": "ES256", "kid": key.kid, "typ": typ});
            let token = key.sign(&header, &with(user, claims.clone()));
            assert_eq!(outcome(&mut TestEngine::ready(), &token), expected, "{profile} {typ} {claims}");
        }
        let header = json!({"alg": "ES256", "kid": OKTA_KEY.kid, "typ": typ});
        let token = OKTA_KEY.sign(&header, &with(carol(), claims.clone()));
        for profile in ["rfc8693", "jwt_bearer"] {
            let mut configuration = configuration(json!({"profile": profile}));
            if profile == "jwt_bearer" {
                configuration["resources"][0]["exchange"]["acme"] = json!({"scopes": ["read"]});
            }
            assert_eq!(outcome(&mut TestEngine::new(&configuration), &token), expected, "{profile} {typ} {claims}");
        }
    }
    // `scp` of Entra and `cid` of Okta are in no ID token, so they outweigh claims that ID tokens usually have.
    for claim in ["nonce", "at_hash", "c_hash"] {
        for (key, user) in [(&ENTRA_KEY, alice()), (&OKTA_KEY, bob())] {
            let token = key.token(&with(user, json!({claim: "x"})));
            assert_eq!(outcome(&mut TestEngine::ready(), &token), "exchanged", "{claim}");
        }
        let token = OKTA_KEY.token(&with(carol(), json!({claim: "x"})));
        assert_eq!(outcome(&mut TestEngine::new(&configuration(json!({}))), &token), id, "{claim}");
    }
    // The jti of an ID token of Okta outweighs every sign.
    let header = json!({"alg": "ES256", "kid": OKTA_KEY.kid, "typ": "at+jwt"});
    let token = OKTA_KEY.sign(&header, &with(bob(), json!({"jti": "ID.1"})));
    assert_eq!(outcome(&mut TestEngine::ready(), &token), id);
}

#[test]
fn token_that_is_unmistakably_an_applications_is_no_users() {
    for claims in [
        json!({"sub": "mcp-client"}),
        json!({"sub": "c", "azp": null, "client_id": "c"}),
        json!({"sub": "c", "azp": null, "cid": "c"}),
        json!({"sub": "mcp-client@clients"}),
        json!({"gty": "client-credentials"}),
        json!({"gty": ["client-credentials"]}),
        json!({"grant_type": "client_credentials"}),
        json!({"idtyp": "app"}),
        json!({"aut": "APPLICATION"}),
        json!({"preferred_username": "service-account-mcp-client"}),
        json!({"preferred_username": "service-account-cli", "azp": "CLI"}),
        json!({"preferred_username": "service-account-cli", "clientId": "cli"}),
    ] {
        assert_eq!(outcome_of(&configuration(json!({})), claims.clone()), "403 not_a_user_token", "{claims}");
    }
    for claims in [
        json!({"sub": "mcp-client2"}),
        json!({"sub": "another@clients"}),
        json!({"gty": "password"}),
        json!({"grant_type": "authorization_code"}),
        json!({"idtyp": "user"}),
        json!({"aut": "APPLICATION_USER"}),
        json!({"preferred_username": "service-account-of-carol"}),
    ] {
        assert_eq!(outcome_of(&configuration(json!({})), claims.clone()), "exchanged", "{claims}");
    }
}

#[test]
fn forged_token_of_an_application_is_an_invalid_token() {
    let claims = with(carol(), json!({"gty": "client-credentials"}));
    let head = json!({"alg": "ES256", "kid": OKTA_KEY.kid});
    assert_eq!(outcome(&mut engine(), &OTHER_KEY.sign(&head, &claims)), "401 bad_signature");
    let answer = answered(engine().decide(bearer("/github", &OTHER_KEY.sign(&head, &claims))));
    assert_eq!(log_facts(&answer.record.to_string())["provider_unverified"], "acme");
    let answer = answered(engine().decide(bearer("/github", &OKTA_KEY.token(&claims))));
    let facts = log_facts(&answer.record.to_string());
    assert_eq!((answer.status, facts["provider"].as_str()), (403, "acme"));
    assert!(!facts.contains_key("provider_unverified") && facts["cause"].starts_with("gty: "), "{facts:?}");
}

#[test]
fn scopes_are_read_from_every_claim_that_the_option_names() {
    let mut configuration = configuration(json!({}));
    configuration["resources"][0]["scopes"] = json!(["mcp:read", "mcp:write"]);
    let of = |configuration: &Value, claims: Value| outcome_of(configuration, claims);
    let insufficient = "403 insufficient_scope";
    assert_eq!(of(&configuration, json!({"scp": ["mcp:read"], "scope": "mcp:write"})), "exchanged");
    assert_eq!(of(&configuration, json!({"scp": [], "scope": "mcp:read mcp:write"})), "exchanged");
    assert_eq!(of(&configuration, json!({"permissions": ["mcp:read", "mcp:write"]})), insufficient);
    configuration["identity_providers"]["acme"]["scope_claims"] = json!(["scope", "permissions"]);
    assert_eq!(of(&configuration, json!({"permissions": ["mcp:read", "mcp:write"]})), "exchanged");
    assert_eq!(of(&configuration, json!({"permissions": ["mcp:read"], "scope": "mcp:write"})), "exchanged");
    assert_eq!(of(&configuration, json!({"permissions": ["mcp:read"], "scp": "mcp:write"})), insufficient);
    assert_eq!(of(&configuration, json!({"permissions": {"0": "mcp:read"}, "scope": "mcp:write"})), insufficient);
}

#[test]
fn audience_claim_stands_for_aud_in_access_tokens() {
    let by_client = configuration(json!({"audience_claim": "client_id", "audiences": ["mcp-client", "api"]}));
    for (claims, expected) in [
        (json!({"aud": null, "client_id": "mcp-client"}), "exchanged"),
        (json!({"aud": "api", "client_id": "mcp-client"}), "exchanged"),
        (json!({"aud": null, "client_id": "other"}), "401 wrong_audience"),
        // RFC 7519 section 4.1.3.
        (json!({"aud": "other", "client_id": "mcp-client"}), "401 wrong_audience"),
        (json!({"aud": "api", "client_id": "other"}), "401 wrong_audience"),
        (json!({"aud": "api"}), "401 invalid_claims"),
        // The audience of an ID token is its client.
        (json!({"aud": "mcp-client", "client_id": "mcp-client"}), "401 id_token_as_access_token"),
        (json!({"aud": ["api", "mcp-client"], "client_id": ["x", "mcp-client"]}), "401 id_token_as_access_token"),
        (json!({"aud": "other", "client_id": "other"}), "401 id_token_as_access_token"),
        (json!({"aud": "mcp-client", "client_id": "mcp-client", "scope": "read"}), "401 id_token_as_access_token"),
        (json!({"aud": "mcp-client", "client_id": "mcp-client", "token_use": "access"}), "exchanged"),
        (json!({"aud": ["mcp-client", "account"], "client_id": "mcp-client", "typ": "Bearer"}), "exchanged"),
        (json!({"aud": [], "client_id": "mcp-client"}), "401 wrong_audience"),
    ] {
        assert_eq!(outcome_of(&by_client, claims.clone()), expected, "{claims}");
    }
    assert_eq!(outcome_of(&configuration(json!({})), json!({"aud": null, "client_id": "api"})), "401 invalid_claims");
}

#[test]
fn audience_claim_is_refused_where_every_token_has_aud() {
    let error = |provider: Value| {
        let error = configuration_error(&configuration(provider));
        (error.code, error.path.clone())
    };
    let path = "identity_providers.acme.audience_claim".to_owned();
    let id_token = json!({"audience_claim": "azp", "subject_token": {"type": "id_token"}});
    assert_eq!(error(id_token), (Code::IdTokensCannot, path.clone()));
    let okta =
        json!({"audience_claim": "cid", "profile": "okta_obo", "issuer": "https://acme.okta.com/oauth2/default"});
    assert_eq!(error(okta), (Code::RefusedByProfile, path.clone()));
    let entra = json!({"audience_claim": "azp", "profile": "entra_obo", "audiences": ["gateway"],
        "issuer": "https://login.microsoftonline.com/9b1c0000-1111-4222-8333-444455556666/v2.0"});
    assert_eq!(error(entra), (Code::RefusedByProfile, path));
    // The name of the standard is no deviation.
    onbehalf_test_support::parse(&configuration(
        json!({"audience_claim": "aud", "subject_token": {"type": "id_token"}}),
    ));
}

#[test]
fn audience_claim_counts_at_the_resource_with_that_audience_only() {
    let mut configuration = configuration(json!({"audience_claim": "client_id", "audiences": null}));
    configuration["resources"][0]["audiences"] = json!(["a"]);
    let mut other = configuration["resources"][0].clone();
    other["url"] = json!("https://mcp.acme.example/wiki");
    other["audiences"] = json!(["b"]);
    configuration["resources"].as_array_mut().unwrap().push(other);
    let mut engine = TestEngine::new(&configuration);
    let token = OKTA_KEY.token(&with(carol(), json!({"aud": null, "client_id": "a"})));
    assert_eq!(outcome(&mut engine, &token), "exchanged");
    assert_eq!(refused(engine.decide(bearer("/wiki", &token))), (401, "wrong_audience".to_owned()));
}

#[test]
fn id_token_beside_is_judged_by_aud_and_not_by_options_of_access_tokens() {
    let mut configuration = configuration(json!({"audience_claim": "client_id", "audiences": ["mcp-client"],
        "required_claims": {"azp": "mcp-client"},
        "subject_token": {"type": "id_token", "header": "x-id-token", "audiences": ["login"]}}));
    configuration["resources"][0]["scopes"] = json!(["read"]);
    let access_token = OKTA_KEY.token(&with(carol(), json!({"aud": null, "client_id": "mcp-client", "scope": "read"})));
    let id_token = |changes: Value| {
        let claims = json!({"iss": ISSUER, "aud": "login", "sub": "carol", "nonce": "n", "client_id": "mcp-client",
            "scope": "openid", "exp": NOW.secs() + 60});
        OKTA_KEY.token(&with(claims, changes))
    };
    let send = |id_token: &str| {
        let bearer = format!("Bearer {access_token}");
        let fields = [("authorization", bearer.as_str()), ("x-id-token", id_token)];
        TestEngine::new(&configuration).decide(request("POST", "/github", &fields))
    };
    assert!(matches!(send(&id_token(json!({}))), Decision::Pause), "it is exchanged");
    // It need not have `nonce`.
    let without_nonce = json!({"nonce": null, "azp": "login", "client_id": null});
    assert!(matches!(send(&id_token(without_nonce)), Decision::Pause), "it is exchanged");
    for changes in [
        json!({"aud": null, "client_id": "login"}),
        json!({"aud": "mcp-client"}),
        json!({"typ": "Bearer"}),
        json!({"nonce": null, "azp": "mcp-client", "client_id": null}),
        json!({"nonce": null, "azp": "login", "client_id": "login"}),
    ] {
        assert_eq!(refused(send(&id_token(changes.clone()))), (401, "subject_token_invalid".to_owned()), "{changes}");
    }
}

#[test]
fn issued_token_that_the_audience_claim_makes_acceptable_here_is_refused() {
    let configuration = configuration(json!({"audience_claim": "client_id", "audiences": ["mcp-client", "api"]}));
    let token = OKTA_KEY.token(&with(carol(), json!({"aud": null, "client_id": "mcp-client"})));
    for (claims, is_for_this_proxy) in [
        (json!({"aud": null, "client_id": "mcp-client"}), true),
        (json!({"aud": ["x", "api"], "client_id": ["mcp-client"]}), true),
        (json!({"aud": null, "client_id": "gateway"}), false),
        (json!({"aud": "github", "client_id": "mcp-client"}), false),
        (json!({"aud": "api", "client_id": "gateway"}), false),
    ] {
        let up = OKTA_KEY.token(&with(carol(), with(claims.clone(), json!({"jti": "up"}))));
        let step = TestEngine::new(&configuration).exchange(bearer("/github", &token), &issued(&up));
        if is_for_this_proxy {
            let line = answered(step).record.to_string();
            assert!(line.contains("for this proxy itself"), "{claims}: {line}");
        } else {
            assert_eq!(authorization(step), format!("Bearer {up}"), "{claims}");
        }
    }
}

#[test]
fn required_claim_that_is_missing_is_refused_by_name() {
    let provider = json!({"required_claims": {"azp": ["cli", "mcp-client"], "https://acme.example/groups": "staff",
        "email_verified": true, "level": 2}});
    let configuration = configuration(provider);
    let good = json!({"https://acme.example/groups": ["x", "staff"], "email_verified": true, "level": 2.0});
    assert_eq!(outcome_of(&configuration, good.clone()), "exchanged");
    for (change, missing) in [
        (json!({"azp": "another-client"}), "azp"),
        (json!({"azp": null}), "azp"),
        (json!({"https://acme.example/groups": ["private-value"]}), "https://acme.example/groups"),
        (json!({"https://acme.example/groups": "staff private-value"}), "https://acme.example/groups"),
        (json!({"email_verified": "true"}), "email_verified"),
        (json!({"level": 3}), "level"),
    ] {
        let token = OKTA_KEY.token(&with(with(carol(), good.clone()), change.clone()));
        let mut engine = TestEngine::new(&configuration);
        // The second verdict comes from the cache of verified tokens.
        for _ in 0..2 {
            let answer = answered(engine.decide(bearer("/github", &token)));
            assert_eq!(onbehalf_test_support::reason(&answer), (403, "required_claim_missing".to_owned()), "{change}");
            assert!(answer.headers.iter().all(|(name, _)| *name != "www-authenticate"), "{change}");
            let line = answer.record.to_string();
            let facts = log_facts(&line);
            assert_eq!((&*facts["missing"], &*facts["subject"]), (missing, "carol"));
            assert!(!line.contains("private-value") && !answer.body.contains("private-value"), "{line}");
        }
        engine.expect_no_call();
    }
    // The claims of a forged token prove nothing.
    let forged = OTHER_KEY.sign(&json!({"alg": "ES256", "kid": OKTA_KEY.kid}), &carol());
    assert_eq!(outcome(&mut TestEngine::new(&configuration), &forged), "401 bad_signature");
}

/// A token that is signed with an RSA key.
fn signed_by_rsa(pair: &RS256KeyPair, kid: &str, algorithm: &str) -> String {
    let key = rsa::PrivateKey::from_pkcs8_der(&pair.to_der().unwrap()).unwrap();
    let header = json!({"alg": algorithm, "kid": kid, "typ": "JWT"});
    let input = format!("{}.{}", base64url(header.to_string()), base64url(carol().to_string()));
    let signature = if algorithm.starts_with("PS") {
        key.pss_sign_with_rng::<Sha256, _>(&mut getrandom::SysRng, input.as_bytes()).unwrap()
    } else {
        key.pkcs1v15_sign::<Sha256>(input.as_bytes()).unwrap()
    };
    format!("{input}.{}", base64url(signature))
}

#[test]
fn listed_algorithm_is_allowed_to_keys_of_its_type_without_alg() {
    let pair = RS256KeyPair::generate(2048).unwrap();
    let parts = pair.key_pair().public_key().to_components();
    let jwk = |more: Value| {
        with(json!({"kty": "RSA", "n": base64url(parts.n.clone()), "e": base64url(parts.e.clone())}), more)
    };
    let keys =
        json!({"keys": [jwk(json!({"kid": "bare"})), jwk(json!({"kid": "stated", "alg": "RS256"})), OKTA_KEY.jwk]});
    let es256 = |kid: &str| OKTA_KEY.sign(&json!({"alg": "ES256", "kid": kid}), &carol());
    let refused = "401 unsupported_algorithm";
    for (algorithms, token, expected) in [
        (json!(null), signed_by_rsa(&pair, "bare", "PS256"), refused),
        (json!(null), signed_by_rsa(&pair, "bare", "RS256"), "exchanged"),
        (json!(["PS256"]), signed_by_rsa(&pair, "bare", "PS256"), "exchanged"),
        (json!(["PS256", "RS256"]), signed_by_rsa(&pair, "bare", "RS256"), "exchanged"),
        (json!(["PS256"]), signed_by_rsa(&pair, "bare", "RS256"), refused),
        (json!(["PS256", "RS256"]), signed_by_rsa(&pair, "stated", "PS256"), refused),
        (json!(["PS256", "RS256"]), signed_by_rsa(&pair, "stated", "RS256"), "exchanged"),
        (json!(["PS256"]), es256("okta-1"), refused),
        (json!(["PS256", "ES256"]), es256("okta-1"), "exchanged"),
        (json!(["PS256", "ES256"]), es256("bare"), refused),
        (json!(["PS256", "ES384"]), signed_by_rsa(&pair, "okta-1", "PS256"), refused),
    ] {
        let configuration = configuration(json!({"jwks": keys, "algorithms": algorithms}));
        let header = token.split('.').next().unwrap().to_owned();
        assert_eq!(outcome(&mut TestEngine::new(&configuration), &token), expected, "{algorithms} {header}");
    }
    // A signature by one algorithm is none by another.
    let configuration = configuration(json!({"jwks": keys, "algorithms": ["PS256", "RS256"]}));
    let (rs256, ps256) = (signed_by_rsa(&pair, "bare", "RS256"), signed_by_rsa(&pair, "bare", "PS256"));
    let mixed = format!("{}.{}", rs256.rsplit_once('.').unwrap().0, ps256.rsplit_once('.').unwrap().1);
    assert_eq!(outcome(&mut TestEngine::new(&configuration), &mixed), "401 bad_signature");
}

#[test]
fn algorithm_that_is_not_listed_is_refused_before_a_key_fetch() {
    let configuration = configuration(json!({"jwks": null, "algorithms": ["RS256"]}));
    let mut engine = TestEngine::new(&configuration);
    assert_eq!(outcome(&mut engine, &OKTA_KEY.token(&carol())), "401 unsupported_algorithm");
    let answer = answered(engine.decide(bearer("/github", &OKTA_KEY.token(&carol()))));
    assert_eq!(log_facts(&answer.record.to_string())["cause"], "algorithms of the provider does not list alg");
}

#[test]
fn header_member_zip_without_compression_changes_nothing() {
    let with_header = |more: Value| OKTA_KEY.sign(&with(json!({"alg": "ES256", "kid": OKTA_KEY.kid}), more), &carol());
    assert_eq!(outcome(&mut engine(), &with_header(json!({"zip": "GZIP"}))), "exchanged");
    for more in [json!({"zip": "DEF"}), json!({"zip": "Def"}), json!({"zip": 1}), json!({"enc": "A256GCM"})] {
        assert_eq!(outcome(&mut engine(), &with_header(more.clone())), "401 malformed_token", "{more}");
    }
}
