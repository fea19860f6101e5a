//! Two requests for one token: an assertion from the provider, and the token for it from the authorization server of the
//! resource.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use onbehalf::config::Config;
use onbehalf::engine::{Decision, FetchId, RequestId};
use onbehalf::http::{Callout, CalloutFailure, CalloutResult};
use onbehalf::provider::{ErrorClass, Hop, SecretVersion, SubjectInput, TokenRequest};
use onbehalf::url::Url;
use serde_json::{Value, json};

use crate::support::*;

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

/// Users with the org server's ID tokens, and a resource whose authorization server is in the same org.
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

/// The same with an authorization server of another company's.
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

fn ready(configuration: &Value) -> Bench {
    let mut bench = Bench::new(configuration);
    bench.tick();
    while let Some((flight, call)) = bench.engine.next_callout() {
        let reply = if call.url.as_str().ends_with("/.well-known/openid-configuration") {
            let issuer = call.url.as_str().strip_suffix("/.well-known/openid-configuration").unwrap();
            let token_endpoint =
                if issuer == ORG { format!("{ORG}/oauth2/v1/token") } else { format!("{issuer}/v1/token") };
            let jwks_uri = format!("{issuer}/oauth2/v1/keys");
            answer_with(200, &[], &json!({"issuer": issuer, "jwks_uri": jwks_uri, "token_endpoint": token_endpoint}))
        } else {
            answer(200, &key_set(&[&OKTA_KEY]))
        };
        bench.reply(flight, &reply);
    }
    bench
}

fn url_of(call: &Callout) -> &str {
    call.url.as_str()
}

/// What the client says of itself: `aud` and `jti`.
fn client_assertion(call: &Callout) -> (String, String) {
    let form = form(call);
    let claims = form["client_assertion"].split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    (claims["aud"].as_str().unwrap().to_owned(), claims["jti"].as_str().unwrap().to_owned())
}

fn names(call: &Callout) -> Vec<String> {
    let mut names: Vec<String> = form(call).into_keys().collect();
    names.sort();
    names
}

impl Bench {
    /// A request at its second call.
    fn at_second(&mut self, token: &str) -> (RequestId, FetchId, Callout) {
        let id = self.wait(bearer("/github", token));
        let (flight, _) = self.call();
        assert!(self.reply(flight, &assertion("jag")).is_empty());
        let (flight, call) = self.call();
        assert_eq!(form(&call)["assertion"], "jag");
        (id, flight, call)
    }

    fn only_step(&mut self, flight: FetchId, reply: &CalloutResult) -> Decision {
        let mut steps = self.reply(flight, reply);
        assert_eq!(steps.len(), 1);
        steps.remove(0).1
    }
}

