//! Faults that the host detects, tested with guests of a few instructions.

use wasm_encoder::{
    CodeSection, ConstExpr, DataSection, EntityType, ExportKind, ExportSection, Function, FunctionSection,
    ImportSection, Instruction, MemorySection, MemoryType, TypeSection, ValType,
};

use crate::{Cluster, Host, Module, Outcome, Reply, StreamId};

/// A call of a host function with constant arguments.
type Call<'a> = (&'a str, &'a [i32]);

/// The code of a guest in one callback: the callback's name and number of parameters, its calls, and the value that it
/// returns.
type Callback<'a> = (&'a str, usize, &'a [Call<'a>], Option<i32>);

const HEADERS: &str = "proxy_on_request_headers";
const PAUSE: Option<i32> = Some(1);
const CONTINUE: Option<i32> = Some(0);
const ANSWER: Call<'static> = ("proxy_send_local_response", &[403, 0, 0, 0, 0, 0, 0, -1]);
const RESUME: Call<'static> = ("proxy_continue_stream", &[0]);
/// The address of a text in the guest's memory, and the text.
const CLUSTER: (i32, &[u8]) = (1024, b"idp");
const PAIRS: i32 = 2048;
/// A call that traps in the guest.
const TRAP: Call<'static> = ("trap", &[]);

