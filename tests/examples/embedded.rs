//! The gateway at a path of an application that has its own server.

use std::time::Duration;

use reqwest::{Response, redirect::Policy};
use serde_json::{Value, json};
use tidegate_testkit::deadline::within;

use crate::support::{App, client, in_time, listen};

/// Far below the 30 seconds that actix waits for open streams.
const SOON: Duration = Duration::from_secs(15);

async fn get(app: &App, path: &str) -> Response {
    in_time("an answer", client().get(app.url(path)).send()).await.expect("an answer")
}

#[tokio::test]
async fn visits_arrive_under_the_path_of_the_gateway() {
    let app = App::start("embedded").await;
    let mut live = listen(&app.url("/push/events?topic=visits"), None).await;
    let page = get(&app, "/").await.text().await.expect("a page");
    let event = live.next().await;
    assert!(page.contains(&format!("<code>{}</code>", event.id)), "{page}");
    let visit: Value = serde_json::from_str(&event.data).expect("the data is JSON");
    assert!(visit["time"].as_str().is_some_and(|it| it.ends_with('Z')), "{visit}");
}

#[tokio::test]
async fn addresses_are_below_the_path() {
    let app = App::start("embedded").await;
    let request = client().post(app.url("/push/jobs")).json(&json!({ "type": "t" }));
    let reply = in_time("a job", request.send()).await.expect("an answer");
    assert_eq!(reply.status(), 202);
    let job = reply.headers()["location"].to_str().expect("text").to_owned();
    assert!(job.starts_with("/push/jobs/"), "{job}");
    assert_eq!(get(&app, &job).await.status(), 200);

    let start = get(&app, "/push/").await.text().await.expect("a page");
    assert!(start.contains(&app.url("/push")), "{start}");
    let stay = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build();
    let request = stay.expect("a client").get(app.url("/push")).send();
    let reply = in_time("a redirect", request).await.expect("an answer");
    assert_eq!(
        (reply.status().as_u16(), reply.headers()["location"].as_bytes()),
        (308, &b"/push/"[..])
    );
}

#[tokio::test]
async fn what_is_not_the_gateways_stays_the_applications() {
    let app = App::start("embedded").await;
    for (path, status, expected) in [
        ("/nowhere", 404, "this application has no such page"),
        ("/events", 404, "this application has no such page"),
        ("/pushed", 404, "this application has no such page"),
        ("/metrics", 200, "the application's own"),
    ] {
        let reply = get(&app, path).await;
        assert_eq!(reply.status(), status, "{path}");
        assert_eq!(reply.text().await.expect("text"), expected, "{path}");
    }
    for path in ["/push/metrics", "/push/health/live", "/push/healthz", "/push/nowhere"] {
        let reply = get(&app, path).await;
        assert_eq!(reply.status(), 404, "{path}");
        assert_eq!(reply.headers()["content-type"], "application/problem+json", "{path}");
    }
}

#[tokio::test]
async fn open_streams_do_not_delay_the_end_of_the_server() {
    let app = App::start("embedded").await;
    let live = listen(&app.url("/push/events?topic=visits"), None).await;
    let poll = tokio::spawn(client().get(app.url("/push/poll?topic=visits&wait=60")).send());
    let _ = get(&app, "/push/").await;
    app.terminate();
    live.end().await;
    let status = within(SOON, "the end of the application", app.end()).await;
    assert!(status.success(), "{status}");
    // It was answered, or it came too late to be accepted.
    let _ = poll.await.expect("no panic");
}
