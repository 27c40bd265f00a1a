//! Subscriptions: events and lists, in both dialects, over all transports.

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    DEADLINE, Gateway, problem,
    raw::Raw,
    sse::Stream,
    tokens::{
        DETAIL, HUB, ISSUER, SUBSCRIBER_KEY, from_now, guarded, modern_subscriber, old_subscriber,
        sign,
    },
};

const ROOT: &str = "/.well-known/mercure/subscriptions";
const ALL: &str = "/.well-known/mercure/subscriptions/:type/:match/:subscriber";
const OLD_ALL: &str = "/.well-known/mercure/subscriptions{/topic}{/subscriber}";
const ON: (&str, &str) = ("MERCURE__SUBSCRIPTIONS", "true");

/// An access token that grants everything announced of subscriptions.
fn watcher() -> String {
    modern_subscriber(&[("exact", "*")])
}

/// Opens a stream of all announcements, and skips those of its own start.
async fn watch(gateway: &Gateway) -> Stream {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("match_urlpattern", ALL)
        .finish();
    let mut stream = gateway.open_as(&watcher(), &format!("/.well-known/mercure?{query}")).await;
    let own = document(&mut stream).await;
    assert_eq!((own["match"].as_str(), own["active"].as_bool()), (Some(ALL), Some(true)));
    stream
}

/// The document of the next event.
async fn document(stream: &mut Stream) -> Value {
    let event = stream.next().await;
    assert_eq!(event.kind, "mercure");
    serde_json::from_str(&event.data).expect("JSON")
}

async fn list(gateway: &Gateway, path: &str) -> Value {
    let reply = gateway.get_as(&watcher(), path).await;
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["content-type"], "application/json");
    reply.json().await.expect("JSON")
}

/// Waits until a list has a number of entries, and returns them.
async fn until_listed(gateway: &Gateway, path: &str, count: usize) -> Vec<Value> {
    let reached = async {
        loop {
            let found = list(gateway, path).await["subscriptions"].as_array().cloned();
            let found = found.expect("a list");
            if found.len() == count {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, reached).await.expect("as many in time")
}

fn header<'a>(reply: &'a Response, name: &str) -> &'a str {
    reply.headers()[name].to_str().expect("text")
}

#[tokio::test]
async fn who_comes_and_goes_is_told_over_every_transport() {
    for socket_sink in ["true", "false"] {
        let settings = [("POLL__SESSION_LEASE", "0s"), ("DELIVERY__SOCKET_SINK", socket_sink)];
        comes_and_goes(&guarded(&[&[ON][..], &settings].concat())).await;
    }
}

async fn comes_and_goes(gateway: &Gateway) {
    let mut watching = watch(gateway).await;
    let token = modern_subscriber(&[("exact", "nothing")]);
    for path in ["/events?", "/iframe?callback=f&", "/.well-known/mercure?"] {
        let subscriber = gateway.get_as(&token, &format!("{path}match=books/1")).await;
        assert_eq!(subscriber.status(), 200);
        let came = document(&mut watching).await;
        drop(subscriber);
        let left = document(&mut watching).await;
        let id = came["subscriber"].as_str().expect("an id");
        assert!(id.starts_with("urn:uuid:"));
        let topic = format!("{ROOT}/exact/books%2F1/{}", id.replace(':', "%3A"));
        let expected = |active: bool| {
            json!({
                "id": topic, "type": "subscription", "match_type": "exact", "match": "books/1",
                "subscriber": id, "active": active,
            })
        };
        assert_eq!((came.clone(), left), (expected(true), expected(false)), "{path}");
    }
    let reply = gateway.get_as(&token, "/poll?match=books/1&wait=0").await;
    assert_eq!(reply.status(), 200);
    assert_eq!(document(&mut watching).await["active"], true);
    assert_eq!(document(&mut watching).await["active"], false);
}

