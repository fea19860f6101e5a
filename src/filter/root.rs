//! Root context of a worker: configuration, ticks, callouts and paused requests.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{BufferType, ContextType, LogLevel, MapType};
use rustc_hash::FxHashMap;

use crate::config::Config;
use crate::crypto::{Crypto, EnvoyCrypto};
use crate::engine::{Decision, Engine, FetchId, HeaderMutations, RequestId};
use crate::filter::clock::now;
use crate::filter::filter_state;
use crate::filter::metrics::Metrics;
use crate::filter::shared_data::EnvoySharedData;
use crate::filter::stream::{self, StreamFilter};
use crate::filter::worker::{WAKE_UP, WorkerContext};
use crate::http::{Callout, CalloutFailure, CalloutResult, Response};
use crate::time::UnixTime;

/// Interval between two ticks of the engine.
const TICK: Duration = Duration::from_secs(1);

/// Interval while requests wait for a fetch of another worker, which the worker must poll.
const SOON: Duration = Duration::from_millis(10);

/// Maximum number of requests that are resumed or refused, and of callouts that are sent, in one turn of Envoy's event loop.
///
/// Envoy executes these actions when the callback of the module returns, nested in each other: the callbacks that one action
/// causes in this module execute the next one. About 300 of them overflow V8's stack, fewer with other filters in the chain
/// (docs/adr/0018).
const MOST_ACTIONS: usize = 32;

/// Maximum number of queue items that one turn takes.
const MOST_MESSAGES: usize = 64;

/// Interval between two updates of the gauge of JWKS ages.
const AGES: Duration = Duration::from_secs(15);

/// Root context of a worker.
pub(crate) struct RootFilter {
    id: u32,
    worker: Rc<WorkerContext>,
    /// Callouts in flight by the token of the host: the fetch, and the maximum length of the body in bytes.
    calls: FxHashMap<u32, (FetchId, usize)>,
    /// Number of further actions in this turn of the event loop.
    actions_left: usize,
    metrics: Metrics,
    /// Current interval between ticks of the host.
    tick: Duration,
    /// Time of the last update of the counters, and of the gauges.
    counted_at: UnixTime,
    aged_at: UnixTime,
}

impl RootFilter {
    pub(crate) fn new(id: u32) -> Self {
        let worker = WorkerContext {
            engine: RefCell::new(None),
            takes_certificates: Cell::new(false),
            queue: Cell::new(None),
            is_woken: Cell::new(false),
            resumed: RefCell::default(),
            unfinished: RefCell::default(),
            status_read_at: Cell::default(),
        };
        Self {
            id,
            worker: Rc::new(worker),
            calls: FxHashMap::default(),
            actions_left: MOST_ACTIONS,
            metrics: Metrics::default(),
            tick: TICK,
            counted_at: UnixTime::default(),
            aged_at: UnixTime::default(),
        }
    }

    fn with_engine<T>(&self, act: impl FnOnce(&mut Engine) -> T) -> Option<T> {
        self.worker.engine.try_borrow_mut().ok().and_then(|mut engine| engine.as_mut().map(act))
    }

    /// Sends callouts of the engine, and resumes or refuses requests whose wait is over, up to [`MOST_ACTIONS`]. The next turn of the
    /// event loop does the rest.
    fn work(&mut self) {
        let now = now();
        let mut has_moved = false;
        while let Some(left) = self.actions_left.checked_sub(1) {
            if let Some((fetch, callout)) = self.with_engine(Engine::next_callout).flatten() {
                self.actions_left = left;
                match send(&callout) {
                    Some(token) => {
                        self.calls.insert(token, (fetch, callout.most_bytes));
                    }
                    None => self.take_result(fetch, &CalloutResult::Failed(CalloutFailure::NotSent), now),
                }
            } else if let Some((id, decision)) = self.with_engine(|engine| engine.next_decision(now)).flatten() {
                // A forwarded body enters the module before the next filter has it. Further actions of this turn would overtake it, so it
                // is the last action of the turn.
                let is_last = matches!(decision, Decision::Forward(_)) && self.worker.take_unfinished(id);
                self.actions_left = if is_last { 0 } else { left };
                has_moved |= self.execute(id, decision);
            } else {
                break;
            }
        }
        if has_moved && hostcalls::set_effective_context(self.id).is_err() {
            log::error!("the root context is gone");
        }
        if self.with_engine(|engine| engine.has_work()).unwrap_or(false) {
            self.worker.wake();
        }
    }

