//! Delivery: from the committed event to the bytes written to a connection.
//!
//! The doorbell announces events, which the shards read from the tail. A shard writes bytes to its
//! sockets. Other subscribers poll a [`Feed`] for items, which a [`Body`] turns into chunks. A
//! subscriber is a cursor over tail and history, never a queue, so a slow client costs no more than
//! a fast one. Nothing here knows HTTP or decides who may see an event.

mod body;
mod catch_up;
mod feed;
mod recent;
mod seats;
mod session;
mod shard;
mod shard_core;
#[cfg(unix)]
mod socket;
#[cfg(unix)]
mod socket_set;
#[cfg(unix)]
mod sockets;
mod state;
mod steer;
mod subscriber;
mod turn;
mod wheel;
#[cfg(unix)]
mod writing;

pub use self::{
    body::Body,
    feed::{Feed, Item},
    seats::{Seat, Seats},
    session::{SessionPoll, Sessions},
    shard::Shard,
    steer::Steer,
    subscriber::{Subscription, Terms},
};
