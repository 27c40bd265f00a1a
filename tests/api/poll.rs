use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Gateway, problem, text_at,
    tokens::{guarded, old_subscriber},
};

/// The path and query of a reply's `next`, which is relative to the address `/poll`.
fn next(polled: &Value) -> String {
    let next = text_at(polled, "/next");
    assert!(next.starts_with("poll?"), "{next}");
    format!("/{next}")
}

/// The same for a poll that waits this many seconds.
fn next_waiting(polled: &Value, seconds: u32) -> String {
    format!("{}&wait={seconds}", next(polled).replace("&wait=0", ""))
}

fn data(polled: &Value) -> Vec<&str> {
    let events = polled["events"].as_array().expect("a list");
    events.iter().map(|it| it["data"].as_str().expect("text")).collect()
}

#[tokio::test]
async fn the_next_address_can_be_copied_out_of_a_reply() {
    let gateway = Gateway::start();
    gateway.publish("a&<b", "x&<y").await;
    let reply = gateway.get("/poll?topic=a%26%3Cb&last=1").await;
    assert_eq!(reply.headers()["x-content-type-options"], "nosniff");
    let text = reply.text().await.expect("text");
    let (_, next) = text.split_once("\"next\":\"").expect("a next address");
    let (next, _) = next.split_once('"').expect("its end");
    assert!(next.contains("&last_event_id=") && !next.contains('\\'), "{text}");
    assert!(gateway.get(&format!("/{next}&wait=0")).await.status().is_success());
    // What publishers send stays safe even where a reply ends up in a page.
    assert!(text.contains("x\\u0026\\u003cy") && !text.contains('<'), "{text}");
}

#[tokio::test]
async fn the_exact_bytes_of_a_reply() {
    let gateway = Gateway::start();
    gateway.post(&[("topic", "t"), ("data", "<x>"), ("id", "i")]).await;
    let reply = gateway.get("/poll?topic=t&last=1&wait=5").await;
    assert_eq!(reply.headers()["content-type"], "application/json");
    assert!(reply.headers()["cache-control"].to_str().expect("text").contains("no-store"));
    let tag = reply.headers()["etag"].to_str().expect("text").to_owned();
    let text = reply.text().await.expect("text");
    let polled: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(tag, format!("\"{}\"", text_at(&polled, "/cursor")));
    let time = text_at(&polled, "/events/0/time");
    let event =
        r#"{"id":"i","type":null,"data":"\u003cx\u003e","topics":["t"],"retry":null,"time":"#;
    let start = format!("{{\"events\":[{event}\"{time}\"}}],\"cursor\":");
    assert!(text.starts_with(&start), "{text}");
    let mut names: Vec<&String> = polled.as_object().expect("an object").keys().collect();
    names.sort();
    assert_eq!(names, ["cursor", "events", "more", "next"]);
    assert_eq!(polled["more"], false);
}

#[tokio::test]
async fn a_poll_waits_for_an_event_and_next_goes_on_behind_it() {
    let gateway = std::sync::Arc::new(Gateway::start());
    let polling = {
        let gateway = gateway.clone();
        tokio::spawn(async move { gateway.poll("/poll?topic=t&client=me").await })
    };
    gateway.until_metric("tidegate_subscribers{transport=\"poll\"}", 1.0).await;
    gateway.publish("t", "1").await;
    let first = polling.await.expect("a reply");
    assert_eq!(data(&first), ["1"]);
    gateway.publish("t", "2").await;
    gateway.post(&[("topic", "t"), ("data", "x"), ("except", "me")]).await;
    gateway.publish("t", "3").await;
    let second = gateway.poll(&next(&first)).await;
    assert_eq!(data(&second), ["2", "3"]);
    let third = gateway.poll(&next_waiting(&second, 0)).await;
    assert_eq!(data(&third), Vec::<&str>::new());
    let fourth = gateway.poll(&next_waiting(&third, 0)).await;
    assert_eq!(data(&fourth), Vec::<&str>::new(), "it stays behind what was told");
}

#[tokio::test]
async fn a_poll_that_waited_in_vain_has_scanned_everything() {
    let gateway = Gateway::start();
    let before = gateway.poll("/poll?topic=t&wait=0").await;
    gateway.publish("other", "x").await;
    let after = gateway.poll(&next_waiting(&before, 0)).await;
    assert_eq!(after["events"], json!([]));
    assert_ne!(after["cursor"], before["cursor"], "the token is of the position scanned to");
    let started = std::time::Instant::now();
    let waited = gateway.poll(&next_waiting(&after, 1)).await;
    assert_eq!(waited["events"], json!([]));
    assert!(Duration::from_secs(1) <= started.elapsed());
}

