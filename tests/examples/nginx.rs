//! The feed behind nginx, with the example's configuration.

use std::{path::Path, time::Duration};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tidegate_testkit::nginx::Nginx;
use url::Url;

use crate::{
    feed::{post, title},
    support::{App, Document, client, in_time, listen},
};

const CONFIGURATION: &str = include_str!("../../examples/feed/nginx.conf");

/// The pause between checks of a condition.
const PAUSE: Duration = Duration::from_millis(20);

/// Starts nginx in front of `app`, or says why not.
async fn start(app: &App) -> Option<Nginx> {
    start_changed(app, |configuration| configuration).await
}

/// Starts nginx with a configuration that differs from the example's.
async fn start_changed(app: &App, change: impl Fn(String) -> String) -> Option<Nginx> {
    let nginx =
        Nginx::start(|port, directory| change(configuration(&app.address, port, directory)))?;
    nginx.answers("/health/live", StatusCode::OK).await;
    Some(nginx)
}

/// Returns the example's configuration with other addresses and files.
fn configuration(upstream: &str, port: u16, directory: &Path) -> String {
    let directory = format!("{}/", directory.display());
    let listen = format!("127.0.0.1:{port}");
    let changes = [
        ("127.0.0.1:3010", upstream),
        ("127.0.0.1:8010", &listen),
        ("/tmp/tidegate-feed-", &directory),
    ];
    changes.iter().fold(CONFIGURATION.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "nginx.conf no longer has {from}");
        text.replace(from, to)
    })
}

#[tokio::test]
async fn every_transport_works_through_nginx() {
    let app = App::start("feed").await;
    let Some(nginx) = start(&app).await else { return };
    let base = &nginx.base;
    let mut events = listen(&format!("{base}/events?topic=feed"), None).await;
    let mut document = Document::open(&format!("{base}/iframe?topic=feed&origin={base}")).await;
    let poll = format!("{base}/poll?topic=feed&wait=15");
    let poll = tokio::spawn(client().get(poll).send());
    has_subscriber(&app, "poll").await;

    // Neither response has ended, so what arrives has not been buffered.
    post(base, "Through nginx").await;
    assert_eq!(title(&events.next().await.data), "Through nginx");
    let call = document.call().await;
    assert_eq!(title(call["event"]["data"].as_str().expect("data")), "Through nginx");
    let reply = in_time("the poll", poll).await.expect("no panic").expect("an answer");
    let reply: Value = reply.json().await.expect("JSON");
    assert_eq!(title(reply["events"][0]["data"].as_str().expect("data")), "Through nginx");

    post(base, "Once more").await;
    let reply =
        client().get(next(&format!("{base}/poll"), &reply)).send().await.expect("an answer");
    let reply: Value = reply.json().await.expect("JSON");
    assert_eq!(title(reply["events"][0]["data"].as_str().expect("data")), "Once more");
}

/// The address of the next poll, as a client finds it that has asked at `asked`.
fn next(asked: &str, reply: &Value) -> Url {
    let next = reply["next"].as_str().expect("an address");
    Url::parse(asked).and_then(|it| it.join(next)).expect("an address")
}

/// The example's configuration with no directive but `proxy_pass`, at the root and under a path.
fn bare(configuration: &str) -> String {
    let (_, server) = configuration.split_once("upstream feed {").expect("an upstream");
    let (_, server) = server.split_once("server ").expect("a server");
    let (server, _) = server.split_once(';').expect("an address");
    let (head, _) = configuration.split_once("location / {").expect("a location");
    format!(
        "{head}location / {{ proxy_pass http://{server}; }} \
         location /push/ {{ proxy_pass http://{server}/; }} }} }}"
    )
}

