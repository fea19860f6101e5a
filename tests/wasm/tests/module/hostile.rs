//! Requests that try to trap the VM or to have two meanings. A trap fails the test by itself.

use onbehalf_test_support::base64url;
use onbehalf_wasm_tests::{Host, Outcome};
use serde_json::json;

use crate::support::provider::{entra, okta};
use crate::support::{ready, send, settle, token, verdict};

/// Sends raw octets, settles, and checks that the next valid request works.
fn sent(host: &mut Host, headers: &[(&[u8], &[u8])]) -> Outcome {
    let request = host.request(headers);
    settle(host, &mut [&mut entra(), &mut okta()]);
    let outcome = host.outcome(request);
    assert_ne!(outcome, Outcome::Waiting);
    outcome
}

fn at<'a>(path: &'a [u8], authority: &'a [u8]) -> Vec<(&'static [u8], &'a [u8])> {
    vec![(b":method", b"POST"), (b":scheme", b"https"), (b":authority", authority), (b":path", path)]
}

const HOST: &[u8] = b"mcp.acme.example";

#[test]
fn bytes_that_are_not_utf8_are_refused_in_every_header() {
    let mut host = ready();
    let good = format!("Bearer {}", token::entra("alice", host.world().now()).sign()).into_bytes();
    let odd: [&[u8]; 7] =
        [b"\xff\xfe", b"\x80", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"", b"\0\x01\x7f"];
    for bytes in odd {
        let bearer = [b"Bearer ", bytes].concat();
        let within = [&good[..], bytes].concat();
        let path = [b"/github", bytes].concat();
        let query = [b"/github?", bytes].concat();
        for name in
            [":method", ":scheme", ":authority", ":path", "authorization", "cookie", "x-onbehalf-x", "x-any", "dpop"]
        {
            for value in [bytes, &bearer, &within, &path, &query] {
                let mut headers = at(b"/github", HOST);
                headers.push((b"authorization", &good));
                headers.retain(|(key, _)| *key != name.as_bytes());
                headers.push((name.as_bytes(), value));
                sent(&mut host, &headers);
            }
        }
        let mut headers = at(b"/github", HOST);
        headers.push((b"authorization", &bearer));
        if !bytes.is_empty() {
            assert_eq!(verdict(&sent(&mut host, &headers)), "malformed_credentials", "{bytes:?}");
        }
    }
    let token = token::entra("alice", host.world().now()).sign();
    assert_eq!(verdict(&send(&mut host, &token)), "forwarded");
}

#[test]
fn request_without_the_usual_headers_is_refused_without_a_trap() {
    let mut host = ready();
    assert_eq!(verdict(&sent(&mut host, &[])), "ambiguous_path");
    for missing in [":method", ":authority", ":path"] {
        let mut headers = at(b"/github", HOST);
        headers.retain(|(name, _)| *name != missing.as_bytes());
        assert!(matches!(sent(&mut host, &headers), Outcome::Answered(_)), "{missing}");
    }
}

#[test]
fn hostile_paths_reach_no_resource() {
    let mut host = ready();
    let authorization = format!("Bearer {}", token::entra("alice", host.world().now()).sign()).into_bytes();
    let paths: [&[u8]; 30] = [
        b"//github",
        b"/github/../admin",
        b"/github/..",
        b"/github/./x",
        b"/github//x",
        b"/github/%2e%2e/admin",
        b"/%2e/github",
        b"/github%2f..%2fadmin",
        b"/github%2F",
        b"/github/..;/admin",
        b"/github/;/x",
        b"/github/..;x=y/admin",
        b"/github%5c..",
        b"/github\\..\\admin",
        b"/github%00",
        b"/github%0d%0aX: y",
        b"/github%",
        b"/github%2",
        b"/github%zz",
        b"/%67ithub/%2e%2e",
        b"github",
        b"*",
        b"",
        b"http://mcp.acme.example/github",
        b"/github\xff",
        b"/github /x",
        b"/github\tx",
        b"/.%2e/github",
        b"/github/%2e%2e%2f",
        b"/github/%252e%252e/../x",
    ];
    for path in paths {
        let mut headers = at(path, HOST);
        headers.push((b"authorization", &authorization));
        let found = verdict(&sent(&mut host, &headers));
        assert!(
            found == "ambiguous_path" || found == "unknown_resource",
            "{:?}: {found}",
            String::from_utf8_lossy(path)
        );
    }
    for path in [&b"/githubx"[..], b"/git", b"/GITHUB", b"/", b"/github%20"] {
        let mut headers = at(path, HOST);
        headers.push((b"authorization", &authorization));
        assert_eq!(verdict(&sent(&mut host, &headers)), "unknown_resource", "{:?}", String::from_utf8_lossy(path));
    }
    for host_name in
        [&b"other.example"[..], b"mcp.acme.example.evil.example", b"", b"mcp.acme.example@evil", b"mcp.acme.example:80"]
    {
        let mut headers = at(b"/github", host_name);
        headers.push((b"authorization", &authorization));
        let found = verdict(&sent(&mut host, &headers));
        assert_eq!(found, "unknown_resource", "{:?}", String::from_utf8_lossy(host_name));
    }
}

