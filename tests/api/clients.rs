//! Requests of frameworks' libraries to a hub, header by header, and what they need from the reply.

use serde_json::json;

use crate::support::{
    Gateway,
    raw::Raw,
    tokens::{
        DETAIL, HUB, ISSUER, PUBLISHER_KEY, SUBSCRIBER_KEY, from_now, guarded, modern_claims,
        modern_publisher, modern_subscriber, old_publisher, sign,
    },
};

/// The origin of the application's pages.
const APP: &str = "https://app.example";

/// A gateway set up for an application that uses cookies.
fn hub() -> Gateway {
    guarded(&[
        ("AUTH__ANONYMOUS", "true"),
        ("AUTH__PUBLISH_ORIGINS", APP),
        ("CORS__ORIGINS", APP),
        ("CORS__CREDENTIALS", "true"),
    ])
}

/// Sends a request. In the source of these tests its lines end with a line feed only.
async fn send(gateway: &Gateway, head: &str, body: &str) -> Raw {
    let mut raw = Raw::connect(gateway.address).await;
    let length =
        if body.is_empty() { String::new() } else { format!("\nContent-Length: {}", body.len()) };
    let head = format!("{}{length}\n\n", head.trim()).replace('\n', "\r\n");
    raw.send(&format!("{head}{body}")).await;
    raw
}

/// Returns the status and headers of the reply, in lower case.
async fn head(raw: &mut Raw) -> String {
    raw.until("\r\n\r\n").await.to_lowercase()
}

/// Publishes and returns the id, which is all of the plain-text reply with status 200.
async fn published(gateway: &Gateway, request: &str, body: &str) -> String {
    let mut raw = send(gateway, &format!("{}\nConnection: close", request.trim()), body).await;
    let head = head(&mut raw).await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(head.contains("content-type: text/plain; charset=utf-8\r\n"), "{head}");
    raw.until_end().await
}

/// Subscribes and returns the stream after its head, and the head.
async fn subscribed(gateway: &Gateway, request: &str) -> (Raw, String) {
    let mut raw = send(gateway, request, "").await;
    let head = head(&mut raw).await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(head.contains("content-type: text/event-stream\r\n"), "{head}");
    (raw, head)
}

/// An access token of Symfony's bundle, whose times have microseconds.
fn symfony_token(action: &str, selectors: &[&str], key: &str) -> String {
    let expires = from_now(3600) as f64 + 0.123_456;
    sign(Some("JWT"), &json!({ "mercure": { action: selectors }, "exp": expires }), key)
}

