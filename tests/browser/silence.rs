//! Networks that fail without closing a connection.

use serde_json::json;
use tidegate_testkit::network::{Passing, Proxy};

use crate::support::{Gateway, Page, eventually, in_browser};

/// A gateway with a short heartbeat interval, whose watchdog tolerates a slow network. The page
/// subscribes through a proxy and has received an event.
async fn behind_proxy(page: &Page) -> (Gateway, Proxy) {
    let gateway = Gateway::start(&[("DELIVERY__HEARTBEAT", "1s")]).await;
    let proxy = Proxy::start(gateway.address).await;
    page.open_listeners(&proxy.origin()).await;
    page.run("listenByIframe('topic=x')").await;
    gateway.has_subscribers(&["iframe"]).await;
    gateway.publish_numbered(0..10).await;
    page.until_heard(&["iframe"], "id-9").await;
    (gateway, proxy)
}

/// Publishes a range and checks that the page received everything once.
async fn has_everything(page: &Page, gateway: &Gateway, numbers: std::ops::Range<usize>) {
    let end = numbers.end;
    gateway.publish_numbered(numbers).await;
    page.until_heard(&["iframe"], &format!("id-{}", end - 1)).await;
    let ids: Vec<_> = page.heard("iframe").await.into_iter().map(|it| it.id).collect();
    let expected: Vec<_> = (0..end).map(|number| format!("id-{number}")).collect();
    assert_eq!(json!(ids), json!(expected));
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_left_for_a_new_one() {
    in_browser(|page| async move {
        let (gateway, proxy) = behind_proxy(&page).await;
        proxy.let_pass(Passing::Nothing);
        gateway.publish_numbered(10..20).await;
        eventually("the document asks whether the gateway is there", async || {
            proxy.holds_up("HEAD /iframe").then_some(())
        })
        .await;
        proxy.let_pass(Passing::Slowly);
        has_everything(&page, &gateway, 20..30).await;
    })
    .await;
}

#[tokio::test]
async fn a_new_document_that_never_comes_is_asked_for_again() {
    in_browser(|page| async move {
        let (mut gateway, proxy) = behind_proxy(&page).await;
        proxy.let_pass(Passing::AllBut("GET /iframe"));
        gateway.kill();
        gateway.restart().await;
        eventually("a document is asked for and held up", async || {
            proxy.holds_up("GET /iframe").then_some(())
        })
        .await;
        proxy.let_pass(Passing::Everything);
        gateway.publish_numbered(100..105).await;
        page.until_heard(&["iframe"], "id-104").await;
        let events = page.heard("iframe").await;
        assert_eq!(events.len(), 10 + 1 + 5, "what was before, the gap, and what came: {events:?}");
    })
    .await;
}
