//! An untrusted request target.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onbehalf::path;
use onbehalf_fuzz::heads::readings;

fuzz_target!(|target: &[u8]| {
    let Some(normal) = path::normal_form(target) else {
        return;
    };
    assert_eq!(path::normal_form(normal.as_bytes()).as_deref(), Some(&*normal), "not normal after all");
    assert!(normal.starts_with('/') && normal.bytes().all(|byte| matches!(byte, 0x21..=0x7e)));
    assert!(!normal.contains(['?', '#', '\\']));
    let segments: Vec<&str> = normal.split('/').skip(1).collect();
    let (_, inner) = segments.split_last().expect("a segment");
    assert!(inner.iter().all(|segment| !segment.is_empty()));
    assert!(!segments.contains(&".") && !segments.contains(&".."));
    // Every reading of a server has the same number of segments.
    let depth = |path: &str| path.split('/').filter(|segment| !segment.is_empty()).count();
    for reading in readings(target) {
        assert_eq!(depth(&reading), depth(&normal), "{reading:?} is not {normal:?}");
    }
});
