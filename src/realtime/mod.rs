//! What the server does with clients and topics, for backends and for the application.

pub(crate) mod call;
pub(crate) mod client;
pub(crate) mod handle;
