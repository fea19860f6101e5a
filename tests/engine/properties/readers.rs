//! Readers of untrusted text: tokens, JSON, paths, times, token responses and JWK Sets.

use onbehalf::crypto::Algorithm;
use onbehalf::http::{CalloutResult, Response};
use onbehalf::jose::{Claims, CompactJws, KeySet, Selection};
use onbehalf::json;
use onbehalf::path;
use onbehalf::provider::{Hop, SecretVersion, SubjectInput, TokenRequest};
use onbehalf::time::UnixTime;
use onbehalf::url::Url;
use onbehalf_test_support::{
    ENTRA_KEY, NOW, OKTA_KEY, OTHER_KEY, alice_token, base64url, configuration, key_set, parse,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};
use std::time::Duration;

use super::{cases, scalar, target};

/// JSON that can be written with a repeated name in an object, and with escapes.
#[derive(Clone, Debug)]
enum Document {
    Scalar(Value),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Document {
    fn text(&self, escaped: bool) -> String {
        let name = |name: &str| match escaped {
            true => format!("\"{}\"", name.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>()),
            false => json!(name).to_string(),
        };
        match self {
            Self::Scalar(value) => value.to_string(),
            Self::Array(items) => {
                format!("[{}]", items.iter().map(|item| item.text(escaped)).collect::<Vec<_>>().join(" , "))
            }
            Self::Object(members) => {
                // Every other name is escaped, so that a repeated name has different text.
                let member = |(index, (key, value)): (usize, &(String, Self))| {
                    let key = if index % 2 == 1 { name(key) } else { json!(key).to_string() };
                    format!("{key}: {}", value.text(escaped))
                };
                format!("{{{}}}", members.iter().enumerate().map(member).collect::<Vec<_>>().join(","))
            }
        }
    }

    fn has_a_name_twice(&self) -> bool {
        match self {
            Self::Scalar(_) => false,
            Self::Array(items) => items.iter().any(Self::has_a_name_twice),
            Self::Object(members) => {
                let twice = |(index, (name, _)): (usize, &(String, Self))| {
                    members.iter().take(index).any(|(other, _)| other == name)
                };
                members.iter().enumerate().any(twice) || members.iter().any(|(_, value)| value.has_a_name_twice())
            }
        }
    }
}

fn document() -> impl Strategy<Value = Document> {
    let name = prop_oneof!["[a-d]", any::<String>()];
    scalar().prop_map(Document::Scalar).prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Document::Array),
            vec((name.clone(), inner), 0..4).prop_map(Document::Object),
        ]
    })
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn any_text_is_refused_or_read_completely_as_a_token(
        header in prop_oneof![any::<String>(), Just(r#"{"alg":"ES256"}"#.to_owned())],
        payload in prop_oneof![any::<String>(), Just("{}".to_owned())],
        signature in vec(any::<u8>(), 0..8),
        raw in any::<String>(),
        at in any::<Index>(),
        other in select(b"ABCDEFGHQRSTghijwxyz0189-_+/=. ".as_slice()),
    ) {
        let written = format!("{}.{}.{}", base64url(header), base64url(payload), base64url(&signature));
        let mut bent = written.clone().into_bytes();
        let at = at.index(bent.len());
        bent[at] = other;
        // The last character has unused bits.
        let mut loose = written.clone().into_bytes();
        *loose.last_mut().unwrap() = other;
        let [bent, loose] = [bent, loose].map(|bytes| String::from_utf8(bytes).unwrap());
        for token in [raw.clone(), written.clone(), bent, loose, format!("{written}{raw}"), format!("{raw}.{written}")] {
            if let Ok(compact) = CompactJws::parse(&token, |_| None) {
                prop_assert_eq!(format!("{}.{}", compact.signing_input, base64url(&compact.signature)), token);
            }
        }
    }

    #[test]
    fn claims_are_read_as_they_were_written(
        kid in any::<Option<String>>(),
        claims in vec(("[a-z]{1,8}", scalar()), 0..8),
        signature in vec(any::<u8>(), 0..80),
    ) {
        let claims: serde_json::Map<_, _> = claims.into_iter().collect();
        let mut header = json!({"alg": "ES256", "typ": "application/At+JWT"});
        if let Some(kid) = &kid {
            header["kid"] = json!(kid);
        }
        let payload = Value::Object(claims).to_string();
        let token = format!("{}.{}.{}", base64url(header.to_string()), base64url(&payload), base64url(&signature));
        let compact = CompactJws::parse(&token, |_| None).unwrap();
        prop_assert_eq!(&compact.header.algorithm, "ES256");
        prop_assert_eq!(compact.header.media_type.as_deref(), Some("at+jwt"));
        prop_assert_eq!(&compact.header.key_id, &kid);
        let written: Value = serde_json::from_str(&payload).unwrap();
        prop_assert_eq!(serde_json::to_value(compact.claims().unwrap()).unwrap(), written);
        prop_assert_eq!(compact.signature, signature);
    }

    #[test]
    fn json_without_repeated_names_is_read_as_by_serde_json(document in document(), escaped in any::<bool>()) {
        let text = document.text(escaped);
        let usual: Value = serde_json::from_str(&text).unwrap();
        let expected = Some(usual).filter(|usual| usual.is_object() && !document.has_a_name_twice());
        let read = json::object(text.as_bytes()).map(|object| serde_json::to_value(object).unwrap());
        prop_assert_eq!(read, expected, "{}", text);
        prop_assert!(json::object([text.as_bytes(), text.as_bytes()].concat().as_slice()).is_none());
    }

    #[test]
    fn normal_form_of_a_path_is_stable_and_has_one_reading(target in target()) {
        if let Some(normal) = path::normal_form(target.as_bytes()) {
            let again = path::normal_form(normal.as_bytes());
            prop_assert_eq!(again.as_deref(), Some(&*normal));
            let segments: Vec<_> = normal.split('/').skip(1).collect();
            let (last, inner) = segments.split_last().unwrap();
            prop_assert!(inner.iter().all(|segment| !matches!(*segment, "" | "." | "..")), "{:?}", normal);
            prop_assert!(!matches!(*last, "." | ".."), "{:?}", normal);
            // The normal form decodes to the same bytes and has as many separators.
            let written = target.split('?').next().unwrap();
            let decoded = |path: &str| percent_encoding::percent_decode_str(path).collect::<Vec<u8>>();
            prop_assert_eq!(decoded(written), decoded(&normal));
            prop_assert_eq!(written.matches('/').count(), decoded(written).iter().filter(|byte| **byte == b'/').count());
            let escaped = format!("{}{}", &normal[..1], normal[1..].replace('a', "%61"));
            let unescaped = path::normal_form(escaped.as_bytes());
            prop_assert_eq!(unescaped.as_deref(), Some(&*normal));
        }
    }

    #[test]
    fn time_claim_is_an_exact_number_or_is_refused(value in scalar(), name in select(vec!["exp", "nbf", "iat"])) {
        let mut claims = json!({"iss": "i", "aud": "a", "exp": 1});
        claims[name] = value.clone();
        let text = claims.to_string();
        let members = json::object(text.as_bytes()).unwrap();
        let read = Claims::read(&members);
        match value.as_f64().filter(|seconds| *seconds <= 9_007_199_254_740_992.0) {
            None if value.is_null() && name != "exp" => {
                let claims = read.unwrap();
                prop_assert_eq!((claims.not_before, claims.issued_at), (None, None));
            }
            None => prop_assert!(read.is_err(), "{}", value),
            Some(seconds) => {
                let claims = read.unwrap();
                let time = match name { "exp" => claims.expires, "nbf" => claims.not_before.unwrap(), _ => claims.issued_at.unwrap() };
                let seconds = seconds.max(0.0);
                prop_assert!((time.millis() as f64 - seconds * 1000.0).abs() <= 1.0_f64.max(seconds * 1e-9), "{}", value);
            }
        }
    }

    #[test]
    fn time_arithmetic_saturates(
        millis in prop_oneof![any::<u64>(), Just(u64::MAX), Just(0)],
        span in prop_oneof![any::<u64>().prop_map(Duration::from_millis), any::<u64>().prop_map(Duration::from_secs), Just(Duration::MAX)],
    ) {
        let time = UnixTime::from_millis(millis);
        let exact = i128::from(millis);
        let whole = i128::try_from(span.as_millis()).unwrap();
        let end = i128::from(u64::MAX);
        prop_assert_eq!(i128::from(time.plus(span).millis()), (exact + whole).min(end));
        prop_assert_eq!(i128::from(time.minus(span).millis()), (exact - whole).max(0));
        prop_assert_eq!(time.plus(span).since(time), time.plus(span).since(UnixTime::default()) - time.since(UnixTime::default()));
        prop_assert_eq!(time.since(time.plus(span)), Duration::ZERO);
        prop_assert_eq!(i128::from(UnixTime::from_secs(millis).millis()), (exact * 1000).min(end));
    }

    #[test]
    fn accepted_token_response_can_stand_in_a_header(
        token in prop_oneof!["[!-~]{1,20}", "[ -~]{1,20}", any::<String>(), Just(alice_token()), (32_766..32_771_usize).prop_map(|length| "t".repeat(length))],
        kind in prop_oneof![Just(json!("Bearer")), Just(json!("BEARER")), scalar()],
        lifetime in prop_oneof![Just(json!(3600)), Just(json!("3600")), scalar()],
        status in prop_oneof![Just(200_u16), any::<u16>()],
    ) {
        let config = parse(&configuration());
        let provider = &config.providers[0];
        let target = config.resources[0].exchanges[0].target.exchange().unwrap();
        let handed_in = alice_token();
        let body = json!({"access_token": token, "token_type": kind, "expires_in": lifetime}).to_string();
        let reply = CalloutResult::Response(Response { status, headers: Vec::new(), body: body.into_bytes() });
        let subject = SubjectInput { token: &handed_in, is_id_token: false, token_type: None, claims: None, actor: None };
        let token_endpoint = &Url::parse("https://login.entra.example/token").unwrap();
        let request = TokenRequest { provider, target, token_endpoint, subject, secret_version: SecretVersion::Current, assertion: None, nonce: None, hop: Hop::IdentityProvider, has_worked: false, shows_descriptions: false };
        let issued = request.read(&reply, &[], NOW);
        let is_bearer = kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
        let number = lifetime.as_f64().or_else(|| lifetime.as_str()?.trim().parse().ok()).filter(|number| number.is_finite());
        let seconds = if lifetime.is_null() { 300 } else { number.unwrap_or_default() as u64 };
        let is_in = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
        let is_b64token = !token.starts_with('=') && token.trim_end_matches('=').bytes().all(is_in);
        let fits = matches!(token.len(), 1..=32_768) && is_b64token;
        let expected = matches!(status, 200..=299) && is_bearer && seconds > 0 && fits && token != handed_in;
        prop_assert_eq!(issued.is_ok(), expected);
        if let Ok(issued) = issued {
            prop_assert_eq!(issued.access_token.reveal(), token);
            prop_assert_eq!(issued.lifetime, Duration::from_secs(seconds.min(7 * 24 * 3600)));
        }
    }

    #[test]
    fn usable_keys_are_kept_among_unusable_ones_in_any_order(
        odd in vec(prop_oneof![
            scalar(),
            Just(json!({})),
            Just(json!({"kty": "oct", "k": "AA", "kid": "entra-1"})),
            Just(json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "entra-1", "alg": "ES256"})),
            Just(json!({"kty": "EC", "crv": "secp256k1", "kid": "okta-1"})),
            Just(json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "other-1"})),
            Just(json!({"kty": ["EC"], "kid": {}})),
        ], 0..12),
        places in vec(any::<Index>(), 3),
    ) {
        let good: Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY, &OKTA_KEY, &OTHER_KEY])).unwrap();
        let mut listed = odd.clone();
        for (key, place) in good["keys"].as_array().unwrap().iter().zip(&places) {
            listed.insert(place.index(listed.len() + 1), key.clone());
        }
        let (alone, none_skipped) = KeySet::read(good.to_string().as_bytes()).unwrap();
        prop_assert!(none_skipped.is_empty());
        for keys in [listed.clone(), listed.iter().rev().cloned().collect()] {
            let (keys, skipped) = KeySet::read(json!({"keys": keys, "more": odd}).to_string().as_bytes()).unwrap();
            prop_assert_eq!((keys.len(), skipped.len()), (3, odd.len()));
            prop_assert!(keys.is_contained_in(&alone) && alone.is_contained_in(&keys));
            for kid in ["entra-1", "okta-1", "other-1"] {
                let public = |keys: &KeySet| match keys.select(Some(kid), Algorithm::Es256) {
                    Selection::Found(key) => Some(key.public.spki().to_vec()),
                    _ => None,
                };
                prop_assert!(public(&keys).is_some() && public(&keys) == public(&alone), "{}", kid);
            }
        }
    }
}
