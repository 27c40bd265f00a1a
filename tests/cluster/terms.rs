//! What Redis has lost between two terms is put back, or said.

use tidegate_testkit::{
    deadline::{eventually, in_time},
    network::{Passing, Proxy},
    redis::Redis,
};

use crate::support::{Node, assert_unique, nodes, up_to};

/// Publishes with a key. Returns the reply.
async fn publish_with_key(node: &Node, key: &str, data: &str) -> String {
    let request = node.client.post(node.url("/events")).header("idempotency-key", key);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let reply = in_time("a reply", request.body(format!("topic=t&data={data}")).send()).await;
    let reply = reply.expect("a reply");
    assert_eq!(reply.status(), 200);
    reply.text().await.expect("an id")
}

#[tokio::test]
async fn acknowledged_updates_that_redis_has_lost_are_put_back() {
    let Some(mut redis) = Redis::start(&[]) else { return };
    let [a, b] = nodes(&redis);
    let mut streams = [a.open("/events?topic=t").await, b.open("/events?topic=t").await];
    a.publish("t", "before").await;
    redis.run(&["SAVE"]);
    let mut sent = vec!["before".to_owned()];
    for number in 0..50 {
        let node = if number % 2 == 0 { &a } else { &b };
        node.publish("t", &number.to_string()).await;
        sent.push(number.to_string());
    }
    let id = publish_with_key(&a, "k", "keyed").await;
    sent.push("keyed".to_owned());
    // The last one may not have been followed when Redis dies.
    redis.kill();
    redis.restart();
    a.publish_surely("t", "after").await;
    sent.push("after".to_owned());
    for stream in &mut streams {
        assert_eq!(up_to(stream, "after").await, sent, "no gap, and nothing twice");
    }
    assert_eq!(publish_with_key(&b, "k", "keyed").await, id, "the key was put back as well");
    for node in [&a, &b] {
        assert_eq!(node.everything("t").await, sent);
        assert_eq!(node.metric("tidegate_gaps_total").await, 0.0);
    }
    let healed = a.metric("tidegate_cluster_healed_frames_total").await
        + b.metric("tidegate_cluster_healed_frames_total").await;
    assert!(50.0 <= healed, "{healed}");
    // A new node reads the same log.
    assert_eq!(Node::start(&redis).everything("t").await, sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_brings_too_late_is_published_again() {
    let Some(mut redis) = Redis::start(&[]) else { return };
    let proxy = Proxy::start(([127, 0, 0, 1], redis.port).into()).await;
    let address = proxy.origin().replace("http://", "redis://");
    let late = Node::with(&address, &[("CLUSTER__RECOVERY_WAIT", "0s")]);
    late.publish("t", "before").await;
    redis.run(&["SAVE"]);
    for number in 0..5 {
        late.publish("t", &number.to_string()).await;
    }
    let mut stream = late.open("/events?topic=t").await;
    proxy.let_pass(Passing::Cut);
    redis.kill();
    redis.restart();
    // This node opens the next term before the other one is back.
    let settings = [("CLUSTER__RECOVERY_WAIT", "0s")];
    let other = Node::with(&redis.address(), &settings);
    let mut heard = other.open("/events?topic=t").await;
    other.publish("t", "other").await;
    proxy.let_pass(Passing::Everything);
    late.until_ready().await;
    let again = async || other.metric("tidegate_updates_total").await == 6.0;
    eventually("the events are published again", again).await;
    late.publish("t", "end").await;
    let all = up_to(&mut heard, "end").await;
    assert_eq!(all, ["other", "0", "1", "2", "3", "4", "end"]);
    // Its own subscribers may have these twice, and are told of a gap.
    let told = up_to(&mut stream, "end").await;
    assert!(told.contains(&"other".to_owned()), "{told:?}");
    assert_eq!(late.metric("tidegate_cluster_late_events_total").await, 5.0);
    let kept = late.everything("t").await;
    assert_unique(&kept);
    assert_eq!(kept, other.everything("t").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_cut_off_reads_on_or_says_what_was_trimmed() {
    let Some(redis) = Redis::start(&[]) else { return };
    let proxy = Proxy::start(([127, 0, 0, 1], redis.port).into()).await;
    let address = proxy.origin().replace("http://", "redis://");
    let settings = [("HISTORY__MEMORY_BYTES", "256KiB"), ("LIMITS__BODY_BYTES", "64KiB")];
    let away = Node::with(&address, &settings);
    let here = Node::with(&redis.address(), &settings);
    let mut stream = away.open("/events?topic=t").await;
    let mut quiet = away.open("/events?topic=quiet").await;
    here.publish("t", "1").await;
    assert_eq!(stream.next().await.data, "1");
    proxy.let_pass(Passing::Cut);
    here.publish("t", "2").await;
    proxy.let_pass(Passing::Everything);
    assert_eq!(stream.next().await.data, "2", "nothing is missing");
    proxy.let_pass(Passing::Cut);
    let large = "x".repeat(40_000);
    for _ in 0..20 {
        here.publish("other", &large).await;
    }
    here.publish("t", "3").await;
    proxy.let_pass(Passing::Everything);
    let event = stream.next().await;
    assert_eq!(event.kind, "tidegate.gap", "{event:?}");
    assert_eq!(stream.next().await.data, "3");
    here.publish("quiet", "1").await;
    // It cannot know which topics the trimmed events had.
    assert_eq!(quiet.next().await.kind, "tidegate.gap");
    assert_eq!(quiet.next().await.data, "1");
    away.until_ready().await;
    let length = redis.run(&["XLEN", "tg:{main}:log"]);
    let length: usize = length.trim().trim_start_matches(':').parse().expect("a number");
    assert!(length < 15, "Redis trims the log as well: {length} frames");
    assert_eq!(here.everything("t").await.last(), Some(&"3".to_owned()));
}
