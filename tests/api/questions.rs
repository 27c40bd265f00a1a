use std::{sync::Arc, time::Duration};

use reqwest::{Client, Response, redirect::Policy};
use serde_json::{Value, json};
use tidegate::jobs::{Field, JobResult, Question, Task, WorkError, Worker};
use tokio::{sync::Notify, task::JoinSet};

use crate::support::{
    DEADLINE, Gateway, problem, text_at,
    tokens::{PUBLISHER_KEY, guarded, modern_claims, modern_publisher, modern_subscriber, sign},
};

/// Deploys after an approval.
fn question() -> Value {
    json!({
        "ask": "deploy", "title": "Deploy 4f2c to production?", "until": 3600,
        "fields": [
            { "name": "go", "type": "confirm" },
            { "name": "when", "type": "choice", "choices": ["now", "later"] },
            { "name": "why", "type": "text", "required": false, "max": 20 },
        ],
    })
}

impl Gateway {
    /// Creates a job, claims it, and asks. Returns its id and lease.
    async fn asking(&self, question: Value) -> (String, String) {
        self.create(json!({ "type": "t" })).await;
        let (id, lease) = self.claim("t", 0).await.expect("a job");
        let reply = self.tell(&id, &lease, "ask", question).await;
        assert_eq!(reply.status(), 200);
        (id, lease)
    }

    async fn answer(&self, id: &str, ask: &str, answer: Value) -> Response {
        let request = self.post_to(&format!("/jobs/{id}/answers/{ask}"), &answer);
        request.send().await.expect("a reply")
    }

    async fn answer_form(&self, id: &str, form: &str) -> Response {
        let client = Client::builder().redirect(Policy::none()).build().expect("a client");
        let request = client.post(self.url(&format!("/jobs/{id}/answers/deploy")));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let request = request.header("accept", "text/html").body(form.to_owned());
        request.send().await.expect("a reply")
    }

    async fn listen(&self, id: &str, lease: &str, wait: u64) -> Response {
        let path = self.url(&format!("/jobs/{id}/answers/deploy?wait={wait}"));
        let request = self.client.get(path).header("tidegate-lease", lease);
        request.timeout(DEADLINE).send().await.expect("a reply")
    }
}

async fn json_of(reply: Response) -> Value {
    assert_eq!(reply.status(), 200);
    reply.json().await.expect("JSON")
}

