//! Disconnected clients are forgotten without an event to write to them.

use std::time::Duration;

use tokio::{io::AsyncWriteExt as _, task::JoinSet};

use crate::support::{
    Gateway,
    raw::{Framing, Raw},
    sinks::{SSE, with_both_sinks},
    tls,
    watch::eventually,
};

/// Longer than any test, so that no write can fail.
const SILENCE: (&str, &str) = ("DELIVERY__HEARTBEAT", "1h");

async fn open(gateway: &Gateway) -> Raw {
    let mut raw = Raw::get(gateway.address, "/events?topic=t").await;
    raw.until("retry: 2000\n").await;
    raw
}

#[tokio::test]
async fn a_client_that_closes_half_closes_or_resets_is_forgotten_in_silence() {
    with_both_sinks(&[SILENCE], async |gateway| {
        for way in ["closes", "half closes", "resets"] {
            eprintln!("{way}");
            let mut raw = open(&gateway).await;
            gateway.until_metric(SSE, 1.0).await;
            match way {
                "closes" => drop(raw),
                "half closes" => raw.stream.shutdown().await.expect("half a close"),
                _ => raw.reset(),
            }
            gateway.until_metric(SSE, 0.0).await;
        }
    })
    .await;
}

#[tokio::test]
async fn over_http_2_a_closed_connection_and_a_reset_stream_are_forgotten_within_a_heartbeat() {
    let (gateway, _files, pem) = tls::gateway(&[("DELIVERY__HEARTBEAT", "200ms")]);
    let client = tls::client(&pem, true);
    let open = async || {
        let reply = client.get(gateway.secure_url("/events?topic=t")).send().await;
        let mut reply = reply.expect("a reply");
        assert_eq!(reply.version(), reqwest::Version::HTTP_2);
        reply.chunk().await.expect("a stream").expect("its head");
        reply
    };
    let (staying, leaving) = (open().await, open().await);
    gateway.until_metric(SSE, 2.0).await;
    // Resets the stream. The other one shares the connection.
    drop(leaving);
    gateway.until_metric(SSE, 1.0).await;
    drop((staying, client));
    gateway.until_metric(SSE, 0.0).await;
}

#[tokio::test]
async fn a_thousand_that_come_and_go_leave_no_descriptor_behind() {
    with_both_sinks(&[SILENCE], async |gateway| {
        drop(open(&gateway).await);
        gateway.until_metric(SSE, 0.0).await;
        let before = gateway.descriptors();
        for _ in 0..10 {
            let mut streams = JoinSet::new();
            for _ in 0..100 {
                let address = gateway.address;
                streams.spawn(async move { Raw::get(address, "/events?topic=t").await });
            }
            for (at, mut raw) in streams.join_all().await.into_iter().enumerate() {
                match at % 3 {
                    0 => drop(raw),
                    1 => raw.reset(),
                    _ => drop(raw.until("retry: 2000\n").await),
                }
            }
        }
        gateway.until_metric(SSE, 0.0).await;
        // The client's own connection for requests opens and closes.
        eventually("descriptors come back", async || gateway.descriptors() <= before + 2).await;
    })
    .await;
}

#[tokio::test]
async fn a_steady_reader_is_kept_however_slowly_it_reads_large_events() {
    let accept_all = ("PUBLISH__REFUSE_WHEN_BEHIND", "false");
    let gateway = Gateway::with(&[SILENCE, accept_all, ("DELIVERY__WRITE_DEADLINE", "6s")]);
    // With the buffer of an ordinary client, and with a small one.
    let mut readers = [
        Raw::get(gateway.address, "/events?topic=t").await,
        Raw::stalled(gateway.address, "/events?topic=t").await,
    ];
    for raw in &mut readers {
        raw.until("retry: 2000\n").await;
        raw.framing = Framing::Kept;
    }
    let data = "x".repeat(900_000);
    for _ in 0..4 {
        gateway.publish("t", &data).await;
    }
    // For several times the deadline. After each, a kernel that counts from the first time without
    // room would have reset them.
    for _ in 0..120 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        for raw in &mut readers {
            let end = raw.read.len() + 12_000;
            while raw.read.len() < end {
                assert!(raw.more_of(end - raw.read.len()).await, "it is kept");
            }
        }
        assert_eq!(gateway.metric(SSE).await, 2.0);
    }
}

#[tokio::test]
async fn a_client_that_takes_a_little_now_and_then_is_kept_and_one_that_stops_is_given_up() {
    let accept_all = ("PUBLISH__REFUSE_WHEN_BEHIND", "false");
    let settings = [SILENCE, accept_all, ("DELIVERY__WRITE_DEADLINE", "2s")];
    with_both_sinks(&settings, async |gateway| {
        let mut slow = Raw::stalled(gateway.address, "/events?topic=t").await;
        slow.until("retry: 2000\n").await;
        // Counts bytes, because a large event is one chunk.
        slow.framing = Framing::Kept;
        let data = "x".repeat(900_000);
        for _ in 0..8 {
            gateway.publish("t", &data).await;
        }
        // For twice the deadline. The pace of the client matters here.
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let before = slow.read.len();
            while slow.read.len() < before + 100_000 {
                assert!(slow.more().await, "it is kept");
            }
        }
        assert_eq!(gateway.metric(SSE).await, 1.0);
        gateway.until_metric(SSE, 0.0).await;
    })
    .await;
}
