//! The way out: from a request to a subscription, and from there to a response.
//!
//! The same parameters come in for every transport; the start is looked up, the subscriber is admitted, and the
//! transport's own endpoint answers. What is in an event and when it comes is not decided here.

pub(crate) mod admission;
pub(crate) mod callback;
pub(crate) mod headers;
mod iframe;
mod params;
mod poll;
mod preference;
mod session;
mod sse;
pub(crate) mod stream;

pub(crate) use self::preference::preferred_wait;
pub use self::{
    iframe::{open_iframe, probe_iframe},
    poll::{poll_events, probe_poll},
    session::Sessions,
    sse::{open_sse, probe_sse, query_sse},
};