#[test]
fn an_id_token_becomes_an_assertion_and_that_the_token_for_the_upstream() {
    let mut bench = ready(&xaa());
    let token = user("00ubob");
    bench.wait(bearer("/github", &token));
    let (flight, first) = bench.call();
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
    assert!(bench.reply(flight, &assertion("the-jag")).is_empty());

    let (flight, second) = bench.call();
    assert_eq!((url_of(&second), &*second.cluster), ("https://acme.okta.example/oauth2/aus1/v1/token", "okta"));
    assert_eq!(names(&second), ["assertion", "client_assertion", "client_assertion_type", "client_id", "grant_type"]);
    let sent = form(&second);
    assert_eq!(sent["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    assert_eq!((&*sent["assertion"], &*sent["client_id"]), ("the-jag", CLIENT));
    let (one, other) = (client_assertion(&first), client_assertion(&second));
    assert_eq!((&*one.0, &*other.0), (url_of(&first), url_of(&second)), "each server has an audience of its own");
    assert_ne!(one.1, other.1);
    assert_eq!(authorization(bench.only_step(flight, &issued("for-github"))), "Bearer for-github");
}

#[test]
fn the_last_token_is_kept_and_the_assertion_is_not() {
    let mut bench = ready(&xaa());
    let claims = json!({"iss": ORG, "aud": CLIENT, "exp": NOW.secs() + 86_400});
    let token = OKTA_KEY.token(&with(bob_id(), claims));
    let (_, flight, _) = bench.at_second(&token);
    assert_eq!(authorization(bench.only_step(flight, &issued("for-github"))), "Bearer for-github");
    assert_eq!(authorization(bench.ask(bearer("/github", &token))), "Bearer for-github");
    bench.no_call();
    // Renewed from the start.
    bench.advance(3500);
    assert_eq!(authorization(bench.ask(bearer("/github", &token))), "Bearer for-github");
    let (flight, call) = bench.call();
    assert_eq!(form(&call)["subject_token"], token);
    assert!(bench.reply(flight, &assertion("next-jag")).is_empty());
    let (flight, call) = bench.call();
    assert_eq!(form(&call)["assertion"], "next-jag");
    assert!(bench.reply(flight, &issued("next")).is_empty());
    assert_eq!(authorization(bench.ask(bearer("/github", &token))), "Bearer next");
}

#[test]
fn another_companys_server_gets_what_it_knows_us_by_and_nothing_of_the_providers() {
    let mut bench = ready(&elsewhere());
    let (_, flight, call) = bench.at_second(&user("00ubob"));
    assert_eq!((url_of(&call), &*call.cluster), ("https://auth.other.example/token", "other"));
    assert_eq!(names(&call), ["assertion", "grant_type"]);
    let (_, authorization_sent) = call.headers.iter().find(|(name, _)| *name == "authorization").unwrap();
    let expected = base64::prelude::BASE64_STANDARD.encode("their-id-of-us:their-secret");
    assert_eq!(authorization_sent.reveal(), format!("Basic {expected}"));
    assert_eq!(authorization(bench.only_step(flight, &issued("theirs"))), "Bearer theirs");
}

#[test]
fn the_type_of_the_first_answer_decides_and_how_it_is_called_beside_does_not() {
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
        let mut bench = ready(&xaa());
        bench.wait(bearer("/github", &user("00ubob")));
        let (flight, _) = bench.call();
        let steps = bench.reply(flight, &answer_with(200, &[], &body));
        assert_eq!(steps.is_empty(), goes_on, "{body}");
        for (_, step) in steps {
            assert_eq!(refused(step), (502, "provider_answer_invalid".to_owned()), "{body}");
        }
    }
}

#[test]
fn an_assertion_never_goes_to_the_upstream() {
    for body in [
        json!({"access_token": "jag", "token_type": "Bearer"}),
        json!({"access_token": "other", "token_type": "N_A"}),
        json!({"access_token": "other", "token_type": "Bearer", "issued_token_type": ID_JAG}),
    ] {
        let mut bench = ready(&xaa());
        let (_, flight, _) = bench.at_second(&user("00ubob"));
        let step = bench.only_step(flight, &answer_with(200, &[], &body));
        assert_eq!(refused(step), (502, "provider_answer_invalid".to_owned()), "{body}");
    }
}

#[test]
fn a_second_call_that_nobody_answered_starts_again_at_the_first_and_only_once() {
    let mut bench = ready(&xaa());
    let (_, flight, _) = bench.at_second(&user("00ubob"));
    assert!(bench.reply(flight, &CalloutResult::Failed(CalloutFailure::NoConnection)).is_empty());
    let (flight, again) = bench.call();
    assert!(form(&again).contains_key("subject_token"), "the assertion may have been used");
    assert!(bench.reply(flight, &assertion("another-jag")).is_empty());
    let (flight, second) = bench.call();
    assert_eq!(form(&second)["assertion"], "another-jag");
    let step = bench.only_step(flight, &CalloutResult::Failed(CalloutFailure::NoConnection));
    assert_eq!(refused(step), (503, "provider_unavailable".to_owned()));
    bench.no_call();
}

#[test]
fn a_nonce_of_the_second_server_is_in_the_next_proof_for_it_and_costs_another_assertion_once() {
    let mut configuration = xaa();
    configuration["identity_providers"]["okta"]["client"]["dpop"] =
        json!({"key": {"env": "OKTA_PRIVATE_KEY"}, "algorithm": "ES256"});
    let proof = |call: &Callout| -> Value {
        let (_, proof) = call.headers.iter().find(|(name, _)| *name == "dpop").unwrap();
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(proof.reveal().split('.').nth(1).unwrap()).unwrap())
            .unwrap()
    };
    let wants = |nonce: &str| answer_with(400, &[("dpop-nonce", nonce)], &json!({"error": "use_dpop_nonce"}));
    let mut bench = ready(&configuration);
    let (_, flight, call) = bench.at_second(&user("00ubob"));
    assert_eq!((proof(&call)["htu"].as_str(), proof(&call).get("nonce")), (Some(url_of(&call)), None));
    assert!(bench.reply(flight, &wants("n-1")).is_empty());
    let (flight, first) = bench.call();
    assert!(form(&first).contains_key("subject_token") && proof(&first).get("nonce").is_none());
    assert!(bench.reply(flight, &assertion("another-jag")).is_empty());
    let (flight, call) = bench.call();
    assert_eq!((form(&call)["assertion"].as_str(), proof(&call)["nonce"].as_str()), ("another-jag", Some("n-1")));
    let step = bench.only_step(flight, &wants("n-2"));
    assert_eq!(answered(step).status, 502);
    bench.no_call();
}

