//! Stream context: the callbacks of one request.

use std::cell::Cell;
use std::rc::Rc;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, MapType};

use crate::engine::{Decision, ForwardedRequest, HeaderMutations, RequestId, UpstreamAction};
use crate::filter::clock::now;
use crate::filter::worker::WorkerContext;
use crate::filter::{filter_state, headers};
use crate::http::{LocalReply, Request, Response};
use crate::telemetry::Record;

/// Stream context of a request.
pub(crate) struct StreamFilter {
    id: RequestId,
    worker: Rc<WorkerContext>,
    /// `true` if the request was paused.
    waits: Cell<bool>,
    /// Information on the token of a request that was not paused. The worker context has it for the others.
    sent: Cell<Option<ForwardedRequest>>,
}

impl StreamFilter {
    pub(crate) const fn new(id: u32, worker: Rc<WorkerContext>) -> Self {
        Self { id: RequestId(id), worker, waits: Cell::new(false), sent: Cell::new(None) }
    }

    /// Decides about the request. The second value is `true` if the root has work.
    fn decide(&self) -> (Decision, bool) {
        let mut request = Request::from_pairs(headers::pairs(MapType::HttpRequestHeaders));
        if self.worker.takes_certificates.get() {
            request.peer_certificate = peer_certificate();
        }
        request.has_passed = filter_state::is_marked;
        let now = now();
        let Ok(mut engine) = self.worker.engine.try_borrow_mut() else {
            return (unavailable(), false);
        };
        match engine.as_mut() {
            Some(engine) => {
                let decision = engine.request(self.id, request, now);
                (decision, engine.has_work())
            }
            None => (unavailable(), false),
        }
    }
}

impl StreamFilter {
    /// Pauses body and trailers while the request is paused. Envoy does that itself unless `allow_on_headers_stop_iteration` is set:
    /// then a forwarded part of the body forwards the header, too (docs/adr/0020).
    fn body_action(&self) -> Action {
        let waits = self.waits.get()
            && match self.worker.engine.try_borrow() {
                Ok(engine) => engine.as_ref().is_none_or(|engine| engine.waits(self.id)),
                Err(_) => true,
            };
        if waits { Action::Pause } else { Action::Continue }
    }

    /// Decides about the response of the upstream. `None`: it is forwarded unchanged.
    ///
    /// Nearly every response is. A 401 must have `www-authenticate` (RFC 9110 section 15.5.2), so a response without that field needs
    /// no further look. Reading the status takes five times as long; a busy worker does not read it for every response
    /// (docs/adr/0013).
    ///
    /// `end_of_stream`: the response has no body. Only such a response can be gRPC's form without content, which has
    /// `grpc-status` in the header.
    fn upstream_action(&self, end_of_stream: bool) -> Option<UpstreamAction> {
        let sent = if self.waits.get() { self.worker.take_resumed(self.id) } else { self.sent.take() }?;
        let is_for_us = headers::response_field("www-authenticate").is_some()
            || (sent.hides_nonce() && headers::response_field("dpop-nonce").is_some())
            || (sent.has_token() && end_of_stream && headers::response_field("grpc-status").is_some())
            || (sent.has_token()
                && self.worker.may_read_status(&sent)
                && headers::response_field(":status").is_some_and(|status| status == b"401"));
        if !is_for_us {
            return None;
        }
        let head = Request::from_pairs(headers::pairs(MapType::HttpResponseHeaders));
        let status = head.field(b":status").and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        let fields = head.fields().map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.to_vec()));
        let answer = Response { status: status.unwrap_or_default(), headers: fields.collect(), body: Vec::new() };
        let now = now();
        self.worker
            .engine
            .try_borrow_mut()
            .ok()?
            .as_mut()
            .map(|engine| engine.on_upstream_response(&sent, &answer, now))
    }
}

/// SHA-256 of the client's TLS certificate. Envoy has it in hexadecimal.
fn peer_certificate() -> Option<[u8; 32]> {
    let digest = hostcalls::get_property(vec!["connection", "sha256_peer_certificate_digest"]).ok().flatten()?;
    let (pairs, rest) = digest.as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Vec<u8> = pairs.iter().map(byte).collect::<Option<_>>()?;
    bytes.try_into().ok().filter(|_| rest.is_empty())
}

impl Context for StreamFilter {}

