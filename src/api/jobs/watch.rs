//! A job's events over EventSource.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, header::VARY},
};
use tidegate_core::{
    delivery::Subscription,
    event::Topic,
    jobs::Status,
    matching::{Interest, Matcher, Matchers, Rights},
    transport::{Transport, sse},
};

use crate::{
    api::subscribe::{
        admission::{seat, stream_terms},
        stream,
    },
    gateway::Gateway,
    http::{access, headers, problem::Problem},
};

/// Streams the events of a job: first its current state, then its changes until it has ended.
pub(super) async fn watch(
    request: &HttpRequest,
    gateway: &Gateway,
    id: &str,
) -> Result<HttpResponse, Problem> {
    // Read before the job: a change in between is sent twice instead of missed. Its version shows
    // the repetition.
    let after = gateway.hub().history().last();
    let job = gateway.tracker().job(id).await?;
    let cursor_token = gateway.hub().history().cursor_key().seal(after);
    let document =
        serde_json::to_string(&Status::of(&job, gateway.tracker().now().time)).unwrap_or_default();
    let mut head = sse::head(gateway.settings().delivery.retry).to_vec();
    let mut response = HttpResponse::Ok();
    response.content_type("text/event-stream");
    headers::streamed(&mut response);
    response.insert_header((VARY, "accept"));
    if job.state.is_final() {
        // An EventSource that reconnects has received the end already; this stops it.
        if request.headers().contains_key("last-event-id") {
            return Ok(HttpResponse::NoContent().finish());
        }
        head.extend_from_slice(&sse::named("job.done", &document, &cursor_token));
        return Ok(response.body(head));
    }
    head.extend_from_slice(&sse::named("job.state", &document, &cursor_token));
    if request.method() == Method::HEAD {
        return Ok(response.finish());
    }
    // The job's id is enough, with any access token or none. A refused token leaves its bearer
    // unknown.
    let is_stranger = access::subscriber(request).await.map_or(true, |it| it.is_stranger());
    let matchers = Matchers::new([Matcher::Exact(Topic::of_job(&job.id))]);
    let interest = Interest::new(matchers, None, Rights::Everything);
    let subscription = Subscription {
        interest: interest.into(),
        after,
        gap: None,
        n_dropped: 0,
        terms: stream_terms(gateway, Transport::Sse, None),
        seat: seat(request, gateway, is_stranger)?,
        steer: None,
    };
    let mut style = stream::style(gateway, stream::plain_sse());
    style.ending.last_event = Some("job.done");
    Ok(stream::respond(request, response, head.into(), subscription, style))
}
