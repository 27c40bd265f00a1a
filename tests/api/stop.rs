use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::support::{Gateway, raw::Raw};

/// Waits for the process to end and returns how long that took.
fn wait_for_end(gateway: &mut Gateway) -> (Duration, bool) {
    let started = Instant::now();
    let status = gateway.process.wait().expect("the process ends");
    (started.elapsed(), status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_streams_end_cleanly_and_come_back_at_different_times() {
    let mut gateway = Gateway::start();
    let mut streams = JoinSet::new();
    for at in 0..1000 {
        let mut raw = Raw::get(gateway.address, &format!("/events?topic=t{}", at % 7)).await;
        streams.spawn(async move {
            raw.until("retry: 2000\n").await;
            raw.until_end().await
        });
    }
    gateway.until_metric("tidegate_subscribers{transport=\"sse\"}", 1000.0).await;
    gateway.signal("-TERM");
    let (time, is_success) = wait_for_end(&mut gateway);
    assert!(is_success);
    // The product promises this bound. The load of the machine is a fraction of it.
    assert!(time < Duration::from_secs(5), "{time:?}");
    let mut retries = BTreeSet::new();
    for end in streams.join_all().await {
        let retry = end.split("retry: ").nth(1).and_then(|it| it.split('\n').next());
        let retry: u64 = retry.and_then(|it| it.parse().ok()).unwrap_or_else(|| panic!("{end:?}"));
        assert!((2000..=10_000).contains(&retry), "{retry}");
        assert!(end.ends_with('\n'), "a clean end: {end:?}");
        retries.insert(retry);
    }
    assert!(100 < retries.len(), "{}", retries.len());
}

#[tokio::test]
async fn polls_and_documents_are_answered_and_ended() {
    let mut gateway = Gateway::start();
    let mut poll = Raw::get(gateway.address, "/poll?topic=t").await;
    let mut document = Raw::get(gateway.address, "/iframe?topic=t&callback=f").await;
    document.until("<body>").await;
    gateway.until_metric("tidegate_subscribers{transport=\"poll\"}", 1.0).await;
    gateway.signal("-INT");
    let answer = poll.until_end().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"events\":[]"), "{answer}");
    let end = document.until_end().await;
    assert!(end.contains("\"end\":\"drain\"") && end.contains("</body></html>"), "{end}");
    assert!(wait_for_end(&mut gateway).1);
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_hold_up_the_end() {
    let mut gateway = Gateway::with(&[("SERVER__SHUTDOWN_TIMEOUT", "1s")]);
    let mut stalled = Raw::get(gateway.address, "/events?topic=t").await;
    stalled.until("retry: 2000\n").await;
    let padding = "x".repeat(500_000);
    for _ in 0..20 {
        gateway.publish("t", &padding).await;
    }
    gateway.signal("-TERM");
    let (time, is_success) = wait_for_end(&mut gateway);
    assert!(is_success);
    assert!(time < Duration::from_secs(10), "{time:?}");
}
