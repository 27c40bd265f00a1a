//! Answering requests on the present connection.

use std::{
    collections::{BTreeMap, HashMap},
    future::poll_fn,
};

use redis::{Value, cmd};

use super::{
    frame::{Id, bytes, items, text},
    life::Node,
    link::{Link, Trouble},
    requests::Request,
    scripts::Script,
};
use crate::{
    event::Position,
    history::{Record, Revised, Shelf},
};

/// Records in one answer, about.
const RECORDS: usize = 500;

impl Node {
    /// Answers requests until the connection breaks.
    pub(super) async fn answer(&self, link: &Link) -> Result<std::convert::Infallible, Trouble> {
        let mut requests = Vec::new();
        loop {
            poll_fn(|context| {
                self.requests.borrow_mut().poll_recv_many(context, &mut requests, super::REQUESTS)
            })
            .await;
            if requests.is_empty() {
                // There will be none any more.
                std::future::pending::<()>().await;
            }
            let mut waiting = Vec::new();
            for request in requests.drain(..) {
                match request {
                    Request::Newest(reply) => waiting.push(reply),
                    Request::Reply(key, reply) => {
                        let mut command = cmd("GET");
                        command.arg(self.keys.reply(&key));
                        let found: Value = command.query_async(&mut link.main.clone()).await?;
                        let _ = reply.send(Ok(bytes(&found).map(|it| it.to_vec().into())));
                    }
                    Request::Records(shelf, reply) => {
                        let _ = reply.try_send(Ok(self.records(link, shelf).await?));
                    }
                }
            }
            // All that wait share one question.
            if !waiting.is_empty() {
                let newest = self.reach_newest(link).await?;
                waiting.into_iter().for_each(|reply| drop(reply.send(Ok(newest))));
            }
        }
    }

    /// Waits until the follower has learned of everything that is in the log now.
    async fn reach_newest(&self, link: &Link) -> Result<Position, Trouble> {
        self.core.counters.barriers.add(1);
        let log = self.log.borrow().name.clone().into_bytes();
        let answered = link.call(Script::Newest, &self.keys.all(&["meta"]), &[log]).await?;
        if answered.word != "OK" {
            return Err(answered.refusal());
        }
        let newest = format!("{}-{}", answered.text(0), answered.text(1));
        let nonsense = || Trouble::Away("a script has answered nonsense".to_owned());
        let newest = Id::parse(&newest).ok_or_else(nonsense)?.position();
        let mut applied = self.core.applied.subscribe();
        // The sender is beside the receiver, so this does not fail.
        let _ = applied.wait_for(|applied| newest <= *applied).await;
        Ok(newest)
    }

    /// Reads all records of a shelf. What changes meanwhile is taken from the log, so the result is
    /// the shelf as it was at one position.
    async fn records(&self, link: &Link, shelf: Shelf) -> Result<Vec<Revised>, Trouble> {
        *self.changes.borrow_mut() = Some(HashMap::new());
        let mut found: BTreeMap<Box<[u8]>, Revised> = BTreeMap::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut command = cmd("HSCAN");
            command.arg(self.keys.shelf(shelf)).arg(&cursor).arg("COUNT").arg(RECORDS);
            let answer: Value = command.query_async(&mut link.main.clone()).await?;
            let nonsense = || Trouble::Away("HSCAN has answered nonsense".to_owned());
            let [next, records] = items(&answer) else { return Err(nonsense()) };
            for pair in items(records).chunks_exact(2) {
                let record = record(shelf, &pair[0], &pair[1]).ok_or_else(|| {
                    let name = self.keys.shelf(shelf);
                    Trouble::Unsuitable(format!("a field of {name} in Redis is no record"))
                })?;
                found.insert(record.record.key.clone(), record);
            }
            cursor = text(next).ok_or_else(nonsense)?;
            if cursor == "0" {
                break;
            }
        }
        self.reach_newest(link).await?;
        let changes = self.changes.borrow_mut().take().unwrap_or_default();
        for ((_, key), change) in changes.into_iter().filter(|it| it.0.0 == shelf) {
            match change.record.value {
                Some(_) => found.insert(key, change),
                None => found.remove(&key),
            };
        }
        Ok(found.into_values().collect())
    }
}

fn record(shelf: Shelf, key: &Value, value: &Value) -> Option<Revised> {
    let (key, value) = (bytes(key)?, bytes(value)?);
    let end = value.iter().position(|it| *it == b' ')?;
    let revision = Id::parse(std::str::from_utf8(&value[..end]).ok()?)?.position();
    let (key, value) = (key.to_vec().into(), Some(value[end + 1..].into()));
    Some(Revised { revision, record: Record { shelf, key, value } })
}
