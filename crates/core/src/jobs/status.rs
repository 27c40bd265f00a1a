//! The status document: everything that a page needs to draw a job.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};
use tidegate_client::Field;

use super::{
    Asked, Job, JobState, Outcome, Progress,
    times::{in_milliseconds, maybe_in_milliseconds},
};

/// A job as clients see it.
#[derive(Debug, Serialize)]
pub struct Status<'a> {
    /// The job's id.
    pub id: &'a str,
    /// The job's type.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// The job's title.
    pub title: &'a str,
    /// The job's state.
    pub state: JobState,
    attempt: u32,
    max_attempts: u32,
    /// When it was created.
    #[serde(serialize_with = "in_milliseconds")]
    pub created_at: Timestamp,
    /// When its current attempt began.
    #[serde(serialize_with = "maybe_in_milliseconds")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(serialize_with = "maybe_in_milliseconds")]
    pub ended_at: Option<Timestamp>,
    /// The gateway's time, so that clients with a different clock show correct ages.
    #[serde(serialize_with = "in_milliseconds")]
    now: Timestamp,
    /// Its progress.
    pub progress: &'a Progress,
    /// Why there is no result, as a problem document.
    error: Option<&'a RawValue>,
    result: Option<String>,
    /// The address to which the result leads, if it is elsewhere.
    link: Option<&'a str>,
    log: LogStatus,
    /// The question that the job waits for.
    question: Option<OpenQuestion<'a>>,
    /// The questions that were answered, and the answers.
    answers: Vec<AnsweredQuestion<'a>>,
    /// Whether the job can be retried.
    retryable: bool,
    version: u64,
}

/// A question as clients see it.
#[derive(Debug, Serialize)]
struct OpenQuestion<'a> {
    ask: &'a str,
    title: &'a str,
    fields: &'a [Field],
    #[serde(serialize_with = "in_milliseconds")]
    asked_at: Timestamp,
    #[serde(serialize_with = "in_milliseconds")]
    until: Timestamp,
    otherwise: Option<&'a Map<String, Value>>,
}

/// An answer as clients see it.
#[derive(Debug, Serialize)]
struct AnsweredQuestion<'a> {
    ask: &'a str,
    title: &'a str,
    values: &'a Map<String, Value>,
    by: Option<&'a str>,
    #[serde(serialize_with = "in_milliseconds")]
    at: Timestamp,
    otherwise: bool,
}

#[derive(Debug, Serialize)]
struct LogStatus {
    href: String,
    start: u64,
    length: u64,
}

impl<'a> Status<'a> {
    /// Makes the document of a job at the time `now`.
    #[must_use]
    pub fn of(job: &'a Job, now: Timestamp) -> Self {
        let (error, link) = match &job.outcome {
            Some(Outcome::Problem(problem)) => (Some(&**problem), None),
            Some(Outcome::Link(link)) => (None, Some(&**link)),
            _ => (None, None),
        };
        Self {
            id: &job.id,
            kind: &job.kind,
            title: &job.title,
            state: job.state,
            attempt: job.attempt,
            max_attempts: job.last_attempt,
            created_at: job.created_at,
            started_at: job.started_at,
            ended_at: job.ended_at,
            now,
            progress: &job.progress,
            error,
            result: (job.state == JobState::Succeeded).then(|| format!("/jobs/{}/result", job.id)),
            link,
            log: LogStatus {
                href: format!("/jobs/{}/log", job.id),
                start: job.log.start(),
                length: job.log.end(),
            },
            question: job.open_question().map(OpenQuestion::of),
            answers: job.questions().filter_map(AnsweredQuestion::of).collect(),
            retryable: job.can_be_retried(),
            version: job.version,
        }
    }
}

impl<'a> OpenQuestion<'a> {
    fn of(asked: &'a Asked) -> Self {
        let question = &asked.question;
        Self {
            ask: &question.name,
            title: &question.title,
            fields: &question.fields,
            asked_at: asked.asked_at,
            until: asked.until,
            otherwise: question.otherwise.as_ref(),
        }
    }
}

impl<'a> AnsweredQuestion<'a> {
    fn of(asked: &'a Asked) -> Option<Self> {
        let answer = asked.answer.as_ref()?;
        Some(Self {
            ask: &asked.question.name,
            title: &asked.question.title,
            values: &answer.values,
            by: answer.by.as_deref(),
            at: answer.at,
            otherwise: answer.otherwise,
        })
    }
}
