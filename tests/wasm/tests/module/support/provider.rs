//! The configuration of the tests, and providers that answer as Entra and Okta do.

use std::collections::BTreeMap;

use onbehalf_test_support::base64url;
use onbehalf_wasm_tests::{Call, Reply};
use serde_json::{Value, json};

use super::keys;

pub const ENTRA_ISSUER: &str = "https://login.microsoftonline.example/8a0b1c2d-0000-4000-8000-000000000001/v2.0";
pub const OKTA_ISSUER: &str = "https://acme.okta.example/oauth2/default";
pub const ENTRA_SECRET: &str = "entra-client-secret-7f3c";

/// Both providers, one resource that both exchange for, one that only Entra does.
pub fn configuration() -> Value {
    json!({
        "identity_providers": {
            "entra-us": {
                "profile": "entra_obo",
                "issuer": ENTRA_ISSUER,
                "cluster": "entra",
                "audiences": ["api://onbehalf"],
                "client": {
                    "id": "onbehalf-app",
                    "authentication": {"method": "client_secret_post", "secret": {"env": "ENTRA_CLIENT_SECRET"}}
                }
            },
            "okta-eu": {
                "profile": "okta_obo",
                "issuer": OKTA_ISSUER,
                "cluster": "okta",
                "audiences": ["api://default"],
                "client": {
                    "id": "0oaservice",
                    "authentication": {
                        "method": "private_key_jwt", "key": {"env": "OKTA_PRIVATE_KEY"}, "key_id": "k1", "algorithm": "ES256"
                    }
                }
            }
        },
        "resources": [
            {
                "url": "https://mcp.acme.example/github",
                "audiences": ["api://onbehalf", "api://default"],
                "scopes": ["mcp:read"],
                "scopes_supported": ["https://mcp.acme.example/github/mcp:read"],
                "exchange": {
                    "entra-us": {"resource": "api://github-mcp"},
                    "okta-eu": {"audience": "com.acme.github", "scopes": ["github.read"]}
                }
            },
            {
                "url": "https://mcp.acme.example/entra-only",
                "audiences": ["api://onbehalf"],
                "scopes": ["mcp:read"],
                "scopes_supported": ["https://mcp.acme.example/entra-only/mcp:read"],
                "exchange": {"entra-us": {"resource": "api://entra-only"}}
            }
        ],
        "unauthenticated_paths": ["/healthz"]
    })
}

/// A healthy identity provider behind one cluster.
pub struct Idp {
    pub cluster: &'static str,
    issuer: &'static str,
    keys_path: &'static str,
    token_path: &'static str,
    /// Number of calls of each path.
    pub called: BTreeMap<String, u32>,
    /// The forms of the token requests.
    pub forms: Vec<BTreeMap<String, String>>,
}

pub fn entra() -> Idp {
    Idp {
        cluster: "entra",
        issuer: ENTRA_ISSUER,
        keys_path: "/8a0b1c2d-0000-4000-8000-000000000001/discovery/v2.0/keys",
        token_path: "/8a0b1c2d-0000-4000-8000-000000000001/oauth2/v2.0/token",
        called: BTreeMap::new(),
        forms: Vec::new(),
    }
}

pub fn okta() -> Idp {
    Idp {
        cluster: "okta",
        issuer: OKTA_ISSUER,
        keys_path: "/oauth2/default/v1/keys",
        token_path: "/oauth2/default/v1/token",
        called: BTreeMap::new(),
        forms: Vec::new(),
    }
}

impl Idp {
    /// Answers discovery, keys and token requests. The token identifies the subject token.
    pub fn reply(&mut self, call: &Call) -> Reply {
        assert_eq!(call.cluster, self.cluster);
        let host = self.issuer.split('/').nth(2).expect("an issuer has a host");
        assert_eq!(call.headers.text(":authority"), Some(host));
        *self.called.entry(call.path().to_owned()).or_default() += 1;
        let metadata = format!("{}/.well-known/openid-configuration", self.issuer);
        let path_of = |url: &str| url.split_once(host).map(|(_, path)| path.to_owned());
        let url = |path: &str| format!("https://{host}{path}");
        if Some(call.path()) == path_of(&metadata).as_deref() {
            assert_eq!(call.headers.text(":method"), Some("GET"));
            return Reply::json(
                json!({
                    "issuer": self.issuer, "jwks_uri": url(self.keys_path), "token_endpoint": url(self.token_path)
                })
                .to_string(),
            );
        }
        if call.path() == self.keys_path {
            assert_eq!(call.headers.text(":method"), Some("GET"));
            return Reply::json(keys::jwks().to_string());
        }
        assert_eq!(call.path(), self.token_path, "the provider has no such path");
        assert_eq!(call.headers.text(":method"), Some("POST"));
        assert_eq!(call.headers.text("content-type"), Some("application/x-www-form-urlencoded"));
        let form: BTreeMap<String, String> = form_urlencoded::parse(&call.body).into_owned().collect();
        let subject = form.get("assertion").or_else(|| form.get("subject_token")).expect("a token to exchange");
        let reply = Reply::json(issued(subject).to_string());
        self.forms.push(form);
        reply
    }

    /// The path of the token endpoint.
    pub fn token_path(&self) -> &'static str {
        self.token_path
    }

    pub fn keys_path(&self) -> &'static str {
        self.keys_path
    }
}

/// A token response. The token is opaque and differs for each subject token.
pub fn issued(subject: &str) -> Value {
    json!({"access_token": exchanged(subject), "token_type": "Bearer", "expires_in": 3000})
}

/// The token of [`issued`] for a subject token.
pub fn exchanged(subject: &str) -> String {
    use rsa::sha2::{Digest as _, Sha256};
    format!("exchanged.{}", base64url(&Sha256::digest(subject)[..12]))
}
