//! The state of one VM: streams, callouts, log lines and counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use wasmtime::{Memory, StoreLimits, StoreLimitsBuilder, TypedFunc};

use crate::abi::Status;
use crate::headers::Headers;
use crate::setup::Setup;
use crate::world::World;

/// Number of calls of each host function, by name.
pub type Counts = BTreeMap<&'static str, u64>;

/// The outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The filter paused it and has not decided.
    Waiting,
    /// The request was forwarded to the upstream with these headers.
    Forwarded(Headers),
    /// The filter sent a local reply.
    Answered(Answer),
    /// The client disconnected before a decision.
    Left,
}

impl Outcome {
    /// The local reply. The test fails if there is none.
    #[must_use]
    pub fn answer(self) -> Answer {
        match self {
            Self::Answered(answer) => answer,
            other => panic!("expected an answer of the filter, found {other:?}"),
        }
    }

    /// The headers that the upstream gets. The test fails if the request was not forwarded.
    #[must_use]
    pub fn forwarded(self) -> Headers {
        match self {
            Self::Forwarded(headers) => headers,
            other => panic!("expected the request to be forwarded, found {other:?}"),
        }
    }
}

/// A local reply of the filter.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u32,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("an answer's body is UTF-8")
    }
}

/// The identity of a callout within its VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub(crate) u32);

/// A callout without a reply.
#[derive(Clone)]
pub struct Call {
    pub id: CallId,
    pub cluster: String,
    pub headers: Headers,
    pub body: Vec<u8>,
    /// The timeout in milliseconds; 0 means no timeout.
    pub timeout: u32,
}

impl Call {
    /// The path of the call.
    #[must_use]
    pub fn path(&self) -> &str {
        self.headers.text(":path").unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a call-out's body is UTF-8")
    }
}

/// The reply to a callout.
#[derive(Clone)]
pub struct Reply {
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// A response of the provider. Envoy adds the time that it took.
    #[must_use]
    pub fn new(status: u16, content_type: &str, body: impl AsRef<[u8]>) -> Self {
        let status = status.to_string();
        let headers = [
            (":status", status.as_str()),
            ("content-type", content_type),
            ("date", "Mon, 23 Nov 2026 00:00:00 GMT"),
            ("x-envoy-upstream-service-time", "4"),
        ];
        Self { headers: Headers::from_iter(headers), body: body.as_ref().to_vec() }
    }

    /// A JSON document with status 200.
    #[must_use]
    pub fn json(body: impl AsRef<[u8]>) -> Self {
        Self::new(200, "application/json", body)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.add(name.as_bytes(), value.as_ref());
        self
    }

    /// The response that Envoy creates on a timeout.
    #[must_use]
    pub fn timeout() -> Self {
        Self::made_up("504", "upstream request timeout")
    }

    /// The response that Envoy creates when no connection can be made.
    #[must_use]
    pub fn refused() -> Self {
        let reason =
            "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
        Self::made_up("503", reason)
    }

    /// The response that Envoy creates when the server speaks another protocol.
    #[must_use]
    pub fn protocol_error() -> Self {
        Self::made_up("502", "upstream connect error or disconnect/reset before headers. reset reason: protocol error")
    }

    /// A reset stream, or a body beyond Envoy's buffer: no headers and no body.
    #[must_use]
    pub fn reset() -> Self {
        Self { headers: Headers::default(), body: Vec::new() }
    }

    fn made_up(status: &str, body: &str) -> Self {
        let length = body.len().to_string();
        let headers = [(":status", status), ("content-length", length.as_str()), ("content-type", "text/plain")];
        Self { headers: Headers::from_iter(headers), body: body.as_bytes().to_vec() }
    }

    pub(crate) fn is_reset(&self) -> bool {
        self.headers.is_empty()
    }
}

/// The beginning of a body, for the text of a failed test.
fn shown(body: &[u8]) -> String {
    const ENOUGH: usize = 300;
    let text = String::from_utf8_lossy(&body[..body.len().min(ENOUGH)]).into_owned();
    if body.len() > ENOUGH { format!("{text}… ({} bytes)", body.len()) } else { text }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?}", self.status, self.headers, shown(&self.body))
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} to {} {:?} {:?}", self.id, self.cluster, self.headers, shown(&self.body))
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.headers, shown(&self.body))
    }
}

/// The state of a cluster, which decides the outcome of a dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cluster {
    /// The call is made.
    Known,
    /// The cluster does not exist: `BadArgument` at once.
    Unknown,
    /// The cluster exists, but the call fails at once: `InternalFailure`.
    Failing,
}

/// A line that the filter logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// 0 trace, 1 debug, 2 info, 3 warn, 4 error, 5 critical.
    pub level: u32,
    pub text: String,
}

/// A terminal act on a request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Continue,
    Answer(Answer),
}