#[tokio::test]
async fn a_tag_gets_304_while_there_is_nothing_new() {
    let gateway = Gateway::start();
    gateway.publish("t", "1").await;
    let reply = gateway.get("/poll?topic=t&last=1").await;
    let tag = reply.headers()["etag"].clone();
    for tag in
        [tag.clone(), format!("W/{}", tag.to_str().expect("text")).parse().expect("a header")]
    {
        let request = gateway.client.get(gateway.url("/poll?topic=t&wait=0"));
        let reply = request.header("if-none-match", tag).send().await.expect("a reply");
        assert_eq!(reply.status(), 304);
        assert!(reply.headers().contains_key("etag"));
    }
    gateway.publish("t", "2").await;
    let request = gateway.client.get(gateway.url("/poll?topic=t&wait=0"));
    let reply = request.header("if-none-match", tag).send().await.expect("a reply");
    assert_eq!(data(&reply.json().await.expect("JSON")), ["2"]);
}

#[tokio::test]
async fn preferences_are_honoured_as_far_as_possible() {
    let gateway = Gateway::with(&[("POLL__WAIT", "1s"), ("POLL__MAX_WAIT", "1s")]);
    for (preference, applied) in
        [("wait=0", "wait=0"), ("respond-async, wait=1", "wait=1"), ("Wait=\"3600\"", "wait=1")]
    {
        let request = gateway.client.get(gateway.url("/poll?topic=t")).header("prefer", preference);
        let reply = request.send().await.expect("a reply");
        assert_eq!(reply.headers()["preference-applied"], applied);
    }
    let document = problem(gateway.get("/poll?topic=t&wait=2").await, 400).await;
    assert_eq!((&document["field"], &document["limit"]), (&json!("wait"), &json!(1)));
}

