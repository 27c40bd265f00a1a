//! Jobs that several clients create, work on, cancel and retry, while the gateway is killed
//! repeatedly. A subscriber follows their events.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    crash::{World, agreed, claim, listen, rounds},
    support::{Gateway, text_at},
};

/// The names by which at most one unfinished job exists. So few that creators meet.
const KEYS: usize = 8;
const CREATORS: usize = 3;
const WORKERS: usize = 4;
const MEDDLERS: usize = 3;

/// Long enough for a job to be done.
const LATEST: Duration = Duration::from_millis(300);

/// A change of each job is one event: progress is announced each time. A retried job waits for no
/// back-off, and some leases expire.
const SETTINGS: [(&str, &str); 3] =
    [("JOBS__PROGRESS_INTERVAL", "0s"), ("JOBS__BACKOFF", "1ms"), ("JOBS__LEASE", "1s")];

/// What the gateway has acknowledged.
#[derive(Debug, Default)]
struct Acknowledged {
    /// The job of each request to create one.
    created: BTreeMap<String, (Value, String)>,
    /// Status documents in replies, by job and version.
    seen: BTreeMap<(String, u64), Value>,
    /// The leases of each job.
    claimed: BTreeMap<String, BTreeSet<String>>,
    /// The messages of progress reports, by job.
    reported: Vec<(String, String)>,
    /// The lease that completed a job.
    completed: BTreeMap<String, String>,
}

struct Shop {
    world: Arc<World>,
    acknowledged: Mutex<Acknowledged>,
}

impl Shop {
    fn note(&self, note: impl FnOnce(&mut Acknowledged)) {
        note(&mut self.acknowledged.lock().expect("no panic"));
    }

    /// Notes the status document of a job that a reply has.
    fn note_status(&self, status: &Value) {
        let version = status["version"].as_u64().expect("a version");
        self.note(|it| {
            it.seen.insert((text_at(status, "/id"), version), status.clone());
        });
    }

    /// The newest acknowledged version of each job.
    fn newest(&self) -> BTreeMap<String, u64> {
        let acknowledged = self.acknowledged.lock().expect("no panic");
        // In the order of versions, so the newest one remains.
        acknowledged.seen.keys().cloned().collect()
    }

    fn any_job(&self) -> Option<String> {
        let acknowledged = self.acknowledged.lock().expect("no panic");
        fastrand::choice(acknowledged.created.values()).map(|(_, id)| id.clone())
    }
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(fastrand::u64(1..8))).await;
}

/// Creates jobs, each under an idempotency key and one of few keys of jobs.
async fn create(shop: Arc<Shop>, who: usize) {
    for at in 0.. {
        let name = format!("key {}", fastrand::usize(..KEYS));
        let job = json!({ "type": "t", "title": name, "key": name });
        let key = format!("creator {who} {at}");
        let Some(status) = shop.world.send("/jobs", &key, &job).await else { return };
        shop.note_status(&status);
        shop.note(|it| {
            it.created.insert(key, (job, text_at(&status, "/id")));
        });
        pause().await;
        if shop.world.is_over() {
            return;
        }
    }
}

/// Claims jobs, reports progress a few times, and then completes the job, fails it, or falls
/// silent.
async fn work(shop: Arc<Shop>) {
    while !shop.world.is_over() {
        let Some((id, lease)) = claim(&shop.world).await else { continue };
        shop.note(|it| {
            let is_new = it.claimed.entry(id.clone()).or_default().insert(lease.clone());
            assert!(is_new, "a lease was given twice");
        });
        let mut is_held = true;
        for seq in 1..=fastrand::u64(0..4) {
            let message = format!("{lease} {seq}");
            let report = json!({ "seq": seq, "done": seq, "total": 4, "message": message });
            is_held = match report_to(&shop.world, &id, &lease, "progress", &report).await {
                Some(is_accepted) => is_accepted,
                None => return,
            };
            if !is_held {
                break;
            }
            shop.note(|it| it.reported.push((id.clone(), message)));
        }
        if !is_held {
            continue;
        }
        match fastrand::u8(..8) {
            0 => {}
            1..4 => {
                let failure =
                    json!({ "problem": { "title": "No" }, "retryable": fastrand::bool() });
                report_to(&shop.world, &id, &lease, "fail", &failure).await;
            }
            _ => {
                let end = json!({ "result": lease });
                if report_to(&shop.world, &id, &lease, "complete", &end).await == Some(true) {
                    shop.note(|it| assert_eq!(it.completed.insert(id, lease), None));
                }
            }
        }
    }
}

/// Sends a report. Returns whether it was accepted or the lease is stale, or `None` if the test
/// ends before.
async fn report_to(
    world: &World,
    id: &str,
    lease: &str,
    what: &str,
    report: &Value,
) -> Option<bool> {
    let path = format!("/jobs/{id}/{what}");
    match world.ask(&path, ("tidegate-lease", lease), report).await? {
        (200, _) => Some(true),
        (409, _) => Some(false),
        (status, reply) => panic!("{path}: {status}, {reply}"),
    }
}

/// Cancels and retries jobs that exist.
async fn meddle(shop: Arc<Shop>) {
    while !shop.world.is_over() {
        pause().await;
        let Some(id) = shop.any_job() else { continue };
        let path = format!("/jobs/{id}/{}", fastrand::choice(["cancel", "retry"]).expect("one"));
        let Some((status, reply)) = shop.world.ask(&path, ("accept", "*/*"), &json!({})).await
        else {
            return;
        };
        match status {
            200 | 202 => shop.note_status(&reply),
            409 => {}
            _ => panic!("{path}: {status}, {reply}"),
        }
    }
}

