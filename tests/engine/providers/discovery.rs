//! Metadata of standard servers, and keys in the configuration.

use onbehalf::config::Config;
use onbehalf::http::{CalloutFailure, CalloutResult, Response};
use onbehalf_test_support::{
    OKTA_KEY, SharedMap, TIMED_OUT, TestEngine, answer, answer_with, bearer, bob, environment, issued, key_set, parse,
    refused, with,
};
use serde_json::{Value, json};

use super::{okta, only};

#[test]
fn configured_keys_are_not_fetched_and_have_no_age() {
    let issuer = "https://acme.okta.com/oauth2/default";
    let inline: Value = serde_json::from_slice(&key_set(&[&OKTA_KEY])).unwrap();
    let mut engine =
        TestEngine::new(&okta(issuer, json!({"jwks": inline, "token_endpoint": format!("{issuer}/v1/token")})));
    engine.tick();
    engine.expect_no_call();
    engine.advance(40 * 86_400);
    engine.tick();
    engine.expect_no_call();
    assert!(engine.inner.jwks_ages(engine.now).is_empty());
    let now = engine.now.secs();
    let token = |kid: &str| {
        let claims = with(bob(), json!({"iss": issuer, "iat": now, "exp": now + 60}));
        OKTA_KEY.sign(&json!({"alg": "ES256", "kid": kid}), &claims)
    };
    assert_eq!(refused(engine.decide(bearer("/github", &token("k")))).1, "unknown_key");
    engine.expect_no_call();
    engine.send_waiting(bearer("/github", &token(OKTA_KEY.kid)));
    // Without a configured token endpoint, the metadata is fetched for it, and the keys are not.
    let mut engine = TestEngine::new(&okta(issuer, json!({"jwks": inline})));
    engine.tick();
    let (flight, _) = engine.expect_call();
    let endpoints = json!({"issuer": issuer, "token_endpoint": format!("{issuer}/v1/token")});
    engine.callout_result(flight, &answer_with(200, &[], &endpoints));
    engine.expect_no_call();
    engine.send_waiting(bearer("/github", &OKTA_KEY.token(&with(bob(), json!({"iss": issuer})))));
    let (flight, _) = engine.expect_call();
    assert_eq!(engine.callout_result(flight, &issued("up")).len(), 1);
    // The refusal names a metadata fetch that fails.
    let mut without = TestEngine::new(&okta(issuer, json!({"jwks": inline})));
    let asked = without.send_waiting(bearer("/github", &OKTA_KEY.token(&with(bob(), json!({"iss": issuer})))));
    let (flight, _) = without.expect_call();
    assert!(without.callout_result(flight, &answer(500, b"")).is_empty());
    let (flight, _) = without.expect_call();
    let mut steps = without.callout_result(flight, &answer(500, b""));
    assert_eq!(steps.len(), 1);
    let (waited, step) = steps.remove(0);
    assert_eq!((waited, refused(step)), (asked, (503, "provider_unavailable".to_owned())));
    // Configured keys do not age, however long the metadata fetch fails.
    for _ in 0..10 {
        engine.advance(86_400);
        engine.tick();
        while let Some((flight, call)) = engine.inner.next_callout() {
            assert_eq!(call.method, "GET");
            engine.callout_result(flight, &TIMED_OUT);
        }
    }
    assert!(engine.inner.jwks_ages(engine.now).is_empty());
    let token = with(bob(), json!({"iss": issuer, "exp": engine.now.secs() + 600, "iat": engine.now.secs()}));
    engine.send_waiting(bearer("/github", &OKTA_KEY.token(&token)));
    assert_eq!(engine.expect_call().1.method, "POST");
}

#[test]
fn configured_keys_must_all_be_usable() {
    let issuer = "https://acme.okta.com/oauth2/default";
    let good: Value = serde_json::from_slice(&key_set(&[&OKTA_KEY])).unwrap();
    let mut odd = good.clone();
    odd["keys"].as_array_mut().unwrap().push(json!({"kty": "oct", "k": "AAAA"}));
    for (more, path) in [
        (json!({"jwks": {}}), "jwks"),
        (json!({"jwks": {"keys": []}}), "jwks"),
        (json!({"jwks": odd}), "jwks"),
        (json!({"jwks": good, "jwks_uri": "https://acme.okta.com/k"}), "jwks_uri"),
    ] {
        let error = Config::parse(okta(issuer, more).to_string().as_bytes(), &environment).unwrap_err();
        assert_eq!(error.path, format!("identity_providers.idp.{path}"), "{error}");
    }
}

