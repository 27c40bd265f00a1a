use serde_json::json;
use tidegate::jobs::{JobResult, Task, WorkError, Worker};

use crate::support::{
    Gateway, problem,
    tokens::{
        DETAIL, ISSUER, SUBSCRIBER_KEY, guarded, modern_claims, modern_publisher,
        modern_subscriber, old_publisher, old_subscriber, sign,
    },
};

/// The buttons of a job page for clients that may not use them.
const HIDDEN_ACTIONS: &str = "<div class=\"actions\" hidden>";

async fn publish(gateway: &Gateway, topics: &[&str], data: &str, is_private: bool) {
    let mut form: Vec<(&str, &str)> = topics.iter().map(|it| ("topic", *it)).collect();
    form.push(("data", data));
    if is_private {
        form.push(("private", "off"));
    }
    let reply = gateway.post_as(&modern_publisher(&[("exact", "*")]), &form).await;
    assert_eq!(reply.status(), 200);
}

#[tokio::test]
async fn private_events_reach_only_the_granted_live_and_in_replay_over_every_transport() {
    let gateway = guarded(&[("AUTH__ANONYMOUS", "true")]);
    let (topic, tokens) = (
        "https://example.com/users/1",
        [
            modern_subscriber(&[("exact", "https://example.com/users/1")]),
            modern_subscriber(&[("urlpattern", "https://example.com/users/:id")]),
            old_subscriber(&["https://example.com/users/{id}"]),
            old_subscriber(&["*"]),
        ],
    );
    let strangers = [
        modern_subscriber(&[("exact", "https://example.com/users/2")]),
        old_subscriber(&["https://example.com/users/"]),
        sign(Some("JWT"), &json!({ "sub": "a stranger" }), SUBSCRIBER_KEY),
    ];
    let path = format!("/.well-known/mercure?match={topic}");
    let (mut granted, mut others) = (Vec::new(), vec![gateway.open(&path).await]);
    for token in &tokens {
        granted.push(gateway.open_as(token, &path).await);
    }
    for token in &strangers {
        others.push(gateway.open_as(token, &path).await);
    }
    publish(&gateway, &[topic], "secret", true).await;
    publish(&gateway, &[topic], "for-all", false).await;
    for stream in &mut granted {
        assert_eq!(stream.data(2).await, ["secret", "for-all"]);
    }
    for stream in &mut others {
        assert_eq!(stream.data(1).await, ["for-all"]);
    }

    for token in &tokens {
        let mut stream = gateway.open_as(token, &format!("{path}&last_event_id=earliest")).await;
        assert_eq!(stream.data(2).await, ["secret", "for-all"]);
        let reply = gateway.get_as(token, &format!("/poll?match={topic}&last=5&wait=0")).await;
        assert_eq!(reply.text().await.expect("text").matches("\"data\"").count(), 2);
        let mut document =
            gateway.get_as(token, &format!("/iframe?match={topic}&last=5&callback=f&wait=0")).await;
        let mut text = String::new();
        while !text.contains("for-all") {
            text += &String::from_utf8_lossy(
                &document.chunk().await.expect("bytes").expect("more bytes"),
            );
        }
        assert!(text.contains("secret"));
    }
    for token in &strangers {
        let mut stream = gateway.open_as(token, &format!("{path}&last_event_id=earliest")).await;
        assert_eq!(stream.data(1).await, ["for-all"]);
        let reply = gateway.get_as(token, &format!("/poll?match={topic}&last=5&wait=0")).await;
        let text = reply.text().await.expect("text");
        assert!(!text.contains("secret") && text.contains("for-all"), "{text}");
        let mut document =
            gateway.get_as(token, &format!("/iframe?match={topic}&last=5&callback=f")).await;
        let mut text = String::new();
        while !text.contains("for-all") {
            text += &String::from_utf8_lossy(
                &document.chunk().await.expect("bytes").expect("more bytes"),
            );
        }
        assert!(!text.contains("secret"));
    }
}

