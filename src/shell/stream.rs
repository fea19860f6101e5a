use std::cell::Cell;
use std::rc::Rc;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, MapType};

use super::filter_state;
use super::headers;
use super::now;
use super::root::Worker;
use crate::audit::Record;
use crate::engine::{RequestId, Step};
use crate::http::{HeaderEdits, LocalAnswer, Request};

/// A request, for as long as Envoy has it.
pub(super) struct Stream {
    id: RequestId,
    worker: Rc<Worker>,
    waits: Cell<bool>,
}

impl Stream {
    pub(super) const fn new(id: u32, worker: Rc<Worker>) -> Self {
        Self { id: RequestId(id), worker, waits: Cell::new(false) }
    }

    /// What to do with the request, and whether the root has calls to make.
    fn decide(&self) -> (Step, bool) {
        let mut request = Request::from_pairs(headers::request_pairs());
        if self.worker.takes_certificates.get() {
            request.peer_certificate = peer_certificate();
        }
        let now = now();
        let Ok(mut engine) = self.worker.engine.try_borrow_mut() else {
            return (unavailable(), false);
        };
        match engine.as_mut() {
            Some(engine) => {
                let step = engine.request(self.id, request, now);
                (step, engine.has_calls())
            }
            None => (unavailable(), false),
        }
    }
}

/// The digest of the certificate by which the client proved itself to Envoy, as Envoy tells it: in hexadecimal.
fn peer_certificate() -> Option<[u8; 32]> {
    let digest = hostcalls::get_property(vec!["connection", "sha256_peer_certificate_digest"]).ok().flatten()?;
    let (pairs, rest) = digest.as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Vec<u8> = pairs.iter().map(byte).collect::<Option<_>>()?;
    bytes.try_into().ok().filter(|_| rest.is_empty())
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        let (step, has_calls) = self.decide();
        let waits = matches!(step, Step::Wait);
        self.waits.set(waits);
        // Who waits for another worker's call makes the root tick sooner.
        if waits || has_calls {
            self.worker.wake();
        }
        perform(step, false)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.waits.get()
            && let Ok(mut engine) = self.worker.engine.try_borrow_mut()
            && let Some(engine) = engine.as_mut()
        {
            engine.gone(self.id);
        }
    }
}

/// Does with the effective context's request what `step` says. `paused`: it was held before and must be let go.
pub(super) fn perform(step: Step, paused: bool) -> Action {
    match step {
        Step::Wait => Action::Pause,
        Step::Answer(answer) => {
            filter_state::tell(&answer.audit);
            send(&answer);
            Action::Pause
        }
        Step::Forward(edits) => {
            if !edit(&edits) {
                send(&not_edited());
                return Action::Pause;
            }
            filter_state::tell(&edits.audit);
            if paused && hostcalls::resume_http_request().is_err() {
                log::error!("a request could not be resumed");
            }
            Action::Continue
        }
    }
}

/// Whether every edit was made.
fn edit(edits: &HeaderEdits) -> bool {
    const MAP: MapType = MapType::HttpRequestHeaders;
    let authorization = edits.authorization.as_ref().map(|value| value.reveal().as_bytes());
    hostcalls::set_map_value_bytes(MAP, "authorization", authorization).is_ok()
        && edits.remove.iter().all(|name| hostcalls::remove_map_value(MAP, name).is_ok())
        && edits
            .cookie
            .as_ref()
            .is_none_or(|cookie| hostcalls::set_map_value_bytes(MAP, "cookie", Some(cookie)).is_ok())
        // Behind what is removed: the caller's own had the same name.
        && edits
            .proof
            .as_ref()
            .is_none_or(|proof| hostcalls::set_map_value_bytes(MAP, "dpop", Some(proof.reveal().as_bytes())).is_ok())
}

fn send(answer: &LocalAnswer) {
    let headers = answer.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let body = Some(answer.body.as_bytes()).filter(|body| !body.is_empty());
    if hostcalls::send_http_response(answer.status.into(), headers, body).is_err() {
        log::error!("a request could not be answered");
    }
}

/// There is no engine: the host let requests in without a configuration, which it does not do.
fn unavailable() -> Step {
    Step::Answer(LocalAnswer { status: 503, headers: Vec::new(), body: String::new(), audit: Record::default() })
}

/// The host refused an edit. A request half edited could carry the caller's own token.
fn not_edited() -> LocalAnswer {
    LocalAnswer { status: 500, headers: Vec::new(), body: String::new(), audit: Record::default() }
}
