use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Gateway, problem, raw::Raw, untimed};

#[tokio::test]
async fn a_form_gets_the_id_as_text() {
    let gateway = Gateway::start();
    let form = [
        ("topic", "a"),
        ("topic", "b"),
        ("data", "x"),
        ("id", "my-id"),
        ("type", "greeting"),
        ("retry", "1500"),
        ("private", "off"),
        ("unknown", "ignored"),
    ];
    for path in ["/events", "/.well-known/mercure"] {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = gateway.client.post(gateway.url(path));
        let request =
            request.header("content-type", "application/x-www-form-urlencoded").body(body);
        let reply = request.send().await.expect("a reply");
        assert_eq!(reply.status(), 200);
        assert_eq!(reply.headers()["content-type"], "text/plain; charset=utf-8");
        assert_eq!(reply.text().await.expect("text"), "my-id");
    }
    let polled = gateway.poll("/poll?topic=b&last=1").await;
    let expected = json!({
        "id": "my-id", "type": "greeting", "data": "x", "topics": ["a", "b"], "retry": 1500,
        "private": true,
    });
    assert_eq!(untimed(&polled["events"][0]), expected);
}

#[tokio::test]
async fn empty_fields_count_as_absent_and_ids_are_made_up() {
    let gateway = Gateway::start();
    let form = [("topic", "t"), ("id", ""), ("type", ""), ("retry", "")];
    let id = gateway.post(&form).await.text().await.expect("text");
    let uuid = id.strip_prefix("urn:uuid:").expect("a URN");
    assert!(uuid::Uuid::parse_str(uuid).is_ok(), "{uuid}");
    let polled = gateway.poll("/poll?topic=t&last=1").await;
    let expected = json!({ "id": id, "type": null, "data": "", "topics": ["t"], "retry": null });
    assert_eq!(untimed(&polled["events"][0]), expected);
}