#[derive(Default)]
pub(crate) struct Stream {
    pub(crate) request: Headers,
    /// Envoy removes the headers once the request is forwarded.
    pub(crate) has_request: bool,
    pub(crate) response: Option<Headers>,
    pub(crate) body: Vec<u8>,
    pub(crate) has_body: bool,
    pub(crate) acts: Vec<Act>,
    pub(crate) applied: bool,
    /// `true` once the upstream has answered.
    pub(crate) responds: bool,
    pub(crate) counts: Counts,
    /// Filter state.
    pub(crate) properties: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The state that the host functions read and change.
pub(crate) struct Vm {
    pub(crate) world: World,
    pub(crate) number: u32,
    pub(crate) vm_id: String,
    pub(crate) configuration: Vec<u8>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) clusters: BTreeMap<String, Cluster>,
    pub(crate) denied: BTreeSet<String>,
    pub(crate) absent_foreign: BTreeSet<String>,
    pub(crate) properties: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) log_level: u32,
    pub(crate) survives_traps: bool,

    pub(crate) memory: Option<Memory>,
    pub(crate) allocate: Option<TypedFunc<u32, u32>>,
    pub(crate) limits: StoreLimits,

    pub(crate) root: u32,
    /// The context whose callback runs; 0 outside of callbacks.
    pub(crate) current: u32,
    /// Set by the guest for the rest of the callback; 0 if not.
    pub(crate) effective: u32,
    pub(crate) configuring: bool,
    /// Number of nested callbacks that run.
    pub(crate) depth: usize,
    /// Number of actions that the module has requested since the event loop turned.
    pub(crate) actions: usize,
    pub(crate) streams: BTreeMap<u32, Stream>,
    pub(crate) tick_period: u32,
    pub(crate) calls: BTreeMap<CallId, Call>,
    pub(crate) next_call: u32,
    pub(crate) reply: Option<Reply>,
    pub(crate) status: (u32, &'static str),
    pub(crate) metrics: BTreeMap<u32, String>,
    pub(crate) logs: Vec<Log>,
    pub(crate) counts: Counts,
    pub(crate) faults: Vec<String>,
}

impl Vm {
    pub(crate) fn new(setup: Setup<'_>) -> Self {
        /// Permissions of a module.
        const MEMORY_LIMIT: usize = 1 << 30;
        Self {
            number: setup.world.enter(),
            world: setup.world,
            vm_id: setup.vm_id,
            configuration: setup.configuration,
            environment: setup.environment,
            clusters: setup.clusters,
            denied: setup.denied,
            absent_foreign: setup.absent_foreign,
            properties: setup.properties,
            log_level: setup.log_level,
            survives_traps: setup.survives_traps,
            memory: None,
            allocate: None,
            limits: StoreLimitsBuilder::new().memory_size(MEMORY_LIMIT).build(),
            root: 1,
            current: 0,
            effective: 0,
            configuring: false,
            depth: 0,
            actions: 0,
            streams: BTreeMap::new(),
            tick_period: 0,
            calls: BTreeMap::new(),
            next_call: 1,
            reply: None,
            status: (0, ""),
            metrics: BTreeMap::new(),
            logs: Vec::new(),
            counts: Counts::new(),
            faults: Vec::new(),
        }
    }

    /// The context of a host function: the effective context while it exists, else the current one.
    pub(crate) fn context(&self) -> u32 {
        if self.effective != 0 && self.exists(self.effective) { self.effective } else { self.current }
    }

    pub(crate) fn exists(&self, context: u32) -> bool {
        context == self.root || self.streams.contains_key(&context)
    }

    /// The stream of a host function, if its context is not the root context.
    pub(crate) fn stream(&mut self) -> Option<&mut Stream> {
        let context = self.context();
        self.streams.get_mut(&context)
    }

    /// Counts a call of a host function. Returns `true` if the filter has the capability.
    pub(crate) fn admit(&mut self, name: &'static str) -> bool {
        *self.counts.entry(name).or_default() += 1;
        if let Some(stream) = self.stream() {
            *stream.counts.entry(name).or_default() += 1;
        }
        !self.denied.contains(name)
    }

    /// Records an action for after the callback. Envoy runs the callbacks that follow inside the current one: V8's
    /// stack ends at some 300 of them, sooner with other filters.
    pub(crate) fn act(&mut self) {
        const MOST_ACTIONS: usize = 32;
        self.actions += 1;
        if self.actions == MOST_ACTIONS + 1 {
            self.fault(format!(
                "more than {MOST_ACTIONS} answers, resumptions and calls in one turn of the event loop"
            ));
        }
    }

    /// Records a fault of the filter. The test fails when the callback returns.
    pub(crate) fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    pub(crate) fn cluster(&self, name: &str) -> Result<(), Status> {
        match self.clusters.get(name) {
            Some(Cluster::Known) => Ok(()),
            Some(Cluster::Failing) => Err(Status::InternalFailure),
            Some(Cluster::Unknown) | None => Err(Status::BadArgument),
        }
    }
}
