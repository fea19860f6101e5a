//! A filter that is not onbehalf.
//!
//! Without a configuration it offers Envoy's foreign functions by HTTP: the path names one, the body is its arguments, and the
//! answer's body is what it returned, byte for byte. `x-returned` says with which status. Needs
//! `allow_on_headers_stop_iteration`.
//!
//! Configured with `pass`, it is a neighbour of another filter: each request goes on, and each answer gets `x-foreign`.
//!
//! A request with `x-trap` makes the VM trap.

use std::cell::Cell;
use std::rc::Rc;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::<Root>::default());
}}

#[derive(Default)]
struct Root {
    passes: Rc<Cell<bool>>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let configuration = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, size).ok().flatten();
        self.passes.set(configuration.is_some_and(|configuration| configuration == b"pass"));
        true
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request { function: String::new(), passes: self.passes.clone() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Request {
    function: String,
    passes: Rc<Cell<bool>>,
}

impl Context for Request {}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        if self.get_http_request_header_bytes("x-trap").is_some() {
            std::process::abort();
        }
        if self.passes.get() {
            return Action::Continue;
        }
        let path = self.get_http_request_header_bytes(":path").unwrap_or_default();
        self.function = String::from_utf8_lossy(&path).trim_start_matches('/').to_owned();
        // Or a route that answers by itself would do so before the body is here.
        Action::Pause
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if self.passes.get() {
            return Action::Continue;
        }
        if end_of_stream {
            let arguments = hostcalls::get_buffer(BufferType::HttpRequestBody, 0, size).ok().flatten();
            let result = hostcalls::call_foreign_function(&self.function, arguments.as_deref());
            let returned = match &result {
                Ok(_) => "Ok".to_owned(),
                Err(status) => format!("{status:?}"),
            };
            let body = result.ok().flatten().unwrap_or_default();
            self.send_http_response(200, vec![("x-returned", &returned)], Some(&body));
        }
        Action::Pause
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        if self.passes.get() {
            self.set_http_response_header("x-foreign", Some("passed"));
        }
        Action::Continue
    }
}
