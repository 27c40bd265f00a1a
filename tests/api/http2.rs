//! HTTP/2: what one connection may hold, and responses that their reader does not take.

use h2::{
    Reason, RecvStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::Request;
use tokio::time::timeout;

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
