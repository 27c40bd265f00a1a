//! The start page behind nginx: with a `proxy_pass` and nothing else, below a path, and with the
//! configuration of docs/nginx.md.

use reqwest::StatusCode;
use tidegate_testkit::nginx::Nginx;

use crate::support::{Gateway, Page, in_browser};

const GUIDE: &str = include_str!("../../docs/nginx.md");

/// Publishes on the start page, and waits for the event in these panes.
async fn publish_and_get(page: &Page, panes: &[&str]) {
    for pane in panes {
        let open =
            format!("return document.querySelector('#{pane} .state').dataset.state === 'open'");
        page.until(&format!("{pane} is open"), &open).await;
    }
    page.run("document.forms.publish.requestSubmit()").await;
    for pane in panes {
        let shown = format!(
            "return document.querySelector('#{pane} .events li')?.innerText.includes('Hello, world') ?? false"
        );
        page.until(&format!("the event over {pane}"), &shown).await;
    }
    // The long poll goes on: a second event arrives as well.
    page.run("document.forms.publish.requestSubmit()").await;
    for pane in panes {
        let count = format!("return document.querySelectorAll('#{pane} .events li').length === 2");
        page.until(&format!("a second event over {pane}"), &count).await;
    }
}

#[tokio::test]
async fn publishing_and_polling_work_behind_a_default_proxy_pass() {
    in_browser(|page| async move {
        for (location, path) in [("/", ""), ("/push/", "/push")] {
            let gateway = Gateway::start(&[]).await;
            let locations = format!("location {location} {{ proxy_pass {}/; }}", gateway.origin());
            let Some(nginx) = Nginx::serving(&locations) else { return };
            nginx.answers(&format!("{path}/health/live"), StatusCode::OK).await;
            page.open(&format!("{}{path}/#by=sse,poll", nginx.base)).await;
            publish_and_get(&page, &["sse", "poll"]).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_configuration_of_the_guide_works_with_every_transport() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[("SERVER__TRUSTED_PROXIES", "127.0.0.1/32")]).await;
        let block = GUIDE.split("```nginx\n").nth(1).and_then(|it| it.split("```").next());
        let block = block.expect("the guide has a configuration");
        let upstream = "http://127.0.0.1:3000";
        assert!(block.contains(upstream), "{block}");
        let Some(nginx) = Nginx::serving(&block.replace(upstream, &gateway.origin())) else {
            return;
        };
        nginx.answers("/health/live", StatusCode::OK).await;
        page.open(&format!("{}/#by=sse,iframe,poll", nginx.base)).await;
        publish_and_get(&page, &["sse", "iframe", "poll"]).await;
        let reply = gateway.client.get(format!("{}/poll?topic=x&wait=0", nginx.base)).send().await;
        assert!(reply.expect("an answer").status().is_success());
    })
    .await;
}

#[tokio::test]
async fn what_the_guide_says_a_default_proxy_pass_breaks_is_so() {
    let gateway = Gateway::start(&[]).await;
    let origin = gateway.origin();
    // As if the upstream had this name.
    let named =
        format!("location /named/ {{ proxy_pass {origin}/; proxy_set_header Host gateway; }}");
    let locations = format!("location / {{ proxy_pass {origin}; }}\n{named}");
    let Some(nginx) = Nginx::serving(&locations) else { return };
    nginx.answers("/health/live", StatusCode::OK).await;
    let get = async |path: &str| {
        let reply = gateway.client.get(format!("{}{path}", nginx.base)).send().await;
        reply.expect("an answer").status().as_u16()
    };
    assert_eq!(get("/named/health/live").await, 421, "a name that is not listed");
    let frame = "/iframe?topic=x&origin=https://push.example.com";
    assert_eq!(get(frame).await, 400, "the gateway takes another origin for its own");
    let post = gateway.client.post(format!("{}/events", nginx.base)).header("origin", &nginx.base);
    let post = post.header("content-type", "application/x-www-form-urlencoded").body("topic=x");
    assert_eq!(post.send().await.expect("an answer").status(), 403, "without Fetch Metadata");
}
