//! From a request to a subscription and its response.
//!
//! `admission` makes one value of a request, for every transport. The transport's endpoint has its
//! own parameters, and adds the head of a response and a writer. What events contain and when they
//! arrive is not decided here.

pub(crate) mod admission;
pub(crate) mod callback;
mod hello;
mod iframe;
mod names;
mod params;
mod poll;
mod query;
mod sse;
pub(crate) mod stream;

pub(crate) use self::{
    iframe::{open_iframe, probe_iframe},
    poll::{poll_events, probe_poll},
    sse::{open_sse, probe_sse, query_sse},
};
