//! What comes back from a token endpoint: a status in the first line, header fields, an empty line, the body.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use onbehalf::config::Config;
use onbehalf::http::{Answer, Reply, Url};
use onbehalf::idp::{Subject, TokenRequest, Which};
use onbehalf_fuzz::support::NOW;
use onbehalf_fuzz::world::{CALLERS, IdToken, config, has_a_secret};
use serde_json::Value;

thread_local! {
    static CONFIG: Config = config(IdToken::None, 0);
}

fn read(text: &[u8]) -> Option<Answer> {
    let mut headers = Vec::new();
    let mut lines = text.splitn(8, |byte| *byte == b'\n');
    let status = std::str::from_utf8(lines.next()?).ok()?.parse().ok()?;
    for line in lines {
        if let Some(body) = line.strip_prefix(b"\r") {
            return Some(Answer { status, headers, body: body.to_vec() });
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = std::str::from_utf8(&line[..colon]).ok()?.to_ascii_lowercase();
        headers.push((name, line[colon + 1..].to_vec()));
    }
    None
}

fuzz_target!(|text: &[u8]| CONFIG.with(|config| {
    let Some(answer) = read(text) else {
        return;
    };
    let (status, body) = (answer.status, answer.body.clone());
    let reply = Reply::Answer(answer);
    let subject = Subject { token: CALLERS[0].token, is_id_token: false, claims: None };
    for (index, provider) in config.providers.iter().enumerate() {
        let target = config.resources[0].targets[index].as_ref().unwrap();
        let token_endpoint = &Url::parse("https://login.example/token").unwrap();
        let request = TokenRequest {
            provider,
            target,
            token_endpoint,
            subject,
            which: Which::Current,
            assertion: None,
            nonce: None,
        };
        match request.read(&reply, NOW) {
            Ok(issued) => {
                let usual: Value = serde_json::from_slice(&body).expect("read what is not JSON");
                let token = issued.access_token.reveal();
                assert_eq!((status, usual["access_token"].as_str()), (200, Some(token)));
                assert!(usual["token_type"].as_str().unwrap().eq_ignore_ascii_case("bearer"));
                assert!(matches!(token.len(), 1..=32_768) && token.bytes().all(|byte| matches!(byte, 0x21..=0x7e)));
                assert_ne!(token, subject.token);
                assert!(issued.lifetime > Duration::ZERO && issued.lifetime <= Duration::from_secs(7 * 24 * 3600));
            }
            Err(fault) => {
                let line = fault.to_string();
                assert!(line.len() < 1024 && line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line:?}");
                assert!(!has_a_secret(&line));
                assert!(fault.retry_after.is_none_or(|pause| (1..=120).contains(&pause.as_secs())));
                if let Some(uri) = fault.interaction_uri {
                    let rest = uri.get(..8).filter(|scheme| scheme.eq_ignore_ascii_case("https://")).map(|_| &uri[8..]);
                    let host = rest.expect("a scheme of its own").split(['/', '?', '#']).next().unwrap();
                    let host = host.to_ascii_lowercase();
                    let host = host.strip_suffix(":443").unwrap_or(&host);
                    let at = |url: &Url| host == url.authority() || host.ends_with(&format!(".{}", url.authority()));
                    assert!(at(&provider.issuer) || provider.token_endpoint.as_ref().is_some_and(at), "{uri}");
                }
                if let Some(claims) = fault.claims {
                    let claims: Value = serde_json::from_str(&claims).expect("a claims challenge that is not JSON");
                    assert!(claims.is_object());
                }
            }
        }
    }
}));
