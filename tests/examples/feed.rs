//! The feed example: posted items arrive, live, late and after a restart. Malformed ones do not.

use reqwest::{Response, header::CONTENT_TYPE};
use serde_json::{Value, json};

use crate::support::{App, client, in_time, listen, run};

/// Posts an item, which must be accepted.
pub(crate) async fn post(base: &str, title: &str) -> String {
    let response = send(base, &json!({ "title": title, "text": "More of it." }).to_string()).await;
    assert_eq!(response.status(), 201);
    let reply: Value = response.json().await.expect("JSON");
    reply["id"].as_str().expect("an id").to_owned()
}

async fn send(base: &str, body: &str) -> Response {
    let request = client().post(format!("{base}/items")).header(CONTENT_TYPE, "application/json");
    in_time("an answer", request.body(body.to_owned()).send()).await.expect("an answer")
}

/// The title in the data of an event.
pub(crate) fn title(data: &str) -> String {
    let item: Value = serde_json::from_str(data).expect("the data is JSON");
    item["title"].as_str().expect("an item has a title").to_owned()
}

#[tokio::test]
async fn a_posted_item_arrives_at_once_and_for_those_who_come_late() {
    let app = App::start("feed").await;
    let mut live = listen(&app.url("/events?topic=feed&last=20"), None).await;
    let id = post(&app.url(""), "  <b>First</b> & foremost ").await;
    let event = live.next().await;
    assert_eq!((title(&event.data).as_str(), event.id), ("<b>First</b> & foremost", id));
    let item: Value = serde_json::from_str(&event.data).expect("the data is JSON");
    assert_eq!(item["text"], "More of it.");
    assert!(item["time"].as_str().is_some_and(|it| it.ends_with('Z')), "{item}");

    for number in 1..=21 {
        post(&app.url(""), &format!("Item {number}")).await;
    }
    let mut late = listen(&app.url("/events?topic=feed&last=20"), None).await;
    for number in 2..=21 {
        assert_eq!(title(&late.next().await.data), format!("Item {number}"));
    }
}

#[tokio::test]
async fn bad_items_are_refused_and_not_published() {
    let app = App::start("feed").await;
    let long = |field: &str, length| json!({ "title": "x", field: "ä".repeat(length) }).to_string();
    for (body, status, named) in [
        (r#"{"title":"","text":"x"}"#, 400, "no title"),
        (r#"{"title":" \n ","text":"x"}"#, 400, "no title"),
        (r#"{"text":"x"}"#, 400, "missing field `title`"),
        (r#"{"title":7}"#, 400, "expected a string"),
        (r#"{"title":"x","colour":"red"}"#, 400, "unknown field `colour`"),
        (r#"{"title":"x""#, 400, "not an item"),
        ("", 400, "not an item"),
        (&long("title", 101), 400, "100 characters"),
        (&long("text", 2001), 400, "2000 characters"),
        (&long("text", 20_000), 413, "32768 bytes"),
    ] {
        let response = send(&app.url(""), body).await;
        assert_eq!(response.status(), status, "{body}");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json", "{body}");
        let problem: Value = response.json().await.expect("JSON");
        assert_eq!(problem["status"], status, "{problem}");
        let detail = problem["detail"].as_str().expect("a problem has a detail");
        assert!(detail.contains(named), "{body}: {detail}");
    }
    let form = client().post(app.url("/items")).body("title=x").send().await.expect("an answer");
    assert_eq!(form.status(), 415);
    let read = client().get(app.url("/items")).send().await.expect("an answer");
    assert_eq!(
        (read.status().as_u16(), &read.headers()["allow"]),
        (405, &"POST".parse().expect("a value"))
    );

    assert_eq!(send(&app.url(""), &long("title", 100)).await.status(), 201);
    let reply = client().get(app.url("/poll?topic=feed&last=20")).send().await.expect("an answer");
    let reply: Value = reply.json().await.expect("JSON");
    assert_eq!(reply["events"].as_array().map(Vec::len), Some(1), "{reply}");
}

#[tokio::test]
async fn pages_of_others_cannot_post() {
    let app = App::start("feed").await;
    for (name, value, status) in
        [("origin", "https://evil.example", 403), ("host", "evil.example", 421)]
    {
        let request = client().post(app.url("/items")).json(&json!({ "title": "x" }));
        let response = request.header(name, value).send().await.expect("an answer");
        assert_eq!(response.status(), status, "{name}: {value}");
    }
}

#[tokio::test]
async fn the_pages_are_there_and_the_rest_is_the_gateways() {
    let app = App::start("feed").await;
    for (path, text) in [("/", "new EventSource("), ("/admin", "<form")] {
        let response = client().get(app.url(path)).send().await.expect("an answer");
        assert_eq!(response.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        assert!(response.text().await.expect("a page").contains(text), "{path}");
        let head = client().head(app.url(path)).send().await.expect("an answer");
        assert_eq!(head.status(), 200);
    }
    let health = client().get(app.url("/health/live")).send().await.expect("an answer");
    assert_eq!(health.status(), 200);
}

#[tokio::test]
async fn a_reader_is_told_that_a_restarted_feed_does_not_know_what_it_has_seen() {
    let app = App::start("feed").await;
    let mut live = listen(&app.url("/events?topic=feed"), None).await;
    let id = post(&app.url(""), "Before").await;
    assert_eq!(live.next().await.id, id);
    let address = app.address.clone();
    app.kill().await;
    live.end().await;

    let app = App::start_at("feed", &address).await;
    assert_eq!(app.address, address);
    let mut again = listen(&app.url("/events?topic=feed"), Some(&id)).await;
    let gap = again.next().await;
    assert_eq!(gap.kind, "tidegate.gap");
    let told: Value = serde_json::from_str(&gap.data).expect("the data is JSON");
    assert_eq!((&told["cursor"], &told["reason"]), (&json!(id), &json!("unknown")));
    post(&app.url(""), "After").await;
    assert_eq!(title(&again.next().await.data), "After");
}

#[tokio::test]
async fn the_feed_stops_in_order() {
    let app = App::start("feed").await;
    let live = listen(&app.url("/events?topic=feed"), None).await;
    app.terminate();
    live.end().await;
    assert!(app.end().await.success());
}

#[tokio::test]
async fn the_feed_does_not_start_where_it_would_be_open_to_every_peer() {
    let (status, said) = run("feed", "0.0.0.0:0").await;
    assert!(!status.success());
    assert!(said.starts_with("feed: ") && said.contains("server.open_to_everybody"), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
}
