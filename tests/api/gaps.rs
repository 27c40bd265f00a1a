use serde_json::Value;

use crate::support::{Gateway, sse::Dispatched};

/// A history that keeps three events, and remembers as many ids of dropped ones.
fn short_memory() -> Gateway {
    Gateway::with(&[
        ("HISTORY__MAX_EVENTS", "3"),
        ("HISTORY__REMEMBERED", "3"),
        ("DELIVERY__TAIL_BYTES", "1B"),
        ("PUBLISH__REFUSE_WHEN_BEHIND", "false"),
    ])
}

fn told(event: &Dispatched) -> (String, String, String) {
    assert_eq!(event.kind, "tidegate.gap");
    assert!(event.id.starts_with('#'), "a point to resume from");
    let data: Value = serde_json::from_str(&event.data).expect("JSON");
    let text = |name: &str| data[name].as_str().expect("text").to_owned();
    (text("cursor"), text("reason"), text("follows"))
}

#[tokio::test]
async fn an_unknown_id_is_said_and_what_is_left_follows() {
    let gateway = Gateway::start();
    gateway.publish("t", "1").await;
    let mut stream = gateway.open("/events?topic=t&last_event_id=no-such-id").await;
    assert_eq!(stream.headers()["mercure-last-event-id"], "earliest");
    let gap = stream.next().await;
    assert_eq!(told(&gap), ("no-such-id".into(), "unknown".into(), "earliest".into()));
    assert_eq!(stream.next().await.data, "1");
    assert_eq!(gateway.metric("tidegate_gaps_total").await, 1.0);
}

#[tokio::test]
async fn the_id_of_a_gap_is_a_point_to_resume_from() {
    let gateway = Gateway::start();
    gateway.publish("t", "1").await;
    let gap = gateway.open("/events?topic=t&last_event_id=unknown").await.next().await;
    let request =
        gateway.client.get(gateway.url("/events?topic=t")).header("last-event-id", &gap.id);
    let mut stream = crate::support::sse::Stream::open(request).await;
    assert_eq!(stream.next().await.data, "1", "the gap is not told twice");
}

#[tokio::test]
async fn a_trimmed_id_is_said_while_it_is_remembered() {
    let gateway = short_memory();
    let first = gateway.publish("t", "1").await;
    for at in 2..=5 {
        gateway.publish("t", &at.to_string()).await;
    }
    let mut stream = gateway.open(&format!("/events?topic=t&last_event_id={first}")).await;
    assert_eq!(told(&stream.next().await), (first.clone(), "trimmed".into(), "earliest".into()));
    assert_eq!(stream.data(3).await, ["3", "4", "5"]);
    for at in 6..=9 {
        gateway.publish("t", &at.to_string()).await;
    }
    let mut stream = gateway.open(&format!("/events?topic=t&last_event_id={first}")).await;
    assert_eq!(told(&stream.next().await).1, "unknown");
    assert_eq!(stream.data(3).await, ["7", "8", "9"]);
}

#[tokio::test]
async fn only_those_are_told_who_may_have_missed_something() {
    let gateway = short_memory();
    let quiet = gateway.publish("quiet", "1").await;
    for at in 2..=4 {
        gateway.publish("busy", &at.to_string()).await;
    }
    // `quiet` has been trimmed by now, but no later event.
    let mut stream = gateway.open(&format!("/events?topic=quiet&last_event_id={quiet}")).await;
    gateway.publish("busy", "5").await;
    gateway.publish("quiet", "6").await;
    assert_eq!(stream.next().await.data, "6");
    // Now later events are gone, but only those of the other topic.
    let mut stream = gateway.open(&format!("/events?topic=quiet&last_event_id={quiet}")).await;
    assert_eq!(stream.next().await.data, "6");
    let mut stream = gateway.open(&format!("/events?topic=busy&last_event_id={quiet}")).await;
    assert_eq!(told(&stream.next().await).1, "trimmed");
    let mut stream = gateway.open(&format!("/events?topic=*&last_event_id={quiet}")).await;
    assert_eq!(told(&stream.next().await).1, "trimmed");
}

#[tokio::test]
async fn a_token_of_another_store_is_unknown() {
    let (before, after) = (Gateway::start(), Gateway::start());
    let token =
        before.poll("/poll?topic=t&wait=0").await["cursor"].as_str().expect("a token").to_owned();
    after.publish("t", "1").await;
    let encoded: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
    let mut stream = after.open(&format!("/events?topic=t&last_event_id={encoded}")).await;
    assert_eq!(told(&stream.next().await), (token, "unknown".into(), "earliest".into()));
    assert_eq!(stream.next().await.data, "1");
}

#[tokio::test]
async fn a_backlog_that_reaches_behind_what_is_kept_is_said() {
    let gateway = short_memory();
    for at in 1..=5 {
        gateway.publish("t", &at.to_string()).await;
    }
    let mut stream = gateway.open("/events?topic=t&since=2020-01-01T00:00:00Z").await;
    assert_eq!(told(&stream.next().await).1, "trimmed");
    assert_eq!(stream.data(3).await, ["3", "4", "5"]);
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let now = jiff::Timestamp::now();
    for _ in 0..4 {
        gateway.publish("other", "x").await;
    }
    let mut stream = gateway.open(&format!("/events?topic=t&since={now}")).await;
    gateway.publish("t", "6").await;
    assert_eq!(stream.next().await.data, "6", "of this topic nothing has gone since then");
    for at in 7..=9 {
        gateway.publish("t", &at.to_string()).await;
    }
    let mut stream = gateway.open("/events?topic=t&last=100").await;
    assert_eq!(stream.data(3).await, ["7", "8", "9"], "as many as there are");
    let mut stream = gateway.open("/events?topic=t&last_event_id=earliest").await;
    assert_eq!(stream.data(3).await, ["7", "8", "9"], "the earliest is what is kept");
}

#[tokio::test]
async fn every_transport_tells_of_a_gap() {
    let gateway = Gateway::start();
    gateway.publish("t", "1").await;
    let polled = gateway.poll("/poll?topic=t&last_event_id=%3Cunknown%3E").await;
    let gap = &polled["events"][0];
    assert_eq!(gap["type"], "tidegate.gap");
    assert!(gap.get("time").is_some_and(Value::is_null), "it was never accepted: {gap}");
    let data: Value = serde_json::from_str(gap["data"].as_str().expect("text")).expect("JSON");
    assert_eq!(data["cursor"], "<unknown>");
    let path = "/iframe?topic=t&callback=f&last_event_id=%3Cunknown%3E";
    let mut raw = crate::support::raw::Raw::get(gateway.address, path).await;
    let page = raw.until("\"data\":\"1\"").await;
    let stream = page.split("<body>").nth(1).expect("a body");
    assert!(stream.contains("tidegate.gap") && !stream.contains("<unknown>"), "{stream}");
}
