//! The endpoints for workers: claims and reports.

use std::collections::BTreeMap;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_RANGE},
    web,
};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use tidegate_core::{
    event::Topic,
    jobs::{Answered, Job, JobState, Report},
};

use super::parameter;
use crate::{
    api::jobs::request::{self, Claim, Complete, Fail},
    gateway::Gateway,
    http::{access, body, preferred_wait, problem::Problem},
    listen::Peer,
};

/// Reports that a worker should send per lease term.
const REPORTS_PER_LEASE: u32 = 3;

/// `POST /jobs/claim`: a job and its lease, or 204.
pub(super) async fn claim_job(
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    access::publisher(&request).await?.check(&[Topic::of_claims()])?;
    let gateway = Gateway::of(&request);
    let settings = &gateway.settings().jobs;
    let claim: Claim = request::read(&request, payload, 64 * 1024).await?;
    claim.check(settings)?;
    let preferred = preferred_wait(&request).map(|wait| wait.min(settings.max_wait));
    let wait = claim.wait(settings)?.or(preferred).unwrap_or_default();
    let waiting = Peer::of(&request).waits(wait);
    let Some(claimed) = gateway.tracker().claim_until(&claim.types, waiting).await? else {
        return Ok(HttpResponse::NoContent().finish());
    };
    let job = &claimed.job;
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(ClaimedDocument {
        job: Work {
            id: &job.id,
            kind: &job.kind,
            title: &job.title,
            payload: job.payload.as_deref(),
            attempt: job.attempt,
            max_attempts: job.last_attempt,
            log_length: job.log.end(),
            answers: answers(job),
        },
        lease: &claimed.lease,
        lease_seconds: job.lease_term().as_secs_f64(),
        report_seconds: (job.lease_term() / REPORTS_PER_LEASE).as_secs_f64(),
    }))
}

/// The response to a claim.
#[derive(Serialize)]
struct ClaimedDocument<'a> {
    job: Work<'a>,
    lease: &'a str,
    lease_seconds: f64,
    report_seconds: f64,
}

#[derive(Serialize)]
struct Work<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    payload: Option<&'a RawValue>,
    attempt: u32,
    max_attempts: u32,
    /// Bytes that earlier attempts have written; the next text begins there.
    log_length: u64,
    /// The answers so far, by the names of the questions.
    answers: BTreeMap<&'a str, &'a Answered>,
}

fn answers(job: &Job) -> BTreeMap<&str, &Answered> {
    job.questions().filter_map(|it| Some((&*it.question.name, it.answer.as_ref()?))).collect()
}

/// `POST /jobs/{id}/progress`
pub(super) async fn report_progress(
    request: HttpRequest,
    id: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    access::publisher(&request).await?.check(&[Topic::of_job(&id)])?;
    let report: Report = request::read(&request, payload, 0).await?;
    let is_number = |value: f64| value.is_finite() && 0.0 <= value;
    if !is_number(report.done) || !report.total.is_none_or(is_number) {
        return Err(Problem::field("done", "`done` or `total` is not a number of 0 or more"));
    }
    let tracker = Gateway::of(&request).tracker().clone();
    let job = tracker.report(&id, request::lease(&request)?, report).await?;
    Ok(reported(&job))
}

/// `POST /jobs/{id}/log`: text at an offset, given by `Content-Range` or `offset`.
pub(super) async fn append_log(
    request: HttpRequest,
    id: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    access::publisher(&request).await?.check(&[Topic::of_job(&id)])?;
    let gateway = Gateway::of(&request);
    let lease = request::lease(&request)?;
    let limit = gateway.settings().limits.body_bytes;
    let body = body::receive(&request, payload, limit).await?;
    let offset = log_offset(&request, body.len())?;
    let text = String::from_utf8(body.into())
        .map_err(|_| Problem::malformed("the log text is not valid UTF-8"))?;
    let job = gateway.tracker().append_log(&id, lease, offset, text).await?;
    Ok(reported(&job))
}

/// Returns the offset in `Content-Range: bytes 0-99/*`, or else in `offset=0`.
fn log_offset(request: &HttpRequest, length: usize) -> Result<u64, Problem> {
    let Some(range) = request.headers().get(CONTENT_RANGE) else {
        let offset = parameter(request, "offset")?.and_then(|it| it.parse().ok());
        return offset.ok_or_else(|| {
            let detail =
                "the offset is missing: give `Content-Range: bytes FIRST-LAST/*` or `offset`";
            Problem::field("offset", detail)
        });
    };
    let bounds = range.to_str().ok().and_then(|it| it.strip_prefix("bytes ")?.split_once('/'));
    let bounds = bounds.and_then(|(bounds, _)| bounds.split_once('-'));
    let bounds = bounds.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    // No range is empty: the last byte is not before the first.
    let fits = |(first, last): &(u64, u64)| {
        let range = last.checked_sub(*first).and_then(|it| it.checked_add(1));
        range == Some(length as u64)
    };
    bounds.filter(fits).map(|(first, _)| first).ok_or_else(|| {
        let detail = "`Content-Range` is not `bytes FIRST-LAST/*` with the length of the text";
        Problem::field("Content-Range", detail)
    })
}

/// `POST /jobs/{id}/complete`
pub(super) async fn complete_job(
    request: HttpRequest,
    id: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    access::publisher(&request).await?.check(&[Topic::of_job(&id)])?;
    let gateway = Gateway::of(&request);
    let (tracker, settings) = (gateway.tracker(), &gateway.settings().jobs);
    let limit = settings.result_bytes;
    let complete: Complete = request::read(&request, payload, limit).await?;
    let outcome = complete.outcome(settings)?;
    let job = tracker.complete(&id, request::lease(&request)?, outcome).await?;
    Ok(reported(&job))
}

/// `POST /jobs/{id}/fail`: a failure, or a worker that stops and gives the job back.
pub(super) async fn fail_job(
    request: HttpRequest,
    id: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    access::publisher(&request).await?.check(&[Topic::of_job(&id)])?;
    let gateway = Gateway::of(&request);
    let (tracker, settings) = (gateway.tracker(), &gateway.settings().jobs);
    let limit = settings.result_bytes;
    let fail: Fail = request::read(&request, payload, limit).await?;
    if fail.given_back {
        let job = tracker.give_back(&id, request::lease(&request)?).await?;
        return Ok(reported(&job));
    }
    let (problem, is_retryable) = fail.problem(settings)?;
    let job = tracker.fail(&id, request::lease(&request)?, problem, is_retryable).await?;
    Ok(reported(&job))
}

/// Makes the response to a worker's report.
fn reported(job: &Job) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(report_on(job))
}

/// What every worker that reports should know.
pub(super) fn report_on(job: &Job) -> Value {
    json!({
        "state": job.state,
        "cancel": job.state == JobState::Cancelling || job.state == JobState::Cancelled,
        "log_length": job.log.end(),
        "report_seconds": (job.lease_term() / REPORTS_PER_LEASE).as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_range_has_the_length_of_the_text() {
        let offset = |range: &str, length| {
            let request = TestRequest::post().insert_header((CONTENT_RANGE, range));
            log_offset(&request.to_http_request(), length).ok()
        };
        assert_eq!(offset("bytes 3-9/*", 7), Some(3));
        assert_eq!(offset("bytes 3-3/*", 1), Some(3));
        for (range, length) in [
            ("bytes 3-9/*", 6),
            ("bytes 9-3/*", 0),
            ("bytes 4-3/*", 0),
            ("bytes 0-18446744073709551615/*", 0),
        ] {
            assert_eq!(offset(range, length), None, "{range}");
        }
    }
}
