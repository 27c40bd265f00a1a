//! The sockets of a shard: handling those that are ready, and serving the queued ones.

use std::{io, rc::Rc};

use mio::event::Event;

use super::{
    catch_up::PAGE, shard_core::ShardCore, socket::Connection, state::number, subscriber::Sink,
    writing::Outcome,
};
use crate::{event::Position, transport::Gap};

impl ShardCore {
    /// Starts to serve a socket that was just added.
    pub(super) fn welcome(&self, key: usize, gap: Option<Gap>) -> io::Result<()> {
        let watched = self.watch(key, gap);
        if watched.is_err() {
            self.remove(key);
        }
        self.nudge();
        watched
    }

    fn watch(&self, key: usize, gap: Option<Gap>) -> io::Result<()> {
        let registry = self.sockets.registry()?;
        let mut state = self.state.borrow_mut();
        let Some(connection) = state.connection(key) else { return Ok(()) };
        if let Some(gap) = gap {
            let notice = connection.style.writer.gap(&gap, self.hub.history().cursor_key());
            connection.notify(notice);
            self.stats.gap();
        }
        connection.watch(registry, key)?;
        state.rouse(number(key), true);
        Ok(())
    }

    /// Waits until sockets are ready, and handles them.
    pub(super) async fn watch_sockets(&self) {
        let handle = |event: &Event| {
            let key = event.token().0;
            // A client that has closed its sending side is taken for gone.
            if event.is_read_closed() || event.is_error() {
                self.remove(key);
                return;
            }
            if event.is_readable() {
                self.discard_input(key);
            }
            if event.is_writable() {
                self.unblock(key);
            }
        };
        self.sockets.handle_ready(handle).await;
    }

    fn unblock(&self, key: usize) {
        let mut state = self.state.borrow_mut();
        if state.connection(key).is_some_and(Connection::unblock) {
            state.rouse(number(key), true);
        }
    }

    fn discard_input(&self, key: usize) {
        let mut state = self.state.borrow_mut();
        let Some(connection) = state.connection(key) else { return };
        match connection.discard_input() {
            Ok(true) => {}
            Ok(false) => state.ready.push_unread(number(key)),
            Err(_) => {
                drop(state);
                self.remove(key);
            }
        }
    }

    /// Writes to a batch of the queued sockets. Returns whether none is left.
    pub(super) fn serve_sockets(self: &Rc<Self>, limit: usize) -> bool {
        let unread = self.state.borrow_mut().ready.take_unread();
        for key in unread {
            self.discard_input(key as usize);
        }
        let keys = self.state.borrow_mut().ready.take(limit);
        for key in keys {
            self.serve_socket(key as usize);
        }
        self.state.borrow_mut().ready.settle()
    }

    fn serve_socket(self: &Rc<Self>, key: usize) {
        let mut state = self.state.borrow_mut();
        match self.write(&mut state, key) {
            Ok(Outcome::Done) => {}
            Ok(Outcome::Again) => state.rouse(number(key), false),
            Ok(Outcome::Wait) => state.reschedule(number(key)),
            Ok(Outcome::AskHistory(after)) => {
                drop(state);
                self.read_history(key, after);
            }
            Err(_) => {
                drop(state);
                self.remove(key);
            }
        }
    }

    /// Reads the history after `after` for a socket.
    fn read_history(self: &Rc<Self>, key: usize, after: Position) {
        let mut state = self.state.borrow_mut();
        let Some(subscriber) = state.subscribers.get_mut(key) else { return };
        let Sink::Socket(connection) = &mut subscriber.sink else { return };
        connection.begin_reading();
        let interest = subscriber.interest.clone();
        let asker = (subscriber.arrival, subscriber.generation);
        drop(state);
        let page = self.hub.history().read_after(after, &interest, PAGE);
        let shard = self.clone();
        tokio::task::spawn_local(async move {
            let page = page.await;
            if shard.accept(key, asker, page).is_err() {
                shard.remove(key);
            }
            shard.nudge();
        });
    }
}
