//! Token requests, and the reading of token responses.

use base64::Engine as _;
use jwt_simple::algorithms::{ECDSAP256KeyPairLike, ECDSAP256PublicKeyLike, ES256PublicKey};
use jwt_simple::claims::NoCustomClaims;
use jwt_simple::common::VerificationOptions;
use onbehalf::config::Config;
use onbehalf::engine::Decision;
use onbehalf::http::{Callout, CalloutFailure, CalloutResult};
use onbehalf::provider::{Hop, SecretVersion, SubjectInput, TokenRequest};
use onbehalf::url::Url;
use serde_json::{Value, json};

use onbehalf_test_support::{
    CLIENT_KEY, ENTRA_KEY, NOW, OKTA, OKTA_KEY, SECRET, TIMED_OUT, TestEngine, alice, alice_token, answer, answer_with,
    answered, authorization, bearer, bob, bob_token, configuration, environment, form, header, issued, jws_part, parse,
    refused, with,
};

fn call_for(configuration: &Value, token: &str) -> Callout {
    let mut engine = TestEngine::new(configuration).with_keys();
    let (_, step) = engine.send(bearer("/github", token));
    assert!(matches!(step, Decision::Pause));
    engine.expect_call().1
}

#[test]
fn on_behalf_of_sends_the_access_token_as_assertion() {
    let call = call_for(&configuration(), &alice_token());
    assert_eq!(
        (call.method, call.url.as_str(), &*call.cluster),
        ("POST", "https://login.entra.example/9b1c0000-1111-4222-8333-444455556666/oauth2/v2.0/token", "entra")
    );
    let mut form: Vec<_> = form(&call).into_iter().collect();
    form.sort();
    let mut expected = [
        ("assertion", alice_token()),
        ("client_id", "gateway-id".to_owned()),
        ("client_secret", SECRET.to_owned()),
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned()),
        ("requested_token_use", "on_behalf_of".to_owned()),
        ("scope", "api://github/.default".to_owned()),
    ];
    expected.sort();
    for ((name, value), (expected_name, expected_value)) in form.iter().zip(&expected) {
        assert_eq!(name, expected_name);
        assert_eq!(value, expected_value);
    }
    assert_eq!(form.len(), expected.len());
}

#[test]
fn resource_uri_gets_one_default_suffix() {
    for resource in ["api://github", "api://github/", "api://github/.default"] {
        let mut configuration = configuration();
        configuration["resources"][0]["exchange"]["entra-us"] = json!({"resource": resource});
        assert_eq!(form(&call_for(&configuration, &alice_token()))["scope"], "api://github/.default", "{resource}");
    }
}

#[test]
fn configured_scopes_replace_the_default_scope() {
    let mut configuration = configuration();
    configuration["resources"][0]["exchange"]["entra-us"] =
        json!({"scopes": ["api://github/read", "api://github/write"]});
    assert_eq!(form(&call_for(&configuration, &alice_token()))["scope"], "api://github/read api://github/write");
}

#[test]
fn configured_claims_are_requested_and_cached_separately() {
    let mut configuration = configuration();
    let claims = json!({"access_token": {"xms_cc": {"values": ["cp1"]}}});
    configuration["resources"][1] = json!({"url": "https://mcp.acme.example/capable",
        "exchange": {"entra-us": {"resource": "api://github", "claims": claims}}});
    let mut engine = TestEngine::new(&configuration).with_keys();
    assert_eq!(authorization(engine.exchange(bearer("/github", &alice_token()), &issued("plain"))), "Bearer plain");
    engine.send_waiting(bearer("/capable", &alice_token()));
    let sent = form(&engine.expect_call().1);
    assert_eq!(serde_json::from_str::<Value>(&sent["claims"]).unwrap(), claims);
}

