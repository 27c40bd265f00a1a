//! The prices: they move, and a page that switches transports loses and repeats nothing.

use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use url::Url;

use crate::support::{App, Document, client, in_time, listen};

/// Changes that are read over each transport.
const CHANGES: u64 = 5;

async fn json(url: &str) -> Value {
    let response = in_time("an answer", client().get(url).send()).await.expect("an answer");
    assert_eq!(response.status(), 200, "{url}");
    response.json().await.expect("JSON")
}

/// The number of the change in an event's data.
fn change(data: &str) -> u64 {
    let price: Value = serde_json::from_str(data).expect("the data is JSON");
    assert!(price["cents"].as_i64().is_some_and(|it| 0 < it), "{price}");
    price["change"].as_u64().expect("a change has a number")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

#[tokio::test]
async fn one_transport_goes_on_where_another_one_stopped() {
    let app = App::start("prices").await;
    let snapshot = json(&app.url("/prices")).await;
    let prices = snapshot["prices"].as_array().expect("a list");
    assert_eq!(prices.len(), 12);
    let topics: Vec<String> =
        prices.iter().map(|it| format!("topic=prices/{}", text(&it["good"]))).collect();
    let topics = topics.join("&");
    let mut seen = snapshot["change"].as_u64().expect("a number");
    let mut expect = |found: u64| {
        assert_eq!(found, seen + 1);
        seen = found;
    };

    let cursor = text(&snapshot["cursor"]).to_owned();
    let url = app.url(&format!("/events?{topics}&last_event_id={cursor}"));
    let mut events = listen(&url, None).await;
    let mut cursor = String::new();
    for _ in 0..CHANGES {
        let event = events.next().await;
        expect(change(&event.data));
        cursor = event.id;
    }
    drop(events);

    let own = app.url("");
    let url = format!("{own}/iframe?{topics}&origin={own}&last_event_id={cursor}");
    let mut document = Document::open(&url).await;
    for _ in 0..CHANGES {
        let call = document.call().await;
        expect(change(text(&call["event"]["data"])));
        text(&call["event"]["id"]).clone_into(&mut cursor);
    }
    drop(document);

    let next = app.url(&format!("/poll?{topics}&last_event_id={cursor}"));
    let mut next = Url::parse(&next).expect("an address");
    for _ in 0..CHANGES {
        let reply = json(next.as_str()).await;
        for event in reply["events"].as_array().expect("a list") {
            expect(change(text(&event["data"])));
        }
        next = next.join(text(&reply["next"])).expect("an address");
    }

    // Plain polling is never older than what the gateway has delivered.
    let snapshot = json(&app.url("/prices")).await;
    assert!(seen <= snapshot["change"].as_u64().expect("a number"), "{snapshot} is behind {seen}");
}

#[tokio::test]
async fn the_page_and_its_script_are_there() {
    let app = App::start("prices").await;
    for (path, kind) in [("/", "text/html"), ("/transports.js", "text/javascript")] {
        let response = client().get(app.url(path)).send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[CONTENT_TYPE], format!("{kind}; charset=utf-8"));
    }
}

#[tokio::test]
async fn the_prices_stop_in_order() {
    let app = App::start("prices").await;
    let live = listen(&app.url("/events?topic=*"), None).await;
    app.terminate();
    live.end().await;
    assert!(app.end().await.success());
}