/// The module with these callbacks.
fn guest(callbacks: &[Callback<'_>]) -> Module {
    let called = callbacks.iter().flat_map(|(_, _, calls, _)| calls.iter()).filter(|call| call.0 != TRAP.0);
    let mut imports: Vec<(&str, usize)> = called.map(|(name, arguments)| (*name, arguments.len())).collect();
    imports.sort_unstable();
    imports.dedup();
    let (mut types, mut import_section, mut functions) =
        (TypeSection::new(), ImportSection::new(), FunctionSection::new());
    let (mut exports, mut code) = (ExportSection::new(), CodeSection::new());
    for (name, parameters) in &imports {
        types.ty().function(vec![ValType::I32; *parameters], [ValType::I32]);
        import_section.import("env", name, EntityType::Function(types.len() - 1));
    }
    let mut define = |name: &str, parameters: usize, calls: &[Call<'_>], returns: Option<i32>| {
        types.ty().function(vec![ValType::I32; parameters], returns.map(|_| ValType::I32));
        functions.function(types.len() - 1);
        let index = u32::try_from(imports.len()).expect("few") + functions.len() - 1;
        exports.export(name, ExportKind::Func, index);
        let mut body = Function::new([]);
        for (function, arguments) in calls {
            let Some(import) = imports.iter().position(|(name, _)| name == function) else {
                body.instruction(&Instruction::Unreachable);
                continue;
            };
            for argument in *arguments {
                body.instruction(&Instruction::I32Const(*argument));
            }
            body.instruction(&Instruction::Call(u32::try_from(import).expect("few")));
            body.instruction(&Instruction::Drop);
        }
        if let Some(value) = returns {
            body.instruction(&Instruction::I32Const(value));
        }
        body.instruction(&Instruction::End);
        code.function(&body);
    };
    define("proxy_abi_version_0_2_1", 0, &[], None);
    define("proxy_on_memory_allocate", 1, &[], Some(8192));
    for (name, parameters, calls, returns) in callbacks {
        define(name, *parameters, calls, *returns);
    }
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
    exports.export("memory", ExportKind::Memory, 0);
    let mut data = DataSection::new();
    data.active(0, &ConstExpr::i32_const(CLUSTER.0), CLUSTER.1.iter().copied());
    data.active(0, &ConstExpr::i32_const(PAIRS), pairs());
    let mut module = wasm_encoder::Module::new();
    module.section(&types).section(&import_section).section(&functions).section(&memories);
    module.section(&exports).section(&code).section(&data);
    Module::compile(&module.finish())
}

fn pairs() -> Vec<u8> {
    crate::Headers::from_iter([(":method", "GET"), (":path", "/"), (":authority", "x")]).encode()
}

fn start(callbacks: &[Callback<'_>]) -> Host {
    guest(callbacks).host().cluster("idp").start()
}

fn request(callbacks: &[Callback<'_>]) -> Outcome {
    let mut host = start(callbacks);
    let request = host.request(&[(":path", "/")]);
    host.outcome(request)
}

#[test]
fn request_is_forwarded_paused_or_answered() {
    assert!(matches!(request(&[(HEADERS, 3, &[], CONTINUE)]), Outcome::Forwarded(_)));
    assert_eq!(request(&[(HEADERS, 3, &[], PAUSE)]), Outcome::Waiting);
    assert_eq!(request(&[(HEADERS, 3, &[ANSWER], PAUSE)]).answer().status, 403);
    // Envoy stops at a local reply, whatever the callback returns.
    assert_eq!(request(&[(HEADERS, 3, &[ANSWER], CONTINUE)]).answer().status, 403);
}

#[test]
#[should_panic(expected = "decided twice")]
fn two_local_replies_to_one_request_fail_the_test() {
    request(&[(HEADERS, 3, &[ANSWER, ANSWER], PAUSE)]);
}

#[test]
#[should_panic(expected = "decided twice")]
fn local_reply_and_resumption_fail_the_test() {
    request(&[(HEADERS, 3, &[ANSWER, RESUME], PAUSE)]);
}

#[test]
#[should_panic(expected = "decided twice")]
fn second_decision_in_a_later_callback_fails_the_test() {
    let on_tick: &[Call<'_>] = &[("proxy_set_effective_context", &[2]), RESUME];
    let configure: &[Call<'_>] = &[("proxy_set_tick_period_milliseconds", &[1])];
    let mut host = start(&[
        ("proxy_on_configure", 2, configure, Some(1)),
        (HEADERS, 3, &[], CONTINUE),
        ("proxy_on_tick", 1, on_tick, None),
    ]);
    host.request(&[(":path", "/")]);
    host.tick();
}

#[test]
#[should_panic(expected = "on no request")]
fn local_reply_to_no_stream_fails_the_test() {
    start(&[("proxy_on_vm_start", 2, &[ANSWER], Some(1))]);
}

#[test]
#[should_panic(expected = "Envoy loses the edit")]
fn edit_of_headers_already_sent_fails_the_test() {
    let edit: Call<'_> = ("proxy_remove_header_map_value", &[0, CLUSTER.0, 3]);
    request(&[(HEADERS, 3, &[RESUME, edit], PAUSE)]);
}

const DISPATCH: Call<'static> = ("proxy_http_call", &[CLUSTER.0, 3, PAIRS, 61, 0, 0, 0, 0, 1000, 512]);

#[test]
#[should_panic(expected = "the SDK drops the reply")]
fn callout_of_a_stream_context_fails_the_test() {
    assert_eq!(pairs().len(), 61);
    request(&[(HEADERS, 3, &[DISPATCH], PAUSE)]);
}

#[test]
fn callout_belongs_to_the_root_and_its_reply_finds_waiting_streams() {
    let reply: &[Call<'_>] = &[("proxy_set_effective_context", &[3]), RESUME];
    let mut host = start(&[
        ("proxy_on_vm_start", 2, &[DISPATCH], Some(1)),
        (HEADERS, 3, &[], PAUSE),
        ("proxy_on_http_call_response", 5, reply, None),
    ]);
    let requests: Vec<StreamId> = (0..2).map(|_| host.request(&[(":path", "/")])).collect();
    host.leave(requests[0]);
    let call = host.calls().remove(0);
    host.answer(call.id, Reply::json("{}"));
    assert_eq!(host.outcome(requests[0]), Outcome::Left);
    assert!(matches!(host.outcome(requests[1]), Outcome::Forwarded(_)));
}

#[test]
fn dispatch_to_a_missing_or_broken_cluster_makes_no_call() {
    for state in [Cluster::Unknown, Cluster::Failing] {
        let configure: &[Call<'_>] = &[("proxy_set_tick_period_milliseconds", &[1])];
        let mut host = start(&[("proxy_on_configure", 2, configure, Some(1)), ("proxy_on_tick", 1, &[DISPATCH], None)]);
        host.set_cluster("idp", state);
        host.tick();
        assert!(host.calls().is_empty());
        host.set_cluster("idp", Cluster::Known);
        host.tick();
        assert_eq!(host.calls().len(), 1);
    }
}

#[test]
#[should_panic(expected = "the module trapped in proxy_on_request_headers")]
fn trap_fails_the_test() {
    request(&[(HEADERS, 3, &[TRAP], PAUSE)]);
}

#[test]
fn expected_trap_leaves_requests_hanging_as_in_envoy() {
    let module = guest(&[(HEADERS, 3, &[TRAP], PAUSE)]);
    let mut host = module.host().survives_traps().start();
    let request = host.request(&[(":path", "/")]);
    assert!(host.trap().is_some());
    assert_eq!(host.outcome(request), Outcome::Waiting);
}

#[test]
fn denied_capability_is_neither_executed_nor_called() {
    let module = guest(&[(HEADERS, 3, &[ANSWER], PAUSE)]);
    let mut host = module.host().deny("proxy_send_local_response").start();
    let first = host.request(&[(":path", "/")]);
    assert_eq!(host.outcome(first), Outcome::Waiting);
    assert_eq!(host.hostcalls_of(first).get("proxy_send_local_response"), Some(&1));
    let mut host = module.host().deny(HEADERS).start();
    let request = host.request(&[(":path", "/")]);
    assert!(matches!(host.outcome(request), Outcome::Forwarded(_)), "a callback that is denied lets requests pass");
}
