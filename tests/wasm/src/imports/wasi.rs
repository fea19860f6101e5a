//! The part of WASI that Envoy offers and a filter uses.

use crate::abi::Status;
use crate::memory::Guest;
use crate::vm::Log;

/// A WASI error number.
pub(super) struct Errno(u32);

const BADF: u32 = 8;
const FAULT: u32 = 21;
const NOTSUP: u32 = 58;
pub(super) const NOTCAPABLE: u32 = 76;

type Done = Result<(), Errno>;

impl From<Status> for Errno {
    fn from(_: Status) -> Self {
        Self(FAULT)
    }
}

pub(super) fn errno(done: Done) -> u32 {
    done.map_or_else(|Errno(number)| number, |()| 0)
}

fn environment(guest: &mut Guest<'_, '_>) -> Vec<Vec<u8>> {
    let entries = guest.vm().environment.iter();
    entries.map(|(name, value)| format!("{name}={value}\0").into_bytes()).collect()
}

pub(super) fn environ_sizes_get(guest: &mut Guest<'_, '_>, count: u32, size: u32) -> Done {
    let entries = environment(guest);
    let bytes: usize = entries.iter().map(Vec::len).sum();
    guest.write_u32(count, u32::try_from(entries.len()).expect("few variables"))?;
    guest.write_u32(size, u32::try_from(bytes).expect("small environment"))?;
    Ok(())
}

pub(super) fn environ_get(guest: &mut Guest<'_, '_>, mut pointers: u32, mut strings: u32) -> Done {
    for entry in environment(guest) {
        guest.write_u32(pointers, strings)?;
        guest.write(strings, &entry)?;
        pointers += 4;
        strings += u32::try_from(entry.len()).expect("small environment");
    }
    Ok(())
}

pub(super) fn clock_time_get(guest: &mut Guest<'_, '_>, clock: u32, _precision: u64, time: u32) -> Done {
    const REALTIME: u32 = 0;
    const MONOTONIC: u32 = 1;
    let world = &guest.vm().world;
    let now = match clock {
        REALTIME => world.now_nanoseconds(),
        MONOTONIC => world.since_start(),
        _ => return Err(Errno(NOTSUP)),
    };
    guest.write_u64(time, now)?;
    Ok(())
}

/// Envoy returns at most 64 KiB at once.
pub(super) fn random_get(guest: &mut Guest<'_, '_>, buffer: u32, length: u32) -> Done {
    const LIMIT: u32 = 64 * 1024;
    const INVAL: u32 = 28;
    if length > LIMIT {
        return Err(Errno(INVAL));
    }
    let bytes = guest.vm().world.random(length as usize);
    guest.write(buffer, &bytes)?;
    Ok(())
}

/// Standard output becomes a log line at info, standard error one at error.
pub(super) fn fd_write(guest: &mut Guest<'_, '_>, fd: u32, vectors: u32, count: u32, written: u32) -> Done {
    let level = match fd {
        1 => 2,
        2 => 4,
        _ => return Err(Errno(BADF)),
    };
    let mut text = Vec::new();
    for vector in 0..count {
        let pair = guest.read(vectors + 8 * vector, 8)?;
        let word = |at: usize| u32::from_le_bytes([pair[at], pair[at + 1], pair[at + 2], pair[at + 3]]);
        text.extend(guest.read(word(0), word(4))?);
    }
    let size = u32::try_from(text.len()).expect("a short line");
    let text = String::from_utf8_lossy(&text).trim_end_matches('\n').to_owned();
    guest.vm().logs.push(Log { level, text });
    guest.write_u32(written, size)?;
    Ok(())
}
