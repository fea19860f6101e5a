//! Configuration of DPoP keys.

use jwt_simple::algorithms::RS256KeyPair;
use onbehalf_test_support::{configuration, configuration_error, parse, with};
use serde_json::{Value, json};

use super::{as_dpop, pem, with_key};

#[test]
fn configuration_without_a_usable_dpop_key_is_refused() {
    let no_key = with(configuration(), json!({}));
    let with_exchange = |mut configuration: Value, more: Value| {
        let exchange = &mut configuration["resources"][0]["exchange"]["okta-eu"];
        *exchange = with(exchange.clone(), more);
        configuration_error(&configuration).to_string()
    };
    let at = "resources[0].exchange.okta-eu";
    let found = with_exchange(no_key, json!({"token_type": "dpop"}));
    assert!(found.contains(&format!("{at}.token_type: ")) && found.contains("okta-eu.client.dpop"), "{found}");
    for more in [
        json!({"upstream_url": "https://x.example"}),
        json!({"upstream_url": "https://x.example", "token_type": "bearer"}),
    ] {
        assert!(
            with_exchange(as_dpop(), with(json!({"token_type": null}), more)).contains(&format!("{at}.upstream_url: "))
        );
    }
    for url in ["http://x.example", "https://x.example/?q", "https://user:pass@x.example", "x", "https://x.example/#f"]
    {
        let found = with_exchange(as_dpop(), json!({"upstream_url": url}));
        assert!(found.contains(&format!("{at}.upstream_url: ")) && !found.contains("pass"), "{found}");
    }
    assert!(with_exchange(as_dpop(), json!({"token_type": "DPoP"})).contains("bearer or dpop"));
    for (key, algorithm, field) in
        [(pem(), "ES384", "key"), (pem(), "HS256", "algorithm"), ("no key".to_owned(), "ES256", "key")]
    {
        let found = configuration_error(&with_key(&key, algorithm, json!({}))).to_string();
        assert!(
            found.contains(&format!("okta-eu.client.dpop.{field}: ")) && !found.contains("BEGIN PRIVATE KEY-"),
            "{found}"
        );
    }
    let mut empty = configuration();
    empty["identity_providers"]["okta-eu"]["client"]["dpop"] = json!({});
    assert!(configuration_error(&empty).to_string().contains("client.dpop.algorithm: found nothing"));
}

#[test]
fn dpop_key_is_never_shown() {
    let config = parse(&as_dpop());
    let shown = format!("{config:?}");
    let body: String = pem().lines().filter(|line| !line.starts_with('-')).collect();
    assert!(shown.contains("SigningKey(ES256)") && !shown.contains(&body[..40]));
}

#[test]
fn log_warns_of_a_slow_key_for_upstream_proofs() {
    let warnings = |pem: &str, algorithm: &str, exchange: Value| parse(&with_key(pem, algorithm, exchange)).warnings;
    let of = |pem: &str, algorithm: &str, exchange: Value| {
        let warnings = warnings(pem, algorithm, exchange);
        let is_of_speed =
            |text: &String| text.starts_with("resources[0].exchange.okta-eu.token_type: ") && text.contains("ES256");
        warnings.into_iter().filter(is_of_speed).collect()
    };
    let rsa = RS256KeyPair::generate(2048).unwrap().to_pem().unwrap();
    for algorithm in ["RS256", "PS256", "PS512"] {
        let found: Vec<String> = of(&rsa, algorithm, json!({"token_type": "dpop"}));
        assert!(found.len() == 1 && found[0].contains(algorithm) && found[0].contains("ES256"), "{found:?}");
        // A key that signs only token requests causes no warning.
        assert_eq!(of(&rsa, algorithm, json!({})), [""; 0]);
    }
    assert_eq!(of(&pem(), "ES256", json!({"token_type": "dpop"})), [""; 0]);
}
