//! From a topic to its subscribers, so that the cost of a publish depends only on how many receive
//! it.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use slab::Slab;

use super::{
    Interest,
    pattern::{self, PatternId},
};
use crate::{
    event::{Topic, Update},
    shrink,
};

/// Finds the subscribers of a shard by topic. Subscribers are numbers assigned by the shard.
#[derive(Debug, Default)]
pub struct Index {
    by_topic: HashMap<Topic, Number, RandomState>,
    by_pattern: HashMap<PatternId, Number, RandomState>,
    everything: Vec<Number>,
    lists: Slab<List>,
    members: Slab<Member>,
}

/// The number of a subscriber, list or member. Half as wide as a `usize`, because every matcher of
/// every subscriber takes several.
type Number = u32;

/// The subscribers of one matcher, unordered, so that removing one takes constant time.
#[derive(Debug)]
struct List {
    heading: Heading,
    members: Vec<Number>,
}

/// The key of a list.
#[derive(Debug)]
enum Heading {
    Topic(Topic),
    Pattern(PatternId),
}

/// A subscriber's place in one list.
#[derive(Debug)]
struct Member {
    subscriber: Number,
    list: Place,
    offset: Number,
}

/// A list of the index.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// The subscribers of `*`.
    Everything,
    /// One of the numbered lists.
    List(Number),
}

/// A subscriber's places in the index, to be passed to [`Index::remove`].
#[derive(Debug)]
pub struct Enlisted(Members);

/// A subscriber's members. Nearly every subscriber has one matcher, which needs no allocation here.
#[derive(Debug)]
enum Members {
    One(Number),
    Many(Box<[Number]>),
}

impl Index {
    /// Adds a subscriber under each of its matchers.
    ///
    /// # Panics
    /// If there are more than 2³² subscribers or matchers.
    #[must_use = "needed to remove the subscriber"]
    pub fn insert(&mut self, subscriber: usize, interest: &Interest) -> Enlisted {
        let subscriber = narrow(subscriber);
        let matchers = interest.matchers();
        // The common case of a single matcher allocates no list of members.
        let members = match (matchers.is_everything(), matchers.topics(), matchers.patterns()) {
            (true, [], []) => Members::One(self.enlist(subscriber, Place::Everything)),
            (false, [topic], []) => {
                let list = self.list_of_topic(topic);
                Members::One(self.enlist(subscriber, list))
            }
            (false, [], [pattern]) => {
                let list = self.list_of_pattern(pattern.id());
                Members::One(self.enlist(subscriber, list))
            }
            (everything, topics, patterns) => {
                let mut members = Vec::with_capacity(1 + topics.len() + patterns.len());
                if everything {
                    members.push(self.enlist(subscriber, Place::Everything));
                }
                for topic in topics {
                    let list = self.list_of_topic(topic);
                    members.push(self.enlist(subscriber, list));
                }
                for pattern in patterns {
                    let list = self.list_of_pattern(pattern.id());
                    members.push(self.enlist(subscriber, list));
                }
                Members::Many(members.into())
            }
        };
        Enlisted(members)
    }

    fn list_of_topic(&mut self, topic: &Topic) -> Place {
        if let Some(list) = self.by_topic.get(topic) {
            return Place::List(*list);
        }
        let list = List { heading: Heading::Topic(topic.clone()), members: Vec::new() };
        let list = narrow(self.lists.insert(list));
        self.by_topic.insert(topic.clone(), list);
        Place::List(list)
    }

    fn list_of_pattern(&mut self, pattern: PatternId) -> Place {
        let list = self.by_pattern.entry(pattern).or_insert_with(|| {
            let list = List { heading: Heading::Pattern(pattern), members: Vec::new() };
            narrow(self.lists.insert(list))
        });
        Place::List(*list)
    }

    fn members(&mut self, place: Place) -> &mut Vec<Number> {
        match place {
            Place::Everything => &mut self.everything,
            Place::List(list) => &mut self.lists[list as usize].members,
        }
    }

    fn enlist(&mut self, subscriber: Number, list: Place) -> Number {
        let offset = narrow(self.members(list).len());
        let member = narrow(self.members.insert(Member { subscriber, list, offset }));
        self.members(list).push(member);
        member
    }

    /// Removes a subscriber from all its lists.
    pub fn remove(&mut self, enlisted: Enlisted) {
        match enlisted.0 {
            Members::One(member) => self.remove_member(member),
            Members::Many(members) => members.iter().for_each(|it| self.remove_member(*it)),
        }
        shrink::slab(&mut self.members);
        shrink::slab(&mut self.lists);
        shrink::map(&mut self.by_topic);
        shrink::map(&mut self.by_pattern);
    }

    fn remove_member(&mut self, member: Number) {
        let Member { list, offset, .. } = self.members.remove(member as usize);
        let members = self.members(list);
        members.swap_remove(offset as usize);
        shrink::list(members);
        let is_empty = members.is_empty();
        if let Some(moved) = members.get(offset as usize).copied() {
            self.members[moved as usize].offset = offset;
        }
        if let (true, Place::List(list)) = (is_empty, list) {
            match self.lists.remove(list as usize).heading {
                Heading::Topic(topic) => self.by_topic.remove(&topic),
                Heading::Pattern(pattern) => self.by_pattern.remove(&pattern),
            };
        }
    }

