use std::{cell::RefCell, sync::Arc};

use jiff::SignedDuration;
use proptest::prelude::*;
use tidegate_core::{
    clock::Clock,
    delivery::{Feed, Item, Seats, Shard, Subscription, Terms},
    event::Position,
    history::{Memory, Retention, Start},
    hub::Hub,
    matching::{Interest, Matcher, Matchers, Rights},
    transport::{Gap, Transport},
};
use tidegate_testkit::library::update;

const TOPICS: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Step {
    /// Publish this many updates on a topic.
    Publish(usize, usize),
    /// A subscriber reads at most this many events.
    Read(usize, usize),
    /// A subscriber disconnects, and returns at its next read.
    Leave(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..TOPICS.len(), 1..6_usize).prop_map(|(topic, count)| Step::Publish(topic, count)),
        (0..4_usize, 1..12_usize).prop_map(|(who, count)| Step::Read(who, count)),
        (0..4_usize).prop_map(Step::Leave),
    ];
    prop::collection::vec(step, 1..80)
}

/// A subscriber of the model: its interest, its position, and what it should have received.
struct Subscriber {
    interest: Arc<Interest>,
    wants: Vec<&'static str>,
    feed: Option<Feed>,
    position: Position,
    /// How many of all published events it has received or was told it missed.
    told: usize,
}

