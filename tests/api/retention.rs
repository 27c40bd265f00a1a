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
async fn rules_take_patterns_and_hold_in_memory_too() {
    for store in ["disk", "memory"] {
        // The tail in memory holds only one event, so the others come from the history.
        let gateway = with_rules(&format!(
            "[delivery]\ntail_bytes = '1B'\n[publish]\nrefuse_when_behind = false\n\
             [history]\nstore = '{store}'\n\
             [[history.rules]]\nmatch_uritemplate = '/prices/{{id}}'\nmax_events_per_topic = 2\n\
             [[history.rules]]\nmatch_urlpattern = '/chats/:room'\nmax_bytes = '1KiB'\n\
             [[history.rules]]\ntopic = '*'\nmax_events_per_topic = 3"
        ));
        let first = gateway.publish("other", "0").await;
        for at in 1..=5 {
            for topic in ["/prices/1", "/prices/2", "/chats/1", "other"] {
                gateway.publish(topic, &format!("{at}{}", " ".repeat(200))).await;
            }
        }
        gateway.publish("last", "in the tail").await;
        let kept = async |topic: &str| {
            let polled = gateway.poll(&format!("/poll?topic={topic}&last_event_id=earliest")).await;
            let events = polled["events"].as_array().expect("events").iter();
            let data = events.map(|it| it["data"].as_str().expect("text").trim().to_owned());
            data.collect::<Vec<_>>()
        };
        assert_eq!(kept("/prices/1").await, ["4", "5"], "{store}");
        assert_eq!(kept("/prices/2").await, ["4", "5"], "{store}: each topic for itself");
        assert_eq!(kept("other").await, ["3", "4", "5"], "{store}: the last rule is for the rest");
        let chats = kept("/chats/1").await;
        assert!(
            (1..5).contains(&chats.len()) && chats.last().is_some_and(|it| it == "5"),
            "{store}"
        );
        let path = format!("/events?topic=/prices/1&last_event_id={first}");
        let mut prices = gateway.open(&path).await;
        assert_eq!(prices.next().await.kind, "tidegate.gap", "{store}");
        assert!(prices.next().await.data.starts_with('4'), "{store}");
    }
}

#[tokio::test]
async fn what_is_too_old_goes_without_a_publisher() {
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
