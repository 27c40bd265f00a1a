use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Gateway, problem, sse::Stream, text_at};

/// A subscriber's matchers, and the members of [`TOPICS`] that it receives.
type Case = (&'static [(&'static str, &'static str)], &'static [&'static str]);

/// Published in this order, with the topic as data.
const TOPICS: [&str; 14] = [
    "https://example.com/books/1",
    "https://example.com/books/",
    "https://example.com/books/1/reviews",
    "https://EXAMPLE.com/books/2",
    "https://example.com/books/{id}",
    "https://example.com/books/3?draft#top",
    "books/4",
    "/books/5",
    "urn:isbn:6",
    "https://",
    "https://example.com/Books/7",
    "{",
    "books/%C3%BC",
    "books/ü",
];

const MODERN: [Case; 14] = [
    (&[("match", TOPICS[0])], &[TOPICS[0]]),
    (&[("match_exact", "books/4")], &["books/4"]),
    (&[("match", "https://example.com/books/{id}")], &[TOPICS[4]]),
    (&[("match", "https://example.com/books/:id")], &[]),
    (&[("match", "*")], &TOPICS),
    (&[("match_exact", "*")], &TOPICS),
    (&[("match_urlpattern", "*")], &TOPICS),
    (
        &[("match_urlpattern", "https://example.com/books/:id")],
        &[TOPICS[0], TOPICS[3], TOPICS[4], TOPICS[5]],
    ),
    (
        &[("match_urlpattern", "https://example.com/books/(\\d+)")],
        &[TOPICS[0], TOPICS[3], TOPICS[5]],
    ),
    (&[("match_urlpattern", "books/:id")], &["books/4", "books/%C3%BC", "books/ü"]),
    (&[("match_urlpattern", "/books/:id")], &["/books/5"]),
    (&[("match_urlpattern", "urn\\:isbn\\:*")], &["urn:isbn:6"]),
    (&[("match_uritemplate", "books/{id}")], &["books/4", "books/%C3%BC"]),
    (
        &[
            ("match", TOPICS[0]),
            ("match_urlpattern", "https://example.com/books/:id"),
            ("match", "urn:isbn:6"),
        ],
        &[TOPICS[0], TOPICS[3], TOPICS[4], TOPICS[5], "urn:isbn:6"],
    ),
];

const OLD: [Case; 9] = [
    (&[("topic", TOPICS[0])], &[TOPICS[0]]),
    (&[("topic", "*")], &TOPICS),
    (&[("topic", "https://example.com/books/{id}")], &[TOPICS[0], TOPICS[1], TOPICS[4]]),
    (&[("topic", "https://example.com/books/{any,name:3}")], &[TOPICS[0], TOPICS[1]]),
    (&[("topic", "https://example.com{/path*}")], &[TOPICS[0], TOPICS[1], TOPICS[2], TOPICS[10]]),
    (&[("topic", "{")], &["{"]),
    (&[("topic", "books/:id")], &[]),
    (&[("topic", "books/4"), ("topic", "books/{id}")], &["books/4", "books/%C3%BC"]),
    (
        &[("topic", "{+any}"), ("match", "books/ü")],
        &[
            TOPICS[0], TOPICS[1], TOPICS[2], TOPICS[3], TOPICS[5], TOPICS[6], TOPICS[7], TOPICS[8],
            TOPICS[9], TOPICS[10], TOPICS[12], TOPICS[13],
        ],
    ),
];

fn query(parameters: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

/// The data of a poll's events, without the mark.
fn data(reply: &Value) -> Vec<String> {
    let events = reply["events"].as_array().expect("a list");
    let data = events.iter().map(|event| text_at(event, "/data"));
    data.filter(|it| it != "mark").collect()
}

/// Returns the data of the events before the mark, which every case subscribes to.
async fn until_mark(stream: &mut Stream) -> Vec<String> {
    let mut data = Vec::new();
    loop {
        let event = stream.next().await;
        if event.data == "mark" {
            return data;
        }
        data.push(event.data);
    }
}

#[tokio::test]
async fn every_matcher_gets_its_topics_live_and_later_over_streams_and_polls() {
    let gateway = Gateway::start();
    let mut live = Vec::new();
    for (parameters, _) in MODERN.into_iter().chain(OLD) {
        let query = query(parameters);
        for path in ["/.well-known/mercure", "/events"] {
            live.push(gateway.open(&format!("{path}?{query}&match=mark")).await);
        }
    }
    for topic in TOPICS {
        gateway.publish(topic, topic).await;
    }
    gateway.publish("mark", "mark").await;
    let mut live = live.into_iter();
    for (parameters, wanted) in MODERN.into_iter().chain(OLD) {
        for mut stream in live.by_ref().take(2) {
            assert_eq!(until_mark(&mut stream).await, wanted, "live {parameters:?}");
        }
        let query = query(parameters);
        let path = format!("/events?{query}&match=mark&last_event_id=earliest");
        let mut later = gateway.open(&path).await;
        assert_eq!(until_mark(&mut later).await, wanted, "later {parameters:?}");
        let path = format!("/poll?{query}&lastEventID=earliest&wait=0");
        assert_eq!(data(&gateway.poll(&path).await), wanted, "poll {parameters:?}");
        let last = gateway.poll(&format!("/poll?{query}&last=2&wait=0")).await;
        assert_eq!(
            data(&last).last().map(String::as_str),
            wanted.last().copied(),
            "last {parameters:?}"
        );
    }
}

#[tokio::test]
async fn an_update_reaches_a_subscriber_once_whichever_of_its_topics_match() {
    let gateway = Gateway::start();
    let parameters = [
        ("match", "a"),
        ("match_urlpattern", "a"),
        ("topic", "{a}"),
        ("topic", "*"),
        ("match", "b"),
    ];
    let mut stream = gateway.open(&format!("/events?{}", query(&parameters))).await;
    let reply = gateway.post(&[("topic", "a"), ("topic", "b"), ("data", "both")]).await;
    assert_eq!(reply.status(), 200);
    gateway.publish("c", "next").await;
    assert_eq!(stream.data(2).await, ["both", "next"]);
    let alternate = gateway.poll("/poll?match_urlpattern=b&last=9&wait=0").await;
    assert_eq!(data(&alternate), ["both"]);
}

#[tokio::test]
async fn relative_patterns_are_resolved_against_the_public_address() {
    let gateway = Gateway::with(&[("SERVER__PUBLIC_URL", "https://push.example.com/hub")]);
    let query = query(&[("match_urlpattern", "rooms/:id"), ("match", "mark")]);
    let mut stream = gateway.open(&format!("/events?{query}")).await;
    for topic in [
        "rooms/1",
        "https://push.example.com/hub/.well-known/rooms/2",
        "/hub/.well-known/rooms/3",
        "/rooms/4",
        "http://localhost/.well-known/rooms/5",
        "mark",
    ] {
        gateway.publish(topic, topic.rsplit('/').next().expect("text")).await;
    }
    assert_eq!(until_mark(&mut stream).await, ["1", "2", "3"]);
}

#[tokio::test]
async fn jobs_are_reached_by_their_name_only() {
    let gateway = Gateway::start();
    let ways =
        ["match=*", "topic=*", "match_urlpattern=/jobs/:id", "topic=/jobs/{id}", "topic={%2Bany}"];
    let mut streams = Vec::new();
    for way in ways {
        streams.push(gateway.open(&format!("/events?{way}&match=mark")).await);
    }
    let request = gateway.client.post(gateway.url("/jobs"));
    let reply = request.json(&json!({"type": "t"})).send().await.expect("a reply");
    assert_eq!(reply.status(), 202);
    let job = reply.headers()["location"].to_str().expect("text").to_owned();
    let path = url::Url::parse(&job).map_or(job.clone(), |it| it.path().to_owned());
    gateway.publish("mark", "mark").await;
    for (way, stream) in ways.into_iter().zip(&mut streams) {
        let data = until_mark(stream).await;
        assert!(data.iter().all(|it| !it.contains(&path)), "{way}: {data:?}");
        assert!(data.is_empty(), "{way}: {data:?}");
        let later = gateway.poll(&format!("/poll?{way}&last_event_id=earliest&wait=0")).await;
        assert!(!later.to_string().contains(&path), "{way}: {later}");
    }
    let named = gateway.poll(&format!("/poll?match={path}&last_event_id=earliest&wait=0")).await;
    assert_eq!(named["events"].as_array().map(Vec::len), Some(1), "{named}");
}

#[tokio::test]
async fn bad_matchers_are_refused_in_words_that_show_nothing_of_the_inside() {
    let gateway = Gateway::start();
    let long = "x".repeat(4097);
    let cases = [
        ("Match", "a", "Match"),
        ("MATCH", "a", "MATCH"),
        ("matches", "a", "matches"),
        ("match_exact2", "a", "match_exact2"),
        ("match_Exact", "a", "match_Exact"),
        ("match_", "a", "match_"),
        ("match[]", "a", "match[]"),
        ("matchURLPattern", "/a", "matchURLPattern"),
        ("match_urlpattern", "/(", "match_urlpattern"),
        ("match_urlpattern", "/((?=a).*)", "match_urlpattern"),
        ("match_urlpattern", "/((?<!a)b)", "match_urlpattern"),
        ("match_urlpattern", "/((?:a{9999}){9999})", "match_urlpattern"),
        ("match_urlpattern", "/:a/:a", "match_urlpattern"),
        ("match_urlpattern", "http://]", "match_urlpattern"),
        ("match_urlpattern", "a\u{200d}b", "match_urlpattern"),
        ("match_urlpattern", &long, "match_urlpattern"),
        ("match_uritemplate", "{", "match_uritemplate"),
        ("match", "a\u{7f}", "match"),
        ("match", "a\u{ad}", "match"),
        ("match_exact", "a\u{feff}", "match"),
        ("match", &long, "match"),
        ("topic", "{a}\u{85}", "topic"),
        ("topic", &long, "topic"),
    ];
    for (name, value, field) in cases {
        for path in ["/events", "/.well-known/mercure", "/poll", "/iframe"] {
            let query = query(&[("match", "good"), (name, value)]);
            let reply = gateway.get(&format!("{path}?{query}&callback=f")).await;
            let document = problem(reply, 400).await;
            assert_eq!(document["field"], field, "{path} {name}={value}");
            let text = document.to_string().to_lowercase();
            for inside in ["regex", "0x", "parser", "token", "src/", "struct"] {
                assert!(!text.contains(inside), "{text}");
            }
        }
    }
    // An empty pattern is the address of the hub, and at that address an empty matcher is a topic
    // like any other.
    drop(gateway.open("/events?match_urlpattern=&match=x").await);
    for name in ["topic", "match", "match_exact", "match_urlpattern"] {
        drop(gateway.open(&format!("/.well-known/mercure?{name}=&match=x")).await);
    }
}

#[tokio::test]
async fn bombs_are_refused_or_answered_at_once_and_leave_nothing_behind() {
    let gateway = Gateway::with(&[("LIMITS__TOPIC_BYTES", "32KiB")]);
    let names: Vec<String> = (0..3000).map(|it| format!("v{it}")).collect();
    let bombs = [
        ("topic", format!("{{{}}}", names.join(","))),
        ("topic", format!("{{/{}}}", names.join(","))),
        ("topic", "{+a}".repeat(3000)),
        ("topic", "{".repeat(10_000)),
        ("match_urlpattern", "/*".repeat(5000)),
        ("match_urlpattern", "(".repeat(10_000)),
        ("match_urlpattern", "/((?:(?:a+)+)+b)".to_owned()),
        ("match_urlpattern", "/((?:.*.*.*.*.*.*.*.*)*b)".to_owned()),
        ("match_urlpattern", format!("/(({}))", "(?:a?){50}".repeat(50))),
        ("match_urlpattern", "/{a}*".repeat(1000)),
    ];
    let topic = format!("/{}", "a".repeat(4000));
    for (name, value) in &bombs {
        let began = Instant::now();
        let query = query(&[(name, value), ("last_event_id", "earliest"), ("wait", "0")]);
        let reply = gateway.get(&format!("/poll?{query}")).await;
        assert!(matches!(reply.status().as_u16(), 200 | 400), "{name}");
        gateway.publish(&topic, "x").await;
        assert!(began.elapsed() < Duration::from_secs(2), "{name} {:?}", began.elapsed());
    }
    let patterns: Vec<(String, String)> =
        (0..1000).map(|it| ("match_urlpattern".to_owned(), format!("/{it}/:id/*"))).collect();
    let patterns: Vec<(&str, &str)> =
        patterns.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let path = format!("/poll?{}&wait=0", query(&patterns));
    let document = problem(gateway.get(&path).await, 400).await;
    assert_eq!(document["limit"], 10_000, "1,000 patterns of cost 11 are too much: {document}");
    gateway.until_metric("tidegate_patterns", 0.0).await;
    gateway.until_metric("tidegate_patterns_cost", 0.0).await;
}

#[tokio::test]
async fn a_thousand_patterns_are_within_the_limits() {
    let gateway = Gateway::start();
    let parameters: Vec<String> =
        (0..500).map(|it| format!("match_urlpattern=/{it}/:id&topic=/{it}/%7Ba%7D")).collect();
    let mut stream = gateway.open(&format!("/events?{}", parameters.join("&"))).await;
    gateway.until_metric("tidegate_patterns", 1000.0).await;
    gateway.publish("/500/x", "unmatched").await;
    gateway.publish("/499/x", "its own").await;
    assert_eq!(stream.data(1).await, ["its own"]);
    let one_more = format!("/events?{}&match=x", parameters.join("&"));
    assert_eq!(problem(gateway.get(&one_more).await, 400).await["limit"], 1000);
    drop(stream);
    gateway.until_metric("tidegate_patterns", 0.0).await;
}

#[tokio::test]
async fn a_gateway_full_of_patterns_says_so_until_some_are_gone() {
    let gateway = Gateway::with(&[("LIMITS__MATCHERS_TOTAL_COST", "2")]);
    let first = gateway.open("/events?match_urlpattern=/a/:id").await;
    let second = gateway.open("/events?topic=/b/{id}").await;
    let third = gateway.open("/events?topic=/b/{id}").await;
    let refused = gateway.get("/events?topic=/c/{id}").await;
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(problem(refused, 503).await["field"], "topic");
    drop(gateway.open("/events?topic=exact&match=*").await);
    drop((first, second));
    gateway.until_metric("tidegate_patterns", 1.0).await;
    drop(gateway.open("/events?topic=/c/{id}").await);
    drop(third);
    gateway.until_metric("tidegate_patterns", 0.0).await;
}

#[tokio::test]
async fn a_publish_tests_each_pattern_once_however_many_subscribers_and_shards_there_are() {
    let gateway = Gateway::with(&[("SERVER__WORKERS", "2")]);
    let mut streams = Vec::new();
    for subscriber in 0..120 {
        let n = subscriber % 20;
        let query = query(&[
            ("topic", &format!("https://example.com/{n}/{{id}}")),
            ("match_urlpattern", &format!("https://example.com/{n}/:id")),
            ("match_urlpattern", "https://example.com/all/*"),
        ]);
        streams.push(gateway.open(&format!("/events?{query}")).await);
    }
    gateway.until_metric("tidegate_patterns", 41.0).await;
    let before = gateway.metric("tidegate_pattern_tests_total").await;
    gateway.publish("https://example.com/all/1", "first").await;
    for stream in &mut streams {
        assert_eq!(stream.data(1).await, ["first"]);
    }
    let once = gateway.metric("tidegate_pattern_tests_total").await - before;
    assert!(once <= 41.0, "{once} tests of 41 patterns");
    gateway.publish("https://example.com/all/1", "second").await;
    for stream in &mut streams {
        assert_eq!(stream.data(1).await, ["second"]);
    }
    let again = gateway.metric("tidegate_pattern_tests_total").await - before - once;
    assert!(again == 0.0, "{again} tests for a topic that is known");
    streams.push(gateway.open("/events?match_urlpattern=https://example.com/all/:id").await);
    gateway.publish("https://example.com/all/1", "third").await;
    for stream in &mut streams {
        assert_eq!(stream.data(1).await, ["third"]);
    }
    let newcomer = gateway.metric("tidegate_pattern_tests_total").await - before - once;
    assert!(newcomer == 1.0, "{newcomer} tests, of which one is needed");
}
