//! A JWK Set from a provider.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onbehalf::crypto::{Algorithm, Crypto as _, Software};
use onbehalf::jose::{KeySet, Selection};
use serde_json::Value;

const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::EdDsa,
];

fuzz_target!(|bytes: &[u8]| {
    let Some((keys, skipped)) = KeySet::read(bytes) else {
        return;
    };
    // A key, or a member beside the keys, may be JSON that `serde_json` does not read as a whole.
    let Ok(set) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let listed = set["keys"].as_array().expect("read what is no JWK Set");
    assert_eq!(keys.len() + skipped.len(), listed.len().min(256) + usize::from(listed.len() > 256));
    assert!(keys.is_contained_in(&keys));
    assert_eq!(keys.is_empty(), keys.is_contained_in(&KeySet::default()));
    let ids: Vec<_> = listed.iter().take(8).map(|key| key["kid"].as_str()).chain([None, Some("other")]).collect();
    for (id, algorithm) in ids.iter().flat_map(|id| ALGORITHMS.map(|algorithm| (*id, algorithm))) {
        let Selection::Found(key) = keys.select(id, algorithm) else {
            continue;
        };
        assert!(key.algorithm == algorithm && key.public.suits(algorithm) && !key.public.spki().is_empty());
        assert!(id.is_none() || key.id.as_deref() == id);
        for signature in [&[][..], &[0; 64], &[1; 96], &[0xff; 256], bytes] {
            assert!(!Software.verify(algorithm, &key.public, b"message", signature), "anything is a signature");
        }
    }
});
