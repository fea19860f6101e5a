//! Exchanges of two calls (ID-JAG): an assertion from the provider, and a token for it from the authorization server
//! of the resource.

use base64::Engine as _;
use onbehalf::config::Config;
use onbehalf::engine::{FetchId, RequestId};
use onbehalf::http::{Callout, CalloutFailure, CalloutResult};
use onbehalf::provider::{ErrorClass, Hop, SecretVersion, SubjectInput, TokenRequest};
use onbehalf::url::Url;
use serde_json::{Value, json};

use onbehalf_test_support::{
    NOW, OKTA, OKTA_KEY, TestEngine, answer, answer_with, answered, authorization, bearer, bob_id, bob_token,
    configuration, environment, form, issued, jws_part, key_set, parse, refused, request, with,
};

const ORG: &str = "https://acme.okta.example";
const CLIENT: &str = "0oaagent";
const HERE: &str = "https://acme.okta.example/oauth2/aus1";
const ELSEWHERE: &str = "https://auth.other.example";
const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";

fn private_key() -> Value {
    json!({"method": "private_key_jwt", "key": {"env": "OKTA_PRIVATE_KEY"}, "algorithm": "ES256"})
}

fn secret(secret: &str) -> Value {
    json!({"method": "client_secret_basic", "secret": {"inline": secret}})
}

/// ID tokens of the org server, and a resource whose authorization server is in the same org.
fn xaa() -> Value {
    json!({
        "identity_providers": {"okta": {
            "profile": "okta_xaa", "issuer": ORG, "cluster": "okta", "audiences": [CLIENT], "subject_token": {"type": "id_token"},
            "client": {"id": CLIENT, "authentication": private_key()},
        }},
        "resources": [{"url": "https://mcp.acme.example/github",
            "exchange": {"okta": {"audience": HERE, "resource": "https://mcp.acme.example/github", "scopes": ["github.read"]}}}],
    })
}

/// The configuration with the authorization server of another company.
fn elsewhere() -> Value {
    let mut configuration = xaa();
    configuration["resources"][0]["exchange"]["okta"]["audience"] = json!(ELSEWHERE);
    configuration["resources"][0]["exchange"]["okta"]["authorization_server"] = json!({
        "token_endpoint": "https://auth.other.example/token", "cluster": "other",
        "client": {"id": "their-id-of-us", "authentication": secret("their-secret")}});
    configuration
}

fn user(name: &str) -> String {
    OKTA_KEY.token(&with(bob_id(), json!({"iss": ORG, "aud": CLIENT, "sub": name})))
}

fn assertion(token: &str) -> CalloutResult {
    let body = json!({"access_token": token, "token_type": "N_A", "expires_in": 300, "issued_token_type": ID_JAG});
    answer_with(200, &[], &body)
}

fn with_org_server(configuration: &Value) -> TestEngine {
    TestEngine::with_replies(configuration, |call| {
        if call.url.as_str().ends_with("/.well-known/openid-configuration") {
            let issuer = call.url.as_str().strip_suffix("/.well-known/openid-configuration").unwrap();
            let token_endpoint =
                if issuer == ORG { format!("{ORG}/oauth2/v1/token") } else { format!("{issuer}/v1/token") };
            let jwks_uri = format!("{issuer}/oauth2/v1/keys");
            answer_with(200, &[], &json!({"issuer": issuer, "jwks_uri": jwks_uri, "token_endpoint": token_endpoint}))
        } else {
            answer(200, &key_set(&[&OKTA_KEY]))
        }
    })
}

fn url_of(call: &Callout) -> &str {
    call.url.as_str()
}

/// `aud` and `jti` of the client assertion.
fn client_assertion(call: &Callout) -> (String, String) {
    let form = form(call);
    let claims = jws_part(&form["client_assertion"], 1);
    (claims["aud"].as_str().unwrap().to_owned(), claims["jti"].as_str().unwrap().to_owned())
}

fn names(call: &Callout) -> Vec<String> {
    let mut names: Vec<String> = form(call).into_keys().collect();
    names.sort();
    names
}