#[tokio::test]
async fn a_worker_asks_and_waits_and_goes_on_with_the_answer() {
    let gateway = Arc::new(Gateway::with(&[("JOBS__LEASE", "1s")]));
    gateway.create(json!({ "type": "t" })).await;
    let (id, lease) = gateway.claim("t", 0).await.expect("a job");
    let mut watcher = gateway.watch(&id).await;
    watcher.next().await;
    let told = json_of(gateway.tell(&id, &lease, "ask", question()).await).await;
    assert_eq!((&told["state"], &told["answer"]), (&json!("waiting"), &Value::Null));
    let asked = watcher.next().await;
    let document: Value = serde_json::from_str(&asked.data).expect("JSON");
    assert_eq!((&*asked.kind, &document["question"]["ask"]), ("job.asked", &json!("deploy")));
    assert_eq!(document["question"]["fields"][1]["choices"], json!(["now", "later"]));
    assert!(document["question"]["until"].is_string());

    // The lease is parked, so it does not expire.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(gateway.status(&id).await["state"], "waiting");
    assert_eq!(gateway.status(&id).await["attempt"], 1);
    let again = json_of(gateway.tell(&id, &lease, "ask", question()).await).await;
    assert_eq!(again["state"], "waiting", "the same question");
    let other =
        json!({ "ask": "other", "title": "?", "fields": [{ "name": "a", "type": "text" }] });
    let refused = problem(gateway.tell(&id, &lease, "ask", other.clone()).await, 409).await;
    assert_eq!(refused["type"], "urn:tidegate:problem:asking");
    let mut changed = question();
    changed["title"] = json!("Delete everything?");
    let refused = problem(gateway.tell(&id, &lease, "ask", changed).await, 409).await;
    assert_eq!(refused["type"], "urn:tidegate:problem:ask-reused");

    let listening = {
        let (gateway, id, lease) = (gateway.clone(), id.clone(), lease.clone());
        tokio::spawn(async move { json_of(gateway.listen(&id, &lease, 60).await).await })
    };
    let answer = json!({ "go": true, "when": "now", "why": "it is time" });
    let document = json_of(gateway.answer(&id, "deploy", answer.clone()).await).await;
    assert_eq!((&document["state"], &document["question"]), (&json!("running"), &Value::Null));
    assert_eq!(document["answers"][0]["values"], answer);
    let told = listening.await.expect("no panic");
    assert_eq!((&told["answer"]["values"], &told["state"]), (&answer, &json!("running")));
    assert_eq!(watcher.next().await.kind, "job.answered");
    let told = json_of(gateway.tell(&id, &lease, "ask", question()).await).await;
    assert_eq!(told["answer"]["values"], answer, "it was answered already");

    // Another question after the first, and the end.
    json_of(gateway.tell(&id, &lease, "ask", other).await).await;
    json_of(gateway.answer(&id, "other", json!({ "a": "b" })).await).await;
    assert_eq!(gateway.tell(&id, &lease, "complete", json!({})).await.status(), 200);
    let same = gateway.answer(&id, "other", json!({ "a": "b" })).await;
    assert_eq!(same.status(), 200, "the same answer even after the end");
    let refused = problem(gateway.answer(&id, "other", json!({ "a": "c" })).await, 409).await;
    assert_eq!(refused["type"], "urn:tidegate:problem:answered");
    problem(gateway.answer(&id, "unknown", json!({})).await, 404).await;
}

#[tokio::test]
async fn a_job_that_was_let_go_is_queued_by_the_answer() {
    let gateway = Gateway::with(&[("JOBS__MAX_ATTEMPTS", "1")]);
    let (id, lease) = gateway.asking(question()).await;
    let back = json!({ "given_back": true });
    for _ in 0..2 {
        assert_eq!(gateway.tell(&id, &lease, "fail", back.clone()).await.status(), 200);
    }
    assert_eq!(gateway.status(&id).await["state"], "waiting");
    problem(gateway.listen(&id, &lease, 0).await, 409).await;
    assert!(gateway.claim("t", 0).await.is_none(), "nobody gets it before the answer");
    json_of(gateway.answer(&id, "deploy", json!({ "go": false, "when": "later" })).await).await;
    assert_eq!(gateway.status(&id).await["state"], "queued");
    let reply = gateway.post_to("/jobs/claim", &json!({ "types": ["t"] })).send().await;
    let claimed: Value = reply.expect("a reply").json().await.expect("JSON");
    assert_eq!(claimed["job"]["answers"]["deploy"]["values"]["go"], false);
    assert_eq!(
        (&claimed["job"]["attempt"], &claimed["job"]["max_attempts"]),
        (&json!(2), &json!(2))
    );
}

#[tokio::test]
async fn a_worker_that_dies_while_its_job_waits_uses_up_no_attempt() {
    let gateway = Gateway::with(&[("JOBS__LEASE", "300ms"), ("JOBS__MAX_ATTEMPTS", "1")]);
    let (id, _) = gateway.asking(question()).await;
    json_of(gateway.answer(&id, "deploy", json!({ "go": true, "when": "now" })).await).await;
    let (again, lease) = gateway.claim("t", 20).await.expect("the job, after a lease");
    assert_eq!(again, id);
    let told = json_of(gateway.tell(&id, &lease, "ask", question()).await).await;
    assert_eq!(told["answer"]["values"]["go"], true, "it is not asked twice");
    // From now on, silence counts.
    gateway.until_state(&id, "lost").await;
}

