//! Responses of providers, but for the token: statuses, forms of numbers, unknown members, odd shapes of errors. Only
//! the provider writes these parts and nothing rests on them. The token itself is checked elsewhere.

use onbehalf::http::{CalloutResult, Response};
use onbehalf::refusal::Reason;
use onbehalf_test_support::{
    SECRET, TestEngine, alice_token, answer, answer_with, answered, authorization, bearer, bob_token, configuration,
    configuration_error, form, log_facts, parse, refused, warnings, with,
};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Returns the step after a response with this body.
fn authorized(status: u16, body: &str) -> String {
    authorization(TestEngine::ready().exchange(bearer("/github", &alice_token()), &answer(status, body.as_bytes())))
}

/// Returns the facts of the log line of a failed exchange.
fn logged(configuration: &Value, reply: &CalloutResult) -> HashMap<String, String> {
    let mut engine = TestEngine::new(configuration).with_keys();
    let local_reply = answered(engine.exchange(bearer("/github", &alice_token()), reply));
    assert!(!local_reply.body.contains("words"), "{}", local_reply.body);
    log_facts(&local_reply.record.to_string())
}

fn good() -> Value {
    json!({"access_token": "up", "token_type": "Bearer", "expires_in": 60})
}

#[test]
fn any_2xx_with_a_token_is_a_token_response() {
    for status in [200, 201, 202, 203, 206, 299] {
        assert_eq!(authorized(status, &good().to_string()), "Bearer up", "{status}");
    }
    for status in [200, 201, 202, 204] {
        for body in ["", "{}", "<html>", r#"{"access_token":"up"}"#, r#"{"access_token":"a b","token_type":"Bearer"}"#]
        {
            let step =
                TestEngine::ready().exchange(bearer("/github", &alice_token()), &answer(status, body.as_bytes()));
            assert_eq!(refused(step), (502, Reason::ProviderAnswerInvalid.label().to_owned()), "{status} {body}");
        }
    }
    for status in [199, 300, 304, 400] {
        let reply = answer_with(status, &[], &good());
        let step = TestEngine::ready().exchange(bearer("/github", &alice_token()), &reply);
        assert!(refused(step).0 >= 500, "{status}");
    }
}

#[test]
fn lifetime_of_zero_or_less_has_a_reason_of_its_own() {
    for value in [json!(0), json!(-103), json!("-1"), json!(0.9), json!("0")] {
        let facts = logged(&configuration(), &answer_with(200, &[], &with(good(), json!({"expires_in": value}))));
        assert_eq!(facts["error"], "expires_in is zero or negative", "{value}");
    }
    for value in [json!("soon"), json!(""), json!([60]), json!(true), json!("inf"), json!("NaN")] {
        let facts = logged(&configuration(), &answer_with(200, &[], &with(good(), json!({"expires_in": value}))));
        assert_eq!(facts["error"], "expires_in is not a number of seconds", "{value}");
    }
}

#[test]
fn unknown_member_cannot_break_a_token_response() {
    let bomb = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let odd = [
        r#""x":1e400"#,
        r#""x":"\ud800""#,
        r#""\udc00":1"#,
        r#""x":1,"x":2"#,
        r#""x":{"access_token":1,"access_token":2}"#,
        r#""issued_token_type":null"#,
        r#""refresh_in":"soon""#,
        r#""scope":7"#,
        &format!(r#""x":{bomb}"#),
        "\"x\":\"\u{1f600}\"",
    ];
    for odd in odd {
        for body in [
            format!(r#"{{{odd},"access_token":"up","token_type":"Bearer"}}"#),
            format!("\u{feff}{{\"access_token\":\"up\",\"token_type\":\"Bearer\",{odd}}}\r\n"),
        ] {
            assert_eq!(authorized(200, &body), "Bearer up", "{odd:.40}");
        }
    }
    let not_utf_8 = b"{\"x\":\"\xff\xfe\",\"access_token\":\"up\",\"token_type\":\"Bearer\"}";
    let step = TestEngine::ready().exchange(bearer("/github", &alice_token()), &answer(200, not_utf_8));
    assert_eq!(authorization(step), "Bearer up");
}

#[test]
fn member_that_is_read_must_not_stand_twice() {
    for twice in [
        r#""access_token":"up""#,
        r#""access_token":null"#,
        r#""\u0061ccess_token":"up""#,
        r#""token_type":"Bearer""#,
        r#""expires_in":60"#,
        r#""issued_token_type":null,"issued_token_type":null"#,
        r#""scope":"a","scope":"b""#,
        r#""refresh_token":"a","refresh_token":"b""#,
    ] {
        let body = format!(r#"{{"access_token":"up","token_type":"Bearer","expires_in":60,{twice}}}"#);
        let facts = logged(&configuration(), &answer(200, body.as_bytes()));
        assert_eq!(facts["error"], "the response is not a JSON object, or has a member twice", "{twice}");
    }
    let body = br#"{"access_token":"\xff","token_type":"Bearer"}"#;
    assert_eq!(logged(&configuration(), &answer(200, body))["reason"], "provider_answer_invalid");
    let body = b"{\"access_token\":\"up\xff\",\"token_type\":\"Bearer\"}";
    assert_eq!(logged(&configuration(), &answer(200, body))["reason"], "provider_answer_invalid");
}

#[test]
fn content_coding_of_a_response_is_in_the_log() {
    let gzip = [0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 3, 0xab, 0x56];
    let with_coding = |status: u16, coding: &str| {
        let headers = vec![("content-encoding".to_owned(), coding.as_bytes().to_vec())];
        CalloutResult::Response(Response { status, headers, body: gzip.to_vec() })
    };
    let facts = logged(&configuration(), &with_coding(200, "gzip"));
    assert_eq!((&*facts["content_encoding"], &*facts["error"]), ("gzip", "the response is compressed"));
    assert!(facts["remedy"].contains("compression"), "{}", facts["remedy"]);
    let facts = logged(&configuration(), &with_coding(400, "br"));
    assert_eq!((&*facts["content_encoding"], &*facts["error"]), ("br", "not an OAuth error response"));
    for none in ["identity", "", " Identity "] {
        assert!(!logged(&configuration(), &with_coding(200, none)).contains_key("content_encoding"), "{none}");
    }
    assert!(!logged(&configuration(), &with_coding(200, SECRET)).contains_key("content_encoding"));
}

#[test]
fn code_of_an_odd_error_is_in_the_log() {
    for (status, body, code) in [
        (200, json!({"error": "bad_verification_code", "error_description": "The words"}), "bad_verification_code"),
        (
            400,
            json!({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "words"}}),
            "400,INVALID_ARGUMENT",
        ),
        (403, json!({"error": {"code": "unauthorized", "message": "words"}}), "unauthorized"),
        (400, json!({"errorCode": "E0000022", "errorSummary": "words"}), "E0000022"),
        (404, json!({"code": "not_found"}), "not_found"),
        (500, json!({"error_code": 17}), "17"),
        (429, json!({"statusCode": 429, "errorCode": "too_many_requests"}), "too_many_requests"),
    ] {
        let facts = logged(&configuration(), &answer_with(status, &[], &body));
        assert_eq!(facts["error_codes"], code, "{body}");
    }
}

#[test]
fn codes_of_an_error_in_lists_are_in_the_log() {
    for (body, codes) in [
        // GitHub, GitLab and JSON:API.
        (
            r#"{"message":"words","errors":[{"resource":"Issue","code":"missing_field"},{"code":"invalid"}]}"#,
            "missing_field,invalid",
        ),
        (r#"{"errors":[{"status":"401","code":"17","title":"words"}]}"#, "401,17"),
        // Google.
        (
            r#"{"error":{"code":400,"errors":[{"domain":"global","reason":"invalid"}],"status":"INVALID_ARGUMENT"}}"#,
            "400,invalid,INVALID_ARGUMENT",
        ),
        (r#"[{"error":{"code":403,"details":[{"@type":"x","reason":"API_KEY_INVALID"}]}}]"#, "403,API_KEY_INVALID"),
        // SAP: OData, and API Management.
        (
            r#"{"error":{"code":"005056A5","message":{"value":"words"},"innererror":{"errordetails":[{"code":"/IW/21"}]}}}"#,
            "005056A5,/IW/21",
        ),
        (
            r#"{"fault":{"faultstring":"words","detail":{"errorcode":"oauth.v2.InvalidClientIdentifier"}}}"#,
            "oauth.v2.InvalidClientIdentifier",
        ),
        // Microsoft Graph.
        (
            r#"{"error":{"code":"badRequest","message":"words","innerError":{"code":"invalidRange"},"details":[{"code":"x"}]}}"#,
            "badRequest,invalidRange,x",
        ),
        // Salesforce, GraphQL, FastAPI.
        (r#"[{"message":"words","errorCode":"INVALID_SESSION_ID"}]"#, "INVALID_SESSION_ID"),
        (r#"{"errors":[{"message":"words","extensions":{"code":"UNAUTHENTICATED"}}]}"#, "UNAUTHENTICATED"),
        (r#"{"detail":[{"type":"missing","msg":"words"}]}"#, "missing"),
        // Parts that nobody can read hide no others.
        (r#"{"errors":[{"code":1e400,"x":1,"x":2},{"code":"\ud800"},{"code":"a","code":"b"},7,null]}"#, "a,b"),
        (
            r#"{"errors":["words",["words"]],"code":{"words":1},"error":[{"reason":"words of a sentence"},{"code":"c"}]}"#,
            "c",
        ),
    ] {
        for status in [400, 500] {
            let facts = logged(&configuration(), &answer(status, body.as_bytes()));
            assert_eq!(facts.get("error_codes").map(String::as_str), Some(codes), "{status} {body}");
        }
        if body.starts_with('{') {
            assert_eq!(logged(&configuration(), &answer(200, body.as_bytes()))["error_codes"], codes, "{body}");
        }
    }
}

#[test]
fn lists_of_codes_are_bounded_and_never_a_secret() {
    let codes =
        |status: u16, body: &str| logged(&configuration(), &answer(status, body.as_bytes())).remove("error_codes");
    let many: Vec<String> = (0..500).map(|number| format!(r#"{{"code":"c{number}"}}"#)).collect();
    let shown = codes(400, &format!(r#"{{"errors":[{}]}}"#, many.join(","))).unwrap();
    assert_eq!(shown, "c0,c1,c2,c3,c4,c5");
    let deep = format!("{}{}{}", r#"{"errors":["#.repeat(5000), r#"{"code":"x"}"#, "]}".repeat(5000));
    for status in [200, 400] {
        assert_eq!(codes(status, &deep), None, "{status}");
        assert_eq!(codes(status, &format!(r#"{{"errors":[{{"code":"{}"}}]}}"#, alice_token())), None, "{status}");
    }
    // Tokens of a success are not shown, nor is anything that cannot be compared with it.
    let token = |more: &str| {
        format!(r#"{{"access_token":"issued-secret","token_type":"x","errors":[{{"code":"issued-secret"}}]{more}}}"#)
    };
    assert_eq!((codes(200, &token("")), codes(200, &token(r#","access_token":"x""#))), (None, None));
}

#[test]
fn odd_code_cannot_break_a_token_response() {
    for odd in [r#""code":1e400"#, r#""code":1,"code":2"#, r#""errorCode":"\ud800""#, r#""errors":[1e400],"errors":{}"#]
    {
        let body = format!(r#"{{{odd},"access_token":"up","token_type":"Bearer"}}"#);
        assert_eq!(authorized(200, &body), "Bearer up", "{odd}");
    }
}

#[test]
fn code_in_the_log_is_escaped_and_cut() {
    let code = format!("a \"b\"\n event=forwarded {}", "c".repeat(100));
    for body in [json!({"error": code}), json!({"errorCode": code}), json!({"error": {"code": code}})] {
        let mut engine = TestEngine::ready();
        let reply = answer_with(400, &[], &body);
        let line = answered(engine.exchange(bearer("/github", &alice_token()), &reply)).record.to_string();
        let shown: String = code.chars().take(64).collect();
        let facts = log_facts(&line);
        assert!([facts.get("error"), facts.get("error_codes")].contains(&Some(&shown)), "{line}");
        assert!(line.contains(r#"a \"b\"\u000a event=forwarded"#), "{line}");
    }
}

fn with_descriptions() -> Value {
    let mut configuration = configuration();
    configuration["audit"] = json!({"error_descriptions": true});
    configuration
}

#[test]
fn description_is_in_the_log_only_if_the_operator_wants_it() {
    let description = format!("The words \"of\"\r\nthe {}", "provider ".repeat(100));
    let shown: String = description.chars().take(256).collect();
    for (status, body) in [
        (400, json!({"error": "invalid_grant", "error_description": description})),
        (500, json!({"error_description": description})),
        (200, json!({"error": "x", "error_description": description})),
    ] {
        let reply = answer_with(status, &[], &body);
        assert!(!logged(&configuration(), &reply).contains_key("error_description"), "{body}");
        assert_eq!(logged(&with_descriptions(), &reply)["error_description"], shown, "{status}");
    }
}

#[test]
fn description_that_repeats_a_secret_is_left_out() {
    let token = alice_token();
    let basic = "Z2F0ZXdheS1pZDpzM2NyM3QlN0V2YWx1ZQ==";
    let parts = [
        SECRET.to_owned(),
        "s3cr3t%7Evalue".to_owned(),
        basic.to_owned(),
        token.clone(),
        token[..100].to_owned(),
        token[token.len() - 60..].to_owned(),
        token[40..80].to_owned(),
    ];
    for part in &parts {
        for description in [format!("got {part}"), format!("{part} is wrong"), format!("{}{part}", "a".repeat(230))] {
            let reply = answer_with(400, &[], &json!({"error": "invalid_grant", "error_description": description}));
            let facts = logged(&with_descriptions(), &reply);
            assert!(!facts.contains_key("error_description"), "{part}: {}", facts["error_description"]);
        }
        let facts = logged(&with_descriptions(), &answer_with(400, &[], &json!({"errorCode": part})));
        assert!(!facts.contains_key("error_codes"), "{part}");
    }
    let body = json!({"access_token": "issued-secret", "token_type": "x", "error_description": "words issued-secret"});
    assert!(!logged(&with_descriptions(), &answer_with(200, &[], &body)).contains_key("error_description"));
    let harmless = json!({"error": "invalid_grant", "error_description": "words of gateway-id and api://github"});
    assert!(logged(&with_descriptions(), &answer_with(400, &[], &harmless)).contains_key("error_description"));
}

fn subject_token_type(profile: &str, subject_token: &Value) -> String {
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"]["profile"] = json!(profile);
    configuration["identity_providers"]["okta-eu"]["subject_token"] = subject_token.clone();
    let mut engine = TestEngine::new(&configuration).with_keys();
    engine.send_waiting(bearer("/github", &bob_token()));
    let form = form(&engine.expect_call().1);
    assert_eq!(form["subject_token"], bob_token());
    form["subject_token_type"].clone()
}

#[test]
fn access_token_is_sent_by_the_type_that_the_operator_names() {
    for profile in ["rfc8693", "okta_obo"] {
        for (name, sent) in [
            ("access_token", "urn:ietf:params:oauth:token-type:access_token"),
            ("urn:ietf:params:oauth:token-type:access_token", "urn:ietf:params:oauth:token-type:access_token"),
            ("jwt", "urn:ietf:params:oauth:token-type:jwt"),
            ("urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:jwt"),
            ("https://acme.example/token-types/legacy", "https://acme.example/token-types/legacy"),
        ] {
            assert_eq!(subject_token_type(profile, &json!({"type": name})), sent, "{profile}");
        }
    }
    for (profile, exchange) in [("jwt_bearer", json!({"audience": "a"})), ("validate_only", json!({}))] {
        let mut configuration = configuration();
        let provider = &mut configuration["identity_providers"]["okta-eu"];
        provider["profile"] = json!(profile);
        provider["subject_token"] = json!({"type": "jwt"});
        if profile == "validate_only" {
            provider.as_object_mut().unwrap().remove("client");
        }
        configuration["resources"][0]["exchange"]["okta-eu"] = exchange;
        let error = configuration_error(&configuration);
        assert_eq!(error.path, "identity_providers.okta-eu.subject_token.type", "{error}");
    }
}

#[test]
fn issuers_of_keycloak_are_parameters_like_others() {
    let mut configuration = configuration();
    configuration["resources"][0]["exchange"]["okta-eu"]["parameters"] =
        json!({"subject_issuer": "github", "requested_issuer": "google"});
    let mut engine = TestEngine::new(&configuration).with_keys();
    engine.send_waiting(bearer("/github", &bob_token()));
    let sent = form(&engine.expect_call().1);
    assert_eq!((&*sent["subject_issuer"], &*sent["requested_issuer"]), ("github", "google"));
    for name in ["subject_token", "requested_subject", "Subject-Token-Type", "requested_token_type"] {
        configuration["resources"][0]["exchange"]["okta-eu"]["parameters"] = json!({name: "x"});
        assert_eq!(configuration_error(&configuration).path, "resources[0].exchange.okta-eu.parameters", "{name}");
    }
}

#[test]
fn public_client_sends_its_id_alone_and_the_log_warns() {
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"]["client"]["authentication"] = json!({"method": "none"});
    let warned = warnings(&parse(&configuration));
    assert!(
        warned
            .iter()
            .any(|text| text.contains("okta-eu.client.authentication.method") && text.contains("public client")),
        "{warned:?}"
    );
    let mut engine = TestEngine::new(&configuration).with_keys();
    engine.send_waiting(bearer("/github", &bob_token()));
    let call = engine.expect_call().1;
    let sent = form(&call);
    assert_eq!(sent["client_id"], "0oa1");
    assert!(!call.headers.iter().any(|(name, _)| *name == "authorization"));
    assert!(
        !["client_secret", "client_assertion", "client_assertion_type"].iter().any(|name| sent.contains_key(*name))
    );
    for (name, value) in
        [("secret", json!({"inline": "s"})), ("key_id", json!("k")), ("previous_secret", json!({"inline": "s"}))]
    {
        let mut configuration = configuration.clone();
        configuration["identity_providers"]["okta-eu"]["client"]["authentication"][name] = value;
        let path = format!("identity_providers.okta-eu.client.authentication.{name}");
        assert_eq!(configuration_error(&configuration).path, path);
    }
    // Nothing secret is left that could protect the data that workers share.
    configuration["identity_providers"]["entra-us"]["client"]["authentication"] = json!({"method": "none"});
    assert_eq!(configuration_error(&configuration).path, "shared_data_secret");
    configuration["shared_data_secret"] = json!({"inline": "0123456789abcdef0123456789abcdef"});
    parse(&configuration);
}
