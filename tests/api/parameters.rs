use serde_json::{Value, json};

use crate::support::{Gateway, problem, raw::Raw, tokens::guarded};

const HUB: &str = "/.well-known/mercure";
const MODERN: (&str, &str) = ("MERCURE__COMPAT", "modern-only");

/// The status of a request that would subscribe.
async fn probe(gateway: &Gateway, path: &str) -> u16 {
    gateway.client.head(gateway.url(path)).send().await.expect("a reply").status().as_u16()
}

#[tokio::test]
async fn topic_is_the_gateways_own_word_except_at_the_hubs_address() {
    for (compat, at_hub) in [("both", 200), ("modern-only", 400)] {
        let gateway = Gateway::with(&[("MERCURE__COMPAT", compat)]);
        for path in ["/events?", "/poll?", "/iframe?callback=f&"] {
            for topic in ["topic=t", "topic=*", "topic=/books/%7Bid%7D", "topic=t&lastEventID=x"] {
                assert_eq!(probe(&gateway, &format!("{path}{topic}")).await, 200, "{path}{topic}");
            }
        }
        let metric = |feature| format!("tidegate_old_dialect_total{{feature=\"{feature}\"}}");
        for feature in ["selector", "cursor"] {
            let count = gateway.sample::<f64>(&metric(feature)).await;
            assert_eq!(count, None, "{compat}, {feature}");
        }
        assert_eq!(probe(&gateway, &format!("{HUB}?topic=t")).await, at_hub, "{compat}");
        assert_eq!(probe(&gateway, &format!("{HUB}?match=t&lastEventID=x")).await, 200, "{compat}");
        for feature in ["selector", "cursor"] {
            let count = gateway.sample::<f64>(&metric(feature)).await;
            assert_eq!(count.is_some(), at_hub == 200, "{compat}, {feature}");
        }
    }
}

#[tokio::test]
async fn topic_means_the_same_with_and_without_the_old_dialect() {
    for compat in ["both", "modern-only"] {
        let gateway = Gateway::with(&[("MERCURE__COMPAT", compat)]);
        for topic in ["/books/1", "/films/1", "{id}"] {
            gateway.publish(topic, topic).await;
        }
        for (selector, expected) in [
            ("/books/1", &["/books/1"][..]),
            ("/books/%7Bid%7D", &["/books/1"]),
            ("%7Bid%7D", &["{id}"]),
            ("*", &["/books/1", "/films/1", "{id}"]),
            ("/books/*", &[]),
        ] {
            let path = format!("/poll?topic={selector}&last=9&wait=0");
            let reply = gateway.poll(&path).await;
            let events = reply["events"].as_array().expect("a list");
            let data: Vec<&str> = events.iter().filter_map(|it| it["data"].as_str()).collect();
            assert_eq!(data, expected, "{compat}, {selector}");
        }
    }
}

/// Splits a command line as a shell does, without anything but quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word: Option<String> = None;
    let mut quote = None;
    for it in line.chars() {
        match quote {
            Some(end) if it == end => quote = None,
            None if it == '\'' || it == '"' => {
                quote = Some(it);
                word.get_or_insert_default();
            }
            None if it == ' ' => words.extend(word.take()),
            _ => word.get_or_insert_default().push(it),
        }
    }
    words.extend(word);
    words
}

#[tokio::test]
async fn what_the_readme_shows_works_without_the_old_dialect() {
    const README: &str = include_str!("../../README.md");
    let gateway = Gateway::with(&[MODERN, ("CORS__ORIGINS", "https://www.example.com")]);
    let is_end = |it: char| "\"'`<> )".contains(it);
    let mut n_addresses = 0;
    for start in ["/events?", "/poll?", "/iframe?"] {
        for (at, _) in README.match_indices(start) {
            let address = README[at..].split(is_end).next().expect("a first part");
            assert_eq!(probe(&gateway, address).await, 200, "{address}");
            n_addresses += 1;
        }
    }
    assert!(3 <= n_addresses, "{n_addresses}");
    let mut n_updates = 0;
    for line in README.lines().filter(|it| it.starts_with("curl ") && !it.contains('$')) {
        let words = words(line);
        let given = |flag: &str| {
            let pairs = words.windows(2).filter(|pair| pair[0] == flag);
            pairs.map(|pair| pair[1].clone()).collect::<Vec<_>>()
        };
        let body = given("-d").join("&");
        let Some((_, path)) = words.last().and_then(|it| it.split_once(":3000")) else { continue };
        if body.is_empty() || path != "/events" {
            continue;
        }
        let kind = given("-H").into_iter().find_map(|it| {
            let (name, value) = it.split_once(": ")?;
            name.eq_ignore_ascii_case("content-type").then(|| value.to_owned())
        });
        let kind = kind.unwrap_or_else(|| "application/x-www-form-urlencoded".to_owned());
        let request = gateway.client.post(gateway.url(path)).header("content-type", kind);
        let reply = request.body(body).send().await.expect("a reply");
        assert_eq!(reply.status(), 200, "{line}");
        n_updates += 1;
    }
    assert!(0 < n_updates);
}