impl Subscriber {
    fn new(wants: &[&'static str], everything: bool) -> Self {
        let exact = wants.iter().map(|topic| Matcher::exact(topic, 9).expect("a topic"));
        let matchers = exact.chain(everything.then_some(Matcher::Everything));
        let wants = if everything { TOPICS.to_vec() } else { wants.to_vec() };
        Self {
            interest: Arc::new(Interest::new(Matchers::new(matchers), None, Rights::Everything)),
            wants,
            feed: None,
            position: Position::START,
            told: 0,
        }
    }

    /// Returns as a client does: with a cursor token for its position.
    async fn come(&mut self, hub: &Hub, shard: &Shard) {
        let located = hub
            .history()
            .locate(Start::Position(self.position), &self.interest)
            .await
            .expect("memory");
        let gap = located.missing.map(|missing| Gap {
            cursor: String::new(),
            missing,
            after: located.after,
        });
        let terms = Terms {
            transport: Transport::Poll,
            heartbeat: None,
            lifetime: std::time::Duration::from_secs(3600),
        };
        self.feed = Some(shard.subscribe(Subscription {
            interest: self.interest.clone(),
            after: located.after,
            gap,
            n_dropped: located.n_dropped,
            terms,
            seat: Seats::new(1, 1).take(None).expect("a seat"),
            steer: None,
        }));
    }

    /// Reads, and compares with everything that was published.
    async fn read(&mut self, count: usize, published: &[(&'static str, String)], kept: usize) {
        let first_kept = published.len().saturating_sub(kept);
        for _ in 0..count {
            let feed = self.feed.as_mut().expect("it has come");
            match feed.next_waiting().await {
                Some(Item::Event(event)) => {
                    let wanted =
                        published[self.told..].iter().position(|it| self.wants.contains(&it.0));
                    let expected = self.told + wanted.expect("something was published for it");
                    assert_eq!(
                        *event.update.data, published[expected].1,
                        "in order, none skipped, none twice"
                    );
                    self.told = expected + 1;
                }
                Some(Item::Gap(_)) => {
                    let missed = published[self.told..first_kept].iter();
                    assert!(
                        missed.clone().any(|it| self.wants.contains(&it.0)),
                        "told of a gap that is none"
                    );
                    self.told = first_kept;
                }
                Some(Item::Heartbeat(_)) => {}
                Some(Item::End(end)) => panic!("it ended by itself: {end:?}"),
                None => {
                    let left = published[self.told..].iter().any(|it| self.wants.contains(&it.0));
                    assert!(!left, "it has not been told everything");
                    break;
                }
            }
        }
        self.position = self.feed.as_ref().expect("it has come").position();
    }
}

async fn run(steps: Vec<Step>, kept: usize, tail_bytes: usize) {
    let retention =
        Retention { bytes: usize::MAX, events: kept, age: SignedDuration::MAX, remembered: 1000 };
    let history = Arc::new(Memory::new(retention, Clock::system()));
    let hub = Hub::start(history, tail_bytes, false).expect("a thread");
    let shard = Shard::of_this_thread(&hub);
    let mut subscribers = [
        Subscriber::new(&["a"], false),
        Subscriber::new(&["b", "c"], false),
        Subscriber::new(&[], true),
        Subscriber::new(&["c"], true),
    ];
    let published = RefCell::new(Vec::new());
    for step in steps {
        match step {
            Step::Publish(topic, count) => {
                let topic = TOPICS[topic];
                let number = published.borrow().len();
                let data: Vec<String> = (number..number + count).map(|it| it.to_string()).collect();
                let updates = data.iter().map(|data| update(topic, data.clone())).collect();
                hub.publish(updates).await.expect("published");
                published.borrow_mut().extend(data.into_iter().map(|data| (topic, data)));
            }
            Step::Read(who, count) => {
                let subscriber = &mut subscribers[who];
                if subscriber.feed.is_none() {
                    subscriber.come(&hub, &shard).await;
                }
                settle().await;
                let published = published.borrow().clone();
                subscriber.read(count, &published, kept).await;
            }
            Step::Leave(who) => subscribers[who].feed = None,
        }
    }
    settle().await;
    let published = published.borrow().clone();
    for subscriber in &mut subscribers {
        if subscriber.feed.is_none() {
            subscriber.come(&hub, &shard).await;
            settle().await;
        }
        subscriber.read(usize::MAX, &published, kept).await;
    }
}

/// Lets the shard process everything that it was notified of.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_subscriber_that_comes_and_goes_gets_what_the_history_held_in_order(
        steps in steps(),
        kept in 1..40_usize,
        tail_bytes in prop_oneof![Just(1_usize), Just(2000), Just(1 << 20)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, run(steps, kept, tail_bytes));
    }
}

#[tokio::test]
async fn a_drain_that_begins_with_the_first_subscriber_ends_it() {
    let local = tokio::task::LocalSet::new();
    let ended = local.run_until(async {
        let retention =
            Retention { bytes: 1000, events: 10, age: SignedDuration::MAX, remembered: 10 };
        let history = Arc::new(Memory::new(retention, Clock::system()));
        let hub = Hub::start(history, 1000, false).expect("a thread");
        let shard = Shard::of_this_thread(&hub);
        let interest =
            Arc::new(Interest::new(Matchers::new([Matcher::Everything]), None, Rights::Everything));
        let terms = Terms {
            transport: Transport::Sse,
            heartbeat: None,
            lifetime: std::time::Duration::from_secs(3600),
        };
        let mut feed = shard.subscribe(Subscription {
            interest,
            after: Position::START,
            gap: None,
            n_dropped: 0,
            terms,
            seat: Seats::new(1, 1).take(None).expect("a seat"),
            steer: None,
        });
        hub.drain();
        feed.next().await
    });
    let ended = tokio::time::timeout(crate::support::DEADLINE, ended).await.expect("it ends");
    assert!(matches!(ended, Item::End(tidegate_core::transport::EndReason::Drain)));
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribing_while_others_publish_loses_nothing_and_repeats_nothing() {
    use crate::support::Gateway;

    let gateway = Arc::new(Gateway::with(&[("DELIVERY__TAIL_BYTES", "16KiB")]));
    let first = gateway.publish("t", "0").await;
    let publisher = {
        let gateway = gateway.clone();
        tokio::spawn(async move {
            for at in 1..=600 {
                gateway.publish("t", &at.to_string()).await;
            }
        })
    };
    let expected: Vec<String> = (1..=600).map(|it| it.to_string()).collect();
    let mut subscribers = Vec::new();
    for _ in 0..40 {
        subscribers.push(gateway.open(&format!("/events?topic=t&last_event_id={first}")).await);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    publisher.await.expect("published");
    for mut subscriber in subscribers {
        assert_eq!(subscriber.data(600).await, expected);
    }
}
