//! The start page: publishing, listening over each transport, and what it says and remembers.

use std::collections::HashSet;

use fantoccini::Locator;
use serde_json::{Value, json};
use tidegate_testkit::tokens::{
    PUBLISHER_KEY, SUBSCRIBER_KEY, old_publisher, old_subscriber, trusting,
};

use crate::support::{Gateway, Page, in_browser};

/// A desktop and a phone.
const SIZES: [(&str, u32, u32); 2] = [("desktop", 1200, 1000), ("phone", 390, 760)];

async fn publish(page: &Page, fields: Value) {
    page.run(&format!(
        "var form = document.forms.publish;
        for (const [name, value] of Object.entries({fields})) {{
            const field = form.elements[name];
            field.type === 'checkbox' ? field.checked = value : field.value = value;
            field.dispatchEvent(new Event('input', {{ bubbles: true }}));
        }}
        form.requestSubmit();"
    ))
    .await;
}

/// Waits until the newest event of a pane has all these parts in its text.
async fn newest_has(page: &Page, pane: &str, parts: &[&str]) {
    let parts = json!(parts);
    let script = format!(
        "const text = document.querySelector('#{pane} .events li')?.innerText ?? '';
        return {parts}.every((part) => text.includes(part));"
    );
    page.until(&format!("{parts} in {pane}"), &script).await;
}

async fn state_is(page: &Page, pane: &str, state: &str, part: &str) {
    let part = json!(part);
    let script = format!(
        "const it = document.querySelector('#{pane} .state');
        return it.dataset.state === '{state}' && it.textContent.includes({part});"
    );
    page.until(&format!("{pane} is {state}: {part}"), &script).await;
}

async fn check_all(page: &Page) {
    state_is(page, "sse", "open", "").await;
    page.run("document.forms.listen.elements.by.forEach((it) => it.checked || it.click())").await;
}

#[tokio::test]
async fn what_the_start_page_publishes_arrives_over_every_transport() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        page.driver().set_window_size(1200, 1000).await.expect("a window");
        page.open(&format!("{}/", gateway.origin())).await;
        check_all(&page).await;
        gateway.has_subscribers(&["sse", "iframe", "poll"]).await;
        let text = "it's <b>here</b> & safe";
        publish(&page, json!({ "data": text, "type": "greeting", "private": true })).await;
        for pane in ["sse", "iframe", "poll"] {
            newest_has(&page, pane, &[text, "demo", "greeting", "private", "urn:uuid:"]).await;
        }
        page.save_picture("start.png").await;
    })
    .await;
}

#[tokio::test]
async fn rows_show_what_an_event_is_with_any_publisher() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        page.open(&format!("{}/#topic=*", gateway.origin())).await;
        gateway.has_subscribers(&["sse"]).await;
        gateway
            .publish(&[json!({
                "topics": ["orders/7", "orders"], "id": "o-7", "private": true,
                "data": { "price": 42 },
            })])
            .await;
        newest_has(&page, "sse", &["orders/7, orders", "o-7", "private", "{\n  \"price\": 42\n}"])
            .await;
        let accepted = "return document.querySelector('#sse time').title.startsWith('accepted')";
        page.until("the time of the event", accepted).await;
        page.run("document.getElementById('pretty').click()").await;
        newest_has(&page, "sse", &["{\"price\":42}"]).await;

        page.run("document.getElementById('pause').click()").await;
        state_is(&page, "sse", "paused", "paused").await;
        page.run("document.getElementById('clear').click()").await;
        gateway.publish(&[json!({ "topics": ["x"], "id": "meanwhile" })]).await;
        let rows = "return document.querySelectorAll('#sse .events li').length";
        assert_eq!(page.run(rows).await, json!(0));
        page.run("document.getElementById('pause').click()").await;
        newest_has(&page, "sse", &["meanwhile"]).await;
        assert_eq!(page.run(rows).await, json!(1), "it resumes after what was cleared");
    })
    .await;
}

#[tokio::test]
async fn the_newest_event_is_in_sight_after_a_publish() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        for (name, width, height) in SIZES {
            page.driver().set_window_size(width, height).await.expect("a window");
            page.open("about:blank").await;
            page.open(&format!("{}/", gateway.origin())).await;
            state_is(&page, "sse", "open", "").await;
            page.run("document.forms.publish.scrollIntoView()").await;
            publish(&page, json!({ "data": format!("seen on a {name}") })).await;
            newest_has(&page, "sse", &[&format!("seen on a {name}")]).await;
            let script = "const { top, bottom } =
                    document.querySelector('#sse .events li .data').getBoundingClientRect();
                return 0 <= top && bottom <= innerHeight;";
            page.until("it is in sight", script).await;
            let fits = "return document.documentElement.scrollWidth <= innerWidth";
            assert_eq!(page.run(fits).await, json!(true), "{name}");
            page.save_picture(&format!("start-{name}.png")).await;
        }
    })
    .await;
}

