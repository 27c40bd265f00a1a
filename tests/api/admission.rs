use serde_json::{Value, json};

use crate::support::{
    Gateway, problem,
    raw::Raw,
    sse::Stream,
    text_at,
    tokens::{guarded, modern_claims, modern_publisher, modern_subscriber, sign},
    watch::eventually,
};

const FORM: &str = "application/x-www-form-urlencoded";

async fn create_job(gateway: &Gateway) -> String {
    let request = gateway.client.post(gateway.url("/jobs"));
    let request = request.bearer_auth(modern_publisher(&[("exact", "/jobs")]));
    let request = request.header("content-type", "application/json");
    let reply = request.body(r#"{"type":"t"}"#).send().await.expect("a reply");
    assert_eq!(reply.status(), 202);
    reply.headers()["location"].to_str().expect("text").to_owned()
}

#[tokio::test]
async fn strangers_watch_jobs_that_are_there_and_hold_few_seats() {
    let gateway = guarded(&[("LIMITS__STRANGERS", "2")]);
    let job = create_job(&gateway).await;
    let unknown = "/jobs/AAAAAAAAAAAAAAAAAAAAAA";
    for path in ["/events", "/poll", "/.well-known/mercure"] {
        problem(gateway.get(&format!("{path}?match={unknown}")).await, 404).await;
        problem(gateway.get(&format!("{path}?match={job}&match={unknown}")).await, 404).await;
    }
    problem(gateway.get(&format!("/iframe?match={unknown}&callback=f")).await, 404).await;
    let one = gateway.open(&format!("/events?match={job}")).await;
    let request = gateway.client.get(gateway.url(&job)).header("accept", "text/event-stream");
    let _two = Stream::open(request).await;
    let refused = problem(gateway.get(&format!("/events?match={job}")).await, 503).await;
    assert!(text_at(&refused, "/detail").contains("limits.strangers"), "{refused}");
    // A refused access token does not make its bearer known.
    let request = gateway.client.get(gateway.url(&job)).header("accept", "text/event-stream");
    let forged = request.bearer_auth("a.b.c").send().await.expect("a reply");
    assert!(text_at(&problem(forged, 503).await, "/detail").contains("limits.strangers"));
    let token = modern_subscriber(&[("exact", "t")]);
    let _granted = gateway.open_as(&token, &format!("/events?match={job}")).await;
    let _unknown_with_rights = gateway.open_as(&token, &format!("/events?match={unknown}")).await;
    drop(one);
    eventually("a seat is free again", async || {
        gateway.get(&format!("/poll?match={job}&wait=0")).await.status() == 200
    })
    .await;
}

#[tokio::test]
async fn a_body_is_read_only_for_those_who_may_send_one() {
    let gateway = guarded(&[]);
    // The rest of the body never arrives, so a handler that waits for it does not reply.
    for (method, path, kind) in [
        ("QUERY", "/events", FORM),
        ("QUERY", "/.well-known/mercure", FORM),
        ("POST", "/events", FORM),
        ("POST", "/.well-known/mercure", FORM),
        ("POST", "/jobs", "application/json"),
        ("POST", "/jobs/claim", "application/json"),
        ("POST", "/jobs/AAAAAAAAAAAAAAAAAAAAAA/progress", "application/json"),
        ("POST", "/jobs/AAAAAAAAAAAAAAAAAAAAAA/log?offset=0", "text/plain"),
        ("POST", "/jobs/AAAAAAAAAAAAAAAAAAAAAA/complete", "application/json"),
        ("POST", "/jobs/AAAAAAAAAAAAAAAAAAAAAA/fail", "application/json"),
    ] {
        let mut raw = Raw::connect(gateway.address).await;
        raw.send(&format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: 1000000\r\n\r\nmatch=t"
        ))
        .await;
        let reply = raw.until("\r\n").await;
        assert!(reply.starts_with("HTTP/1.1 401"), "{method} {path}: {reply}");
    }
}

/// Sends the head of a publication and the beginning of its body, and no more.
async fn half_sent(gateway: &Gateway, from: &str, length: usize) -> Raw {
    let mut raw = Raw::connect(gateway.address).await;
    raw.send(&format!(
        "POST /events HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: {from}\r\ncontent-type: {FORM}\r\ncontent-length: 900000\r\n\r\ntopic=t&data={}",
        "x".repeat(length)
    ))
    .await;
    raw
}

#[tokio::test]
async fn bodies_on_their_way_share_a_budget() {
    let gateway = Gateway::with(&[
        ("LIMITS__BODIES_BYTES", "300KiB"),
        ("LIMITS__BODIES_BYTES_PER_ADDRESS", "150KiB"),
        ("SERVER__TRUSTED_PROXIES", "127.0.0.0/8"),
    ]);
    let publish = async |from: &str, length: usize| {
        let data = "x".repeat(length);
        let request = gateway.client.post(gateway.url("/events")).header("x-forwarded-for", from);
        let request = request.header("content-type", FORM);
        request.body(format!("topic=t&data={data}")).send().await.expect("a reply")
    };
    let held = half_sent(&gateway, "192.0.2.1", 100_000).await;
    eventually("the address has used up its share", async || {
        publish("192.0.2.1", 100_000).await.status() == 429
    })
    .await;
    let refused = problem(publish("192.0.2.1", 100_000).await, 429).await;
    assert!(text_at(&refused, "/detail").contains("limits.bodies_bytes_per_address"));
    assert_eq!(publish("192.0.2.1", 100).await.status(), 200, "small ones still fit");
    assert_eq!(publish("192.0.2.2", 100_000).await.status(), 200);
    let others = [
        half_sent(&gateway, "192.0.2.2", 100_000).await,
        half_sent(&gateway, "192.0.2.3", 50_000).await,
    ];
    eventually("all together have used up the budget", async || {
        publish("192.0.2.4", 140_000).await.status() == 503
    })
    .await;
    let refused = problem(publish("192.0.2.4", 140_000).await, 503).await;
    assert!(text_at(&refused, "/detail").contains("(limits.bodies_bytes)"));
    drop((held, others));
    eventually("what was held comes back", async || {
        publish("192.0.2.1", 140_000).await.status() == 200
    })
    .await;
}

