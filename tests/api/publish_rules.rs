use serde_json::json;

use crate::support::{
    Gateway, problem,
    tokens::{PUBLISHER_KEY, guarded, modern_publisher, old_publisher, sign},
};

/// Publishers that may do everything, one for each dialect.
fn publishers() -> [String; 2] {
    [modern_publisher(&[("exact", "*")]), old_publisher(&["*"])]
}

async fn send(gateway: &Gateway, token: &str, body: &[u8]) -> reqwest::Response {
    let request = gateway.client.post(gateway.url("/.well-known/mercure")).bearer_auth(token);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    request.body(body.to_vec()).send().await.expect("a reply")
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_in_both_dialects() {
    let gateway = guarded(&[]);
    for token in publishers() {
        for body in [
            "data=x",
            "",
            "topic=*",
            "topic=t&topic=*",
            "topic=",
            "topic=%3Fx",
            "topic=%23f",
            "topic=mercure",
            "topic=mercure/x",
            "topic=/.well-known/mercure",
            "topic=/.well-known/mercure/subscriptions",
            "topic=https://other.example/.well-known/mercure/y",
            "topic=/.well-known/%256Dercure/x",
            "topic=t&topic=foo:/.well-known/mercure/x",
            "topic=%5C.well-known%5Cmercure%5Cx",
            "topic=a%00b",
            "topic=a%0Ab",
            "topic=a%0Db",
            "topic=a%7Fb",
            "topic=a%C2%85b",
            "topic=a%E2%80%8Db",
            "topic=%FF",
            "topic=t&data=%FF",
            "topic=t&id=%23x",
            "topic=t&id=earliest",
            "topic=t&id=a%00b",
            "topic=t&id=%EF%BB%BFa",
            "topic=t&type=mercure",
            "topic=t&type=a%0Ab",
            "topic=t&retry=1s",
            "topic=t&retry=-1",
            "topic=t&retry=%D9%A1",
        ] {
            let reply = send(&gateway, &token, body.as_bytes()).await;
            assert_eq!(reply.status(), 400, "{body}");
            assert!(!reply.headers().contains_key("www-authenticate"));
            problem(reply, 400).await;
        }
    }
    assert_eq!(gateway.metric("tidegate_updates_total").await, 0.0);
}

#[tokio::test]
async fn odd_but_good_updates_are_taken_in_both_dialects() {
    let gateway = guarded(&[]);
    for token in publishers() {
        for body in [
            "topic=t",
            "topic=t&data=",
            "topic=t&unknown=x&private",
            "topic=t&id=&type=&retry=",
            "topic=t&retry=00000000000000000000000000000000000000099",
            "topic=urn:x",
            "topic=/.well-known/mercurial",
            "topic=/.well-known/mercure%253Bx",
            "topic=../mercure/x",
            "topic=a+b&data=%E2%80%8D%00",
            "topic=%F0%9F%98%80&id=%22%5C%22&type=%C3%BC",
            "topic=t&id=a%2Cb%3Bc",
        ] {
            let reply = send(&gateway, &token, body.as_bytes()).await;
            assert_eq!(reply.status(), 200, "{body}");
        }
    }
}

#[tokio::test]
async fn every_topic_needs_a_grant() {
    let gateway = guarded(&[]);
    let pattern = [("urlpattern", "https://example.com/books/:id"), ("exact", "other")];
    for token in
        [modern_publisher(&pattern), old_publisher(&["https://example.com/books/{id}", "other"])]
    {
        let books = "https://example.com/books/1";
        for (form, expected) in [
            (vec![("topic", books)], 200),
            (vec![("topic", books), ("topic", "other")], 200),
            (vec![("topic", books), ("topic", "https://example.com/users/1")], 403),
            (vec![("topic", "https://example.com/books/1/reviews")], 403),
            (vec![("topic", "Other")], 403),
            (vec![("topic", books), ("topic", "t"), ("private", "on")], 403),
            // Topics that no client may publish under are refused as such, whatever is granted.
            (vec![("topic", "t"), ("topic", "*")], 400),
            (vec![("topic", "t"), ("topic", "/.well-known/mercure/x")], 400),
            (vec![("topic", "t"), ("retry", "x")], 400),
        ] {
            let reply = gateway.post_as(&token, &form).await;
            assert_eq!(reply.status(), expected, "{form:?}");
            if expected == 403 {
                let header = reply.headers()["www-authenticate"].to_str().expect("text");
                assert!(header.starts_with("Bearer error=\"insufficient_scope\""), "{header}");
                problem(reply, 403).await;
            }
        }
    }
    assert_eq!(gateway.metric("tidegate_updates_total").await, 4.0);
}

#[tokio::test]
async fn a_token_without_publish_grants_publishes_nothing() {
    let gateway = guarded(&[]);
    for claims in [
        json!({}),
        json!({ "mercure": {} }),
        json!({ "mercure": null }),
        json!({ "mercure": { "publish": [] } }),
        json!({ "mercure": { "publish": null } }),
        json!({ "mercure": { "subscribe": ["*"] } }),
        json!({ "mercure": { "publish": ["a\u{1}b", "x".repeat(5000)] } }),
    ] {
        let token = sign(Some("JWT"), &claims, PUBLISHER_KEY);
        assert_eq!(gateway.post_as(&token, &[("topic", "t")]).await.status(), 403, "{claims}");
    }
}

#[tokio::test]
async fn checks_come_in_the_order_who_how_much_what() {
    let gateway = guarded(&[("LIMITS__BODY_BYTES", "1KiB"), ("LIMITS__TOPICS_PER_UPDATE", "2")]);
    let token = modern_publisher(&[("exact", "t")]);
    let long = format!("topic=*&data={}", "x".repeat(2000));
    assert_eq!(send(&gateway, "bad", long.as_bytes()).await.status(), 401);
    assert_eq!(send(&gateway, &token, long.as_bytes()).await.status(), 413);
    assert_eq!(send(&gateway, &token, b"topic=a&topic=b&topic=c").await.status(), 413);
    assert_eq!(send(&gateway, &token, b"topic=a&topic=b").await.status(), 403);
    let request = gateway.client.post(gateway.url("/.well-known/mercure"));
    assert_eq!(request.body("{}").send().await.expect("a reply").status(), 401);
    let request = gateway.client.post(gateway.url("/.well-known/mercure")).bearer_auth(&token);
    assert_eq!(request.body("{}").send().await.expect("a reply").status(), 415);
    for method in ["PUT", "DELETE", "PATCH"] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let request = gateway.client.request(method, gateway.url("/.well-known/mercure"));
        let reply = request.bearer_auth(&token).send().await.expect("a reply");
        assert_eq!(reply.headers()["allow"], "GET, HEAD, QUERY, POST, OPTIONS");
        problem(reply, 405).await;
    }
}

