//! The shared history on a real Redis: the same model as every other history, and what happens to
//! the log between two terms.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::SignedDuration;
use proptest::prelude::*;
use tidegate_testkit::{
    deadline::in_time,
    redis::{Redis, SYNCED},
};

use super::*;
use crate::{
    event::Update,
    history::{
        Applied, LaneLimits,
        disk::tests as on_disk,
        tests::{Model, check_against, steps},
        token::NUMBER_BITS,
    },
    matching::{Matcher, Matchers, Rights},
};

fn options(redis: &Redis, hub: &str) -> SharedOptions {
    SharedOptions {
        address: redis.address().parse().expect("an address"),
        credentials: Credentials::default(),
        hub: hub.to_owned(),
        name: "a".to_owned(),
        version: "1".to_owned(),
        log: String::new(),
        replicas_acked: 0,
        commit_timeout: Duration::from_secs(5),
        recovery_wait: Duration::from_secs(3),
        lease: Duration::from_secs(6),
        ring_bytes: 16 << 20,
        unready_after: Duration::from_secs(30),
        retention: Retention {
            bytes: 64 << 20,
            events: 1_000_000,
            age: SignedDuration::from_hours(1),
            remembered: 1000,
        },
        rules: Rules::new(Vec::new(), LaneLimits::beside(64 << 20, 1000)),
        reply_age: Duration::from_secs(60),
    }
}

/// A node, and what its follower was told.
struct Follows {
    history: Shared,
    ids: Arc<Mutex<Vec<String>>>,
    restarts: Arc<Mutex<usize>>,
}

fn node(options: SharedOptions) -> Follows {
    let history = Shared::open(options).expect("a suitable Redis");
    let (ids, restarts) = (Arc::default(), Arc::default());
    let follower = {
        let (ids, restarts): (Arc<Mutex<Vec<String>>>, Arc<Mutex<usize>>) =
            (Arc::clone(&ids), Arc::clone(&restarts));
        move |applied: Applied<'_>| {
            *restarts.lock().expect("no panic") += usize::from(applied.restarted.is_some());
            let new = applied.events.iter().map(|it| it.update.id.as_str().to_owned());
            ids.lock().expect("no panic").extend(new);
        }
    };
    history.follow(Box::new(follower)).expect("the first");
    Follows { history, ids, restarts }
}

impl Follows {
    fn ids(&self) -> Vec<String> {
        self.ids.lock().expect("no panic").clone()
    }

    fn n_restarts(&self) -> usize {
        *self.restarts.lock().expect("no panic")
    }

    async fn publish(&self, id: usize) -> Result<Committed, HistoryError> {
        in_time("an outcome", self.history.submit(vec![update(id)].into())).await
    }
}

fn update(id: usize) -> Update {
    on_disk::update(&[0], id, 10)
}

fn name(id: usize) -> String {
    format!("id-{id}")
}

fn everything() -> Arc<Interest> {
    let all = Matchers::new([Matcher::Everything]);
    Arc::new(Interest::new(all, None, Rights::Everything))
}

#[test]
fn in_redis_a_condition_holds_or_nothing_is_stored() {
    let Some(redis) = Redis::start(&[]) else { return };
    let config = ProptestConfig { cases: 48, ..ProptestConfig::default() };
    let number = std::cell::Cell::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&(steps(),), |(steps,)| {
        number.set(number.get() + 1);
        let hub = number.get().to_string();
        let history = Shared::open(options(&redis, &hub)).expect("suitable");
        check_against(&history, Model::after(1 << NUMBER_BITS), &steps);
        Ok(())
    });
    outcome.expect("the model agrees");
}

#[tokio::test]
async fn all_nodes_have_the_same_order_and_each_acknowledged_event_once() {
    const EACH: usize = 200;
    let Some(redis) = Redis::start(&[]) else { return };
    let nodes: [Follows; 3] = std::array::from_fn(|_| node(options(&redis, "main")));
    let publish = async |at: usize| {
        for number in 0..EACH {
            let stored = nodes[at].publish(at * EACH + number).await;
            assert!(matches!(stored, Ok(Committed::Stored(_))), "{stored:?}");
        }
    };
    tokio::join!(publish(0), publish(1), publish(2), publish(0));
    let expected = 4 * EACH;
    for node in &nodes {
        node.history.current().await.expect("Redis answers");
        assert_eq!(node.ids().len(), expected);
        assert_eq!(node.ids(), nodes[0].ids());
    }
    let late = Shared::open(options(&redis, "main")).expect("suitable");
    let budget = Budget { events: usize::MAX, bytes: usize::MAX };
    let page = late.read_after(Position::START, &everything(), budget).await.expect("memory");
    let ids: Vec<_> = page.events.iter().map(|it| it.update.id.as_str().to_owned()).collect();
    assert_eq!(ids, nodes[0].ids(), "a node that starts reads the whole log");
}

#[tokio::test]
async fn a_killed_redis_that_syncs_loses_nothing_and_doubles_nothing() {
    let Some(mut redis) = Redis::start(SYNCED) else { return };
    let nodes: [Follows; 2] = std::array::from_fn(|_| node(options(&redis, "main")));
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let publishing = async {
            for number in 0..150 {
                let id = round * 1000 + number;
                let node = &nodes[number % 2];
                if let Ok(Committed::Stored(_)) = node.publish(id).await {
                    acknowledged.push(name(id));
                }
            }
        };
        tokio::select! {
            () = publishing => {}
            () = tokio::time::sleep(Duration::from_millis(40 + 20 * round as u64)) => {}
        }
        redis.kill();
        redis.restart();
        let back = nodes[0].publish(round * 1000 + 999).await;
        assert!(matches!(back, Ok(Committed::Stored(_))), "{back:?}");
        acknowledged.push(name(round * 1000 + 999));
    }
    for node in &nodes {
        node.history.current().await.expect("Redis answers");
        let ids = node.ids();
        let unique: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len(), "none twice");
        assert!(acknowledged.iter().all(|it| unique.contains(it)), "none lost");
        assert_eq!(ids, nodes[0].ids());
        assert_eq!(node.n_restarts(), 1, "only at the start");
    }
}
