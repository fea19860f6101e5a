//! What holds for every input, tried on many. The same ones each time; `PROPTEST_RNG_SEED` gives others, and
//! `PROPTEST_CASES` (256 when not set) more or fewer.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use onbehalf::config::{Config, ConfigError};
use onbehalf::crypto::{Algorithm, Software};
use onbehalf::dpop::verify;
use onbehalf::engine::Decision;
use onbehalf::http::{CalloutResult, Request, Response};
use onbehalf::jose::{Claims, CompactJws, KeySet, Selection, Signed, TokenError, TokenRules, check, verify};
use onbehalf::json;
use onbehalf::path;
use onbehalf::provider::{Hop, SecretVersion, SubjectInput, TokenRequest};
use onbehalf::time::UnixTime;
use onbehalf::url::Url;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

use crate::support::*;

/// `cases` unless the environment asks for more or fewer of all.
fn cases(cases: u32) -> ProptestConfig {
    let asked = ProptestConfig::default();
    let rng_seed = if asked.rng_seed == RngSeed::Random { RngSeed::Fixed(1) } else { asked.rng_seed };
    // What fails is given a name and becomes a test of its own.
    ProptestConfig { cases: (asked.cases * cases).div_ceil(256), rng_seed, failure_persistence: None, ..asked }
}

fn encode(part: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(part)
}

/// JSON that can be written with a name twice in an object, and with escapes.
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
                // Every other name is written in another way, so that the same name is not the same text.
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

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ]
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

/// A request target of the pieces that matter.
fn target() -> impl Strategy<Value = String> {
    const PIECES: [&str; 30] = [
        "/", "/", "/", ".", "..", "%2e", "%2E", "%2f", "%5c", "%", "%4", "%41", "%7e", "%25", "%3b", "%40", "%20",
        "%23", "%3f", "%e2%82", "%00", ";", "\\", "?", "#", " ", "@", "é", "github", "admin",
    ];
    vec(select(&PIECES[..]), 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// Whether a token is accepted by the keys of the one provider, as far as what it says and its signature go.
fn accept(token: &str, now: UnixTime) -> Result<(), TokenError> {
    let compact = CompactJws::parse(token, |_| None)?;
    let algorithm = Algorithm::from_name(&compact.header.algorithm).ok_or(TokenError::Algorithm)?;
    let members = compact.claims()?;
    let claims = Claims::read(&members)?;
    let audiences = ["api://gateway".to_owned()];
    let expected = TokenRules { audiences: &audiences, types: &["jwt"], leeway: Duration::from_secs(60) };
    check(&compact.header, &claims, expected, || Ok(()), now).map_err(|rejection| rejection.error)?;
    let (keys, _) = KeySet::read(&key_set(&[&ENTRA_KEY])).unwrap();
    match keys.select(compact.header.key_id.as_deref(), algorithm) {
        Selection::Found(key) => {
            let signed = Signed { algorithm, input: compact.signing_input, signature: &compact.signature };
            verify(signed, key, ENTRA, Some(TENANT), &Software)
        }
        _ => Err(TokenError::Key),
    }
}

/// A JSON value as `google.protobuf.Value`, field by field (protobuf.dev, "Encoding").
fn protobuf_value(value: &Value) -> Vec<u8> {
    match value {
        Value::Null => vec![0x08, 0],
        Value::Bool(truth) => vec![0x20, u8::from(*truth)],
        Value::Number(number) => [&[0x11][..], &number.as_f64().unwrap().to_le_bytes()].concat(),
        Value::String(text) => protobuf_field(3, text.as_bytes()),
        Value::Object(_) => protobuf_field(5, &protobuf_struct(value)),
        Value::Array(items) => protobuf_field(
            6,
            &items.iter().flat_map(|item| protobuf_field(1, &protobuf_value(item))).collect::<Vec<_>>(),
        ),
    }
}

fn protobuf_struct(object: &Value) -> Vec<u8> {
    let entry = |(name, value): (&String, &Value)| {
        protobuf_field(1, &[protobuf_field(1, name.as_bytes()), protobuf_field(2, &protobuf_value(value))].concat())
    };
    object.as_object().unwrap().iter().flat_map(entry).collect()
}

fn protobuf_field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        field.push(0x80 | u8::try_from(length & 0x7f).unwrap());
        length >>= 7;
    }
    field.push(u8::try_from(length).unwrap());
    [field, bytes.to_vec()].concat()
}

