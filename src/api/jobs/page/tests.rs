use actix_web::{http::StatusCode, test::TestRequest};
use tidegate_core::jobs::{BadField, Field, NewJob, Now, Question, Report, Rules};

use super::*;
use crate::pages::tests::assert_self_contained;

const HOSTILE: &str = "</pre></title><script>alert(\"1\")</script>'&";

const VIEWER: Viewer = Viewer { may_change: true, may_answer: true };

fn page(job: &Job) -> Holding<'_> {
    Holding::of(job, VIEWER, &Attempt::default(), "", now().time)
}

fn now() -> Now {
    Now { instant: std::time::Instant::now(), time: Timestamp::UNIX_EPOCH }
}

/// A running job with hostile text in every field.
fn hostile_job() -> Job {
    let rules = Rules {
        lease: Duration::from_secs(60),
        max_attempts: 3,
        backoff: Duration::ZERO,
        max_backoff: Duration::ZERO,
        log_grace: Duration::ZERO,
        max_asks: 2,
        ask_time: Duration::from_secs(60),
    };
    let (kind, title) = (HOSTILE.to_owned(), HOSTILE.to_owned());
    let new = NewJob { kind, title, payload: None, key: None };
    let mut job = Job::new("id".to_owned(), 1, new, rules, 1 << 16, now());
    let _ = job.claim("lease".to_owned(), now()).expect("it is queued");
    let report = Report {
        seq: 1,
        done: 3.7,
        total: Some(10.0),
        stage: Some(HOSTILE.to_owned()),
        message: Some(HOSTILE.to_owned()),
    };
    let _ = job.report("lease", report, now()).expect("the lease is good");
    let _ = job.append_log("lease", 0, HOSTILE, now()).expect("it fits");
    job
}

#[test]
fn nothing_that_users_say_becomes_markup() {
    let mut job = hostile_job();
    let filter = Filter {
        kind: HOSTILE.to_owned(),
        state: None,
        search: HOSTILE.to_owned(),
        older: Some("before=id".to_owned()),
    };
    let counts = BTreeMap::from([((HOSTILE.to_owned(), JobState::Running), 1)]);
    let jobs = [job.clone()];
    let list = List::of(&jobs, &counts, &[], &BTreeMap::new(), &filter, now().time)
        .render()
        .expect("valid");
    let running = page(&job).render().expect("valid");
    assert!(running.contains("aria-valuenow=\"37\""));
    assert!(running.contains("http-equiv=\"refresh\""));
    let problem = serde_json::json!({ "title": HOSTILE, "detail": HOSTILE, HOSTILE: HOSTILE });
    let problem = serde_json::value::to_raw_value(&problem).expect("data").into();
    let _ = job.fail("lease", problem, false, now()).expect("the lease is good");
    let failed = page(&job).render().expect("valid");
    assert!(!failed.contains("http-equiv=\"refresh\""));
    for html in [list, running, failed] {
        assert!(!html.contains("<script>") && !html.contains("\"1\")"), "{html}");
        assert!(html.matches("<script").count() <= 2);
        assert_self_contained(&html);
    }
}

#[test]
fn a_question_is_drawn_without_a_reload_and_nothing_of_it_becomes_markup() {
    let mut job = hostile_job();
    let label = Some(HOSTILE.to_owned());
    let mut fields = vec![
        Field { label: label.clone(), ..Field::confirm("go") },
        Field { label: label.clone(), ..Field::choice("when", &[HOSTILE, "later"]) },
        Field { label: label.clone(), ..Field::text("why").max(300) },
        Field { label, ..Field::text("line").max(30) },
    ];
    let many: Vec<String> = (0..20).map(|it| format!("{HOSTILE}{it}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    fields.push(Field::choice("many", &many));
    let question = Question { fields, ..Question::new(HOSTILE) };
    let _ = job.ask("lease", &question, now()).expect("the lease is good");
    let typed = ["why", "line", "go"].map(|it| (it.to_owned(), HOSTILE.to_owned()));
    let bad = BadField { field: "why".to_owned(), detail: HOSTILE.to_owned(), limit: None };
    let attempt = Attempt { typed: typed.into(), bad: vec![bad], note: None };
    let asked = Holding::of(&job, VIEWER, &attempt, "../../", now().time).render().expect("valid");
    assert!(!asked.contains("http-equiv=\"refresh\""), "it would erase what is typed");
    assert!(asked.contains("icon-waiting.svg") && asked.contains("<select"));
    let elsewhere = Viewer { may_answer: false, ..VIEWER };
    let reader = Holding::of(&job, elsewhere, &Attempt::default(), "", now().time);
    let reader = reader.render().expect("valid");
    assert!(!reader.contains("id=\"answer\""));
    let values = serde_json::json!({ "go": true, "when": HOSTILE, "why": HOSTILE });
    let values = values.as_object().expect("an object");
    let _ = job.answer(&question.name, values, Some(HOSTILE), now()).expect("it is open");
    let answered = page(&job).render().expect("valid");
    for html in [asked, reader, answered] {
        assert!(!html.contains("<script>") && !html.contains("\"1\")"), "{html}");
        assert!(html.matches("<script").count() <= 2);
        assert_self_contained(&html);
    }
}

#[test]
fn who_waits_for_a_job_that_is_done_goes_on_to_the_result() {
    let mut job = hostile_job();
    let _ = job.complete("lease", Outcome::Link("/there".to_owned()), now()).expect("good");
    let waiting = TestRequest::with_uri("/jobs/id").to_http_request();
    let response =
        holding(&waiting, "/below", &job, (VIEWER, None), now().time).expect("a response");
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_eq!(response.headers().get(LOCATION).expect("a location"), "/below/jobs/id/result");
    let looking = TestRequest::with_uri("/jobs/id?page").to_http_request();
    let response = holding(&looking, "", &job, (VIEWER, None), now().time).expect("a response");
    assert_eq!(response.status(), StatusCode::OK);
}
