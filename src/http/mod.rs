//! HTTP as plain data: requests, responses, callouts and local replies, without a host.

mod callout;
mod local_reply;
mod request;
mod response;
mod scheme;

pub use callout::{Callout, CalloutFailure, CalloutResult};
pub use local_reply::LocalReply;
pub use request::Request;
pub use response::Response;
pub use scheme::{Scheme, is_b64token};