/// Seconds of which a double can count the milliseconds: claims of a later time are some milliseconds off.
const EXACT: u64 = (1 << 53) / 1000;

const INLINE: &str = "1nl1ne~value";

/// A configuration with everything that one can have, secrets in both ways.
fn full_configuration() -> Value {
    let mut configuration = configuration();
    configuration["identity_providers"]["standard"] = json!({
        "profile": "rfc8693", "issuer": "https://id.acme.example", "cluster": "id", "audiences": ["api"],
        "jwks": serde_json::from_slice::<Value>(&key_set(&[&OTHER_KEY])).unwrap(),
        "token_endpoint": "https://id.acme.example/t",
        "clock_skew_seconds": 5, "timeout_seconds": 3, "jwks_max_age_seconds": 7200,
        "subject_token": {"type": "id_token", "cookie": "idt", "audiences": ["login"]},
        "client": {"id": "c", "authentication": {"method": "client_secret_basic", "secret": {"inline": INLINE}}},
    });
    configuration["resources"][0]["dpop"] = json!({"mode": "optional", "nonce": true, "max_age_seconds": 60});
    configuration["resources"][0]["certificate_bound_tokens"] = json!("required");
    configuration["cache"] = json!({"verified_tokens": 10, "exchanged_tokens": 10, "verified_bytes": 10000});
    configuration
}

/// The JSON pointers of every value in `value`, its own not among them.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    let children: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(name, value)| (escaped(name), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (name, child) in children {
        let pointer = format!("{at}/{name}");
        pointers(child, &pointer, found);
        found.push(pointer);
    }
}

/// What may go wrong with one value of a configuration.
#[derive(Clone, Debug)]
enum ProfileError {
    Another(Value),
    Spoiled(Index, char),
    ExtraField(String),
    Wrapped,
    Removed,
}

fn mistake() -> impl Strategy<Value = ProfileError> {
    let odd = select(vec!['"', '\\', '/', '.', '%', ' ', '\n', '\0', '@', ':', '?', '#', 'é', '{', '~', 'A']);
    prop_oneof![
        scalar().prop_map(ProfileError::Another),
        prop_oneof![Just(json!([])), Just(json!({})), Just(json!("")), Just(json!([""])), Just(json!({"": {}}))]
            .prop_map(ProfileError::Another),
        (any::<Index>(), odd).prop_map(|(at, odd)| ProfileError::Spoiled(at, odd)),
        any::<String>().prop_map(ProfileError::ExtraField),
        Just(ProfileError::Wrapped),
        Just(ProfileError::Removed),
    ]
}

fn mistaken(mut configuration: Value, mistakes: &[(Index, ProfileError)]) -> Value {
    for (which, mistake) in mistakes {
        let mut found = Vec::new();
        pointers(&configuration, "", &mut found);
        if found.is_empty() {
            return configuration;
        }
        let pointer = which.get(&found);
        let value = configuration.pointer_mut(pointer).unwrap();
        match mistake {
            ProfileError::Another(other) => *value = other.clone(),
            ProfileError::Spoiled(at, odd) => {
                if let Value::String(text) = value
                    && text != INLINE
                {
                    let mut characters: Vec<char> = text.chars().collect();
                    characters.insert(at.index(characters.len() + 1), *odd);
                    *text = characters.into_iter().collect();
                }
            }
            ProfileError::ExtraField(name) => {
                if let Value::Object(members) = value {
                    members.insert(name.clone(), json!(1));
                }
            }
            ProfileError::Wrapped => *value = json!([value.take()]),
            ProfileError::Removed => *value = Value::Null,
        }
    }
    configuration
}

fn parsed(bytes: &[u8]) -> Result<Config, ConfigError> {
    Config::parse(bytes, &environment)
}

