//! The page of docs/state.md: what it shows is the state, also after the gateway was killed.

use serde_json::{Value, json};
use tidegate_testkit::ports::free_port;

use crate::support::{Gateway, Page, in_browser, serve_page};

/// The page as the guide has it, for this gateway.
fn guide(origin: &str) -> String {
    let text = include_str!("../../docs/state.md");
    let (_, page) = text.split_once("```html\n").expect("a page");
    let (page, _) = page.split_once("```").expect("its end");
    let pointed = page.replace("http://127.0.0.1:3000", origin);
    assert_ne!(pointed, page, "the page names a gateway");
    format!("<!doctype html><title>state</title>{pointed}")
}

async fn patch(gateway: &Gateway, patch: &Value) {
    let request = gateway.client.patch(gateway.url("/state?topic=/rooms/7")).json(patch);
    assert_eq!(request.send().await.expect("a reply").status(), 200);
}

async fn until_shown(page: &Page, state: &str) {
    let shown = "return document.querySelector('#view').textContent";
    page.until(state, &format!("{shown} === {}", json!(state))).await;
}

#[tokio::test]
async fn the_page_of_the_guide_shows_every_change() {
    in_browser(|page| async move {
        let mut gateway = Gateway::start(&[]).await;
        patch(&gateway, &json!({ "color": "red", "at": { "x": 1 } })).await;
        let port = free_port();
        serve_page(port, guide(&gateway.origin())).await;
        page.open(&format!("http://127.0.0.1:{port}/")).await;
        until_shown(&page, r#"{"at":{"x":1},"color":"red"}"#).await;
        gateway.has_subscribers(&["sse"]).await;
        for number in 0..50 {
            patch(&gateway, &json!({ "at": { "x": null, "y": number }, "color": null })).await;
        }
        until_shown(&page, r#"{"at":{"y":49}}"#).await;
        // Names and texts that are special elsewhere.
        let hostile: Value = serde_json::from_str(
            r#"{"at":null,"__proto__":{"polluted":1},"t":"</script><script>window.broken=1</script>"}"#,
        )
        .expect("JSON");
        patch(&gateway, &hostile).await;
        let shown = r#"{"__proto__":{"polluted":1},"t":"</script><script>window.broken=1</script>"}"#;
        until_shown(&page, shown).await;
        assert_eq!(page.run("return [window.broken, {}.polluted]").await, json!([null, null]));
        gateway.kill();
        gateway.restart().await;
        patch(&gateway, &json!({ "t": null, "back": true })).await;
        let shown = "return document.querySelector('#view').textContent";
        page.until("the change after the crash", &format!("{shown}.includes('back')")).await;
        let served = gateway.client.get(gateway.url("/state?topic=/rooms/7")).send().await;
        let served: Value = served.expect("a reply").json().await.expect("JSON");
        let shown: Value =
            serde_json::from_str(page.run(shown).await.as_str().expect("text")).expect("JSON");
        assert_eq!(shown, served["state"]);
    })
    .await;
}
