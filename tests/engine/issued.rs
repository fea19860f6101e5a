//! Issued tokens that are JWTs: a token for this gateway itself, or of no use to the upstream, is not forwarded.

use std::time::Duration;

use onbehalf::engine::Decision;
use serde_json::{Value, json};

use onbehalf_test_support::{
    ENTRA_KEY, NOW, OKTA, OKTA_KEY, OTHER_KEY, TestEngine, alice, alice_token, answer_with, answered, authorization,
    base64url, bearer, bob, bob_id, bob_token, configuration, forwarded, issued, refused, request, with,
};

/// The claims of Okta's token for the upstream.
fn for_github() -> Value {
    json!({"iss": OKTA, "aud": "com.acme.github", "sub": "bob@acme.example", "uid": "00ubob", "cid": "0oa1",
        "jti": "AT.2", "scp": ["github.read"], "iat": NOW.secs(), "exp": NOW.secs() + 3600})
}

fn okta(changes: Value) -> String {
    OKTA_KEY.token(&with(for_github(), changes))
}

/// Bob's request, for which the provider issues a token.
fn of(configuration: &Value, token: &str) -> Decision {
    TestEngine::new(configuration).with_keys().exchange(bearer("/github", &bob_token()), &issued(token))
}

fn goes_on(configuration: &Value, token: &str) {
    assert_eq!(authorization(of(configuration, token)), format!("Bearer {token}"), "{token}");
}

/// The detail in the log line about a token that is not forwarded.
fn line(step: Decision) -> String {
    let answer = answered(step);
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((answer.status, body["reason"].as_str()), (502, Some("provider_answer_invalid")));
    answer.record.to_string()
}

/// Another profile and another target for Bob.
fn exchanging(profile: &str, exchange: Value) -> Value {
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"]["profile"] = json!(profile);
    configuration["resources"][0]["exchange"]["okta-eu"] = exchange;
    configuration
}

#[test]
fn issued_token_for_the_gateway_itself_is_refused() {
    for audience in [
        json!("api://default"),
        json!(["api://default"]),
        json!(["com.acme.github", "api://default"]),
        json!([7, "com.acme.github", null, "api://default"]),
    ] {
        let line = line(of(&configuration(), &okta(json!({"aud": audience}))));
        let expected = "error=\"the token is for this proxy itself, and so for every resource behind it\" status=200 aud=\"api://default\" responsible=operator remedy=\"Have the authorization server issue";
        assert!(line.contains(expected), "{line}");
        assert!(line.starts_with("event=refused reason=provider_answer_invalid resource="), "{line}");
    }
    // An audience of any resource makes the token one for this gateway.
    for resource in [0, 1] {
        let mut configuration = configuration();
        configuration["identity_providers"]["okta-eu"].as_object_mut().unwrap().remove("audiences");
        configuration["resources"][0]["audiences"] = json!(["api://default"]);
        configuration["resources"][1]["exchange"] = json!({"okta-eu": {"audience": "com.acme.admin"}});
        configuration["resources"][1]["audiences"] = json!(["api://admin"]);
        let audience = ["api://default", "api://admin"][resource];
        let line = line(of(&configuration, &okta(json!({"aud": audience}))));
        assert!(line.contains(&format!("status=200 aud=\"{audience}\" responsible=operator")), "{line}");
    }
    // The signature and the other claims of the issued token do not matter.
    let claims = with(for_github(), json!({"aud": "api://default"}));
    for token in [
        OTHER_KEY.token(&claims),
        OKTA_KEY.sign(&json!({"alg": "none"}), &claims),
        OKTA_KEY.sign(&json!({}), &claims),
        OKTA_KEY.sign(&json!({"alg": "ES256", "crit": ["x"], "typ": "at+jwt"}), &claims),
        format!("{}.{}.", base64url("{}"), base64url(claims.to_string())),
        format!("{}=.{}==.AA", base64url("{}"), base64url(claims.to_string())),
        OKTA_KEY.token(&with(claims.clone(), json!({"iss": "https://alias.okta.example"}))),
        OKTA_KEY.token(&json!({"aud": "api://default"})),
    ] {
        line(of(&configuration(), &token));
    }
}