#[test]
fn claims_are_refused_without_support_or_in_another_form() {
    let refused = |provider: &str, claims: Value| {
        let mut configuration = configuration();
        configuration["resources"][0]["exchange"][provider]["claims"] = claims;
        let error = Config::parse(configuration.to_string().as_bytes(), &environment).unwrap_err();
        assert_eq!(error.path, format!("resources[0].exchange.{provider}.claims"), "{error}");
        error.found.clone()
    };
    assert_eq!(refused("okta-eu", json!({"access_token": {}})), "a value");
    assert_eq!(refused("entra-us", json!("{}")), "a string");
    assert_eq!(refused("entra-us", json!({"access_token": "xms_cc"})), "another form");
    assert_eq!(refused("entra-us", json!({})), "another form");
}

#[test]
fn token_exchange_sends_audience_scope_and_a_client_assertion() {
    let call = call_for(&configuration(), &bob_token());
    let form = form(&call);
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:token-exchange");
    assert_eq!(form["subject_token_type"], "urn:ietf:params:oauth:token-type:access_token");
    assert_eq!((form["audience"].as_str(), form["scope"].as_str()), ("com.acme.github", "github.read"));
    assert_eq!(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    assert!(
        !form.contains_key("client_secret")
            && !form.contains_key("requested_token_type")
            && !form.contains_key("resource")
    );

    let public = ES256PublicKey::from_bytes(&CLIENT_KEY.key_pair().public_key().to_bytes()).unwrap();
    let options = VerificationOptions {
        artificial_time: Some(jwt_simple::prelude::UnixTimeStamp::from_secs(NOW.secs())),
        ..Default::default()
    };
    let claims = public.verify_token::<NoCustomClaims>(&form["client_assertion"], Some(options)).unwrap();
    assert_eq!((claims.issuer.as_deref(), claims.subject.as_deref()), (Some("0oa1"), Some("0oa1")));
    let part = |index: usize| jws_part(&form["client_assertion"], index);
    assert_eq!(part(0), json!({"alg": "ES256", "typ": "JWT", "kid": "k1"}));
    assert_eq!(part(1)["aud"], format!("{OKTA}/v1/token"));
    assert_eq!(part(1)["exp"].as_u64().unwrap() - part(1)["iat"].as_u64().unwrap(), 300);
    let another = onbehalf_test_support::form(&call_for(&configuration(), &bob_token()))["client_assertion"].clone();
    assert_ne!(part(1)["jti"], jws_part(&another, 1)["jti"]);
}

/// Every parameter of a token request, in order.
fn pairs(call: &Callout) -> Vec<(String, String)> {
    form_urlencoded::parse(call.body.reveal().as_bytes()).into_owned().collect()
}

fn with_profile(profile: &str, exchange: Value) -> Value {
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"]["profile"] = json!(profile);
    configuration["resources"][0]["exchange"]["okta-eu"] = exchange;
    configuration
}

#[test]
fn audiences_and_resources_are_repeated_parameters() {
    let exchange =
        json!({"audience": ["a", "b c"], "resource": ["https://x.example", "https://y.example"], "scopes": ["r"]});
    let call = call_for(&with_profile("rfc8693", exchange), &bob_token());
    let of = |wanted: &str| -> Vec<String> {
        pairs(&call).into_iter().filter(|(name, _)| name == wanted).map(|(_, value)| value).collect()
    };
    assert_eq!(of("audience"), ["a", "b c"]);
    assert_eq!(of("resource"), ["https://x.example", "https://y.example"]);
    assert_eq!(of("scope"), ["r"]);
}

#[test]
fn jwt_bearer_grant_has_the_token_as_assertion() {
    let exchange = json!({"scopes": ["read"], "parameters": {"connection": "corp", "x-tenant": "7 & 8"}});
    let call = call_for(&with_profile("jwt_bearer", exchange), &bob_token());
    let expected = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned()),
        ("assertion", bob_token()),
        ("scope", "read".to_owned()),
        ("connection", "corp".to_owned()),
        ("x-tenant", "7 & 8".to_owned()),
        ("client_id", "0oa1".to_owned()),
    ];
    for ((name, value), (expected_name, expected_value)) in pairs(&call).iter().zip(&expected) {
        assert_eq!((name.as_str(), value), (*expected_name, expected_value));
    }
}