/// Misspelled names, the name that is meant, and whether the hub's address refuses them, too.
const MISSPELLED: [(&str, &str, bool); 12] = [
    ("topics", "topic", true),
    ("Topic", "topic", true),
    ("topic[]", "topic", true),
    ("matches", "match", true),
    ("match_pattern", "match_urlpattern", true),
    ("lastid", "last_event_id", true),
    ("lasteventid", "last_event_id", true),
    ("last_event", "last_event_id", true),
    ("cursor", "last_event_id", false),
    ("last_n", "last", false),
    ("since_time", "since", false),
    ("client_id", "client", false),
];

/// Names that only some transports have.
const OF_ONE: [(&str, &str, &[&str]); 5] = [
    ("heartbeats", "heartbeat", &["/events", "/iframe"]),
    ("waits", "wait", &["/poll"]),
    ("session_id", "session", &["/poll"]),
    ("callbacks", "callback", &["/poll", "/iframe"]),
    ("origins", "origin", &["/iframe"]),
];

const PATHS: [&str; 4] = ["/events", "/poll", "/iframe", HUB];

fn path_with(path: &str, name: &str) -> String {
    let target = if path == "/iframe" { "callback=f&" } else { "" };
    format!("{path}?{target}match=t&{name}=1")
}

async fn assert_misspelled(gateway: &Gateway, path: &str, wrong: &str, right: &str) {
    let document = problem(gateway.get(&path_with(path, wrong)).await, 400).await;
    assert_eq!(document["field"], wrong, "{path}");
    let detail = document["detail"].as_str().expect("text");
    assert!(detail.contains(&format!("`{right}`")), "{path}: {detail}");
}

#[tokio::test]
async fn a_misspelled_parameter_is_refused_with_the_right_name() {
    let gateway = Gateway::start();
    for path in PATHS {
        for (wrong, right, at_hub) in MISSPELLED {
            if path != HUB || at_hub {
                assert_misspelled(&gateway, path, wrong, right).await;
            } else {
                assert_eq!(probe(&gateway, &path_with(path, wrong)).await, 200, "{wrong}");
            }
        }
        for (wrong, right, paths) in OF_ONE {
            if paths.contains(&path) {
                assert_misspelled(&gateway, path, wrong, right).await;
            } else {
                assert_eq!(probe(&gateway, &path_with(path, wrong)).await, 200, "{path}?{wrong}");
            }
        }
    }
    // A stranger learns only that it needs a token.
    problem(guarded(&[]).get("/events?topics=t").await, 401).await;
}

#[tokio::test]
async fn every_other_parameter_is_ignored() {
    let gateway = Gateway::start();
    for path in PATHS {
        for name in ["_", "t", "v", "utm_source", "access_token", "lang", "topicc", "Last-Event-ID"]
        {
            assert_eq!(probe(&gateway, &path_with(path, name)).await, 200, "{path}, {name}");
        }
    }
}

#[tokio::test]
async fn the_document_of_a_frame_repeats_only_what_it_knows() {
    let gateway = Gateway::start();
    let mut raw = Raw::get(
        gateway.address,
        "/iframe?topic=t&_=173&callback=f&heartbeat=event&last=3&utm_source=x",
    )
    .await;
    let head = raw.until("<body>").await;
    let options = head.split("startTidegate(").last().and_then(|it| it.split(");").next());
    let options: Value = serde_json::from_str(options.expect("options")).expect("JSON");
    assert_eq!(options["query"], json!("topic=t&callback=f&heartbeat=event"));
}