#[tokio::test]
async fn an_alternate_topic_may_authorise_while_the_canonical_one_routes() {
    let gateway = guarded(&[]);
    let token = modern_subscriber(&[("exact", "https://example.com/users/1")]);
    let path = "/.well-known/mercure?match=https://example.com/books/1";
    let mut stream = gateway.open_as(&token, path).await;
    // The query never widens rights.
    let mut wide = gateway.open_as(&token, "/.well-known/mercure?match=*").await;
    let book = "https://example.com/books/1";
    publish(&gateway, &[book], "not granted", true).await;
    publish(&gateway, &[book, "https://example.com/users/1"], "mine", true).await;
    assert_eq!(stream.data(1).await, ["mine"]);
    assert_eq!(wide.data(1).await, ["mine"]);
}

#[tokio::test]
async fn rights_are_those_of_the_current_token_when_a_cursor_comes_back() {
    let gateway = guarded(&[]);
    publish(&gateway, &["t"], "first", false).await;
    let everything = modern_subscriber(&[("exact", "*")]);
    let mut stream = gateway.open_as(&everything, "/events?match=t&last=1").await;
    let cursor = stream.next().await.id;
    publish(&gateway, &["t"], "secret", true).await;
    publish(&gateway, &["t"], "open", false).await;
    let path = format!("/events?match=t&last_event_id={cursor}");
    let mut again = gateway.open_as(&everything, &path).await;
    assert_eq!(again.data(2).await, ["secret", "open"]);
    let nothing = modern_subscriber(&[("exact", "u")]);
    let mut again = gateway.open_as(&nothing, &path).await;
    assert_eq!(again.headers()["mercure-last-event-id"], cursor.as_str());
    assert_eq!(again.data(1).await, ["open"]);
}

#[tokio::test]
async fn an_unknown_cursor_tells_no_private_id() {
    let gateway = guarded(&[("AUTH__ANONYMOUS", "true")]);
    let token = old_publisher(&["*"]);
    let form = [("topic", "t"), ("id", "urn:secret:1"), ("private", "on")];
    assert_eq!(gateway.post_as(&token, &form).await.status(), 200);
    for cursor in ["last_event_id=urn:unknown", "last_event_id=", "lastEventID=earliest"] {
        let stream = gateway.open(&format!("/.well-known/mercure?match=t&{cursor}")).await;
        assert_eq!(stream.headers()["mercure-last-event-id"], "earliest", "{cursor}");
        assert_eq!(stream.headers()["last-event-id"], "earliest", "{cursor}");
    }
}

#[tokio::test]
async fn unknown_ids_replay_what_is_left_or_nothing() {
    for (setting, expected) in [("replay", "old"), ("none", "new")] {
        let gateway = guarded(&[("AUTH__ANONYMOUS", "true"), ("MERCURE__UNKNOWN_IDS", setting)]);
        publish(&gateway, &["t"], "old", false).await;
        let path = "/.well-known/mercure?match=t&last_event_id=urn:unknown";
        let mut stream = gateway.open(path).await;
        assert_eq!(stream.headers()["mercure-last-event-id"], "earliest");
        publish(&gateway, &["t"], "new", false).await;
        let mut next = stream.next().await;
        if next.kind == "tidegate.gap" {
            assert_eq!(setting, "replay");
            next = stream.next().await;
        }
        assert_eq!(next.data, expected);
    }
}

#[tokio::test]
async fn scripts_from_elsewhere_get_what_the_anonymous_get() {
    let cookie = format!("__Secure-mercure_access_token={}", old_subscriber(&["*"]));
    let poll = "/poll?match=t&last=5&wait=0&callback=f";
    let open = guarded(&[("AUTH__ANONYMOUS", "true"), ("POLL__JSONP", "true")]);
    publish(&open, &["t"], "secret", true).await;
    publish(&open, &["t"], "open", false).await;
    let reply = open.client.get(open.url(poll)).header("cookie", &cookie).send().await;
    let text = reply.expect("a reply").text().await.expect("text");
    assert!(text.contains("open") && !text.contains("secret"), "{text}");
    let closed = guarded(&[("POLL__JSONP", "true")]);
    let reply = closed.client.get(closed.url(poll)).header("cookie", &cookie).send().await;
    problem(reply.expect("a reply"), 401).await;
}

