//! Replies by `Idempotency-Key` (IETF HTTP API draft): a repeated request gets the same reply and
//! changes nothing.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::history::{History, HistoryError, KeyedReply};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The reply to a successful request.
#[derive(Debug, Clone)]
pub struct Reply {
    content_type: &'static str,
    body: Bytes,
}

impl Reply {
    /// A reply of plain text.
    #[must_use]
    pub fn text(text: String) -> Self {
        Self { content_type: TEXT, body: text.into() }
    }

    /// A JSON reply.
    #[must_use]
    pub fn json(value: &impl Serialize) -> Self {
        let body = serde_json::to_vec(value).unwrap_or_default().into();
        Self { content_type: JSON, body }
    }

    /// Returns the stored form: the fingerprint, one byte for the type, and the body. It is
    /// committed with the request's updates.
    fn to_kept(&self, fingerprint: &Fingerprint) -> Box<[u8]> {
        let is_json = u8::from(self.content_type == JSON);
        let parts = [&fingerprint.0[..], &[is_json], &self.body];
        parts.concat().into()
    }

    /// Parses a stored request's fingerprint and reply.
    fn from_kept(kept: &[u8]) -> Option<(Fingerprint, Self)> {
        let (fingerprint, kept) = kept.split_first_chunk()?;
        let (is_json, body) = kept.split_first()?;
        let content_type = if *is_json == 0 { TEXT } else { JSON };
        let body = Bytes::copy_from_slice(body);
        Some((Fingerprint(*fingerprint), Self { content_type, body }))
    }

    /// The body as text.
    pub fn as_text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_default()
    }

    /// Its media type.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        self.content_type
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

/// A hash of a request, so that a key is not used for two different requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Hashes a request. `path` and `kind` determine the meaning of the body.
    pub fn of(path: &str, kind: &str, body: &[u8]) -> Self {
        let digest = Sha256::new_with_prefix(path)
            .chain_update([0])
            .chain_update(kind)
            .chain_update([0])
            .chain_update(body)
            .finalize();
        Self(digest.into())
    }
}

/// The limits of a ledger.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// The number of replies.
    pub keys: usize,
    /// The bytes of keys and replies.
    pub bytes: usize,
}

/// The recently used keys.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<LedgerCore>);

#[derive(Debug)]
struct LedgerCore {
    retention: Duration,
    capacity: Capacity,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_key: HashMap<String, Entry>,
    /// The answered keys, oldest first.
    answered: VecDeque<(Instant, String)>,
    /// The bytes of the answered keys and their replies.
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    fingerprint: Fingerprint,
    /// `None` while the request is in progress.
    reply: Option<Reply>,
}

impl Entry {
    fn weight(&self, key: &str) -> usize {
        2 * key.len() + self.reply.as_ref().map_or(0, |reply| reply.body.len())
    }
}

/// The reason why a key cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyError {
    /// The key was used for another request.
    #[error("this `Idempotency-Key` was used for another request")]
    Reused,
    /// The first request with the key has no reply yet.
    #[error("a request with this `Idempotency-Key` is still being worked on")]
    InProgress,
    /// It is unknown whether the key was used.
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// The result of claiming a key.
#[derive(Debug)]
pub enum Claim {
    /// The key is new: the caller has to do the work.
    Granted(ClaimGuard),
    /// The request was answered before.
    Answered(Reply),
}

/// The right to work on a key. Dropping it unfulfilled frees the key.
#[derive(Debug)]
#[must_use]
pub struct ClaimGuard {
    ledger: Ledger,
    key: String,
    fingerprint: Fingerprint,
}