#[test]
fn unauthenticated_path_matches_only_its_exact_spelling() {
    let mut host = ready();
    for path in
        [&b"/healthz/../github"[..], b"/healthz/x", b"/healthz;x", b"/healthz%2f..%2fgithub", b"//healthz", b"/Healthz"]
    {
        let outcome = sent(&mut host, &at(path, HOST));
        assert!(!matches!(outcome, Outcome::Forwarded(_)), "{:?}", String::from_utf8_lossy(path));
    }
}

#[test]
fn values_of_a_megabyte_are_refused_or_ignored() {
    let mut host = ready();
    let good = format!("Bearer {}", token::entra("alice", host.world().now()).sign()).into_bytes();
    let huge = vec![b'a'; 1 << 20];
    let bearer = [b"Bearer ", &huge[..]].concat();
    let dotted = [b"Bearer ", "a.".repeat(1 << 19).as_bytes()].concat();
    for value in [&huge, &bearer, &dotted] {
        let mut headers = at(b"/github", HOST);
        headers.push((b"authorization", value));
        assert!(matches!(sent(&mut host, &headers), Outcome::Answered(_)));
    }
    let mut headers = at(b"/github", HOST);
    headers.push((b"authorization", &bearer));
    assert_eq!(verdict(&sent(&mut host, &headers)), "token_too_large");

    let path = [b"/github/", &huge[..]].concat();
    let query = [b"/github?access_token=", &huge[..]].concat();
    let escapes = [b"/github?", "%41".repeat(1 << 18).as_bytes()].concat();
    let slashes = [b"/github", "/a".repeat(1 << 19).as_bytes()].concat();
    for target in [&path, &query, &escapes, &slashes] {
        let mut headers = at(target, HOST);
        headers.push((b"authorization", &good));
        sent(&mut host, &headers);
    }
    for name in ["cookie", "x-onbehalf-x", "x-any", "user-agent"] {
        let mut headers = at(b"/github", HOST);
        headers.push((b"authorization", &good));
        headers.push((name.as_bytes(), &huge));
        assert_eq!(verdict(&sent(&mut host, &headers)), "forwarded", "{name}");
    }
}

#[test]
fn thousands_of_headers_cause_no_trap() {
    let mut host = ready();
    let good = format!("Bearer {}", token::entra("alice", host.world().now()).sign()).into_bytes();
    for name in [&b"x-any"[..], b"x-onbehalf-a", b"cookie"] {
        let mut headers = at(b"/github", HOST);
        headers.push((b"authorization", &good));
        headers.extend((0..5000).map(|_| (name, &b"a=b"[..])));
        assert_eq!(verdict(&sent(&mut host, &headers)), "forwarded");
    }
}