#[tokio::test]
async fn batches_are_bounded_and_say_that_there_is_more() {
    let gateway = Gateway::with(&[("POLL__BATCH_EVENTS", "3"), ("POLL__BATCH_BYTES", "1KiB")]);
    let large = "x".repeat(2000);
    for data in ["1", "2", "3", "4", &large, "6"] {
        gateway.publish("t", data).await;
    }
    let mut path = "/poll?topic=t&last_event_id=earliest&wait=0".to_owned();
    let mut batches = Vec::new();
    loop {
        let polled = gateway.poll(&path).await;
        batches.push(data(&polled).iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        path = next(&polled);
        if polled["more"] == false {
            break;
        }
    }
    assert_eq!(batches, [vec!["1", "2", "3"], vec!["4", &large], vec!["6"]]);
}

#[tokio::test]
async fn the_polls_of_a_session_are_one_subscriber() {
    let gateway = std::sync::Arc::new(Gateway::with(&[("POLL__SESSION_LEASE", "2s")]));
    let sessions = "tidegate_poll_sessions";
    let polled = gateway.poll("/poll?topic=t&wait=0").await;
    let path = next(&polled).replace("&wait=0", "");
    assert!(path.contains("&session="), "{path}");
    for _ in 0..3 {
        gateway.poll(&format!("{path}&wait=0")).await;
    }
    assert_eq!(gateway.metric(sessions).await, 1.0);
    let waiting = {
        let (gateway, path) = (gateway.clone(), path.clone());
        tokio::spawn(async move { gateway.poll(&path).await })
    };
    gateway.until_metric("tidegate_subscribers{transport=\"poll\"}", 1.0).await;
    let again = gateway.poll(&format!("{path}&wait=0")).await;
    assert_eq!(waiting.await.expect("the older poll is answered")["events"], json!([]));
    assert_eq!(next(&again).split("&session=").nth(1), path.split("&session=").nth(1));
    gateway.until_metric(sessions, 0.0).await;
}

#[tokio::test]
async fn jsonp_only_if_the_operator_wants_it() {
    let gateway = Gateway::start();
    assert_eq!(
        problem(gateway.get("/poll?topic=t&callback=f").await, 400).await["field"],
        "callback"
    );
    let gateway = Gateway::with(&[("POLL__JSONP", "true")]);
    gateway.publish("t", "</script>").await;
    let reply = gateway.get("/poll?topic=t&last=1&callback=app.f").await;
    assert_eq!(reply.headers()["x-content-type-options"], "nosniff");
    assert!(
        reply.headers()["content-type"]
            .to_str()
            .expect("text")
            .starts_with("application/javascript")
    );
    assert!(reply.headers().contains_key("content-disposition"));
    let text = reply.text().await.expect("text");
    let json =
        text.strip_prefix("/**/app.f(").and_then(|it| it.strip_suffix(");")).expect("a call");
    assert_eq!(data(&serde_json::from_str(json).expect("JSON")), ["</script>"]);
    assert!(!text.contains("</script>"));
    problem(gateway.get("/poll?topic=t&callback=alert(1)//").await, 400).await;
}

#[tokio::test]
async fn next_is_what_the_browser_can_reach() {
    let gateway = Gateway::with(&[("SERVER__PUBLIC_URL", "https://push.example.com/gate/")]);
    let polled = gateway.poll("/poll?topic=a%26b&wait=0").await;
    let next = text_at(&polled, "/next");
    assert!(
        next.starts_with("https://push.example.com/gate/poll?topic=a%26b&wait=0&last_event_id=%23"),
        "{next}"
    );
    // Else only the client knows the way: the headers of a proxy may be missing or wrong.
    for proxies in ["192.0.2.1/32", "127.0.0.1/32"] {
        let gateway = Gateway::with(&[("SERVER__TRUSTED_PROXIES", proxies)]);
        let request = gateway.client.get(gateway.url("/poll?topic=t&wait=0"));
        let request = request.header("x-forwarded-proto", "https");
        let request = request.header("x-forwarded-host", "localhost:8443");
        let polled: Value = request.send().await.expect("a reply").json().await.expect("JSON");
        let next = text_at(&polled, "/next");
        assert!(next.starts_with("poll?topic=t&wait=0&last_event_id=%23"), "{next}");
    }
}

#[tokio::test]
async fn next_repeats_what_is_known_and_lasts_and_nothing_else() {
    let gateway = Gateway::with(&[("POLL__JSONP", "true")]);
    let query = "topic=a&_=1732460000&match=b&client=me&last=1&wait=0&utm_source=x&callback=f";
    let reply = gateway.get(&format!("/poll?{query}")).await.text().await.expect("text");
    let json = reply.strip_prefix("/**/f(").and_then(|it| it.strip_suffix(");")).expect("a call");
    let polled: Value = serde_json::from_str(json).expect("JSON");
    let next = next(&polled);
    let expected = "/poll?topic=a&match=b&client=me&wait=0&callback=f&last_event_id=%23";
    assert!(next.starts_with(expected), "{next}");
    // A token in the address is not lost: without it the next poll would be another client's.
    let gateway = guarded(&[]);
    let token = old_subscriber(&["*"]);
    let path = format!("/poll?topic=t&wait=0&authorization={token}");
    let polled = gateway.poll(&path).await;
    let next = text_at(&polled, "/next");
    let query = next.split_once('?').expect("a query").1;
    assert!(query.contains(&format!("authorization={token}")), "{next}");
    gateway.poll(&format!("/poll?{query}")).await;
}

/// The events in a reply to `callback=f`.
fn events_of_script(script: &str) -> Value {
    let argument = script.strip_prefix("/**/f(").and_then(|it| it.strip_suffix(");"));
    let reply: Value = serde_json::from_str(argument.expect("a call")).expect("JSON");
    reply["events"].clone()
}

#[tokio::test]
async fn an_event_has_one_time_in_every_form_and_after_a_restart() {
    let gateway = Gateway::durable(&[("POLL__JSONP", "true")]);
    let before = jiff::Timestamp::now();
    let first = gateway.publish("t", "0").await;
    gateway.publish("t", "1").await;
    let after = jiff::Timestamp::now();
    let polled = gateway.poll("/poll?topic=t&last=1").await;
    let time = text_at(&polled, "/events/0/time");
    let accepted: jiff::Timestamp = time.parse().expect("RFC 3339");
    assert!(before.as_millisecond() <= accepted.as_millisecond() && accepted <= after, "{time}");
    let gateway = gateway.crash(&[("POLL__JSONP", "true")]);
    let script = gateway.get("/poll?topic=t&last=1&callback=f").await.text().await;
    let events = events_of_script(&script.expect("text"));
    assert_eq!(text_at(&events, "/0/time"), time);
    let path = format!("/iframe?topic=t&callback=f&last_event_id={first}");
    let mut raw = crate::support::raw::Raw::get(gateway.address, &path).await;
    let page = raw.until("\"data\":\"1\"").await + &raw.until("</script>").await;
    assert!(page.contains(&format!("\"time\":\"{time}\"")), "{page}");
}

#[tokio::test]
async fn a_publisher_cannot_name_the_sender() {
    let gateway = Gateway::start();
    let body = r#"{"topics":["t"],"from":"an-id"}"#;
    let refused = problem(gateway.post_json(body).await, 400).await;
    assert!(text_at(&refused, "/detail").contains("from"), "{refused}");
    gateway.post(&[("topic", "t"), ("data", "x"), ("from", "an-id")]).await;
    let polled = gateway.poll("/poll?topic=t&last=1").await;
    assert!(polled["events"][0].get("from").is_none(), "{polled}");
}
