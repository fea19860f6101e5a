//! Tokens of the caller's outside of `authorization`: none of them goes on.

use std::collections::BTreeSet;

use onbehalf::engine::HeaderMutations;
use onbehalf::http::Request;
use serde_json::json;

use crate::support::*;

/// The edits of a request with these fields beside its token, once the exchanged token is in the cache.
fn edits(bench: &mut Bench, token: &str, more: &[(&str, &str)]) -> HeaderMutations {
    let authorization = format!("Bearer {token}");
    let fields = [&[("authorization", authorization.as_str())], more].concat();
    forwarded(bench.ask(request("POST", "/github", &fields)))
}

/// A worker that has exchanged a token.
fn warm(configuration: &serde_json::Value, token: &str) -> Bench {
    let mut bench = Bench::new(configuration).with_keys();
    authorization(bench.exchange(bearer("/github", token), &issued("up")));
    bench
}

fn removed(edits: &HeaderMutations) -> BTreeSet<&str> {
    edits.remove.iter().map(String::as_str).collect()
}

#[test]
fn the_callers_token_goes_on_in_no_other_field() {
    let token = alice_token();
    let mut bench = warm(&configuration(), &token);
    for value in [
        token.clone(),
        format!("Bearer {token}"),
        format!("\"{token}\""),
        format!("{{\"access_token\":\"{token}\",\"n\":1}}"),
        format!("https://mcp.acme.example/callback?token={token}&state=1"),
        format!("s:{token}.{}", "m".repeat(43)),
        token.rsplit('.').next().unwrap().to_owned(),
    ] {
        let edits = edits(&mut bench, &token, &[("x-token", &value), ("referer", "https://mcp.acme.example/")]);
        assert_eq!(removed(&edits), BTreeSet::from(["x-token"]), "{}", value.len());
        assert!(edits.cookie.is_none());
    }
}

#[test]
fn a_field_goes_once_however_often_it_stands() {
    let token = alice_token();
    let mut bench = warm(&configuration(), &token);
    let edits = edits(
        &mut bench,
        &token,
        &[("x-a", &token), ("x-a", "other"), ("x-onbehalf-user", "me"), ("x-onbehalf-user", "you")],
    );
    assert_eq!(edits.remove.len(), 2);
    assert_eq!(removed(&edits), BTreeSet::from(["x-a", "x-onbehalf-user"]));
}

#[test]
fn the_fields_of_well_known_proxies_stay_here_whatever_is_in_them() {
    let token = alice_token();
    let mut bench = warm(&configuration(), &token);
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
    assert_eq!(removed(&edits(&mut bench, &token, &fields)), BTreeSet::from(names));
    let open = forwarded(bench.ask(request("GET", "/healthz", &fields)));
    assert_eq!(removed(&open), BTreeSet::from(names), "on an open path, too");
}

#[test]
fn cookies_with_tokens_stay_here_and_the_others_go_on() {
    let token = alice_token();
    let mut bench = warm(&configuration(), &token);
    let id_token = OKTA_KEY.token(&bob_id());
    let foreign = OTHER_KEY.token(&with(bob_id(), json!({"iss": "https://another.example"})));
    let cookies = format!(
        "a=1; BearerToken=opaque; session={token}; IdToken=x; RefreshToken=opaque; hint={id_token}; theirs={foreign}; b=2"
    );
    let kept = edits(&mut bench, &token, &[("cookie", &cookies)]).cookie.unwrap();
    assert_eq!(String::from_utf8(kept).unwrap(), format!("a=1; theirs={foreign}; b=2"));
    let edits = edits(&mut bench, &token, &[("cookie", "BearerToken=opaque")]);
    assert!(removed(&edits).contains("cookie") && edits.cookie.is_none());
}

#[test]
fn a_jwt_of_a_configured_provider_goes_on_in_no_field() {
    let token = alice_token();
    let mut bench = warm(&configuration(), &token);
    let another = OKTA_KEY.token(&with(bob(), json!({"sub": "carol@acme.example"})));
    let unsigned = format!("{}.", another.rsplit_once('.').unwrap().0);
    let foreign = OTHER_KEY.token(&with(bob(), json!({"iss": "https://another.example"})));
    for (value, stays) in [(&another, true), (&unsigned, true), (&foreign, false)] {
        let edits = edits(&mut bench, &token, &[("x-assertion", &format!("Bearer {value}"))]);
        assert_eq!(removed(&edits).contains("x-assertion"), stays, "{value}");
    }
    let many = [foreign.as_str(); 9].join(" ");
    assert!(removed(&edits(&mut bench, &token, &[("x-many", &many)])).contains("x-many"), "more than is read");
}

#[test]
fn a_token_that_is_percent_encoded_goes_on_in_no_field_or_cookie() {
    let token = alice_token();
    let mut bench = warm(&configuration(), &token);
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
            let edits = edits(&mut bench, &token, &[("x-copy", &value), ("cookie", &format!("a=1; b={value}"))]);
            assert!(removed(&edits).contains("x-copy"), "{value}");
            assert_eq!(edits.cookie.as_deref(), Some(&b"a=1"[..]), "{value}");
        }
        let path = format!("/github?t={}", dots(&token));
        let step = bench.ask(bearer(&path, &token));
        assert_eq!(refused(step), (400, "multiple_credentials".to_owned()));
    }
}