#[test]
fn issued_token_of_another_audience_or_opaque_is_forwarded() {
    for audience in [
        json!("com.acme.github"),
        json!(["com.acme.github", "https://acme.okta.example"]),
        json!("api://default/"),
        json!("API://default"),
        json!(null),
        json!([]),
        json!({"api://default": 1}),
    ] {
        goes_on(&configuration(), &okta(json!({"aud": audience})));
    }
    let ours = base64url(json!({"aud": "api://default"}).to_string());
    let header = base64url(r#"{"alg":"ES256"}"#);
    for token in [
        "opaque".to_owned(),
        format!("{header}.{ours}"),
        // A JWE has five segments.
        format!("{header}.{ours}.AA.AA.AA"),
        format!("{header}.{ours}.AA.AA"),
        format!("{header}.{}.AA", base64url("no JSON")),
        format!("{}.{ours}.AA", base64url("no JSON")),
        format!("{header}.{}.AA", base64url(r#"["aud"]"#)),
        "..".to_owned(),
        "v4.public.AAAA".to_owned(),
    ] {
        goes_on(&configuration(), &token);
    }
}

#[test]
fn issued_token_for_the_gateway_is_forwarded_if_requested() {
    let for_us = okta(json!({"aud": "api://default"}));
    for (profile, exchange) in [
        ("okta_obo", json!({"audience": "api://default", "scopes": ["read"]})),
        ("rfc8693", json!({"audience": ["other", "api://default"]})),
        ("rfc8693", json!({"resource": "api://default"})),
        ("rfc8693", json!({"scopes": ["a", "api://default/read"]})),
        ("jwt_bearer", json!({"parameters": {"target": "api://default"}})),
    ] {
        goes_on(&exchanging(profile, exchange), &for_us);
    }
    for (profile, exchange) in [
        ("rfc8693", json!({"audience": ["other", "api://default/read"]})),
        ("rfc8693", json!({"scopes": ["read", "api://default"]})),
        ("rfc8693", json!({"scopes": ["api://default/read/more"]})),
        ("jwt_bearer", json!({"parameters": {"target": "default"}})),
    ] {
        line(of(&exchanging(profile, exchange), &for_us));
    }
    // One name of this gateway stands for no other.
    let mut configuration = exchanging("rfc8693", json!({"audience": "gateway"}));
    configuration["identity_providers"]["okta-eu"]["audiences"] = json!(["api://default", "gateway"]);
    line(of(&configuration, &for_us));
}

#[test]
fn requested_audience_of_one_resource_lets_no_other_through() {
    let with_lists = |requested: Value| {
        let mut configuration = exchanging("rfc8693", json!({"audience": requested}));
        configuration["identity_providers"]["okta-eu"].as_object_mut().unwrap().remove("audiences");
        configuration["resources"][0]["audiences"] = json!(["api://default"]);
        configuration["resources"][1]["exchange"] = json!({"okta-eu": {"audience": "com.acme.admin"}});
        configuration["resources"][1]["audiences"] = json!(["api://admin", "api://admin-2"]);
        configuration
    };
    let (admin, both) = (json!("api://admin"), json!(["api://admin", "api://default"]));
    for (requested, audience) in [
        (&admin, json!("api://admin")),
        (&admin, json!(["api://admin", "com.acme.github", "api://admin"])),
        (&both, json!("api://default")),
        (&both, json!(["api://default", "api://admin"])),
    ] {
        goes_on(&with_lists(requested.clone()), &okta(json!({"aud": audience})));
    }
    for (requested, audience, refused) in [
        (&admin, json!("api://default"), "api://default"),
        (&admin, json!("api://admin-2"), "api://admin-2"),
        (&admin, json!(["api://admin", "api://default"]), "api://default"),
        (&both, json!(["api://admin", "api://admin-2", "api://default"]), "api://admin-2"),
    ] {
        let line = line(of(&with_lists(requested.clone()), &okta(json!({"aud": audience}))));
        assert!(line.contains(&format!(" aud=\"{refused}\" ")), "{line}");
    }
    // The audience of a resource here that another provider's tokens are for.
    let mut configuration = with_lists(json!("api://admin"));
    configuration["resources"][0]["audiences"] = json!(["api://default", "api://gateway"]);
    let of_entra = ENTRA_KEY.token(&with(alice(), json!({"oid": "bob"})));
    assert!(line(of(&configuration, &of_entra)).contains("aud=\"api://gateway\""));
}

const APP: &str = "0f0e0d0c-1111-4222-8333-444455556666";

#[test]
fn entra_token_with_the_app_id_as_audience_is_forwarded() {
    let uri = format!("api://{APP}");
    let for_app = ENTRA_KEY.token(&with(alice(), json!({"aud": APP, "azp": "gateway-id"})));
    let of = |audiences: Value, exchange: Value| {
        let mut configuration = configuration();
        let entra = &mut configuration["identity_providers"]["entra-us"];
        entra["client"]["id"] = json!(APP);
        entra["audiences"] = audiences.clone();
        configuration["resources"][0]["exchange"]["entra-us"] = exchange;
        let token = ENTRA_KEY.token(&with(alice(), json!({"aud": audiences[0]})));
        TestEngine::new(&configuration).with_keys().exchange(bearer("/github", &token), &issued(&for_app))
    };
    for (audiences, exchange) in [
        (json!([APP]), json!({"resource": uri})),
        (json!([APP]), json!({"scopes": [format!("{uri}/read")]})),
        (json!([APP, uri]), json!({"scopes": [format!("{APP}/.default")]})),
    ] {
        assert_eq!(authorization(of(audiences, exchange)), format!("Bearer {for_app}"));
    }
    for (audiences, exchange) in [
        (json!([APP]), json!({"resource": "api://github"})),
        (json!([APP, uri]), json!({"scopes": ["api://github/read"]})),
        (json!([uri, APP]), json!({"scopes": ["User.Read"]})),
    ] {
        assert!(line(of(audiences, exchange)).contains(&format!("aud={APP:?}")));
    }
}

#[test]
fn issued_token_that_another_provider_here_accepts_is_refused() {
    let of_entra = |changes: Value| ENTRA_KEY.token(&with(with(alice(), json!({"oid": "bob"})), changes));
    assert!(line(of(&configuration(), &of_entra(json!({})))).contains("aud=\"api://gateway\""));
    goes_on(&configuration(), &of_entra(json!({"aud": "api://default-of-another"})));
    goes_on(&configuration(), &of_entra(json!({"iss": "https://login.elsewhere.example"})));
}

#[test]
fn issued_token_with_issuer_and_audience_of_the_id_token_is_refused() {
    let mut configuration = exchanging("rfc8693", json!({"scopes": ["github.read"]}));
    let subject = json!({"type": "id_token", "header": "x-id-token", "audiences": ["login-client"]});
    configuration["identity_providers"]["okta-eu"]["subject_token"] = subject;
    let of_audience = |configuration: &Value, audience: &Value, changes: Value| {
        let claims = json!({"iss": OKTA, "aud": audience, "sub": "bob@acme.example", "exp": NOW.secs() + 60});
        let id_token = OKTA_KEY.token(&with(claims, json!({"nonce": "n"})));
        let token = bob_token();
        let fields = [("authorization", format!("Bearer {token}")), ("x-id-token", id_token)];
        let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
        let mut engine = TestEngine::new(configuration).with_keys();
        engine.exchange(request("POST", "/github", &fields), &issued(&okta(changes)))
    };
    let of = |configuration: &Value, changes: Value| of_audience(configuration, &json!("login-client"), changes);
    for audience in [json!("login-client"), json!(["login-client"])] {
        let line = line(of(&configuration, json!({"aud": audience})));
        assert!(line.contains("issuer and the audience of the subject token") && line.contains("login-client"));
    }
    for changes in [
        json!({"aud": ["login-client", "github"]}),
        json!({"aud": "login-client", "iss": "https://other.example"}),
        json!({"aud": "github"}),
        json!({"aud": null}),
    ] {
        forwarded(of(&configuration, changes));
    }
    let mut asking = configuration.clone();
    asking["resources"][0]["exchange"]["okta-eu"]["audience"] = json!("login-client");
    forwarded(of(&asking, json!({"aud": "login-client"})));
    // The order of several audiences does not matter.
    let both = json!(["login-client", "userinfo"]);
    line(of_audience(&configuration, &both, json!({"aud": ["userinfo", "login-client"]})));
    line(of_audience(&configuration, &both, json!({"aud": ["login-client", "userinfo", "login-client"]})));
    forwarded(of_audience(&configuration, &both, json!({"aud": ["login-client"]})));
    forwarded(of_audience(&configuration, &both, json!({"aud": ["userinfo", "userinfo"]})));
    asking["resources"][0]["exchange"]["okta-eu"]["audience"] = json!("userinfo");
    line(of_audience(&asking, &both, json!({"aud": both})));
    asking["resources"][0]["exchange"]["okta-eu"]["audience"] = both.clone();
    forwarded(of_audience(&asking, &both, json!({"aud": both})));
}

#[test]
fn callers_token_in_another_encoding_is_not_forwarded() {
    let token = bob_token();
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("not three segments") };
    let spaced = base64url(bob().to_string().replacen(':', " : ", 1));
    // The audience says nothing where the gateway's own audience was requested.
    let configuration = exchanging("okta_obo", json!({"audience": "api://default", "scopes": ["read"]}));
    for again in [
        token.clone(),
        format!("{header}.{payload}.{}", &signature[..80]),
        format!("{token}="),
        format!("{header}.{payload}."),
        format!("{header}.{spaced}.{signature}"),
        OKTA_KEY.sign(&json!({"alg": "ES256", "kid": "okta-2"}), &bob()),
        format!("x.{token}"),
    ] {
        let step = TestEngine::new(&configuration).with_keys().exchange(bearer("/github", &token), &issued(&again));
        assert!(line(step).contains("the token of the request came back"), "{again}");
    }
    let next = OKTA_KEY.token(&with(bob(), json!({"jti": "AT.2"})));
    let step = TestEngine::new(&configuration).with_keys().exchange(bearer("/github", &token), &issued(&next));
    assert_eq!(authorization(step), format!("Bearer {next}"));
}

#[test]
fn issued_token_that_is_no_b64token_is_refused() {
    let token = okta(json!({}));
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("not three segments") };
    for unusable in [
        "a,b".to_owned(),
        "a;b".to_owned(),
        "a\"b".to_owned(),
        "a|b".to_owned(),
        "a!".to_owned(),
        "a\\".to_owned(),
        "=".to_owned(),
        "a=b".to_owned(),
        format!("\"{token}\""),
        format!("{token}, Bearer x"),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload}==.{signature}"),
        format!("{header}.!{payload}.{signature}"),
    ] {
        let line = line(of(&configuration(), &unusable));
        assert!(line.contains("characters that a Bearer token cannot have"), "{unusable}: {line}");
    }
    for usable in ["a-._~+/b==", "a=", "0"] {
        goes_on(&configuration(), usable);
    }
}

