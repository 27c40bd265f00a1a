//! Documents over a history in memory, and over one on disk that is opened again.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::{
    Beside, Change, Did, Member, Members, MergePatch, StateError, StateOptions, StateRefusal,
    States, Step, TopicTerms, View, Work,
};
use crate::{
    clock::Clock,
    event::{ClientKey, Draft, Limits, Position, Topic, Update},
    history::{
        Budget, Disk, DiskOptions, Durability, Expect, KeyedReply, Memory, Record, ReplyLimits,
        Retention, Rules, Shelf, Write,
    },
    hub::Hub,
    matching::{Interest, Matcher, Matchers, Rights},
};

fn hub() -> Hub {
    let retention = Retention {
        bytes: usize::MAX,
        events: usize::MAX,
        age: SignedDuration::MAX,
        remembered: 0,
    };
    let memory = Memory::new(retention, Clock::system());
    Hub::start(Arc::new(memory), 1 << 20, false).expect("a hub")
}

fn states(options: StateOptions) -> (Hub, States) {
    let hub = hub();
    let states = States::start(hub.clone(), options, Clock::system()).expect("states");
    (hub, states)
}

fn disk(path: &std::path::Path) -> DiskOptions {
    DiskOptions {
        path: path.to_owned(),
        durability: Durability::Sync,
        slow_commit: Duration::MAX,
        cache_bytes: 1 << 20,
        readers: 1,
        patience: Duration::from_secs(9),
        age: Duration::from_secs(3600),
        bytes: 1 << 20,
        events: 1000,
        rules: Rules::default(),
        remembered: 1000,
        replies: ReplyLimits { age: Duration::from_secs(60), count: 9, bytes: 10_000 },
    }
}

fn topic(text: &str) -> Topic {
    Topic::parse(text, 99).expect("a topic")
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(object) = value else { panic!("{value} is no object") };
    object
}

fn patch(value: Value) -> Change {
    Change::Patch(MergePatch::from(object(value)))
}

fn client(key: &str) -> ClientKey {
    ClientKey::parse("client", key, 99).expect("a key")
}

fn member(data: Value) -> Member {
    Member { user: None, data: object(data) }
}

/// Does one change and returns its outcome.
async fn set(states: &States, to: &str, change: Change, at: Option<u64>) -> Did {
    let done = states.submit(Work::set(topic(to), change, at)).await.expect("stored");
    done.into_iter().next().expect("one step")
}

async fn rev(states: &States, to: &str, change: Change) -> u64 {
    match set(states, to, change, None).await {
        Did::Set { rev } => rev,
        other => panic!("{other:?}"),
    }
}

fn state(view: &View) -> Value {
    serde_json::to_value(&view.state).expect("JSON")
}