const ISSUER: &str = "https://as.example/tenant";
const OPENID: &str = "https://as.example/tenant/.well-known/openid-configuration";
const RFC_8414: &str = "https://as.example/.well-known/oauth-authorization-server/tenant";

/// A provider by the standards, with more options.
fn standard(more: Value) -> Value {
    let provider = json!({
        "profile": "rfc8693", "issuer": ISSUER, "cluster": "idp", "audiences": ["api://default"],
        "client": {"id": "c", "authentication": {"method": "client_secret_basic", "secret": {"inline": "s"}}},
    });
    only(with(provider, more), json!({"audience": "a"}))
}

fn metadata() -> Value {
    json!({"issuer": ISSUER, "jwks_uri": "https://as.example/k", "token_endpoint": "https://as.example/t"})
}

/// A token of Bob that the provider has issued.
fn bobs_token() -> String {
    OKTA_KEY.token(&with(bob(), json!({"iss": ISSUER, "cid": null, "uid": null})))
}

/// Cluster and URL of the calls of a start, which `reply` answers by URL, and then those of an exchange.
fn calls_of(configuration: &Value, reply: &dyn Fn(&str) -> CalloutResult) -> Vec<(String, String)> {
    let mut engine = TestEngine::new(configuration);
    engine.send_waiting(bearer("/github", &bobs_token()));
    let mut calls = Vec::new();
    while let Some((flight, call)) = engine.inner.next_callout() {
        calls.push((call.cluster.to_string(), call.url.as_str().to_owned()));
        engine.callout_result(flight, &reply(call.url.as_str()));
    }
    calls
}

fn urls_of(configuration: &Value, reply: &dyn Fn(&str) -> CalloutResult) -> Vec<String> {
    calls_of(configuration, reply).into_iter().map(|(_, url)| url).collect()
}

#[test]
fn cluster_of_two_hosts_causes_a_warning() {
    let warned = |more: Value| {
        let warnings = parse(&standard(more)).warnings.into_iter();
        warnings.filter(|text| text.contains("requests go to the cluster")).collect::<Vec<_>>()
    };
    let (there, elsewhere) = ("https://tokens.example/t", "https://keys.example/k");
    let warning = |name: &str, host: &str, other: &str, own: &str| {
        format!(
            "identity_providers.idp.{name}: its host is {host}, but its requests go to the cluster idp, as those to {other} do; set {own} to a cluster of that host"
        )
    };
    let of_token = |other: &str| warning("token_endpoint", "tokens.example", other, "token_cluster");
    let of_keys = warning("jwks_uri", "keys.example", "as.example", "jwks_cluster");
    for (more, expected) in [
        (json!({"token_endpoint": there}), vec![of_token("as.example")]),
        (json!({"jwks_uri": elsewhere}), vec![of_keys]),
        // Nothing is discovered, so no request goes to the host of the issuer.
        (json!({"token_endpoint": there, "jwks_uri": elsewhere}), vec![of_token("keys.example")]),
        (json!({"token_endpoint": there, "jwks_uri": "https://tokens.example/k"}), vec![]),
        (json!({"token_endpoint": there, "token_cluster": "tokens"}), vec![]),
        (json!({"jwks_uri": elsewhere, "jwks_cluster": "keys"}), vec![]),
        (
            json!({"token_endpoint": there, "token_cluster": "x", "jwks_uri": elsewhere, "jwks_cluster": "x"}),
            vec![of_token("keys.example").replace("cluster idp", "cluster x")],
        ),
        (json!({"token_endpoint": "https://as.example/t", "jwks_uri": "https://as.example:443/k"}), vec![]),
        (
            json!({"issuer": "accounts.example", "token_endpoint": there, "jwks_uri": elsewhere}),
            vec![of_token("keys.example")],
        ),
    ] {
        assert_eq!(warned(more.clone()), expected, "{more}");
    }
}

