use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use crate::support::{Gateway, raw::Raw};

#[tokio::test]
async fn a_client_that_stops_reading_hurts_no_other_and_loses_nothing() {
    let gateway = Gateway::with(&[("DELIVERY__TAIL_BYTES", "256KiB")]);
    let mut stalled = Raw::get(gateway.address, "/events?topic=t").await;
    stalled.until("retry: 2000\n").await;
    let mut reader = gateway.open("/events?topic=t").await;
    let padding = "x".repeat(10_000);
    for at in 0..500 {
        gateway.publish("t", &format!("{at} {padding}")).await;
        assert!(reader.next().await.data.starts_with(&format!("{at} ")));
    }
    for at in 0..500 {
        stalled.until(&format!("data: {at} x")).await;
    }
}

#[tokio::test]
async fn a_client_that_never_reads_is_given_up_even_while_there_is_more_to_write() {
    let gateway = Gateway::with(&[("DELIVERY__WRITE_DEADLINE", "1s")]);
    let _stalled = Raw::get(gateway.address, "/events?topic=t").await;
    gateway.until_metric("tidegate_subscribers{transport=\"sse\"}", 1.0).await;
    let padding = "x".repeat(200_000);
    let publishing = async {
        loop {
            gateway.publish("t", &padding).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = publishing => {}
        () = gateway.until_metric("tidegate_subscribers{transport=\"sse\"}", 0.0) => {}
    }
}

#[tokio::test]
async fn a_client_that_half_closes_counts_as_gone() {
    let gateway = Gateway::start();
    let mut raw = Raw::get(gateway.address, "/events?topic=t").await;
    raw.until("retry: 2000\n").await;
    raw.stream.shutdown().await.expect("half a close");
    gateway.until_metric("tidegate_subscribers{transport=\"sse\"}", 0.0).await;
}

#[tokio::test]
async fn a_client_that_resets_is_forgotten() {
    let gateway = Gateway::start();
    let raw = Raw::get(gateway.address, "/poll?topic=t").await;
    gateway.until_metric("tidegate_subscribers{transport=\"poll\"}", 1.0).await;
    raw.reset();
    gateway.until_metric("tidegate_subscribers{transport=\"poll\"}", 0.0).await;
}

#[tokio::test]
async fn a_head_that_comes_one_byte_at_a_time_is_served_or_cut_and_others_are_served() {
    let gateway = Gateway::with(&[("SERVER__HEAD_TIMEOUT", "2s")]);
    let mut fast_enough = Raw::connect(gateway.address).await;
    for byte in "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n".bytes() {
        fast_enough.stream.write_all(&[byte]).await.expect("a writable connection");
        fast_enough.stream.flush().await.expect("a writable connection");
    }
    fast_enough.until("200 OK").await;
    let mut never_done = Raw::connect(gateway.address).await;
    never_done.send("GET /health/live HTTP/1.1\r\nHost: loc").await;
    gateway.publish("t", "meanwhile").await;
    let answer = never_done.until_end().await;
    assert_eq!(answer, "");
}

#[tokio::test]
async fn a_client_that_says_nothing_is_cut() {
    let gateway = Gateway::with(&[("SERVER__HEAD_TIMEOUT", "1s")]);
    let mut silent = Raw::connect(gateway.address).await;
    let answer = silent.until_end().await;
    assert_eq!(answer, "");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_refused() {
    let gateway = Gateway::with(&[("SERVER__BODY_TIMEOUT", "500ms")]);
    let mut raw = Raw::connect(gateway.address).await;
    raw.send("POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n").await;
    raw.send("Content-Type: application/x-www-form-urlencoded\r\n\r\ntopic=t").await;
    assert!(raw.until("did not arrive").await.starts_with("HTTP/1.1 408"));
    assert_eq!(gateway.metric("tidegate_updates_total").await, 0.0);
}

#[tokio::test]
async fn what_is_not_http_is_refused_and_the_server_serves_on() {
    let gateway = Gateway::start();
    let huge =
        format!("GET /events?topic={} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(300_000));
    for nonsense in [
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\u{16}\u{3}\u{1}\r\n\r\n",
        &huge,
    ] {
        let mut raw = Raw::connect(gateway.address).await;
        // The server may reply and close before it has read everything.
        let _ = raw.stream.write_all(nonsense.as_bytes()).await;
        raw.until_end().await;
    }
    gateway.publish("t", "still here").await;
}

#[tokio::test]
async fn a_storm_of_connections_leaves_nothing_behind() {
    let gateway = Gateway::start();
    for _ in 0..20 {
        let mut open = Vec::new();
        for _ in 0..50 {
            open.push(Raw::get(gateway.address, "/events?topic=t").await);
        }
        gateway.publish("t", "x").await;
    }
    gateway.until_metric("tidegate_subscribers{transport=\"sse\"}", 0.0).await;
}
