//! Actor tokens, and `may_act` in the user's token.

use onbehalf::config::Config;
use onbehalf::http::Request;
use serde_json::{Value, json};

use onbehalf_test_support::{
    NOW, OKTA, OKTA_KEY, OTHER_KEY, TestEngine, answer_with, answered, authorization, base64url, bob, bob_id,
    bob_token, configuration, environment, form, forwarded, issued, refused, request, with,
};

const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const OPAQUE: &str = "urn:ietf:params:oauth:token-type:access_token";
const FIXED: &str = "actor.from-the.environment";

fn variable(name: &str) -> Option<String> {
    match name {
        "ACTOR_TOKEN" => Some(format!("{FIXED}\n")),
        "TWO_WORDS" => Some("two words".to_owned()),
        _ => environment(name),
    }
}

/// A server that follows RFC 8693 and exchanges for the first resource.
fn with_actor(actor: Value) -> Value {
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"]["profile"] = json!("rfc8693");
    let exchange = with(json!({"audience": "com.acme.github"}), json!({"actor_token": actor}));
    configuration["resources"][0]["exchange"]["okta-eu"] = exchange;
    configuration
}

fn header_actor() -> Value {
    json!({"header": "X-Actor", "type": OPAQUE, "subject": "agent"})
}

fn with_actor_tokens(configuration: &Value) -> TestEngine {
    TestEngine::with_environment(configuration, &variable).with_keys()
}

fn user(changes: Value) -> String {
    OKTA_KEY.token(&with(bob(), changes))
}

fn from(token: &str, actors: &[&str]) -> Request {
    let bearer = format!("Bearer {token}");
    let mut fields = vec![("authorization", &*bearer)];
    fields.extend(actors.iter().map(|actor| ("x-actor", *actor)));
    request("POST", "/github", &fields)
}

#[test]
fn actor_token_from_the_environment_is_sent_with_its_type() {
    let mut engine = with_actor_tokens(&with_actor(json!({"env": "ACTOR_TOKEN", "type": JWT})));
    engine.send_waiting(from(&bob_token(), &["not-looked-at"]));
    let sent = form(&engine.expect_call().1);
    assert_eq!((&*sent["actor_token"], &*sent["actor_token_type"]), (FIXED, JWT));
}

#[test]
fn actor_token_that_the_provider_repeats_is_not_in_the_log() {
    let fixed = json!({"env": "ACTOR_TOKEN", "type": JWT});
    for (actor, token) in [(fixed, FIXED), (header_actor(), "opaque-actor")] {
        let mut engine = with_actor_tokens(&with_actor(actor));
        engine.send_waiting(from(&bob_token(), &["opaque-actor"]));
        let (flight, _) = engine.expect_call();
        let body = json!({"error": format!("unknown {token}"), "suberror": token});
        let reply = answered(engine.callout_result(flight, &answer_with(400, &[], &body)).remove(0).1);
        let line = reply.record.to_string();
        assert!(line.contains("exchange_misconfigured") && !line.contains(token), "{line}");
    }
}

#[test]
fn actor_token_in_a_header_is_sent_to_the_provider_and_removed() {
    let mut engine = with_actor_tokens(&with_actor(header_actor()));
    let id = engine.send_waiting(from(&bob_token(), &["opaque-actor"]));
    let (flight, call) = engine.expect_call();
    assert_eq!(form(&call)["actor_token"], "opaque-actor");
    let steps = engine.callout_result(flight, &issued("for-github"));
    assert_eq!(steps[0].0, id);
    let edits = forwarded(steps.into_iter().next().unwrap().1);
    assert!(edits.remove.contains(&"x-actor".to_owned()));
    // The filter removes the header on every path, because only Envoy may set it.
    let open = request("GET", "/healthz", &[("x-actor", "opaque-actor")]);
    assert!(forwarded(engine.decide(open)).remove.contains(&"x-actor".to_owned()));
}

