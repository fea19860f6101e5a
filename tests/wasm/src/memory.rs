//! Access of host functions to the guest's memory.

use wasmtime::Caller;

use crate::abi::{Done, Status};
use crate::vm::Vm;

/// The guest as a host function sees it.
pub(crate) struct Guest<'a, 'b> {
    caller: &'a mut Caller<'b, Vm>,
}

impl<'a, 'b> Guest<'a, 'b> {
    pub(crate) fn new(caller: &'a mut Caller<'b, Vm>) -> Self {
        Self { caller }
    }

    pub(crate) fn vm(&mut self) -> &mut Vm {
        self.caller.data_mut()
    }

    /// A copy of `size` bytes at `at`.
    pub(crate) fn read(&mut self, at: u32, size: u32) -> Result<Vec<u8>, Status> {
        let memory = self.caller.data().memory.ok_or(Status::InvalidMemoryAccess)?;
        let start = at as usize;
        let bytes = memory.data(&self.caller).get(start..start + size as usize);
        bytes.map(<[u8]>::to_vec).ok_or(Status::InvalidMemoryAccess)
    }

    pub(crate) fn read_text(&mut self, at: u32, size: u32) -> Result<String, Status> {
        String::from_utf8(self.read(at, size)?).map_err(|_| Status::BadArgument)
    }

    pub(crate) fn write(&mut self, at: u32, bytes: &[u8]) -> Done {
        let memory = self.caller.data().memory.ok_or(Status::InvalidMemoryAccess)?;
        memory.write(&mut self.caller, at as usize, bytes).map_err(|_| Status::InvalidMemoryAccess)
    }

    pub(crate) fn write_u32(&mut self, at: u32, value: u32) -> Done {
        self.write(at, &value.to_le_bytes())
    }

    pub(crate) fn write_u64(&mut self, at: u32, value: u64) -> Done {
        self.write(at, &value.to_le_bytes())
    }

    /// Gives `bytes` to the guest in memory that its allocator made, which is where a guest may trap.
    /// Nothing is allocated for no bytes.
    pub(crate) fn give(&mut self, bytes: &[u8], pointer_at: u32, size_at: u32) -> Done {
        let size = u32::try_from(bytes.len()).map_err(|_| Status::InvalidMemoryAccess)?;
        let mut pointer = 0;
        if size > 0 {
            let allocate = self.caller.data().allocate.clone().ok_or(Status::InvalidMemoryAccess)?;
            pointer = allocate.call(&mut self.caller, size).map_err(|_| Status::InvalidMemoryAccess)?;
            self.write(pointer, bytes)?;
        }
        self.write_u32(pointer_at, pointer)?;
        self.write_u32(size_at, size)
    }
}