#[test]
fn both_calls_together_have_the_time_of_an_exchange() {
    let mut bench = ready(&xaa());
    bench.wait(bearer("/github", &user("00ubob")));
    let (flight, first) = bench.call();
    assert_eq!(first.timeout.as_secs(), 10);
    bench.advance(7);
    assert!(bench.reply(flight, &assertion("jag")).is_empty());
    assert_eq!(bench.call().1.timeout.as_secs(), 3);

    let mut bench = ready(&xaa());
    bench.wait(bearer("/github", &user("00ubob")));
    let (flight, _) = bench.call();
    bench.advance(10);
    assert_eq!(refused(bench.only_step(flight, &assertion("jag"))), (503, "provider_unavailable".to_owned()));
    bench.no_call();
}

#[test]
fn an_assertion_that_is_not_taken_is_the_operators_concern_and_no_fault_of_the_users() {
    let error = |error: &str| answer_with(400, &[], &json!({"error": error}));
    let mut bench = ready(&xaa());
    bench.wait(bearer("/github", &user("00ubob")));
    let (flight, _) = bench.call();
    assert_eq!(refused(bench.only_step(flight, &error("invalid_grant"))).1, "exchange_rejected");
    let (_, flight, _) = bench.at_second(&user("00ucarol"));
    assert_eq!(refused(bench.only_step(flight, &error("invalid_grant"))), (502, "exchange_misconfigured".to_owned()));
    let (_, flight, _) = bench.at_second(&user("00udave"));
    assert_eq!(refused(bench.only_step(flight, &error("access_denied"))), (403, "exchange_denied".to_owned()));
}

#[test]
fn another_companys_server_sends_no_user_anywhere() {
    let body = json!({"error": "interaction_required", "claims": r#"{"access_token":{}}"#,
        "interaction_uri": "https://acme.okta.example/consent"});
    let reply = answer_with(400, &[], &body);
    let mut bench = ready(&elsewhere());
    let (_, flight, _) = bench.at_second(&user("00ubob"));
    let answer = answered(bench.only_step(flight, &reply));
    assert_eq!(answer.status, 502);
    assert!(answer.body.contains("exchange_misconfigured") && !answer.body.contains("consent"), "{}", answer.body);
    assert!(answer.headers.iter().all(|(name, _)| *name != "www-authenticate"));
    // The provider itself may, at either of its servers.
    let mut bench = ready(&xaa());
    let (_, flight, _) = bench.at_second(&user("00ubob"));
    let answer = answered(bench.only_step(flight, &reply));
    assert!(answer.status == 403 && answer.body.contains("https://acme.okta.example/consent"), "{}", answer.body);
}

