//! All nodes are replaced one after the other, under load: publishers and subscribers go to any
//! node, and nothing is lost or doubled.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tidegate_testkit::{deadline::in_time, gateway::client, redis::Redis, sse::Parser};
use tokio::{sync::watch, time::sleep};

use crate::support::{Node, nodes};

const NODES: usize = 3;
const SUBSCRIBERS: usize = 6;

/// The addresses of the nodes, which keep them.
type Addresses = Arc<[SocketAddr]>;

fn any(addresses: &Addresses) -> SocketAddr {
    addresses[fastrand::usize(..addresses.len())]
}

/// Publishes numbers until told to stop. Each is sent to any node until one acknowledges it.
async fn publish(addresses: Addresses, stop: watch::Receiver<bool>) -> Vec<String> {
    let mut published = Vec::new();
    for number in 0.. {
        if *stop.borrow() {
            break;
        }
        loop {
            let request = client().post(format!("http://{}/events", any(&addresses)));
            let request = request.header("content-type", "application/x-www-form-urlencoded");
            let request = request.header("idempotency-key", number.to_string());
            let sent = request.body(format!("topic=t&data={number}")).send();
            match tokio::time::timeout(Duration::from_secs(10), sent).await {
                Ok(Ok(reply)) if reply.status() == 200 => break,
                // Nobody is there, it stops, or the first request is still being worked on.
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
        published.push(number.to_string());
    }
    published
}

/// Subscribes at any node, and resumes at any node, until the last event has come. Returns the
/// data of all events, gaps as well, and how often it has resumed.
async fn subscribe(addresses: Addresses) -> (Vec<String>, usize) {
    let (mut heard, mut cursor, mut n_resumed) = (Vec::new(), "earliest".to_owned(), 0);
    loop {
        let request = client().get(format!("http://{}/events?topic=t", any(&addresses)));
        let response = request.header("last-event-id", &cursor).send().await;
        let Ok(mut response) = response else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        if response.status() != 200 {
            sleep(Duration::from_millis(20)).await;
            continue;
        }
        let mut parser = Parser::default();
        while let Ok(Some(bytes)) = response.chunk().await {
            for event in parser.feed(&bytes) {
                cursor = event.id;
                heard.push(event.data);
            }
            if heard.last().is_some_and(|it| it == "end") {
                return (heard, n_resumed);
            }
        }
        n_resumed += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_is_replaced_under_load_and_nothing_is_lost_or_doubled() {
    let Some(redis) = Redis::start(&[]) else { return };
    let mut nodes: [Node; NODES] = nodes(&redis);
    let addresses: Addresses = nodes.iter().map(|it| it.address).collect();
    let (stop, stopped) = watch::channel(false);
    let publishing = tokio::spawn(publish(addresses.clone(), stopped));
    let subscribing: Vec<_> =
        (0..SUBSCRIBERS).map(|_| tokio::spawn(subscribe(addresses.clone()))).collect();
    let begun = Instant::now();
    for round in 0..2 {
        for node in &mut nodes {
            sleep(Duration::from_millis(200)).await;
            // An orderly deploy in the first round, crashes in the second.
            if round == 0 {
                node.terminate().await;
            } else {
                node.kill();
            }
            node.restart().await;
        }
    }
    stop.send_replace(true);
    let mut expected = in_time("the last acknowledgement", publishing).await.expect("no panic");
    nodes[0].publish_surely("t", "end").await;
    expected.push("end".to_owned());
    assert!(20 < expected.len(), "{} in {:?}", expected.len(), begun.elapsed());
    for subscriber in subscribing {
        let (heard, n_resumed) = in_time("the last event", subscriber).await.expect("no panic");
        assert_eq!(heard, expected, "after {n_resumed} resumptions");
        assert!(0 < n_resumed);
    }
}
