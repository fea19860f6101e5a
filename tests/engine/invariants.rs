//! Rule of the random world and the fuzzer: no log line names a user, unless the input itself did.

use std::panic::{AssertUnwindSafe, catch_unwind};

use onbehalf::engine::Decision;
use onbehalf::http::Request;
use onbehalf_test_support::world::{Secrets, check_log_line};
use onbehalf_test_support::{ENTRA, TestEngine, alice, answered, base64url, provider_document, with};
use serde_json::{Value, json};

fn is_allowed(line: &str, input: &[u8]) -> bool {
    let secrets = Secrets::of_tokens([]);
    catch_unwind(AssertUnwindSafe(|| check_log_line(line, &secrets, input))).is_ok()
}

fn segment(value: &Value) -> String {
    base64url(value.to_string().as_bytes())
}

#[test]
fn user_that_the_input_does_not_name_is_a_finding() {
    let input = b":authority:mcp.acme.example\n:path:/github\nauthorization:Bearer {0}";
    for fact in ["path", "host", "kid", "issuer_unverified", "nearest", "cause", "error"] {
        assert!(!is_allowed(&format!("event=refused {fact}=\"/user-alice\" reason=x"), input), "{fact}");
        assert!(!is_allowed(&format!("event=refused {fact}=user-alice"), input), "{fact}");
    }
    assert!(is_allowed("event=exchanged subject=user-alice path=\"/github\"", input));
    assert!(!is_allowed("subject=user-alice event=exchanged subject=user-bob", input), "two users in a line");
    assert!(!is_allowed("event=exchanged cause=\"a subject=user-alice\"", input), "a user in another fact");
    // The name of another user in the input, and the beginning of one.
    assert!(!is_allowed("event=refused path=\"/user-alice\"", b":path:/user-bob"));
    assert!(!is_allowed("event=refused path=\"/user-alice\"", b":path:/user-al"));
}

#[test]
fn user_that_the_input_names_may_stand_in_any_fact() {
    let token = format!("{}.e30.", segment(&json!({"kid": "user-x"})));
    let escaped = format!("{}.e30.", base64url(br#"{"kid": "us\u0065r-x"}"#));
    for input in ["/user-x", "/%75ser%2dx", "mcuser-x.example", &token, &escaped, r#"{"error": "\u0075ser-x"}"#] {
        for fact in ["path", "host", "kid", "issuer_unverified", "nearest"] {
            let line = format!("event=refused {fact}=\"of \\\"user-x\" reason=x");
            assert!(is_allowed(&line, input.as_bytes()), "{fact} of {input}");
            assert!(!is_allowed(&line.replace("user-x", "user-alice"), input.as_bytes()), "{fact} of {input}");
        }
    }
    assert!(is_allowed("host=\"a subject=b\" subject=user-alice", b":authority:a subject=b"), "one subject alone");
}

#[test]
fn lines_about_a_request_that_names_users_break_no_rule() {
    let bearer = |kid: &str, issuer: &str| {
        let claims = with(alice(), json!({"iss": issuer}));
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": kid});
        format!("Bearer {}.{}.AAAA", segment(&header), segment(&claims))
    };
    for (host, path, authorization, fact) in [
        ("mcuser-e.example", "/github?a&access%5ftoken=x", "Bearer x".to_owned(), "host"),
        ("mcp.acme.example", "/user-x", "Bearer x".to_owned(), "path"),
        ("mcp.acme.example", "/us%65r-x", "Bearer x".to_owned(), "path"),
        ("mcp.acme.example", "/github", bearer("user-x", ENTRA), "kid"),
        ("mcp.acme.example", "/github", bearer("1", "https://user-y.example"), "issuer_unverified"),
    ] {
        let mut engine = TestEngine::ready();
        let fields = [(":method", "GET"), (":authority", host), (":path", path), ("authorization", &authorization)];
        let input: String = fields.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let request = Request::new(&fields.map(|(name, value)| (name, value.as_bytes())));
        let (_, step) = engine.send(request);
        let line = match step {
            Decision::Respond(answer) => answer.record.to_string(),
            // An unknown key is looked for.
            _ => {
                let (flight, call) = engine.expect_call();
                let answer = provider_document(&call);
                answered(engine.only_step(flight, &answer)).record.to_string()
            }
        };
        assert!(line.contains(&format!(" {fact}=")) && line.contains("user-"), "{line}");
        assert!(is_allowed(&line, input.as_bytes()), "{line}");
        assert!(!is_allowed(&line, b"another input"), "{line}");
    }
}
