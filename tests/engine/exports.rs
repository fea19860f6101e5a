//! Exports of the module: exactly the callbacks that it implements. Envoy does not call a callback that is not
//! exported, and forwards the request.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// The callbacks of the SDK's traits, and the ABI function that calls each.
const CALLBACKS: [(&str, &str); 22] = [
    ("create_http_context", "proxy_on_context_create"),
    ("create_stream_context", "proxy_on_context_create"),
    ("drop", "proxy_on_delete"),
    ("on_configure", "proxy_on_configure"),
    ("on_done", "proxy_on_done"),
    ("on_downstream_close", "proxy_on_downstream_connection_close"),
    ("on_downstream_data", "proxy_on_downstream_data"),
    ("on_foreign_function", "proxy_on_foreign_function"),
    ("on_http_call_response", "proxy_on_http_call_response"),
    ("on_http_request_body", "proxy_on_request_body"),
    ("on_http_request_headers", "proxy_on_request_headers"),
    ("on_http_request_trailers", "proxy_on_request_trailers"),
    ("on_http_response_body", "proxy_on_response_body"),
    ("on_http_response_headers", "proxy_on_response_headers"),
    ("on_http_response_trailers", "proxy_on_response_trailers"),
    ("on_log", "proxy_on_log"),
    ("on_new_connection", "proxy_on_new_connection"),
    ("on_queue_ready", "proxy_on_queue_ready"),
    ("on_tick", "proxy_on_tick"),
    ("on_upstream_close", "proxy_on_upstream_connection_close"),
    ("on_upstream_data", "proxy_on_upstream_data"),
    ("on_vm_start", "proxy_on_vm_start"),
];

/// Exports of every module: its memory, its start, its ABI, and `proxy_on_vm_start`, for which the SDK has a default.
const ALWAYS: [&str; 5] =
    ["memory", "_initialize", "proxy_abi_version_0_2_1", "proxy_on_memory_allocate", "proxy_on_vm_start"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The callbacks that the shell implements: functions of the SDK's traits.
fn implemented() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root().join("src/shell")).unwrap() {
        let source = fs::read_to_string(entry.unwrap().path()).unwrap();
        // rustfmt closes an outermost block with a brace in the first column.
        for block in source.split("\nimpl ").skip(1) {
            let block = block.split("\n}").next().unwrap();
            let is_called = block.lines().next().unwrap().split(" for ").next().is_some_and(|implemented| {
                ["Context", "RootContext", "HttpContext", "StreamContext", "Drop"].contains(&implemented)
            });
            if is_called {
                let functions = block.split("\n    fn ").skip(1);
                names.extend(functions.map(|function| function.split(['(', '<']).next().unwrap().to_owned()));
            }
        }
    }
    names
}

/// The names in tools/exports.json.
fn kept() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("tools/exports.json")).unwrap();
    let nodes: Vec<Value> = serde_json::from_str(&text).unwrap();
    let names = |key: &str| nodes.iter().filter_map(|node| Some(node[key].as_str()?.to_owned())).collect();
    let exports: BTreeSet<String> = names("export");
    let [host] = nodes.iter().filter(|node| node["root"] == true).collect::<Vec<_>>()[..] else {
        panic!("not one root");
    };
    let reached: BTreeSet<_> = host["reaches"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(reached, exports.iter().map(String::as_str).collect(), "what is reached and what is exported");
    exports
}

#[test]
fn module_exports_the_implemented_callbacks() {
    let implemented = implemented();
    assert!(implemented.contains("on_http_request_headers") && implemented.contains("on_tick"), "{implemented:?}");
    let mut expected: BTreeSet<String> = ALWAYS.iter().map(|name| (*name).to_owned()).collect();
    // The SDK calls `get_type`, and the host does not.
    for name in implemented.iter().filter(|name| *name != "get_type") {
        let export = CALLBACKS.iter().find(|(callback, _)| callback == name);
        expected.insert(export.unwrap_or_else(|| panic!("no callback of the SDK's: {name}")).1.to_owned());
    }
    assert_eq!(kept(), expected);
}
