//! Second filter for tests, with a word as its configuration.
//!
//! An empty configuration offers the foreign functions of Envoy over HTTP: the path is the name, the body is the arguments, and
//! the body of the answer is the result. `x-returned` has the status. It needs `allow_on_headers_stop_iteration`.
//!
//! With `pass`, it is a neighbour of another filter: it forwards each request, and adds `x-foreign` to each answer.
//!
//! Any other word is the name of a property: the filter declares it read-only, and sets it in each request that has `x-taken`, so
//! that no other plugin can set it.
//!
//! A request with `x-trap` makes the VM trap; with `x-trap: forever`, the module then refuses its configuration.

use std::rc::Rc;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root { role: Rc::new(Role::Functions) }));
}}

/// Key of shared data, which survives a VM.
const REFUSES: &str = "refuses";

/// The configuration.
enum Role {
    Functions,
    Neighbour,
    Property(String),
}

struct Root {
    role: Rc<Role>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let word = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, size).ok().flatten().unwrap_or_default();
        let role = match word.as_slice() {
            b"" => Role::Functions,
            b"pass" => Role::Neighbour,
            name => Role::Property(String::from_utf8_lossy(name).into_owned()),
        };
        self.role = Rc::new(role);
        if self.get_shared_data(REFUSES).0.is_some() {
            return false;
        }
        let Role::Property(name) = &*self.role else {
            return true;
        };
        // DeclarePropertyArguments of Envoy: 1, the name; 2, whether it is read-only.
        let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        let arguments = [&[0x0a, length], name.as_bytes(), &[0x10, 1]].concat();
        hostcalls::call_foreign_function("declare_property", Some(&arguments)).is_ok()
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request { function: String::new(), role: self.role.clone() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Request {
    function: String,
    role: Rc<Role>,
}

impl Context for Request {}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        if let Some(trap) = self.get_http_request_header_bytes("x-trap") {
            if trap == b"forever" {
                hostcalls::set_shared_data(REFUSES, Some(b"yes"), None).ok();
            }
            std::process::abort();
        }
        match &*self.role {
            Role::Functions => {}
            Role::Neighbour => return Action::Continue,
            Role::Property(name) => {
                if self.get_http_request_header_bytes("x-taken").is_some() {
                    self.set_property(vec![name], Some(b"taken"));
                }
                return Action::Continue;
            }
        }
        let path = self.get_http_request_header_bytes(":path").unwrap_or_default();
        self.function = String::from_utf8_lossy(&path).trim_start_matches('/').to_owned();
        // A route that answers by itself would otherwise do so before the body has come.
        Action::Pause
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if !matches!(*self.role, Role::Functions) {
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
        if matches!(*self.role, Role::Neighbour) {
            self.set_http_response_header("x-foreign", Some("passed"));
        }
        Action::Continue
    }
}
