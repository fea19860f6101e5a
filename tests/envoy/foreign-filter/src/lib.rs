//! Envoy's foreign functions by HTTP: the path names one, the body is its arguments, and the answer's body is what it
//! returned, byte for byte. `x-returned` says with which status. Needs `allow_on_headers_stop_iteration`.

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request { function: String::new() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Request {
    function: String,
}

impl Context for Request {}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let path = self.get_http_request_header_bytes(":path").unwrap_or_default();
        self.function = String::from_utf8_lossy(&path).trim_start_matches('/').to_owned();
        // Or a route that answers by itself would do so before the body is here.
        Action::Pause
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
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
}
