//! The pages of jobs: one that waits for a job, and the list.

mod question;

use std::{collections::BTreeMap, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    body::BoxBody,
    http::StatusCode,
    http::header::{CACHE_CONTROL, HeaderValue, LOCATION, REFERRER_POLICY, VARY},
};
use askama::Template as _;
use jiff::Timestamp;
use serde_json::{Value, value::RawValue};
use tidegate_core::{
    event::Topic,
    jobs::{Job, JobError, JobState, Outcome, Place, Status},
};

pub(super) use self::question::Attempt;
use self::question::{Asking, Shape};
use super::{parameter, words};
use crate::{
    gateway::Gateway,
    http::{access, problem::Problem},
    pages,
    settings::Answers,
};

/// Bytes of the log that the page contains; a script fetches what follows.
const LOG_TAIL: usize = 4096;

/// The filter of the list.
#[derive(Debug)]
pub(super) struct Filter {
    /// A type, or empty for all.
    pub(super) kind: String,
    pub(super) state: Option<JobState>,
    /// Words in the title, or empty for all.
    pub(super) search: String,
    /// The query for older jobs, if there may be some.
    pub(super) older: Option<String>,
}

/// The page of one job. `static/job.js` draws the same when it runs.
#[derive(askama::Template)]
#[template(path = "job.html")]
struct Holding<'a> {
    job: &'a Job,
    now: Timestamp,
    /// The status document, for the script.
    status: String,
    /// All states in words, for the scripts.
    states: String,
    failure: Option<Failure>,
    /// The result, if it is shown here.
    result: Option<String>,
    /// The end of the log, with the escape sequences of terminals, for the scripts.
    log: String,
    asking: Asking<'a>,
    place: Option<Place>,
    /// The way from the page's address to the folder of jobs.
    up: &'a str,
    /// Whether the viewer may cancel the job and retry it.
    may_change: bool,
    may_answer: bool,
}

/// What the client that sees a page may do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Viewer {
    /// Cancel the job and retry it.
    pub(super) may_change: bool,
    /// Answer its questions.
    pub(super) may_answer: bool,
}

impl Viewer {
    pub(super) async fn of(request: &HttpRequest, gateway: &Gateway, job: &Job) -> Self {
        let publisher = access::publisher(request).await.ok();
        let may = |topic| publisher.as_ref().is_some_and(|it| it.check(&[topic]).is_ok());
        let answers = gateway.settings().jobs.answers_of(&job.kind);
        Self {
            may_change: may(Topic::of_job(&job.id)),
            may_answer: answers == Answers::Seen || may(Topic::of_answers(&job.id)),
        }
    }
}

/// Returns a result for people: a text as it is, and other JSON with line breaks.
fn result_text(result: &RawValue) -> String {
    match serde_json::from_str(result.get()) {
        Ok(Value::String(text)) => text,
        Ok(value) => format!("{value:#}"),
        // Numbers that are too large for this program.
        Err(_) => result.get().to_owned(),
    }
}

/// A problem document for people.
struct Failure {
    title: String,
    detail: String,
    document: String,
}

#[derive(askama::Template)]
#[template(path = "job-missing.html")]
struct Missing {
    was_there: bool,
}

#[derive(askama::Template)]
#[template(path = "jobs.html")]
struct List<'a> {
    /// The states that at least one job has.
    states: Vec<JobState>,
    counts: Vec<Counts<'a>>,
    rows: Vec<Row<'a>>,
    filter: &'a Filter,
}

/// The counts of one job type.
struct Counts<'a> {
    kind: &'a str,
    counts: Vec<(JobState, u64)>,
    oldest: Option<String>,
    /// The age of the oldest question that waits for an answer.
    question: Option<String>,
}

struct Row<'a> {
    job: &'a Job,
    now: Timestamp,
}