#[test]
fn issued_token_of_another_kind_is_refused() {
    for claims in [
        json!({"at_hash": "h"}),
        json!({"c_hash": "h"}),
        json!({"nonce": "n"}),
        json!({"typ": "ID"}),
        json!({"token_use": "id"}),
        json!({"jti": "ID.2"}),
    ] {
        assert!(line(of(&configuration(), &okta(claims))).contains("the token is an ID token"));
    }
    for claims in [
        json!({"typ": "Refresh"}),
        json!({"typ": "Offline"}),
        json!({"typ": "Logout"}),
        json!({"token_use": "refresh"}),
        json!({"events": {}}),
    ] {
        assert!(line(of(&configuration(), &okta(claims))).contains("another kind, such as a refresh token"));
    }
    for typ in ["logout+jwt", "application/secevent+jwt", "DPoP+jwt", "oauth-id-jag+jwt"] {
        let token = OKTA_KEY.sign(&json!({"alg": "ES256", "typ": typ}), &for_github());
        assert!(line(of(&configuration(), &token)).contains("another kind, such as a refresh token"), "{typ}");
    }
    goes_on(&exchanging("rfc8693", json!({"audience": "com.acme.github"})), &okta(json!({"jti": "ID.2"})));
    // The stronger evidence counts.
    for (typ, claims) in [
        ("JWT", json!({"typ": "Bearer", "nonce": "n"})),
        ("JWT", json!({"typ": "Bearer", "at_hash": "h"})),
        ("at+jwt", json!({"nonce": "n"})),
        ("application/at+jwt", json!({"nonce": "n"})),
        ("JWT", json!({"token_use": "access", "nonce": "n"})),
        ("JWT", json!({"typ": "DPoP"})),
        ("txntoken+jwt", json!({})),
        ("JWT", json!({"sid": "s", "auth_time": 1, "scope": "openid"})),
    ] {
        goes_on(&configuration(), &OKTA_KEY.sign(&json!({"alg": "ES256", "typ": typ}), &with(for_github(), claims)));
    }
}

