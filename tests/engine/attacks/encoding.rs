//! Attacks 12, 13 and 18: base64url, JSON and the `authorization` field.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use onbehalf_test_support::{ENTRA_KEY, TestEngine, alice, alice_token, base64url_decode, bearer, refused, request};
use serde_json::{Value, json};

use super::{header, outcome_of, reason_of_401};

// 12 to 17: what a token is made of, and what it says.

#[test]
fn token_has_one_encoding() {
    let good = alice_token();
    assert_eq!(outcome_of(&mut TestEngine::ready(), &good), "exchanged");
    let segments: Vec<&str> = good.split('.').collect();
    let respelled = |index: usize, segment: &str| {
        let mut segments = segments.clone();
        segments[index] = segment;
        segments.join(".")
    };
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (index, &segment) in segments.iter().enumerate() {
        let middle = segment.len() / 2;
        let (before, after) = segment.split_at(middle);
        let within = |what: &str| respelled(index, &format!("{before}{what}{after}"));
        let mut spellings = vec![
            respelled(index, ""),
            respelled(index, &format!("{segment}=")),
            respelled(index, &format!("{segment}==")),
            respelled(index, &format!("={segment}")),
            respelled(index, &format!("{segment}A")),
            respelled(index, &format!("{segment}AA")),
            respelled(index, &segment[..segment.len() - 1]),
            respelled(index, &format!("{segment}{segment}")),
            respelled(index, &format!("\"{segment}\"")),
            respelled(index, &format!("{segment} ")),
            respelled(index, &BASE64_STANDARD.encode(base64url_decode(segment))),
        ];
        spellings.extend(
            [
                "+", "/", "=", "\r", "\n", "\r\n", "\r\n ", " ", "\t", "\0", "\u{b}", "\u{7f}", "%41", "%", "!", "~",
                "\u{e9}", "\u{2028}",
            ]
            .map(within),
        );
        if index > 0 {
            // A space in front of the first segment is one more space after the scheme.
            spellings.push(respelled(index, &format!(" {segment}")));
        }
        // The unused bits of the last character.
        let last = ALPHABET.find(segment.chars().last().unwrap()).unwrap();
        let spare = [0, 0, 4, 2][segment.len() % 4];
        for bits in 1..1 << spare {
            let other = &ALPHABET[last | bits..=last | bits];
            spellings.push(respelled(index, &format!("{}{other}", &segment[..segment.len() - 1])));
        }
        for spelling in spellings.into_iter().filter(|spelling| *spelling != good) {
            let mut engine = TestEngine::ready();
            let step = engine.decide(bearer("/github", &spelling));
            let (status, reason) = refused(step);
            engine.expect_no_call();
            assert!(matches!(status, 400 | 401), "segment {index}: {status} {reason}");
        }
    }
    for spelling in [
        format!("{good}."),
        format!(".{good}"),
        good.replacen('.', "..", 1),
        format!("{good}="),
        format!("{good};"),
        format!("{good}\n"),
        format!("{good}\0"),
        good.replace('.', "%2e"),
        good.replace('.', "\u{2024}"),
        format!("Bearer {good}"),
        json!({"payload": segments[1], "protected": segments[0], "signature": segments[2]}).to_string(),
    ] {
        let mut engine = TestEngine::ready();
        let (status, _) = refused(engine.decide(bearer("/github", &spelling)));
        engine.expect_no_call();
        assert!(matches!(status, 400 | 401));
    }
}