#[test]
fn a_line_about_the_second_call_says_so_and_has_no_remedy_for_a_callers_token() {
    let config = parse(&elsewhere());
    let target = config.resources[0].targets[0].as_ref().unwrap();
    let token_endpoint = &Url::parse("https://acme.okta.example/oauth2/v1/token").unwrap();
    let line = |leg, error: &str| {
        let subject = SubjectInput { token: "subject", is_id_token: true, ..SubjectInput::default() };
        let request = TokenRequest {
            provider: &config.providers[0],
            target,
            token_endpoint,
            subject,
            assertion: None,
            which: SecretVersion::Current,
            nonce: None,
            leg,
        };
        let body = json!({"error": error, "suberror": "their-secret"});
        request.read(&answer_with(400, &[], &body), &[], NOW).unwrap_err()
    };
    let first = line(Hop::First, "invalid_grant");
    assert_eq!(first.blame, ErrorClass::Token);
    assert!(first.to_string().starts_with("error=\"invalid_grant\" status=400"), "{first}");
    let second = line(Hop::Second("jag"), "invalid_grant");
    assert_eq!(second.blame, ErrorClass::Operator);
    let text = second.to_string();
    assert!(text.starts_with("leg=2 error=\"invalid_grant\" status=400"), "{text}");
    assert!(!text.contains("responsible=user"), "{text}");
    let wants_the_user = line(Hop::Second("jag"), "interaction_required");
    assert!(wants_the_user.blame == ErrorClass::Operator && wants_the_user.claims.is_none(), "{wants_the_user}");
    assert!(!wants_the_user.to_string().contains("responsible=user"), "{wants_the_user}");
    // No text that repeats the secret of the client there.
    assert!(!text.contains("their-secret"), "{text}");
}

#[test]
fn a_previous_secret_of_either_client_is_tried_from_the_start() {
    let mut configuration = elsewhere();
    let server = "/resources/0/exchange/okta/authorization_server/client/authentication";
    configuration.pointer_mut(server).unwrap()["previous_secret"] = json!({"inline": "their-old-secret"});
    let mut bench = ready(&configuration);
    let (_, flight, _) = bench.at_second(&user("00ubob"));
    let unknown = answer_with(401, &[], &json!({"error": "invalid_client"}));
    assert!(bench.reply(flight, &unknown).is_empty());
    let (flight, first) = bench.call();
    assert!(form(&first).contains_key("subject_token"));
    assert!(bench.reply(flight, &assertion("another-jag")).is_empty());
    let (flight, second) = bench.call();
    let (_, sent) = second.headers.iter().find(|(name, _)| *name == "authorization").unwrap();
    let expected = base64::prelude::BASE64_STANDARD.encode("their-id-of-us:their-old-secret");
    assert_eq!(sent.reveal(), format!("Basic {expected}"));
    assert_eq!(authorization(bench.only_step(flight, &issued("theirs"))), "Bearer theirs");
}

#[test]
fn a_provider_that_did_not_know_the_secret_is_not_asked_with_it_at_its_other_server() {
    let mut configuration = xaa();
    configuration["identity_providers"]["okta"]["client"]["authentication"] = json!({
        "method": "client_secret_post", "secret": {"inline": "new"}, "previous_secret": {"inline": "old"}});
    let mut bench = ready(&configuration);
    bench.wait(bearer("/github", &user("00ubob")));
    let (flight, call) = bench.call();
    assert_eq!(form(&call)["client_secret"], "new");
    bench.reply(flight, &answer_with(401, &[], &json!({"error": "invalid_client"})));
    let (flight, call) = bench.call();
    assert_eq!(form(&call)["client_secret"], "old");
    bench.reply(flight, &assertion("jag"));
    assert_eq!(form(&bench.call().1)["client_secret"], "old");
}

#[test]
fn a_server_that_throttles_is_left_in_peace_and_the_provider_is_asked_for_others() {
    let mut configuration = elsewhere();
    let mut here = xaa()["resources"][0].clone();
    here["url"] = json!("https://mcp.acme.example/here");
    configuration["resources"].as_array_mut().unwrap().push(here);
    let mut bench = ready(&configuration);
    let (_, flight, _) = bench.at_second(&user("00ubob"));
    let step = bench.only_step(flight, &answer_with(429, &[("retry-after", "20")], &json!({})));
    assert_eq!(refused(step).1, "provider_throttled");
    assert_eq!(refused(bench.ask(bearer("/github", &user("00ucarol")))).1, "provider_throttled");
    bench.no_call();
    bench.wait(bearer("/here", &user("00ucarol")));
    bench.call();
}

