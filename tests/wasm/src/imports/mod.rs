//! The host functions, as Envoy 1.40 offers them.

mod calls;
mod shared;
mod stream;
mod system;
mod wasi;

use wasmtime::{Caller, ExternType, Linker, Module, Val};

use crate::abi::{Done, Status};
use crate::memory::Guest;
use crate::vm::Vm;

/// Registers host functions. Each call is counted under its name, refused if the VM lacks the capability, and its
/// `Result` becomes the status that the guest gets.
macro_rules! functions {
    ($linker:ident, $namespace:literal, $code:path, $refused:expr;
     $($name:ident => $function:path, ($($argument:ident: $type:ty),*);)*) => {$(
        $linker.func_wrap($namespace, stringify!($name), |mut caller: Caller<'_, Vm>, $($argument: $type),*| -> u32 {
            if !caller.data_mut().admit(stringify!($name)) {
                return $refused;
            }
            $code($function(&mut Guest::new(&mut caller), $($argument),*))
        })?;
    )*};
}

pub(crate) fn link(linker: &mut Linker<Vm>, code: &Module) -> wasmtime::Result<()> {
    link_stream(linker)?;
    link_system(linker)?;
    link_wasi(linker)?;
    link_grpc(linker, code)
}

/// The SDK always imports the gRPC functions. They return the status of a host without gRPC.
fn link_grpc(linker: &mut Linker<Vm>, code: &Module) -> wasmtime::Result<()> {
    for import in code.imports().filter(|import| import.name().starts_with("proxy_grpc_")) {
        let ExternType::Func(kind) = import.ty() else { continue };
        linker.func_new(import.module(), import.name(), kind, |_, _, results| {
            results.fill(Val::I32((Status::Unimplemented as u32).cast_signed()));
            Ok(())
        })?;
    }
    Ok(())
}

fn link_stream(linker: &mut Linker<Vm>) -> wasmtime::Result<()> {
    functions! { linker, "env", status, Status::InternalFailure as u32;
        proxy_get_header_map_value => stream::get_header, (map: u32, key: u32, key_size: u32, value: u32, value_size: u32);
        proxy_get_header_map_pairs => stream::get_headers, (map: u32, pairs: u32, pairs_size: u32);
        proxy_set_header_map_pairs => stream::set_headers, (map: u32, pairs: u32, pairs_size: u32);
        proxy_add_header_map_value => stream::add_header, (map: u32, key: u32, key_size: u32, value: u32, value_size: u32);
        proxy_replace_header_map_value => stream::replace_header, (map: u32, key: u32, key_size: u32, value: u32, value_size: u32);
        proxy_remove_header_map_value => stream::remove_header, (map: u32, key: u32, key_size: u32);
        proxy_get_buffer_bytes => stream::get_buffer, (buffer: u32, start: u32, max: u32, data: u32, data_size: u32);
        proxy_set_buffer_bytes => stream::set_buffer, (buffer: u32, start: u32, size: u32, data: u32, data_size: u32);
        proxy_get_property => stream::get_property, (path: u32, path_size: u32, value: u32, value_size: u32);
        proxy_set_property => stream::set_property, (path: u32, path_size: u32, value: u32, value_size: u32);
        proxy_continue_stream => stream::continue_stream, (kind: u32);
        proxy_close_stream => stream::close_stream, (kind: u32);
        proxy_send_local_response => stream::send_local_response, (code: u32, details: u32, details_size: u32, body: u32, body_size: u32, headers: u32, headers_size: u32, grpc: u32);
        proxy_set_effective_context => stream::set_effective_context, (context: u32);
        proxy_done => stream::done, ();
        proxy_http_call => calls::http_call, (cluster: u32, cluster_size: u32, headers: u32, headers_size: u32, body: u32, body_size: u32, trailers: u32, trailers_size: u32, timeout: u32, token: u32);
        proxy_call_foreign_function => calls::foreign_function, (name: u32, name_size: u32, arguments: u32, arguments_size: u32, results: u32, results_size: u32);
    }
    Ok(())
}

fn link_system(linker: &mut Linker<Vm>) -> wasmtime::Result<()> {
    functions! { linker, "env", status, Status::InternalFailure as u32;
        proxy_log => system::log, (level: u32, message: u32, message_size: u32);
        proxy_get_log_level => system::get_log_level, (level: u32);
        proxy_get_current_time_nanoseconds => system::get_time, (time: u32);
        proxy_set_tick_period_milliseconds => system::set_tick_period, (period: u32);
        proxy_get_status => system::get_status, (code: u32, message: u32, message_size: u32);
        proxy_define_metric => system::define_metric, (kind: u32, name: u32, name_size: u32, id: u32);
        proxy_increment_metric => system::increment_metric, (id: u32, offset: i64);
        proxy_record_metric => system::record_metric, (id: u32, value: u64);
        proxy_get_metric => system::get_metric, (id: u32, value: u32);
        proxy_get_shared_data => shared::get_data, (key: u32, key_size: u32, value: u32, value_size: u32, cas: u32);
        proxy_set_shared_data => shared::set_data, (key: u32, key_size: u32, value: u32, value_size: u32, cas: u32);
        proxy_register_shared_queue => shared::register_queue, (name: u32, name_size: u32, id: u32);
        proxy_resolve_shared_queue => shared::resolve_queue, (vm: u32, vm_size: u32, name: u32, name_size: u32, id: u32);
        proxy_enqueue_shared_queue => shared::enqueue, (id: u32, data: u32, data_size: u32);
        proxy_dequeue_shared_queue => shared::dequeue, (id: u32, data: u32, data_size: u32);
    }
    Ok(())
}

fn link_wasi(linker: &mut Linker<Vm>) -> wasmtime::Result<()> {
    functions! { linker, "wasi_snapshot_preview1", wasi::errno, wasi::NOTCAPABLE;
        environ_sizes_get => wasi::environ_sizes_get, (count: u32, size: u32);
        environ_get => wasi::environ_get, (pointers: u32, strings: u32);
        clock_time_get => wasi::clock_time_get, (clock: u32, precision: u64, time: u32);
        random_get => wasi::random_get, (buffer: u32, length: u32);
        fd_write => wasi::fd_write, (fd: u32, vectors: u32, count: u32, written: u32);
    }
    // Envoy records an error, and the module traps at the `unreachable` after the call.
    linker.func_wrap("wasi_snapshot_preview1", "proc_exit", |_: Caller<'_, Vm>, _code: u32| {})?;
    Ok(())
}

fn status(done: Done) -> u32 {
    match done {
        Ok(()) => Status::Ok as u32,
        Err(status) => status as u32,
    }
}
