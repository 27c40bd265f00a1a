//! Redis is killed, paused, away, full, emptied; nodes are killed.

use std::time::Duration;

use tidegate_testkit::{
    deadline::{eventually, in_time},
    gateway::Gateway,
    redis::{Redis, SYNCED},
};
use tokio::time::sleep;

use crate::support::{Node, assert_unique, nodes, problem, reason, up_to};

/// Publishes numbers at nodes in turn until told to stop. Returns those that were acknowledged.
async fn publish_until(
    nodes: &[&Gateway],
    mut stop: tokio::sync::oneshot::Receiver<()>,
) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if stop.try_recv().is_ok() {
            break;
        }
        let node = nodes[number % nodes.len()];
        let data = number.to_string();
        let request = node.client.post(node.url("/events"));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let sent = request.body(format!("topic=t&data={data}")).send();
        if in_time("a reply", sent).await.is_ok_and(|it| it.status() == 200) {
            acknowledged.push(data);
        }
    }
    acknowledged
}

#[tokio::test]
async fn a_killed_node_loses_nothing_that_it_acknowledged() {
    let Some(redis) = Redis::start(&[]) else { return };
    let [mut a, b] = nodes(&redis);
    let mut stream = b.open("/events?topic=t").await;
    for round in 0..3 {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let only = [&*a];
        let publishing = publish_until(&only, stopped);
        let waiting = async {
            sleep(Duration::from_millis(300)).await;
            let _ = stop.send(());
        };
        let (acknowledged, ()) = tokio::join!(publishing, waiting);
        assert!(!acknowledged.is_empty());
        // The last request may be on its way.
        let last = async { a.post(&[("topic", "t"), ("data", "last")]).await.status() };
        tokio::select! {
            _ = last => {}
            () = sleep(Duration::from_millis(round)) => {}
        }
        a.kill();
        b.publish("t", &format!("end {round}")).await;
        let mut heard = up_to(&mut stream, &format!("end {round}")).await;
        heard.retain(|it| it != "last" && !it.starts_with("end"));
        assert_eq!(heard, acknowledged);
        a.restart().await;
    }
}

#[tokio::test]
async fn a_killed_redis_that_syncs_loses_nothing_and_every_stream_goes_on() {
    let Some(mut redis) = Redis::start(SYNCED) else { return };
    let nodes: [Node; 3] = nodes(&redis);
    let mut streams = Vec::new();
    for node in &nodes {
        streams.push(node.open("/events?topic=t").await);
    }
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let all: Vec<&Gateway> = nodes.iter().map(|it| &**it).collect();
    let killing = async {
        for _ in 0..3 {
            sleep(Duration::from_millis(200)).await;
            redis.kill();
            sleep(Duration::from_millis(100)).await;
            redis.restart();
        }
        sleep(Duration::from_millis(200)).await;
        let _ = stop.send(());
    };
    let (acknowledged, ()) = tokio::join!(publish_until(&all, stopped), killing);
    nodes[0].publish_surely("t", "end").await;
    let first = up_to(&mut streams[0], "end").await;
    assert_unique(&first);
    assert!(10 < acknowledged.len());
    assert!(acknowledged.iter().all(|it| first.contains(it)), "something acknowledged is missing");
    for stream in &mut streams[1..] {
        assert_eq!(up_to(stream, "end").await, first);
    }
    assert!(1.0 < nodes[0].metric("tidegate_cluster_term").await);
}

#[tokio::test]
async fn while_redis_is_away_publishers_are_told_and_streams_stay() {
    let Some(mut redis) = Redis::start(SYNCED) else { return };
    let settings = [
        ("CLUSTER__COMMIT_TIMEOUT", "1s"),
        ("CLUSTER__UNREADY_AFTER", "4s"),
        ("DELIVERY__HEARTBEAT", "100ms"),
    ];
    let (a, b) = (Node::with(&redis.address(), &settings), Node::with(&redis.address(), &settings));
    let mut stream = b.open("/events?topic=t").await;
    a.publish("t", "before").await;
    assert_eq!(stream.next().await.data, "before");
    redis.kill();
    let (kind, detail) = problem(a.post(&[("topic", "t"), ("data", "x")]).await, 503).await;
    assert_eq!(kind, "urn:tidegate:problem:history");
    assert!(detail.contains("cluster.redis") && detail.contains("nothing was stored"), "{detail}");
    assert_eq!(a.get("/health/ready").await.status(), 200, "subscribers are served");
    assert_eq!(a.get("/health/live").await.status(), 200);
    let (_, detail) = problem(a.get("/health/ready?publish").await, 503).await;
    assert!(detail.contains("cluster.redis"), "{detail}");
    assert_eq!(a.metric("tidegate_cluster_connected").await, 0.0);
    // An id that is unknown here may be known elsewhere.
    let unknown = a.get("/events?topic=t&last_event_id=unknown").await;
    problem(unknown, 503).await;
    let known = a.everything("t").await;
    assert_eq!(known, ["before"]);
    eventually("the node is unready", async || a.get("/health/ready").await.status() == 503).await;
    redis.restart();
    a.until_ready().await;
    a.publish("t", "after").await;
    assert_eq!(stream.next().await.data, "after", "the stream is the same");
}

