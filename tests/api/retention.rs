use std::sync::Arc;

use crate::support::Gateway;

/// A gateway with rules, which only a file can contain.
fn with_rules(rules: &str) -> Gateway {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("tidegate.toml"), rules).expect("a writable directory");
    Gateway::on(Arc::new(directory), &[])
}

#[tokio::test]
async fn a_rule_keeps_the_newest_of_each_topic_and_others_are_kept() {
    let gateway = with_rules(
        "[[history.rules]]\ntopic = 'prices'\nmax_events_per_topic = 2\n[[history.rules]]\ntopic = 'chat'\nmax_bytes = '1KiB'",
    );
    let first = gateway.publish("other", "kept").await;
    for at in 1..=5 {
        gateway.publish("prices", &at.to_string()).await;
        gateway.publish("chat", &format!("{at} {}", "x".repeat(200))).await;
    }
    let gateway = gateway.crash(&[]);
    let all = gateway.poll("/poll?topic=*&last=100").await;
    let data: Vec<String> = all["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|it| it["data"].as_str().expect("text").chars().take(4).collect())
        .collect();
    assert_eq!(data[..1], ["kept"]);
    assert_eq!(data.iter().filter(|it| it.len() == 1).count(), 2, "two prices of {data:?}");
    let chats = data.iter().filter(|it| it.contains(' ')).count();
    assert!((1..5).contains(&chats), "some chats of {data:?}");
    let mut prices = gateway.open(&format!("/events?topic=prices&last_event_id={first}")).await;
    assert_eq!(prices.next().await.kind, "tidegate.gap");
    assert_eq!(prices.data(2).await, ["4", "5"]);
    let mut newcomer = gateway.open("/events?topic=prices&last_event_id=earliest").await;
    assert_eq!(newcomer.data(2).await, ["4", "5"], "what was not asked for is not missing");
    let mut other = gateway.open(&format!("/events?topic=other&last_event_id={first}")).await;
    gateway.publish("other", "next").await;
    assert_eq!(other.next().await.data, "next", "of this topic nothing is missing");
}

#[tokio::test]
async fn what_is_too_old_goes_while_nobody_publishes() {
    // The tail in memory serves its events whatever their age, so it holds only one.
    let gateway = with_rules(
        "[delivery]\ntail_bytes = '1B'\n[[history.rules]]\ntopic = 'short'\nmax_age = '1s'",
    );
    gateway.publish("short", "2").await;
    gateway.publish("long", "1").await;
    let gone = async {
        loop {
            let all = gateway.poll("/poll?topic=*&last=10").await;
            if all["events"].as_array().is_some_and(|it| it.len() == 1) {
                return all["events"][0]["data"] == "1";
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let gone = tokio::time::timeout(crate::support::DEADLINE, gone).await;
    assert!(gone.expect("gone in time"), "and only that");
}

#[tokio::test]
async fn who_comes_back_reads_what_it_missed_and_little_more() {
    const TOPICS: usize = 300;
    const MISSED: usize = 10;
    let gateway = Gateway::durable(&[
        ("DELIVERY__TAIL_BYTES", "1B"),
        ("PUBLISH__REFUSE_WHEN_BEHIND", "false"),
    ]);
    let mut last = String::new();
    for at in 0..=MISSED {
        let updates: Vec<_> = (0..TOPICS)
            .map(|topic| {
                serde_json::json!({ "topics": [format!("t{topic}")], "data": at.to_string() })
            })
            .collect();
        let reply = gateway.post_json(serde_json::to_string(&updates).expect("JSON")).await;
        assert_eq!(reply.status(), 200);
        if at == 0 {
            let ids: serde_json::Value = reply.json().await.expect("JSON");
            last = ids["ids"][TOPICS - 1].as_str().expect("an id").to_owned();
        }
    }
    let expected: Vec<String> = (1..=MISSED).map(|it| it.to_string()).collect();
    let before = gateway.metric("tidegate_history_reads_total").await;
    let mut live = gateway.open("/events?topic=live").await;
    let mut streams = Vec::new();
    for topic in 0..TOPICS {
        let path = format!("/events?topic=t{topic}&last_event_id={last}");
        streams.push(gateway.open(&path).await);
    }
    gateway.publish("live", "meanwhile").await;
    assert_eq!(live.next().await.data, "meanwhile", "others are served");
    for mut stream in streams {
        assert_eq!(stream.data(MISSED).await, expected);
    }
    let read = gateway.metric("tidegate_history_reads_total").await - before;
    let delivered = f64::from(u32::try_from(TOPICS * MISSED).expect("few"));
    assert!(read <= 3.0 * delivered, "{read} read, {delivered} delivered");
}