#[tokio::test]
async fn counts_agree_with_what_the_page_shows() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        page.open(&format!("{}/", gateway.origin())).await;
        state_is(&page, "sse", "open", "").await;
        let count = "return document.querySelector('#sse .count').textContent";
        assert_eq!(page.run(count).await, json!("0 events"));
        // Without the rounds of five seconds: the page reads again when a pane opens or ends.
        page.run("for (let id = 1; id < 1000; id += 1) clearInterval(id);").await;
        for count in ["0", "1"] {
            page.run("document.getElementById('pause').click()").await;
            let fact = "return document.querySelector('[data-fact=subscribers]').textContent";
            let script = format!("{fact}.startsWith('{count} (')");
            page.until(&format!("{count} subscribers"), &script).await;
        }
        publish(&page, json!({ "data": "x" })).await;
        page.until("one event", &format!("{count} === '1 event'")).await;
        newest_has(&page, "sse", &["demo"]).await;
        let accepted = "return document.querySelector('#sse time').title.startsWith('accepted')";
        page.until("the time of the event", accepted).await;
        publish(&page, json!({ "data": "y" })).await;
        page.until("two events", &format!("{count} === '2 events'")).await;
        // Each button is between the command above it and its own.
        let apart = "const boxes = [...document.querySelectorAll('.command > :is(pre, button)')];
            const edges = boxes.map((it) => it.getBoundingClientRect());
            return edges.length === 8 &&
                edges.every(({ top }, at) => at === 0 || edges[at - 1].bottom + 4 <= top)";
        assert_eq!(page.run(apart).await, json!(true), "buttons do not touch the commands");
    })
    .await;
}

#[tokio::test]
async fn topic_and_transports_are_in_the_address() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        let address = format!("{}/#topic=it%27s+here&by=poll", gateway.origin());
        page.open(&address).await;
        gateway.has_subscribers(&["poll"]).await;
        assert_eq!(gateway.count("subscribers_opened_total", "sse").await, 0);
        let topics = "return [...document.getElementsByName('topic')].map((it) => it.value)";
        assert_eq!(page.run(topics).await, json!(["it's here", "it's here"]));
        let command = "return document.getElementById('curl-form').textContent";
        let expected = r"--data-urlencode 'topic=it'\''s here'";
        let shown = page.run(command).await;
        assert!(shown.as_str().is_some_and(|it| it.contains(expected)), "{shown}");

        // A click of a person: scripts may not write to the clipboard by themselves.
        let button = Locator::Css("[data-copies=curl-form]");
        let button = page.driver().find(button).await.expect("a button");
        button.click().await.expect("it can be clicked");
        let copied =
            "return document.querySelector('[data-copies=curl-form]').textContent === 'Copied'";
        page.until("the command is copied", copied).await;

        page.run(
            "document.forms.listen.elements.topic.value = 'other';
            document.forms.listen.requestSubmit();",
        )
        .await;
        let changed = "return location.hash === '#topic=other&by=poll'";
        page.until("the address follows", changed).await;
        page.driver().refresh().await.expect("the browser reloads");
        let kept = "return document.forms.listen?.elements.topic.value === 'other'";
        page.until("a reload keeps it", kept).await;
        gateway.has_subscribers(&["poll"]).await;
    })
    .await;
}

#[tokio::test]
async fn eight_start_pages_load_over_http_1() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        for at in 0..8 {
            if 0 < at {
                let window = page.driver().new_window(false).await.expect("a window");
                page.driver().switch_to_window(window.handle).await.expect("the window");
            }
            page.open(&format!("{}/", gateway.origin())).await;
            state_is(&page, "sse", "open", "").await;
        }
        publish(&page, json!({ "data": "the eighth works" })).await;
        newest_has(&page, "sse", &["the eighth works"]).await;
        assert!(gateway.count("subscribers", "sse").await <= 4);
        // The newest four listen, and a page that is closed makes room.
        let windows = page.driver().windows().await.expect("windows");
        page.driver().close_window().await.expect("closed");
        page.driver().switch_to_window(windows[0].clone()).await.expect("the first window");
        state_is(&page, "sse", "paused", "").await;
        crate::support::eventually("another page takes its place", async || {
            (gateway.count("subscribers", "sse").await == 4).then_some(())
        })
        .await;
    })
    .await;
}