#[test]
fn json_with_two_readings_is_refused_in_header_and_claims() {
    let head = header(json!({})).to_string();
    let claims = alice().to_string();
    let inserted = |text: &str, more: &[u8]| [b"{", more, b",", &text.as_bytes()[1..]].concat();
    let appended = |text: &str, more: &[u8]| [&text.as_bytes()[..text.len() - 1], b",", more, b"}"].concat();
    let nested = |open: &str, close: &str, depth: usize| {
        format!(r#""x":{}1{}"#, open.repeat(depth), close.repeat(depth)).into_bytes()
    };
    let mut members: Vec<Vec<u8>> = [
        &br#""alg":"none","aud":"evil","x":1"#[..],
        br#""\u0061lg":"none","a\u0075d":"evil","x":1"#,
        br#""x":1,"x":2"#,
        br#""x":{"y":1,"y":1}"#,
        br#""x":[{"y":1,"\u0079":2}]"#,
        br#""x":"\ud800""#,
        br#""x":"\udc00""#,
        br#""x":"\ud800\u0041""#,
        br#""x\ud800":1"#,
        br#""x":"\x41""#,
        br#""x":1e400"#,
        br#""x":-1e400"#,
        br#""x":NaN"#,
        br#""x":-Infinity"#,
        br#""x":01"#,
        br#""x":+1"#,
        br#""x":.5"#,
        br#""x":1."#,
        br#""x":0x10"#,
        br#""x":True"#,
        br#""x":'y'"#,
        br#"x:1"#,
        br#""x":/* 1 */2"#,
        b"\"x\":1 // 2\n",
        br#""x":"#,
        br#""x""#,
        b"\"x\":\"a\0b\"",
        b"\"x\":\"a\tb\"",
        b"\"x\":\"a\nb\"",
        b"\"x\":\"\xff\"",
        b"\"x\":\"\xe2\x82\"",
        b"\"x\":\"\xc0\xa2\"",
        b"\"x\":\"\xed\xa0\x80\"",
        b"\"x\":\"\xf4\x90\x80\x80\"",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    members.extend([nested("[", "]", 200), nested("[", "]", 4000), nested("{\"a\":", "}", 200), nested("[", "", 4000)]);
    let texts = |text: &str| -> Vec<Vec<u8>> {
        let mut texts: Vec<Vec<u8>> = [
            format!("\u{feff}{text}"),
            format!("{text}x"),
            format!("{text},"),
            format!("{text}}}"),
            format!("{text}\0"),
            format!("{text}{text}"),
            format!("{text} {{}}"),
            format!("{text}// x"),
            format!("/**/{text}"),
            format!(")]}}'\n{text}"),
            format!("\u{a0}{text}"),
            format!("\u{c}{text}"),
            format!("[{text}]"),
            Value::String(text.to_owned()).to_string(),
            format!("{},}}", &text[..text.len() - 1]),
            format!("{{,{}", &text[1..]),
            text[..text.len() - 1].to_owned(),
            "1".to_owned(),
            "null".to_owned(),
            "\"\"".to_owned(),
            String::new(),
        ]
        .map(String::into_bytes)
        .to_vec();
        texts.push(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
        for more in &members {
            texts.extend([inserted(text, more), appended(text, more)]);
        }
        texts
    };
    for (heads, bodies) in
        [(texts(&head), vec![claims.clone().into_bytes()]), (vec![head.clone().into_bytes()], texts(&claims))]
    {
        for head in &heads {
            for body in &bodies {
                let token = ENTRA_KEY.sign_bytes(head, body);
                let shown = || format!("{:.60} {:.60}", String::from_utf8_lossy(head), String::from_utf8_lossy(body));
                assert_eq!(reason_of_401(&mut TestEngine::ready(), &token), "malformed_token", "{}", shown());
            }
        }
    }
}

#[test]
fn unusual_but_valid_json_is_read() {
    let claims = alice().to_string();
    let exchanged = |head: &str, claims: &str| {
        assert_eq!(
            outcome_of(&mut TestEngine::ready(), &ENTRA_KEY.sign_bytes(head, claims)),
            "exchanged",
            "{head} {claims:.60}"
        );
    };
    let head = header(json!({})).to_string();
    exchanged(&format!(" \r\n\t{head}\n"), &format!("\n{claims} "));
    exchanged(r#"{"\u0061lg":"\u0045S256","kid":"entra\u002d1"}"#, &claims.replacen("\"aud\"", "\"a\\u0075d\"", 1));
    for more in [
        // Member names are case-sensitive, so these are unknown members.
        r#""AUD":"evil","Exp":1,"ISS":"evil""#,
        r#""aud\u0000":"evil""#,
        r#""__proto__":{"aud":"evil"}"#,
        r#""":1"#,
        r#""x":"a\u0000b\ud83d\ude00\/""#,
        r#""x":-0"#,
        r#""x":1e-400"#,
    ] {
        exchanged(&head, &claims.replacen('{', &format!("{{{more},"), 1));
    }
    let long_number = format!("{{\"x\":{},", "9".repeat(300));
    exchanged(&head, &claims.replacen('{', &long_number, 1));
    // The unknown members do not replace the real ones.
    for (name, other) in [("aud", "AUD"), ("exp", "EXP"), ("oid", "OID")] {
        let renamed = claims.replacen(&format!("\"{name}\""), &format!("\"{other}\""), 1);
        assert_eq!(
            reason_of_401(&mut TestEngine::ready(), &ENTRA_KEY.sign_bytes(&head, renamed)),
            "invalid_claims",
            "{other}"
        );
    }
    let renamed = claims.replacen("\"iss\"", "\"ISS\"", 1);
    assert_eq!(reason_of_401(&mut TestEngine::ready(), &ENTRA_KEY.sign_bytes(&head, renamed)), "unknown_issuer");
    let renamed = head.replacen("\"alg\"", "\"ALG\"", 1);
    assert_eq!(
        reason_of_401(&mut TestEngine::ready(), &ENTRA_KEY.sign_bytes(renamed, &claims)),
        "unsupported_algorithm"
    );
}

#[test]
fn number_with_too_many_digits_is_refused() {
    let claims = alice().to_string();
    for digits in [400, 10_000] {
        let more = format!("{{\"x\":{},", "9".repeat(digits));
        let token = ENTRA_KEY.sign_bytes(header(json!({})).to_string(), claims.replacen('{', &more, 1));
        assert_eq!(reason_of_401(&mut TestEngine::ready(), &token), "malformed_token", "{digits}");
    }
    // A token of a megabyte is not parsed.
    let more = format!("{{\"x\":{},", "9".repeat(1 << 20));
    let token = ENTRA_KEY.sign_bytes(header(json!({})).to_string(), claims.replacen('{', &more, 1));
    assert_eq!(refused(TestEngine::ready().decide(bearer("/github", &token))), (400, "token_too_large".to_owned()));
}

// 18: what no HTTP library sends. 22 and 23: the side of the exchange.

#[test]
fn credentials_with_a_wrong_separator_are_malformed() {
    let token = alice_token();
    for (value, expected) in [
        ("Bearer,".to_owned(), (400, "malformed_credentials")),
        (format!("Bearer,{token}"), (400, "malformed_credentials")),
        (format!("Bearer, {token}"), (400, "malformed_credentials")),
        (format!("Bearer:{token}"), (400, "malformed_credentials")),
        (format!("Bearer={token}"), (400, "malformed_credentials")),
        (format!("Bearer\t{token}"), (400, "malformed_credentials")),
        (format!("Bearer\u{b}{token}"), (400, "malformed_credentials")),
        (format!("Bearer \t{token}"), (400, "malformed_credentials")),
        (format!("Bearer {token}\t"), (400, "malformed_credentials")),
        (format!("Bearer {token}\r\n x"), (400, "malformed_credentials")),
        (format!("Bearer {token} x"), (400, "malformed_credentials")),
        (format!("Bearer {token},"), (400, "multiple_credentials")),
        (format!("Bearer {token}, Basic YTpi"), (400, "multiple_credentials")),
        (format!("Basic YTpi, Bearer {token}"), (401, "no_credentials")),
        (format!("Bearer\"{token}\""), (400, "malformed_credentials")),
        (token.clone(), (401, "no_credentials")),
        (format!("\"Bearer\" {token}"), (401, "no_credentials")),
    ] {
        let mut engine = TestEngine::ready();
        let (status, reason) = refused(engine.decide(request("POST", "/github", &[("authorization", &value)])));
        engine.expect_no_call();
        assert_eq!((status, reason.as_str()), expected, "{:?}", value.replace(&token, "TOKEN"));
    }
}
