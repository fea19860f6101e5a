//! Copies of the caller's tokens outside `authorization`, none of which is forwarded.

use std::collections::BTreeSet;

use onbehalf::engine::HeaderMutations;
use onbehalf::http::Request;
use serde_json::json;

use onbehalf_test_support::{
    OKTA_KEY, OTHER_KEY, TestEngine, alice_token, answered, authorization, bearer, bob, bob_id, configuration,
    forwarded, issued, refused, request, with,
};

/// The header edits of a request with more fields, once the exchanged token is in the cache.
fn edits(engine: &mut TestEngine, token: &str, more: &[(&str, &str)]) -> HeaderMutations {
    let authorization = format!("Bearer {token}");
    let fields = [&[("authorization", authorization.as_str())], more].concat();
    forwarded(engine.decide(request("POST", "/github", &fields)))
}

/// An engine that has exchanged a token.
fn warm(configuration: &serde_json::Value, token: &str) -> TestEngine {
    let mut engine = TestEngine::new(configuration).with_keys();
    authorization(engine.exchange(bearer("/github", token), &issued("up")));
    engine
}

fn removed(edits: &HeaderMutations) -> BTreeSet<&str> {
    edits.remove.iter().map(String::as_str).collect()
}

#[test]
fn callers_token_is_removed_from_every_other_field() {
    let token = alice_token();
    let mut engine = warm(&configuration(), &token);
    for value in [
        token.clone(),
        format!("Bearer {token}"),
        format!("\"{token}\""),
        format!("{{\"access_token\":\"{token}\",\"n\":1}}"),
        format!("https://mcp.acme.example/callback?token={token}&state=1"),
        format!("s:{token}.{}", "m".repeat(43)),
        token.rsplit('.').next().unwrap().to_owned(),
    ] {
        let edits = edits(&mut engine, &token, &[("x-token", &value), ("referer", "https://mcp.acme.example/")]);
        assert_eq!(removed(&edits), BTreeSet::from(["x-token"]), "{}", value.len());
        assert!(edits.cookie.is_none());
    }
}

#[test]
fn repeated_field_is_removed_once() {
    let token = alice_token();
    let mut engine = warm(&configuration(), &token);
    let edits = edits(
        &mut engine,
        &token,
        &[("x-a", &token), ("x-a", "other"), ("x-onbehalf-user", "me"), ("x-onbehalf-user", "you")],
    );
    assert_eq!(edits.remove.len(), 2);
    assert_eq!(removed(&edits), BTreeSet::from(["x-a", "x-onbehalf-user"]));
}

#[test]
fn credential_fields_of_well_known_proxies_are_always_removed() {
    let token = alice_token();
    let mut engine = warm(&configuration(), &token);
    let names = [
        "proxy-authorization",
        "x-forwarded-access-token",
        "x-forwarded-id-token",
        "x-auth-request-access-token",
        "x-auth-request-id-token",
        "x-amzn-oidc-accesstoken",
        "x-amzn-oidc-data",
        "x-ms-token-aad-refresh-token",
    ];
    let fields: Vec<_> = names.iter().map(|name| (*name, "opaque")).collect();
    assert_eq!(removed(&edits(&mut engine, &token, &fields)), BTreeSet::from(names));
    let open = forwarded(engine.decide(request("GET", "/healthz", &fields)));
    assert_eq!(removed(&open), BTreeSet::from(names), "on an unauthenticated path, too");
}

#[test]
fn cookies_with_tokens_are_removed_and_the_others_kept() {
    let token = alice_token();
    let mut engine = warm(&configuration(), &token);
    let id_token = OKTA_KEY.token(&bob_id());
    let foreign = OTHER_KEY.token(&with(bob_id(), json!({"iss": "https://another.example"})));
    let cookies = format!(
        "a=1; BearerToken=opaque; session={token}; IdToken=x; RefreshToken=opaque; hint={id_token}; theirs={foreign}; b=2"
    );
    let kept = edits(&mut engine, &token, &[("cookie", &cookies)]).cookie.unwrap();
    assert_eq!(String::from_utf8(kept).unwrap(), format!("a=1; theirs={foreign}; b=2"));
    let edits = edits(&mut engine, &token, &[("cookie", "BearerToken=opaque")]);
    assert!(removed(&edits).contains("cookie") && edits.cookie.is_none());
}

#[test]
fn jwt_of_a_configured_provider_is_removed_from_every_field() {
    let token = alice_token();
    let mut engine = warm(&configuration(), &token);
    let another = OKTA_KEY.token(&with(bob(), json!({"sub": "carol@acme.example"})));
    let unsigned = format!("{}.", another.rsplit_once('.').unwrap().0);
    let foreign = OTHER_KEY.token(&with(bob(), json!({"iss": "https://another.example"})));
    for (value, stays) in [(&another, true), (&unsigned, true), (&foreign, false)] {
        let edits = edits(&mut engine, &token, &[("x-assertion", &format!("Bearer {value}"))]);
        assert_eq!(removed(&edits).contains("x-assertion"), stays, "{value}");
    }
    let many = [foreign.as_str(); 9].join(" ");
    assert!(removed(&edits(&mut engine, &token, &[("x-many", &many)])).contains("x-many"), "more than is read");
}

