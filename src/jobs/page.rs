//! The pages of jobs: the one that waits for a job, and the list.

use std::{collections::BTreeMap, time::Duration};

use actix_web::{HttpRequest, HttpResponse, http::header::LOCATION};
use jiff::Timestamp;

use super::{Job, State, endpoint::parameter};
use crate::problem::Problem;

/// What the list shows.
#[derive(Debug)]
pub(super) struct Filter {
    /// A type, or empty for all.
    pub(super) kind: String,
    pub(super) state: Option<State>,
}

/// The page that waits for a job. Without a script it refreshes itself; when the job has succeeded it goes on to the
/// result, unless `page` asks for the page all the same.
pub(super) fn holding(
    request: &HttpRequest,
    job: &Job,
    _now: Timestamp,
) -> Result<HttpResponse, Problem> {
    if job.state == State::Succeeded && parameter(request, "page")?.is_none() {
        let result = format!("/jobs/{}/result", job.id);
        return Ok(HttpResponse::SeeOther().insert_header((LOCATION, result)).finish());
    }
    Ok(HttpResponse::Ok().content_type("text/html; charset=utf-8").body(String::new()))
}

/// The list of jobs.
pub(super) fn list(
    _jobs: &[Job],
    _counts: &BTreeMap<(String, State), u64>,
    _waiting: &[(String, Duration)],
    _filter: &Filter,
    _now: Timestamp,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().content_type("text/html; charset=utf-8").body(String::new()))
}
