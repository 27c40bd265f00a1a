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

use reqwest::{
    Client,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use serde_json::{Value, json};
use tidegate_testkit::ports::free_port;
use tokio::task::JoinSet;

use crate::support::{
    DEADLINE, Gateway,
    sse::{Dispatched, Parser},
    text_at,
    tokens::{PUBLISHER_KEY, sign},
};

/// The data of the last event.
pub(crate) const END: &str = "the end";

/// When a gateway is killed at the latest, counted from its start.
const SOON: Duration = Duration::from_millis(120);

const PUBLISHERS: usize = 4;
const WORKERS: usize = 2;

pub(crate) fn rounds() -> usize {
    env::var("CRASH_ROUNDS").ok().and_then(|it| it.parse().ok()).unwrap_or(50)
}

/// The address of the gateway, its settings, and whether the test has ended.
pub(crate) struct World {
    settings: Vec<(&'static str, String)>,
    is_over: AtomicBool,
    pub(crate) client: Client,
}

impl World {
    /// A gateway with a key and further settings. The client's token grants everything.
    pub(crate) fn new(more: &[(&'static str, &str)]) -> (Arc<Self>, Gateway) {
        let address = format!("127.0.0.1:{}", free_port());
        let mut settings = vec![
            ("SERVER__LISTEN", address),
            ("AUTH__PUBLISHER_KEY", PUBLISHER_KEY.to_owned()),
            ("AUTH__SUBSCRIBER_KEY", PUBLISHER_KEY.to_owned()),
        ];
        settings.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let everything = json!({ "mercure": { "publish": ["*"], "subscribe": ["*"] } });
        let token = format!("Bearer {}", sign(Some("JWT"), &everything, PUBLISHER_KEY));
        let token = HeaderValue::try_from(token).expect("a token has no control characters");
        let client = Client::builder().pool_idle_timeout(Duration::from_millis(1)).no_proxy();
        let client = client.default_headers(HeaderMap::from_iter([(AUTHORIZATION, token)]));
        let client = client.read_timeout(DEADLINE).build().expect("an HTTP client");
        let world = Self { settings, is_over: AtomicBool::new(false), client };
        let gateway = Gateway::durable(&world.settings());
        (Arc::new(world), gateway)
    }

    fn settings(&self) -> Vec<(&str, &str)> {
        self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.settings[0].1)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    /// Ends what runs until the test has ended.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Relaxed);
    }

    /// Sends JSON and a header, again and again until a process answers it. Returns the status and
    /// the reply, or `None` if the test ends before.
    pub(crate) async fn ask(
        &self,
        path: &str,
        (name, value): (&str, &str),
        body: &Value,
    ) -> Option<(u16, Value)> {
        loop {
            let request = self.client.post(self.url(path)).header(name, value).json(body);
            if let Ok(reply) = request.send().await {
                let status = reply.status().as_u16();
                // The reply may have been cut off.
                if let Ok(text) = reply.text().await
                    && status != 503
                {
                    return Some((status, serde_json::from_str(&text).unwrap_or_default()));
                }
            }
            if self.is_over() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sends JSON with a key until it is accepted. Returns `None` if the test ends before.
    pub(crate) async fn send(&self, path: &str, key: &str, body: &Value) -> Option<Value> {
        let (status, reply) = self.ask(path, ("idempotency-key", key), body).await?;
        assert!((200..300).contains(&status), "{path} with {key}: {status}, {reply}");
        Some(reply)
    }

    /// Kills the gateway after a random time, and starts it again.
    pub(crate) async fn crash(self: &Arc<Self>, gateway: Gateway, latest: Duration) -> Gateway {
        const EARLIEST: Duration = Duration::from_millis(5);
        tokio::time::sleep(EARLIEST + (latest - EARLIEST).mul_f64(fastrand::f64())).await;
        let world = self.clone();
        let again = move || gateway.crash(&world.settings());
        tokio::task::spawn_blocking(again).await.expect("it starts again")
    }

    /// Publishes the last event.
    pub(crate) async fn publish_the_end(&self) {
        let body = json!({ "topics": ["t"], "data": END });
        self.send("/events", END, &body).await.expect("the gateway runs");
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

/// Subscribes from the earliest event on, and resumes with the last id after each end. Returns all
/// that it received before [`END`].
pub(crate) async fn listen(world: Arc<World>, path: &str) -> Vec<Dispatched> {
    let mut got = Vec::new();
    let mut last_id: Option<String> = None;
    loop {
        let mut request = world.client.get(world.url(path));
        request = request.header("last-event-id", last_id.as_deref().unwrap_or("earliest"));
        if let Ok(mut response) = request.send().await
            && response.status() == 200
        {
            let mut parser = Parser::default();
            while let Ok(Some(bytes)) = response.chunk().await {
                for event in parser.feed(&bytes) {
                    assert_ne!(event.kind, "tidegate.gap", "{}", event.data);
                    last_id = Some(event.id.clone());
                    if event.data == END {
                        return got;
                    }
                    got.push(event);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Returns what several listeners have received, which is what is stored.
pub(crate) async fn agreed(
    world: &Arc<World>,
    path: &str,
    listeners: JoinSet<Vec<Dispatched>>,
) -> Vec<Dispatched> {
    let listened = tokio::time::timeout(DEADLINE, listeners.join_all()).await;
    let stored = tokio::time::timeout(DEADLINE, listen(world.clone(), path)).await;
    let stored = stored.expect("the end in time");
    for got in listened.expect("the end in time") {
        assert_eq!(got, stored, "what was announced is what is stored");
    }
    stored
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_and_nothing_comes_twice() {
    const PATH: &str = "/events?topic=t";
    let (world, mut gateway) = World::new(&[]);
    let mut publishers = JoinSet::new();
    for who in 0..PUBLISHERS {
        publishers.spawn(publish(world.clone(), who));
    }
    let mut listeners = JoinSet::new();
    for _ in 0..3 {
        listeners.spawn(listen(world.clone(), PATH));
    }
    for _ in 0..rounds() {
        gateway = world.crash(gateway, SOON).await;
    }
    world.end();
    let acknowledged: Vec<String> = publishers.join_all().await.concat();
    world.publish_the_end().await;
    let stored = agreed(&world, PATH, listeners).await;
    let stored: Vec<String> = stored.into_iter().map(|it| it.data).collect();
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
    eprintln!("{} updates, {} rounds", stored.len(), rounds());
}

/// What the workers did, by job.
type Done = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

async fn work(world: Arc<World>, done: Done) {
    while !world.is_over() {
        let Some((id, lease)) = claim(&world).await else { continue };
        let path = format!("/jobs/{id}/complete");
        let end = json!({ "result": lease });
        match world.ask(&path, ("tidegate-lease", &lease), &end).await {
            Some((200, _)) => done.lock().expect("no panic").entry(id).or_default().push(lease),
            Some((status, reply)) => panic!("a worker with a lease: {status}, {reply}"),
            None => break,
        }
    }
}

/// Tries to claim a job. Returns its id and the lease.
pub(crate) async fn claim(world: &World) -> Option<(String, String)> {
    let claim = json!({ "types": ["t"], "wait": 1 });
    let reply = world.client.post(world.url("/jobs/claim")).json(&claim).send().await;
    let Ok(reply) = reply else {
        tokio::time::sleep(Duration::from_millis(5)).await;
        return None;
    };
    let claimed = reply.json::<Value>().await.ok().filter(|it| it.get("lease").is_some())?;
    Some((text_at(&claimed, "/job/id"), text_at(&claimed, "/lease")))
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
    let (world, mut gateway) = World::new(&[]);
    let done = Done::default();
    let mut creators = JoinSet::new();
    let mut workers = JoinSet::new();
    for who in 0..WORKERS {
        creators.spawn(create(world.clone(), who));
        workers.spawn(work(world.clone(), done.clone()));
    }
    for _ in 0..rounds() {
        gateway = world.crash(gateway, SOON).await;
    }
    world.end();
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
