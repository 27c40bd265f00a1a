//! A gateway that is killed repeatedly while publishers, subscribers and workers use it.
//!
//! `CRASH_ROUNDS=500 cargo test --test api crash::` runs more than the default 50 rounds.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use reqwest::Client;
use serde_json::{Value, json};
use tidegate_testkit::ports::free_port;
use tokio::task::JoinSet;

use crate::support::{
    DEADLINE, Gateway,
    sse::{Parser, Stream},
    text_at,
};

const PUBLISHERS: usize = 4;
const WORKERS: usize = 2;

fn rounds() -> usize {
    env::var("CRASH_ROUNDS").ok().and_then(|it| it.parse().ok()).unwrap_or(50)
}

/// The address of the gateway, and whether the test has ended.
struct World {
    address: String,
    is_over: AtomicBool,
    client: Client,
}

impl World {
    fn new() -> (Arc<Self>, Gateway) {
        let address = format!("127.0.0.1:{}", free_port());
        let gateway = Gateway::durable(&[("SERVER__LISTEN", &address)]);
        let client = Client::builder().pool_idle_timeout(Duration::from_millis(1));
        let client = client.read_timeout(DEADLINE).build().expect("an HTTP client");
        (Arc::new(Self { address, is_over: AtomicBool::new(false), client }), gateway)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    /// Sends JSON with a key until it is answered. Returns `None` if the test ends before.
    async fn send(&self, path: &str, key: &str, body: &Value) -> Option<Value> {
        loop {
            let request = self.client.post(self.url(path)).header("idempotency-key", key);
            if let Ok(reply) = request.json(body).send().await
                && reply.status().is_success()
                && let Ok(reply) = reply.json().await
            {
                return Some(reply);
            }
            if self.is_over() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Kills the gateway after a random short time, and starts it again.
    async fn crash(&self, gateway: Gateway) -> Gateway {
        tokio::time::sleep(Duration::from_micros(fastrand::u64(5_000..120_000))).await;
        let address = self.address.clone();
        let again = move || gateway.crash(&[("SERVER__LISTEN", &address)]);
        tokio::task::spawn_blocking(again).await.expect("it starts again")
    }
}

/// Publishes numbered updates, each until it is acknowledged. Returns the acknowledged ones.
async fn publish(world: Arc<World>, who: usize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut numbers = 0..;
    while !world.is_over()
        && let Some(at) = numbers.next()
    {
        let data = format!("{who} {at}");
        let body = json!({ "topics": ["t", format!("t{who}")], "data": data });
        match world.send("/events", &data, &body).await {
            Some(_) => acknowledged.push(data),
            None => break,
        }
    }
    acknowledged
}

/// Subscribes, and resumes with the last id after each end. Returns all that it received.
async fn listen(world: Arc<World>, until: &str) -> Vec<String> {
    let mut got = Vec::new();
    let mut last_id: Option<String> = None;
    loop {
        let mut request = world.client.get(world.url("/events?topic=t"));
        request = request.header("last-event-id", last_id.as_deref().unwrap_or("earliest"));
        if let Ok(mut response) = request.send().await
            && response.status() == 200
        {
            let mut parser = Parser::default();
            while let Ok(Some(bytes)) = response.chunk().await {
                for event in parser.feed(&bytes) {
                    assert_eq!(event.kind, "message", "{}", event.data);
                    last_id = Some(event.id);
                    if event.data == until {
                        return got;
                    }
                    got.push(event.data);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_and_nothing_comes_twice() {
    const END: &str = "the end";
    let (world, mut gateway) = World::new();
    let mut publishers = JoinSet::new();
    for who in 0..PUBLISHERS {
        publishers.spawn(publish(world.clone(), who));
    }
    let mut listeners = JoinSet::new();
    for _ in 0..3 {
        listeners.spawn(listen(world.clone(), END));
    }
    for _ in 0..rounds() {
        gateway = world.crash(gateway).await;
    }
    world.is_over.store(true, Relaxed);
    let acknowledged: Vec<String> = publishers.join_all().await.concat();
    gateway.publish("t", END).await;
    let mut all: Stream = gateway.open("/events?topic=t&last_event_id=earliest").await;
    let mut stored = Vec::new();
    loop {
        let event = all.next().await;
        assert_eq!(event.kind, "message");
        if event.data == END {
            break;
        }
        stored.push(event.data);
    }
    let distinct: BTreeSet<&String> = stored.iter().collect();
    assert_eq!(distinct.len(), stored.len(), "something is there twice");
    for data in &acknowledged {
        assert!(distinct.contains(data), "{data} was acknowledged, but it is not there");
    }
    let mut next: BTreeMap<&str, usize> = BTreeMap::new();
    for data in &stored {
        let (who, at) = data.split_once(' ').expect("who and number");
        let expected = next.entry(who).or_default();
        assert_eq!(at.parse(), Ok(*expected), "the order of publisher {who}");
        *expected += 1;
    }
    // One update of each publisher may have been stored without a reply.
    assert!(stored.len() <= acknowledged.len() + PUBLISHERS);
    let listened = tokio::time::timeout(DEADLINE, listeners.join_all()).await;
    for got in listened.expect("the end in time") {
        assert_eq!(got, stored);
    }
    eprintln!("{} updates, {} rounds", stored.len(), rounds());
}

/// What the workers did, by job.
type Done = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

async fn work(world: Arc<World>, done: Done) {
    while !world.is_over() {
        let claim = json!({ "types": ["t"], "wait": 1 });
        let reply = world.client.post(world.url("/jobs/claim")).json(&claim).send().await;
        let Ok(reply) = reply else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let Ok(claimed) = reply.json::<Value>().await else { continue };
        if claimed.get("lease").is_none() {
            continue;
        }
        let (id, lease) = (text_at(&claimed, "/job/id"), text_at(&claimed, "/lease"));
        let end = json!({ "result": lease });
        loop {
            let request = world.client.post(world.url(&format!("/jobs/{id}/complete")));
            let sent = request.header("tidegate-lease", &lease).json(&end).send().await;
            match sent.map(|it| it.status().as_u16()) {
                Ok(200) => {
                    done.lock().expect("no panic").entry(id).or_default().push(lease);
                    break;
                }
                Ok(503) | Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                Ok(status) => panic!("a worker with a lease was answered {status}"),
            }
        }
    }
}

async fn create(world: Arc<World>, who: usize) -> Vec<String> {
    let mut created = Vec::new();
    let mut numbers = 0..;
    while !world.is_over()
        && let Some(at) = numbers.next()
    {
        let job = json!({ "type": "t", "payload": at });
        match world.send("/jobs", &format!("job {who} {at}"), &job).await {
            Some(document) => created.push(text_at(&document, "/id")),
            None => break,
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    created
}

#[tokio::test(flavor = "multi_thread")]
async fn no_job_is_lost_and_none_is_done_twice() {
    let (world, mut gateway) = World::new();
    let done = Done::default();
    let mut creators = JoinSet::new();
    let mut workers = JoinSet::new();
    for who in 0..WORKERS {
        creators.spawn(create(world.clone(), who));
        workers.spawn(work(world.clone(), done.clone()));
    }
    for _ in 0..rounds() {
        gateway = world.crash(gateway).await;
    }
    world.is_over.store(true, Relaxed);
    let created: Vec<String> = creators.join_all().await.concat();
    workers.join_all().await;
    let done = std::mem::take(&mut *done.lock().expect("no panic"));
    let distinct: BTreeSet<&String> = created.iter().collect();
    assert_eq!(distinct.len(), created.len(), "two requests made one job");
    for (id, leases) in &done {
        let [lease] = &leases[..] else { panic!("job {id} was done by {leases:?}") };
        let result = gateway.get(&format!("/jobs/{id}/result")).await;
        let result = result.text().await.expect("text");
        assert_eq!(result, format!("\"{lease}\""), "job {id}");
    }
    let mut states: BTreeMap<String, usize> = BTreeMap::new();
    for id in &created {
        let state = text_at(&gateway.status(id).await, "/state");
        // A job whose claim was not answered runs until its lease expires.
        assert!(["queued", "running", "succeeded"].contains(&&*state), "job {id} is {state}");
        *states.entry(state).or_default() += 1;
    }
    let succeeded = states.get("succeeded").copied().unwrap_or_default();
    assert!(done.len() <= succeeded, "{states:?}");
    eprintln!("{} jobs, {states:?}, {} rounds", created.len(), rounds());
}
