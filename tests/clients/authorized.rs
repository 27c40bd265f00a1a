//! Private events, delivered only to clients whose access token grants them.

use tidegate_testkit::{
    network::{Passing, Proxy},
    tokens::{LIFETIME, expiring_subscriber, old_publisher, old_subscriber},
};

use crate::support::{Client, Gateway, Library, installed};

/// The cookie of draft-08.
const COOKIE: &str = "__Secure-mercure_access_token";

/// The cookie of the old dialect.
const OLD_COOKIE: &str = "mercureAuthorization";

/// One client for each way to send an access token of each dialect.
fn invited(library: Library, hub: &str) -> Vec<Client> {
    let subscribe = |token: &str| format!("{hub}?topic=x&authorization={token}");
    let plain = format!("{hub}?topic=x");
    let (old, modern) = (old_subscriber(&["x"]), expiring_subscriber("x", LIFETIME));
    let bearer = |token: &str| format!("Bearer {token}");
    let cookie = |name: &str, token: &str| format!("theme=dark; {name}={token}");
    vec![
        Client::start(library, &plain, &[("Authorization", &bearer(&old))]),
        Client::start(library, &plain, &[("Authorization", &bearer(&modern))]),
        Client::start(library, &plain, &[("Cookie", &cookie(OLD_COOKIE, &old))]),
        Client::start(library, &plain, &[("Cookie", &cookie(COOKIE, &modern))]),
        Client::start(library, &subscribe(&old), &[]),
    ]
}

/// One client without an access token, and one whose access token grants something else.
fn uninvited(library: Library, hub: &str) -> Vec<Client> {
    let plain = format!("{hub}?topic=x");
    let other = format!("Bearer {}", expiring_subscriber("other", LIFETIME));
    vec![
        Client::start(library, &plain, &[]),
        Client::start(library, &plain, &[("Authorization", &other)]),
    ]
}

#[tokio::test]
async fn private_events_are_for_those_whose_token_grants_them() {
    let gateway = Gateway::start_guarded().await;
    let publisher = old_publisher(&["x"]);
    for library in installed().await {
        let mut invited = invited(*library, &gateway.hub());
        let mut uninvited = uninvited(*library, &gateway.hub());
        for client in invited.iter_mut().chain(&mut uninvited) {
            client.opened().await;
        }
        let update = [("topic", "x"), ("data", "secret"), ("private", "on")];
        gateway.publish_as(&publisher, &update).await;
        gateway.publish_as(&publisher, &[("topic", "x"), ("data", "public")]).await;
        for (number, client) in invited.iter_mut().enumerate() {
            assert_eq!(client.data(2).await, ["secret", "public"], "{library:?} {number}");
        }
        for client in &mut uninvited {
            assert_eq!(client.data(1).await, ["public"], "{library:?}");
        }
    }
}

#[tokio::test]
async fn who_shows_a_bad_token_is_refused_for_good() {
    let gateway = Gateway::start_guarded().await;
    let address = format!("{}?topic=x", gateway.hub());
    for library in installed().await {
        // Signed for the other role.
        let token = format!("Bearer {}", old_publisher(&["x"]));
        let mut client = Client::start(*library, &address, &[("Authorization", &token)]);
        assert_eq!(client.refused().await, 401, "{library:?}");
    }
}

#[tokio::test]
async fn private_events_that_were_missed_arrive_afterwards() {
    let gateway = Gateway::start_guarded().await;
    let publisher = old_publisher(&["x"]);
    let mut clients = Vec::new();
    for library in installed().await {
        let proxy = Proxy::start(gateway.address).await;
        let token = format!("Bearer {}", expiring_subscriber("x", LIFETIME));
        let address = format!("{}?match=x", proxy.hub());
        let mut client = Client::start(*library, &address, &[("Authorization", &token)]);
        client.opened().await;
        clients.push((client, proxy));
    }
    let secret = |data: &'static str| [("topic", "x"), ("data", data), ("private", "on")];
    gateway.publish_as(&publisher, &secret("first")).await;
    for (client, proxy) in &mut clients {
        assert_eq!(client.event().await.data, "first", "{:?}", client.library);
        proxy.let_pass(Passing::Cut);
    }
    gateway.publish_as(&publisher, &secret("second")).await;
    for (client, proxy) in &mut clients {
        proxy.let_pass(Passing::Everything);
        assert_eq!(client.event().await.data, "second", "{:?}", client.library);
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_a_client_that_returns_with_it_is_refused() {
    let gateway = Gateway::start_guarded().await;
    let address = format!("{}?match=x", gateway.hub());
    let mut clients = Vec::new();
    for library in installed().await {
        let token = format!("Bearer {}", expiring_subscriber("x", 20));
        clients.push(Client::start(*library, &address, &[("Authorization", &token)]));
    }
    for client in &mut clients {
        client.opened().await;
    }
    for client in &mut clients {
        assert_eq!(client.refused().await, 401, "{:?}", client.library);
    }
}