/// Sends a request and replies to its first call with an assertion. Returns the second call.
fn at_second_call(engine: &mut TestEngine, token: &str) -> (RequestId, FetchId, Callout) {
    let id = engine.send_waiting(bearer("/github", token));
    let (flight, _) = engine.expect_call();
    assert!(engine.callout_result(flight, &assertion("jag")).is_empty());
    let (flight, call) = engine.expect_call();
    assert_eq!(form(&call)["assertion"], "jag");
    (id, flight, call)
}

#[test]
fn query_of_either_token_endpoint_is_sent_and_in_aud() {
    let (first_url, second_url) =
        (format!("{ORG}/oauth2/v1/token?realm=/alpha"), format!("{ELSEWHERE}/token?realm=/beta&x=%2F"));
    let mut configuration = elsewhere();
    let provider = &mut configuration["identity_providers"]["okta"];
    provider["profile"] = json!("id_jag");
    provider["token_endpoint"] = json!(first_url);
    let server = &mut configuration["resources"][0]["exchange"]["okta"]["authorization_server"];
    server["token_endpoint"] = json!(second_url);
    server["client"]["authentication"] = private_key();
    let calls = |configuration: &Value| {
        let mut engine = with_org_server(configuration);
        let token = user("00ubob");
        engine.send_waiting(bearer("/github", &token));
        let (flight, first) = engine.expect_call();
        assert!(engine.callout_result(flight, &assertion("jag")).is_empty());
        [first, engine.expect_call().1]
    };
    let [first, second] = calls(&configuration);
    for (call, url, target) in
        [(&first, &first_url, "/oauth2/v1/token?realm=/alpha"), (&second, &second_url, "/token?realm=/beta&x=%2F")]
    {
        assert_eq!((url_of(call), call.url.request_target()), (&**url, target));
        assert_eq!(client_assertion(call).0, *url, "the token endpoint as its server names it");
        assert!(!format!("{call:?}").contains("realm"), "a query may have a key of the operator's");
    }
    // The option stands for it, at either server.
    let audience = with(private_key(), json!({"audience": "https://auth.example"}));
    configuration["identity_providers"]["okta"]["client"]["authentication"] = audience.clone();
    configuration["resources"][0]["exchange"]["okta"]["authorization_server"]["client"]["authentication"] = audience;
    for call in calls(&configuration) {
        assert_eq!(client_assertion(&call).0, "https://auth.example");
        assert!(url_of(&call).contains("?realm="));
    }
}

