use serde_json::{Value, json};

use crate::support::{Gateway, text_at};

/// A gateway whose history has one event under one topic, followed by 300 under another.
async fn filled(store: &str, more: &[(&str, &str)]) -> Gateway {
    let settings = [&[("HISTORY__STORE", store), ("DELIVERY__TAIL_BYTES", "1B")], more].concat();
    let gateway = Gateway::with(&settings);
    gateway.publish("https://example.com/rare/1", "rare").await;
    for start in [0, 100, 200] {
        let updates: Vec<Value> = (start..start + 100)
            .map(|it| json!({ "topics": [format!("https://example.com/common/{it}")], "data": it.to_string() }))
            .collect();
        let reply = gateway.post_json(Value::from(updates).to_string()).await;
        assert_eq!(reply.status(), 200);
    }
    gateway
}

const RARE: &str = "match_urlpattern=https://example.com/rare/:id";
const COMMON: &str = "match_urlpattern=https://example.com/common/:id";

#[tokio::test]
async fn a_search_that_ends_early_says_so_over_every_transport() {
    for store in ["memory", "disk"] {
        let gateway = filled(store, &[("LIMITS__SEARCH_EVENTS", "100")]).await;
        let polled = gateway.poll(&format!("/poll?{RARE}&last=1&wait=0")).await;
        let gap = &polled["events"][0];
        assert_eq!(gap["type"], "tidegate.gap", "{store}");
        let data: Value = serde_json::from_str(&text_at(gap, "/data")).expect("JSON");
        assert_eq!(data, json!({ "reason": "searched", "events": 100 }));
        assert_eq!(polled["events"].as_array().map(Vec::len), Some(1));
        let gap = gateway.open(&format!("/events?{RARE}&last=1")).await.next().await;
        assert_eq!(gap.kind, "tidegate.gap");
        assert_eq!(serde_json::from_str::<Value>(&gap.data).expect("JSON"), data);
        let mut raw = crate::support::raw::Raw::get(
            gateway.address,
            &format!("/iframe?{RARE}&last=1&callback=f"),
        )
        .await;
        let page = raw.until("tidegate.gap").await;
        assert!(page.contains("<body>"), "{page}");

        // A search that ends before the bound is complete.
        let polled = gateway.poll(&format!("/poll?{COMMON}&last=3&wait=0")).await;
        let data: Vec<&Value> =
            polled["events"].as_array().expect("events").iter().map(|it| &it["data"]).collect();
        assert_eq!(data, ["297", "298", "299"], "{store}");
    }
}

#[tokio::test]
async fn a_search_within_its_bound_finds_the_oldest_event() {
    for store in ["memory", "disk"] {
        let gateway = filled(store, &[]).await;
        for matcher in [RARE, "match=https://example.com/rare/1"] {
            let mut stream = gateway.open(&format!("/events?{matcher}&last=5")).await;
            assert_eq!(stream.data(1).await, ["rare"], "{store} {matcher}");
        }
        let many: String =
            (0..800).map(|it| format!("match_uritemplate=/never/{{x{it}}}&")).collect();
        let path = format!("/events?{many}{RARE}&last=1");
        let mut stream = gateway.open(&path).await;
        assert_eq!(stream.data(1).await, ["rare"], "{store}, among 800 templates");
    }
}

#[tokio::test]
async fn a_head_searches_nothing() {
    let gateway = filled("disk", &[]).await;
    for path in ["/events", "/.well-known/mercure", "/poll", "/iframe"] {
        let url = gateway.url(&format!("{path}?{RARE}&last=1&callback=f&topic=t"));
        let url = if path == "/poll" { url.replace("&callback=f", "") } else { url };
        let reply = gateway.client.head(url).send().await.expect("a reply");
        assert_eq!(reply.status(), 200, "{path}");
    }
    assert_eq!(gateway.metric("tidegate_history_reads_total").await, 0.0);
    gateway.poll(&format!("/poll?{RARE}&last=1&wait=0")).await;
    assert!(300.0 <= gateway.metric("tidegate_history_reads_total").await);
}

#[tokio::test]
async fn who_drains_a_backlog_by_poll_gets_all_of_it() {
    for store in ["memory", "disk"] {
        let gateway = filled(store, &[("POLL__BATCH_EVENTS", "7")]).await;
        for matcher in ["match=*", COMMON] {
            let mut path = format!("/poll?{matcher}&last_event_id=earliest&wait=0");
            let mut n_events = 0;
            loop {
                let polled = gateway.poll(&path).await;
                let events = polled["events"].as_array().expect("events");
                n_events += events.len();
                if polled["more"] == false {
                    break;
                }
                let cursor = text_at(&polled, "/cursor");
                let cursor: String =
                    url::form_urlencoded::byte_serialize(cursor.as_bytes()).collect();
                path = format!("/poll?{matcher}&last_event_id={cursor}&wait=0");
            }
            let expected = if matcher == COMMON { 300 } else { 301 };
            assert_eq!(n_events, expected, "{store} {matcher}");
        }
    }
}

#[tokio::test]
async fn hidden_events_do_not_end_a_search_by_exact_topic() {
    let settings = [("LIMITS__SEARCH_EVENTS", "10"), ("AUTH__ANONYMOUS", "true")];
    for store in ["memory", "disk"] {
        let gateway = crate::support::tokens::guarded(
            &[&settings[..], &[("HISTORY__STORE", store)]].concat(),
        );
        let token = crate::support::tokens::modern_publisher(&[("exact", "t")]);
        let publish = async |data: &str, private: &str| {
            let form = [("topic", "t"), ("data", data), (private, "on")];
            assert_eq!(gateway.post_as(&token, &form).await.status(), 200);
        };
        publish("open", "public").await;
        for _ in 0..50 {
            publish("hidden", "private").await;
        }
        let polled = gateway.poll("/poll?match=t&last=1&wait=0").await;
        assert_eq!(polled["events"][0]["data"], "open", "{store}: no notice of what is hidden");
    }
}

#[tokio::test]
async fn a_tag_moves_on_while_there_is_more_to_look_at() {
    let gateway = filled("disk", &[]).await;
    let many: String = (0..900).map(|it| format!("match_uritemplate=/no/{{x{it}}}&")).collect();
    let path = format!("/poll?{many}match_urlpattern=/never/:x&wait=0");
    let first = gateway.poll(&format!("{path}&last_event_id=earliest")).await;
    let mut tag = text_at(&first, "/cursor");
    for _ in 0..100 {
        let request = gateway.client.get(gateway.url(&path));
        let reply = request.header("if-none-match", format!("\"{tag}\"")).send().await;
        let reply = reply.expect("a reply");
        if reply.status() == 304 {
            return;
        }
        let polled: Value = reply.json().await.expect("JSON");
        assert_eq!(polled["events"], json!([]));
        tag = text_at(&polled, "/cursor");
    }
    panic!("it never comes to the end");
}
