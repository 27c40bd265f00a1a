//! Connections without a request: how long they stay, and which give way when descriptors run
//! short.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};
use tokio_rustls::client::TlsStream;

use crate::support::{Gateway, raw::Raw, tls};

const HEALTH: &str = "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Longer than the times that the tests set.
const LONG: Duration = Duration::from_secs(3);

#[tokio::test]
async fn half_of_any_request_is_held_for_the_time_of_a_head_only() {
    let gateway = Gateway::with(&[("SERVER__HEAD_TIMEOUT", "1s")]);
    for before in 0..3 {
        let mut raw = Raw::connect(gateway.address).await;
        for _ in 0..before {
            raw.send(HEALTH).await;
            assert!(raw.response().await.0.starts_with("HTTP/1.1 200"));
        }
        raw.send("GET /health/live HTTP/1.1\r\nHost: loc").await;
        // Without a status, so that an EventSource reconnects by itself.
        assert_eq!(raw.until_end().await, "");
    }
}

#[tokio::test]
async fn bytes_that_drip_do_not_prolong_the_time_of_a_head() {
    let gateway = Gateway::with(&[("SERVER__HEAD_TIMEOUT", "1s")]);
    let mut raw = Raw::connect(gateway.address).await;
    raw.send(HEALTH).await;
    raw.response().await;
    let (mut reader, mut writer) = raw.stream.into_split();
    let dripping = tokio::spawn(async move {
        while writer.write_all(b"G").await.is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
    });
    let mut byte = [0];
    let end = tokio::time::timeout(Duration::from_secs(20), reader.read(&mut byte)).await;
    assert!(!matches!(end.expect("an end in time"), Ok(1..)));
    dripping.await.expect("no panic");
}

#[tokio::test]
async fn a_connection_without_requests_ends_and_requests_that_wait_do_not() {
    for socket_sink in ["true", "false"] {
        let gateway = Gateway::with(&[
            ("SERVER__HEAD_TIMEOUT", "1s"),
            ("SERVER__KEEP_ALIVE", "1s"),
            ("DELIVERY__SOCKET_SINK", socket_sink),
        ]);
        let mut poll = Raw::get(gateway.address, "/poll?topic=t").await;
        let mut stream = Raw::get(gateway.address, "/events?topic=t").await;
        stream.until("retry: 2000\n").await;
        let mut idle = Raw::connect(gateway.address).await;
        idle.send(HEALTH).await;
        idle.response().await;
        assert_eq!(idle.until_end().await, "");
        sleep(LONG).await;
        gateway.publish("t", "late").await;
        stream.until("data: late\n").await;
        assert!(poll.response().await.1.contains("late"));
    }
}

#[tokio::test]
async fn what_arrived_while_the_process_stood_still_is_served() {
    let gateway = Gateway::with(&[("SERVER__HEAD_TIMEOUT", "1s"), ("SERVER__KEEP_ALIVE", "1s")]);
    for _ in 0..3 {
        let mut fresh = Raw::connect(gateway.address).await;
        let mut half = Raw::connect(gateway.address).await;
        half.send(&HEALTH[..20]).await;
        let mut idle = Raw::connect(gateway.address).await;
        idle.send(HEALTH).await;
        idle.response().await;
        gateway.signal("-STOP");
        fresh.send(HEALTH).await;
        half.send(&HEALTH[20..]).await;
        idle.send(HEALTH).await;
        sleep(LONG).await;
        gateway.signal("-CONT");
        for raw in [&mut fresh, &mut half, &mut idle] {
            assert!(raw.response().await.0.starts_with("HTTP/1.1 200"));
        }
    }
}

async fn until_end(stream: &mut TlsStream<TcpStream>) -> Vec<u8> {
    let mut read = Vec::new();
    // A close without a TLS alert counts as an end.
    let end = stream.read_to_end(&mut read);
    let _ = tokio::time::timeout(Duration::from_secs(20), end).await.expect("an end in time");
    read
}

#[tokio::test]
async fn the_times_hold_over_tls_as_well() {
    let (gateway, _files, pem) =
        tls::gateway(&[("SERVER__HEAD_TIMEOUT", "1s"), ("SERVER__KEEP_ALIVE", "1s")]);
    let mut half = gateway.secure_stream(&pem, "http/1.1").await;
    half.write_all(HEALTH.as_bytes()).await.expect("a writable connection");
    half.write_all(&HEALTH.as_bytes()[..20]).await.expect("a writable connection");
    half.flush().await.expect("a writable connection");
    let read = String::from_utf8(until_end(&mut half).await).expect("text");
    assert!(read.starts_with("HTTP/1.1 200") && read.matches("HTTP/1.1").count() == 1, "{read}");
    // HTTP/2: the preface and settings, then one more request.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    let head = b"\x82\x87\x04\x0c/health/live\x01\x09localhost";
    let mut request = vec![0, 0, u8::try_from(head.len()).expect("short"), 1, 5, 0, 0, 0, 1];
    request.extend_from_slice(head);
    for sent in [preface.clone(), [preface, request].concat()] {
        let mut stream = gateway.secure_stream(&pem, "h2").await;
        stream.write_all(&sent).await.expect("a writable connection");
        stream.flush().await.expect("a writable connection");
        assert!(!until_end(&mut stream).await.is_empty());
    }
    let client = tls::client(&pem, true);
    let poll = tokio::spawn(client.get(gateway.secure_url("/poll?topic=t")).send());
    sleep(LONG).await;
    gateway.publish("t", "late").await;
    let reply = poll.await.expect("no panic").expect("a reply").text().await.expect("text");
    assert!(reply.contains("late"), "{reply}");
}

#[tokio::test]
async fn connections_without_a_request_give_way_when_descriptors_run_short() {
    for half in [None, Some("GET /health/live HTTP/1.1\r\n")] {
        let settings = [("SERVER__HEAD_TIMEOUT", "10m"), ("SERVER__KEEP_ALIVE", "10m")];
        let gateway = Gateway::with_descriptors(400, &settings);
        let mut streams = Vec::new();
        for _ in 0..250 {
            let mut raw = Raw::get(gateway.address, "/events?topic=t").await;
            raw.until("retry: 2000\n").await;
            streams.push(raw);
        }
        let mut idle = Vec::new();
        for _ in 0..121 {
            let mut raw = Raw::connect(gateway.address).await;
            match half {
                Some(half) => raw.send(half).await,
                None => {
                    raw.send(HEALTH).await;
                    raw.response().await;
                }
            }
            idle.push(raw);
        }
        for at in 0..40 {
            let mut raw = Raw::connect(gateway.address).await;
            raw.send(HEALTH).await;
            assert!(raw.response().await.0.starts_with("HTTP/1.1 200"), "{at}");
            idle.push(raw);
        }
        gateway.publish("t", "still").await;
        for raw in &mut streams {
            raw.until("data: still\n").await;
        }
        assert!(gateway.descriptors() < 400, "{}", gateway.descriptors());
    }
}