#[tokio::test]
async fn without_an_answer_the_other_one_counts_or_the_job_fails() {
    let gateway = Gateway::start();
    let mut short = question();
    short["until"] = json!(1);
    let (failing, _) = gateway.asking(short.clone()).await;
    short["otherwise"] = json!({ "go": false, "when": "later" });
    let (going_on, lease) = gateway.asking(short).await;
    let told = json_of(gateway.listen(&going_on, &lease, 60).await).await;
    assert_eq!(
        (&told["answer"]["values"]["go"], &told["answer"]["otherwise"]),
        (&json!(false), &json!(true))
    );
    let late = json!({ "go": false, "when": "later" });
    problem(gateway.answer(&going_on, "deploy", late.clone()).await, 409).await;
    let failed = gateway.until_state(&failing, "failed").await;
    assert_eq!(failed["error"]["type"], "urn:tidegate:problem:unanswered");
    assert_eq!(failed["error"]["detail"], "the question was: Deploy 4f2c to production?");
    let refused = problem(gateway.answer(&failing, "deploy", late).await, 409).await;
    assert_eq!(refused["type"], "urn:tidegate:problem:question-over");
    assert_eq!(gateway.ask(&failing, "retry").await.status(), 200);
    let (_, lease) = gateway.claim("t", 0).await.expect("once more");
    let told = json_of(gateway.tell(&failing, &lease, "ask", question()).await).await;
    assert_eq!(told["state"], "waiting", "it is asked anew");
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_with_its_worker_or_at_once() {
    let gateway = Arc::new(Gateway::start());
    let (id, lease) = gateway.asking(question()).await;
    let listening = {
        let (gateway, id, lease) = (gateway.clone(), id.clone(), lease.clone());
        tokio::spawn(async move { json_of(gateway.listen(&id, &lease, 60).await).await })
    };
    assert_eq!(gateway.ask(&id, "cancel").await.status(), 202);
    let told = listening.await.expect("no panic");
    assert_eq!((&told["cancel"], &told["state"]), (&json!(true), &json!("cancelling")));
    problem(gateway.answer(&id, "deploy", json!({ "go": true, "when": "now" })).await, 409).await;
    assert_eq!(gateway.tell(&id, &lease, "fail", json!({})).await.status(), 200);
    assert_eq!(gateway.status(&id).await["state"], "cancelled");

    let (id, lease) = gateway.asking(question()).await;
    let back = json!({ "given_back": true });
    assert_eq!(gateway.tell(&id, &lease, "fail", back).await.status(), 200);
    assert_eq!(gateway.ask(&id, "cancel").await.status(), 200);
    assert_eq!(gateway.status(&id).await["state"], "cancelled");
}

#[tokio::test]
async fn bad_answers_are_refused_by_field_and_a_form_gets_the_page_again() {
    let gateway = Gateway::start();
    let (id, _) = gateway.asking(question()).await;
    let bad = json!({ "go": "perhaps", "why": "x".repeat(21) });
    let refused = problem(gateway.answer(&id, "deploy", bad).await, 400).await;
    let fields: Vec<&Value> =
        refused["errors"].as_array().expect("a list").iter().map(|it| &it["field"]).collect();
    assert_eq!(fields, ["go", "when", "why"]);
    for body in ["[]", "{", "1"] {
        let request = gateway.client.post(gateway.url(&format!("/jobs/{id}/answers/deploy")));
        let request = request.header("content-type", "application/json").body(body);
        problem(request.send().await.expect("a reply"), 400).await;
    }
    let request = gateway.client.post(gateway.url(&format!("/jobs/{id}/answers/deploy")));
    let request = request.header("content-type", "text/plain").body("{\"go\":true}");
    problem(request.send().await.expect("a reply"), 415).await;
    let long = json!({ "go": true, "when": "now", "why": "x".repeat(60_000) });
    problem(gateway.answer(&id, "deploy", long).await, 413).await;

    let reply = gateway.answer_form(&id, "go=yes&why=%3Cscript%3E+typed+before+and+more").await;
    assert_eq!(reply.status(), 400);
    assert_eq!(reply.headers()["content-type"], "text/html; charset=utf-8");
    let page = reply.text().await.expect("text");
    assert!(page.contains("&#60;script&#62; typed before and more"), "{page}");
    assert!(page.contains("this is missing") && page.contains("longer than 20 characters"));
    assert!(page.contains("href=\"../../../static/page.css\""), "{page}");
    assert_eq!(gateway.status(&id).await["state"], "waiting");

    let reply = gateway.answer_form(&id, "go=yes&when=now&why=").await;
    assert_eq!(
        (reply.status().as_u16(), &reply.headers()["location"]),
        (303, &format!("/jobs/{id}").parse().expect("a header"))
    );
    let page = gateway.answer_form(&id, "go=no&when=now").await;
    assert_eq!(page.status(), 409);
    let page = page.text().await.expect("text");
    assert!(page.contains("Another answer came first"), "{page}");
    assert!(page.contains("Deploy 4f2c to production?") && page.contains("<strong>Yes</strong>"));
}

#[tokio::test]
async fn questions_are_bounded() {
    let gateway = Gateway::with(&[
        ("JOBS__ASK_FIELDS", "3"),
        ("JOBS__ASK_BYTES", "1KiB"),
        ("JOBS__ASK_TIME", "1h"),
        ("JOBS__ASKS_PER_JOB", "1"),
        ("JOBS__MAX_WAITING", "1"),
    ]);
    gateway.create(json!({ "type": "t" })).await;
    let (id, lease) = gateway.claim("t", 0).await.expect("a job");
    let with = |name: &str, value: Value| {
        let mut question = question();
        question[name] = value;
        question
    };
    for (bad, field, status) in [
        (with("ask", json!("a b")), "ask", 400),
        (with("title", json!("")), "title", 400),
        (with("title", json!("x".repeat(1024))), "title", 413),
        (with("until", json!(3601)), "until", 413),
        (with("until", json!(0)), "until", 413),
        (with("fields", json!([])), "fields", 400),
        (with("otherwise", json!({ "go": true })), "otherwise.when", 400),
    ] {
        let refused = problem(gateway.tell(&id, &lease, "ask", bad).await, status).await;
        assert_eq!(refused["field"], field, "{refused}");
    }
    let odd = with("fields", json!([{ "name": "a", "type": "file" }]));
    problem(gateway.tell(&id, &lease, "ask", odd).await, 400).await;
    problem(gateway.tell(&id, "another", "ask", question()).await, 409).await;
    assert_eq!(gateway.tell(&id, &lease, "ask", question()).await.status(), 200);

    gateway.create(json!({ "type": "t" })).await;
    let (second, its_lease) = gateway.claim("t", 0).await.expect("a job");
    let full = problem(gateway.tell(&second, &its_lease, "ask", question()).await, 503).await;
    assert_eq!(full["limit"], 1, "{full}");
    json_of(gateway.answer(&id, "deploy", json!({ "go": true, "when": "now" })).await).await;
    assert_eq!(gateway.tell(&second, &its_lease, "ask", question()).await.status(), 200);
    let mut another = question();
    another["ask"] = json!("another");
    let full = problem(gateway.tell(&id, &lease, "ask", another).await, 409).await;
    assert_eq!(full["type"], "urn:tidegate:problem:asks-per-job");
}

#[tokio::test]
async fn waiting_jobs_are_listed_and_counted() {
    let gateway = Gateway::start();
    let (id, _) = gateway.asking(question()).await;
    gateway.create(json!({ "type": "t" })).await;
    let list: Value = gateway.get("/jobs?state=waiting").await.json().await.expect("JSON");
    assert_eq!(
        (list["jobs"].as_array().expect("a list").len(), &list["jobs"][0]["id"]),
        (1, &json!(id))
    );
    assert_eq!(list["counts"]["t"]["waiting"], 1);
    assert!(list["oldest_question_seconds"]["t"].is_f64());
    let metric = "tidegate_jobs{type=\"t\",state=\"waiting\"}";
    assert_eq!(gateway.metric(metric).await, 1.0);
    let age = "tidegate_jobs_oldest_question_seconds{type=\"t\"}";
    assert!(0.0 <= gateway.metric(age).await);
    json_of(gateway.answer(&id, "deploy", json!({ "go": true, "when": "now" })).await).await;
    let text = gateway.get("/metrics").await.text().await.expect("text");
    assert!(!text.contains(age) && !text.contains(metric), "{text}");
}

#[tokio::test]
async fn of_many_answers_at_once_one_counts() {
    let gateway = Arc::new(Gateway::start());
    for _ in 0..20 {
        let (id, _) = gateway.asking(question()).await;
        let mut answering = JoinSet::new();
        for at in 0..8 {
            let (gateway, id) = (gateway.clone(), id.clone());
            answering.spawn(async move {
                let answer = json!({ "go": true, "when": "now", "why": at.to_string() });
                let reply = gateway.answer(&id, "deploy", answer).await;
                (at.to_string(), reply.status().as_u16())
            });
        }
        let all = answering.join_all().await;
        let winners: Vec<_> = all.iter().filter(|it| it.1 == 200).collect();
        assert_eq!(winners.len(), 1, "{all:?}");
        assert!(all.iter().all(|it| it.1 == 200 || it.1 == 409), "{all:?}");
        assert_eq!(gateway.status(&id).await["answers"][0]["values"]["why"], *winners[0].0);
    }
}

#[tokio::test]
async fn pages_of_other_sites_cannot_answer() {
    let gateway = guarded(&[]);
    let job = modern_publisher(&[("exact", "*")]);
    let as_publisher = async |path: &str, lease: &str, body: Value| {
        let request = gateway.post_to(path, &body).bearer_auth(&job);
        request.header("tidegate-lease", lease).send().await.expect("a reply")
    };
    let created = as_publisher("/jobs", "", json!({ "type": "t" })).await;
    let id = text_at(&created.json().await.expect("JSON"), "/id");
    let claimed = as_publisher("/jobs/claim", "", json!({ "types": ["t"] })).await;
    let lease = text_at(&claimed.json().await.expect("JSON"), "/lease");
    let asked = as_publisher(&format!("/jobs/{id}/ask"), &lease, question()).await;
    assert_eq!(asked.status(), 200);
    let answer = async |headers: &[(&str, &str)]| {
        let mut request = gateway.client.post(gateway.url(&format!("/jobs/{id}/answers/deploy")));
        request = request.header("content-type", "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body("go=yes&when=now").send().await.expect("a reply")
    };
    for headers in [
        &[("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")][..],
        &[("origin", "null"), ("sec-fetch-site", "cross-site")],
        &[("origin", "null")],
    ] {
        let refused = problem(answer(headers).await, 403).await;
        assert_eq!(refused["type"], "urn:tidegate:problem:foreign-origin");
    }
    // Forms of job pages have no referrer, so their origin is `null`.
    let own = answer(&[("origin", "null"), ("sec-fetch-site", "same-origin")]).await;
    assert_eq!(own.status(), 200, "knowing the id is enough, without a token");
}

#[tokio::test]
async fn answers_that_need_a_grant_say_who_gave_them() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text =
        "[[auth.issuers]]\nname = 'https://issuer.example'\n[jobs.types.t]\nanswers = 'granted'";
    std::fs::write(file.path(), text).expect("a writable file");
    let path = file.path().to_str().expect("text").to_owned();
    let gateway = guarded(&[("CONFIG", &path)]);
    let worker = modern_publisher(&[("exact", "/jobs"), ("urlpattern", "/jobs/:id")]);
    let post = async |token: &str, path: &str, lease: &str, body: Value| {
        let request = gateway.post_to(path, &body).bearer_auth(token);
        request.header("tidegate-lease", lease).send().await.expect("a reply")
    };
    let created = post(&worker, "/jobs", "", json!({ "type": "t" })).await;
    let id = text_at(&created.json().await.expect("JSON"), "/id");
    let claimed = post(&worker, "/jobs/claim", "", json!({ "types": ["t"] })).await;
    let lease = text_at(&claimed.json().await.expect("JSON"), "/lease");
    assert_eq!(post(&worker, &format!("/jobs/{id}/ask"), &lease, question()).await.status(), 200);

    let (path, answer) =
        (format!("/jobs/{id}/answers/deploy"), json!({ "go": true, "when": "now" }));
    problem(gateway.answer(&id, "deploy", answer.clone()).await, 401).await;
    problem(post(&worker, &path, "", answer.clone()).await, 403).await;
    let viewer = modern_subscriber(&[("exact", "/jobs")]);
    problem(post(&viewer, &path, "", answer.clone()).await, 401).await;
    let page =
        gateway.client.get(gateway.url(&format!("/jobs/{id}"))).header("accept", "text/html");
    let page = page.send().await.expect("a reply").text().await.expect("text");
    assert!(page.contains("You cannot answer here") && !page.contains("id=\"answer\""), "{page}");

    let topic = format!("/jobs/{id}/answers");
    let mut claims = modern_claims("publish", &[("exact", &topic)]);
    claims["sub"] = json!("ada@example.com");
    let approver = sign(Some("at+jwt"), &claims, PUBLISHER_KEY);
    let reply = json_of(post(&approver, &path, "", answer).await).await;
    assert_eq!(reply["answers"][0]["by"], "ada@example.com");
    let request = gateway.client.get(gateway.url(&path)).bearer_auth(&worker);
    let told = request.header("tidegate-lease", &lease).send().await.expect("a reply");
    assert_eq!(json_of(told).await["answer"]["by"], "ada@example.com");
}

#[tokio::test]
async fn a_question_survives_the_gateway_and_so_does_its_answer() {
    let settings = [("JOBS__LEASE", "2s"), ("JOBS__MAX_ATTEMPTS", "1")];
    let gateway = Gateway::durable(&settings);
    let (held, lease) = gateway.asking(question()).await;
    let (left, its_lease) = gateway.asking(question()).await;
    let back = json!({ "given_back": true });
    assert_eq!(gateway.tell(&left, &its_lease, "fail", back).await.status(), 200);
    let mut short = question();
    short["until"] = json!(1);
    let (over, _) = gateway.asking(short).await;
    let before = gateway.status(&held).await;
    let gateway = gateway.crash(&settings);
    let mut after = gateway.status(&held).await;
    after["now"] = before["now"].clone();
    assert_eq!(after, before, "the question is as it was");
    gateway.until_state(&over, "failed").await;
    // Longer than a lease: it is parked after the restart as well.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let told = json_of(gateway.listen(&held, &lease, 0).await).await;
    assert_eq!((&told["state"], &told["answer"]), (&json!("waiting"), &Value::Null));
    let answer = json!({ "go": true, "when": "now" });
    json_of(gateway.answer(&held, "deploy", answer.clone()).await).await;
    json_of(gateway.answer(&left, "deploy", answer.clone()).await).await;
    let gateway = gateway.crash(&settings);
    let told = json_of(gateway.listen(&held, &lease, 0).await).await;
    assert_eq!((&told["state"], &told["answer"]["values"]), (&json!("running"), &answer));
    let other = json!({ "go": false, "when": "now" });
    problem(gateway.answer(&held, "deploy", other).await, 409).await;
    assert_eq!(gateway.answer(&held, "deploy", answer).await.status(), 200);
    let (again, _) = gateway.claim("t", 0).await.expect("the job that was left");
    assert_eq!(again, left);
}

/// Ticks of processor time that a process has used, of which there are 100 in a second.
#[cfg(target_os = "linux")]
fn ticks(gateway: &Gateway) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.process.id()));
    let stat = stat.expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number")
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_thousand_jobs_that_wait_take_no_processor() {
    let gateway = Arc::new(Gateway::start());
    for _ in 0..20 {
        let mut asking = JoinSet::new();
        for _ in 0..50 {
            let gateway = gateway.clone();
            asking.spawn(async move { gateway.asking(question()).await });
        }
        asking.join_all().await;
    }
    assert_eq!(gateway.metric("tidegate_jobs{type=\"t\",state=\"waiting\"}").await, 1000.0);
    // A gateway that looked at each job ten times a second would use some ticks for it.
    let before = ticks(&gateway);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let used = ticks(&gateway) - before;
    eprintln!("{used} ticks in 3 s");
    assert!(used <= 10, "{used} ticks of 300");
}

