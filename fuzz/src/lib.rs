//! Support for the fuzz targets: plans for the random world, one request from text, and the callers with fixed tokens.
//!
//! Every input gives the same run again: keys and tokens are made beforehand (`examples/seeds.rs`), and no target reads
//! the clock or a random number.

pub mod heads;
pub mod plan;

use std::cell::RefCell;

use onbehalf::config::Config;
use onbehalf::http::LocalReply;
use onbehalf_test_support::world::{Caller, IdToken, Scene, Settings, check_local_reply, check_log_line};

/// The callers with fixed tokens.
pub fn callers() -> &'static [Caller] {
    &Scene::fixed().callers
}

/// The configuration of the targets that need only one.
pub fn config() -> Config {
    Settings::fixed(IdToken::None, 0).config()
}

/// Returns `true` if the signature of a caller's token or the client secret is in `text`.
pub fn has_a_secret(text: &str) -> bool {
    Scene::fixed().secrets.are_in(text)
}

/// Checks a local reply to a request.
pub fn check_answer(answer: &LocalReply) {
    check_local_reply(answer, &Scene::fixed().secrets);
}

thread_local! {
    /// Input of the run.
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Checks every line of the log.
struct Watcher;

impl log::Log for Watcher {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = record.args().to_string();
        INPUT.with_borrow(|input| check_log_line(&line, &Scene::fixed().secrets, input));
    }

    fn flush(&self) {}
}

/// Checks every line of the log from now on. A line may have users that `input` names.
pub fn watch_the_log(input: &[u8]) {
    INPUT.with_borrow_mut(|known| input.clone_into(known));
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Watcher).expect("the first logger");
        log::set_max_level(log::LevelFilter::Trace);
    });
}
