//! Requests, replies, and readings of the engine's decisions.

use std::collections::HashMap;

use onbehalf::engine::Decision;
use onbehalf::engine::HeaderMutations;
use onbehalf::http::{Callout, CalloutFailure, CalloutResult, LocalReply, Request, Response};
use serde_json::{Value, json};

/// The reply of the host when a call has timed out.
pub const TIMED_OUT: CalloutResult = CalloutResult::Failed(CalloutFailure::TimedOut);

/// A request at `mcp.acme.example` with more header fields.
pub fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Request {
    let mut fields: Vec<(&str, &[u8])> =
        vec![(":method", method.as_bytes()), (":authority", b"mcp.acme.example"), (":path", path.as_bytes())];
    fields.extend(more.iter().map(|(name, value)| (*name, value.as_bytes())));
    Request::new(&fields)
}

/// A POST with a bearer token.
pub fn bearer(path: &str, token: &str) -> Request {
    request("POST", path, &[("authorization", &format!("Bearer {token}"))])
}

/// A response to a call, without header fields.
pub fn answer(status: u16, body: &[u8]) -> CalloutResult {
    CalloutResult::Response(Response { status, headers: Vec::new(), body: body.to_vec() })
}

/// A response to a call, with header fields and a JSON body.
pub fn answer_with(status: u16, headers: &[(&str, &str)], body: &Value) -> CalloutResult {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    CalloutResult::Response(Response { status, headers, body: body.to_string().into_bytes() })
}

/// A token response whose access token is good for an hour.
pub fn issued(token: &str) -> CalloutResult {
    answer_with(200, &[], &json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600}))
}

/// The parameters of a token request, each of which stands once.
pub fn form(call: &Callout) -> HashMap<String, String> {
    let pairs: Vec<_> = form_urlencoded::parse(call.body.reveal().as_bytes()).into_owned().collect();
    let form: HashMap<_, _> = pairs.iter().cloned().collect();
    assert_eq!(form.len(), pairs.len(), "a parameter stands twice");
    form
}

/// The header edits of a request that is forwarded.
pub fn forwarded(step: Decision) -> HeaderMutations {
    match step {
        Decision::Forward(edits) => edits,
        Decision::Respond(answer) => panic!("refused: {answer:?}"),
        Decision::Pause => panic!("waits"),
    }
}

/// The `authorization` that a forwarded request gets.
pub fn authorization(step: Decision) -> String {
    forwarded(step).authorization.expect("an authorization").reveal().to_owned()
}

/// The facts of a log line as an aggregator reads it (logfmt: quoted values as in JSON). A name stands once.
pub fn log_facts(line: &str) -> HashMap<String, String> {
    let mut facts = HashMap::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (name, value) = rest.split_once('=').unwrap_or_else(|| panic!("no fact at {rest:?} in {line}"));
        let end = if value.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(value).into_iter::<String>();
            values.next().unwrap().unwrap_or_else(|error| panic!("{error}: {line}"));
            values.byte_offset()
        } else {
            value.find(' ').unwrap_or(value.len())
        };
        let (value, after) = value.split_at(end);
        let value = if value.starts_with('"') { serde_json::from_str(value).unwrap() } else { value.to_owned() };
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name:?} in {line}");
        assert_eq!(facts.insert(name.to_owned(), value), None, "{name} twice in {line}");
        rest = after.strip_prefix(' ').unwrap_or(after);
    }
    facts
}

/// The local reply to a request. Its log line has each fact once.
pub fn answered(step: Decision) -> LocalReply {
    match step {
        Decision::Respond(answer) => {
            log_facts(&answer.record.to_string());
            answer
        }
        Decision::Forward(_) => panic!("forwarded"),
        Decision::Pause => panic!("waits"),
    }
}

/// A header field of a local reply.
pub fn header<'a>(answer: &'a LocalReply, name: &str) -> Option<&'a str> {
    answer.headers.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_str())
}

/// Status and reason of a local reply.
pub fn reason(answer: &LocalReply) -> (u16, String) {
    let body: Value = serde_json::from_str(&answer.body).expect("a JSON body");
    (answer.status, body["reason"].as_str().expect("a reason").to_owned())
}

/// Status and reason of a request that is refused.
pub fn refused(step: Decision) -> (u16, String) {
    reason(&answered(step))
}
