//! The thread that announces changes of the list.

use std::{
    io,
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use tracing::{error, warn};

use super::{
    Names, name, recover,
    registry::{Change, Matched, RegistryCore},
    update::{document, update},
};
use crate::{
    event::{Topic, Update},
    history::{Missing, Start},
    hub::{Hub, PublishError},
};

/// Events published at once. Even with the largest payloads they are a small part of the tail.
const BATCH: usize = 64;

/// Announcements wait while delivery lags over a quarter of the tail. Publishers are refused only
/// at half of it, so a crowd that joins and leaves does not block publishing.
const LAG_PART: u64 = 4;

/// Interval between checks whether delivery has caught up.
const LAG_TICK: Duration = Duration::from_millis(5);

/// Delay before a failed publish is retried.
const RETRY: Duration = Duration::from_millis(200);

/// Starts the thread, which ends when the list is dropped.
pub(super) fn start(
    list: &Arc<RegistryCore>,
    hub: &Hub,
    names: Names,
    limit: usize,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let announcer = Announcer { list: Arc::downgrade(list), hub: hub.clone(), names };
    let changed = list.changed.clone();
    let work = async move {
        announcer.recover(limit).await;
        while let Some(due) = announcer.announce().await {
            let timer = async {
                match due {
                    Next::At(due) => tokio::time::sleep_until(due.into()).await,
                    Next::Change => std::future::pending().await,
                }
            };
            tokio::select! {
                () = timer => {}
                () = changed.notified() => {}
            }
        }
    };
    thread::Builder::new()
        .name("tidegate-subscriptions".to_owned())
        .spawn(move || runtime.block_on(work))?;
    Ok(())
}

/// What the thread waits for.
enum Next {
    Change,
    At(Instant),
}

struct Announcer {
    list: Weak<RegistryCore>,
    hub: Hub,
    names: Names,
}

impl Announcer {
    /// Announces the end of the subscriptions that the previous process left behind.
    async fn recover(&self, limit: usize) {
        match recover::left_behind(&self.hub, &self.names, limit).await {
            Ok(left) => {
                for some in left.chunks(BATCH) {
                    self.publish(some.iter().map(recover::Left::end).collect()).await;
                }
            }
            Err(error) => error!(%error, "it cannot be read who has subscribed before"),
        }
    }

    /// Announces all queued changes; `None` if the list is gone.
    async fn announce(&self) -> Option<Next> {
        loop {
            let list = self.list.upgrade()?;
            let due = list.expire(Instant::now());
            let changes = list.take_changes(BATCH);
            drop(list);
            if changes.is_empty() {
                return Some(due.map_or(Next::Change, Next::At));
            }
            let told: Vec<(&Change, &Matched)> = changes
                .iter()
                .flat_map(|change| change.member.matched.iter().map(move |it| (change, it)))
                .collect();
            for some in told.chunks(BATCH) {
                let updates = some.iter().map(|(change, it)| self.tell(change, it)).collect();
                self.publish(updates).await;
            }
            self.list.upgrade()?.announced(&changes);
        }
    }

    /// Publishes updates, retrying until that succeeds or the gateway stops. Later changes wait for
    /// it.
    async fn publish(&self, updates: Vec<Update>) {
        let bearable = self.hub.tail().capacity() as u64 / LAG_PART;
        while bearable < self.hub.lag() && 0 < self.list.strong_count() {
            tokio::time::sleep(LAG_TICK).await;
        }
        loop {
            match self.hub.publish(updates.clone()).await {
                Ok(()) | Err(PublishError::Stopped) => return,
                // No subscriber is left to notify, and the next process finds what was left behind.
                Err(_) if self.hub.is_draining() => return,
                Err(error) => {
                    warn!(%error, "who subscribes is announced later");
                    if error.may_be_stored() && self.is_stored(&updates).await {
                        return;
                    }
                }
            }
            tokio::time::sleep(RETRY).await;
            if self.list.strong_count() == 0 {
                return;
            }
        }
    }

    /// Whether the history has these updates, as far as it knows.
    async fn is_stored(&self, updates: &[Update]) -> bool {
        let Some(first) = updates.first() else { return true };
        let history = self.hub.history();
        if history.current().await.is_err() {
            return false;
        }
        let interest = Arc::new(recover::interest(&self.names));
        let located = history.locate(Start::Id(first.id.clone()), &interest).await;
        located.is_ok_and(|it| it.missing != Some(Missing::Unknown))
    }

    /// The update that announces a change of one matcher.
    fn tell(&self, change: &Change, matched: &Matched) -> Update {
        let (names, subscriber) = (&self.names, &change.member.id);
        let key = name::key(matched.kind, &matched.matcher, subscriber);
        let old_key = name::old_key(&matched.matcher, subscriber).filter(|_| names.has_old);
        let topics = [Some(key), old_key].into_iter().flatten();
        let topics = topics.map(|key| Topic::of_subscription(&names.path(&key))).collect();
        update(topics, &document(names, matched, subscriber, change.active))
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::{
        clock::Clock,
        event::Position,
        history::{Budget, LaneLimits, Memory, Retention, Rules},
        matching::{Interest, Matcher, Matchers, Rights},
        subscriptions::{self, Newcomer, Signs},
        transport::subscription::SubscriptionDocument,
    };

    /// Time after which a missing announcement counts as lost.
    const DEADLINE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn thousands_that_leave_at_once_are_all_announced_behind_their_coming() {
        const COUNT: usize = 10_000;
        let retention = Retention {
            bytes: usize::MAX,
            events: usize::MAX,
            age: SignedDuration::MAX,
            remembered: 0,
        };
        let history = {
            let lanes = LaneLimits::beside(u64::MAX, 2 * COUNT as u64);
            Memory::with_rules(retention, Rules::new(Vec::new(), lanes), Clock::system())
        };
        let hub = Hub::start(Arc::new(history), 1 << 20, true).expect("a thread");
        let names = Names { root: "/subscriptions".to_owned(), has_old: true };
        let registry = subscriptions::start(&hub, names, usize::MAX, Duration::ZERO);
        let registry = registry.expect("a thread");
        let matchers = Matchers::new([Matcher::exact("a", 9).expect("valid")]);
        let signs = Signs { subject: None, key: None, session: None };
        let join = || {
            let newcomer = Newcomer::new(&matchers, signs, |_| None).expect("a matcher");
            registry.join(newcomer).expect("room")
        };
        let here: Vec<_> = (0..COUNT).map(|_| join()).collect();
        drop(here);
        let all_told = async {
            while hub.n_events() < 2 * COUNT as u64 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, all_told).await.expect("all are announced in time");
        let everything = Matchers::new([Matcher::Everything]);
        let interest = Arc::new(Interest::new(everything, None, Rights::Everything));
        let budget = Budget { events: usize::MAX, bytes: usize::MAX };
        let (mut events, mut after, mut more) = (Vec::new(), Position::START, true);
        while more {
            let page = hub.history().read_after(after, &interest, budget).await.expect("memory");
            events.extend(page.events);
            (after, more) = (page.scanned_to, page.more);
        }
        let mut here = std::collections::HashSet::new();
        for event in events {
            let document: SubscriptionDocument<'_> =
                serde_json::from_str(&event.update.data).expect("valid");
            let subscriber = document.subscriber.into_owned();
            if document.active {
                assert!(here.insert(subscriber));
            } else {
                assert!(here.remove(&subscriber));
            }
        }
        assert!(here.is_empty());
    }
}
