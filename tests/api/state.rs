//! The state of topics over HTTP: statuses, limits, tags, hostile JSON, and a gateway that is
//! killed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tidegate_testkit::{deadline::eventually, ports::free_port};

use crate::support::{
    Gateway, problem,
    sse::Stream,
    tokens::{guarded, modern_publisher, modern_subscriber},
};

const ROOM: &str = "/state?topic=/rooms/7";

fn request(gateway: &Gateway, method: &str, path: &str) -> RequestBuilder {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    gateway.client.request(method, gateway.url(path))
}

/// Sends a body as JSON.
fn with(request: RequestBuilder, kind: &str, body: impl Into<String>) -> RequestBuilder {
    request.header("content-type", kind).body(body.into())
}

async fn send(request: RequestBuilder) -> Response {
    request.send().await.expect("a reply")
}

async fn patch(gateway: &Gateway, path: &str, patch: Value) -> Response {
    let request = request(gateway, "PATCH", path);
    send(with(request, "application/merge-patch+json", patch.to_string())).await
}

async fn rev(reply: Response) -> u64 {
    assert_eq!(reply.status(), 200);
    let body: Value = reply.json().await.expect("JSON");
    body["rev"].as_u64().expect("a number")
}

async fn show(gateway: &Gateway, path: &str) -> Value {
    let reply = gateway.get(path).await;
    assert_eq!(reply.status(), 200);
    reply.json().await.expect("JSON")
}

/// The next change of a stream.
async fn change(stream: &mut Stream) -> Value {
    let event = stream.next().await;
    assert_eq!(event.kind, "tidegate.change");
    serde_json::from_str(&event.data).expect("JSON")
}

