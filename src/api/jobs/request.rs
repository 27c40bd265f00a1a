//! The requests of applications and workers, their limits, and the errors they are refused with.

use std::{sync::Arc, time::Duration};

use actix_web::{HttpRequest, http::header::CONTENT_TYPE, web};
use mime::Mime;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tidegate_core::jobs::{JobError, NewJob, Outcome, Refusal};
use url::Url;

use crate::{
    http::{body, problem::Problem},
    settings::JobSettings,
};

/// The limits of a type's name, a key and a title, in bytes.
const LONGEST_TYPE: usize = 64;
const LONGEST_KEY: usize = 256;
const LONGEST_TITLE: usize = 256;

/// The limit of types in a claim.
const MOST_TYPES: usize = 100;

/// Bytes allowed around a payload or a result: names, quotes, other fields.
const ENVELOPE: usize = 4096;

/// `POST /jobs`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    #[serde(rename = "type")]
    kind: String,
    title: Option<String>,
    payload: Option<Box<RawValue>>,
    key: Option<String>,
}

/// `POST /jobs/claim`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Claim {
    #[serde(default)]
    pub(super) types: Vec<String>,
    /// Seconds.
    pub(super) wait: Option<u64>,
}

/// `POST /jobs/{id}/complete`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Complete {
    result: Option<Box<RawValue>>,
    link: Option<String>,
}

/// `POST /jobs/{id}/fail`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fail {
    pub(super) problem: Option<Box<RawValue>>,
    #[serde(default)]
    pub(super) retryable: bool,
    /// The worker stops: the job is offered to others at once, and this attempt does not count.
    #[serde(default)]
    pub(super) given_back: bool,
}

/// Reads the body of a request as JSON. An empty body counts as an empty object.
pub(super) async fn read<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: web::Payload,
    content_bytes: usize,
) -> Result<T, Problem> {
    let body = body::receive(request, payload, content_bytes + ENVELOPE).await?;
    let text = if body.trim_ascii().is_empty() { b"{}" } else { &*body };
    parse(text, says_json(request))
}

/// Whether a request says that its body is JSON.
pub(super) fn says_json(request: &HttpRequest) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let mime: Option<Mime> = kind.and_then(|it| it.parse().ok());
    mime.is_some_and(|it| it.essence_str() == mime::APPLICATION_JSON.essence_str())
}

/// Parses a body. A request need not say that its body is JSON, but one that is none is refused by
/// what it says.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8], says_json: bool) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        if error.is_data() || says_json {
            return Problem::malformed(format!("the body: {error}"));
        }
        Problem::media_type(
            "the body is not JSON; send a JSON object, with `Content-Type: application/json`",
        )
    })
}

/// Returns the lease in a worker's request.
pub(super) fn lease(request: &HttpRequest) -> Result<String, Problem> {
    const NAME: &str = "Tidegate-Lease";
    let lease = request.headers().get(NAME).and_then(|it| it.to_str().ok());
    let missing = || Problem::field(NAME, format!("`{NAME}` is missing: the lease from the claim"));
    lease.map(str::to_owned).ok_or_else(missing)
}

impl Create {
    pub(super) fn check(self, settings: &JobSettings) -> Result<NewJob, Problem> {
        check_type("type", &self.kind, settings)?;
        for (field, value, limit) in
            [("title", &self.title, LONGEST_TITLE), ("key", &self.key, LONGEST_KEY)]
        {
            let length = value.as_ref().map_or(0, String::len);
            if limit < length {
                let detail = format!("`{field}` is longer than {limit} bytes");
                return Err(Problem::too_large(field, limit, detail));
            }
        }
        check_size("payload", self.payload.as_deref(), settings.payload_bytes)?;
        Ok(NewJob {
            title: self.title.unwrap_or_else(|| self.kind.clone()),
            kind: self.kind,
            payload: self.payload.map(Arc::from),
            key: self.key,
        })
    }
}

impl Claim {
    pub(super) fn check(&self, settings: &JobSettings) -> Result<(), Problem> {
        if self.types.is_empty() {
            return Err(Problem::field("types", "`types` is missing: the types of jobs to claim"));
        }
        if MOST_TYPES < self.types.len() {
            let detail = format!("`types` has more than {MOST_TYPES} entries");
            return Err(Problem::field("types", detail).with_limit(MOST_TYPES));
        }
        self.types.iter().try_for_each(|kind| check_type("types", kind, settings))
    }

    /// Returns how long to wait, if the claim says so.
    pub(super) fn wait(&self, settings: &JobSettings) -> Result<Option<Duration>, Problem> {
        let Some(wait) = self.wait.map(Duration::from_secs) else { return Ok(None) };
        if settings.max_wait < wait {
            let limit = usize::try_from(settings.max_wait.as_secs()).unwrap_or(usize::MAX);
            let detail = format!("`wait` is longer than {limit} seconds");
            return Err(Problem::field("wait", detail).with_limit(limit));
        }
        Ok(Some(wait))
    }
}

