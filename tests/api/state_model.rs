//! The state of topics against naive models: over several nodes on one log, and in pages that lose
//! and repeat what they hear.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Map, Value, json};
use tidegate_core::{
    clock::Clock,
    event::{ClientKey, Event, Position, Topic},
    history::{Budget, History, Memory, Retention},
    hub::Hub,
    matching::{Interest, Matcher, Matchers, Rights},
    state::{
        Change, Did, Member, Members, MergePatch, StateError, StateOptions, States, Step, View,
        Work,
    },
};
use tidegate_testkit::deadline::eventually;

use crate::support::fickle::{Faults, Shared};

const TOPICS: [&str; 3] = ["/rooms/1", "/rooms/2", "/rooms/3"];

fn topic(text: &str) -> Topic {
    Topic::parse(text, 99).expect("a topic")
}

fn client(key: &str) -> ClientKey {
    ClientKey::parse("client", key, 99).expect("a key")
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(object) = value else { panic!("{value} is no object") };
    object
}

/// Applies a merge patch, as RFC 7396 writes it down.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().expect("an object");
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// A page's view of a topic, by the rules of docs/state.md.
#[derive(Debug, Clone, PartialEq)]
struct Page {
    rev: u64,
    state: Value,
    members: Value,
}

impl Page {
    fn empty() -> Self {
        Self { rev: 0, state: json!({}), members: json!({}) }
    }

    fn of(view: &View) -> Self {
        let Members::Listed(members) = &view.members else { panic!("they are counted") };
        let mut members = serde_json::to_value(members).expect("JSON");
        // In a patch, a user that is `null` is none.
        for member in members.as_object_mut().expect("an object").values_mut() {
            member.as_object_mut().expect("an object").retain(|_, it| !it.is_null());
        }
        let state = serde_json::to_value(&view.state).expect("JSON");
        Self { rev: view.rev, state, members }
    }

    /// Applies a change if it is the next one. Returns whether the page has to load again.
    fn hear(&mut self, change: &Value) -> bool {
        let rev = change["rev"].as_u64().expect("a number");
        if rev != self.rev + 1 {
            return self.rev < rev;
        }
        self.rev = rev;
        if let Some(patch) = change.get("state") {
            merge(&mut self.state, patch);
        }
        if let Some(patch) = change.get("members") {
            merge(&mut self.members, patch);
        }
        false
    }
}

/// The changes of all topics that a node has, in order.
async fn changes(hub: &Hub) -> Vec<(String, Value)> {
    let matchers = Matchers::new([Matcher::Everything]);
    let interest = Arc::new(Interest::new(matchers, None, Rights::Everything));
    let (mut events, mut after, mut more) = (Vec::<Arc<Event>>::new(), Position::START, true);
    hub.history().current().await.expect("memory");
    while more {
        let budget = Budget { events: 1000, bytes: usize::MAX };
        let page = hub.history().read_after(after, &interest, budget).await.expect("memory");
        events.extend(page.events);
        (after, more) = (page.scanned_to, page.more);
    }
    let change = |it: Arc<Event>| {
        assert_eq!(it.update.kind.as_ref().map(|it| it.as_str()), Some("tidegate.change"));
        let data = serde_json::from_str(&it.update.data).expect("JSON");
        (it.update.topics[0].as_str().to_owned(), data)
    };
    events.into_iter().map(change).collect()
}

/// A random object with few names, so that changes meet.
fn random_object(depth: usize, may_be_null: bool) -> Map<String, Value> {
    let value = || match fastrand::u32(..6) {
        0 if may_be_null => Value::Null,
        1 | 2 if 0 < depth => random_object(depth - 1, may_be_null).into(),
        3 => json!([1, null, { "a": null }]),
        _ => fastrand::u32(..4).into(),
    };
    (0..fastrand::usize(..4))
        .map(|_| (fastrand::choice(["a", "b", "c"]).unwrap_or("a").to_owned(), value()))
        .collect()
}