#[tokio::test]
async fn jobs_are_under_the_same_rights() {
    let gateway = guarded(&[]);
    let post = |path: String, token: Option<String>, body: &'static str| {
        let mut request = gateway.client.post(gateway.url(&path));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.header("content-type", "application/json").body(body).send()
    };
    let create = r#"{"type":"clone"}"#;
    let token = |topic: &str| Some(modern_publisher(&[("exact", topic)]));
    problem(post("/jobs".into(), None, create).await.expect("a reply"), 401).await;
    problem(post("/jobs".into(), token("/jobs/x"), create).await.expect("a reply"), 403).await;
    let reply = post("/jobs".into(), token("/jobs"), create).await.expect("a reply");
    assert_eq!(reply.status(), 202);
    let path = reply.headers()["location"].to_str().expect("text").to_owned();

    // The job's id is the permission to see it, and nothing more.
    for accept in ["application/json", "text/html"] {
        let request = gateway.client.get(gateway.url(&path)).header("accept", accept);
        let reply = request.send().await.expect("a reply");
        assert_eq!(reply.status(), 200);
        let links = reply.headers()["link"].to_str().expect("text");
        let expected = format!("</.well-known/mercure>; rel=\"mercure\", <{path}>; rel=\"self\"");
        assert_eq!(links, expected);
        let text = reply.text().await.expect("text");
        assert!(!text.contains("<form") || text.contains(HIDDEN_ACTIONS), "{text}");
    }
    let request = gateway.client.get(gateway.url(&path)).header("accept", "text/html");
    let granted = request.bearer_auth(modern_publisher(&[("exact", &path)])).send().await;
    let page = granted.expect("a reply").text().await.expect("text");
    assert!(!page.contains(HIDDEN_ACTIONS), "{page}");
    let request = gateway.client.get(gateway.url(&path)).header("accept", "text/event-stream");
    assert_eq!(request.send().await.expect("a reply").status(), 200);
    let mut stream = gateway.open(&format!("/events?match={path}")).await;
    problem(gateway.get("/events?match_urlpattern=/jobs/*").await, 401).await;
    problem(gateway.get(&format!("/events?match={path}&match=t")).await, 401).await;
    for action in ["cancel", "retry", "progress", "complete", "fail", "log?offset=0"] {
        let path = format!("{path}/{action}");
        problem(post(path.clone(), None, "{}").await.expect("a reply"), 401).await;
        problem(post(path, token("/jobs"), "{}").await.expect("a reply"), 403).await;
    }

    let claim = r#"{"types":["clone"]}"#;
    problem(post("/jobs/claim".into(), token(&path), claim).await.expect("a reply"), 403).await;
    let worker = modern_publisher(&[("urlpattern", "/jobs/:id")]);
    let reply = post("/jobs/claim".into(), Some(worker.clone()), claim).await.expect("a reply");
    assert_eq!(reply.status(), 200);
    assert_eq!(stream.next().await.kind, "job.state");
    let reply = post(format!("{path}/cancel"), Some(worker), "").await.expect("a reply");
    assert_eq!(reply.status(), 202);

    problem(gateway.get("/jobs").await, 401).await;
    let subscriber = modern_subscriber(&[("exact", "/jobs/1")]);
    problem(gateway.get_as(&subscriber, "/jobs").await, 403).await;
    let subscriber = modern_subscriber(&[("exact", "/jobs")]);
    assert_eq!(gateway.get_as(&subscriber, "/jobs").await.status(), 200);
}

