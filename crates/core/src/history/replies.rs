//! The replies of a history in memory, by the keys of their requests.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use foldhash::fast::RandomState;
use jiff::Timestamp;

use super::KeyedReply;

/// The limits of the replies that a history keeps.
#[derive(Debug, Clone, Copy)]
pub struct ReplyLimits {
    /// How long a reply is kept.
    pub age: Duration,
    /// The number of replies.
    pub count: usize,
    /// The bytes of keys and replies. A key counts twice.
    pub bytes: usize,
}

#[derive(Debug)]
pub(super) struct Replies {
    limits: ReplyLimits,
    by_key: HashMap<Box<str>, Box<[u8]>, RandomState>,
    /// The keys with the times of their replies, oldest first.
    order: VecDeque<(Timestamp, Box<str>)>,
    bytes: usize,
}

impl Replies {
    pub(super) fn new(limits: ReplyLimits) -> Self {
        Self { limits, by_key: HashMap::default(), order: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        self.by_key.get(key).map(|it| &**it)
    }

    /// Adds the reply to a request. Its key must have none.
    pub(super) fn insert(&mut self, reply: KeyedReply, now: Timestamp) {
        let key: Box<str> = reply.key.into();
        self.bytes += weight(&key, &reply.value);
        self.order.push_back((now, key.clone()));
        self.by_key.insert(key, reply.value);
    }

    /// Drops replies that are too old or too many.
    pub(super) fn trim(&mut self, now: Timestamp) {
        while let Some((given, _)) = self.order.front() {
            let fits = self.order.len() <= self.limits.count && self.bytes <= self.limits.bytes;
            let age = Duration::try_from(now.duration_since(*given)).unwrap_or_default();
            if fits && age <= self.limits.age {
                break;
            }
            if let Some((_, key)) = self.order.pop_front()
                && let Some(value) = self.by_key.remove(&key)
            {
                self.bytes -= weight(&key, &value);
            }
        }
    }
}

fn weight(key: &str, value: &[u8]) -> usize {
    2 * key.len() + value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    #[test]
    fn the_oldest_replies_go_by_age_by_number_and_by_bytes() {
        let limits = |count, bytes| ReplyLimits { age: Duration::from_secs(60), count, bytes };
        for (limits, now) in [(limits(2, 1000), 3), (limits(10, 250), 3), (limits(10, 1000), 61)] {
            let mut replies = Replies::new(limits);
            for (at, key) in [(0, "a"), (2, "b"), (3, "c")] {
                let value = vec![b'x'; 100].into();
                replies.insert(KeyedReply { key: key.to_owned(), value }, seconds(at));
            }
            replies.trim(seconds(now));
            let kept = ["a", "b", "c"].map(|key| replies.get(key).is_some());
            assert_eq!(kept, [false, true, true], "{limits:?}");
        }
    }
}