#[test]
fn percent_encoded_token_is_removed_from_fields_and_cookies() {
    let token = alice_token();
    let mut engine = warm(&configuration(), &token);
    let id_token = OKTA_KEY.token(&bob_id());
    let dots = |token: &str| token.replace('.', "%2e");
    let twice = |token: &str| dots(token).replace('%', "%25");
    let every = |token: &str| token.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    for of in [&token, &id_token] {
        for value in [
            format!("Bearer%20{of}"),
            format!("j%3A%7B%22id_token%22%3A%22{of}%22%7D"),
            format!("https%253A%252F%252Facme.example%252F%253Fhint%253D{of}"),
            dots(of),
            twice(of),
            twice(&twice(of)),
            every(of),
        ] {
            let edits = edits(&mut engine, &token, &[("x-copy", &value), ("cookie", &format!("a=1; b={value}"))]);
            assert!(removed(&edits).contains("x-copy"), "{value}");
            assert_eq!(edits.cookie.as_deref(), Some(&b"a=1"[..]), "{value}");
        }
        let path = format!("/github?t={}", dots(&token));
        let step = engine.decide(bearer(&path, &token));
        assert_eq!(refused(step), (400, "multiple_credentials".to_owned()));
    }
}

#[test]
fn value_encoded_too_often_is_removed() {
    let token = alice_token();
    let mut engine = warm(&configuration(), &token);
    let mut value = format!("/a b%zz%4{}", "x".repeat(200));
    for stays in [false, false, false, false, true, true] {
        value = value.replace('%', "%25").replace('/', "%2F");
        assert_eq!(removed(&edits(&mut engine, &token, &[("referer", &value)])).contains("referer"), stays, "{value}");
    }
    let bomb = format!("%{}", "25".repeat(30_000));
    assert!(removed(&edits(&mut engine, &token, &[("x-bomb", &bomb)])).contains("x-bomb"));
}

#[test]
fn field_is_removed_in_every_spelling_that_servers_accept() {
    let token = alice_token();
    let mut configuration = configuration();
    configuration["request_headers_to_remove"] = json!(["x-user"]);
    let mut engine = warm(&configuration, &token);
    let names = [
        "x_onbehalf_user",
        "x-onbehalf_user",
        "x_user",
        "x_original_url",
        "x_forwarded_access_token",
        "x_ms-token_aad",
    ];
    let fields: Vec<_> =
        names.iter().map(|name| (*name, "theirs")).chain([("x_users", "yes"), ("xonbehalf-a", "yes")]).collect();
    assert_eq!(removed(&edits(&mut engine, &token, &fields)), BTreeSet::from(names));
    let trailers: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    assert_eq!(engine.inner.trailers(&Request::new(&trailers)), names);
}

#[test]
fn token_in_path_query_or_host_is_refused_and_not_logged() {
    let token = alice_token();
    let mut engine = warm(&configuration(), &token);
    let authorization = format!("Bearer {token}");
    let older = OKTA_KEY.token(&with(bob(), json!({"sub": "carol@acme.example"})));
    for target in [
        format!("/github?token={token}-1"),
        format!("/github?token={older}"),
        format!("/github/{older}"),
        format!("/healthz?token={older}"),
        format!("/nowhere/{older}"),
    ] {
        for fields in [&[("authorization", authorization.as_str())][..], &[]] {
            if target.contains(&token) && fields.is_empty() {
                continue;
            }
            let step = engine.decide(request("GET", &target, fields));
            assert_eq!(refused(step), (400, "multiple_credentials".to_owned()), "{target}");
        }
    }
    let signature = token.rsplit('.').next().unwrap().to_lowercase();
    let host = format!("{signature}.example");
    let lower = format!("Bearer x.y.{signature}");
    let step = engine.decide(Request::new(&[
        (":method", b"GET"),
        (":authority", host.as_bytes()),
        (":path", b"/"),
        ("authorization", lower.as_bytes()),
    ]));
    let answer = answered(step);
    assert!(!format!("{:?}", answer.record).contains(&signature), "{:?}", answer.record);
    assert_eq!(answer.status, 400);
}

