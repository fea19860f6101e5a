//! DPoP proofs.

use onbehalf::crypto::Software;
use onbehalf::dpop::verify;
use onbehalf::time::UnixTime;
use onbehalf::url::Url;
use onbehalf_test_support::{NOW, OTHER_KEY, key_set, sha256_base64url, with};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;

use super::{EXACT, cases, change, changed, target};

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn proof_with_one_changed_byte_is_refused((at, byte) in change(), insert in any::<bool>()) {
        let (good, thumbprint) = proof(json!({}));
        prop_assert!(verify_proof(&good, &thumbprint, NOW).is_ok());
        let changed = changed(&good, &at, byte, insert);
        prop_assume!(changed != good);
        prop_assert!(verify_proof(&changed, &thumbprint, NOW).is_err(), "accepted with {:?}", char::from(byte));
    }

    #[test]
    fn proof_is_valid_only_around_its_own_time(
        issued in prop_oneof![0..1000_u64, 0..EXACT],
        now in prop_oneof![0..1000_u64, 0..EXACT, Just(u64::MAX / 1000)],
    ) {
        let (good, thumbprint) = proof(json!({"iat": issued}));
        prop_assert_eq!(verify_proof(&good, &thumbprint, UnixTime::from_secs(now)).is_ok(), issued.abs_diff(now) <= 300);
    }

    #[test]
    fn proof_is_valid_only_for_its_own_url(
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
        let is_good = verify_proof(&good, &thumbprint, NOW).is_ok();
        let written = htu.split(['?', '#']).next().unwrap();
        let decoded = percent_encoding::percent_decode_str(written).decode_utf8_lossy().into_owned();
        prop_assert!(!is_good || decoded == "https://mcp.acme.example/github", "{}", htu);
    }
}

/// A proof for Alice's token at `/github`, and the thumbprint of its key (RFC 7638 section 3.2).
fn proof(changes: Value) -> (String, String) {
    let set: Value = serde_json::from_slice(&key_set(&[&OTHER_KEY])).unwrap();
    let [x, y] = ["x", "y"].map(|name| set["keys"][0][name].as_str().unwrap());
    let hash = |text: &str| sha256_base64url(text);
    let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": {"kty": "EC", "crv": "P-256", "x": x, "y": y}});
    let claims = json!({"jti": "j", "htm": "POST", "htu": "https://mcp.acme.example/github", "iat": NOW.secs(), "ath": hash("token")});
    let thumbprint = hash(&format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#));
    (OTHER_KEY.sign(&header, &with(claims, changes)), thumbprint)
}

fn verify_proof(proof: &str, key_thumbprint: &str, now: UnixTime) -> Result<verify::Proof, &'static str> {
    let url = Url::parse("https://mcp.acme.example/github").unwrap();
    let (path, access_token, max_age) = ("/github", "token", Duration::from_secs(300));
    let expected = verify::ProofRules { method: b"POST", url: &url, path, access_token, key_thumbprint, max_age };
    verify::verify(proof.as_bytes(), expected, &Software, now)
}