#[tokio::test]
async fn a_bare_proxy_pass_suffices_at_the_root_and_under_a_path() {
    let app = App::start("feed").await;
    let Some(nginx) = start_changed(&app, |it| bare(&it)).await else { return };
    for path in ["", "/push"] {
        let base = format!("{}{path}", nginx.base);
        let mut events = listen(&format!("{base}/events?topic=feed"), None).await;
        let mut document = Document::open(&format!("{base}/iframe?topic=feed&callback=f")).await;
        let expected = format!("at {base}");
        post(&app.url(""), &expected).await;
        assert_eq!(title(&events.next().await.data), expected);
        let call = document.call().await;
        assert_eq!(title(call["event"]["data"].as_str().expect("data")), expected);
    }
    for path in ["/poll", "/push/poll"] {
        let asked = format!("{}{path}", nginx.base);
        let first = client().get(format!("{asked}?topic=feed&wait=0")).send().await;
        let mut reply: Value = first.expect("an answer").json().await.expect("JSON");
        for number in 0..3 {
            let data = format!("{path} {number}");
            post(&app.url(""), &data).await;
            let next = next(&asked, &reply);
            assert!(next.as_str().starts_with(&format!("{asked}?")), "{next}");
            let polled = client().get(next).send().await.expect("an answer");
            reply = polled.json().await.expect("JSON");
            assert_eq!(title(reply["events"][0]["data"].as_str().expect("data")), data);
        }
    }
}

/// Waits until the gateway has a subscriber over this transport.
async fn has_subscriber(app: &App, transport: &str) {
    let line = format!("tidegate_subscribers{{transport=\"{transport}\"}} 1");
    in_time("a subscriber", async {
        loop {
            let response = client().get(app.url("/metrics")).send().await.expect("an answer");
            let metrics = response.text().await.expect("text");
            if metrics.lines().any(|it| it == line) {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_gateway_knows_who_asks_through_nginx() {
    let app = App::start("feed").await;
    let Some(nginx) = start(&app).await else { return };
    let base = &nginx.base;
    let item = json!({ "title": "x" });
    for (origin, status) in
        [(base.as_str(), 201), (&app.url(""), 403), ("https://evil.example", 403)]
    {
        let request = client().post(format!("{base}/items")).header("origin", origin);
        let response = request.json(&item).send().await.expect("an answer");
        assert_eq!(response.status(), status, "{origin}");
    }
    let mut request = client().post(format!("{base}/items")).header("origin", base);
    for (name, value) in [
        ("forwarded", "host=evil.example;proto=https"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
    ] {
        request = request.header(name, value);
    }
    let response = request.json(&item).send().await.expect("an answer");
    assert_eq!(response.status(), 201, "clients are not believed");
}

#[tokio::test]
async fn nginx_is_believed_about_the_scheme() {
    let app = App::start("feed").await;
    // As if browsers used TLS to nginx.
    let change = |configuration: String| configuration.replace("$scheme", "https");
    let Some(nginx) = start_changed(&app, change).await else { return };
    let own = nginx.base.replace("http:", "https:");
    for (origin, status) in [(own, 201), (nginx.base.clone(), 403)] {
        let request = client().post(format!("{}/items", nginx.base)).header("origin", &origin);
        let response = request.json(&json!({ "title": "x" })).send().await.expect("an answer");
        assert_eq!(response.status(), status, "{origin}");
    }
}

#[tokio::test]
async fn the_feed_comes_back_behind_nginx() {
    let app = App::start("feed").await;
    let Some(nginx) = start(&app).await else { return };
    let address = app.address.clone();
    let live = listen(&format!("{}/events?topic=feed", nginx.base), None).await;
    app.kill().await;
    live.end().await;
    nginx.answers("/events?topic=feed", StatusCode::BAD_GATEWAY).await;

    let _app = App::start_at("feed", &address).await;
    nginx.answers("/health/live", StatusCode::OK).await;
    let mut live = listen(&format!("{}/events?topic=feed", nginx.base), None).await;
    post(&nginx.base, "Back").await;
    assert_eq!(title(&live.next().await.data), "Back");
}
