//! Clients: their streams, and what they do.

use serde_json::{Value, json};

use crate::support::{Gateway, problem, sse::Stream};

const ANN: &str = "ann-key-0123456789abcdef";
const BOB: &str = "bob-key-0123456789abcdef";

/// Does actions as a client, and returns the reply.
async fn ask(gateway: &Gateway, body: &Value) -> reqwest::Response {
    let request = gateway.client.post(gateway.url("/client")).json(body);
    request.send().await.expect("a reply")
}

/// Does actions as a client, and returns what became of each.
async fn act(gateway: &Gateway, key: &str, actions: &Value) -> Vec<Value> {
    let reply = ask(gateway, &json!({ "client": key, "do": actions })).await;
    let (status, text) = (reply.status(), reply.text().await.expect("a body"));
    assert_eq!(status, 200, "{text}");
    let reply: Value = serde_json::from_str(&text).expect("JSON");
    reply["did"].as_array().expect("a list").clone()
}

async fn stream(gateway: &Gateway, key: &str) -> (Stream, Value) {
    let mut stream = gateway.open(&format!("/events?client={key}&hello=event")).await;
    let hello = stream.next().await;
    assert_eq!(hello.kind, "tidegate.hello");
    assert!(!hello.id.is_empty(), "a resume point before the first event");
    let hello: Value = serde_json::from_str(&hello.data).expect("JSON");
    (stream, hello)
}