#[tokio::test]
async fn a_paused_redis_delays_but_doubles_nothing() {
    let Some(redis) = Redis::start(&[]) else { return };
    let [a, b] = nodes(&redis);
    let mut stream = b.open("/events?topic=t").await;
    for round in 0..2 {
        let data = round.to_string();
        redis.pause();
        let publishing = a.publish_surely("t", &data);
        let resuming = async {
            sleep(Duration::from_millis(3500)).await;
            redis.resume();
        };
        tokio::join!(publishing, resuming);
    }
    a.publish_surely("t", "end").await;
    let heard = up_to(&mut stream, "end").await;
    // A publisher without a key that was told that the outcome is unknown may have repeated it.
    assert!(heard.contains(&"0".to_owned()) && heard.contains(&"1".to_owned()));
    assert_eq!(heard, a.everything("t").await);
}

#[tokio::test]
async fn an_emptied_redis_is_noticed_and_subscribers_are_told() {
    let Some(redis) = Redis::start(&[]) else { return };
    let [a, b] = nodes(&redis);
    let mut stream = b.open("/events?topic=t").await;
    let id = a.publish("t", "1").await;
    let token = {
        let polled = b.poll("/poll?topic=t&last=1&wait=0").await;
        polled["next"].as_str().expect("an address").to_owned()
    };
    assert_eq!(stream.next().await.data, "1");
    redis.run(&["FLUSHALL"]);
    a.publish_surely("t", "2").await;
    assert_eq!(reason(&stream.next().await), "trimmed", "the stream is told");
    assert_eq!(stream.next().await.data, "2");
    let mut resumed = b.open(&format!("/events?topic=t&last_event_id={id}")).await;
    assert_eq!(reason(&resumed.next().await), "unknown");
    assert_eq!(resumed.next().await.data, "2");
    let polled = a.poll(&format!("/{token}")).await;
    let events = polled["events"].as_array().expect("a list");
    assert_eq!(events[0]["type"], "tidegate.gap", "{polled}");
    for node in [&a, &b] {
        assert_eq!(node.metric("tidegate_cluster_log_replaced_total").await, 1.0);
        assert_eq!(node.everything("t").await, ["2"]);
    }
}

#[tokio::test]
async fn flushed_scripts_are_loaded_again() {
    let Some(redis) = Redis::start(&[]) else { return };
    let [a, b] = nodes(&redis);
    let mut stream = b.open("/events?topic=t").await;
    for number in 0..3 {
        redis.run(&["SCRIPT", "FLUSH"]);
        a.publish("t", &number.to_string()).await;
    }
    assert_eq!(stream.data(3).await, ["0", "1", "2"]);
    assert_eq!(a.metric("tidegate_cluster_term").await, 1.0, "the term goes on");
}

#[tokio::test]
async fn a_full_redis_refuses_and_says_why() {
    let Some(redis) = Redis::start(&[]) else { return };
    let a = Node::with(&redis.address(), &[("CLUSTER__COMMIT_TIMEOUT", "1s")]);
    a.publish("t", "1").await;
    redis.run(&["CONFIG", "SET", "maxmemory", "1"]);
    let (kind, detail) = problem(a.post(&[("topic", "t"), ("data", "x")]).await, 503).await;
    assert_eq!(kind, "urn:tidegate:problem:history");
    assert!(detail.contains("maxmemory"), "{detail}");
    let (_, detail) = problem(a.get("/health/ready?publish").await, 503).await;
    assert!(detail.contains("maxmemory"), "{detail}");
    assert_eq!(a.get("/health/ready").await.status(), 200);
    redis.run(&["CONFIG", "SET", "maxmemory", "0"]);
    a.publish("t", "2").await;
    a.until_ready().await;
    assert_eq!(a.everything("t").await, ["1", "2"], "what was refused was not stored");
}
