//! What is published at one node is heard at all, and a subscriber may move.

use serde_json::Value;
use tidegate_testkit::{
    deadline::{eventually, in_time},
    redis::Redis,
    sse::Stream,
    tokens,
};

use crate::support::{Node, nodes, problem, up_to};

#[tokio::test]
async fn an_update_is_heard_at_every_node_over_every_transport() {
    let Some(redis) = Redis::start(&[]) else { return };
    let [a, b, c] = nodes(&redis);
    let mut stream = b.open("/events?topic=t").await;
    let request = c.client.get(c.url("/iframe?topic=t&callback=f"));
    let mut iframe = in_time("a document", request.send()).await.expect("a reply");
    let polling = async { c.poll("/poll?topic=t&wait=20").await };
    let publishing = async {
        c.until_metric("tidegate_subscribers{transport=\"poll\"}", 1.0).await;
        a.publish("t", "hello").await
    };
    let (polled, id) = tokio::join!(polling, publishing);
    assert_eq!(polled["events"][0]["data"], "hello");
    let event = stream.next().await;
    assert_eq!((event.data.as_str(), event.id), ("hello", id));
    let mut document = String::new();
    while !document.contains("hello") {
        let bytes = in_time("a script", iframe.chunk()).await.expect("an open document");
        document += &String::from_utf8_lossy(&bytes.expect("no end"));
    }
}

#[tokio::test]
async fn a_subscriber_goes_on_at_another_node_by_id_and_by_cursor_token() {
    let Some(redis) = Redis::start(&[]) else { return };
    let [a, b] = nodes(&redis);
    let mut stream = a.open("/events?topic=t").await;
    let token = a.poll("/poll?topic=t&wait=0").await["cursor"].as_str().expect("text").to_owned();
    assert!(token.starts_with('#'), "{token}");
    a.publish("t", "1").await;
    let id = stream.next().await.id;
    let polled = a.poll("/poll?topic=t&last=1&wait=0").await;
    let next = polled["next"].as_str().expect("an address").to_owned();
    // At once, so that the other node may not have read it yet.
    for number in 2..50 {
        let id_of = b.publish("t", &number.to_string()).await;
        let mut behind = a.open(&format!("/events?topic=t&last_event_id={id_of}")).await;
        b.publish("t", &format!("after {number}")).await;
        assert_eq!(behind.next().await.data, format!("after {number}"));
    }
    let resume = async |cursor: &str, count| {
        let request = b.client.get(b.url("/events?topic=t")).header("last-event-id", cursor);
        Stream::open(request).await.data(count).await
    };
    let all = a.everything("t").await;
    assert_eq!(all.len(), 97);
    assert_eq!(resume(&id, 96).await, all[1..]);
    assert_eq!(resume(&token, 97).await, all);
    let polled = b.poll(&format!("/{next}")).await;
    assert_eq!(polled["events"][0]["data"], "2", "a token of one node is good at the other");
}

#[tokio::test]
async fn every_node_has_the_same_order() {
    const EACH: usize = 60;
    let Some(redis) = Redis::start(&[]) else { return };
    let nodes: [Node; 3] = nodes(&redis);
    let mut streams = Vec::new();
    for node in &nodes {
        streams.push(node.open("/events?topic=t").await);
    }
    let publish = async |at: usize| {
        for number in 0..EACH {
            nodes[at].publish("t", &format!("{at} {number}")).await;
        }
    };
    tokio::join!(publish(0), publish(1), publish(2));
    nodes[0].publish("t", "end").await;
    let first = up_to(&mut streams[0], "end").await;
    assert_eq!(first.len(), 3 * EACH + 1);
    for stream in &mut streams[1..] {
        assert_eq!(up_to(stream, "end").await, first);
    }
    let late = Node::start(&redis);
    assert_eq!(late.everything("t").await, first, "and a node that starts later has it too");
}

