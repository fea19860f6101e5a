//! One request, field by field, through an engine that has the providers' keys.

use onbehalf::engine::HeaderMutations;
use onbehalf::engine::{Decision, RequestId};
use onbehalf::http::Request;
use onbehalf::path;
use onbehalf_test_support::world::{CERTIFICATE, Caller, IdToken, Scene, Settings, exchange_of};
use onbehalf_test_support::{NOW, SharedMap, issued};

use crate::{callers, check_answer, watch_the_log};

/// A request from text. The first line has the place of the ID token (`n`, `h` or `c`) and `+` if the client has a
/// certificate; each further line is `name:value`. `{0}` stands for the access token of caller 0, `{i0}` for its ID token,
/// `{p0}` for its first proof.
fn read(text: &[u8]) -> (IdToken, bool, Vec<(String, Vec<u8>)>) {
    let mut lines = text.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let id_token = match first.first() {
        Some(b'h') => IdToken::Header,
        Some(b'c') => IdToken::Cookie,
        _ => IdToken::None,
    };
    let has_certificate = first.get(1) == Some(&b'+');
    let field = |line: &[u8]| {
        let colon = line.iter().skip(1).position(|byte| *byte == b':')? + 1;
        let name = std::str::from_utf8(&line[..colon]).ok()?.to_ascii_lowercase();
        Some((name, fill_in(&line[colon + 1..])))
    };
    (id_token, has_certificate, lines.filter_map(field).collect())
}

fn fill_in(value: &[u8]) -> Vec<u8> {
    let mut filled = Vec::new();
    let mut rest = value;
    while let Some(open) = rest.iter().position(|byte| *byte == b'{') {
        let (before, from) = rest.split_at(open);
        filled.extend_from_slice(before);
        let token = from.iter().position(|byte| *byte == b'}').and_then(|close| {
            let name = std::str::from_utf8(&from[1..close]).ok()?;
            let caller = callers().get(name.trim_start_matches(['i', 'p']).parse::<usize>().ok()?)?;
            let token = match name.chars().next()? {
                'i' => caller.id_token.as_ref()?,
                'p' => caller.proofs.first()?,
                _ => &caller.token,
            };
            Some((token, close + 1))
        });
        let (text, length) = token.map_or((&b"{"[..], 1), |(token, length)| (token.as_bytes(), length));
        filled.extend_from_slice(text);
        rest = &from[length..];
    }
    filled.extend_from_slice(rest);
    filled
}

/// Sends the request of an input, replies to its token request, and checks the header that the upstream gets.
pub fn run(input: &[u8]) {
    // The input without the callers' tokens, which are filled in: a user of theirs in the log is a finding.
    watch_the_log(input);
    let (id_token, has_certificate, fields) = &read(input);
    send(*id_token, *has_certificate, fields);
}

fn send(id_token: IdToken, has_certificate: bool, fields: &[(String, Vec<u8>)]) {
    let scene = Scene::fixed();
    let mut engine = Settings::fixed(id_token, 4).engine(&SharedMap::default(), 1);
    engine.tick(NOW);
    while let Some((flight, call)) = engine.next_callout() {
        engine.callout_result(flight, &scene.document(&call, false), NOW);
    }
    assert!(engine.next_decision(NOW).is_none());
    let id = RequestId(1);
    let pairs: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    let mut request = Request::new(&pairs);
    request.peer_certificate = has_certificate.then(|| hmac_sha256::Hash::hash(CERTIFICATE));
    let mut step = engine.request(id, request, NOW);
    let mut exchanged = None;
    let mut calls = 0;
    while matches!(step, Decision::Pause) {
        calls += 1;
        assert!(calls < 8, "one request made many calls");
        let (flight, call) = engine.next_callout().expect("a request waits without a call");
        let reply = if call.method == "POST" {
            assert!(exchanged.replace(exchange_of(&call)).is_none(), "exchanged twice");
            issued("up")
        } else {
            scene.document(&call, false)
        };
        engine.callout_result(flight, &reply, NOW);
        if let Some((answered, next)) = engine.next_decision(NOW) {
            assert_eq!(answered, id);
            step = next;
        }
        assert!(engine.next_decision(NOW).is_none());
    }
    assert!(engine.next_callout().is_none(), "a call without a request");
    assert_eq!(engine.waiting(), 0);
    match step {
        Decision::Pause => unreachable!(),
        Decision::Respond(answer) => check_answer(&answer),
        Decision::Forward(edits) => {
            let target = last(fields, ":path");
            check_upstream(id_token, &edited(fields, &edits));
            match (edits.authorization, exchanged) {
                (None, None) => {
                    let path = path::normal_form(target).expect("forwarded with a path that has several readings");
                    assert_eq!(path, "/healthz", "forwarded without a token");
                }
                (Some(authorization), Some((subject, asked))) => {
                    assert_eq!(authorization.reveal(), "Bearer up");
                    let caller = check_exchange(id_token, fields, &subject, &asked);
                    assert!(caller.certificate.is_none() || has_certificate, "a stolen token was accepted");
                }
                _ => panic!("forwarded with a token that no provider issued, or without the issued one"),
            }
        }
    }
}

