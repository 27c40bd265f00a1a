use crate::support::{Gateway, problem, raw::Raw};

/// The fields of a form.
type Form<'a> = &'a [(&'a str, &'a str)];

#[tokio::test]
async fn bad_updates_are_refused_with_the_field_named() {
    let gateway = Gateway::start();
    let long = "x".repeat(5000);
    let cases: &[(Form<'_>, u16, &str)] = &[
        (&[("data", "x")], 400, "topic"),
        (&[("topic", "*")], 400, "topic"),
        (&[("topic", "")], 400, "topic"),
        (&[("topic", "/.well-known/mercure/subscriptions")], 400, "topic"),
        (&[("topic", "https://other.example/.well-known/mercure")], 400, "topic"),
        (&[("topic", "/jobs/1")], 400, "topic"),
        (&[("topic", "t"), ("topic", "/jobs/1")], 400, "topic"),
        (&[("topic", "a\rb")], 400, "topic"),
        (&[("topic", "a\u{200d}b")], 400, "topic"),
        (&[("topic", &long)], 413, "topic"),
        (&[("topic", "t"), ("id", &long)], 413, "id"),
        (&[("topic", "t"), ("id", "#token")], 400, "id"),
        (&[("topic", "t"), ("id", "earliest")], 400, "id"),
        (&[("topic", "t"), ("id", " ")], 400, "id"),
        (&[("topic", "t"), ("id", "trimmed by headers ")], 400, "id"),
        (&[("topic", "t"), ("id", "a\nid: b")], 400, "id"),
        (&[("topic", "t"), ("id", "a\rb")], 400, "id"),
        (&[("topic", "t"), ("id", "a\0b")], 400, "id"),
        (&[("topic", "t"), ("id", "a"), ("id", "b")], 400, "id"),
        (&[("topic", "t"), ("type", "a\rdata: b")], 400, "type"),
        (&[("topic", "t"), ("type", "mercure")], 400, "type"),
        (&[("topic", "t"), ("type", "tidegate.gap")], 400, "type"),
        (&[("topic", "t"), ("type", &long)], 413, "type"),
        (&[("topic", "t"), ("retry", "soon")], 400, "retry"),
        (&[("topic", "t"), ("retry", "-1")], 400, "retry"),
        (&[("topic", "t"), ("retry", "1.5")], 400, "retry"),
        (&[("topic", "t"), ("except", "")], 400, "except"),
        (&[("topic", "t"), ("except", &long)], 413, "except"),
        (&[("topic", "t"), ("data", "a"), ("data", "b")], 400, "data"),
    ];
    for (form, status, field) in cases {
        let document = problem(gateway.post(form).await, *status).await;
        assert_eq!(document["field"], *field, "{form:?}");
        assert_eq!(document["limit"].is_u64(), *status == 413, "{document}");
    }
    assert_eq!(gateway.metric("tidegate_updates_total").await, 0.0);
}

#[tokio::test]
async fn counts_have_limits() {
    let gateway = Gateway::with(&[
        ("LIMITS__TOPICS_PER_UPDATE", "2"),
        ("LIMITS__EXCEPT_PER_UPDATE", "1"),
        ("LIMITS__UPDATES_PER_REQUEST", "2"),
        ("LIMITS__MATCHERS", "2"),
        ("LIMITS__BACKLOG", "5"),
    ]);
    let three = [("topic", "a"), ("topic", "b"), ("topic", "c")];
    assert_eq!(problem(gateway.post(&three).await, 413).await["limit"], 2);
    let two_excepted = [("topic", "a"), ("except", "b"), ("except", "c")];
    assert_eq!(problem(gateway.post(&two_excepted).await, 413).await["limit"], 1);
    let reply = gateway.post_json(r#"[{"topics":["t"]},{"topics":["t"]},{"topics":["t"]}]"#).await;
    assert_eq!(problem(reply, 413).await["limit"], 2);
    let reply = gateway.get("/events?topic=a&match=b&topic=c").await;
    assert_eq!(problem(reply, 400).await["limit"], 2);
    assert_eq!(problem(gateway.get("/events?topic=a&last=6").await, 400).await["limit"], 5);
}

#[tokio::test]
async fn bodies_have_a_limit_and_a_type() {
    let gateway = Gateway::with(&[("LIMITS__BODY_BYTES", "64KiB")]);
    let form = |size: usize| format!("topic=t&data={}", "x".repeat(size - "topic=t&data=".len()));
    let send = |body: String| {
        let request = gateway.client.post(gateway.url("/events"));
        request.header("content-type", "application/x-www-form-urlencoded").body(body).send()
    };
    for size in [13, 4095, 4096, 65535, 65536] {
        assert_eq!(send(form(size)).await.expect("a reply").status(), 200, "{size}");
    }
    let document = problem(send(form(65537)).await.expect("a reply"), 413).await;
    assert_eq!(document["limit"], 65536);

    let mut raw = Raw::connect(gateway.address).await;
    raw.send("POST /events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n").await;
    raw.send("Content-Type: application/x-www-form-urlencoded\r\n\r\n").await;
    raw.send(&format!("{:x}\r\n{}\r\n0\r\n\r\n", 70_000, "x".repeat(70_000))).await;
    raw.until("HTTP/1.1 413").await;

    for kind in
        [None, Some("text/plain"), Some("nonsense"), Some("application/json; charset=utf-16")]
    {
        let request = gateway.client.post(gateway.url("/events")).body("topic=t");
        let request = kind.into_iter().fold(request, |it, kind| it.header("content-type", kind));
        problem(request.send().await.expect("a reply"), 415).await;
    }
    let request = gateway.client.post(gateway.url("/.well-known/mercure")).body("{}");
    let reply = request.header("content-type", "application/json").send().await;
    problem(reply.expect("a reply"), 415).await;
}

#[tokio::test]
async fn what_is_not_utf8_is_refused() {
    let gateway = Gateway::start();
    for (body, field) in
        [("topic=t&data=%ff", "data"), ("topic=%c3%28", "topic"), ("topic=t&id=%ed%a0%80", "id")]
    {
        let request = gateway.client.post(gateway.url("/events")).body(body);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let document = problem(request.send().await.expect("a reply"), 400).await;
        assert_eq!(document["field"], field);
    }
    problem(gateway.post_json(b"{\"topics\":[\"\xff\"]}".to_vec()).await, 400).await;
    problem(gateway.get("/events?topic=%ff").await, 400).await;
}

#[tokio::test]
async fn bad_json_is_refused() {
    let gateway = Gateway::start();
    for body in [
        "",
        "{",
        "[]",
        "7",
        "null",
        "[[]]",
        r#"{"topics":"t"}"#,
        r#"{"topics":[]}"#,
        r#"{"topic":["t"]}"#,
        r#"{"topics":["t"],"retry":"5"}"#,
        r#"{"topics":["t"],"retry":-5}"#,
        r#"{"topics":["t"],"private":"yes"}"#,
        r#"{"topics":["t"],"data":"\ud800"}"#,
        r#"{"topics":["t"],"id":"a","id":"b"}"#,
        r#"{"topics":["t"]} trailing"#,
    ] {
        problem(gateway.post_json(body).await, 400).await;
    }
    let deep = format!(r#"{{"topics":["t"],"data":{}}}"#, "[".repeat(200_000));
    problem(gateway.post_json(deep).await, 400).await;
}

#[tokio::test]
async fn bad_subscriptions_are_refused_with_the_parameter_named() {
    let gateway = Gateway::start();
    for (query, field) in [
        ("", "topic"),
        ("data=x", "topic"),
        ("topic=a%0Ab", "topic"),
        ("topic=a&matches=b", "matches"),
        ("Match=a", "Match"),
        ("topic=a&match_uritemplate={b", "match_uritemplate"),
        ("topic=a&MATCH_exact=b", "MATCH_exact"),
        ("topic=a&last=x", "last"),
        ("topic=a&last=-1", "last"),
        ("topic=a&last=", "last"),
        ("topic=a&last=99999999999999999999999", "last"),
        ("topic=a&since=yesterday", "since"),
        ("topic=a&since=2026-01-01", "since"),
        ("topic=a&since=2026-01-01T00:00:00Z&last=1", "since"),
        ("topic=a&client=", "client"),
        ("topic=a&client=a&client=b", "client"),
    ] {
        let callback = if query.is_empty() { "callback=f" } else { "&callback=f" };
        for path in ["/events?", "/.well-known/mercure?", "/poll?", "/iframe?"] {
            let callback = if path == "/iframe?" { callback } else { "" };
            let reply = gateway.get(&format!("{path}{query}{callback}")).await;
            let document = problem(reply, 400).await;
            assert_eq!(document["field"], field, "{path}{query}");
        }
    }
    // Those of one transport.
    for (query, field) in [
        ("/events?topic=a&heartbeat=loud", "heartbeat"),
        ("/.well-known/mercure?topic=a&heartbeat=loud", "heartbeat"),
        ("/iframe?topic=a&callback=f&heartbeat=loud", "heartbeat"),
        ("/poll?topic=a&wait=1.5", "wait"),
        ("/poll?topic=a&session=1&session=2", "session"),
    ] {
        assert_eq!(problem(gateway.get(query).await, 400).await["field"], field, "{query}");
    }
}

#[tokio::test]
async fn unknown_methods_and_addresses_say_what_there_is() {
    let gateway = Gateway::start();
    for (path, allow) in [
        ("/events", "GET, HEAD, QUERY, POST, OPTIONS"),
        ("/.well-known/mercure", "GET, HEAD, QUERY, POST, OPTIONS"),
        ("/poll", "GET, HEAD, OPTIONS"),
        ("/iframe", "GET, HEAD, OPTIONS"),
        ("/metrics", "GET, HEAD, OPTIONS"),
    ] {
        for method in ["PUT", "DELETE", "BREW"] {
            let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
            let reply =
                gateway.client.request(method, gateway.url(path)).send().await.expect("a reply");
            assert_eq!(reply.headers()["allow"], allow);
            problem(reply, 405).await;
        }
        let reply =
            gateway.client.request(reqwest::Method::OPTIONS, gateway.url(path)).send().await;
        let reply = reply.expect("a reply");
        assert_eq!(
            (reply.status().as_u16(), &reply.headers()["allow"]),
            (204, &allow.parse().expect("a header"))
        );
        assert!(!reply.headers().contains_key("access-control-allow-origin"));
    }
    problem(gateway.get("/nothing/here").await, 404).await;
    problem(gateway.get("/static/nothing").await, 404).await;
}

#[tokio::test]
async fn cursors_that_are_nonsense_never_stall() {
    let gateway = Gateway::start();
    gateway.publish("t", "kept").await;
    let long = "x".repeat(3000);
    for cursor in [
        "%23",
        "%23AAAA",
        "%23%00",
        "a%0Ab",
        "%F0%9F%98%80",
        "18446744073709551616",
        "-1",
        &long,
        "%22",
    ] {
        let polled = gateway.poll(&format!("/poll?topic=t&last_event_id={cursor}")).await;
        assert_eq!(polled["events"][0]["type"], "tidegate.gap", "{cursor}");
        assert_eq!(polled["events"][1]["data"], "kept", "{cursor}");
    }
    let mut raw = Raw::connect(gateway.address).await;
    let head = b"GET /poll?topic=t HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: \xff\xfe\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut raw.stream, head)
        .await
        .expect("a writable connection");
    raw.until("tidegate.gap").await;
}

#[tokio::test]
async fn a_flood_of_refused_requests_is_counted_and_leaves_few_short_lines() {
    let gateway = Gateway::with(&[("LOG__REFUSALS_PER_SECOND", "5")]);
    let path = format!("/{}", "x".repeat(60_000));
    for _ in 0..100 {
        gateway.get(&path).await;
    }
    assert_eq!(
        gateway.metric("tidegate_requests_refused_total{reason=\"not_found\"}").await,
        100.0
    );
    let log = gateway.directory.path().join("log");
    let text = std::fs::read_to_string(&log).expect("a log");
    assert!(text.lines().all(|line| line.len() < 1000), "a line repeats the whole path");
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    gateway.get("/after").await;
    let text = std::fs::read_to_string(&log).expect("a log");
    assert!(text.contains("n_left_out="), "{text}");
}
