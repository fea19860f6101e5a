//! Log, clock, tick, status and metrics.

use crate::abi::{Done, Status};
use crate::memory::Guest;
use crate::vm::Log;
use crate::world::Metric;

pub(super) fn log(guest: &mut Guest<'_, '_>, level: u32, message: u32, size: u32) -> Done {
    const CRITICAL: u32 = 5;
    if level > CRITICAL {
        return Err(Status::BadArgument);
    }
    let text = String::from_utf8_lossy(&guest.read(message, size)?).into_owned();
    guest.vm().logs.push(Log { level, text });
    Ok(())
}

pub(super) fn get_log_level(guest: &mut Guest<'_, '_>, level: u32) -> Done {
    let enabled = guest.vm().log_level;
    guest.write_u32(level, enabled)
}

pub(super) fn get_time(guest: &mut Guest<'_, '_>, time: u32) -> Done {
    let now = guest.vm().world.now_nanoseconds();
    guest.write_u64(time, now)
}

pub(super) fn set_tick_period(guest: &mut Guest<'_, '_>, period: u32) -> Done {
    guest.vm().tick_period = period;
    Ok(())
}

pub(super) fn get_status(guest: &mut Guest<'_, '_>, code: u32, message: u32, size: u32) -> Done {
    let (number, text) = guest.vm().status;
    guest.write_u32(code, number)?;
    guest.give(text.as_bytes(), message, size)
}

const COUNTER: u32 = 0;
const GAUGE: u32 = 1;
const HISTOGRAM: u32 = 2;
/// Envoy keeps the kind of a metric in the low bits of its id.
const KIND_BITS: u32 = 2;

fn empty(kind: u32) -> Result<Metric, Status> {
    match kind {
        COUNTER => Ok(Metric::Counter(0)),
        GAUGE => Ok(Metric::Gauge(0)),
        HISTOGRAM => Ok(Metric::Histogram(Vec::new())),
        _ => Err(Status::BadArgument),
    }
}

fn with_metric<T>(
    guest: &mut Guest<'_, '_>,
    id: u32,
    change: impl FnOnce(&mut Metric) -> Result<T, Status>,
) -> Result<T, Status> {
    let new = empty(id & ((1 << KIND_BITS) - 1))?;
    let vm = guest.vm();
    let name = vm.metrics.get(&id).ok_or(Status::NotFound)?;
    vm.world.with_metric(name, new, change)
}

/// Each definition returns a new id, also for a known name: the value belongs to the name.
pub(super) fn define_metric(guest: &mut Guest<'_, '_>, kind: u32, name: u32, name_size: u32, id: u32) -> Done {
    let name = guest.read_text(name, name_size)?;
    let new = empty(kind)?;
    let vm = guest.vm();
    vm.world.with_metric(&name, new, |_| ());
    let number = ((u32::try_from(vm.metrics.len()).expect("few metrics") + 1) << KIND_BITS) | kind;
    vm.metrics.insert(number, name);
    guest.write_u32(id, number)
}

/// A counter only grows: Envoy refuses an offset of 0.
pub(super) fn increment_metric(guest: &mut Guest<'_, '_>, id: u32, offset: i64) -> Done {
    with_metric(guest, id, |metric| match metric {
        Metric::Counter(value) if offset > 0 => {
            *value += offset.unsigned_abs();
            Ok(())
        }
        Metric::Gauge(value) => {
            *value = value.saturating_add_signed(offset);
            Ok(())
        }
        Metric::Counter(_) | Metric::Histogram(_) => Err(Status::BadArgument),
    })
}

pub(super) fn record_metric(guest: &mut Guest<'_, '_>, id: u32, sample: u64) -> Done {
    with_metric(guest, id, |metric| {
        match metric {
            Metric::Counter(value) => *value += sample,
            Metric::Gauge(value) => *value = sample,
            Metric::Histogram(samples) => samples.push(sample),
        }
        Ok(())
    })
}

pub(super) fn get_metric(guest: &mut Guest<'_, '_>, id: u32, at: u32) -> Done {
    let value = with_metric(guest, id, |metric| match metric {
        Metric::Counter(value) | Metric::Gauge(value) => Ok(*value),
        Metric::Histogram(_) => Err(Status::BadArgument),
    })?;
    guest.write_u64(at, value)
}