#[test]
fn configured_parameters_are_sent_and_cached_separately() {
    let mut configuration = configuration();
    configuration["resources"][0]["exchange"]["entra-us"]["parameters"] = json!({"x": "1"});
    let url = "https://mcp.acme.example/other";
    let mut other = configuration["resources"][0].clone();
    other["url"] = json!(url);
    other["exchange"]["entra-us"]["parameters"] = json!({"x": "2"});
    configuration["resources"].as_array_mut().unwrap().push(other);
    let mut engine = TestEngine::new(&configuration).with_keys();
    for (path, value) in [("/github", "1"), ("/other", "2")] {
        let id = engine.send_waiting(bearer(path, &alice_token()));
        let (flight, call) = engine.expect_call();
        assert_eq!(form(&call)["x"], value);
        let (answered, step) = engine.callout_result(flight, &issued(value)).remove(0);
        assert_eq!((answered, authorization(step)), (id, format!("Bearer {value}")));
    }
}

#[test]
fn parameter_set_by_the_exchange_cannot_be_configured() {
    let error = |exchange: Value| {
        let configuration = with_profile("rfc8693", exchange).to_string();
        Config::parse(configuration.as_bytes(), &environment).unwrap_err().to_string()
    };
    for name in [
        "grant_type",
        "subject_token",
        "client_secret",
        "CLIENT_ID",
        "client.id",
        "scope",
        "assertion",
        "requested_subject",
        "a b",
        "a&b",
        "",
    ] {
        let error = error(json!({"audience": "a", "parameters": {name: "x"}}));
        assert!(error.contains("resources[0].exchange.okta-eu.parameters: "), "{name}: {error}");
    }
    assert!(!error(json!({"audience": "a", "parameters": {"hunter2!": "x"}})).contains("hunter2"));
    let shown =
        format!("{:?}", parse(&with_profile("rfc8693", json!({"audience": "a", "parameters": {"key": "hunter2"}}))));
    assert!(!shown.contains("hunter2"));
    assert!(error(json!({"audience": "a", "parameters": {"x": ""}})).contains("okta-eu.parameters.x: "));
    assert!(error(json!({"audience": "a", "parameters": ["x"]})).contains("okta-eu.parameters: "));
    assert!(error(json!({"audience": ["a", ""]})).contains("okta-eu.audience[1]: "));
}

#[test]
fn client_secret_basic_encodes_id_and_secret_first() {
    let mut configuration = configuration();
    let okta = &mut configuration["identity_providers"]["okta-eu"];
    okta["profile"] = json!("rfc8693");
    okta["client"] =
        json!({"id": "a:b c", "authentication": {"method": "client_secret_basic", "secret": {"inline": "p:a%s&s+"}}});
    configuration["resources"][0]["exchange"]["okta-eu"] =
        json!({"resource": "https://github.example", "requested_token_type": "urn:ietf:params:oauth:token-type:jwt"});
    let call = call_for(&configuration, &bob_token());
    let authorization = call.headers.iter().find(|(name, _)| *name == "authorization").unwrap().1.reveal();
    let pair = base64::prelude::BASE64_STANDARD.decode(authorization.strip_prefix("Basic ").unwrap()).unwrap();
    assert_eq!(String::from_utf8(pair).unwrap(), "a%3Ab+c:p%3Aa%25s%26s%2B");
    let form = form(&call);
    assert_eq!(form["resource"], "https://github.example");
    assert_eq!(form["requested_token_type"], "urn:ietf:params:oauth:token-type:jwt");
    assert!(!form.contains_key("client_id") && !form.contains_key("client_secret") && !form.contains_key("audience"));
}

#[test]
fn debug_output_of_a_call_shows_no_secret() {
    assert_eq!(
        format!("{:?}", call_for(&configuration(), &alice_token())),
        "POST https://login.entra.example/9b1c0000-1111-4222-8333-444455556666/oauth2/v2.0/token via entra"
    );
}

