//! Replies by `Idempotency-Key` (IETF HTTP API draft): a repeated request gets the same reply and
//! changes nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::history::KeyedReply;

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

/// The requests with a key that are being worked on in this process. Answered ones are in the
/// history, which refuses to store the changes of a request under a key that has a reply.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<HashMap<String, Fingerprint>>>);

/// The reason why a key cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyError {
    /// The key was used for another request.
    #[error("this `Idempotency-Key` was used for another request")]
    Reused,
    /// The first request with the key has no reply yet.
    #[error("a request with this `Idempotency-Key` is still being worked on")]
    InProgress,
    /// The stored reply was not written by this program.
    #[error("the reply to the request with this `Idempotency-Key` cannot be read")]
    Unreadable,
}

/// The right to work on a key, until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Claim {
    ledger: Ledger,
    key: String,
    fingerprint: Fingerprint,
}

impl Ledger {
    fn entries(&self) -> MutexGuard<'_, HashMap<String, Fingerprint>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims `key` for a request.
    ///
    /// # Errors
    /// If another request with this key is being worked on.
    pub fn claim(&self, key: String, fingerprint: Fingerprint) -> Result<Claim, KeyError> {
        let mut entries = self.entries();
        match entries.get(&key) {
            Some(other) if *other != fingerprint => Err(KeyError::Reused),
            Some(_) => Err(KeyError::InProgress),
            None => {
                entries.insert(key.clone(), fingerprint.clone());
                drop(entries);
                Ok(Claim { ledger: self.clone(), key, fingerprint })
            }
        }
    }
}

impl Claim {
    /// The claimed key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the reply in its stored form, if this very request got it.
    ///
    /// # Errors
    /// If the key was used for another request.
    pub fn recognize(&self, kept: &[u8]) -> Result<Reply, KeyError> {
        let (fingerprint, reply) = Reply::from_kept(kept).ok_or(KeyError::Unreadable)?;
        if fingerprint == self.fingerprint { Ok(reply) } else { Err(KeyError::Reused) }
    }

    /// Returns a function that makes the stored form once the reply is known.
    pub fn keeper(&self) -> impl Fn(&Reply) -> KeyedReply + Send + Sync + 'static {
        let (key, fingerprint) = (self.key.clone(), self.fingerprint.clone());
        move |reply| KeyedReply { key: key.clone(), value: reply.to_kept(&fingerprint) }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.ledger.entries().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_use_until_its_claim_ends_and_then_known_by_its_reply() {
        let ledger = Ledger::default();
        let claim = |body: &str| {
            ledger.claim("k".to_owned(), Fingerprint::of("/", "text/plain", body.as_bytes()))
        };
        let first = claim("a").expect("it is new");
        assert!(matches!(claim("a"), Err(KeyError::InProgress)));
        assert!(matches!(claim("b"), Err(KeyError::Reused)));
        let kept = first.keeper()(&Reply::text("done".to_owned()));
        drop(first);
        let again = claim("a").expect("it is free");
        assert_eq!(again.recognize(&kept.value).expect("the same").as_text(), "done");
        assert!(matches!(again.recognize(b"?"), Err(KeyError::Unreadable)));
        drop(again);
        let other = claim("b").expect("it is free");
        assert!(matches!(other.recognize(&kept.value), Err(KeyError::Reused)));
    }
}
