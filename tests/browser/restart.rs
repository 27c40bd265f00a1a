//! The gateway stops and restarts at the same address. Every transport recovers by itself. It
//! reports the gap, since the history was lost with the process, and then delivers new events once.

use std::time::Duration;

use crate::support::{Gateway, Heard, Page, in_browser};

const ALL: [&str; 3] = ["sse", "iframe", "poll"];

/// Opens a page that has received an event over every transport.
async fn listening(page: &Page, gateway: &Gateway) {
    page.open_listeners(&gateway.origin()).await;
    page.run("listenBySse('topic=x'); listenByIframe('topic=x'); listenByPoll('topic=x')").await;
    gateway.has_subscribers(&ALL).await;
    gateway.publish_numbered(0..30).await;
    // Without a first event an EventSource has no id to resume from.
    page.until_heard(&ALL, "id-0").await;
}

/// Publishes while the page is disconnected and after its return. Then checks everything that
/// arrived.
async fn recovers(page: &Page, gateway: &Gateway) {
    gateway.publish_numbered(100..110).await;
    gateway.has_subscribers(&ALL).await;
    gateway.publish_numbered(110..130).await;
    page.until_heard(&ALL, "id-129").await;
    for transport in ALL {
        let events = page.heard(transport).await;
        let is_gap = |it: &Heard| it.kind.as_deref() == Some("tidegate.gap");
        let gap = events.iter().position(is_gap).expect("the gap is told");
        let (before, after) = events.split_at(gap);
        assert!(after[0].data.contains("\"unknown\""), "{transport}: {}", after[0].data);
        // The last events before the end may be lost, but none between.
        assert_numbers(transport, before, 0..before.len());
        assert_numbers(transport, &after[1..], 100..130);
    }
    let frame =
        "frames[0].document.title === 'tidegate' && typeof frames[0].tidegate === 'function'";
    page.until("the frame shows the gateway's document", &format!("return {frame}")).await;
}

fn assert_numbers(transport: &str, events: &[Heard], numbers: std::ops::Range<usize>) {
    let ids: Vec<_> = events.iter().map(|it| it.id.as_str()).collect();
    let expected: Vec<_> = numbers.map(|number| format!("id-{number}")).collect();
    assert_eq!(ids, expected, "over {transport}");
}

#[tokio::test]
async fn all_transports_recover_from_a_crash_that_lasts_ten_seconds() {
    in_browser(|page| async move {
        // No watchdog would fire within this test. The end of the connection must be enough.
        let mut gateway = Gateway::start(&[("DELIVERY__HEARTBEAT", "1h")]).await;
        listening(&page, &gateway).await;
        gateway.publish_numbered(30..60).await;
        gateway.kill();
        tokio::time::sleep(Duration::from_secs(10)).await;
        gateway.restart().await;
        recovers(&page, &gateway).await;
    })
    .await;
}

#[tokio::test]
async fn all_transports_recover_from_an_orderly_restart() {
    in_browser(|page| async move {
        let mut gateway = Gateway::start(&[]).await;
        listening(&page, &gateway).await;
        gateway.publish_numbered(30..60).await;
        gateway.terminate().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        gateway.restart().await;
        recovers(&page, &gateway).await;
    })
    .await;
}