#[test]
fn issued_token_of_another_user_is_refused() {
    assert!(line(of(&configuration(), &okta(json!({"uid": "00ucarol"})))).contains("the token is of another user"));
    // `sub` may differ for each client.
    goes_on(&configuration(), &okta(json!({"sub": "pairwise"})));
    goes_on(&configuration(), &okta(json!({"uid": null})));
    goes_on(&exchanging("rfc8693", json!({"audience": "com.acme.github"})), &okta(json!({"uid": "00ucarol"})));
    let alices = |changes: Value| {
        let claims = with(with(alice(), json!({"aud": "api://github", "sub": "pairwise-2"})), changes);
        let token = ENTRA_KEY.token(&claims);
        TestEngine::ready().exchange(bearer("/github", &alice_token()), &issued(&token))
    };
    assert!(line(alices(json!({"oid": "carol"}))).contains("the token is of another user"));
    for changes in [json!({}), json!({"oid": null}), json!({"oid": "guest", "tid": "another"})] {
        forwarded(alices(changes));
    }
}

#[test]
fn issued_token_is_compared_with_the_user_of_the_id_token() {
    let mut configuration = configuration();
    let okta_eu = &mut configuration["identity_providers"]["okta-eu"];
    okta_eu["subject_token"] = json!({"type": "id_token"});
    okta_eu["audiences"] = json!(["login-client"]);
    configuration["resources"][0]["scopes"] = json!([]);
    let of = |token: &str| {
        let bobs = OKTA_KEY.token(&bob_id());
        TestEngine::new(&configuration).with_keys().exchange(bearer("/github", &bobs), &issued(token))
    };
    forwarded(of(&okta(json!({}))));
    assert!(line(of(&okta(json!({"uid": "00ucarol"})))).contains("the token is of another user"));
}

