//! To each of them: from the committed event to the bytes that leave on a connection.
//!
//! Events come in through the tail, announced by the doorbell; chunks of bytes go out of each [`Body`]. A subscriber is
//! a cursor over tail and history, never a queue, so what it costs does not depend on how slow its client is. Nothing
//! here knows HTTP, and nothing here decides who may see an event.

mod body;
mod feed;
mod shard;
mod stats;
mod tail;
mod wheel;

pub use self::{
    body::{Body, Ending},
    feed::{EndReason, Feed, Gap, Item},
    shard::{Shard, Terms},
    stats::{ShardStats, Totals},
    tail::{Found, Tail},
};
