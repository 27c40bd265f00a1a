use serde_json::Value;

use crate::support::{
    Gateway, problem,
    sse::Stream,
    text_at,
    tokens::{guarded, modern_publisher},
    watch::eventually,
};

const PROXIED: (&str, &str) = ("SERVER__TRUSTED_PROXIES", "127.0.0.0/8");

fn subscribe(gateway: &Gateway, from: &str, query: &str) -> reqwest::RequestBuilder {
    gateway.client.get(gateway.url(&format!("/events?{query}"))).header("x-forwarded-for", from)
}

async fn refused(gateway: &Gateway, from: &str, query: &str, status: u16) -> Value {
    problem(subscribe(gateway, from, query).send().await.expect("a reply"), status).await
}

#[tokio::test]
async fn a_regular_expression_costs_what_its_program_costs() {
    let gateway =
        Gateway::with(&[("LIMITS__MATCHER_COST", "100000"), ("LIMITS__MATCHERS_COST", "100000")]);
    let cost = async |pattern: &str| {
        let pattern: String = url::form_urlencoded::byte_serialize(pattern.as_bytes()).collect();
        let _stream = gateway.open(&format!("/events?match_urlpattern={pattern}")).await;
        gateway.metric("tidegate_patterns_cost").await
    };
    let harmless = cost("/([0-9]+)").await;
    assert!((10.0..200.0).contains(&harmless), "{harmless}");
    gateway.until_metric("tidegate_patterns", 0.0).await;
    let short = "/((?:.?){200}Z)";
    let pattern: String = url::form_urlencoded::byte_serialize(short.as_bytes()).collect();
    let reply = gateway.get(&format!("/events?match_urlpattern={pattern}")).await;
    if reply.status() == 200 {
        let cost = gateway.metric("tidegate_patterns_cost").await;
        assert!(10.0 * harmless < cost, "{cost} for a program of hundreds of states");
    } else {
        problem(reply, 400).await;
    }
    let defaults = Gateway::start();
    let reply = defaults.get(&format!("/events?match_urlpattern={pattern}")).await;
    let document = problem(reply, 400).await;
    assert_eq!(document["field"], "match_urlpattern", "{document}");
}

#[tokio::test]
async fn grants_do_not_compete_with_subscriptions() {
    let gateway = guarded(&[("AUTH__ANONYMOUS", "true"), ("LIMITS__MATCHERS_TOTAL_COST", "3")]);
    let mut streams = Vec::new();
    for at in 0..3 {
        streams.push(gateway.open(&format!("/events?match_uritemplate=/{at}/%7Ba%7D")).await);
    }
    problem(gateway.get("/events?match_uritemplate=/3/%7Ba%7D").await, 503).await;
    streams.push(gateway.open("/events?match_uritemplate=/2/%7Ba%7D").await);
    for at in 0..10 {
        let template = format!("/grant/{at}/{{b}}");
        let token = modern_publisher(&[("uritemplate", &template)]);
        let topic = format!("/grant/{at}/1");
        let reply = gateway.post_as(&token, &[("topic", &topic), ("data", "x")]).await;
        assert_eq!(reply.status(), 200, "a publisher with a template grant");
    }
    drop(streams);
    eventually("room for others", async || {
        gateway.get("/poll?match_uritemplate=/3/%7Ba%7D&wait=0").await.status() == 200
    })
    .await;
}

#[tokio::test]
async fn an_address_uses_up_its_own_share_and_no_more() {
    let gateway = Gateway::with(&[
        PROXIED,
        ("LIMITS__MATCHERS_COST_PER_ADDRESS", "3"),
        ("LIMITS__MATCHERS_TOTAL_COST", "4"),
        ("LIMITS__MATCHERS_BYTES", "6KiB"),
        ("LIMITS__MATCHERS_BYTES_PER_ADDRESS", "4KiB"),
    ]);
    let template = |at: usize| format!("match_uritemplate=/{at}/%7Ba%7D");
    let three = [0, 1, 2].map(template).join("&");
    let first = Stream::open(subscribe(&gateway, "192.0.2.1", &three)).await;
    let own = refused(&gateway, "192.0.2.1", &template(0), 429).await;
    assert!(text_at(&own, "/detail").contains("limits.matchers_cost_per_address"), "{own}");
    let _second = Stream::open(subscribe(&gateway, "192.0.2.2", &template(3))).await;
    refused(&gateway, "192.0.2.2", &template(4), 503).await;
    // Patterns that other subscribers already use add nothing to the total cost.
    let _same = Stream::open(subscribe(&gateway, "192.0.2.2", &template(0))).await;
    drop(first);
    eventually("the share comes back", async || {
        subscribe(&gateway, "192.0.2.1", &template(4)).send().await.expect("a reply").status()
            == 200
    })
    .await;

    let long = format!("match={}", "x".repeat(4000));
    let held = Stream::open(subscribe(&gateway, "192.0.2.1", &long)).await;
    let own = refused(&gateway, "192.0.2.1", &long, 429).await;
    assert!(text_at(&own, "/detail").contains("limits.matchers_bytes_per_address"), "{own}");
    let all = [1, 2].map(|it| format!("192.0.2.{}", it + 10));
    let _other = Stream::open(subscribe(&gateway, &all[0], &long)).await;
    let full = refused(&gateway, &all[1], &long, 503).await;
    assert!(text_at(&full, "/detail").contains("(limits.matchers_bytes)"), "{full}");
    let _short = Stream::open(subscribe(&gateway, "192.0.2.1", "match=t")).await;
    drop(held);
}

#[tokio::test]
async fn an_address_has_its_own_part_of_the_list() {
    let gateway = Gateway::with(&[
        PROXIED,
        ("MERCURE__SUBSCRIPTIONS", "true"),
        ("MERCURE__MAX_SUBSCRIPTIONS_PER_ADDRESS", "2"),
    ]);
    let first = Stream::open(subscribe(&gateway, "192.0.2.1", "match=a&match=b")).await;
    let own = refused(&gateway, "192.0.2.1", "match=c", 429).await;
    assert!(text_at(&own, "/detail").contains("mercure.max_subscriptions_per_address"), "{own}");
    let _other = Stream::open(subscribe(&gateway, "192.0.2.2", "match=a&match=b")).await;
    drop(first);
    eventually("there is room again", async || {
        subscribe(&gateway, "192.0.2.1", "match=c").send().await.expect("a reply").status() == 200
    })
    .await;
}

#[tokio::test]
async fn a_publisher_tests_patterns_and_shards_find_it_known() {
    let gateway = Gateway::with(&[("SERVER__WORKERS", "1")]);
    let many: String = (0..300).map(|it| format!("match_uritemplate=/{it}/%7Ba%7D&")).collect();
    let mut stream = gateway.open(&format!("/events?{many}match=mark")).await;
    let topics: Vec<String> = (0..20).map(|it| format!("/7/{it}")).collect();
    let update = serde_json::json!({ "topics": topics, "data": "x" }).to_string();
    assert_eq!(gateway.post_json(update).await.status(), 200);
    assert_eq!(stream.data(1).await, ["x"]);
    let tests = gateway.metric("tidegate_pattern_tests_total").await;
    assert_eq!(tests, 300.0 * 20.0, "each pattern once on each topic");
}
