//! The application behind a gateway: handlers, guards, and what it does when clients come and go.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tidegate::{
    app::{App, Ask, Callback, Client},
    gateway::Gateway,
    jobs::{JobHandle, JobResult},
    problem::Problem,
    server::Server,
    settings::{HistorySettings, ServerSettings, Settings},
};

use crate::support::sse::Stream;

const ANN: &str = "ann-key-0123456789abcdef";
const BOB: &str = "bob-key-0123456789abcdef";

/// Serves an application on a thread of its own.
fn serve(app: App) -> (Gateway, String) {
    let address: SocketAddr =
        format!("127.0.0.1:{}", tidegate_testkit::ports::free_port()).parse().expect("an address");
    let mut settings = Settings {
        server: ServerSettings { listen: vec![address], ..ServerSettings::default() },
        history: HistorySettings::in_memory(),
        ..Settings::default()
    };
    settings.clients.grace = Duration::from_millis(300);
    let gateway = Gateway::start_with(settings, app).expect("a gateway");
    let serving = gateway.clone();
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            Server::bind(serving).expect("a free port").run(|_| {}).await.expect("it runs");
        });
    });
    (gateway, format!("http://{address}"))
}

async fn act(url: &str, key: &str, action: Value) -> Value {
    let client = tidegate_testkit::gateway::client();
    let body = json!({ "client": key, "do": [action] });
    for _ in 0..100 {
        if let Ok(reply) = client.post(format!("{url}/client")).json(&body).send().await {
            let reply: Value = reply.json().await.expect("JSON");
            return reply.pointer("/did/0").cloned().unwrap_or(reply);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the gateway does not listen");
}

async fn stream(url: &str, key: &str) -> Stream {
    act(url, key, json!({ "leave": "/nothing" })).await;
    let client = tidegate_testkit::gateway::client();
    let address = format!("{url}/events?client={key}&hello=event");
    let mut stream = Stream::open(client.get(address)).await;
    assert_eq!(stream.next().await.kind, "tidegate.hello");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_answered_by_handlers_and_jobs() {
    let app = App::new()
        .call("add", |_: Client, (a, b): (i64, i64)| async move {
            a.checked_add(b).ok_or_else(|| Problem::field("data", "the sum is too large"))
        })
        .call("panic", |_: Client, (): ()| async move {
            if true {
                panic!("a handler that panics");
            }
            Ok(())
        })
        .call("count", |who: Client, (): ()| async move {
            Ok(who.local::<AtomicUsize>().fetch_add(1, Relaxed))
        })
        .call("sayHi", |_: Client, (reply,): (Callback,)| async move { reply.call(&["hi"]).await })
        .job("double", |_: Client, number: i64, job: JobHandle| async move {
            job.log("working\n").await.ok();
            JobResult::inline(&(2 * number)).map_err(|error| Problem::internal(error.to_string()))
        })
        .job("sleep", |_: Client, (): (), _: JobHandle| async move {
            tokio::time::sleep(Duration::from_secs(30)).await;
            JobResult::inline(&()).map_err(|error| Problem::internal(error.to_string()))
        });
    let (_gateway, url) = serve(app);
    let call = |name: &str, data: Value| json!({ "call": name, "data": data, "wait": 5 });
    assert_eq!(act(&url, ANN, call("add", json!([1, 2]))).await["data"], 3);
    let refused = act(&url, ANN, call("add", json!([i64::MAX, 1]))).await;
    assert_eq!(refused["problem"]["detail"], "the sum is too large");
    assert_eq!(act(&url, ANN, call("add", json!("x"))).await["problem"]["status"], 400);
    assert_eq!(act(&url, ANN, call("none", json!(1))).await["problem"]["status"], 404);
    let panicked = act(&url, ANN, call("panic", json!(null))).await;
    assert_eq!(panicked["problem"]["status"], 500);
    assert!(!panicked.to_string().contains("panics"), "{panicked}");
    assert_eq!(act(&url, ANN, call("count", json!(null))).await["data"], 0);
    assert_eq!(act(&url, ANN, call("count", json!(null))).await["data"], 1);
    assert_eq!(act(&url, BOB, call("count", json!(null))).await["data"], 0, "another client's own");
    let done = act(&url, ANN, call("double", json!(21))).await;
    assert_eq!(done["data"], 42, "{done}");
    let goes_on = json!({ "call": "sleep", "data": null, "wait": 0 });
    let goes_on = act(&url, ANN, goes_on).await;
    assert!(goes_on["job"].as_str().is_some_and(|it| it.starts_with("/jobs/")), "{goes_on}");
    let mut ann = stream(&url, ANN).await;
    act(&url, ANN, call("sayHi", json!([{ "callback": "C1" }]))).await;
    let called = ann.next().await;
    assert_eq!(called.kind, "tidegate.callback");
    assert_eq!(
        serde_json::from_str::<Value>(&called.data).expect("JSON"),
        json!({ "callback": "C1", "data": ["hi"] })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn guards_change_and_refuse_and_visits_are_told() {
    let gone: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = gone.clone();
    let app = App::new()
        .guard("/rooms/:id", |_: Client, ask: Ask| async move {
            match ask {
                Ask::Send { topic, kind, data } if data == json!("clean") => {
                    Ok(Ask::Send { topic, kind, data: json!("cleaned") })
                }
                Ask::Send { data, .. } if data == json!("bad") => {
                    Err(Problem::conflict("bad words"))
                }
                ask => Ok(ask),
            }
        })
        .on_connect(|who: Client| async move {
            who.set(json!({ "greeting": "hi" })).await?;
            who.join("/rooms/lobby").await
        })
        .on_disconnect(move |who: Client| {
            let log = log.clone();
            async move {
                log.lock().expect("no panic").push(who.id());
                Ok(())
            }
        });
    let (gateway, url) = serve(app);
    let mut ann = stream(&url, ANN).await;
    let id = gateway.topic("/rooms/lobby").clients().expect("a topic")[0].id();
    let who = gateway.client(&id).expect("a client");
    assert_eq!(
        (who.state(), who.topics()),
        (json!({ "greeting": "hi" }), vec!["/rooms/lobby".into()])
    );
    let send = |data: &str| json!({ "send": "/rooms/lobby", "data": data });
    assert_eq!(act(&url, ANN, send("bad")).await["problem"]["detail"], "bad words");
    act(&url, ANN, send("clean")).await;
    let next = async |ann: &mut Stream, kind: &str| loop {
        let event = ann.next().await;
        if event.kind == kind {
            return event.data;
        }
    };
    assert_eq!(next(&mut ann, "message").await, "\"cleaned\"");
    let room = gateway.topic("/rooms/7");
    who.join_as("/rooms/7", &json!({ "n": 1 })).await.expect("joined");
    next(&mut ann, "tidegate.joined").await;
    assert_eq!(
        room.set(json!({ "color": "red" })).await.expect("set"),
        room.rev().expect("a topic")
    );
    assert_eq!(room.state().expect("a topic"), json!({ "color": "red" }));
    for _ in 0..50 {
        if room.count().expect("a topic") == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(room.members().expect("a topic")[&id]["data"], json!({ "n": 1 }));
    assert!(room.set_if(json!({ "x": 1 }), 0).await.is_err(), "there is a state");
    room.except(&who).send("quiet", &1).await.expect("sent");
    gateway.topic("/rooms/7").send("loud", &2).await.expect("sent");
    loop {
        let event = ann.next().await;
        assert_ne!(event.kind, "quiet");
        if event.kind == "loud" {
            break;
        }
    }
    let late = who.call("whatTime", &(), Duration::from_millis(50)).await.expect_err("no reply");
    assert!(late.to_string().contains("not replied"), "{late}");
    drop(ann);
    for _ in 0..200 {
        if !gone.lock().expect("no panic").is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(*gone.lock().expect("no panic"), [id]);
}
