//! The start page: an event published there arrives over every transport.

use crate::support::{Gateway, in_browser};

const FORM: &str =
    "[...document.forms].find((form) => new URL(form.action).pathname === '/events')";

#[tokio::test]
async fn what_the_start_page_publishes_arrives_over_every_transport() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        page.driver().set_window_size(1200, 1000).await.expect("a window");
        page.open(&format!("{}/", gateway.origin())).await;
        gateway.has_subscribers(&["sse", "iframe", "poll"]).await;
        let text = "it's <b>here</b> & safe";
        page.run(&format!(
            "var form = {FORM};
            form.querySelector('textarea[name=data]').value = \"{text}\";
            form.requestSubmit();"
        ))
        .await;
        let count = format!("document.body.innerText.split(\"{text}\").length - 1");
        page.until("the text in three panes", &format!("return {count} === 3")).await;

        page.save_picture("start.png").await;
    })
    .await;
}
