//! HTTP as plain data: what comes in from the host and what goes out to it.

mod callout;
mod local_reply;
mod request;
mod response;
mod scheme;

pub use callout::{Call, CallFailure, Reply};
pub use local_reply::LocalAnswer;
pub use request::Request;
pub use response::Answer;
pub use scheme::Scheme;
