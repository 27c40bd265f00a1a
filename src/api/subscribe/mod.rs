//! From a request to a subscription and its response.
//!
//! All transports share the same parameters. The start is looked up, the subscriber is admitted,
//! and the transport's endpoint answers. What events contain and when they arrive is not decided
//! here.

pub(crate) mod admission;
pub(crate) mod callback;
mod iframe;
mod params;
mod poll;
mod sse;
pub(crate) mod stream;

pub(crate) use self::{
    iframe::{open_iframe, probe_iframe},
    poll::{poll_events, probe_poll},
    sse::{open_sse, probe_sse, query_sse},
};