/// The members by the name in their data.
fn names(view: &View) -> Vec<String> {
    let Members::Listed(members) = &view.members else { panic!("they are counted") };
    let members = serde_json::to_value(members).expect("JSON");
    let names = object(members).into_iter().map(|it| it.1["data"]["name"].to_string());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// The data of all changes that were told on a topic.
async fn told(hub: &Hub, on: &str) -> Vec<Value> {
    let matcher = Matchers::new([Matcher::exact(on, 99).expect("a topic")]);
    let interest = Arc::new(Interest::new(matcher, None, Rights::Everything));
    let budget = Budget { events: 10_000, bytes: usize::MAX };
    let page = hub.history().read_after(Position::START, &interest, budget).await.expect("a page");
    let changes = page
        .events
        .iter()
        .filter(|it| it.update.kind.as_ref().is_some_and(|it| it.as_str() == "tidegate.change"));
    changes.map(|it| serde_json::from_str(&it.update.data).expect("JSON")).collect()
}

fn update(data: &str) -> Update {
    let limits = Limits {
        topics: 9,
        topic_bytes: 99,
        id_bytes: 99,
        type_bytes: 9,
        except: 9,
        client_key_bytes: 9,
    };
    let hub = url::Url::parse("http://localhost/.well-known/mercure").expect("an address");
    let draft = Draft { topics: vec!["t".into()], data: data.to_owned(), ..Draft::default() };
    draft.validate(&limits, &hub).expect("valid")
}

#[tokio::test]
async fn revisions_count_the_changes_and_never_go_down() {
    let (hub, states) = states(StateOptions::default());
    assert_eq!(rev(&states, "t", patch(json!({"a":1,"b":{"c":1}}))).await, 1);
    assert_eq!(rev(&states, "t", patch(json!({"b":{"d":"</script>"},"a":null}))).await, 2);
    let view = states.view(&topic("t"));
    assert_eq!((view.rev, state(&view)), (2, json!({"b":{"c":1,"d":"</script>"}})));
    // What changes nothing is not told.
    assert_eq!(rev(&states, "t", patch(json!({"b":{"c":1},"x":null}))).await, 2);
    let replace =
        Change::Replace(MergePatch::from(object(json!({"b":{"d":2},"e":null,"f":[null]}))));
    assert_eq!(rev(&states, "t", replace).await, 3);
    assert_eq!(state(&states.view(&topic("t"))), json!({"b":{"d":2},"f":[null]}));
    assert_eq!(rev(&states, "t", Change::Delete).await, 4);
    assert_eq!(states.counts().documents, 0);
    assert_eq!(states.counts().bytes, 0);
    // The next life of the topic begins where the last one ended.
    assert_eq!(states.view(&topic("t")).rev, 4);
    assert_eq!(rev(&states, "t", patch(json!({"a":1}))).await, 5);
    let expected = [
        json!({"rev":1,"state":{"a":1,"b":{"c":1}}}),
        json!({"rev":2,"state":{"a":null,"b":{"d":"</script>"}}}),
        json!({"rev":3,"state":{"b":{"c":null,"d":2},"f":[null]}}),
        json!({"rev":4,"state":{"b":null,"f":null}}),
        json!({"rev":5,"state":{"a":1}}),
    ];
    assert_eq!(told(&hub, "t").await, expected);
}

#[tokio::test]
async fn numbers_and_texts_are_kept_as_they_are() {
    let (_, states) = states(StateOptions::default());
    let text = r#"{"a":31.245270191439438,"b":5e-324,"c":18446744073709551615,"d":{"__proto__":{"é":[-0.1,1e+300]}}}"#;
    let given = MergePatch::parse(text.as_bytes(), states.options()).expect("a patch");
    rev(&states, "t", Change::Patch(given)).await;
    // Touched, so that it is read and written again.
    rev(&states, "t", patch(json!({"d":{"x":1}}))).await;
    let state = serde_json::to_string(&states.view(&topic("t")).state).expect("JSON");
    assert_eq!(state, text.replace("1e+300]}", "1e+300]},\"x\":1"));
}

#[tokio::test]
async fn a_change_can_be_made_under_the_condition_of_a_revision() {
    let (_, states) = states(StateOptions::default());
    let one = || patch(json!({"a":1}));
    assert!(matches!(set(&states, "t", one(), Some(3)).await, Did::Conflict(View { rev: 0, .. })));
    assert!(matches!(set(&states, "t", one(), Some(0)).await, Did::Set { rev: 1 }));
    let Did::Conflict(found) = set(&states, "t", patch(json!({"a":2})), Some(0)).await else {
        panic!("it is there already");
    };
    assert_eq!((found.rev, state(&found)), (1, json!({"a":1})));
    assert!(matches!(set(&states, "t", patch(json!({"a":2})), Some(1)).await, Did::Set { rev: 2 }));
    assert!(matches!(set(&states, "t", Change::Delete, Some(1)).await, Did::Conflict(_)));
    assert!(matches!(set(&states, "t", Change::Delete, Some(2)).await, Did::Set { rev: 3 }));
    assert!(matches!(set(&states, "t", one(), Some(0)).await, Did::Set { rev: 4 }));
}

#[tokio::test]
async fn steps_succeed_or_fail_one_by_one_and_are_stored_together() {
    let (hub, states) = states(StateOptions { patch_bytes: 20, ..StateOptions::default() });
    let step = |change, at| Step::Set { topic: topic("t"), change, at, from: Some(client("me")) };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let work = Work {
        steps: vec![
            Step::Send(update("first")),
            step(patch(json!({"a":1})), None),
            step(patch(json!({"a":"too long for this limit"})), None),
            step(patch(json!({"a":2})), Some(7)),
            step(patch(json!({"a":3})), Some(1)),
            Step::Send(update("last")),
        ],
        beside: Some(Box::new({
            let seen = seen.clone();
            move |dids: &[Did]| {
                seen.lock().expect("no panic").push(format!("{dids:?}"));
                let value = Some(Box::from(&b"x"[..]));
                let record = Record { shelf: Shelf::Clients, key: Box::from(&b"k"[..]), value };
                vec![Write { record, expect: Expect::Absent }].into()
            }
        })),
    };
    let done = states.submit(work).await.expect("stored");
    assert!(matches!(done[0], Did::Sent(_)) && matches!(done[5], Did::Sent(_)), "{done:?}");
    assert!(matches!(done[1], Did::Set { rev: 1 }) && matches!(done[4], Did::Set { rev: 2 }));
    let Did::Refused(refusal) = &done[2] else { panic!("{done:?}") };
    assert_eq!((refusal.limit(), refusal.setting()), (Some(20), Some("state.patch_bytes")));
    assert!(matches!(&done[3], Did::Conflict(view) if view.rev == 1), "{done:?}");
    assert_eq!(seen.lock().expect("no panic").len(), 1);
    let id = client("me").id();
    let expected =
        [json!({"rev":1,"from":id,"state":{"a":1}}), json!({"rev":2,"from":id,"state":{"a":3}})];
    assert_eq!(told(&hub, "t").await, expected);
}

#[tokio::test]
async fn a_record_in_the_way_ends_its_work_only() {
    let (_, states) = states(StateOptions::default());
    let beside = |key: &'static [u8]| {
        move |_: &[Did]| {
            let value = Some(Box::from(&b"x"[..]));
            let record = Record { shelf: Shelf::Clients, key: key.into(), value };
            Beside::from(vec![Write { record, expect: Expect::Absent }])
        }
    };
    let work = |to: &str, key| Work {
        beside: Some(Box::new(beside(key))),
        ..Work::set(topic(to), patch(json!({"a":1})), None)
    };
    states.submit(work("a", b"1")).await.expect("stored");
    // They wait together, so they are in one submission.
    let (first, bad, last) = tokio::join!(
        states.submit(work("b", b"2")),
        states.submit(work("b", b"1")),
        states.submit(work("b", b"3")),
    );
    assert!(first.is_ok() && last.is_ok(), "{first:?} {last:?}");
    assert!(matches!(bad, Err(StateError::Sealed)), "{bad:?}");
    assert_eq!(states.view(&topic("b")).rev, 1, "the same change again changes nothing");
}