#[test]
fn id_token_is_exchanged_for_an_assertion_and_that_for_a_token() {
    let mut engine = with_org_server(&xaa());
    let token = user("00ubob");
    engine.send_waiting(bearer("/github", &token));
    let (flight, first) = engine.expect_call();
    assert_eq!((url_of(&first), &*first.cluster), ("https://acme.okta.example/oauth2/v1/token", "okta"));
    let sent = form(&first);
    for (name, value) in [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("requested_token_type", ID_JAG),
        ("subject_token", &token),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
        ("audience", HERE),
        ("resource", "https://mcp.acme.example/github"),
        ("scope", "github.read"),
    ] {
        assert_eq!(sent[name], value, "{name}");
    }
    assert!(engine.callout_result(flight, &assertion("the-jag")).is_empty());

    let (flight, second) = engine.expect_call();
    assert_eq!((url_of(&second), &*second.cluster), ("https://acme.okta.example/oauth2/aus1/v1/token", "okta"));
    assert_eq!(names(&second), ["assertion", "client_assertion", "client_assertion_type", "client_id", "grant_type"]);
    let sent = form(&second);
    assert_eq!(sent["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    assert_eq!((&*sent["assertion"], &*sent["client_id"]), ("the-jag", CLIENT));
    let (one, other) = (client_assertion(&first), client_assertion(&second));
    assert_eq!((&*one.0, &*other.0), (url_of(&first), url_of(&second)), "each server has an audience of its own");
    assert_ne!(one.1, other.1);
    assert_eq!(authorization(engine.only_step(flight, &issued("for-github"))), "Bearer for-github");
}

#[test]
fn last_token_is_cached_and_the_assertion_is_not() {
    let mut engine = with_org_server(&xaa());
    let claims = json!({"iss": ORG, "aud": CLIENT, "exp": NOW.secs() + 86_400});
    let token = OKTA_KEY.token(&with(bob_id(), claims));
    let (_, flight, _) = at_second_call(&mut engine, &token);
    assert_eq!(authorization(engine.only_step(flight, &issued("for-github"))), "Bearer for-github");
    assert_eq!(authorization(engine.decide(bearer("/github", &token))), "Bearer for-github");
    engine.expect_no_call();
    // A renewal starts with the first call.
    engine.advance(3500);
    assert_eq!(authorization(engine.decide(bearer("/github", &token))), "Bearer for-github");
    let (flight, call) = engine.expect_call();
    assert_eq!(form(&call)["subject_token"], token);
    assert!(engine.callout_result(flight, &assertion("next-jag")).is_empty());
    let (flight, call) = engine.expect_call();
    assert_eq!(form(&call)["assertion"], "next-jag");
    assert!(engine.callout_result(flight, &issued("next")).is_empty());
    assert_eq!(authorization(engine.decide(bearer("/github", &token))), "Bearer next");
}

#[test]
fn foreign_server_gets_its_own_client_credentials_only() {
    let mut engine = with_org_server(&elsewhere());
    let (_, flight, call) = at_second_call(&mut engine, &user("00ubob"));
    assert_eq!((url_of(&call), &*call.cluster), ("https://auth.other.example/token", "other"));
    assert_eq!(names(&call), ["assertion", "grant_type"]);
    let (_, authorization_sent) = call.headers.iter().find(|(name, _)| *name == "authorization").unwrap();
    let expected = base64::prelude::BASE64_STANDARD.encode("their-id-of-us:their-secret");
    assert_eq!(authorization_sent.reveal(), format!("Basic {expected}"));
    assert_eq!(authorization(engine.only_step(flight, &issued("theirs"))), "Bearer theirs");
}

#[test]
fn issued_token_type_of_the_first_response_decides() {
    for (body, goes_on) in [
        (json!({"access_token": "j", "token_type": "N_A", "issued_token_type": ID_JAG}), true),
        (json!({"access_token": "j", "token_type": "n_a", "issued_token_type": ID_JAG}), true),
        (json!({"access_token": "j", "token_type": "bearer", "issued_token_type": ID_JAG}), true),
        (json!({"access_token": "j", "token_type": "DPoP", "issued_token_type": ID_JAG}), false),
        (json!({"access_token": "j", "issued_token_type": ID_JAG}), false),
        (json!({"access_token": "j", "token_type": "N_A"}), false),
        (json!({"access_token": "j", "token_type": "N_A", "issued_token_type": null}), false),
        (
            json!({"access_token": "j", "token_type": "N_A", "issued_token_type": "urn:ietf:params:oauth:token-type:jwt"}),
            false,
        ),
        (
            json!({"access_token": "j", "token_type": "Bearer", "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}),
            false,
        ),
        (json!({"access_token": "j j", "token_type": "N_A", "issued_token_type": ID_JAG}), false),
    ] {
        let mut engine = with_org_server(&xaa());
        engine.send_waiting(bearer("/github", &user("00ubob")));
        let (flight, _) = engine.expect_call();
        let steps = engine.callout_result(flight, &answer_with(200, &[], &body));
        assert_eq!(steps.is_empty(), goes_on, "{body}");
        for (_, step) in steps {
            assert_eq!(refused(step), (502, "provider_answer_invalid".to_owned()), "{body}");
        }
    }
}

#[test]
fn assertion_is_never_forwarded_to_the_upstream() {
    for body in [
        json!({"access_token": "jag", "token_type": "Bearer"}),
        json!({"access_token": "other", "token_type": "N_A"}),
        json!({"access_token": "other", "token_type": "Bearer", "issued_token_type": ID_JAG}),
    ] {
        let mut engine = with_org_server(&xaa());
        let (_, flight, _) = at_second_call(&mut engine, &user("00ubob"));
        let step = engine.only_step(flight, &answer_with(200, &[], &body));
        assert_eq!(refused(step), (502, "provider_answer_invalid".to_owned()), "{body}");
    }
}

#[test]
fn broken_second_call_restarts_the_exchange_once() {
    let mut engine = with_org_server(&xaa());
    let (_, flight, _) = at_second_call(&mut engine, &user("00ubob"));
    assert!(engine.callout_result(flight, &CalloutResult::Failed(CalloutFailure::NoConnection)).is_empty());
    let (flight, again) = engine.expect_call();
    assert!(form(&again).contains_key("subject_token"), "the assertion may have been used");
    assert!(engine.callout_result(flight, &assertion("another-jag")).is_empty());
    let (flight, second) = engine.expect_call();
    assert_eq!(form(&second)["assertion"], "another-jag");
    let step = engine.only_step(flight, &CalloutResult::Failed(CalloutFailure::NoConnection));
    assert_eq!(refused(step), (503, "provider_unavailable".to_owned()));
    engine.expect_no_call();
}

#[test]
fn nonce_of_the_second_server_costs_one_more_assertion() {
    let mut configuration = xaa();
    configuration["identity_providers"]["okta"]["client"]["dpop"] =
        json!({"key": {"env": "OKTA_PRIVATE_KEY"}, "algorithm": "ES256"});
    let proof = |call: &Callout| -> Value {
        let (_, proof) = call.headers.iter().find(|(name, _)| *name == "dpop").unwrap();
        jws_part(proof.reveal(), 1)
    };
    let wants = |nonce: &str| answer_with(400, &[("dpop-nonce", nonce)], &json!({"error": "use_dpop_nonce"}));
    let mut engine = with_org_server(&configuration);
    let (_, flight, call) = at_second_call(&mut engine, &user("00ubob"));
    assert_eq!((proof(&call)["htu"].as_str(), proof(&call).get("nonce")), (Some(url_of(&call)), None));
    assert!(engine.callout_result(flight, &wants("n-1")).is_empty());
    let (flight, first) = engine.expect_call();
    assert!(form(&first).contains_key("subject_token") && proof(&first).get("nonce").is_none());
    assert!(engine.callout_result(flight, &assertion("another-jag")).is_empty());
    let (flight, call) = engine.expect_call();
    assert_eq!((form(&call)["assertion"].as_str(), proof(&call)["nonce"].as_str()), ("another-jag", Some("n-1")));
    let step = engine.only_step(flight, &wants("n-2"));
    assert_eq!(answered(step).status, 502);
    engine.expect_no_call();
}

#[test]
fn both_calls_share_the_time_limit_of_an_exchange() {
    let mut engine = with_org_server(&xaa());
    engine.send_waiting(bearer("/github", &user("00ubob")));
    let (flight, first) = engine.expect_call();
    assert_eq!(first.timeout.as_secs(), 10);
    engine.advance(7);
    assert!(engine.callout_result(flight, &assertion("jag")).is_empty());
    assert_eq!(engine.expect_call().1.timeout.as_secs(), 3);

    let mut engine = with_org_server(&xaa());
    engine.send_waiting(bearer("/github", &user("00ubob")));
    let (flight, _) = engine.expect_call();
    engine.advance(10);
    assert_eq!(refused(engine.only_step(flight, &assertion("jag"))), (503, "provider_unavailable".to_owned()));
    engine.expect_no_call();
}

#[test]
fn rejected_assertion_is_an_operator_fault() {
    let error = |error: &str| answer_with(400, &[], &json!({"error": error}));
    let mut engine = with_org_server(&xaa());
    engine.send_waiting(bearer("/github", &user("00ubob")));
    let (flight, _) = engine.expect_call();
    assert_eq!(refused(engine.only_step(flight, &error("invalid_grant"))).1, "exchange_rejected");
    let (_, flight, _) = at_second_call(&mut engine, &user("00ucarol"));
    assert_eq!(refused(engine.only_step(flight, &error("invalid_grant"))), (502, "exchange_misconfigured".to_owned()));
    let (_, flight, _) = at_second_call(&mut engine, &user("00udave"));
    assert_eq!(refused(engine.only_step(flight, &error("access_denied"))), (403, "exchange_denied".to_owned()));
}

#[test]
fn interaction_uri_of_a_foreign_server_is_not_shown() {
    let body = json!({"error": "interaction_required", "claims": r#"{"access_token":{}}"#,
        "interaction_uri": "https://acme.okta.example/consent"});
    let reply = answer_with(400, &[], &body);
    let mut engine = with_org_server(&elsewhere());
    let (_, flight, _) = at_second_call(&mut engine, &user("00ubob"));
    let answer = answered(engine.only_step(flight, &reply));
    assert_eq!(answer.status, 502);
    assert!(answer.body.contains("exchange_misconfigured") && !answer.body.contains("consent"), "{}", answer.body);
    assert!(answer.headers.iter().all(|(name, _)| *name != "www-authenticate"));
    // The provider may send the `interaction_uri` from either of its servers.
    let mut engine = with_org_server(&xaa());
    let (_, flight, _) = at_second_call(&mut engine, &user("00ubob"));
    let answer = answered(engine.only_step(flight, &reply));
    assert!(answer.status == 403 && answer.body.contains("https://acme.okta.example/consent"), "{}", answer.body);
}

#[test]
fn failure_of_the_second_call_is_logged_as_such() {
    let config = parse(&elsewhere());
    let target = config.resources[0].exchanges[0].target.exchange().unwrap();
    let token_endpoint = &Url::parse("https://acme.okta.example/oauth2/v1/token").unwrap();
    let line = |hop, error: &str| {
        let subject = SubjectInput { token: "subject", is_id_token: true, ..SubjectInput::default() };
        let request = TokenRequest {
            provider: &config.providers[0],
            target,
            token_endpoint,
            subject,
            assertion: None,
            secret_version: SecretVersion::Current,
            nonce: None,
            hop,
            has_worked: false,
            shows_descriptions: false,
        };
        let body = json!({"error": error, "suberror": "their-secret"});
        request.read(&answer_with(400, &[], &body), &[], NOW).unwrap_err()
    };
    let first = line(Hop::IdentityProvider, "invalid_grant");
    assert_eq!(first.class, ErrorClass::Token);
    assert!(first.to_string().starts_with("error=\"invalid_grant\" status=400"), "{first}");
    let second = line(Hop::ResourceServer { id_jag: "jag" }, "invalid_grant");
    assert_eq!(second.class, ErrorClass::Operator);
    let text = second.to_string();
    assert!(text.starts_with("leg=2 error=\"invalid_grant\" status=400"), "{text}");
    assert!(!text.contains("responsible=user"), "{text}");
    let wants_the_user = line(Hop::ResourceServer { id_jag: "jag" }, "interaction_required");
    assert!(wants_the_user.class == ErrorClass::Operator && wants_the_user.claims.is_none(), "{wants_the_user}");
    assert!(!wants_the_user.to_string().contains("responsible=user"), "{wants_the_user}");
    // The log does not contain the secret of the second client.
    assert!(!text.contains("their-secret"), "{text}");
}

#[test]
fn previous_secret_of_either_client_restarts_the_exchange() {
    let mut configuration = elsewhere();
    let server = "/resources/0/exchange/okta/authorization_server/client/authentication";
    configuration.pointer_mut(server).unwrap()["previous_secret"] = json!({"inline": "their-old-secret"});
    let mut engine = with_org_server(&configuration);
    let (_, flight, _) = at_second_call(&mut engine, &user("00ubob"));
    let unknown = answer_with(401, &[], &json!({"error": "invalid_client"}));
    assert!(engine.callout_result(flight, &unknown).is_empty());
    let (flight, first) = engine.expect_call();
    assert!(form(&first).contains_key("subject_token"));
    assert!(engine.callout_result(flight, &assertion("another-jag")).is_empty());
    let (flight, second) = engine.expect_call();
    let (_, sent) = second.headers.iter().find(|(name, _)| *name == "authorization").unwrap();
    let expected = base64::prelude::BASE64_STANDARD.encode("their-id-of-us:their-old-secret");
    assert_eq!(sent.reveal(), format!("Basic {expected}"));
    assert_eq!(authorization(engine.only_step(flight, &issued("theirs"))), "Bearer theirs");
}

#[test]
fn rejected_secret_is_not_sent_to_the_providers_other_server() {
    let mut configuration = xaa();
    configuration["identity_providers"]["okta"]["client"]["authentication"] = json!({
        "method": "client_secret_post", "secret": {"inline": "new"}, "previous_secret": {"inline": "old"}});
    let mut engine = with_org_server(&configuration);
    engine.send_waiting(bearer("/github", &user("00ubob")));
    let (flight, call) = engine.expect_call();
    assert_eq!(form(&call)["client_secret"], "new");
    engine.callout_result(flight, &answer_with(401, &[], &json!({"error": "invalid_client"})));
    let (flight, call) = engine.expect_call();
    assert_eq!(form(&call)["client_secret"], "old");
    engine.callout_result(flight, &assertion("jag"));
    assert_eq!(form(&engine.expect_call().1)["client_secret"], "old");
}

#[test]
fn throttling_server_is_not_called_while_others_are() {
    let mut configuration = elsewhere();
    let mut here = xaa()["resources"][0].clone();
    here["url"] = json!("https://mcp.acme.example/here");
    configuration["resources"].as_array_mut().unwrap().push(here);
    let mut engine = with_org_server(&configuration);
    for throttled in ["00ubob", "00udave"] {
        let (_, flight, _) = at_second_call(&mut engine, &user(throttled));
        let step = engine.only_step(flight, &answer_with(429, &[("retry-after", "20")], &json!({})));
        assert_eq!(refused(step).1, "provider_throttled");
    }
    assert_eq!(refused(engine.decide(bearer("/github", &user("00ucarol")))).1, "provider_throttled");
    engine.expect_no_call();
    engine.send_waiting(bearer("/here", &user("00ucarol")));
    engine.expect_call();
}

#[test]
fn requests_for_one_token_share_both_calls_of_an_exchange() {
    let mut engine = with_org_server(&xaa());
    let token = user("00ubob");
    let first = engine.send_waiting(bearer("/github", &token));
    let (flight, _) = engine.expect_call();
    let second = engine.send_waiting(bearer("/github", &token));
    engine.expect_no_call();
    assert!(engine.callout_result(flight, &assertion("jag")).is_empty());
    let (flight, _) = engine.expect_call();
    let third = engine.send_waiting(bearer("/github", &token));
    engine.expect_no_call();
    let steps = engine.callout_result(flight, &issued("for-github"));
    assert_eq!(steps.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [first, second, third]);
    for (_, step) in steps {
        assert_eq!(authorization(step), "Bearer for-github");
    }
}

#[test]
fn separate_id_token_is_exchanged_at_the_org_server() {
    let mut configuration = xaa();
    let provider = &mut configuration["identity_providers"]["okta"];
    provider["issuer"] = json!(OKTA);
    provider["audiences"] = json!(["api://default"]);
    provider["subject_token"] = json!({"type": "id_token", "header": "x-id-token", "audiences": [CLIENT]});
    let mut engine = with_org_server(&configuration);
    let id_token = OKTA_KEY.token(&with(bob_id(), json!({"aud": CLIENT})));
    let fields = [("authorization", &*format!("Bearer {}", bob_token())), ("x-id-token", &*id_token)];
    engine.send_waiting(request("POST", "/github", &fields));
    let call = engine.expect_call().1;
    assert_eq!(url_of(&call), "https://acme.okta.example/oauth2/v1/token");
    assert_eq!(form(&call)["subject_token"], id_token);

    configuration["identity_providers"]["okta"]["subject_token"] = json!({"type": "access_token"});
    let mut engine = with_org_server(&configuration);
    engine.send_waiting(bearer("/github", &bob_token()));
    let sent = form(&engine.expect_call().1);
    assert_eq!(sent["subject_token_type"], "urn:ietf:params:oauth:token-type:access_token");
}

#[test]
fn provider_that_follows_the_id_jag_draft_works() {
    let mut configuration = elsewhere();
    configuration["identity_providers"]["okta"]["profile"] = json!("id_jag");
    configuration["resources"][0]["exchange"]["okta"].as_object_mut().unwrap().remove("scopes");
    let mut engine = with_org_server(&configuration);
    engine.send_waiting(bearer("/github", &user("00ubob")));
    let (flight, first) = engine.expect_call();
    assert_eq!(form(&first)["requested_token_type"], ID_JAG);
    assert!(!form(&first).contains_key("scope"));
    engine.callout_result(flight, &assertion("jag"));
    let (flight, second) = engine.expect_call();
    assert_eq!(url_of(&second), "https://auth.other.example/token");
    assert_eq!(authorization(engine.only_step(flight, &issued("theirs"))), "Bearer theirs");
}

#[test]
fn impossible_two_call_exchange_is_refused_with_the_configuration() {
    let at = |configuration: Value, changes: &[(&str, Value)]| {
        let mut configuration = configuration;
        for (pointer, value) in changes {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let parent = configuration.pointer_mut(parent).unwrap();
            *parent = with(parent.clone(), json!({name: value}));
        }
        Config::parse(configuration.to_string().as_bytes(), &environment).map_err(|error| error.path.clone())
    };
    let provider = |name: &str| format!("/identity_providers/okta/{name}");
    let exchange = |name: &str| format!("/resources/0/exchange/okta/{name}");
    assert!(at(xaa(), &[]).is_ok() && at(elsewhere(), &[]).is_ok());
    for (configuration, pointer, value, path) in [
        (xaa(), exchange("scopes"), json!(["openid", "x"]), "resources[0].exchange.okta.scopes"),
        (xaa(), exchange("scopes"), Value::Null, "resources[0].exchange.okta.scopes"),
        (xaa(), exchange("audience"), Value::Null, "resources[0].exchange.okta.audience"),
        (xaa(), exchange("audience"), json!([HERE, ELSEWHERE]), "resources[0].exchange.okta.audience"),
        (xaa(), exchange("audience"), json!("api://github"), "resources[0].exchange.okta.audience"),
        (xaa(), exchange("audience"), json!(ORG), "resources[0].exchange.okta.audience"),
        (
            xaa(),
            exchange("audience"),
            json!(ELSEWHERE),
            "resources[0].exchange.okta.authorization_server.token_endpoint",
        ),
        (xaa(), exchange("requested_token_type"), json!(ID_JAG), "resources[0].exchange.okta.requested_token_type"),
        (xaa(), exchange("claims"), json!({"access_token": {}}), "resources[0].exchange.okta.claims"),
        (
            elsewhere(),
            exchange("authorization_server/token_endpoint"),
            json!("http://auth.other.example/token"),
            "resources[0].exchange.okta.authorization_server.token_endpoint",
        ),
        (
            elsewhere(),
            exchange("authorization_server/cluster"),
            Value::Null,
            "resources[0].exchange.okta.authorization_server.cluster",
        ),
        (
            elsewhere(),
            exchange("authorization_server/client/id"),
            Value::Null,
            "resources[0].exchange.okta.authorization_server.client.id",
        ),
        (
            elsewhere(),
            exchange("authorization_server/issuer"),
            json!(ELSEWHERE),
            "resources[0].exchange.okta.authorization_server.issuer",
        ),
        (xaa(), provider("subject_token"), Value::Null, "identity_providers.okta.issuer"),
        (xaa(), provider("audiences"), json!([CLIENT, "another-client"]), "identity_providers.okta.audiences[1]"),
        (
            xaa(),
            provider("token_endpoint"),
            json!("https://acme.okta.example/oauth2/aus1/v1/token"),
            "identity_providers.okta.token_endpoint",
        ),
        (
            xaa(),
            provider("client/authentication/audience"),
            json!("https://acme.okta.example/oauth2/v1/token"),
            "resources[0].exchange.okta.authorization_server.client",
        ),
    ] {
        assert_eq!(at(configuration, &[(&pointer, value)]).map(|_| ()), Err(path.to_owned()), "{pointer}");
    }
    // Requests contain no client assertion for the second server.
    let own = exchange("authorization_server/client/authentication");
    let from_a_header = json!({"method": "client_assertion", "assertion": {"header": "x-assertion"}});
    assert_eq!(
        at(elsewhere(), &[(&own, from_a_header)]).map(|_| ()),
        Err("resources[0].exchange.okta.authorization_server.client.authentication.assertion.header".to_owned())
    );
    // A signed assertion may go to another host without a client of its own. A secret may not.
    let client = exchange("authorization_server/client");
    assert!(at(elsewhere(), &[(&client, Value::Null)]).is_ok());
    let shared = [(&*client, Value::Null), (&*provider("client/authentication"), secret("s"))];
    assert_eq!(
        at(elsewhere(), &shared).map(|_| ()),
        Err("resources[0].exchange.okta.authorization_server.client".to_owned())
    );
    assert!(at(xaa(), &shared[1..]).is_ok());
}

#[test]
fn exchange_of_one_call_has_no_second_authorization_server() {
    let mut configuration = configuration();
    configuration["resources"][0]["exchange"]["okta-eu"]["authorization_server"] = json!({"cluster": "other"});
    let error = Config::parse(configuration.to_string().as_bytes(), &environment).unwrap_err();
    assert_eq!(error.path, "resources[0].exchange.okta-eu.authorization_server");
}