/// Returns the page that waits for a job. Without scripts it refreshes itself. When the job has
/// succeeded with a link it redirects there, unless the parameter `page` is present. `root` is the
/// path of the gateway.
pub(super) fn holding(
    request: &HttpRequest,
    root: &str,
    job: &Job,
    (viewer, place): (Viewer, Option<Place>),
    now: Timestamp,
) -> Result<HttpResponse, Problem> {
    let leads_on = matches!(&job.outcome, Some(Outcome::Link(_)));
    if leads_on && parameter(request, "page")?.is_none() {
        let result = format!("{root}/jobs/{}/result", job.id);
        return Ok(HttpResponse::SeeOther()
            .insert_header((LOCATION, result))
            .insert_header((REFERRER_POLICY, pages::NO_REFERRER))
            .insert_header((CACHE_CONTROL, "private, no-cache"))
            .insert_header((VARY, "accept"))
            .finish());
    }
    let page = Holding::of(job, viewer, &Attempt::default(), "", now);
    private(pages::html(&Holding { place, ..page }))
}

/// Returns the page after an answer that was not taken. Its address is that of the answer.
pub(super) fn with_attempt(
    job: &Job,
    viewer: Viewer,
    now: Timestamp,
    attempt: &Attempt,
    status: StatusCode,
) -> Result<HttpResponse, Problem> {
    let mut page = private(pages::html(&Holding::of(job, viewer, attempt, "../../", now)))?;
    *page.status_mut() = status;
    Ok(page)
}

/// Returns the page for a job that does not exist.
pub(super) fn missing(error: JobError) -> HttpResponse {
    let was_there = matches!(error, JobError::Gone);
    let html = Missing { was_there }.render().unwrap_or_default();
    let mut response = HttpResponse::from_error(Problem::from(error)).set_body(BoxBody::new(html));
    pages::protect(&mut response);
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    response
}

/// Returns the page with the list of jobs.
pub(super) fn list(
    jobs: &[Job],
    counts: &BTreeMap<(String, JobState), u64>,
    waiting: &[(String, Duration)],
    questions: &BTreeMap<String, Duration>,
    filter: &Filter,
    now: Timestamp,
) -> Result<HttpResponse, Problem> {
    private(pages::html(&List::of(jobs, counts, waiting, questions, filter, now)))
}

/// Makes a page private to its client. The page varies by `Accept`, because its address has other
/// representations.
fn private(page: Result<HttpResponse, Problem>) -> Result<HttpResponse, Problem> {
    let mut page = page?;
    page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    page.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    Ok(page)
}

// === impl Holding ===

impl<'a> Holding<'a> {
    fn of(job: &'a Job, viewer: Viewer, attempt: &Attempt, up: &'a str, now: Timestamp) -> Self {
        let failure = match &job.outcome {
            // What a worker says of a cancelled job is no failure.
            Some(Outcome::Problem(problem)) if job.state != JobState::Cancelled => {
                Some(Failure::of(problem))
            }
            _ => None,
        };
        let result = match &job.outcome {
            Some(Outcome::Inline(result)) => Some(result_text(result)),
            _ => None,
        };
        let status = serde_json::to_string(&Status::of(job, now)).unwrap_or_default();
        let (states, log) = (words::states(), job.log.tail(LOG_TAIL));
        let asking = Asking::of(job, attempt, now);
        let Viewer { may_change, may_answer } = viewer;
        Self {
            job,
            now,
            status,
            states,
            failure,
            result,
            log,
            asking,
            place: None,
            up,
            may_change,
            may_answer,
        }
    }

    fn document_title(&self) -> String {
        let title = &self.job.title;
        match (self.job.state, self.percent()) {
            (JobState::Succeeded, _) => format!("✓ {title}"),
            (JobState::Cancelled, _) => format!("⊘ {title}"),
            (JobState::Failed | JobState::Lost, _) => format!("✗ {title}"),
            (JobState::Waiting, _) => format!("❓ {title}"),
            (JobState::Running | JobState::Cancelling, Some(percent)) => {
                format!("{percent} % {title}")
            }
            (JobState::Running | JobState::Cancelling | JobState::Queued, _) => title.clone(),
        }
    }