/// The parts of a status document that do not depend on when it was made.
fn lasting(status: &Value) -> Value {
    let mut status = status.clone();
    status.as_object_mut().expect("an object").remove("now");
    status
}

/// Checks that events are changes of jobs in the order of their versions, and that no two
/// unfinished jobs have one key. Returns the document of each version.
fn versions(events: &[Value]) -> BTreeMap<String, Vec<Value>> {
    let mut versions: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut holders: BTreeMap<String, String> = BTreeMap::new();
    for status in events {
        let (id, key) = (text_at(status, "/id"), text_at(status, "/title"));
        let of_job = versions.entry(id.clone()).or_default();
        assert_eq!(status["version"], of_job.len() + 1, "one event for each version of {id}");
        of_job.push(status.clone());
        if ["queued", "running", "cancelling"].contains(&&*text_at(status, "/state")) {
            let holder = holders.entry(key).or_insert_with(|| id.clone());
            assert_eq!(*holder, id, "two unfinished jobs have one key");
        } else if holders.get(&key) == Some(&id) {
            holders.remove(&key);
        }
    }
    versions
}

/// Checks what was acknowledged against the stored versions of each job.
fn check(acknowledged: &Acknowledged, stored: &BTreeMap<String, Vec<Value>>) {
    for ((id, version), status) in &acknowledged.seen {
        let at = usize::try_from(*version).expect("few versions") - 1;
        let kept = stored.get(id).and_then(|it| it.get(at));
        let kept = kept.unwrap_or_else(|| panic!("{id} has no version {version}"));
        assert_eq!(lasting(status), lasting(kept), "version {version} of {id}");
    }
    for (id, leases) in &acknowledged.claimed {
        // An attempt without an acknowledged lease is one whose reply was cut off.
        let attempts: BTreeSet<u64> = stored[id]
            .iter()
            .filter_map(|it| it["attempt"].as_u64())
            .filter(|it| 0 < *it)
            .collect();
        assert!(leases.len() <= attempts.len(), "{leases:?}, {attempts:?}");
    }
    for (id, message) in &acknowledged.reported {
        let is_kept = stored[id].iter().any(|it| it["progress"]["message"] == **message);
        assert!(is_kept, "the report {message} of {id} was acknowledged");
    }
    for id in acknowledged.completed.keys() {
        let last = stored[id].last().expect("a version");
        assert_eq!(last["state"], "succeeded", "{id}");
    }
}

/// Checks that each job is at its acknowledged version or a later one.
async fn check_newest(gateway: &Gateway, newest: BTreeMap<String, u64>) {
    for (id, version) in newest {
        let status = gateway.status(&id).await;
        assert!(Some(version) <= status["version"].as_u64(), "{id}: {version}, now {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_change_of_a_job_is_kept_and_announced_once() {
    const PATH: &str = "/events?topic=*";
    let (world, mut gateway) = World::new(&SETTINGS);
    let shop = Arc::new(Shop { world: world.clone(), acknowledged: Mutex::default() });
    let mut clients = JoinSet::new();
    for who in 0..CREATORS {
        clients.spawn(create(shop.clone(), who));
    }
    for _ in 0..WORKERS {
        clients.spawn(work(shop.clone()));
    }
    for _ in 0..MEDDLERS {
        clients.spawn(meddle(shop.clone()));
    }
    let mut listeners = JoinSet::new();
    for _ in 0..2 {
        listeners.spawn(listen(world.clone(), PATH));
    }
    for _ in 0..rounds() {
        let mut before = shop.newest();
        gateway = world.crash(gateway, LATEST).await;
        // All of them are checked at the end.
        while 20 < before.len() {
            before.pop_first();
        }
        check_newest(&gateway, before).await;
    }
    world.end();
    clients.join_all().await;
    let acknowledged = std::mem::take(&mut *shop.acknowledged.lock().expect("no panic"));
    // No lease is left that could expire later.
    for id in acknowledged.created.values().map(|(_, id)| id) {
        until_idle(&world, &gateway, id).await;
    }
    world.publish_the_end().await;
    let stored = agreed(&world, PATH, listeners).await;
    let events: Vec<Value> = stored.iter().map(|it| document(&it.data)).collect();
    let stored = versions(&events);
    check(&acknowledged, &stored);
    for (id, versions) in &stored {
        let last = versions.last().expect("a version");
        assert_eq!(lasting(&gateway.status(id).await), lasting(last), "{id}");
    }
    for (id, lease) in &acknowledged.completed {
        let result = gateway.get(&format!("/jobs/{id}/result")).await;
        assert_eq!(result.text().await.expect("text"), format!("\"{lease}\""), "{id}");
    }
    for (key, (job, id)) in &acknowledged.created {
        let again = world.send("/jobs", key, job).await.expect("the gateway runs");
        assert_eq!(again["id"], **id, "the reply to {key}");
    }
    let log = gateway.log();
    assert!(!log.contains("panicked") && !log.contains(" ERROR "), "{log}");
    eprintln!(
        "{} jobs, {} changes, {} acknowledged, {} claims, {} completed, {} rounds",
        stored.len(),
        events.len(),
        acknowledged.seen.len(),
        acknowledged.claimed.values().map(BTreeSet::len).sum::<usize>(),
        acknowledged.completed.len(),
        rounds()
    );
}

fn document(data: &str) -> Value {
    serde_json::from_str(data).expect("a status document")
}

/// Waits until a job is queued or has ended.
async fn until_idle(world: &World, gateway: &Gateway, id: &str) {
    loop {
        let state = text_at(&gateway.status(id).await, "/state");
        if !["running", "cancelling"].contains(&&*state) {
            return;
        }
        let path = format!("/jobs/{id}/cancel");
        world.ask(&path, ("accept", "*/*"), &json!({})).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