#[test]
fn a_value_that_is_encoded_too_often_goes_on_nowhere() {
    let token = alice_token();
    let mut bench = warm(&configuration(), &token);
    let mut value = format!("/a b%zz%4{}", "x".repeat(200));
    for stays in [false, false, false, false, true, true] {
        value = value.replace('%', "%25").replace('/', "%2F");
        assert_eq!(removed(&edits(&mut bench, &token, &[("referer", &value)])).contains("referer"), stays, "{value}");
    }
    let bomb = format!("%{}", "25".repeat(30_000));
    assert!(removed(&edits(&mut bench, &token, &[("x-bomb", &bomb)])).contains("x-bomb"));
}

#[test]
fn a_field_stays_here_in_a_spelling_that_some_servers_take_for_it() {
    let token = alice_token();
    let mut configuration = configuration();
    configuration["request_headers_to_remove"] = json!(["x-user"]);
    let mut bench = warm(&configuration, &token);
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
    assert_eq!(removed(&edits(&mut bench, &token, &fields)), BTreeSet::from(names));
    let trailers: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    assert_eq!(bench.engine.trailers(&Request::new(&trailers)), names);
}

#[test]
fn a_token_in_path_query_or_host_is_refused_before_anything_is_logged() {
    let token = alice_token();
    let mut bench = warm(&configuration(), &token);
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
            let step = bench.ask(request("GET", &target, fields));
            assert_eq!(refused(step), (400, "multiple_credentials".to_owned()), "{target}");
        }
    }
    let signature = token.rsplit('.').next().unwrap().to_lowercase();
    let host = format!("{signature}.example");
    let lower = format!("Bearer x.y.{signature}");
    let step = bench.ask(Request::new(&[
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
fn the_search_for_tokens_ends_for_the_whole_request() {
    let token = alice_token();
    let mut bench = warm(&configuration(), &token);
    // Of four fields with four each, the first two are read and found to be nobody's.
    let foreign = OTHER_KEY.token(&with(bob(), json!({"iss": "https://another.example"})));
    let four = [foreign.as_str(); 4].join(" ");
    let edits = edits(&mut bench, &token, &[("x-a", &four), ("x-b", &four), ("x-c", &four), ("x-d", &four)]);
    assert_eq!(removed(&edits), BTreeSet::from(["x-c", "x-d"]));
}

#[test]
fn a_copy_of_an_opaque_token_stays_here_on_open_paths() {
    let mut bench = Bench::ready();
    let token = "Zm9v".repeat(11);
    let (bearer, copy, other) = (format!("Bearer {token}"), format!("token={token}"), "YmFy".repeat(12));
    let fields = [("authorization", &*bearer), ("x-copy", &*copy), ("x-other", &*other)];
    let edits = forwarded(bench.ask(request("GET", "/healthz", &fields)));
    assert_eq!((removed(&edits), edits.authorization.is_none()), (BTreeSet::from(["x-copy"]), true));
}

#[test]
fn a_token_takes_nothing_away_that_proxies_say_of_the_client() {
    let (token, id_token) = (alice_token(), OKTA_KEY.token(&bob_id()));
    let mut bench = warm(&configuration(), &token);
    let authorization = format!("Bearer {token}");
    for name in ["x-forwarded-for", "forwarded", "x-forwarded-client-cert", "via"] {
        for (path, copy) in [("/github", &token), ("/github", &id_token), ("/healthz", &token)] {
            let value = format!("{copy}, 192.0.2.7");
            let step = bench.ask(request("GET", path, &[("authorization", &authorization), (name, &value)]));
            assert_eq!(refused(step), (400, "multiple_credentials".to_owned()), "{name}");
        }
        let edits = edits(&mut bench, &token, &[(name, &"192.0.2.7, ".repeat(40))]);
        assert!(edits.remove.is_empty());
    }
}

#[test]
fn the_operator_keeps_other_fields_and_cookies_from_upstreams() {
    let token = alice_token();
    let mut configuration = configuration();
    configuration["request_headers_to_remove"] = json!(["x-session"]);
    configuration["request_cookies_to_remove"] = json!(["sid"]);
    let mut bench = warm(&configuration, &token);
    let edits = edits(&mut bench, &token, &[("x-session", "s"), ("cookie", "a=1; sid=s")]);
    assert_eq!(removed(&edits), BTreeSet::from(["x-session"]));
    assert_eq!(edits.cookie.as_deref(), Some(&b"a=1"[..]));
}

#[test]
fn ordinary_fields_go_on_as_they_are() {
    let token = alice_token();
    let mut bench = warm(&configuration(), &token);
    let agent =
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 "
            .repeat(3);
    let encoded = "QUFB".repeat(500);
    let edits = edits(
        &mut bench,
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
fn the_callers_token_in_path_query_or_host_is_a_second_credential() {
    let token = alice_token();
    let mut bench = warm(&configuration(), &token);
    let authorization = format!("Bearer {token}");
    for path in [format!("/github?t={token}"), format!("/github/{token}/x"), format!("/healthz?t={token}")] {
        let step = bench.ask(request("GET", &path, &[("authorization", &authorization)]));
        assert_eq!(refused(step), (400, "multiple_credentials".to_owned()), "{path}");
    }
    let fields =
        [(":method", "GET"), (":authority", &*token), (":path", "/healthz"), ("authorization", &*authorization)];
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    assert_eq!(refused(bench.ask(Request::new(&fields))), (400, "multiple_credentials".to_owned()), "as the host");
}

#[test]
fn trailers_bring_no_credential_to_the_upstream() {
    let bench = Bench::ready();
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
    let names = bench.engine.trailers(&Request::new(&fields));
    assert_eq!(names, ["authorization", "dpop", "cookie", "x-onbehalf-user", "x-original-url", "x-copy"]);
    assert!(bench.engine.trailers(&Request::new(&[])).is_empty());
}
