//! Callouts and foreign functions.

use crate::abi::{Done, Status};
use crate::foreign;
use crate::headers::Headers;
use crate::memory::Guest;
use crate::vm::{Call, CallId};

/// The call belongs to the root context, whichever context makes it, and survives the request.
#[allow(clippy::too_many_arguments, reason = "the ABI's own signature")]
pub(super) fn http_call(
    guest: &mut Guest<'_, '_>,
    cluster: u32,
    cluster_size: u32,
    headers: u32,
    headers_size: u32,
    body: u32,
    body_size: u32,
    trailers: u32,
    trailers_size: u32,
    timeout: u32,
    token: u32,
) -> Done {
    let cluster = guest.read_text(cluster, cluster_size)?;
    let mut headers = Headers::decode(&guest.read(headers, headers_size)?).unwrap_or_default();
    let body = guest.read(body, body_size)?;
    guest.read(trailers, trailers_size)?;
    guest.write_u32(token, 0)?;
    if timeout > i32::MAX as u32 {
        return Err(Status::BadArgument);
    }
    let vm = guest.vm();
    if vm.clusters.get(&cluster).is_none_or(|state| *state == crate::vm::Cluster::Unknown) {
        return Err(Status::BadArgument);
    }
    if [":method", ":path", ":authority"].iter().any(|name| headers.get(name).is_none()) {
        return Err(Status::BadArgument);
    }
    vm.cluster(&cluster)?;
    if !body.is_empty() {
        headers.replace(b"content-length", body.len().to_string().as_bytes());
    }
    if vm.current != vm.root {
        vm.fault("a call-out dispatched while a request was current: the SDK drops the reply when that request leaves");
    }
    // Envoy reports a call that fails at once as soon as the callback is over.
    vm.act();
    let id = CallId(vm.next_call);
    vm.next_call += 1;
    vm.calls.insert(id, Call { id, cluster, headers, body, timeout });
    guest.write_u32(token, id.0)
}

pub(super) fn foreign_function(
    guest: &mut Guest<'_, '_>,
    name: u32,
    name_size: u32,
    arguments: u32,
    arguments_size: u32,
    results: u32,
    results_size: u32,
) -> Done {
    let name = guest.read_text(name, name_size)?;
    let arguments = guest.read(arguments, arguments_size)?;
    if guest.vm().absent_foreign.contains(&name) {
        return Err(Status::NotFound);
    }
    let result = match name.as_str() {
        "verify_signature" => foreign::verify_signature(&arguments),
        "sign" => foreign::sign(&arguments),
        _ => Err(Status::NotFound),
    };
    guest.give(result.as_deref().unwrap_or_default(), results, results_size)?;
    result.map(drop)
}
