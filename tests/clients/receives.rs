//! Every library delivers what was published, once, in order, and nothing else.

use tidegate_testkit::network::Proxy;

use crate::support::{Client, Event, Gateway, Library, installed};

/// Heartbeats to wait for. With [`HEARTBEAT`] that exceeds the polyfill's silence timeout.
const N_HEARTBEATS: usize = 30;

/// Time between heartbeats.
const HEARTBEAT: &str = "200ms";

/// Events with everything that an event may have. Empty fields are not sent.
const SENT: [(&str, &str, &str); 8] = [
    ("", "plain-1", "first"),
    ("note", "urn:uuid:5f4e0a86-62d4-4f6e-9d2a-7f4f7a3f0c11", "with a type"),
    ("note", "lines-1", "first\nsecond\r\nthird\rfourth"),
    ("", "lines-2", "blank lines\n\n\nbetween, and one at the end\n"),
    ("", "spaces-1", "  two before, a colon: and two behind  "),
    ("", "fields-1", "id: 7\nevent: other\nretry: 1\n: a comment"),
    ("", "empty-1", ""),
    ("", "text-1", "{\"text\":\"ü 日本 😀 line\u{2028}paragraph\u{2029}\"}"),
];

fn form<'a>((kind, id, data): (&'a str, &'a str, &'a str)) -> Vec<(&'a str, &'a str)> {
    let fields = [("topic", "x"), ("type", kind), ("id", id), ("data", data)];
    fields.into_iter().filter(|(name, value)| *name == "data" || !value.is_empty()).collect()
}

/// The event as an EventSource reports it: with one kind of line end, and a default type.
fn expected((kind, id, data): (&str, &str, &str), library: Library) -> Event {
    let kind = if kind.is_empty() { "message" } else { kind };
    let mut data = data.replace("\r\n", "\n").replace('\r', "\n");
    // This library strips all spaces before a line, and all line ends after the last one.
    if library == Library::Python("requests-sse") {
        let lines: Vec<_> = data.split('\n').map(|it| it.trim_start_matches(' ')).collect();
        data = lines.join("\n").trim_end_matches('\n').to_owned();
    }
    Event { kind: kind.to_owned(), data, id: id.to_owned() }
}

#[tokio::test]
async fn every_library_hands_on_type_id_and_data() {
    let gateway = Gateway::start(&[]).await;
    let mut clients = Vec::new();
    for library in installed().await {
        for parameters in ["topic=x", "match=x", "match_urlpattern=%2F.well-known%2Fx"] {
            let address = format!("{}?{parameters}", gateway.hub());
            let mut client = Client::start(*library, &address, &[]);
            client.opened().await;
            clients.push(client);
        }
    }
    for sent in SENT {
        gateway.publish(&form(sent)).await;
        for client in &mut clients {
            assert_eq!(
                client.event().await,
                expected(sent, client.library),
                "{:?}",
                client.library
            );
        }
    }
}

#[tokio::test]
async fn a_burst_arrives_in_order_and_each_event_once() {
    let gateway = Gateway::start(&[]).await;
    let mut clients = Vec::new();
    for library in installed().await {
        let mut client = Client::start(*library, &format!("{}?topic=x", gateway.hub()), &[]);
        client.opened().await;
        clients.push(client);
    }
    for number in 0..200 {
        gateway.publish_number(number).await;
    }
    let numbers: Vec<_> = (0..200).map(|it: usize| it.to_string()).collect();
    for client in &mut clients {
        assert_eq!(client.data(200).await, numbers, "{:?}", client.library);
    }
}

#[tokio::test]
async fn heartbeats_keep_a_stream_open_and_are_no_events() {
    let gateway = Gateway::start(&[("DELIVERY__HEARTBEAT", HEARTBEAT)]).await;
    let mut clients = Vec::new();
    for library in installed().await {
        let proxy = Proxy::start(gateway.address).await;
        let mut client = Client::start(*library, &format!("{}?topic=x", proxy.hub()), &[]);
        client.opened().await;
        clients.push((client, proxy));
    }
    // At an extra blank line some libraries repeat the last event, or its id without data.
    for number in 0..3 {
        gateway.publish_number(number).await;
        for (client, _) in &mut clients {
            assert_eq!(client.event().await.data, number.to_string(), "{:?}", client.library);
        }
        let enough = |proxy: &Proxy| proxy.n_heartbeats() + N_HEARTBEATS / 3;
        let enough: Vec<_> = clients.iter().map(|(_, proxy)| enough(proxy)).collect();
        for ((_, proxy), enough) in clients.iter().zip(enough) {
            proxy.heartbeats(enough).await;
        }
    }
    gateway.publish_number(3).await;
    for (client, _) in &mut clients {
        assert_eq!(client.event().await.data, "3", "{:?}", client.library);
        assert_eq!(client.n_opened, 1, "{:?}", client.library);
    }
}
