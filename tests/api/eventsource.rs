use std::time::Duration;

use crate::support::{
    Gateway, problem,
    raw::{Framing, Raw},
    sinks::with_both_sinks,
    sse::Stream,
};

#[tokio::test]
async fn the_exact_bytes_of_a_stream() {
    // One chunk per item, framed by the shard or by actix.
    with_both_sinks(&[("DELIVERY__LIFETIME", "2s")], async |gateway| {
        let mut raw = Raw::get(gateway.address, "/events?topic=t").await;
        raw.framing = Framing::Kept;
        let head = raw.until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        assert!(head.contains("connection: close"), "{head}");
        assert_eq!(raw.until("2000\n\r\n").await.to_lowercase(), "e\r\n:\nretry: 2000\n\r\n");
        let form = [
            ("topic", "t"),
            ("data", "a\r\n b\r\rc\n"),
            ("id", "i\"ü"),
            ("type", "k"),
            ("retry", "7"),
        ];
        gateway.post(&form).await;
        let event = "event: k\nretry: 7\ndata: a\ndata:  b\ndata: \ndata: c\ndata: \nid: i\"ü\n\n";
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        assert_eq!(raw.until("\n\n\r\n").await.to_lowercase(), chunk);
        gateway.post(&[("topic", "t"), ("id", "no-data")]).await;
        let chunk = "14\r\ndata: \nid: no-data\n\n\r\n";
        assert_eq!(raw.until("\n\n\r\n").await, chunk);
        let end = raw.until_end().await.to_lowercase();
        assert_eq!(end, "c\r\nretry: 2000\n\r\n0\r\n\r\n");
    })
    .await;
}

#[tokio::test]
async fn the_head_keeps_proxies_and_caches_out_of_the_way() {
    let gateway = Gateway::start();
    for path in ["/events?topic=t", "/.well-known/mercure?topic=t"] {
        let request = gateway.client.get(gateway.url(path)).header("accept-encoding", "gzip, br");
        let stream = Stream::open(request).await;
        let headers = stream.headers();
        assert_eq!(headers["x-accel-buffering"], "no");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["content-encoding"], "identity");
        let cache = headers["cache-control"].to_str().expect("text");
        assert!(cache.contains("no-store") && cache.contains("no-transform"), "{cache}");
        assert!(!headers.contains_key("content-length"));
        assert!(!headers.contains_key("mercure-last-event-id"));
    }
}

#[tokio::test]
async fn http_1_0_gets_a_stream_without_chunks() {
    let gateway = Gateway::start();
    let mut raw = Raw::connect(gateway.address).await;
    raw.send("GET /events?topic=t HTTP/1.0\r\n\r\n").await;
    let head = raw.until("\r\n\r\n").await.to_lowercase();
    assert!(!head.contains("transfer-encoding"), "{head}");
    assert!(!head.contains("keep-alive"), "{head}");
    assert_eq!(raw.until("2000\n").await, ":\nretry: 2000\n");
    gateway.post(&[("topic", "t"), ("data", "x"), ("id", "i")]).await;
    assert_eq!(raw.until("\n\n").await, "data: x\nid: i\n\n");
}

#[tokio::test]
async fn head_answers_like_get_and_does_not_subscribe() {
    let gateway = Gateway::start();
    for path in ["/events?topic=t", "/poll?topic=t", "/iframe?topic=t&callback=f"] {
        let reply = gateway.client.head(gateway.url(path)).send().await.expect("a reply");
        assert_eq!(reply.status(), 200);
        assert!(reply.headers().contains_key("cache-control"));
        assert_eq!(reply.bytes().await.expect("no body").len(), 0);
        let bad = path.replace("topic", "matches");
        let reply = gateway.client.head(gateway.url(&bad)).send().await.expect("a reply");
        assert_eq!(reply.status(), 400);
    }
    for transport in ["sse", "iframe", "poll"] {
        let opened = format!("tidegate_subscribers_opened_total{{transport=\"{transport}\"}}");
        assert_eq!(gateway.metric(&opened).await, 0.0);
    }
}

