//! The start page: whoever publishes there sees the event arrive over every transport.

use std::{fs, path::Path};

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

        let screenshot = page.driver().screenshot().await.expect("a picture");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
        let folder = target.join("screenshots");
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("start.png"), screenshot).expect("a file");
    })
    .await;
}
