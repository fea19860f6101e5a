//! The local reply in place of an upstream's 401: the fields that browsers need stay.

use onbehalf::http::Response;
use onbehalf_test_support::{TestEngine, alice_token, header, reason};

use super::{AGAIN, exchange, instead, is};

#[test]
fn replaced_response_keeps_the_fields_of_cors() {
    let mut engine = TestEngine::ready();
    let first = exchange(&mut engine, &alice_token(), "first");
    let cors = [
        ("access-control-allow-origin", "https://app.example"),
        ("access-control-allow-credentials", "true"),
        ("access-control-expose-headers", "retry-after"),
    ];
    let others =
        [("access-control-x", "theirs"), ("set-cookie", "theirs"), ("www-authenticate", "Bearer"), ("vary", "x")];
    let fields = cors.iter().chain(&others).map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
    let answer = instead(&mut engine, &first, &Response { status: 401, headers: fields.collect(), body: Vec::new() });
    is(reason(&answer), AGAIN);
    for (name, value) in cors {
        assert_eq!(header(&answer, name), Some(value));
    }
    for (name, _) in others {
        assert_eq!(header(&answer, name), None, "{name}");
    }
}

#[test]
fn field_of_cors_that_is_not_printable_is_left_out() {
    let mut engine = TestEngine::ready();
    let first = exchange(&mut engine, &alice_token(), "first");
    let headers = vec![("access-control-allow-origin".to_owned(), b"https://a\xff.example\r\nx: y".to_vec())];
    let answer = instead(&mut engine, &first, &Response { status: 401, headers, body: Vec::new() });
    assert_eq!(header(&answer, "access-control-allow-origin"), None);
}
