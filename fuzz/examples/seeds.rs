//! Writes `tests/support/fixtures/world.json` and the seeds that contain its tokens. The keys are used once and not
//! kept.

use jwt_simple::algorithms::{ECDSAP256KeyPairLike as _, ES256KeyPair, RS256KeyPair};
use onbehalf::crypto::{Algorithm, Crypto as _, SigningKey, Software};
use onbehalf_test_support::world::CERTIFICATE;
use onbehalf_test_support::{ENTRA, NOW, OKTA, alice, base64url, bob, bob_id, sha256_base64url, with};
use p384::ecdsa::signature::Signer as _;
use p384::elliptic_curve::sec1::ToSec1Point as _;
use serde_json::{Value, json};

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A signing key with its JWK.
struct Key {
    algorithm: &'static str,
    jwk: Value,
    sign: Sign,
}

fn key(kid: &str, algorithm: &'static str) -> Key {
    let point =
        |curve: &str, x: &[u8], y: &[u8]| json!({"kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y)});
    let with_software = |algorithm, pem: String| {
        let key = SigningKey::parse(algorithm, &pem).unwrap();
        Box::new(move |message: &[u8]| Software.sign(&key, message).unwrap())
    };
    let (mut jwk, sign): (Value, Sign) = match algorithm {
        "RS256" => {
            let pair = RS256KeyPair::generate(2048).unwrap();
            let public = pair.public_key().to_components();
            let jwk = json!({"kty": "RSA", "n": base64url(&public.n), "e": base64url(&public.e)});
            (jwk, with_software(Algorithm::Rs256, pair.to_pem().unwrap()))
        }
        "ES256" => {
            let pair = ES256KeyPair::generate();
            let public = pair.key_pair().public_key().to_bytes_uncompressed();
            let jwk = point("P-256", &public[1..33], &public[33..]);
            (jwk, with_software(Algorithm::Es256, pair.key_pair().to_pem().unwrap()))
        }
        "ES384" => {
            let mut secret: [u8; 48] = std::array::from_fn(|_| Software.random().unwrap()[0]);
            secret[0] &= 0x7f;
            let secret = p384::SecretKey::from_slice(&secret).unwrap();
            let public = secret.public_key().to_sec1_point(false);
            let jwk = point("P-384", public.x().unwrap(), public.y().unwrap());
            let sign = move |message: &[u8]| {
                let signature: p384::ecdsa::Signature = p384::ecdsa::SigningKey::from(&secret).sign(message);
                signature.to_bytes().to_vec()
            };
            (jwk, Box::new(sign))
        }
        "EdDSA" => {
            let pair = ed25519_compact::KeyPair::generate();
            let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(pair.pk.as_ref())});
            (jwk, Box::new(move |message: &[u8]| pair.sk.sign(message, None).to_vec()))
        }
        other => panic!("no such kind of key: {other}"),
    };
    jwk["kid"] = json!(kid);
    jwk["alg"] = json!(algorithm);
    jwk["use"] = json!("sig");
    Key { algorithm, jwk, sign }
}

impl Key {
    fn token(&self, claims: &Value) -> String {
        self.compact(&json!({"alg": self.algorithm, "kid": self.jwk["kid"], "typ": "JWT"}), claims)
    }

    fn compact(&self, header: &Value, claims: &Value) -> String {
        let input =
            format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()));
        let signature = (self.sign)(input.as_bytes());
        format!("{input}.{}", base64url(&signature))
    }
}