    /// Executes the decision on a paused request. A request that has ended has no context, and is skipped. Returns `true` if the
    /// effective context has changed.
    fn execute(&self, RequestId(id): RequestId, mut decision: Decision) -> bool {
        if matches!(decision, Decision::Pause) || hostcalls::set_effective_context(id).is_err() {
            return false;
        }
        if let Decision::Forward(HeaderMutations { sent, .. }) = &mut decision
            && let Some(sent) = sent.take()
            && let Ok(mut resumed) = self.worker.resumed.try_borrow_mut()
        {
            resumed.insert(id, sent);
        }
        stream::perform(decision, true);
        true
    }

    /// Begins a turn of the event loop: the host has executed all actions of the last one.
    fn begin_turn(&mut self) {
        self.actions_left = MOST_ACTIONS;
        self.worker.is_woken.set(false);
    }

    /// Shortens the tick while a request waits for a fetch of another worker.
    fn adjust_tick(&mut self) {
        let is_soon = self.with_engine(|engine| engine.needs_fast_tick() || engine.has_work()).unwrap_or(false);
        let tick = if is_soon { SOON } else { TICK };
        if tick != self.tick && hostcalls::set_tick_period(tick).is_ok() {
            self.tick = tick;
        }
    }

    /// Updates the counters and, every [`AGES`], the ages of JWKS.
    fn hand_over_counters(&mut self, now: UnixTime) {
        // Fast ticks do not update the counters more often.
        if self.tick != TICK && now >= self.counted_at && now.since(self.counted_at) < TICK {
            return;
        }
        self.counted_at = now;
        let counted = self.with_engine(|engine| (engine.counters().take(), engine.counters().take_durations()));
        if let Some((samples, durations)) = counted {
            self.metrics.record(samples, durations);
        }
        if now.since(self.aged_at) >= AGES || now < self.aged_at {
            self.aged_at = now;
            let ages = self.with_engine(|engine| engine.jwks_ages(now));
            self.metrics.record_jwks_ages(ages.unwrap_or_default());
        }
    }

    fn take_result(&self, fetch: FetchId, result: &CalloutResult, now: UnixTime) {
        self.with_engine(|engine| engine.callout_result(fetch, result, now));
    }
}

impl Context for RootFilter {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body_size: usize, _trailers: usize) {
        let Some((fetch, most_bytes)) = self.calls.remove(&token) else {
            return;
        };
        let result = read_result(headers, body_size, most_bytes);
        self.take_result(fetch, &result, now());
        self.work();
        self.adjust_tick();
    }
}

