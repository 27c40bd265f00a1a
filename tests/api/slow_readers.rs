//! Clients that stall, or read little at a time. They lose nothing that the history has, use
//! bounded memory, and delay no other client.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    Gateway,
    raw::{Framing, Raw},
    sinks::{SSE, with_both_sinks},
    sse::Parser,
};

/// Accepts updates even if a test publishes faster than a shard reads.
const ACCEPT_ALL: (&str, &str) = ("PUBLISH__REFUSE_WHEN_BEHIND", "false");

async fn stalled(gateway: &Gateway) -> Raw {
    let mut raw = Raw::stalled(gateway.address, "/events?topic=t").await;
    raw.until("retry: 2000\n").await;
    raw
}

#[tokio::test]
async fn large_events_pass_a_stalled_reader_and_all_of_them_reach_it_later() {
    for tail in ["16MiB", "100KiB"] {
        let settings = [ACCEPT_ALL, ("DELIVERY__TAIL_BYTES", tail), ("LIMITS__BODY_BYTES", "4MiB")];
        with_both_sinks(&settings, async |gateway| {
            let mut stalled = stalled(&gateway).await;
            let mut reader = gateway.open("/events?topic=t").await;
            let sizes = [10, 64 << 10, 1 << 20, 0, 64 << 10, 1 << 20, 1];
            let data: Vec<_> =
                (0..21).map(|at| format!("{at} {}", "x".repeat(sizes[at % sizes.len()]))).collect();
            for data in &data {
                gateway.publish("t", data).await;
            }
            assert!(reader.data(data.len()).await == data, "others are served meanwhile");
            let events = stalled.events(&mut Parser::default(), data.len()).await;
            let told: Vec<_> = events.into_iter().map(|it| it.data).collect();
            assert!(told == data, "tail {tail}: {} events", told.len());
        })
        .await;
    }
}

#[tokio::test]
async fn a_stream_cut_anywhere_into_pieces_is_the_same_stream() {
    with_both_sinks(&[ACCEPT_ALL, ("DELIVERY__TAIL_BYTES", "8KiB")], async |gateway| {
        let mut whole = Raw::get(gateway.address, "/events?topic=t").await;
        whole.framing = Framing::Kept;
        whole.until("retry: 2000\n\r\n").await;
        let mut pieces = Vec::new();
        for _ in 0..4 {
            let mut raw = Raw::stalled(gateway.address, "/events?topic=t").await;
            raw.framing = Framing::Kept;
            raw.until("retry: 2000\n\r\n").await;
            pieces.push(raw);
        }
        for at in 0..200 {
            gateway.publish("t", &format!("{at} {}", "y".repeat(at * 37 % 5000))).await;
        }
        gateway.publish("t", "the last").await;
        let expected = whole.until("data: the last\n").await.into_bytes();
        for (at, raw) in pieces.iter_mut().enumerate() {
            let mut size = at;
            while raw.read.len() < expected.len() {
                size = size % 700 + 1;
                assert!(raw.more_of(size).await, "it goes on");
            }
            assert!(raw.read[..expected.len()] == expected, "not the same bytes");
        }
    })
    .await;
}