    /// Calls `found` for each subscriber with a matcher for one of the update's topics. A
    /// subscriber with several matchers may be found several times. Does not check whether the
    /// subscriber may see the update.
    pub fn find(&self, update: &Update, mut found: impl FnMut(usize)) {
        let mut tell = |members: &[Number]| {
            for member in members {
                found(self.members[*member as usize].subscriber as usize);
            }
        };
        tell(&self.everything);
        for topic in &update.topics {
            if let Some(list) = self.by_topic.get(topic) {
                tell(&self.lists[*list as usize].members);
            }
            if self.by_pattern.is_empty() {
                continue;
            }
            for pattern in &*pattern::matching(topic) {
                if let Some(list) = self.by_pattern.get(pattern) {
                    tell(&self.lists[*list as usize].members);
                }
            }
        }
    }
}

fn narrow(number: usize) -> Number {
    number.try_into().expect("descriptors and memory run out before 32 bits do")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use url::Url;

    use super::*;
    use crate::{
        event::{Draft, Limits, Position},
        matching::{Matcher, MatcherKind, MatcherLimits, Matchers, Rights},
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

    /// An interest with one matcher for each number; the topics `t1` to `t5` of the updates test
    /// them.
    fn interest(matchers: &[u8]) -> Interest {
        let hub = Url::parse("http://localhost/.well-known/mercure").expect("a valid address");
        let limits = MatcherLimits {
            matchers: 10,
            bytes: 100,
            cost: 100,
            cost_of_set: 1000,
            cost_of_all: 1_000_000,
        };
        let matchers = matchers.iter().map(|it| match it {
            0 => (MatcherKind::Exact, "*".to_owned()),
            6 => (MatcherKind::UriTemplate, "t{index-test}".replace('-', "_")),
            7 => (MatcherKind::UrlPattern, "t([12])".to_owned()),
            8 => (MatcherKind::UrlPattern, "http://localhost/.well-known/:index_test".to_owned()),
            it => (MatcherKind::Selector, format!("t{it}")),
        });
        let matchers = matchers
            .map(|(kind, value)| Matcher::parse(kind, &value, &hub, &limits).expect("valid"));
        Interest::new(Matchers::new(matchers), None, Rights::PublicOnly)
    }

    #[test]
    fn a_subscriber_with_one_matcher_costs_few_bytes() {
        assert!(size_of::<Enlisted>() <= 16, "{}", size_of::<Enlisted>());
        assert!(size_of::<Member>() <= 16, "{}", size_of::<Member>());
    }

    #[test]
    fn memory_is_given_back_when_many_have_left() {
        const MANY: usize = 100_000;
        let mut index = Index::default();
        let everything = interest(&[0]);
        let stays = index.insert(MANY, &everything);
        let one_topic = interest(&[1]);
        let pattern = interest(&[6]);
        for round in 0..3 {
            let enlisted: Vec<Enlisted> = (0..MANY)
                .map(|subscriber| match subscriber % 4 {
                    0 => index.insert(subscriber, &everything),
                    1 => index.insert(subscriber, &one_topic),
                    2 => index.insert(subscriber, &pattern),
                    _ => {
                        let own = Matcher::exact(&format!("own{subscriber}"), 20).expect("valid");
                        let matchers = Matchers::new([own]);
                        let own = Interest::new(matchers, None, Rights::PublicOnly);
                        index.insert(subscriber, &own)
                    }
                })
                .collect();
            for enlisted in enlisted {
                index.remove(enlisted);
            }
            assert!(index.everything.capacity() <= shrink::FEW, "round {round}");
            assert!(
                index.by_topic.capacity() <= shrink::FEW
                    && index.by_pattern.capacity() <= shrink::FEW
            );
            assert!(index.lists.capacity() <= shrink::FEW);
            let slots = index.members.capacity() + index.lists.capacity();
            assert!(slots <= 2 * MANY, "slots are used again");
        }
        index.remove(stays);
        assert!(index.members.capacity() <= shrink::FEW);
    }

    proptest! {
        #[test]
        fn finds_exactly_those_whose_interest_covers_the_update(
            steps in prop::collection::vec((prop::collection::vec(0_u8..9, 1..4), prop::bool::ANY), 1..60),
            published in prop::collection::vec(1_u8..6, 1..4),
        ) {
            let mut index = Index::default();
            let mut live: Vec<(usize, Interest, Enlisted)> = Vec::new();
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
                live.iter().filter(|it| it.1.covers(&update, Position(1))).map(|it| it.0).collect();
            prop_assert_eq!(found, expected);
            for (_, _, enlisted) in live {
                index.remove(enlisted);
            }
            prop_assert!(index.by_topic.is_empty() && index.by_pattern.is_empty());
            prop_assert!(index.lists.is_empty() && index.members.is_empty());
        }
    }
}
