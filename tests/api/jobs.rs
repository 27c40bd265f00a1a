use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Gateway, problem, raw::Raw, sse::Stream, text_at};

impl Gateway {
    pub fn post_to(&self, path: &str, body: &Value) -> RequestBuilder {
        let request = self.client.post(self.url(path)).header("content-type", "application/json");
        request.body(body.to_string())
    }

    /// Creates a job and returns its id.
    pub async fn create(&self, job: Value) -> String {
        let reply = self.post_to("/jobs", &job).send().await.expect("a reply");
        assert_eq!(reply.status(), 202);
        let location = reply.headers()["location"].to_str().expect("text").to_owned();
        let document: Value = reply.json().await.expect("JSON");
        assert_eq!(location, format!("/jobs/{}", text_at(&document, "/id")));
        text_at(&document, "/id")
    }

    /// Claims a job of a type.
    pub async fn claim(&self, kind: &str, wait: u64) -> Option<(String, String)> {
        let claim = json!({ "types": [kind], "wait": wait });
        let reply = self.post_to("/jobs/claim", &claim).send().await.expect("a reply");
        if reply.status() == 204 {
            return None;
        }
        let claimed: Value = reply.json().await.expect("JSON");
        Some((text_at(&claimed, "/job/id"), text_at(&claimed, "/lease")))
    }

    /// Sends a worker's report.
    pub async fn tell(&self, id: &str, lease: &str, what: &str, body: Value) -> Response {
        let request = self.post_to(&format!("/jobs/{id}/{what}"), &body);
        request.header("tidegate-lease", lease).send().await.expect("a reply")
    }

    pub async fn append(&self, id: &str, lease: &str, offset: u64, text: &str) -> Response {
        let request = self.client.post(self.url(&format!("/jobs/{id}/log")));
        let range = format!("bytes {offset}-{}/*", offset + text.len() as u64 - 1);
        let request = request.header("content-range", range).header("tidegate-lease", lease);
        request.body(text.to_owned()).send().await.expect("a reply")
    }

    pub async fn status(&self, id: &str) -> Value {
        self.get(&format!("/jobs/{id}")).await.json().await.expect("JSON")
    }

    pub async fn ask(&self, id: &str, what: &str) -> Response {
        self.client.post(self.url(&format!("/jobs/{id}/{what}"))).send().await.expect("a reply")
    }