impl Complete {
    pub(super) fn outcome(self, settings: &JobSettings) -> Result<Outcome, Problem> {
        match (self.result, self.link) {
            (Some(_), Some(_)) => {
                Err(Problem::field("link", "`result` and `link` exclude each other"))
            }
            (None, Some(link)) => check_link(link, settings).map(Outcome::Link),
            (result, None) => {
                check_size("result", result.as_deref(), settings.result_bytes)?;
                let result = result.unwrap_or_else(|| RawValue::NULL.to_owned());
                Ok(Outcome::Inline(result.into()))
            }
        }
    }
}

impl Fail {
    pub(super) fn problem(self, settings: &JobSettings) -> Result<(Arc<RawValue>, bool), Problem> {
        check_size("problem", self.problem.as_deref(), settings.result_bytes)?;
        let problem = match self.problem {
            Some(problem) if problem.get().starts_with('{') => problem,
            Some(_) => return Err(Problem::field("problem", "`problem` is not an object")),
            None => RawValue::from_string(r#"{"title":"The job failed"}"#.to_owned())
                .map_err(|error| Problem::malformed(error.to_string()))?,
        };
        Ok((problem.into(), self.retryable))
    }
}

fn check_type(field: &'static str, kind: &str, settings: &JobSettings) -> Result<(), Problem> {
    let is_name = !kind.is_empty()
        && kind.len() <= LONGEST_TYPE
        && kind.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_.".contains(&it));
    if !is_name {
        let detail = format!(
            "`{field}`: a type is 1 to {LONGEST_TYPE} letters, digits, hyphens, underscores or dots"
        );
        return Err(Problem::field(field, detail));
    }
    if !settings.knows(kind) {
        return Err(Problem::field(field, format!("`{field}`: there is no type `{kind}`")));
    }
    Ok(())
}

fn check_size(field: &'static str, value: Option<&RawValue>, limit: usize) -> Result<(), Problem> {
    if value.is_some_and(|it| limit < it.get().len()) {
        let detail = format!("`{field}` is longer than {limit} bytes");
        return Err(Problem::too_large(field, limit, detail));
    }
    Ok(())
}

/// Checks a link. It must be a path of this server, or in an origin that the operator allows.
fn check_link(link: String, settings: &JobSettings) -> Result<String, Problem> {
    const LONGEST: usize = 2048;
    // URL parsers strip line ends; headers do not.
    let is_plain = link.bytes().all(|it| it.is_ascii_graphic());
    // Resolved like a browser does: `//host`, `/\host` and the like lead elsewhere.
    let base =
        Url::parse("http://this.invalid/jobs/x").expect("a constant that is an absolute URL");
    let resolved = base.join(&link).ok().filter(|_| link.len() <= LONGEST && is_plain);
    let is_allowed = resolved.is_some_and(|url| {
        let is_own = link.starts_with('/') && url.origin() == base.origin();
        let origin = url.origin().ascii_serialization();
        is_own || settings.result_origins.contains(&origin)
    });
    if is_allowed {
        return Ok(link);
    }
    let detail =
        "`link` is neither a path of this server nor in an allowed origin (`jobs.result_origins`)";
    Err(Problem::field("link", detail))
}

impl From<JobError> for Problem {
    fn from(error: JobError) -> Self {
        let detail = error.to_string();
        match error {
            JobError::Unknown => Self::not_found(detail),
            JobError::Gone => Self::gone(detail),
            JobError::KeyTaken => Self::state("key_taken", detail),
            JobError::DoneHere => Self::state("done_here", detail),
            JobError::BadQuestion(bad) => match bad.limit {
                Some(limit) => Self::too_large(bad.field, limit, detail),
                None => Self::field(bad.field, detail),
            },
            JobError::TooManyWaiting(limit) => {
                Self::unavailable("jobs_waiting", detail).with_limit(limit)
            }
            JobError::Full(limit) => Self::unavailable("jobs", detail).with_limit(limit),
            JobError::Heavy(limit) => Self::unavailable("jobs_bytes", detail).with_limit(limit),
            JobError::Contended => Self::unavailable("history", detail),
            JobError::Publish(error) => error.into(),
            JobError::Refused(refusal) => match refusal {
                Refusal::StaleLease(_) => Self::state("stale_lease", detail),
                Refusal::State(_) => Self::state("job_state", detail),
                Refusal::OldReport { .. } => Self::state("old_report", detail),
                Refusal::LogConflict(_) => Self::state("log_conflict", detail),
                Refusal::Asking(_) => Self::state("asking", detail),
                Refusal::AskReused => Self::state("ask_reused", detail),
                Refusal::TooManyAsks(limit) => {
                    Self::state("asks_per_job", detail).with_limit(limit)
                }
                Refusal::NotAsked => Self::not_found(detail),
                Refusal::Answered => Self::state("answered", detail),
                Refusal::AskOver => Self::state("question_over", detail),
                Refusal::LogHole { length, .. } => Self::range(length, detail),
            },
        }
    }
}
