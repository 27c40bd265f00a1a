//! What is asked of Redis besides the log: whether this node is up to date, replies to requests
//! with a key, and all records of a shelf.

use std::sync::mpsc as blocking;

use tokio::sync::oneshot;

use crate::{
    event::Position,
    history::{HistoryError, Revised, Shelf},
};

/// What a request gets.
pub(super) type Reply<T> = oneshot::Sender<Result<T, HistoryError>>;

/// A request. If the connection breaks, it is dropped, and may be made again.
#[derive(Debug)]
pub(super) enum Request {
    /// Waits until the follower has learned of everything that is in the log.
    Newest(Reply<Position>),
    /// The reply under a key.
    Reply(String, Reply<Option<Box<[u8]>>>),
    /// The records of a shelf, in the order of their keys.
    Records(Shelf, blocking::SyncSender<Result<Vec<Revised>, HistoryError>>),
}