/// Settings of a gateway with keys, where only tokens open anything.
const KEYS: [(&str, &str); 2] =
    [("AUTH__PUBLISHER_KEY", PUBLISHER_KEY), ("AUTH__SUBSCRIBER_KEY", SUBSCRIBER_KEY)];

#[tokio::test]
async fn a_refusal_is_shown_as_one_and_ends_the_asking() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&KEYS).await;
        page.open(&format!("{}/#by=sse,iframe,poll", gateway.origin())).await;
        for pane in ["sse", "iframe", "poll"] {
            state_is(&page, pane, "refused", "refused (401): this needs a token").await;
        }
        publish(&page, json!({ "data": "x" })).await;
        let output =
            "return document.getElementById('published').textContent.startsWith('refused (401)')";
        page.until("the publisher is refused", output).await;
        let before = gateway.refused("token_missing").await;
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        assert_eq!(gateway.refused("token_missing").await, before, "nothing asks again");
        page.save_picture("start-refused.png").await;
    })
    .await;
}

async fn enter(page: &Page, token: &str) {
    page.run(&format!(
        "const field = document.getElementById('token');
        field.value = '{token}';
        field.dispatchEvent(new Event('input'));
        field.dispatchEvent(new Event('change'));"
    ))
    .await;
}

#[tokio::test]
async fn a_token_goes_with_everything_that_the_page_sends() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&KEYS).await;
        page.open(&format!("{}/#by=sse,iframe,poll", gateway.origin())).await;
        state_is(&page, "poll", "refused", "401").await;
        enter(&page, &old_publisher(&["*"])).await;
        publish(&page, json!({ "data": "x", "private": true })).await;
        let output =
            "return document.getElementById('published').textContent.startsWith('published')";
        page.until("it is published", output).await;
        let subscriber = old_subscriber(&["*"]);
        enter(&page, &subscriber).await;
        for pane in ["sse", "iframe", "poll"] {
            state_is(&page, pane, "open", "").await;
            newest_has(&page, pane, &["demo", "private"]).await;
        }
        let text = "return location.href + document.body.innerText + document.body.innerHTML
            .replace(/<iframe[^>]*>/g, '')";
        let shown = page.run(text).await;
        assert!(!shown.as_str().expect("text").contains(&subscriber), "the token is not shown");
    })
    .await;
}

#[tokio::test]
async fn where_no_address_may_carry_a_token_streams_have_a_cookie() {
    in_browser(|page| async move {
        let issuer = trusting(tidegate_testkit::tokens::ISSUER);
        let mut settings = KEYS.to_vec();
        settings.push(("CONFIG", issuer.path().to_str().expect("text")));
        settings.push(("MERCURE__COMPAT", "modern-only"));
        settings.push(("AUTH__AUDIENCES", tidegate_testkit::tokens::HUB));
        let gateway = Gateway::start(&settings).await;
        page.open(&format!("{}/#topic=*&by=sse,iframe,poll", gateway.origin())).await;
        state_is(&page, "poll", "refused", "401").await;
        enter(&page, &tidegate_testkit::tokens::expiring_subscriber("x", 3600)).await;
        let states = "return [...document.querySelectorAll('.state')].every((it) => it.dataset.state === 'open')";
        page.until("all are open", states).await;
        let addresses = page
            .run("return performance.getEntriesByType('resource').map((it) => it.name)")
            .await;
        let addresses: HashSet<String> = serde_json::from_value(addresses).expect("addresses");
        assert!(!addresses.iter().any(|it| it.contains("authorization")), "{addresses:?}");
    })
    .await;
}

#[tokio::test]
async fn the_facts_of_the_gateway_are_live_and_those_of_operators_stay_theirs() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        page.open(&format!("{}/", gateway.origin())).await;
        let fact = "return document.querySelector('[data-fact=subscribers]').textContent";
        page.until("a subscriber", &format!("{fact}.startsWith('1 (sse 1, ')")).await;
        let gateway = Gateway::start(&[("OPS__LISTEN", "127.0.0.1:0")]).await;
        page.open(&format!("{}/", gateway.origin())).await;
        let shown = page.run(fact).await;
        assert_eq!(shown, json!("for operators only (ops.listen)"));
    })
    .await;
}
