use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{BufferType, ContextType, LogLevel, MapType};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::config::Config;
use crate::crypto::{Crypto, EnvoyCrypto};
use crate::engine::{Decision, Engine, FetchId, HeaderMutations, RequestId, Sent};
use crate::filter::metrics::Metrics;
use crate::filter::now;
use crate::filter::shared_data::EnvoySharedData;
use crate::filter::stream::{self, StreamFilter};
use crate::http::{Callout, CalloutFailure, CalloutResult, Response};
use crate::time::UnixTime;

/// How often the engine hears that time has passed.
const TICK: Duration = Duration::from_secs(1);

/// The same while requests wait for what another worker fetches: nothing tells a worker what others do.
const SOON: Duration = Duration::from_millis(10);

/// The most requests that are let go, and callouts that are made, from one turn of Envoy's event loop to the next.
///
/// Envoy sends a local reply, resumes a request and reports a callout that failed at once only when the callback of the module is
/// over, one inside the other: the callbacks that the first one causes in this module send the next one. Some 300 of them
/// overflow V8's stack, fewer with other filters in the chain (docs/adr/0018).
const MOST_ACTIONS: usize = 32;

/// The most items that are taken out of the queue in one turn.
const MOST_MESSAGES: usize = 64;

/// The item by which a worker wakes its own root.
const WAKE_UP: &[u8] = b"work";

/// What the root context and the streams of a worker share.
pub(crate) struct WorkerContext {
    pub(crate) engine: RefCell<Option<Engine>>,
    /// Whether anything is to be known of the client's certificate.
    pub(crate) takes_certificates: Cell<bool>,
    /// The queue by which other workers send messages and a stream wakes the root. The root alone may dispatch calls: the SDK
    /// hands a reply to the context that was active at dispatch and drops it if that has gone.
    queue: Cell<Option<u32>>,
    /// The root has been woken and has not run yet.
    is_woken: Cell<bool>,
    /// With what requests went on that were held before, until they are answered or gone: only the root knew.
    resumed: RefCell<FxHashMap<u32, Sent>>,
    /// Requests that are held with a body or trailers behind their header.
    unfinished: RefCell<FxHashSet<u32>>,
    /// When the last request came of whose answer the status was read.
    looked: Cell<UnixTime>,
}

impl WorkerContext {
    /// With what a request went on that was held.
    pub(crate) fn take_resumed(&self, RequestId(id): RequestId) -> Option<Sent> {
        self.resumed.try_borrow_mut().ok()?.remove(&id)
    }

    /// A request is held, and more comes behind its header.
    pub(crate) fn add_unfinished(&self, RequestId(id): RequestId) {
        if let Ok(mut unfinished) = self.unfinished.try_borrow_mut() {
            unfinished.insert(id);
        }
    }

    /// Whether more comes behind the header of a request that was held. Nobody asks again.
    pub(crate) fn take_unfinished(&self, RequestId(id): RequestId) -> bool {
        self.unfinished.try_borrow_mut().is_ok_and(|mut unfinished| unfinished.remove(&id))
    }

    /// Whether there is time to look at an answer more closely: once in a millisecond.
    pub(crate) fn may_look(&self, sent: &Sent) -> bool {
        self.looked.replace(sent.at()) != sent.at()
    }

    /// Makes `on_queue_ready` run in the next turn of the event loop.
    pub(crate) fn wake(&self) {
        if self.is_woken.get() {
            return;
        }
        let sent = self.queue.get().is_some_and(|queue| hostcalls::enqueue_shared_queue(queue, Some(WAKE_UP)).is_ok());
        self.is_woken.set(sent);
        if !sent {
            // The tick finds the work, a little later.
            log::debug!("the root could not be woken");
        }
    }
}

/// How often the age of keys is told.
const AGES: Duration = Duration::from_secs(15);

