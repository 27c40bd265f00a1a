use serde_json::json;

use crate::support::{Gateway, problem};

#[tokio::test]
async fn queued_jobs_are_queued_and_ended_ones_are_as_they_were() {
    let gateway = Gateway::durable(&[]);
    let done = gateway.create(json!({ "type": "t", "payload": { "a": 1 } })).await;
    let (id, lease) = gateway.claim("t", 0).await.expect("a job");
    assert_eq!(gateway.append(&id, &lease, 0, "one\ntwo\n").await.status(), 200);
    let end = json!({ "result": { "files": 3 } });
    assert_eq!(gateway.tell(&id, &lease, "complete", end.clone()).await.status(), 200);
    let failed = gateway.create(json!({ "type": "f" })).await;
    let (_, failing) = gateway.claim("f", 0).await.expect("a job");
    let end_badly = json!({ "problem": { "title": "No" } });
    assert_eq!(gateway.tell(&failed, &failing, "fail", end_badly).await.status(), 200);
    let queued = gateway.create(json!({ "type": "t", "title": "T", "payload": [1] })).await;
    let second = gateway.create(json!({ "type": "t" })).await;
    let before = gateway.status(&done).await;
    let gateway = gateway.crash(&[]);
    let mut after = gateway.status(&done).await;
    after["now"] = before["now"].clone();
    assert_eq!(after, before);
    let result = gateway.get(&format!("/jobs/{done}/result")).await;
    assert_eq!(result.text().await.expect("text"), r#"{"files":3}"#);
    let log = gateway.get(&format!("/jobs/{done}/log")).await;
    assert_eq!(log.text().await.expect("text"), "one\ntwo\n");
    assert_eq!(gateway.tell(&done, &lease, "complete", end).await.status(), 200, "the same end");
    assert_eq!(gateway.status(&failed).await["error"]["title"], "No");
    let (first, _) = gateway.claim("t", 0).await.expect("a job");
    assert_eq!(first, queued, "the oldest first");
    assert_eq!(gateway.claim("t", 0).await.expect("a job").0, second);
    assert!(gateway.claim("t", 0).await.is_none());
}

#[tokio::test]
async fn a_lease_is_good_for_a_full_term_and_ends_then() {
    let settings = [("JOBS__LEASE", "2s"), ("JOBS__MAX_ATTEMPTS", "1")];
    let gateway = Gateway::durable(&settings);
    let kept = gateway.create(json!({ "type": "kept" })).await;
    let silent = gateway.create(json!({ "type": "silent" })).await;
    let (_, lease) = gateway.claim("kept", 0).await.expect("a job");
    let report = json!({ "seq": 1, "done": 1, "total": 2, "stage": "half" });
    assert_eq!(gateway.tell(&kept, &lease, "progress", report.clone()).await.status(), 200);
    gateway.claim("silent", 0).await.expect("a job");
    let gateway = gateway.crash(&settings);
    assert!(gateway.claim("kept", 0).await.is_none(), "its lease lives");
    assert_eq!(gateway.status(&kept).await["progress"]["percent"], 50.0);
    assert_eq!(gateway.tell(&kept, &lease, "progress", report).await.status(), 200, "once more");
    let older = json!({ "seq": 0, "done": 9 });
    problem(gateway.tell(&kept, &lease, "progress", older).await, 409).await;
    gateway.until_state(&silent, "lost").await;
    let end = json!({ "link": "/x" });
    problem(gateway.tell(&kept, "another", "complete", end.clone()).await, 409).await;
    assert_eq!(gateway.tell(&kept, &lease, "complete", end).await.status(), 200);
}

#[tokio::test]
async fn keys_are_good_after_a_crash_and_forgotten_jobs_stay_gone() {
    let settings = [("JOBS__SUCCEEDED_RETENTION", "1s"), ("JOBS__FAILED_RETENTION", "1s")];
    let gateway = Gateway::durable(&settings);
    let create = async |gateway: &Gateway, body: &str| {
        let request = gateway.client.post(gateway.url("/jobs")).header("idempotency-key", "k");
        let request = request.header("content-type", "application/json");
        request.body(body.to_owned()).send().await.expect("a reply")
    };
    let first = create(&gateway, r#"{"type":"t","key":"a"}"#).await;
    let location = first.headers()["location"].clone();
    let gone = gateway.create(json!({ "type": "gone" })).await;
    assert_eq!(gateway.ask(&gone, "cancel").await.status(), 200);
    let forgotten = async {
        while gateway.get(&format!("/jobs/{gone}")).await.status() != 410 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::support::DEADLINE, forgotten).await.expect("forgotten in time");
    let gateway = gateway.crash(&settings);
    let again = create(&gateway, r#"{"type":"t","key":"a"}"#).await;
    assert_eq!(again.headers()["location"], location);
    problem(create(&gateway, r#"{"type":"t","key":"b"}"#).await, 422).await;
    let same = gateway.create(json!({ "type": "t", "key": "a" })).await;
    assert!(location.to_str().expect("text").ends_with(&same), "one living job for a key");
    problem(gateway.get(&format!("/jobs/{gone}")).await, 410).await;
}

#[tokio::test]
async fn a_watcher_goes_on_after_a_crash() {
    let gateway = Gateway::durable(&[("JOBS__PROGRESS_INTERVAL", "0s")]);
    let id = gateway.create(json!({ "type": "t" })).await;
    let mut watcher = gateway.watch(&id).await;
    let (_, lease) = gateway.claim("t", 0).await.expect("a job");
    let running = loop {
        let event = watcher.next().await;
        if event.data.contains(r#""state":"running""#) {
            break event.id;
        }
    };
    let gateway = gateway.crash(&[]);
    let end = json!({ "link": "/x" });
    assert_eq!(gateway.tell(&id, &lease, "complete", end).await.status(), 200);
    let running: String = url::form_urlencoded::byte_serialize(running.as_bytes()).collect();
    let path = format!("/events?topic=/jobs/{id}&last_event_id={running}");
    let event = gateway.open(&path).await.next().await;
    assert_eq!(event.kind, "job.done");
}
