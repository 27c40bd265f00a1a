//! A stream on a plain connection leaves actix after its head. actix does not promise the behaviour
//! that this needs, so these tests pin it. Clients must not notice the handover.

use crate::support::{
    Gateway,
    raw::Raw,
    sinks::{SSE, with_both_sinks},
    watch::eventually,
};

const GET: &str = "GET /events?topic=t HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test]
async fn responses_to_requests_pipelined_before_the_subscription_arrive_whole() {
    with_both_sinks(&[], async |gateway| {
        let data = "x".repeat(200_000);
        let id = gateway.publish("big", &data).await;
        // A large reply that does not fit into the socket, a small one, and a refusal.
        let before =
            "GET /poll?topic=big&last_event_id=earliest HTTP/1.1\r\nHost: localhost\r\n\r\n\
             GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n\
             GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let mut raw = Raw::stalled(gateway.address, "/health/live").await;
        raw.send(&format!("{before}{before}{GET}")).await;
        assert!(raw.response().await.0.starts_with("HTTP/1.1 200"));
        for _ in 0..2 {
            let (_, reply) = raw.response().await;
            assert!(reply.contains(&data) && reply.contains(&id) && reply.ends_with('}'));
            assert!(raw.response().await.0.starts_with("HTTP/1.1 200"));
            assert!(raw.response().await.0.starts_with("HTTP/1.1 400"));
        }
        assert!(raw.until("\r\n\r\n").await.starts_with("HTTP/1.1 200 OK\r\n"));
        raw.until("retry: 2000\n").await;
        gateway.publish("t", "later").await;
        raw.until("data: later\n").await;
    })
    .await;
}

