//! Claims of a verified token: JSON, types, times.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use onbehalf::jose::Claims;
use onbehalf::json;
use onbehalf::time::UnixTime;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let Some(members) = json::object(bytes) else {
        return;
    };
    let usual: Value = serde_json::from_slice(bytes).expect("read what is not JSON");
    assert_eq!(serde_json::to_value(&members).unwrap(), usual, "read in another way");
    let Ok(claims) = Claims::read(&members) else {
        return;
    };
    assert_eq!(usual["iss"].as_str(), Some(claims.issuer));
    assert_eq!(usual["sub"].as_str(), claims.subject);
    let times = [("exp", Some(claims.expires)), ("nbf", claims.not_before), ("iat", claims.issued_at)];
    for (name, time) in times.into_iter().filter_map(|(name, time)| Some((name, time?))) {
        let written = usual[name].as_f64().expect("a time that is no number");
        let written = written.max(0.0);
        assert!((time.millis() as f64 / 1000.0 - written).abs() <= written * 1e-9 + 0.001, "{name}: {written}");
        for span in [Duration::ZERO, Duration::from_secs(300), Duration::MAX] {
            assert!(time.minus(span) <= time && time <= time.plus(span));
            assert_eq!(time.since(time.plus(span)), Duration::ZERO);
            assert!(UnixTime::default().since(time).is_zero());
        }
    }
    for scope in claims.scopes.iter().filter(|_| !usual["scp"].is_array() && !usual["scope"].is_array()) {
        assert!(!scope.is_empty() && !scope.contains(' '));
    }
});