impl HttpContext for StreamFilter {
    fn on_http_request_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        let (mut decision, has_work) = self.decide();
        let waits = matches!(decision, Decision::Pause);
        self.waits.set(waits);
        if waits && !end_of_stream {
            self.worker.add_unfinished(self.id);
        }
        if let Decision::Forward(mutations) = &mut decision {
            self.sent.set(mutations.sent.take());
        }
        // A request that waits for a fetch of another worker shortens the tick of the root.
        if waits || has_work {
            self.worker.wake();
        }
        perform(decision, false)
    }

    fn on_http_request_body(&mut self, _size: usize, _end_of_stream: bool) -> Action {
        self.body_action()
    }

    fn on_http_request_trailers(&mut self, _trailers: usize) -> Action {
        let trailers = Request::from_pairs(headers::pairs(MapType::HttpRequestTrailers));
        let names = match self.worker.engine.try_borrow() {
            Ok(engine) => engine.as_ref().map(|engine| engine.trailers(&trailers)),
            Err(_) => None,
        };
        let is_clean = names.is_some_and(|names| {
            names.iter().all(|name| hostcalls::remove_map_value(MapType::HttpRequestTrailers, name).is_ok())
        });
        if is_clean {
            return self.body_action();
        }
        send(&not_edited());
        Action::Pause
    }

    fn on_http_response_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        match self.upstream_action(end_of_stream) {
            None => Action::Continue,
            Some(UpstreamAction::Instead(decision)) => perform(decision, false),
            Some(UpstreamAction::PassOn { remove }) => {
                if !remove.iter().all(|name| hostcalls::remove_map_value(MapType::HttpResponseHeaders, name).is_ok()) {
                    log::error!("a response could not be edited");
                }
                Action::Continue
            }
        }
    }
}

impl Drop for StreamFilter {
    fn drop(&mut self) {
        if !self.waits.get() {
            return;
        }
        self.worker.take_resumed(self.id);
        self.worker.take_unfinished(self.id);
        if let Ok(mut engine) = self.worker.engine.try_borrow_mut()
            && let Some(engine) = engine.as_mut()
        {
            engine.request_closed(self.id);
        }
    }
}

/// Executes the decision on the request of the effective context. `paused`: the request is paused and must be resumed.
pub(crate) fn perform(decision: Decision, paused: bool) -> Action {
    match decision {
        Decision::Pause => Action::Pause,
        Decision::Respond(answer) => {
            filter_state::write_record(&answer.record);
            send(&answer);
            Action::Pause
        }
        Decision::Forward(mutations) => {
            if !edit(&mutations) || !filter_state::write(&mutations.filter_state) {
                send(&not_edited());
                return Action::Pause;
            }
            if paused && hostcalls::resume_http_request().is_err() {
                log::error!("a request could not be resumed");
            }
            Action::Continue
        }
    }
}

/// Applies the header mutations. Returns `true` if the host accepted all of them.
fn edit(mutations: &HeaderMutations) -> bool {
    const MAP: MapType = MapType::HttpRequestHeaders;
    let authorization = mutations.authorization.as_ref().map(|value| value.reveal().as_bytes());
    hostcalls::set_map_value_bytes(MAP, "authorization", authorization).is_ok()
        && mutations.remove.iter().all(|name| hostcalls::remove_map_value(MAP, name).is_ok())
        && mutations
            .cookie
            .as_ref()
            .is_none_or(|cookie| hostcalls::set_map_value_bytes(MAP, "cookie", Some(cookie)).is_ok())
        // Set after the removals: the caller's own proof has the same name.
        && mutations
            .proof
            .as_ref()
            .is_none_or(|proof| hostcalls::set_map_value_bytes(MAP, "dpop", Some(proof.reveal().as_bytes())).is_ok())
}

fn send(answer: &LocalReply) {
    let headers = answer.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let body = Some(answer.body.as_bytes()).filter(|body| !body.is_empty());
    if hostcalls::send_http_response(answer.status.into(), headers, body).is_err() {
        log::error!("a local reply could not be sent");
    }
}

/// Reply without an engine. Envoy sends no request to a plugin without a configuration.
fn unavailable() -> Decision {
    Decision::Respond(LocalReply { status: 503, headers: Vec::new(), body: String::new(), record: Record::default() })
}

/// Reply if the host refuses a mutation. A partly edited request could have the caller's own token, and one without filter state
/// could pass a rule on its caller.
fn not_edited() -> LocalReply {
    LocalReply { status: 500, headers: Vec::new(), body: String::new(), record: Record::default() }
}