#[tokio::test]
async fn a_repeated_request_gets_its_reply() {
    let (_, states) = states(StateOptions::default());
    let work = |value: u64| Work {
        beside: Some(Box::new(|dids: &[Did]| {
            let value = format!("{dids:?}").into_bytes().into();
            let replies = vec![KeyedReply { key: "k".to_owned(), value }];
            Beside { replies, ..Beside::default() }
        })),
        ..Work::set(topic("t"), patch(json!({"a":value})), None)
    };
    states.submit(work(1)).await.expect("stored");
    let again = states.submit(work(2)).await;
    assert!(matches!(&again, Err(StateError::Already(it)) if it.starts_with(b"[Set")), "{again:?}");
    assert_eq!(state(&states.view(&topic("t"))), json!({"a":1}));
}

#[tokio::test]
async fn limits_are_told_with_their_settings() {
    let (_, states) = states(StateOptions {
        document_bytes: 30,
        names: 3,
        depth: 2,
        name_bytes: 4,
        documents: 2,
        ..StateOptions::default()
    });
    let refused = async |to: &str, value: Value| match set(&states, to, patch(value), None).await {
        Did::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    };
    let found = refused("t", json!({"a":[[1]]})).await;
    assert_eq!(found, StateRefusal::TooDeep { limit: 2 });
    let found = refused("t", json!({"a":{"longer":1}})).await;
    assert_eq!(found, StateRefusal::NameTooLong { bytes: 6, limit: 4 });
    let found = refused("t", json!({"a":1,"b":2,"c":3,"d":4})).await;
    assert_eq!(found, StateRefusal::TooManyNames { limit: 3 });
    assert_eq!(rev(&states, "t", patch(json!({"a":"012345678901"}))).await, 1);
    let found = refused("t", json!({"b":"01234567"})).await;
    assert_eq!(found, StateRefusal::DocumentTooLarge { bytes: 35, limit: 30 });
    assert_eq!(rev(&states, "t", patch(json!({"b":"012"}))).await, 2);
    rev(&states, "u", patch(json!({"a":1}))).await;
    assert_eq!(refused("v", json!({"a":1})).await, StateRefusal::TooManyDocuments { limit: 2 });
    rev(&states, "u", Change::Delete).await;
    rev(&states, "v", patch(json!({"a":1}))).await;
}

