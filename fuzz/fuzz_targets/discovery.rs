//! A provider's metadata document.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onbehalf::config::Config;
use onbehalf::provider::Endpoints;
use onbehalf_fuzz::config;
use serde_json::Value;

thread_local! {
    static CONFIG: Config = config();
}

fuzz_target!(|body: &[u8]| CONFIG.with(|config| {
    for provider in &config.providers {
        let Ok(endpoints) = Endpoints::discovered(provider, body) else {
            continue;
        };
        let document: Value = serde_json::from_slice(body).expect("read what is not JSON");
        assert_eq!(document["issuer"].as_str(), Some(provider.issuer.as_str()));
        let jwks_uri = endpoints.jwks_uri.as_ref().expect("keys that nobody wrote down are fetched");
        for (name, url) in [
            ("jwks_uri", jwks_uri),
            ("token_endpoint", &endpoints.token_endpoint.clone().expect("an endpoint to exchange at")),
        ] {
            assert_eq!(document[name].as_str(), Some(url.as_str()));
            // The host as a simple reader cuts it out of the URL.
            let rest = url.as_str().get("https://".len()..).expect("a scheme");
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default().to_ascii_lowercase();
            let issuer = provider.issuer.as_str().split('/').nth(2).unwrap_or_default();
            assert_eq!(host.strip_suffix(":443").unwrap_or(&host), issuer, "another host would get the secret");
            assert!(url.as_str().to_ascii_lowercase().starts_with("https://"), "sent in the clear");
        }
    }
}));
