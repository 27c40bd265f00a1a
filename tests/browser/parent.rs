//! The page around the iframe: functions that come late or throw, and pages of other origins.

use serde_json::json;
use tidegate_testkit::ports::free_port;

use crate::support::{Gateway, Page, eventually, in_browser, serve_page};

/// Asserts that every event arrived in order, once.
async fn assert_ids(page: &Page, numbers: std::ops::Range<usize>) {
    let ids: Vec<_> = page.heard("iframe").await.into_iter().map(|it| it.id).collect();
    let expected: Vec<_> = numbers.map(|number| format!("id-{number}")).collect();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn a_function_that_the_parent_defines_late_gets_everything_once() {
    in_browser(|page| async move {
        // Less than the first updates: the document ends before the function exists.
        let gateway = Gateway::start(&[("IFRAME__RECYCLE_AFTER", "1KiB")]).await;
        page.open_listeners(&gateway.origin()).await;
        page.run("window.later = onEvent; window.onEvent = undefined").await;
        page.run("listenByIframe('topic=x')").await;
        gateway.has_subscribers(&["iframe"]).await;
        gateway.publish_numbered(0..30).await;
        eventually("the first document has ended", async || {
            (gateway.count("subscribers", "iframe").await == 0).then_some(())
        })
        .await;
        gateway.publish_numbered(30..60).await;
        // Another document could only repeat the same events.
        assert_eq!(gateway.count("subscribers_opened_total", "iframe").await, 1);

        page.run("window.onEvent = later").await;
        gateway.publish_numbered(60..90).await;
        page.until_heard(&["iframe"], "id-89").await;
        assert_ids(&page, 0..90).await;
    })
    .await;
}

#[tokio::test]
async fn a_function_that_throws_does_not_end_the_stream_and_the_page_is_told() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        page.open_listeners(&gateway.origin()).await;
        // Runs as a script of the page: a page learns only that a driver's script failed.
        page.run(
            "var script = document.createElement('script');
            script.text = `
                var failures = [], note = onEvent;
                addEventListener('error', function (event) { failures.push(event.error.message); });
                onEvent = function (event) { note(event); throw new Error('on ' + event.id); };
            `;
            document.body.appendChild(script);
            listenByIframe('topic=x')",
        )
        .await;
        gateway.has_subscribers(&["iframe"]).await;
        gateway.publish_numbered(0..10).await;
        page.until_heard(&["iframe"], "id-9").await;
        assert_ids(&page, 0..10).await;
        page.until("the page learns of each", "return failures.length === 10").await;
        page.until("in order", "return failures[9] === 'on id-9'").await;
    })
    .await;
}

#[tokio::test]
async fn events_are_objects_of_the_parent_and_methods_keep_their_owner() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        page.open_listeners(&gateway.origin()).await;
        page.run(
            "window.app = { feed: { events: [], take: function (event) { this.events.push(event); } } };
            var frame = document.createElement('iframe');
            frame.src = '/iframe?topic=x&callback=app.feed.take';
            document.body.appendChild(frame);",
        )
        .await;
        gateway.has_subscribers(&["iframe"]).await;
        let topics = ["x", "https://example.com/y"];
        gateway.publish(&[json!({ "topics": topics, "type": "t", "data": "d", "retry": 7 })]).await;
        page.until("an event", "return app.feed.events.length === 1").await;
        let event = page.run("return app.feed.events[0]").await;
        assert_eq!(event["topics"], json!(topics));
        assert_eq!((&event["type"], &event["data"], &event["retry"]), (&json!("t"), &json!("d"), &json!(7)));
        // Objects of the frame would keep its documents in memory as long as the page keeps them.
        let own = "app.feed.events[0] instanceof Object && app.feed.events[0].topics instanceof Array";
        page.until("the page's own objects", &format!("return {own}")).await;
    })
    .await;
}

/// A page of another site, which counts loaded frames.
fn foreign_page() -> String {
    "<!doctype html><title>elsewhere</title><body><script>
    var heard = { iframe: [] }, states = [], details = [], frames_loaded = 0;
    function onEvent(event) { heard.iframe.push(event); }
    function has(transport, id) { return heard[transport].some(function (it) { return it.id === id; }); }
    function report(transport) { return JSON.stringify(heard[transport]); }
    addEventListener('message', function (message) {
        if (message.data.tidegate === 'event') { onEvent(message.data.event); }
        if (message.data.tidegate === 'state') {
            states.push(message.data.state);
            details.push(message.data.status + ': ' + message.data.detail);
        }
    });
    function listen(address) {
        var frame = document.createElement('iframe');
        frame.onload = function () { frames_loaded += 1; };
        frame.src = address;
        document.body.appendChild(frame);
    }
    </script>"
        .to_owned()
}

