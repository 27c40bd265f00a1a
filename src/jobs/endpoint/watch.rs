//! A job's events over EventSource.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, header::VARY},
};

use crate::{
    delivery::{Body, Ending, Gap, Shard},
    event::Topic,
    gateway::Gateway,
    hub::{Interest, Matcher, Matchers, Rights},
    jobs::status::Status,
    problem::Problem,
    subscribe::{admission::stream_terms, headers, stream},
    transport::{StreamWriter, Transport, sse},
};

/// The events of a job: first how it is now, then what happens, until it has ended.
pub(super) async fn watch(
    request: &HttpRequest,
    gateway: &Gateway,
    id: &str,
) -> Result<HttpResponse, Problem> {
    // What happens between the two is told twice, and not once too few; the version tells.
    let after = gateway.hub().history().last();
    let job = gateway.tracker().job(id).await?;
    let token = gateway.hub().history().token_key().seal(after);
    let document =
        serde_json::to_string(&Status::of(&job, gateway.tracker().now().time)).unwrap_or_default();
    let mut head = sse::head(gateway.settings().delivery.retry).to_vec();
    let mut response = HttpResponse::Ok();
    response.content_type("text/event-stream");
    headers::streamed(&mut response);
    response.insert_header((VARY, "accept"));
    if job.state.is_final() {
        // An EventSource that returns has been told of the end; this stops it.
        if request.headers().contains_key("last-event-id") {
            return Ok(HttpResponse::NoContent().finish());
        }
        head.extend_from_slice(&sse::named("job.done", &document, &token));
        return Ok(response.body(head));
    }
    head.extend_from_slice(&sse::named("job.state", &document, &token));
    if request.method() == Method::HEAD {
        return Ok(response.finish());
    }
    let matchers = Matchers::new([Matcher::Exact(Topic::of_job(&job.id))]);
    let interest = Interest::new(matchers, None, Rights::Everything);
    let shard = request.app_data::<Shard>().expect("the gateway's routes carry a shard");
    let terms = stream_terms(gateway, Transport::Sse, None);
    let feed = shard.subscribe(interest.into(), after, None::<Gap>, terms);
    let ending = Ending { last_event: Some("job.done"), ..stream::ending(gateway, None) };
    let writer = StreamWriter::Sse { visible_heartbeats: false };
    Ok(stream::respond(request, response, Body::new(feed, writer, head.into(), ending)))
}
