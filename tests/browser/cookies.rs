//! The browser's own EventSource with and without a cookie that holds an access token. It runs in a
//! page of the gateway's origin, and in one of another origin that the gateway allows.

use serde_json::{Value, json};
use tidegate_testkit::{
    ports::free_port,
    tokens::{
        HUB, ISSUER, LIFETIME, PUBLISHER_KEY, SUBSCRIBER_KEY, expiring_subscriber, old_publisher,
        old_subscriber, trusting,
    },
};

use crate::support::{Gateway, Page, in_browser, serve_page};

/// Subscribes with and without cookies, and counts heartbeats. All types of events go into one
/// list.
const LISTEN: &str = "
    window.heard = {}; window.opened = 0; window.heartbeats = 0;
    function listen(name, hub, options) {
        heard[name] = [];
        var source = new EventSource(hub, options);
        source.onopen = function () { opened++; };
        ['message', 'tidegate.gap'].forEach(function (type) {
            source.addEventListener(type, function (event) { heard[name].push(event.data); });
        });
        source.addEventListener('tidegate.heartbeat', function () { heartbeats++; });
    }
    listen('with', HUB, { withCredentials: true });
    listen('without', HUB);
    listen('beating', HUB + '&heartbeat=event');
";

async fn publish(gateway: &Gateway, form: &'static str) {
    let token = old_publisher(&["*"]);
    let request = gateway.client.post(gateway.url("/events"));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let reply = request.bearer_auth(token).body(form).send().await.expect("the gateway answers");
    assert_eq!(reply.status(), 200);
}

/// Subscribes, and publishes a private and a public event between heartbeats.
async fn listen(page: &Page, gateway: &Gateway, anonymous: &str) {
    let hub = format!("{}/.well-known/mercure?topic=x", gateway.origin());
    page.run(&LISTEN.replace("HUB", &format!("'{hub}'"))).await;
    page.until("three streams", "return opened === 3").await;
    publish(gateway, "topic=x&data=secret&private=on").await;
    publish(gateway, "topic=x&data=public").await;
    page.until("heartbeats", "return 10 <= heartbeats").await;
    publish(gateway, "topic=x&data=last").await;
    for name in ["with", "without"] {
        page.until(name, &format!("return heard['{name}'].includes('last')")).await;
    }
    assert_eq!(page.run("return heard['with']").await, json!(["secret", "public", "last"]));
    let without = page.run("return heard['without']").await;
    assert_eq!(without, serde_json::from_str::<Value>(anonymous).expect("JSON"));
    assert_eq!(page.run("return opened").await, json!(3), "no stream had to reconnect");
}

async fn cookies(cookie: &'static str, token: String) {
    in_browser(move |page| async move {
        let port = free_port();
        serve_page(port, "<!doctype html><title>page</title>".to_owned()).await;
        let origin = format!("http://127.0.0.1:{port}");
        let issuer = trusting(ISSUER);
        let gateway = Gateway::start(&[
            ("CONFIG", issuer.path().to_str().expect("text")),
            ("AUTH__ANONYMOUS", "true"),
            ("AUTH__PUBLISHER_KEY", PUBLISHER_KEY),
            ("AUTH__SUBSCRIBER_KEY", SUBSCRIBER_KEY),
            ("AUTH__AUDIENCES", HUB),
            ("CORS__ORIGINS", &origin),
            ("CORS__CREDENTIALS", "true"),
            ("DELIVERY__HEARTBEAT", "200ms"),
        ])
        .await;
        page.open(&format!("{}/health/live", gateway.origin())).await;
        let path = "path=/.well-known/mercure; samesite=strict; secure";
        page.run(&format!("document.cookie = '{cookie}={token}; {path}'")).await;
        // A browser always sends cookies to the page's own origin.
        listen(&page, &gateway, r#"["secret","public","last"]"#).await;
        page.open(&format!("{origin}/")).await;
        listen(&page, &gateway, r#"["public","last"]"#).await;
    })
    .await;
}

#[tokio::test]
async fn the_cookie_of_the_old_dialect_brings_private_events() {
    cookies("mercureAuthorization", old_subscriber(&["x"])).await;
}

#[tokio::test]
async fn the_cookie_of_draft_08_brings_private_events() {
    cookies("__Secure-mercure_access_token", expiring_subscriber("x", LIFETIME)).await;
}
