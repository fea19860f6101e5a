//! Shared data and queues: the guest's side of [`World`](crate::World).

use crate::abi::Done;
use crate::memory::Guest;

pub(super) fn get_data(guest: &mut Guest<'_, '_>, key: u32, key_size: u32, value: u32, size: u32, cas: u32) -> Done {
    let key = guest.read(key, key_size)?;
    let vm = guest.vm();
    let (stored, stored_cas) = vm.world.data(&vm.vm_id, &key)?;
    guest.give(&stored, value, size)?;
    guest.write_u32(cas, stored_cas)
}

pub(super) fn set_data(guest: &mut Guest<'_, '_>, key: u32, key_size: u32, value: u32, size: u32, cas: u32) -> Done {
    let (key, value) = (guest.read(key, key_size)?, guest.read(value, size)?);
    let vm = guest.vm();
    vm.world.set_data(&vm.vm_id, &key, &value, cas)
}

pub(super) fn register_queue(guest: &mut Guest<'_, '_>, name: u32, name_size: u32, id: u32) -> Done {
    let name = guest.read(name, name_size)?;
    let vm = guest.vm();
    let queue = vm.world.register_queue(&vm.vm_id, &name, vm.number, vm.root);
    guest.write_u32(id, queue)
}

pub(super) fn resolve_queue(guest: &mut Guest<'_, '_>, vm: u32, vm_size: u32, name: u32, size: u32, id: u32) -> Done {
    let (vm_id, name) = (guest.read_text(vm, vm_size)?, guest.read(name, size)?);
    let vm = guest.vm();
    let vm_id = if vm_id.is_empty() { &vm.vm_id } else { &vm_id };
    let queue = vm.world.resolve_queue(vm_id, &name)?;
    guest.write_u32(id, queue)
}

pub(super) fn enqueue(guest: &mut Guest<'_, '_>, id: u32, data: u32, size: u32) -> Done {
    let data = guest.read(data, size)?;
    guest.vm().world.enqueue(id, data)
}

pub(super) fn dequeue(guest: &mut Guest<'_, '_>, id: u32, data: u32, size: u32) -> Done {
    let item = guest.vm().world.dequeue(id)?;
    guest.give(&item, data, size)
}
