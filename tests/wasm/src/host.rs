//! One running VM, and the events that a test makes for it.

use std::collections::BTreeMap;

use wasmtime::{Instance, Linker, Store, Val};

use crate::abi::{Status, action};
use crate::headers::Headers;
use crate::imports;
use crate::module::Module;
use crate::vm::{Act, Answer, Call, CallId, Cluster, Counts, Log, Outcome, Reply, Stream, Vm};
use crate::world::World;

/// A VM with the filter in it: one worker of an Envoy.
pub struct Host {
    store: Store<Vm>,
    instance: Instance,
    configured: bool,
    trap: Option<String>,
    next_stream: u32,
    outcomes: BTreeMap<u32, Outcome>,
    finished: BTreeMap<u32, Counts>,
}

/// The identity of a request within its VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(u32);

impl Host {
    pub(crate) fn start(module: &Module, vm: Vm) -> Self {
        let mut linker = Linker::new(&module.engine);
        imports::link(&mut linker, &module.code).expect("each host function is defined once");
        let mut store = Store::new(&module.engine, vm);
        store.limiter(|vm| &mut vm.limits);
        let instance = linker.instantiate(&mut store, &module.code);
        let instance = instance.unwrap_or_else(|error| panic!("the module does not fit Envoy: {error:#}"));
        store.data_mut().memory = instance.get_memory(&mut store, "memory");
        store.data_mut().allocate = instance.get_typed_func(&mut store, "proxy_on_memory_allocate").ok();
        let root = store.data().root;
        let mut host = Self {
            store,
            instance,
            configured: false,
            trap: None,
            next_stream: root + 1,
            outcomes: BTreeMap::new(),
            finished: BTreeMap::new(),
        };
        host.call("_initialize", root, &[]);
        host.call("proxy_on_context_create", root, &[root, 0]);
        let started = host.call("proxy_on_vm_start", root, &[root, 0]).unwrap_or(1) != 0;
        let size = u32::try_from(host.store.data().configuration.len()).expect("a configuration fits 4 GiB");
        host.store.data_mut().configuring = true;
        host.configured = started && host.call("proxy_on_configure", root, &[root, size]).unwrap_or(1) != 0;
        host.store.data_mut().configuring = false;
        host
    }

    /// Returns `true` if the filter accepted its configuration.
    #[must_use]
    pub fn configured(&self) -> bool {
        self.configured
    }