impl Ledger {
    /// Creates an empty ledger that keeps replies within `capacity`, each for `retention`.
    #[must_use]
    pub fn new(retention: Duration, capacity: Capacity) -> Self {
        Self(Arc::new(LedgerCore { retention, capacity, entries: Mutex::default() }))
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims `key` for a request.
    ///
    /// # Errors
    /// If the key was used for another request, or its first request is still in progress.
    pub fn claim(&self, key: String, fingerprint: Fingerprint) -> Result<Claim, KeyError> {
        let mut entries = self.entries();
        entries.forget(self.0.retention, self.0.capacity);
        match entries.by_key.get(&key) {
            Some(entry) if entry.fingerprint != fingerprint => Err(KeyError::Reused),
            Some(Entry { reply: Some(reply), .. }) => Ok(Claim::Answered(reply.clone())),
            Some(Entry { reply: None, .. }) => Err(KeyError::InProgress),
            None => {
                let entry = Entry { fingerprint: fingerprint.clone(), reply: None };
                entries.by_key.insert(key.clone(), entry);
                Ok(Claim::Granted(ClaimGuard { ledger: self.clone(), key, fingerprint }))
            }
        }
    }
}

impl Entries {
    fn forget(&mut self, retention: Duration, capacity: Capacity) {
        while let Some((answered, _)) = self.answered.front() {
            let fits = self.answered.len() <= capacity.keys && self.bytes <= capacity.bytes;
            if fits && answered.elapsed() < retention {
                break;
            }
            if let Some((_, key)) = self.answered.pop_front()
                && let Some(entry) = self.by_key.remove(&key)
            {
                self.bytes -= entry.weight(&key);
            }
        }
    }
}

impl ClaimGuard {
    /// Returns the reply in the history: from before a restart, or from a request whose outcome was
    /// unknown.
    ///
    /// # Errors
    /// If the history cannot be read, or the key was used for another request.
    pub async fn recall(&self, history: &dyn History) -> Result<Option<Reply>, KeyError> {
        if !history.outlives_process() {
            return Ok(None);
        }
        let kept = history.reply(&self.key).await?;
        match kept.as_deref().and_then(Reply::from_kept) {
            Some((fingerprint, _)) if fingerprint != self.fingerprint => Err(KeyError::Reused),
            found => Ok(found.map(|(_, reply)| reply)),
        }
    }

    /// Returns a function that makes the stored form once the reply is known.
    pub fn keeper(&self) -> impl FnOnce(&Reply) -> KeyedReply + Send + 'static {
        let (key, fingerprint) = (self.key.clone(), self.fingerprint.clone());
        move |reply| KeyedReply { key, value: reply.to_kept(&fingerprint) }
    }

    /// Stores the reply for repeated requests.
    pub fn fulfil(self, reply: Reply) {
        let mut entries = self.ledger.entries();
        if let Some(entry) = entries.by_key.get_mut(&self.key) {
            entry.reply = Some(reply);
            let weight = entry.weight(&self.key);
            entries.bytes += weight;
            entries.answered.push_back((Instant::now(), self.key.clone()));
        }
    }
}

impl Drop for ClaimGuard {
    fn drop(&mut self) {
        let mut entries = self.ledger.entries();
        if entries.by_key.get(&self.key).is_some_and(|entry| entry.reply.is_none()) {
            entries.by_key.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(keys: usize, bytes: usize) -> Ledger {
        Ledger::new(Duration::from_secs(60), Capacity { keys, bytes })
    }

    /// Claims a key. Returns the text of the reply, `granted`, or the reason of the refusal.
    fn claim(ledger: &Ledger, key: &str, body: &str) -> (String, Option<ClaimGuard>) {
        match ledger.claim(key.to_owned(), Fingerprint::of("/", "text/plain", body.as_bytes())) {
            Ok(Claim::Granted(guard)) => ("granted".to_owned(), Some(guard)),
            Ok(Claim::Answered(reply)) => (reply.as_text().to_owned(), None),
            Err(error) => (format!("{error:?}"), None),
        }
    }

    #[test]
    fn a_key_is_in_use_then_answered_and_never_for_something_else() {
        let ledger = ledger(10, 1000);
        let (granted, guard) = claim(&ledger, "k", "a");
        assert_eq!(granted, "granted");
        assert_eq!(claim(&ledger, "k", "a").0, "InProgress", "the first is still being worked on");
        assert_eq!(claim(&ledger, "k", "b").0, "Reused");
        guard.expect("it was granted").fulfil(Reply::text("done".to_owned()));
        assert_eq!(claim(&ledger, "k", "a").0, "done");
        assert_eq!(claim(&ledger, "k", "b").0, "Reused");
    }

    #[test]
    fn a_key_whose_work_failed_is_free_again() {
        let ledger = ledger(10, 1000);
        drop(claim(&ledger, "k", "a"));
        assert_eq!(claim(&ledger, "k", "b").0, "granted");
    }

    #[test]
    fn the_oldest_replies_are_forgotten_by_number_and_by_bytes() {
        for ledger in [ledger(2, 1000), ledger(10, 250)] {
            for key in ["a", "b", "c"] {
                let guard = claim(&ledger, key, "").1.expect("it is new");
                guard.fulfil(Reply::text("x".repeat(100)));
            }
            assert_eq!(claim(&ledger, "c", "").0, "x".repeat(100));
            assert_eq!(claim(&ledger, "a", "").0, "granted");
        }
    }
}
