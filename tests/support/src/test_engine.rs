//! An engine with its own clock and its calls.

use std::time::Duration;

use onbehalf::config::Config;
use onbehalf::crypto::Software;
use onbehalf::engine::{Decision, Engine, FetchId, RequestId};
use onbehalf::http::{Callout, CalloutResult, Request};
use onbehalf::time::UnixTime;
use serde_json::Value;

use crate::configuration::{configuration, parse};
use crate::provider::provider_document;
use crate::shared_map::SharedMap;
use crate::tokens::NOW;

/// The engine of one worker, driven by a test in place of the host.
pub struct TestEngine {
    /// The engine itself.
    pub inner: Engine,
    /// The time of each call into the engine.
    pub now: UnixTime,
    ids: u32,
    /// Calls that the engine has made and the test has not seen yet.
    held: Vec<(FetchId, Callout)>,
    /// The shared memory, and the number of this worker's queue in it.
    shared: Option<(SharedMap, u32)>,
}

impl TestEngine {
    /// An engine that shares its memory with no other worker.
    pub fn new(configuration: &Value) -> Self {
        Self::sharing(configuration, &SharedMap::default())
    }

    /// A worker that shares `shared` with the other workers of the process.
    pub fn sharing(configuration: &Value, shared: &SharedMap) -> Self {
        let engine = Engine::new(parse(configuration), Box::new(Software), Box::new(shared.clone()));
        let mut worker = Self::from_engine(engine);
        let queue = shared.register_queue();
        worker.inner.listen(queue, worker.now);
        worker.shared = Some((shared.clone(), queue));
        worker
    }

    /// Workers that share `shared`, each with the providers' keys.
    pub fn workers<const N: usize>(configuration: &Value, shared: &SharedMap) -> [Self; N] {
        std::array::from_fn(|_| Self::sharing(configuration, shared).with_keys())
    }

    /// An engine whose configuration names other environment variables.
    pub fn with_environment(configuration: &Value, environment: &dyn Fn(&str) -> Option<String>) -> Self {
        let config = Config::parse(configuration.to_string().as_bytes(), environment);
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        Self::from_engine(Engine::new(config, Box::new(Software), Box::new(SharedMap::default())))
    }

    /// An engine whose providers reply by script to its first calls, which are for metadata and keys.
    pub fn with_replies(configuration: &Value, reply: impl Fn(&Callout) -> CalloutResult) -> Self {
        let mut engine = Self::new(configuration);
        engine.tick();
        engine.serve_calls(reply);
        engine
    }

    /// The test's side of an engine that exists already.
    pub fn from_engine(inner: Engine) -> Self {
        Self { inner, now: NOW, ids: 0, held: Vec::new(), shared: None }
    }

    /// An engine with the usual configuration and the providers' keys.
    pub fn ready() -> Self {
        Self::new(&configuration()).with_keys()
    }

    /// Fetches the providers' keys.
    #[must_use]
    pub fn with_keys(mut self) -> Self {
        self.tick();
        self.serve_keys();
        self
    }

    /// The memory that the worker shares.
    pub fn shared_memory(&self) -> SharedMap {
        self.shared.as_ref().expect("a worker with shared memory").0.clone()
    }

    /// The number of the worker's queue.
    pub fn queue(&self) -> u32 {
        self.shared.as_ref().expect("a worker with shared memory").1
    }

    /// Delivers the messages of other workers and returns their number.
    pub fn deliver_messages(&mut self) -> usize {
        let (shared, queue) = self.shared.as_ref().expect("a worker with shared memory");
        let messages = shared.dequeue(*queue);
        for message in &messages {
            self.inner.message(message, self.now);
        }
        messages.len()
    }

    /// Moves the clock forward.
    pub fn advance(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
    }

    /// Fires the worker's timer.
    pub fn tick(&mut self) -> Vec<(RequestId, Decision)> {
        self.inner.tick(self.now);
        self.steps()
    }

    /// The decisions on requests that no longer wait, in order.
    pub fn steps(&mut self) -> Vec<(RequestId, Decision)> {
        let (engine, now) = (&mut self.inner, self.now);
        let steps = std::iter::from_fn(|| engine.next_decision(now));
        steps.filter(|(_, step)| !matches!(step, Decision::Pause)).collect()
    }

    /// Sends a request.
    pub fn send(&mut self, request: Request) -> (RequestId, Decision) {
        self.ids += 1;
        let id = RequestId(self.ids);
        (id, self.inner.request(id, request, self.now))
    }

    /// Sends a request that has to wait.
    pub fn send_waiting(&mut self, request: Request) -> RequestId {
        let (id, step) = self.send(request);
        assert!(matches!(step, Decision::Pause), "decided at once");
        id
    }

    /// Sends a request and returns its first step.
    pub fn decide(&mut self, request: Request) -> Decision {
        self.send(request).1
    }

    /// The next call, which there must be.
    pub fn expect_call(&mut self) -> (FetchId, Callout) {
        self.held.pop().or_else(|| self.inner.next_callout()).expect("a call")
    }

    /// Fails if there is a call.
    pub fn expect_no_call(&mut self) {
        if let Some((_, call)) = self.inner.next_callout() {
            panic!("an unexpected call: {call:?}");
        }
    }

    /// Replies to a call, and returns the decisions that follow.
    pub fn callout_result(&mut self, flight: FetchId, reply: &CalloutResult) -> Vec<(RequestId, Decision)> {
        self.inner.callout_result(flight, reply, self.now);
        self.steps()
    }

    /// Replies to a call, and returns the one decision that follows.
    pub fn only_step(&mut self, flight: FetchId, reply: &CalloutResult) -> Decision {
        let mut steps = self.callout_result(flight, reply);
        assert_eq!(steps.len(), 1);
        steps.remove(0).1
    }

    /// Replies to every call by script, and returns the URLs of the calls.
    pub fn serve_calls(&mut self, reply: impl Fn(&Callout) -> CalloutResult) -> Vec<String> {
        let mut urls = Vec::new();
        while let Some((flight, call)) = self.inner.next_callout() {
            urls.push(call.url.as_str().to_owned());
            self.callout_result(flight, &reply(&call));
        }
        urls
    }

    /// Replies to every call as the two providers do. Each must be for metadata or keys.
    pub fn serve_keys(&mut self) -> Vec<(RequestId, Decision)> {
        let mut steps = Vec::new();
        while let Some((flight, call)) = self.inner.next_callout() {
            assert_eq!(call.method, "GET", "{call:?}");
            steps.extend(self.callout_result(flight, &provider_document(&call)));
        }
        steps
    }

    /// Replies to calls for metadata and keys, and holds the token requests for [`expect_call`](Self::expect_call).
    pub fn serve_keys_and_hold_token_requests(&mut self) -> Vec<(RequestId, Decision)> {
        let mut steps = Vec::new();
        let mut others = Vec::new();
        while let Some((flight, call)) = self.inner.next_callout() {
            if call.method == "GET" {
                steps.extend(self.callout_result(flight, &provider_document(&call)));
            } else {
                others.push((flight, call));
            }
        }
        self.held = others;
        steps
    }

    /// Sends a request whose token has to be exchanged, and replies to the token request.
    pub fn exchange(&mut self, request: Request, reply: &CalloutResult) -> Decision {
        let id = self.send_waiting(request);
        let (flight, call) = self.expect_call();
        assert_eq!(call.method, "POST", "{call:?}");
        let mut steps = self.callout_result(flight, reply);
        assert_eq!(steps.len(), 1);
        let (decided, step) = steps.remove(0);
        assert_eq!(decided, id);
        step
    }
}