#[test]
fn answer_that_is_no_metadata_falls_back_to_the_next_document() {
    let status = |status: u16| answer(status, metadata().to_string().as_bytes());
    let html = [("content-type", "text/html")];
    let gzip = [("content-encoding", "gzip")];
    let other = |changes: Value| answer_with(200, &[], &with(metadata(), changes));
    let replies = [201, 204, 301, 302, 400, 401, 403, 404, 405, 406, 410, 429, 500, 501, 502, 503].map(status);
    let further = [
        answer_with(200, &html, &json!("<!doctype html>")),
        answer(200, b"<!doctype html><title>Sign in</title>"),
        answer_with(200, &gzip, &json!(null)),
        answer(200, b""),
        answer(200, b"\x1f\x8b\x08"),
        answer(200, b"[]"),
        answer(200, b"{}"),
        CalloutResult::Failed(CalloutFailure::TooLarge),
        other(json!({"issuer": "https://as.example"})),
        other(json!({"issuer": null})),
        other(json!({"jwks_uri": null})),
        other(json!({"token_endpoint": "/t"})),
    ];
    for (index, reply) in replies.iter().chain(&further).enumerate() {
        let urls = urls_of(&standard(json!({})), &|url| match url {
            OPENID => copied(reply),
            RFC_8414 => answer_with(200, &[], &metadata()),
            "https://as.example/k" => answer(200, &key_set(&[&OKTA_KEY])),
            _ => issued("up"),
        });
        assert_eq!(urls, [OPENID, RFC_8414, "https://as.example/k", "https://as.example/t"], "{index}");
        // The second document is read like the first one.
        let urls = urls_of(&standard(json!({})), &|url| match url {
            OPENID => answer(404, b""),
            _ => copied(reply),
        });
        assert_eq!(urls, [OPENID, RFC_8414], "{index}");
    }
}

/// URLs of the calls if the first document has this text.
fn urls_with(configuration: &Value, document: &[u8]) -> Vec<String> {
    urls_of(configuration, &|url| match url {
        OPENID => answer(200, document),
        RFC_8414 => answer(404, b""),
        "https://as.example/k" => answer(200, &key_set(&[&OKTA_KEY])),
        _ => issued("up"),
    })
}