pub(crate) struct RootFilter {
    id: u32,
    worker: Rc<WorkerContext>,
    /// Calls that are out, by the host's token: whose they are, and how much of an answer is read.
    calls: FxHashMap<u32, (FetchId, usize)>,
    /// How many more actions the host may be given before its event loop turns.
    actions_left: usize,
    metrics: Metrics,
    /// How often the host is asked to tick.
    tick: Duration,
    /// When counters were handed over last, and when the age of keys was.
    handed: UnixTime,
    aged: UnixTime,
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
            looked: Cell::default(),
        };
        Self {
            id,
            worker: Rc::new(worker),
            calls: FxHashMap::default(),
            actions_left: MOST_ACTIONS,
            metrics: Metrics::default(),
            tick: TICK,
            handed: UnixTime::default(),
            aged: UnixTime::default(),
        }
    }

    fn with_engine<T>(&self, act: impl FnOnce(&mut Engine) -> T) -> Option<T> {
        self.worker.engine.try_borrow_mut().ok().and_then(|mut engine| engine.as_mut().map(act))
    }

    /// Makes the calls that the engine has for us and lets requests go whose wait is over, as many as the host can bear; the
    /// next turn of its event loop goes on with the rest.
    fn work(&mut self) {
        let now = now();
        let mut has_left = false;
        while let Some(left) = self.actions_left.checked_sub(1) {
            if let Some((flight, call)) = self.with_engine(Engine::next_callout).flatten() {
                self.actions_left = left;
                match send(&call) {
                    Some(token) => {
                        self.calls.insert(token, (flight, call.most_bytes));
                    }
                    None => self.land(flight, &CalloutResult::Failed(CalloutFailure::NotSent), now),
                }
            } else if let Some((id, step)) = self.with_engine(|engine| engine.next_decision(now)).flatten() {
                // The body of a request that goes on enters the module before a filter behind it has it, and what is left of this
                // turn would overtake it there: it is the last of its turn.
                let is_last = matches!(step, Decision::Forward(_)) && self.worker.take_unfinished(id);
                self.actions_left = if is_last { 0 } else { left };
                has_left |= self.let_go(id, step);
            } else {
                break;
            }
        }
        if has_left && hostcalls::set_effective_context(self.id).is_err() {
            log::error!("the root context is gone");
        }
        if self.with_engine(|engine| engine.has_work()).unwrap_or(false) {
            self.worker.wake();
        }
    }

    /// Does with a waiting request what `step` says. One that has left meanwhile is no context any more, and is skipped. Whether
    /// the effective context is another one now.
    fn let_go(&self, RequestId(id): RequestId, step: Decision) -> bool {
        if matches!(step, Decision::Pause) || hostcalls::set_effective_context(id).is_err() {
            return false;
        }
        if let Decision::Forward(HeaderMutations { sent: Some(sent), .. }) = &step
            && let Ok(mut resumed) = self.worker.resumed.try_borrow_mut()
        {
            resumed.insert(id, *sent);
        }
        stream::perform(step, true);
        true
    }

    /// The event loop has turned: nothing that was asked of the host in its last turn is left.
    fn turn(&mut self) {
        self.actions_left = MOST_ACTIONS;
        self.worker.is_woken.set(false);
    }

    /// Ticks sooner while somebody waits for what another worker fetches.
    fn adjust_tick(&mut self) {
        let is_soon = self.with_engine(|engine| engine.needs_fast_tick() || engine.has_work()).unwrap_or(false);
        let tick = if is_soon { SOON } else { TICK };
        if tick != self.tick && hostcalls::set_tick_period(tick).is_ok() {
            self.tick = tick;
        }
    }

    /// Hands over what was counted, and now and then how old the keys are.
    fn hand_over_counters(&mut self, now: UnixTime) {
        // Not so often while ticks come one after another.
        if self.tick != TICK && now >= self.handed && now.since(self.handed) < TICK {
            return;
        }
        self.handed = now;
        let counted = self.with_engine(|engine| (engine.counters().take(), engine.counters().take_durations()));
        if let Some((samples, durations)) = counted {
            self.metrics.record(samples, durations);
        }
        if now.since(self.aged) >= AGES || now < self.aged {
            self.aged = now;
            let ages = self.with_engine(|engine| engine.key_ages(now));
            self.metrics.record_key_ages(ages.unwrap_or_default());
        }
    }

    fn land(&self, flight: FetchId, reply: &CalloutResult, now: UnixTime) {
        self.with_engine(|engine| engine.reply(flight, reply, now));
    }
}

impl Context for RootFilter {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body_size: usize, _trailers: usize) {
        let Some((flight, most_bytes)) = self.calls.remove(&token) else {
            return;
        };
        let reply = read_reply(headers, body_size, most_bytes);
        self.land(flight, &reply, now());
        self.work();
        self.adjust_tick();
    }
}

impl RootContext for RootFilter {
    fn on_configure(&mut self, size: usize) -> bool {
        // What Envoy would drop is not even written. Trace is the SDK's own chatter.
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
            log::warn!("{warning}");
        }
        let crypto = EnvoyCrypto::probe(|name, arguments| {
            hostcalls::call_foreign_function(name, Some(arguments)).ok().flatten()
        });
        log::info!(
            "onbehalf {} is configured: {} identity providers, {} resources; {crypto:?}",
            env!("CARGO_PKG_VERSION"),
            config.providers.len(),
            config.resources.len()
        );
        self.metrics = Metrics::for_providers(config.providers.iter().map(|provider| provider.name.clone()).collect());
        if self.worker.queue.get().is_none() {
            // A name that no other VM has: whoever registers a name last gets what is put in.
            let unique = crypto.random().map_or(0, u128::from_le_bytes);
            self.worker.queue.set(hostcalls::register_shared_queue(&format!("onbehalf.{unique:032x}")).ok());
        }
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
        self.turn();
        self.with_engine(|engine| engine.tick(now));
        self.work();
        self.hand_over_counters(now);
        self.adjust_tick();
    }

    fn on_queue_ready(&mut self, queue: u32) {
        self.turn();
        let now = now();
        // The host calls once for each item: those that are left have a call of their own.
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

/// Hands a call to the host. `None`: it did not take it.
fn send(call: &Callout) -> Option<u32> {
    let path = if call.url.path().is_empty() { "/" } else { call.url.path() };
    let mut headers = vec![
        (":method", call.method),
        (":scheme", call.url.scheme()),
        (":authority", call.url.authority()),
        (":path", path),
        ("user-agent", concat!("onbehalf/", env!("CARGO_PKG_VERSION"))),
    ];
    headers.extend(call.headers.iter().map(|(name, value)| (*name, value.reveal())));
    let body = Some(call.body.reveal().as_bytes()).filter(|body| !body.is_empty());
    hostcalls::dispatch_http_call(&call.cluster, headers, body, Vec::new(), call.timeout).ok()
}

fn read_reply(headers: usize, body_size: usize, most_bytes: usize) -> CalloutResult {
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
    // Envoy makes up an answer when there is none; only a real one took time upstream.
    if field("x-envoy-upstream-service-time").is_none() {
        match status {
            504 => return CalloutResult::Failed(CalloutFailure::TimedOut),
            503 => return CalloutResult::Failed(CalloutFailure::NoConnection),
            _ => {}
        }
    }
    if body_size > most_bytes {
        return CalloutResult::Failed(CalloutFailure::TooLarge);
    }
    let body = hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, body_size).ok().flatten().unwrap_or_default();
    CalloutResult::Response(Response { status, headers, body })
}
