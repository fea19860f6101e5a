//! Discovery and JWKS of the two providers.

use onbehalf::http::{Callout, CalloutResult};
use serde_json::json;

use crate::http::{answer, answer_with};
use crate::tokens::{ENTRA, ENTRA_KEY, OKTA, OKTA_KEY, key_set};

/// The reply of a provider to a call for its metadata or its JWKS.
pub fn provider_document(call: &Callout) -> CalloutResult {
    let metadata = |issuer: &str, keys: &str, token: &str| {
        answer_with(200, &[], &json!({"issuer": issuer, "jwks_uri": keys, "token_endpoint": token}))
    };
    match call.url.as_str() {
        "https://login.entra.example/9b1c0000-1111-4222-8333-444455556666/v2.0/.well-known/openid-configuration" => {
            metadata(
                ENTRA,
                "https://login.entra.example/9b1c0000-1111-4222-8333-444455556666/discovery/v2.0/keys",
                "https://login.entra.example/9b1c0000-1111-4222-8333-444455556666/oauth2/v2.0/token",
            )
        }
        "https://acme.okta.example/oauth2/default/.well-known/openid-configuration" => {
            metadata(OKTA, &format!("{OKTA}/v1/keys"), &format!("{OKTA}/v1/token"))
        }
        "https://login.entra.example/9b1c0000-1111-4222-8333-444455556666/discovery/v2.0/keys" => {
            answer(200, &key_set(&[&ENTRA_KEY]))
        }
        "https://acme.okta.example/oauth2/default/v1/keys" => answer(200, &key_set(&[&OKTA_KEY])),
        other => panic!("no provider serves {other}"),
    }
}
