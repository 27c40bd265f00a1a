//! A peer that ends its side after its request gets its reply. It may also be gone, so nothing
//! waits for it.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    DEADLINE, Gateway,
    raw::Raw,
    sinks::{SSE, with_both_sinks},
    tls,
};

const POLL: &str = "tidegate_subscribers{transport=\"poll\"}";

/// Much longer than anything takes here, and than any test waits.
const LONG: u64 = 60;

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

fn post(target: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

const FORM: &str = "application/x-www-form-urlencoded";

/// Requests of every kind with an immediate reply, and how the replies begin.
fn requests() -> Vec<(String, &'static str)> {
    let large = format!("topic=t&data={}", "x".repeat(900_000));
    vec![
        (post("/events", FORM, "topic=t&data=small"), "HTTP/1.1 200"),
        (post("/events", FORM, &large), "HTTP/1.1 200"),
        (post("/jobs", "application/json", r#"{"type":"t","title":"T"}"#), "HTTP/1.1 202"),
        (post("/jobs/claim", "application/json", r#"{"types":["t"],"wait":20}"#), "HTTP/1.1 200"),
        (get("/poll?topic=t&last_event_id=earliest&wait=0"), "HTTP/1.1 200"),
        (get(&format!("/poll?topic=t&last_event_id=earliest&wait={LONG}")), "HTTP/1.1 200"),
        (get("/health/live"), "HTTP/1.1 200"),
    ]
}

/// Sends a request, ends this side, and reads to the end.
async fn asked(gateway: &Gateway, request: &str) -> String {
    let mut raw = Raw::connect(gateway.address).await;
    raw.send(request).await;
    raw.stream.shutdown().await.expect("half a close");
    raw.until_end().await
}

#[tokio::test]
async fn a_client_that_half_closes_after_a_request_gets_the_answer() {
    let gateway = Gateway::durable(&[]);
    for (request, begin) in requests() {
        let answer = asked(&gateway, &request).await;
        assert!(answer.starts_with(begin), "{} {answer:.200}", &request[..30]);
    }
    let polled = asked(&gateway, &get("/poll?topic=t&last_event_id=earliest&wait=60")).await;
    assert!(polled.contains("\"small\""), "{polled:.300}");
    let both = get("/health/live") + &post("/events", FORM, "topic=t&data=both");
    assert_eq!(asked(&gateway, &both).await.matches("HTTP/1.1 200").count(), 2);
    // Half a request is not a request.
    assert_eq!(asked(&gateway, "GET /health/live HTTP/1.1\r\nHost: loc").await, "");
}

#[tokio::test]
async fn a_client_that_half_closes_over_tls_gets_the_answer() {
    let (gateway, _files, pem) = tls::gateway(&[("HISTORY__STORE", "disk")]);
    for (request, begin) in requests() {
        let mut stream = gateway.secure_stream(&pem, "http/1.1").await;
        stream.write_all(request.as_bytes()).await.expect("a writable connection");
        stream.shutdown().await.expect("half a close");
        let mut answer = Vec::new();
        let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(read.is_ok() && answer.starts_with(begin), "{} {answer:.200}", &request[..30]);
    }
}

#[tokio::test]
async fn nothing_waits_for_a_peer_that_has_ended_its_side() {
    with_both_sinks(&[("DELIVERY__HEARTBEAT", "1h")], async |gateway| {
        for way in ["closes", "half closes", "resets"] {
            eprintln!("{way}");
            let mut poll = Raw::get(gateway.address, &format!("/poll?topic=t&wait={LONG}")).await;
            let mut stream = Raw::get(gateway.address, "/events?topic=t").await;
            stream.until("retry: 2000\n").await;
            gateway.until_metric(POLL, 1.0).await;
            match way {
                "closes" => drop((poll, stream)),
                "half closes" => {
                    poll.stream.shutdown().await.expect("half a close");
                    assert!(poll.response().await.1.starts_with("{\"events\":[]"));
                    stream.stream.shutdown().await.expect("half a close");
                }
                _ => {
                    poll.reset();
                    stream.reset();
                }
            }
            gateway.until_metric(POLL, 0.0).await;
            gateway.until_metric(SSE, 0.0).await;
        }
    })
    .await;
}

#[tokio::test]
async fn nothing_waits_over_tls_for_a_peer_that_has_ended_its_side() {
    let (gateway, _files, pem) = tls::gateway(&[("DELIVERY__HEARTBEAT", "1h")]);
    let poll = format!("/poll?topic=t&wait={LONG}");
    for is_gone in [false, true] {
        for (target, metric) in [(poll.as_str(), POLL), ("/events?topic=t", SSE)] {
            let mut stream = gateway.secure_stream(&pem, "http/1.1").await;
            stream.write_all(get(target).as_bytes()).await.expect("a writable connection");
            stream.flush().await.expect("a writable connection");
            gateway.until_metric(metric, 1.0).await;
            if is_gone {
                drop(stream);
            } else {
                // TLS announces the end, and the socket stays open.
                stream.get_mut().1.send_close_notify();
                stream.flush().await.expect("a writable connection");
            }
            gateway.until_metric(metric, 0.0).await;
        }
    }
}

#[tokio::test]
async fn over_http_2_what_waits_ends_with_the_connection() {
    let (gateway, _files, pem) = tls::gateway(&[("DELIVERY__HEARTBEAT", "1h")]);
    for (target, metric) in [("/poll?topic=t&wait=60", POLL), ("/events?topic=t", SSE)] {
        let client = tls::client(&pem, true);
        let waiting = tokio::spawn(client.get(gateway.secure_url(target)).send());
        gateway.until_metric(metric, 1.0).await;
        drop(client);
        waiting.abort();
        drop(waiting.await);
        gateway.until_metric(metric, 0.0).await;
    }
}

#[tokio::test]
async fn a_client_that_waits_for_a_job_and_half_closes_gets_its_current_state() {
    let gateway = Gateway::start();
    let body = r#"{"type":"t","title":"T"}"#;
    let request = post("/jobs", "application/json", body);
    let request = request.replace("\r\n\r\n", &format!("\r\nPrefer: wait={LONG}\r\n\r\n"));
    let begin = Instant::now();
    assert!(asked(&gateway, &request).await.starts_with("HTTP/1.1 202"));
    assert!(begin.elapsed() < Duration::from_secs(LONG / 2));
}
