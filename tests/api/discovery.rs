use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Gateway, problem, sse,
    tokens::{KEYS, guarded, modern_publisher, modern_subscriber, old_subscriber, settings_file},
};

const METADATA: &str = "/.well-known/oauth-protected-resource/.well-known/mercure";

fn query(gateway: &Gateway, path: &str, body: &str) -> reqwest::RequestBuilder {
    let method = Method::from_bytes(b"QUERY").expect("a method");
    let request = gateway.client.request(method, gateway.url(path));
    request.header("content-type", "application/x-www-form-urlencoded").body(body.to_owned())
}

#[tokio::test]
async fn the_hub_says_what_tokens_it_wants() {
    let gateway = guarded(&[("AUTH__COOKIE", "my_cookie")]);
    let reply = gateway.get(METADATA).await;
    assert_eq!(reply.headers()["content-type"], "application/json");
    let document: Value = reply.json().await.expect("JSON");
    let expected = json!({
        "resource": "https://hub.example/.well-known/mercure",
        "authorization_details_types_supported": ["https://mercure.rocks/authorization-detail"],
        "bearer_methods_supported": ["header"],
        "mercure_cookie": "my_cookie",
        "mercure_matcher_types_supported": ["exact", "urlpattern", "uritemplate"],
    });
    assert_eq!(document, expected);
    problem(gateway.get("/.well-known/oauth-protected-resource/other").await, 404).await;
    problem(Gateway::start().get(METADATA).await, 404).await;
}

#[tokio::test]
async fn authorization_servers_are_those_with_key_sets() {
    let file = settings_file(
        "[auth]\ncookie = ''\naudiences = ['urn:hub']\n\
         [[auth.issuers]]\nname = 'https://a.example'\n\
         [[auth.issuers]]\nname = 'https://b.example'\n\
         subscriber = { jwks_url = 'https://b.example/jwks' }\n",
    );
    let path = file.path().to_str().expect("text");
    let gateway = Gateway::with(&[KEYS[0], KEYS[1], ("CONFIG", path)]);
    let document: Value = gateway.get(METADATA).await.json().await.expect("JSON");
    assert_eq!(document["resource"], "urn:hub");
    assert_eq!(document["authorization_servers"], json!(["https://b.example"]));
    assert!(document.get("mercure_cookie").is_none());
}

#[tokio::test]
async fn a_query_subscribes_with_its_body_and_its_address() {
    let gateway = guarded(&[("LIMITS__BODY_BYTES", "1KiB"), ("LIMITS__MATCHERS", "3")]);
    let token = modern_subscriber(&[("exact", "*")]);
    let path = "/.well-known/mercure";
    let request = query(&gateway, &format!("{path}?match=a"), "match_urlpattern=b/:id&topic=c");
    let mut stream = sse::Stream::open(request.bearer_auth(&token)).await;
    assert_eq!(stream.headers()["accept-query"], "application/x-www-form-urlencoded");
    for topic in ["a", "b/1", "c", "d", "a"] {
        let form = [("topic", topic), ("data", topic)];
        gateway.post_as(&modern_publisher(&[("exact", "*")]), &form).await;
    }
    assert_eq!(stream.data(4).await, ["a", "b/1", "c", "a"]);

    let send = |request: reqwest::RequestBuilder| {
        let sent = request.bearer_auth(&token).send();
        async move { sent.await.expect("a reply") }
    };
    // The query precedes the body, and the header precedes both.
    let request = query(&gateway, &format!("{path}?match=a&last_event_id=x"), "last_event_id=y");
    let reply = send(request.header("last-event-id", "earliest")).await;
    assert_eq!(reply.headers()["mercure-last-event-id"], "earliest");
    problem(send(query(&gateway, path, "")).await, 400).await;
    problem(send(query(&gateway, path, "matches=a")).await, 400).await;
    problem(
        send(query(&gateway, &format!("{path}?match=1&match=2"), "match=3&match=4")).await,
        400,
    )
    .await;
    problem(send(query(&gateway, path, &format!("match=a&x={}", "x".repeat(2000)))).await, 413)
        .await;
    let method = || Method::from_bytes(b"QUERY").expect("a method");
    let untyped = gateway.client.request(method(), gateway.url(path)).body("match=a");
    problem(send(untyped).await, 400).await;
    let unreadable = gateway.client.request(method(), gateway.url(path)).body("match=a");
    problem(send(unreadable.header("content-type", "no type")).await, 400).await;
    let json = gateway.client.request(method(), gateway.url(path)).body("match=a");
    problem(send(json.header("content-type", "application/json")).await, 415).await;
    problem(query(&gateway, path, "match=a").send().await.expect("a reply"), 401).await;
    // The method is safe, so a cookie needs no origin.
    let cookie = format!("mercureAuthorization={}", old_subscriber(&["*"]));
    let request = query(&gateway, path, "match=a").header("cookie", cookie);
    assert_eq!(request.send().await.expect("a reply").status(), 200);
}