#[tokio::test]
async fn symfony_publishes_forms_and_reads_the_id() {
    let gateway = hub();
    let token = symfony_token("publish", &["*"], PUBLISHER_KEY);
    let request = format!(
        "POST /.well-known/mercure HTTP/1.1\nHost: hub.example\n\
         Content-Type: application/x-www-form-urlencoded\nAuthorization: Bearer {token}\n\
         Accept: */*\nUser-Agent: Symfony HttpClient (Curl)\nAccept-Encoding: gzip"
    );
    let body = "topic=https%3A%2F%2Fexample.com%2Fbooks%2F1&topic=https%3A%2F%2Fexample.com%2Fauthors%2F2\
                &data=%7B%22status%22%3A%22OutOfStock%22%2C%22note%22%3A%22a+b%2Bc%22%7D&private=on\
                &id=urn%3Auuid%3Ae1ee88e2-532a-4d6f-ba70-f0f8bd584022&type=stock&retry=3000";
    let mut stream = gateway
        .open_as(&modern_subscriber(&[("exact", "*")]), "/.well-known/mercure?match=*")
        .await;
    let id = published(&gateway, &request, body).await;
    assert_eq!(id, "urn:uuid:e1ee88e2-532a-4d6f-ba70-f0f8bd584022");
    let event = stream.next().await;
    assert_eq!(event.data, r#"{"status":"OutOfStock","note":"a b+c"}"#);
    assert_eq!((event.kind.as_str(), event.id), ("stock", id));
    assert_eq!(stream.parser.retry, Some(3000));

    // Fields that it does not set are absent, and the hub creates an id.
    let id = published(&gateway, &request, "topic=t&data=").await;
    assert!(id.starts_with("urn:uuid:"), "{id}");
    // This library throws an exception for everything but 2xx.
    let mut raw = send(&gateway, &request.replace(&token, "bad"), "topic=t").await;
    assert!(head(&mut raw).await.starts_with("http/1.1 401 "));
}

#[tokio::test]
async fn pages_of_symfony_subscribe_with_the_old_cookie_and_two_names_for_the_cursor() {
    let gateway = hub();
    let publisher = old_publisher(&["*"]);
    let first = [("topic", "https://example.com/books/1"), ("data", "1"), ("private", "on")];
    let id = gateway.post_as(&publisher, &first).await.text().await.expect("the id");
    gateway
        .post_as(
            &publisher,
            &[("topic", "https://example.com/books/2"), ("data", "2"), ("private", "on")],
        )
        .await;
    gateway
        .post_as(
            &publisher,
            &[("topic", "https://example.com/films/3"), ("data", "3"), ("private", "on")],
        )
        .await;

    let token = symfony_token("subscribe", &["https://example.com/books/{id}"], SUBSCRIBER_KEY);
    let id = id.replace(':', "%3A");
    let (mut stream, answer) = subscribed(
        &gateway,
        &format!(
            "GET /.well-known/mercure?topic=https%3A%2F%2Fexample.com%2F%7Bkind%7D%2F%7Bid%7D&lastEventID={id}&Last-Event-ID={id} HTTP/1.1\n\
             Host: hub.example\nConnection: keep-alive\nCache-Control: no-cache\n\
             Accept: text/event-stream\nOrigin: {APP}\nReferer: {APP}/books\n\
             Cookie: PHPSESSID=1; mercureAuthorization={token}"
        ),
    )
    .await;
    // Without these the browser withholds the reply from the page.
    assert!(answer.contains(&format!("access-control-allow-origin: {APP}\r\n")), "{answer}");
    assert!(answer.contains("access-control-allow-credentials: true\r\n"), "{answer}");
    assert!(answer.contains("\r\nlast-event-id: urn:uuid:"), "{answer}");
    assert!(answer.contains("\r\nmercure-last-event-id: urn:uuid:"), "{answer}");
    assert!(stream.until("data: 2\n").await.starts_with(":\n"));
    gateway.post_as(&publisher, &[("topic", "https://example.com/books/4"), ("data", "4")]).await;
    assert!(!stream.until("data: 4\n").await.contains("data: 3"));
}

#[tokio::test]
async fn symfony_in_its_new_mode_has_access_tokens_and_the_new_cookie() {
    let gateway = hub();
    let claims = |action: &str| {
        json!({
            "iss": ISSUER, "aud": [HUB], "sub": "https://app.example", "client_id": "https://app.example",
            "iat": from_now(0) as f64 + 0.5, "exp": from_now(3600) as f64 + 0.5, "jti": "1",
            "authorization_details": [{
                "type": DETAIL,
                "actions": [action],
                "topics": [{ "match": "https://example.com/books/:id", "match_type": "urlpattern" }],
            }],
        })
    };
    let subscriber = sign(Some("at+jwt"), &claims("subscribe"), SUBSCRIBER_KEY);
    let (mut stream, answer) = subscribed(
        &gateway,
        &format!(
            "GET /.well-known/mercure?match_urlpattern=https%3A%2F%2Fexample.com%2Fbooks%2F%3Aid&last_event_id=earliest HTTP/1.1\n\
             Host: hub.example\nAccept: text/event-stream\nCache-Control: no-cache\nOrigin: {APP}\n\
             Cookie: __Secure-mercure_access_token={subscriber}"
        ),
    )
    .await;
    assert!(answer.contains("\r\nmercure-last-event-id: earliest\r\n"), "{answer}");
    let publisher = sign(Some("at+jwt"), &claims("publish"), PUBLISHER_KEY);
    let request = format!(
        "POST /.well-known/mercure HTTP/1.1\nHost: hub.example\n\
         Content-Type: application/x-www-form-urlencoded\nAuthorization: Bearer {publisher}\nAccept: */*"
    );
    let id = published(
        &gateway,
        &request,
        "topic=https%3A%2F%2Fexample.com%2Fbooks%2F1&data=1&private=on",
    )
    .await;
    stream.until(&format!("data: 1\nid: {id}\n\n")).await;
    let mut raw =
        send(&gateway, &request, "topic=https%3A%2F%2Fexample.com%2Ffilms%2F1&data=1").await;
    let refusal = head(&mut raw).await;
    assert!(refusal.starts_with("http/1.1 403 "), "{refusal}");
    assert!(refusal.contains("error=\"insufficient_scope\""), "{refusal}");
}

#[tokio::test]
async fn the_admin_of_api_platform_shows_its_token_in_a_header_through_a_polyfill() {
    let gateway = hub();
    let token = symfony_token("subscribe", &["https://example.com/books/{id}"], SUBSCRIBER_KEY);
    let mut raw = send(
        &gateway,
        &format!(
            "OPTIONS /.well-known/mercure?topic=https%3A%2F%2Fexample.com%2Fbooks%2F%7Bid%7D HTTP/1.1\n\
             Host: hub.example\nOrigin: {APP}\nAccess-Control-Request-Method: GET\n\
             Access-Control-Request-Headers: authorization,cache-control,last-event-id\nSec-Fetch-Mode: cors"
        ),
        "",
    )
    .await;
    let preflight = head(&mut raw).await;
    assert!(preflight.starts_with("http/1.1 20"), "{preflight}");
    assert!(preflight.contains(&format!("access-control-allow-origin: {APP}\r\n")), "{preflight}");
    let allowed = preflight.lines().find(|it| it.starts_with("access-control-allow-headers:"));
    let allowed = allowed.expect("headers that may be sent");
    assert!(
        ["authorization", "cache-control", "last-event-id"].iter().all(|it| allowed.contains(it))
    );

    // It appends to the query at each reconnection, and keeps what was there.
    let (mut stream, _) = subscribed(
        &gateway,
        &format!(
            "GET /.well-known/mercure?lastEventId=b&topic=https%3A%2F%2Fexample.com%2Fbooks%2F%7Bid%7D&lastEventID=a HTTP/1.1\n\
             Host: hub.example\nAccept: text/event-stream\nAuthorization: Bearer {token}\n\
             Cache-Control: no-cache\nOrigin: {APP}"
        ),
    )
    .await;
    let document = "{\"@id\":\"/books/1\",\"@type\":\"https://schema.org/Book\"}";
    let update = [("topic", "https://example.com/books/1"), ("data", document), ("private", "on")];
    gateway.post_as(&old_publisher(&["*"]), &update).await;
    let events = stream.until(&format!("data: {document}\n")).await;
    assert!(events.contains("\"cursor\":\"b\""), "{events}");
}

#[tokio::test]
async fn laravel_publishes_under_channels_and_its_pages_whisper() {
    let gateway = hub();
    let channel = "https://laravel.alt/echo/channel/private-orders.1";
    let encoded = "https%3A%2F%2Flaravel.alt%2Fecho%2Fchannel%2Fprivate-orders.1";
    let subscriber = modern_subscriber(&[("exact", channel)]);
    let (mut stream, _) = subscribed(
        &gateway,
        &format!(
            "GET /.well-known/mercure?match={encoded} HTTP/1.1\nHost: hub.example\n\
             Accept: text/event-stream\nCache-Control: no-cache\nOrigin: {APP}\n\
             Cookie: laravel_session=1; __Secure-mercure_access_token={subscriber}"
        ),
    )
    .await;
    let request = format!(
        "POST /.well-known/mercure HTTP/1.1\nHost: hub.example\nUser-Agent: GuzzleHttp/7\n\
         Content-Type: application/x-www-form-urlencoded\nAuthorization: Bearer {}",
        modern_publisher(&[("exact", "*")])
    );
    let body = format!(
        "topic={encoded}&data=%7B%22event%22%3A%22OrderShipped%22%2C%22data%22%3A%7B%7D%7D&private=on"
    );
    published(&gateway, &request, &body).await;
    stream.until("data: {\"event\":\"OrderShipped\",\"data\":{}}\n").await;

    // A page publishes a whisper, with a cookie that grants both.
    let whisperer =
        sign(Some("at+jwt"), &modern_claims("publish", &[("exact", channel)]), PUBLISHER_KEY);
    let whisper = |origin: &str| {
        format!(
            "POST /.well-known/mercure HTTP/1.1\nHost: hub.example\nOrigin: {origin}\n\
             Content-Type: application/x-www-form-urlencoded;charset=UTF-8\nAccept: */*\n\
             Cookie: laravel_session=1; __Secure-mercure_access_token={whisperer}"
        )
    };
    let body = format!("topic={encoded}&data=typing&private=on");
    published(&gateway, &whisper(APP), &body).await;
    stream.until("data: typing\n").await;
    let mut raw = send(&gateway, &whisper("https://evil.example"), &body).await;
    assert!(head(&mut raw).await.starts_with("http/1.1 400 "));
}

#[tokio::test]
async fn the_older_broadcaster_for_laravel_publishes_under_several_topics() {
    let gateway = hub();
    let request = format!(
        "POST /.well-known/mercure HTTP/1.1\nHost: hub.example\nUser-Agent: GuzzleHttp/7\n\
         Content-Type: application/x-www-form-urlencoded\nAuthorization: Bearer {}",
        old_publisher(&["*"])
    );
    let mut stream = gateway.open("/.well-known/mercure?topic=b").await;
    let body = "topic=a&topic=b&data=%7B%22event%22%3A%22App%5C%5CEvents%5C%5CNews%22%2C%22data%22%3A%7B%22id%22%3A1%7D%7D";
    let id = published(&gateway, &request, body).await;
    let event = stream.next().await;
    assert_eq!(
        (event.data.as_str(), event.id),
        (r#"{"event":"App\\Events\\News","data":{"id":1}}"#, id)
    );
}

#[tokio::test]
async fn forms_with_empty_fields_and_a_token_in_the_address_are_those_of_debugging_pages() {
    let gateway = hub();
    let token = symfony_token("publish", &["*"], PUBLISHER_KEY);
    let request = format!(
        "POST /.well-known/mercure HTTP/1.1\nHost: hub.example\nAuthorization: Bearer {token}\n\
         Content-Type: application/x-www-form-urlencoded;charset=UTF-8"
    );
    let viewer = symfony_token("subscribe", &["*"], SUBSCRIBER_KEY);
    let (mut stream, _) = subscribed(
        &gateway,
        &format!(
            "GET /.well-known/mercure?topic=*&lastEventID=&authorization={viewer} HTTP/1.1\n\
             Host: hub.example\nAccept: text/event-stream"
        ),
    )
    .await;
    let id =
        published(&gateway, &request, "topic=t&data=x&id=&type=&retry=&private=on&unknown=1").await;
    assert!(id.starts_with("urn:uuid:"), "{id}");
    stream.until(&format!("data: x\nid: {id}\n\n")).await;
}
