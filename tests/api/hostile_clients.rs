//! Clients that want too much, or what belongs to others.

use serde_json::{Value, json};

use crate::support::{
    Gateway, problem,
    tokens::{SUBSCRIBER_KEY, guarded, modern_claims, sign},
};

const ANN: &str = "ann-key-0123456789abcdef";
const BOB: &str = "bob-key-0123456789abcdef";

async fn ask(gateway: &Gateway, body: &Value) -> reqwest::Response {
    gateway.client.post(gateway.url("/client")).json(body).send().await.expect("a reply")
}

async fn act(gateway: &Gateway, key: &str, action: &Value) -> Value {
    let reply = ask(gateway, &json!({ "client": key, "do": [action] })).await;
    assert_eq!(reply.status(), 200);
    reply.json::<Value>().await.expect("JSON")["did"][0].clone()
}

#[tokio::test]
async fn a_client_needs_a_token_where_one_is_needed() {
    let gateway = guarded(&[]);
    // The body is announced and never sent: it is not waited for.
    let request = "POST /client HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n";
    let mut raw = crate::support::raw::Raw::connect(gateway.address).await;
    raw.send(request).await;
    assert!(raw.until("\r\n\r\n").await.starts_with("HTTP/1.1 401"));
    problem(gateway.get(&format!("/events?client={ANN}&hello=event")).await, 401).await;
    problem(gateway.get(&format!("/poll?client={ANN}&hello=event")).await, 401).await;
}

#[tokio::test]
async fn requests_are_bounded() {
    let gateway = Gateway::start();
    let many: Vec<Value> = (0..101).map(|_| json!({ "leave": "/t" })).collect();
    let refused = problem(ask(&gateway, &json!({ "client": ANN, "do": many })).await, 413).await;
    assert_eq!((&refused["field"], &refused["limit"]), (&json!("do"), &json!(100)));
    let long = json!({ "client": ANN, "do": [{ "send": "/t", "data": "x".repeat(70_000) }] });
    problem(ask(&gateway, &long).await, 413).await;
    let long = json!({ "send": "/t", "data": "x".repeat(17_000) });
    assert_eq!(act(&gateway, ANN, &long).await["problem"]["limit"], 16 << 10);
    let text = gateway.client.post(gateway.url("/client")).body("{}");
    let text = text.header("content-type", "text/plain").send().await.expect("a reply");
    problem(text, 415).await;
    let deep = format!("{}1{}", "{\"a\":".repeat(5000), "}".repeat(5000));
    let deep = format!(r#"{{"client":"{ANN}","do":[{{"set":"/t","patch":{deep}}}]}}"#);
    let deep = gateway.client.post(gateway.url("/client")).body(deep);
    let deep = deep.header("content-type", "application/json").send().await.expect("a reply");
    assert!(deep.status() == 200 || deep.status() == 400, "{}", deep.status());
    let rude = json!({ "send": "/t", "type": "tidegate.change", "data": 1 });
    assert_eq!(act(&gateway, ANN, &rude).await["problem"]["field"], "type");
}

#[tokio::test]
async fn a_client_has_a_rate() {
    let gateway = Gateway::start();
    let many: Vec<Value> = (0..100).map(|_| json!({ "leave": "/t" })).collect();
    let body = json!({ "client": ANN, "do": many });
    assert_eq!(ask(&gateway, &body).await.status(), 200);
    let refused = ask(&gateway, &body).await;
    assert!(refused.headers().contains_key("retry-after"));
    problem(refused, 429).await;
    let other = json!({ "client": BOB, "do": many });
    assert_eq!(ask(&gateway, &other).await.status(), 200, "another client has its own rate");
}

#[tokio::test]
async fn joined_topics_are_bounded() {
    let gateway = Gateway::with(&[("CLIENTS__TOPICS", "2")]);
    for topic in ["/a", "/b", "/a"] {
        assert_eq!(act(&gateway, ANN, &json!({ "join": topic })).await["topic"], topic);
    }
    assert_eq!(act(&gateway, ANN, &json!({ "join": "/c" })).await["problem"]["limit"], 2);
}

#[tokio::test]
async fn what_belongs_to_others_stays_theirs() {
    let gateway = guarded(&[("AUTH__ANONYMOUS", "true")]);
    let token = |user: &str| {
        let mut claims = modern_claims("subscribe", &[("exact", "/r")]);
        claims["sub"] = user.into();
        sign(Some("at+jwt"), &claims, SUBSCRIBER_KEY)
    };
    let act_as = async |token: Option<&str>, action: &Value| {
        let request = gateway.client.post(gateway.url("/client"));
        let request = request.json(&json!({ "client": ANN, "do": [action] }));
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().await.expect("a reply")
    };
    let join = json!({ "join": "/r" });
    assert_eq!(act_as(Some(&token("ann")), &join).await.status(), 200);
    problem(act_as(Some(&token("bob")), &join).await, 403).await;
    problem(act_as(None, &join).await, 403).await;
    for topic in ["*", "/.well-known/mercure/clients/x", "urn:tidegate:clients", "/jobs/none"] {
        let reply = act_as(Some(&token("ann")), &json!({ "join": topic })).await;
        let reply: Value = reply.json().await.expect("JSON");
        assert!(reply["did"][0]["problem"]["status"].is_u64(), "{topic}: {reply}");
    }
    let send = act_as(Some(&token("ann")), &json!({ "send": "/r", "data": 1 })).await;
    let send: Value = send.json().await.expect("JSON");
    assert_eq!(send["did"][0]["problem"]["status"], 403, "a grant to hear is none to send");
}
