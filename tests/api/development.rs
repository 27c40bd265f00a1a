use crate::support::{Gateway, problem};

#[tokio::test]
async fn unknown_hosts_are_refused_whatever_is_asked_for() {
    let gateway = Gateway::with(&[("SERVER__HOSTS", "push.test")]);
    for host in
        ["evil.test", "localhost.evil.test", "127.0.0.1.evil.test", "", "a b", "evil.test:3000"]
    {
        for path in ["/", "/events?topic=t", "/health/live", "/nothing"] {
            let reply = gateway.client.get(gateway.url(path)).header("host", host).send().await;
            problem(reply.expect("a reply"), 421).await;
        }
    }
    for host in [
        "localhost",
        "LOCALHOST:80",
        "app.localhost",
        "127.0.0.1",
        "[::1]:3000",
        "push.test",
        "192.0.2.1",
    ] {
        let reply =
            gateway.client.get(gateway.url("/health/live")).header("host", host).send().await;
        assert_eq!(reply.expect("a reply").status(), 200, "{host}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_may_not_write() {
    let gateway = Gateway::with(&[("CORS__ORIGINS", "https://good.example")]);
    let publish = |origin: String| {
        let request = gateway.client.post(gateway.url("/events")).header("origin", origin);
        request.header("content-type", "application/x-www-form-urlencoded").body("topic=t").send()
    };
    let other_port = format!("http://127.0.0.1:{}", gateway.address.port() ^ 1);
    let scheme = format!("https://{}", gateway.address);
    for origin in
        ["https://evil.example", "null", "https://good.example.evil.example", &other_port, &scheme]
    {
        problem(publish(origin.to_owned()).await.expect("a reply"), 403).await;
    }
    for origin in [gateway.url(""), "https://good.example".to_owned()] {
        assert_eq!(publish(origin).await.expect("a reply").status(), 200);
    }
    assert_eq!(gateway.metric("tidegate_updates_total").await, 2.0);
}

/// As behind a proxy that does not pass the `Host` on.
#[tokio::test]
async fn a_browsers_word_counts_for_pages_of_hosts_that_only_the_operator_controls() {
    let gateway = Gateway::with(&[("SERVER__HOSTS", "push.test")]);
    for (origin, site, status) in [
        ("http://localhost:8080", "same-origin", 200),
        ("https://192.0.2.1", "same-origin", 200),
        ("https://push.test", "same-origin", 200),
        ("https://evil.example", "same-origin", 403),
        ("https://push.test.evil.example", "same-origin", 403),
        ("http://localhost:8080", "same-site", 403),
        ("http://localhost:8080", "cross-site", 403),
        ("http://localhost:8080", "", 403),
    ] {
        let request = gateway.client.post(gateway.url("/events")).header("origin", origin);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let reply = request.header("sec-fetch-site", site).body("topic=t").send().await;
        assert_eq!(reply.expect("a reply").status(), status, "{origin} {site}");
    }
}

#[tokio::test]
async fn a_page_that_its_browser_calls_the_gateways_own_may_write_behind_any_proxy() {
    let gateway = Gateway::start();
    for (origin, site, status) in [
        // A default `proxy_pass` replaces the `Host` that the page has in common with its requests.
        ("http://localhost:8080", "same-origin", 200),
        ("https://192.0.2.7", "same-origin", 200),
        ("http://localhost:8080", "same-site", 403),
        ("http://localhost:8080", "cross-site", 403),
        ("null", "same-origin", 200),
        // A name that resolves to this machine, and so passes the proxy.
        ("https://evil.example", "same-origin", 403),
    ] {
        let request = gateway.client.post(gateway.url("/events")).header("origin", origin);
        let request = request.header("sec-fetch-site", site);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let reply = request.body("topic=t").send().await.expect("a reply");
        assert_eq!(reply.status(), status, "{origin} {site}");
        if status == 403 {
            let document = problem(reply, 403).await;
            let detail = document["detail"].as_str().expect("text");
            assert!(detail.contains("`server.public_url`"), "{detail}");
        }
    }
}

#[tokio::test]
async fn cors_is_closed_until_origins_are_allowed() {
    let closed = Gateway::start();
    let request = closed
        .client
        .get(closed.url("/poll?topic=t&wait=0"))
        .header("origin", "https://good.example");
    let reply = request.send().await.expect("a reply");
    assert!(!reply.headers().contains_key("access-control-allow-origin"));

    let open = Gateway::with(&[("CORS__ORIGINS", "https://good.example")]);
    let request = |path: &str, origin: &str| {
        open.client.get(open.url(path)).header("origin", origin.to_owned()).send()
    };
    for path in ["/poll?topic=t&wait=0", "/poll", "/nothing"] {
        let reply = request(path, "https://good.example").await.expect("a reply");
        assert_eq!(
            reply.headers()["access-control-allow-origin"],
            "https://good.example",
            "{path}"
        );
        assert!(reply.headers()["vary"].to_str().expect("text").to_lowercase().contains("origin"));
        let reply = request(path, "https://evil.example").await.expect("a reply");
        assert!(!reply.headers().contains_key("access-control-allow-origin"), "{path}");
    }
    let preflight = open.client.request(reqwest::Method::OPTIONS, open.url("/events"));
    let preflight = preflight
        .header("origin", "https://good.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,last-event-id,cache-control");
    let reply = preflight.send().await.expect("a reply");
    assert!(reply.status().is_success());
    assert_eq!(reply.headers()["access-control-allow-origin"], "https://good.example");
}