#[test]
fn search_for_tokens_has_one_limit_for_the_whole_request() {
    let token = alice_token();
    let mut engine = warm(&configuration(), &token);
    // The limit covers the first two of four fields with four tokens each, and no provider issued those tokens.
    let foreign = OTHER_KEY.token(&with(bob(), json!({"iss": "https://another.example"})));
    let four = [foreign.as_str(); 4].join(" ");
    let edits = edits(&mut engine, &token, &[("x-a", &four), ("x-b", &four), ("x-c", &four), ("x-d", &four)]);
    assert_eq!(removed(&edits), BTreeSet::from(["x-c", "x-d"]));
}

#[test]
fn copy_of_an_opaque_token_is_removed_on_unauthenticated_paths() {
    let mut engine = TestEngine::ready();
    let token = "Zm9v".repeat(11);
    let (bearer, copy, other) = (format!("Bearer {token}"), format!("token={token}"), "YmFy".repeat(12));
    let fields = [("authorization", &*bearer), ("x-copy", &*copy), ("x-other", &*other)];
    let edits = forwarded(engine.decide(request("GET", "/healthz", &fields)));
    assert_eq!((removed(&edits), edits.authorization.is_none()), (BTreeSet::from(["x-copy"]), true));
}

#[test]
fn token_in_a_forwarding_header_is_refused_and_the_header_kept() {
    let (token, id_token) = (alice_token(), OKTA_KEY.token(&bob_id()));
    let mut engine = warm(&configuration(), &token);
    let authorization = format!("Bearer {token}");
    for name in ["x-forwarded-for", "forwarded", "x-forwarded-client-cert", "via"] {
        for (path, copy) in [("/github", &token), ("/github", &id_token), ("/healthz", &token)] {
            let value = format!("{copy}, 192.0.2.7");
            let step = engine.decide(request("GET", path, &[("authorization", &authorization), (name, &value)]));
            assert_eq!(refused(step), (400, "multiple_credentials".to_owned()), "{name}");
        }
        let edits = edits(&mut engine, &token, &[(name, &"192.0.2.7, ".repeat(40))]);
        assert!(edits.remove.is_empty());
    }
}

#[test]
fn configured_fields_and_cookies_are_removed() {
    let token = alice_token();
    let mut configuration = configuration();
    configuration["request_headers_to_remove"] = json!(["x-session"]);
    configuration["request_cookies_to_remove"] = json!(["sid"]);
    let mut engine = warm(&configuration, &token);
    let edits = edits(&mut engine, &token, &[("x-session", "s"), ("cookie", "a=1; sid=s")]);
    assert_eq!(removed(&edits), BTreeSet::from(["x-session"]));
    assert_eq!(edits.cookie.as_deref(), Some(&b"a=1"[..]));
}

#[test]
fn ordinary_fields_are_forwarded_unchanged() {
    let token = alice_token();
    let mut engine = warm(&configuration(), &token);
    let agent =
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 "
            .repeat(3);
    let encoded = "QUFB".repeat(500);
    let edits = edits(
        &mut engine,
        &token,
        &[
            ("user-agent", &agent),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("x-blob", &encoded),
            ("x-dots", &"a.b.".repeat(200)),
            ("x-eyj", &"eyJ.".repeat(8)),
            ("cookie", &format!("session={encoded}; a=1")),
        ],
    );
    assert_eq!((removed(&edits), edits.cookie.as_deref()), (BTreeSet::new(), None));
}

#[test]
fn callers_token_in_path_query_or_host_is_a_second_credential() {
    let token = alice_token();
    let mut engine = warm(&configuration(), &token);
    let authorization = format!("Bearer {token}");
    for path in [format!("/github?t={token}"), format!("/github/{token}/x"), format!("/healthz?t={token}")] {
        let step = engine.decide(request("GET", &path, &[("authorization", &authorization)]));
        assert_eq!(refused(step), (400, "multiple_credentials".to_owned()), "{path}");
    }
    let fields =
        [(":method", "GET"), (":authority", &*token), (":path", "/healthz"), ("authorization", &*authorization)];
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    assert_eq!(refused(engine.decide(Request::new(&fields))), (400, "multiple_credentials".to_owned()), "as the host");
}

#[test]
fn trailers_bring_no_credential_to_the_upstream() {
    let engine = TestEngine::ready();
    let token = alice_token();
    let fields: Vec<(&str, &[u8])> = vec![
        ("grpc-status", b"0"),
        ("authorization", b"Basic x"),
        ("dpop", b"x"),
        ("cookie", b"a=1"),
        ("x-onbehalf-user", b"me"),
        ("x-onbehalf-user", b"you"),
        ("x-original-url", b"/"),
        ("x-checksum", b"abc"),
        ("x-copy", token.as_bytes()),
    ];
    let names = engine.inner.trailers(&Request::new(&fields));
    assert_eq!(names, ["authorization", "dpop", "cookie", "x-onbehalf-user", "x-original-url", "x-copy"]);
    assert!(engine.inner.trailers(&Request::new(&[])).is_empty());
}