#[test]
fn issued_token_is_not_used_after_its_exp() {
    for exp in [json!(NOW.secs()), json!(NOW.secs() - 1), json!(0), json!(-1), json!(1.5)] {
        assert!(line(of(&configuration(), &okta(json!({"exp": exp})))).contains("the token has expired"), "{exp}");
    }
    for exp in [json!(null), json!("soon"), json!(NOW.secs() as f64 + 0.5)] {
        goes_on(&configuration(), &okta(json!({"exp": exp})));
    }
    // The earlier of `expires_in`, which is an hour, and `exp` counts, less a margin.
    let subject = OKTA_KEY.token(&with(bob(), json!({"exp": NOW.secs() + 86_400})));
    for (exp, last) in [(3, 2), (100, 74), (600, 569), (7200, 3569)] {
        let mut engine = TestEngine::ready();
        let token = okta(json!({"exp": NOW.secs() + exp}));
        authorization(engine.exchange(bearer("/github", &subject), &issued(&token)));
        let is_used = |second: &u64| {
            engine.now = NOW.plus(Duration::from_secs(*second));
            matches!(engine.decide(bearer("/github", &subject)), Decision::Forward(_))
        };
        assert_eq!((1..7200).take_while(is_used).last(), Some(last), "{exp}");
    }
}

#[test]
fn renewal_with_a_token_for_the_gateway_keeps_the_token_in_use() {
    let mut engine = TestEngine::ready();
    let subject = OKTA_KEY.token(&with(bob(), json!({"exp": NOW.secs() + 86_400})));
    let good = okta(json!({}));
    authorization(engine.exchange(bearer("/github", &subject), &issued(&good)));
    engine.advance(3300);
    authorization(engine.decide(bearer("/github", &subject)));
    let (flight, _) = engine.expect_call();
    let later = json!({"aud": "api://default", "exp": NOW.secs() + 9000});
    assert!(engine.callout_result(flight, &issued(&okta(later))).is_empty());
    assert_eq!(authorization(engine.decide(bearer("/github", &subject))), format!("Bearer {good}"));
}

const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";
const SERVER: &str = "https://acme.okta.example/oauth2/aus1";

/// An exchange of two calls, and the reply to each.
fn of_two(configuration: &Value, assertion: &str, token: &str) -> Decision {
    let mut engine = TestEngine::new(configuration).with_keys();
    engine.send_waiting(bearer("/github", &bob_token()));
    let (flight, _) = engine.expect_call();
    let body = json!({"access_token": assertion, "token_type": "N_A", "issued_token_type": ID_JAG});
    let mut steps = engine.callout_result(flight, &answer_with(200, &[], &body));
    if steps.is_empty() {
        let (flight, _) = engine.expect_call();
        steps = engine.callout_result(flight, &issued(token));
    }
    steps.remove(0).1
}