#[tokio::test]
async fn pages_of_an_allowed_origin_get_events_and_others_get_nothing() {
    in_browser(|page| async move {
        let (friend, stranger) = (free_port(), free_port());
        serve_page(friend, foreign_page()).await;
        serve_page(stranger, foreign_page()).await;
        let (friend, stranger) =
            (format!("http://friend.test:{friend}"), format!("http://stranger.test:{stranger}"));
        let gateway = Gateway::start(&[("CORS__ORIGINS", &friend)]).await;
        let iframe = format!("{}/iframe?topic=x", gateway.origin());

        page.open(&format!("{friend}/")).await;
        page.run(&format!("listen('{iframe}&origin={friend}')")).await;
        gateway.has_subscribers(&["iframe"]).await;
        gateway.publish_numbered(0..10).await;
        page.until_heard(&["iframe"], "id-9").await;
        page.until("a state", "return states[0] === 'open'").await;
        let friends_window = page.driver().window().await.expect("a window");

        let window = page.driver().new_window(false).await.expect("another window");
        page.driver().switch_to_window(window.handle).await.expect("it is there");
        page.open(&format!("{stranger}/")).await;
        for target in [
            format!("origin={friend}"),
            format!("origin={stranger}"),
            "callback=onEvent".to_owned(),
        ] {
            page.run(&format!("listen('{iframe}&{target}')")).await;
        }
        page.until("all frames are done", "return frames_loaded === 3").await;
        let strangers_window = page.driver().window().await.expect("a window");
        eventually("only the friend is left", async || {
            (gateway.count("subscribers", "iframe").await == 1).then_some(())
        })
        .await;

        gateway.publish_numbered(10..20).await;
        page.driver().switch_to_window(friends_window).await.expect("it is there");
        page.until_heard(&["iframe"], "id-19").await;
        assert_ids(&page, 0..20).await;
        page.driver().switch_to_window(strangers_window).await.expect("it is there");
        assert!(page.heard("iframe").await.is_empty());
        // It learns only that it is not allowed, and how it could be.
        assert_eq!(page.run("return states").await, json!(["refused"]));
        page.until("why", "return details[0].includes('cors.origins')").await;
    })
    .await;
}

#[tokio::test]
async fn a_document_that_the_gateway_refuses_says_so_and_stops() {
    in_browser(|page| async move {
        let port = free_port();
        serve_page(port, foreign_page()).await;
        let origin = format!("http://friend.test:{port}");
        let mut gateway = Gateway::start(&[("CORS__ORIGINS", &origin)]).await;
        page.open(&format!("{origin}/")).await;
        page.run(&format!("listen('{}/iframe?topic=x&origin={origin}')", gateway.origin())).await;
        gateway.has_subscribers(&["iframe"]).await;

        gateway.kill();
        gateway.set("CORS__ORIGINS", "https://other.example");
        gateway.restart().await;
        page.until("refused", "return states[states.length - 1] === 'refused'").await;
        assert_eq!(gateway.refused("invalid_field").await, 1);
        // The page must not show the refusal.
        page.driver().enter_frame(0).await.expect("a frame");
        assert_eq!(page.run("return document.title").await, "tidegate");
    })
    .await;
}

#[tokio::test]
async fn a_page_of_another_origin_is_told_why_its_first_document_is_refused() {
    in_browser(|page| async move {
        let port = free_port();
        serve_page(port, foreign_page()).await;
        let origin = format!("http://localhost:{port}");
        let gateway = Gateway::start(&[("CORS__ORIGINS", &origin)]).await;
        page.open(&format!("{origin}/")).await;
        page.run(&format!("listen('{}/iframe?topics=x&origin={origin}')", gateway.origin())).await;
        page.until("refused", "return states[0] === 'refused'").await;
        page.until("why", "return details[0].startsWith('400: `topics`')").await;
        // Long enough for another request, if there were one.
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        assert_eq!(page.run("return states").await, json!(["refused"]));
        assert_eq!(gateway.refused("invalid_field").await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_document_that_there_is_no_room_for_comes_when_there_is() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[("LIMITS__SUBSCRIBERS", "1")]).await;
        page.open_listeners(&gateway.origin()).await;
        page.run("window.source = listenBySse('topic=x')").await;
        gateway.has_subscribers(&["sse"]).await;
        page.run("listenByIframe('topic=x')").await;
        eventually("the frame is refused", async || {
            (0 < gateway.refused("subscribers").await).then_some(())
        })
        .await;
        page.run("source.close()").await;
        gateway.has_subscribers(&["iframe"]).await;
        gateway.publish_numbered(0..10).await;
        page.until_heard(&["iframe"], "id-9").await;
        assert_ids(&page, 0..10).await;
    })
    .await;
}

/// A page with the snippet of the README, on a server of its own.
fn page_of_a_development_server(gateway: &str) -> String {
    format!(
        "<!doctype html><title>app</title><script>
        var heard = [], opened = false, published = null;
        var source = new EventSource('{gateway}/events?topic=x');
        source.onopen = function () {{ opened = true; }};
        source.onmessage = function (event) {{ heard.push(event.data); }};
        function publish(data) {{
            var form = new URLSearchParams({{ topic: 'x', data: data }});
            fetch('{gateway}/events', {{ method: 'POST', body: form }}).then(function (reply) {{
                return reply.text().then(function (text) {{ published = reply.status + ' ' + text; }});
            }}, function (error) {{ published = String(error); }});
        }}
        </script>"
    )
}

#[tokio::test]
async fn a_page_of_a_development_server_listens_and_learns_why_it_may_not_publish() {
    in_browser(|page| async move {
        for (may_write, expected) in [("false", "403 "), ("true", "200 ")] {
            let gateway = Gateway::start(&[("CORS__LOOPBACK_WRITES", may_write)]).await;
            let port = free_port();
            serve_page(port, page_of_a_development_server(&gateway.origin())).await;
            page.open(&format!("http://localhost:{port}/")).await;
            page.until("a stream", "return opened").await;
            gateway.publish_numbered(0..1).await;
            page.until("an event", "return heard.length === 1").await;
            page.run("publish('from the page')").await;
            let status = format!("return published && published.indexOf('{expected}') === 0");
            page.until("an answer that the page can read", &status).await;
            if may_write == "true" {
                page.until("its event", "return heard[1] === 'from the page'").await;
            } else {
                let named = "return published.indexOf('cors.loopback_writes') !== -1";
                page.until("the cure", named).await;
            }
        }
    })
    .await;
}
