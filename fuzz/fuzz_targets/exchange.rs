//! A response of a token endpoint: a status in the first line, header fields, an empty line, the body.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use onbehalf::config::Config;
use onbehalf::http::{CalloutResult, Response};
use onbehalf::jose::CompactJws;
use onbehalf::provider::{Accepted, Hop, SecretVersion, SubjectInput, TokenRequest};
use onbehalf::url::Url;
use onbehalf_fuzz::{callers, config, has_a_secret};
use onbehalf_test_support::{NOW, configuration, parse};
use serde_json::{Value, json};

/// The assertion that the first of two calls has brought.
const ASSERTION: &str = "the.first.brought";

thread_local! {
    static CONFIGS: [Config; 2] = [config(), of_two_calls()];
}

fn read(text: &[u8]) -> Option<Response> {
    let mut headers = Vec::new();
    let mut lines = text.splitn(8, |byte| *byte == b'\n');
    let status = std::str::from_utf8(lines.next()?).ok()?.parse().ok()?;
    for line in lines {
        if let Some(body) = line.strip_prefix(b"\r") {
            return Some(Response { status, headers, body: body.to_vec() });
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = std::str::from_utf8(&line[..colon]).ok()?.to_ascii_lowercase();
        headers.push((name, line[colon + 1..].to_vec()));
    }
    None
}

/// A configuration with a provider whose exchange takes two calls.
fn of_two_calls() -> Config {
    let mut configuration = configuration();
    let okta = &mut configuration["identity_providers"]["okta-eu"];
    okta["profile"] = json!("id_jag");
    okta["client"]["authentication"] = json!({"method": "client_secret_basic", "secret": {"env": "SECRET"}});
    configuration["resources"][0]["exchange"]["okta-eu"] = json!({"audience": "https://acme.okta.example/oauth2/aus1",
        "authorization_server": {"token_endpoint": "https://acme.okta.example/oauth2/aus1/v1/token"}});
    parse(&configuration)
}

fuzz_target!(|text: &[u8]| CONFIGS.with(|configs| {
    let Some(answer) = read(text) else {
        return;
    };
    let (status, body) = (answer.status, answer.body.clone());
    let reply = CalloutResult::Response(answer);
    let subject =
        SubjectInput { token: &callers()[0].token, is_id_token: false, token_type: None, claims: None, actor: None };
    let providers =
        configs.iter().flat_map(|config| config.providers.iter().enumerate().map(move |found| (config, found)));
    for ((config, (index, provider)), hop) in
        providers.flat_map(|found| [(found, Hop::IdentityProvider), (found, Hop::ResourceServer { id_jag: ASSERTION })])
    {
        let target = config.resources[0].exchanges[index].target.exchange().unwrap();
        let token_endpoint = &Url::parse("https://login.example/token").unwrap();
        let request = TokenRequest {
            provider,
            target,
            token_endpoint,
            subject,
            secret_version: SecretVersion::Current,
            assertion: None,
            nonce: None,
            hop,
            has_worked: false,
            shows_descriptions: false,
        };
        let audiences: Vec<&str> = provider.audiences.iter().map(String::as_str).collect();
        match request.read(&reply, &[Accepted { provider, audiences: audiences.clone() }], NOW) {
            Ok(issued) => {
                let usual: Value = serde_json::from_slice(&body).expect("read what is not JSON");
                let token = issued.access_token.reveal();
                assert_eq!((status, usual["access_token"].as_str()), (200, Some(token)));
                let kind = usual["token_type"].as_str().unwrap().to_ascii_lowercase();
                if request.is_for_id_jag() {
                    assert!(matches!(kind.as_str(), "n_a" | "bearer"));
                    assert_eq!(usual["issued_token_type"], "urn:ietf:params:oauth:token-type:id-jag");
                } else {
                    assert_eq!(kind, "bearer");
                    assert_ne!(usual["issued_token_type"], "urn:ietf:params:oauth:token-type:id-jag");
                }
                assert!(matches!(token.len(), 1..=32_768) && token.bytes().all(|byte| matches!(byte, 0x21..=0x7e)));
                assert_ne!(token, subject.token);
                assert!(token != ASSERTION || matches!(hop, Hop::IdentityProvider));
                if let (Ok(compact), Hop::IdentityProvider) = (CompactJws::parse(token, |_| None), hop)
                    && let Ok(claims) = compact.claims()
                {
                    let is_ours = |audience: &str| audiences.contains(&audience);
                    let several = claims.get("aud").and_then(|audience| audience.as_array());
                    let mut several = several.into_iter().flatten().filter_map(|audience| audience.as_str());
                    assert!(!claims.string("aud").is_some_and(is_ours) && !several.any(is_ours), "good for the proxy");
                    assert!(!claims.has("at_hash") && !claims.has("events"), "no access token");
                }
                assert!(issued.end(NOW) > NOW);
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
                    assert!(
                        provider.issuer.url().is_some_and(at) || provider.token_endpoint.as_ref().is_some_and(at),
                        "{uri}"
                    );
                }
                if let Some(claims) = fault.claims {
                    let claims: Value = serde_json::from_str(&claims).expect("a claims challenge that is not JSON");
                    assert!(claims.is_object());
                }
            }
        }
    }
}));