#[tokio::test]
async fn one_key_at_two_nodes_at_once_is_one_event_and_one_reply() {
    let Some(redis) = Redis::start(&[]) else { return };
    let [a, b] = nodes(&redis);
    for round in 0..20 {
        let publish = async |node: &Node| {
            let request = node.client.post(node.url("/events"));
            let request = request.header("content-type", "application/x-www-form-urlencoded");
            let request = request.header("idempotency-key", round.to_string());
            let reply = in_time("a reply", request.body("topic=t&data=x").send()).await;
            let reply = reply.expect("a reply");
            assert_eq!(reply.status(), 200);
            reply.text().await.expect("an id")
        };
        let (one, other) = tokio::join!(publish(&a), publish(&b));
        assert_eq!(one, other);
    }
    assert_eq!(a.everything("t").await.len(), 20);
}

#[tokio::test]
async fn rules_shorten_what_every_node_keeps() {
    let Some(redis) = Redis::start(&[]) else { return };
    let file =
        tokens::settings_file("[[history.rules]]\ntopic = 'counted'\nmax_events_per_topic = 2\n");
    let settings = [
        ("CONFIG", file.path().to_str().expect("text")),
        // The tail would have what the rule has dropped.
        ("DELIVERY__TAIL_BYTES", "1B"),
        ("PUBLISH__REFUSE_WHEN_BEHIND", "false"),
    ];
    let (a, b) = (Node::with(&redis.address(), &settings), Node::with(&redis.address(), &settings));
    for number in 0..5 {
        a.publish("counted", &number.to_string()).await;
        b.publish("plain", &number.to_string()).await;
    }
    let late = Node::with(&redis.address(), &settings);
    for node in [&a, &b, &late] {
        let counted = async || node.everything("counted").await == ["3", "4"];
        eventually("the node keeps two", counted).await;
        assert_eq!(node.everything("plain").await.len(), 5);
    }
}

#[tokio::test]
async fn the_nodes_are_listed_with_the_right_to_see_them() {
    let Some(redis) = Redis::start(&[]) else { return };
    let [a, mut b] = nodes(&redis);
    let address = redis.address();
    let more = [("CLUSTER__NAME", "third"), ("HISTORY__MAX_EVENTS", "1000")];
    let settings = [&tokens::KEYS[..], &more].concat();
    let c = Node::with(&address, &settings);
    let listed = async || -> Value { a.get("/cluster").await.json().await.expect("JSON") };
    eventually("three nodes", async || {
        listed().await["nodes"].as_array().is_some_and(|it| it.len() == 3)
    })
    .await;
    let cluster = listed().await;
    assert_eq!((&cluster["connected"], &cluster["term"]), (&Value::from(true), &Value::from(1)));
    let nodes = cluster["nodes"].as_array().expect("a list");
    let third = nodes.iter().find(|it| it["name"] == "third").expect("its name");
    assert_eq!(third["has_same_settings"], false);
    assert_eq!(nodes.iter().filter(|it| it["is_this"] == true).count(), 1);
    let ready: Value = a.get("/health/ready").await.json().await.expect("JSON");
    assert_eq!(ready["log"], cluster["log"]);
    assert_eq!(a.metric("tidegate_cluster_connected").await, 1.0);
    problem(c.get("/cluster").await, 401).await;
    for (grant, status) in [("*", 403), ("urn:tidegate:cluster", 200)] {
        let token = tokens::old_subscriber(&[grant]);
        let reply = in_time("a reply", c.client.get(c.url("/cluster")).bearer_auth(token).send());
        assert_eq!(reply.await.expect("a reply").status(), status, "{grant}");
    }
    // One that stops leaves at once, one that is killed after its lease.
    b.terminate().await;
    eventually("two nodes", async || {
        listed().await["nodes"].as_array().is_some_and(|it| it.len() == 2)
    })
    .await;
    drop(c);
    eventually("one node", async || {
        listed().await["nodes"].as_array().is_some_and(|it| it.len() == 1)
    })
    .await;
}
