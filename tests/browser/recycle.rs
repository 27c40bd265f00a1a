//! The iframe's document is replaced repeatedly, by size and by age.

use serde_json::json;

use crate::support::{Gateway, Page, eventually, in_browser};

/// Enough consecutive documents to see it work.
const DOCUMENTS: u64 = 8;

/// Publishes until the document has been replaced often enough. Checks that the parent page
/// received every event once, and that nothing has piled up.
async fn stays_whole(page: &Page, gateway: &Gateway) {
    page.open_listeners(&gateway.origin()).await;
    page.run("window.entries = history.length; listenByIframe('topic=x')").await;
    gateway.has_subscribers(&["iframe"]).await;

    let nodes = "return frames[0].document.body ? frames[0].document.body.childNodes.length : 0";
    let (mut published, mut most_nodes) = (0, 0);
    while gateway.count("subscribers_opened_total", "iframe").await < DOCUMENTS {
        for _ in 0..20 {
            let update = json!({
                "topics": ["x"], "id": format!("id-{published}"), "data": "x".repeat(500),
            });
            gateway.publish(&[update]).await;
            published += 1;
        }
        most_nodes = most_nodes.max(page.run(nodes).await.as_u64().expect("a number"));
    }
    page.until_heard(&["iframe"], &format!("id-{}", published - 1)).await;

    let ids: Vec<_> = page.heard("iframe").await.into_iter().map(|it| it.id).collect();
    let expected: Vec<_> = (0..published).map(|number| format!("id-{number}")).collect();
    assert_eq!(ids, expected);
    // The body may contain the line end after the last script, and a partially received script.
    assert!(most_nodes <= 2, "the body had {most_nodes} nodes");
    page.until("no new entries", "return history.length === entries").await;
}

#[tokio::test]
async fn a_document_that_is_replaced_for_its_size_loses_and_repeats_nothing() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[("IFRAME__RECYCLE_AFTER", "20KiB")]).await;
        stays_whole(&page, &gateway).await;
    })
    .await;
}

#[tokio::test]
async fn a_document_that_is_replaced_for_its_age_loses_and_repeats_nothing() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[("DELIVERY__LIFETIME", "1s")]).await;
        stays_whole(&page, &gateway).await;
    })
    .await;
}

#[tokio::test]
async fn a_document_that_may_hold_less_than_its_head_still_gets_events() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[("IFRAME__RECYCLE_AFTER", "1B")]).await;
        page.open_listeners(&gateway.origin()).await;
        page.run("listenByIframe('topic=x')").await;
        gateway.has_subscribers(&["iframe"]).await;
        gateway.publish_numbered(0..5).await;
        page.until_heard(&["iframe"], "id-4").await;
        assert_eq!(page.heard("iframe").await.len(), 5);
    })
    .await;
}

#[tokio::test]
async fn a_document_does_not_grow_with_the_events_that_it_hands_on() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        page.open_listeners(&gateway.origin()).await;
        page.run("listenByIframe('topic=x')").await;
        gateway.has_subscribers(&["iframe"]).await;
        let count = "return frames[0].document.getElementsByTagName('*').length";
        let before = page.run(count).await;
        for batch in 0..10 {
            let updates: Vec<_> = (0..100)
                .map(|number| json!({ "topics": ["x"], "id": format!("id-{batch}-{number}") }))
                .collect();
            gateway.publish(&updates).await;
        }
        page.until_heard(&["iframe"], "id-9-99").await;
        assert_eq!(page.run(count).await, before);
        assert_eq!(page.heard("iframe").await.len(), 1000);
        eventually("one document served them all", async || {
            (gateway.count("subscribers_opened_total", "iframe").await == 1).then_some(())
        })
        .await;
    })
    .await;
}