#[tokio::test]
async fn an_accept_that_excludes_streams_is_406() {
    let gateway = guarded(&[("AUTH__ANONYMOUS", "true")]);
    for (accept, status) in [
        ("text/event-stream", 200),
        ("*/*", 200),
        ("text/html, text/*;q=0.1", 200),
        ("application/json", 406),
        ("*/*, text/event-stream;q=0", 406),
    ] {
        for path in ["/.well-known/mercure?match=t", "/events?match=t"] {
            let request = gateway.client.get(gateway.url(path)).header("accept", accept);
            assert_eq!(request.send().await.expect("a reply").status(), status, "{accept}");
        }
    }
}

#[tokio::test]
async fn cursors_come_under_every_name_the_freshest_first() {
    let gateway = guarded(&[("AUTH__ANONYMOUS", "true")]);
    let token = modern_publisher(&[("exact", "*")]);
    for id in ["urn:1", "urn:2", "urn:3"] {
        gateway.post_as(&token, &[("topic", "t"), ("id", id), ("data", id)]).await;
    }
    for (query, header, echo) in [
        ("last_event_id=urn:1", None, "urn:1"),
        ("lastEventID=urn:1", None, "urn:1"),
        ("Last-Event-ID=urn:1", None, "urn:1"),
        ("lastEventId=urn:2&last_event_id=urn:1", None, "urn:2"),
        ("last_event_id=urn:2&lastEventID=urn:1&Last-Event-ID=urn:1", None, "urn:2"),
        ("last_event_id=urn:1", Some("urn:2"), "urn:2"),
    ] {
        let path = format!("/.well-known/mercure?match=t&{query}");
        let mut request = gateway.client.get(gateway.url(&path));
        if let Some(header) = header {
            request = request.header("last-event-id", header);
        }
        let mut stream = sse::Stream::open(request).await;
        assert_eq!(stream.headers()["mercure-last-event-id"], echo, "{query}");
        assert_eq!(stream.headers()["last-event-id"], echo, "{query}");
        let next = if echo == "urn:1" { "urn:2" } else { "urn:3" };
        assert_eq!(stream.next().await.id, next, "{query}");
    }
    let stream = gateway.open("/.well-known/mercure?match=t").await;
    assert!(!stream.headers().contains_key("mercure-last-event-id"));
}

#[tokio::test]
async fn behind_keys_every_host_is_good_unless_hosts_are_named() {
    let get = |gateway: &Gateway, host: &str| {
        let request = gateway.client.get(gateway.url("/health/live")).header("host", host);
        let sent = request.send();
        async move { sent.await.expect("a reply").status().as_u16() }
    };
    let open = guarded(&[]);
    assert_eq!(get(&open, "mercure").await, 200);
    let named = guarded(&[("SERVER__HOSTS", "mercure")]);
    assert_eq!(get(&named, "mercure").await, 200);
    assert_eq!(get(&named, "hub.example").await, 200);
    assert_eq!(get(&named, "evil.example").await, 421);
}