#[tokio::test]
async fn what_a_client_sends_after_its_subscription_is_discarded_and_delays_no_other() {
    let gateway = Gateway::with(&[("SERVER__WORKERS", "1")]);
    let mut noisy = Raw::connect(gateway.address).await;
    noisy.send(&format!("{GET}POST /events HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    noisy.until("retry: 2000\n").await;
    let nowhere = tokio::net::TcpStream::connect(gateway.address).await.expect("a connection");
    let (reader, mut writer) = std::mem::replace(&mut noisy.stream, nowhere).into_split();
    let noise = tokio::spawn(async move {
        let noise = vec![b'x'; 1 << 20];
        for _ in 0..50 {
            tokio::io::AsyncWriteExt::write_all(&mut writer, &noise).await?;
        }
        Ok::<_, std::io::Error>(writer)
    });
    let mut other = gateway.open("/events?topic=t").await;
    for at in 0..20 {
        gateway.publish("t", &at.to_string()).await;
        assert_eq!(other.next().await.data, at.to_string());
    }
    let writer = noise.await.expect("no panic").expect("all of it is read");
    noisy.stream = reader.reunite(writer).expect("halves of one stream");
    let events = noisy.events(&mut crate::support::sse::Parser::default(), 20).await;
    assert_eq!(events.len(), 20);
    assert!(events.iter().enumerate().all(|(at, it)| it.data == at.to_string()), "{events:?}");
    assert_eq!(gateway.log().lines().filter(|it| it.contains("WARN")).count(), 0);
}

#[tokio::test]
async fn the_head_is_the_same_for_both_ways_and_has_the_headers_of_middleware() {
    let heads = std::cell::RefCell::new(Vec::new());
    let settings = [("CORS__ORIGINS", "https://www.example.com")];
    with_both_sinks(&settings, async |gateway| {
        for version in ["1.1", "1.0"] {
            for target in ["/events?topic=t", "/iframe?topic=t&callback=f"] {
                let mut raw = Raw::connect(gateway.address).await;
                let head = format!("GET {target} HTTP/{version}\r\nHost: localhost\r\n");
                raw.send(&format!("{head}Origin: https://www.example.com\r\n\r\n")).await;
                let head = raw.until("\r\n\r\n").await.to_ascii_lowercase();
                let says = |line: &str| head.contains(&format!("\r\n{line}"));
                assert!(head.starts_with(&format!("http/{version} 200 ok\r\n")), "{head}");
                assert!(says("access-control-allow-origin: https://www.example.com\r\n"), "{head}");
                assert!(says("cache-control: ") && says("content-type: text/"), "{head}");
                assert!(says("date: ") && says("x-accel-buffering: no\r\n"), "{head}");
                let is_chunked = version == "1.1" && target.starts_with("/events");
                assert_eq!(says("transfer-encoding: chunked\r\n"), is_chunked, "{head}");
                assert!(!says("content-length"), "{head}");
                assert!(version == "1.0" || says("connection: close\r\n"), "{head}");
                let mut names: Vec<_> =
                    head.lines().map(|line| line.split(':').next().map(str::to_owned)).collect();
                names.sort();
                heads.borrow_mut().push(names);
                gateway.publish("t", "hello").await;
                raw.until("hello").await;
            }
        }
    })
    .await;
    let heads = heads.into_inner();
    let (of_sockets, of_bodies) = heads.split_at(heads.len() / 2);
    assert_eq!(of_sockets, of_bodies);
}

#[tokio::test]
async fn probes_and_refusals_stay_ordinary_responses_on_a_connection_that_is_kept() {
    with_both_sinks(&[], async |gateway| {
        let mut raw = Raw::connect(gateway.address).await;
        for _ in 0..3 {
            raw.send("HEAD /events?topic=t HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            assert!(raw.until("\r\n\r\n").await.starts_with("HTTP/1.1 200"));
            raw.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            assert!(raw.response().await.0.starts_with("HTTP/1.1 400"));
            raw.send("GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            assert!(raw.response().await.0.starts_with("HTTP/1.1 200"));
        }
        raw.send(GET).await;
        raw.until("retry: 2000\n").await;
        gateway.publish("t", "there").await;
        raw.until("data: there\n").await;
    })
    .await;
}

#[tokio::test]
async fn clients_that_go_away_on_the_way_leave_nothing_behind_and_nothing_is_logged() {
    with_both_sinks(&[("LIMITS__SUBSCRIBERS", "150")], async |gateway| {
        gateway.publish("t", "warm").await;
        // Every thread has served a stream.
        let mut streams = Vec::new();
        for _ in 0..16 {
            streams.push(gateway.open("/events?topic=t").await);
        }
        drop(streams);
        gateway.until_metric(SSE, 0.0).await;
        let before = gateway.descriptors();
        for round in 0..300 {
            let mut raw = Raw::connect(gateway.address).await;
            let half = GET.len() / 2;
            match round % 5 {
                0 => raw.send(&GET[..half]).await,
                1 | 2 => raw.send(GET).await,
                3 => {
                    raw.send(GET).await;
                    raw.until("HTTP/1.1 200").await;
                }
                _ => {
                    raw.send(GET).await;
                    raw.until("retry: ").await;
                }
            }
            match round % 3 {
                0 => raw.reset(),
                _ => drop(raw),
            }
        }
        gateway.until_metric(SSE, 0.0).await;
        eventually("descriptors come back", async || gateway.descriptors() <= before + 2).await;
        // If a seat were lost each time, none would be left.
        let mut streams = Vec::new();
        for _ in 0..150 {
            streams.push(gateway.open("/events?topic=t").await);
        }
        let log = gateway.log();
        let told = log.lines().filter(|line| {
            !["listening", "limits of connections", "old dialect"]
                .iter()
                .any(|it| line.contains(it))
        });
        assert_eq!(told.collect::<Vec<_>>(), Vec::<&str>::new());
    })
    .await;
}

#[tokio::test]
async fn a_head_that_is_read_slowly_arrives_whole() {
    with_both_sinks(&[("IFRAME__PADDING", "64KiB")], async |gateway| {
        let mut slow = Raw::stalled(gateway.address, "/iframe?topic=t&callback=f").await;
        slow.until("HTTP/1.1 200").await;
        // The head is in flight, and actix still owns the socket.
        gateway.publish("t", "meanwhile").await;
        let page = slow.until("meanwhile").await;
        assert!(64 * 1024 < page.find("<body>").expect("a body"), "{}", page.len());
    })
    .await;
}