fn random_change(unique: u32) -> Change {
    match fastrand::u32(..10) {
        0 => Change::Delete,
        1 | 2 => {
            let mut object = random_object(2, true);
            object.insert("unique".to_owned(), unique.into());
            Change::Replace(object.into())
        }
        _ => {
            let mut patch = random_object(2, true);
            patch.insert("unique".to_owned(), unique.into());
            Change::Patch(MergePatch::from(patch))
        }
    }
}

fn start(history: Arc<dyn History>) -> (Hub, States) {
    let hub = Hub::start(history, 1 << 20, false).expect("a hub");
    let options = StateOptions { interval: Duration::from_millis(3), ..StateOptions::default() };
    let states = States::start(hub.clone(), options, Clock::system()).expect("states");
    (hub, states)
}

/// The revisions that were acknowledged, by the id of the one client that made only this change.
type Acknowledged = Arc<Mutex<HashMap<String, u64>>>;

async fn write(nodes: Arc<[(Hub, States); 2]>, writer: u32, acknowledged: Acknowledged) {
    for number in 0..60 {
        let (_, states) = &nodes[fastrand::usize(..2)];
        let steps = (0..=fastrand::u32(..3)).map(|step| {
            let unique = (writer * 1000 + number) * 10 + step;
            let topic = topic(fastrand::choice(TOPICS).unwrap_or(TOPICS[0]));
            let at = fastrand::bool().then(|| states.view(&topic).rev);
            let from = Some(client(&unique.to_string()));
            Step::Set { topic, change: random_change(unique), at, from }
        });
        let steps: Vec<Step> = steps.collect();
        let senders: Vec<(String, bool)> = steps
            .iter()
            .map(|it| match it {
                Step::Set { from, change, .. } => {
                    (from.as_ref().expect("a client").id(), matches!(change, Change::Delete))
                }
                Step::Send(_) => unreachable!("only changes"),
            })
            .collect();
        match states.submit(Work { steps, beside: None }).await {
            Ok(dids) => {
                for ((from, is_delete), did) in senders.into_iter().zip(dids) {
                    match did {
                        // One that finds nothing to delete changes nothing.
                        Did::Set { rev } if !is_delete => {
                            acknowledged.lock().expect("no panic").insert(from, rev);
                        }
                        Did::Set { .. } | Did::Conflict(_) => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
            Err(StateError::Publish(error)) => assert!(error.may_be_stored(), "{error}"),
            Err(StateError::Contended) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Lets clients come, change and go. Returns how each was at last.
async fn attend(nodes: Arc<[(Hub, States); 2]>, node: usize) -> BTreeMap<(String, String), Value> {
    let states = &nodes[node].1;
    let mut last = BTreeMap::new();
    for _ in 0..150 {
        let name = fastrand::choice(TOPICS).unwrap_or(TOPICS[0]);
        let client = client(&format!("member {node} {}", fastrand::u32(..5)));
        let data = random_object(1, false);
        let member = (fastrand::u32(..3) != 0).then_some(Member { user: None, data: data.clone() });
        states.tell(&topic(name), &client, member.as_ref()).expect("within limits");
        let key = (name.to_owned(), client.id());
        match member {
            Some(_) => last.insert(key, json!({ "data": data })),
            None => last.remove(&key),
        };
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..2000))).await;
    }
    for name in TOPICS {
        for number in 0..5 {
            states.settled(&topic(name), &client(&format!("member {node} {number}"))).await;
        }
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_on_a_late_log_have_one_state_without_a_hole_in_its_revisions() {
    let shared = Shared::new(usize::MAX, Faults { conflicts: 10, forgotten: 5 });
    let nodes: Arc<[(Hub, States); 2]> =
        Arc::new(std::array::from_fn(|_| start(Arc::new(shared.node()))));
    let acknowledged = Acknowledged::default();
    let writers: Vec<_> = (0..6)
        .map(|writer| tokio::spawn(write(nodes.clone(), writer, acknowledged.clone())))
        .collect();
    let members = [0, 1].map(|node| tokio::spawn(attend(nodes.clone(), node)));
    for writer in writers {
        writer.await.expect("no panic");
    }
    let mut present = BTreeMap::new();
    for members in members {
        present.extend(members.await.expect("no panic"));
    }
    let told = changes(&nodes[0].0).await;
    assert_eq!(told, changes(&nodes[1].0).await);
    let mut pages: BTreeMap<&str, Page> = TOPICS.map(|it| (it, Page::empty())).into();
    let mut acknowledged = std::mem::take(&mut *acknowledged.lock().expect("no panic"));
    for (topic, change) in &told {
        let page = pages.get_mut(&**topic).expect("a known topic");
        assert_eq!(change["rev"], page.rev + 1, "no hole and no repetition in {topic}");
        assert!(!page.hear(change));
        if let Some(rev) = change["from"].as_str().and_then(|from| acknowledged.remove(from)) {
            assert_eq!(change["rev"], rev, "what was acknowledged was told");
        }
    }
    assert!(acknowledged.is_empty(), "not told: {acknowledged:?}");
    assert!(300 < told.len(), "only {}", told.len());
    for (hub, states) in &*nodes {
        hub.history().current().await.expect("memory");
        for (name, page) in &pages {
            assert_eq!(Page::of(&states.view(&topic(name))), *page, "{name}");
        }
    }
    for (name, page) in pages {
        let there = present.iter().filter(|((topic, _), _)| topic == name);
        let there: Map<String, Value> =
            there.map(|((_, client), member)| (client.clone(), member.clone())).collect();
        assert_eq!(page.members, Value::from(there), "the last word of each client in {name}");
    }
}

fn memory() -> Arc<Memory> {
    let retention = Retention {
        bytes: usize::MAX,
        events: usize::MAX,
        age: jiff::SignedDuration::MAX,
        remembered: 0,
    };
    Arc::new(Memory::new(retention, Clock::system()))
}

#[tokio::test]
async fn pages_that_lose_and_repeat_changes_come_to_the_same_view() {
    let (hub, states) = start(memory());
    let name = TOPICS[0];
    let mut views = vec![Page::of(&states.view(&topic(name)))];
    for number in 0..200 {
        if number % 5 == 0 {
            let client = client(&format!("{}", fastrand::u32(..4)));
            let member = Member { user: None, data: random_object(2, false) };
            states.tell(&topic(name), &client, fastrand::bool().then_some(&member)).expect("room");
            states.settled(&topic(name), &client).await;
        } else {
            let work = Work::set(topic(name), random_change(number), None);
            states.submit(work).await.expect("stored");
        }
        views.push(Page::of(&states.view(&topic(name))));
    }
    let told: Vec<Value> = changes(&hub).await.into_iter().map(|it| it.1).collect();
    let (last, end) = (told.last().expect("changes"), views.last().expect("views"));
    for _ in 0..50 {
        let (mut page, mut at) = (Page::empty(), 0);
        while at < told.len() {
            let needs_to_load = page.hear(&told[at]);
            if needs_to_load {
                // What it loads may already have later changes, which it will hear again.
                let rev = told[fastrand::usize(at..told.len())]["rev"].as_u64();
                let loaded = views.iter().find(|it| Some(it.rev) == rev);
                page = loaded.expect("a view of each revision").clone();
            }
            at = match fastrand::u32(..10) {
                0 => at.saturating_sub(fastrand::usize(..5)),
                1 => at + 1 + fastrand::usize(..4),
                _ => at + 1,
            };
        }
        if page.hear(last) {
            page = end.clone();
        }
        assert_eq!(page, *end);
    }
}

#[tokio::test]
async fn a_thousand_members_at_once_are_told_in_few_changes() {
    let (hub, states) = start(memory());
    drop(states);
    let options = StateOptions::default();
    let states = States::start(hub.clone(), options, Clock::system()).expect("states");
    let begin = std::time::Instant::now();
    for number in 0..1000 {
        let member = Member { user: None, data: object(json!({ "name": number })) };
        let client = client(&number.to_string());
        states.tell(&topic("/rooms/1"), &client, Some(&member)).expect("room");
    }
    eventually("all are told", async || states.counts().members == 1000).await;
    let told = changes(&hub).await.len();
    let intervals = begin.elapsed().as_millis() / 200;
    assert!(told as u128 <= 2 + intervals, "{told} changes in {intervals} intervals");
}