#[tokio::test]
async fn all_matchers_of_a_connection_have_one_subscriber_and_are_told_once() {
    let gateway = guarded(&[ON]);
    let mut watching = watch(&gateway).await;
    let path = "/events?match=a&match=a&match_urlpattern=/b/:id&match_uritemplate=/c/%7Bid%7D&match=/jobs/1&topic=a";
    let _subscriber = gateway.open_as(&watcher(), path).await;
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(document(&mut watching).await);
    }
    assert!(told.iter().all(|it| it["subscriber"] == told[0]["subscriber"]));
    let mut matchers: Vec<_> =
        told.iter().map(|it| format!("{} {}", it["match_type"], it["match"])).collect();
    matchers.sort();
    assert_eq!(
        matchers,
        [r#""exact" "a""#, r#""uritemplate" "/c/{id}""#, r#""urlpattern" "/b/:id""#]
    );
    let _other = gateway.open_as(&watcher(), "/events?match=*").await;
    let other = document(&mut watching).await;
    assert_eq!((&other["match_type"], &other["match"]), (&json!("exact"), &json!("*")));
}

#[tokio::test]
async fn the_events_are_private_and_can_be_replayed() {
    let gateway = guarded(&[ON, ("AUTH__ANONYMOUS", "true")]);
    let mut anonymous = gateway.open("/events?topic=*").await;
    let query = format!("/events?match=*&match_urlpattern={ALL}");
    let mut without_grant = gateway.open_as(&modern_subscriber(&[("exact", "x")]), &query).await;
    let token = modern_subscriber(&[("urlpattern", &format!("{ROOT}/exact/:match/:subscriber"))]);
    let mut with_grant = gateway.open_as(&token, &format!("{query}&last_event_id=earliest")).await;
    for _ in 0..3 {
        assert_eq!(document(&mut with_grant).await["match"], "*");
    }
    let reply = gateway
        .post_as(
            &crate::support::tokens::modern_publisher(&[("exact", "*")]),
            &[("topic", "x"), ("data", "end")],
        )
        .await;
    assert_eq!(reply.status(), 200);
    assert_eq!(anonymous.next().await.data, "end");
    assert_eq!(without_grant.next().await.data, "end");
    assert_eq!(with_grant.next().await.data, "end");
}

#[tokio::test]
async fn a_payload_is_that_of_the_first_detail_that_grants_the_matcher() {
    let gateway = guarded(&[ON]);
    let detail = |topics: Value, payload: Value| json!({ "type": DETAIL, "actions": ["subscribe"], "topics": topics, "payload": payload });
    let claims = json!({
        "iss": ISSUER, "aud": HUB, "exp": from_now(3600),
        "authorization_details": [
            detail(json!([{ "match": "/rooms/:id", "match_type": "urlpattern" }]), json!({ "room": "a" })),
            detail(json!([{ "match": "*" }]), json!({ "all": true })),
        ],
    });
    let token = sign(Some("at+jwt"), &claims, SUBSCRIBER_KEY);
    let _subscriber = gateway.open_as(&token, "/events?match=/rooms/1&match=other").await;
    let listed = list(&gateway, ROOT).await;
    let payload = |matcher: &str| {
        let listed = listed["subscriptions"].as_array().expect("a list");
        listed.iter().find(|it| it["match"] == matcher).expect("it is listed")["payload"].clone()
    };
    assert_eq!(payload("/rooms/1"), json!({ "room": "a" }));
    assert_eq!(payload("other"), json!({ "all": true }));
}

