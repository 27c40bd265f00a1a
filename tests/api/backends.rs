//! Backends and clients: who is here, what the server does to one client, calls and their replies.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Gateway, problem,
    sse::Stream,
    tokens::{guarded, modern_publisher},
};

const ANN: &str = "ann-key-0123456789abcdef";
const BOB: &str = "bob-key-0123456789abcdef";

async fn post(gateway: &Gateway, path: &str, body: &Value) -> reqwest::Response {
    gateway.client.post(gateway.url(path)).json(body).send().await.expect("a reply")
}

async fn act(gateway: &Gateway, key: &str, action: Value) -> Value {
    let reply = post(gateway, "/client", &json!({ "client": key, "do": [action] })).await;
    assert_eq!(reply.status(), 200);
    let reply: Value = reply.json().await.expect("JSON");
    reply["did"][0].clone()
}

/// Opens a client's stream, and returns it with the client's id.
async fn stream(gateway: &Gateway, key: &str) -> (Stream, String) {
    let mut stream = gateway.open(&format!("/events?client={key}&hello=event")).await;
    let hello: Value = serde_json::from_str(&stream.next().await.data).expect("JSON");
    (stream, hello["client"].as_str().expect("an id").to_owned())
}

#[tokio::test]
async fn a_backend_moves_and_speaks_to_one_client() {
    let gateway = Gateway::start();
    let (mut ann, id) = stream(&gateway, ANN).await;
    let path = format!("/clients/{id}");
    let reply = post(&gateway, &path, &json!({ "join": "/rooms/7", "as": { "n": 1 } })).await;
    assert_eq!(reply.status(), 200);
    let told = ann.next().await;
    assert_eq!(told.kind, "tidegate.joined");
    let told: Value = serde_json::from_str(&told.data).expect("JSON");
    assert_eq!(told["topic"], "/rooms/7");
    assert_eq!(ann.next().await.kind, "tidegate.change", "it is a member");
    gateway.publish("/rooms/7", "heard").await;
    assert_eq!(ann.next().await.data, "heard");

    let list: Value = gateway.poll("/clients?topic=/rooms/7").await;
    assert_eq!((&list["count"], &list["clients"][0]["id"]), (&json!(1), &json!(id)));
    assert_eq!(list["clients"][0]["transport"], "sse");

    let sent = json!({ "send": { "type": "note", "data": { "x": [1] } } });
    post(&gateway, &path, &sent).await;
    let note = ann.next().await;
    assert_eq!((note.kind.as_str(), note.data.as_str()), ("note", r#"{"x":[1]}"#));
    let set: Value =
        post(&gateway, &path, &json!({ "set": { "a": 1 } })).await.json().await.expect("JSON");
    assert_eq!(set["rev"], 1);
    assert_eq!(ann.next().await.kind, "tidegate.change", "the state of its own topic");

    post(&gateway, &path, &json!({ "leave": "/rooms/7" })).await;
    let left = ann.next().await;
    assert_eq!(left.kind, "tidegate.left");
    assert!(left.data.contains(r#""reason":"server""#), "{}", left.data);
    post(&gateway, &path, &json!({ "end": true })).await;
    assert!(ann.next_or_end().await.is_none(), "its stream ends");
    problem(post(&gateway, &path, &json!({ "end": true })).await, 404).await;
    problem(post(&gateway, "/clients/none", &json!({})).await, 404).await;
    problem(post(&gateway, &path, &json!({ "fly": true })).await, 400).await;
}

#[tokio::test]
async fn calls_gather_replies_and_name_who_is_missing() {
    let gateway = Gateway::start();
    let ((mut ann, ann_id), (mut bob, bob_id)) =
        (stream(&gateway, ANN).await, stream(&gateway, BOB).await);
    for key in [ANN, BOB] {
        act(&gateway, key, json!({ "join": "/room" })).await;
    }
    let calling = async {
        let call = json!({ "to": { "topic": "/room" }, "call": "ask", "data": [1], "wait": 2 });
        post(&gateway, "/calls", &call).await.json::<Value>().await.expect("JSON")
    };
    let answering = async {
        let call = ann.next().await;
        assert_eq!(call.kind, "tidegate.call");
        let call: Value = serde_json::from_str(&call.data).expect("JSON");
        assert_eq!((&call["name"], &call["data"]), (&json!("ask"), &json!([1])));
        let id = call["call"].as_str().expect("an id").to_owned();
        let never = act(&gateway, "another-key-0123456789ab", json!({ "reply": id })).await;
        assert_eq!(never["problem"]["status"], 410, "only who was asked may reply");
        let reply = json!({ "reply": id, "data": { "time": 7 } });
        assert_eq!(act(&gateway, ANN, reply.clone()).await, json!({}));
        assert_eq!(act(&gateway, ANN, reply).await, json!({}), "said before");
        id
    };
    let (gathered, id) = tokio::join!(calling, answering);
    assert_eq!(gathered["replies"], json!({ ann_id: { "data": { "time": 7 } } }));
    assert_eq!(gathered["missing"], json!([bob_id]));
    assert_eq!(bob.next().await.kind, "tidegate.call");
    let late = act(&gateway, BOB, json!({ "reply": id, "data": 1 })).await;
    assert_eq!(late["problem"]["status"], 410);

    let call = json!({ "to": { "client": bob_id }, "call": "ask", "wait": 5 });
    let calling = post(&gateway, "/calls", &call);
    let answering = async {
        let call: Value = serde_json::from_str(&bob.next().await.data).expect("JSON");
        let refusal = json!({ "status": 404, "title": "no such call" });
        act(&gateway, BOB, json!({ "reply": call["call"], "problem": refusal })).await
    };
    let (gathered, _) = tokio::join!(calling, answering);
    let gathered: Value = gathered.json().await.expect("JSON");
    assert_eq!(gathered["replies"][&bob_id]["problem"]["status"], 404);
    let long = json!({ "to": { "topic": "/room" }, "call": "ask", "wait": 61 });
    assert_eq!(problem(post(&gateway, "/calls", &long).await, 400).await["field"], "wait");
}

#[tokio::test]
async fn a_call_that_is_given_up_is_cancelled() {
    let gateway = Gateway::start();
    let (mut ann, id) = stream(&gateway, ANN).await;
    let call = json!({ "to": { "client": id }, "call": "ask", "wait": 30 });
    let request = gateway.client.post(gateway.url("/calls")).json(&call);
    let given_up = request.timeout(Duration::from_millis(300)).send().await;
    assert!(given_up.is_err());
    assert_eq!(ann.next().await.kind, "tidegate.call");
    assert_eq!(ann.next().await.kind, "tidegate.cancel");
}

#[tokio::test]
async fn rights_to_act_on_clients_are_exact_names() {
    let gateway = guarded(&[]);
    let post_as = async |token: &str, path: &str| {
        let request = gateway.client.post(gateway.url(path)).bearer_auth(token);
        request.json(&json!({})).send().await.expect("a reply")
    };
    let all = modern_publisher(&[("exact", "*"), ("urlpattern", "urn:tidegate:*")]);
    problem(gateway.get_as(&all, "/clients").await, 403).await;
    problem(post_as(&all, "/calls").await, 403).await;
    problem(post_as(&all, "/clients/x").await, 403).await;
    problem(gateway.get("/clients").await, 401).await;
    let named =
        modern_publisher(&[("exact", "urn:tidegate:clients"), ("exact", "urn:tidegate:calls")]);
    assert_eq!(gateway.get_as(&named, "/clients").await.status(), 200);
    problem(post_as(&named, "/calls").await, 400).await;
    problem(post_as(&named, "/clients/x").await, 404).await;
    let publish = json!({ "topic": "urn:tidegate:clients", "data": "x" });
    let request = gateway.client.post(gateway.url("/events")).bearer_auth(&all).json(&publish);
    assert_eq!(request.send().await.expect("a reply").status(), 400, "the names are reserved");
}