#[tokio::test]
async fn the_memory_of_all_is_limited_and_given_back() {
    let (_, states) = states(StateOptions { bytes: 4096, ..StateOptions::default() });
    let text = "x".repeat(1500);
    rev(&states, "t", patch(json!({"a":text}))).await;
    rev(&states, "t", patch(json!({"b":text.clone()}))).await;
    let more = set(&states, "t", patch(json!({"c":text.clone()})), None).await;
    assert!(matches!(more, Did::Refused(StateRefusal::Full { limit: 4096 })), "{more:?}");
    let shown = states.tell(&topic("t"), &client("a"), Some(&member(json!({"x":text}))));
    assert_eq!(shown, Err(StateRefusal::Full { limit: 4096 }));
    rev(&states, "t", patch(json!({"a":null,"c":text}))).await;
    rev(&states, "t", Change::Delete).await;
    assert_eq!(states.counts().bytes, 0);
}

#[tokio::test]
async fn members_come_change_and_go_in_the_revisions_of_the_state() {
    let interval = Duration::from_millis(1);
    let (hub, states) = states(StateOptions { interval, ..StateOptions::default() });
    let (ann, bob) = (client("ann"), client("bob"));
    let tell = async |client: &ClientKey, member: Option<Member>| {
        states.tell(&topic("t"), client, member.as_ref()).expect("within limits");
        states.settled(&topic("t"), client).await;
    };
    let user = Some("u".to_owned());
    tell(&ann, Some(Member { user, data: object(json!({"name":"Ann","x":{"y":1},"n":null})) }))
        .await;
    rev(&states, "t", patch(json!({"a":1}))).await;
    tell(&bob, Some(member(json!({"name":"Bob"})))).await;
    assert_eq!(names(&states.view(&topic("t"))), ["\"Ann\"", "\"Bob\""]);
    // Nothing is different, so nothing is told.
    tell(&bob, Some(member(json!({"name":"Bob"})))).await;
    tell(&client("carl"), None).await;
    let user = Some("u".to_owned());
    tell(&ann, Some(Member { user, data: object(json!({"name":"Ann"})) })).await;
    tell(&bob, None).await;
    rev(&states, "t", Change::Delete).await;
    tell(&ann, None).await;
    assert_eq!(states.counts().documents, 0);
    let (ann, bob) = (ann.id(), bob.id());
    let expected = [
        json!({"rev":1,"members":{&ann:{"user":"u","data":{"name":"Ann","x":{"y":1}}}}}),
        json!({"rev":2,"state":{"a":1}}),
        json!({"rev":3,"members":{&bob:{"user":null,"data":{"name":"Bob"}}}}),
        json!({"rev":4,"members":{&ann:{"user":"u","data":{"name":"Ann","x":null}}}}),
        json!({"rev":5,"members":{&bob:null}}),
        json!({"rev":6,"state":{"a":null}}),
        json!({"rev":7,"members":{&ann:null}}),
    ];
    assert_eq!(told(&hub, "t").await, expected);
}

#[tokio::test]
async fn a_thousand_members_in_a_second_are_told_in_six_changes() {
    let (hub, states) = states(StateOptions::default());
    for number in 0..1000 {
        let name = format!("{number}");
        let member = member(json!({"name":name}));
        states.tell(&topic("t"), &client(&name), Some(&member)).expect("within limits");
        if number % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(45)).await;
        }
    }
    for number in 0..1000 {
        states.settled(&topic("t"), &client(&format!("{number}"))).await;
    }
    let told = told(&hub, "t").await;
    assert!(told.len() <= 7, "{} changes", told.len());
    assert_eq!(states.view(&topic("t")).members.count(), 1000);
}

#[tokio::test]
async fn many_members_are_counted_and_paged_until_they_are_few_again() {
    let interval = Duration::from_millis(1);
    let (hub, states) = states(StateOptions { interval, listed: 4, ..StateOptions::default() });
    let tell = async |number: usize, is_there: bool| {
        let (name, topic) = (format!("{number}"), topic("t"));
        let member = is_there.then(|| member(json!({"name":name})));
        states.tell(&topic, &client(&name), member.as_ref()).expect("within limits");
        states.settled(&topic, &client(&name)).await;
    };
    for number in 0..6 {
        tell(number, true).await;
    }
    assert!(matches!(states.view(&topic("t")).members, Members::Counted(6)));
    let first = states.members(&topic("t"), None, 4);
    let after = ClientKey::from_id(first.next.as_deref().expect("there are more")).expect("an id");
    let rest = states.members(&topic("t"), Some(&after), 4);
    assert_eq!((first.count, first.members.len(), rest.members.len(), rest.next), (6, 4, 2, None));
    for number in 0..4 {
        tell(number, false).await;
    }
    assert_eq!(names(&states.view(&topic("t"))), ["\"4\"", "\"5\""]);
    let told = told(&hub, "t").await;
    assert!(told[..4].iter().all(|it| it["members"].is_object() && it["count"].is_null()));
    let counts: Vec<_> = told[4..9].iter().map(|it| it["count"].as_u64()).collect();
    assert_eq!(counts, [5, 6, 5, 4, 3].map(Some));
    assert_eq!(told[9]["members"].as_object().expect("a list").len(), 2, "all, not only the last");
}

