//! The endpoints of jobs: `/jobs` and below.
//!
//! A change needs a publish grant: on `/jobs` to create, on `/jobs/claim` to claim, on `/jobs/{id}`
//! for everything about one job. An answer to its question needs one only if the settings say so,
//! on `/jobs/{id}/answers`. Listing needs a subscribe grant on `/jobs`. Seeing one job needs
//! only its unguessable id.

mod asking;
mod list;
mod page;
mod request;
mod watch;
mod words;
mod worker;

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{
        StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, HeaderValue, LINK, LOCATION,
            REFERRER_POLICY, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
        },
    },
    web::{self, ServiceConfig},
};
use tidegate_core::{
    event::Topic,
    jobs::{Created, Job, JobState, Keep, Outcome, Status},
    ledger::{Fingerprint, Reply},
};

use self::{
    asking::{answer_job, ask_job, await_answer},
    list::{list_jobs, retry_jobs},
    page::Viewer,
    request::Create,
    watch::watch,
    worker::{append_log, claim_job, complete_job, fail_job, report_progress},
};
use crate::{
    gateway::Gateway,
    http::{
        accept::preferred,
        access, body,
        etag::KnownTags,
        form,
        idempotency::{self, Answered, Keeper},
        preferred_wait,
        problem::Problem,
        public_base, resource,
    },
    listen::Peer,
    pages::NO_REFERRER,
};

/// The policy of content that a browser may show but never run: results and logs come from workers.
const NOT_A_PAGE: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";

/// The time that polling clients should wait between two requests, in seconds.
const RETRY: u32 = 1;

/// Registers the routes.
pub(crate) fn configure(config: &mut ServiceConfig) {
    const READ: &str = "GET, HEAD, OPTIONS";
    const WRITE: &str = "POST, OPTIONS";
    config
        .service(
            resource("/jobs", "GET, HEAD, POST, OPTIONS")
                .route(web::get().to(list_jobs))
                .route(web::head().to(list_jobs))
                .route(web::post().to(create_job)),
        )
        .service(resource("/jobs/claim", WRITE).route(web::post().to(claim_job)))
        .service(resource("/jobs/retry", WRITE).route(web::post().to(retry_jobs)))
        .service(
            resource("/jobs/{id}", READ)
                .route(web::get().to(view_job))
                .route(web::head().to(view_job)),
        )
        .service(
            resource("/jobs/{id}/place", READ)
                .route(web::get().to(read_place))
                .route(web::head().to(read_place)),
        )
        .service(resource("/jobs/{id}/progress", WRITE).route(web::post().to(report_progress)))
        .service(
            resource("/jobs/{id}/log", "GET, HEAD, POST, OPTIONS")
                .route(web::get().to(read_log))
                .route(web::head().to(read_log))
                .route(web::post().to(append_log)),
        )
        .service(resource("/jobs/{id}/ask", WRITE).route(web::post().to(ask_job)))
        .service(
            resource("/jobs/{id}/answers/{ask}", "GET, POST, OPTIONS")
                .route(web::get().to(await_answer))
                .route(web::post().to(answer_job)),
        )
        .service(resource("/jobs/{id}/complete", WRITE).route(web::post().to(complete_job)))
        .service(resource("/jobs/{id}/fail", WRITE).route(web::post().to(fail_job)))
        .service(resource("/jobs/{id}/cancel", WRITE).route(web::post().to(cancel_job)))
        .service(resource("/jobs/{id}/retry", WRITE).route(web::post().to(retry_job)))
        .service(
            resource("/jobs/{id}/result", READ)
                .route(web::get().to(read_result))
                .route(web::head().to(read_result)),
        );
}

