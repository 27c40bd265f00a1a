//! The way out: from a request to a subscription, and from there to a response.
//!
//! The same parameters come in for every transport; the start is looked up, the subscriber is admitted, and the
//! transport's own endpoint answers. What is in an event and when it comes is not decided here.

mod admission;
mod headers;
mod iframe;
mod params;
mod poll;
mod session;
mod sse;
mod stream;

pub use self::{
    iframe::{open_iframe, probe_iframe},
    poll::{poll_events, probe_poll},
    session::Sessions,
    sse::{open_sse, probe_sse},
};