fn outcome(token: &str, reply: &CalloutResult) -> Decision {
    TestEngine::ready().exchange(bearer("/github", token), reply)
}

#[test]
fn token_response_without_a_bearer_token_is_refused() {
    let good = json!({"access_token": "up", "token_type": "Bearer", "expires_in": 60});
    let bad = [
        json!({"access_token": null}),
        json!({"access_token": ""}),
        json!({"access_token": 1}),
        json!({"access_token": "a b"}),
        json!({"access_token": "a\r\nx-evil: 1"}),
        json!({"access_token": "tokén"}),
        json!({"token_type": "N_A"}),
        json!({"token_type": "DPoP"}),
        json!({"token_type": null}),
        json!({"expires_in": 0}),
        json!({"expires_in": -1}),
        json!({"expires_in": 0.5}),
        json!({"expires_in": "soon"}),
        json!({"issued_token_type": "urn:ietf:params:oauth:token-type:id_token"}),
        json!({"issued_token_type": 7}),
    ];
    for change in bad {
        let reply = answer_with(200, &[], &with(good.clone(), change.clone()));
        assert_eq!(refused(outcome(&alice_token(), &reply)), (502, "provider_answer_invalid".to_owned()), "{change}");
    }
    for body in [
        &b""[..],
        b"<html>",
        b"{\"access_token\":\"up\"",
        b"[]",
        br#"{"access_token":"a","access_token":"b","token_type":"Bearer"}"#,
    ] {
        assert_eq!(refused(outcome(&alice_token(), &answer(200, body))).1, "provider_answer_invalid");
    }
    for change in [
        json!({"token_type": "bearer"}),
        json!({"expires_in": "3600"}),
        json!({"expires_in": 99_999_999_999_u64}),
        json!({"expires_in": 1.5}),
        json!({"expires_in": " 3599.7 "}),
        json!({"expires_in": 3.6e3}),
        json!({"expires_in": null}),
        json!({"issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}),
        json!({"issued_token_type": "urn:ietf:params:oauth:token-type:jwt", "unknown": {}}),
    ] {
        let reply = answer_with(200, &[], &with(good.clone(), change.clone()));
        assert_eq!(authorization(outcome(&alice_token(), &reply)), "Bearer up", "{change}");
    }
}

#[test]
fn subject_token_in_a_token_response_is_never_forwarded() {
    let token = alice_token();
    let reply = issued(&token);
    assert_eq!(refused(outcome(&token, &reply)).1, "provider_answer_invalid");
}

#[test]
fn each_provider_error_maps_to_its_refusal() {
    let error = |error: &str| json!({"error": error});
    let entra: &[(u16, Value, u16, &str)] = &[
        (400, error("invalid_grant"), 401, "exchange_rejected"),
        (400, json!({"error": "invalid_grant", "suberror": "consent_required"}), 403, "interaction_required"),
        (400, json!({"error": "invalid_grant", "suberror": "client_mismatch"}), 502, "exchange_misconfigured"),
        (400, error("interaction_required"), 403, "interaction_required"),
        (400, error("consent_required"), 403, "interaction_required"),
        (400, error("login_required"), 403, "interaction_required"),
        (400, error("access_denied"), 403, "exchange_denied"),
        (401, error("invalid_client"), 502, "exchange_misconfigured"),
        (400, error("unauthorized_client"), 502, "exchange_misconfigured"),
        (400, error("unsupported_grant_type"), 502, "exchange_misconfigured"),
        (400, error("invalid_scope"), 502, "exchange_misconfigured"),
        (400, error("invalid_target"), 502, "exchange_misconfigured"),
        (400, error("invalid_request"), 502, "exchange_misconfigured"),
        (404, json!({}), 502, "exchange_misconfigured"),
        (429, error("invalid_grant"), 503, "provider_throttled"),
        (400, error("slow_down"), 503, "provider_throttled"),
        (400, error("temporarily_unavailable"), 503, "provider_unavailable"),
        (500, error("server_error"), 503, "provider_unavailable"),
        (503, json!({}), 503, "provider_unavailable"),
        (302, json!({}), 503, "provider_unavailable"),
    ];
    for (status, body, expected_status, reason) in entra {
        let step = outcome(&alice_token(), &answer_with(*status, &[("location", "https://evil.example/")], body));
        assert_eq!(refused(step), (*expected_status, (*reason).to_owned()), "{status} {body}");
    }
    for (status, reason) in [(400, "exchange_denied"), (401, "exchange_misconfigured"), (403, "exchange_misconfigured")]
    {
        let step = outcome(&bob_token(), &answer_with(status, &[], &error("access_denied")));
        assert_eq!(refused(step).1, reason, "{status}");
    }
    for failure in [CalloutFailure::NotSent, CalloutFailure::TimedOut] {
        assert_eq!(
            refused(outcome(&alice_token(), &CalloutResult::Failed(failure))),
            (503, "provider_unavailable".to_owned())
        );
    }
}

/// The calls of one exchange for Bob, each of which fails after three seconds.
fn calls_until_refused(configuration: &Value, replies: &[CalloutResult]) -> (Vec<Callout>, (u16, String)) {
    let mut engine = TestEngine::new(configuration).with_keys();
    engine.send_waiting(bearer("/github", &bob_token()));
    let mut calls = Vec::new();
    for reply in replies {
        let (flight, call) = engine.expect_call();
        calls.push(call);
        engine.advance(3);
        let mut steps = engine.callout_result(flight, reply);
        if let Some((_, step)) = steps.pop() {
            engine.expect_no_call();
            return (calls, refused(step));
        }
    }
    panic!("it goes on");
}

const BROKEN: CalloutResult = CalloutResult::Failed(CalloutFailure::NoConnection);

#[test]
fn broken_connection_is_retried_once_with_a_fresh_assertion() {
    let (calls, refused) = calls_until_refused(&configuration(), &[BROKEN, BROKEN, BROKEN]);
    assert_eq!(refused, (503, "provider_unavailable".to_owned()));
    let assertions: Vec<String> = calls.iter().map(|call| form(call).remove("client_assertion").unwrap()).collect();
    assert_eq!(calls.len(), 2);
    assert_ne!(assertions[0], assertions[1]);
    assert_eq!(calls.iter().map(|call| call.timeout.as_secs()).collect::<Vec<_>>(), [10, 7]);
}

#[test]
fn answered_or_timed_out_call_is_not_retried() {
    for reply in [answer(503, b""), answer(429, b""), TIMED_OUT, CalloutResult::Failed(CalloutFailure::NotSent)] {
        assert_eq!(calls_until_refused(&configuration(), &[reply, BROKEN]).0.len(), 1);
    }
    let mut never = configuration();
    never["identity_providers"]["okta-eu"]["retries"] = json!(0);
    assert_eq!(calls_until_refused(&never, &[BROKEN, BROKEN]).0.len(), 1);
    let mut short = configuration();
    short["identity_providers"]["okta-eu"]["timeout_seconds"] = json!(3);
    assert_eq!(calls_until_refused(&short, &[BROKEN, BROKEN]).0.len(), 1, "no time is left");
}

#[test]
fn token_response_that_is_too_large_is_invalid() {
    let step = outcome(&alice_token(), &CalloutResult::Failed(CalloutFailure::TooLarge));
    assert_eq!(refused(step), (502, "provider_answer_invalid".to_owned()));
}

#[test]
fn retry_after_of_the_provider_is_relayed_within_limits() {
    let pause = |name: &str, value: &str| {
        let reply = answer_with(429, &[(name, value)], &json!({}));
        header(&answered(outcome(&bob_token(), &reply)), "retry-after").unwrap().to_owned()
    };
    assert_eq!(pause("retry-after", "7"), "7");
    assert_eq!(pause("retry-after", "0"), "1");
    assert_eq!(pause("retry-after", "99999"), "120");
    // NOW is 2027-01-15 08:00:00.
    assert_eq!(pause("retry-after", "Fri, 15 Jan 2027 08:00:25 GMT"), "25");
    assert_eq!(pause("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"), "1");
    assert_eq!(pause("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT"), "120");
    assert_eq!(pause("retry-after", "tomorrow"), "10");
    assert_eq!(pause("x-rate-limit-reset", &(NOW.secs() + 20).to_string()), "20");
    assert_eq!(pause("x-rate-limit-reset", "5"), "1");
}

#[test]
fn claims_challenge_reaches_only_clients_that_understand_it() {
    let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    let reply = answer_with(400, &[], &json!({"error": "interaction_required", "claims": claims}));
    let capable = ENTRA_KEY.token(&with(alice(), json!({"xms_cc": ["CP1"]})));
    let answer = answered(outcome(&capable, &reply));
    assert_eq!(answer.status, 401);
    let challenge = header(&answer, "www-authenticate").unwrap();
    let encoded = base64::prelude::BASE64_STANDARD.encode(claims);
    assert!(
        challenge.contains("error=\"insufficient_claims\"") && challenge.contains(&format!("claims=\"{encoded}\"")),
        "{challenge}"
    );
    let answer = answered(outcome(&alice_token(), &reply));
    assert_eq!((answer.status, header(&answer, "www-authenticate")), (403, None));
    let hostile = answer_with(400, &[], &json!({"error": "interaction_required", "claims": "\" evil"}));
    assert_eq!(answered(outcome(&capable, &hostile)).status, 403);
}

/// The log line of a failed exchange for Alice.
fn line(reply: &CalloutResult) -> String {
    let config = parse(&configuration());
    let request = TokenRequest {
        provider: &config.providers[0],
        target: config.resources[0].exchanges[0].target.exchange().unwrap(),
        token_endpoint: &Url::parse("https://login.entra.example/token").unwrap(),
        subject: SubjectInput { token: &alice_token(), is_id_token: false, ..SubjectInput::default() },
        hop: Hop::IdentityProvider,
        secret_version: SecretVersion::Current,
        nonce: None,
        assertion: None,
        has_worked: false,
        shows_descriptions: false,
    };
    request.read(reply, &[], NOW).unwrap_err().to_string()
}

#[test]
fn secret_repeated_in_an_error_is_not_logged() {
    let told = line(&answer_with(401, &[], &json!({"error": "invalid_client", "suberror": "s-1", "trace_id": "t-1"})));
    assert!(
        told.contains(
            "error=\"invalid_client\" status=401 error_codes=s-1 provider_trace_id=t-1 responsible=operator remedy="
        ),
        "{told}"
    );
    let repeated = format!("x{SECRET}y");
    for body in [
        json!({"error": repeated}),
        json!({"error": "invalid_client", "suberror": repeated}),
        json!({"error": "invalid_client", "trace_id": repeated}),
        json!({"error": "invalid_client", "error_description": repeated, "error_uri": repeated}),
    ] {
        let line = line(&answer_with(401, &[("x-ms-request-id", &repeated)], &body));
        let plain: String = SECRET.chars().filter(char::is_ascii_alphanumeric).collect();
        assert!(line.contains("responsible=operator") && !line.contains(SECRET) && !line.contains(&plain), "{line}");
    }
    let unusable = line(&answer_with(200, &[("x-ms-request-id", &repeated)], &json!({})));
    assert!(!unusable.contains("provider_trace_id="), "{unusable}");
}

#[test]
fn interaction_required_has_a_remedy_in_its_403() {
    let reply = answer_with(400, &[], &json!({"error": "interaction_required", "claims": "{}"}));
    let answer = answered(outcome(&alice_token(), &reply));
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    let text = body["error_description"].as_str().unwrap();
    assert!(answer.status == 403 && text.contains("sign in again") && text.contains("try again"), "{text}");
    assert!(body.get("interaction_uri").is_none());
}

#[test]
fn interaction_uri_at_the_provider_is_shown_to_the_caller() {
    let required = |uri: &str| answer_with(400, &[], &json!({"error": "interaction_required", "interaction_uri": uri}));
    let told = |reply: &CalloutResult| {
        let answer = answered(outcome(&bob_token(), reply));
        assert_eq!(answer.status, 403);
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["reason"], "interaction_required");
        body.get("interaction_uri").map(|uri| uri.as_str().unwrap().to_owned())
    };
    let long = format!("https://acme.okta.example/?{}", "x".repeat(2048 - 27));
    for uri in [
        "https://acme.okta.example/oauth2/v1/sts/interact?id=a.b-c_1&x=%20#top",
        "https://ACME.okta.example:443/consent",
        "https://login.acme.okta.example/consent",
        "https://acme.okta.example?x=@evil.example",
        &long,
    ] {
        assert_eq!(told(&required(uri)).as_deref(), Some(uri));
    }
    for uri in [
        "",
        "http://acme.okta.example/consent",
        "javascript:alert(1)",
        "//acme.okta.example/consent",
        "/consent",
        "https://okta.example/consent",
        "https://evil.okta.example/consent",
        "https://evilacme.okta.example/consent",
        "https://acme.okta.example.evil.example/",
        "https://acme.okta.example:8443/",
        "https://acme.okta.example@evil.example/",
        "https://evil.example/?https://acme.okta.example/",
        "https://evil.example#@acme.okta.example/",
        "https://evil.example\\@acme.okta.example/",
        "https://acme.okta.example/\"onclick=",
        "https://acme.okta.example/<b>",
        "https://acme.okta.example/a b",
        "https://acme.okta.example/\r\nx: y",
        "https://acme.okta.example/é",
        &format!("{long}x"),
    ] {
        assert_eq!(told(&required(uri)), None, "{uri}");
    }
    let number = answer_with(400, &[], &json!({"error": "interaction_required", "interaction_uri": 7}));
    assert_eq!(told(&number), None);
}

#[test]
fn interaction_uri_is_shown_only_to_its_user_and_refusal() {
    let uri = "https://acme.okta.example/consent?of=bob";
    let reply = |error: &str| answer_with(400, &[], &json!({"error": error, "interaction_uri": uri}));
    for error in ["invalid_grant", "access_denied", "invalid_scope", "temporarily_unavailable"] {
        assert!(!answered(outcome(&bob_token(), &reply(error))).body.contains(r#""interaction_uri""#), "{error}");
    }
    let mut engine = TestEngine::ready();
    let first = answered(engine.exchange(bearer("/github", &bob_token()), &reply("interaction_required")));
    assert!(first.body.contains(uri));
    // The negative cache holds the `interaction_uri` for the same token only.
    assert_eq!(answered(engine.decide(bearer("/github", &bob_token()))).body, first.body);
    let carol = OKTA_KEY.token(&with(bob(), json!({"uid": "00ucarol"})));
    let other = answered(
        engine.exchange(bearer("/github", &carol), &answer_with(400, &[], &json!({"error": "interaction_required"}))),
    );
    assert!(!other.body.contains(r#""interaction_uri""#));
}

#[test]
fn server_error_with_another_status_is_a_configuration_fault() {
    let error = json!({"error": "server_error"});
    for (status, expected) in
        [(400, "exchange_misconfigured"), (403, "exchange_misconfigured"), (500, "provider_unavailable")]
    {
        assert_eq!(refused(outcome(&bob_token(), &answer_with(status, &[], &error))).1, expected, "{status}");
    }
    assert_eq!(refused(outcome(&alice_token(), &answer_with(400, &[], &error))).1, "provider_unavailable");
}

#[test]
fn provider_text_never_reaches_the_client() {
    let reply = answer_with(
        400,
        &[],
        &json!({"error": "invalid_scope\r\nx: y\"", "error_description": "SECRET-TEXT", "trace_id": "SECRET-TRACE", "error_codes": [70011]}),
    );
    let answer = answered(outcome(&alice_token(), &reply));
    let answer = format!("{:?} {}", answer.headers, answer.body);
    assert!(!answer.contains("SECRET") && !answer.contains("70011") && !answer.contains("x: y"), "{answer}");
}
