//! How a worker handles a gateway with unusual replies, or none.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tidegate::jobs::{JobResult, Task, WorkError, Worker};
use tokio::sync::oneshot;

use crate::{
    receiver::{Receiver, Request},
    support::in_time,
};

const TAKEN: &str = "200 OK\r\n\r\n{\"state\":\"running\",\"cancel\":false}";
const NO_JOB: &str = "204 No Content\r\n\r\n";

/// The reply to the first claim. Its worker reports five times a second.
fn claimed(log_length: u64) -> String {
    let job = json!({
        "id": "j", "type": "t", "title": "T", "payload": { "a": 1 }, "attempt": 1, "log_length": log_length,
    });
    let claimed = json!({ "job": job, "lease": "l", "lease_seconds": 2, "report_seconds": 0.2 });
    format!("200 OK\r\n\r\n{claimed}")
}

/// A gateway with one job that answers reports with `answer`.
async fn gateway(answer: impl Fn(&Request) -> String + Send + Sync + 'static) -> Receiver {
    let is_claimed = AtomicBool::new(false);
    Receiver::start(move |_, request| match request.path.as_str() {
        "/base/jobs/claim" if is_claimed.swap(true, Ordering::SeqCst) => NO_JOB.to_owned(),
        "/base/jobs/claim" => claimed(10),
        _ => {
            assert_eq!(request.headers["tidegate-lease"], "l");
            answer(request)
        }
    })
    .await
}

/// Does that job. Returns the requests about it up to the first one that `is_last`.
async fn work<F>(
    mut gateway: Receiver,
    work: impl Fn(Task) -> F + Send + 'static,
    is_last: impl Fn(&Request) -> bool,
) -> Vec<Request>
where
    F: Future<Output = Result<JobResult, WorkError>> + Send + 'static,
{
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = Worker::new(&format!("{}/base", gateway.url), &["t"]).expect("a worker");
    let shutdown = async move { drop(stopped.await) };
    let working = tokio::spawn(async move { worker.run(shutdown, work).await });
    let mut requests = Vec::new();
    loop {
        let request = gateway.request().await;
        if request.path == "/base/jobs/claim" {
            continue;
        }
        requests.push(request);
        if requests.last().is_some_and(&is_last) {
            break;
        }
    }
    drop(stop);
    in_time("the end of the worker", working).await.expect("no panic").expect("no refusal");
    requests
}

fn is_to(request: &Request, action: &str) -> bool {
    request.path == format!("/base/jobs/j/{action}")
}

/// The log text that was sent, with its offsets.
fn log_texts(requests: &[Request]) -> Vec<(&str, &str)> {
    let texts = requests.iter().filter(|it| is_to(it, "log"));
    texts.map(|it| (it.headers["content-range"].as_str(), it.body.as_str())).collect()
}

fn done() -> Result<JobResult, WorkError> {
    JobResult::inline(&"done").map_err(WorkError::fatal)
}

