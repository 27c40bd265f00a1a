//! Clients: pages and programs that join topics, hear them on one stream, and act.
//!
//! A client makes up a key, and its public id is the hash of it. It exists from its first stream or
//! action on, and for a while without a stream. What it has joined and done is a record beside the
//! events, so that the next process goes on with it.

mod cell;
mod client;
mod leases;
mod record;
mod stream;
mod table;

pub use self::{
    cell::{Cell, Group, Held, Stream, Turn},
    client::{Client, JoinedBy, Membership},
    stream::Attached,
    table::{ClientOptions, Clients, NotMet, OnEnd},
};
