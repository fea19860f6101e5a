//! One random world: two providers, callers good and hostile, workers that share memory, and the invariants that hold
//! after each event.
//!
//! The engine's simulation draws the events from a random generator, and the fuzzer makes them itself. The headers of the
//! fuzzer and the chaos test of the module use the same callers, replies or invariants.

mod event;
mod invariants;
mod random_event;
mod run;
mod scene;
mod settings;

pub use event::{Event, Oddity, Scripted, Span};
pub use invariants::{
    Secrets, check_challenge, check_local_reply, check_log_line, check_reply_parts, has_the_client_secret,
};
pub use random_event::{random_event, random_trouble};
pub use run::{Tally, World};
pub use scene::{CERTIFICATE, Caller, Scene};
pub use settings::{IdToken, Settings, exchange_of, issuer_of};
