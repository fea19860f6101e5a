//! Headers, bodies, properties, local replies and resumption.

use crate::abi::{Done, Status, buffer, map, stream};
use crate::headers::Headers;
use crate::memory::Guest;
use crate::vm::{Act, Answer, Vm};

/// The header map that the callback may read, if it has one of this kind.
fn readable(vm: &mut Vm, kind: u32) -> Result<Option<&Headers>, Status> {
    if kind > map::LAST {
        return Err(Status::BadArgument);
    }
    let context = vm.context();
    let stream = vm.streams.get(&context);
    Ok(match kind {
        map::REQUEST_HEADERS => stream.filter(|stream| stream.has_request).map(|stream| &stream.request),
        map::RESPONSE_HEADERS => stream.and_then(|stream| stream.response.as_ref()),
        map::CALL_RESPONSE_HEADERS => vm.reply.as_ref().filter(|reply| !reply.is_reset()).map(|reply| &reply.headers),
        _ => None,
    })
}

/// Changes a header map. Envoy returns `Ok` where there is none and drops the edit, which is a fault of the filter.
fn change(vm: &mut Vm, kind: u32, what: &str, change: impl FnOnce(&mut Headers)) -> Done {
    if kind > map::LAST {
        return Err(Status::BadArgument);
    }
    let headers = match (kind, vm.stream()) {
        (map::REQUEST_HEADERS, Some(stream)) if stream.has_request => Some(&mut stream.request),
        (map::RESPONSE_HEADERS, Some(stream)) => stream.response.as_mut(),
        _ => None,
    };
    match headers {
        Some(headers) => change(headers),
        None => vm.fault(format!("{what} of header map {kind} where there is none: Envoy loses the edit")),
    }
    Ok(())
}

pub(super) fn get_header(guest: &mut Guest<'_, '_>, map: u32, key: u32, key_size: u32, value: u32, size: u32) -> Done {
    let key = guest.read(key, key_size)?;
    let headers = readable(guest.vm(), map)?.ok_or(Status::BadArgument)?;
    let found = headers.find(&key).ok_or(Status::NotFound)?.to_vec();
    guest.give(&found, value, size)
}

pub(super) fn get_headers(guest: &mut Guest<'_, '_>, map: u32, pairs: u32, size: u32) -> Done {
    let encoded = readable(guest.vm(), map)?.map(Headers::encode).unwrap_or_default();
    guest.give(&encoded, pairs, size)
}

pub(super) fn set_headers(guest: &mut Guest<'_, '_>, map: u32, pairs: u32, size: u32) -> Done {
    let pairs = Headers::decode(&guest.read(pairs, size)?).ok_or(Status::BadArgument)?;
    change(guest.vm(), map, "set", |headers| *headers = pairs)
}

pub(super) fn add_header(guest: &mut Guest<'_, '_>, map: u32, key: u32, key_size: u32, value: u32, size: u32) -> Done {
    let (key, value) = (guest.read(key, key_size)?, guest.read(value, size)?);
    change(guest.vm(), map, "add", |headers| headers.add(&key, &value))
}

pub(super) fn replace_header(
    guest: &mut Guest<'_, '_>,
    map: u32,
    key: u32,
    key_size: u32,
    value: u32,
    size: u32,
) -> Done {
    let (key, value) = (guest.read(key, key_size)?, guest.read(value, size)?);
    change(guest.vm(), map, "replace", |headers| headers.replace(&key, &value))
}

pub(super) fn remove_header(guest: &mut Guest<'_, '_>, map: u32, key: u32, key_size: u32) -> Done {
    let key = guest.read(key, key_size)?;
    change(guest.vm(), map, "remove", |headers| headers.remove(&key))
}

