//! Secrets and tokens, which no log line, metric or local reply contains.

use onbehalf_wasm_tests::{Host, Module, Outcome, Reply};
use serde_json::json;

use crate::support::provider::{self, Idp, entra, exchanged, issued, okta};
use crate::support::{keys, send_waiting, settle, setup, token};

/// The parts of a token, none of which may be shown: claims are personal data, and a signature makes a token usable.
fn parts(token: &str) -> impl Iterator<Item = String> {
    token.split('.').skip(1).map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// Valid and invalid requests of many kinds at log level trace. Returns every token in them.
fn traffic(host: &mut Host) -> Vec<String> {
    let (mut entra, mut okta) = (entra(), okta());
    host.tick();
    settle(host, &mut [&mut entra, &mut okta]);
    let now = host.world().now();
    let mut tokens = Vec::new();
    let good = [token::entra("alice.secret", now), token::okta("bob.secret", now)];
    for token in good {
        let variants = [
            token.sign(),
            token.clone().claim("exp", now - 600).sign(),
            token.clone().claim("aud", "api://secret-audience").sign(),
            token.clone().claim("scp", json!(["secret-scope"])).sign(),
            token.clone().without("uid").without("oid").sign(),
            token.clone().header("kid", "nobody").sign(),
            token.signed_with(b"not-a-signature-at-all"),
            format!("{}x", token.sign()),
        ];
        for token in variants {
            let request = send_waiting(host, &token);
            settle(host, &mut [&mut entra, &mut okta]);
            assert_ne!(host.outcome(request), Outcome::Waiting);
            tokens.push(token);
        }
    }
    for (number, reply) in bad_replies().into_iter().enumerate() {
        let token = token::entra(&format!("carol.secret-{number}"), now).sign();
        let request = send_waiting(host, &token);
        for call in host.calls() {
            host.answer(call.id, reply(&token));
        }
        assert_ne!(host.outcome(request), Outcome::Waiting);
        tokens.push(token);
    }
    host.advance(1);
    tokens
}

/// Responses in which the provider repeats the request in every member.
fn bad_replies() -> Vec<fn(&str) -> Reply> {
    vec![
        |token| {
            Reply::new(
                400,
                "application/json",
                json!({"error": "invalid_grant", "error_description": token}).to_string(),
            )
        },
        |token| Reply::new(400, "application/json", json!({"error": token}).to_string()),
        |token| Reply::new(400, "application/json", json!({"error": "invalid_grant", "suberror": token}).to_string()),
        |token| Reply::new(400, "application/json", json!({"error": "invalid_grant", "trace_id": token}).to_string()),
        |_| {
            let secret = provider::ENTRA_SECRET;
            let body = json!({"error": format!("invalid {secret}"), "error_description": secret, "suberror": secret, "trace_id": secret});
            Reply::new(401, "application/json", body.to_string())
        },
        |token| Reply::new(401, "text/html", format!("<html>{token}</html>")),
        |token| Reply::new(200, "text/html", format!("<html>{token}</html>")),
        |token| Reply::json(json!({"access_token": token, "token_type": "Bearer"}).to_string()),
        |token| Reply::json(json!({"access_token": exchanged(token), "token_type": token}).to_string()),
        |token| Reply::new(302, "text/html", "").header("location", token),
        |token| Reply::new(503, "text/plain", token).header("x-ms-request-id", token),
        |token| Reply::json(&issued(token).to_string()[..40]),
    ]
}

#[test]
fn log_contains_no_token_or_secret_at_any_level() {
    for (offered, subjects) in [(true, "none"), (false, "hashed"), (true, "plain")] {
        let mut configuration = provider::configuration();
        configuration["audit"] = json!({"subjects": subjects});
        let mut setup = setup(Module::filter(), &configuration).log_level(0);
        if !offered {
            setup = setup.without_foreign_function("sign").without_foreign_function("verify_signature");
        }
        let mut host = setup.start();
        let tokens = traffic(&mut host);
        let log = host.log_text();
        assert!(log.lines().count() > 10, "this test is about a log that is written:\n{log}");
        let key: String = keys::pem().lines().nth(1).expect("a line of base64").to_owned();
        let mut secrets = vec![provider::ENTRA_SECRET.to_owned(), key];
        secrets.extend(["secret-scope", "acme.example@", "@acme.example"].map(str::to_owned));
        let users = ["alice.secret", "bob.secret"];
        if subjects == "plain" {
            assert!(users.iter().all(|user| log.contains(&format!("{user} client="))), "{log}");
        } else {
            secrets.extend(users.map(str::to_owned));
        }
        for token in &tokens {
            secrets.push(exchanged(token));
            secrets
                .extend(parts(token).filter(|part| part.len() > 8).map(|part| part[..part.len().min(40)].to_owned()));
        }
        for secret in secrets {
            let line = log.lines().find(|line| line.contains(&secret));
            assert!(line.is_none(), "{secret:?} is in the log: {}", line.unwrap_or_default());
        }
    }
}

#[test]
fn local_replies_and_metric_names_contain_no_token_or_secret() {
    let mut host = setup(Module::filter(), &provider::configuration()).start();
    let tokens = traffic(&mut host);
    let metrics = format!("{:?}", host.world().metrics());
    assert!(metrics.contains("onbehalf.decisions"), "{metrics}");
    for token in &tokens {
        let request = send_waiting(&mut host, token);
        let mut providers: [&mut Idp; 2] = [&mut entra(), &mut okta()];
        settle(&mut host, &mut providers);
        if let Outcome::Answered(answer) = host.outcome(request) {
            let shown = format!("{:?} {}", answer.headers, answer.text());
            for part in parts(token).filter(|part| part.len() > 8) {
                assert!(!shown.contains(&part[..part.len().min(40)]), "{shown}");
            }
            assert!(!shown.contains("secret"), "{shown}");
        }
        assert!(!parts(token).any(|part| part.len() > 8 && metrics.contains(&part)));
    }
}