#[test]
fn fresh_actor_token_of_the_same_actor_causes_no_exchange() {
    let mut engine = with_actor_tokens(&with_actor(header_actor()));
    let token = user(json!({"exp": NOW.secs() + 86_400}));
    assert_eq!(authorization(engine.exchange(from(&token, &["first"]), &issued("for-github"))), "Bearer for-github");
    assert_eq!(authorization(engine.decide(from(&token, &["second"]))), "Bearer for-github");
    assert_eq!(authorization(engine.decide(from(&token, &[]))), "Bearer for-github");
    engine.expect_no_call();
    // A renewal uses the actor token of its own request, and waits for one if there is none.
    engine.advance(3500);
    assert_eq!(authorization(engine.decide(from(&token, &[]))), "Bearer for-github");
    engine.expect_no_call();
    engine.advance(11);
    assert_eq!(authorization(engine.decide(from(&token, &["third"]))), "Bearer for-github");
    assert_eq!(form(&engine.expect_call().1)["actor_token"], "third");
}

#[test]
fn different_configured_actors_get_different_tokens() {
    let mut configuration = with_actor(json!({"header": "x-actor", "type": OPAQUE, "subject": "one"}));
    let mut second = configuration["resources"][0].clone();
    second["url"] = json!("https://mcp.acme.example/second");
    second["exchange"]["okta-eu"]["actor_token"]["subject"] = json!("two");
    configuration["resources"].as_array_mut().unwrap().push(second);
    let mut engine = with_actor_tokens(&configuration);
    let step = engine.exchange(from(&bob_token(), &["opaque"]), &issued("by-one"));
    assert_eq!(authorization(step), "Bearer by-one");
    let bearer = format!("Bearer {}", bob_token());
    let fields = [("authorization", &*bearer), ("x-actor", "opaque")];
    let step = engine.exchange(request("POST", "/second", &fields), &issued("by-two"));
    assert_eq!(authorization(step), "Bearer by-two");
}

#[test]
fn missing_or_repeated_actor_token_stops_the_exchange() {
    let mut engine = with_actor_tokens(&with_actor(header_actor()));
    for actors in [&[][..], &["one", "two"], &["two words"], &[""], &["one,two"]] {
        let step = engine.decide(from(&bob_token(), actors));
        assert_eq!(refused(step), (502, "actor_token_missing".to_owned()), "{actors:?}");
        engine.expect_no_call();
    }
}

#[test]
fn actor_token_of_another_actor_is_refused() {
    let actor = json!({"header": "x-actor", "type": JWT, "subject": "agent", "issuer": "https://workload.example"});
    let jwt = |claims: Value| OTHER_KEY.token(&claims);
    for (claims, is_taken) in [
        (json!({"sub": "agent", "iss": "https://workload.example"}), true),
        (json!({"sub": "another", "iss": "https://workload.example"}), false),
        (json!({"sub": "agent", "iss": "https://another.example"}), false),
        (json!({"iss": "https://workload.example"}), false),
        (json!({"sub": ["agent"], "iss": "https://workload.example"}), false),
    ] {
        let mut engine = with_actor_tokens(&with_actor(actor.clone()));
        let (_, step) = engine.send(from(&bob_token(), &[&jwt(claims.clone())]));
        if is_taken {
            assert!(form(&engine.expect_call().1).contains_key("actor_token"));
        } else {
            assert_eq!(refused(step).1, "actor_token_missing", "{claims}");
        }
    }
}

