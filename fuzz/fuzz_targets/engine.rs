//! The whole engine, by sequences of events.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onbehalf_fuzz::plan::{self, Plan};

fuzz_target!(|plan: Plan<'_>| plan::run(&plan));