fn deploy() -> Question {
    Question::new("Deploy 4f2c?").named("deploy").field(Field::confirm("go"))
}

/// Runs a worker until `done`. Returns the job, which it did with `work`.
async fn with_worker<F>(gateway: &Gateway, work: impl Fn(Task) -> F, done: &Notify)
where
    F: Future<Output = Result<JobResult, WorkError>> + Send + 'static,
{
    let worker = Worker::new(&gateway.url("/"), &["t"]).expect("a worker");
    worker.run(done.notified(), work).await.expect("it works");
}

#[tokio::test]
async fn the_worker_of_the_library_waits_longer_than_its_lease() {
    let settings = [("JOBS__LEASE", "600ms"), ("JOBS__MAX_ATTEMPTS", "1")];
    let gateway = Gateway::with(&settings);
    let id = gateway.create(json!({ "type": "t" })).await;
    let done = Notify::new();
    let work = |task: Task| async move {
        let answer = task.ask(&deploy()).await?;
        task.log("it goes on\n");
        JobResult::inline(&answer.is_yes("go")).map_err(WorkError::fatal)
    };
    let person = async {
        gateway.until_state(&id, "waiting").await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(gateway.status(&id).await["state"], "waiting");
        json_of(gateway.answer(&id, "deploy", json!({ "go": true })).await).await;
        gateway.until_state(&id, "succeeded").await;
        done.notify_one();
    };
    tokio::join!(with_worker(&gateway, work, &done), person);
    assert_eq!(
        gateway.get(&format!("/jobs/{id}/result")).await.text().await.expect("text"),
        "true"
    );
    assert_eq!(gateway.status(&id).await["attempt"], 1);
}