#[tokio::test]
async fn terms_of_a_topic_decide_who_learns_what() {
    let terms = TopicTerms { private: true, tell_from: false, ..TopicTerms::default() };
    let options =
        StateOptions { terms: Arc::new(move |_| terms.clone()), ..StateOptions::default() };
    let (hub, states) = states(options);
    let own = Topic::of_client(&client("me"));
    for topic in [topic("t"), own.clone()] {
        let step =
            Step::Set { topic, change: patch(json!({"a":1})), at: None, from: Some(client("me")) };
        states.submit(Work { steps: vec![step], beside: None }).await.expect("stored");
    }
    assert_eq!(told(&hub, "t").await, [json!({"rev":1,"state":{"a":1}})]);
    // The topic of a client is heard by that client alone, not even by name.
    assert!(told(&hub, own.as_str()).await.is_empty());
    assert_eq!(states.view(&own).rev, 1);
    let events = hub.tail().batch_after(Position::START, 9).expect("all").0;
    assert!(events.iter().all(|it| it.update.private && it.update.from.is_none()));
}

#[tokio::test]
async fn a_state_goes_when_its_time_is_over_also_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let time = Arc::new(AtomicI64::new(1_000_000));
    let clock = {
        let time = time.clone();
        Clock::from_fn(move || Timestamp::from_millisecond(time.load(Relaxed)).expect("a time"))
    };
    let open = || {
        let disk = Disk::open(disk(directory.path()), clock.clone());
        let disk = Arc::new(disk.expect("a store"));
        let hub = Hub::start(disk, 1 << 20, false).expect("a hub");
        let terms = TopicTerms { ttl: Some(Duration::from_secs(60)), ..TopicTerms::default() };
        let options = StateOptions {
            terms: Arc::new(move |_| terms.clone()),
            interval: Duration::from_millis(1),
            ..StateOptions::default()
        };
        let states = States::start(hub.clone(), options, clock.clone()).expect("states");
        (hub, states)
    };
    let (hub, states) = open();
    rev(&states, "t", patch(json!({"a":1}))).await;
    rev(&states, "u", patch(json!({"a":1}))).await;
    states.tell(&topic("u"), &client("ann"), Some(&member(json!({"name":"Ann"})))).expect("room");
    states.settled(&topic("u"), &client("ann")).await;
    time.fetch_add(40_000, Relaxed);
    rev(&states, "t", patch(json!({"b":{"c":2}}))).await;
    hub.close();
    drop((hub, states));
    let (hub, states) = open();
    let view = states.view(&topic("t"));
    assert_eq!((view.rev, state(&view)), (2, json!({"a":1,"b":{"c":2}})));
    assert_eq!(names(&states.view(&topic("u"))), ["\"Ann\""]);
    let before = states.counts();
    // A minute after its last change: `u`, but not `t`.
    time.fetch_add(30_000, Relaxed);
    rev(&states, "v", patch(json!({"a":1}))).await;
    while !states.view(&topic("u")).state.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((states.view(&topic("u")).rev, names(&states.view(&topic("u"))).len()), (3, 1));
    assert_eq!(state(&states.view(&topic("t"))), json!({"a":1,"b":{"c":2}}));
    let last = told(&hub, "u").await.pop();
    assert_eq!(last, Some(json!({"rev":3,"state":{"a":null}})));
    // Who is there no more is not told by itself, but named.
    let ann = (topic("u"), client("ann"), member(json!({"name":"Ann"})));
    assert!(states.reconcile([ann]).is_empty());
    assert_eq!(states.reconcile([]), [(topic("u"), client("ann"))]);
    states.tell(&topic("u"), &client("ann"), None).expect("a removal");
    states.settled(&topic("u"), &client("ann")).await;
    rev(&states, "t", Change::Delete).await;
    rev(&states, "v", Change::Delete).await;
    assert_eq!((states.counts().documents, before.documents), (0, 2));
    hub.close();
    drop((hub, states));
    let (hub, states) = open();
    assert_eq!(states.counts().documents, 0);
    assert_eq!(rev(&states, "t", patch(json!({"a":1}))).await, 4, "revisions go on");
    let records = hub.history().records(Shelf::State).expect("readable");
    assert_eq!(records.iter().filter(|it| it.record.key.starts_with(b"t")).count(), 2);
    hub.close();
}