#[tokio::test]
async fn what_a_request_announces_takes_nothing() {
    let gateway = Gateway::with(&[("LIMITS__BODIES_BYTES", "8KiB")]);
    let _many: Vec<Raw> = futures_of(&gateway).await;
    let reply = gateway.post(&[("topic", "t"), ("data", "x")]).await;
    assert_eq!(reply.status(), 200);
}

/// Opens publications of 900,000 bytes whose bodies have not begun.
async fn futures_of(gateway: &Gateway) -> Vec<Raw> {
    let mut many = Vec::new();
    for _ in 0..50 {
        let mut raw = Raw::connect(gateway.address).await;
        raw.send(&format!(
            "POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-type: {FORM}\r\ncontent-length: 900000\r\n\r\n"
        ))
        .await;
        many.push(raw);
    }
    many
}

/// A publisher's access token with a subject.
fn publisher(subject: Option<&str>) -> String {
    let mut claims = modern_claims("publish", &[("exact", "*"), ("exact", "/jobs")]);
    if let Some(subject) = subject {
        claims["sub"] = json!(subject);
    }
    sign(Some("at+jwt"), &claims, crate::support::tokens::PUBLISHER_KEY)
}

#[tokio::test]
async fn an_idempotency_key_is_its_publishers_own() {
    let directory = std::sync::Arc::new(tempfile::tempdir().expect("a directory"));
    let file = crate::support::tokens::trusting(crate::support::tokens::ISSUER);
    let path = file.path().to_str().expect("text").to_owned();
    let keys = crate::support::tokens::KEYS;
    let settings = [keys[0], keys[1], keys[2], ("CONFIG", &*path)];
    let gateway = Gateway::on(directory.clone(), &settings);
    let publish = async |gateway: &Gateway, token: &str, data: &str| {
        let request = gateway.client.post(gateway.url("/events")).bearer_auth(token);
        let request = request.header("content-type", FORM).header("idempotency-key", "k");
        let reply = request.body(format!("topic=t&data={data}")).send().await.expect("a reply");
        (reply.status().as_u16(), reply.text().await.expect("text"))
    };
    let (ann, bob, nameless) = (publisher(Some("ann")), publisher(Some("bob")), publisher(None));
    let first = publish(&gateway, &ann, "a").await;
    assert_eq!(first.0, 200);
    assert_eq!(publish(&gateway, &ann, "a").await, first, "a repetition");
    assert_eq!(publish(&gateway, &ann, "other").await.0, 422);
    for token in [&bob, &nameless] {
        let theirs = publish(&gateway, token, "b").await;
        assert_eq!(theirs.0, 200, "{}", theirs.1);
        assert_ne!(theirs.1, first.1);
    }
    let create = async |gateway: &Gateway, token: &str| {
        let request = gateway.client.post(gateway.url("/jobs")).bearer_auth(token);
        let request = request.header("content-type", "application/json");
        let reply = request.header("idempotency-key", "j").body(r#"{"type":"t"}"#).send().await;
        reply.expect("a reply").json::<Value>().await.expect("JSON")["id"].to_string()
    };
    let job = create(&gateway, &ann).await;
    assert_eq!(create(&gateway, &ann).await, job);
    assert_ne!(create(&gateway, &bob).await, job);
    drop(gateway);
    let gateway = Gateway::on(directory, &settings);
    assert_eq!(publish(&gateway, &ann, "a").await, first, "after a crash as well");
    assert_eq!(publish(&gateway, &bob, "a").await.0, 422);
}

#[tokio::test]
async fn a_retry_that_no_browser_can_wait_for_is_refused() {
    let gateway = Gateway::start();
    for retry in ["2147483648", "99999999999999999999999"] {
        let form = [("topic", "t"), ("retry", retry)];
        assert_eq!(problem(gateway.post(&form).await, 400).await["field"], "retry");
    }
    let json = json!({ "topics": ["t"], "retry": 2_147_483_648_u64 }).to_string();
    problem(gateway.post_json(json).await, 400).await;
    assert_eq!(gateway.post(&[("topic", "t"), ("retry", "2147483647")]).await.status(), 200);
}

#[tokio::test]
async fn a_media_type_with_weight_zero_is_not_sent() {
    let gateway = Gateway::start();
    let id = gateway.create(json!({ "type": "t" })).await;
    let kind = async |accept: &str| {
        let request = gateway.client.get(gateway.url(&format!("/jobs/{id}")));
        let reply = request.header("accept", accept).send().await.expect("a reply");
        reply.headers()["content-type"].to_str().expect("text").to_owned()
    };
    assert!(kind("application/json;q=0, */*").await.starts_with("text/html"));
    assert!(kind("*/*").await.starts_with("application/json"));
    assert_eq!(kind("application/json;q=0").await, "application/problem+json");
}