#[test]
fn unknown_member_cannot_break_a_metadata_document() {
    let deep = format!("\"x\":{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let good =
        format!(r#""issuer":"{ISSUER}","jwks_uri":"https://as.example/k","token_endpoint":"https://as.example/t""#);
    let odd: [&[u8]; 11] = [
        br#""x":1e400"#,
        br#""x":"\ud800""#,
        br#""\ud800":1"#,
        br#""x":1,"x":2"#,
        br#""x":{"issuer":1,"issuer":2}"#,
        br#""mtls_endpoint_aliases":{"token_endpoint":1,"token_endpoint":2}"#,
        br#""mtls_endpoint_aliases":1,"mtls_endpoint_aliases":2"#,
        b"\"x\":\"M\xfcller\"",
        b"\"\xff\":1",
        b"\"x\":[\"\xed\xa0\x80\"]",
        deep.as_bytes(),
    ];
    for member in odd {
        let after = [b"{", good.as_bytes(), b",", member, b"}"].concat();
        let before = [b"\xef\xbb\xbf{", member, b",", good.as_bytes(), b"}"].concat();
        for document in [after, before] {
            let urls = urls_with(&standard(json!({})), &document);
            let expected = [OPENID, "https://as.example/k", "https://as.example/t"];
            assert_eq!(urls, expected, "{:.60}", String::from_utf8_lossy(&document));
        }
    }
}

#[test]
fn used_member_of_a_metadata_document_must_not_stand_twice() {
    let document = |twice: &str| format!("{{{twice},{}", metadata().to_string().trim_start_matches('{'));
    let refused = [OPENID, RFC_8414];
    for (twice, again) in [
        (r#""issuer":"https://evil.example""#, json!({})),
        (r#""jwks_uri":"https://as.example/k""#, json!({})),
        (r#""jwks_\u0075ri":"https://as.example/other""#, json!({})),
        (r#""token_endpoint":"https://as.example/other""#, json!({})),
        (r#""token_endpoint":null"#, json!({})),
        (r#""jwks_uri":1e400"#, json!({"token_endpoint": "https://as.example/t"})),
    ] {
        assert_eq!(urls_with(&standard(again), document(twice).as_bytes()), refused, "{twice}");
    }
    let broken = format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"https://as.example/k","token_endpoint":"\ud800"}}"#);
    assert_eq!(urls_with(&standard(json!({})), broken.as_bytes()), refused);
    // A configured endpoint is not read from the document.
    for (twice, configured, read) in [
        (r#""token_endpoint":1e400"#, json!({"token_endpoint": "https://as.example/t"}), "https://as.example/k"),
        (r#""jwks_uri":"\ud800""#, json!({"jwks_uri": "https://as.example/k"}), "https://as.example/t"),
    ] {
        let urls = urls_with(&standard(configured), document(twice).as_bytes());
        assert!(urls.starts_with(&[OPENID.to_owned()]) && urls.contains(&read.to_owned()), "{twice}: {urls:?}");
    }
}

fn copied(reply: &CalloutResult) -> CalloutResult {
    match reply {
        CalloutResult::Failed(failure) => CalloutResult::Failed(*failure),
        CalloutResult::ByEnvoy(failure, words) => CalloutResult::ByEnvoy(*failure, words.clone()),
        CalloutResult::Response(Response { status, headers, body }) => {
            CalloutResult::Response(Response { status: *status, headers: headers.clone(), body: body.clone() })
        }
    }
}

#[test]
fn server_that_does_not_answer_is_asked_for_one_document() {
    for failure in [CalloutFailure::TimedOut, CalloutFailure::NoConnection, CalloutFailure::NotSent] {
        let urls = urls_of(&standard(json!({})), &|_| CalloutResult::Failed(failure));
        assert_eq!(urls, [OPENID], "{failure:?}");
    }
}

#[test]
fn query_of_an_endpoint_is_kept_and_sent() {
    let (keys, token) = ("https://as.example/k?appid=1", "https://as.example/t?realm=/alpha");
    let endpoints = json!({"jwks_uri": keys, "token_endpoint": token});
    let reply = |url: &str| match url {
        OPENID => answer_with(200, &[], &with(metadata(), endpoints.clone())),
        _ if url == keys => answer(200, &key_set(&[&OKTA_KEY])),
        _ => issued("up"),
    };
    assert_eq!(urls_of(&standard(json!({})), &reply), [OPENID, keys, token]);
    assert_eq!(urls_of(&standard(endpoints.clone()), &reply), [keys, token]);
    // Workers that take the document over have the whole URLs, too.
    let shared = SharedMap::default();
    let [mut first, mut second]: [TestEngine; 2] =
        std::array::from_fn(|_| TestEngine::sharing(&standard(json!({})), &shared));
    first.tick();
    first.serve_calls(|call| reply(call.url.as_str()));
    second.send_waiting(bearer("/github", &bobs_token()));
    let (_, call) = second.expect_call();
    assert_eq!((call.url.as_str(), call.url.request_target()), (token, "/t?realm=/alpha"));
    assert!(!format!("{call:?}").contains("realm"), "a query may have a key of the operator's");
}

#[test]
fn every_callout_names_the_types_and_codings_that_it_reads() {
    let mut engine = TestEngine::new(&standard(json!({})));
    engine.send_waiting(bearer("/github", &bobs_token()));
    let mut accepted = Vec::new();
    while let Some((flight, call)) = engine.inner.next_callout() {
        let fields = call.header_map();
        let field = |name: &str| {
            let values: Vec<_> = fields.iter().filter(|(field, _)| *field == name).collect();
            assert_eq!(values.len(), 1, "{name} {call:?}");
            values[0].1.to_owned()
        };
        assert_eq!(field("accept-encoding"), "identity");
        accepted.push((field(":method"), field(":path"), field("accept")));
        let reply = match call.url.as_str() {
            OPENID => answer_with(200, &[], &metadata()),
            "https://as.example/k" => answer(200, &key_set(&[&OKTA_KEY])),
            _ => issued("up"),
        };
        engine.callout_result(flight, &reply);
    }
    let expected = [
        ("GET", "/tenant/.well-known/openid-configuration", "application/json"),
        ("GET", "/k", "application/jwk-set+json, application/json"),
        ("POST", "/t", "application/json"),
    ];
    assert_eq!(accepted, expected.map(|(method, path, accept)| (method.into(), path.into(), accept.into())));
}

#[test]
fn endpoint_on_another_host_needs_a_cluster_of_its_own() {
    let elsewhere =
        json!({"issuer": ISSUER, "jwks_uri": "https://keys.example/k", "token_endpoint": "https://tokens.example/t"});
    let reply = |url: &str| match url {
        OPENID => answer_with(200, &[], &elsewhere),
        "https://keys.example/k" => answer(200, &key_set(&[&OKTA_KEY])),
        "https://tokens.example/t" => issued("up"),
        _ => answer(404, b""),
    };
    let clusters = |more: Value| {
        let calls = calls_of(&standard(more), &reply);
        calls.into_iter().map(|(cluster, _)| cluster).collect::<Vec<_>>()
    };
    assert_eq!(clusters(json!({"jwks_cluster": "keys", "token_cluster": "tokens"})), ["idp", "keys", "tokens"]);
    // The metadata is the issuer's, and so no other document is tried.
    for not_enough in [
        json!({}),
        json!({"jwks_cluster": "keys"}),
        json!({"token_cluster": "tokens"}),
        json!({"jwks_cluster": "idp", "token_cluster": "tokens"}),
        json!({"jwks_cluster": "keys", "token_cluster": "idp"}),
        json!({"jwks_cluster": "keys", "token_endpoint": "https://tokens.example/t", "token_cluster": "idp", "jwks_uri": null, "cluster": "keys"}),
    ] {
        assert_eq!(clusters(not_enough.clone()).len(), 1, "{not_enough}");
    }
    // A URL by hand is called through the cluster by hand.
    let by_hand = json!({"jwks_uri": "https://keys.example/k", "token_endpoint": "https://tokens.example/t"});
    assert_eq!(clusters(by_hand.clone()), ["idp", "idp"]);
    assert_eq!(clusters(with(by_hand, json!({"jwks_cluster": "keys", "token_cluster": "tokens"}))), ["keys", "tokens"]);
    // Clusters alone choose no other URL.
    for other in [json!("http://keys.example/k"), json!("https://keys.example/k#f"), json!("//keys.example/k")] {
        let calls = calls_of(&standard(json!({"jwks_cluster": "keys", "token_cluster": "tokens"})), &|url| match url {
            OPENID => answer_with(200, &[], &with(elsewhere.clone(), json!({"jwks_uri": other}))),
            _ => answer(404, b""),
        });
        assert_eq!(calls, [("idp".to_owned(), OPENID.to_owned()), ("idp".to_owned(), RFC_8414.to_owned())], "{other}");
    }
}

#[test]
fn workers_with_other_clusters_share_no_endpoints() {
    let shared = SharedMap::default();
    let fetches = |more: Value| {
        let mut engine = TestEngine::sharing(&standard(more), &shared);
        engine.tick();
        let urls = engine.serve_calls(|call| match call.url.as_str() {
            OPENID => answer_with(200, &[], &metadata()),
            _ => answer(200, &key_set(&[&OKTA_KEY])),
        });
        urls.len()
    };
    assert_eq!(fetches(json!({})), 2);
    assert_eq!(fetches(json!({})), 0);
    assert_eq!(fetches(json!({"jwks_cluster": "keys"})), 2);
    assert_eq!(fetches(json!({"token_cluster": "tokens"})), 2);
}

#[test]
fn worker_without_a_client_leaves_no_record_for_one_with_a_client() {
    let shared = SharedMap::default();
    let fetches = |mut configuration: Value| {
        configuration["shared_data_secret"] = json!({"inline": "a secret of at least 32 characters"});
        let mut engine = TestEngine::sharing(&configuration, &shared);
        engine.tick();
        let urls = engine.serve_calls(|call| match call.url.as_str() {
            OPENID => answer_with(200, &[], &metadata()),
            _ => answer(200, &key_set(&[&OKTA_KEY])),
        });
        urls.len()
    };
    let provider =
        json!({"profile": "validate_only", "issuer": ISSUER, "cluster": "idp", "audiences": ["api://default"]});
    assert_eq!(fetches(only(provider, json!({"forward": false}))), 2);
    // Such a client adds no secret to the key of shared data.
    let client = json!({"client": {"id": "c", "authentication": {"method": "none"}}});
    assert_eq!(fetches(standard(client)), 2);
}
