//! An untrusted DPoP proof.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use onbehalf::crypto::Software;
use onbehalf::dpop::verify::{ProofRules, verify};
use onbehalf::url::Url;
use onbehalf_fuzz::callers;
use onbehalf_test_support::world::Caller;
use onbehalf_test_support::{NOW, base64url_decode};
use serde_json::Value;

thread_local! {
    static URL: Url = Url::parse("https://mcp.acme.example/github").unwrap();
}

static HOLDER: LazyLock<(&Caller, String)> = LazyLock::new(|| {
    let caller = callers().iter().find(|caller| !caller.proofs.is_empty()).unwrap();
    let payload = caller.token.split('.').nth(1).unwrap();
    let claims = base64url_decode(payload);
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    (caller, claims["cnf"]["jkt"].as_str().unwrap().to_owned())
});

fuzz_target!(|proof: &[u8]| {
    URL.with(|url| try_one(proof, url));
});

fn try_one(proof: &[u8], url: &Url) {
    let (holder, key_thumbprint) = &*HOLDER;
    let expected = ProofRules {
        method: b"POST",
        url,
        path: "/github",
        access_token: &holder.token,
        key_thumbprint,
        max_age: Duration::from_secs(300),
    };
    match verify(proof, expected, &Software, NOW) {
        Ok(verified) => {
            let (signed, _) = std::str::from_utf8(proof).unwrap().rsplit_once('.').unwrap();
            let is_his = holder.proofs.iter().any(|proof| proof.starts_with(&format!("{signed}.")));
            assert!(is_his, "a proof that is forged, or for something else");
            assert!(!verified.id.is_empty());
        }
        Err(problem) => assert!(problem.is_ascii() && !problem.is_empty()),
    }
}
