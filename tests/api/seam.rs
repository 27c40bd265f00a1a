//! Several nodes on one log that learns late, refuses at random and forgets answers: jobs, keys of
//! requests and subscribers are as on one.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tidegate_core::{
    clock::Clock,
    event::{Event, Position},
    history::{Batch, Budget, Committed, KeyedReply, Missing, Start, locate_current},
    hub::{Hub, PublishError},
    jobs::{
        AskLimits, Created, JobError, JobOptions, JobState, NewJob, OnEnd, Outcome, Rules, Tracker,
    },
    matching::{Interest, Matcher, Matchers, Rights},
};
use tidegate_testkit::deadline::eventually;
use tidegate_testkit::library::update;

use crate::support::fickle::{Faults, Shared};

const FAULTS: Faults = Faults { conflicts: 10, forgotten: 5 };

fn options() -> JobOptions {
    let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
    JobOptions {
        rules: Rules {
            lease: 60 * second,
            max_attempts: 3,
            backoff: Duration::from_millis(1),
            max_backoff: second,
            log_grace: second,
            max_asks: 9,
            ask_time: hour,
        },
        rules_by_type: BTreeMap::new(),
        progress_interval: Duration::ZERO,
        succeeded_retention: hour,
        failed_retention: hour,
        max_jobs: 10_000,
        max_bytes: 1 << 30,
        tombstones: 10_000,
        log_bytes: 1 << 16,
        asking: AskLimits {
            fields: 9,
            choices: 9,
            question_bytes: 9999,
            answer_bytes: 9999,
            waiting: 9999,
        },
    }
}

/// One node, and the ends of jobs that it has reported.
struct Node {
    hub: Hub,
    tracker: Tracker,
    ended: Arc<Mutex<Vec<String>>>,
}

fn node(shared: &Shared, options: JobOptions) -> Node {
    let hub = Hub::start(Arc::new(shared.node()), 1 << 20, false).expect("a hub");
    let ended = Arc::new(Mutex::new(Vec::new()));
    let on_end = {
        let ended = ended.clone();
        OnEnd::new(move |job, _| ended.lock().expect("no panic").push(job.id.clone()))
    };
    let tracker = Tracker::start(hub.clone(), options, Clock::system(), on_end);
    Node { tracker: tracker.expect("a tracker"), hub, ended }
}

/// Everything in a node's history, oldest first.
async fn everything(hub: &Hub, topics: &[String]) -> Vec<Arc<Event>> {
    let exact = topics.iter().map(|topic| Matcher::exact(topic, 99).expect("a topic"));
    let matchers = Matchers::new(exact.chain([Matcher::Everything]));
    let interest = Arc::new(Interest::new(matchers, None, Rights::Everything));
    let (mut events, mut after, mut more) = (Vec::new(), Position::START, true);
    hub.history().current().await.expect("memory");
    while more {
        let budget = Budget { events: 1000, bytes: usize::MAX };
        let page = hub.history().read_after(after, &interest, budget).await.expect("memory");
        events.extend(page.events);
        (after, more) = (page.scanned_to, page.more);
    }
    events
}