#[tokio::test]
async fn lists_and_items_tell_what_is_there_and_where_to_go_on() {
    let gateway = guarded(&[ON]);
    let empty = gateway.get_as(&watcher(), ROOT).await;
    assert!(header(&empty, "link").contains(r#"last-event-id="earliest""#));
    let token = modern_subscriber(&[("exact", "x")]);
    let subscriber = gateway.open_as(&token, "/events?match=a%20b%2B/%25").await;
    let _other = gateway.open_as(&token, "/events?match=other").await;
    let path = format!("{ROOT}/exact/a%20b%2B%2F%25");
    let listed = list(&gateway, &path).await;
    assert_eq!((&listed["id"], &listed["type"]), (&json!(path), &json!("subscriptions")));
    let [item] = &listed["subscriptions"].as_array().expect("a list")[..] else {
        panic!("{listed}")
    };
    assert_eq!(item["match"], "a b+/%");
    let id = item["id"].as_str().expect("a path");
    assert_eq!(list(&gateway, id).await, *item);
    assert_eq!(list(&gateway, ROOT).await["subscriptions"].as_array().map(Vec::len), Some(2));
    // A literal plus in a path is not a space.
    assert_eq!(
        list(&gateway, &format!("{ROOT}/exact/a+b%2B%2F%25")).await["subscriptions"],
        json!([])
    );

    let reply = gateway.get_as(&watcher(), &path).await;
    let link = header(&reply, "link").to_owned();
    assert!(link.starts_with(&format!(r#"<{HUB}>; rel="mercure"; last-event-id=""#)), "{link}");
    assert!(link.ends_with(r#"; type="mercure"; content-type="application/json""#), "{link}");
    assert!(header(&reply, "cache-control").contains("must-revalidate"));
    let cursor = link.split('"').nth(3).expect("a cursor").to_owned();
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("match_urlpattern", ALL)
        .append_pair("last_event_id", &cursor)
        .finish();
    let mut stream = gateway.open_as(&watcher(), &format!("/events?{query}")).await;
    drop(subscriber);
    loop {
        let told = document(&mut stream).await;
        if told["match"] == "a b+/%" && told["active"] == false {
            break;
        }
    }
    problem(gateway.get_as(&watcher(), id).await, 404).await;
    assert_eq!(list(&gateway, &path).await["subscriptions"], json!([]));
}

#[tokio::test]
async fn a_list_that_has_not_changed_is_not_sent_again() {
    let gateway = guarded(&[ON]);
    let token = modern_subscriber(&[("exact", "x")]);
    let _subscriber = gateway.open_as(&token, "/events?match=a").await;
    let etag = header(&gateway.get_as(&watcher(), ROOT).await, "etag").to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"'));
    let again = |tags: String| {
        let request = gateway.client.get(gateway.url(ROOT)).bearer_auth(watcher());
        request.header("if-none-match", tags).send()
    };
    for tags in [etag.clone(), format!("\"x\", W/{etag}"), "*".to_owned()] {
        let reply = again(tags).await.expect("a reply");
        assert_eq!((reply.status(), header(&reply, "etag")), (StatusCode::NOT_MODIFIED, &*etag));
    }
    let _other = gateway.open_as(&token, "/events?match=a").await;
    assert_eq!(again(etag).await.expect("a reply").status(), 200);
}

#[tokio::test]
async fn the_list_needs_a_grant_for_its_path() {
    let gateway = guarded(&[ON, ("AUTH__ANONYMOUS", "true")]);
    let path = format!("{ROOT}/exact/a%2Fb");
    let missing = gateway.get(&path).await;
    assert!(header(&missing, "www-authenticate").starts_with("Bearer resource_metadata="));
    problem(missing, 401).await;
    for (kind, text, asked, status) in [
        ("exact", path.as_str(), path.as_str(), 200),
        ("exact", &path, &format!("{path}?count"), 200),
        ("exact", &path, &format!("{ROOT}/exact/a%2fb"), 403),
        ("exact", &path, ROOT, 403),
        ("exact", &format!("{path}?count"), &format!("{path}?count"), 403),
        ("exact", &format!("{ROOT}/exact/a/b"), &path, 403),
        ("urlpattern", "/.well-known/mercure/subscriptions/:type/:match", &path, 200),
        ("urlpattern", "/.well-known/mercure/subscriptions/:type/:match", ROOT, 403),
        ("uritemplate", OLD_ALL, ROOT, 200),
        ("uritemplate", "/.well-known/mercure/subscriptions/exact/{match}", &path, 200),
        ("exact", "*", ROOT, 200),
    ] {
        let reply = gateway.get_as(&modern_subscriber(&[(kind, text)]), asked).await;
        assert_eq!(reply.status().as_u16(), status, "{text} {asked}");
    }
    problem(gateway.get_as("x.y.z", &path).await, 401).await;
}

#[tokio::test]
async fn bad_paths_and_methods_are_refused() {
    let gateway = guarded(&[ON]);
    for (path, status) in [
        ("/regexp/a/x", 400),
        ("/Exact/a/x", 400),
        ("/exact/%zz", 400),
        ("/exact/%ff", 400),
        ("/exact/a/urn%3Auuid%3A1", 404),
        ("/regexp/a", 404),
        ("/a/b/c/d", 404),
        ("/", 404),
        ("x", 404),
        ("?limit=0", 400),
        ("?limit=10001", 400),
        ("?type=regexp", 400),
        ("?prefix=%ff", 400),
    ] {
        problem(gateway.get_as(&watcher(), &format!("{ROOT}{path}")).await, status).await;
    }
    let request = |method| gateway.client.request(method, gateway.url(ROOT)).bearer_auth(watcher());
    let options = request(Method::OPTIONS).send().await.expect("a reply");
    assert_eq!((options.status().as_u16(), header(&options, "allow")), (204, "GET, HEAD, OPTIONS"));
    let head = request(Method::HEAD).send().await.expect("a reply");
    assert_eq!((head.status().as_u16(), head.headers().contains_key("etag")), (200, true));
    problem(request(Method::POST).send().await.expect("a reply"), 405).await;
}

#[tokio::test]
async fn lists_can_be_narrowed_counted_and_paged() {
    let gateway = guarded(&[ON]);
    let token = modern_subscriber(&[("exact", "x")]);
    let mut here = Vec::new();
    for matcher in ["match=a/1", "match=a/2", "match=b", "match_urlpattern=a/:id"] {
        here.push(gateway.open_as(&token, &format!("/events?{matcher}")).await);
    }
    for (query, count) in [
        ("", 4),
        ("&type=exact", 3),
        ("&prefix=a/", 3),
        ("&prefix=a/&type=urlpattern", 1),
        ("&prefix=c", 0),
    ] {
        let counted = list(&gateway, &format!("{ROOT}?count{query}")).await;
        assert_eq!(counted, json!({ "id": ROOT, "type": "subscriptions", "count": count }));
        let listed = list(&gateway, &format!("{ROOT}?{query}")).await;
        assert_eq!(listed["subscriptions"].as_array().map(Vec::len), Some(count), "{query}");
    }
    let (mut found, mut n_pages) = (Vec::new(), 0);
    let mut next = Some(format!("{ROOT}?limit=1&prefix=a/"));
    while let Some(path) = next {
        let page = list(&gateway, &path).await;
        n_pages += 1;
        found.extend(
            page["subscriptions"].as_array().expect("a list").iter().map(|it| it["match"].clone()),
        );
        next = page["next"].as_str().map(ToOwned::to_owned);
    }
    assert_eq!((found, n_pages), (vec![json!("a/1"), json!("a/2"), json!("a/:id")], 3));
}

#[tokio::test]
async fn old_clients_get_json_ld_under_their_own_paths() {
    let gateway = guarded(&[ON]);
    let token = old_subscriber(&[OLD_ALL]);
    let query =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("topic", OLD_ALL).finish();
    let mut watching = gateway.open_as(&token, &format!("/.well-known/mercure?{query}")).await;
    let own = watching.next().await;
    assert_eq!(own.kind, "message");
    let mut poll = gateway
        .get_as(&token, &format!("/poll?{query}&last=1"))
        .await
        .json::<Value>()
        .await
        .expect("JSON");
    let event = poll["events"][0].take();
    assert_eq!(event["type"], json!(null));
    let with_payload = json!({ "mercure": { "subscribe": [], "payload": { "user": 1 } } });
    let other = sign(Some("JWT"), &with_payload, SUBSCRIBER_KEY);
    let _subscriber = gateway.open_as(&other, "/.well-known/mercure?topic=books/%7Bid%7D").await;
    let event = loop {
        let event = watching.next().await;
        if event.data.contains("books") {
            break event;
        }
    };
    assert_eq!(event.kind, "message");
    let told: Value = serde_json::from_str(&event.data).expect("JSON");
    let subscriber = told["subscriber"].as_str().expect("an id").to_owned();
    let collection = format!("{ROOT}/books%2F%7Bid%7D");
    let id = format!("{collection}/{}", subscriber.replace(':', "%3A"));
    assert_eq!(
        told,
        json!({
            "@context": "https://mercure.rocks/", "id": id, "type": "Subscription", "topic": "books/{id}",
            "subscriber": subscriber, "active": true, "payload": { "user": 1 },
        })
    );
    for path in [&collection, ROOT] {
        let reply = gateway.get_as(&token, path).await;
        assert_eq!(
            (reply.status().as_u16(), header(&reply, "content-type")),
            (200, "application/ld+json")
        );
        let listed: Value = reply.json().await.expect("JSON");
        assert_eq!(
            (&listed["@context"], &listed["type"]),
            (&json!("https://mercure.rocks/"), &json!("Subscriptions"))
        );
        assert!(listed["lastEventID"].is_string());
        let found =
            listed["subscriptions"].as_array().expect("a list").iter().find(|it| it["id"] == id);
        let found = found.expect("it is listed");
        assert_eq!(
            (&found["type"], &found["topic"]),
            (&json!("Subscription"), &json!("books/{id}"))
        );
    }
    let item: Value = gateway.get_as(&token, &id).await.json().await.expect("JSON");
    assert_eq!((&item["id"], &item["active"]), (&json!(id), &json!(true)));
    let mut iframe = Raw::connect(gateway.address).await;
    iframe
        .send(&format!(
            "GET /iframe?callback=f&{query} HTTP/1.1\r\nHost: hub.example\r\nAuthorization: Bearer {token}\r\n\r\n"
        ))
        .await;
    let event = iframe.until("<script nonce=").await + &iframe.until("@context").await;
    assert!(event.contains(r#"tidegate({"event":{"id":"urn:uuid:"#), "{event}");
    assert!(event.contains(r#","type":null,"data":"{\"@context"#), "{event}");
    // A client of the new dialect sees the same subscription in its own format.
    let modern = list(&gateway, &format!("{ROOT}/uritemplate/books%2F%7Bid%7D")).await;
    assert_eq!(modern["subscriptions"][0]["subscriber"], json!(subscriber));
    for (accept, expected) in [
        ("application/ld+json", "application/ld+json"),
        ("application/ld+json;q=0, */*", "application/json"),
    ] {
        let asked = gateway.client.get(gateway.url(ROOT)).bearer_auth(watcher());
        let reply = asked.header("accept", accept).send().await.expect("a reply");
        assert_eq!(header(&reply, "content-type"), expected, "{accept}");
    }
}

#[tokio::test]
async fn without_the_old_dialect_its_paths_lead_nowhere() {
    let gateway = guarded(&[ON, ("MERCURE__COMPAT", "modern-only")]);
    for (path, status) in [("/a", 404), ("/a/x", 400), ("/exact/a", 200)] {
        let reply = gateway.get_as(&watcher(), &format!("{ROOT}{path}")).await;
        assert_eq!(reply.status().as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn the_polls_of_a_session_are_one_subscriber() {
    let gateway = guarded(&[ON, ("POLL__SESSION_LEASE", "1h")]);
    let token = modern_subscriber(&[("exact", "x")]);
    let mut path = "/poll?match=a&wait=0".to_owned();
    let mut subscribers = Vec::new();
    for _ in 0..3 {
        let reply: Value = gateway.get_as(&token, &path).await.json().await.expect("JSON");
        let next = reply["next"].as_str().expect("an address").to_owned();
        path = next.strip_prefix("https://hub.example").expect("of the hub").to_owned();
        subscribers.extend(until_listed(&gateway, &format!("{ROOT}/exact/a"), 1).await);
    }
    assert!(subscribers.iter().all(|it| it["subscriber"] == subscribers[0]["subscriber"]));
}

#[tokio::test]
async fn who_comes_back_within_the_grace_time_has_not_left() {
    let gateway = guarded(&[ON, ("MERCURE__LEAVE_GRACE", "1h")]);
    let token = modern_subscriber(&[("exact", "x")]);
    let mut ids = Vec::new();
    for client in ["one", "one", "other"] {
        let stream = gateway.open_as(&token, &format!("/events?match=a&client={client}")).await;
        ids.push(list(&gateway, &format!("{ROOT}/exact/a")).await["subscriptions"].clone());
        drop(stream);
        gateway.until_metric("tidegate_subscribers{transport=\"sse\"}", 0.0).await;
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[2].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn hundreds_that_leave_at_once_are_all_told_of() {
    const COUNT: usize = 500;
    let gateway = guarded(&[ON]);
    let mut watching = watch(&gateway).await;
    let token = modern_subscriber(&[("exact", "x")]);
    let mut here = Vec::new();
    for _ in 0..COUNT {
        let mut raw = Raw::connect(gateway.address).await;
        raw.send(&format!(
            "GET /events?match=crowd HTTP/1.1\r\nHost: hub.example\r\nAuthorization: Bearer {token}\r\n\r\n"
        ))
        .await;
        here.push(raw);
    }
    let mut present = std::collections::HashSet::new();
    for _ in 0..COUNT {
        let told = document(&mut watching).await;
        assert_eq!(told["active"], true);
        assert!(present.insert(told["subscriber"].to_string()));
    }
    drop(here);
    for _ in 0..COUNT {
        let told = document(&mut watching).await;
        assert_eq!(told["active"], false);
        assert!(present.remove(&told["subscriber"].to_string()));
    }
    assert!(present.is_empty());
    until_listed(&gateway, &format!("{ROOT}/exact/crowd"), 0).await;
}

#[tokio::test]
async fn there_is_a_limit_and_who_is_over_it_is_not_told_of() {
    let gateway = guarded(&[ON, ("MERCURE__MAX_SUBSCRIPTIONS", "2")]);
    let _here = gateway.open_as(&watcher(), "/events?match=a&match=b").await;
    for path in ["/events?match=c", "/poll?match=c&wait=0", "/iframe?match=c&callback=f"] {
        let reply = gateway.get_as(&watcher(), path).await;
        assert_eq!(reply.status(), 503, "{path}");
    }
    let refused = problem(gateway.get_as(&watcher(), "/events?match=c").await, 503).await;
    assert_eq!(refused["limit"], 2);
    assert_eq!(list(&gateway, ROOT).await["subscriptions"].as_array().map(Vec::len), Some(2));
    gateway.until_metric("tidegate_subscribers{transport=\"iframe\"}", 0.0).await;
}

#[tokio::test]
async fn asking_for_a_head_is_not_subscribing() {
    let gateway = guarded(&[ON]);
    for path in ["/events?match=a", "/poll?match=a", "/iframe?match=a&callback=f"] {
        let head = gateway.client.head(gateway.url(path)).bearer_auth(watcher());
        assert_eq!(head.send().await.expect("a reply").status(), 200);
    }
    assert_eq!(list(&gateway, ROOT).await["subscriptions"], json!([]));
}

#[tokio::test]
async fn it_is_off_unless_it_is_asked_for_and_says_so() {
    const METADATA: &str = "/.well-known/oauth-protected-resource/.well-known/mercure";
    for (settings, status, told) in [(&[][..], 404, Value::Null), (&[ON][..], 200, json!(true))] {
        let gateway = guarded(settings);
        assert_eq!(gateway.get_as(&watcher(), ROOT).await.status().as_u16(), status);
        let metadata: Value = gateway.get(METADATA).await.json().await.expect("JSON");
        assert_eq!(metadata["mercure_subscriptions"], told);
        let mut stream = gateway.open_as(&watcher(), "/events?match=*").await;
        let publisher = crate::support::tokens::modern_publisher(&[("exact", "*")]);
        gateway.post_as(&publisher, &[("topic", "x"), ("data", "end")]).await;
        let mut kinds = Vec::new();
        while kinds.len() < usize::from(status == 200) + 1 {
            kinds.push(stream.next().await.kind);
        }
        kinds.sort();
        let expected: &[&str] = if status == 200 { &["mercure", "message"] } else { &["message"] };
        assert_eq!(kinds, expected);
    }
}

#[tokio::test]
async fn events_of_subscriptions_evict_no_others() {
    let gateway =
        guarded(&[ON, ("HISTORY__MAX_EVENTS", "3"), ("MERCURE__SUBSCRIPTION_EVENTS", "2")]);
    let publisher = crate::support::tokens::modern_publisher(&[("exact", "*")]);
    for data in ["1", "2", "3"] {
        gateway.post_as(&publisher, &[("topic", "x"), ("data", data)]).await;
    }
    let mut watching = watch(&gateway).await;
    for _ in 0..5 {
        drop(gateway.open_as(&watcher(), "/events?match=a").await);
        assert_eq!(document(&mut watching).await["active"], true);
        assert_eq!(document(&mut watching).await["active"], false);
    }
    let mut stream = gateway.open_as(&watcher(), "/events?match=x&last_event_id=earliest").await;
    assert_eq!(stream.data(3).await, ["1", "2", "3"]);
}

#[tokio::test]
async fn in_development_mode_every_client_sees_the_list() {
    let gateway = Gateway::with(&[ON]);
    let _here = gateway.open("/events?topic=a").await;
    let listed: Value = gateway.get(ROOT).await.json().await.expect("JSON");
    assert_eq!(listed["subscriptions"][0]["match"], "a");
}

#[tokio::test]
async fn after_a_crash_the_end_of_what_was_there_is_told() {
    let gateway = Gateway::durable(&[ON]);
    let path = "/.well-known/mercure?match_urlpattern=/.well-known/mercure/subscriptions/:type/:match/:subscriber";
    let mut watching = gateway.open(path).await;
    let own = document(&mut watching).await;
    let here = gateway.open("/events?match=a").await;
    let other = document(&mut watching).await;
    let gone = gateway.open("/events?match=gone").await;
    drop((document(&mut watching).await, gone));
    assert_eq!(document(&mut watching).await["active"], false);
    let cursor = gateway.get(ROOT).await;
    let cursor = header(&cursor, "link").split('"').nth(3).expect("a cursor").to_owned();
    let gateway = gateway.crash(&[ON]);
    drop(here);
    let cursor: String = url::form_urlencoded::byte_serialize(cursor.as_bytes()).collect();
    let mut watching = gateway.open(&format!("{path}&last_event_id={cursor}")).await;
    let mut ended = Vec::new();
    while ended.len() < 2 {
        let told = document(&mut watching).await;
        if told["active"] == false {
            ended.push(told["id"].clone());
        }
    }
    assert_eq!(ended, [own["id"].clone(), other["id"].clone()]);
}