#[test]
fn two_tokens_are_refused() {
    let mut host = ready();
    let now = host.world().now();
    let (alice, ben) = (token::entra("alice", now).sign(), token::entra("ben", now).sign());
    let (first, second) = (format!("Bearer {alice}"), format!("Bearer {ben}"));
    let joined = format!("{first},{second}");
    let spaced = format!("{first}, {second}");
    let query = format!("/github?access_token={alice}");
    let escaped = format!("/github?a=b&%61ccess_token={alice}");
    let several: [Vec<(&[u8], &[u8])>; 5] = [
        vec![(b"authorization", first.as_bytes()), (b"authorization", second.as_bytes())],
        vec![(b"authorization", first.as_bytes()), (b"authorization", first.as_bytes())],
        vec![(b"authorization", first.as_bytes()), (b"authorization", b"Basic eDp5")],
        vec![(b"authorization", joined.as_bytes())],
        vec![(b"authorization", spaced.as_bytes())],
    ];
    for more in several {
        let headers = [at(b"/github", HOST), more].concat();
        let found = verdict(&sent(&mut host, &headers));
        assert_eq!(found, "multiple_credentials", "{headers:?}");
    }
    for path in [&query, &escaped] {
        assert_eq!(verdict(&sent(&mut host, &at(path.as_bytes(), HOST))), "multiple_credentials");
        let mut headers = at(path.as_bytes(), HOST);
        headers.push((b"authorization", first.as_bytes()));
        assert_eq!(verdict(&sent(&mut host, &headers)), "multiple_credentials");
    }
}

#[test]
fn claims_of_wrong_shapes_are_refused_without_a_trap() {
    let mut host = ready();
    let now = host.world().now();
    let odd = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1e300),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(""),
        json!("\u{0}"),
        json!([]),
        json!({}),
        json!([[]]),
        json!([null]),
        json!([1]),
        json!("a".repeat(9000)),
        json!({"a": {"b": [1, 2]}}),
    ];
    for name in [
        "iss", "aud", "exp", "nbf", "iat", "sub", "oid", "tid", "scp", "azp", "idtyp", "xms_cc", "ver", "jti", "uid",
        "cid",
    ] {
        for value in &odd {
            for token in [token::entra("alice", now), token::okta("bob", now)] {
                let outcome = send(&mut host, &token.clone().claim(name, value.clone()).sign());
                assert_ne!(outcome, Outcome::Waiting, "{name}: {value}");
                let decisive = matches!(name, "iss" | "aud" | "exp") || (name == "scp" && !value.is_string());
                if decisive && value != &json!(u64::MAX) {
                    assert_ne!(verdict(&outcome), "forwarded", "{name}: {value}");
                }
            }
        }
        for token in [token::entra("alice", now), token::okta("bob", now)] {
            assert_ne!(send(&mut host, &token.without(name).sign()), Outcome::Waiting);
        }
    }
}

#[test]
fn json_that_is_deep_or_repeats_a_name_is_refused() {
    let mut host = ready();
    let now = host.world().now();
    let token = token::entra("alice", now);
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let header = token.header.to_string();
    let claims = token.claims.to_string();
    let twice = claims.replacen('{', r#"{"oid":"admin","#, 1);
    let escaped = claims.replacen('{', r#"{"\u006fid":"admin","#, 1);
    let deep = claims.replacen('{', &format!(r#"{{"x":{},"#, nested(5000)), 1);
    let twice_header = header.replacen('{', r#"{"alg":"none","#, 1);
    let deep_header = header.replacen('{', &format!(r#"{{"x":{},"#, nested(5000)), 1);
    for (header, claims) in
        [(&header, &twice), (&header, &escaped), (&header, &deep), (&twice_header, &claims), (&deep_header, &claims)]
    {
        let input = format!("{}.{}", base64url(header), base64url(claims));
        let signature = crate::support::keys::sign(token.algorithm, input.as_bytes());
        let outcome = send(&mut host, &format!("{input}.{}", base64url(signature)));
        assert_eq!(verdict(&outcome), "malformed_token", "{:.80} {:.80}", header, claims);
    }
}

#[test]
fn clock_that_jumps_causes_no_trap() {
    let mut host = ready();
    let token = token::entra("alice", host.world().now()).sign();
    let unseen = token::entra("ben", host.world().now()).sign();
    assert_eq!(verdict(&send(&mut host, &token)), "forwarded");
    host.world().rewind(86_400);
    host.tick();
    settle(&mut host, &mut [&mut entra(), &mut okta()]);
    assert_eq!(verdict(&send(&mut host, &unseen)), "not_yet_valid");
    host.advance(86_400);
    settle(&mut host, &mut [&mut entra(), &mut okta()]);
    assert_eq!(verdict(&send(&mut host, &token)), "forwarded");
    host.advance(10 * 365 * 86_400);
    settle(&mut host, &mut [&mut entra(), &mut okta()]);
    assert_eq!(verdict(&send(&mut host, &token)), "expired");
}