/// Repeats a call while its outcome is unknown, as a client does.
async fn surely<T>(mut call: impl AsyncFnMut() -> Result<T, JobError>) -> Result<T, JobError> {
    for _ in 0..100 {
        match call().await {
            Err(JobError::Publish(PublishError::History(_)) | JobError::Contended) => {}
            outcome => return outcome,
        }
    }
    panic!("it is never carried out")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_has_one_worker_at_a_time_and_one_end_whichever_node_is_asked() {
    const JOBS: usize = 40;
    let shared = Shared::new(usize::MAX, FAULTS);
    let nodes: [Arc<Node>; 3] = std::array::from_fn(|_| Arc::new(node(&shared, options())));
    let mut ids = Vec::new();
    for number in 0..JOBS {
        let title = number.to_string();
        let new =
            NewJob { kind: "t".to_owned(), title, payload: None, key: Some(number.to_string()) };
        let job = async |node: &Node| {
            surely(async || node.tracker.create(new.clone()).await).await.expect("a job").0.id
        };
        // Two nodes are asked for one job.
        let (a, b) = (&nodes[number % 3], &nodes[(number + 1) % 3]);
        let (one, other) = tokio::join!(job(a), job(b));
        assert_eq!(one, other, "one job of this key");
        ids.push(one);
    }
    let (mut workers, local) = (Vec::new(), tokio::task::LocalSet::new());
    for worker in 0..6 {
        let nodes = nodes.clone();
        workers.push(local.spawn_local(async move {
            let mut n_done = 0;
            loop {
                let own = &nodes[worker % 3].tracker;
                let wait = Duration::from_millis(300);
                let kinds = ["t".to_owned()];
                let claimed = surely(async || own.claim(&kinds, wait).await).await;
                let Some(claimed) = claimed.expect("a claim") else { return n_done };
                // Reports go to any node.
                let (id, lease) = (claimed.job.id, claimed.lease);
                let any = || &nodes[fastrand::usize(..3)].tracker;
                let log = surely(async || {
                    any().append_log(&id, lease.clone(), 0, format!("{lease}\n")).await
                });
                log.await.expect("its lease is good");
                let link = Outcome::Link(format!("/{lease}"));
                let done = surely(async || any().complete(&id, lease.clone(), link.clone()).await);
                assert_eq!(done.await.expect("its lease is good").state, JobState::Succeeded);
                n_done += 1;
            }
        }));
    }
    let mut n_done = 0;
    local.await;
    for worker in workers {
        n_done += worker.await.expect("no panic");
    }
    // A claim whose answer is lost leaves a job running until its lease expires.
    let states = async |node: &Node| {
        let mut states = Vec::new();
        for id in &ids {
            let job = node.tracker.job(id).await.expect("it is there");
            let log = String::from_utf8(job.log.read(0, usize::MAX)).expect("text");
            states.push((job.state, job.version, job.attempt, log));
        }
        states
    };
    let expected = states(&nodes[0]).await;
    for node in &nodes[1..] {
        eventually("the nodes agree", async || states(node).await == expected).await;
    }
    let is_done = |it: &&(JobState, u64, u32, String)| it.0 == JobState::Succeeded;
    assert_eq!(expected.iter().filter(is_done).count(), n_done);
    assert!(JOBS / 2 < n_done, "only {n_done}");
    let told = nodes.iter().flat_map(|it| it.ended.lock().expect("no panic").clone());
    let told: Vec<String> = told.collect();
    assert_eq!(told.len(), n_done, "one node reports the end, even if it did not learn of it");
    assert_eq!(told.iter().collect::<HashSet<_>>().len(), n_done);
    let topics: Vec<String> = ids.iter().map(|id| format!("/jobs/{id}")).collect();
    for node in &nodes {
        let mut versions: HashMap<String, u64> = HashMap::new();
        for event in everything(&node.hub, &topics).await {
            let kind = event.update.kind.as_ref().map_or("", |it| it.as_str());
            if !["job.state", "job.done"].contains(&kind) {
                continue;
            }
            let status: Value = serde_json::from_str(&event.update.data).expect("JSON");
            let (id, version) = (status["id"].to_string(), status["version"].as_u64());
            let before = versions.insert(id, version.expect("a number"));
            assert!(before < version, "every change is made on the newest state");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_used_once_over_all_nodes_and_has_one_reply() {
    let shared = Shared::new(usize::MAX, FAULTS);
    let hubs: [Hub; 3] = std::array::from_fn(|_| {
        Hub::start(Arc::new(shared.node()), 1 << 20, false).expect("a hub")
    });
    for number in 0..60 {
        let publish = async |hub: &Hub| {
            loop {
                let own = format!("{number} {}", fastrand::u64(..));
                let reply =
                    KeyedReply { key: format!("key {number}"), value: own.as_bytes().into() };
                let updates = vec![update("t", own.clone())];
                let batch = Batch { updates, replies: vec![reply], ..Batch::default() };
                match hub.submit(batch).await {
                    Ok(Committed::Stored(_)) => return own.into_bytes().into_boxed_slice(),
                    Ok(Committed::Already(reply)) => return reply,
                    Ok(Committed::Conflict(_)) => panic!("there is no condition"),
                    Err(_) => {}
                }
            }
        };
        let [a, b, c] = &hubs;
        let (a, b, c) = tokio::join!(publish(a), publish(b), publish(c));
        assert!(a == b && b == c);
    }
    for hub in &hubs {
        let events = everything(hub, &[]).await;
        let numbers = events.iter().map(|it| it.update.data.split(' ').next().expect("a number"));
        let expected: Vec<String> = (0..60).map(|it| it.to_string()).collect();
        assert_eq!(numbers.collect::<Vec<_>>(), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_from_one_node_is_known_at_once_on_another() {
    let shared = Shared::new(usize::MAX, Faults { conflicts: 0, forgotten: 0 });
    let [one, other]: [Hub; 2] = std::array::from_fn(|_| {
        Hub::start(Arc::new(shared.node()), 1 << 20, false).expect("a hub")
    });
    let matchers = Matchers::new([Matcher::Everything]);
    let interest = Arc::new(Interest::new(matchers, None, Rights::Everything));
    for number in 0..50 {
        let update = update("t", number.to_string());
        let id = update.id.clone();
        one.publish(vec![update]).await.expect("published");
        let start = Start::Id(id);
        let located = locate_current(other.history(), start, &interest).await.expect("memory");
        assert_eq!((located.after, located.missing), (Position(number + 1), None));
        let ahead = Start::Position(Position(number + 2));
        let located = locate_current(other.history(), ahead, &interest).await.expect("memory");
        assert_eq!(located.missing, Some(Missing::Unknown), "it was never there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn room_for_jobs_is_made_once_and_a_repeated_creation_is_the_same_job() {
    let shared = Shared::new(usize::MAX, FAULTS);
    let few = JobOptions { max_jobs: 5, ..options() };
    let nodes: [Node; 2] = std::array::from_fn(|_| node(&shared, few.clone()));
    let mut ids = Vec::new();
    for number in 0..30 {
        let title = number.to_string();
        let new = NewJob { kind: "t".to_owned(), title, payload: None, key: None };
        let node = &nodes[number % 2].tracker;
        let keep = move |id: &str| KeyedReply {
            key: format!("create {number}"),
            value: id.as_bytes().into(),
        };
        let create = async || node.create_and_keep(new.clone(), Some(Box::new(keep))).await;
        let id = match surely(create).await.expect("room") {
            Created::New(job) | Created::Found(job) => job.id,
            Created::Already(reply) => String::from_utf8(reply.into_vec()).expect("an id"),
        };
        // The other node ends it.
        let other = &nodes[(number + 1) % 2].tracker;
        surely(async || other.cancel(&id).await).await.expect("it can be cancelled");
        ids.push(id);
    }
    for node in &nodes {
        let newest = ids.last().expect("some");
        eventually("it is ended", async || {
            node.tracker.job(newest).await.is_ok_and(|it| it.state == JobState::Cancelled)
        })
        .await;
        let listed = node.tracker.list(None, 99, |_| true).await;
        assert!(listed.len() <= 6, "{}", listed.len());
        let first = node.tracker.job(&ids[0]).await;
        assert!(matches!(first, Err(JobError::Gone)), "{first:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_begin_and_the_end_of_a_subscription_are_announced_once() {
    use tidegate_core::subscriptions::{self, Names, Newcomer, Signs};
    let shared = Shared::new(usize::MAX, Faults { conflicts: 0, forgotten: 30 });
    let hub = Hub::start(Arc::new(shared.node()), 1 << 20, false).expect("a hub");
    let names = Names { root: "/subscriptions".to_owned(), has_old: false };
    let registry = subscriptions::start(&hub, names, 1000, Duration::ZERO).expect("a thread");
    let matchers = Matchers::new([Matcher::exact("a", 9).expect("valid")]);
    for _ in 0..20 {
        let signs = Signs { subject: None, key: None, session: None };
        let newcomer = Newcomer::new(&matchers, signs, |_| None).expect("a matcher");
        drop(registry.join(newcomer).expect("room"));
    }
    eventually("all are announced", async || 40 <= hub.n_events()).await;
    hub.history().current().await.expect("memory");
    let mut active = HashMap::new();
    for event in everything(&hub, &[]).await {
        let document: Value = serde_json::from_str(&event.update.data).expect("JSON");
        let is_active = document["active"] == true;
        let before = active.insert(document["subscriber"].to_string(), is_active);
        assert_eq!(before, (!is_active).then_some(true), "{document}");
    }
    assert_eq!(active.len(), 20);
}