#[tokio::test]
async fn a_reader_of_one_byte_at_a_time_delays_no_other() {
    with_both_sinks(&[("SERVER__WORKERS", "1")], async |gateway| {
        let mut slow = stalled(&gateway).await;
        let mut reader = gateway.open("/events?topic=t").await;
        let data = "x".repeat(20_000);
        for at in 0..200 {
            gateway.publish("t", &format!("{at} {data}")).await;
            assert!(reader.next().await.data.starts_with(&format!("{at} ")));
            assert!(slow.more_of(1).await);
        }
        let events = slow.events(&mut Parser::default(), 200).await;
        assert!(events.iter().enumerate().all(|(at, it)| it.data == format!("{at} {data}")));
        assert_eq!(events.len(), 200);
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_stalls_until_half_an_event_is_trimmed_gets_the_gap() {
    let settings = [
        ACCEPT_ALL,
        ("HISTORY__MAX_EVENTS", "3"),
        ("DELIVERY__TAIL_BYTES", "1B"),
        ("LIMITS__BODY_BYTES", "8MiB"),
    ];
    with_both_sinks(&settings, async |gateway| {
        let mut stalled = stalled(&gateway).await;
        gateway.publish("t", "first").await;
        let large = "x".repeat(4 << 20);
        gateway.publish("t", &large).await;
        let mut reader = gateway.open("/events?topic=t").await;
        for at in 0..600 {
            gateway.publish("t", &at.to_string()).await;
            reader.next().await;
        }
        // It is cut within the large event, or receives all of it and then the gap.
        let mut parser = Parser::default();
        let mut events = Vec::new();
        while !events.iter().any(|it: &crate::support::sse::Dispatched| it.kind == "tidegate.gap") {
            let more = stalled.events(&mut parser, 1).await;
            if more.is_empty() {
                let last = events.pop().expect("the first event is whole");
                assert_eq!(last.data, "first", "half an event is none");
                let request = gateway.client.get(gateway.url("/events?topic=t"));
                let request = request.header("last-event-id", &last.id);
                let mut stream = crate::support::sse::Stream::open(request).await;
                assert_eq!(stream.next().await.kind, "tidegate.gap");
                assert_eq!(stream.data(3).await, ["597", "598", "599"]);
                return;
            }
            events.extend(more);
        }
        assert!(events[0].data == "first" && events[1].data == large);
        assert_eq!(events[2].kind, "tidegate.gap");
        let mut rest: Vec<_> = events.split_off(3);
        while rest.len() < 3 {
            rest.extend(stalled.events(&mut parser, 1).await);
        }
        let rest: Vec<_> = rest.iter().map(|it| it.data.as_str()).collect();
        assert_eq!(rest, ["597", "598", "599"]);
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_stalls_within_an_event_when_the_gateway_stops_gets_the_rest_and_the_end() {
    let settings = [("LIMITS__BODY_BYTES", "8MiB"), ("SERVER__SHUTDOWN_TIMEOUT", "20s")];
    with_both_sinks(&settings, async |mut gateway| {
        let mut stalled = stalled(&gateway).await;
        let large = "x".repeat(6 << 20);
        gateway.publish("t", &large).await;
        let begin = stalled.until("data: x").await;
        gateway.signal("-TERM");
        crate::support::watch::eventually("it stops", async || gateway.log().contains("stopping"))
            .await;
        let rest = begin + &stalled.until_end().await;
        let end = rest.rsplit_once("\n\n").expect("the event is whole").1;
        assert!(rest.contains(&large) && end.starts_with("retry: "), "{end:?}");
        assert!(stalled.is_complete());
        assert!(gateway.process.wait().expect("it ends").success());
        assert!(!gateway.log().contains("not ended in time"));
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_stalls_within_an_event_when_its_time_is_over_gets_the_rest_and_the_end() {
    let settings = [("LIMITS__BODY_BYTES", "8MiB"), ("DELIVERY__LIFETIME", "5s")];
    with_both_sinks(&settings, async |gateway| {
        let mut stalled = stalled(&gateway).await;
        let large = "x".repeat(6 << 20);
        gateway.publish("t", &large).await;
        let begin = stalled.until("data: x").await;
        // The end of a stalled client's lifetime cannot be observed from outside.
        tokio::time::sleep(Duration::from_millis(5500)).await;
        let rest = begin + &stalled.until_end().await;
        assert!(rest.contains(&large) && rest.ends_with("retry: 2000\n"));
        assert!(stalled.is_complete());
        gateway.until_metric(SSE, 0.0).await;
    })
    .await;
}

#[tokio::test]
async fn a_hundred_that_read_nothing_cost_no_memory_that_grows_with_what_passes() {
    let settings = [
        ACCEPT_ALL,
        ("DELIVERY__TAIL_BYTES", "1MiB"),
        ("HISTORY__MEMORY_BYTES", "4MiB"),
        ("DELIVERY__WRITE_DEADLINE", "10m"),
    ];
    with_both_sinks(&settings, async |gateway| {
        let data = "x".repeat(1024);
        let update = json!({ "topics": ["t"], "data": data });
        let batch = serde_json::to_string(&vec![update; 500]).expect("JSON");
        let publish = async |n_batches: usize| {
            for _ in 0..n_batches {
                assert_eq!(gateway.post_json(batch.clone()).await.status(), 200);
            }
        };
        publish(20).await;
        let mut clients = Vec::new();
        for _ in 0..100 {
            clients.push(stalled(&gateway).await);
        }
        let before = gateway.memory();
        publish(40).await;
        let growth = gateway.memory().saturating_sub(before);
        assert_eq!(gateway.metric(SSE).await, 100.0);
        // 2 GB have passed them. Each may pin an event or a page, and the rest is allocator
        // overhead.
        assert!(growth < 32 << 20, "{growth}");
        eprintln!("grew by {} KiB", growth >> 10);
    })
    .await;
}