impl RootContext for RootFilter {
    fn on_configure(&mut self, size: usize) -> bool {
        // Lines below the level of Envoy are not even formatted. Trace lines are those of the SDK.
        match hostcalls::get_log_level() {
            Ok(LogLevel::Trace) => proxy_wasm::set_log_level(LogLevel::Debug),
            Ok(level) => proxy_wasm::set_log_level(level),
            Err(_) => {}
        }
        let bytes = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, size).ok().flatten().unwrap_or_default();
        let config = match Config::parse(&bytes, &|name| std::env::var(name).ok()) {
            Ok(config) => config,
            Err(error) => {
                error.findings().for_each(|finding| log::error!("{finding}"));
                return false;
            }
        };
        for warning in &config.warnings {
            log::warn!("warning: {warning}");
        }
        let crypto = EnvoyCrypto::probe(|name, arguments| {
            hostcalls::call_foreign_function(name, Some(arguments)).ok().flatten()
        });
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let (providers, resources) = (config.providers.len(), config.resources.len());
        log::info!(
            "onbehalf {} is configured: {providers} identity provider{}, {resources} resource{}; {crypto:?}",
            env!("CARGO_PKG_VERSION"),
            plural(providers),
            plural(resources)
        );
        if self.worker.queue.get().is_none() {
            // The name is unique: the VM that registers a name last gets its items.
            let unique = crypto.random().map_or(0, u128::from_le_bytes);
            self.worker.queue.set(hostcalls::register_shared_queue(&format!("onbehalf.{unique:032x}")).ok());
        }
        filter_state::declare();
        self.worker.takes_certificates.set(config.takes_certificates());
        let mut engine = Engine::new(config, Box::new(crypto), Box::new(EnvoySharedData));
        if let Some(queue) = self.worker.queue.get() {
            engine.listen(queue, now());
        }
        self.worker.engine.replace(Some(engine));
        self.tick = TICK;
        hostcalls::set_tick_period(TICK).is_ok()
    }

    fn on_tick(&mut self) {
        let now = now();
        self.begin_turn();
        self.with_engine(|engine| engine.tick(now));
        self.work();
        self.hand_over_counters(now);
        self.adjust_tick();
    }

    fn on_queue_ready(&mut self, queue: u32) {
        self.begin_turn();
        let now = now();
        // The host has a callback for each item, so remaining items are read in another one.
        for _ in 0..MOST_MESSAGES {
            match hostcalls::dequeue_shared_queue(queue) {
                Ok(Some(message)) if message != WAKE_UP => self.with_engine(|engine| engine.message(&message, now)),
                Ok(Some(_)) => None,
                Ok(None) | Err(_) => break,
            };
        }
        self.work();
        self.adjust_tick();
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(StreamFilter::new(id, self.worker.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// Sends a callout. `None`: the host did not accept it.
fn send(callout: &Callout) -> Option<u32> {
    let headers = callout.header_map();
    let body = Some(callout.body.reveal().as_bytes()).filter(|body| !body.is_empty());
    hostcalls::dispatch_http_call(&callout.cluster, headers, body, Vec::new(), callout.timeout).ok()
}

fn read_result(headers: usize, body_size: usize, most_bytes: usize) -> CalloutResult {
    if headers == 0 {
        return CalloutResult::Failed(CalloutFailure::NoConnection);
    }
    let headers = hostcalls::get_map_bytes(MapType::HttpCallResponseHeaders).unwrap_or_default();
    let field = |name: &str| headers.iter().find(|(field, _)| field == name).map(|(_, value)| value);
    let status =
        field(":status").and_then(|status| std::str::from_utf8(status).ok()).and_then(|status| status.parse().ok());
    let Some(status) = status else {
        return CalloutResult::Failed(CalloutFailure::NoConnection);
    };
    // Envoy makes a response itself if there is none. Only a response of an upstream has this field.
    // A provider cannot remove it, and a provider that sends the same body is not taken for Envoy.
    if field("x-envoy-upstream-service-time").is_none() {
        let failure = match status {
            504 => Some(CalloutFailure::TimedOut),
            // 502 is a violation of the protocol, such as TLS or HTTP/2 that the server does not speak.
            502 | 503 => Some(CalloutFailure::NoConnection),
            _ => None,
        };
        if let Some(failure) = failure {
            let size = body_size.min(CalloutResult::MAX_WORDS);
            let words = hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, size).ok().flatten();
            return CalloutResult::by_envoy(failure, &words.unwrap_or_default());
        }
    }
    if body_size > most_bytes {
        return CalloutResult::Failed(CalloutFailure::TooLarge);
    }
    let body = hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, body_size).ok().flatten().unwrap_or_default();
    CalloutResult::Response(Response { status, headers, body })
}
