//! Over HTTP/2 a page may have more streams than the six that browsers allow over HTTP/1.1.

use serde_json::json;
use tidegate_testkit::tls::Files;

use crate::support::{Gateway, eventually, in_browser_that_trusts_every_certificate};

/// Twice as many as over HTTP/1.1.
const STREAMS: u64 = 12;

#[tokio::test]
async fn twelve_streams_of_a_page_share_a_connection() {
    in_browser_that_trusts_every_certificate(|page| async move {
        let (files, _) = Files::new();
        let gateway = Gateway::start(&files.settings()).await;
        page.open_listeners(&gateway.secure_url("")).await;
        let protocol = "return performance.getEntriesByType('navigation')[0].nextHopProtocol";
        assert_eq!(page.run(protocol).await, json!("h2"));
        page.run(&format!("for (let at = 0; at < {STREAMS}; at++) listenBySse('topic=x')")).await;
        eventually("all streams are open", async || {
            (gateway.count("subscribers", "sse").await == STREAMS).then_some(())
        })
        .await;
        gateway.publish_numbered(0..20).await;
        page.until(
            "each stream has got the last event",
            &format!("return heard.sse.filter(it => it.id === 'id-19').length === {STREAMS}"),
        )
        .await;
        let in_all = page.run("return heard.sse.length").await;
        assert_eq!(in_all, json!(STREAMS * 20), "each event once on each stream");
    })
    .await;
}
