use serde_json::json;

use crate::support::{
    Gateway, problem,
    tokens::{guarded, modern_publisher, modern_subscriber},
};

#[tokio::test]
async fn health_is_told_under_every_name() {
    let gateway = Gateway::start();
    for path in ["/health/live", "/health/ready", "/healthz"] {
        let reply = gateway.get(path).await;
        assert_eq!(reply.status(), 200);
        assert_eq!(reply.text().await.expect("text"), r#"{"status":"ok"}"#);
    }
}

#[tokio::test]
async fn metrics_count_what_happens() {
    let gateway = Gateway::start();
    let mut streams =
        [gateway.open("/events?topic=t").await, gateway.open("/events?topic=t").await];
    gateway.publish("t", "x").await;
    for stream in &mut streams {
        stream.next().await;
    }
    gateway.post(&[("data", "no topic")]).await;
    gateway.get("/nothing").await;
    for (name, value) in [
        ("tidegate_subscribers{transport=\"sse\"}", 2.0),
        ("tidegate_subscribers_opened_total{transport=\"sse\"}", 2.0),
        ("tidegate_deliveries_total{transport=\"sse\"}", 2.0),
        ("tidegate_deliveries_total{transport=\"iframe\"}", 0.0),
        ("tidegate_updates_total", 1.0),
        ("tidegate_gaps_total", 0.0),
        ("tidegate_requests_refused_total{reason=\"invalid_field\"}", 1.0),
        ("tidegate_requests_refused_total{reason=\"not_found\"}", 1.0),
        ("tidegate_delivery_lag_bytes", 0.0),
        ("tidegate_poll_sessions", 0.0),
    ] {
        assert_eq!(gateway.metric(name).await, value, "{name}");
    }
    let reply = gateway.get("/metrics").await;
    let kind = reply.headers()["content-type"].to_str().expect("text").to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    assert!(reply.text().await.expect("text").ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_start_page_and_its_files_are_served() {
    let gateway = Gateway::start();
    let page = gateway.get("/").await;
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let page = page.text().await.expect("text");
    assert!(page.contains("tidegate"), "{page}");
    let reply = gateway.get("/static/iframe.js").await;
    assert_eq!(reply.status(), 200);
    let tag = reply.headers()["etag"].clone();
    let request = gateway.client.get(gateway.url("/static/iframe.js")).header("if-none-match", tag);
    assert_eq!(request.send().await.expect("a reply").status(), 304);
}

/// Creates a job of the type `secret-project`.
async fn create(gateway: &Gateway, token: Option<&str>) {
    let mut request = gateway.post_to("/jobs", &json!({ "type": "secret-project" }));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    assert_eq!(request.send().await.expect("a reply").status(), 202);
}

#[tokio::test]
async fn the_types_of_jobs_are_for_those_who_may_list_them() {
    let gateway = guarded(&[]);
    create(&gateway, Some(&modern_publisher(&[("exact", "/jobs")]))).await;
    let stranger = gateway.get("/metrics").await.text().await.expect("text");
    assert!(!stranger.contains("secret-project"), "{stranger}");
    assert_eq!(gateway.metric("tidegate_jobs{type=\"all\",state=\"queued\"}").await, 1.0);
    let lister = modern_subscriber(&[("exact", "/jobs")]);
    let text = gateway.get_as(&lister, "/metrics").await.text().await.expect("text");
    assert!(text.contains("tidegate_jobs{type=\"secret-project\",state=\"queued\"} 1"), "{text}");
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1);
    let development = Gateway::start();
    create(&development, None).await;
    let name = "tidegate_jobs{type=\"secret-project\",state=\"queued\"}";
    assert_eq!(development.metric(name).await, 1.0, "without keys all is open");
}

#[tokio::test]
async fn a_listener_of_its_own_takes_the_metrics_from_the_others() {
    let gateway = guarded(&[("OPS__LISTEN", "127.0.0.1:0")]);
    create(&gateway, Some(&modern_publisher(&[("exact", "/jobs")]))).await;
    problem(gateway.get("/metrics").await, 404).await;
    for path in ["/health/live", "/health/ready", "/healthz"] {
        assert_eq!(gateway.get(path).await.status(), 200);
    }
    let operate = gateway.operations.clone().expect("an address for operators");
    let get = async |path: &str| {
        gateway.client.get(format!("{operate}{path}")).send().await.expect("a reply")
    };
    let text = get("metrics").await.text().await.expect("text");
    assert!(text.contains("type=\"secret-project\""), "{text}");
    assert_eq!(get("health/ready").await.status(), 200);
    for path in ["", "events?match=t", "jobs", ".well-known/mercure"] {
        problem(get(path).await, 404).await;
    }
}
