//! The list of jobs.

use std::collections::BTreeMap;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, LOCATION, VARY},
    web,
};
use serde::Serialize;
use tidegate_core::{
    event::Topic,
    jobs::{Job, JobState, Status},
};

use super::parameter;
use crate::{
    api::jobs::page,
    gateway::Gateway,
    http::{accept::preferred, access, body, form, problem::Problem},
};

/// The maximum and the default number of jobs on one page of the list.
const LONGEST_LIST: usize = 1000;
const LIST: usize = 100;

/// `GET /jobs`: the newest jobs, counts by type and state, and the age of the oldest claimable job
/// of each type.
pub(super) async fn list_jobs(request: HttpRequest) -> Result<HttpResponse, Problem> {
    access::subscriber(&request).await?.check(&Topic::of_jobs())?;
    let gateway = Gateway::of(&request);
    let tracker = gateway.tracker();
    let kind = parameter(&request, "type")?.filter(|it| !it.is_empty());
    let state = match parameter(&request, "state")?.filter(|it| !it.is_empty()) {
        None => None,
        Some(name) => Some(state_named(&name)?),
    };
    let search = parameter(&request, "q")?.unwrap_or_default();
    let words = search.trim().to_lowercase();
    let limit = match parameter(&request, "limit")? {
        None => LIST,
        Some(limit) => {
            limit.parse().ok().filter(|it| (1..=LONGEST_LIST).contains(it)).ok_or_else(|| {
                Problem::field("limit", format!("`limit` is not 1 to {LONGEST_LIST}"))
            })?
        }
    };
    let before = parameter(&request, "before")?;
    // The tracker lists from the newest job if it does not know `before`, so that is refused.
    if before.as_ref().is_some_and(|id| !tracker.knows(id)) {
        let detail = "`before` is no job of the list, or not any more; begin again without it";
        return Err(Problem::field("before", detail));
    }
    let is_wanted = |job: &Job| {
        kind.as_ref().is_none_or(|kind| *kind == job.kind)
            && state.is_none_or(|it| it == job.state)
            && (words.is_empty() || is_found(job, &words))
    };
    let jobs = tracker.list(before.as_deref(), limit, is_wanted).await;
    let now = tracker.now().time;
    let (counts, waiting) = (tracker.counts(), tracker.oldest_queued());
    let questions = tracker.oldest_questions();
    let next = jobs.last().filter(|_| jobs.len() == limit).map(|job| job.id.as_str());
    if preferred(&request, &["application/json", "text/html"]) == Some("text/html") {
        let kind = kind.unwrap_or_default();
        let older = next.map(|before| {
            url::form_urlencoded::Serializer::new(String::new())
                .append_pair("type", &kind)
                .append_pair("state", state.map_or("", JobState::as_str))
                .append_pair("q", &search)
                .append_pair("limit", &limit.to_string())
                .append_pair("before", before)
                .finish()
        });
        let filter = page::Filter { kind, state, search, older };
        return page::list(&jobs, &counts, &waiting, &questions, &filter, now);
    }
    let mut by_type: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for ((kind, state), count) in &counts {
        by_type.entry(kind).or_default().insert(state.as_str(), *count);
    }
    let list = List {
        jobs: jobs.iter().map(|job| Status::of(job, now)).collect(),
        counts: by_type,
        oldest_queued_seconds: waiting
            .iter()
            .map(|(kind, age)| (&**kind, age.as_secs_f64()))
            .collect(),
        oldest_question_seconds: questions
            .iter()
            .map(|(kind, age)| (&**kind, age.as_secs_f64()))
            .collect(),
        before: next,
    };
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "private, no-cache"))
        .insert_header((VARY, "accept"))
        .json(list))
}

/// The response of `GET /jobs`.
#[derive(Serialize)]
struct List<'a> {
    jobs: Vec<Status<'a>>,
    /// By type and state.
    counts: BTreeMap<&'a str, BTreeMap<&'a str, u64>>,
    /// By type.
    oldest_queued_seconds: BTreeMap<&'a str, f64>,
    /// By type, of questions that wait for an answer.
    oldest_question_seconds: BTreeMap<&'a str, f64>,
    /// The value of `before` for the next page, if there may be one.
    before: Option<&'a str>,
}

/// Whether a job has these words in its title, its key or at the beginning of its id.
fn is_found(job: &Job, words: &str) -> bool {
    let contains = |text: &str| text.to_lowercase().contains(words);
    contains(&job.title)
        || job.key.as_deref().is_some_and(contains)
        || job.id.to_lowercase().starts_with(words)
}

/// `POST /jobs/retry`: tries several jobs again, each as `POST /jobs/{id}/retry` would. A form
/// without scripts is redirected to the list.
pub(super) async fn retry_jobs(
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let publisher = access::publisher(&request).await?;
    let gateway = Gateway::of(&request);
    let body = body::receive(&request, payload, LONGEST_LIST * 64).await?;
    let mut ids = Vec::new();
    for pair in form::pairs(&body) {
        let (name, id) = pair?;
        if name != "id" {
            return Err(Problem::field("id", "the body is a form with one `id` for each job"));
        }
        publisher.check(&[Topic::of_job(&id)])?;
        ids.push(id);
    }
    if LONGEST_LIST < ids.len() {
        let detail = format!("`id` is there more than {LONGEST_LIST} times");
        return Err(Problem::field("id", detail).with_limit(LONGEST_LIST));
    }
    let (mut retried, mut refused) = (Vec::new(), Vec::new());
    for id in ids {
        match gateway.tracker().retry(&id).await {
            Ok(_) => retried.push(id),
            Err(error) => refused.push(Refused { id, detail: error.to_string() }),
        }
    }
    if preferred(&request, &["application/json", "text/html"]) == Some("text/html") {
        let list = format!("{}/jobs", super::root(&request, &gateway));
        return Ok(HttpResponse::SeeOther().insert_header((LOCATION, list)).finish());
    }
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(Retried { retried, refused }))
}

/// The response of `POST /jobs/retry`.
#[derive(Serialize)]
struct Retried {
    /// The ids of the jobs that are queued again.
    retried: Vec<String>,
    /// The others.
    refused: Vec<Refused>,
}

#[derive(Serialize)]
struct Refused {
    id: String,
    detail: String,
}

fn state_named(name: &str) -> Result<JobState, Problem> {
    let state = JobState::ALL.into_iter().find(|state| state.as_str() == name);
    state.ok_or_else(|| {
        let names = JobState::ALL.map(JobState::as_str).join(", ");
        Problem::field("state", format!("`state` is none of {names}"))
    })
}