#[tokio::test]
async fn a_result_is_sent_until_it_is_taken() {
    let tries = Arc::new(std::sync::Mutex::new(0));
    let seen = tries.clone();
    let gateway = gateway(move |request| {
        if !is_to(request, "complete") {
            return TAKEN.to_owned();
        }
        let mut tries = seen.lock().expect("no panic");
        *tries += 1;
        match *tries {
            1 => String::new(),
            2 => "503 Service Unavailable\r\n\r\n".to_owned(),
            _ => TAKEN.to_owned(),
        }
    })
    .await;
    let seen = tries.clone();
    let is_last = move |_: &Request| *seen.lock().expect("no panic") == 3;
    let requests = work(gateway, |_| async { done() }, is_last).await;
    let bodies: Vec<&str> = requests.iter().map(|it| it.body.as_str()).collect();
    assert_eq!(bodies, [r#"{"result":"done"}"#; 3]);
    assert!(requests.iter().all(|it| is_to(it, "complete")));
}

#[tokio::test]
async fn a_result_that_is_refused_is_a_failure() {
    let gateway = gateway(|request| match is_to(request, "complete") {
        true => "413 Content Too Large\r\n\r\ntoo long".to_owned(),
        false => TAKEN.to_owned(),
    })
    .await;
    let requests = work(gateway, |_| async { done() }, |it| is_to(it, "fail")).await;
    let failure = requests.last().expect("a failure");
    let failure: Value = serde_json::from_str(&failure.body).expect("JSON");
    assert_eq!(failure["retryable"], false);
    assert!(failure["problem"]["detail"].as_str().is_some_and(|it| it.contains("too long")));
}

#[tokio::test]
async fn a_panic_is_a_failure() {
    let gateway = gateway(|_| TAKEN.to_owned()).await;
    let panics = |_| async { panic!("on purpose") };
    let requests = work(gateway, panics, |it| is_to(it, "fail")).await;
    assert!(requests[0].body.contains("panicked"), "{requests:?}");
}

#[tokio::test]
async fn the_log_goes_on_where_the_gateway_says() {
    let gateway = gateway(|request| {
        let range = request.headers.get("content-range").map(String::as_str);
        match range {
            Some("bytes 10-14/*") => {
                "416 Range Not Satisfiable\r\ncontent-range: bytes */7\r\n\r\n".to_owned()
            }
            _ => TAKEN.to_owned(),
        }
    })
    .await;
    let writes = |task: Task| async move {
        task.log("öne\n");
        tokio::time::sleep(Duration::from_millis(300)).await;
        task.log("two\n");
        done()
    };
    let requests = work(gateway, writes, |it| is_to(it, "complete")).await;
    let expected =
        [("bytes 10-14/*", "öne\n"), ("bytes 7-11/*", "öne\n"), ("bytes 12-15/*", "two\n")];
    assert_eq!(log_texts(&requests), expected);
}

#[tokio::test]
async fn the_newest_progress_keeps_the_lease() {
    let gateway = gateway(|_| TAKEN.to_owned()).await;
    let works = |task: Task| async move {
        for done in 0..=100_u8 {
            task.progress(done.into(), Some(100.0), None, None);
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        task.progress(f64::NAN, Some(f64::INFINITY), Some(&"ü".repeat(999)), None);
        done()
    };
    let requests = work(gateway, works, |it| is_to(it, "complete")).await;
    let reports: Vec<Value> = requests
        .iter()
        .filter(|it| is_to(it, "progress"))
        .map(|it| serde_json::from_str(&it.body).expect("JSON"))
        .collect();
    let newest: Vec<&Value> = reports.iter().filter(|it| it["seq"] == 101).collect();
    assert!((2..=6).contains(&newest.len()), "{reports:?}");
    assert!(newest.iter().all(|it| it["done"] == 100.0), "{reports:?}");
    let last = reports.last().expect("a report");
    assert_eq!(
        (&last["seq"], &last["done"], &last["total"]),
        (&json!(102), &json!(0.0), &Value::Null)
    );
    assert_eq!(last["stage"].as_str().map(str::len), Some(100));
}

#[tokio::test]
async fn work_on_a_job_that_was_taken_away_is_stopped() {
    let gateway = gateway(|_| "409 Conflict\r\n\r\n{}".to_owned()).await;
    let (alive, stopped) = oneshot::channel::<()>();
    let alive = Arc::new(std::sync::Mutex::new(Some(alive)));
    let works = move |_| {
        let alive = alive.lock().expect("no panic").take();
        async move {
            std::future::pending::<()>().await;
            drop(alive);
            done()
        }
    };
    let requests = work(gateway, works, |it| is_to(it, "progress")).await;
    in_time("the end of the work", stopped).await.expect_err("it is dropped, not sent");
    assert_eq!(requests.len(), 1);
}

#[tokio::test]
async fn work_is_told_of_a_cancellation() {
    let gateway = gateway(|_| TAKEN.replace("false", "true")).await;
    let works = |task: Task| async move {
        assert!(!task.is_cancelled());
        task.cancelled().await;
        assert!(task.is_cancelled());
        Err(WorkError::fatal(format_args!("{}", task.payload::<Value>()?["a"])))
    };
    let requests = work(gateway, works, |it| is_to(it, "fail")).await;
    let failure = requests.last().expect("a failure");
    assert!(failure.body.contains(r#""detail":"1""#), "{failure:?}");
}

#[tokio::test]
async fn a_worker_gives_up_a_job_when_its_lease_must_be_over() {
    let gateway = gateway(|_| String::new()).await;
    let started = tokio::time::Instant::now();
    let works = |_| async { std::future::pending().await };
    let is_last = |_: &Request| Duration::from_millis(1500) < started.elapsed();
    let requests = work(gateway, works, is_last).await;
    assert!(requests.iter().all(|it| is_to(it, "progress")), "{requests:?}");
    assert!(Duration::from_secs(2) <= started.elapsed());
}