#[test]
fn malformed_actor_token_is_refused_unless_its_type_is_opaque() {
    let claims = json!({"sub": "agent-b"});
    let signed = |header: Value| OTHER_KEY.sign(&with(json!({"alg": "ES256"}), header), &claims);
    let own = OTHER_KEY.sign(&json!({"alg": "ES256"}), &json!({"sub": "agent-a"}));
    let encoded = |text: &str| base64url(text);
    let header = encoded(r#"{"alg":"ES256"}"#);
    let twice = format!("{header}.{}.AA", encoded(r#"{"sub":"agent-a","sub":"agent-b"}"#));
    let names_twice = format!("{}.{}.AA", encoded(r#"{"alg":"ES256","alg":"ES384"}"#), encoded(&claims.to_string()));
    let padded = format!("{}=", signed(json!({})));
    let is_sent = |actor: &Value, token: &str| {
        let mut engine = with_actor_tokens(&with_actor(actor.clone()));
        let (_, step) = engine.send(from(&bob_token(), &[token]));
        match engine.inner.next_callout() {
            Some((_, call)) => form(&call)["actor_token"] == token,
            None => {
                assert_eq!(refused(step), (502, "actor_token_missing".to_owned()), "{token}");
                false
            }
        }
    };
    for token_type in [JWT, OPAQUE, "urn:ietf:params:oauth:token-type:id_token"] {
        let actor = json!({"header": "x-actor", "type": token_type, "subject": "agent-a"});
        assert!(is_sent(&actor, &own));
        for token in [
            signed(json!({})),
            signed(json!({"cty": "JWT"})),
            signed(json!({"crit": ["exp"]})),
            signed(json!({"kid": 1})),
            twice.clone(),
            names_twice.clone(),
            padded.clone(),
            format!("{}.AA", signed(json!({}))),
            "a.b.c.d.e".to_owned(),
        ] {
            assert!(!is_sent(&actor, &token), "{token_type} {token}");
        }
        for token in ["opaque", "opaque.in-two"] {
            assert_eq!(is_sent(&actor, token), token_type == OPAQUE, "{token_type} {token}");
        }
    }
}

/// Returns `true` if a token with this `may_act` is exchanged.
fn is_exchanged(configuration: &Value, may_act: &Value) -> bool {
    let mut engine = with_actor_tokens(configuration);
    let (_, step) = engine.send(from(&user(json!({"may_act": may_act})), &["opaque"]));
    match engine.inner.next_callout() {
        Some(_) => true,
        None => {
            assert_eq!(refused(step), (403, "actor_not_allowed".to_owned()), "{may_act}");
            false
        }
    }
}

#[test]
fn may_act_restricts_the_exchange_to_the_named_actor() {
    let configuration = with_actor(Value::Null);
    for (may_act, expected) in [
        (json!({"sub": "0oa1"}), true),
        (json!({"sub": "0oa1", "iss": OKTA}), true),
        (json!({"sub": "0oa1", "client_id": "0oa1"}), true),
        (json!({"client_id": "0oa1"}), true),
        (json!({"client_id": "0oa1", "iss": OKTA}), true),
        (json!({"sub": "0oa2"}), false),
        (json!({"sub": "0oa1", "client_id": "0oa2"}), false),
        (json!({"sub": "0oa2", "client_id": "0oa1"}), false),
        (json!({"sub": "0oa1", "iss": "https://another.example"}), false),
        (json!({"iss": OKTA}), false),
        (json!({"sub": "0oa1", "client_id": null, "iss": null}), true),
        (json!({"sub": "0oa2", "client_id": null}), false),
        (json!({"sub": null, "client_id": null}), false),
        (json!({"email": "gateway@acme.example"}), false),
        (json!({}), false),
    ] {
        assert_eq!(is_exchanged(&configuration, &may_act), expected, "{may_act}");
    }
}

#[test]
fn may_act_must_name_the_subject_of_the_actor_token() {
    let named = with_actor(header_actor());
    let of_another_issuer = with_actor(
        json!({"env": "ACTOR_TOKEN", "type": JWT, "subject": "agent", "issuer": "https://workload.example"}),
    );
    let unnamed = with_actor(json!({"env": "ACTOR_TOKEN", "type": JWT}));
    for (configuration, may_act, expected) in [
        (&named, json!({"sub": "agent"}), true),
        (&named, json!({"sub": "agent", "iss": OKTA, "client_id": "0oa1"}), true),
        (&named, json!({"sub": "0oa1"}), false),
        (&of_another_issuer, json!({"sub": "agent", "iss": "https://workload.example"}), true),
        (&of_another_issuer, json!({"sub": "agent", "iss": OKTA}), false),
        (&unnamed, json!({"sub": "agent"}), false),
        (&unnamed, json!({"sub": "0oa1"}), false),
        (&unnamed, json!({"client_id": "0oa1"}), true),
    ] {
        assert_eq!(is_exchanged(configuration, &may_act), expected, "{may_act}");
    }
}

#[test]
fn may_act_is_checked_in_id_tokens_and_in_cached_tokens() {
    let mut configuration = with_actor(Value::Null);
    configuration["identity_providers"]["okta-eu"]["subject_token"] =
        json!({"type": "id_token", "header": "x-id-token", "audiences": ["login-client"]});
    let bearer = format!("Bearer {}", user(json!({"sub": "00ubob"})));
    let mut engine = with_actor_tokens(&configuration);
    let id_token = OKTA_KEY.token(&with(bob_id(), json!({"may_act": {"sub": "0oa2"}})));
    for _ in 0..2 {
        let fields = [("authorization", &*bearer), ("x-id-token", &*id_token)];
        assert_eq!(refused(engine.decide(request("POST", "/github", &fields))).1, "actor_not_allowed");
    }
    engine.expect_no_call();
}

#[test]
fn malformed_may_act_permits_no_actor() {
    let mut engine = with_actor_tokens(&with_actor(Value::Null));
    for may_act in [json!("0oa1"), json!([{"sub": "0oa1"}]), json!({"sub": 1}), Value::Bool(true)] {
        let step = engine.decide(from(&user(json!({"may_act": may_act})), &[]));
        assert_eq!(refused(step), (401, "invalid_claims".to_owned()), "{may_act}");
    }
}

#[test]
fn actor_token_has_exactly_one_source() {
    let at = |actor: Value| {
        let mut whole = with_actor(actor);
        whole["identity_providers"]["okta-eu"]["subject_token"] =
            json!({"type": "id_token", "header": "x-id-token", "audiences": ["login-client"]});
        let whole = whole.to_string();
        Config::parse(whole.as_bytes(), &variable).map(|_| ()).map_err(|error| {
            assert!(!error.to_string().contains("two words"), "{error}");
            error.path.replace("resources[0].exchange.okta-eu.actor_token", "…")
        })
    };
    for (actor, path) in [
        (json!({"type": JWT}), "…"),
        (json!({"env": "ACTOR_TOKEN", "header": "x-actor", "type": JWT}), "…"),
        (json!({"env": "ACTOR_TOKEN"}), "….type"),
        (json!({"header": "x-actor", "type": "jwt"}), "….type"),
        (json!({"env": "NOT_SET", "type": JWT}), "….env"),
        (json!({"env": "TWO_WORDS", "type": JWT}), "….env"),
        (json!({"header": "authorization", "type": JWT}), "….header"),
        (json!({"header": "x actor", "type": JWT}), "….header"),
        (json!({"header": "actor", "type": JWT, "subject": "agent"}), "….header"),
        (json!({"header": "dpop", "type": JWT, "subject": "agent"}), "….header"),
        (json!({"header": "x-id-token", "type": JWT, "subject": "agent"}), "….header"),
        (json!({"header": "x-actor", "type": JWT}), "….subject"),
        (json!({"header": "x-actor", "type": JWT, "issuer": "https://w.example"}), "….subject"),
        (json!({"header": "x-actor", "type": JWT, "sub": "agent"}), "….sub"),
    ] {
        assert_eq!(at(actor.clone()), Err(path.to_owned()), "{actor}");
    }
    assert_eq!(
        at(json!({"header": "x-actor", "type": JWT, "subject": "agent", "issuer": "https://w.example"})),
        Ok(())
    );
    // The other profiles have no `actor_token` parameter.
    let mut configuration = configuration();
    configuration["resources"][0]["exchange"]["okta-eu"]["actor_token"] = header_actor();
    let error = Config::parse(configuration.to_string().as_bytes(), &variable).unwrap_err();
    assert_eq!(error.path, "resources[0].exchange.okta-eu.actor_token");
}
