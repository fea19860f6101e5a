//! An untrusted token: split and decoded, its key selected, its signature verified.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use onbehalf::crypto::{Algorithm, Software};
use onbehalf::jose::{Claims, CompactJws, Key, KeySet, Selection, Signed, TokenRules, check, verify};
use onbehalf_fuzz::{callers, config};
use onbehalf_test_support::world::Scene;
use onbehalf_test_support::{ENTRA, NOW, OKTA, base64url};

thread_local! {
    static KEYS: [(&'static str, KeySet); 2] =
        [ENTRA, OKTA].map(|issuer| (issuer, KeySet::read(Scene::fixed().key_set(issuer, false).as_bytes()).unwrap().0));
}

static AUDIENCES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let config = config();
    config.providers.iter().flat_map(|provider| provider.audiences.clone()).collect()
});

fuzz_target!(|token: &str| {
    let Ok(compact) = CompactJws::parse(token, |_| None) else {
        return;
    };
    assert_eq!(format!("{}.{}", compact.signing_input, base64url(&compact.signature)), token, "read in another way");
    assert!(compact.signing_input.starts_with(&format!("{}.", compact.header_segment)));
    let header = compact.header.clone();
    let again = CompactJws::parse(token, |_| Some(header.clone())).expect("refused with a header that is known");
    assert_eq!(again.payload, compact.payload);

    let Some(algorithm) = Algorithm::from_name(&header.algorithm) else {
        return;
    };
    KEYS.with(|issuers| {
        for (issuer, keys) in issuers {
            if let Selection::Found(key) = keys.select(header.key_id.as_deref(), algorithm) {
                check_verdict(token, issuer, key);
            }
        }
    });
});

fn check_verdict(token: &str, issuer: &str, key: &Key) {
    let compact = CompactJws::parse(token, |_| None).unwrap();
    let expected = TokenRules { audiences: &AUDIENCES, types: &["jwt"], leeway: Duration::from_secs(60) };
    let Ok(members) = compact.claims() else {
        return;
    };
    let Ok(claims) = Claims::read(&members) else {
        return;
    };
    let says = check(&compact.header, &claims, expected, || Ok(()), NOW);
    let tenant = claims.text("tid");
    let signed = Signed { algorithm: key.algorithm, input: compact.signing_input, signature: &compact.signature };
    if verify(signed, key, &[], issuer, tenant, &Software).is_ok() {
        let is_signed = callers().iter().any(|caller| caller.token.starts_with(&format!("{}.", compact.signing_input)));
        assert!(is_signed, "a token that nobody signed was found good");
    }
    if says.is_ok() {
        assert!(NOW < claims.expires.plus(expected.leeway));
        assert!(AUDIENCES.iter().any(|audience| claims.audiences.contains(&audience.as_str())));
    }
}