    fn state_in_words(&self) -> &'static str {
        words::state(self.job.state, self.job.attempt)
    }

    fn percent(&self) -> Option<u8> {
        words::percent(self.job)
    }

    /// The label of [`Self::time`].
    fn time_name(&self) -> &'static str {
        match self.job.state {
            JobState::Queued if self.job.attempt == 0 => "Waiting for",
            JobState::Queued => "Created",
            JobState::Running | JobState::Waiting | JobState::Cancelling => "Running for",
            _ if self.job.started_at.is_none() => "Waited for",
            _ => "Took",
        }
    }

    fn time(&self) -> String {
        let since = match self.job.state {
            JobState::Queued => self.job.created_at,
            _ => self.job.started_at.unwrap_or(self.job.created_at),
        };
        let time = words::duration(words::between(since, self.job.ended_at.unwrap_or(self.now)));
        if self.time_name() == "Created" { format!("{time} ago") } else { time }
    }

    fn left(&self) -> Option<String> {
        let seconds = self.job.progress.estimate_seconds()?;
        (self.job.state == JobState::Running).then(|| words::estimate(seconds))
    }

    fn place(&self) -> String {
        self.place.map(words::place).unwrap_or_default()
    }

    /// Whether a page without scripts reloads itself. It would erase what is being typed.
    fn reloads(&self) -> bool {
        !self.job.state.is_final() && self.job.state != JobState::Waiting
    }

    fn icon(&self) -> String {
        words::icon(self.job)
    }

    /// The log without escape sequences, for pages without scripts.
    fn plain_log(&self) -> String {
        words::without_escapes(&self.log)
    }

    /// The name under which something of the job is saved.
    fn file_name(&self, extension: &str) -> String {
        words::file_name(&self.job.title, extension)
    }

    fn is_cancellable(&self) -> bool {
        words::is_cancellable(self.job.state)
    }

    fn is_retryable(&self) -> bool {
        self.job.can_be_retried()
    }

    fn has_result(&self) -> bool {
        self.job.state == JobState::Succeeded
    }
}

// === impl Failure ===

impl Failure {
    fn of(problem: &RawValue) -> Self {
        let document: Value = serde_json::from_str(problem.get()).unwrap_or_default();
        let text = |name| document.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let title = match text("title") {
            title if title.is_empty() => "The job failed".to_owned(),
            title => title,
        };
        let detail = text("detail");
        Self { title, detail, document: format!("{document:#}") }
    }
}

// === impl List ===

impl<'a> List<'a> {
    fn of(
        jobs: &'a [Job],
        counts: &'a BTreeMap<(String, JobState), u64>,
        waiting: &[(String, Duration)],
        questions: &BTreeMap<String, Duration>,
        filter: &'a Filter,
        now: Timestamp,
    ) -> Self {
        let is_there =
            |state: &JobState| counts.iter().any(|((_, it), count)| it == state && 0 < *count);
        let states: Vec<JobState> = JobState::ALL.into_iter().filter(is_there).collect();
        let mut kinds: Vec<&str> =
            counts.iter().filter(|(_, count)| 0 < **count).map(|((kind, _), _)| &**kind).collect();
        kinds.dedup();
        let of_kind = |kind: &'a str| Counts {
            kind,
            counts: states
                .iter()
                .map(|state| (*state, counts.get(&(kind.to_owned(), *state)).map_or(0, |it| *it)))
                .collect(),
            oldest: waiting.iter().find(|(it, _)| it == kind).map(|(_, age)| words::duration(*age)),
            question: questions.get(kind).map(|age| words::duration(*age)),
        };
        let counts = kinds.into_iter().map(of_kind).collect();
        let rows = jobs.iter().map(|job| Row { job, now }).collect();
        Self { states, counts, rows, filter }
    }

    /// Whether a listed job can be tried again.
    fn has_retryable(&self) -> bool {
        self.rows.iter().any(Row::is_retryable)
    }

    /// Whether the filter names a type without jobs.
    fn is_unknown_type(&self) -> bool {
        let kind = &self.filter.kind;
        !kind.is_empty() && self.counts.iter().all(|it| it.kind != kind)
    }
}

// === impl Row ===

impl Row<'_> {
    fn percent(&self) -> Option<u8> {
        words::percent(self.job)
    }

    fn age(&self) -> String {
        words::duration(words::between(self.job.created_at, self.now))
    }

    fn run_time(&self) -> String {
        match self.job.started_at {
            Some(start) if self.job.state != JobState::Queued => {
                words::duration(words::between(start, self.job.ended_at.unwrap_or(self.now)))
            }
            _ => "–".to_owned(),
        }
    }

    fn is_cancellable(&self) -> bool {
        words::is_cancellable(self.job.state)
    }

    fn is_retryable(&self) -> bool {
        self.job.can_be_retried()
    }
}

#[cfg(test)]
mod tests;
