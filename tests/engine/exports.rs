//! The module exports the callbacks that it implements, and no other: Envoy does not call one that is not exported, and the
//! request goes on.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// The callbacks of the SDK's traits, and the function of the ABI that calls each.
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

/// The folder of the code that the SDK calls.
const SHELL: &str = "src/filter";

fn sources(folder: &Path) -> Vec<String> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![fs::read_to_string(path).unwrap()] })
        .collect()
}

/// Names of the functions in a piece of Rust, wherever they stand in it.
fn functions(source: &str) -> impl Iterator<Item = &str> {
    source.split("fn ").skip(1).map(|rest| rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap())
}

/// The callbacks that the shell implements: functions of the traits by which the SDK calls it.
fn implemented() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for source in sources(&root().join(SHELL)) {
        // rustfmt closes a block of the outermost level with a brace in the first column.
        for block in source.split("\nimpl").skip(1) {
            let block = block.split("\n}").next().unwrap();
            let implemented = block.lines().next().unwrap().split(" for ").next().unwrap();
            let implemented = implemented.rsplit([' ', ':']).next().unwrap().split('<').next().unwrap();
            if ["Context", "RootContext", "HttpContext", "StreamContext", "Drop"].contains(&implemented) {
                names.extend(functions(block).map(str::to_owned));
            }
        }
        // A block that is written in another way would be overlooked.
        for name in functions(&source).filter(|name| CALLBACKS.iter().any(|(callback, _)| callback == name)) {
            assert!(names.contains(name), "{name} is in no block of the SDK's traits");
        }
    }
    names
}

/// The names that tools/exports.json keeps.
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
fn the_module_exports_the_callbacks_that_the_code_implements() {
    let implemented = implemented();
    assert!(implemented.contains("on_http_request_headers") && implemented.contains("on_tick"), "{implemented:?}");
    let mut expected: BTreeSet<String> = ALWAYS.iter().map(|name| (*name).to_owned()).collect();
    // `get_type` is asked by the SDK, not by the host.
    for name in implemented.iter().filter(|name| *name != "get_type") {
        let export = CALLBACKS.iter().find(|(callback, _)| callback == name);
        expected.insert(export.unwrap_or_else(|| panic!("no callback of the SDK's: {name}")).1.to_owned());
    }
    assert_eq!(kept(), expected);
}
