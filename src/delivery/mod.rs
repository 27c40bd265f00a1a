//! To each of them: from the committed event to the bytes that leave on a connection.
//!
//! Events come in through the tail, announced by the doorbell; bytes go out to sockets, or in chunks of a [`Body`]. A subscriber is
//! a cursor over tail and history, never a queue, so what it costs does not depend on how slow its client is. Nothing
//! here knows HTTP, and nothing here decides who may see an event.

mod body;
mod catch_up;
mod feed;
mod recent;
mod seats;
mod shard;
#[cfg(unix)]
mod socket;
#[cfg(unix)]
mod sockets;
mod state;
mod stats;
mod subscriber;
mod tail;
mod wheel;
#[cfg(unix)]
mod writing;

pub use self::{
    body::{Body, Ending, Style},
    catch_up::Gap,
    feed::{EndReason, Feed, Item},
    seats::{Seat, Seats},
    shard::Shard,
    stats::{ShardStats, Totals},
    subscriber::{Subscription, Terms},
    tail::{Found, Tail},
};