#[tokio::test]
async fn a_worker_of_the_library_shows_its_token() {
    let gateway = guarded(&[]);
    let request = gateway.client.post(gateway.url("/jobs")).header("prefer", "wait=20");
    let request = request.bearer_auth(modern_publisher(&[("exact", "/jobs")]));
    let request = request.header("content-type", "application/json").body(r#"{"type":"sum"}"#);
    let waiting = tokio::spawn(request.send());
    let worker = || Worker::new(&gateway.url(""), &["sum"]).expect("a worker");
    let work = |_: Task| async { JobResult::inline(&42).map_err(WorkError::fatal) };
    let refused = worker().run(std::future::pending(), work).await.expect_err("refused");
    assert!(refused.to_string().contains("token"), "{refused}");
    assert!(worker().token("no\ntoken").is_err());
    let token = modern_publisher(&[("urlpattern", "/jobs/:id")]);
    let worker = worker().token(&token).expect("a token");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(worker.run(async move { stopped.await.unwrap_or(()) }, work));
    let reply = waiting.await.expect("no panic").expect("a reply");
    assert_eq!(reply.text().await.expect("text"), "42");
    drop(stop);
    running.await.expect("no panic").expect("an orderly end");
}

#[tokio::test]
async fn patterns_hear_of_jobs_with_a_grant_only() {
    let gateway = guarded(&[("AUTH__ANONYMOUS", "true")]);
    let create = || async {
        let request = gateway.client.post(gateway.url("/jobs"));
        let request = request.bearer_auth(modern_publisher(&[("exact", "/jobs")]));
        let request = request.header("content-type", "application/json");
        let reply = request.body(r#"{"type":"clone"}"#).send().await.expect("a reply");
        assert_eq!(reply.status(), 202);
    };
    let granted = modern_subscriber(&[("urlpattern", "/jobs/:id")]);
    let mut granted = gateway.open_as(&granted, "/events?match=*").await;
    let mut other = gateway.open_as(&modern_subscriber(&[("exact", "t")]), "/events?match=*").await;
    let mut anonymous = gateway.open("/events?match=*").await;
    create().await;
    publish(&gateway, &["t"], "end", false).await;
    assert_eq!(granted.next().await.kind, "job.state");
    assert_eq!(other.data(1).await, ["end"]);
    assert_eq!(anonymous.data(1).await, ["end"]);
}

#[tokio::test]
async fn a_payload_grants_nothing() {
    let gateway = guarded(&[]);
    let mut claims = modern_claims("subscribe", &[("exact", "t")]);
    claims["authorization_details"] = json!([{
        "type": DETAIL, "actions": ["subscribe"], "topics": [{ "match": "t" }],
        "payload": { "room": ISSUER },
    }]);
    let good = sign(Some("at+jwt"), &claims, SUBSCRIBER_KEY);
    assert_eq!(gateway.get_as(&good, "/poll?match=t&wait=0").await.status(), 200);
    claims["authorization_details"][0]["payload"] = json!("text");
    let bad = sign(Some("at+jwt"), &claims, SUBSCRIBER_KEY);
    assert_eq!(gateway.get_as(&bad, "/poll?match=t&wait=0").await.status(), 401);
}

/// The settings of a gateway whose history keeps only its newest three events.
const SHORT: [(&str, &str); 3] = [
    ("HISTORY__MAX_EVENTS", "3"),
    ("DELIVERY__TAIL_BYTES", "1B"),
    ("PUBLISH__REFUSE_WHEN_BEHIND", "false"),
];

/// The reply to a poll with an access token, or without one.
async fn polled(gateway: &Gateway, token: Option<&str>, path: &str) -> serde_json::Value {
    let request = gateway.client.get(gateway.url(path));
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    request.send().await.expect("a reply").json().await.expect("JSON")
}

#[tokio::test]
async fn an_event_names_only_the_topics_that_its_receiver_may_see() {
    let gateway = guarded(&[("AUTH__ANONYMOUS", "true")]);
    publish(&gateway, &["a", "secret/b", "c"], "private", true).await;
    publish(&gateway, &["a", "b"], "public", false).await;
    for (grants, asked, expected) in [
        (&[("exact", "a")][..], "match=a", &["a"][..]),
        (&[("exact", "a"), ("exact", "c")], "match=a", &["a", "c"]),
        (&[("exact", "c")], "match=a", &["a", "c"]),
        (&[("exact", "a")], "match=*", &["a"]),
        (&[("urlpattern", "/.well-known/secret/:x")], "match=*", &["secret/b"]),
        (&[("exact", "*")], "match=a", &["a", "secret/b", "c"]),
    ] {
        let token = modern_subscriber(grants);
        let path = format!("/poll?{asked}&last=5&wait=0");
        let reply = polled(&gateway, Some(&token), &path).await;
        assert_eq!(reply["events"][0]["topics"], json!(expected), "{grants:?} {asked}");
        assert_eq!(reply["events"][0]["data"], "private");
        assert_eq!(reply["events"][1]["topics"], json!(["a", "b"]), "public ones are no secret");
        let mut document =
            gateway.get_as(&token, &format!("/iframe?{asked}&last=5&callback=f")).await;
        let mut text = String::new();
        while !text.contains("public") {
            let chunk = document.chunk().await.expect("bytes").expect("more bytes");
            text += &String::from_utf8_lossy(&chunk);
        }
        let topics = serde_json::to_string(expected).expect("JSON");
        assert!(text.contains(&format!("\"topics\":{topics}")), "{grants:?} {asked}: {text}");
    }
}

#[tokio::test]
async fn whether_a_private_id_exists_is_not_told() {
    for store in ["memory", "disk"] {
        let gateway = guarded(&[("AUTH__ANONYMOUS", "true"), ("HISTORY__STORE", store)]);
        let publisher = modern_publisher(&[("exact", "*")]);
        for (id, topic, private) in
            [("public", "t", false), ("secret", "t", true), ("other", "elsewhere", false)]
        {
            let mut form = vec![("topic", topic), ("id", id), ("data", id)];
            form.extend(private.then_some(("private", "on")));
            assert_eq!(gateway.post_as(&publisher, &form).await.status(), 200);
        }
        let echo = async |token: Option<&str>, id: &str| {
            let path = format!("/poll?match=t&wait=0&last_event_id={id}");
            let request = gateway.client.get(gateway.url(&path));
            let request = match token {
                Some(token) => request.bearer_auth(token),
                None => request,
            };
            let reply = request.send().await.expect("a reply");
            let echo = reply.headers()["last-event-id"].to_str().expect("text").to_owned();
            (echo, reply.json::<serde_json::Value>().await.expect("JSON"))
        };
        let granted = modern_subscriber(&[("exact", "t")]);
        let elsewhere = modern_subscriber(&[("exact", "u")]);
        assert_eq!(echo(Some(&granted), "secret").await.0, "secret");
        assert_eq!(echo(None, "other").await.0, "other", "an id leads on from any topic");
        for token in [None, Some(&*elsewhere)] {
            let (told, reply) = echo(token, "secret").await;
            let (unknown, expected) = echo(token, "urn:nothing").await;
            assert_eq!((&*told, &*unknown), ("earliest", "earliest"), "{store}");
            let reason = |reply: &serde_json::Value| reply["events"][0]["data"].to_string();
            assert_eq!(
                reason(&reply).replace("secret", ""),
                reason(&expected).replace("urn:nothing", ""),
                "{store}"
            );
        }
    }
}

#[tokio::test]
async fn private_traffic_makes_no_gap_for_those_who_may_not_see_it() {
    for store in ["memory", "disk"] {
        let settings =
            [SHORT.as_slice(), &[("AUTH__ANONYMOUS", "true"), ("HISTORY__STORE", store)]];
        let gateway = guarded(&settings.concat());
        publish(&gateway, &["t"], "open", false).await;
        let cursor = polled(&gateway, None, "/poll?match=t&last=1&wait=0").await["events"][0]["id"]
            .as_str()
            .expect("an id")
            .to_owned();
        for _ in 0..5 {
            publish(&gateway, &["t"], "secret", true).await;
        }
        let granted = modern_subscriber(&[("exact", "t")]);
        let elsewhere = modern_subscriber(&[("exact", "u")]);
        for asked in ["match=t", "match=*", "match=t&match=u"] {
            let path = format!("/poll?{asked}&wait=0&last_event_id={cursor}");
            for token in [None, Some(&*elsewhere)] {
                let reply = polled(&gateway, token, &path).await;
                assert_eq!(reply["events"], json!([]), "{store} {asked}");
            }
            let reply = polled(&gateway, Some(&granted), &path).await;
            assert_eq!(reply["events"][0]["type"], "tidegate.gap", "{store} {asked}");
            assert_eq!(reply["events"][1]["data"], "secret");
        }
    }
}

#[tokio::test]
async fn cursors_of_silent_polls_say_nothing_of_hidden_traffic() {
    let gateway = guarded(&[("AUTH__ANONYMOUS", "true")]);
    let cursor = async || {
        let reply = polled(&gateway, None, "/poll?match=t&wait=0").await;
        reply["cursor"].as_str().expect("a token").to_owned()
    };
    let (before, still) = (cursor().await, cursor().await);
    assert_ne!(before, still, "they differ whether something has passed or not");
    publish(&gateway, &["t"], "secret", true).await;
    publish(&gateway, &["t"], "open", false).await;
    for cursor in [before, still] {
        let encoded: String = url::form_urlencoded::byte_serialize(cursor.as_bytes()).collect();
        let path = format!("/poll?match=t&wait=0&last_event_id={encoded}");
        let reply = polled(&gateway, None, &path).await;
        assert_eq!(reply["events"][0]["data"], "open");
    }
}

#[tokio::test]
async fn grants_that_do_not_name_jobs_are_warned_of_or_refused() {
    let create = async |gateway: &Gateway, token: &str| {
        let request = gateway.client.post(gateway.url("/jobs")).bearer_auth(token);
        let request = request.header("content-type", "application/json");
        request.body(r#"{"type":"clone"}"#).send().await.expect("a reply").status()
    };
    for (setting, expected) in [("warn", [202, 200]), ("refuse", [403, 403])] {
        let gateway = guarded(&[("JOBS__WILDCARD_GRANTS", setting)]);
        for grant in [("exact", "*"), ("uritemplate", "{anything}"), ("urlpattern", "/:all*")] {
            let publisher = modern_publisher(&[grant]);
            // Templates and patterns may not match the name at all. They then grant nothing in
            // either mode.
            if grant.1 == "*" {
                assert_eq!(create(&gateway, &publisher).await, expected[0], "{grant:?}");
                let lister = modern_subscriber(&[grant]);
                assert_eq!(gateway.get_as(&lister, "/jobs").await.status(), expected[1]);
            } else if setting == "refuse" {
                assert_eq!(create(&gateway, &publisher).await, 403, "{grant:?}");
            }
        }
        for grant in [("exact", "/jobs"), ("urlpattern", "/jobs")] {
            assert_eq!(create(&gateway, &modern_publisher(&[grant])).await, 202, "{grant:?}");
        }
        let warned = gateway.log().contains("jobs.wildcard_grants");
        assert_eq!(warned, setting == "warn");
    }
    let gateway = guarded(&[("JOBS__WILDCARD_GRANTS", "refuse")]);
    let everything = modern_subscriber(&[("exact", "*")]);
    let mut stream = gateway.open_as(&everything, "/events?match=*").await;
    assert_eq!(create(&gateway, &modern_publisher(&[("exact", "/jobs")])).await, 202);
    publish(&gateway, &["t"], "end", false).await;
    assert_eq!(stream.data(1).await, ["end"], "no job is among everything");
}
