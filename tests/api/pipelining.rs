//! Requests that are sent before earlier ones are answered.

use std::time::Duration;

use tokio::{io::AsyncWriteExt as _, time::sleep};

use crate::support::{Gateway, raw::Raw, tls};

const HEALTH: &str = "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";

const POLL: &str = "GET /poll?topic=t&wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn form(id: &str) -> String {
    let body = format!("topic=t&data=x&id={id}");
    let kind = "Content-Type: application/x-www-form-urlencoded";
    let length = body.len();
    format!(
        "POST /events HTTP/1.1\r\nHost: localhost\r\n{kind}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn chunked(id: &str) -> String {
    let kind = "Content-Type: application/x-www-form-urlencoded";
    let mut request = format!(
        "POST /events HTTP/1.1\r\nHost: localhost\r\n{kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    // A byte a chunk is the most framing that a client may use.
    for byte in format!("topic=t&data=x&id={id}").chars() {
        request += &format!("1\r\n{byte}\r\n");
    }
    request + "0\r\n\r\n"
}

/// The bodies of updates whose ids are in `replies`.
fn ids(replies: &str) -> Vec<&str> {
    let lines = replies.lines().filter_map(|it| it.split("HTTP/1.1").next());
    lines.filter(|it| it.starts_with("id-")).collect()
}

#[tokio::test]
async fn every_request_is_answered_in_order() {
    let gateway = Gateway::durable(&[]);
    let expected: Vec<String> = (0..100).map(|at| format!("id-{at:03}")).collect();
    for half_closes in [true, false] {
        let mut raw = Raw::connect(gateway.address).await;
        let sent: String = expected
            .iter()
            .enumerate()
            .map(|(at, id)| match at % 3 {
                0 => HEALTH.to_owned() + &form(id),
                1 => "\r\n".to_owned() + &chunked(id),
                _ => form(id) + &form(&format!("{id}-again")),
            })
            .collect();
        // In pieces whose ends have nothing to do with requests.
        for piece in sent.as_bytes().chunks(1777) {
            raw.stream.write_all(piece).await.expect("a writable connection");
        }
        if half_closes {
            raw.stream.shutdown().await.expect("half a close");
        } else {
            raw.send("GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                .await;
        }
        let replies = raw.until_end().await;
        let told = ids(&replies);
        let firsts: Vec<&str> = told.iter().filter(|it| !it.ends_with("-again")).copied().collect();
        assert_eq!(firsts, expected);
        assert_eq!(told.len(), expected.len() + expected.len() / 3);
    }
}

#[tokio::test]
async fn a_large_body_between_others_is_taken() {
    let gateway = Gateway::start();
    let large = |id: &str| {
        let body = format!("topic=t&id={id}&data={}", "x\n\r\n".repeat(200_000));
        form(id).split_once("\r\n\r\n").map_or_else(String::new, |(head, old)| {
            let length = format!("Content-Length: {}", old.len());
            head.replace(&length, &format!("Content-Length: {}", body.len())) + "\r\n\r\n" + &body
        })
    };
    let mut raw = Raw::connect(gateway.address).await;
    let sent = form("id-1") + &large("id-2") + &form("id-3") + &large("id-4") + &form("id-5");
    raw.send(&sent).await;
    raw.stream.shutdown().await.expect("half a close");
    assert_eq!(ids(&raw.until_end().await), ["id-1", "id-2", "id-3", "id-4", "id-5"]);
}

#[tokio::test]
async fn what_is_sent_ahead_costs_neither_time_nor_memory() {
    let (gateway, _files, pem) = tls::gateway(&[]);
    let before = gateway.memory();
    let flood = POLL.to_owned() + &"GET / HTTP/1.1\r\nHost:localhost\r\n\r\n".repeat(9000);
    let mut connections = Vec::new();
    for _ in 0..20 {
        let mut raw = Raw::connect(gateway.address).await;
        // More than the kernel's buffers take stays with this process.
        let _ =
            tokio::time::timeout(Duration::from_millis(20), raw.stream.write_all(flood.as_bytes()))
                .await;
        connections.push(raw);
    }
    let mut encrypted = gateway.secure_stream(&pem, "http/1.1").await;
    let _ = tokio::time::timeout(Duration::from_millis(200), encrypted.write_all(flood.as_bytes()))
        .await;
    gateway.until_metric("tidegate_subscribers{transport=\"poll\"}", 21.0).await;
    let used = gateway.processor_time();
    sleep(Duration::from_secs(2)).await;
    let used = gateway.processor_time() - used;
    assert!(used < Duration::from_millis(500), "{used:?} in two seconds without an event");
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes");
}

#[tokio::test]
async fn replies_that_are_not_read_stop_the_next_request() {
    let gateway = Gateway::start();
    let before = gateway.memory();
    let mut connections = Vec::new();
    for _ in 0..20 {
        let mut raw = Raw::stalled(gateway.address, "/static/iframe.js").await;
        let flood = "GET /static/iframe.js HTTP/1.1\r\nHost:localhost\r\n\r\n".repeat(9000);
        let _ =
            tokio::time::timeout(Duration::from_millis(20), raw.stream.write_all(flood.as_bytes()))
                .await;
        connections.push(raw);
    }
    let used = gateway.processor_time();
    sleep(Duration::from_secs(2)).await;
    let used = gateway.processor_time() - used;
    assert!(used < Duration::from_millis(500), "{used:?} in two seconds");
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes");
}