#[tokio::test]
async fn json_data_is_sent_byte_for_byte() {
    let gateway = Gateway::start();
    let body = r#" [
        {"topics":["t"],"data":"a \"string\" \u00e9\n"},
        {"topics":["t"],"data": {"b" :  1.00, "a":[ ] } },
        {"topics":["t"],"data":null},
        {"topics":["t"],"data":1e400},
        {"topics":["t"]}
    ]"#;
    let reply = gateway.post_json(body).await;
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["content-type"], "application/json");
    let reply: Value = reply.json().await.expect("JSON");
    let ids = reply["ids"].as_array().expect("a list of ids");
    assert_eq!(ids.len(), 5);
    let polled = gateway.poll("/poll?topic=t&last=5").await;
    let events = polled["events"].as_array().expect("a list of events");
    let data: Vec<&Value> = events.iter().map(|it| &it["data"]).collect();
    assert_eq!(data, ["a \"string\" é\n", r#"{"b" :  1.00, "a":[ ] }"#, "null", "1e400", ""]);
    assert_eq!(
        events.iter().map(|it| &it["id"]).collect::<Vec<_>>(),
        ids.iter().collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn one_json_object_is_one_update() {
    let gateway = Gateway::start();
    let update = json!({
        "topics": ["t", "u"], "data": "x", "id": "i", "type": "k", "private": true, "retry": 5, "except": ["me"],
    });
    let reply = gateway.post_json(update.to_string()).await;
    assert_eq!(reply.json::<Value>().await.expect("JSON"), json!({ "ids": ["i"] }));
    let polled = gateway.poll("/poll?topic=u&last=1").await;
    let expected = json!({
        "id": "i", "type": "k", "data": "x", "topics": ["t", "u"], "retry": 5, "private": true,
        "except": ["J0TM0Qx1M71zatiQ-d1cqw"],
    });
    assert_eq!(untimed(&polled["events"][0]), expected);
}

#[tokio::test]
async fn an_array_is_all_or_nothing() {
    let gateway = Gateway::start();
    let reply = gateway.post_json(r#"[{"topics":["t"]},{"topics":["t"],"id":"\n"}]"#).await;
    let document = problem(reply, 400).await;
    assert_eq!(document["field"], "[1].id");
    gateway.publish("t", "after").await;
    let polled = gateway.poll("/poll?topic=t&last_event_id=earliest").await;
    assert_eq!(polled["events"].as_array().expect("a list").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_an_array_are_consecutive() {
    let gateway = std::sync::Arc::new(Gateway::start());
    let mut publishers = JoinSet::new();
    for publisher in 0..8 {
        let gateway = gateway.clone();
        publishers.spawn(async move {
            for round in 0..10 {
                let update =
                    |at| json!({ "topics": ["t"], "data": format!("{publisher} {round} {at}") });
                let updates: Vec<Value> = (0..5).map(update).collect();
                assert_eq!(gateway.post_json(Value::from(updates).to_string()).await.status(), 200);
            }
        });
    }
    publishers.join_all().await;
    let mut stream = gateway.open("/events?topic=t&last_event_id=earliest").await;
    for _ in 0..80 {
        let five = stream.data(5).await;
        let array = five[0].strip_suffix(" 0").expect("the first of an array");
        let expected: Vec<String> = (0..5).map(|at| format!("{array} {at}")).collect();
        assert_eq!(five, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn live_and_late_subscribers_see_the_same_when_publishers_go_away() {
    let gateway = std::sync::Arc::new(Gateway::start());
    let mut live = gateway.open("/events?topic=*").await;
    let mut publishers = JoinSet::new();
    for publisher in 0..16 {
        let gateway = gateway.clone();
        publishers.spawn(async move {
            for round in 0..20 {
                let body = format!("topic=t{}&data={publisher}-{round}", round % 3);
                let head = "POST /events HTTP/1.1\r\nHost: localhost\r\n\
                    Content-Type: application/x-www-form-urlencoded\r\n";
                let mut raw = Raw::connect(gateway.address).await;
                raw.send(&format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
                // Half of them do not wait for the reply.
                if publisher % 2 == 0 {
                    raw.until("HTTP/1.1 200 OK").await;
                }
            }
        });
    }
    publishers.join_all().await;
    let last = gateway.publish("t0", "the end").await;
    let mut seen = vec![live.next().await];
    while seen.last().is_some_and(|it| it.id != last) {
        seen.push(live.next().await);
    }
    let mut late = gateway.open("/events?topic=*&last_event_id=earliest").await;
    for event in &seen {
        assert_eq!(late.next().await, *event);
    }
    assert_eq!(gateway.metric("tidegate_updates_total").await, seen.len() as f64);
    let data: BTreeSet<&str> = seen.iter().map(|it| it.data.as_str()).collect();
    assert_eq!(data.len(), seen.len(), "nothing twice");
    for publisher in (0..16).step_by(2) {
        for round in 0..20 {
            let acknowledged = format!("{publisher}-{round}");
            assert!(data.contains(acknowledged.as_str()), "{acknowledged} was acknowledged");
        }
    }
}

#[tokio::test]
async fn the_same_idempotency_key_gets_the_same_reply_and_changes_nothing() {
    let gateway = Gateway::start();
    let send = |body: &'static str| {
        let request = gateway.client.post(gateway.url("/events")).header("idempotency-key", "k1");
        request.header("content-type", "application/x-www-form-urlencoded").body(body).send()
    };
    let first = send("topic=t&data=1").await.expect("a reply").text().await.expect("text");
    let again = send("topic=t&data=1").await.expect("a reply");
    assert_eq!(again.status(), 200);
    assert_eq!(again.text().await.expect("text"), first);
    problem(send("topic=t&data=2").await.expect("a reply"), 422).await;
    assert_eq!(gateway.metric("tidegate_updates_total").await, 1.0);
}

#[tokio::test]
async fn a_refused_request_does_not_use_up_its_idempotency_key() {
    let gateway = Gateway::start();
    let send = |body: &'static str| {
        let request = gateway.client.post(gateway.url("/events")).header("idempotency-key", "k1");
        request.header("content-type", "application/json").body(body).send()
    };
    problem(send("{}").await.expect("a reply"), 400).await;
    assert_eq!(send(r#"{"topics":["t"]}"#).await.expect("a reply").status(), 200);
}

#[tokio::test]
async fn idempotency_keys_are_forgotten_after_their_retention() {
    let gateway = Gateway::with(&[("PUBLISH__IDEMPOTENCY_RETENTION", "1ms")]);
    for _ in 0..2 {
        let request = gateway.client.post(gateway.url("/events")).header("idempotency-key", "k1");
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        assert_eq!(request.body("topic=t").send().await.expect("a reply").status(), 200);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(gateway.metric("tidegate_updates_total").await, 2.0);
}

#[tokio::test]
async fn excepted_subscribers_do_not_get_it_live_or_later() {
    let gateway = Gateway::start();
    let mut me = gateway.open("/events?topic=t&client=key-of-mine").await;
    let mut other = gateway.open("/events?topic=t&client=another").await;
    gateway.post(&[("topic", "t"), ("data", "not for me"), ("except", "key-of-mine")]).await;
    gateway.post(&[("topic", "t"), ("data", "for all")]).await;
    assert_eq!(me.next().await.data, "for all");
    assert_eq!(other.data(2).await, ["not for me", "for all"]);
    let mut late = gateway.open("/events?topic=t&client=key-of-mine&last=5").await;
    assert_eq!(late.next().await.data, "for all");
    let polled = gateway.poll("/poll?topic=t&client=key-of-mine&last=1").await;
    assert_eq!(polled["events"][0]["data"], "for all");
}

#[tokio::test]
async fn requests_that_wait_in_one_connection_are_answered_in_turn() {
    let gateway = Gateway::start();
    let mut raw = Raw::connect(gateway.address).await;
    let head = "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    for id in ["a", "b", "c"] {
        raw.send(&format!("{head}Content-Length: 12\r\n\r\ntopic=t&id={id}")).await;
    }
    for id in ["a", "b", "c"] {
        raw.until(&format!("\r\n\r\n{id}")).await;
    }
}