pub(super) fn get_buffer(guest: &mut Guest<'_, '_>, buffer: u32, start: u32, max: u32, data: u32, size: u32) -> Done {
    if buffer > buffer::LAST {
        return Err(Status::BadArgument);
    }
    let vm = guest.vm();
    let context = vm.context();
    let bytes = match buffer {
        buffer::REQUEST_BODY => vm.streams.get(&context).filter(|stream| stream.has_body).map(|stream| &stream.body),
        buffer::CALL_RESPONSE_BODY => vm.reply.as_ref().filter(|reply| !reply.is_reset()).map(|reply| &reply.body),
        buffer::PLUGIN_CONFIGURATION => Some(&vm.configuration).filter(|_| vm.configuring),
        buffer::VM_CONFIGURATION => Some(const { &Vec::new() }),
        _ => None,
    };
    let bytes = bytes.ok_or(Status::NotFound)?;
    let end = start.checked_add(max).ok_or(Status::BadArgument)? as usize;
    // Envoy would read past the end of the buffer for such a start.
    let part = bytes.get(start as usize..end.min(bytes.len())).ok_or(Status::BadArgument)?.to_vec();
    if part.is_empty() { Ok(()) } else { guest.give(&part, data, size) }
}

pub(super) fn set_buffer(_: &mut Guest<'_, '_>, _: u32, _: u32, _: u32, _: u32, _: u32) -> Done {
    Err(Status::Unimplemented)
}

pub(super) fn get_property(guest: &mut Guest<'_, '_>, path: u32, path_size: u32, value: u32, size: u32) -> Done {
    let path = guest.read(path, path_size)?;
    let vm = guest.vm();
    let of_stream = vm.stream().and_then(|stream| stream.properties.get(&path).cloned());
    let found = of_stream.or_else(|| vm.properties.get(&path).cloned()).ok_or(Status::NotFound)?;
    guest.give(&found, value, size)
}

pub(super) fn set_property(guest: &mut Guest<'_, '_>, path: u32, path_size: u32, value: u32, size: u32) -> Done {
    let (path, value) = (guest.read(path, path_size)?, guest.read(value, size)?);
    guest.vm().stream().ok_or(Status::NotFound)?.properties.insert(path, value);
    Ok(())
}

pub(super) fn continue_stream(guest: &mut Guest<'_, '_>, kind: u32) -> Done {
    let vm = guest.vm();
    match (kind, vm.stream()) {
        (stream::REQUEST, Some(stream)) => {
            stream.acts.push(Act::Continue);
            stream.has_request = false;
            stream.has_body = false;
        }
        (stream::REQUEST | stream::RESPONSE, _) => vm.fault("continue_stream on no request: Envoy does nothing"),
        _ => return Err(Status::BadArgument),
    }
    Ok(())
}

pub(super) fn close_stream(guest: &mut Guest<'_, '_>, kind: u32) -> Done {
    guest.vm().fault(format!("close_stream({kind}) is nothing that this filter should do"));
    Ok(())
}

#[allow(clippy::too_many_arguments, reason = "the ABI's own signature")]
pub(super) fn send_local_response(
    guest: &mut Guest<'_, '_>,
    code: u32,
    details: u32,
    details_size: u32,
    body: u32,
    body_size: u32,
    headers: u32,
    headers_size: u32,
    _grpc: u32,
) -> Done {
    guest.read(details, details_size)?;
    let body = guest.read(body, body_size)?;
    let extra = Headers::decode(&guest.read(headers, headers_size)?);
    let vm = guest.vm();
    if extra.is_none() || !(200..=599).contains(&code) {
        vm.fault(format!("a response with status {code} or headers that Envoy cannot send"));
    }
    let headers = extra.unwrap_or_default();
    match vm.stream() {
        Some(stream) => stream.acts.push(Act::Answer(Answer { status: code, headers, body })),
        None => vm.fault("send_local_response on no request: Envoy does nothing and says Ok"),
    }
    Ok(())
}

/// The effective context lasts until the callback returns. A request that has ended is a `BadArgument`.
pub(super) fn set_effective_context(guest: &mut Guest<'_, '_>, context: u32) -> Done {
    let vm = guest.vm();
    if !vm.exists(context) {
        return Err(Status::BadArgument);
    }
    vm.effective = context;
    Ok(())
}

pub(super) fn done(guest: &mut Guest<'_, '_>) -> Done {
    guest.vm().fault("proxy_done without a pending on_done");
    Ok(())
}