/// `POST /jobs`: 202 and the job's address. With `Prefer: wait`, its end if it comes in time.
async fn create_job(request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, Problem> {
    let publisher = access::publisher(&request).await?;
    publisher.check(&[Topic::of_jobs()])?;
    let gateway = Gateway::of(&request);
    let settings = &gateway.settings().jobs;
    let limit = gateway.settings().limits.body_bytes;
    let body = body::receive(&request, payload, limit).await?;
    let key = idempotency::key(&request, gateway.settings().limits.idempotency_key_bytes)?;
    let key = key.map(|key| {
        let fingerprint = Fingerprint::of("/jobs", "application/json", &body);
        (publisher.identity().scope(&key), fingerprint)
    });
    let says_json = request::says_json(&request);
    let create = {
        let gateway = gateway.clone();
        async move |keeper: Option<Keeper>| {
            let create: Create = request::parse(&body, says_json)?;
            let new = create.check(&gateway.settings().jobs)?;
            let keep = keeper
                .map(|keeper| -> Keep { Box::new(move |id| keeper(&Reply::text(id.to_owned()))) });
            Ok(match gateway.tracker().create_and_keep(new, keep).await? {
                Created::New(job) | Created::Found(job) => Answered::Now(Reply::text(job.id)),
                Created::Already(kept) => Answered::Before(kept),
            })
        }
    };
    let reply = idempotency::once(gateway.clone(), key, create).await?;
    let id = reply.as_text();
    let wait = preferred_wait(&request).map(|wait| wait.min(settings.max_wait));
    let is_over = |job: &Job| job.state.is_final();
    let waiting = Peer::of(&request).waits(wait.unwrap_or_default());
    let job = gateway.tracker().wait(id, waiting, is_over).await?;
    let location = format!("{}/jobs/{id}", root(&request, &gateway));
    let mut response = match job.state {
        JobState::Succeeded if wait.is_some() => {
            let mut response = HttpResponse::SeeOther();
            response.insert_header((LOCATION, format!("{location}/result")));
            response
        }
        state if state.is_final() && wait.is_some() => HttpResponse::Ok(),
        _ => {
            let mut response = HttpResponse::Accepted();
            response.insert_header((LOCATION, location)).insert_header((RETRY_AFTER, RETRY));
            response
        }
    };
    if let Some(wait) = wait {
        response.insert_header(("preference-applied", format!("wait={}", wait.as_secs())));
    }
    Ok(status(&request, &mut response, &gateway, &job))
}

/// `GET /jobs/{id}`: the holding page, the status document or the events, depending on `Accept`.
async fn view_job(request: HttpRequest, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let gateway = Gateway::of(&request);
    match preferred(&request, &["application/json", "text/html", "text/event-stream"]) {
        Some("text/html") => match gateway.tracker().job(&id).await {
            Ok(job) => {
                let root = root(&request, &gateway);
                let viewer = Viewer::of(&request, &gateway, &job).await;
                let now = gateway.tracker().now().time;
                let place = gateway.tracker().place(&id).await?;
                page::holding(&request, &root, &job, (viewer, place), now).map(|mut page| {
                    page.headers_mut().insert(LINK, links(&root, &job));
                    page
                })
            }
            Err(error) => Ok(page::missing(error)),
        },
        Some("text/event-stream") => watch(&request, &gateway, &id).await,
        Some(_) => view_status(&request, &gateway, &id).await,
        None => Err(Problem::not_acceptable(
            "a job is text/html, application/json or text/event-stream",
        )),
    }
}

async fn view_status(
    request: &HttpRequest,
    gateway: &Gateway,
    id: &str,
) -> Result<HttpResponse, Problem> {
    let max_wait = gateway.settings().jobs.max_wait;
    let known = KnownTags::of(request);
    let is_known = |job: &Job| known.contain(&tag(job));
    let wait = preferred_wait(request).map(|wait| wait.min(max_wait));
    // With an entity tag the client waits for a change, without one for the end.
    let is_over = |job: &Job| if known.is_empty() { job.state.is_final() } else { !is_known(job) };
    let waiting = Peer::of(request).waits(wait.unwrap_or_default());
    let job = gateway.tracker().wait(id, waiting, is_over).await?;
    let mut response =
        if is_known(&job) { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    if let Some(wait) = wait {
        response.insert_header(("preference-applied", format!("wait={}", wait.as_secs())));
    }
    if !job.state.is_final() {
        response.insert_header((RETRY_AFTER, RETRY));
    }
    if is_known(&job) {
        return Ok(response
            .insert_header((ETAG, tag(&job)))
            .insert_header((VARY, "accept, prefer"))
            .finish());
    }
    Ok(status(request, &mut response, gateway, &job))
}

/// Returns links to the hub and to the job's topic (draft-08, "Discovery").
fn links(root: &str, job: &Job) -> HeaderValue {
    let links = format!(
        "<{root}/.well-known/mercure>; rel=\"mercure\", <{}>; rel=\"self\"",
        Topic::of_job(&job.id).as_str()
    );
    HeaderValue::try_from(links).unwrap_or(HeaderValue::from_static(""))
}

fn tag(job: &Job) -> String {
    format!("\"v{}\"", job.version)
}

fn status(
    request: &HttpRequest,
    response: &mut HttpResponseBuilder,
    gateway: &Gateway,
    job: &Job,
) -> HttpResponse {
    let links = links(&root(request, gateway), job);
    response
        .insert_header((ETAG, tag(job)))
        .insert_header((LINK, links))
        .insert_header((CACHE_CONTROL, "private, no-cache"))
        .insert_header((VARY, "accept, prefer"))
        .insert_header((REFERRER_POLICY, NO_REFERRER))
        .json(Status::of(job, gateway.tracker().now().time))
}

/// `POST /jobs/{id}/cancel`
async fn cancel_job(request: HttpRequest, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    access::publisher(&request).await?.check(&[Topic::of_job(&id)])?;
    let gateway = Gateway::of(&request);
    let job = gateway.tracker().cancel(&id).await?;
    Ok(asked(&request, &gateway, &job))
}

/// `POST /jobs/{id}/retry`
async fn retry_job(request: HttpRequest, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    access::publisher(&request).await?.check(&[Topic::of_job(&id)])?;
    let gateway = Gateway::of(&request);
    let job = gateway.tracker().retry(&id).await?;
    Ok(asked(&request, &gateway, &job))
}

/// Answers a cancel or a retry. A form without scripts is redirected to the page.
fn asked(request: &HttpRequest, gateway: &Gateway, job: &Job) -> HttpResponse {
    if preferred(request, &["application/json", "text/html"]) == Some("text/html") {
        let page = format!("{}/jobs/{}?page", root(request, gateway), job.id);
        return HttpResponse::SeeOther()
            .insert_header((LOCATION, page))
            .insert_header((REFERRER_POLICY, NO_REFERRER))
            .finish();
    }
    let mut response = HttpResponse::build(if job.state == JobState::Cancelling {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    });
    status(request, &mut response, gateway, job)
}

/// `GET /jobs/{id}/place`: how many jobs are ahead, and whether a worker is there; `null` if the
/// job is not in the queue.
async fn read_place(request: HttpRequest, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let place = Gateway::of(&request).tracker().place(&id).await?;
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((REFERRER_POLICY, NO_REFERRER))
        .json(place))
}

/// `GET /jobs/{id}/result`
async fn read_result(request: HttpRequest, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let job = Gateway::of(&request).tracker().job(&id).await?;
    match (&job.outcome, job.state) {
        (Some(Outcome::Inline(value)), JobState::Succeeded) => Ok(HttpResponse::Ok()
            .content_type("application/json")
            .insert_header((CACHE_CONTROL, "private, no-cache"))
            .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .insert_header((CONTENT_SECURITY_POLICY, NOT_A_PAGE))
            .insert_header((REFERRER_POLICY, NO_REFERRER))
            .body(value.get().to_owned())),
        (Some(Outcome::Link(link)), JobState::Succeeded) => Ok(HttpResponse::SeeOther()
            .insert_header((LOCATION, link.as_str()))
            .insert_header((REFERRER_POLICY, NO_REFERRER))
            .finish()),
        (_, state) if state.is_final() => Err(Problem::state(
            "job_state",
            format!("the job is {}; it has no result", state.as_str()),
        )),
        (_, state) => {
            Err(Problem::conflict(format!("the job is {}; it has no result yet", state.as_str())))
        }
    }
}

/// `GET /jobs/{id}/log`: the kept part of the log, from the offset `from` on.
async fn read_log(request: HttpRequest, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let from = match parameter(&request, "from")? {
        None => 0,
        Some(from) => {
            from.parse().map_err(|_| Problem::field("from", "`from` is not an offset in bytes"))?
        }
    };
    let job = Gateway::of(&request).tracker().job(&id).await?;
    let offset = job.log.start().max(from).min(job.log.end());
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .insert_header((CACHE_CONTROL, "private, no-cache"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((CONTENT_SECURITY_POLICY, NOT_A_PAGE))
        .insert_header((REFERRER_POLICY, NO_REFERRER))
        .insert_header(("tidegate-log-offset", offset))
        .insert_header(("tidegate-log-length", job.log.end()))
        .body(job.log.read(offset, usize::MAX)))
}

/// Returns the gateway's path as the client sees it, without a trailing slash.
fn root(request: &HttpRequest, gateway: &Gateway) -> String {
    public_base(request, gateway.settings()).path().trim_end_matches('/').to_owned()
}

/// Returns a parameter of the query.
pub(crate) fn parameter(request: &HttpRequest, name: &str) -> Result<Option<String>, Problem> {
    Ok(form::first(request.query_string(), name)?)
}