#[tokio::test]
async fn subscribers_get_what_they_asked_for_and_nothing_else() {
    let gateway = Gateway::start();
    let mut one = gateway.open("/events?topic=a").await;
    let mut two = gateway.open("/events?match=b&match_exact=c&topic=b").await;
    let mut all = gateway.open("/.well-known/mercure?topic=*").await;
    gateway.publish("a", "1").await;
    gateway.post(&[("topic", "b"), ("topic", "c"), ("data", "2")]).await;
    gateway.post(&[("topic", "x"), ("topic", "a"), ("data", "3")]).await;
    gateway.publish("c", "4").await;
    gateway.publish("A", "5").await;
    assert_eq!(one.data(2).await, ["1", "3"]);
    assert_eq!(two.data(2).await, ["2", "4"]);
    assert_eq!(all.data(5).await, ["1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn every_way_to_name_a_cursor_resumes_behind_it() {
    let gateway = Gateway::start();
    let first = gateway.publish("t", "1").await;
    gateway.publish("other", "x").await;
    gateway.publish("t", "2").await;
    let encoded: String = url::form_urlencoded::byte_serialize(first.as_bytes()).collect();
    for name in ["last_event_id", "lastEventID", "lastEventId", "Last-Event-ID"] {
        let mut stream = gateway.open(&format!("/events?topic=t&{name}={encoded}&last=9")).await;
        assert_eq!(stream.headers()["mercure-last-event-id"], first);
        assert_eq!(stream.headers()["last-event-id"], first);
        assert_eq!(stream.next().await.data, "2", "{name}");
    }
    let request = gateway.client.get(gateway.url("/events?topic=t&last_event_id=earliest"));
    let mut stream = Stream::open(request.header("Last-Event-ID", &first)).await;
    assert_eq!(stream.next().await.data, "2", "the header wins");
}

#[tokio::test]
async fn newcomers_get_what_comes_unless_they_ask_for_a_backlog() {
    let gateway = Gateway::start();
    for at in 1..=5 {
        gateway.publish("t", &at.to_string()).await;
        gateway.publish("other", "x").await;
    }
    let mut now = gateway.open("/events?topic=t").await;
    let mut empty = gateway.open("/events?topic=t&last_event_id=").await;
    assert_eq!(empty.headers()["mercure-last-event-id"], "earliest");
    let mut last = gateway.open("/events?topic=t&last=2").await;
    let mut none = gateway.open("/events?topic=t&last=0").await;
    let mut earliest = gateway.open("/events?topic=t&last_event_id=earliest").await;
    assert_eq!(earliest.headers()["mercure-last-event-id"], "earliest");
    let mut since = gateway.open("/events?topic=t&since=2020-01-01T00:00:00%2B02:00").await;
    let mut future = gateway.open("/events?topic=t&since=2120-01-01T00:00:00Z").await;
    gateway.publish("t", "6").await;
    assert_eq!(now.next().await.data, "6");
    assert_eq!(empty.next().await.data, "6");
    assert_eq!(none.next().await.data, "6");
    assert_eq!(future.next().await.data, "6");
    assert_eq!(last.data(3).await, ["4", "5", "6"]);
    assert_eq!(earliest.data(6).await, ["1", "2", "3", "4", "5", "6"]);
    assert_eq!(since.data(6).await, ["1", "2", "3", "4", "5", "6"]);
}

#[tokio::test]
async fn an_id_that_was_used_twice_means_its_first_event() {
    let gateway = Gateway::start();
    for data in ["1", "2", "3"] {
        gateway.post(&[("topic", "t"), ("data", data), ("id", "same")]).await;
    }
    let mut stream = gateway.open("/events?topic=t&last_event_id=same").await;
    assert_eq!(stream.data(2).await, ["2", "3"]);
}

#[tokio::test]
async fn heartbeats_are_lone_comments() {
    let gateway = Gateway::with(&[("DELIVERY__HEARTBEAT", "100ms")]);
    let mut raw = Raw::get(gateway.address, "/events?topic=t").await;
    raw.framing = Framing::Kept;
    raw.until("retry: 2000\n\r\n").await;
    for _ in 0..3 {
        assert_eq!(raw.until("\n\r\n").await, "2\r\n:\n\r\n");
    }
}

#[tokio::test]
async fn visible_heartbeats_are_events_to_resume_from() {
    let gateway = Gateway::with(&[("DELIVERY__HEARTBEAT", "100ms")]);
    let mut stream = gateway.open("/events?topic=t&heartbeat=event").await;
    let first = stream.next().await;
    assert_eq!(first.kind, "tidegate.heartbeat");
    assert!(first.id.starts_with('#') && first.data.contains(&first.id), "{first:?}");
    gateway.publish("t", "1").await;
    let mut next = stream.next().await;
    while next.kind == "tidegate.heartbeat" {
        next = stream.next().await;
    }
    assert_eq!(next.data, "1");
    let request =
        gateway.client.get(gateway.url("/events?topic=t")).header("last-event-id", &first.id);
    let mut resumed = Stream::open(request).await;
    assert_eq!(resumed.headers()["mercure-last-event-id"], first.id);
    assert_eq!(resumed.next().await.data, "1");
    let mut later = stream.next().await;
    while later.id == first.id {
        later = stream.next().await;
    }
    assert_eq!(later.kind, "tidegate.heartbeat");
    let request =
        gateway.client.get(gateway.url("/events?topic=t")).header("last-event-id", &later.id);
    let mut resumed = Stream::open(request).await;
    gateway.publish("t", "2").await;
    assert_eq!(resumed.next().await.data, "2", "the first event was before the heartbeat");
}

#[tokio::test]
async fn a_stream_ends_after_its_lifetime_and_tells_when_to_return() {
    let gateway = Gateway::with(&[("DELIVERY__LIFETIME", "500ms"), ("DELIVERY__RETRY", "300ms")]);
    let mut stream = gateway.open("/events?topic=t").await;
    assert_eq!(stream.next_or_end().await, None);
    assert_eq!(stream.parser.retry, Some(300));
    assert_eq!(stream.parser.empty_dispatches, 0);
    gateway.until_metric("tidegate_subscribers{transport=\"sse\"}", 0.0).await;
}

#[tokio::test]
async fn an_event_larger_than_any_buffer_arrives_whole() {
    let gateway = Gateway::start();
    let mut stream = gateway.open("/events?topic=t").await;
    let data = "0123456789abcdef\n".repeat(40_000);
    gateway.publish("t", &data).await;
    gateway.publish("t", "next").await;
    assert_eq!(stream.next().await.data, data);
    assert_eq!(stream.next().await.data, "next");
}

#[tokio::test]
async fn subscribers_have_a_limit() {
    let gateway = Gateway::with(&[("LIMITS__SUBSCRIBERS", "1")]);
    let stream = gateway.open("/events?topic=t").await;
    let reply = gateway.get("/events?topic=t").await;
    assert!(reply.headers().contains_key("retry-after"));
    assert_eq!(problem(reply, 503).await["limit"], 1);
    drop(stream);
    gateway.until_metric("tidegate_subscribers{transport=\"sse\"}", 0.0).await;
    gateway.open("/events?topic=t").await;
}

#[tokio::test]
async fn a_client_that_closes_is_forgotten_without_an_event() {
    let gateway = Gateway::start();
    let streams = [gateway.open("/events?topic=t").await, gateway.open("/events?topic=t").await];
    gateway.until_metric("tidegate_subscribers{transport=\"sse\"}", 2.0).await;
    drop(streams);
    tokio::time::timeout(
        Duration::from_secs(10),
        gateway.until_metric("tidegate_subscribers{transport=\"sse\"}", 0.0),
    )
    .await
    .expect("forgotten long before the next heartbeat");
}
