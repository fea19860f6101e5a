//! Smallest proxy-wasm filter that replaces a credential: it reads two headers and sets one.
//!
//! `make bench` compares onbehalf with it, so that the figure is the work of onbehalf and not that of the Wasm runtime of Envoy.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Request;

impl Context for Request {}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let path = self.get_http_request_header_bytes(":path");
        let authorization = self.get_http_request_header_bytes("authorization");
        if path.is_some() && authorization.is_some() {
            self.set_http_request_header("authorization", Some("Bearer the-token-for-the-upstream"));
        }
        Action::Continue
    }
}