#[tokio::test]
async fn a_state_is_written_read_and_heard() {
    let gateway = Gateway::start();
    let empty = show(&gateway, ROOM).await;
    assert_eq!(
        (&empty["rev"], &empty["state"], &empty["members"]),
        (&json!(0), &json!({}), &json!({}))
    );
    assert_eq!(rev(patch(&gateway, ROOM, json!({"color":"red","at":{"x":1}})).await).await, 1);
    let shown = show(&gateway, ROOM).await;
    assert_eq!(shown["topic"], "/rooms/7");
    assert_eq!(shown["state"], json!({"color":"red","at":{"x":1}}));
    // A stream from the cursor has every later change, and no earlier one.
    let json_patch = request(&gateway, "PATCH", ROOM);
    let reply = send(with(json_patch, "application/json", r#"{"at":{"y":2},"color":null}"#)).await;
    assert_eq!(rev(reply).await, 2);
    let cursor = shown["cursor"].as_str().expect("text").replace('#', "%23");
    let path = format!("/events?topic=/rooms/7&last_event_id={cursor}");
    let mut stream = gateway.open(&path).await;
    assert_eq!(change(&mut stream).await, json!({"rev":2,"state":{"at":{"y":2},"color":null}}));
    let put = with(
        request(&gateway, "PUT", ROOM),
        "application/json",
        r#"{"at":{"y":2,"z":null},"n":[null]}"#,
    );
    assert_eq!(rev(send(put).await).await, 3);
    assert_eq!(change(&mut stream).await, json!({"rev":3,"state":{"at":{"x":null},"n":[null]}}));
    assert_eq!(rev(patch(&gateway, ROOM, json!({})).await).await, 3, "nothing was changed");
    assert_eq!(rev(send(request(&gateway, "DELETE", ROOM)).await).await, 4);
    assert_eq!(change(&mut stream).await, json!({"rev":4,"state":{"at":null,"n":null}}));
    // The next state of the topic goes on where this one ended.
    assert_eq!(rev(patch(&gateway, ROOM, json!({"a":1})).await).await, 5);
    assert_eq!(change(&mut stream).await, json!({"rev":5,"state":{"a":1}}));
    assert_eq!(gateway.metric("tidegate_state_documents").await, 1.0);
    assert_eq!(gateway.metric("tidegate_state_changes_total").await, 5.0);
    assert!(0.0 < gateway.metric("tidegate_state_bytes").await);
}

#[tokio::test]
async fn a_reader_revalidates_and_a_writer_names_the_revision() {
    let gateway = Gateway::start();
    let at = async |method, headers: &[(&str, &str)], body: &str| {
        let mut request = with(request(&gateway, method, ROOM), "application/json", body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send(request).await
    };
    let reply = at("PATCH", &[("if-match", "\"3\"")], r#"{"a":1}"#).await;
    let refused = problem(reply, 412).await;
    assert_eq!(refused["type"], "urn:tidegate:problem:state-changed");
    assert_eq!((&refused["rev"], &refused["state"]), (&json!(0), &json!({})));
    assert_eq!(rev(at("PUT", &[("if-none-match", "*")], r#"{"a":1}"#).await).await, 1);
    let refused = problem(at("PUT", &[("if-none-match", "*")], r#"{"a":2}"#).await, 412).await;
    assert_eq!((&refused["rev"], &refused["state"]), (&json!(1), &json!({"a":1})));
    assert_eq!(rev(at("PATCH", &[("if-match", "\"1\"")], r#"{"a":2}"#).await).await, 2);
    assert_eq!(rev(at("PATCH", &[("if-match", "W/\"2\"")], r#"{"a":3}"#).await).await, 3);
    problem(at("DELETE", &[("if-match", "\"2\"")], "").await, 412).await;
    for bad in ["*", "3", "\"3\", \"4\"", "\"-1\"", "\"x\""] {
        let refused = problem(at("DELETE", &[("if-match", bad)], "").await, 400).await;
        assert_eq!(refused["field"], "If-Match", "{bad}");
    }
    problem(at("DELETE", &[("if-none-match", "\"3\"")], "").await, 400).await;
    let reply = gateway.get(ROOM).await;
    let tag = reply.headers()["etag"].to_str().expect("text").to_owned();
    assert!(tag.starts_with("\"3.") && tag.ends_with('"'), "{tag}");
    assert_eq!(reply.headers()["cache-control"], "private, no-cache");
    let get = async |gateway: &Gateway, tag: &str| {
        send(request(gateway, "GET", ROOM).header("if-none-match", tag)).await
    };
    let known = get(&gateway, &tag).await;
    assert_eq!(known.status(), 304);
    assert_eq!(known.headers()["etag"], *tag);
    // A tag of another history names no revision of this one.
    let other = Gateway::start();
    for number in 1..=3 {
        rev(patch(&other, ROOM, json!({ "a": number })).await).await;
    }
    assert_eq!(get(&other, &tag).await.status(), 200);
    let foreign = request(&other, "DELETE", ROOM).header("if-match", &tag);
    problem(send(foreign).await, 412).await;
    assert_eq!(rev(at("DELETE", &[("if-match", &tag)], "").await).await, 4);
    assert_eq!(get(&gateway, &tag).await.status(), 200);
    let head = send(request(&gateway, "HEAD", ROOM)).await;
    assert!(head.headers()["etag"].to_str().expect("text").starts_with("\"4."));
    let methods = send(request(&gateway, "OPTIONS", "/state")).await;
    assert_eq!(methods.headers()["allow"], "GET, HEAD, PATCH, PUT, DELETE, OPTIONS");
    problem(send(request(&gateway, "POST", ROOM)).await, 405).await;
}

#[tokio::test]
async fn a_repeated_change_is_made_once() {
    let gateway = Gateway::durable(&[]);
    let add = async |gateway: &Gateway, key: &str, method: &str, body: &str| {
        let request = with(request(gateway, method, ROOM), "application/json", body);
        send(request.header("idempotency-key", key)).await
    };
    assert_eq!(rev(add(&gateway, "1", "PATCH", r#"{"a":1}"#).await).await, 1);
    assert_eq!(rev(add(&gateway, "2", "PATCH", r#"{"a":2}"#).await).await, 2);
    assert_eq!(rev(add(&gateway, "1", "PATCH", r#"{"a":1}"#).await).await, 1);
    problem(add(&gateway, "1", "PATCH", r#"{"a":3}"#).await, 422).await;
    problem(add(&gateway, "1", "PUT", r#"{"a":1}"#).await, 422).await;
    // A change that was refused used no key up.
    problem(add(&gateway, "3", "PATCH", "[]").await, 400).await;
    assert_eq!(rev(add(&gateway, "3", "PATCH", r#"{"b":1}"#).await).await, 3);
    let gateway = gateway.crash(&[]);
    assert_eq!(rev(add(&gateway, "2", "PATCH", r#"{"a":2}"#).await).await, 2);
    let shown = show(&gateway, ROOM).await;
    assert_eq!((&shown["rev"], &shown["state"]), (&json!(3), &json!({"a":2,"b":1})));
}

#[tokio::test]
async fn limits_are_named_with_their_settings() {
    let gateway = Gateway::with(&[
        ("STATE__PATCH_BYTES", "60B"),
        ("STATE__DOCUMENT_BYTES", "100B"),
        ("STATE__NAMES", "3"),
        ("STATE__DEPTH", "3"),
        ("STATE__NAME_BYTES", "8B"),
        ("STATE__DOCUMENTS", "2"),
        ("STATE__BYTES", "4KiB"),
    ]);
    let text = "x".repeat(40);
    let refused = async |method: &str, path: &str, body: &Value, status: u16| {
        let request = with(request(&gateway, method, path), "application/json", body.to_string());
        problem(send(request).await, status).await
    };
    assert_eq!(rev(patch(&gateway, ROOM, json!({"a":text})).await).await, 1);
    for (method, body, status, setting, limit) in [
        ("PATCH", json!({"a":"x".repeat(60)}), 413, "state.patch_bytes", 60),
        ("PATCH", json!({"b":"x".repeat(49)}), 413, "state.document_bytes", 100),
        ("PUT", json!({"b":"x".repeat(100)}), 413, "state.document_bytes", 100),
        ("PATCH", json!({"b":1,"c":2,"d":3}), 400, "state.names", 3),
        ("PATCH", json!({"b":[[[1]]]}), 400, "state.depth", 3),
        ("PUT", json!({"b":{"c":{"d":{}}}}), 400, "state.depth", 3),
        ("PATCH", json!({"b":[{"123456789":1}]}), 400, "state.name_bytes", 8),
    ] {
        let refused = refused(method, ROOM, &body, status).await;
        let detail = refused["detail"].as_str().expect("text");
        assert!(detail.contains(setting), "{detail}");
        assert_eq!(refused["limit"], limit, "{detail}");
    }
    rev(patch(&gateway, "/state?topic=/rooms/8", json!({"a":1})).await).await;
    let full = refused("PATCH", "/state?topic=/rooms/9", &json!({"a":1}), 503).await;
    assert_eq!(
        (&full["type"], &full["limit"]),
        (&json!("urn:tidegate:problem:state-full"), &json!(2))
    );
    assert!(full["detail"].as_str().expect("text").contains("state.documents"));
    assert_eq!(show(&gateway, ROOM).await["rev"], 1, "nothing was changed");
    send(request(&gateway, "DELETE", "/state?topic=/rooms/8")).await;
    rev(patch(&gateway, "/state?topic=/rooms/9", json!({"a":1})).await).await;
}

#[tokio::test]
async fn the_memory_of_all_is_limited_and_given_back() {
    let gateway = Gateway::with(&[("STATE__BYTES", "40KiB")]);
    let path = |room: usize| format!("/state?topic=/rooms/{room}");
    let text = json!({ "a": "x".repeat(10_000) });
    for room in 0..3 {
        rev(patch(&gateway, &path(room), text.clone()).await).await;
    }
    let full = problem(patch(&gateway, &path(3), text.clone()).await, 503).await;
    let detail = full["detail"].as_str().expect("text");
    assert!(detail.contains("state.bytes") && full["limit"] == 40 << 10, "{detail}");
    for room in 0..3 {
        rev(send(request(&gateway, "DELETE", &path(room))).await).await;
    }
    assert_eq!(gateway.metric("tidegate_state_bytes").await, 0.0);
    rev(patch(&gateway, &path(3), text).await).await;
}

#[tokio::test]
async fn bad_requests_are_refused_with_the_field_named() {
    let gateway = Gateway::start();
    let long = format!("/state?topic={}", "x".repeat(4097));
    for (path, field) in [
        ("/state", "topic"),
        ("/state?topic=*", "topic"),
        ("/state?topic=/jobs/1", "topic"),
        ("/state?topic=/.well-known/mercure/clients/x", "topic"),
        ("/state?topic=", "topic"),
        ("/state?topic=a%0Ab", "topic"),
        ("/state?topic=%ff", "topic"),
        (&long, "topic"),
        ("/state?topic=t&members=all", "members"),
        ("/state?topic=t&members=page&limit=0", "limit"),
        ("/state?topic=t&members=page&limit=1001", "limit"),
        ("/state?topic=t&members=page&after=x", "after"),
    ] {
        assert_eq!(problem(gateway.get(path).await, 400).await["field"], field, "{path}");
        if field == "topic" {
            let refused = problem(patch(&gateway, path, json!({"a":1})).await, 400).await;
            assert_eq!(refused["field"], field, "{path}");
        }
    }
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "application/json;charset=latin1"]
    {
        problem(send(with(request(&gateway, "PATCH", ROOM), kind, "{}")).await, 415).await;
        problem(send(with(request(&gateway, "PUT", ROOM), kind, "{}")).await, 415).await;
    }
    let merge_patch = with(request(&gateway, "PUT", ROOM), "application/merge-patch+json", "{}");
    problem(send(merge_patch).await, 415).await;
    // The type of a change is the gateway's own.
    for body in [
        json!({"topics":["/rooms/7"],"type":"tidegate.change","data":"{\"rev\":1}"}),
        json!([{"topics":["/rooms/7"],"type":"tidegate.x"}]),
    ] {
        problem(gateway.post_json(body.to_string()).await, 400).await;
    }
    let form = [("topic", "/rooms/7"), ("type", "tidegate.change"), ("data", "{}")];
    problem(gateway.post(&form).await, 400).await;
    problem(gateway.post_to_hub(&form).await, 400).await;
}

#[tokio::test]
async fn hostile_json_is_data_or_refused() {
    let gateway = Gateway::start();
    let body = async |body: String| {
        send(with(request(&gateway, "PATCH", ROOM), "application/json", body)).await
    };
    let nested = |open: &str, close: &str, levels: usize| {
        format!("{{\"a\":{}{}}}", open.repeat(levels), close.repeat(levels))
    };
    for bad in [
        "".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        "{\"a\":1} x".to_owned(),
        "{\"a\":1,}".to_owned(),
        "{\"a\":NaN}".to_owned(),
        "{\"a\":1e999}".to_owned(),
        "{\"a\":\"\\ud800\"}".to_owned(),
        "{\"\\udc00\":1}".to_owned(),
        "\u{feff}{}".to_owned(),
        nested("[", "]", 16),
        nested("{\"a\":", "}", 2000),
        nested("[", "", 8000),
    ] {
        problem(body(bad).await, 400).await;
    }
    let not_utf8 = request(&gateway, "PATCH", ROOM).header("content-type", "application/json");
    problem(send(not_utf8.body(&b"{\"a\":\"\xff\"}"[..])).await, 400).await;
    let wide: serde_json::Map<String, Value> =
        (0..1001).map(|it| (format!("{it}"), json!(1))).collect();
    problem(patch(&gateway, ROOM, wide.into()).await, 400).await;
    assert_eq!(show(&gateway, ROOM).await["rev"], 0);
    // The last of two names counts. Nothing is special about these names and texts.
    let text = r#"{"a":1,"a":2,"__proto__":{"x":"</script><!--\u2028"},"constructor":null,"😀":"\ud83d\ude00","n":31.245270191439438}"#;
    assert_eq!(rev(body(text.to_owned()).await).await, 1);
    let expected = json!({
        "a": 2, "__proto__": { "x": "</script><!--\u{2028}" }, "😀": "😀", "n": 31.245270191439438,
    });
    let reply = gateway.get(ROOM).await.text().await.expect("text");
    assert!(!reply.contains('<') && !reply.contains('\u{2028}'), "{reply}");
    let shown: Value = serde_json::from_str(&reply).expect("JSON");
    assert_eq!(shown["state"], expected);
    let mut all = gateway.open("/events?topic=/rooms/7&last_event_id=earliest").await;
    let told = change(&mut all).await;
    assert_eq!(told["state"]["__proto__"], expected["__proto__"]);
    let frame = gateway.get("/iframe?topic=/rooms/7&callback=f&last_event_id=earliest").await;
    let mut frame = frame;
    let mut document = String::new();
    while !document.contains("31.245270191439438") {
        let chunk = frame.chunk().await.expect("readable").expect("no end");
        document += &String::from_utf8_lossy(&chunk);
    }
    assert!(!document.contains("</script><!--"), "{document}");
}

#[tokio::test]
async fn reading_needs_what_subscribing_needs_and_writing_a_grant() {
    let gateway = guarded(&[("AUTH__ANONYMOUS", "false")]);
    let token = modern_publisher(&[("exact", "/rooms/7")]);
    let as_publisher = |method: &str, path: &str| {
        let request = request(&gateway, method, path).bearer_auth(&token);
        with(request, "application/json", r#"{"a":1}"#)
    };
    problem(gateway.get(ROOM).await, 401).await;
    // A stranger learns nothing of its mistakes.
    problem(gateway.get("/state?topic=*").await, 401).await;
    problem(patch(&gateway, ROOM, json!({"a":1})).await, 401).await;
    problem(send(request(&gateway, "DELETE", ROOM)).await, 401).await;
    assert_eq!(rev(send(as_publisher("PATCH", ROOM)).await).await, 1);
    for method in ["PATCH", "PUT", "DELETE"] {
        problem(send(as_publisher(method, "/state?topic=/rooms/8")).await, 403).await;
    }
    let reader = modern_subscriber(&[("exact", "/rooms/7")]);
    assert_eq!(gateway.get_as(&reader, ROOM).await.status(), 200);
    let writes = request(&gateway, "PATCH", ROOM).bearer_auth(&reader);
    let reply = send(with(writes, "application/json", "{}")).await;
    assert!([401, 403].contains(&reply.status().as_u16()));
    // A body that is too long for its sender is not read.
    let long = "x".repeat(1 << 20);
    let unread = with(request(&gateway, "PATCH", ROOM), "application/json", long);
    problem(send(unread).await, 401).await;
    let open = guarded(&[("AUTH__ANONYMOUS", "true")]);
    assert_eq!(open.get(ROOM).await.status(), 200);
}

#[tokio::test]
async fn pages_of_other_origins_do_what_they_may() {
    let gateway = Gateway::with(&[("CORS__ORIGINS", "https://a.example")]);
    let asks = request(&gateway, "OPTIONS", ROOM)
        .header("origin", "https://a.example")
        .header("access-control-request-method", "PATCH")
        .header("access-control-request-headers", "content-type,if-match");
    let reply = send(asks).await;
    assert_eq!(reply.status(), 200);
    let methods =
        reply.headers()["access-control-allow-methods"].to_str().expect("text").to_owned();
    assert!(["PATCH", "PUT", "DELETE"].iter().all(|it| methods.contains(it)), "{methods}");
    for method in ["PATCH", "PUT", "DELETE"] {
        let foreign = request(&gateway, method, ROOM).header("origin", "https://b.example");
        problem(send(with(foreign, "application/json", "{}")).await, 403).await;
    }
    let known = request(&gateway, "PATCH", ROOM).header("origin", "https://a.example");
    let reply = send(with(known, "application/json", r#"{"a":1}"#)).await;
    assert_eq!(reply.headers()["access-control-allow-origin"], "https://a.example");
    assert_eq!(rev(reply).await, 1);
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    for (key, value, said) in [
        ("STATE__DEPTH", "101", "state.depth is more than 100"),
        ("STATE__DEPTH", "0", "state.depth is 0"),
        ("STATE__NAME_BYTES", "5KiB", "state.name_bytes is more than 4096"),
        ("STATE__PATCH_BYTES", "0B", "state.patch_bytes is 0"),
        ("MEMBERS__INTERVAL", "1000h", "members.interval is longer than 24 days"),
    ] {
        let directory = crate::support::directory();
        let mut command = crate::support::command(&directory, &[(key, value)]);
        let output = command.stderr(std::process::Stdio::piped()).arg("check").output();
        let output = output.expect("it ends");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(said), "{key}: {text}");
    }
}

/// Changes one name of a room again and again, each time until it is acknowledged. Returns the
/// acknowledged revisions and values.
async fn count(
    url: String,
    name: usize,
    is_over: Arc<AtomicBool>,
    n_acknowledged: Arc<AtomicUsize>,
) -> Vec<(u64, usize)> {
    let client = Client::builder().pool_idle_timeout(Duration::from_millis(1));
    let client = client.build().expect("an HTTP client");
    let mut acknowledged = Vec::new();
    for value in 0.. {
        while !is_over.load(Relaxed) {
            let request = client.patch(&url).header("idempotency-key", format!("{name} {value}"));
            let body = json!({ format!("n{name}"): value });
            if let Ok(reply) = request.json(&body).send().await
                && reply.status() == 200
                && let Ok(reply) = reply.json::<Value>().await
            {
                acknowledged.push((reply["rev"].as_u64().expect("a number"), value));
                n_acknowledged.fetch_add(1, Relaxed);
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if is_over.load(Relaxed) {
            break;
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_killed_has_every_acknowledged_change_and_tells_none_twice() {
    const WRITERS: usize = 4;
    const ROUNDS: usize = 8;
    /// Changes that are acknowledged between two crashes, at least.
    const EACH: usize = 20;
    let address = format!("127.0.0.1:{}", free_port());
    let mut gateway = Gateway::durable(&[("SERVER__LISTEN", &address)]);
    let is_over = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let url = format!("http://{address}{ROOM}");
    let writers: Vec<_> = (0..WRITERS)
        .map(|name| tokio::spawn(count(url.clone(), name, is_over.clone(), done.clone())))
        .collect();
    for round in 1..=ROUNDS {
        eventually("changes", async || round * EACH <= done.load(Relaxed)).await;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..100))).await;
        let address = address.clone();
        let again = move || gateway.crash(&[("SERVER__LISTEN", &address)]);
        gateway = tokio::task::spawn_blocking(again).await.expect("it starts again");
    }
    eventually("more changes", async || (ROUNDS + 1) * EACH <= done.load(Relaxed)).await;
    is_over.store(true, Relaxed);
    let mut acknowledged = BTreeMap::new();
    for (name, writer) in writers.into_iter().enumerate() {
        for (rev, value) in writer.await.expect("no panic") {
            let before = acknowledged.insert(rev, (name, value));
            assert_eq!(before, None, "revision {rev} was given out twice");
        }
    }
    let shown = show(&gateway, ROOM).await;
    let last = shown["rev"].as_u64().expect("a number");
    let mut stream = gateway.open("/events?topic=/rooms/7&last_event_id=earliest").await;
    let mut state = serde_json::Map::new();
    for rev in 1..=last {
        let told = change(&mut stream).await;
        assert_eq!(told["rev"], rev, "no hole and no repetition");
        let patch = told["state"].as_object().expect("an object");
        if let Some((name, value)) = acknowledged.remove(&rev) {
            assert_eq!(told["state"], json!({ format!("n{name}"): value }));
        }
        state.extend(patch.clone());
    }
    assert!(acknowledged.is_empty(), "lost: {acknowledged:?}");
    assert_eq!(shown["state"], Value::from(state));
    gateway.kill();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_idle_gateway_with_state_takes_no_processor_time() {
    let gateway = Gateway::durable(&[]);
    for room in 0..50 {
        let path = format!("/state?topic=/rooms/{room}");
        rev(patch(&gateway, &path, json!({"a":1})).await).await;
    }
    let wakes = || {
        let tasks = format!("/proc/{}/task", gateway.process.id());
        let tasks = std::fs::read_dir(tasks).expect("threads").filter_map(Result::ok);
        let of_state = tasks.filter(|it| {
            let name = std::fs::read_to_string(it.path().join("comm")).unwrap_or_default();
            name.trim() == "tidegate-state"
        });
        let switches = |it: std::fs::DirEntry| {
            let status = std::fs::read_to_string(it.path().join("status")).expect("a status");
            let line = status.lines().find(|it| it.starts_with("voluntary_ctxt")).expect("it");
            line.rsplit('\t').next().expect("a number").parse::<u64>().expect("a number")
        };
        let found: Vec<u64> = of_state.map(switches).collect();
        assert_eq!(found.len(), 1, "one thread writes");
        found[0]
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = wakes();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(wakes(), before, "the writer does not wake");
}
