//! Concurrency: nothing is lost, nothing arrives twice, and there is one order.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{
    Gateway, problem,
    raw::Raw,
    sinks::{SSE, with_both_sinks},
    sse::Stream,
    text_at, tls,
};

async fn open_behind(gateway: &Gateway, path: &str, id: &str) -> Stream {
    let request = gateway.client.get(gateway.url(path)).header("last-event-id", id);
    Stream::open(request).await
}

/// Reads up to an event.
async fn data_until(mut stream: Stream, last: &str) -> Vec<String> {
    let mut data = Vec::new();
    while data.last().is_none_or(|it| it != last) {
        data.push(stream.next().await.data);
    }
    data
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_that_come_while_publishers_publish_miss_nothing_in_500_rounds() {
    const PUBLISHERS: usize = 2;
    const EACH: usize = 3;
    with_both_sinks(&[("SERVER__WORKERS", "4")], async |gateway| {
        let gateway = Arc::new(gateway);
        for round in 0..500 {
            let first = gateway.publish("t", "first").await;
            let mut publishers = JoinSet::new();
            for publisher in 0..PUBLISHERS {
                let gateway = gateway.clone();
                publishers.spawn(async move {
                    for at in 0..EACH {
                        gateway.publish("t", &format!("{publisher}/{at}")).await;
                    }
                });
            }
            let behind = (
                open_behind(&gateway, "/events?topic=t", &first),
                open_behind(&gateway, "/events?topic=t&topic=other", &first),
                gateway.open("/events?topic=*"),
            );
            let (one, two, newcomer) = tokio::join!(behind.0, behind.1, behind.2);
            publishers.join_all().await;
            let last = format!("last {round}");
            gateway.publish("t", &last).await;
            let told = tokio::join!(
                data_until(one, &last),
                data_until(two, &last),
                data_until(newcomer, &last)
            );
            assert_eq!(told.0, told.1, "one order");
            assert!(told.0.ends_with(&told.2), "all since it came: {told:?}");
            assert_eq!(told.0.len(), PUBLISHERS * EACH + 1, "{told:?}");
            for publisher in 0..PUBLISHERS {
                let of_it: Vec<_> =
                    told.0.iter().filter(|it| it.starts_with(&format!("{publisher}/"))).collect();
                assert!(of_it.is_sorted() && of_it.len() == EACH, "{told:?}");
            }
        }
        let all_ended = gateway.until_metric(SSE, 0.0);
        all_ended.await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_of_a_busy_and_a_quiet_topic_comes_back_to_both() {
    const EVENTS: usize = 800;
    let settings = [("DELIVERY__TAIL_BYTES", "8KiB"), ("PUBLISH__REFUSE_WHEN_BEHIND", "false")];
    with_both_sinks(&settings, async |gateway| {
        let gateway = Arc::new(gateway);
        let mut id = gateway.publish("quiet", "first").await;
        let publisher = {
            let gateway = gateway.clone();
            tokio::spawn(async move {
                for at in 0..EVENTS {
                    let topic = if at % 50 == 49 { "quiet" } else { "busy" };
                    gateway.publish(topic, &at.to_string()).await;
                }
            })
        };
        let mut told = Vec::new();
        while told.len() < EVENTS {
            let mut stream = open_behind(&gateway, "/events?topic=busy&topic=quiet", &id).await;
            for _ in 0..(told.len() % 30 + 1).min(EVENTS - told.len()) {
                let event = stream.next().await;
                told.push(event.data);
                id = event.id;
            }
        }
        publisher.await.expect("published");
        assert_eq!(told, (0..EVENTS).map(|it| it.to_string()).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_goes_over_into_what_is_being_published() {
    let settings = [("DELIVERY__TAIL_BYTES", "16KiB"), ("PUBLISH__REFUSE_WHEN_BEHIND", "false")];
    with_both_sinks(&settings, async |gateway| {
        let gateway = Arc::new(gateway);
        let batch: Vec<_> = (0..1000)
            .map(|at| serde_json::json!({ "topics": ["t"], "data": at.to_string() }))
            .collect();
        let batch = serde_json::to_string(&batch).expect("JSON");
        assert_eq!(gateway.post_json(batch).await.status(), 200);
        let publisher = {
            let gateway = gateway.clone();
            tokio::spawn(async move {
                for at in 1000..1500 {
                    gateway.publish("t", &at.to_string()).await;
                }
            })
        };
        let expected: Vec<_> = (0..1500).map(|it| it.to_string()).collect();
        let mut readers = JoinSet::new();
        for _ in 0..10 {
            let gateway = gateway.clone();
            readers.spawn(async move {
                let mut stream = gateway.open("/events?topic=t&last_event_id=earliest").await;
                stream.data(1500).await
            });
        }
        for told in readers.join_all().await {
            assert!(told == expected);
        }
        publisher.await.expect("published");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_streams_get_their_end_when_the_gateway_stops() {
    rlimit::increase_nofile_limit(u64::MAX).expect("enough descriptors");
    let mut gateway = Gateway::with(&[("SERVER__SHUTDOWN_TIMEOUT", "20s")]);
    let mut streams = JoinSet::new();
    for at in 0..5000 {
        let mut raw = Raw::get(gateway.address, &format!("/events?topic=t{}", at % 7)).await;
        streams.spawn(async move {
            raw.until("retry: 2000\n").await;
            raw.until_end().await
        });
    }
    gateway.until_metric(SSE, 5000.0).await;
    gateway.signal("-TERM");
    let ends: BTreeSet<_> = streams.join_all().await.into_iter().collect();
    assert!(ends.iter().all(|it| it.starts_with("retry: ") && it.ends_with('\n')), "{ends:?}");
    assert!(gateway.process.wait().expect("it ends").success());
    assert!(!gateway.log().contains("not ended in time"), "{}", gateway.log());
}

#[tokio::test]
async fn two_listeners_deliver_once() {
    let settings = [("SERVER__LISTEN", "127.0.0.1:0,127.0.0.1:0"), ("SERVER__WORKERS", "2")];
    with_both_sinks(&settings, async |gateway| {
        assert_eq!(gateway.urls.len(), 2);
        let mut streams = Vec::new();
        for at in 0..8 {
            let url = format!("{}events?topic=t", gateway.urls[at % 2]);
            streams.push(Stream::open(gateway.client.get(url)).await);
        }
        let expected: Vec<_> = (0..50).map(|it| it.to_string()).collect();
        for data in &expected {
            gateway.publish("t", data).await;
        }
        for stream in &mut streams {
            assert_eq!(stream.data(50).await, expected);
        }
        let deliveries = "tidegate_deliveries_total{transport=\"sse\"}";
        assert_eq!(gateway.metric(deliveries).await, 400.0);
    })
    .await;
}

#[tokio::test]
async fn an_event_reaches_the_only_subscriber_of_its_topic_on_whatever_thread_it_is() {
    with_both_sinks(&[("SERVER__WORKERS", "4")], async |gateway| {
        let mut streams = Vec::new();
        for topic in 0..100 {
            streams.push(gateway.open(&format!("/events?topic=t{topic}")).await);
        }
        for round in 0..5 {
            // Shards are not notified of events that no subscriber wants, and fall behind.
            for at in 0..20 {
                gateway.publish(&format!("unmatched{at}"), "x").await;
            }
            for (topic, stream) in streams.iter_mut().enumerate() {
                gateway.publish(&format!("t{topic}"), &round.to_string()).await;
                assert_eq!(stream.next().await.data, round.to_string());
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_that_interrupt_system_calls_change_nothing() {
    let (gateway, _files, _) = tls::gateway(&[]);
    let mut stalled = Raw::stalled(gateway.address, "/events?topic=t").await;
    let mut stream = gateway.open("/events?topic=t").await;
    let expected: Vec<_> = (0..300).map(|it| format!("{it} {}", "x".repeat(2000))).collect();
    let storm = async {
        loop {
            gateway.signal("-HUP");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let deliveries = async {
        for data in &expected {
            gateway.publish("t", data).await;
        }
        assert!(stream.data(expected.len()).await == expected);
        let mut parser = crate::support::sse::Parser::default();
        stalled.until("\r\n\r\n").await;
        let told = stalled.events(&mut parser, expected.len()).await;
        assert!(told.into_iter().map(|it| it.data).collect::<Vec<_>>() == expected);
    };
    tokio::select! {
        () = storm => {}
        () = deliveries => {}
    }
}

/// Sends requests at the same time, and returns status and JSON of each.
async fn together(requests: impl Iterator<Item = RequestBuilder>) -> Vec<(u16, Value)> {
    let mut sent = JoinSet::new();
    for (at, request) in requests.enumerate() {
        sent.spawn(async move {
            let reply = request.send().await.expect("a reply");
            (at, reply.status().as_u16(), reply.json().await.unwrap_or_default())
        });
    }
    let mut replies = sent.join_all().await;
    replies.sort_by_key(|(at, ..)| *at);
    replies.into_iter().map(|(_, status, reply)| (status, reply)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_requests_with_one_key_have_one_effect() {
    let gateway = Gateway::durable(&[]);
    let update = json!({ "topics": ["t"], "data": "x" });
    let keyed = |path: &str, body: &Value| {
        gateway.post_to(path, body).header("idempotency-key", format!("of {path}"))
    };
    for (path, body, accepted) in
        [("/events", &update, 200), ("/jobs", &json!({ "type": "a" }), 202)]
    {
        let replies = together((0..50).map(|_| keyed(path, body))).await;
        let mut effects: Vec<&Value> =
            replies.iter().filter(|it| it.0 == accepted).map(|it| &it.1).collect();
        // The others have to wait for the first one.
        assert!(replies.iter().all(|it| [accepted, 409].contains(&it.0)), "{replies:?}");
        effects
            .dedup_by_key(|it| if path == "/jobs" { it["id"].clone() } else { it["ids"].clone() });
        assert_eq!(effects.len(), 1, "{path}: {replies:?}");
    }
    let stored = gateway.poll("/poll?topic=t&last=50").await;
    assert_eq!(stored["events"].as_array().expect("a list").len(), 1);

    let job = json!({ "type": "b", "key": "one at a time" });
    let replies = together((0..50).map(|_| gateway.post_to("/jobs", &job))).await;
    let ids: BTreeSet<String> = replies.iter().map(|it| text_at(&it.1, "/id")).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(gateway.list_length("b").await, 1);

    let long = "k".repeat(257);
    let reply = gateway.post_to("/events", &update).header("idempotency-key", long).send().await;
    let refused = problem(reply.expect("a reply"), 400).await;
    assert!(text_at(&refused, "/detail").contains("limits.idempotency_key_bytes"), "{refused}");
}

impl Gateway {
    async fn list_length(&self, kind: &str) -> usize {
        let list: Value =
            self.get(&format!("/jobs?type={kind}")).await.json().await.expect("a list");
        list["jobs"].as_array().expect("jobs").len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_clients_that_end_one_job_agree_on_its_end() {
    let gateway = Gateway::durable(&[]);
    for round in 0..20 {
        let id = gateway.create(json!({ "type": "t" })).await;
        let (_, lease) = gateway.claim("t", 5).await.expect("a job");
        let replies = together((0..20).map(|at| {
            let (what, body) = match at % 4 {
                0 => ("cancel", json!({})),
                1 => ("retry", json!({})),
                2 => ("complete", json!({ "result": at })),
                _ => ("fail", json!({ "problem": { "title": at.to_string() } })),
            };
            let path = format!("/jobs/{id}/{what}");
            gateway.post_to(&path, &body).header("tidegate-lease", &lease)
        }))
        .await;
        assert!(replies.iter().all(|it| [200, 202, 409].contains(&it.0)), "{replies:?}");
        let completed: Vec<usize> = (2..20).step_by(4).filter(|at| replies[*at].0 == 200).collect();
        let state = text_at(&gateway.status(&id).await, "/state");
        match completed[..] {
            [] => assert!(["failed", "cancelled", "queued"].contains(&&*state), "{state}"),
            [at] => {
                assert_eq!(state, "succeeded", "round {round}");
                let result = gateway.get(&format!("/jobs/{id}/result")).await;
                assert_eq!(result.text().await.expect("text"), at.to_string());
            }
            _ => panic!("{completed:?} completed one job"),
        }
        if state == "queued" {
            assert_eq!(gateway.ask(&id, "cancel").await.status(), 200);
        }
    }
    let log = gateway.log();
    assert!(!log.contains("panicked") && !log.contains(" ERROR "), "{log}");
}