/// Whether `text` is `Bearer name="value", name="value"` (RFC 9110 sections 5.6.4 and 11.6.1), nothing else.
fn is_challenge(text: &str) -> bool {
    let Some(mut rest) = text.strip_prefix("Bearer ") else {
        return false;
    };
    loop {
        let Some((name, quoted)) = rest.split_once("=\"") else {
            return false;
        };
        let Some((value, after)) = quoted.split_once('"') else {
            return false;
        };
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        if !name.bytes().all(is_name) || !value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'\\') {
            return false;
        }
        match after.strip_prefix(", ") {
            Some(next) => rest = next,
            None => return after.is_empty(),
        }
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn any_text_is_read_as_a_token_or_refused_and_what_is_read_is_all_of_it(
        header in prop_oneof![any::<String>(), Just(r#"{"alg":"ES256"}"#.to_owned())],
        payload in prop_oneof![any::<String>(), Just("{}".to_owned())],
        signature in vec(any::<u8>(), 0..8),
        raw in any::<String>(),
        at in any::<Index>(),
        other in select(b"ABCDEFGHQRSTghijwxyz0189-_+/=. ".as_slice()),
    ) {
        let written = format!("{}.{}.{}", encode(header), encode(payload), encode(&signature));
        let mut bent = written.clone().into_bytes();
        let at = at.index(bent.len());
        bent[at] = other;
        // Its last character has bits that stand for nothing.
        let mut loose = written.clone().into_bytes();
        *loose.last_mut().unwrap() = other;
        let [bent, loose] = [bent, loose].map(|bytes| String::from_utf8(bytes).unwrap());
        for token in [raw.clone(), written.clone(), bent, loose, format!("{written}{raw}"), format!("{raw}.{written}")] {
            if let Ok(compact) = CompactJws::parse(&token, |_| None) {
                prop_assert_eq!(format!("{}.{}", compact.signing_input, encode(&compact.signature)), token);
            }
        }
    }

    #[test]
    fn what_was_written_into_a_token_is_read_out_of_it(
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
        let token = format!("{}.{}.{}", encode(header.to_string()), encode(&payload), encode(&signature));
        let compact = CompactJws::parse(&token, |_| None).unwrap();
        prop_assert_eq!(&compact.header.algorithm, "ES256");
        prop_assert_eq!(compact.header.media_type.as_deref(), Some("at+jwt"));
        prop_assert_eq!(&compact.header.key_id, &kid);
        let written: Value = serde_json::from_str(&payload).unwrap();
        prop_assert_eq!(serde_json::to_value(compact.claims().unwrap()).unwrap(), written);
        prop_assert_eq!(compact.signature, signature);
    }

    #[test]
    fn json_is_read_as_by_everyone_else_unless_a_name_stands_twice(document in document(), escaped in any::<bool>()) {
        let text = document.text(escaped);
        let usual: Value = serde_json::from_str(&text).unwrap();
        let expected = Some(usual).filter(|usual| usual.is_object() && !document.has_a_name_twice());
        let read = json::object(text.as_bytes()).map(|object| serde_json::to_value(object).unwrap());
        prop_assert_eq!(read, expected, "{}", text);
        prop_assert!(json::object([text.as_bytes(), text.as_bytes()].concat().as_slice()).is_none());
    }

    #[test]
    fn a_path_in_normal_form_is_its_own_and_has_one_reading(target in target()) {
        if let Some(normal) = path::normal_form(target.as_bytes()) {
            let again = path::normal_form(normal.as_bytes());
            prop_assert_eq!(again.as_deref(), Some(&*normal));
            let segments: Vec<_> = normal.split('/').skip(1).collect();
            let (last, inner) = segments.split_last().unwrap();
            prop_assert!(inner.iter().all(|segment| !matches!(*segment, "" | "." | "..")), "{:?}", normal);
            prop_assert!(!matches!(*last, "." | ".."), "{:?}", normal);
            // The same path, not another: it decodes to the same bytes, and has as many separators.
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
    fn a_time_claim_is_a_number_that_can_be_counted_or_is_refused(value in scalar(), name in select(vec!["exp", "nbf", "iat"])) {
        let mut claims = json!({"iss": "i", "aud": "a", "exp": 1});
        claims[name] = value.clone();
        let text = claims.to_string();
        let members = json::object(text.as_bytes()).unwrap();
        let read = Claims::read(&members);
        match value.as_f64().filter(|seconds| (0.0..=9_007_199_254_740_992.0).contains(seconds)) {
            None => prop_assert!(read.is_err(), "{}", value),
            Some(seconds) => {
                let claims = read.unwrap();
                let time = match name { "exp" => claims.expires, "nbf" => claims.not_before.unwrap(), _ => claims.issued_at.unwrap() };
                prop_assert!((time.millis() as f64 - seconds * 1000.0).abs() <= 1.0_f64.max(seconds * 1e-9), "{}", value);
            }
        }
    }

    #[test]
    fn no_sum_and_no_difference_of_times_goes_past_an_end(
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
    fn what_comes_back_as_a_token_can_stand_in_a_header(
        token in prop_oneof!["[!-~]{1,20}", "[ -~]{1,20}", any::<String>(), Just(alice_token()), (32_766..32_771_usize).prop_map(|length| "t".repeat(length))],
        kind in prop_oneof![Just(json!("Bearer")), Just(json!("BEARER")), scalar()],
        lifetime in prop_oneof![Just(json!(3600)), Just(json!("3600")), scalar()],
        status in prop_oneof![Just(200_u16), any::<u16>()],
    ) {
        let config = parse(&configuration());
        let provider = &config.providers[0];
        let target = config.resources[0].targets[0].as_ref().unwrap();
        let handed_in = alice_token();
        let body = json!({"access_token": token, "token_type": kind, "expires_in": lifetime}).to_string();
        let reply = CalloutResult::Response(Response { status, headers: Vec::new(), body: body.into_bytes() });
        let subject = SubjectInput { token: &handed_in, is_id_token: false, claims: None, actor: None };
        let token_endpoint = &Url::parse("https://login.entra.example/token").unwrap();
        let request = TokenRequest { provider, target, token_endpoint, subject, which: SecretVersion::Current, assertion: None, nonce: None, leg: Hop::First };
        let issued = request.read(&reply, &[], NOW);
        let is_bearer = kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
        let seconds = lifetime.as_u64().or_else(|| lifetime.as_str()?.parse().ok()).unwrap_or_default();
        let fits = matches!(token.len(), 1..=32_768) && token.bytes().all(|byte| byte.is_ascii_graphic());
        let expected = status == 200 && is_bearer && seconds > 0 && fits && token != handed_in;
        prop_assert_eq!(issued.is_ok(), expected);
        if let Ok(issued) = issued {
            prop_assert_eq!(issued.access_token.reveal(), token);
            prop_assert_eq!(issued.lifetime, Duration::from_secs(seconds.min(7 * 24 * 3600)));
        }
    }

    #[test]
    fn good_keys_are_kept_among_odd_ones_in_any_order(
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

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn one_byte_of_a_signed_token_changed_is_one_too_many((at, byte) in change(), insert in any::<bool>()) {
        let good = alice_token();
        prop_assert!(accept(&good, NOW).is_ok());
        let changed = changed(&good, &at, byte, insert);
        prop_assume!(changed != good);
        prop_assert!(accept(&changed, NOW).is_err(), "accepted with {:?}", char::from(byte));
    }

    #[test]
    fn a_mistaken_configuration_is_refused_by_name_and_shows_no_secret(
        mistakes in vec((any::<Index>(), mistake()), 1..4),
    ) {
        let configuration = mistaken(full_configuration(), &mistakes);
        let key = environment("OKTA_PRIVATE_KEY").unwrap();
        let key = key.lines().nth(1).unwrap();
        let hides_secrets = |text: &str| [SECRET, INLINE, key].iter().all(|secret| !text.contains(secret));
        let as_json = parsed(configuration.to_string().as_bytes());
        match &as_json {
            Ok(config) => {
                let shown = format!("{config:?}");
                prop_assert!(hides_secrets(&shown));
            }
            Err(error) => {
                prop_assert!(!error.path.is_empty() && !error.found.is_empty() && !error.expected.is_empty());
                prop_assert!(hides_secrets(&error.to_string()), "at {}", error.path);
            }
        }
        // Envoy hands over one or the other, and it must not matter which.
        let as_struct = parsed(&protobuf_struct(&configuration));
        let place = |result: &Result<Config, ConfigError>| match result {
            Ok(config) => format!("{config:?}"),
            Err(error) => error.path.clone(),
        };
        prop_assert_eq!(place(&as_json), place(&as_struct));
    }

    #[test]
    fn what_is_accepted_as_a_resource_can_stand_in_a_challenge(
        path in "[ -~]{0,6}", scope in "[ -~]{1,6}", authority in "[a-z:.'*_]{0,6}",
    ) {
        let mut configuration = configuration();
        let url = format!("https://mcp{authority}.acme.example/{path}");
        configuration["resources"][0]["url"] = json!(url);
        configuration["resources"][0]["scopes_supported"] = json!([scope]);
        if let Ok(config) = parsed(configuration.to_string().as_bytes()) {
            let resource = &config.resources[0];
            let path = if resource.url.path().is_empty() { "/" } else { resource.url.path() };
            let fields: [(&str, &[u8]); 3] =
                [(":method", b"GET"), (":authority", resource.url.authority().as_bytes()), (":path", path.as_bytes())];
            match Bench::new(&configuration).ask(Request::new(&fields)) {
                Decision::Respond(answer) => {
                    let challenge = header(&answer, "www-authenticate").unwrap_or_default();
                    prop_assert!(is_challenge(challenge), "{:?} of {}", challenge, url);
                }
                _ => prop_assert!(false, "nobody asked for a token at {}", url),
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn a_token_is_in_force_from_its_beginning_to_its_end_and_at_no_other_time(
        expires in prop_oneof![0..300_u64, Just(0), any::<u64>().prop_map(|seconds| seconds % EXACT)],
        not_before in proptest::option::of(prop_oneof![0..300_u64, any::<u64>().prop_map(|seconds| seconds % EXACT)]),
        now in prop_oneof![0..400_u64, Just(u64::MAX / 1000), 0..EXACT],
        near in proptest::option::of((any::<bool>(), 0..3_u64)),
    ) {
        // Most mistakes are made by one.
        let now = match (near, not_before) {
            (None, _) => now,
            (Some((true, off)), Some(from)) => (from + off).saturating_sub(61),
            (Some((_, off)), _) => expires + 59 + off,
        };
        let token = ENTRA_KEY.token(&with(alice(), json!({"exp": expires, "nbf": not_before, "iat": null})));
        let verdict = accept(&token, UnixTime::from_secs(now));
        let leeway = 60;
        let expected = if i128::from(now) >= i128::from(expires) + leeway {
            Some(TokenError::Expired)
        } else if not_before.is_some_and(|from| i128::from(now) < i128::from(from) - leeway) {
            Some(TokenError::NotYetValid)
        } else {
            None
        };
        prop_assert_eq!(verdict.err(), expected);
    }

    /// Each exchange is one that lifetimes force, so no other way of calling would have taken fewer.
    #[test]
    fn a_token_is_exchanged_when_none_is_there_and_is_used_before_its_end(
        subject in prop_oneof![1..120_u64, 1..4000_u64],
        lifetimes in vec(prop_oneof![1..100_u64, 1..4000_u64], 1..6),
        ends_with_subject in any::<bool>(),
        is_jwt in any::<bool>(),
        latency in prop_oneof![Just(0), 0..3000_u64],
        pauses in vec(prop_oneof![0..1000_u64, 0..30_000_u64, 0..600_000_u64], 1..150),
    ) {
        let shared = SharedMap::default();
        let mut workers = [(); 2].map(|()| Bench::beside(&configuration(), &shared).with_keys());
        let subject = subject * 1000;
        let token = ENTRA_KEY.token(&with(alice(), json!({"exp": NOW.secs() + subject / 1000})));
        // Tokens that were issued: each with the time at which it was asked for, and its lifetime.
        let mut issued: Vec<(String, u64, u64)> = Vec::new();
        let mut time = 0;
        for (number, pause) in pauses.into_iter().enumerate() {
            time += pause;
            if time >= subject + 60_000 {
                break;
            }
            let bench = &mut workers[number % 2];
            bench.now = NOW.plus(Duration::from_millis(time));
            let (id, mut step) = bench.send(bearer("/github", &token));
            let waits = matches!(step, Decision::Pause);
            while let Some((flight, call)) = bench.engine.next_callout() {
                prop_assert_eq!(call.method, "POST");
                // A token is used whole unless the next one may be good for a minute more, and so is worth a call.
                let is_worth_it = |asked: u64, lifetime: u64| asked + lifetime + 60_000 < subject;
                let usable = |asked, lifetime: u64| match is_worth_it(asked, lifetime) {
                    true => lifetime - (lifetime / 4).min(30_000),
                    false => lifetime,
                };
                let until = |(_, asked, lifetime): &&(String, u64, u64)| asked + usable(*asked, *lifetime);
                if let Some((_, asked, lifetime)) = issued.iter().max_by_key(until) {
                    let all = usable(*asked, *lifetime);
                    let ahead = if waits || !is_worth_it(*asked, *lifetime) { 0 } else { all / 5 };
                    prop_assert!(time + 1 + ahead >= asked + all, "asked for again after {} of {} ms", time - asked, lifetime);
                    // One that would end sooner is not asked for again to no avail.
                    let (_, last, lifetime) = issued.last().unwrap();
                    let ahead = if waits { 0 } else { usable(*last, *lifetime) / 5 };
                    prop_assert!(time + 1 + ahead >= asked + all, "asked for again after {} ms", time - last);
                }
                let asked = time;
                time += latency;
                bench.now = NOW.plus(Duration::from_millis(time));
                let left = (subject.saturating_sub(asked) / 1000).max(1);
                let lifetime = lifetimes[issued.len() % lifetimes.len()];
                let lifetime = if ends_with_subject { lifetime.min(left) } else { lifetime };
                let expires = UnixTime::from_secs((NOW.millis() + asked).div_ceil(1000) + lifetime);
                let claims = json!({"n": issued.len(), "aud": "api://github", "exp": expires.secs()});
                let (next, lifetime, expires_in) = match is_jwt {
                    true => (ENTRA_KEY.token(&claims), expires.millis() - NOW.millis() - asked, 9000),
                    false => (format!("up-{}", issued.len()), lifetime * 1000, lifetime),
                };
                issued.push((next.clone(), asked, lifetime));
                let body = json!({"access_token": next, "token_type": "Bearer", "expires_in": expires_in});
                for (of, next) in bench.reply(flight, &answer_with(200, &[], &body)) {
                    prop_assert_eq!(of, id);
                    step = next;
                }
            }
            match step {
                Decision::Forward(edits) => {
                    let authorization = edits.authorization.unwrap();
                    let sent = authorization.reveal().strip_prefix("Bearer ").unwrap();
                    let (_, asked, lifetime) = issued.iter().find(|(token, ..)| token == sent).unwrap();
                    // Those who have waited for a slow answer get its token all the same.
                    let slack = if waits && !is_jwt { latency } else { 0 };
                    prop_assert!(time < asked + lifetime + slack, "sent {} ms after its end", time - asked - lifetime);
                }
                // The provider took longer than the token that it gave, or than the caller's own lasted.
                Decision::Respond(answer) => prop_assert!(latency > 0, "{:?}", answer),
                Decision::Pause => prop_assert!(false, "nobody waits"),
            }
        }
    }

    #[test]
    fn a_changed_token_is_never_exchanged((at, byte) in change()) {
        let good = alice_token();
        let changed = changed(&good, &at, byte, false);
        prop_assume!(changed != good);
        let mut bench = Bench::ready();
        drop(bench.send(bearer("/github", &changed)));
        while let Some((flight, call)) = bench.engine.next_callout() {
            // A key that is not known may be looked for; nothing else may be asked of the provider.
            prop_assert_eq!(call.method, "GET");
            drop(bench.reply(flight, &provider_document(&call)));
        }
        prop_assert_eq!(bench.engine.waiting(), 0);
    }

    #[test]
    fn one_byte_of_a_proof_changed_is_one_too_many((at, byte) in change(), insert in any::<bool>()) {
        let (good, thumbprint) = proof(json!({}));
        prop_assert!(verdict(&good, &thumbprint, NOW).is_ok());
        let changed = changed(&good, &at, byte, insert);
        prop_assume!(changed != good);
        prop_assert!(verdict(&changed, &thumbprint, NOW).is_err(), "accepted with {:?}", char::from(byte));
    }

    #[test]
    fn a_proof_is_good_around_its_own_time_only(
        issued in prop_oneof![0..1000_u64, 0..EXACT],
        now in prop_oneof![0..1000_u64, 0..EXACT, Just(u64::MAX / 1000)],
    ) {
        let (good, thumbprint) = proof(json!({"iat": issued}));
        prop_assert_eq!(verdict(&good, &thumbprint, UnixTime::from_secs(now)).is_ok(), issued.abs_diff(now) <= 300);
    }

    #[test]
    fn a_proof_is_good_for_its_own_url_only(
        spelling in target(),
        authority in "[a-zA-Z.:@/]{0,3}",
        which in 0..4,
    ) {
        let htu = match which {
            0 => format!("https://mcp.acme.example{authority}{spelling}"),
            1 => format!("https://mcp.acme.example{spelling}"),
            2 => format!("https://mcp.acme.example/github{spelling}"),
            _ => format!("https://mcp.acme.example/github{authority}?{spelling}"),
        };
        let (good, thumbprint) = proof(json!({"htu": htu}));
        let is_good = verdict(&good, &thumbprint, NOW).is_ok();
        let written = htu.split(['?', '#']).next().unwrap();
        let decoded = percent_encoding::percent_decode_str(written).decode_utf8_lossy().into_owned();
        prop_assert!(!is_good || decoded == "https://mcp.acme.example/github", "{}", htu);
    }
}

/// Where a token is changed, and to which byte: mostly to one that may stand there, and often at the end of a segment,
/// where the last character has bits that nobody needs.
fn change() -> impl Strategy<Value = (Place, u8)> {
    let place = prop_oneof![
        any::<Index>().prop_map(Place::Anywhere),
        (0..3_usize).prop_map(Place::EndOfSegment),
        (0..3_usize).prop_map(Place::EndOfSegment),
    ];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=.".to_vec();
    (place, prop_oneof![0_u8..0x80, select(alphabet)])
}

#[derive(Clone, Debug)]
enum Place {
    Anywhere(Index),
    EndOfSegment(usize),
}

fn changed(good: &str, at: &Place, byte: u8, insert: bool) -> String {
    let mut bytes = good.as_bytes().to_vec();
    let at = match at {
        Place::Anywhere(at) => at.index(bytes.len()),
        Place::EndOfSegment(segment) => good.split('.').take(segment + 1).map(|part| part.len() + 1).sum::<usize>() - 2,
    };
    if insert {
        bytes.insert(at + 1, byte);
    } else {
        bytes[at] = byte;
    }
    String::from_utf8(bytes).unwrap()
}

/// A proof for Alice's token at `/github`, and the thumbprint of its key (RFC 7638 section 3.2).
fn proof(changes: Value) -> (String, String) {
    let set: Value = serde_json::from_slice(&key_set(&[&OTHER_KEY])).unwrap();
    let [x, y] = ["x", "y"].map(|name| set["keys"][0][name].as_str().unwrap());
    let hash = |text: &str| encode(hmac_sha256::Hash::hash(text.as_bytes()));
    let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": {"kty": "EC", "crv": "P-256", "x": x, "y": y}});
    let claims = json!({"jti": "j", "htm": "POST", "htu": "https://mcp.acme.example/github", "iat": NOW.secs(), "ath": hash("token")});
    let thumbprint = hash(&format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#));
    (OTHER_KEY.sign(&header, &with(claims, changes)), thumbprint)
}

fn verdict(proof: &str, key_thumbprint: &str, now: UnixTime) -> Result<verify::Proof, &'static str> {
    let url = Url::parse("https://mcp.acme.example/github").unwrap();
    let (path, access_token, max_age) = ("/github", "token", Duration::from_secs(300));
    let expected = verify::ProofRules { method: b"POST", url: &url, path, access_token, key_thumbprint, max_age };
    verify::verify(proof.as_bytes(), expected, &Software, now)
}