    pub async fn until_state(&self, id: &str, state: &str) -> Value {
        let reached = async {
            loop {
                let status = self.status(id).await;
                if status["state"] == state {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(crate::support::DEADLINE, reached).await.expect("the state in time")
    }

    pub async fn watch(&self, id: &str) -> Stream {
        let request = self.client.get(self.url(&format!("/jobs/{id}")));
        Stream::open(request.header("accept", "text/event-stream")).await
    }
}

/// Short leases and no waits, so that tests see them expire.
fn impatient() -> Gateway {
    Gateway::with(&[
        ("JOBS__LEASE", "400ms"),
        ("JOBS__BACKOFF", "1ms"),
        ("JOBS__MAX_ATTEMPTS", "2"),
    ])
}

#[tokio::test]
async fn a_job_goes_from_its_creator_to_a_worker_and_its_result_back() {
    let gateway = Gateway::start();
    let id = gateway
        .create(json!({ "type": "clone", "title": "Clone it", "payload": { "a": 1 } }))
        .await;
    let status = gateway.status(&id).await;
    assert_eq!(status["state"], "queued");
    for time in ["created_at", "now"] {
        let time = text_at(&status, &format!("/{time}"));
        assert_eq!(time.len(), "2026-01-01T00:00:00.000Z".len(), "milliseconds like events");
        time.parse::<jiff::Timestamp>().expect("RFC 3339");
    }
    problem(gateway.get(&format!("/jobs/{id}/result")).await, 409).await;
    let claim = json!({ "types": ["other", "clone"] });
    let reply = gateway.post_to("/jobs/claim", &claim).send().await.expect("a reply");
    let claimed: Value = reply.json().await.expect("JSON");
    assert_eq!(claimed["job"]["payload"], json!({ "a": 1 }));
    assert_eq!(claimed["job"]["attempt"], 1);
    let lease = text_at(&claimed, "/lease");
    let report = json!({ "seq": 1, "done": 1, "total": 4, "stage": "reading", "message": "m" });
    let reply: Value =
        gateway.tell(&id, &lease, "progress", report).await.json().await.expect("JSON");
    assert_eq!((&reply["cancel"], &reply["state"]), (&json!(false), &json!("running")));
    assert_eq!(gateway.append(&id, &lease, 0, "line\n").await.status(), 200);
    let status = gateway.status(&id).await;
    assert_eq!(status["progress"]["percent"], 25.0);
    assert_eq!(
        (&status["progress"]["stage"], &status["log"]["length"]),
        (&json!("reading"), &json!(5))
    );
    let end = json!({ "result": { "files": 3 } });
    for _ in 0..2 {
        let reply = gateway.tell(&id, &lease, "complete", end.clone()).await;
        assert_eq!(reply.status(), 200, "a repetition is no mistake");
    }
    problem(gateway.tell(&id, &lease, "complete", json!({ "result": 2 })).await, 409).await;
    problem(gateway.tell(&id, &lease, "fail", json!({})).await, 409).await;
    assert_eq!(
        gateway.get(&format!("/jobs/{id}/result")).await.text().await.expect("text"),
        r#"{"files":3}"#
    );
    assert_eq!(
        gateway.get(&format!("/jobs/{id}/log?from=2")).await.text().await.expect("text"),
        "ne\n"
    );
    assert_eq!(gateway.status(&id).await["state"], "succeeded");
}

#[tokio::test]
async fn watchers_see_every_state_and_the_newest_progress_and_are_sent_home_at_the_end() {
    let gateway = Gateway::start();
    let id = gateway.create(json!({ "type": "t" })).await;
    let mut watcher = gateway.watch(&id).await;
    let (_, lease) = gateway.claim("t", 0).await.expect("a job");
    for seq in 1..=50 {
        let report = json!({ "seq": seq, "done": seq, "total": 50 });
        assert_eq!(gateway.tell(&id, &lease, "progress", report).await.status(), 200);
    }
    let mut seen = Vec::new();
    let mut percent = -1.0;
    while percent < 100.0 {
        let event = watcher.next().await;
        let status: Value = serde_json::from_str(&event.data).expect("JSON");
        let now = status["progress"]["percent"].as_f64().unwrap_or(0.0);
        assert!(percent <= now || percent < 0.0, "never back");
        percent = now;
        seen.push(event.kind);
    }
    assert!(
        seen.starts_with(&["job.state".into(), "job.state".into(), "job.progress".into()]),
        "{seen:?}"
    );
    assert!(seen.len() < 40, "coalesced: {}", seen.len());
    assert_eq!(gateway.append(&id, &lease, 0, "bye\n").await.status(), 200);
    gateway.tell(&id, &lease, "complete", json!({})).await;
    let log = watcher.next().await;
    assert_eq!(
        (log.kind.as_str(), log.data.as_str()),
        ("job.log", r#"{"offset":0,"text":"bye\n"}"#)
    );
    assert_eq!(watcher.next().await.kind, "job.done");
    assert_eq!(watcher.next_or_end().await, None);
    let mut late = gateway.watch(&id).await;
    assert_eq!(late.next().await.kind, "job.done");
    assert_eq!(late.next_or_end().await, None);
    let again = gateway.client.get(gateway.url(&format!("/jobs/{id}")));
    let again =
        again.header("accept", "text/event-stream").header("last-event-id", "x").send().await;
    assert_eq!(again.expect("a reply").status(), 204);
}

#[tokio::test]
async fn every_transport_carries_a_job_and_a_wildcard_does_not() {
    let gateway = Gateway::start();
    let id = gateway.create(json!({ "type": "t" })).await;
    let mut everything = gateway.open("/events?topic=*").await;
    let mut exact = gateway.open(&format!("/events?topic=/jobs/{id}")).await;
    gateway.claim("t", 0).await.expect("a job");
    assert_eq!(exact.next().await.kind, "job.state");
    let polled = gateway.poll(&format!("/poll?topic=/jobs/{id}&last=5")).await;
    assert_eq!(polled["events"].as_array().expect("a list").len(), 2);
    gateway.publish("t", "x").await;
    assert_eq!(everything.next().await.data, "x");
    problem(gateway.post(&[("topic", &format!("/jobs/{id}")), ("data", "forged")]).await, 400)
        .await;
}

#[tokio::test]
async fn creation_is_idempotent_by_key() {
    let gateway = Gateway::start();
    let job = json!({ "type": "t", "payload": 1 });
    let create = |job: &Value| gateway.post_to("/jobs", job).header("idempotency-key", "k").send();
    let first: Value = create(&job).await.expect("a reply").json().await.expect("JSON");
    let again = create(&job).await.expect("a reply");
    assert_eq!(again.status(), 202);
    assert_eq!(again.json::<Value>().await.expect("JSON")["id"], first["id"]);
    problem(create(&json!({ "type": "t", "payload": 2 })).await.expect("a reply"), 422).await;

    let keyed = json!({ "type": "t", "key": "one at a time" });
    let (one, other) = (gateway.create(keyed.clone()).await, gateway.create(keyed.clone()).await);
    assert_eq!(one, other);
    let another_type = gateway.create(json!({ "type": "u", "key": "one at a time" })).await;
    assert_ne!(one, another_type);
    gateway.ask(&one, "cancel").await;
    let next = gateway.create(keyed).await;
    assert_ne!(next, one, "that one has ended");
    problem(gateway.ask(&one, "retry").await, 409).await;
    gateway.ask(&next, "cancel").await;
    assert_eq!(gateway.ask(&one, "retry").await.status(), 200, "no other worker has the key now");
}

#[tokio::test]
async fn prefer_wait_answers_with_the_end_if_it_comes_in_time() {
    let gateway = Arc::new(Gateway::start());
    let worker = {
        let gateway = gateway.clone();
        tokio::spawn(async move {
            let (id, lease) = gateway.claim("t", 20).await.expect("a job");
            gateway.tell(&id, &lease, "complete", json!({ "result": 7 })).await;
        })
    };
    let request = gateway.post_to("/jobs", &json!({ "type": "t" })).header("prefer", "wait=20");
    let reply = request.send().await.expect("a reply");
    assert_eq!(reply.text().await.expect("the result, after a redirection"), "7");
    worker.await.expect("it works");
    let request = gateway.post_to("/jobs", &json!({ "type": "t" })).header("prefer", "wait=0");
    assert_eq!(request.send().await.expect("a reply").status(), 202);
}

#[tokio::test]
async fn a_tag_waits_for_something_new() {
    let gateway = Arc::new(Gateway::start());
    let id = gateway.create(json!({ "type": "t" })).await;
    let reply = gateway.get(&format!("/jobs/{id}")).await;
    assert!(reply.headers().contains_key("retry-after"));
    let tag = reply.headers()["etag"].clone();
    let get = |wait: &str| {
        let request = gateway.client.get(gateway.url(&format!("/jobs/{id}")));
        request.header("if-none-match", &tag).header("prefer", wait.to_owned()).send()
    };
    assert_eq!(get("wait=0").await.expect("a reply").status(), 304);
    let waiting = tokio::spawn(get("wait=20"));
    gateway.claim("t", 0).await.expect("a job");
    let reply = waiting.await.expect("a reply").expect("a reply");
    assert_eq!(reply.json::<Value>().await.expect("JSON")["state"], "running");
}

#[tokio::test]
async fn a_silent_worker_loses_its_job_and_the_last_attempt_is_lost() {
    let gateway = impatient();
    let id = gateway.create(json!({ "type": "t" })).await;
    let (_, first) = gateway.claim("t", 0).await.expect("a job");
    let (again, second) = gateway.claim("t", 20).await.expect("the job once more");
    assert_eq!(again, id);
    for (what, body) in
        [("progress", json!({ "seq": 1 })), ("complete", json!({})), ("fail", json!({}))]
    {
        let document = problem(gateway.tell(&id, &first, what, body).await, 409).await;
        assert!(text_at(&document, "/type").ends_with("stale-lease"), "{document}");
    }
    problem(gateway.append(&id, &first, 0, "x").await, 409).await;
    assert_eq!(gateway.status(&id).await["attempt"], 2);
    let lost = gateway.until_state(&id, "lost").await;
    assert_eq!(lost["attempt"], 2);
    problem(gateway.tell(&id, &second, "complete", json!({})).await, 409).await;
    assert_eq!(gateway.metric("tidegate_jobs_lost_leases_total{type=\"t\"}").await, 2.0);
    assert_eq!(gateway.ask(&id, "retry").await.status(), 200);
    assert_eq!(gateway.claim("t", 5).await.expect("the job once more").0, id);
}

#[tokio::test]
async fn reports_extend_a_lease_and_repetitions_do_too() {
    let gateway = impatient();
    let id = gateway.create(json!({ "type": "t" })).await;
    let (_, lease) = gateway.claim("t", 0).await.expect("a job");
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(1500) {
        let reply = gateway.tell(&id, &lease, "progress", json!({ "seq": 1 })).await;
        assert_eq!(reply.status(), 200);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(gateway.status(&id).await["attempt"], 1);
}

#[tokio::test]
async fn failures_are_tried_again_only_if_that_can_help() {
    let gateway = impatient();
    let id = gateway.create(json!({ "type": "t" })).await;
    let (_, lease) = gateway.claim("t", 0).await.expect("a job");
    let fail = json!({ "retryable": true, "problem": { "title": "disk full" } });
    for _ in 0..2 {
        let reply = gateway.tell(&id, &lease, "fail", fail.clone()).await;
        assert_eq!(reply.status(), 200, "a repetition is no mistake");
    }
    let (_, lease) = gateway.claim("t", 5).await.expect("the job once more");
    gateway.tell(&id, &lease, "fail", fail).await;
    let status = gateway.status(&id).await;
    assert_eq!(
        (&status["state"], &status["error"]["title"]),
        (&json!("failed"), &json!("disk full"))
    );
    problem(gateway.get(&format!("/jobs/{id}/result")).await, 409).await;

    let id = gateway.create(json!({ "type": "t" })).await;
    let (_, lease) = gateway.claim("t", 0).await.expect("a job");
    gateway.tell(&id, &lease, "fail", json!({})).await;
    assert_eq!(gateway.status(&id).await["state"], "failed");
}

#[tokio::test]
async fn cancelling_is_defined_in_every_state() {
    let gateway = impatient();
    let queued = gateway.create(json!({ "type": "t" })).await;
    assert_eq!(gateway.ask(&queued, "cancel").await.status(), 200);
    assert_eq!(gateway.status(&queued).await["state"], "cancelled");
    assert_eq!(gateway.ask(&queued, "cancel").await.status(), 200, "it is already");
    assert!(gateway.claim("t", 0).await.is_none());

    let obeying = gateway.create(json!({ "type": "t" })).await;
    let (_, lease) = gateway.claim("t", 0).await.expect("a job");
    assert_eq!(gateway.ask(&obeying, "cancel").await.status(), 202);
    assert_eq!(gateway.ask(&obeying, "cancel").await.status(), 202);
    let reply = gateway.tell(&obeying, &lease, "progress", json!({ "seq": 1 })).await;
    assert_eq!(reply.json::<Value>().await.expect("JSON")["cancel"], true);
    gateway.tell(&obeying, &lease, "fail", json!({ "retryable": true })).await;
    assert_eq!(gateway.status(&obeying).await["state"], "cancelled");
    assert_eq!(gateway.append(&obeying, &lease, 0, "late line\n").await.status(), 200);

    let too_late = gateway.create(json!({ "type": "t" })).await;
    let (_, lease) = gateway.claim("t", 0).await.expect("a job");
    gateway.ask(&too_late, "cancel").await;
    assert_eq!(gateway.tell(&too_late, &lease, "complete", json!({})).await.status(), 200);
    assert_eq!(gateway.status(&too_late).await["state"], "succeeded", "the work is done");
    problem(gateway.ask(&too_late, "cancel").await, 409).await;
    problem(gateway.ask(&too_late, "retry").await, 409).await;

    let silent = gateway.create(json!({ "type": "t" })).await;
    gateway.claim("t", 0).await.expect("a job");
    gateway.ask(&silent, "cancel").await;
    gateway.until_state(&silent, "cancelled").await;
}

#[tokio::test]
async fn claims_are_fair_and_a_worker_that_goes_away_takes_nothing() {
    let gateway = Arc::new(Gateway::start());
    let mut gone = Raw::connect(gateway.address).await;
    let body = r#"{"types":["t"],"wait":30}"#;
    let head = "POST /jobs/claim HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    gone.send(&format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(gone);
    let waiting = {
        let gateway = gateway.clone();
        tokio::spawn(async move { gateway.claim("t", 20).await.expect("a job") })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(gateway.create(json!({ "type": "t" })).await);
    }
    let mut claimed = vec![waiting.await.expect("a job").0];
    for _ in 0..4 {
        claimed.push(gateway.claim("t", 0).await.expect("a job").0);
    }
    assert_eq!(claimed, ids, "the oldest first, none lost");
    assert!(gateway.claim("t", 0).await.is_none());
}

#[tokio::test]
async fn ended_jobs_are_forgotten_and_that_is_said_for_a_while() {
    let gateway =
        Gateway::with(&[("JOBS__SUCCEEDED_RETENTION", "100ms"), ("JOBS__TOMBSTONES", "1")]);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let id = gateway.create(json!({ "type": "t" })).await;
        let (_, lease) = gateway.claim("t", 0).await.expect("a job");
        gateway.tell(&id, &lease, "complete", json!({})).await;
        while gateway.get(&format!("/jobs/{id}")).await.status() == 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        problem(gateway.get(&format!("/jobs/{id}")).await, 410).await;
        problem(gateway.get(&format!("/jobs/{id}/result")).await, 410).await;
        ids.push(id);
    }
    problem(gateway.get(&format!("/jobs/{}", ids[0])).await, 404).await;
    assert_eq!(gateway.get("/jobs").await.json::<Value>().await.expect("JSON")["jobs"], json!([]));
}

#[tokio::test]
async fn the_list_filters_counts_and_pages() {
    let gateway = Gateway::start();
    let mut ids = Vec::new();
    for kind in ["a", "b", "a", "a"] {
        ids.push(gateway.create(json!({ "type": kind })).await);
    }
    gateway.ask(&ids[3], "cancel").await;
    let list = |query: &str| {
        let request = gateway.client.get(gateway.url(&format!("/jobs?{query}")));
        async move { request.send().await.expect("a reply").json::<Value>().await.expect("JSON") }
    };
    let listed = |list: &Value| -> Vec<String> {
        list["jobs"].as_array().expect("a list").iter().map(|it| text_at(it, "/id")).collect()
    };
    let all = list("").await;
    assert_eq!(listed(&all), [&*ids[3], &ids[2], &ids[1], &ids[0]]);
    assert_eq!(
        all["counts"],
        json!({ "a": { "queued": 2, "cancelled": 1 }, "b": { "queued": 1 } })
    );
    assert!(all["oldest_queued_seconds"]["a"].is_number());
    assert_eq!(listed(&list("type=a&state=queued").await), [&*ids[2], &ids[0]]);
    let page = list("limit=2").await;
    assert_eq!(listed(&page), [&*ids[3], &ids[2]]);
    assert_eq!(
        listed(&list(&format!("limit=2&before={}", text_at(&page, "/before"))).await),
        [&*ids[1], &ids[0]]
    );
    assert_eq!(gateway.metric("tidegate_jobs{type=\"a\",state=\"queued\"}").await, 2.0);
    problem(gateway.get("/jobs?state=sleeping").await, 400).await;
    problem(gateway.get("/jobs?limit=0").await, 400).await;
    problem(gateway.get("/jobs?before=made-up").await, 400).await;
}

#[tokio::test]
async fn bad_requests_change_nothing() {
    let gateway = Gateway::with(&[
        ("JOBS__PAYLOAD_BYTES", "100B"),
        ("JOBS__RESULT_BYTES", "100B"),
        ("JOBS__MAX_JOBS", "2"),
        ("JOBS__RESULT_ORIGINS", "https://files.example"),
    ]);
    let long = "x".repeat(300);
    for (body, status) in [
        (json!({}), 400),
        (json!({ "type": "" }), 400),
        (json!({ "type": "a b" }), 400),
        (json!({ "type": long }), 400),
        (json!({ "type": "t", "unknown": 1 }), 400),
        (json!({ "type": "t", "payload": long }), 413),
        (json!({ "type": "t", "title": long }), 413),
        (json!({ "type": "t", "key": long }), 413),
    ] {
        problem(gateway.post_to("/jobs", &body).send().await.expect("a reply"), status).await;
    }
    for body in [
        json!({}),
        json!({ "types": [] }),
        json!({ "types": ["a b"] }),
        json!({ "types": ["t"], "wait": -1 }),
        json!({ "types": ["t"], "wait": 1_000_000 }),
        json!({ "types": vec!["t"; 200] }),
    ] {
        problem(gateway.post_to("/jobs/claim", &body).send().await.expect("a reply"), 400).await;
    }
    let id = gateway.create(json!({ "type": "t" })).await;
    let (_, lease) = gateway.claim("t", 0).await.expect("a job");
    let before = gateway.status(&id).await["version"].clone();
    for (what, body, status) in [
        ("progress", json!({}), 400),
        ("progress", json!({ "seq": -1 }), 400),
        ("progress", json!({ "seq": 1, "done": -1 }), 400),
        ("complete", json!({ "result": long }), 413),
        ("complete", json!({ "link": "https://evil.example/x" }), 400),
        ("complete", json!({ "link": "//evil.example/x" }), 400),
        ("complete", json!({ "link": "/\\evil.example/x" }), 400),
        ("complete", json!({ "link": "javascript:alert(1)" }), 400),
        ("complete", json!({ "link": "/x\r\nSet-Cookie: a=b" }), 400),
        ("complete", json!({ "link": "/x", "result": 1 }), 400),
        ("fail", json!({ "problem": "text" }), 400),
        ("fail", json!({ "problem": { "detail": long } }), 413),
    ] {
        problem(gateway.tell(&id, &lease, what, body).await, status).await;
    }
    problem(gateway.append(&id, &lease, 1, "x").await, 416).await;
    for range in ["bytes 0-99/*", "bytes x-y/*", "0-0/*", "bytes 1-0/*"] {
        let request = gateway.client.post(gateway.url(&format!("/jobs/{id}/log?offset=0")));
        let request = request.header("content-range", range).header("tidegate-lease", &lease);
        problem(request.body("x").send().await.expect("a reply"), 400).await;
    }
    for (what, body) in
        [("progress", json!({ "seq": 1 })), ("complete", json!({})), ("fail", json!({}))]
    {
        let path = format!("/jobs/{id}/{what}");
        problem(gateway.post_to(&path, &body).send().await.expect("a reply"), 400).await;
        problem(gateway.tell(&id, "made up", what, body.clone()).await, 409).await;
        problem(gateway.tell("made-up", &lease, what, body).await, 404).await;
    }
    problem(gateway.ask("made-up", "cancel").await, 404).await;
    problem(gateway.ask("made-up", "retry").await, 404).await;
    assert_eq!(gateway.status(&id).await["version"], before);
    gateway.tell(&id, &lease, "progress", json!({ "seq": 5, "done": 1 })).await;
    problem(gateway.tell(&id, &lease, "progress", json!({ "seq": 4, "done": 1 })).await, 409).await;
    gateway.append(&id, &lease, 0, "abc").await;
    problem(gateway.append(&id, &lease, 1, "XX").await, 409).await;
    let second = gateway.create(json!({ "type": "t" })).await;
    let full = gateway.post_to("/jobs", &json!({ "type": "t" })).send().await.expect("a reply");
    assert_eq!(problem(full, 503).await["limit"], 2);
    gateway.ask(&second, "cancel").await;
    gateway.create(json!({ "type": "t" })).await;
    problem(gateway.get(&format!("/jobs/{second}")).await, 410).await;
    let link = json!({ "link": "https://files.example/x" });
    assert_eq!(gateway.tell(&id, &lease, "complete", link).await.status(), 200);
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let client = client.build().expect("a client");
    let reply =
        client.get(gateway.url(&format!("/jobs/{id}/result"))).send().await.expect("a reply");
    assert_eq!(
        (reply.status().as_u16(), reply.headers()["location"].to_str().expect("text")),
        (303, "https://files.example/x")
    );
}

#[tokio::test]
async fn types_that_the_operator_did_not_name_are_refused() {
    let gateway = Gateway::with(&[("JOBS__TYPES__CLONE__MAX_ATTEMPTS", "1")]);
    let id = gateway.create(json!({ "type": "clone" })).await;
    assert_eq!(gateway.status(&id).await["max_attempts"], 1);
    problem(
        gateway.post_to("/jobs", &json!({ "type": "other" })).send().await.expect("a reply"),
        400,
    )
    .await;
    let claim = json!({ "types": ["other"] });
    problem(gateway.post_to("/jobs/claim", &claim).send().await.expect("a reply"), 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_workers_do_five_thousand_jobs_once_each() {
    const JOBS: usize = 5000;
    let gateway = Arc::new(Gateway::start());
    let done: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let mut workers = JoinSet::new();
    for _ in 0..200 {
        let (gateway, done) = (gateway.clone(), done.clone());
        workers.spawn(async move {
            while done.lock().expect("no panic").len() < JOBS {
                let Some((id, lease)) = gateway.claim("t", 1).await else { continue };
                *done.lock().expect("no panic").entry(id.clone()).or_default() += 1;
                assert_eq!(gateway.tell(&id, &lease, "complete", json!({})).await.status(), 200);
            }
        });
    }
    for _ in 0..10 {
        let mut creators = JoinSet::new();
        for _ in 0..JOBS / 10 {
            let gateway = gateway.clone();
            creators.spawn(async move { gateway.create(json!({ "type": "t" })).await });
            if 20 <= creators.len() {
                creators.join_next().await;
            }
        }
        creators.join_all().await;
    }
    workers.join_all().await;
    let done = done.lock().expect("no panic").clone();
    assert_eq!(done.len(), JOBS);
    assert!(done.values().all(|count| *count == 1), "each exactly once");
    let counts = gateway.get("/jobs?limit=1").await.json::<Value>().await.expect("JSON");
    assert_eq!(counts["counts"], json!({ "t": { "succeeded": JOBS } }));
}

#[tokio::test]
async fn a_job_whose_back_off_has_passed_costs_nothing_until_it_is_claimed() {
    let gateway = impatient();
    let id = gateway.create(json!({ "type": "t" })).await;
    let (_, lease) = gateway.claim("t", 0).await.expect("a job");
    let failure = json!({ "retryable": true });
    assert_eq!(gateway.tell(&id, &lease, "fail", failure).await.status(), 200);
    gateway.until_state(&id, "queued").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = gateway.processor_time();
    tokio::time::sleep(Duration::from_secs(2)).await;
    // A busy loop uses all of a core that it can get. A machine under load only reduces that.
    let used = gateway.processor_time() - before;
    assert!(used < Duration::from_millis(200), "{used:?} for a job that waits");
    assert!(gateway.claim("t", 0).await.is_some(), "it can be claimed all the same");
}

#[tokio::test]
async fn a_problem_document_over_several_lines_is_one_event_of_the_ended_job() {
    let gateway = impatient();
    let id = gateway.create(json!({ "type": "t" })).await;
    let (_, lease) = gateway.claim("t", 0).await.expect("a job");
    let body = "{\"problem\": {\r\n  \"title\": \"x\",\n\n  \"detail\": \"event: forged\"\n}}";
    let request = gateway.client.post(gateway.url(&format!("/jobs/{id}/fail")));
    let request = request.header("content-type", "application/json");
    let reply = request.header("tidegate-lease", lease).body(body).send().await.expect("a reply");
    assert_eq!(reply.status(), 200);
    let done = gateway.watch(&id).await.next().await;
    assert_eq!(done.kind, "job.done");
    let status: Value = serde_json::from_str(&done.data).expect("a whole document");
    assert_eq!(status["error"], json!({ "title": "x", "detail": "event: forged" }));
}

#[tokio::test]
async fn the_address_of_a_job_is_told_to_no_other_site_and_stands_in_no_log() {
    let gateway = impatient();
    let id = gateway.create(json!({ "type": "t" })).await;
    let (_, lease) = gateway.claim("t", 0).await.expect("a job");
    gateway.append(&id, &lease, 0, "<script>").await;
    problem(gateway.tell(&id, "wrong", "progress", json!({ "seq": 1, "done": 1 })).await, 409)
        .await;
    gateway.tell(&id, &lease, "complete", json!({ "result": "<script>" })).await;
    let unknown = "/jobs/AAAAAAAAAAAAAAAAAAAAAA";
    for (path, accept, is_page) in [
        (&*format!("/jobs/{id}?page"), "text/html", true),
        (&*format!("/jobs/{id}"), "text/html", false),
        (&*format!("/jobs/{id}"), "application/json", false),
        (&*format!("/jobs/{id}/result"), "*/*", false),
        (&*format!("/jobs/{id}/log"), "*/*", false),
        ("/jobs", "text/html", true),
        ("/", "text/html", true),
        (unknown, "text/html", true),
    ] {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let request = client.build().expect("a client").get(gateway.url(path));
        let reply = request.header("accept", accept).send().await.expect("a reply");
        assert_eq!(reply.headers()["referrer-policy"], "no-referrer", "{path} as {accept}");
        let policy = reply.headers().get("content-security-policy").map(|it| it.to_str());
        if is_page {
            let policy = policy.expect("a policy").expect("text");
            assert!(policy.contains("default-src 'self'"), "{path}: {policy}");
            assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        }
    }
    let result = gateway.get(&format!("/jobs/{id}/result")).await;
    assert!(
        result.headers()["content-security-policy"].to_str().expect("text").contains("sandbox")
    );
    problem(gateway.get(unknown).await, 404).await;
    let log = std::fs::read_to_string(gateway.directory.path().join("log")).expect("a log");
    assert!(log.contains(&format!("/jobs/{}…/progress", &id[..6])), "{log}");
    assert!(!log.contains(&id), "{log}");
}

#[tokio::test]
async fn jobs_have_a_bound_in_bytes_and_those_that_have_ended_make_room() {
    let gateway = Gateway::with(&[("JOBS__MAX_BYTES", "100KiB")]);
    let payload = json!({ "type": "t", "payload": "x".repeat(30_000) });
    let ended = gateway.create(payload.clone()).await;
    let (_, lease) = gateway.claim("t", 0).await.expect("a job");
    gateway.tell(&ended, &lease, "complete", json!({})).await;
    let id = gateway.create(payload.clone()).await;
    gateway.create(payload.clone()).await;
    assert_eq!(gateway.get(&format!("/jobs/{ended}")).await.status(), 200);
    gateway.create(payload.clone()).await;
    assert_eq!(gateway.get(&format!("/jobs/{ended}")).await.status(), 410, "it made room");

    let refused = gateway.post_to("/jobs", &payload).send().await.expect("a reply");
    let document = problem(refused, 503).await;
    assert_eq!(
        (&document["limit"], text_at(&document, "/type")),
        (&json!(102_400), "urn:tidegate:problem:jobs-bytes".to_owned())
    );
    assert!(text_at(&document, "/detail").contains("jobs.max_bytes"));
    let (claimed, lease) = gateway.claim("t", 0).await.expect("a job");
    assert_eq!(claimed, id);
    problem(gateway.append(&id, &lease, 0, &"l".repeat(20_000)).await, 503).await;
    assert_eq!(gateway.append(&id, &lease, 0, "short\n").await.status(), 200);
    problem(
        gateway.tell(&id, &lease, "complete", json!({ "result": "r".repeat(20_000) })).await,
        503,
    )
    .await;
    assert_eq!(gateway.tell(&id, &lease, "complete", json!({ "result": 1 })).await.status(), 200);
    gateway.create(payload).await;
    assert_eq!(gateway.get(&format!("/jobs/{id}")).await.status(), 410);
}

#[tokio::test]
async fn a_queued_job_knows_its_place_and_whether_a_worker_is_there() {
    let gateway = Gateway::start();
    let first = gateway.create(json!({ "type": "t" })).await;
    let second = gateway.create(json!({ "type": "t" })).await;
    let other = gateway.create(json!({ "type": "u" })).await;
    let place = async |id: &str| {
        let reply = gateway.get(&format!("/jobs/{id}/place")).await;
        assert_eq!(reply.status(), 200);
        reply.json::<Value>().await.expect("JSON")
    };
    assert_eq!(place(&first).await, json!({ "ahead": 0, "has_worker": false }));
    assert_eq!(place(&second).await, json!({ "ahead": 1, "has_worker": false }));
    let page = gateway.client.get(gateway.url(&format!("/jobs/{second}")));
    let page = page.header("accept", "text/html").send().await.expect("a reply");
    let page = page.text().await.expect("text");
    assert!(page.contains("1 job is ahead of it. No worker is there at the moment."), "{page}");
    gateway.claim("t", 0).await.expect("a job");
    assert_eq!(place(&first).await, Value::Null, "it runs");
    assert_eq!(place(&second).await, json!({ "ahead": 0, "has_worker": true }));
    assert_eq!(place(&other).await, json!({ "ahead": 0, "has_worker": false }));
    problem(gateway.get("/jobs/unknown/place").await, 404).await;
}

#[tokio::test]
async fn the_list_is_searched_and_several_jobs_are_tried_again_at_once() {
    let gateway = Gateway::start();
    let mut ids = Vec::new();
    for title in ["Report of May", "report of June", "Backup"] {
        let id = gateway.create(json!({ "type": "t", "title": title, "key": title })).await;
        assert_eq!(gateway.ask(&id, "cancel").await.status(), 200);
        ids.push(id);
    }
    let found = async |query: &str| {
        let list = gateway.get(&format!("/jobs?q={query}")).await;
        let list: Value = list.json().await.expect("JSON");
        list["jobs"].as_array().expect("a list").len()
    };
    assert_eq!((found("REPORT").await, found("may").await, found("nothing").await), (2, 1, 0));
    assert_eq!((found(&ids[2][..8]).await, found("").await), (1, 3));

    let again = async |form: String| {
        let request = gateway.client.post(gateway.url("/jobs/retry"));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body(form).send().await.expect("a reply")
    };
    let form = format!("id={}&id={}&id=unknown", ids[0], ids[1]);
    let told: Value = again(form).await.json().await.expect("JSON");
    assert_eq!(told["retried"], json!([ids[0], ids[1]]));
    assert_eq!(told["refused"][0]["id"], "unknown");
    assert_eq!(gateway.status(&ids[1]).await["state"], "queued");
    assert_eq!(gateway.status(&ids[2]).await["state"], "cancelled");
    problem(again("job=x".to_owned()).await, 400).await;
    problem(again("id=x&".repeat(1001)).await, 400).await;
}
