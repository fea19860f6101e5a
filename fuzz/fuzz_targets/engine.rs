//! The whole engine, by sequences of events.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onbehalf_fuzz::sequence::{self, Plan};

fuzz_target!(|plan: Plan<'_>| sequence::run(&plan));