#[tokio::test]
async fn a_room_is_joined_on_an_open_stream() {
    let gateway = Gateway::start();
    let (mut ann, hello) = stream(&gateway, ANN).await;
    assert_eq!(hello["topics"], json!({}));
    gateway.publish("/rooms/7", "before").await;
    let did = act(&gateway, ANN, &json!([{ "join": "/rooms/7", "last": 5 }])).await;
    assert_eq!(did[0]["topic"], "/rooms/7");
    assert_eq!(did[0]["events"][0]["data"], "before");
    assert_eq!((&did[0]["rev"], &did[0]["state"]), (&json!(0), &json!({})));
    let (mut bob, _) = stream(&gateway, BOB).await;
    act(&gateway, BOB, &json!([{ "join": "/rooms/7" }])).await;
    let send = json!([{ "send": "/rooms/7", "type": "add", "data": { "x": 1 }, "echo": false }]);
    let did = act(&gateway, BOB, &send).await;
    let event = ann.next().await;
    assert_eq!(event.kind, "add");
    assert_eq!(event.data, r#"{ "x": 1 }"#.replace(' ', ""));
    assert_eq!(Some(event.id.as_str()), did[0]["id"].as_str());
    gateway.publish("/rooms/7", "after").await;
    assert_eq!(bob.next().await.data, "after", "no echo of its own message");
    assert_eq!(ann.next().await.data, "after");
    act(&gateway, ANN, &json!([{ "leave": "/rooms/7" }])).await;
    gateway.publish("/rooms/7", "late").await;
    act(&gateway, ANN, &json!([{ "join": "/rooms/8" }])).await;
    gateway.publish("/rooms/8", "other").await;
    assert_eq!(ann.next().await.data, "other", "what it has left is not heard");
    assert_eq!(bob.next().await.data, "late");
}

#[tokio::test]
async fn a_client_is_met_by_its_first_action_and_its_stream_begins_there() {
    let gateway = Gateway::start();
    act(&gateway, ANN, &json!([{ "join": "/rooms/7" }])).await;
    gateway.publish("/rooms/7", "early").await;
    let (mut ann, hello) = stream(&gateway, ANN).await;
    assert_eq!(hello["topics"], json!({ "/rooms/7": 0 }));
    assert_eq!(ann.next().await.data, "early");
}

#[tokio::test]
async fn ordered_requests_are_done_once() {
    let gateway = Gateway::start();
    let request = |seq: u64, data: &str| json!({ "client": ANN, "seq": seq, "do": [{ "send": "/t", "data": data }] });
    let first = ask(&gateway, &request(1, "one")).await.text().await.expect("a body");
    let again = ask(&gateway, &request(1, "one")).await.text().await.expect("a body");
    assert_eq!(first, again);
    ask(&gateway, &request(2, "two")).await;
    for seq in [1, 4, u64::MAX] {
        let refused = problem(ask(&gateway, &request(seq, "no")).await, 409).await;
        assert_eq!(refused["expected"], 3, "{refused}");
    }
    let forgotten = json!({ "client": BOB, "seq": 2, "do": [] });
    assert_eq!(problem(ask(&gateway, &forgotten).await, 409).await["expected"], 1);
    let all = gateway.poll("/poll?topic=/t&last=10&wait=0").await;
    let data: Vec<&str> = all["events"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|it| it["data"].as_str())
        .collect();
    assert_eq!(data, ["\"one\"", "\"two\""]);
}

#[tokio::test]
async fn each_form_of_a_stream_begins_with_hello() {
    let gateway = Gateway::start();
    let path = format!("/events?client={ANN}&hello=event&format=json&padding=2KiB");
    let mut ann = gateway.open(&path).await;
    let hello: Value = serde_json::from_str(&ann.next().await.data).expect("JSON");
    assert_eq!(hello["type"], "tidegate.hello");
    act(&gateway, ANN, &json!([{ "join": "/t" }, { "send": "/t", "data": [1] }])).await;
    let event = ann.next().await;
    assert!(matches!(event.kind.as_str(), "" | "message"), "{}", event.kind);
    let event: Value = serde_json::from_str(&event.data).expect("JSON");
    assert_eq!((&event["data"], &event["topics"]), (&json!("[1]"), &json!(["/t"])));
    let client =
        serde_json::from_str::<Value>(hello["data"].as_str().expect("text")).expect("JSON");
    assert_eq!(event["from"], client["client"]);

    let poll = gateway.poll(&format!("/poll?client={BOB}&hello=event&wait=5")).await;
    assert_eq!(poll["events"][0]["type"], "tidegate.hello");
    act(&gateway, BOB, &json!([{ "join": "/t" }, { "send": "/t", "data": 2 }])).await;
    let next = poll["next"].as_str().expect("an address");
    let poll = gateway.poll(&format!("/{next}")).await;
    assert_eq!(poll["events"][0]["data"], "2");
}

#[tokio::test]
async fn a_second_stream_replaces_the_first() {
    let gateway = Gateway::start();
    let (mut first, _) = stream(&gateway, ANN).await;
    let (mut second, hello) = stream(&gateway, ANN).await;
    let replaced = first.next().await;
    assert_eq!(replaced.kind, "tidegate.replaced");
    let data: Value = serde_json::from_str(&replaced.data).expect("JSON");
    assert_eq!(data["stream"], hello["stream"]);
    act(&gateway, ANN, &json!([{ "join": "/t" }, { "send": "/t", "data": 2 }])).await;
    assert_eq!(second.next().await.data, "2");
}

#[tokio::test]
async fn state_and_members_are_shared() {
    let gateway = Gateway::start();
    let (mut ann, _) = stream(&gateway, ANN).await;
    let join = json!([{ "join": "/r", "as": { "name": "Ann" } }]);
    let did = act(&gateway, ANN, &join).await;
    let members = did[0]["members"].as_object().expect("members");
    assert_eq!(members.len(), 1);
    let change = ann.next().await;
    assert_eq!(change.kind, "tidegate.change");
    let did = act(&gateway, ANN, &json!([{ "set": "/r", "patch": { "color": "red" } }])).await;
    let rev = did[0]["rev"].as_u64().expect("a revision");
    let change: Value = serde_json::from_str(&ann.next().await.data).expect("JSON");
    assert_eq!((&change["rev"], &change["state"]), (&json!(rev), &json!({ "color": "red" })));
    let lost = json!([{ "set": "/r", "patch": { "color": "blue" }, "if": rev - 1 }]);
    let did = act(&gateway, BOB, &lost).await;
    assert_eq!(did[0]["problem"]["status"], 409);
    assert_eq!(did[0]["problem"]["state"], json!({ "color": "red" }));
    let did = act(&gateway, BOB, &json!([{ "join": "/r", "as": { "name": "Bob" } }])).await;
    assert_eq!(did[0]["members"].as_object().map(serde_json::Map::len), Some(2));
    act(&gateway, BOB, &json!([{ "bye": true }])).await;
    let mut left = false;
    for _ in 0..3 {
        let change: Value = serde_json::from_str(&ann.next().await.data).expect("JSON");
        let members = change["members"].as_object().expect("members");
        left = members.values().any(Value::is_null);
        if left {
            break;
        }
    }
    assert!(left, "the others learn that a client has left");
}
