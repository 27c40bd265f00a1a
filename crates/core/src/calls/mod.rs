//! Calls to clients that wait for their replies.
//!
//! A call is asked of the clients that are there at that moment, and is over when all of them have
//! replied or its time is up. A reply counts only from a client that was asked. What a call means,
//! and how it travels, is unknown here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use foldhash::fast::RandomState;
use serde_json::Value;
use tokio::sync::Notify;

use crate::{event::ClientKey, random::random_text};

/// The calls of a process that wait for replies. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    by_id: HashMap<Box<str>, Call, RandomState>,
}

#[derive(Debug)]
struct Call {
    missing: BTreeSet<ClientKey>,
    replies: BTreeMap<ClientKey, Reply>,
    is_over: Arc<Notify>,
}

/// What a client replied.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// What its handler returned.
    Data(Value),
    /// Why it did not: a problem document.
    Problem(Value),
}

/// A call while it waits. Dropping it ends the call.
#[derive(Debug)]
pub struct Ticket {
    calls: Calls,
    id: Box<str>,
    is_over: Arc<Notify>,
}

/// The end of a call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gathered {
    /// The replies, by client.
    pub replies: BTreeMap<ClientKey, Reply>,
    /// The clients that were asked and have not replied.
    pub missing: BTreeSet<ClientKey>,
}

/// No call with this id waits for a reply of this client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such call waits for a reply of this client")]
pub struct NotAsked;

impl Calls {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of calls that wait.
    #[must_use]
    pub fn count(&self) -> usize {
        self.waiting().by_id.len()
    }

    /// Begins to wait for replies of these clients.
    #[must_use]
    pub fn begin(&self, asked: impl IntoIterator<Item = ClientKey>) -> Ticket {
        let (id, is_over): (Box<str>, Arc<Notify>) = (random_text().into(), Arc::default());
        let missing: BTreeSet<ClientKey> = asked.into_iter().collect();
        let call = Call { missing, replies: BTreeMap::new(), is_over: is_over.clone() };
        self.waiting().by_id.insert(id.clone(), call);
        Ticket { calls: self.clone(), id, is_over }
    }

    /// Takes a reply.
    ///
    /// # Errors
    /// If no such call waits for this client: it may be over.
    pub fn reply(&self, id: &str, client: &ClientKey, reply: Reply) -> Result<(), NotAsked> {
        let mut waiting = self.waiting();
        let call = waiting.by_id.get_mut(id).ok_or(NotAsked)?;
        if !call.missing.remove(client) {
            // A repeated reply is the same as the first.
            return call.replies.contains_key(client).then_some(()).ok_or(NotAsked);
        }
        call.replies.insert(*client, reply);
        if call.missing.is_empty() {
            call.is_over.notify_one();
        }
        Ok(())
    }

    /// Takes a client that has ended from the calls that wait for it. It stays among the missing.
    pub fn gone(&self, client: &ClientKey) {
        let waiting = self.waiting();
        let for_it_alone = |call: &&Call| call.missing.len() == 1 && call.missing.contains(client);
        for call in waiting.by_id.values().filter(for_it_alone) {
            call.is_over.notify_one();
        }
    }
}

impl Ticket {
    /// The id of the call.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits until all have replied, or until `deadline`.
    pub async fn gathered(self, deadline: Instant) -> Gathered {
        let is_over = self.is_over.clone();
        if self.calls.waiting().by_id.get(&self.id).is_some_and(|it| !it.missing.is_empty()) {
            // Over at the deadline in any case.
            let _ = tokio::time::timeout_at(deadline.into(), is_over.notified()).await;
        }
        let call = self.calls.waiting().by_id.remove(&self.id);
        let gathered = call.map(|it| Gathered { replies: it.replies, missing: it.missing });
        gathered.unwrap_or_default()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.calls.waiting().by_id.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn clients() -> [ClientKey; 3] {
        [ClientKey::kept([1; 16]), ClientKey::kept([2; 16]), ClientKey::kept([3; 16])]
    }

    #[tokio::test]
    async fn replies_are_gathered_and_the_missing_named() {
        let (calls, [one, two, other]) = (Calls::default(), clients());
        let ticket = calls.begin([one, two]);
        let id = ticket.id().to_owned();
        assert_eq!(calls.reply(&id, &other, Reply::Data(json!(9))), Err(NotAsked));
        assert_eq!(calls.reply("made up", &one, Reply::Data(json!(9))), Err(NotAsked));
        assert_eq!(calls.reply(&id, &one, Reply::Data(json!(1))), Ok(()));
        assert_eq!(calls.reply(&id, &one, Reply::Data(json!(2))), Ok(()), "said before");
        let gathered = ticket.gathered(Instant::now() + Duration::from_millis(20)).await;
        assert_eq!(gathered.replies, [(one, Reply::Data(json!(1)))].into());
        assert_eq!(gathered.missing, [two].into());
        assert_eq!(calls.reply(&id, &two, Reply::Data(json!(1))), Err(NotAsked), "too late");
        assert_eq!(calls.count(), 0);
    }

    #[tokio::test]
    async fn a_call_is_over_when_all_have_replied() {
        let (calls, [one, two, _]) = (Calls::default(), clients());
        let far = Instant::now() + Duration::from_secs(3600);
        let ticket = calls.begin([one, two]);
        for client in [one, two] {
            let reply = Reply::Problem(json!({ "status": 404 }));
            calls.reply(ticket.id(), &client, reply).expect("asked");
        }
        assert_eq!(ticket.gathered(far).await.replies.len(), 2);
        assert_eq!(calls.begin([]).gathered(far).await, Gathered::default());
        let ticket = calls.begin([one]);
        calls.gone(&one);
        assert_eq!(ticket.gathered(far).await.missing, [one].into());
        drop(calls.begin([two]));
        assert_eq!(calls.count(), 0);
    }
}
