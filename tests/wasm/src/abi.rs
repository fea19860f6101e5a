//! The numbers of the proxy-wasm ABI 0.2.1.

/// The status that a host function returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    Ok = 0,
    NotFound = 1,
    BadArgument = 2,
    SerializationFailure = 3,
    InvalidMemoryAccess = 6,
    Empty = 7,
    CasMismatch = 8,
    InternalFailure = 10,
    BrokenConnection = 11,
    Unimplemented = 12,
}

/// The result of a host function without a value.
pub type Done = Result<(), Status>;

pub mod map {
    pub const REQUEST_HEADERS: u32 = 0;
    pub const RESPONSE_HEADERS: u32 = 2;
    pub const CALL_RESPONSE_HEADERS: u32 = 6;
    pub const LAST: u32 = 7;
}

pub mod buffer {
    pub const REQUEST_BODY: u32 = 0;
    pub const CALL_RESPONSE_BODY: u32 = 4;
    pub const VM_CONFIGURATION: u32 = 6;
    pub const PLUGIN_CONFIGURATION: u32 = 7;
    pub const LAST: u32 = 8;
}

pub mod stream {
    pub const REQUEST: u32 = 0;
    pub const RESPONSE: u32 = 1;
}

pub mod action {
    pub const CONTINUE: i32 = 0;
}

/// Envoy refuses a serialised header map of more than this many bytes or pairs.
pub const PAIRS_LIMIT_BYTES: usize = 1024 * 1024;
pub const PAIRS_LIMIT: usize = 1024;
