//! Over HTTP/2 a page may have more streams than the six that browsers allow over HTTP/1.1.

use std::fs;

use serde_json::json;

use crate::support::{Gateway, eventually, free_port, in_browser_that_trusts_everybody};

/// Twice as many as over HTTP/1.1.
const STREAMS: u64 = 12;

#[tokio::test]
async fn twelve_streams_of_a_page_share_a_connection() {
    in_browser_that_trusts_everybody(|page| async move {
        let files = tempfile::tempdir().expect("a temporary directory");
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
        let made = made.expect("a certificate");
        let (certificate, key) =
            (files.path().join("certificate.pem"), files.path().join("key.pem"));
        fs::write(&certificate, made.cert.pem()).expect("it can be written");
        fs::write(&key, made.signing_key.serialize_pem()).expect("it can be written");
        let address = format!("127.0.0.1:{}", free_port());
        let settings = [
            ("TLS__LISTEN", address.as_str()),
            ("TLS__CERTIFICATE", certificate.to_str().expect("text")),
            ("TLS__KEY", key.to_str().expect("text")),
        ];
        let gateway = Gateway::start(&settings).await;
        page.open_listeners(&format!("https://{address}")).await;
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
