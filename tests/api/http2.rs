//! HTTP/2: what one connection may hold, and responses that their reader does not take.

use std::time::Duration;

use h2::{
    Reason, RecvStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::Request;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::support::{DEADLINE, Gateway, sinks::SSE, tls};

type Sender = SendRequest<bytes::Bytes>;

/// A connection whose streams take `window` bytes before they are read.
async fn connect(gateway: &Gateway, pem: &str, window: u32) -> Sender {
    let stream = gateway.secure_stream(pem, "h2").await;
    let mut builder = Builder::new();
    let handshake = builder.initial_window_size(window).handshake(stream).await;
    let (sender, connection) = handshake.expect("HTTP/2");
    tokio::spawn(connection);
    sender.ready().await.expect("a connection")
}

fn get(gateway: &Gateway, sender: &mut Sender, target: &str) -> ResponseFuture {
    let request = Request::get(gateway.secure_url(target)).body(()).expect("a request");
    sender.send_request(request, true).expect("a stream").0
}

/// Reads until an event with this data has come, and opens the window again.
async fn read(body: &mut RecvStream, data: &str) -> Result<(), h2::Error> {
    let expected = format!("data: {data}\n");
    let mut text = String::new();
    while !text.contains(&expected) {
        let chunk = timeout(DEADLINE, body.data()).await.expect("something in time");
        let chunk = chunk.expect("not the end")?;
        body.flow_control().release_capacity(chunk.len())?;
        text.push_str(str::from_utf8(&chunk).expect("text"));
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_whose_window_stays_closed_gives_its_seat_back() {
    let settings = [("DELIVERY__WRITE_DEADLINE", "1s"), ("DELIVERY__HEARTBEAT", "1h")];
    let (gateway, _files, pem) = tls::gateway(&settings);
    let mut sender = connect(&gateway, &pem, 1000).await;
    let reading = get(&gateway, &mut sender, "/events?topic=t").await.expect("a response");
    let stalled = get(&gateway, &mut sender, "/events?topic=t").await.expect("a response");
    gateway.until_metric(SSE, 2.0).await;
    let data = "x".repeat(100_000);
    gateway.publish("t", &data).await;
    let mut reading = reading.into_body();
    read(&mut reading, &data).await.expect("an event");
    gateway.until_metric(SSE, 1.0).await;
    let mut stalled = stalled.into_body();
    let end = read(&mut stalled, &data).await.expect_err("a reset");
    assert_eq!(end.reason(), Some(Reason::CANCEL));
    gateway.publish("t", "the other goes on").await;
    assert!(read(&mut reading, "the other goes on").await.is_ok());
}

#[tokio::test]
async fn a_reset_ends_a_poll_at_once() {
    let (gateway, _files, pem) = tls::gateway(&[]);
    let mut sender = connect(&gateway, &pem, 1000).await;
    let waiting = get(&gateway, &mut sender, "/poll?topic=t&wait=60");
    gateway.until_metric("tidegate_subscribers{transport=\"poll\"}", 1.0).await;
    drop(waiting);
    gateway.until_metric("tidegate_subscribers{transport=\"poll\"}", 0.0).await;
}

#[tokio::test]
async fn a_stream_too_many_is_refused_and_the_others_stay() {
    let (gateway, _files, pem) = tls::gateway(&[("LIMITS__STREAMS_PER_CONNECTION", "3")]);
    // Before a client has seen the limit it may open as many streams as it likes.
    let mut sender = connect(&gateway, &pem, 1000).await;
    let opened = [(); 5].map(|()| get(&gateway, &mut sender, "/events?topic=t"));
    let (mut streams, mut refused) = (Vec::new(), 0);
    for response in opened {
        match response.await {
            Ok(response) => streams.push(response.into_body()),
            Err(error) => {
                assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM));
                refused += 1;
            }
        }
    }
    assert_eq!((streams.len(), refused), (3, 2));
    gateway.publish("t", "here").await;
    for stream in &mut streams {
        assert!(read(stream, "here").await.is_ok());
    }
    // One that ends makes room.
    streams.pop();
    gateway.until_metric(SSE, 2.0).await;
    let live = get(&gateway, &mut sender, "/health/live").await.expect("a response");
    assert_eq!(live.status(), 200);
}

#[tokio::test]
async fn headers_that_are_too_long_are_refused() {
    let (gateway, _files, pem) = tls::gateway(&[]);
    let mut sender = connect(&gateway, &pem, 1000).await;
    let get = |bytes: usize| {
        let request = Request::get(gateway.secure_url("/health/live"));
        request.header("x-long", "x".repeat(bytes)).body(()).expect("a request")
    };
    let (response, _) = sender.send_request(get(70_000), true).expect("a stream");
    assert_eq!(response.await.expect("a response").status(), 431);
    let (response, _) = sender.send_request(get(30_000), true).expect("a stream");
    assert_eq!(response.await.expect("a response").status(), 200);
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A frame with a head, for the stream of this number. `flags`: 1 ends the stream, 4 the head.
fn head(path: &str, flags: u8, stream: u8) -> Vec<u8> {
    let length = u8::try_from(path.len()).expect("short");
    let block = [&b"\x82\x87\x04"[..], &[length], path.as_bytes(), b"\x01\x09localhost"].concat();
    let length = u8::try_from(block.len()).expect("short");
    [&[0, 0, length, 1, flags, 0, 0, 0, stream][..], &block].concat()
}

#[tokio::test]
async fn half_a_head_is_held_for_its_time_beside_an_open_stream_too() {
    let settings = [("SERVER__HEAD_TIMEOUT", "1s"), ("DELIVERY__HEARTBEAT", "1h")];
    let (gateway, _files, pem) = tls::gateway(&settings);
    for first in ["/health/live", "/events?topic=t"] {
        let mut stream = gateway.secure_stream(&pem, "h2").await;
        let sent = [PREFACE, &head(first, 5, 1), &head("/health/live", 1, 3)].concat();
        stream.write_all(&sent).await.expect("a writable connection");
        let mut read = Vec::new();
        let ended = timeout(DEADLINE, stream.read_to_end(&mut read)).await;
        assert!(ended.is_ok(), "the connection ends, {} bytes", read.len());
        gateway.until_metric(SSE, 0.0).await;
    }
}

#[tokio::test]
async fn pings_do_not_keep_a_connection_without_requests() {
    let (gateway, _files, pem) = tls::gateway(&[("SERVER__KEEP_ALIVE", "1s")]);
    let stream = gateway.secure_stream(&pem, "h2").await;
    let (mut reader, mut writer) = tokio::io::split(stream);
    writer.write_all(&[PREFACE, &head("/health/live", 5, 1)].concat()).await.expect("writable");
    let pinging = tokio::spawn(async move {
        while writer.write_all(b"\0\0\x08\x06\0\0\0\0\0pingping").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut read = Vec::new();
    assert!(timeout(DEADLINE, reader.read_to_end(&mut read)).await.is_ok(), "it ends");
    pinging.abort();
}

#[tokio::test]
async fn an_answer_without_a_body_announces_none() {
    let (gateway, _files, pem) = tls::gateway(&[]);
    let client = tls::client(&pem, true);
    let get = || client.get(gateway.secure_url("/static/iframe.js"));
    let whole = get().send().await.expect("a reply");
    let tag = whole.headers()["etag"].clone();
    let unchanged = get().header("if-none-match", tag).send().await.expect("a reply");
    assert_eq!(unchanged.status(), 304);
    assert!(!unchanged.headers().contains_key("content-length"));
}

#[tokio::test]
async fn the_authority_counts_and_no_header_beside_it() {
    let (gateway, _files, pem) = tls::gateway(&[]);
    let mut sender = connect(&gateway, &pem, 1000).await;
    let mut url: url::Url = gateway.secure_url("/health/live").parse().expect("an address");
    url.set_host(Some("evil.example")).expect("a host");
    let request = Request::get(url.as_str()).header("host", "localhost").body(());
    let (response, _) = sender.send_request(request.expect("a request"), true).expect("a stream");
    assert_eq!(response.await.expect("a response").status(), 421);
}
