//! The header of a request, octet by octet, through the engine.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onbehalf_fuzz::heads;
use onbehalf_test_support::world::has_the_client_secret;

fuzz_target!(|text: &[u8]| {
    if !has_the_client_secret(text) {
        heads::run(text);
    }
});