#[test]
fn issued_tokens_of_both_calls_are_checked() {
    let configuration = exchanging("okta_xaa", json!({"audience": SERVER, "scopes": ["read"]}));
    let jag = |changes: Value| {
        let claims =
            json!({"iss": "https://acme.okta.example", "aud": SERVER, "sub": "00ubob", "exp": NOW.secs() + 300});
        OKTA_KEY.sign(&json!({"alg": "ES256", "typ": "oauth-id-jag+jwt"}), &with(claims, changes))
    };
    let of_server = |changes: Value| okta(with(json!({"iss": SERVER, "aud": "github"}), changes));
    let token = of_server(json!({"uid": "00uofanotherorg"}));
    assert_eq!(authorization(of_two(&configuration, &jag(json!({})), &token)), format!("Bearer {token}"));
    // The second server has its own audiences.
    let of_default = of_server(json!({"aud": "api://default"}));
    assert_eq!(authorization(of_two(&configuration, &jag(json!({})), &of_default)), format!("Bearer {of_default}"));
    for (assertion, token, problem) in [
        (jag(json!({"aud": "api://default"})), &token, "for this proxy itself"),
        (jag(json!({"exp": NOW.secs()})), &token, "has expired"),
        (okta(json!({"at_hash": "h"})), &token, "an ID token"),
        (okta(json!({"jti": "ID.2"})), &token, "an ID token"),
        (jag(json!({})), &okta(json!({"aud": "api://default"})), "for this proxy itself"),
        (jag(json!({})), &of_server(json!({"exp": NOW.secs()})), "has expired"),
        (jag(json!({})), &of_server(json!({"nonce": "n"})), "an ID token"),
        (jag(json!({})), &jag(json!({"jti": "another"})), "another kind"),
    ] {
        assert!(line(of_two(&configuration, &assertion, token)).contains(problem), "{problem}");
    }
    // The assertion with another signature.
    let assertion = jag(json!({}));
    let respelled = format!("{}.AAAA", assertion.rsplit_once('.').unwrap().0);
    let line = line(of_two(&configuration, &assertion, &respelled));
    assert!(line.contains("leg=2 error=\"the token of the request came back\""), "{line}");
}

#[test]
fn issued_token_of_any_shape_is_checked() {
    let payload = |text: &str| format!("{}.{}.AAAA", base64url(r#"{"alg":"ES256"}"#), base64url(text));
    let deep = format!(r#"{{"aud":"api://default","x":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000));
    let twice = r#"{"aud":"com.acme.github","aud":"api://default"}"#;
    // These tokens would be malformed as callers' tokens, so this gateway would refuse them.
    for text in
        [deep.as_str(), twice, r#"{"aud":"api://default","x":1e999}"#, r#"{"aud":"api://default","x":"\ud800"}"#]
    {
        let token = payload(text);
        goes_on(&configuration(), &token);
        let as_callers = TestEngine::ready().decide(bearer("/github", &token));
        assert_eq!(refused(as_callers).1, "malformed_token", "{text}");
    }
    let many: Vec<String> = (0..3000).map(|number| format!("\"a{number}\"")).collect();
    line(of(&configuration(), &payload(&format!(r#"{{"aud":[{},"api://default"]}}"#, many.join(",")))));
    let most = 32 * 1024;
    let long = payload(&format!(r#"{{"x":"{}","aud":"api://default"}}"#, "x".repeat(most * 3 / 4 - 60)));
    assert!((most - 64..=most).contains(&long.len()), "{}", long.len());
    line(of(&configuration(), &long));
    assert!(line(of(&configuration(), &payload(&"x".repeat(most)))).contains("longer than 32 KiB"));
}

#[test]
fn claims_of_an_issued_token_are_escaped_in_the_log() {
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"]["audiences"] = json!(["api://default", "a\" event=\u{2028}b"]);
    let line = line(of(&configuration, &okta(json!({"aud": "a\" event=\u{2028}b"}))));
    assert!(line.contains(r#"aud="a\" event=\u2028b" responsible=operator"#), "{line}");
}
