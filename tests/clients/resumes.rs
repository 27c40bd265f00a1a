//! Every library reconnects by itself, and resumes where it was.

use tidegate_testkit::network::{Passing, Proxy};

use crate::support::{Client, Gateway, installed};

/// Streams after which each client has reconnected often enough.
const N_STREAMS: usize = 4;

/// Clients, each with its own proxy, that have received event 0.
async fn listening(gateway: &Gateway) -> Vec<(Client, Proxy)> {
    listening_to(gateway, "topic=x").await
}

async fn listening_to(gateway: &Gateway, parameters: &str) -> Vec<(Client, Proxy)> {
    let mut clients = Vec::new();
    for library in installed().await {
        let proxy = Proxy::start(gateway.address).await;
        let mut client = Client::start(*library, &format!("{}?{parameters}", proxy.hub()), &[]);
        client.opened().await;
        clients.push((client, proxy));
    }
    gateway.publish_number(0).await;
    for (client, _) in &mut clients {
        assert_eq!(client.event().await.data, "0", "{:?}", client.library);
    }
    clients
}

#[tokio::test]
async fn what_is_published_while_a_connection_is_cut_arrives_afterwards() {
    let gateway = Gateway::start(&[]).await;
    let mut clients = listening(&gateway).await;
    for (_, proxy) in &clients {
        proxy.let_pass(Passing::Cut);
    }
    for number in 1..30 {
        gateway.publish_number(number).await;
    }
    for (_, proxy) in &clients {
        proxy.let_pass(Passing::Everything);
    }
    let numbers: Vec<_> = (1..30).map(|it: usize| it.to_string()).collect();
    for (client, _) in &mut clients {
        assert_eq!(client.data(29).await, numbers, "{:?}", client.library);
    }
    gateway.publish_number(30).await;
    for (client, _) in &mut clients {
        assert_eq!(client.event().await.data, "30", "{:?}", client.library);
    }
}

#[tokio::test]
async fn an_event_that_is_cut_in_the_middle_arrives_whole_and_once() {
    let gateway = Gateway::start(&[]).await;
    let mut clients = listening(&gateway).await;
    for (_, proxy) in &clients {
        proxy.let_pass(Passing::UpTo("one half"));
    }
    gateway.publish(&[("topic", "x"), ("id", "halves"), ("data", "one half\nother half")]).await;
    gateway.publish_number(1).await;
    for (client, proxy) in &mut clients {
        proxy.is_cut().await;
        proxy.let_pass(Passing::Everything);
        assert_eq!(client.data(2).await, ["one half\nother half", "1"], "{:?}", client.library);
    }
}

#[tokio::test]
async fn streams_end_after_their_lifetime_unnoticed() {
    let gateway = Gateway::start(&[("DELIVERY__LIFETIME", "1s")]).await;
    // Without a first event there is no id to resume from. Each client therefore sends one, and
    // every later id replaces it.
    let mut clients = listening_to(&gateway, "topic=x&last_event_id=earliest").await;
    let mut number = 0;
    while clients.iter().any(|(client, _)| client.n_opened < N_STREAMS) {
        number += 1;
        gateway.publish_number(number).await;
        for (client, _) in &mut clients {
            assert_eq!(client.event().await.data, number.to_string(), "{:?}", client.library);
        }
    }
}

#[tokio::test]
async fn a_gateway_that_is_restarted_in_good_order_loses_nothing() {
    let mut gateway = Gateway::start(&[("DELIVERY__RETRY_SPREAD", "1s")]).await;
    let mut clients = listening(&gateway).await;
    gateway.terminate().await;
    gateway.restart().await;
    gateway.publish_number(1).await;
    for (client, _) in &mut clients {
        assert_eq!(client.event().await.data, "1", "{:?}", client.library);
        assert!(1 < client.n_opened, "{:?}", client.library);
    }
}

#[tokio::test]
async fn a_gateway_that_was_killed_has_forgotten_nothing() {
    let mut gateway = Gateway::start(&[]).await;
    let mut clients = listening(&gateway).await;
    gateway.publish_number(1).await;
    gateway.kill();
    gateway.restart().await;
    gateway.publish_number(2).await;
    for (client, _) in &mut clients {
        assert_eq!(client.data(2).await, ["1", "2"], "{:?}", client.library);
    }
    gateway.publish_number(3).await;
    for (client, _) in &mut clients {
        assert_eq!(client.event().await.data, "3", "{:?}", client.library);
    }
}

#[tokio::test]
async fn a_gateway_that_was_killed_and_has_forgotten_everything_says_so() {
    let mut gateway = Gateway::start(&[("HISTORY__STORE", "memory")]).await;
    let mut clients = listening(&gateway).await;
    gateway.kill();
    gateway.restart().await;
    for number in 1..4 {
        gateway.publish_number(number).await;
    }
    for (client, _) in &mut clients {
        let gap = client.event().await;
        assert_eq!(gap.kind, "tidegate.gap", "{:?}", client.library);
        assert!(gap.data.contains("\"unknown\""), "{}", gap.data);
        assert_eq!(client.data(3).await, ["1", "2", "3"], "{:?}", client.library);
    }
    gateway.publish_number(4).await;
    for (client, _) in &mut clients {
        assert_eq!(client.event().await.data, "4", "{:?}", client.library);
    }
}
