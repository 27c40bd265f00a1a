use crate::support::Gateway;

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
