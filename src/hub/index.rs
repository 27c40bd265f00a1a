//! From a topic to the subscribers that asked for it, so that a publish costs what it delivers and no more.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;
use slab::Slab;

use super::Interest;
use crate::event::{Topic, Update};

/// Finds the subscribers of a shard by topic. Subscribers are numbers that the shard gives.
#[derive(Debug, Default)]
pub struct Index {
    lists: HashMap<Topic, List, RandomState>,
    everything: List,
    members: Slab<Member>,
}

/// The members of one list, in no order, so that one can be taken out at once.
type List = Vec<usize>;

/// A subscriber's place in one list.
#[derive(Debug)]
struct Member {
    subscriber: usize,
    /// `None` is the list of those who want everything.
    topic: Option<Topic>,
    offset: usize,
}

/// A subscriber's places in the index; give it back to [`Index::remove`].
#[derive(Debug)]
pub struct Enlisted(Box<[usize]>);

impl Index {
    /// Adds a subscriber under everything that it asked for.
    #[must_use = "needed to remove the subscriber"]
    pub fn insert(&mut self, subscriber: usize, interest: &Arc<Interest>) -> Enlisted {
        let members = match interest.exact_topics() {
            Some(topics) => {
                topics.iter().map(|topic| self.enlist(subscriber, Some(topic.clone()))).collect()
            }
            None => vec![self.enlist(subscriber, None)].into(),
        };
        Enlisted(members)
    }

    fn enlist(&mut self, subscriber: usize, topic: Option<Topic>) -> usize {
        let list = match &topic {
            Some(topic) => self.lists.entry(topic.clone()).or_default(),
            None => &mut self.everything,
        };
        let member = self.members.insert(Member { subscriber, topic, offset: list.len() });
        list.push(member);
        member
    }

    /// Takes a subscriber out of every list that it is in.
    pub fn remove(&mut self, enlisted: Enlisted) {
        for key in enlisted.0 {
            let member = self.members.remove(key);
            let list = match &member.topic {
                Some(topic) => self.lists.get_mut(topic),
                None => Some(&mut self.everything),
            };
            let Some(list) = list else { continue };
            list.swap_remove(member.offset);
            if let Some(moved) = list.get(member.offset) {
                self.members[*moved].offset = member.offset;
            }
            if let (true, Some(topic)) = (list.is_empty(), &member.topic) {
                self.lists.remove(topic);
            }
        }
    }

    /// Calls `found` for each subscriber that one of the update's topics leads to; one with several matchers may be
    /// found several times. Whether the update excepts it is not looked at.
    pub fn find(&self, update: &Update, mut found: impl FnMut(usize)) {
        let lists = update.topics.iter().filter_map(|topic| self.lists.get(topic));
        for member in lists.chain([&self.everything]).flatten() {
            found(self.members[*member].subscriber);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use url::Url;

    use super::*;
    use crate::{
        event::{Draft, Limits},
        hub::Matcher,
    };

    fn update(topics: &[u8]) -> Update {
        let limits = Limits {
            topics: 10,
            topic_bytes: 10,
            id_bytes: 10,
            type_bytes: 10,
            except: 10,
            client_key_bytes: 10,
        };
        let hub = Url::parse("http://localhost/.well-known/mercure").expect("a valid address");
        let topics = topics.iter().map(|it| format!("t{it}")).collect();
        Draft { topics, ..Draft::default() }.validate(&limits, &hub).expect("valid")
    }

    fn interest(topics: &[u8]) -> Arc<Interest> {
        let matchers = topics.iter().map(|it| match it {
            0 => Matcher::Everything,
            it => Matcher::exact(&format!("t{it}"), 10).expect("valid"),
        });
        Arc::new(Interest::new(matchers, None))
    }

    proptest! {
        #[test]
        fn finds_exactly_those_whose_interest_covers_the_update(
            steps in prop::collection::vec((prop::collection::vec(0_u8..5, 1..4), prop::bool::ANY), 1..60),
            published in prop::collection::vec(1_u8..6, 1..4),
        ) {
            let mut index = Index::default();
            let mut live: Vec<(usize, Arc<Interest>, Enlisted)> = Vec::new();
            for (subscriber, (topics, leaves)) in steps.iter().enumerate() {
                let interest = interest(topics);
                let enlisted = index.insert(subscriber, &interest);
                live.push((subscriber, interest, enlisted));
                if *leaves {
                    let (_, _, enlisted) = live.swap_remove(subscriber % live.len());
                    index.remove(enlisted);
                }
            }
            let update = update(&published);
            let mut found = BTreeSet::new();
            index.find(&update, |it| { found.insert(it); });
            let expected: BTreeSet<usize> =
                live.iter().filter(|it| it.1.covers(&update)).map(|it| it.0).collect();
            prop_assert_eq!(found, expected);
            for (_, _, enlisted) in live {
                index.remove(enlisted);
            }
            prop_assert!(index.lists.is_empty() && index.members.is_empty());
        }
    }
}