#[tokio::test]
async fn the_worker_of_the_library_leaves_a_job_that_asks() {
    let gateway = Gateway::with(&[("JOBS__MAX_ATTEMPTS", "1")]);
    let id = gateway.create(json!({ "type": "t" })).await;
    let other = gateway.create(json!({ "type": "t", "payload": "quick" })).await;
    let done = Notify::new();
    let work = |task: Task| async move {
        if task.payload::<Option<String>>()?.is_some() {
            return JobResult::inline(&0).map_err(WorkError::fatal);
        }
        match task.answer("deploy") {
            Some(answer) => JobResult::inline(&answer.is_yes("go")).map_err(WorkError::fatal),
            None => Err(WorkError::asks(deploy())),
        }
    };
    let person = async {
        // The only worker is free for another job meanwhile.
        gateway.until_state(&other, "succeeded").await;
        gateway.until_state(&id, "waiting").await;
        json_of(gateway.answer(&id, "deploy", json!({ "go": false })).await).await;
        gateway.until_state(&id, "succeeded").await;
        done.notify_one();
    };
    tokio::join!(with_worker(&gateway, work, &done), person);
    assert_eq!(
        gateway.get(&format!("/jobs/{id}/result")).await.text().await.expect("text"),
        "false"
    );
}

#[tokio::test]
async fn a_worker_that_asks_learns_of_a_cancellation() {
    let gateway = Gateway::start();
    let id = gateway.create(json!({ "type": "t" })).await;
    let done = Notify::new();
    let work = |task: Task| async move {
        let outcome = task.ask(&deploy()).await;
        assert!(task.is_cancelled());
        outcome.map(|_| JobResult::link("/"))
    };
    let person = async {
        gateway.until_state(&id, "waiting").await;
        gateway.ask(&id, "cancel").await;
        gateway.until_state(&id, "cancelled").await;
        done.notify_one();
    };
    tokio::join!(with_worker(&gateway, work, &done), person);
}