#[test]
fn requests_for_the_same_wait_for_both_calls_and_for_one_exchange() {
    let mut bench = ready(&xaa());
    let token = user("00ubob");
    let first = bench.wait(bearer("/github", &token));
    let (flight, _) = bench.call();
    let second = bench.wait(bearer("/github", &token));
    bench.no_call();
    assert!(bench.reply(flight, &assertion("jag")).is_empty());
    let (flight, _) = bench.call();
    let third = bench.wait(bearer("/github", &token));
    bench.no_call();
    let steps = bench.reply(flight, &issued("for-github"));
    assert_eq!(steps.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [first, second, third]);
    for (_, step) in steps {
        assert_eq!(authorization(step), "Bearer for-github");
    }
}

#[test]
fn an_id_token_beside_an_access_token_of_a_custom_server_goes_to_the_org_server() {
    let mut configuration = xaa();
    let provider = &mut configuration["identity_providers"]["okta"];
    provider["issuer"] = json!(OKTA);
    provider["audiences"] = json!(["api://default"]);
    provider["subject_token"] = json!({"type": "id_token", "header": "x-id-token", "audiences": [CLIENT]});
    let mut bench = ready(&configuration);
    let id_token = OKTA_KEY.token(&with(bob_id(), json!({"aud": CLIENT})));
    let fields = [("authorization", &*format!("Bearer {}", bob_token())), ("x-id-token", &*id_token)];
    bench.wait(request("POST", "/github", &fields));
    let call = bench.call().1;
    assert_eq!(url_of(&call), "https://acme.okta.example/oauth2/v1/token");
    assert_eq!(form(&call)["subject_token"], id_token);

    configuration["identity_providers"]["okta"]["subject_token"] = json!({"type": "access_token"});
    let mut bench = ready(&configuration);
    bench.wait(bearer("/github", &bob_token()));
    let sent = form(&bench.call().1);
    assert_eq!(sent["subject_token_type"], "urn:ietf:params:oauth:token-type:access_token");
}

#[test]
fn any_provider_that_follows_the_draft_does_as_well() {
    let mut configuration = elsewhere();
    configuration["identity_providers"]["okta"]["profile"] = json!("id_jag");
    configuration["resources"][0]["exchange"]["okta"].as_object_mut().unwrap().remove("scopes");
    let mut bench = ready(&configuration);
    bench.wait(bearer("/github", &user("00ubob")));
    let (flight, first) = bench.call();
    assert_eq!(form(&first)["requested_token_type"], ID_JAG);
    assert!(!form(&first).contains_key("scope"));
    bench.reply(flight, &assertion("jag"));
    let (flight, second) = bench.call();
    assert_eq!(url_of(&second), "https://auth.other.example/token");
    assert_eq!(authorization(bench.only_step(flight, &issued("theirs"))), "Bearer theirs");
}

#[test]
fn what_can_never_succeed_is_refused_with_the_configuration() {
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
        (xaa(), provider("audiences"), json!([CLIENT, "another-client"]), "identity_providers.okta.audiences"),
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
    // Nobody puts an assertion for that server into requests.
    let own = exchange("authorization_server/client/authentication");
    let from_a_header = json!({"method": "client_assertion", "assertion": {"header": "x-assertion"}});
    assert_eq!(
        at(elsewhere(), &[(&own, from_a_header)]).map(|_| ()),
        Err("resources[0].exchange.okta.authorization_server.client.authentication.assertion.header".to_owned())
    );
    // A signed assertion may go to another host without a client of its own; a secret may not.
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
fn an_exchange_of_one_call_has_no_authorization_server_beside_the_provider() {
    let mut configuration = configuration();
    configuration["resources"][0]["exchange"]["okta-eu"]["authorization_server"] = json!({"cluster": "other"});
    let error = Config::parse(configuration.to_string().as_bytes(), &environment).unwrap_err();
    assert_eq!(error.path, "resources[0].exchange.okta-eu.authorization_server");
}