    /// Sends a request that has no body.
    pub fn request<N: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, headers: &[(N, V)]) -> StreamId {
        self.request_with_body(headers, b"")
    }

    /// Sends a request. The filter gets its body only if it continues with the headers.
    pub fn request_with_body<N: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, headers: &[(N, V)], body: &[u8]) -> StreamId {
        let id = self.next_stream;
        self.next_stream += 1;
        let request: Headers = headers.iter().map(|(name, value)| (name, value)).collect();
        let count = u32::try_from(request.len()).expect("few headers");
        let stream = Stream { request, has_request: true, body: body.to_vec(), ..Stream::default() };
        self.store.data_mut().streams.insert(id, stream);
        self.outcomes.insert(id, Outcome::Waiting);
        let root = self.store.data().root;
        self.call("proxy_on_context_create", id, &[id, root]);
        let end = u32::from(body.is_empty());
        let action = self.call("proxy_on_request_headers", id, &[id, count, end]);
        self.returned(id, action);
        StreamId(id)
    }

    /// The outcome of a request.
    #[must_use]
    pub fn outcome(&self, request: StreamId) -> Outcome {
        self.outcomes.get(&request.0).expect("a request of this host").clone()
    }

    /// Disconnects the client of a request.
    pub fn leave(&mut self, request: StreamId) {
        if let Some(outcome @ Outcome::Waiting) = self.outcomes.get_mut(&request.0) {
            *outcome = Outcome::Left;
        }
        self.close(request.0);
    }

    /// The upstream answers a forwarded request, which ends it. Returns the response headers that the client gets. The
    /// outcome has a local reply in their place.
    pub fn respond<N: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, request: StreamId, headers: &[(N, V)]) -> Headers {
        let forwarded = matches!(self.outcomes.get(&request.0), Some(Outcome::Forwarded(_)));
        assert!(forwarded, "only a forwarded request gets a response of the upstream");
        let response = headers.iter().map(|(name, value)| (name, value)).collect();
        if let Some(stream) = self.store.data_mut().streams.get_mut(&request.0) {
            stream.applied = false;
            stream.responds = true;
        }
        let response = self.response(request.0, response);
        self.close(request.0);
        response
    }

    /// The callouts without a reply, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.store.data().calls.values().cloned().collect()
    }

    /// Delivers the reply to a callout.
    pub fn answer(&mut self, call: CallId, reply: Reply) {
        let vm = self.store.data_mut();
        vm.calls.remove(&call).expect("the call-out is answered once");
        let broken = reply.is_reset();
        let size = |length: usize| u32::try_from(length).expect("a reply fits 4 GiB");
        let (headers, body) = (size(reply.headers.len()), size(reply.body.len()));
        if broken {
            // The status stays until the next failure, as in Envoy. The text does not.
            vm.status = (Status::BrokenConnection as u32, "reset");
        }
        vm.reply = Some(reply);
        let root = vm.root;
        self.call("proxy_on_http_call_response", root, &[root, call.0, headers, body, 0]);
        let vm = self.store.data_mut();
        vm.reply = None;
        vm.status.1 = "";
    }

    /// Changes the state of a cluster for later dispatches.
    pub fn set_cluster(&mut self, name: &str, state: Cluster) {
        self.store.data_mut().clusters.insert(name.to_owned(), state);
    }

    /// Delivers the wake-ups of this VM's queues until none is left, and returns their number.
    pub fn run_queue(&mut self) -> usize {
        let mut delivered = 0;
        while self.run_queue_once() {
            delivered += 1;
        }
        delivered
    }

    /// Delivers one wake-up of this VM's queues. Returns `true` if there was one.
    pub fn run_queue_once(&mut self) -> bool {
        let Some(ready) = self.store.data().world.next_ready(self.store.data().number) else {
            return false;
        };
        self.call("proxy_on_queue_ready", ready.root, &[ready.root, ready.queue]);
        true
    }

    /// Fires the timer. Returns `true` if the filter has set one.
    pub fn tick(&mut self) -> bool {
        if self.store.data().tick_period == 0 {
            return false;
        }
        let root = self.store.data().root;
        self.call("proxy_on_tick", root, &[root]);
        true
    }

    /// Milliseconds between ticks; 0 means no tick.
    #[must_use]
    pub fn tick_period(&self) -> u32 {
        self.store.data().tick_period
    }

    /// Moves the clock of the world forward and fires the timer once.
    pub fn advance(&mut self, seconds: u64) {
        self.store.data().world.advance(seconds);
        self.tick();
    }

    #[must_use]
    pub fn world(&self) -> &World {
        &self.store.data().world
    }

    /// Every line logged so far.
    #[must_use]
    pub fn logs(&self) -> &[Log] {
        &self.store.data().logs
    }

    /// The log as one text.
    #[must_use]
    pub fn log_text(&self) -> String {
        self.logs().iter().map(|log| format!("{} {}\n", log.level, log.text)).collect()
    }

    /// Number of calls of each host function since the start.
    #[must_use]
    pub fn hostcalls(&self) -> &Counts {
        &self.store.data().counts
    }

    /// Number of calls of each host function for one request.
    #[must_use]
    pub fn hostcalls_of(&self, request: StreamId) -> Counts {
        let open = self.store.data().streams.get(&request.0).map(|stream| &stream.counts);
        open.or_else(|| self.finished.get(&request.0)).cloned().unwrap_or_default()
    }

    /// The size of the module's linear memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory.map_or(0, |memory| memory.data_size(&self.store))
    }

    /// The trap that ended the VM, if any.
    #[must_use]
    pub fn trap(&self) -> Option<&str> {
        self.trap.as_deref()
    }

    /// Calls an exported function as context `context`. `None` if the VM is dead, has no such function or may not be
    /// called so. Carries out the filter's decisions afterwards, as Envoy does once the VM has returned.
    fn call(&mut self, name: &str, context: u32, arguments: &[u32]) -> Option<i32> {
        if self.trap.is_some() || self.store.data().denied.contains(name) {
            return None;
        }
        let function = self.instance.get_func(&mut self.store, name)?;
        let arguments: Vec<Val> = arguments.iter().map(|value| Val::I32(value.cast_signed())).collect();
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        let vm = self.store.data_mut();
        if vm.depth == 0 {
            vm.actions = 0;
        }
        vm.depth += 1;
        vm.current = context;
        vm.effective = 0;
        let called = function.call(&mut self.store, &arguments, &mut results);
        self.store.data_mut().current = 0;
        self.store.data_mut().effective = 0;
        if let Err(error) = called {
            self.died(name, &format!("{error:#}"));
            self.store.data_mut().depth -= 1;
            return None;
        }
        if name != "proxy_on_request_headers" && name != "proxy_on_request_body" {
            self.carry_out();
        }
        self.store.data_mut().depth -= 1;
        Some(results.first().and_then(Val::i32).unwrap_or_default())
    }

    fn died(&mut self, callback: &str, error: &str) {
        let trap = format!("{callback}: {error}");
        let text = self.log_text();
        let survives = self.store.data().survives_traps;
        self.trap = Some(trap.clone());
        assert!(survives, "the module trapped in {trap}\nlog:\n{text}");
    }

    /// Applies the action that a callback of a request returned, and carries out the filter's decisions.
    fn returned(&mut self, id: u32, action: Option<i32>) {
        let goes_on = action.unwrap_or(i32::from(self.trap.is_some())) == action::CONTINUE;
        if let Some(stream) = self.store.data_mut().streams.get_mut(&id) {
            let answered = stream.acts.iter().any(|act| matches!(act, Act::Answer(_)));
            if goes_on && !answered && !stream.applied {
                stream.acts.push(Act::Continue);
            }
        }
        self.carry_out();
    }

    /// Carries out the filter's decision for each request, and fails the test on an incorrect one.
    fn carry_out(&mut self) {
        let faults = std::mem::take(&mut self.store.data_mut().faults);
        assert!(faults.is_empty(), "the filter did what it must not: {}\nlog:\n{}", faults.join("; "), self.log_text());
        let streams = self.store.data().streams.iter();
        let decided: Vec<u32> = streams.filter(|(_, stream)| !stream.acts.is_empty()).map(|(id, _)| *id).collect();
        for id in decided {
            let Some(stream) = self.store.data_mut().streams.get_mut(&id) else { continue };
            let acts = std::mem::take(&mut stream.acts);
            let twice = stream.applied || acts.len() > 1;
            stream.applied = true;
            self.store.data_mut().act();
            assert!(!twice, "request {id} was decided twice, last by {acts:?}\nlog:\n{}", self.log_text());
            match acts.into_iter().next() {
                Some(Act::Continue) => self.forward(id),
                Some(Act::Answer(answer)) => self.reply(id, answer),
                None => {}
            }
        }
    }

    fn forward(&mut self, id: u32) {
        let Some(stream) = self.store.data_mut().streams.get_mut(&id) else { return };
        stream.has_request = false;
        let forwarded = Outcome::Forwarded(stream.request.clone());
        let body = u32::try_from(stream.body.len()).expect("a body fits 4 GiB");
        self.outcomes.insert(id, forwarded);
        if body > 0 {
            if let Some(stream) = self.store.data_mut().streams.get_mut(&id) {
                stream.has_body = true;
            }
            let action = self.call("proxy_on_request_body", id, &[id, body, 1]);
            let paused = action.is_some_and(|action| action != action::CONTINUE);
            assert!(!paused, "the filter paused a body after it had let the headers pass");
            self.carry_out();
        }
    }

    /// Envoy runs a local reply through the response side of the filters and then ends the request.
    fn reply(&mut self, id: u32, answer: Answer) {
        let mut headers = Headers::from_iter([(":status", answer.status.to_string())]);
        headers.add(b"content-length", answer.body.len().to_string().as_bytes());
        for (name, value) in answer.headers.iter() {
            headers.add(name, value);
        }
        // A local reply in place of a response bypasses the filters.
        let responds = self.store.data().streams.get(&id).is_some_and(|stream| stream.responds);
        let headers = if responds { headers } else { self.response(id, headers) };
        self.outcomes.insert(id, Outcome::Answered(Answer { headers, ..answer }));
        self.close(id);
    }

    fn response(&mut self, id: u32, headers: Headers) -> Headers {
        let count = u32::try_from(headers.len()).expect("few headers");
        let has_content = headers.text("content-type").is_some();
        if let Some(stream) = self.store.data_mut().streams.get_mut(&id) {
            stream.response = Some(headers);
        }
        let action = self.call("proxy_on_response_headers", id, &[id, count, u32::from(!has_content)]);
        let held = action.is_some_and(|action| action != action::CONTINUE);
        let stream = self.store.data_mut().streams.get_mut(&id);
        let response = stream.and_then(|stream| stream.response.take());
        assert!(!held || response.is_none(), "the filter held a response that it did not answer itself");
        response.unwrap_or_default()
    }

    fn close(&mut self, id: u32) {
        if !self.store.data().streams.contains_key(&id) {
            return;
        }
        for callback in ["proxy_on_done", "proxy_on_log", "proxy_on_delete"] {
            self.call(callback, id, &[id]);
        }
        if let Some(stream) = self.store.data_mut().streams.remove(&id) {
            self.finished.insert(id, stream.counts);
        }
    }
}