fn main() {
    let entra = [key("e1", "RS256"), key("e2", "ES384")];
    let okta = [key("o1", "ES256"), key("o2", "EdDSA")];
    // The keys after the key rotation.
    let (entra_next, okta_next) = (key("e3", "ES256"), key("o3", "ES256"));
    // A key with the `kid` of a published key.
    let forged = key("e1", "RS256");
    let day = NOW.secs() + 86_400;
    let entra_user = |name: &str, scopes: &str, expires: u64| {
        with(alice(), json!({"oid": name, "scp": scopes, "exp": expires, "iat": null, "nbf": null}))
    };
    let okta_user = |name: &str, expires: u64| with(bob(), json!({"uid": name, "exp": expires, "iat": null}));
    let okta_id = |name: &str, expires: u64| with(bob_id(), json!({"sub": name, "exp": expires, "iat": null}));
    let entra_caller = |key: &Key, name: &str, scopes: &str, expires: u64| {
        let admin = scopes.contains("admin").then_some("api://github-admin/.default");
        json!({"token": key.token(&entra_user(name, scopes, expires)), "expires": expires,
            "github": "api://github/.default", "admin": admin})
    };
    let okta_caller = |key: &Key, name: &str, expires: u64| {
        json!({"token": key.token(&okta_user(name, expires)), "expires": expires, "github": "com.acme.github",
            "id_token": okta[0].token(&okta_id(name, expires))})
    };
    let hostile = |token: String| json!({"token": token, "expires": 0});
    // A caller with a DPoP key, and a caller with a certificate.
    let holder = key("holder", "ES256");
    let [x, y] = ["x", "y"].map(|name| holder.jwk[name].as_str().unwrap());
    let jkt = sha256_base64url(format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#).as_bytes());
    let dora = entra[1].token(&with(entra_user("user-dora", "mcp.read", day), json!({"cnf": {"jkt": jkt}})));
    let proof = |jti: &str| {
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
        let claims = json!({"jti": jti, "htm": "POST", "htu": "https://mcp.acme.example/github", "iat": NOW.secs(),
            "ath": sha256_base64url(dora.as_bytes())});
        holder.compact(&json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk}), &claims)
    };
    let carl = with(okta_user("user-carl", day), json!({"cnf": {"x5t#S256": sha256_base64url(CERTIFICATE)}}));
    let callers = [
        entra_caller(&entra[0], "user-alice", "mcp.read", NOW.secs() + 3600),
        entra_caller(&entra[1], "user-adam", "mcp.read mcp.admin", day),
        entra_caller(&entra_next, "user-anna", "mcp.read mcp.admin", day),
        okta_caller(&okta[0], "user-bob", NOW.secs() + 300),
        okta_caller(&okta[1], "user-beth", day),
        okta_caller(&okta_next, "user-boris", day),
        hostile(forged.token(&entra_user("user-mallory", "mcp.read mcp.admin", day))),
        hostile(okta[0].token(&entra_user("user-mallory", "mcp.read mcp.admin", day))),
        hostile(entra[0].token(&with(entra_user("user-mallory", "mcp.read", day), json!({"aud": "another"})))),
        hostile(entra[0].token(&with(entra_user("user-mallory", "mcp.read", day), json!({"scp": null})))),
        hostile(okta[0].token(&with(okta_user("user-mallory", day), json!({"uid": null})))),
        hostile(okta[0].token(&okta_id("user-mallory", day))),
        hostile("opaque-token".to_owned()),
        json!({"token": dora, "expires": day, "github": "api://github/.default", "proofs": [proof("1"), proof("2"), proof("3")]}),
        json!({"token": okta[0].token(&carl), "expires": day, "github": "com.acme.github",
            "id_token": okta[0].token(&okta_id("user-carl", day)), "has_certificate": true}),
    ];
    let jwks = |keys: &[&Key]| json!({"keys": keys.iter().map(|key| &key.jwk).collect::<Vec<_>>()});
    let world = json!({
        "callers": callers,
        "keys": {ENTRA: jwks(&[&entra[0], &entra[1]]), OKTA: jwks(&[&okta[0], &okta[1]])},
        "next_keys": {ENTRA: jwks(&[&entra_next, &entra[1]]), OKTA: jwks(&[&okta_next, &okta[0]])},
    });
    let here = env!("CARGO_MANIFEST_DIR");
    let write = |name: &str, text: &str| std::fs::write(format!("{here}/{name}"), text).unwrap();
    write("../tests/support/fixtures/world.json", &(serde_json::to_string_pretty(&world).unwrap() + "\n"));
    for (index, caller) in callers.iter().enumerate() {
        write(&format!("seeds/token/{index}"), caller["token"].as_str().unwrap());
    }
    let dora = callers.iter().find(|caller| caller.get("proofs").is_some()).unwrap();
    write("seeds/proof/good", dora["proofs"][0].as_str().unwrap());
    // A valid proof by another key than the token's.
    let ath = sha256_base64url(dora["token"].as_str().unwrap().as_bytes());
    let stolen = json!({"jti": "j", "htm": "POST", "htu": "https://MCP.acme.example:443/%67ithub?x#y", "iat": NOW.secs(),
        "ath": ath, "nonce": "n"});
    let header = json!({"typ": "dpop+jwt", "alg": "RS256", "jwk": entra[0].jwk});
    // A valid proof for another method.
    let other =
        json!({"jti": "m", "htm": "GET", "htu": "https://mcp.acme.example/github", "iat": NOW.secs(), "ath": ath});
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
    write("seeds/proof/other-method", &holder.compact(&json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk}), &other));
    write("seeds/proof/by-another-key", &entra[0].compact(&header, &stolen));
    write("seeds/keys/entra", &world["keys"][ENTRA].to_string());
    write("seeds/keys/okta", &world["keys"][OKTA].to_string());
}
