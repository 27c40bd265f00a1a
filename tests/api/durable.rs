use std::sync::Arc;

use serde_json::Value;

use crate::support::{Gateway, command, raw::Raw, text_at};

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[tokio::test]
async fn every_transport_goes_on_after_a_crash_with_nothing_lost_and_nothing_twice() {
    let gateway = Gateway::durable(&[]);
    let first = gateway.publish("t", "1").await;
    for at in 2..=20 {
        gateway.publish(if at % 2 == 0 { "other" } else { "t" }, &at.to_string()).await;
    }
    let token = text_at(&gateway.poll("/poll?topic=t&last=3&wait=0").await, "/cursor");
    let gateway = gateway.crash(&[]);
    gateway.publish("t", "21").await;
    let expected: Vec<String> = (1..=10).map(|it| (2 * it + 1).to_string()).collect();
    let query = format!("topic=t&last_event_id={}", encoded(&first));
    let mut stream = gateway.open(&format!("/events?{query}")).await;
    assert_eq!(stream.data(10).await, expected);
    let polled = gateway.poll(&format!("/poll?{query}&wait=0")).await;
    let data = polled["events"].as_array().expect("events").iter().map(|it| text_at(it, "/data"));
    assert_eq!(data.collect::<Vec<_>>(), expected);
    let mut raw = Raw::get(gateway.address, &format!("/iframe?{query}&callback=f")).await;
    let page = raw.until("\"data\":\"21\"").await;
    for data in &expected {
        assert_eq!(page.matches(&format!("\"data\":\"{data}\"")).count(), 1, "{data}");
    }
    let query = format!("topic=t&last_event_id={}", encoded(&token));
    let mut stream = gateway.open(&format!("/events?{query}")).await;
    assert_eq!(stream.next().await.data, "21", "tokens are good for the next process");
    let mut everything = gateway.open("/events?topic=*&last_event_id=earliest").await;
    let all: Vec<String> = (1..=21).map(|it| it.to_string()).collect();
    assert_eq!(everything.data(21).await, all, "the very first subscriber included");
    assert_eq!(gateway.metric("tidegate_gaps_total").await, 0.0);
}

#[tokio::test]
async fn a_subscriber_that_left_before_the_first_event_resumes_as_well() {
    let gateway = Gateway::durable(&[]);
    let token = text_at(&gateway.poll("/poll?topic=t&wait=0").await, "/cursor");
    let gateway = gateway.crash(&[]);
    gateway.publish("t", "1").await;
    let path = format!("/events?topic=t&last_event_id={}", encoded(&token));
    assert_eq!(gateway.open(&path).await.next().await.data, "1");
}

#[tokio::test]
async fn a_store_that_was_replaced_is_said_and_never_passed_over() {
    let mut gateway = Gateway::durable(&[]);
    let id = gateway.publish("t", "1").await;
    let token = text_at(&gateway.poll("/poll?topic=t&last=1&wait=0").await, "/cursor");
    gateway.kill();
    std::fs::remove_dir_all(gateway.directory.path().join("data")).expect("the store is there");
    let gateway = Gateway::on(gateway.directory.clone(), &[]);
    gateway.publish("t", "2").await;
    for cursor in [id, token] {
        let path = format!("/events?topic=t&last_event_id={}", encoded(&cursor));
        let mut stream = gateway.open(&path).await;
        let gap = stream.next().await;
        assert_eq!(gap.kind, "tidegate.gap");
        let data: Value = serde_json::from_str(&gap.data).expect("JSON");
        assert_eq!(data["reason"], "unknown");
        assert_eq!(stream.next().await.data, "2");
    }
}

#[tokio::test]
async fn a_request_with_a_key_is_answered_alike_after_a_crash() {
    let gateway = Gateway::durable(&[]);
    let send = async |gateway: &Gateway, data: &str| {
        let request = gateway.client.post(gateway.url("/events")).header("idempotency-key", "k");
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let reply = request.body(format!("topic=t&data={data}")).send().await.expect("a reply");
        (reply.status().as_u16(), reply.text().await.expect("text"))
    };
    let first = send(&gateway, "1").await;
    let gateway = gateway.crash(&[]);
    assert_eq!(send(&gateway, "1").await, first);
    assert_eq!(send(&gateway, "2").await.0, 422, "a key is for one request");
    let polled = gateway.poll("/poll?topic=t&last=10").await;
    assert_eq!(polled["events"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn it_says_where_the_data_is_and_lets_no_other_user_in() {
    let gateway = Gateway::durable(&[]);
    let settings = [("SERVER__SHUTDOWN_TIMEOUT", "0s")];
    let second =
        command(&gateway.directory, &settings).stderr(std::process::Stdio::piped()).output();
    let second = second.expect("it ends");
    assert!(!second.status.success());
    let said = String::from_utf8(second.stderr).expect("text");
    assert!(said.contains("in use by another process"), "{said}");
    let data = gateway.directory.path().join("data");
    assert!(data.is_dir());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(data).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "others cannot read it");
    }
}

#[tokio::test]
async fn the_next_gateway_waits_for_the_one_before_it() {
    let mut before = Gateway::durable(&[]);
    let id = before.publish("t", "1").await;
    let directory = before.directory.clone();
    let after = tokio::task::spawn_blocking({
        let directory = directory.clone();
        move || Gateway::on(directory, &[])
    });
    before.signal("-TERM");
    before.process.wait().expect("it ends");
    let after = after.await.expect("it starts");
    after.publish("t", "2").await;
    let mut stream = after.open(&format!("/events?topic=t&last_event_id={}", encoded(&id))).await;
    assert_eq!(stream.next().await.data, "2");
}

#[tokio::test]
async fn many_publishers_and_subscribers_agree_while_the_tail_is_short() {
    const PUBLISHERS: usize = 8;
    const EACH: usize = 40;
    let gateway = Arc::new(Gateway::durable(&[
        ("DELIVERY__TAIL_BYTES", "4KiB"),
        ("PUBLISH__REFUSE_WHEN_BEHIND", "false"),
    ]));
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(gateway.open("/events?topic=t").await);
    }
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|who| {
            let gateway = gateway.clone();
            tokio::spawn(async move {
                for at in 0..EACH {
                    gateway.publish("t", &format!("{who} {at}")).await;
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.expect("published");
    }
    let mut late = gateway.open("/events?topic=t&last_event_id=earliest").await;
    let expected = late.data(PUBLISHERS * EACH).await;
    for mut stream in streams {
        assert_eq!(stream.data(PUBLISHERS * EACH).await, expected);
    }
}
