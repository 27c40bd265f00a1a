//! Seats and descriptors: which clients get one, how a refusal is reported, and which requests are
//! served all the same.

use tokio::task::JoinSet;

use crate::support::{
    Gateway, problem,
    raw::Raw,
    sinks::{SSE, with_both_sinks},
};

#[tokio::test]
async fn there_are_exactly_as_many_seats_as_the_limit_says_and_they_come_back() {
    with_both_sinks(&[("LIMITS__SUBSCRIBERS", "20")], async |gateway| {
        for _ in 0..3 {
            let mut requests = JoinSet::new();
            for _ in 0..50 {
                let request = gateway.client.get(gateway.url("/events?topic=t"));
                requests.spawn(async move { request.send().await.expect("a reply") });
            }
            let replies = requests.join_all().await;
            let (streams, refused): (Vec<_>, Vec<_>) =
                replies.into_iter().partition(|it| it.status() == 200);
            assert_eq!((streams.len(), refused.len()), (20, 30));
            for reply in refused {
                let retry = reply.headers()["retry-after"].to_str().expect("text").to_owned();
                assert!((1..=60).contains(&retry.parse::<u64>().expect("seconds")), "{retry}");
                assert_eq!(problem(reply, 503).await["limit"], 20);
            }
            drop(streams);
            gateway.until_metric(SSE, 0.0).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_address_behind_a_trusted_proxy_has_seats_of_its_own() {
    let settings =
        [("LIMITS__SUBSCRIBERS_PER_ADDRESS", "2"), ("SERVER__TRUSTED_PROXIES", "127.0.0.1/32")];
    with_both_sinks(&settings, async |gateway| {
        let open = async |address: &str| {
            let request = gateway.client.get(gateway.url("/events?topic=t"));
            request.header("x-forwarded-for", address).send().await.expect("a reply")
        };
        let here = [open("203.0.113.7").await, open("203.0.113.7").await];
        assert!(here.iter().all(|it| it.status() == 200));
        let refused = open("203.0.113.7").await;
        assert!(refused.headers().contains_key("retry-after"));
        assert_eq!(problem(refused, 429).await["limit"], 2);
        assert_eq!(open("203.0.113.8").await.status(), 200);
        drop(here);
        crate::support::watch::eventually("its seats come back", async || {
            open("203.0.113.7").await.status() == 200
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_refusal_can_be_a_stream_that_says_when_to_return() {
    let settings = [("LIMITS__SUBSCRIBERS", "1"), ("LIMITS__REFUSAL", "retry")];
    with_both_sinks(&settings, async |gateway| {
        let mut stream = gateway.open("/events?topic=t").await;
        let mut refused = Raw::get(gateway.address, "/events?topic=t").await;
        let reply = refused.until_end().await;
        let (head, body) = reply.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.to_ascii_lowercase().contains("content-type: text/event-stream"), "{head}");
        let retry = body.strip_prefix("retry: ").and_then(|it| it.strip_suffix('\n'));
        let retry: u64 = retry.expect("a time").parse().expect("a number");
        assert!((2000..=10_000).contains(&retry), "{retry}");
        gateway.publish("t", "served").await;
        assert_eq!(stream.next().await.data, "served");
    })
    .await;
}

#[tokio::test]
async fn subscribers_are_refused_before_descriptors_run_out() {
    for socket_sink in ["true", "false"] {
        let settings = [("DELIVERY__SOCKET_SINK", socket_sink), ("SERVER__WORKERS", "2")];
        let gateway = Gateway::with_descriptors(256, &settings);
        let mut streams = Vec::new();
        loop {
            let mut raw = Raw::get(gateway.address, "/events?topic=t").await;
            let head = raw.until("\r\n\r\n").await;
            if head.starts_with("HTTP/1.1 503") {
                break;
            }
            streams.push(raw);
            assert!(streams.len() < 256, "no stream was refused");
        }
        assert!(100 <= streams.len(), "{}", streams.len());
        for _ in 0..40 {
            let request = reqwest::Client::new().get(gateway.url("/health/live")).send();
            assert_eq!(request.await.expect("a reply").status(), 200);
        }
        gateway.publish("t", "still").await;
        for raw in &mut streams {
            raw.until("data: still\n").await;
        }
    }
}

#[tokio::test]
async fn idle_connections_do_not_stop_deliveries_nor_requests() {
    with_both_sinks(&[("SERVER__WORKERS", "2")], async |gateway| {
        let mut stream = gateway.open("/events?topic=t").await;
        let mut idle = Vec::new();
        for at in 0..40 {
            for _ in 0..20 {
                idle.push(Raw::connect(gateway.address).await);
            }
            gateway.publish("t", &at.to_string()).await;
            assert_eq!(stream.next().await.data, at.to_string());
        }
        assert_eq!(gateway.get("/health/ready").await.status(), 200);
    })
    .await;
}