fn last<'a>(fields: &'a [(String, Vec<u8>)], name: &str) -> &'a [u8] {
    fields.iter().rfind(|(field, _)| field == name).map_or(b"", |(_, value)| value)
}

/// The header that the upstream gets.
fn edited(fields: &[(String, Vec<u8>)], edits: &HeaderMutations) -> Vec<(String, Vec<u8>)> {
    let mut kept: Vec<_> = fields.iter().filter(|(name, _)| !edits.remove.contains(name)).cloned().collect();
    kept.retain(|(name, _)| name != "authorization" && (name != "cookie" || edits.cookie.is_none()));
    kept.extend(edits.proof.iter().map(|proof| ("dpop".to_owned(), proof.reveal().as_bytes().to_vec())));
    kept.extend(edits.cookie.iter().map(|cookie| ("cookie".to_owned(), cookie.clone())));
    kept
}

fn check_upstream(id_token: IdToken, fields: &[(String, Vec<u8>)]) {
    for (name, value) in fields {
        assert!(!name.starts_with("x-onbehalf-"), "a client sets a field that only the filter may set");
        assert!(!matches!(name.as_str(), "dpop" | "x-original-url" | "x-rewrite-url"), "{name} was forwarded");
        assert!(id_token != IdToken::Header || name != IdToken::NAME, "the ID token was forwarded");
        if name == "cookie" && id_token == IdToken::Cookie {
            let is_subject = |pair: &[u8]| pair.trim_ascii().starts_with(b"idt=");
            assert!(!value.split(|byte| *byte == b';').any(is_subject), "the ID token was forwarded");
        }
        if name == ":path" {
            let query = value.splitn(2, |byte| *byte == b'?').nth(1).unwrap_or_default();
            assert!(
                !query.starts_with(b"access_token=") && !contains(query, b"&access_token="),
                "a token in the query"
            );
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Checks subject token and target of the exchange, for every reading of the path. Returns the caller.
fn check_exchange(id_token: IdToken, fields: &[(String, Vec<u8>)], subject: &str, asked: &str) -> &'static Caller {
    let is_subject = |caller: &&Caller| {
        subject == caller.id_token.as_deref().filter(|_| id_token != IdToken::None).unwrap_or(&caller.token)
    };
    let caller = callers().iter().find(is_subject).expect("a subject token that is no caller's");
    let authorization = last(fields, "authorization");
    assert!(contains(authorization, caller.token.as_bytes()), "exchanged for another caller");
    assert_eq!(fields.iter().filter(|(name, _)| name == "authorization").count(), 1);
    let target = last(fields, ":path");
    let is_admin = readings(target).iter().any(|path| is_under(path, "/github/admin"));
    assert_eq!(
        caller.target(is_admin),
        Some(asked),
        "exchanged for another resource, path {:?}",
        String::from_utf8_lossy(target)
    );
    assert!(readings(target).iter().all(|path| is_under(path, "/github")), "{:?}", String::from_utf8_lossy(target));
    if !caller.proofs.is_empty() {
        let proofs: Vec<_> = fields.iter().filter(|(name, _)| name == "dpop").map(|(_, value)| value).collect();
        let is_his = proofs.iter().all(|proof| caller.proofs.iter().any(|his| his.as_bytes() == proof.as_slice()));
        assert!(is_his && proofs.len() == 1, "a stolen token was accepted");
        assert!(authorization.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"dpop ")));
        assert_eq!((last(fields, ":method"), path::normal_form(target).as_deref()), (&b"POST"[..], Some("/github")));
    }
    caller
}

fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The readings of a path by different servers: with and without decoding, without `;parameters`, with `\` as `/`, with
/// merged slashes and resolved dots.
pub fn readings(target: &[u8]) -> Vec<String> {
    let path = String::from_utf8_lossy(target.split(|byte| *byte == b'?').next().unwrap_or_default()).into_owned();
    (0..8_u8)
        .map(|way| {
            let mut path = if way & 1 == 0 { path.clone() } else { decoded(&path) };
            if way & 2 != 0 {
                let bare = |segment: &str| segment.split(';').next().unwrap_or_default().to_owned();
                path = path.split('/').map(bare).collect::<Vec<_>>().join("/");
            }
            if way & 4 != 0 {
                let mut segments: Vec<&str> = Vec::new();
                let slashes = path.replace('\\', "/");
                for segment in slashes.split('/') {
                    match segment {
                        "" | "." => {}
                        ".." => drop(segments.pop()),
                        segment => segments.push(segment),
                    }
                }
                path = format!("/{}", segments.join("/"));
            }
            path
        })
        .collect()
}

fn decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, others @ ..] = rest {
        let escape = others.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (first, escape.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &others[2..];
            }
            _ => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
