//! What one subscriber has received of the messages published for it.

use std::ops::Range;

/// The message numbers that one publisher used for one topic.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent {
    /// All numbers below this were used.
    pub(super) count: u32,
    /// Numbers whose outcome is unknown, because the connection broke before the reply.
    pub(super) doubtful: Vec<u32>,
}

/// How a message arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// After every earlier message of its lane.
    InOrder,
    /// After a message that was published later.
    Late,
    /// Not for the first time.
    Again,
    /// At a subscriber of another topic.
    Stray,
}

/// The messages that one subscriber has received.
#[derive(Debug)]
pub(super) struct Ledger {
    topic: u32,
    /// One lane per publisher of the topic: there is no order between publishers.
    lanes: Box<[Lane]>,
    /// Lane and number of the last message, after which a reconnecting subscriber resumes.
    last: Option<(u16, u32)>,
    /// Whether the subscriber was accepted. Only then are messages due to it.
    is_admitted: bool,
}

#[derive(Debug, Clone, Default)]
struct Lane {
    /// The number after the highest that arrived.
    next: u32,
    /// Lower numbers that have not arrived, bounded by what was published.
    missing: Vec<Range<u32>>,
}

impl Ledger {
    pub(super) fn new(topic: u32, lanes: usize) -> Self {
        Self { topic, lanes: vec![Lane::default(); lanes].into(), last: None, is_admitted: false }
    }

    pub(super) fn admit(&mut self) {
        self.is_admitted = true;
    }

    pub(super) fn topic(&self) -> u32 {
        self.topic
    }

    pub(super) fn last(&self) -> Option<(u16, u32)> {
        self.last
    }

    /// Records a message and returns how it arrived.
    pub(super) fn enter(&mut self, topic: u32, lane: u16, number: u32) -> Arrival {
        if topic != self.topic {
            return Arrival::Stray;
        }
        let Some(entries) = self.lanes.get_mut(usize::from(lane)) else {
            return Arrival::Stray;
        };
        self.last = Some((lane, number));
        entries.enter(number)
    }

    /// Returns how many messages may arrive. `sent` has one entry per lane.
    pub(super) fn due(&self, sent: &[Sent]) -> u64 {
        if !self.is_admitted {
            return 0;
        }
        sent.iter().map(|it| u64::from(it.count)).sum()
    }

    /// Returns how many published messages did not arrive.
    pub(super) fn lost(&self, sent: &[Sent]) -> u64 {
        if !self.is_admitted {
            return 0;
        }
        self.lanes.iter().zip(sent).map(|(lane, sent)| lane.lost(sent)).sum()
    }
}

impl Lane {
    fn enter(&mut self, number: u32) -> Arrival {
        if self.next <= number {
            if self.next < number {
                self.missing.push(self.next..number);
            }
            self.next = number + 1;
            return Arrival::InOrder;
        }
        let Some(at) = self.missing.iter().position(|it| it.contains(&number)) else {
            return Arrival::Again;
        };
        let gap = self.missing.swap_remove(at);
        let halves = [gap.start..number, number + 1..gap.end];
        self.missing.extend(halves.into_iter().filter(|it| !it.is_empty()));
        Arrival::Late
    }

    fn lost(&self, sent: &Sent) -> u64 {
        let behind = self.next..sent.count;
        let is_missing = |number: &u32| {
            behind.contains(number) || self.missing.iter().any(|it| it.contains(number))
        };
        let excused = sent.doubtful.iter().filter(|it| is_missing(it)).count() as u64;
        let missing: u64 = self.missing.iter().map(|it| u64::from(it.end - it.start)).sum();
        missing + behind.len() as u64 - excused
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_set_of_numbers(
            numbers in prop::collection::vec(0_u32..20, 0..60),
            doubtful in prop::collection::btree_set(0_u32..20, 0..4),
        ) {
            let mut ledger = Ledger::new(7, 1);
            ledger.admit();
            let mut seen = BTreeSet::new();
            for number in numbers {
                let expected = match seen.last() {
                    _ if seen.contains(&number) => Arrival::Again,
                    Some(last) if number < *last => Arrival::Late,
                    _ => Arrival::InOrder,
                };
                seen.insert(number);
                prop_assert_eq!(ledger.enter(7, 0, number), expected);
                prop_assert_eq!(ledger.last(), Some((0, number)));
            }
            let lost = (0..20).filter(|it| !seen.contains(it) && !doubtful.contains(it)).count();
            let sent = Sent { count: 20, doubtful: doubtful.into_iter().collect() };
            prop_assert_eq!(ledger.lost(&[sent]), lost as u64);
        }
    }

    #[test]
    fn nothing_is_due_to_who_was_refused() {
        let (mut ledger, sent) = (Ledger::new(7, 1), [Sent { count: 3, doubtful: vec![1] }]);
        assert_eq!((ledger.due(&sent), ledger.lost(&sent)), (0, 0));
        ledger.admit();
        assert_eq!((ledger.due(&sent), ledger.lost(&sent)), (3, 2));
    }

    #[test]
    fn unexpected_messages_are_counted_apart() {
        let mut ledger = Ledger::new(7, 2);
        assert_eq!(ledger.enter(8, 0, 0), Arrival::Stray);
        assert_eq!(ledger.enter(7, 2, 0), Arrival::Stray);
        assert_eq!(ledger.enter(7, 1, 0), Arrival::InOrder);
    }
}