#[tokio::test]
async fn an_idempotency_key_answers_only_those_who_may() {
    let gateway = guarded(&[]);
    let publish = |token: String| {
        let request = gateway.client.post(gateway.url("/events")).bearer_auth(token);
        let request = request.header("idempotency-key", "k");
        request.header("content-type", "application/x-www-form-urlencoded").body("topic=t").send()
    };
    let good = publish(modern_publisher(&[("exact", "t")])).await.expect("a reply");
    let id = good.text().await.expect("text");
    let again = publish(old_publisher(&["t"])).await.expect("a reply");
    assert_eq!(again.text().await.expect("text"), id);
    problem(publish(old_publisher(&["u"])).await.expect("a reply"), 403).await;
    problem(publish("bad".to_owned()).await.expect("a reply"), 401).await;
}

#[tokio::test]
async fn a_batch_is_granted_as_a_whole() {
    let gateway = guarded(&[]);
    let token = modern_publisher(&[("exact", "a"), ("exact", "b")]);
    let publish = |body: &'static str| {
        let request = gateway.client.post(gateway.url("/events")).bearer_auth(&token);
        request.header("content-type", "application/json").body(body).send()
    };
    let reply = publish(r#"[{"topics":["a"]},{"topics":["c"]}]"#).await.expect("a reply");
    problem(reply, 403).await;
    assert_eq!(gateway.metric("tidegate_updates_total").await, 0.0);
    let reply = publish(r#"[{"topics":["a"]},{"topics":["b","a"]}]"#).await.expect("a reply");
    assert_eq!(reply.status(), 200);
}
